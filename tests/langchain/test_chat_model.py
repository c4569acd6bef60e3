"""`ChatCounterfoil`: what it is told reaches the provider, and what the provider says reaches the program."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypedDict

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.load import dumpd, dumps, load
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field, SecretStr

import counterfoil
from counterfoil.driver.deployment import load_table
from counterfoil.langchain import ChatCounterfoil
from counterfoil.testing import ChatReply, Playback, Tool, error_answer, running
from counterfoil.testing.answers import chat_player

__all__: list[str] = []


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No secret, address or data of whoever runs the tests."""
    named = {name for row in load_table().values() for name in (*row.secret_env, *row.base_url_env)}
    for name in [name for name in os.environ if name in named or name.startswith("COUNTERFOIL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COUNTERFOIL_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def provider() -> Iterator[Playback]:
    with running() as found:
        yield found


@pytest.fixture
def model(provider: Playback) -> ChatCounterfoil:
    return ChatCounterfoil(
        model="openai/play-1", custom_llm_provider="openai", api_key="sk-play", base_url=provider.base_url
    )


def _asked(provider: Playback) -> dict[str, Any]:
    return provider.served[-1].request.json


def _secret_sent(provider: Playback) -> str:
    return provider.served[-1].headers["authorization"].removeprefix("Bearer ")


# ---- what goes out


def test_what_the_model_is_told_is_sent(model: ChatCounterfoil, provider: Playback) -> None:
    model.temperature = 0.25
    model.top_p = 0.5
    model.max_tokens = 64
    model.stop_sequences = ["END"]
    model.seed = 7
    model.organization = "org-1"
    model.extra_headers = {"X-Project": "tide"}
    model.extra_body = {"metadata": {"a": "b"}}
    model.model_kwargs = {"user": "ann"}
    model.invoke([("system", "Be brief."), ("user", "hello")])
    asked = _asked(provider)
    told = {"temperature": 0.25, "top_p": 0.5, "max_completion_tokens": 64, "stop": ["END"], "seed": 7, "user": "ann"}
    assert told.items() <= asked.items()
    assert asked["metadata"] == {"a": "b"}
    assert asked["model"] == "play-1"
    assert asked["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello"},
    ]
    assert not {"n", "top_k", "stream_options", "seed_"} & asked.keys()
    headers = provider.served[-1].headers
    assert (headers["openai-organization"], headers["x-project"]) == ("org-1", "tide")


def test_what_a_call_says_goes_before_what_the_model_was_told(model: ChatCounterfoil, provider: Playback) -> None:
    model.temperature, model.stop = 0.25, ["END"]
    model.bind(temperature=0.75).invoke("hello", stop=["HERE"], max_tokens=9)
    asked = _asked(provider)
    assert (asked["temperature"], asked["stop"], asked["max_completion_tokens"]) == (0.75, ["HERE"], 9)
    model.invoke("hello", model="openai/play-2")
    assert _asked(provider)["model"] == "play-2"


def test_a_stream_asks_for_usage(model: ChatCounterfoil, provider: Playback) -> None:
    list(model.stream("hello"))
    assert _asked(provider)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in model._default_params
    model.streaming = True
    assert model._default_params["stream_options"] == {"include_usage": True}
    model.stream_options = {"include_obfuscation": False}
    assert model._default_params["stream_options"] == {"include_usage": True, "include_obfuscation": False}


def test_connection_fields_may_change_between_two_calls(model: ChatCounterfoil, provider: Playback) -> None:
    model.invoke("hello")
    with running() as other:
        model.base_url, model.api_key = other.base_url, SecretStr("sk-other")
        model.invoke("hello")
        asyncio.run(model.ainvoke("hello"))
        assert len(other.served) == 2
        assert _secret_sent(other) == "sk-other"
    assert len(provider.served) == 1
    model.api_base = provider.base_url
    model.custom_llm_provider = None  # an address alone is a gateway, which knows its own names
    model.model_name = "my/route"
    model.invoke("hello")
    assert _asked(provider)["model"] == "my/route"


def test_another_ledger_gets_what_comes_after(model: ChatCounterfoil, tmp_path: Path) -> None:
    model.invoke("hello")
    model.ledger = tmp_path / "books.db"  # type: ignore[assignment]  # a path is taken too
    before = model._clients.client(model._books())
    with counterfoil.meter() as meter:
        model.invoke("hello")
    assert before is model._clients.client(model._books())
    assert before.flush()
    assert (tmp_path / "books.db").exists()
    assert len(meter.entries) == 1
    same = ChatCounterfoil(model="openai/play-1", ledger=str(tmp_path / "books.db"))
    assert same._clients.client(same._books()) is before
    model.ledger = None
    assert model._clients.client(model._books()) is not before
    before.close()


@pytest.mark.parametrize(
    ("other", "name", "value"),
    [
        ("model_name", "model", "x/y"),
        ("base_url", "api_base", "http://127.0.0.1:9/v1"),
        ("timeout", "request_timeout", 3.0),
        ("stop_sequences", "stop", ["END"]),
        ("default_headers", "extra_headers", {"A": "b"}),
    ],
)
def test_another_name_means_the_same_field(other: str, name: str, value: Any) -> None:
    told = {"model": "openai/x"} if name != "model" else {}
    assert getattr(ChatCounterfoil(**told, **{other: value}), name) == value
    with pytest.raises(ValueError, match="one thing"):
        ChatCounterfoil(**{**told, other: value, name: value})
    if other != "default_headers":
        model = ChatCounterfoil(model="openai/z")
        setattr(model, other, value)
        assert getattr(model, name) == getattr(model, other) == value


def test_a_parameter_without_a_field_goes_to_the_provider(provider: Playback) -> None:
    model = ChatCounterfoil(model="x", base_url=provider.base_url, mirostat=2)
    assert model.model_kwargs == {"mirostat": 2}
    model.invoke("hello")
    assert _asked(provider)["mirostat"] == 2
    with pytest.raises(ValueError, match="fields of their own"):
        ChatCounterfoil(model="x", model_kwargs={"temperature": 1})
    with pytest.raises(ValueError, match="twice"):
        ChatCounterfoil(model="x", mirostat=1, model_kwargs={"mirostat": 2})


# ---- secrets


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": "openai/gpt-4o", "api_key": "k"}, "k"),
        ({"model": "openai/gpt-4o", "openai_api_key": "k", "api_key": "general"}, "k"),
        ({"model": "openai/gpt-4o", "anthropic_api_key": "k"}, None),
        ({"model": "anthropic/claude-x", "anthropic_api_key": "k", "openai_api_key": "no"}, "k"),
        ({"model": "claude-x", "anthropic_api_key": "k", "openai_api_key": "no"}, "k"),
        ({"model": "gpt-4o", "openai_api_key": "k", "anthropic_api_key": "no"}, "k"),
        ({"model": "fireworks/x", "fireworks_api_key": "k"}, "k"),
        ({"model": "x", "custom_llm_provider": "groq", "groq_api_key": "k"}, "k"),
        ({"model": "openai/x", "api_base": "http://here", "api_key": "k", "openai_api_key": "no"}, "k"),
        ({"model": "openai/x", "api_base": "http://here", "openai_api_key": "k"}, "k"),
    ],
)
def test_the_secret_of_the_models_provider_is_sent(fields: dict[str, Any], expected: str | None) -> None:
    model = ChatCounterfoil(**fields)
    assert model._way(model.model).get("api_key") == expected


