"""Coding tools before every provider: carried untouched in their own dialect, and across dialects without a setting.

What a tool sends that no other dialect has is refused by name, or, by the operator's choice, left out by name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from counterfoil.core.error import RequestError
from counterfoil.core.operation import ChatRequest
from counterfoil.dialects.desk import ASKS_NOTHING
from counterfoil.dialects.dialect import Dialect, Quirks, WrittenRequest
from counterfoil.dialects.gemini import Asked, splice
from counterfoil.dialects.registry import CLIENT_DIALECTS, DIALECTS
from tests.dialects.crossing.test_grid import BOUND_NEEDED, MODELS, PROVIDERS
from tests.dialects.crossing.tool_requests import CLAUDE_CODE, CODEX, CODEX_FUNCTIONS, GEMINI_CLI, body_of
from tests.dialects.crossing.words import PIXEL

TOOLS = {
    "Claude Code": ("anthropic_messages", CLAUDE_CODE),
    "Codex": ("openai_responses", CODEX_FUNCTIONS),
    "Gemini CLI": ("gemini", GEMINI_CLI),
}
OTHERS = [
    pytest.param(tool, provider, id=f"{tool}-{provider.name}")
    for tool, (client, _) in TOOLS.items()
    for provider in PROVIDERS
    if provider.name != client
]
HARMLESS = {
    "cache_control",
    "context_management",
    "client_metadata",
    "labels",
    "prompt_cache_key",
    "reasoning.summary",
    "text.verbosity",
    "thinking.budget_tokens",
    "thinking.display",
    "tools.eager_input_streaming",
    "tools.strict",
    "user",
}
"""What may be left out, by name, without anybody asking: the reply is the same."""


def ask(client: str, request: dict[str, Any], provider: Dialect[Any], *, drop: bool = False) -> WrittenRequest:
    """What a provider is sent, and the names the client is told."""
    canonical: ChatRequest = CLIENT_DIALECTS[client].read_request(body_of(request))
    quirks = Quirks(default_max_tokens=4096 if provider.name in BOUND_NEEDED else None)
    written = provider.write_request(canonical, MODELS.get(provider.name, "made-1"), quirks, drop)
    return WrittenRequest(written.body, (*written.dropped, *canonical.hints))


def test_the_page_names_all_that_never_keeps_a_request_from_a_model() -> None:
    page = (Path(__file__).parents[3] / "docs" / "crossing.md").read_text()
    assert [name for name in ASKS_NOTHING | HARMLESS - {"user", "tools.strict"} if f"`{name}`" not in page] == [
        "thinking.budget_tokens"
    ], "and the budget has a row of its own"


def test_claude_codes_request_is_as_large_as_the_real_one() -> None:
    assert len(CLAUDE_CODE["tools"]) == 24
    assert 70_000 < len(body_of({"tools": CLAUDE_CODE["tools"]})) < 90_000


@pytest.mark.parametrize("request_of", [CLAUDE_CODE, CODEX, CODEX_FUNCTIONS], ids=["Claude Code", "Codex", "functions"])
def test_in_its_own_dialect_a_tools_request_is_carried_byte_for_byte_but_for_the_model(
    request_of: dict[str, Any],
) -> None:
    dialect = CLIENT_DIALECTS["anthropic_messages" if "messages" in request_of else "openai_responses"]
    body = body_of(request_of)
    sent = dialect.patch_request(body, "the-providers-name", Quirks(), True)
    assert sent == body.replace(b'"model":"house-model"', b'"model":"the-providers-name"', 1)
    assert b"the-providers-name" in sent


def test_what_the_url_said_of_gemini_clis_request_is_all_that_is_taken_out_of_it() -> None:
    body = body_of(GEMINI_CLI)
    inside = splice(body, Asked("gemini", "house-model", streamed=True))
    assert inside != body
    assert json.loads(CLIENT_DIALECTS["gemini"].patch_request(inside, "m", Quirks(), True)) == GEMINI_CLI


@pytest.mark.parametrize(("tool", "provider"), OTHERS)
def test_a_tool_works_across_dialects_without_a_setting(tool: str, provider: Dialect[Any]) -> None:
    client, request = TOOLS[tool]
    told = ask(client, request, provider)
    assert set(told.dropped) <= HARMLESS
    sent = told.body.decode()
    for said in ("The table lags by an hour.", "Got it.", "I shall read the table and its picture."):
        if said in json.dumps(request):
            assert said in sent, "the conversation goes whole"
    for name in ("mcp__charts__draw", "update_plan", "run_shell_command"):
        if name in json.dumps(request):
            assert name in sent, "and so do the tools"


@pytest.mark.parametrize(
    "provider", [one for one in PROVIDERS if one.name != "anthropic_messages"], ids=lambda p: p.name
)
def test_a_picture_that_claude_code_read_is_shown_to_every_model(provider: Dialect[Any]) -> None:
    assert PIXEL in ask("anthropic_messages", CLAUDE_CODE, provider).body.decode()


def test_claude_codes_effort_and_thinking_reach_whoever_has_a_word_for_them() -> None:
    def sent(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(ask("anthropic_messages", CLAUDE_CODE, DIALECTS[name]).body)
        return found

    assert sent("openai_chat")["reasoning_effort"] == "high"
    assert sent("openai_responses")["reasoning"] == {"effort": "high"}
    assert sent("gemini")["generationConfig"]["thinkingConfig"] == {"includeThoughts": True, "thinkingLevel": "high"}
    assert sent("ollama")["think"] == "high"
    assert sent("bedrock_invoke")["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert sent("bedrock_invoke")["output_config"] == {"effort": "high"}


def test_a_model_that_cannot_think_is_no_reason_to_refuse_claude_code() -> None:
    canonical = CLIENT_DIALECTS["anthropic_messages"].read_request(body_of(CLAUDE_CODE))
    for dialect, model, quirks in (
        (DIALECTS["gemini"], "gemini-made", Quirks(unsupported=frozenset({"thinkingConfig"}))),
        (DIALECTS["bedrock_converse"], "mistral.mistral-made", Quirks()),
    ):
        assert "reasoning_effort" in dialect.write_request(canonical, model, quirks, False).dropped


@pytest.mark.parametrize("provider", [one for one in PROVIDERS if one.name != "openai_responses"], ids=lambda p: p.name)
def test_the_tools_only_openai_has_are_refused_by_name_or_left_out_by_name(provider: Dialect[Any]) -> None:
    with pytest.raises(RequestError) as refused:
        ask("openai_responses", CODEX, provider)
    assert refused.value.failure.status == 400
    assert (refused.value.failure.param or "").rpartition(".")[2] in {"custom", "custom_tool_call"}
    written = ask("openai_responses", CODEX, provider, drop=True)
    assert {"tools.custom", "tools.local_shell", "tools.web_search"} <= set(written.dropped)
    assert {name.rpartition(".")[2] for name in written.dropped} >= {"custom_tool_call", "custom_tool_call_output"}
    assert "update_plan" in written.body.decode()
