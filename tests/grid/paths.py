"""Every way to make a call, behind one signature: what the caller was told, and what its own process has in its books.

Rule 1: a way is a row of `PATHS`. Direct ways call the provider from this process; the others call the gateway.
Rule 2: nothing is compared here.
"""

from __future__ import annotations

import asyncio
import functools
import json
import operator
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage

import counterfoil
from counterfoil.langchain import ChatCounterfoil
from counterfoil.ledger.entry import Entry
from counterfoil.testing import Counts
from tests.shells.clients import ASKED, MESSAGES, Stage, told
from tests.shells.gateway import SECONDS

__all__ = ["ADDRESSES", "PATHS", "Asked", "CallPath", "Told", "World"]

ADDRESSES: Mapping[str, tuple[str, str]] = {
    "m": ("openai", "play-1"),
    "each": ("llama.cpp", "play-1"),
    "claude": ("anthropic", "play-a"),
}
"""The routes of the configuration as provider and model."""


@dataclass(frozen=True)
class World:
    """Who is there to be called, and with what."""

    stage: Stage
    config: Path
    """The gateway's own configuration file."""
    sdk: counterfoil.Client
    """With that configuration, in this process."""
    sdk_there: counterfoil.Client
    """At the gateway."""
    openai: openai.OpenAI

    def address(self, route: str) -> dict[str, Any]:
        """How a route is named where there is no configuration."""
        provider = self.stage.provider
        url = provider.origin if route == "claude" else provider.base_url
        name, model = ADDRESSES[route]
        return {"model": model, "custom_llm_provider": name, "base_url": url, "api_key": "sk-play"}


@dataclass(frozen=True)
class Asked:
    """One call."""

    route: str
    ticket: str
    n: int = 1

    @property
    def chat(self) -> dict[str, Any]:
        """As keywords of `create`."""
        return {"model": self.route, "messages": MESSAGES, "user": self.ticket, **({"n": self.n} if self.n > 1 else {})}


@dataclass
class Told:
    """What a caller knows after its call."""

    usage: Counts | None = None
    text: str = ""
    entries: Sequence[Entry] = field(default_factory=list)
    """What its own process has in its books."""
    error: Exception | None = None


Way = Callable[[World, Asked], Told]


@dataclass(frozen=True)
class CallPath:
    """A way to make a call."""

    call: Way
    streamed: bool
    gateway: bool
    """Whether it goes through the gateway, whose books then have an entry too."""
    own: bool
    """Whether this process keeps books of it."""


# ---- the SDK


def _usage_of(node: Any) -> Counts | None:
    return None if node is None else told(node.model_dump())


