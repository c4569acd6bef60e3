"""What becomes of a request that crosses to a model's own body on Bedrock."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from counterfoil.core.error import RequestError
from counterfoil.core.message import CacheMark, File, Image, Message, Reasoning, Text, ToolCall, ToolResult
from counterfoil.core.operation import ChatRequest, ReasoningWish, ResponseFormat, Tool
from counterfoil.dialects.bedrock_invoke import BEDROCK_INVOKE
from counterfoil.dialects.dialect import Quirks

__all__: list[str] = []

CLAUDE, NOVA, NOVA_2 = "eu.anthropic.claude-sonnet-4-6", "us.amazon.nova-lite-v1:0", "us.amazon.nova-2-lite-v1:0"
RAW = msgspec.Raw
HELLO = Message("user", (Text("When is high water?"),))
PIXEL = base64.b64encode(b"a picture").decode()


def ask(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest("house-model", messages or (HELLO,), **fields)


def body_of(request: ChatRequest, model: str = CLAUDE, *, drop: bool = False) -> Any:
    written = BEDROCK_INVOKE.write_request(request, model, Quirks(), drop)
    body = json.loads(written.body)
    return {**body, "dropped": list(written.dropped)} if written.dropped else body


def refused(request: ChatRequest, model: str = CLAUDE) -> str | None:
    with pytest.raises(RequestError) as found:
        body_of(request, model)
    return found.value.failure.param


def test_the_model_and_the_stream_are_in_the_path() -> None:
    assert BEDROCK_INVOKE.path("anthropic.claude-v2:1", False) == "/model/anthropic.claude-v2%3A1/invoke"
    assert BEDROCK_INVOKE.path("a/b", True) == "/model/a%2Fb/invoke-with-response-stream"


def test_claudes_body_is_its_own_dialects_with_bedrocks_version() -> None:
    body = body_of(
        ask(
            Message("system", (Text("Be short.", cache=CacheMark("1h")),)),
            HELLO,
            Message("assistant", (Reasoning("So.", "c2ln"), ToolCall("c1", "tide", "{}"))),
            Message("tool", (ToolResult("c1", (Text("12:00"),)),)),
            tools=(Tool("tide"),),
            max_output_tokens=64,
            stream=True,
            reasoning=ReasoningWish("low"),
            rest={"anthropic_version": RAW(b'"vertex-2023-10-16"'), "anthropic_beta": RAW(b'["x"]')},
        )
    )
    assert body["anthropic_version"] == "bedrock-2023-05-31"
    assert body["anthropic_beta"] == ["x"]
    assert not {"model", "stream"} & body.keys()
    assert body["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert body["messages"][1]["content"][0] == {"type": "thinking", "thinking": "So.", "signature": "c2ln"}
    assert (body["max_tokens"], body["thinking"]) == (64, {"type": "adaptive"})
    assert "dropped" not in body


def test_bedrock_fetches_nothing_also_inside_results() -> None:
    there = Image(url="https://pier.example/a.png")
    assert refused(ask(Message("user", (Text("See."), there)))) == "messages.image_url"
    assert refused(ask(Message("user", (File(url="https://pier.example/a.pdf"),)))) == "messages.file_url"
    assert refused(ask(Message("user", (File(file_id="f1"),)))) == "messages.file_id"
    called = (HELLO, Message("assistant", (ToolCall("c", "t", "{}"),)))
    request = ask(*called, Message("tool", (ToolResult("c", (Text("x"), there)),)))
    assert refused(request) == "messages.image_url"
    body = body_of(request, drop=True)
    assert body["dropped"] == ["messages.image_url"]
    assert body["messages"][2]["content"][0]["content"] == "x"
    here = body_of(ask(Message("user", (Image(url=f"data:image/png;base64,{PIXEL}"),))))
    assert here["messages"][0]["content"][0]["source"]["data"] == PIXEL


def test_what_bedrocks_claude_lacks_is_named_or_refused() -> None:
    body = body_of(ask(user="ann", rest={"safety_identifier": RAW(b'"ann"')}))
    assert "metadata" not in body
    assert body["dropped"] == ["user", "safety_identifier"]
    assert refused(ask(service_tier="flex")) == "service_tier"
    assert "service_tier" not in body_of(ask(service_tier="auto"))
    assert refused(ask(seed=3)) == "seed"


def test_novas_body_is_converses_with_its_own_fields_in_place() -> None:
    body = body_of(
        ask(
            Message("system", (Text("Be short."),)),
            HELLO,
            max_output_tokens=64,
            top_k=20,
            temperature=0.5,
            stream=True,
        ),
        NOVA,
    )
    assert body == {
        "schemaVersion": "messages-v1",
        "system": [{"text": "Be short."}],
        "messages": [{"role": "user", "content": [{"text": "When is high water?"}]}],
        "inferenceConfig": {"maxTokens": 64, "temperature": 0.5, "topK": 20},
    }
    assert body_of(ask(reasoning=ReasoningWish("low")), NOVA_2)["reasoningConfig"]["maxReasoningEffort"] == "low"


def test_what_novas_body_lacks_is_refused_or_dropped_by_the_clients_name() -> None:
    form = ResponseFormat("json_schema", "T", RAW(b"{}"))
    assert refused(ask(response_format=form), NOVA) == "response_format"
    body = body_of(ask(response_format=form, service_tier="flex"), NOVA, drop=True)
    assert body["dropped"] == ["response_format", "service_tier"]
    assert set(body) == {"schemaVersion", "messages", "dropped"}


@pytest.mark.parametrize(
    "model", ["meta.llama3-3-70b-instruct-v1:0", "amazon.titan-text-express-v1", "arn:aws:bedrock:eu-west-1:1:x/y"]
)
def test_other_makers_are_refused_and_told_of_converse(model: str) -> None:
    with pytest.raises(RequestError) as found:
        body_of(ask(), model, drop=True)
    assert found.value.failure.param == "model"
    assert "Converse" in found.value.failure.message
