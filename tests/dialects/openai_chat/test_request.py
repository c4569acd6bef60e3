"""Promise: a client's request is understood or refused by name, and carried without a change it did not ask for."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from counterfoil.core.error import FailureKind, Fault, RequestError
from counterfoil.core.message import (
    Audio,
    CacheMark,
    File,
    Image,
    Message,
    Opaque,
    Reasoning,
    RedactedReasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from counterfoil.core.operation import ChatRequest, ReasoningWish, ResponseFormat, Tool, ToolChoice
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.openai_chat import OPENAI_CHAT
from counterfoil.dialects.openai_chat.request import NESTING_LIMIT, patch_request, read_request
from counterfoil.driver.deployment import load_table
from tests import wire

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "When is low tide?"}]
TOOL = {
    "type": "function",
    "function": {"name": "sail", "description": "Go.", "parameters": {"type": "object"}, "strict": True},
}


def body(**fields: Any) -> bytes:
    return msgspec.json.encode({"model": "house/boat", "messages": HELLO, **fields})


def said(*messages: dict[str, Any]) -> tuple[Message, ...]:
    return read_request(body(messages=list(messages))).messages


def refused(raw: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read_request(raw)
    failure = caught.value.failure
    assert (failure.kind, failure.fault, failure.status) == (FailureKind.INVALID_REQUEST, Fault.CLIENT, 400)
    return caught.value


def patched(raw: bytes, quirks: Quirks | None = None, *, ask: bool = True) -> Any:
    return json.loads(patch_request(raw, "gpt-boat", quirks or Quirks(), ask))


def written(request: ChatRequest, quirks: Quirks | None = None, *, drop: bool = False) -> Any:
    return json.loads(OPENAI_CHAT.write_request(request, "gpt-boat", quirks or Quirks(), drop).body)


def dropped(request: ChatRequest, quirks: Quirks | None = None) -> tuple[str, ...]:
    return OPENAI_CHAT.write_request(request, "gpt-boat", quirks or Quirks(), True).dropped


def asking(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest("house/boat", messages or (Message("user", (Text("Hi"),)),), **fields)


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_plain_request_says_little() -> None:
    assert read_request(body()) == ChatRequest("house/boat", (Message("user", (Text("When is low tide?"),)),))


def test_every_known_field_is_read() -> None:
    request = read_request(
        body(
            tools=[TOOL],
            tool_choice={"type": "function", "function": {"name": "sail"}},
            parallel_tool_calls=False,
            max_completion_tokens=50,
            max_tokens=9,
            temperature=1,
            top_p=0.5,
            top_k=3,
            stop=["a", "b"],
            n=2,
            seed=7,
            presence_penalty=0.1,
            frequency_penalty=0.2,
            logprobs=True,
            top_logprobs=4,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "berth", "schema": {"type": "object"}, "strict": True, "description": "One."},
            },
            reasoning_effort="low",
            user="u-1",
            service_tier="flex",
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert request == ChatRequest(
        model="house/boat",
        messages=(Message("user", (Text("When is low tide?"),)),),
        tools=(Tool("sail", "Go.", msgspec.Raw(b'{"type":"object"}'), True),),
        tool_choice=ToolChoice("named", "sail"),
        parallel_tool_calls=False,
        max_output_tokens=50,
        temperature=1.0,
        top_p=0.5,
        top_k=3,
        stop=("a", "b"),
        n=2,
        seed=7,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        logprobs=True,
        top_logprobs=4,
        response_format=ResponseFormat("json_schema", "berth", msgspec.Raw(b'{"type":"object"}'), True, "One."),
        reasoning=ReasoningWish(effort="low"),
        user="u-1",
        service_tier="flex",
        stream=True,
        stream_usage=True,
    )


def test_null_is_the_same_as_not_said() -> None:
    nulls = dict.fromkeys(
        ["tools", "tool_choice", "max_tokens", "temperature", "stop", "n", "stream", "stream_options", "logit_bias"]
    )
    assert read_request(body(**nulls)) == read_request(body())


def test_a_single_stop_is_a_list_of_one() -> None:
    assert read_request(body(stop="###")).stop == ("###",)


def test_the_older_name_of_the_bound_is_read() -> None:
    assert read_request(body(max_tokens=9)).max_output_tokens == 9


def test_what_has_no_word_is_kept_word_for_word() -> None:
    rest = read_request(body(logit_bias={"50256": -100}, metadata={"a": "b"}, made_up=[1, 2.50])).rest
    assert {key: json.loads(bytes(raw)) for key, raw in rest.items()} == {
        "logit_bias": {"50256": -100},
        "metadata": {"a": "b"},
        "made_up": [1, 2.5],
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tool_choice", {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}),
        ("tool_choice", "validated"),
        ("response_format", {"type": "grammar", "grammar": "root ::= x"}),
        ("reasoning", {"effort": "high", "exclude": True}),
        ("thinking", {"type": "adaptive"}),
    ],
)
def test_a_known_field_with_a_value_beyond_our_words_is_kept_and_not_refused(field: str, value: Any) -> None:
    request = read_request(body(**{field: value}))
    assert json.loads(bytes(request.rest[field])) == value


@pytest.mark.parametrize(
    ("field", "value", "wish"),
    [
        ("reasoning", {"effort": "high"}, ReasoningWish(effort="high")),
        ("reasoning", {"max_tokens": 900}, ReasoningWish(budget_tokens=900)),
        ("thinking", {"type": "enabled", "budget_tokens": 900}, ReasoningWish(budget_tokens=900, enabled=True)),
        ("thinking", {"type": "disabled"}, ReasoningWish(enabled=False)),
    ],
)
def test_other_ways_to_wish_for_reasoning_are_understood(field: str, value: Any, wish: ReasoningWish) -> None:
    request = read_request(body(**{field: value}))
    assert request.reasoning == wish
    assert not request.rest


@pytest.mark.parametrize("word", ["auto", "none", "required"])
def test_a_tool_choice_that_is_a_word_is_its_mode(word: str) -> None:
    assert read_request(body(tools=[TOOL], tool_choice=word)).tool_choice == ToolChoice(word)  # type: ignore[arg-type]  # the parameter is one of the words


def test_legacy_functions_are_tools() -> None:
    function = {"name": "sail", "parameters": {"type": "object"}}
    request = read_request(body(functions=[function], function_call={"name": "sail"}))
    assert request.tools == (Tool("sail", None, msgspec.Raw(b'{"type":"object"}')),)
    assert request.tool_choice == ToolChoice("named", "sail")


def test_a_tool_of_the_provider_is_carried_word_for_word() -> None:
    custom = {"type": "custom", "custom": {"name": "grep"}}
    tools = read_request(body(tools=[TOOL, custom])).tools
    assert (tools[1].name, json.loads(bytes(tools[1].opaque or b""))) == ("custom", custom)


# --- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["system", "developer", "user"])
def test_a_message_of_text_is_one_part(role: str) -> None:
    (message,) = said({"role": role, "content": "Ahoy", "name": "ann"})
    assert (message.role, message.parts, message.name) == (role, (Text("Ahoy"),), "ann")


def test_each_kind_of_part_is_understood() -> None:
    (message,) = said(
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}},
                {"type": "image_url", "image_url": "https://example.org/b.png"},
                {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERg==", "filename": "a.pdf"}},
                {"type": "file", "file": {"file_data": "JVBERg==", "filename": "b.PDF"}},
                {"type": "file", "file": {"file_id": "file-1"}},
            ],
        }
    )
    assert message.parts == (
        Text("Look", CacheMark("1h")),
        Image(url="https://example.org/a.png", detail="low"),
        Image(data="iVBORw0=", media_type="image/png"),
        Image(url="https://example.org/b.png"),
        Audio("UklGRg==", "wav"),
        File(data="JVBERg==", media_type="application/pdf", name="a.pdf"),
        File(data="JVBERg==", media_type="application/pdf", name="b.PDF"),
        File(file_id="file-1"),
    )


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}},
        {"type": "image_url", "image_url": {"url": "gs://bucket/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/svg+xml,%3Csvg/%3E"}},
        {"type": "input_audio", "input_audio": "https://example.org/a.mp3"},
    ],
)
def test_a_part_beyond_our_words_is_carried_word_for_word(part: dict[str, Any]) -> None:
    (message,) = said({"role": "user", "content": [{"type": "text", "text": "See"}, part]})
    opaque = message.parts[1]
    assert isinstance(opaque, Opaque)
    assert (opaque.dialect, opaque.kind, json.loads(bytes(opaque.raw))) == ("openai_chat", part["type"], part)


def test_an_assistants_calls_and_their_results_are_tied_by_id() -> None:
    messages = said(
        *HELLO,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c-1", "type": "function", "function": {"name": "sail", "arguments": '{"to":"bay"}'}},
                {"id": "c-2", "type": "function", "function": {"name": "anchor", "arguments": ""}},
            ],
        },
        {"role": "tool", "tool_call_id": "c-1", "content": "Arrived."},
        {"role": "tool", "tool_call_id": "c-2", "content": [{"type": "text", "text": "Held."}]},
    )
    assert messages[1].parts == (ToolCall("c-1", "sail", '{"to":"bay"}'), ToolCall("c-2", "anchor", "{}"))
    assert messages[2] == Message("tool", (ToolResult("c-1", (Text("Arrived."),)),))
    assert messages[3] == Message("tool", (ToolResult("c-2", (Text("Held."),)),))


def test_a_legacy_call_and_its_result_are_tied_though_the_wire_has_no_id() -> None:
    messages = said(
        *HELLO,
        {"role": "assistant", "content": None, "function_call": {"name": "sail", "arguments": "{}"}},
        {"role": "function", "name": "sail", "content": "Arrived."},
    )
    (call,) = messages[1].parts
    (result,) = messages[2].parts
    assert isinstance(call, ToolCall)
    assert isinstance(result, ToolResult)
    assert call.id == result.call_id
    assert messages[2].role == "tool"


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"reasoning_content": "Hm."}, (Reasoning("Hm."),)),
        ({"reasoning": "Hm."}, (Reasoning("Hm."),)),
        (
            {
                "thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}],
                "reasoning_content": "Hm.",
            },
            (Reasoning("Hm.", "s"),),
        ),
        (
            {"thinking_blocks": [{"type": "redacted_thinking", "data": "d"}]},
            (RedactedReasoning("d"),),
        ),
        (
            {
                "reasoning_content": "Hm. So.",
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "Hm. ", "signature": "s", "index": 0},
                    {"type": "reasoning.encrypted", "data": "d", "index": 1},
                    {"type": "reasoning.text", "text": "So.", "index": 2},
                ],
            },
            (Reasoning("Hm. ", "s"), RedactedReasoning("d"), Reasoning("So.")),
        ),
        (
            {"reasoning_details": [{"text": "Hm"}, {"text": "."}, {"signature": "s"}]},
            (Reasoning("Hm.", "s"),),
        ),
    ],
)
def test_reasoning_comes_back_with_its_proof_and_once(fields: dict[str, Any], parts: tuple[Any, ...]) -> None:
    messages = said(*HELLO, {"role": "assistant", "content": "Noon.", **fields})
    assert messages[1].parts == (*parts, Text("Noon."))


def test_a_refusal_comes_back_as_one() -> None:
    assert said(*HELLO, {"role": "assistant", "content": None, "refusal": "No."})[1].parts == (Refusal("No."),)


def test_an_answer_a_client_sends_back_as_it_got_it_is_read() -> None:
    got: dict[str, Any] = {"role": "assistant", "content": "Noon.", "refusal": None, "annotations": [], "audio": None}
    assert said(*HELLO, {**got, "function_call": None, "tool_calls": None})[1].parts == (Text("Noon."),)


def test_thinking_parts_come_back_as_reasoning() -> None:
    content = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "Noon."}]
    assert said(*HELLO, {"role": "assistant", "content": content})[1].parts == (Reasoning("Hm."), Text("Noon."))


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "param", "words"),
    [
        (b'{"messages":[{"role":"user","content":"x"}]}', "model", "missing"),
        (b'{"model":"m"}', "messages", "missing"),
        (body(model=""), "model", "empty"),
        (body(model=5), "model", "expected `str`"),
        (body(messages=[]), "messages", "at least one"),
        (body(messages="hi"), "messages", "expected `array`"),
        (body(messages=[{"role": "robot", "content": "x"}]), "messages[0].role", "assistant"),
        (body(messages=[{"content": "x"}]), "messages[0].role", "missing"),
        (body(messages=[{"role": "user"}]), "messages[0].content", "missing"),
        (body(messages=[{"role": "user", "content": 5}]), "messages[0].content", "expected"),
        (body(messages=[*HELLO, {"role": "user", "content": [{"type": "text"}]}]), "messages[1].content[0].text", "is"),
        (body(messages=[{"role": "user", "content": [{"text": "x"}]}]), "messages[0].content[0].type", "missing"),
        (body(messages=[{"role": "tool", "content": "x"}]), "messages[0].tool_call_id", "missing"),
        (body(n=0), "n", "between 1 and 128"),
        (body(n=129), "n", "between 1 and 128"),
        (body(n="2"), "n", "expected `int"),
        (body(max_tokens=-1), "max_tokens", "negative"),
        (body(temperature="hot"), "temperature", "expected `float"),
        (body(stream="yes"), "stream", "expected `bool"),
        (body(stop=[1]), "stop[0]", "expected `str`"),
        (body(tools=[{"type": "function"}]), "tools[0].function", "missing"),
        (body(tools=[{"type": "function", "function": {}}]), "tools[0].function.name", "missing"),
        (body(stream_options={"include_usage": "yes"}), "stream_options.include_usage", "expected `bool"),
    ],
)
def test_what_is_wrong_is_named(raw: bytes, param: str, words: str) -> None:
    error = refused(raw)
    assert error.failure.param == param
    assert words in error.failure.message
    assert param in error.failure.message


@pytest.mark.parametrize("raw", [b"", b"{", b"<html>", b"\xff", b"{}x", b'{"model":"\\ud800"}'])
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    assert refused(raw).failure.code == "invalid_json"


@pytest.mark.parametrize("raw", [b"[]", b"null", b'"x"', b"7"])
def test_json_that_is_no_object_is_refused(raw: bytes) -> None:
    assert "expected `object`" in refused(raw).failure.message


def nested(levels: int) -> bytes:
    """A valid request whose deepest value lies this many levels deep."""
    inside = levels - 1
    return b'{"model":"m","messages":[{"role":"user","content":"x"}],"deep":' + b"[" * inside + b"]" * inside + b"}"


def test_nesting_is_limited_to_the_level() -> None:
    assert read_request(nested(NESTING_LIMIT)).model == "m"
    assert "levels deep" in refused(nested(NESTING_LIMIT + 1)).failure.message


def test_a_nesting_bomb_is_refused_and_not_a_crash() -> None:
    for raw in (b"[" * 1_000_000, b'{"a":' * 200_000, nested(200_000)):
        refused(raw)
    with pytest.raises(RequestError):
        patch_request(nested(200_000), "m", Quirks(), True)


def test_brackets_in_text_are_not_nesting() -> None:
    text = '{[\\"' * 500
    assert read_request(body(messages=[{"role": "user", "content": text}])).messages[0].parts == (Text(text),)


# --- patching --------------------------------------------------------------------------------------------------------


def test_a_patch_changes_the_model_and_asks_for_usage_and_nothing_else() -> None:
    raw = (
        b'{"made_up":1.50,"model":"house/boat","messages":[{"role":"user","content":"caf\\u00e9","x":null}],'
        b'"stream":true,"temperature":1e-1}'
    )
    assert patch_request(raw, "gpt-boat", Quirks(), True) == (
        b'{"made_up":1.50,"model":"gpt-boat","messages":[{"role":"user","content":"caf\\u00e9","x":null}],'
        b'"stream":true,"temperature":1e-1,"stream_options":{"include_usage":true}}'
    )


def test_a_patch_overrides_a_clients_no_and_keeps_its_other_options() -> None:
    raw = body(stream=True, stream_options={"include_obfuscation": False, "include_usage": False})
    assert patched(raw)["stream_options"] == {"include_obfuscation": False, "include_usage": True}


@pytest.mark.parametrize("options", [None, {}])
def test_a_patch_asks_where_the_options_are_empty(options: Any) -> None:
    assert patched(body(stream=True, stream_options=options))["stream_options"] == {"include_usage": True}


def test_a_patch_asks_for_running_numbers_where_they_are_understood() -> None:
    wanted = {"include_usage": True, "continuous_usage_stats": True}
    assert patched(body(stream=True), Quirks(continuous_usage=True))["stream_options"] == wanted
    kept = patched(body(stream=True, stream_options={"x": 1}), Quirks(continuous_usage=True))
    assert kept["stream_options"] == {"x": 1, **wanted}


@pytest.mark.parametrize("fields", [{}, {"stream": False}, {"stream": None}])
def test_a_patch_asks_for_nothing_where_nothing_is_streamed(fields: dict[str, Any]) -> None:
    assert "stream_options" not in patched(body(**fields))


def test_a_patch_that_is_not_to_ask_leaves_the_options_alone() -> None:
    raw = body(stream=True, stream_options={"include_usage": False})
    assert patched(raw, ask=False)["stream_options"] == {"include_usage": False}


def test_a_provider_that_refuses_the_options_never_gets_them() -> None:
    raw = body(stream=True, stream_options={"include_usage": True})
    assert "stream_options" not in patched(raw, Quirks(stream_options=False))
    assert "stream_options" not in patched(body(stream=True), Quirks(stream_options=False))


def test_a_model_name_is_written_as_json() -> None:
    assert json.loads(patch_request(body(), 'odd "name" \\ é', Quirks(), True))["model"] == 'odd "name" \\ é'


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"null"])
def test_what_is_no_object_is_not_patched(raw: bytes) -> None:
    with pytest.raises(RequestError):
        patch_request(raw, "m", Quirks(), True)


def test_every_recorded_request_is_read_and_patched_without_a_change() -> None:
    seen = 0
    for record in wire.records("openai.chat/", "azure.chat/", "mistral.chat/"):
        asked = record.request_body
        if not isinstance(asked, dict) or "model" not in asked or not asked.get("messages"):
            continue
        raw = json.dumps(asked).encode()
        read_request(raw)
        ours = patched(raw)
        streamed = asked.get("stream") is True
        theirs = {**asked, "model": "gpt-boat"}
        if streamed:
            theirs["stream_options"] = {**(asked.get("stream_options") or {}), "include_usage": True}
        assert ours == theirs, record.id
        assert list(ours)[: len(asked)] == list(asked), record.id
        seen += 1
    assert seen > 100


# --- writing for a client of another dialect -------------------------------------------------------------------------


def test_a_request_of_words_both_have_is_read_back_as_it_was() -> None:
    request = read_request(
        body(
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                {
                    "role": "assistant",
                    "content": "Going.",
                    "reasoning_details": [
                        {"type": "reasoning.text", "text": "Hm.", "signature": "s"},
                        {"type": "reasoning.encrypted", "data": "d"},
                    ],
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "sail", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "c", "content": "Arrived."},
            ],
            tools=[TOOL],
            tool_choice="required",
            max_tokens=9,
            stop=["x"],
            n=2,
            seed=1,
            user="u",
            temperature=0.5,
            response_format={"type": "json_schema", "json_schema": {"name": "b", "schema": {"type": "object"}}},
            reasoning_effort="low",
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    again = read_request(OPENAI_CHAT.write_request(request, "house/boat", Quirks(), False).body)
    assert again == request


def test_a_stream_always_asks_for_usage_unless_the_provider_refuses() -> None:
    assert written(asking(stream=True))["stream_options"] == {"include_usage": True}
    assert written(asking(stream=True), Quirks(continuous_usage=True))["stream_options"] == {
        "include_usage": True,
        "continuous_usage_stats": True,
    }
    assert "stream_options" not in written(asking(stream=True), Quirks(stream_options=False))
    assert "stream" not in written(asking())


def test_the_output_bound_has_the_providers_name_for_it() -> None:
    assert written(asking(max_output_tokens=9))["max_tokens"] == 9
    newer = Quirks(max_tokens_field="max_completion_tokens", default_max_tokens=70)
    assert written(asking(max_output_tokens=9), newer)["max_completion_tokens"] == 9
    assert written(asking(), newer)["max_completion_tokens"] == 70
    assert "max_tokens" not in written(asking())


def test_results_inside_a_user_message_become_messages_of_their_own() -> None:
    mixed = Message("user", (ToolResult("c-1", (Text("ok"),)), ToolResult("c-2", (), is_error=True), Text("And now?")))
    assert written(asking(mixed))["messages"] == [
        {"role": "tool", "tool_call_id": "c-1", "content": "ok"},
        {"role": "tool", "tool_call_id": "c-2", "content": "The tool failed:"},
        {"role": "user", "content": "And now?"},
    ]


def test_pictures_sounds_and_documents_are_written_as_parts() -> None:
    parts = (
        Image(data="iVBORw0=", media_type="image/png"),
        Image(url="https://example.org/a.png", detail="low"),
        Audio("UklGRg==", "wav"),
        File(data="JVBERg==", media_type="application/pdf", name="a.pdf"),
        File(text="A log.", name="log.txt"),
    )
    assert written(asking(Message("user", parts)))["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERg==", "filename": "a.pdf"}},
        {"type": "text", "text": "A log."},
    ]


RAW = msgspec.Raw(b'{"x":1}')
LOSSES: dict[str, ChatRequest] = {
    "top_k": asking(top_k=5),
    "service_tier": asking(service_tier="reserved"),
    "context_management": asking(rest={"context_management": RAW}),
    "tools.web_search_20260101": asking(tools=(Tool("web_search_20260101", opaque=RAW),)),
    "search_result": asking(Message("user", (Text("x"), Opaque("anthropic_messages", "search_result", RAW)))),
    "file.url": asking(Message("user", (Text("x"), File(url="https://example.org/a.pdf")))),
    "image.file_id": asking(Message("user", (Text("x"), Image(file_id="f")))),
    "tool_result.search_result": asking(
        Message("tool", (ToolResult("c", (Text("x"), Opaque("anthropic_messages", "search_result", RAW))),))
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_what_cannot_be_carried_is_refused_by_name_or_dropped_by_name(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        written(LOSSES[name])
    failure = caught.value.failure
    assert (failure.param, failure.code) == (name, "cannot_be_carried")  # as every other dialect's desk says it
    assert failure.message.startswith(f"{name} cannot be carried to this model: ")
    assert dropped(LOSSES[name]) == (name,)
    assert b'"x":1' not in OPENAI_CHAT.write_request(LOSSES[name], "m", Quirks(), True).body


def test_a_field_the_provider_refuses_is_refused_by_name_or_dropped_by_name() -> None:
    quirks = Quirks(unsupported=frozenset({"seed"}))
    with pytest.raises(RequestError, match=r"^seed cannot be carried"):
        written(asking(seed=1), quirks)
    assert dropped(asking(seed=1), quirks) == ("seed",)
    assert "seed" not in written(asking(seed=1), quirks, drop=True)


THOUGHTS = (
    Message("user", (Text("Hi"),), name="ann"),
    Message("assistant", (Reasoning("Greet.", "sig", "anthropic_messages"), RedactedReasoning("x"), Text("Hello"))),
    Message("user", (Text("And?"),)),
)


@pytest.mark.parametrize("provider", ["groq", "cerebras", "mistral"])
def test_thoughts_of_a_history_are_left_out_where_the_provider_refuses_the_field(provider: str) -> None:
    quirks = load_table()[provider].quirks
    wrote = OPENAI_CHAT.write_request(asking(*THOUGHTS), "m", quirks, False)
    kept = {} if provider == "mistral" else {"name": "ann"}
    assert msgspec.json.decode(wrote.body)["messages"] == [
        {"role": "user", "content": "Hi", **kept},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "And?"},
    ]
    assert {"messages.reasoning_content", "messages.reasoning_details"} <= set(wrote.dropped)
    assert ("messages.name" in wrote.dropped) == (not kept)
    usual = written(asking(*THOUGHTS))["messages"]
    assert (usual[0]["name"], usual[1]["reasoning_content"]) == ("ann", "Greet.")  # everyone else's


def test_who_asks_is_named_and_not_refused_where_the_provider_knows_no_such_field() -> None:
    """Claude Code says `metadata.user_id` with each request; Mistral answers `user` with a 422."""
    quirks = load_table()["mistral"].quirks
    wrote = OPENAI_CHAT.write_request(asking(user="ann"), "m", quirks, False)
    assert "user" not in msgspec.json.decode(wrote.body)
    assert wrote.dropped == ("user",)


def test_a_cache_mark_is_named_as_dropped_and_never_refused() -> None:
    request = asking(Message("user", (Text("x", CacheMark("5m")),)))
    assert OPENAI_CHAT.write_request(request, "m", Quirks(), False).dropped == ("cache_control",)


def test_a_part_of_our_own_dialect_goes_back_word_for_word() -> None:
    part = Opaque("openai_chat", "video_url", msgspec.Raw(b'{"type":"video_url","video_url":{"url":"x"}}'))
    content = written(asking(Message("user", (Text("See"), part))))["messages"][0]["content"]
    assert content[1] == {"type": "video_url", "video_url": {"url": "x"}}
