"""From a provider of this dialect to a client of it, nothing changes that the repair table does not name."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.core.event import ReplyFailed
from counterfoil.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from counterfoil.dialects.anthropic_messages.relay import REPAIRS, MessagesRelay
from counterfoil.dialects.dialect import FinalUsage, Quirks, ReplyFacts
from counterfoil.framing.frame import Frame
from counterfoil.usage.usage import Bucket, Usage

from .support import NEARLY, PLAIN, block, decode, end, facts, frames_of, sse, start, text_block

NAMED = {"model": "house-model"}
USAGE = Usage({Bucket.INPUT: 25, Bucket.OUTPUT: 12})


def carried(body: bytes, usage: Usage | None = USAGE, *, estimated: bool = False, **changes: Any) -> bytes:
    known: ReplyFacts = facts(**changes)
    relay = MessagesRelay(known, PLAIN)
    decoder = ANTHROPIC_MESSAGES.decoder(known.streamed, 1, PLAIN)
    out = [relay.carry(frame, decoder.feed(frame)) for frame in frames_of([body], streamed=known.streamed)]
    return b"".join(out) + relay.close(FinalUsage(usage, estimated))


def frames(body: bytes) -> list[dict[str, Any]]:
    lines = [line for line in body.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def padded(frame: dict[str, Any]) -> bytes:
    """A frame as the real provider pads it: spaces before the last brace."""
    return f"event: {frame['type']}\ndata: {json.dumps(frame)[:-1]}     }}\n\n".encode()


WHOLE_COUNTS = {"input_tokens": 25, "output_tokens": 12}


def test_a_stream_that_needs_nothing_keeps_every_byte() -> None:
    head = start({"input_tokens": 25, "output_tokens": 0}, **NAMED)
    every = [head, {"type": "ping"}, *text_block(0, "Snipe."), *end(usage=WHOLE_COUNTS)]
    body = b"".join(padded(frame) for frame in every)
    assert carried(body) == body


def test_only_the_named_values_of_a_head_change() -> None:
    usage = {"input_tokens": 25, "cache_read_input_tokens": 7, "output_tokens": 88, "service_tier": "standard"}
    head = start(usage, context_management={"applied_edits": []})
    (found, *_) = frames(carried(sse(head, *end())))
    expected = json.loads(json.dumps(head))
    expected["message"]["model"] = "house-model"
    expected["message"]["usage"]["output_tokens"] = 0
    assert found == expected
    assert list(found["message"]) == list(head["message"])
    assert list(found["message"]["usage"]) == list(usage)


def test_a_head_without_input_gets_a_marked_estimate() -> None:
    for usage in ({}, {"input_tokens": None, "output_tokens": 1}):
        (found, *_) = frames(carried(sse(start(usage), *end())))
        assert found["message"]["usage"] == {"input_tokens": 31, "output_tokens": 0, "estimated": True}


def test_a_head_without_an_id_gets_ours() -> None:
    assert frames(carried(sse(start(id=""), *end())))[0]["message"]["id"] == "ours"
    assert frames(carried(sse(start(), *end())))[0]["message"]["id"] == "msg_made"


def test_the_old_form_of_delta_is_filled_from_the_books() -> None:
    usage = Usage({Bucket.INPUT: 25, Bucket.CACHE_READ: 7, Bucket.CACHE_WRITE: 2, Bucket.OUTPUT: 12})
    delta = frames(carried(sse(start(), *end(usage={"output_tokens": 12})), usage))[-2]
    assert delta["usage"] == {
        "output_tokens": 12,
        "input_tokens": 25,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 7,
    }


def test_other_keys_of_the_delta_are_kept() -> None:
    usage = {"output_tokens": 12, "server_tool_use": {"web_search_requests": 1}}
    delta = {**end("pause_turn", usage)[0], "context_management": {"applied_edits": [1]}}
    found = frames(carried(sse(start(), delta, {"type": "message_stop"})))[-2]
    assert found["context_management"] == {"applied_edits": [1]}
    assert found["usage"]["server_tool_use"] == {"web_search_requests": 1}
    assert found["delta"]["stop_reason"] == "pause_turn"


def test_two_deltas_become_one_that_says_what_both_said() -> None:
    first = end("end_turn", {"output_tokens": 3, "service_tier": "standard"}, container={"id": "c"})[0]
    second = {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 12}}
    found = frames(carried(sse(start(), first, second, {"type": "message_stop"})))
    assert [frame["type"] for frame in found] == ["message_start", "message_delta", "message_stop"]
    assert found[1]["delta"]["stop_reason"] == "end_turn"
    assert found[1]["delta"]["container"] == {"id": "c"}
    assert found[1]["usage"] == {"output_tokens": 12, "service_tier": "standard", "input_tokens": 25}


def test_the_second_delta_counts_also_where_the_first_needs_no_repair() -> None:
    first, second = end(usage={"input_tokens": 25}), end("end_turn", {"output_tokens": 12})
    found = frames(carried(sse(start(), first[0], *second)))
    assert found[1]["usage"] == WHOLE_COUNTS
    assert found[1]["delta"] == first[0]["delta"]


def test_what_a_second_delta_leaves_null_stays_as_the_first_said() -> None:
    first = {**end()[0], "context_management": {"applied_edits": []}}
    second = {**end()[0], "context_management": None}
    found = frames(carried(sse(start(), first, second, {"type": "message_stop"})))
    assert found[1]["context_management"] == {"applied_edits": []}


def test_a_frame_that_failed_is_not_carried() -> None:
    relay = MessagesRelay(facts(), PLAIN)
    failed = ReplyFailed(Failure(FailureKind.BAD_REPLY, "Bad.", Fault.PROVIDER, 502))
    (frame,) = frames_of([b"event: content_block_delta\ndata: <html>\n\n"], streamed=True)
    assert relay.carry(frame, (failed,)) == b""


def test_the_end_is_written_where_the_provider_left_it_out() -> None:
    found = frames(carried(sse(start(), *text_block(0, "Knot."), end()[0])))
    assert [frame["type"] for frame in found[-2:]] == ["message_delta", "message_stop"]


def test_a_reply_without_a_delta_gets_one() -> None:
    found = frames(carried(sse(start(), *text_block(0, "Ruff."))))
    assert found[-2] == {
        "type": "message_delta",
        "delta": {"stop_reason": None, "stop_sequence": None},
        "usage": {"input_tokens": 25, "output_tokens": 12},
    }


def test_the_end_is_held_until_the_books_are_closed() -> None:
    relay = MessagesRelay(facts(), PLAIN)
    out = b"".join(relay.carry(frame, ()) for frame in frames_of([sse(start(), *end())], streamed=True))
    assert [frame["type"] for frame in frames(out)] == ["message_start"]


def test_a_missing_event_name_is_supplied() -> None:
    every = [start(), {"type": "ping"}, *text_block(0, "Stint."), *end(usage=WHOLE_COUNTS)]
    body = carried(sse(*every, named=False))
    names = [line.removeprefix("event: ") for line in body.decode().splitlines() if line.startswith("event: ")]
    assert names == [frame["type"] for frame in frames(body)]


def test_a_last_frame_without_its_blank_line_gets_one() -> None:
    body = carried(sse(start(), *end(usage=WHOLE_COUNTS))[:-2])
    assert body.endswith(b'data: {"type": "message_stop"}\n\n')


def test_comments_unknown_events_and_unknown_blocks_are_carried_word_for_word() -> None:
    strange = b'event: news\ndata: {"type":"news",  "n":1.50}\n\n'
    comment = b": a comment\n\n"
    sketch = sse(*block(0, {"type": "sketch", "lines": [1]}, {"type": "sketch_delta", "line": 2}))
    body = carried(sse(start()) + strange + comment + sketch + sse(*end()))
    for piece in (strange, comment, sketch):
        assert piece in body


@pytest.mark.parametrize(
    "strange", [b": \xff\n\n", b"\x80\x81 no event at all\n\n", "event: ping".encode("utf-16") + b"\n\n"]
)
def test_a_block_without_data_that_is_not_utf_8_is_left_out(strange: bytes) -> None:
    assert carried(sse(start()) + strange + sse(*end())) == carried(sse(start(), *end()))


def test_done_is_left_out() -> None:
    assert b"[DONE]" not in carried(sse(start(), *end()) + b"data: [DONE]\n\n")


def test_an_error_frame_waits_for_fail_and_has_no_clean_end() -> None:
    relay = MessagesRelay(facts(), PLAIN)
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy."}}
    body = sse(start(), *text_block(0, "Half"), error)
    out = b"".join(relay.carry(frame, ()) for frame in frames_of([body], streamed=True))
    assert b"overloaded_error" not in out
    out = relay.fail(Failure(FailureKind.OVERLOADED, "Busy.", Fault.PROVIDER, 529, type="overloaded_error"))
    assert frames(out) == [error]
    assert b"message_stop" not in out


@pytest.mark.parametrize("data", ["<html>", "[1]", "7", '{"type":"message_start"}'])
def test_a_frame_that_cannot_be_read_is_not_carried(data: str) -> None:
    relay = MessagesRelay(facts(), PLAIN)
    (frame,) = frames_of([f"data: {data}\n\n".encode()], streamed=True)
    assert relay.carry(frame, ()) == b""


def whole_message(**changes: Any) -> dict[str, Any]:
    said = {"id": "msg_1", "type": "message", "content": [{"type": "text", "text": "Smew."}], "model": "claude-made-1"}
    return {**said, "stop_reason": "end_turn", "usage": {**WHOLE_COUNTS}, "container": None, **changes}


def test_a_whole_message_that_needs_nothing_keeps_every_byte() -> None:
    body = json.dumps(whole_message(model="house-model"), indent=1).encode()
    assert carried(body, streamed=False) == body


def test_only_the_named_values_of_a_whole_message_change() -> None:
    usage = {"output_tokens": 12, "input_tokens": 20, "iterations": [], "service_tier": "standard"}
    body = json.dumps(whole_message(usage=usage)).encode()
    found = json.loads(carried(body, streamed=False))
    assert found == whole_message(model="house-model", usage={**usage, "input_tokens": 25})
    assert list(found) == list(whole_message())


def test_an_estimate_is_marked_for_a_client_of_the_same_dialect_too() -> None:
    body = carried(sse(start(), *text_block(0, "Auk.")), estimated=True)
    assert frames(body)[-2]["usage"]["estimated"] is True


def test_a_failure_of_a_whole_reply_is_an_error_body() -> None:
    relay = MessagesRelay(facts(streamed=False), Quirks())
    body = relay.fail(Failure(FailureKind.BAD_REPLY, "Bad.", Fault.PROVIDER, 502))
    assert json.loads(body)["error"]["type"] == "api_error"


def test_every_row_of_the_repair_table_says_where_it_comes_from() -> None:
    assert all(row.where and row.into and row.cites for row in REPAIRS)


def test_what_is_carried_is_the_same_reply() -> None:
    tool = block(1, {"type": "tool_use", "id": "t", "name": "dive", "input": {}})
    body = sse(start(), *text_block(0, "Grebe."), *tool, *end("tool_use"))
    told, heard = decode(body), decode(carried(body))
    assert (heard.text, heard.tools, heard.ended, heard.done) == (told.text, told.tools, True, True)


@given(st.lists(st.binary(max_size=30) | NEARLY.map(msgspec.json.encode), max_size=6), st.booleans())
def test_no_frame_makes_the_relay_raise(datas: list[bytes], streamed: bool) -> None:
    relay = MessagesRelay(facts(streamed=streamed), PLAIN)
    for data in datas:
        relay.carry(Frame(data, raw=b"data: " + data + b"\n\n"), ())
    relay.close(FinalUsage(USAGE))
