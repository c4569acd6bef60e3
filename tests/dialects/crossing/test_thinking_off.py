"""Thinking that is switched off, before models that refuse the effort `none` and models that take it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from counterfoil.core.message import Message, Text
from counterfoil.core.operation import ChatRequest, ReasoningWish
from counterfoil.dialects.dialect import WrittenRequest
from counterfoil.dialects.registry import CLIENT_DIALECTS, DIALECTS
from counterfoil.driver.deployment import load_table

REFUSE = ("o1", "o3-mini", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-4o-mini", "gpt-5.1-codex", "gpt-5.2-pro", "mine")
TAKE = ("gpt-5.1", "gpt-5.2-2025-12-11", "gpt-5.4")
FACES = ("openai_chat", "openai_responses")


def _written(provider: str, face: str, model: str, request: ChatRequest) -> WrittenRequest:
    return DIALECTS[face].write_request(request, model, load_table()[provider].face(face).quirks_for(model), False)


def _effort(face: str, written: WrittenRequest) -> Any:
    body = msgspec.json.decode(written.body)
    return body.get("reasoning_effort") if face == "openai_chat" else body.get("reasoning", {}).get("effort")


def _switched_off() -> ChatRequest:
    body = {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}],
        "thinking": {"type": "disabled"},
    }
    request = CLIENT_DIALECTS["anthropic_messages"].read_request(msgspec.json.encode(body))
    assert isinstance(request, ChatRequest)
    return request


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("model", REFUSE)
def test_a_model_that_is_not_known_to_take_none_is_never_sent_it(model: str, face: str) -> None:
    written = _written("openai", face, model, _switched_off())
    assert _effort(face, written) is None
    assert "thinking" in written.dropped


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("model", TAKE)
def test_a_model_that_takes_none_is_told_not_to_think(model: str, face: str) -> None:
    written = _written("openai", face, model, _switched_off())
    assert _effort(face, written) == "none"
    assert "thinking" not in written.dropped


def test_openrouter_takes_every_effort_for_every_model() -> None:
    assert _effort("openai_chat", _written("openrouter", "openai_chat", "openai/o1", _switched_off())) == "none"


@pytest.mark.parametrize("face", FACES)
def test_none_that_a_client_wrote_itself_is_carried(face: str) -> None:
    asked = ChatRequest("m", (Message("user", (Text("Hi"),)),), reasoning=ReasoningWish(effort="none"))
    assert _effort(face, _written("openai", face, "o3", asked)) == "none"
