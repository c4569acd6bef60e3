"""From a provider of this dialect to a client of it, nothing changes that the repair table does not name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.dialects.dialect import FinalUsage
from counterfoil.dialects.gemini import GEMINI, GEMINI_COUNT, GEMINI_EMBED
from counterfoil.dialects.gemini.door import ARRAY, ONE
from counterfoil.dialects.gemini.relay import REPAIRS, GeminiRelay
from counterfoil.framing.frame import Frame
from counterfoil.usage.usage import Bucket, Usage

from ... import wire
from .support import PLAIN, array, as_google_reads, candidate, chunk, decode, facts, frames_of, sse, usage

USAGE = Usage({Bucket.INPUT: 9, Bucket.OUTPUT: 4})
NAMED: dict[str, Any] = {"modelVersion": "house-model"}
STREAM = (
    chunk(candidate({"text": "High"}), said=usage(9, 1), **NAMED),
    chunk(candidate({"text": "."}, finish="STOP"), said=usage(9, 4), **NAMED),
)
FAILURE = Failure(FailureKind.OVERLOADED, "Busy.", Fault.PROVIDER, 503)


def carried(
    body: bytes, final: Usage | None = USAGE, *, estimated: bool = False, sent: bool = True, **changes: Any
) -> bytes:
    known = facts(**changes)
    relay = GeminiRelay(known, PLAIN)
    decoder = GEMINI.decoder(known.streamed, known.choices, PLAIN)
    out, raw = [], b""
    for frame in frames_of([body], streamed=known.streamed):
        events = decoder.feed(frame)
        raw = next((one.report.raw for one in events if hasattr(one, "report")), raw)
        out.append(relay.carry(frame, events))
    return b"".join(out) + relay.close(FinalUsage(final, estimated, raw if sent else b""))


def frames(body: bytes) -> list[dict[str, Any]]:
    assert b": " not in body.replace(b"data: ", b"").split(b'"')[0], "a comment reached the client"
    blocks = body.decode().replace("\r\n\r\n", "\n\n").split("\n\n")
    return [json.loads(block.removeprefix("data: ")) for block in blocks if block]


def test_a_frame_that_needs_nothing_keeps_every_byte() -> None:
    tail = b',"modelVersion": "house-model","responseId": "r"}\r\n\r\n'
    count = b',"usageMetadata": {"promptTokenCount": 9,"candidatesTokenCount": 4,"totalTokenCount": 13}'
    body = b'data: {"candidates": [{"content": {"parts": [{"text": "High"}]}}]' + tail
    body += b'data: {"candidates": [{"finishReason": "STOP"}]' + count + tail
    assert carried(body) == body


def test_usage_is_taken_out_of_every_frame_but_the_last() -> None:
    found = frames(carried(sse(*STREAM)))
    assert ["usageMetadata" in frame for frame in found] == [False, True]
    assert found[-1] == STREAM[-1]
    assert list(found[-1]) == list(STREAM[-1])


def test_the_settled_usage_is_told_not_the_last_object() -> None:
    body = sse(STREAM[0], chunk(candidate(finish="STOP"), said={"trafficType": "ON_DEMAND"}, **NAMED))
    told = frames(carried(body))[-1]["usageMetadata"]
    assert told == {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13} | (
        {"trafficType": "ON_DEMAND"} if "trafficType" in told else {}
    )
    assert "usageMetadata" not in frames(carried(body, None))[-1]
    assert frames(carried(body, estimated=True))[-1]["usageMetadata"]["estimated"] is True


def test_the_model_is_the_one_that_was_asked_for_and_the_id_is_one() -> None:
    first = chunk(candidate({"text": "x"}), responseId="r-1")
    second = chunk(candidate({"text": "y"}, finish="STOP"), responseId="r-2", said=usage())
    found = frames(carried(sse(first, second)))
    assert {(frame["modelVersion"], frame["responseId"]) for frame in found} == {("house-model", "r-1")}
    del first["responseId"], second["responseId"]
    assert {frame["responseId"] for frame in frames(carried(sse(first, second)))} == {"ours"}


def test_what_comes_after_the_end_goes_into_the_last_frame() -> None:
    late = {"usageMetadata": usage(9, 4, serviceTier="standard"), "extra": {"a": 1}}
    found = frames(carried(sse(STREAM[0], chunk(candidate(finish="STOP"), **NAMED), late)))
    assert len(found) == 2
    assert found[-1]["candidates"][0]["finishReason"] == "STOP"
    assert found[-1]["extra"] == {"a": 1}
    assert found[-1]["usageMetadata"] == late["usageMetadata"]


def test_a_finish_that_is_not_the_last_frame_is_let_go() -> None:
    again = chunk(candidate({"text": "!"}, finish="STOP"), said=usage(9, 4), **NAMED)
    found = frames(carried(sse(STREAM[1], again)))
    assert ["usageMetadata" in frame for frame in found] == [False, True]
    assert [frame["candidates"][0]["content"]["parts"][0]["text"] for frame in found] == [".", "!"]


def test_the_frame_that_ends_several_candidates_is_the_last_one() -> None:
    first = chunk(candidate({"text": "a"}, finish="STOP"), said=usage(9, 1), **NAMED)
    second = chunk(candidate({"text": "b"}, finish="STOP", index=1), said=usage(9, 4), **NAMED)
    found = frames(carried(sse(first, second), choices=2))
    assert ["usageMetadata" in frame for frame in found] == [False, True]


def test_comments_and_end_marks_are_left_out() -> None:
    body = b": wait\n\n" + sse(STREAM[0]) + b": wait\n\ndata:\n\n" + sse(STREAM[1]) + b"data: [DONE]\n\n"
    assert carried(body) == carried(sse(*STREAM))


@pytest.mark.parametrize("form", ["", ARRAY])
def test_a_client_gets_the_framing_it_asked_for(form: str) -> None:
    events, listed = carried(sse(*STREAM), form=form), carried(array(*STREAM), form=form)
    found = [json.loads(events), json.loads(listed)] if form else [frames(events), frames(listed)]
    assert found[0] == found[1]
    assert [frame["candidates"] for frame in found[0]] == [frame["candidates"] for frame in STREAM]


def test_the_end_is_held_until_the_books_are_closed() -> None:
    relay, decoder = GeminiRelay(facts(), PLAIN), GEMINI.decoder(True, 1, PLAIN)
    out = b"".join(relay.carry(frame, decoder.feed(frame)) for frame in frames_of([sse(*STREAM)], streamed=True))
    assert len(frames(out)) == 1
    assert frames(relay.fail(FAILURE))[-1].keys() == {"error"}


def test_a_reply_without_an_end_gets_a_frame_that_carries_a_candidate() -> None:
    found = frames(carried(sse(STREAM[0])))
    assert found[-1]["candidates"][0]["content"]["parts"] == [{"text": ""}]
    assert found[-1]["usageMetadata"]["totalTokenCount"] == 13


def test_a_frame_that_failed_is_not_carried() -> None:
    relay, decoder = GeminiRelay(facts(), PLAIN), GEMINI.decoder(True, 1, PLAIN)
    for data in (b"<html>", b'{"error":{"code":503}}'):
        frame = Frame(data, raw=b"data: " + data + b"\n\n")
        assert relay.carry(frame, decoder.feed(frame)) == b""


@pytest.mark.parametrize("streamed", [True, False])
def test_a_failure_is_a_frame_of_a_stream_and_the_body_of_a_whole_reply(streamed: bool) -> None:
    told = GeminiRelay(facts(streamed=streamed), PLAIN).fail(FAILURE)
    body = told.removeprefix(b"data: ") if streamed else told
    assert told.startswith(b"data: ") is streamed
    assert json.loads(body)["error"]["code"] == 503


def test_a_whole_reply_keeps_its_values_and_gets_the_settled_usage() -> None:
    body = json.dumps(
        chunk(candidate({"text": "High."}, finish="STOP"), said=usage(9, 4, extra=1), **NAMED), indent=1
    ).encode()
    assert carried(body, streamed=False) == body
    found = json.loads(carried(body, Usage({Bucket.INPUT: 7, Bucket.OUTPUT: 2}), streamed=False))
    assert found["usageMetadata"] == {
        "promptTokenCount": 7,
        "candidatesTokenCount": 2,
        "totalTokenCount": 9,
        "extra": 1,
    }


def test_an_array_where_one_reply_was_asked_for_is_one_reply_with_the_settled_usage() -> None:
    body = json.loads(carried(json.dumps(STREAM).encode(), streamed=False, form=""))
    (only,) = body["candidates"]
    assert only["content"]["parts"] == [{"text": "High."}]
    assert only["finishReason"] == "STOP"
    assert body["usageMetadata"]["candidatesTokenCount"] == 4
    assert body["modelVersion"] == facts().model


def test_the_table_says_what_it_mends_and_why() -> None:
    assert all(how and why for how, why in REPAIRS.values())


@pytest.mark.parametrize("name", wire.params("gemini.generateContent/"))
@pytest.mark.parametrize("form", ["", ARRAY])
def test_a_recorded_reply_reaches_a_client_with_nothing_changed_that_no_row_names(name: str, form: str) -> None:
    recording = wire.read(name)
    if recording.response.status >= 400:
        pytest.skip("an error")
    told = decode(recording.response_body, streamed=recording.stream)
    settled = told.settled().usage
    body = carried(recording.response_body, settled, streamed=recording.stream, form=form)
    before = [
        json.loads(frame.data)
        for frame in frames_of([recording.response_body], streamed=recording.stream)
        if not frame.comment
    ]
    after = [json.loads(body)] if not recording.stream else json.loads(body) if form else frames(body)
    assert len(after) == len(before)
    for frame, came in zip(after, before, strict=True):
        if not any(
            type(one.get("finishReason")) is int for one in frame["candidates"]
        ):  # which no such client asks for
            as_google_reads(frame)
        assert frame["modelVersion"] == "house-model"
        assert {key: value for key, value in frame.items() if key not in ("modelVersion", "usageMetadata")} == {
            key: value for key, value in came.items() if key not in ("modelVersion", "usageMetadata")
        }
    assert ["usageMetadata" in frame for frame in after] == [False] * (len(after) - 1) + [True]
    last = {key: value for key, value in before[-1]["usageMetadata"].items() if not key.endswith("Details")}
    assert after[-1]["usageMetadata"].items() >= last.items()
    heard = decode(body, streamed=recording.stream).settled().usage
    assert (heard.input_tokens, heard.output_tokens) == (settled.input_tokens, settled.output_tokens)
    assert (heard.cache_read_tokens, heard.reasoning_tokens or 0) == (
        settled.cache_read_tokens,
        settled.reasoning_tokens or 0,
    )


JSON = st.recursive(
    st.none() | st.integers(0, 99) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)


@given(
    st.lists(st.tuples(st.dictionaries(st.text(max_size=5), JSON, max_size=3), st.booleans()), max_size=4),
    st.sampled_from(["", ARRAY]),
)
def test_unknown_values_reach_the_client_in_order(frames_: list[tuple[dict[str, Any], bool]], form: str) -> None:
    own = {"modelVersion", "responseId", "usageMetadata", "candidates", "error", "promptFeedback"}
    chunks = [
        {**{key: value for key, value in more.items() if key not in own}, **chunk(candidate({"text": "x"}))}
        for more, _ in frames_
    ]
    body = carried(sse(*chunks, chunk(candidate(finish="STOP"), said=usage())), form=form)
    found = json.loads(body) if form else frames(body)
    for frame, came in zip(found, chunks, strict=False):
        assert [(key, frame[key]) for key in frame if key not in own] == [
            (key, came[key]) for key in came if key not in own
        ]


@pytest.mark.parametrize(
    ("form", "sent", "wanted"),
    [
        (ONE, {"embeddings": [{"values": [1]}]}, {"embedding": {"values": [1]}}),
        (ONE, {"embedding": {"values": [1]}}, {"embedding": {"values": [1]}}),
        ("", {"embeddings": [{"values": [1]}]}, {"embeddings": [{"values": [1]}]}),
        ("", {"embedding": {"values": [1]}}, {"embeddings": [{"values": [1]}]}),
    ],
)
def test_vectors_come_as_one_or_as_many_as_the_client_asked(form: str, sent: Any, wanted: Any) -> None:
    relay = GEMINI_EMBED.relay(facts(streamed=False, form=form), PLAIN)
    relay.carry(Frame(json.dumps(sent).encode()), ())
    found = json.loads(relay.close(FinalUsage(Usage({Bucket.INPUT: 5, Bucket.OUTPUT: 0}))))
    assert found.pop("usageMetadata")["promptTokenCount"] == 5
    assert found == wanted


def test_a_count_is_carried_as_it_came() -> None:
    relay = GEMINI_COUNT.relay(facts(streamed=False), PLAIN)
    relay.carry(Frame(b'{ "totalTokens": 7, "totalBillableCharacters": 25 }'), ())
    assert relay.close(FinalUsage(USAGE)) == b'{ "totalTokens": 7, "totalBillableCharacters": 25 }'
