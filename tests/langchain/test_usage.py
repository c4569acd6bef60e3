"""Usage on every path: what LangChain is told = what the books have = what the provider served."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

import counterfoil
from counterfoil.driver.deployment import load_table
from counterfoil.langchain import ChatCounterfoil
from counterfoil.testing import CHAT_SHAPES, ChatReply, Counts, MessagesReply, Playback, Tool, running
from counterfoil.testing.answers import chat_player, messages_player

__all__: list[str] = []

_COUNTS: Final = Counts(input=120, output=45, cache_read=64, cache_write=16, reasoning=20)
_PLAN: Final = ChatReply(usage=_COUNTS, reasoning="Let me see.", tools=(Tool("look", '{"at": "sea"}'),))
_TOLD: Final[UsageMetadata] = {
    "input_tokens": 120,
    "output_tokens": 45,
    "total_tokens": 165,
    "input_token_details": {"cache_read": 64, "cache_creation": 16},
    "output_token_details": {"reasoning": 20},
}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret and no address of whoever runs the tests."""
    named = {name for row in load_table().values() for name in (*row.secret_env, *row.base_url_env)}
    for name in [name for name in os.environ if name in named or name.startswith("COUNTERFOIL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def provider() -> Iterator[Playback]:
    with running(Playback(chat_player(_PLAN))) as found:
        yield found


def _model(provider: Playback, **fields: Any) -> ChatCounterfoil:
    return ChatCounterfoil(
        model="openai/play-1", custom_llm_provider="openai", api_key="sk-play", base_url=provider.base_url, **fields
    )


def _message(said: BaseMessage) -> AIMessage:
    assert isinstance(said, AIMessage)
    return said


def _joined(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    """The chunks' sum, and the promise about them: one has the usage, it is the last, and it says so."""
    told = [place for place, chunk in enumerate(chunks) if chunk.usage_metadata is not None]
    assert told == [len(chunks) - 1]
    assert [chunk.chunk_position for chunk in chunks] == [None] * (len(chunks) - 1) + ["last"]
    assert chunks[-1].content in ("", [])
    total = chunks[0]
    for chunk in chunks[1:]:
        total = total + chunk
    return total


def _stream(model: ChatCounterfoil) -> AIMessage:
    return _joined(list(model.stream("hello")))


def _astream(model: ChatCounterfoil) -> AIMessage:
    async def read() -> list[AIMessageChunk]:
        return [chunk async for chunk in model.astream("hello")]

    return _joined(asyncio.run(read()))


def _streaming(model: ChatCounterfoil) -> AIMessage:
    model.streaming = True
    return _message(model.invoke("hello"))


def _astreaming(model: ChatCounterfoil) -> AIMessage:
    model.streaming = True
    return _message(asyncio.run(model.ainvoke("hello")))


def _events(model: ChatCounterfoil) -> AIMessage:
    async def read() -> list[Any]:
        return [event async for event in model.astream_events("hello", version="v2")]

    events = asyncio.run(read())
    chunks = [event["data"]["chunk"] for event in events if event["event"] == "on_chat_model_stream"]
    ended = next(event["data"]["output"] for event in events if event["event"] == "on_chat_model_end")
    assert ended.usage_metadata == _joined(chunks).usage_metadata
    return _message(ended)


def _events_of_a_step(model: ChatCounterfoil) -> AIMessage:
    """A step that only invokes, watched from outside: LangChain streams it, as LangGraph does with its nodes."""

    async def step(said: str) -> BaseMessage:
        return await model.ainvoke(said)

    async def read() -> list[Any]:
        return [event async for event in RunnableLambda(step).astream_events("hello", version="v2")]

    events = asyncio.run(read())
    _joined([event["data"]["chunk"] for event in events if event["event"] == "on_chat_model_stream"])
    return _message(next(event["data"]["output"] for event in events if event["event"] == "on_chat_model_end"))


def _protocol(model: ChatCounterfoil) -> AIMessage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the method is in beta, and says so
        return model.stream_events("hello", version="v3").output


def _chain(model: ChatCounterfoil) -> AIMessage:
    return _message((ChatPromptTemplate.from_messages([("user", "{said}")]) | model).invoke({"said": "hello"}))


def _chain_streamed(model: ChatCounterfoil) -> AIMessage:
    chain = ChatPromptTemplate.from_messages([("user", "{said}")]) | model
    return _joined([chunk for chunk in chain.stream({"said": "hello"}) if isinstance(chunk, AIMessageChunk)])


def _generate(model: ChatCounterfoil) -> AIMessage:
    result = model.generate([[HumanMessage("hello")]])
    assert result.llm_output is not None
    assert result.llm_output["token_usage"]["total_tokens"] == 165
    generation: Any = result.generations[0][0]
    return _message(generation.message)


def _of_v1(path: Callable[[ChatCounterfoil], AIMessage]) -> Callable[[ChatCounterfoil], AIMessage]:
    def taken(model: ChatCounterfoil) -> AIMessage:
        model.output_version = "v1"
        return path(model)

    return taken


_PATHS: Final[dict[str, Callable[[ChatCounterfoil], AIMessage]]] = {
    "invoke": lambda model: _message(model.invoke("hello")),
    "ainvoke": lambda model: _message(asyncio.run(model.ainvoke("hello"))),
    "stream": _stream,
    "astream": _astream,
    "invoke_streaming": _streaming,
    "ainvoke_streaming": _astreaming,
    "invoke_with_stream_asked_for": lambda model: _message(model.invoke("hello", stream=True)),
    "astream_events": _events,
    "astream_events_of_a_step": _events_of_a_step,
    "batch": lambda model: _message(model.batch(["hello"])[0]),
    "abatch": lambda model: _message(asyncio.run(model.abatch(["hello"]))[0]),
    "chain": _chain,
    "chain_streamed": _chain_streamed,
    "bound": lambda model: _message(model.bind(temperature=0.5).invoke("hello")),
    "with_fallbacks": lambda model: _message(model.with_fallbacks([model]).invoke("hello")),
    "generate": _generate,
    "invoke_v1": _of_v1(lambda model: _message(model.invoke("hello"))),
    "stream_v1": _of_v1(_stream),
    "astream_v1": _of_v1(_astream),
}
if hasattr(ChatCounterfoil, "stream_events"):  # the oldest LangChain has no such path
    _PATHS["stream_events_v3"] = _protocol
_STREAMED: Final = ("stream", "astream", "invoke_streaming", "astream_events", "stream_events_v3")


@pytest.mark.parametrize("path", _PATHS)
def test_usage_is_told_on_every_path_and_is_what_the_books_have(path: str, provider: Playback) -> None:
    with counterfoil.meter() as meter:
        message = _PATHS[path](_model(provider))
    assert message.usage_metadata == _TOLD
    assert len(meter.entries) == len(provider.served) == 1
    usage = meter.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (120, 45, 165)
    assert (usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == (64, 16, 20)
    assert provider.served[0].usage == _COUNTS
    booked = message.response_metadata["counterfoil"]
    assert booked["attempt"] == meter.entries[0].opening.attempt
    assert booked["provenance"]["input_tokens"] == booked["provenance"]["output_tokens"] == "reported"


@pytest.mark.parametrize("path", _PATHS)
def test_every_path_gives_the_same_message(path: str, provider: Playback) -> None:
    message = _PATHS[path](_model(provider))
    assert message.text == "The tide turns at noon and the boats come home."
    assert message.additional_kwargs == {"reasoning_content": "Let me see."}
    assert [(call["name"], call["args"], call["id"]) for call in message.tool_calls] == [
        ("look", {"at": "sea"}, "call_play0")
    ]
    assert [block["type"] for block in message.content_blocks] == ["reasoning", "text", "tool_call"]
    metadata = message.response_metadata
    assert metadata["finish_reason"] == "tool_calls"
    assert metadata["model_name"] == "openai/play-1"
    assert metadata["id"] == "chatcmpl-play-0000000001"


@pytest.mark.parametrize("path", [path for path in _STREAMED if path in _PATHS])
@pytest.mark.parametrize("shape", [shape for shape in CHAT_SHAPES if shape != "absent"])
def test_usage_is_right_wherever_the_provider_puts_it(path: str, shape: Any, provider: Playback) -> None:
    provider.default = chat_player(ChatReply(usage=_COUNTS, shape=shape))
    with counterfoil.meter() as meter:
        message = _PATHS[path](_model(provider))
    told = message.usage_metadata
    assert told is not None
    assert (told["input_tokens"], told["output_tokens"]) == (120, 45)
    assert (meter.usage.input_tokens, meter.usage.output_tokens) == (120, 45)


def test_usage_nobody_reported_is_the_books_estimate_and_says_so(provider: Playback) -> None:
    provider.default = chat_player(ChatReply(shape="absent"))
    with counterfoil.meter() as meter:
        message = _stream(_model(provider))
    assert message.usage_metadata is not None
    assert message.usage_metadata["total_tokens"] == meter.usage.total_tokens
    assert message.response_metadata["counterfoil"]["provenance"]["output_tokens"] == "estimated"
    assert message.response_metadata["token_usage"]["estimated"] is True


@pytest.mark.parametrize("streamed", [True, False])
def test_the_usage_of_an_anthropic_provider_is_told_in_full(streamed: bool, provider: Playback) -> None:
    counts = Counts(input=200, output=31, cache_read=150, cache_write=20)
    plan = MessagesReply(usage=counts, thinking="One two.", signature="c2lnbmVk", tools=(Tool("look", '{"at": 1}'),))
    provider.default = messages_player(plan)
    model = ChatCounterfoil(
        model="anthropic/play-a", custom_llm_provider="anthropic", api_key="sk-play", base_url=provider.origin
    )
    message = _stream(model) if streamed else _message(model.invoke("hello"))
    assert message.usage_metadata == {
        "input_tokens": 200,
        "output_tokens": 31,
        "total_tokens": 231,
        "input_token_details": {"cache_read": 150, "cache_creation": 20},
    }
    assert message.additional_kwargs["reasoning_content"] == "One two."
    assert message.additional_kwargs["reasoning_details"][0]["signature"] == "c2lnbmVk"
    model.invoke([("user", "hello"), message, {"role": "tool", "tool_call_id": "call_play0", "content": "calm"}])
    sent = provider.served[-1].request.json["messages"][1]["content"]
    assert sent[0] == {"type": "thinking", "thinking": "One two.", "signature": "c2lnbmVk"}
    assert sent[-1]["type"] == "tool_use"


_NOT_TOLD: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "options_of_the_model": ({"stream_options": {"include_usage": False}}, {}),
    "stream_usage_of_the_model": ({"stream_usage": False}, {}),
    "options_of_the_call": ({}, {"stream_options": {"include_usage": False}}),
    "stream_usage_of_the_call": ({}, {"stream_usage": False}),
}


@pytest.mark.parametrize("how", _NOT_TOLD)
@pytest.mark.parametrize("way", ["sync", "async"])
def test_who_asks_not_to_be_told_is_not_told_and_is_metered(how: str, way: str, provider: Playback) -> None:
    fields, call = _NOT_TOLD[how]
    model = _model(provider, **fields)

    async def read() -> list[AIMessageChunk]:
        return [chunk async for chunk in model.astream("hello", **call)]

    with counterfoil.meter() as meter:
        chunks = list(model.stream("hello", **call)) if way == "sync" else asyncio.run(read())
    assert all(chunk.usage_metadata is None for chunk in chunks)
    assert all("token_usage" not in chunk.response_metadata for chunk in chunks)
    assert chunks[-1].chunk_position == "last"
    assert (meter.usage.input_tokens, meter.usage.output_tokens) == (120, 45)


def test_a_call_may_ask_to_be_told_after_all(provider: Playback) -> None:
    model = _model(provider, stream_usage=False)
    assert _joined(list(model.stream("hello", stream_usage=True))).usage_metadata == _TOLD
    assert _joined(list(model.stream("hello", stream_options={"include_usage": True}))).usage_metadata == _TOLD


def test_the_usage_of_several_answers_is_told_once(provider: Playback) -> None:
    provider.default = chat_player(ChatReply(n=3, usage=_COUNTS))
    with counterfoil.meter() as meter:
        result = _model(provider, n=3).generate([[HumanMessage("hello")]])
    messages: list[Any] = [getattr(generation, "message", None) for generation in result.generations[0]]
    assert len(messages) == 3
    told = [message.usage_metadata for message in messages if message.usage_metadata is not None]
    assert [usage["output_tokens"] for usage in told] == [45]
    assert meter.usage.output_tokens == 45


def test_langchains_own_counter_agrees_with_the_books(provider: Playback) -> None:
    counter = UsageMetadataCallbackHandler()
    model = _model(provider, callbacks=[counter])
    with counterfoil.meter() as meter:
        model.invoke("hello")
        list(model.stream("hello"))
        asyncio.run(model.ainvoke("hello"))
        model.batch(["hello", "hello"])
    assert counter.usage_metadata.keys() == {"openai/play-1"}
    counted = counter.usage_metadata["openai/play-1"]
    assert len(meter.entries) == 5
    assert counted["input_tokens"] == meter.usage.input_tokens == 5 * 120
    assert counted["output_tokens"] == meter.usage.output_tokens == 5 * 45
    total = _TOLD
    for _ in range(4):
        total = add_usage(total, _TOLD)
    assert counted == total


def test_langchains_cache_repeats_old_usage_and_the_books_do_not(provider: Playback) -> None:
    model = _model(provider, cache=InMemoryCache())
    with counterfoil.meter() as meter:
        first, second = (_message(model.invoke("hello")) for _ in range(2))
    assert first.usage_metadata is not None
    assert second.usage_metadata is not None
    assert second.usage_metadata["total_tokens"] == first.usage_metadata["total_tokens"]
    assert len(meter.entries) == len(provider.served) == 1


def test_every_chunk_is_a_new_token_once(provider: Playback) -> None:
    class Watcher(UsageMetadataCallbackHandler):
        def __init__(self) -> None:
            super().__init__()
            self.chunks: list[Any] = []

        def on_llm_new_token(self, token: Any, *, chunk: Any = None, **_: Any) -> None:
            self.chunks.append(chunk.message)

    def reading(watcher: Watcher) -> tuple[list[Any], list[Any]]:
        model = _model(provider, callbacks=[watcher])

        async def read() -> list[Any]:
            return [chunk async for chunk in model.astream("hello")]

        seen = list(model.stream("hello")), asyncio.run(read())
        model.streaming = True
        model.invoke("hello")
        return seen

    watcher = Watcher()
    sync, awaited = reading(watcher)
    assert len(sync) == len(awaited) > 12
    assert watcher.chunks[: len(sync)] == sync
    assert len(watcher.chunks) == 3 * len(sync)
    assert sum(1 for message in watcher.chunks if message.usage_metadata is not None) == 3


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_stream_that_is_left_early_is_in_the_books(way: str, provider: Playback) -> None:
    provider.default = ChatReply(usage=_COUNTS).script().hold_at(6, "later")
    model = _model(provider)

    async def leave() -> None:
        stream = model.astream("hello")
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]  # LangChain says iterator; it is a generator

    with counterfoil.meter() as meter:
        if way == "async":
            asyncio.run(leave())
        else:
            for _ in model.stream("hello"):
                break
    assert [entry.exit.value for entry in meter.entries] == ["client_gone"]
    assert meter.usage.estimated


def test_a_stream_that_breaks_raises_and_is_in_the_books(provider: Playback) -> None:
    provider.default = ChatReply(usage=_COUNTS).script().cut_at(5)
    seen: list[AIMessageChunk] = []
    with counterfoil.meter() as meter, pytest.raises(counterfoil.Error):
        seen.extend(_model(provider, max_retries=0).stream("hello"))
    assert seen
    assert all(chunk.usage_metadata is None for chunk in seen)
    assert len(meter.entries) == 1
