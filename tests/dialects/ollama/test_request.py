"""Requests of any client in Ollama's words: what it can say is said, the rest is refused or named, never lost."""

from __future__ import annotations

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
from counterfoil.core.operation import (
    ChatRequest,
    CompleteRequest,
    EmbedRequest,
    ReasoningWish,
    ResponseFormat,
    Tool,
    ToolChoice,
)
from counterfoil.dialects.dialect import Quirks, WrittenRequest
from counterfoil.dialects.ollama import OLLAMA, OLLAMA_EMBED, OLLAMA_GENERATE

__all__: list[str] = []

HELLO = (Message("user", (Text("Hello"),)),)


def _chat(drop: bool = False, quirks: Quirks | None = None, **more: Any) -> WrittenRequest:
    request = ChatRequest(model="house", **{"messages": HELLO, **more})
    return OLLAMA.write_request(request, "small:1b", quirks or Quirks(), drop)


def _body(written: WrittenRequest) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(written.body)
    return body


def _messages(*messages: Message, drop: bool = False) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _body(_chat(drop, messages=messages))["messages"]
    return found


# ---- chat


def test_a_chat_always_says_whether_it_streams() -> None:
    assert _body(_chat()) == {
        "model": "small:1b",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": False,
    }
    assert _body(_chat(stream=True, stream_usage=True))["stream"] is True


def test_wishes_become_options_under_their_names_here() -> None:
    written = _chat(
        max_output_tokens=64,
        temperature=0.2,
        top_p=0.9,
        top_k=20,
        seed=7,
        stop=("END",),
        presence_penalty=0.1,
        frequency_penalty=0.3,
        logprobs=True,
        top_logprobs=2,
        rest={
            "num_ctx": msgspec.Raw(b"8192"),
            "keep_alive": msgspec.Raw(b'"10m"'),
            "options": msgspec.Raw(b'{"min_p":0.05,"seed":1}'),
        },
    )
    assert written.dropped == ()
    body = _body(written)
    assert body["options"] == {
        "num_predict": 64,
        "temperature": 0.2,
        "top_p": 0.9,
        "top_k": 20,
        "seed": 7,
        "stop": ["END"],
        "presence_penalty": 0.1,
        "frequency_penalty": 0.3,
        "num_ctx": 8192,
        "min_p": 0.05,
    }
    assert (body["logprobs"], body["top_logprobs"], body["keep_alive"]) == (True, 2, "10m")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (None, None),
        (ResponseFormat("text"), None),
        (ResponseFormat("json_object"), "json"),
        (ResponseFormat("json_schema", name="n", schema=msgspec.Raw(b'{"type":"object"}')), {"type": "object"}),
        (ResponseFormat("json_schema"), "json"),
    ],
)
def test_a_schema_is_the_format(form: ResponseFormat | None, said: object) -> None:
    assert _body(_chat(response_format=form)).get("format") == said


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (None, None),
        (ReasoningWish(effort="high"), "high"),
        (ReasoningWish(effort="none"), False),
        (ReasoningWish(enabled=True), True),
        (ReasoningWish(enabled=False), False),
        (ReasoningWish(enabled=False, budget_tokens=9), False),
    ],
)
def test_how_much_to_think_is_a_level_or_on_or_off(wish: ReasoningWish | None, said: object) -> None:
    written = _chat(reasoning=wish)
    assert _body(written).get("think") == said
    assert written.dropped == ()


