"""A refusal in a stream that answered 200 costs what an error status costs: nothing, however often it is repeated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import pytest

from counterfoil.config import Retries
from counterfoil.core.error import FailureKind
from counterfoil.dialects.registry import DIALECTS
from counterfoil.exchange.command import Head
from counterfoil.exchange.recorded import read_reply
from counterfoil.ledger.entry import Exit
from counterfoil.testing.eventstream import EVENT_STREAM, event_message, exception_message
from counterfoil.usage.usage import Bucket, Provenance
from tests.exchange.world import Played, World, call, check_books, deployment

__all__: list[str] = []

SSE: Final = "text/event-stream"
JSON: Final = "application/json"
NOVA_TOO_LONG: Final = "Input Tokens Exceeded: Number of input tokens exceeds maximum length."


def _sse(value: object, event: str = "") -> bytes:
    return (f"event: {event}\n" if event else "").encode() + b"data: " + json.dumps(value).encode() + b"\n\n"


def _responses(code: str) -> bytes:
    head = {"id": "r", "object": "response", "created_at": 7, "model": "play-1", "output": [], "usage": None}
    error = {"code": code, "message": "The play was refused."}
    return (
        _sse({"type": "response.created", "response": {**head, "status": "in_progress", "error": None}})
        + _sse({"type": "error", **error, "param": None})
        + _sse({"type": "response.failed", "response": {**head, "status": "failed", "error": error}})
    )


START: Final = event_message("messageStart", {"role": "assistant"})
REFUSALS: Final[Mapping[str, tuple[str, str, bytes, FailureKind]]] = {
    "Bedrock throttles": (
        "bedrock_converse",
        EVENT_STREAM,
        START + exception_message("throttlingException", "Too many requests."),
        FailureKind.RATE_LIMITED,
    ),
    "Nova finds the prompt too long": (
        "bedrock_converse",
        EVENT_STREAM,
        exception_message("validationException", NOVA_TOO_LONG),
        FailureKind.CONTEXT_WINDOW,
    ),
    "Bedrock is busy": (
        "bedrock_converse",
        EVENT_STREAM,
        START + exception_message("serviceUnavailableException", "Busy."),
        FailureKind.OVERLOADED,
    ),
    "OpenAI wants money": ("openai_responses", SSE, _responses("insufficient_quota"), FailureKind.QUOTA),
    "Gemini is overloaded": (
        "gemini",
        SSE,
        _sse({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}),
        FailureKind.OVERLOADED,
    ),
    "Anthropic is overloaded": (
        "anthropic_messages",
        SSE,
        _sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error"),
        FailureKind.OVERLOADED,
    ),
    "a chat server limits the rate": (
        "openai_chat",
        SSE,
        _sse({"error": {"message": "Slow down.", "code": 429, "type": "rate_limit_error"}}),
        FailureKind.RATE_LIMITED,
    ),
    "MiniMax takes the prompt for unfit": (
        "openai_chat",
        SSE,
        _sse({"id": "m", "choices": None, "base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}}),
        FailureKind.CONTENT_POLICY,
    ),
    "MiniMax breaks, whole": (
        "openai_chat",
        JSON,
        b'{"id":"m","choices":null,"base_resp":{"status_code":1033,"status_msg":"system error"}}',
        FailureKind.PROVIDER_ERROR,
    ),
    "a chat server breaks, in a list": (
        "openai_chat",
        JSON,
        b'[{"error":{"code":500,"message":"An error occurred.","status":"INTERNAL"}}]',
        FailureKind.PROVIDER_ERROR,
    ),
    "a chat server says no more than a detail": (
        "openai_chat",
        JSON,
        b'{"detail":"No worker took it."}',
        FailureKind.PROVIDER_ERROR,
    ),
}


def run(dialect: str, kind: str, body: bytes, attempts: int = 1) -> World:
    played = [Played(Head(200, {"content-type": kind}), [body, b""]) for _ in range(attempts)]
    world = World(*played)
    world.run(call(deployment(DIALECTS[dialect]), retries=Retries(attempts=attempts)))
    check_books(world.log)
    return world


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_before_the_reply_uses_and_costs_nothing(case: str) -> None:
    dialect, kind, body, said = REFUSALS[case]
    entry = run(dialect, kind, body).entry
    assert (entry.exit, entry.detail) == (Exit.FAILED, said.value)
    assert entry.lines == ()
    assert entry.usage.input_tokens is None or entry.usage.input_tokens == 0
    assert entry.delivered is None
    streamed = kind != JSON
    read = read_reply([body], DIALECTS[dialect], streamed=streamed, estimate=True, input_estimate=9)
    assert read.settlement.usage.buckets == {}, "an auditor reads no more into it"


def test_a_refusal_that_is_asked_again_is_not_billed_again() -> None:
    dialect, kind, body, _ = REFUSALS["Bedrock throttles"]
    world = run(dialect, kind, body, attempts=3)
    assert [entry.lines for entry in world.entries] == [(), (), ()]


def test_a_refusal_in_the_middle_of_a_reply_is_billed_as_far_as_the_reply_came() -> None:
    said = event_message("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "The tide turns."}})
    body = START + said + exception_message("throttlingException", "Too many requests.")
    entry = run("bedrock_converse", EVENT_STREAM, body).entry
    assert entry.usage.input_tokens == 9
    assert (entry.usage.output_tokens or 0) > 0
    assert entry.usage.provenance[Bucket.OUTPUT] is Provenance.ESTIMATED


def test_a_refusal_beside_a_report_is_billed_as_reported() -> None:
    error = {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED"}
    body = _sse({"error": error, "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7}})
    assert run("gemini", SSE, body).entry.usage.input_tokens == 7


@pytest.mark.parametrize(
    "body",
    [
        b"<p>Not JSON.</p>",
        b'{"object":"chat.completion"}',
        b'{"choices":[{"index":0,"message":{"content":"The tide turns."}}],"error":{"message":"It broke."}}',
    ],
)
def test_what_may_have_been_a_reply_is_no_error_in_its_place(body: bytes) -> None:
    entry = run("openai_chat", JSON, body).entry
    assert entry.exit is Exit.FAILED
    assert entry.usage.provenance[Bucket.INPUT] is Provenance.ESTIMATED


def test_a_base_resp_beside_a_report_is_billed_as_reported() -> None:
    stated = {"status_code": 1027, "status_msg": "output new_sensitive"}
    used = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    entry = run("openai_chat", JSON, json.dumps({"choices": None, "usage": used, "base_resp": stated}).encode()).entry
    assert (entry.detail, entry.usage.total_tokens) == (FailureKind.CONTENT_POLICY.value, 12)


def test_a_provider_that_breaks_may_have_run_the_model() -> None:
    body = START + exception_message("internalServerException", "Oh.")
    entry = run("bedrock_converse", EVENT_STREAM, body).entry
    assert entry.usage.provenance[Bucket.INPUT] is Provenance.ESTIMATED
