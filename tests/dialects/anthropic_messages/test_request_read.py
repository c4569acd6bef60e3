"""A client's request in this dialect is understood whole, and what is wrong with it is said by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from counterfoil.core.error import RequestError
from counterfoil.core.message import (
    CacheMark,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    RedactedReasoning,
    Text,
    ToolCall,
    ToolResult,
)
from counterfoil.core.operation import ChatRequest, ReasoningWish, ToolChoice
from counterfoil.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from counterfoil.dialects.dialect import Quirks

HELLO = [{"role": "user", "content": "Which duck dives?"}]


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 64, "messages": HELLO, **fields}).encode()


def read(**fields: Any) -> ChatRequest:
    return ANTHROPIC_MESSAGES.read_request(body(**fields))


def parts(*content: dict[str, Any], role: str = "user") -> tuple[Part, ...]:
    (message,) = read(messages=[{"role": role, "content": list(content)}]).messages
    return message.parts


def test_a_plain_request() -> None:
    request = read(stream=True, temperature=0.5, top_p=0.9, top_k=7, stop_sequences=["END"], service_tier="auto")
    assert request.messages == (Message("user", (Text("Which duck dives?"),)),)
    assert (request.model, request.max_output_tokens, request.stream, request.stream_usage) == ("m", 64, True, True)
    assert (request.temperature, request.top_p, request.top_k) == (0.5, 0.9, 7)
    assert (request.stop, request.service_tier, request.n, request.rest) == (("END",), "auto", 1, {})


def test_system_is_a_message_of_its_own() -> None:
    assert read(system="Be brief.").messages[0] == Message("system", (Text("Be brief."),))
    blocks = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    assert read(system=blocks).messages[0] == Message("system", (Text("a", CacheMark("1h")),))


def test_images_and_documents_from_every_source() -> None:
    found = parts(
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        {"type": "image", "source": {"type": "url", "url": "https://birds.example/a.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}, "cache_control": {"type": "ephemeral"}},
        {
            "type": "document",
            "title": "B",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JQ=="},
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Ducks."}},
        {"type": "document", "source": {"type": "url", "url": "https://birds.example/a.pdf"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_2"}},
    )
    assert found == (
        Image(data="aGk=", media_type="image/png"),
        Image(url="https://birds.example/a.png"),
        Image(file_id="file_1", cache=CacheMark()),
        File(data="JQ==", media_type="application/pdf", name="B"),
        File(text="Ducks."),
        File(url="https://birds.example/a.pdf"),
        File(file_id="file_2"),
    )


def test_what_only_this_dialect_knows_is_opaque_word_for_word() -> None:
    blocks: list[dict[str, Any]] = [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "search_result", "source": "https://birds.example", "title": "t", "content": []},
        {"type": "news", "text": 7, "source": None},
        {"type": "document", "citations": {"enabled": True}, "source": {"type": "text", "data": "x"}},
        {"type": "document", "source": {"type": "content", "content": "x"}},
    ]
    for block in blocks:
        (found,) = parts(block)
        assert isinstance(found, Opaque)
        assert (found.dialect, found.kind) == ("anthropic_messages", block["type"])
        assert json.loads(bytes(found.raw)) == block


def test_an_assistant_turn_keeps_its_order_and_its_proofs() -> None:
    assert parts(
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "ZGFyaw=="},
        {"type": "text", "text": "Diving."},
        {"type": "tool_use", "id": "t", "name": "dive", "input": {"depth": 1.50}},
        {"type": "tool_use", "id": "u", "name": "rest"},
        role="assistant",
    ) == (
        Reasoning("Hm.", "c2ln"),
        RedactedReasoning("ZGFyaw=="),
        Text("Diving."),
        ToolCall("t", "dive", '{"depth": 1.5}'),
        ToolCall("u", "rest", "{}"),
    )


def test_tool_results_are_said_by_the_tool() -> None:
    content = [
        {"type": "tool_result", "tool_use_id": "t", "content": "wet"},
        {"type": "tool_result", "tool_use_id": "u", "is_error": True,
         "content": [{"type": "text", "text": "no"}, {"type": "image", "source": {"type": "file", "file_id": "f"}}]},
        {"type": "tool_result", "tool_use_id": "v"},
        {"type": "text", "text": "And now?"},
    ]  # fmt: skip
    assert read(messages=[{"role": "user", "content": content}]).messages == (
        Message("tool", (ToolResult("t", (Text("wet"),)),)),
        Message("tool", (ToolResult("u", (Text("no"), Image(file_id="f")), is_error=True),)),
        Message("tool", (ToolResult("v", ()),)),
        Message("user", (Text("And now?"),)),
    )


def test_tools_are_functions_or_the_providers_own() -> None:
    schema = {"type": "object", "properties": {}}
    own = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    client, server = read(
        tools=[{"name": "dive", "description": "d", "input_schema": schema, "strict": True}, own]
    ).tools
    assert (client.name, client.description, client.strict) == ("dive", "d", True)
    assert client.parameters is not None
    assert json.loads(bytes(client.parameters)) == schema
    assert server.name == "web_search_20250305"
    assert server.opaque is not None
    assert json.loads(bytes(server.opaque)) == own


@pytest.mark.parametrize(
    ("choice", "found", "parallel"),
    [
        ({"type": "auto"}, ToolChoice("auto"), None),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required"), False),
        ({"type": "tool", "name": "dive", "disable_parallel_tool_use": False}, ToolChoice("named", "dive"), True),
        ({"type": "none"}, ToolChoice("none"), None),
    ],
)
def test_tool_choice(choice: dict[str, Any], found: ToolChoice, parallel: bool | None) -> None:
    request = read(tool_choice=choice)
    assert (request.tool_choice, request.parallel_tool_calls) == (found, parallel)


@pytest.mark.parametrize(
    ("fields", "wish"),
    [
        ({}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, ReasoningWish(None, 2000, True)),
        ({"thinking": {"type": "disabled"}}, ReasoningWish(None, None, False)),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
            ReasoningWish("high", None, True, free=True),
        ),
        ({"output_config": {"effort": "low"}}, ReasoningWish("low", free=True)),
    ],
)
def test_thinking(fields: dict[str, Any], wish: ReasoningWish | None) -> None:
    assert read(**fields).reasoning == wish


def test_a_schema_for_the_reply_under_either_name() -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    for fields in ({"output_config": {"format": form}}, {"output_format": form}):
        found = read(**fields).response_format
        assert found is not None
        assert found.kind == "json_schema"
        assert found.schema is not None
        assert json.loads(bytes(found.schema)) == {"type": "object"}


def test_what_has_no_canonical_word_is_kept_by_its_name() -> None:
    request = read(
        container="c",
        thinking={"type": "adaptive", "display": "summarized"},
        output_config={"effort": "low", "task_budget": {"type": "tokens", "total": 9}},
        metadata={"user_id": "u-1", "trace": "x"},
        tools=[{"name": "dive", "input_schema": {}, "defer_loading": True}],
        top_secret=None,
    )
    assert request.user == "u-1"
    assert {name: json.loads(bytes(raw)) for name, raw in request.rest.items()} == {
        "container": "c",
        "thinking.display": "summarized",
        "output_config.task_budget": {"type": "tokens", "total": 9},
        "metadata.trace": "x",
        "tools.defer_loading": True,
    }
    assert request.hints == ()


def test_what_asks_only_for_speed_is_a_hint() -> None:
    tools: list[dict[str, Any]] = [
        {"name": name, "input_schema": {}, "eager_input_streaming": True} for name in ("dive", "rise")
    ]
    request = read(tools=tools)
    assert (request.rest, request.hints) == ({}, ("tools.eager_input_streaming",))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": "64"}, "max_tokens"),
        ({"model": 3}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "messages.0.content.0"),
        ({"system": 5}, "system"),
        ({"tools": [{"description": "nameless"}]}, "tools.0"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"tool_choice": {"type": "sometimes"}}, "tool_choice"),
        ({"thinking": {"type": "deep"}}, "thinking"),
        ({"temperature": "warm"}, "temperature"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_a_wrong_request_names_what_is_wrong(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(RequestError) as refused:
        read(**fields)
    assert refused.value.failure.param == named
    assert refused.value.failure.status == 400
    assert named in refused.value.failure.message


@pytest.mark.parametrize("wrong", [b"", b"[]", b"{", b"\xff", b'{"model":' + b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(wrong: bytes) -> None:
    with pytest.raises(RequestError):
        ANTHROPIC_MESSAGES.read_request(wrong)


def test_no_value_of_the_request_is_quoted() -> None:
    with pytest.raises(RequestError) as refused:
        read(messages=[{"role": "user", "content": [{"type": "text", "text": ["classified"]}]}])
    assert "classified" not in str(refused.value)


def test_to_the_same_dialect_only_the_model_changes() -> None:
    text = b'{"zig" : 1.50,"model":"house","messages":[ {"role":"user"} ],"max_tokens":9,"stream":true}'
    patched = ANTHROPIC_MESSAGES.patch_request(text, "claude-made-1", Quirks(), True)
    assert (
        patched == b'{"zig":1.50,"model":"claude-made-1","messages":[ {"role":"user"} ],"max_tokens":9,"stream":true}'
    )


def test_a_body_that_is_no_object_cannot_be_patched() -> None:
    with pytest.raises(RequestError):
        ANTHROPIC_MESSAGES.patch_request(b"[]", "m", Quirks(), False)
