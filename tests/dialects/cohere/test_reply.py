"""Cohere's v2 chat, streamed and whole: the same reply, once, to its end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from counterfoil.core.error import FailureKind
from counterfoil.core.event import (
    ChoiceFinished,
    FinishReason,
    LogprobsGiven,
    OpaqueGiven,
    ReplyFailed,
    ReplyStarted,
    UsageReported,
)
from counterfoil.ledger.entry import Exit

from .support import DONE, END, block, calls_of, chat, delta, end, frame, read, reasoning_of, start, text_of

__all__: list[str] = []

STREAM = start() + block(0, "thinking", "The tide", " turns.") + block(1, "text", "At ", "noon.") + END + DONE
WHOLE = chat({"type": "thinking", "thinking": "The tide turns."}, {"type": "text", "text": "At noon."})


@pytest.mark.parametrize("streamed", [True, False])
def test_thinking_and_text_are_told_apart(streamed: bool) -> None:
    reply = read(STREAM if streamed else WHOLE, streamed=streamed)
    assert reply.exit is Exit.COMPLETED
    assert (reasoning_of(reply.events), text_of(reply.events)) == ("The tide turns.", "At noon.")
    assert reply.events[0] == ReplyStarted("reply-1")
    assert reply.provider_id == "reply-1"
    assert [e for e in reply.events if isinstance(e, ChoiceFinished)] == [
        ChoiceFinished(FinishReason.STOP, said="COMPLETE")
    ]


@pytest.mark.parametrize("size", [1, 3, 100_000])
def test_any_cut_of_the_bytes_gives_the_same_reply(size: int) -> None:
    pieces = [STREAM[place : place + size] for place in range(0, len(STREAM), size)]
    assert read(*pieces) == read(STREAM)


def test_a_call_without_what_it_adds_adds_nothing() -> None:
    call = delta("tool-call-start", tool_calls={"id": "c", "function": {"name": "tide", "arguments": ""}})
    args = delta("tool-call-delta", tool_calls={"function": {"arguments": '{"port":"Brest"}'}})
    empty = (
        delta("tool-call-delta"),
        delta("tool-call-delta", tool_calls={}),
        delta("tool-call-delta", 7, tool_calls={}),
    )
    stream = start() + call + b"".join(empty) + args + frame("tool-call-end", index=0) + END
    assert calls_of(read(stream).events) == [("c", "tide", '{"port":"Brest"}')]


@pytest.mark.parametrize("said", [{}, {"text": "At "}, {"logprobs": [-0.5]}, {"text": None, "logprobs": None}])
def test_log_probabilities_that_lack_a_part_are_not_said(said: dict[str, Any]) -> None:
    piece = frame("content-delta", index=0, delta={"message": {"content": {"text": "At "}}}, logprobs=said)
    reply = read(start() + delta("content-start", content={"type": "text", "text": ""}) + piece + END)
    assert (text_of(reply.events), reply.exit) == ("At ", Exit.COMPLETED)
    assert not [event for event in reply.events if isinstance(event, LogprobsGiven)]


def test_a_start_that_is_said_again_says_nothing() -> None:
    assert read(start() + STREAM).events == read(STREAM).events


def test_a_stream_without_an_end_mark_is_whole_and_one_without_its_end_is_not() -> None:
    assert read(STREAM.removesuffix(DONE)) == read(STREAM)
    cut = read(STREAM.removesuffix(END + DONE))
    assert cut.exit is Exit.TRUNCATED
    assert cut.settlement.usage.input_tokens is None


def test_the_plan_before_a_call_is_reasoning_and_arguments_are_json_text() -> None:
    function = {"name": "tide_at", "arguments": ""}
    stream = (
        start()
        + delta("tool-plan-delta", tool_plan="I will look")
        + delta("tool-plan-delta", tool_plan=" it up.")
        + delta("tool-call-start", 0, tool_calls={"id": "c-1", "type": "function", "function": function})
        + delta("tool-call-delta", 0, tool_calls={"function": {"arguments": '{"port":'}})
        + delta("tool-call-delta", 0, tool_calls={"function": {"arguments": '"Brest"}'}})
        + frame("tool-call-end", index=0)
        + delta("tool-call-start", 1, tool_calls={"id": "c-2", "type": "function", "function": {"name": "now"}})
        + frame("tool-call-end", index=1)
        + end("TOOL_CALL")
    )
    calls = [
        {"id": "c-1", "type": "function", "function": {"name": "tide_at", "arguments": '{"port":"Brest"}'}},
        {"id": "c-2", "type": "function", "function": {"name": "now", "arguments": ""}},
    ]
    whole = read(chat(calls=calls, plan="I will look it up.", reason="TOOL_CALL"), streamed=False)
    for reply in (read(stream), whole):
        assert reasoning_of(reply.events) == "I will look it up."
        assert calls_of(reply.events) == [("c-1", "tide_at", '{"port":"Brest"}'), ("c-2", "now", "{}")]
        assert ChoiceFinished(FinishReason.TOOL_CALLS, said="TOOL_CALL") in reply.events


def test_a_call_that_never_ends_has_its_arguments_when_the_reply_ends() -> None:
    stream = start() + delta("tool-call-start", 0, tool_calls={"id": "c", "function": {"name": "now"}}) + END
    assert calls_of(read(stream).events) == [("c", "now", "{}")]


def test_a_citation_is_carried_word_for_word() -> None:
    citation = {"start": 0, "end": 2, "text": "At", "sources": [{"type": "document", "id": "doc:0"}]}
    text = delta("content-delta", content={"text": "At noon."})
    streamed = read(start() + text + delta("citation-start", citations=citation) + frame("citation-end", index=0) + END)
    body = json.loads(WHOLE)
    body["message"]["citations"] = [citation]
    for reply in (streamed, read(json.dumps(body).encode(), streamed=False)):
        (found,) = [event for event in reply.events if isinstance(event, OpaqueGiven)]
        assert (found.kind, json.loads(bytes(found.raw))) == ("citation", citation)


def test_log_probabilities_come_in_the_shape_chat_clients_know() -> None:
    item = {"text": "noon", "token_ids": [1, 2], "logprobs": [-0.25, -0.5]}
    content = {"index": 0, "delta": {"message": {"content": {"text": "noon"}}}}
    streamed = read(start() + frame("content-delta", **content, logprobs=item) + END)
    whole = read(chat({"type": "text", "text": "noon"}, logprobs=[item]), streamed=False)
    for reply in (streamed, whole):
        (found,) = [event for event in reply.events if isinstance(event, LogprobsGiven)]
        piece = {"token": "noon", "logprob": -0.75, "bytes": list(b"noon"), "top_logprobs": []}
        assert json.loads(bytes(found.raw)) == {"content": [piece], "refusal": None}


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("COMPLETE", FinishReason.STOP),
        ("STOP_SEQUENCE", FinishReason.STOP),
        ("MAX_TOKENS", FinishReason.LENGTH),
        ("TOOL_CALL", FinishReason.TOOL_CALLS),
        ("ERROR_TOXIC", FinishReason.CONTENT_FILTER),
        ("SOMETHING_NEW", FinishReason.UNKNOWN),
    ],
)
def test_every_finish_has_its_reason(word: str, reason: FinishReason) -> None:
    assert ChoiceFinished(reason, said=word) in read(start() + end(word)).events


@pytest.mark.parametrize(("word", "kind"), [("ERROR", FailureKind.PROVIDER_ERROR), ("TIMEOUT", FailureKind.TIMED_OUT)])
def test_a_generation_that_broke_is_a_failure_and_its_usage_is_kept(word: str, kind: FailureKind) -> None:
    reply = read(start() + block(0, "text", "At ") + end(word, error="the generation broke"))
    assert reply.exit is Exit.FAILED
    assert reply.failure is not None
    assert (reply.failure.kind, reply.failure.code, reply.failure.message) == (kind, word, "the generation broke")
    assert reply.settlement.usage.input_tokens == 500
    assert not any(isinstance(event, ChoiceFinished) for event in reply.events)


@pytest.mark.parametrize("streamed", [True, False])
def test_an_error_under_a_good_status_is_a_failure(streamed: bool) -> None:
    error = b'{"message": "too many tokens: the limit is 4096 tokens"}'
    reply = read(b"data: " + error + b"\n\n" if streamed else error, streamed=streamed)
    assert reply.failure is not None
    assert reply.failure.kind is FailureKind.CONTEXT_WINDOW


def test_usage_is_reported_once_as_it_came() -> None:
    (report,) = [event.report for event in read(STREAM).events if isinstance(event, UsageReported)]
    assert json.loads(report.raw)["cached_tokens"] == 448


def test_what_is_not_known_is_skipped_and_a_part_of_another_kind_is_carried() -> None:
    stream = start() + frame("debug", prompt="x") + frame("tide-turned", index=4) + b": hush\n\n" + END
    assert read(stream).exit is Exit.COMPLETED
    reply = read(chat({"type": "image", "image": {"url": "https://a.test"}}), streamed=False)
    assert [event.kind for event in reply.events if isinstance(event, OpaqueGiven)] == ["image"]


def test_a_whole_reply_where_a_stream_was_asked_for_is_read() -> None:
    assert text_of(read(b"data: " + WHOLE + b"\n\n").events) == "At noon."


@pytest.mark.parametrize(
    "bad",
    [
        b"data: {\n\n",
        b"data: 7\n\n",
        b'data: {"type":"content-delta","delta":{"message":{"content":{"text":7}}}}\n\n',
        b'data: {"type":"message-end"}\n\n',
        b'data: {"type":"content-delta","delta":{"message":{"content":{"text":"\xff"}}}}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
    ],
    ids=["no JSON", "a number", "a wrong type", "an end without a delta", "no UTF-8", "too deep"],
)
def test_a_frame_that_cannot_be_read_is_a_named_failure(bad: bytes) -> None:
    reply = read(start() + bad)
    assert reply.exit is Exit.FAILED
    assert reply.failure is not None
    assert reply.failure.kind is FailureKind.BAD_REPLY
    assert "content" not in reply.failure.message


@pytest.mark.parametrize("index", [None, [0], {"a": 1}, "x", 1.5, -1])
def test_an_index_of_any_type_hurts_nobody(index: Any) -> None:
    call = {"id": "c", "function": {"name": "now"}}
    opened = frame("tool-call-start", index=index, delta={"message": {"tool_calls": call}})
    said = frame("tool-call-delta", index=index, delta={"message": {"tool_calls": {"function": {"arguments": "{}"}}}})
    assert calls_of(read(start() + opened + said + END).events) == [("c", "now", "{}")]


def test_nothing_is_heard_after_the_end() -> None:
    late = read(STREAM + delta("content-delta", content={"text": "late"}) + end("MAX_TOKENS"))
    assert late == read(STREAM)


def test_a_failed_frame_says_nothing_more() -> None:
    reply = read(start() + frame("error", message="the model fell over") + block(0, "text", "more"))
    assert [type(event) for event in reply.events] == [ReplyStarted, ReplyFailed]
