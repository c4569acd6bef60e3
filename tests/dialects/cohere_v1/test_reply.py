"""Cohere's v1 chat, whole and as documented for streams (no recording has one): metered, with its bill."""

from __future__ import annotations

import json
from typing import Any

import pytest

from counterfoil.core.error import FailureKind
from counterfoil.core.event import ChoiceFinished, FinishReason, OpaqueGiven, ReplyStarted
from counterfoil.exchange.recorded import ReadReply
from counterfoil.ledger.entry import Exit
from counterfoil.usage.usage import Bucket
from tests.dialects.cohere.support import calls_of, read, text_of

__all__: list[str] = []

META = {
    "billed_units": {"input_tokens": 6, "output_tokens": 4},
    "tokens": {"input_tokens": 300, "output_tokens": 5},
    "cached_tokens": 128,
}
CITATION = {"start": 0, "end": 2, "text": "At", "document_ids": ["d-1"]}
WHOLE: dict[str, Any] = {
    "response_id": "r-1",
    "generation_id": "g-1",
    "text": "At noon.",
    "citations": [CITATION],
    "finish_reason": "COMPLETE",
    "meta": META,
}


def streamed(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


STREAM = streamed(
    {"is_finished": False, "event_type": "stream-start", "generation_id": "g-1"},
    {"is_finished": False, "event_type": "search-queries-generation", "search_queries": []},
    {"is_finished": False, "event_type": "text-generation", "text": "At "},
    {"is_finished": False, "event_type": "text-generation", "text": "noon."},
    {"is_finished": False, "event_type": "citation-generation", "citations": [CITATION]},
    {"is_finished": True, "event_type": "stream-end", "finish_reason": "COMPLETE", "response": WHOLE},
)


def v1(*data: bytes, stream: bool = True) -> ReadReply:
    return read(*data, dialect="cohere_v1", streamed=stream)


@pytest.mark.parametrize("stream", [True, False])
def test_a_reply_is_heard_once_with_its_tokens_and_its_bill(stream: bool) -> None:
    reply = v1(STREAM if stream else json.dumps(WHOLE).encode(), stream=stream)
    assert reply.exit is Exit.COMPLETED
    assert text_of(reply.events) == "At noon."
    assert reply.events[0] == ReplyStarted("g-1")
    assert [event.kind for event in reply.events if isinstance(event, OpaqueGiven)] == ["citation"]
    assert ChoiceFinished(FinishReason.STOP, said="COMPLETE") in reply.events
    usage = reply.settlement.usage
    assert (usage.input_tokens, usage.cache_read_tokens, usage.output_tokens) == (300, 128, 5)
    assert usage.billed == {Bucket.INPUT: 6, Bucket.OUTPUT: 4}


@pytest.mark.parametrize("size", [1, 7])
def test_any_cut_of_the_bytes_gives_the_same_reply(size: int) -> None:
    assert v1(*[STREAM[place : place + size] for place in range(0, len(STREAM), size)]) == v1(STREAM)


def test_an_end_that_is_all_that_came_says_everything() -> None:
    end = {"event_type": "stream-end", "finish_reason": "MAX_TOKENS", "response": WHOLE}
    reply = v1(streamed(end))
    assert text_of(reply.events) == "At noon."
    assert ChoiceFinished(FinishReason.LENGTH, said="MAX_TOKENS") in reply.events


def test_the_older_count_has_the_tokens_that_the_bill_lacks() -> None:
    count = {"prompt_tokens": 900, "response_tokens": 60, "total_tokens": 960, "billed_tokens": 83}
    meta = {"billed_units": {"input_tokens": 23, "output_tokens": 60}}
    settled = v1(json.dumps({**WHOLE, "meta": meta, "token_count": count}).encode(), stream=False).settlement
    assert (settled.usage.input_tokens, settled.usage.output_tokens, settled.provider_total) == (900, 60, 960)
    assert settled.usage.billed == {Bucket.INPUT: 23, Bucket.OUTPUT: 60}


def test_calls_come_once_with_their_arguments_as_json() -> None:
    calls = [{"name": "tide_at", "parameters": {"port": "Brest"}}, {"name": "now"}]
    response = {"text": "", "generation_id": "g-1", "tool_calls": calls, "finish_reason": "COMPLETE", "meta": META}
    reply = v1(
        streamed(
            {"event_type": "stream-start", "generation_id": "g-1"},
            {"event_type": "tool-calls-generation", "tool_calls": calls},
            {"event_type": "stream-end", "finish_reason": "COMPLETE", "response": response},
        )
    )
    whole = v1(json.dumps(response).encode(), stream=False)
    for one in (reply, whole):
        assert calls_of(one.events) == [("", "tide_at", '{"port": "Brest"}'), ("", "now", "{}")]


def test_a_stream_without_its_end_is_cut() -> None:
    cut = v1(STREAM[: STREAM.rindex(b'{"is_finished": true')])
    assert cut.exit is Exit.TRUNCATED
    assert text_of(cut.events) == "At noon."


def test_a_generation_that_broke_is_a_failure_with_its_usage() -> None:
    end = {"event_type": "stream-end", "finish_reason": "ERROR", "error": "it broke", "response": WHOLE}
    reply = v1(streamed(end))
    assert reply.exit is Exit.FAILED
    assert reply.failure is not None
    assert (reply.failure.kind, reply.failure.message) == (FailureKind.PROVIDER_ERROR, "it broke")
    assert reply.settlement.usage.input_tokens == 300


@pytest.mark.parametrize("body", [b"{}", b"[]", b"7", b"{", b'{"text": 7}', b"\xff"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_body_that_is_no_reply_is_a_named_failure(body: bytes, stream: bool) -> None:
    reply = v1(body + b"\n" if stream else body, stream=stream)
    assert reply.failure is not None
    assert reply.failure.kind is FailureKind.BAD_REPLY


def test_an_error_under_a_good_status_is_told() -> None:
    reply = v1(b'{"message": "the sea is closed"}', stream=False)
    assert reply.failure is not None
    assert reply.failure.message == "the sea is closed"
