"""Promise: a program that comes from langchain-litellm changes one import; what has no meaning here is refused."""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import operator
import pickle
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Final

import pytest
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from pydantic import ValidationError

import counterfoil
from counterfoil.compat.langchain_litellm import ChatLiteLLM, ChatLiteLLMRouter, ReadableUsage
from counterfoil.compat.litellm_names import deployment_of, place_of
from counterfoil.langchain import ChatCounterfoil
from counterfoil.testing import ChatReply, Counts, Playback, chat_player, error_answer, running

__all__: list[str] = []

HELLO: Final = [HumanMessage("Say hello")]
SAID: Final[list[dict[str, Any]]] = [{"role": "user", "content": "Say hello"}]
CHAT: Final[Callable[..., ChatLiteLLM]] = ChatLiteLLM
ROUTER: Final[Callable[..., ChatLiteLLMRouter]] = ChatLiteLLMRouter


@pytest.fixture
def provider() -> Iterator[Playback]:
    with running(Playback(chat_player(ChatReply(usage=Counts(input=12, output=5))))) as provider:
        yield provider


def chat(provider: Playback, **more: Any) -> ChatLiteLLM:
    return CHAT(**{"model": "openai/gpt-4o", "api_base": provider.base_url, "openai_api_key": "sk-open", **more})


def sent(provider: Playback) -> dict[str, Any]:
    """The last request that the provider read."""
    return provider.served[-1].request.json


# --- usage -----------------------------------------------------------------------------------------------------------


def awaited(model: ChatLiteLLM) -> AIMessage:
    return asyncio.run(model.ainvoke(HELLO))


def last_awaited(model: ChatLiteLLM) -> AIMessage:
    async def last() -> AIMessage:
        return [chunk async for chunk in model.astream(HELLO)][-1]

    return asyncio.run(last())


PATHS: Final[dict[str, Callable[[ChatLiteLLM], AIMessage]]] = {
    "invoke": lambda model: model.invoke(HELLO),
    "ainvoke": awaited,
    "stream": lambda model: list(model.stream(HELLO))[-1],
    "astream": last_awaited,
    "batch": lambda model: model.batch([HELLO])[0],
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_usage_is_read_by_attribute_and_as_a_dict_on_every_path(provider: Playback, path: str, streaming: bool) -> None:
    usage: Any = PATHS[path](chat(provider, streaming=streaming)).usage_metadata
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (12, 5, 17)
    assert usage == {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}
    assert not hasattr(usage, "nothing")


def test_a_readable_usage_is_copied_saved_and_added_as_any(provider: Playback) -> None:
    chunks = list(chat(provider).stream(HELLO))
    usage = chunks[-1].usage_metadata
    assert isinstance(usage, ReadableUsage)
    assert pickle.loads(pickle.dumps(usage)) == copy.deepcopy(usage) == usage
    assert json.loads(chunks[-1].model_dump_json())["usage_metadata"] == usage
    assert "total_tokens" in dumps(chunks[-1])
    whole = functools.reduce(operator.add, chunks)
    assert whole.usage_metadata == usage


def test_our_own_class_has_plain_usage(provider: Playback) -> None:
    made: Callable[..., ChatCounterfoil] = ChatCounterfoil
    message = made(model="play-1", base_url=provider.base_url, api_key="play").invoke(HELLO)
    assert type(message.usage_metadata) is dict


# --- where a call goes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "provider", "model"),
    [
        ("openai/gpt-4o", "openai", "gpt-4o"),
        ("gpt-4o", "openai", "gpt-4o"),
        ("azure/mine", "azure-openai", "mine"),
        ("together_ai/org/m", "together", "org/m"),
        ("ollama_chat/llama3", "ollama", "llama3"),
        ("gemini/gemini-2.5-flash", "google", "gemini-2.5-flash"),
        ("org/m", None, "org/m"),
        ("my-own-model", None, "my-own-model"),
    ],
)
def test_models_are_spelled_as_there(name: str, provider: str | None, model: str) -> None:
    place = place_of(name)
    assert (place.provider, place.model) == (provider, model)


def test_an_api_version_means_azures_dated_address() -> None:
    assert place_of("azure/mine", dated=True).provider == "azure-openai-dated"
    assert place_of("openai/gpt-4o", dated=True).provider == "openai"


def test_the_prefix_stays_behind_and_the_providers_own_key_goes_along(provider: Playback) -> None:
    chat(provider, anthropic_api_key="sk-other", max_tokens=9, num_ctx=64).invoke(HELLO)
    assert provider.served[-1].headers["authorization"] == "Bearer sk-open"
    assert sent(provider)["model"] == "gpt-4o"
    assert sent(provider)["max_completion_tokens"] == 9
    assert sent(provider)["num_ctx"] == 64


def test_a_key_goes_to_its_own_provider_and_to_no_other(provider: Playback) -> None:
    model = CHAT(model="my-own-model", api_base=provider.base_url, openai_api_key="sk-open")
    model.invoke(HELLO)
    assert "authorization" not in provider.served[-1].headers
    model.api_key = CHAT(model="m", api_key="sk-own").api_key
    model.invoke(HELLO)
    assert provider.served[-1].headers["authorization"] == "Bearer sk-own"