def test_a_providers_secret_is_not_sent_to_the_gateway(monkeypatch: pytest.MonkeyPatch, provider: Playback) -> None:
    monkeypatch.setenv("COUNTERFOIL_BASE_URL", provider.base_url)
    monkeypatch.setenv("COUNTERFOIL_API_KEY", "cf-key")
    ChatCounterfoil(model="openai/gpt-4o", openai_api_key="sk-own").invoke("hello")
    assert _secret_sent(provider) == "cf-key"
    assert _asked(provider)["model"] == "openai/gpt-4o"


def test_no_secret_is_shown_or_saved() -> None:
    model = ChatCounterfoil(model="openai/x", api_key="sk-one", openai_api_key="sk-two", fireworks_api_key="sk-three")
    model.groq_api_key = "sk-four"  # type: ignore[assignment]  # as programs write it
    shown = f"{model!r} {model} {dumps(model)} {model._identifying_params} {model.model_dump()}"
    assert "sk-" not in shown
    saved = dumpd(model)
    assert saved["kwargs"]["openai_api_key"] == {"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]}
    assert saved["kwargs"]["groq_api_key"] == {"lc": 1, "type": "secret", "id": ["GROQ_API_KEY"]}


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_a_saved_model_is_loaded_again(tmp_path: Path) -> None:
    told: dict[str, Any] = {"model": "openai/x", "temperature": 0.5, "mirostat": 2, "ledger": tmp_path / "l.db"}
    model = ChatCounterfoil(**told, api_key="sk-one")
    trust: dict[str, Any] = {"valid_namespaces": ["counterfoil"]}
    if "allowed_objects" in inspect.signature(load).parameters:  # newer LangChain wants the class as well
        trust["allowed_objects"] = [ChatCounterfoil]
    again = load(dumpd(model), secrets_map={"COUNTERFOIL_API_KEY": "sk-one"}, **trust)
    assert isinstance(again, ChatCounterfoil)
    assert again == model
    assert copy.deepcopy(model) == model
    assert pickle.loads(pickle.dumps(model)) == model


# ---- what LangChain asks of a model


def test_the_model_says_what_it_is() -> None:
    model = ChatCounterfoil(model="openai/gpt-4o", temperature=0.5, stop="END", openai_api_key="sk-x", api_base="u")
    assert model._llm_type == "counterfoil-chat"
    assert model._identifying_params == {
        "model_name": "openai/gpt-4o",
        "api_base": "u",
        "model": "openai/gpt-4o",
        "stream": False,
        "temperature": 0.5,
        "stop": "END",
    }
    assert model._get_ls_params() == {
        "ls_provider": "openai",
        "ls_model_name": "gpt-4o",
        "ls_model_type": "chat",
        "ls_temperature": 0.5,
        "ls_stop": ["END"],
    }
    assert model._get_ls_params(stop=["X"], model="groq/llama")["ls_provider"] == "groq"
    assert ChatCounterfoil(model="my-route")._get_ls_params()["ls_provider"] == "counterfoil"


def test_tokens_are_estimated_without_a_vocabulary() -> None:
    model = ChatCounterfoil(model="openai/x")
    assert model.get_num_tokens("") == 0
    text = "The tide turns at noon and the boats come home. " * 20
    assert 150 < model.get_num_tokens(text) < 300
    assert model.get_num_tokens_from_messages([HumanMessage(text)]) >= model.get_num_tokens(text)


def test_an_error_of_the_provider_reaches_the_program(model: ChatCounterfoil, provider: Playback) -> None:
    provider.default = error_answer(429, "slow down")
    model.max_retries = 0
    with pytest.raises(counterfoil.RateLimitError) as caught:
        model.invoke("hello")
    assert caught.value.status_code == 429
    with pytest.raises(counterfoil.RateLimitError):
        list(model.stream("hello"))
    with pytest.raises(counterfoil.RateLimitError):
        asyncio.run(model.ainvoke("hello"))
    assert len(provider.served) == 3


def test_a_fallback_answers_for_a_model_that_cannot(model: ChatCounterfoil, provider: Playback) -> None:
    provider.models["play-1"] = error_answer(500, "no")
    model.max_retries = 0
    other = ChatCounterfoil(**{**model.__dict__, "model": "openai/play-2"})
    assert model.with_fallbacks([other]).invoke("hello").text
    assert [served.model for served in provider.served] == ["play-1", "play-2"]


# ---- several answers


def test_several_answers_are_several_generations(model: ChatCounterfoil, provider: Playback) -> None:
    provider.default = chat_player(ChatReply(n=3, text="tide"))
    model.n = 3
    for streaming in (False, True):
        model.streaming = streaming
        result = model.generate([[HumanMessage("hello")]])
        assert [generation.text for generation in result.generations[0]] == ["tide", "tide #1", "tide #2"]
        result = asyncio.run(model.agenerate([[HumanMessage("hello")]]))
        assert [generation.text for generation in result.generations[0]] == ["tide", "tide #1", "tide #2"]
    assert _asked(provider)["n"] == 3


def test_a_stream_has_the_first_of_several_answers_as_invoke_has(model: ChatCounterfoil, provider: Playback) -> None:
    provider.default = chat_player(ChatReply(n=3, text="tide"))
    model.n = 3
    total = AIMessageChunk(content="")
    for chunk in model.stream("hello"):
        total = total + chunk
    whole = model.invoke("hello")
    assert (total.text, total.usage_metadata) == (whole.text, whole.usage_metadata)


# ---- tools


class Look(BaseModel):
    """Look at a place."""

    at: str = Field(description="the place")


class Booking(TypedDict):
    """Book seats."""

    seats: int


def count(boats: int) -> int:
    """Count boats.

    Args:
        boats: how many there are.
    """
    return boats


@tool
def weigh(cargo: str) -> int:
    """Weigh the cargo."""
    return len(cargo)


_SCHEMA: Final[dict[str, Any]] = {
    "title": "moor",
    "description": "Moor a boat.",
    "type": "object",
    "properties": {"boat": {"type": "string"}},
    "required": ["boat"],
}
_TOOLS: Final[list[Any]] = [Look, Booking, count, weigh, _SCHEMA]


def test_every_kind_of_tool_is_sent(model: ChatCounterfoil, provider: Playback) -> None:
    model.bind_tools(_TOOLS).invoke("hello")
    sent = [entry["function"] for entry in _asked(provider)["tools"]]
    assert [function["name"] for function in sent] == ["Look", "Booking", "count", "weigh", "moor"]
    assert all(function["description"] and function["parameters"]["properties"] for function in sent)
    assert "tool_choice" not in _asked(provider)


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("any", "required"),
        ("required", "required"),
        (True, "required"),
        (False, None),
        (None, None),
        ("Look", {"type": "function", "function": {"name": "Look"}}),
        ({"type": "function", "function": {"name": "Look"}}, {"type": "function", "function": {"name": "Look"}}),
    ],
)
def test_a_tool_choice_is_said_in_the_dialects_words(
    choice: Any, sent: Any, model: ChatCounterfoil, provider: Playback
) -> None:
    model.bind_tools([Look], tool_choice=choice, strict=True, parallel_tool_calls=False).invoke("hello")
    asked = _asked(provider)
    assert asked.get("tool_choice") == sent
    assert asked["parallel_tool_calls"] is False
    assert asked["tools"][0]["function"]["strict"] is True


