"""What a usage object may hold, in every dialect that answers with text: a count is a whole number, and nothing else in
a reply decides whether its report is heard."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from counterfoil.core.error import FailureKind
from counterfoil.dialects.anthropic_messages.usage import write_usage as messages_usage
from counterfoil.dialects.dialect import FinalUsage
from counterfoil.dialects.gemini.usage import write_usage as gemini_usage
from counterfoil.dialects.openai_chat.usage import write_usage as chat_usage
from counterfoil.dialects.openai_responses.usage import write_usage as responses_usage
from counterfoil.dialects.registry import DIALECTS
from counterfoil.dialects.schema import fields_of
from counterfoil.exchange.recorded import ReadReply, read_reply
from counterfoil.ledger.entry import Exit
from counterfoil.testing.eventstream import event_message
from counterfoil.usage.reading import Counter
from counterfoil.usage.settle import DiscrepancyKind
from counterfoil.usage.usage import Bucket, Provenance, Usage

__all__: list[str] = []

_HERE: Final = "@count@"
_TEXT: Final = "@text@"

BODIES: Final[Mapping[str, dict[str, Any]]] = {
    "openai_chat": {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": _TEXT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": _HERE},
    },
    "anthropic_messages": {
        "type": "message",
        "content": [{"type": "text", "text": _TEXT}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 7, "output_tokens": _HERE},
    },
    "openai_responses": {
        "object": "response",
        "status": "completed",
        "output": [{"type": "message", "id": "m", "content": [{"type": "output_text", "text": _TEXT}]}],
        "usage": {"input_tokens": 7, "output_tokens": _HERE},
    },
    "openai_completions": {
        "choices": [{"index": 0, "text": _TEXT, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": _HERE},
    },
    "gemini": {
        "candidates": [{"content": {"parts": [{"text": _TEXT}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": _HERE},
    },
    "bedrock_converse": {
        "output": {"message": {"role": "assistant", "content": [{"text": _TEXT}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 7, "outputTokens": _HERE},
    },
    "cohere": {
        "finish_reason": "COMPLETE",
        "message": {"role": "assistant", "content": [{"type": "text", "text": _TEXT}]},
        "usage": {"tokens": {"input_tokens": 7, "output_tokens": _HERE}},
    },
    "cohere_v1": {
        "text": _TEXT,
        "finish_reason": "COMPLETE",
        "meta": {"tokens": {"input_tokens": 7, "output_tokens": _HERE}},
    },
    "ollama": {
        "model": "made",
        "message": {"role": "assistant", "content": _TEXT},
        "done": True,
        "prompt_eval_count": 7,
        "eval_count": _HERE,
    },
    "ollama.generate": {
        "model": "made",
        "response": _TEXT,
        "done": True,
        "prompt_eval_count": 7,
        "eval_count": _HERE,
    },
}
TITAN: Final = {
    "inputTextTokenCount": 7,
    "results": [{"outputText": _TEXT, "tokenCount": _HERE, "completionReason": "FINISH"}],
}
INTERACTION: Final = {
    "object": "interaction",
    "status": "completed",
    "steps": [{"type": "model_output", "content": [{"type": "text", "text": _TEXT}]}],
    "usage": {"total_input_tokens": 7, "total_output_tokens": _HERE},
}
ALL: Final[Mapping[str, dict[str, Any]]] = {**BODIES, "bedrock_invoke": TITAN, "gemini_interactions": INTERACTION}
EVERY: Final = pytest.mark.parametrize("name", ALL)


def body_of(name: str, count: str = "5", text: str = '"The tide turns."') -> bytes:
    """The whole reply with this JSON as its output's count, and this JSON as its text."""
    made = json.dumps(ALL[name]).replace(f'"{_HERE}"', count).replace(f'"{_TEXT}"', text)
    return made.encode()


def read(name: str, body: bytes, *, streamed: bool = False) -> ReadReply:
    return read_reply([body], DIALECTS[name], streamed=streamed, estimate=True, input_estimate=9)


@EVERY
@pytest.mark.parametrize("count", ["5", "5.0", "5e0"])
def test_a_whole_number_is_a_count_however_it_is_written(name: str, count: str) -> None:
    usage = read(name, body_of(name, count)).settlement.usage
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (7, 5, False)


@EVERY
@pytest.mark.parametrize("count", ["null", '"5"', "5.5", "true", "[]", "{}"])
def test_what_is_no_whole_number_is_unknown_and_fails_nothing(name: str, count: str) -> None:
    reply = read(name, body_of(name, count))
    usage = reply.settlement.usage
    assert (reply.exit, usage.input_tokens) == (Exit.COMPLETED, 7)
    assert usage.provenance[Bucket.OUTPUT] is Provenance.ESTIMATED
    assert not reply.settlement.discrepancies


@EVERY
@pytest.mark.parametrize(
    "count", ["-1", "-1.0", "9223372036854775808", "1" + "0" * 30, "1e30", "1e400", "-1e400", "9" * 5000]
)
def test_a_number_that_no_count_can_be_is_kept_as_a_discrepancy_and_spoils_no_other(name: str, count: str) -> None:
    """Also one that no number of a program holds: 1e400 is infinite to most readers of JSON, and an error to ours."""
    reply = read(name, body_of(name, count))
    usage = reply.settlement.usage
    assert (reply.exit, reply.reading.reports, usage.input_tokens) == (Exit.COMPLETED, 1, 7)
    assert usage.provenance[Bucket.INPUT] is Provenance.REPORTED
    assert usage.provenance[Bucket.OUTPUT] is Provenance.ESTIMATED
    assert {(one.kind, one.counter) for one in reply.settlement.discrepancies} == {
        (DiscrepancyKind.IMPLAUSIBLE, Counter.OUTPUT)
    }


