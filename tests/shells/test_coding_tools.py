"""Promise: Claude Code, Codex and Gemini CLI are served over a real connection, in their own dialect and in others'.

Their requests are those of `tests/dialects/crossing/tool_requests.py`, whole, with the headers and queries they send.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from counterfoil.testing import Playback, error_answer, running
from tests.dialects.crossing.tool_requests import (
    CLAUDE_CODE,
    CLAUDE_CODE_HEADERS,
    CODEX,
    CODEX_FUNCTIONS,
    GEMINI_CLI,
    body_of,
)
from tests.shells.doors import MODELS, TEXT, USED, play
from tests.shells.gateway import Answer, RunningGateway, gateway

__all__: list[str] = []

HEADERS = {name.replace("-", "_"): value for name, value in CLAUDE_CODE_HEADERS.items()} | {
    "x_api_key": "a-gateway-key"
}
EXACT = """  exact:
    deployments: [{{provider: playhouse, model: play-1, base_url: "{origin}/v1"}}]
    messages_head: buffer
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[Playback]:
    with running(Playback(play)) as provider:
        yield provider


@pytest.fixture(scope="module")
def served(provider: Playback, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    text = MODELS.replace("models:\n", f"models:\n{EXACT}", 1).format(origin=provider.origin)
    with gateway(tmp_path_factory.mktemp("tools"), text=text) as served:
        yield served


def named(request: dict[str, Any], model: str) -> bytes:
    return body_of({**request, "model": model})


def events(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 200, answer.body
    blocks = answer.body.decode().replace("\r\n", "\n").split("\n\n")
    lines = [line for block in blocks for line in block.split("\n") if line.startswith("data: ")]
    return [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]


def claude_code(served: RunningGateway, model: str) -> Answer:
    return served.post(named(CLAUDE_CODE, model), "/v1/messages?beta=true", **HEADERS)


def test_claude_code_reaches_a_provider_of_its_dialect_with_its_body_and_its_betas(
    provider: Playback, served: RunningGateway
) -> None:
    answer = claude_code(served, "messages")
    sent = provider.served[-1].request
    assert sent.body == named(CLAUDE_CODE, "play-a"), "byte for byte but for the model"
    assert {name: sent.headers[name] for name in CLAUDE_CODE_HEADERS} == CLAUDE_CODE_HEADERS
    assert sent.headers["x-api-key"] == "play", "the operator's secret, never the client's key"
    assert "a-gateway-key" not in str(sent.headers)
    assert "x-counterfoil-dropped" not in answer.headers
    assert "".join(one["delta"].get("text", "") for one in events(answer) if one["type"].endswith("_delta")) == TEXT


@pytest.mark.parametrize("model", ["chat", "responses", "gemini"])
def test_claude_code_is_served_by_any_other_dialect_without_a_setting(served: RunningGateway, model: str) -> None:
    answer = claude_code(served, model)
    told = events(answer)
    assert "".join(one["delta"].get("text", "") for one in told if one["type"] == "content_block_delta") == TEXT
    (delta,) = [one for one in told if one["type"] == "message_delta"]
    assert (delta["usage"]["input_tokens"], delta["usage"]["output_tokens"]) == (USED.input, USED.output)
    assert "anthropic-beta" in answer.headers["x-counterfoil-dropped"]
    assert "context_management" in answer.headers["x-counterfoil-dropped"]


@pytest.mark.parametrize(("model", "exact"), [("chat", False), ("exact", True)])
def test_messages_head_is_the_routes_own(served: RunningGateway, model: str, exact: bool) -> None:
    (head, *_) = events(claude_code(served, model))
    usage = head["message"]["usage"]
    assert (usage["input_tokens"] == USED.input, "estimated" not in usage) == (exact, exact)
    assert usage["output_tokens"] == 0


def test_claude_codes_count_is_carried_with_its_betas(provider: Playback, served: RunningGateway) -> None:
    wish = {name: CLAUDE_CODE[name] for name in ("messages", "system", "tools", "thinking", "context_management")}
    answer = served.post(named(wish, "messages"), "/v1/messages/count_tokens?beta=true", **HEADERS)
    assert answer.status == 200
    assert provider.served[-1].request.headers["anthropic-beta"] == CLAUDE_CODE_HEADERS["anthropic-beta"]


def test_a_conversation_too_long_for_another_dialects_model_is_what_claude_code_compacts_on(
    provider: Playback, served: RunningGateway
) -> None:
    said = "This model's maximum context length is 128000 tokens. However, your messages resulted in 140000 tokens."
    provider.queue(error_answer(413, said, code="context_length_exceeded"))
    answer = claude_code(served, "chat")
    assert answer.status == 400
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert answer.json["error"]["message"].startswith("prompt is too long: 140000 tokens > 128000 maximum")


def test_codex_reaches_a_provider_of_its_dialect_with_its_body(provider: Playback, served: RunningGateway) -> None:
    assert events(served.post(named(CODEX, "responses"), "/v1/responses"))[-1]["type"] == "response.completed"
    assert provider.served[-1].request.body == named(CODEX, "play-r")


@pytest.mark.parametrize("model", ["chat", "messages", "gemini"])
def test_codex_with_functions_is_served_by_any_other_dialect_without_a_setting(
    served: RunningGateway, model: str
) -> None:
    last = events(served.post(named(CODEX_FUNCTIONS, model), "/v1/responses"))[-1]
    assert last["type"] == "response.completed"
    assert last["response"]["usage"]["input_tokens"] == USED.input
    refused = served.post(named(CODEX, model), "/v1/responses")
    assert refused.status == 400
    assert "custom" in refused.json["error"]["param"]


@pytest.mark.parametrize("model", ["gemini", "chat", "messages", "responses"])
def test_gemini_cli_is_served_by_every_dialect_without_a_setting(served: RunningGateway, model: str) -> None:
    path = f"/v1beta/models/{model}:streamGenerateContent?alt=sse"
    told = events(served.post(body_of(GEMINI_CLI), path, x_goog_api_key="a-gateway-key"))
    parts = [part for one in told for part in one["candidates"][0].get("content", {}).get("parts", ())]
    assert "".join(part.get("text", "") for part in parts if not part.get("thought")) == TEXT
    assert told[-1]["usageMetadata"]["promptTokenCount"] == USED.input