def test_a_tool_that_is_not_bound_cannot_be_chosen(model: ChatCounterfoil) -> None:
    with pytest.raises(ValueError, match="no bound tool"):
        model.bind_tools([Look], tool_choice="Listen")


def test_a_conversation_with_tools_goes_round(model: ChatCounterfoil, provider: Playback) -> None:
    tools = (Tool("Look", '{"at": "sea"}'), Tool("count", '{"boats": 2}'))
    provider.queue(chat_player(ChatReply(text="", tools=tools, reasoning="Where?")))
    bound = model.bind_tools(_TOOLS)
    told: list[Any] = [HumanMessage("hello"), bound.invoke("hello")]
    told += [weigh.invoke({**call, "name": "weigh", "args": {"cargo": "salt"}}) for call in told[1].tool_calls]
    bound.invoke(told)
    assert _asked(provider)["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "Where?",
            "tool_calls": [
                {"id": "call_play0", "type": "function", "function": {"name": "Look", "arguments": '{"at": "sea"}'}},
                {"id": "call_play1", "type": "function", "function": {"name": "count", "arguments": '{"boats": 2}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_play0", "content": "4"},
        {"role": "tool", "tool_call_id": "call_play1", "content": "4"},
    ]


def test_reasoning_goes_back_to_its_provider_and_to_no_other(model: ChatCounterfoil, provider: Playback) -> None:
    signed: Any = {"extra_content": {"google": {"thought_signature": "c2ln"}}}
    told = AIMessage(
        "",
        additional_kwargs={"reasoning_content": "Where?", "tool_call_extras": {"c": signed}},
        tool_calls=[{"name": "look", "args": {}, "id": "c"}],
        response_metadata={"model_provider": "counterfoil", "model_name": "openai/play-1"},
    )
    history: list[Any] = ["hello", told, {"role": "tool", "content": "calm", "tool_call_id": "c"}]

    def sent(asked: str, provider_of: str | None) -> dict[str, Any]:
        model.model, model.custom_llm_provider = asked, provider_of
        model.invoke(history)
        found: dict[str, Any] = _asked(provider)["messages"][1]
        return found

    for asked in ("openai/play-1", "openai/play-2"):  # the same model, and another one of the same provider
        assert sent(asked, "openai")["reasoning_content"] == "Where?"
        assert sent(asked, None)["tool_calls"][0]["extra_content"] == signed["extra_content"]
    other = sent("groq/play-3", None)
    assert "reasoning_content" not in other
    assert other["tool_calls"] == [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
    told.response_metadata.clear()  # from somewhere else: nobody knows whose it is
    assert sent("groq/play-3", None)["reasoning_content"] == "Where?"


@pytest.mark.parametrize("form", ["streamed", "whole", "no_index", "no_id", "repeated_id"])
def test_parallel_calls_are_whole_in_a_stream_of_any_form(
    form: Any, model: ChatCounterfoil, provider: Playback
) -> None:
    tools = (Tool("look", '{"at": "sea", "for": "boats"}'), Tool("book", '{"seats": 2}'))
    provider.default = ChatReply(text="", tools=tools, tool_deltas=form).script()
    total = AIMessageChunk(content="")
    for chunk in model.stream("hello"):
        total = total + chunk
    assert [(call["name"], call["args"]) for call in total.tool_calls] == [
        ("look", {"at": "sea", "for": "boats"}),
        ("book", {"seats": 2}),
    ]
    assert len({call["id"] for call in total.tool_calls} - {None}) == 2


# ---- answers of a given form

_ANSWER: Final = '{"at": "sea"}'


def _form_of(method: str) -> ChatReply:
    if method == "function_calling":
        return ChatReply(text="", tools=(Tool("Look", _ANSWER),))
    return ChatReply(text=_ANSWER)


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
@pytest.mark.parametrize("schema", [Look, {**_SCHEMA, "title": "Look"}], ids=["pydantic", "schema"])
def test_an_answer_is_read_into_its_schema(
    method: Any, schema: Any, model: ChatCounterfoil, provider: Playback
) -> None:
    provider.default = chat_player(_form_of(method))
    expected: Any = Look(at="sea") if schema is Look else {"at": "sea"}
    asking = model.with_structured_output(schema, method=method)
    assert asking.invoke("hello") == expected
    assert asyncio.run(asking.ainvoke("hello")) == expected
    assert list(asking.stream("hello"))[-1] == expected
    told = model.with_structured_output(schema, method=method, include_raw=True).invoke("hello")
    assert (told["parsed"], told["parsing_error"]) == (expected, None)
    assert isinstance(told["raw"], AIMessage)
    assert told["raw"].usage_metadata is not None


def test_each_method_asks_in_its_own_way(model: ChatCounterfoil, provider: Playback) -> None:
    for method in ("function_calling", "json_schema", "json_mode"):
        provider.default = chat_player(_form_of(method))
        model.with_structured_output(Look, method=method, strict=True).invoke("hello")
    calling, schema, mode = (served.request.json for served in provider.served)
    assert calling["tool_choice"] == "required"
    assert calling["tools"][0]["function"]["name"] == "Look"
    assert calling["tools"][0]["function"]["strict"] is True
    form = schema["response_format"]
    assert (form["type"], form["json_schema"]["name"], form["json_schema"]["strict"]) == ("json_schema", "Look", True)
    assert form["json_schema"]["schema"]["properties"]["at"]["type"] == "string"
    assert mode["response_format"] == {"type": "json_object"}
    assert "ls_structured_output_format" not in json.dumps([calling, schema, mode])


def test_an_answer_that_is_none_raises_or_is_told(model: ChatCounterfoil, provider: Playback) -> None:
    provider.default = chat_player(ChatReply(text="The sea."))
    with pytest.raises(OutputParserException):
        model.with_structured_output(Look, method="json_schema").invoke("hello")
    told = model.with_structured_output(Look, method="json_schema", include_raw=True).invoke("hello")
    assert told["parsed"] is None
    assert isinstance(told["parsing_error"], OutputParserException)
    assert told["raw"].text == "The sea."


@pytest.mark.parametrize("schema", [Look, _SCHEMA], ids=["pydantic", "schema"])
def test_a_refusal_is_no_answer(schema: Any, model: ChatCounterfoil, provider: Playback) -> None:
    provider.default = chat_player(ChatReply(text="", refusal="I will not."))
    with pytest.raises(OutputParserException, match="I will not"):
        model.with_structured_output(schema, method="json_schema").invoke("hello")


def test_a_form_that_cannot_be_asked_for_is_an_error(model: ChatCounterfoil) -> None:
    with pytest.raises(ValueError, match="method"):
        model.with_structured_output(Look, method="guessing")  # type: ignore[arg-type]
    for method in ("function_calling", "json_schema"):
        with pytest.raises(ValueError, match="schema"):
            model.with_structured_output(None, method=method)