def test_azures_address_and_version_are_used(provider: Playback) -> None:
    CHAT(
        model="azure/mine", api_base=provider.origin, azure_api_key="sk-azure", api_version="2025-01-01-preview"
    ).invoke(HELLO)
    served = provider.served[-1]
    assert served.path == "/openai/deployments/mine/chat/completions?api-version=2025-01-01-preview"
    assert served.headers["api-key"] == "sk-azure"


def test_model_name_goes_before_model() -> None:
    assert CHAT(model="gpt-4o", model_name="gpt-4o-mini").model == "gpt-4o-mini"
    assert CHAT(model="gpt-4o", model_name=None).model == "gpt-4o"


@pytest.mark.parametrize("name", ["use_responses_api", "base_model", "client"])
def test_what_has_no_meaning_is_refused_and_unset_it_is_taken(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        CHAT(model="gpt-4o", **{name: "yes"})
    assert CHAT(model="gpt-4o", **{name: None}).model_kwargs == {}


# --- retries ---------------------------------------------------------------------------------------------------------


def test_completion_with_retry_answers_whole_and_streamed(provider: Playback) -> None:
    model = chat(provider, temperature=0.5)
    assert model.completion_with_retry(messages=SAID).usage.total_tokens == 17
    assert sent(provider)["temperature"] == 0.5
    with model.completion_with_retry(messages=SAID, stream=True, temperature=0) as stream:
        assert list(stream)[-1].usage.total_tokens == 17
    assert sent(provider)["temperature"] == 0

    async def both() -> int:
        whole = await model.acompletion_with_retry(messages=SAID)
        stream = await model.acompletion_with_retry(messages=SAID, stream=True)
        return int(whole.usage.total_tokens + [chunk async for chunk in stream][-1].usage.total_tokens)

    assert asyncio.run(both()) == 34


def test_it_tries_once_more_each_attempt_with_its_entry(provider: Playback) -> None:
    provider.queue(error_answer(500).with_headers(retry_after="0"))
    with counterfoil.meter() as meter:
        assert chat(provider).invoke(HELLO).text
    assert [str(entry.exit.value) for entry in meter.entries] == ["rejected", "completed"]
    assert chat(provider).max_retries == 1


# --- the router ------------------------------------------------------------------------------------------------------


def entry(name: str, **params: Any) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"model": "openai/gpt-4o", **params}}


def test_the_router_tries_the_deployments_of_a_name_in_order(
    provider: Playback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECOND_KEY", "sk-second")
    first = entry("fast", api_base=provider.base_url, api_key="sk-first", rpm=5, max_retries=0)
    second = entry("fast", model="openai/gpt-4o-mini", api_base=provider.base_url, api_key="os.environ/SECOND_KEY")
    other = entry("slow", model="openai/o3", api_base=provider.base_url, api_key="sk-third")
    model = ROUTER(router=SimpleNamespace(model_list=[first, second, other]))
    assert model.model == "fast"
    provider.queue(error_answer(401))
    usage: Any = model.invoke(HELLO).usage_metadata
    assert usage.total_tokens == 17
    assert [served.headers["authorization"] for served in provider.served] == ["Bearer sk-first", "Bearer sk-second"]
    assert [served.model for served in provider.served] == ["gpt-4o", "gpt-4o-mini"]
    model.set_default_model("slow")
    assert list(model.stream(HELLO))[-1].usage_metadata == {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}
    assert sent(provider)["model"] == "o3"
    assert asyncio.run(model.ainvoke(HELLO, model="fast")).text
    assert sent(provider)["model"] == "gpt-4o"


def test_the_router_knows_its_models_and_no_others(provider: Playback) -> None:
    model = ROUTER(router=SimpleNamespace(model_list=[entry("fast", api_base=provider.base_url)]), model_name="fast")
    with pytest.raises(ValueError, match="slow"):
        model.set_default_model("slow")
    with pytest.raises(counterfoil.BadRequestError, match="slow"):
        model.invoke(HELLO, model="slow")
    assert provider.served == []
    assert "model_list" not in repr(model)


def test_a_deployment_says_what_it_cannot_mean() -> None:
    with pytest.raises(ValueError, match="aws_session_name"):
        deployment_of(entry("m", aws_session_name="night"), {})
    assert deployment_of(entry("m", vertex_project="reef", vertex_location="eu"), {}) == {
        "model": "gpt-4o",
        "custom_llm_provider": "openai",
        "project": "reef",
        "region": "eu",
    }
    assert deployment_of(entry("m", aws_region_name="eu"), {})["region"] == "eu"
    with pytest.raises(ValueError, match="NOT_SET"):
        deployment_of(entry("m", api_key="os.environ/NOT_SET"), {})
    assert deployment_of(entry("m", weight=3, timeout=20), {}) == {
        "model": "gpt-4o",
        "custom_llm_provider": "openai",
        "timeout": 20,
    }
