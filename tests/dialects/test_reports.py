"""What a usage object may hold, in every dialect that answers with text: a count is a whole number, and nothing else in
a reply decides whether its report is heard."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

import pytest

from counterfoil.dialects.registry import DIALECTS
from counterfoil.exchange.recorded import ReadReply, read_reply
from counterfoil.ledger.entry import Exit
from counterfoil.testing.eventstream import event_message
from counterfoil.usage.reading import Counter
from counterfoil.usage.settle import DiscrepancyKind
from counterfoil.usage.usage import Bucket, Provenance

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
ALL: Final[Mapping[str, dict[str, Any]]] = {**BODIES, "bedrock_invoke": TITAN}
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
@pytest.mark.parametrize("count", ["-1", "-1.0", "9223372036854775808", "1e30"])
def test_a_number_that_no_count_can_be_is_kept_as_a_discrepancy(name: str, count: str) -> None:
    reply = read(name, body_of(name, count))
    assert reply.settlement.usage.provenance[Bucket.OUTPUT] is Provenance.ESTIMATED
    assert {(one.kind, one.counter) for one in reply.settlement.discrepancies} == {
        (DiscrepancyKind.IMPLAUSIBLE, Counter.OUTPUT)
    }


@EVERY
@pytest.mark.parametrize("count", ["1e400", "9" * 5000])
def test_a_number_that_no_number_holds_fails_no_reply(name: str, count: str) -> None:
    reply = read(name, body_of(name, count))
    assert reply.exit is Exit.COMPLETED
    assert (reply.settlement.usage.output_tokens or 0) > 0


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


def test_metrics_of_bedrock_that_no_number_holds_fail_no_reply() -> None:
    metrics = b'"amazon-bedrock-invocationMetrics":{"inputTokenCount":1e400}'
    inner = b'{"outputText":"Low.","completionReason":"FINISH",%b}' % metrics
    frame = event_message("chunk", {"bytes": base64.b64encode(inner).decode()})
    reply = read("bedrock_invoke", frame, streamed=True)
    assert (reply.exit, reply.reading.reports) == (Exit.COMPLETED, 0)
