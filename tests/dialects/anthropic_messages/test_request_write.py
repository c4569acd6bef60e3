"""A request crosses into this dialect whole, or the client reads what does not fit."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from counterfoil.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from counterfoil.dialects.anthropic_messages.request_write import ADAPTIVE_THINKING, BUDGETS, EFFORTS
from counterfoil.dialects.dialect import Quirks, WrittenRequest
from counterfoil.dialects.openai_chat import OPENAI_CHAT

OLDER = Quirks(unsupported=frozenset({ADAPTIVE_THINKING}))
HELLO = Message("user", (Text("Which gull?"),))
DIVE = Tool("dive", "Go down.", msgspec.Raw(b'{"type":"object"}'))


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def asked(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest("house", messages or (HELLO,), **fields)


def send(request: ChatRequest, *, quirks: Quirks | None = None, drop: bool = False) -> WrittenRequest:
    return ANTHROPIC_MESSAGES.write_request(request, "claude-made-1", quirks or Quirks(), drop)


def body(*messages: Message, quirks: Quirks | None = None, **fields: Any) -> dict[str, Any]:
    written = send(asked(*messages, **fields), quirks=quirks)
    found: dict[str, Any] = json.loads(written.body)
    return found


def turns(*messages: Message) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body(*messages)["messages"]
    return found


def refused(request: ChatRequest, *, quirks: Quirks | None = None, drop: bool = False) -> str:
    with pytest.raises(RequestError) as error:
        send(request, quirks=quirks, drop=drop)
    assert error.value.failure.status == 400
    assert error.value.failure.param is not None
    return error.value.failure.param


# ---- messages


def test_a_plain_request() -> None:
    assert body(stream=True, max_output_tokens=9, temperature=0.5, top_p=0.9, top_k=4, stop=("END",), user="u-1") == {
        "model": "claude-made-1",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Which gull?"}]}],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
        "stream": True,
    }


def test_the_bound_on_output_is_always_written() -> None:
    assert body()["max_tokens"] == 4096
    assert body(quirks=Quirks(default_max_tokens=512))["max_tokens"] == 512


def test_system_and_developer_messages_become_system() -> None:
    found = body(Message("system", (Text("a"),)), HELLO, Message("developer", (Text("b", CacheMark("1h")),)))
    assert found["system"] == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
    assert len(found["messages"]) == 1
    assert body(Message("system", (Text("a"),)), HELLO)["system"] == "a"


def test_neighbours_of_one_role_are_one_turn() -> None:
    found = turns(HELLO, HELLO, Message("assistant", (Text("x"),)), Message("assistant", (Text("y"),)), HELLO)
    assert [(turn["role"], len(turn["content"])) for turn in found] == [("user", 2), ("assistant", 2), ("user", 1)]


def test_parallel_results_are_one_turn_and_come_before_its_text() -> None:
    found = turns(
        HELLO,
        Message("assistant", (ToolCall("t", "dive", '{"d": 1.50}'), ToolCall("u", "rest", ""))),
        Message("user", (Text("Quick!"),)),
        Message("tool", (ToolResult("t", (Text("wet"),)),)),
        Message("tool", (ToolResult("u", (Text("a"), Text("b")), is_error=True),)),
    )
    assert found[1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "t", "name": "dive", "input": {"d": 1.5}},
                {"type": "tool_use", "id": "u", "name": "rest", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": "wet"},
                {
                    "type": "tool_result",
                    "tool_use_id": "u",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                    "is_error": True,
                },
                {"type": "text", "text": "Quick!"},
            ],
        },
    ]


def test_arguments_go_in_word_for_word() -> None:
    written = send(asked(HELLO, Message("assistant", (ToolCall("t", "dive", '{"d": 1.50}'),)), HELLO))
    assert b'"input":{"d": 1.50}' in written.body


@pytest.mark.parametrize("arguments", ["{", "[]", "7", '"x"', '{"a":1} trailing'])
def test_arguments_that_are_no_object_are_refused_even_when_dropping(arguments: str) -> None:
    request = asked(HELLO, Message("assistant", (ToolCall("t", "dive", arguments),)), HELLO)
    assert refused(request, drop=True) == "messages"


def test_call_ids_of_other_providers_become_valid_and_still_match() -> None:
    call = Message("assistant", (ToolCall("functions.dive:0", "dive", "{}"),))
    found = turns(HELLO, call, Message("tool", (ToolResult("functions.dive:0", ()),)))
    assert found[1]["content"][0]["id"] == found[2]["content"][0]["tool_use_id"] == "functions_dive_0"
    assert refused(asked(HELLO, Message("assistant", (ToolCall("", "dive", "{}"),)))) == "messages"


def test_signed_reasoning_opens_the_turn_and_unsigned_is_left_out() -> None:
    said: tuple[Part, ...] = (Text("So."), Reasoning("Hm.", "c2ln"), Reasoning("unsigned"), RedactedReasoning("ZGs="))
    assert turns(HELLO, Message("assistant", said), HELLO)[1]["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "ZGs="},
        {"type": "text", "text": "So."},
    ]


def test_reasoning_between_calls_keeps_its_place() -> None:
    said = (Reasoning("a", "1"), ToolCall("t", "dive", "{}"), Reasoning("b", "2"), Text("x"))
    found = turns(HELLO, Message("assistant", said), HELLO)[1]["content"]
    assert [block["type"] for block in found] == ["thinking", "tool_use", "thinking", "text"]


def test_text_without_a_visible_character_is_left_out() -> None:
    found = turns(Message("user", (Text(""), Text(" \n"), Text("x"))), Message("assistant", (Text(""),)), HELLO)
    assert found == [
        {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "Which gull?"}]}
    ]


def test_a_last_assistant_turn_does_not_end_in_white_space() -> None:
    assert turns(HELLO, Message("assistant", (Text("The gull is \n"),)))[-1]["content"][0]["text"] == "The gull is"


def test_a_request_with_nothing_to_answer_is_refused() -> None:
    assert refused(asked(Message("system", (Text("a"),)))) == "messages"
    assert refused(asked(Message("user", (Text(" "),)))) == "messages"


def test_a_refusal_of_earlier_is_text() -> None:
    assert turns(HELLO, Message("assistant", (Refusal("No."),)), HELLO)[1]["content"][0]["text"] == "No."


def test_images_and_files_from_every_source() -> None:
    text = base64.b64encode("Möwe".encode()).decode()
    sources = [
        block["source"]
        for block in turns(
            Message(
                "user",
                (
                    Image(data="aGk=", media_type="image/png"),
                    Image(url="data:image/webp;base64,aGk="),
                    Image(url="https://birds.example/a.png"),
                    Image(file_id="file_1"),
                    File(data="JQ==", media_type="application/pdf"),
                    File(data=text, media_type="text/csv"),
                    File(text="Gulls."),
                    File(url="https://birds.example/a.pdf"),
                    File(file_id="file_2"),
                ),
            )
        )[0]["content"]
    ]
    assert sources == [
        {"type": "base64", "media_type": "image/png", "data": "aGk="},
        {"type": "base64", "media_type": "image/webp", "data": "aGk="},
        {"type": "url", "url": "https://birds.example/a.png"},
        {"type": "file", "file_id": "file_1"},
        {"type": "base64", "media_type": "application/pdf", "data": "JQ=="},
        {"type": "text", "media_type": "text/plain", "data": "Möwe"},
        {"type": "text", "media_type": "text/plain", "data": "Gulls."},
        {"type": "url", "url": "https://birds.example/a.pdf"},
        {"type": "file", "file_id": "file_2"},
    ]


def test_a_file_keeps_its_name_and_its_cache_mark() -> None:
    part = File(text="x", name="gulls.txt", cache=CacheMark())
    assert turns(Message("user", (part,)))[0]["content"][0] == {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "x"},
        "title": "gulls.txt",
        "cache_control": {"type": "ephemeral"},
    }


@pytest.mark.parametrize(
    "part",
    [
        Audio("aGk=", "wav"),
        Image(data="aGk=", media_type="image/tiff"),
        Image(url="data:image/png,raw"),
        File(data="aGk=", media_type="application/zip"),
        File(data="aGk="),
        File(data="/w==", media_type="text/plain"),
        File(data="not base64!", media_type="text/plain"),
    ],
)
def test_content_the_model_cannot_take_is_never_dropped(part: Part) -> None:
    assert refused(asked(Message("user", (Text("Hear this."), part))), drop=True) == "messages"


def test_another_dialects_part_is_refused_or_dropped_by_name() -> None:
    request = asked(Message("user", (Text("x"), Opaque("openai_chat", "input_video", raw({})))))
    assert refused(request) == "messages.input_video"
    assert send(request, drop=True).dropped == ("messages.input_video",)


def test_this_dialects_own_part_goes_in_again() -> None:
    block = {"type": "search_result", "title": "Gulls"}
    part = Opaque("anthropic_messages", "search_result", raw(block))
    assert turns(Message("user", (part,)))[0]["content"] == [block]


# ---- tools, thinking, format


def test_tools() -> None:
    own = Tool("web_search_20250305", opaque=raw({"type": "web_search_20250305", "name": "web_search"}))
    strict = Tool("strict", strict=True, cache=CacheMark())
    assert body(tools=(DIVE, strict, own))["tools"] == [
        {"name": "dive", "description": "Go down.", "input_schema": {"type": "object"}},
        {
            "name": "strict",
            "input_schema": {"type": "object", "properties": {}},
            "strict": True,
            "cache_control": {"type": "ephemeral"},
        },
        {"type": "web_search_20250305", "name": "web_search"},
    ]


def test_another_dialects_tool_is_refused_or_dropped_by_name() -> None:
    request = asked(tools=(DIVE, Tool("web_search_preview", opaque=raw({"type": "web_search_preview"}))))
    assert refused(request) == "tools.web_search_preview"
    written = send(request, drop=True)
    assert written.dropped == ("tools.web_search_preview",)
    assert [tool["name"] for tool in json.loads(written.body)["tools"]] == ["dive"]


@pytest.mark.parametrize(
    ("choice", "parallel", "written"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("auto"), None, {"type": "auto"}),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice("named", "dive"), True, {"type": "tool", "name": "dive"}),
        (ToolChoice("none"), False, {"type": "none"}),
    ],
)
def test_tool_choice(choice: ToolChoice | None, parallel: bool | None, written: dict[str, Any] | None) -> None:
    assert body(tools=(DIVE,), tool_choice=choice, parallel_tool_calls=parallel).get("tool_choice") == written


def test_tool_choice_without_tools() -> None:
    assert "tool_choice" not in body(tool_choice=ToolChoice("auto"), parallel_tool_calls=False)
    assert refused(asked(tool_choice=ToolChoice("required")), drop=True) == "tool_choice"


@pytest.mark.parametrize(("effort", "written"), EFFORTS.items())
def test_effort_is_adaptive_thinking(effort: str, written: str) -> None:
    found = body(reasoning=ReasoningWish(effort))
    assert (found["thinking"], found["output_config"]) == ({"type": "adaptive"}, {"effort": written})


@pytest.mark.parametrize(("effort", "budget"), BUDGETS.items())
def test_effort_is_a_budget_for_older_models_and_leaves_room_for_the_reply(effort: str, budget: int) -> None:
    found = body(reasoning=ReasoningWish(effort), quirks=OLDER)
    assert found["thinking"] == {"type": "enabled", "budget_tokens": budget}
    assert found["max_tokens"] == 4096 + budget
    assert "output_config" not in found


def test_a_budget_stays_below_the_clients_own_bound() -> None:
    found = body(reasoning=ReasoningWish("high"), max_output_tokens=3000, quirks=OLDER)
    assert (found["thinking"]["budget_tokens"], found["max_tokens"]) == (2999, 3000)
    small = asked(reasoning=ReasoningWish("high"), max_output_tokens=1000)
    assert refused(small, quirks=OLDER) == "reasoning_effort"
    assert send(small, quirks=OLDER, drop=True).dropped == ("reasoning_effort",)


def test_no_reasoning_asks_for_nothing() -> None:
    assert {"thinking", "output_config"}.isdisjoint(body(reasoning=ReasoningWish("none")))


def test_an_unknown_effort_is_refused_or_dropped() -> None:
    assert refused(asked(reasoning=ReasoningWish("enormous"))) == "reasoning_effort"
    assert send(asked(reasoning=ReasoningWish("enormous")), drop=True).dropped == ("reasoning_effort",)


def test_a_budget_and_a_plain_wish_are_said_as_they_are() -> None:
    found = body(reasoning=ReasoningWish(None, 2000, True))
    assert (found["thinking"], found["max_tokens"]) == ({"type": "enabled", "budget_tokens": 2000}, 6096)
    assert body(reasoning=ReasoningWish(enabled=False))["thinking"] == {"type": "disabled"}
    assert body(reasoning=ReasoningWish(enabled=True))["thinking"] == {"type": "adaptive"}


def test_a_schema_for_the_reply() -> None:
    form = ResponseFormat("json_schema", name="gull", schema=raw({"type": "object"}), strict=True)
    found = body(response_format=form, reasoning=ReasoningWish("low"))
    assert found["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert "output_config" not in body(response_format=ResponseFormat("text"))
    assert refused(asked(response_format=ResponseFormat("json_object"))) == "response_format"


# ---- what cannot be carried

UNSAYABLE: list[tuple[str, dict[str, Any]]] = [
    ("seed", {"seed": 7}),
    ("presence_penalty", {"presence_penalty": 0.5}),
    ("frequency_penalty", {"frequency_penalty": -1.0}),
    ("logprobs", {"logprobs": True}),
    ("top_logprobs", {"top_logprobs": 3}),
    ("temperature", {"temperature": 1.5}),
    ("stop", {"stop": ("\n",)}),
    ("service_tier", {"service_tier": "flex"}),
    ("response_format", {"response_format": ResponseFormat("json_object")}),
    ("logit_bias", {"rest": {"logit_bias": raw({"50256": -100})}}),
    ("store", {"rest": {"store": raw(True)}}),
    ("verbosity", {"rest": {"verbosity": raw("low")}}),
    ("audio", {"rest": {"audio": raw({"voice": "gull"})}}),
    ("something_new", {"rest": {"something_new": raw(1)}}),
]


@pytest.mark.parametrize(("name", "fields"), UNSAYABLE, ids=[name for name, _ in UNSAYABLE])
def test_what_cannot_be_carried_is_refused_by_name_or_dropped_by_name(name: str, fields: dict[str, Any]) -> None:
    request = asked(**fields)
    assert refused(request) == name
    written = send(request, drop=True)
    assert written.dropped == (name,)
    assert json.loads(written.body) == body()


def test_a_name_of_the_user_that_is_too_long_is_left_out_and_named() -> None:
    written = send(asked(user="u" * 257))
    assert written.dropped == ("user",)
    assert json.loads(written.body) == body()


def test_a_refusal_says_how_to_allow_dropping() -> None:
    with pytest.raises(RequestError, match="drop: true"):
        send(asked(seed=7))


def test_more_than_one_choice_is_refused_even_when_dropping() -> None:
    assert refused(asked(n=2), drop=True) == "n"


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": None, "presence_penalty": 0, "frequency_penalty": 0.0, "logprobs": False, "top_logprobs": 0},
        {"rest": {"stream_options": raw({"include_usage": True}), "store": raw(False), "modalities": raw(["text"])}},
        {"rest": {"logit_bias": raw({}), "verbosity": raw("medium"), "audio": raw(None)}},
        {"parallel_tool_calls": True, "response_format": ResponseFormat("text")},
    ],
)
def test_what_asks_for_what_happens_anyway_is_left_out_without_a_word(fields: dict[str, Any]) -> None:
    written = send(asked(**fields))
    assert (json.loads(written.body), written.dropped) == (body(), ())


def test_what_asks_nothing_of_the_reply_is_left_out_and_named() -> None:
    rest = {"metadata": raw({"team": "coast"}), "prompt_cache_key": raw("k"), "prediction": raw({"type": "content"})}
    written = send(asked(Message("user", (Text("Which gull?"),), "ann"), rest=rest))
    assert json.loads(written.body) == body()
    assert written.dropped == ("messages.name", "metadata", "prompt_cache_key", "prediction")


def test_the_newer_name_of_user_is_carried() -> None:
    found = body(rest={"safety_identifier": raw("u-2")})
    assert found["metadata"] == {"user_id": "u-2"}


def test_fields_of_this_dialect_are_carried_whoever_says_them() -> None:
    rest = {"container": raw("c"), "mcp_servers": raw([{"type": "url"}]), "thinking.display": raw("omitted")}
    found = body(rest=rest, reasoning=ReasoningWish(enabled=True))
    assert (found["container"], found["mcp_servers"]) == ("c", [{"type": "url"}])
    assert found["thinking"] == {"type": "adaptive", "display": "omitted"}


@pytest.mark.parametrize(
    ("tier", "written"), [("auto", "auto"), ("default", "standard_only"), ("standard_only", "standard_only")]
)
def test_service_tier(tier: str, written: str) -> None:
    assert body(service_tier=tier)["service_tier"] == written


def test_temperature_and_top_p_of_one_are_not_said_because_claude_refuses_both_at_once() -> None:
    assert body(temperature=0.7, top_p=1.0) == {**body(), "temperature": 0.7}
    assert body(temperature=1.0, top_p=0.9) == {**body(), "top_p": 0.9}
    assert body(temperature=1, top_p=1) == body()


def test_what_a_model_refuses_is_left_out_where_it_asks_for_the_default() -> None:
    newest = Quirks(unsupported=frozenset({"temperature", "top_p", "output_config.effort"}))
    assert "temperature" not in body(temperature=1.0, quirks=newest)
    assert refused(asked(temperature=0.2), quirks=newest) == "temperature"
    assert send(asked(temperature=0.2, top_p=0.5), quirks=newest, drop=True).dropped == ("temperature", "top_p")
    assert refused(asked(reasoning=ReasoningWish("low")), quirks=newest) == "output_config.effort"


# ---- both ways

WORD = st.text(alphabet="abc xyz", min_size=1, max_size=8).filter(lambda said: said.strip() == said and bool(said))
ID = st.text(alphabet="abcXYZ019_-", min_size=1, max_size=8)
CACHE = st.none() | st.builds(CacheMark, st.none() | st.sampled_from(["5m", "1h"]))
USER_PART = st.one_of(
    st.builds(Text, WORD, CACHE),
    st.builds(lambda data, cache: Image(data=data, media_type="image/png", cache=cache), ID, CACHE),
    st.builds(lambda url, cache: Image(url="https://birds.example/" + url, cache=cache), ID, CACHE),
    st.builds(lambda made, cache: Image(file_id=made, cache=cache), ID, CACHE),
    st.builds(lambda text, name, cache: File(text=text, name=name, cache=cache), WORD, st.none() | WORD, CACHE),
    st.builds(lambda data, cache: File(data=data, media_type="application/pdf", cache=cache), ID, CACHE),
)
ARGUMENTS = st.dictionaries(WORD, st.integers() | WORD, max_size=2).map(json.dumps)
CALL = st.builds(ToolCall, ID, ID, ARGUMENTS, CACHE)
RESULT = st.builds(ToolResult, ID, st.lists(USER_PART, max_size=2).map(tuple), st.booleans(), CACHE)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """Conversations in the one order the wire has: turns take turns, results first."""
    said = []
    if draw(st.booleans()):
        said.append(Message("system", tuple(draw(st.lists(st.builds(Text, WORD, CACHE), min_size=1, max_size=2)))))
    for _ in range(draw(st.integers(1, 3))):
        results = draw(st.lists(RESULT, max_size=2))
        said += [Message("tool", (result,)) for result in results]
        if not results or draw(st.booleans()):
            said.append(Message("user", tuple(draw(st.lists(USER_PART, min_size=1, max_size=3)))))
        thought = draw(st.lists(st.builds(Reasoning, WORD, ID) | st.builds(RedactedReasoning, ID), max_size=2))
        rest = draw(st.lists(st.builds(Text, WORD, CACHE) | CALL, min_size=1, max_size=3))
        said.append(Message("assistant", (*thought, *rest)))
    said.append(HELLO)
    return tuple(said)


REQUESTS = st.builds(
    ChatRequest,
    st.just("claude-made-1"),
    conversations(),
    max_output_tokens=st.integers(1, 10**6),
    temperature=st.none() | st.floats(0, 1, exclude_max=True),
    top_p=st.none() | st.floats(0, 1, exclude_max=True),
    top_k=st.none() | st.integers(1, 100),
    stop=st.lists(WORD, max_size=2).map(tuple),
    user=st.none() | WORD,
    stream=st.booleans(),
    stream_usage=st.just(True),
    reasoning=st.none()
    | st.builds(ReasoningWish, st.none() | st.sampled_from(["low", "high"]), st.integers(1024, 9999), st.just(True))
    | st.builds(ReasoningWish, st.none() | st.sampled_from(["medium", "max"]), st.none(), st.just(False))
    | st.builds(ReasoningWish, st.none() | st.sampled_from(["medium", "max"]), st.none(), st.just(True), st.just(True)),
    service_tier=st.sampled_from([None, "auto", "standard_only"]),
)


@given(REQUESTS)
def test_what_is_written_is_read_back_as_the_same_request(request: ChatRequest) -> None:
    written = send(request)
    assert written.dropped == ()
    assert ANTHROPIC_MESSAGES.read_request(written.body) == request


def test_a_chat_clients_request_crosses_whole() -> None:
    """The crossing of the issue: chat client, Anthropic provider."""
    chat = {
        "model": "house",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 300,
        "parallel_tool_calls": False,
        "tools": [{"type": "function", "function": {"name": "dive", "parameters": {"type": "object"}}}],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look."},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "dive", "arguments": '{"d":1}'}},
                    {"id": "c2", "type": "function", "function": {"name": "dive", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "wet"},
            {"role": "tool", "tool_call_id": "c2", "content": "wetter"},
        ],
    }
    written = send(OPENAI_CHAT.read_request(json.dumps(chat).encode()))
    assert written.dropped == ()
    assert json.loads(written.body) == {
        "model": "claude-made-1",
        "max_tokens": 300,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look."},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "c1", "name": "dive", "input": {"d": 1}},
                    {"type": "tool_use", "id": "c2", "name": "dive", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "wet"},
                    {"type": "tool_result", "tool_use_id": "c2", "content": "wetter"},
                ],
            },
        ],
        "system": "Be brief.",
        "tools": [{"name": "dive", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "stream": True,
    }
