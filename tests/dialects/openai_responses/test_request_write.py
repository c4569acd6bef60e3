"""A canonical request as a body of this dialect: what is carried, what is written out, what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from counterfoil.core.error import RequestError
from counterfoil.core.message import (
    Audio,
    CacheMark,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    RedactedReasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from counterfoil.core.operation import ChatRequest, ReasoningWish, ResponseFormat, Tool, ToolChoice
from counterfoil.dialects.dialect import Quirks, WrittenRequest
from counterfoil.dialects.openai_responses import OPENAI_RESPONSES
from counterfoil.dialects.openai_responses.thought import ORIGIN, pack

from .support import PLAIN

HI = (Message("user", (Text("Hi"),)),)
SCHEMA = msgspec.Raw(b'{"type":"object","properties":{"a":{"type":"integer"}}}')
LOOK = Tool("look", "Looks.", SCHEMA)


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def write(request: ChatRequest, *, quirks: Quirks = PLAIN, drop: bool = False) -> WrittenRequest:
    return OPENAI_RESPONSES.write_request(request, "gpt-made", quirks, drop)


def body(*messages: Message, quirks: Quirks = PLAIN, drop: bool = False, **fields: Any) -> dict[str, Any]:
    request = ChatRequest("any", messages or HI, **fields)
    written: dict[str, Any] = json.loads(write(request, quirks=quirks, drop=drop).body)
    return written


def refused(**fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        body(**fields)
    return caught.value


# ---- what is always there


def test_the_least_request_stores_nothing_and_asks_for_the_proofs() -> None:
    assert body() == {
        "model": "gpt-made",
        "input": [{"role": "user", "content": "Hi"}],
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }


def test_a_model_that_does_not_reason_is_not_asked_for_proofs() -> None:
    without = Quirks(unsupported=frozenset({"reasoning.encrypted_content"}))
    assert "include" not in body(quirks=without)
    assert body(quirks=without, logprobs=True)["include"] == ["message.output_text.logprobs"]


def test_a_client_that_wants_it_stored_is_heard() -> None:
    assert body(rest={"store": raw(True)})["store"] is True


# ---- messages


def test_the_system_messages_at_the_start_are_the_instructions_and_each_block_a_paragraph() -> None:
    system, more = Message("system", (Text("Be brief."),)), Message("system", (Text("Be kind."), Text("Always.")))
    later = Message("system", (Text("Now be long."),))
    written = body(system, more, *HI, later)
    assert written["instructions"] == "Be brief.\n\nBe kind.\n\nAlways."
    assert written["input"] == [{"role": "user", "content": "Hi"}, {"role": "system", "content": "Now be long."}]


def test_a_provider_without_instructions_gets_them_as_messages() -> None:
    written = body(Message("system", (Text("Be brief."),)), *HI, quirks=Quirks(unsupported=frozenset({"instructions"})))
    assert "instructions" not in written
    assert written["input"][0] == {"role": "system", "content": "Be brief."}


def test_a_developer_message_keeps_its_role() -> None:
    assert body(Message("developer", (Text("Rules."),)))["input"] == [{"role": "developer", "content": "Rules."}]


def test_images_and_files_have_their_parts() -> None:
    parts: tuple[Part, ...] = (
        Text("See"),
        Image(url="https://example.org/a.png"),
        Image(data="aGk=", media_type="image/png", detail="low"),
        Image(file_id="file_1"),
        File(data="aGk=", media_type="application/pdf", name="a.pdf"),
        File(data="aGk=", media_type="application/pdf"),
        File(url="https://example.org/b.pdf"),
        File(file_id="file_2", name="kept.pdf"),
        File(text="plain words"),
    )
    assert body(Message("user", parts))["input"][0]["content"] == [
        {"type": "input_text", "text": "See"},
        {"type": "input_image", "detail": "auto", "image_url": "https://example.org/a.png"},
        {"type": "input_image", "detail": "low", "image_url": "data:image/png;base64,aGk="},
        {"type": "input_image", "detail": "auto", "file_id": "file_1"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "file.pdf"},
        {"type": "input_file", "file_url": "https://example.org/b.pdf"},
        {"type": "input_file", "file_id": "file_2"},
        {"type": "input_text", "text": "plain words"},
    ]


def test_audio_is_refused_even_where_dropping_is_allowed() -> None:
    with pytest.raises(RequestError, match="audio"):
        body(Message("user", (Audio("aGk=", "wav"),)), drop=True)


def test_calls_and_their_results_are_items_of_their_own() -> None:
    answer = Message("assistant", (Text("Let me "), Text("look."), ToolCall("call_1", "look", '{"a":1}')))
    results = Message(
        "tool",
        (
            ToolResult("call_1", (Text("It is"), Text("4."))),
            ToolResult("call_2", (Text("A picture:"), Image(url="https://example.org/a.png"))),
            ToolResult("call_3", (Text("No such thing."),), is_error=True),
            ToolResult("call_4", ()),
        ),
    )
    picture = [
        {"type": "input_text", "text": "A picture:"},
        {"type": "input_image", "detail": "auto", "image_url": "https://example.org/a.png"},
    ]
    assert body(*HI, answer, results)["input"][1:] == [
        {"role": "assistant", "content": "Let me look."},
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "It is\n4."},
        {"type": "function_call_output", "call_id": "call_2", "output": picture},
        {"type": "function_call_output", "call_id": "call_3", "output": "The tool failed:\nNo such thing."},
        {"type": "function_call_output", "call_id": "call_4", "output": ""},
    ]


def test_a_user_who_speaks_between_results_keeps_the_order() -> None:
    mixed = Message("user", (ToolResult("call_1", (Text("4"),)), Text("Go on.")))
    assert [item.get("type", "message") for item in body(mixed)["input"]] == ["function_call_output", "message"]


def test_an_id_too_long_for_the_wire_is_shortened_alike_in_call_and_result() -> None:
    long = "toolu_" + "x" * 100
    items = body(
        Message("assistant", (ToolCall(long, "look", ""),)), Message("tool", (ToolResult(long, (Text("4"),)),))
    )["input"]
    assert items[0]["call_id"] == items[1]["call_id"]
    assert len(items[0]["call_id"]) <= 64
    assert items[0]["arguments"] == "{}"


def test_a_call_without_an_id_is_refused() -> None:
    with pytest.raises(RequestError, match="id"):
        body(Message("assistant", (ToolCall("", "look", "{}"),)))


def test_a_refusal_is_history_too() -> None:
    (item,) = body(Message("assistant", (Refusal("I will not."),)))["input"]
    assert item["content"] == [{"type": "refusal", "refusal": "I will not."}]


# ---- reasoning


def test_a_proof_goes_back_to_who_made_it_before_what_it_led_to() -> None:
    parts = (
        Reasoning("Hm.", pack("rs_1", "gAAAx"), ORIGIN),
        RedactedReasoning(pack("", "gAAAy"), ORIGIN),
        ToolCall("call_1", "look", "{}"),
    )
    items = body(Message("assistant", parts))["input"]
    assert items[:2] == [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": "gAAAx",
        },
        {"type": "reasoning", "summary": [], "encrypted_content": "gAAAy"},
    ]
    assert items[2]["type"] == "function_call"


def test_a_proof_openrouter_made_has_no_id() -> None:
    (item, _) = body(Message("assistant", (RedactedReasoning("gAAAx", ORIGIN), Text("Yes."))))["input"]
    assert item == {"type": "reasoning", "summary": [], "encrypted_content": "gAAAx"}


@pytest.mark.parametrize(
    "part",
    [
        Reasoning("Hm.", "c2lnbmVk"),
        Reasoning("Hm.", "c2lnbmVk", "google-gemini-v1"),
        Reasoning("Hm."),
        RedactedReasoning("c2VhbGVk"),
    ],
)
def test_a_foreign_proof_and_reasoning_without_one_are_left_out(part: Part) -> None:
    request = ChatRequest("any", (Message("assistant", (part, Text("Yes."))), *HI))
    written = write(request)
    assert json.loads(written.body)["input"][0] == {"role": "assistant", "content": "Yes."}
    assert written.dropped == ()


def test_reasoning_that_led_to_nothing_is_not_sent() -> None:
    """The API refuses a reasoning item without the item it led to."""
    assert body(*HI, Message("assistant", (Reasoning("Hm.", pack("rs_1", "x"), ORIGIN),)))["input"] == [
        {"role": "user", "content": "Hi"}
    ]


# ---- tools


def test_functions_say_that_they_are_not_strict() -> None:
    """They are here unless they say not; in chat it is the other way round."""
    tools = body(tools=(LOOK, Tool("now"), Tool("sure", strict=True)))["tools"]
    assert [tool["strict"] for tool in tools] == [False, False, True]
    assert tools[0]["parameters"]["properties"] == {"a": {"type": "integer"}}
    assert tools[1]["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        (ToolChoice("auto"), "auto"),
        (ToolChoice("none"), "none"),
        (ToolChoice("required"), "required"),
        (ToolChoice("named", "look"), {"type": "function", "name": "look"}),
    ],
)
def test_tool_choice(choice: ToolChoice, written: Any) -> None:
    told = body(tools=(LOOK,), tool_choice=choice, parallel_tool_calls=False)
    assert (told["tool_choice"], told["parallel_tool_calls"]) == (written, False)


def test_a_choice_without_tools_is_refused_or_means_nothing() -> None:
    assert refused(tool_choice=ToolChoice("required")).failure.param == "tool_choice"
    assert "tool_choice" not in body(tool_choice=ToolChoice("auto"))


def test_tools_of_this_wire_are_carried_and_others_refused_by_name() -> None:
    own = {"type": "web_search", "search_context_size": "low"}
    assert body(tools=(Tool("web_search", opaque=raw(own)),))["tools"] == [own]
    chat = {"type": "custom", "custom": {"name": "patch", "format": {"type": "text"}}}
    assert body(tools=(Tool("custom", opaque=raw(chat)),))["tools"] == [
        {"type": "custom", "name": "patch", "format": {"type": "text"}}
    ]
    foreign = Tool("web_search_20250305", opaque=raw({"type": "web_search_20250305"}))
    assert "web_search_20250305" in refused(tools=(foreign,)).failure.message
    dropped = write(ChatRequest("any", HI, tools=(foreign,)), drop=True)
    assert (dropped.dropped, "tools" in json.loads(dropped.body)) == (("tools.web_search_20250305",), False)


# ---- wishes


@pytest.mark.parametrize(
    ("wish", "written"),
    [
        (ReasoningWish(effort="high"), {"effort": "high"}),
        (ReasoningWish(enabled=False), None),  # tests/dialects/crossing/test_thinking_off.py
        (ReasoningWish(enabled=True), None),
    ],
)
def test_reasoning(wish: ReasoningWish, written: Any) -> None:
    assert body(reasoning=wish).get("reasoning") == written


@pytest.mark.parametrize(("budget", "effort"), [(1024, "low"), (2049, "medium"), (8193, "high"), (64_000, "high")])
def test_a_budget_of_reasoning_becomes_the_nearest_effort_and_is_named(budget: int, effort: str) -> None:
    written = write(ChatRequest("any", HI, reasoning=ReasoningWish(budget_tokens=budget)))
    assert json.loads(written.body)["reasoning"] == {"effort": effort}
    assert written.dropped == ("thinking.budget_tokens",)


def test_formats() -> None:
    form = ResponseFormat("json_schema", "person", SCHEMA, strict=True, description="One.")
    assert body(response_format=form)["text"] == {
        "format": {
            "type": "json_schema",
            "name": "person",
            "description": "One.",
            "schema": json.loads(bytes(SCHEMA)),
            "strict": True,
        }
    }
    assert body(response_format=ResponseFormat("json_object"))["text"] == {"format": {"type": "json_object"}}
    assert "text" not in body(response_format=ResponseFormat("text"))
    assert body(response_format=ResponseFormat("json_schema", schema=SCHEMA))["text"]["format"]["name"] == "response"


def test_sampling_bounds_user_and_tier() -> None:
    told = body(
        max_output_tokens=64, temperature=0.5, top_p=0.9, logprobs=True, top_logprobs=2, user="u", stream=True,
        service_tier="standard_only",
    )  # fmt: skip
    wanted = {
        "max_output_tokens": 64,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_logprobs": 2,
        "user": "u",
        "stream": True,
        "service_tier": "default",
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
    }
    assert {name: told[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("seed", 3),
        ("stop", ("END",)),
        ("top_k", 4),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -0.5),
        ("service_tier", "batch"),
    ],
)
def test_what_has_no_word_is_refused_or_dropped_by_name(param: str, value: Any) -> None:
    assert refused(**{param: value}).failure.param == param
    assert write(ChatRequest("any", HI, **{param: value}), drop=True).dropped == (param,)


@pytest.mark.parametrize(("param", "value"), [("presence_penalty", 0), ("frequency_penalty", 0.0), ("stop", ())])
def test_what_asks_for_the_default_is_left_out_in_silence(param: str, value: Any) -> None:
    written = write(ChatRequest("any", HI, **{param: value}))
    assert (param in json.loads(written.body), written.dropped) == (False, ())


def test_more_choices_than_one_are_refused_even_where_dropping_is_allowed() -> None:
    with pytest.raises(RequestError, match="one choice"):
        write(ChatRequest("any", HI, n=2), drop=True)


def test_fields_without_canonical_words() -> None:
    rest = {
        "metadata": raw({"a": "b"}),
        "prompt_cache_key": raw("k"),
        "safety_identifier": raw("s"),
        "verbosity": raw("low"),
        "truncation": raw("auto"),
        "include": raw(["web_search_call.results"]),
        "reasoning": raw({"effort": "low", "summary": "auto"}),
        "stream_options": raw({"include_usage": True}),
        "logit_bias": raw({}),
        "modalities": raw(["text"]),
    }
    told = body(rest=rest, response_format=ResponseFormat("json_object"))
    assert told["text"] == {"format": {"type": "json_object"}, "verbosity": "low"}
    assert told["include"] == ["reasoning.encrypted_content", "web_search_call.results"]
    assert told["reasoning"] == {"effort": "low", "summary": "auto"}
    assert (told["metadata"], told["prompt_cache_key"], told["truncation"]) == ({"a": "b"}, "k", "auto")
    assert not {"stream_options", "logit_bias", "modalities", "verbosity"} & told.keys()
    for name, value in (("logit_bias", {"50256": -100}), ("audio", {"voice": "x"})):
        assert refused(rest={name: raw(value)}).failure.param == name


def test_a_hint_changes_nothing_and_is_named() -> None:
    cached = Message("user", (Text("Hi", CacheMark("1h")),))
    written = write(ChatRequest("any", (cached,), rest={"prediction": raw({"type": "content"})}))
    assert written.dropped == ("cache_control", "prediction")
    marked = msgspec.structs.replace(LOOK, cache=CacheMark())
    assert write(ChatRequest("any", HI, tools=(marked,))).dropped == ("cache_control",)


def test_a_field_the_provider_refuses_is_refused_by_name() -> None:
    quirks = Quirks(unsupported=frozenset({"temperature", "store", "include"}))
    with pytest.raises(RequestError) as caught:
        body(quirks=quirks, temperature=0.5)
    assert caught.value.failure.param == "temperature"
    assert not {"store", "include"} & body(quirks=quirks).keys()


def test_a_part_of_another_dialect_is_refused_by_name() -> None:
    part = Opaque("anthropic_messages", "server_tool_use", raw({"type": "server_tool_use"}))
    with pytest.raises(RequestError) as caught:
        body(Message("assistant", (part,)))
    assert caught.value.failure.param == "messages.server_tool_use"
    own = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    kept = Message("assistant", (Opaque("openai_responses", "web_search_call", raw(own)), Text("There.")))
    assert body(kept)["input"][0] == own
