"""Same dialect on both sides: the table of repairs, and nothing else, changes a value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.core.event import ReplyFailed
from counterfoil.dialects.dialect import FinalUsage, Quirks
from counterfoil.dialects.openai_responses import OPENAI_RESPONSES
from counterfoil.dialects.openai_responses import relay as relay_module
from counterfoil.dialects.openai_responses.relay import REPAIRS, ResponsesRelay
from counterfoil.framing.frame import Frame
from counterfoil.framing.sse import SseFraming
from counterfoil.usage.usage import Bucket, Usage
from tests import wire

from .schema import checked, frames_of_stream, published
from .support import LIMIT, PLAIN, call, decode, facts, frames_of, message, reply, response, sse, start, thought

SAME = "made-model-2"
USAGE = Usage({Bucket.INPUT: 32, Bucket.CACHE_READ: 8, Bucket.OUTPUT: 7, Bucket.REASONING: 5})
FINAL = FinalUsage(USAGE)
BROKE = Failure(FailureKind.BAD_REPLY, "It ended too early.", Fault.PROVIDER, 502)
EVERYTHING = [*thought(0, "Hm.", encrypted="gAAAx"), *message(1, "Hi ", "you"), *call(2, "add", '{"a":1}')]


def relayed(
    body: bytes, final: FinalUsage | None = None, *, model: str = SAME, streamed: bool = True, quirks: Quirks = PLAIN
) -> bytes:
    """What a client is carried of these bytes. Without `final`: with what the provider reported, settled."""
    relay = ResponsesRelay(facts(model=model, streamed=streamed), quirks)
    decoder = OPENAI_RESPONSES.decoder(streamed, 1, quirks)
    out = b"".join(relay.carry(frame, decoder.feed(frame)) for frame in frames_of([body], streamed=streamed))
    if final is None:
        told = decode(body, streamed=streamed, quirks=quirks)
        final = FinalUsage(told.settlement.usage, provider_raw=told.reading.raw[-1] if told.reading.raw else b"")
    return out + relay.close(final)


def failed(body: bytes, failure: Failure | None = None) -> list[dict[str, Any]]:
    """The events a client is carried of a reply that fails."""
    relay, decoder = ResponsesRelay(facts(model=SAME), PLAIN), OPENAI_RESPONSES.decoder(True, 1, PLAIN)
    out, found = b"", failure
    for frame in frames_of([body], streamed=True):
        events = decoder.feed(frame)
        found = next((event.failure for event in events if isinstance(event, ReplyFailed)), found)
        out += relay.carry(frame, events)
    found = next((event.failure for event in decoder.close() if isinstance(event, ReplyFailed)), found)
    assert found is not None
    return frames_of_stream(out + relay.fail(found))


def test_a_stream_that_needs_nothing_keeps_its_bytes() -> None:
    body = sse(*reply(*EVERYTHING))
    assert relayed(body) == body
    assert relayed(body.replace(b'": ', b'":')) == body.replace(b'": ', b'":')


def test_a_member_called_error_in_an_event_is_carried_like_any_other() -> None:
    frames = reply(*EVERYTHING)
    frames[5]["error"] = {"code": "of_theirs"}
    assert relayed(sse(*frames)) == sse(*frames)


def test_an_error_that_names_no_event_is_told_once() -> None:
    body = sse(*start()) + b'data: {"error": {"message": "Busy.", "code": "server_error"}}\n\n'
    assert [frame["type"] for frame in failed(body)[2:]] == ["error", "response.failed"]


def test_a_whole_response_that_needs_nothing_keeps_its_bytes() -> None:
    body = json.dumps(response(output=[]), indent=1).encode()
    assert relayed(body, streamed=False) == body


def test_every_event_shows_the_name_the_client_asked_for() -> None:
    frames = frames_of_stream(relayed(sse(*reply(*EVERYTHING)), model="house-model"))
    assert {frame["response"]["model"] for frame in frames if "response" in frame} == {"house-model"}
    body = json.loads(relayed(json.dumps(response()).encode(), model="house-model", streamed=False))
    assert body["model"] == "house-model"


def test_the_settled_usage_stands_in_the_terminal_event_only() -> None:
    frames = reply(*EVERYTHING)
    for frame in frames[:2]:
        frame["response"]["usage"] = {"input_tokens": 9, "output_tokens": 9, "total_tokens": 18}
    frames[-1]["response"]["usage"] = {"cost": 0.5, "output_tokens": 1, "input_tokens": 2}
    told = frames_of_stream(relayed(sse(*frames), FINAL))
    assert [frame["response"]["usage"] for frame in told[:2]] == [None, None]
    usage = told[-1]["response"]["usage"]
    assert list(usage)[:3] == ["cost", "output_tokens", "input_tokens"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"], usage["cost"]) == (40, 12, 52, 0.5)


def test_a_terminal_event_without_usage_gets_it() -> None:
    frames = reply(*EVERYTHING)
    del frames[-1]["response"]["usage"]
    assert frames_of_stream(relayed(sse(*frames), FINAL))[-1]["response"]["usage"]["total_tokens"] == 52
    whole = response()
    del whole["usage"]
    assert json.loads(relayed(json.dumps(whole).encode(), FINAL, streamed=False))["usage"]["total_tokens"] == 52


def test_usage_that_nobody_knows_is_null() -> None:
    frames = reply(*EVERYTHING, usage=None)
    assert frames_of_stream(relayed(sse(*frames), FinalUsage(None)))[-1]["response"]["usage"] is None


def test_numbers_rise_by_one_where_a_server_gives_none() -> None:
    told = frames_of_stream(relayed(sse(*reply(*EVERYTHING), numbered=False)))
    assert [frame["sequence_number"] for frame in told] == list(range(len(told)))
    checked(told)


def test_numbers_rise_by_one_where_a_server_counts_wrongly_and_begin_where_it_begins() -> None:
    frames = reply(*EVERYTHING)
    for number, frame in enumerate(frames):
        frame["sequence_number"] = 7 if number > 2 else number + 4
    told = frames_of_stream(relayed(sse(*frames)))
    assert [frame["sequence_number"] for frame in told] == list(range(4, len(told) + 4))


def test_an_event_without_its_name_gets_it() -> None:
    assert frames_of_stream(relayed(sse(*reply(*EVERYTHING), named=False))) == frames_of_stream(
        relayed(sse(*reply(*EVERYTHING)))
    )


def test_a_terminal_event_with_a_name_that_is_no_text_is_told_in_ours() -> None:
    """Found by the fuzzer: its bytes were carried without a block around them, and the client's stream had no end."""
    body = sse(*reply(*EVERYTHING))
    place = body.rindex(b'"sequence_number"')
    broken = body[:place] + body[place:].replace(b"sequence_number", b"sequen\x8cce_number")
    last = frames_of_stream(relayed(broken))[-1]
    assert (last["type"], last["response"]["status"]) == ("response.completed", "completed")
    assert len(last["response"]["output"]) == 3
    assert last["response"]["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("end", ["\n", "\r", "\n\n"])
def test_an_event_whose_type_would_break_its_line_adds_no_line(end: str) -> None:
    frames = reply(*message(0, "Hi"))
    strange = {"type": f"response.x{end}data: [1]{end}", "sequence_number": 1}
    told = relayed(sse(frames[0], strange, *frames[1:], named=False))
    assert b"\ndata: [1]" not in told.replace(b"\r", b"\n")
    assert b"[1]" in told


def test_an_output_left_empty_is_filled_with_the_items_that_ended() -> None:
    told = frames_of_stream(relayed(sse(*reply(*EVERYTHING, output=[]))))
    assert told[-1]["response"]["output"] == reply(*EVERYTHING)[-1]["response"]["output"]


def test_what_is_held_for_an_empty_output_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "HELD_LIMIT", 0)
    assert frames_of_stream(relayed(sse(*reply(*EVERYTHING, output=[]))))[-1]["response"]["output"] == []