def _text_of(chunks: Iterable[Any]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def _sdk_whole(world: World, asked: Asked, *, there: bool) -> Told:
    client = world.sdk_there if there else world.sdk
    with counterfoil.meter() as meter:
        reply = client.chat.completions.create(**asked.chat)
    assert reply.entry == meter.entries[-1]
    text = "".join(choice.message.content or "" for choice in reply.choices)
    return Told(_usage_of(reply.usage), text, tuple(meter.entries))


def _sdk_stream(world: World, asked: Asked, *, there: bool) -> Told:
    client = world.sdk_there if there else world.sdk
    chunks: list[Any] = []
    error = None
    with counterfoil.meter() as meter:
        stream = client.chat.completions.create(**asked.chat, **ASKED)
        try:
            chunks.extend(stream)
        except counterfoil.Error as broken:
            error = broken
    assert stream.entry == meter.entries[-1]
    return _streamed(chunks, stream, meter, error)


def _streamed(chunks: list[Any], stream: Any, meter: Any, error: Exception | None) -> Told:
    """What an SDK's stream has told: its last chunk and its own `usage` say the same."""
    frames = [chunk.usage for chunk in chunks if chunk.usage is not None]
    if error is None:
        (last,) = frames
        assert chunks[-1].usage == last
        assert _usage_of(last) == _usage_of(stream.usage)
    else:
        assert frames == []
    return Told(_usage_of(stream.usage), _text_of(chunks), tuple(meter.entries), error)


@asynccontextmanager
async def _client(world: World, *, there: bool) -> AsyncIterator[counterfoil.AsyncClient]:
    more: dict[str, Any] = {"base_url": world.stage.base_url, "api_key": "any"} if there else {"config": world.config}
    async with counterfoil.AsyncClient(max_retries=0, timeout=SECONDS, **more) as client:
        yield client


def _sdk_async_whole(world: World, asked: Asked, *, there: bool) -> Told:
    async def call() -> Told:
        async with _client(world, there=there) as client:
            with counterfoil.meter() as meter:
                reply = await client.chat.completions.create(**asked.chat)
            assert reply.entry == meter.entries[-1]
            text = "".join(choice.message.content or "" for choice in reply.choices)
            return Told(_usage_of(reply.usage), text, tuple(meter.entries))

    return asyncio.run(call())


def _sdk_async_stream(world: World, asked: Asked, *, there: bool) -> Told:
    async def call() -> Told:
        chunks: list[Any] = []
        error = None
        async with _client(world, there=there) as client:
            with counterfoil.meter() as meter:
                stream = await client.chat.completions.create(**asked.chat, **ASKED)
                try:
                    async for chunk in stream:
                        chunks.append(chunk)  # noqa: PERF401 - what came before an error counts
                except counterfoil.Error as broken:
                    error = broken
            assert stream.entry == meter.entries[-1]
            return _streamed(chunks, stream, meter, error)

    return asyncio.run(call())


# ---- LangChain


def _summed(messages: Sequence[AIMessage]) -> Counts | None:
    """The usage of all messages or chunks added up, as LangChain itself adds them."""
    usages = [message.usage_metadata for message in messages if message.usage_metadata is not None]
    assert len(usages) <= 1
    if not usages:
        return None
    whole = functools.reduce(operator.add, [AIMessageChunk(content="", usage_metadata=usage) for usage in usages])
    usage = whole.usage_metadata
    assert usage is not None
    inside, out = usage.get("input_token_details", {}), usage.get("output_token_details", {})
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    return Counts(
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        cache_read=inside.get("cache_read"),
        cache_write=inside.get("cache_creation"),
        reasoning=out.get("reasoning"),
    )


_HELLO = [HumanMessage(MESSAGES[0]["content"])]


def _model(world: World, asked: Asked, *, there: bool) -> ChatCounterfoil:
    where = {"model": asked.route, "base_url": world.stage.base_url, "api_key": "any"}
    more = where if there else world.address(asked.route)
    return ChatCounterfoil(
        **more, n=asked.n, max_retries=0, request_timeout=SECONDS, model_kwargs={"user": asked.ticket}
    )


def _langchain(world: World, asked: Asked, *, there: bool, streamed: bool) -> Told:
    model = _model(world, asked, there=there)
    said: list[AIMessage] = []
    error = None
    with counterfoil.meter() as meter:
        try:
            if streamed:
                said.extend(model.stream(_HELLO))
            else:
                said.append(model.invoke(_HELLO))
        except counterfoil.Error as broken:
            error = broken
    return Told(_summed(said), "".join(str(message.text) for message in said), tuple(meter.entries), error)


def _langchain_async(world: World, asked: Asked, *, there: bool, streamed: bool) -> Told:
    async def call() -> Told:
        model = _model(world, asked, there=there)
        said: list[AIMessage] = []
        error = None
        with counterfoil.meter() as meter:
            try:
                if streamed:
                    async for chunk in model.astream(_HELLO):
                        said.append(chunk)  # noqa: PERF401 - what came before an error counts
                else:
                    said.append(await model.ainvoke(_HELLO))
            except counterfoil.Error as broken:
                error = broken
        return Told(_summed(said), "".join(str(message.text) for message in said), tuple(meter.entries), error)

    return asyncio.run(call())


# ---- the gateway, bare and with the official client


def _raw(world: World, asked: Asked, *, streamed: bool) -> Told:
    answer = world.stage.gateway.post({**asked.chat, **(ASKED if streamed else {})})
    assert answer.status == 200
    if not streamed:
        body = answer.json
        text = "".join(choice["message"]["content"] or "" for choice in body["choices"])
        return Told(told(body["usage"]) if body.get("usage") else None, text)
    chunks = [json.loads(frame) for frame in answer.frames if frame != "[DONE]"]
    error = next((RuntimeError(chunk["error"]["message"]) for chunk in chunks if "error" in chunk), None)
    (usage,) = [told(chunk["usage"]) for chunk in chunks if chunk.get("usage")]  # of a cut one, beside its error
    return Told(usage, answer.text, error=error)


def _openai_whole(world: World, asked: Asked) -> Told:
    reply = world.openai.chat.completions.create(**asked.chat)
    text = "".join(choice.message.content or "" for choice in reply.choices)
    return Told(_usage_of(reply.usage), text)


def _openai_stream(world: World, asked: Asked) -> Told:
    chunks: list[Any] = []
    error = None
    try:
        chunks.extend(world.openai.chat.completions.create(**asked.chat, **ASKED))
    except openai.APIError as broken:
        error = broken
    return _heard(chunks, error)


def _heard(chunks: list[Any], error: Exception | None) -> Told:
    usages = [_usage_of(chunk.usage) for chunk in chunks if chunk.usage is not None]
    assert len(usages) == (error is None)
    return Told(usages[0] if usages else None, _text_of(chunks), error=error)


def _openai_async(world: World, asked: Asked, *, streamed: bool) -> Told:
    async def call() -> Told:
        async with openai.AsyncOpenAI(
            base_url=world.stage.base_url, api_key="sk-any", max_retries=0, timeout=SECONDS
        ) as client:
            if not streamed:
                reply = await client.chat.completions.create(**asked.chat)
                text = "".join(choice.message.content or "" for choice in reply.choices)
                return Told(_usage_of(reply.usage), text)
            chunks: list[Any] = []
            error = None
            try:
                async for chunk in await client.chat.completions.create(**asked.chat, **ASKED):
                    chunks.append(chunk)  # noqa: PERF401 - what came before an error counts
            except openai.APIError as broken:
                error = broken
            return _heard(chunks, error)

    return asyncio.run(call())


def _rows() -> dict[str, CallPath]:
    part = functools.partial
    rows: dict[str, CallPath] = {}
    for there, where in ((False, "direct"), (True, "gateway")):
        rows |= {
            f"sdk {where} whole": CallPath(part(_sdk_whole, there=there), False, there, True),
            f"sdk {where} stream": CallPath(part(_sdk_stream, there=there), True, there, True),
            f"sdk {where} async whole": CallPath(part(_sdk_async_whole, there=there), False, there, True),
            f"sdk {where} async stream": CallPath(part(_sdk_async_stream, there=there), True, there, True),
        }
        for streamed, sync, asynchronous in ((False, "invoke", "ainvoke"), (True, "stream", "astream")):
            rows |= {
                f"langchain {where} {sync}": CallPath(
                    part(_langchain, there=there, streamed=streamed), streamed, there, True
                ),
                f"langchain {where} {asynchronous}": CallPath(
                    part(_langchain_async, there=there, streamed=streamed), streamed, there, True
                ),
            }
    for streamed, name in ((False, "whole"), (True, "stream")):
        rows[f"raw {name}"] = CallPath(part(_raw, streamed=streamed), streamed, True, False)
        rows[f"openai async {name}"] = CallPath(part(_openai_async, streamed=streamed), streamed, True, False)
    rows["openai whole"] = CallPath(_openai_whole, False, True, False)
    rows["openai stream"] = CallPath(_openai_stream, True, True, False)
    return rows


PATHS: Mapping[str, CallPath] = _rows()
