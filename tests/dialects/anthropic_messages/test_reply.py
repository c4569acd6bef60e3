"""What a provider says in this dialect is heard whole, however it says it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.error import FailureKind, Fault
from counterfoil.core.event import (
    ChoiceFinished,
    FinishReason,
    OpaqueGiven,
    ReasoningDelta,
    ReasoningSigned,
    RedactedReasoningGiven,
    ReplyFailed,
    ReplyStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.dialects.anthropic_messages import reply
from counterfoil.dialects.dialect import Quirks
from counterfoil.framing.frame import Frame

from .support import NEARLY, PLAIN, block, decode, end, joined, sse, start, text_block

CITATION = {"type": "char_location", "cited_text": "grey", "document_index": 0, "start_char_index": 1}
SERVER_TOOL = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
RESULT = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"title": "Herons"}]}

STREAM = sse(
    start(),
    {"type": "ping"},
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "A heron "},
        {"type": "thinking_delta", "thinking": "is grey."},
        {"type": "signature_delta", "signature": "c2ln"},
    ),
    *block(1, {"type": "redacted_thinking", "data": "ZGFyaw=="}),
    *text_block(2, "Herons ", "fish."),
    *block(3, SERVER_TOOL, {"type": "input_json_delta", "partial_json": '{"query":"her'},
           {"type": "input_json_delta", "partial_json": 'on"}'}),
    *block(4, RESULT),
    *block(5, {"type": "tool_use", "id": "toolu_1", "name": "wade", "input": {}},
           {"type": "input_json_delta", "partial_json": ""},
           {"type": "input_json_delta", "partial_json": '{"depth'},
           {"type": "input_json_delta", "partial_json": '": 2}'}),
    *block(6, {"type": "tool_use", "id": "toolu_2", "name": "rest", "input": {}},
           {"type": "input_json_delta", "partial_json": ""}),
    *end("tool_use", {"input_tokens": 30, "output_tokens": 44}),
)  # fmt: skip

WHOLE = json.dumps(
    {
        "id": "msg_made",
        "type": "message",
        "role": "assistant",
        "model": "claude-made-1",
        "content": [
            {"type": "thinking", "thinking": "A heron is grey.", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "ZGFyaw=="},
            {"type": "text", "text": "Herons fish."},
            {**SERVER_TOOL, "input": {"query": "heron"}},
            RESULT,
            {"type": "tool_use", "id": "toolu_1", "name": "wade", "input": {"depth": 2}},
            {"type": "tool_use", "id": "toolu_2", "name": "rest", "input": {}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 30, "output_tokens": 44},
    }
).encode()


def test_every_block_of_a_stream_becomes_its_events() -> None:
    found = decode(STREAM)
    events = joined(event for event in found.events if type(event).__name__ != "OpaqueGiven")
    assert [event for event in events if not isinstance(event, UsageReported)] == [
        ReplyStarted("msg_made", "claude-made-1"),
        ReasoningDelta("A heron is grey."),
        ReasoningSigned("c2ln"),
        RedactedReasoningGiven("ZGFyaw=="),
        TextDelta("Herons fish."),
        ToolCallStarted(0, "toolu_1", "wade"),
        ToolArgumentsDelta(0, '{"depth": 2}'),
        ToolCallStarted(1, "toolu_2", "rest"),
        ToolArgumentsDelta(1, "{}"),
        ChoiceFinished(FinishReason.TOOL_CALLS, said="tool_use"),
    ]
    assert found.opaque == [("server_tool_use", {**SERVER_TOOL, "input": {"query": "heron"}}),
                            ("web_search_tool_result", RESULT)]  # fmt: skip
    assert found.ended
    assert found.done


def test_a_whole_message_says_the_same_as_its_stream() -> None:
    whole, streamed = decode(WHOLE, streamed=False), decode(STREAM)
    assert (whole.text, whole.reasoning, whole.tools, whole.opaque) == (
        streamed.text,
        streamed.reasoning,
        streamed.tools,
        streamed.opaque,
    )
    assert whole.settlement.usage == streamed.settlement.usage
    assert whole.of(ChoiceFinished) == streamed.of(ChoiceFinished)
    assert whole.ended
    assert whole.done


def test_how_the_bytes_are_cut_means_nothing() -> None:
    assert decode([bytes([byte]) for byte in STREAM]).events == decode(STREAM).events


@pytest.mark.parametrize("cut", range(0, len(STREAM), 7))
def test_a_prefix_has_the_events_of_the_prefix_and_no_failure(cut: int) -> None:
    found = decode([STREAM[:cut]])
    whole = decode(STREAM)
    unfailed = [event for event in found.events if not isinstance(event, ReplyFailed)]
    assert unfailed == list(whole.events[: len(unfailed)])
    assert found.ended == (ChoiceFinished(FinishReason.TOOL_CALLS, said="tool_use") in found.events)


def test_a_whole_message_where_a_stream_was_asked_is_read_all_the_same() -> None:
    assert decode(b"data: " + WHOLE + b"\n\n").tools == decode(STREAM).tools


def test_frames_without_event_names_are_read_all_the_same() -> None:
    frames = [start(), *text_block(0, "Egret."), *end()]
    assert decode(sse(*frames, named=False)).events == decode(sse(*frames)).events


def test_a_frame_without_a_type_is_read_by_its_event_name() -> None:
    body = b'event: content_block_delta\ndata: {"index":0,"delta":{"type":"text_delta","text":"Ibis."}}\n\n'
    assert decode(body).text == "Ibis."


def test_text_in_a_block_start_counts() -> None:
    body = sse(start(), *block(0, {"type": "text", "text": "Bit"}, {"type": "text_delta", "text": "tern."}), *end())
    assert decode(body).text == "Bittern."


def test_arguments_in_a_block_start_count_when_no_delta_comes() -> None:
    tool = {"type": "tool_use", "id": "t", "name": "wade", "input": {"depth": 3}}
    assert decode(sse(start(), *block(0, tool), *end("tool_use"))).tools == [("t", "wade", {"depth": 3})]


def test_a_tool_without_a_block_stop_still_gets_its_arguments_before_the_finish() -> None:
    tool = {"type": "tool_use", "id": "t", "name": "rest", "input": {}}
    opening = {"type": "content_block_start", "index": 0, "content_block": tool}
    kinds = [type(event) for event in decode(sse(start(), opening, *end("tool_use"))).events]
    assert kinds.index(ToolArgumentsDelta) < kinds.index(ChoiceFinished)


def test_content_in_the_head_is_heard() -> None:
    """Programmatic tool calling: the head holds the call and its reason to stop, with zero usage (WIRE 2)."""
    tool = {"type": "tool_use", "id": "t", "name": "wade", "input": {"depth": 1}, "caller": {"type": "code_execution"}}
    usage = {"input_tokens": 0, "output_tokens": 0}
    found = decode(sse(start(usage, content=[tool], stop_reason="tool_use"), {"type": "message_stop"}))
    assert found.tools == [("t", "wade", {"depth": 1})]
    assert found.of(ChoiceFinished) == [ChoiceFinished(FinishReason.TOOL_CALLS, said="tool_use")]
    assert found.ended


def test_a_reason_to_stop_in_the_head_yields_to_the_one_at_the_end() -> None:
    found = decode(sse(start(content=[], stop_reason="tool_use"), *text_block(0, "Crane."), *end("end_turn")))
    assert found.of(ChoiceFinished) == [ChoiceFinished(FinishReason.STOP, said="end_turn")]


def test_a_citation_is_carried_word_for_word() -> None:
    deltas = ({"type": "text_delta", "text": "grey"}, {"type": "citations_delta", "citation": CITATION})
    found = decode(sse(start(), *block(0, {"type": "text", "text": "", "citations": []}, *deltas), *end()))
    assert found.opaque == [("citation", CITATION)]
    whole = {"type": "message", "content": [{"type": "text", "text": "grey", "citations": [CITATION]}]}
    assert decode(json.dumps(whole).encode(), streamed=False).opaque == [("citation", CITATION)]


def test_a_compaction_comes_out_as_one_block() -> None:
    deltas = ({"type": "compaction_delta", "content": "So "}, {"type": "compaction_delta", "content": "far."})
    found = decode(sse(start(), *block(0, {"type": "compaction", "content": None}, *deltas), *end()))
    assert found.opaque == [("compaction", {"type": "compaction", "content": "So far."})]


def test_an_unknown_block_and_an_unknown_delta_are_carried() -> None:
    strange = {"type": "sketch", "lines": [1, 2]}
    found = decode(sse(start(), *block(0, strange, {"type": "sketch_delta", "line": 3}), *end()))
    assert found.opaque == [("sketch_delta", {"type": "sketch_delta", "line": 3}), ("sketch", strange)]


def test_an_untouched_opaque_block_keeps_its_bytes() -> None:
    raw = b'{ "type":"sketch",  "n": 1.50 }'
    body = b'data: {"type":"content_block_start","index":0,"content_block":' + raw + b"}\n\n"
    body += b'data: {"type":"content_block_stop","index":0}\n\n'
    (event,) = (event for event in decode(body).events if isinstance(event, OpaqueGiven))
    assert bytes(event.raw) == raw


def test_server_tool_input_that_is_cut_is_wrapped() -> None:
    frames = block(0, SERVER_TOOL, {"type": "input_json_delta", "partial_json": '{"que'})
    ((_, found),) = decode(sse(start(), *frames)).opaque
    assert found["input"] == {"INVALID_JSON": '{"que'}


def test_an_opaque_block_beyond_the_limit_fails_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "OPAQUE_LIMIT", 10)
    delta = {"type": "input_json_delta", "partial_json": "x" * 11}
    (failed,) = decode(sse(start(), *block(0, SERVER_TOOL, delta))).of(ReplyFailed)
    assert isinstance(failed, ReplyFailed)
    assert failed.failure.kind is FailureKind.BAD_REPLY


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("tool_use", FinishReason.TOOL_CALLS),
        ("pause_turn", FinishReason.PAUSED),
        ("refusal", FinishReason.REFUSAL),
        ("something_new", FinishReason.UNKNOWN),
    ],
)
def test_every_stop_reason_ends_the_reply(word: str, reason: FinishReason) -> None:
    found = decode(sse(start(), *text_block(0, "Rail."), *end(word)))
    assert found.of(ChoiceFinished) == [ChoiceFinished(reason, said=word)]
    assert found.ended


def test_the_stop_sequence_that_was_met_is_told() -> None:
    (finish,) = decode(sse(start(), *end("stop_sequence", stop_sequence="END"))).of(ChoiceFinished)
    assert isinstance(finish, ChoiceFinished)
    assert finish.stop_sequence == "END"


def test_a_repeated_finish_is_swallowed_and_its_usage_is_heard() -> None:
    found = decode(sse(start(), *end()[:1], *end(usage={"output_tokens": 13})))
    assert len(found.of(ChoiceFinished)) == 1
    assert found.settlement.usage.output_tokens == 13


def test_a_delta_without_a_reason_does_not_end_the_reply() -> None:
    delta = {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 2}}
    found = decode(sse(start(), delta))
    assert not found.ended
    assert found.reading.value(next(iter(found.reading.scopes[-1]))) is not None


def test_a_second_head_starts_no_second_reply() -> None:
    assert len(decode(sse(start(), start(), *end())).of(ReplyStarted)) == 1


def test_a_provider_that_never_says_a_reason_ends_as_its_quirk_says() -> None:
    body = sse(start(), *text_block(0, "Coot."), {"type": "message_stop"})
    assert not decode(body).ended
    found = decode(body, quirks=Quirks(end="done"))
    assert found.ended
    assert found.of(ChoiceFinished) == [ChoiceFinished(FinishReason.STOP)]


@pytest.mark.parametrize(
    "noise", [b": hello\n\n", b"data: [DONE]\n\n", b"data:\n\n", b'data: {"type":"new_thing"}\n\n']
)
def test_what_is_not_known_is_ignored(noise: bytes) -> None:
    body = sse(start(), *text_block(0, "Teal."))
    assert decode(body + noise + sse(*end())).events == decode(body + sse(*end())).events


def test_an_error_frame_is_a_failure_with_its_own_status() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    (failed,) = decode(sse(start(), error)).of(ReplyFailed)
    assert isinstance(failed, ReplyFailed)
    assert (failed.failure.kind, failed.failure.status, failed.failure.fault) == (
        FailureKind.OVERLOADED,
        529,
        Fault.PROVIDER,
    )


def test_an_error_body_with_status_200_is_a_failure() -> None:
    body = b'{"type":"error","error":{"type":"api_error","message":"Internal"}}'
    (failed,) = decode(body, streamed=False).events
    assert isinstance(failed, ReplyFailed)
    assert failed.failure.kind is FailureKind.PROVIDER_ERROR


@pytest.mark.parametrize(
    "body", [b"<html>no</html>", b"{", b"[]", b"7", b"{}", b'{"type":"list"}', b'"\xff"', b"[" * 50_000]
)
def test_a_body_that_is_no_message_is_a_bad_reply_and_is_not_quoted(body: bytes) -> None:
    (failed,) = decode(body, streamed=False).events
    assert isinstance(failed, ReplyFailed)
    assert failed.failure.kind is FailureKind.BAD_REPLY
    assert "html" not in failed.failure.message


@pytest.mark.parametrize("data", ["<html>", '{"type":"message_start"}', '{"type":"content_block_delta","delta":3}'])
def test_a_frame_that_cannot_be_read_is_a_bad_reply(data: str) -> None:
    (failed,) = decode(f"data: {data}\n\n".encode()).events
    assert isinstance(failed, ReplyFailed)
    assert failed.failure.kind is FailureKind.BAD_REPLY


@given(st.lists(st.binary(max_size=30) | NEARLY.map(msgspec.json.encode), max_size=6), st.booleans())
def test_no_frame_makes_the_decoder_raise(datas: list[bytes], streamed: bool) -> None:
    decoder = reply.MessagesDecoder(streamed, 1, PLAIN)
    for data in datas:
        decoder.feed(Frame(data))
    decoder.close()


def test_null_where_a_text_is_expected_is_nothing() -> None:
    frames: list[dict[str, Any]] = [start(), *block(0, {"type": "text", "text": None}, {"type": "text_delta"}), *end()]
    assert decode(sse(*frames)).text == ""
