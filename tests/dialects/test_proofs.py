"""A proof of reasoning goes back to who made it, through whatever client keeps the history, and to nobody else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.event import (
    ChoiceFinished,
    Event,
    FinishReason,
    ReasoningDelta,
    ReasoningSigned,
    RedactedReasoningGiven,
    ReplyStarted,
    TextDelta,
)
from counterfoil.core.message import Part, Reasoning, RedactedReasoning
from counterfoil.dialects.dialect import ClientDialect, FinalUsage, Quirks, ReplyFacts
from counterfoil.dialects.proof import CLAUDE, format_of, origin_of, seal, unseal
from counterfoil.dialects.registry import CLIENT_DIALECTS, DIALECTS

CHAT, MESSAGES = CLIENT_DIALECTS["openai_chat"], CLIENT_DIALECTS["anthropic_messages"]
ORIGINS = ("", "google-gemini-v1", "openai-responses-v1")
BASE64 = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-")


@given(BASE64, st.sampled_from(ORIGINS))
def test_a_sealed_proof_comes_apart_again(proof: str, origin: str) -> None:
    assert unseal(seal(proof, origin)) == (proof, origin)


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_format_says_whose_proof_it_is(origin: str) -> None:
    assert origin_of(format_of(origin)) == origin


@pytest.mark.parametrize("said", [None, "unknown", CLAUDE])
def test_a_proof_of_nobody_known_counts_as_claudes(said: str | None) -> None:
    assert origin_of(said) == ""


def reply(dialect: ClientDialect[Any], events: list[Event]) -> dict[str, Any]:
    """The whole reply that a client of `dialect` reads."""
    encoder = dialect.encoder(ReplyFacts("ours", 1_700_000_000, "house-model", streamed=False, usage_asked=False))
    encoder.encode(events)
    body: dict[str, Any] = json.loads(encoder.close(FinalUsage(None)))
    return body


def history_of(dialect: ClientDialect[Any], body: dict[str, Any]) -> tuple[Part, ...]:
    """What a client of `dialect` that sends the reply back has us read."""
    if dialect is CHAT:
        turn = {key: value for key, value in body["choices"][0]["message"].items() if value is not None}
    else:
        turn = {"role": "assistant", "content": body["content"]}
    asked = {"role": "user", "content": "And then?"}
    request = {"model": "house-model", "max_tokens": 10, "messages": [asked, turn, asked]}
    parts: tuple[Part, ...] = dialect.read_request(json.dumps(request).encode()).messages[1].parts
    return parts


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("dialect", [CHAT, MESSAGES], ids=lambda dialect: dialect.name)
def test_proofs_survive_a_client_that_sends_the_history_back(dialect: ClientDialect[Any], origin: str) -> None:
    said: list[Event] = [
        ReplyStarted("r-1"),
        ReasoningDelta("The moon is new."),
        ReasoningSigned("c2lnbmVk", origin=origin),
        RedactedReasoningGiven("aGlkZGVu", origin=origin),
        TextDelta("Spring tide."),
        ChoiceFinished(FinishReason.STOP),
    ]
    parts = history_of(dialect, reply(dialect, said))
    assert Reasoning("The moon is new.", "c2lnbmVk", origin) in parts
    assert RedactedReasoning("aGlkZGVu", origin) in parts


@pytest.mark.parametrize("dialect", [CHAT, MESSAGES], ids=lambda dialect: dialect.name)
def test_a_proof_without_reasoning_survives_too(dialect: ClientDialect[Any]) -> None:
    said: list[Event] = [
        ReplyStarted("r-1"),
        ReasoningSigned("bG9uZQ==", origin="google-gemini-v1"),
        TextDelta("Ebb."),
        ChoiceFinished(FinishReason.STOP),
    ]
    parts = history_of(dialect, reply(dialect, said))
    assert Reasoning("", "bG9uZQ==", "google-gemini-v1") in parts


def test_claude_is_not_sent_anothers_proof() -> None:
    said: list[Event] = [
        ReplyStarted("r-1"),
        ReasoningDelta("Foreign."),
        ReasoningSigned("c2lnbmVk", origin="google-gemini-v1"),
        RedactedReasoningGiven("aGlkZGVu", origin="openai-responses-v1"),
        TextDelta("Ebb."),
        ChoiceFinished(FinishReason.STOP),
    ]
    turn = {"role": "assistant", "content": reply(MESSAGES, said)["content"]}
    asked = {"role": "user", "content": "And then?"}
    request = {"model": "m", "max_tokens": 10, "messages": [asked, turn, asked]}
    canonical = MESSAGES.read_request(json.dumps(request).encode())
    written = DIALECTS["anthropic_messages"].write_request(canonical, "claude-made-1", Quirks(), False)
    assert [block["type"] for block in json.loads(written.body)["messages"][1]["content"]] == ["text"]
