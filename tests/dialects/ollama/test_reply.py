"""Ollama's replies: lines of JSON that end with the one that says `done`, and its counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from counterfoil.core.error import FailureKind
from counterfoil.core.event import (
    ChoiceFinished,
    EmbeddingsGiven,
    Event,
    FinishReason,
    LogprobsGiven,
    OpaqueGiven,
    ReasoningDelta,
    ReplyStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.dialects.ollama import OLLAMA, OLLAMA_EMBED, OLLAMA_GENERATE
from counterfoil.dialects.ollama.reply import CALLS_LIMIT
from counterfoil.exchange.recorded import ReadReply, read_reply
from counterfoil.ledger.entry import Exit
from counterfoil.usage.reading import Counter
from tests import wire
from tests.dialects.recorded import check_recording

__all__: list[str] = []

END: dict[str, Any] = {"done": True, "done_reason": "stop", "prompt_eval_count": 11, "eval_count": 7}


def _line(**said: Any) -> bytes:
    return msgspec.json.encode({"model": "small:1b", "created_at": "2025-11-20T10:00:00.123456789Z", **said}) + b"\n"


def _message(end: dict[str, Any] | None = None, **said: Any) -> bytes:
    return _line(message={"role": "assistant", "content": "", **said}, **(end or {"done": False}))


def _chat(*lines: bytes, streamed: bool = True) -> ReadReply:
    return read_reply([b"".join(lines)], OLLAMA, streamed=streamed)


def _of(reply: ReadReply, *kinds: type[Event]) -> Sequence[Event]:
    return [event for event in reply.events if isinstance(event, kinds)]


# ---- recordings


@pytest.mark.parametrize("name", wire.params("ollama.chat/", "ollama.generate/"))
def test_a_recorded_reply_is_read_as_the_oracle_says(name: str) -> None:
    reply = check_recording(name)
    assert reply.exit is Exit.COMPLETED
    assert len(_of(reply, ChoiceFinished)) == 1
    assert _of(reply, TextDelta)
    assert not reply.settlement.discrepancies
    assert all(b"context" not in raw and b"message" not in raw for raw in reply.reading.raw)


@pytest.mark.parametrize("name", wire.params("ollama.embed/"))
def test_recorded_vectors_are_read_and_what_nobody_counted_is_unknown(name: str) -> None:
    reply = check_recording(name)
    assert reply.exit is Exit.COMPLETED
    (given,) = _of(reply, EmbeddingsGiven)
    assert isinstance(given, EmbeddingsGiven)
    assert len(given.embeddings) == 1
    assert reply.settlement.usage.input_tokens is None
    assert reply.settlement.usage.output_tokens == 0


# ---- a stream


def test_a_reply_is_told_in_order_and_ends_with_its_counts() -> None:
    reply = _chat(
        _message(thinking="Tides, "),
        _message(thinking="then."),
        _message(content="The moon"),
        _message(content=" does it."),
        _message({**END, "total_duration": 5, "eval_duration": 3}),
    )
    assert reply.events == (
        ReplyStarted(model="small:1b", created=1_763_632_800),
        ReasoningDelta("Tides, "),
        ReasoningDelta("then."),
        TextDelta("The moon"),
        TextDelta(" does it."),
        ChoiceFinished(FinishReason.STOP, said="stop"),
        reply.events[-1],
    )
    (report,) = _of(reply, UsageReported)
    assert isinstance(report, UsageReported)
    assert report.report.counts == {Counter.INPUT: 11, Counter.OUTPUT: 7}
    assert report.report.raw == b'{"total_duration":5,"prompt_eval_count":11,"eval_count":7,"eval_duration":3}'
    assert reply.exit is Exit.COMPLETED


def test_calls_come_whole_with_their_arguments_as_an_object() -> None:
    first = {"id": "call_a", "function": {"index": 0, "name": "look", "arguments": {"at": "sea", "far": 1.50}}}
    second = {"function": {"index": 0, "name": "wait"}}
    reply = _chat(_message(tool_calls=[first]), _message(tool_calls=[second]), _message(END))
    assert _of(reply, ToolCallStarted, ToolArgumentsDelta, ChoiceFinished) == [
        ToolCallStarted(0, "call_a", "look"),
        ToolArgumentsDelta(0, '{"at":"sea","far":1.5}'),
        ToolCallStarted(1, "", "wait"),
        ToolArgumentsDelta(1, "{}"),
        ChoiceFinished(FinishReason.TOOL_CALLS, said="stop"),
    ]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("load", FinishReason.UNKNOWN),
        ("", FinishReason.STOP),
        (None, FinishReason.STOP),
    ],
)
def test_the_end_is_told_once_in_our_words(word: str | None, reason: FinishReason) -> None:
    reply = _chat(_message({"done": True, "done_reason": word}), _message(content="late"))
    (finish,) = _of(reply, ChoiceFinished)
    assert isinstance(finish, ChoiceFinished)
    assert finish.reason is reason
    assert not _of(reply, TextDelta)


def test_log_probabilities_are_told_in_the_shape_of_a_chat_reply() -> None:
    reply = _chat(_message({"done": False, "logprobs": [{"token": "a", "logprob": -0.5}]}, content="a"), _message(END))
    assert _of(reply, LogprobsGiven) == [LogprobsGiven(msgspec.Raw(b'{"content":[{"token":"a","logprob":-0.5}]}'))]


def test_pictures_in_a_reply_are_carried_word_for_word() -> None:
    reply = _chat(_message(images=["AAAA"]), _message(END))
    assert _of(reply, OpaqueGiven) == [OpaqueGiven("ollama.images", msgspec.Raw(b'["AAAA"]'))]


@pytest.mark.parametrize(
    ("end", "given_input", "made"),
    [
        ({"eval_count": 7}, None, 7),
        ({"prompt_eval_count": None, "eval_count": 7}, None, 7),
        ({"prompt_eval_count": "11", "eval_count": 7}, None, 7),
        ({"prompt_eval_count": 0, "eval_count": 7}, 0, 7),
        ({}, None, None),
    ],
)
def test_a_count_that_is_not_there_is_unknown_and_a_zero_is_zero(
    end: dict[str, Any], given_input: int | None, made: int | None
) -> None:
    usage = _chat(_message(content="x"), _message({"done": True, **end})).settlement.usage
    assert (usage.input_tokens, usage.output_tokens) == (given_input, made)


def test_generate_tells_its_text_and_thoughts_beside_each_other() -> None:
    lines = [_line(response="", thinking="Hm.", done=False), _line(response="Low tide", done=False), _line(**END)]
    reply = read_reply(lines, OLLAMA_GENERATE, streamed=True)
    assert _of(reply, ReasoningDelta, TextDelta) == [ReasoningDelta("Hm."), TextDelta("Low tide")]
    assert reply.settlement.usage.total_tokens == 18


@pytest.mark.parametrize("streamed", [True, False])
def test_a_whole_reply_is_a_stream_of_one(streamed: bool) -> None:
    reply = _chat(_message({**END, "context": [1, 2, 3]}, content="All of it.", thinking="Hm."), streamed=streamed)
    assert [type(event) for event in reply.events] == [
        ReplyStarted,
        ReasoningDelta,
        TextDelta,
        ChoiceFinished,
        UsageReported,
    ]
    assert reply.exit is Exit.COMPLETED


def test_a_stream_that_stops_before_its_end_is_cut() -> None:
    reply = _chat(_message(content="The mo"))
    assert reply.exit is Exit.TRUNCATED
    assert reply.settlement.usage.output_tokens is None


# ---- errors


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("an error was encountered while running the model", FailureKind.PROVIDER_ERROR),
        ("the input length exceeds the context length", FailureKind.CONTEXT_WINDOW),
    ],
)
def test_an_error_line_ends_the_reply_and_keeps_what_came_before(text: str, kind: FailureKind) -> None:
    reply = _chat(_message(content="The moon"), msgspec.json.encode({"error": text}) + b"\n", _message(END))
    assert reply.exit is Exit.FAILED
    assert reply.failure is not None
    assert (reply.failure.kind, reply.failure.message) == (kind, text)
    assert _of(reply, TextDelta) == [TextDelta("The moon")]


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (404, "model 'large' not found", FailureKind.NOT_FOUND),
        (400, "small:1b does not support tools", FailureKind.INVALID_REQUEST),
        (401, "unauthorized", FailureKind.AUTHENTICATION),
        (429, "you have reached your session usage limit", FailureKind.RATE_LIMITED),
        (503, "server busy, please try again. maximum pending requests exceeded", FailureKind.OVERLOADED),
        (500, "llama runner process has terminated", FailureKind.PROVIDER_ERROR),
    ],
)
def test_an_error_answer_is_told_by_its_kind(status: int, text: str, kind: FailureKind) -> None:
    failure = OLLAMA.read_failure(status, {}, msgspec.json.encode({"error": text}))
    assert (failure.kind, failure.message, failure.status) == (kind, text, status)


@pytest.mark.parametrize(
    "data",
    [
        b"not json\n",
        b"{}\n",
        b"[]\n",
        b"\xff\n",
        b'{"message":{"content":7}}\n',
        b'{"message":{"content":"x"},"done":"yes"}\n',
        b'{"message":' + b"[" * 50_000 + b"\n",
        _message(tool_calls=[{"function": {"name": "x"}}] * (CALLS_LIMIT + 1)),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_what_is_no_reply_fails_by_name(data: bytes, streamed: bool) -> None:
    reply = _chat(data, _message(END), streamed=streamed)
    assert reply.exit is Exit.FAILED
    assert reply.failure is not None
    assert reply.failure.kind is FailureKind.BAD_REPLY


@pytest.mark.parametrize("said", ["yesterday", 7, None, "9999-99-99T00:00:00Z"])
def test_a_time_that_is_none_is_left_out(said: object) -> None:
    reply = _chat(msgspec.json.encode({"model": 3, "created_at": said, "message": {"content": "x"}, **END}))
    assert reply.events[0] == ReplyStarted()


# ---- vectors


def test_vectors_are_told_in_the_order_of_the_inputs() -> None:
    body = msgspec.json.encode({"model": "vec", "embeddings": [[0.5, 1], [2]], "prompt_eval_count": 6})
    reply = read_reply([body], OLLAMA_EMBED, streamed=False)
    (given,) = _of(reply, EmbeddingsGiven)
    assert isinstance(given, EmbeddingsGiven)
    assert [bytes(vector.vector) for vector in given.embeddings] == [b"[0.5,1]", b"[2]"]
    assert (reply.settlement.usage.input_tokens, reply.settlement.usage.output_tokens) == (6, 0)


@pytest.mark.parametrize("body", [b"{}", b'{"embeddings":[7]}', b'{"embedding":"x"}', b"[]", b"\xff"])
def test_what_holds_no_vectors_fails_by_name(body: bytes) -> None:
    reply = read_reply([body], OLLAMA_EMBED, streamed=False)
    assert reply.failure is not None
    assert reply.failure.kind is FailureKind.BAD_REPLY


def test_an_error_instead_of_vectors_is_told() -> None:
    reply = read_reply([b'{"error":"the input length exceeds the context length"}'], OLLAMA_EMBED, streamed=False)
    assert reply.failure is not None
    assert reply.failure.kind is FailureKind.CONTEXT_WINDOW