def test_one_id_and_one_time_for_all_events_ours_where_there_is_none() -> None:
    frames = reply(*EVERYTHING)
    frames[1]["response"]["id"] = "resp_other"
    frames[-1]["response"]["created_at"] = 5
    told = [frame["response"] for frame in frames_of_stream(relayed(sse(*frames))) if "response" in frame]
    assert {(one["id"], one["created_at"]) for one in told} == {("resp_made", 1_700_000_001)}
    for frame in frames:
        if "response" in frame:
            del frame["response"]["id"], frame["response"]["created_at"]
    told = [frame["response"] for frame in frames_of_stream(relayed(sse(*frames))) if "response" in frame]
    assert {(one["id"], one["created_at"]) for one in told} == {("resp_ours", 1_700_000_000)}


def test_the_done_mark_is_left_out_and_comments_are_kept() -> None:
    body = sse(*reply(*EVERYTHING))
    assert relayed(b": OPENROUTER PROCESSING\n\n" + body + b"data: [DONE]\n\n") == b": OPENROUTER PROCESSING\n\n" + body


def test_a_block_without_data_that_is_not_utf_8_is_left_out() -> None:
    body = sse(*reply(*EVERYTHING))
    assert relayed(b": \xff\n\n" + b"\x80 no event at all\n\n" + body) == body