@EVERY
@pytest.mark.parametrize("count", ["NaN", "Infinity", "-Infinity"])
def test_a_word_that_json_has_not_makes_a_body_unreadable_and_nothing_in_it_a_measure(name: str, count: str) -> None:
    reply = read(name, body_of(name, count))
    assert (reply.exit, reply.reading.reports) == (Exit.FAILED, 0)
    assert reply.failure is not None
    assert reply.failure.kind is FailureKind.BAD_REPLY


@pytest.mark.parametrize("name", BODIES)
def test_a_report_beside_content_that_cannot_be_read_is_kept(name: str) -> None:
    """A provider that changes the shape of its content bills what it sent all the same."""
    reply = read(name, body_of(name, text="5"))
    assert reply.exit is Exit.FAILED
    assert reply.reading.reports == 1
    usage = reply.settlement.usage
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (7, 5, False)
    assert usage.provenance[Bucket.OUTPUT] is Provenance.PARTIAL


def _sse(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


CLIENT_USAGE: Final[Mapping[str, Callable[[FinalUsage], bytes]]] = {
    "openai_chat": chat_usage,
    "openai_responses": responses_usage,
    "gemini": gemini_usage,
    "anthropic_messages": lambda final: messages_usage(final, fields_of(final.provider_raw)),
}
_TOLD: Final = {"input_tokens": 7, "output_tokens": 5}
_BROKEN: Final = {"object": "response", "output": [{"type": "message", "content": [{"text": 5}]}], "usage": _TOLD}
STREAMS: Final[Mapping[str, tuple[str, bytes]]] = {
    "chat": ("openai_chat", _sse({**json.loads(body_of("openai_chat")), "choices": [{"delta": 5}]})),
    "completions": ("openai_completions", _sse({**json.loads(body_of("openai_completions")), "choices": 5})),
    "Gemini": ("gemini", _sse(json.loads(body_of("gemini", text="5")))),
    "Responses": ("openai_responses", _sse({"type": "response.completed", "response": _BROKEN})),
    "Cohere": ("cohere", _sse({"type": "message-end", "delta": {"message": 5, "usage": {"tokens": _TOLD}}})),
    "Ollama": ("ollama", body_of("ollama", text="5") + b"\n"),
    "Ollama, an error": ("ollama", b'{"error":"it broke","prompt_eval_count":7,"eval_count":5}\n'),
}


@pytest.mark.parametrize("case", STREAMS)
def test_a_report_in_a_frame_that_fails_a_stream_is_kept(case: str) -> None:
    dialect, frame = STREAMS[case]
    reply = read(dialect, frame, streamed=True)
    assert reply.exit is Exit.FAILED
    assert reply.reading.reports == 1
    assert (reply.settlement.usage.input_tokens, reply.settlement.usage.output_tokens) == (7, 5)


@pytest.mark.parametrize("place", ["deep", "beside"])
def test_an_absurd_number_that_is_no_counter_is_not_looked_at(place: str) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "queue": {"deep": [[1]], "beside": 2}}
    body = body_of("openai_chat").replace(b'"usage": {"prompt_tokens": 7, "completion_tokens": 5}', b'"usage":@')
    absurd = json.dumps(usage).replace("[[1]]" if place == "deep" else "2", "[[1e400]]" if place == "deep" else "1e400")
    reply = read("openai_chat", body.replace(b"@", absurd.encode()))
    assert (reply.settlement.usage.input_tokens, reply.settlement.usage.output_tokens) == (7, 5)
    assert not reply.settlement.discrepancies


@pytest.mark.parametrize(
    ("dialect", "written", "gone"),
    [
        (
            "openai_chat",
            b'{"prompt_tokens":7,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":1e400}}',
            b"cached_tokens",
        ),
        (
            "gemini",
            b'{"promptTokenCount":7,"candidatesTokenCount":5,"cachedContentTokenCount":1e400}',
            b"cachedContent",
        ),
        (
            "anthropic_messages",
            b'{"input_tokens":7,"output_tokens":5,"cache_read_input_tokens":-4}',
            b"cache_read",
        ),
        (
            "openai_responses",
            b'{"input_tokens":7,"output_tokens":5,"output_tokens_details":{"audio_tokens":1e400}}',
            b"audio_tokens",
        ),
    ],
)
def test_a_client_is_not_told_a_count_that_is_none(dialect: str, written: bytes, gone: bytes) -> None:
    usage = Usage({Bucket.INPUT: 7, Bucket.OUTPUT: 5})
    told = CLIENT_USAGE[dialect](FinalUsage(usage, False, written))
    assert gone in written
    assert gone not in told
    assert b"7" in told


def test_a_count_of_vectors_that_no_number_holds_loses_no_vector() -> None:
    one = b'{"embeddings":{"values":[0.5],"statistics":{"token_count":%b}}}'
    body = b'{"predictions":[%b,%b]}' % (one % b"4", one % b"1e400")
    reply = read("vertex_predict", body)
    assert (reply.exit, reply.reading.implausible) == (Exit.COMPLETED, frozenset({Counter.INPUT}))


def test_metrics_of_bedrock_that_no_number_holds_are_kept_and_fail_no_reply() -> None:
    metrics = b'"amazon-bedrock-invocationMetrics":{"inputTokenCount":1e400}'
    inner = b'{"outputText":"Low.","completionReason":"FINISH",%b}' % metrics
    frame = event_message("chunk", {"bytes": base64.b64encode(inner).decode()})
    reply = read("bedrock_invoke", frame, streamed=True)
    assert (reply.exit, reply.reading.implausible) == (Exit.COMPLETED, frozenset({Counter.INPUT}))