def test_tools_are_said_and_none_of_them_where_none_may_be_called() -> None:
    tools = (
        Tool("look", "Looks.", msgspec.Raw(b'{"type":"object"}'), strict=True, cache=CacheMark()),
        Tool("wait"),
    )
    written = _chat(tools=tools, tool_choice=ToolChoice("auto"), parallel_tool_calls=True)
    assert _body(written)["tools"] == [
        {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}},
        {"type": "function", "function": {"name": "wait", "parameters": {"type": "object", "properties": {}}}},
    ]
    assert written.dropped == ("cache_control", "tools.strict")
    assert "tools" not in _body(_chat(tools=tools, tool_choice=ToolChoice("none")))


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"tool_choice": ToolChoice("required"), "tools": (Tool("look"),)}, "tool_choice"),
        ({"tool_choice": ToolChoice("named", "look"), "tools": (Tool("look"),)}, "tool_choice"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"reasoning": ReasoningWish(effort="frantic")}, "reasoning_effort"),
        ({"rest": {"logit_bias": msgspec.Raw(b'{"5":1}')}}, "logit_bias"),
        ({"rest": {"options": msgspec.Raw(b"7")}}, "options"),
        ({"tools": (Tool("web_search_1", opaque=msgspec.Raw(b"{}")),)}, "tools.web_search_1"),
        ({"messages": (Message("user", (Opaque("other", "odd", msgspec.Raw(b"{}")), Text("x"))),)}, "messages.odd"),
    ],
)
def test_what_ollama_cannot_say_is_refused_or_dropped_by_name(more: dict[str, Any], name: str) -> None:
    with pytest.raises(RequestError) as refused:
        _chat(**more)
    assert refused.value.failure.param == name
    assert _chat(drop=True, **more).dropped == (name,)


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"messages": (Message("user", (Image(url="https://pictures.test/1"),)),)},
        {"messages": (Message("user", (Image(file_id="f"),)),)},
        {"messages": (Message("user", (File(data="AAAA", media_type="application/pdf"),)),)},
        {"messages": (Message("user", (Audio("AAAA", "wav"),)),)},
        {"messages": (Message("assistant", (ToolCall("c", "look", "[1]"),)),)},
    ],
)
def test_what_would_change_the_question_is_refused_even_where_dropping_is_allowed(more: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        _chat(drop=True, **more)


def test_what_asks_for_nothing_is_silent_and_what_changes_nothing_is_named() -> None:
    neutral = {"store": msgspec.Raw(b"false"), "logit_bias": msgspec.Raw(b"{}"), "metadata": msgspec.Raw(b'{"a":"b"}')}
    assert _chat(rest=neutral, user="u", service_tier="auto").dropped == ("user", "metadata")


def test_a_field_the_server_refuses_is_told_by_the_clients_name() -> None:
    quirks = Quirks(unsupported=frozenset({"max_tokens", "logprobs"}))
    written = _chat(drop=True, quirks=quirks, max_output_tokens=5, logprobs=True, seed=1)
    assert written.dropped == ("logprobs", "max_tokens")
    assert _body(written)["options"] == {"seed": 1}
    with pytest.raises(RequestError) as refused:
        _chat(quirks=quirks, max_output_tokens=5)
    assert refused.value.failure.param == "max_tokens"


def test_a_history_is_told_with_its_thoughts_calls_and_results() -> None:
    told = _messages(
        Message("system", (Text("Be brief."),)),
        Message("developer", (Text("Be kind."),)),
        Message("user", (Text("What is this?"), Image(data="AAAA", media_type="image/png"), Text("And that?"))),
        Message(
            "assistant",
            (
                Reasoning("A boat. ", "proof", "google-gemini-v1"),
                RedactedReasoning("hidden"),
                Reasoning("Look closer."),
                Text("Let me look."),
                ToolCall("c1", "look", '{"at": "sea"}'),
                ToolCall("c2", "wait", " "),
            ),
        ),
        Message("tool", (ToolResult("c1", (Text("A boat"), Image(url="data:image/png;base64,BBBB"))),)),
        Message("tool", (ToolResult("c2", (Text("no wind"),), is_error=True),)),
        Message("tool", (ToolResult("unknown", ()),)),
        Message("assistant", (Refusal("I would rather not."),)),
        Message("user", (File(text="A log."), ToolResult("c1", (Text("again"),)), Text("So?"))),
    )
    assert told == [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "What is this?\nAnd that?", "images": ["AAAA"]},
        {
            "role": "assistant",
            "content": "Let me look.",
            "thinking": "A boat. Look closer.",
            "tool_calls": [
                {"id": "c1", "function": {"name": "look", "arguments": {"at": "sea"}}},
                {"id": "c2", "function": {"name": "wait", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "A boat", "images": ["BBBB"], "tool_name": "look", "tool_call_id": "c1"},
        {"role": "tool", "content": "The tool failed:\nno wind", "tool_name": "wait", "tool_call_id": "c2"},
        {"role": "tool", "content": "", "tool_call_id": "unknown"},
        {"role": "assistant", "content": "I would rather not."},
        {"role": "user", "content": "A log."},
        {"role": "tool", "content": "again", "tool_name": "look", "tool_call_id": "c1"},
        {"role": "user", "content": "So?"},
    ]


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (Text("x", CacheMark()), "cache_control"),
        (Image(data="AAAA", detail="high"), "messages.image_url.detail"),
        (ToolResult("c", (Text("x"),), cache=CacheMark("1h")), "cache_control"),
    ],
)
def test_hints_are_left_out_and_named(part: Part, name: str) -> None:
    assert _chat(messages=(Message("user", (part,)),)).dropped == (name,)
    assert _chat(messages=(Message("user", (Text("x"),), "Ann"),)).dropped == ("messages.name",)


# ---- generate


def _generate(drop: bool = False, **more: Any) -> WrittenRequest:
    request = CompleteRequest(model="house", **{"prompts": ("Once",), **more})
    return OLLAMA_GENERATE.write_request(request, "small:1b", Quirks(), drop)


def test_a_text_to_go_on_with_is_a_prompt_with_options() -> None:
    written = _generate(
        suffix=" end",
        max_output_tokens=9,
        temperature=0.5,
        stop=("\n",),
        seed=1,
        logprobs=3,
        echo=False,
        best_of=1,
        stream=True,
        rest={"raw": msgspec.Raw(b"true"), "num_ctx": msgspec.Raw(b"64")},
    )
    assert _body(written) == {
        "model": "small:1b",
        "prompt": "Once",
        "suffix": " end",
        "logprobs": True,
        "top_logprobs": 3,
        "raw": True,
        "stream": True,
        "options": {"num_predict": 9, "temperature": 0.5, "seed": 1, "stop": ["\n"], "num_ctx": 64},
    }
    assert written.dropped == ()


@pytest.mark.parametrize("more", [{"prompts": ("a", "b")}, {"prompts": ()}, {"prompts": ((1, 2),)}, {"n": 2}])
def test_one_text_and_one_choice_at_a_time(more: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        _generate(drop=True, **more)


@pytest.mark.parametrize(
    ("more", "name"),
    [({"echo": True}, "echo"), ({"best_of": 3}, "best_of"), ({"rest": {"odd": msgspec.Raw(b"1")}}, "odd")],
)
def test_what_generate_cannot_say_is_refused_or_dropped_by_name(more: dict[str, Any], name: str) -> None:
    with pytest.raises(RequestError) as refused:
        _generate(**more)
    assert refused.value.failure.param == name
    assert _generate(drop=True, **more).dropped == (name,)
    assert _generate(user="u").dropped == ("user",)


# ---- embed


def _embed(drop: bool = False, **more: Any) -> WrittenRequest:
    request = EmbedRequest(model="house", **{"inputs": ("one", (Text("two"),)), **more})
    return OLLAMA_EMBED.write_request(request, "vec", Quirks(), drop)


def test_inputs_to_embed_are_texts() -> None:
    written = _embed(dimensions=64, encoding="base64", rest={"truncate": msgspec.Raw(b"false")})
    assert _body(written) == {"model": "vec", "input": ["one", "two"], "dimensions": 64, "truncate": False}
    assert written.dropped == ()


@pytest.mark.parametrize("given", [(1, 2), (Image(data="AAAA"),), (Text("x"), Image(data="AAAA"))])
def test_tokens_and_pictures_are_refused(given: Any) -> None:
    with pytest.raises(RequestError):
        _embed(drop=True, inputs=(given,))


@pytest.mark.parametrize(("more", "name"), [({"purpose": "query"}, "input_type"), ({"title": "t"}, "title")])
def test_what_embed_cannot_say_is_refused_or_dropped_by_name(more: dict[str, Any], name: str) -> None:
    with pytest.raises(RequestError) as refused:
        _embed(**more)
    assert refused.value.failure.param == name
    assert _embed(drop=True, **more).dropped == (name,)