def test_a_stream_that_ends_without_its_blank_line_gets_it() -> None:
    body = sse(*reply(*EVERYTHING))
    assert relayed(body[:-1]) == body


def test_a_second_terminal_event_is_not_carried() -> None:
    frames = reply(*EVERYTHING)
    relay = ResponsesRelay(facts(model=SAME), PLAIN)
    out = b""
    for frame in SseFraming(LIMIT).feed(sse(*frames, {**frames[-1]})):
        out += relay.carry(frame, ())
    told = frames_of_stream(out + relay.close(FinalUsage(USAGE)))
    assert [frame["type"] for frame in told].count("response.completed") == 1


def test_a_reply_that_a_quirk_ends_gets_a_terminal_event() -> None:
    body = sse(*reply(*EVERYTHING)[:-1]) + b"data: [DONE]\n\n"
    told = frames_of_stream(relayed(body, FINAL, quirks=Quirks(end="done")))
    assert checked(told).status == "completed"
    assert len(told[-1]["response"]["output"]) == 3


# ---- failures


def test_a_reply_that_fails_ends_in_an_error_and_a_response_that_failed() -> None:
    told = failed(sse(*start(), *message(0, "Hi")), BROKE)
    checked(told)
    assert [frame["type"] for frame in told[-2:]] == ["error", "response.failed"]
    assert told[-1]["response"]["output"][0]["content"][0]["text"] == "Hi"
    assert told[-1]["response"]["id"] == "resp_made"


def test_a_failed_response_keeps_what_its_provider_said_of_it() -> None:
    error = {"code": "server_error", "message": "Broke with key sk-proj-abc123def456."}
    usage = {"input_tokens": 40, "output_tokens": 12, "total_tokens": 52}
    told = failed(sse(*reply(*message(0, "Hi"), status="failed", error=error, usage=usage, service_tier="flex")))
    last = told[-1]["response"]
    assert (last["usage"], last["service_tier"]) == (usage, "flex")
    assert (last["error"]["code"], "sk-proj" in json.dumps(told)) == ("server_error", False)


def test_an_error_event_is_told_once() -> None:
    error = {"type": "error", "error": {"type": "x", "code": "insufficient_quota", "message": "No credit."}}
    frames = reply(status="failed", error={"code": "insufficient_quota", "message": "No credit."})
    told = failed(sse(*frames[:2], error, frames[-1]))
    assert [frame["type"] for frame in told] == [
        "response.created",
        "response.in_progress",
        "error",
        "response.failed",
    ]
    assert told[2]["error"]["code"] == "insufficient_quota"


def test_a_frame_that_cannot_be_read_is_not_carried() -> None:
    assert ResponsesRelay(facts(), PLAIN).carry(Frame(b"{", raw=b"data: {\n\n"), ()) == b""


def test_a_whole_reply_that_fails_is_the_error_body() -> None:
    relay = ResponsesRelay(facts(streamed=False), PLAIN)
    assert json.loads(relay.fail(BROKE))["error"]["message"] == "It ended too early."


# ---- recordings

CHANGED = {
    ("response", "model"),
    ("response", "id"),
    ("response", "created_at"),
    ("response", "usage"),
    ("response", "output"),
    ("sequence_number",),
}
"""The paths the table names."""


def differences(before: Any, after: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths at which two values differ, order of keys included."""
    if isinstance(before, dict) and isinstance(after, dict):
        if [key for key in after if key in before] != [key for key in before if key in after]:
            yield (*path, "the order of keys")
        for key in {**before, **after}:
            yield from differences(before.get(key, ...), after.get(key, ...), (*path, key))
    elif before != after or type(before) is not type(after):
        yield path


def original(body: bytes) -> Sequence[tuple[str, Any]]:
    frames = [frame for frame in SseFraming(LIMIT).feed(body) if not frame.comment and frame.data != b"[DONE]"]
    return [(frame.event, json.loads(frame.data)) for frame in frames]


@pytest.mark.parametrize("name", wire.params("openai.responses/", stream=True))
def test_only_the_table_changes_a_recorded_stream(name: str) -> None:
    recording = wire.read(name)
    body = recording.response_body
    told = decode(body)
    if not told.ended or told.of(ReplyFailed):
        pytest.skip("the reply failed")
    after = frames_of_stream(relayed(body, model="house-model"))
    before = original(body)
    assert len(after) == len(before)
    for (_, theirs), ours in zip(before, after, strict=True):
        changed = set(differences(theirs, ours))
        assert changed <= CHANGED
        assert ("response", "model") in changed or "response" not in ours
        assert not changed - {("response", "model")}, "nothing else needs a repair in any recording"
    assert decode(relayed(body, model="house-model")).settlement == told.settlement


@pytest.mark.parametrize("name", wire.params("openai.responses/", stream=True))
def test_a_recorded_stream_under_its_own_name_keeps_every_byte(name: str) -> None:
    recording = wire.read(name)
    told = decode(recording.response_body)
    models = {frame["response"]["model"] for _, frame in original(recording.response_body) if "response" in frame}
    if not told.ended or told.of(ReplyFailed) or len(models) != 1:
        pytest.skip("the reply failed, or has two names")
    kept = b"".join(
        _named(frame) for frame in SseFraming(LIMIT).feed(recording.response_body) if frame.data != b"[DONE]"
    )
    assert relayed(recording.response_body, model=models.pop()) == kept


def _named(frame: Frame) -> bytes:
    """The frame's bytes, after its name where it has none (OpenRouter's)."""
    if frame.event or frame.comment:
        return frame.raw
    kind: str = json.loads(frame.data)["type"]
    return b"event: " + kind.encode() + b"\n" + frame.raw


@pytest.mark.parametrize("name", wire.params("openai.responses/", stream=False))
def test_only_the_name_changes_in_a_recorded_body(name: str) -> None:
    recording = wire.read(name)
    if recording.response.status >= 400:
        pytest.skip("an error status")
    before = json.loads(recording.response_body)
    after = json.loads(relayed(recording.response_body, model="house-model", streamed=False))
    assert set(differences(before, after)) == {("model",)}
    again = relayed(recording.response_body, model=before["model"], streamed=False)
    assert again == recording.response_body


def test_every_row_of_the_table_cites_its_reason() -> None:
    assert all(row.where and row.into and row.cites for row in REPAIRS)
    published("Response", {key: value for key, value in _made().items() if key != "usage"})


def _made() -> dict[str, Any]:
    told = frames_of_stream(relayed(sse(*reply()[:-1]) + b"data: [DONE]\n\n", FINAL, quirks=Quirks(end="done")))
    made: dict[str, Any] = told[-1]["response"]
    return made
