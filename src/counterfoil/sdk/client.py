"""The two clients. One exchange a call, two drivers: what a call means is in `core.py`, here is how it is waited for.

Rule 1: a client reads nothing and opens nothing before its first call (it looks whether a configuration that was named
is there), and lets go of everything when it is closed, collected, or the interpreter ends.
Rule 2: `Client` is for threads, any number of them; `AsyncClient` for event loops, one after the other or at once.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import weakref
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Never, Self, overload

from counterfoil.driver.blocking import BlockingRun
from counterfoil.driver.pull import LoopDrivers, PullRun
from counterfoil.driver.written import nearest
from counterfoil.ledger.entry import Entry
from counterfoil.sdk.core import Core, Prepared
from counterfoil.sdk.form import CHAT, EMBEDDINGS
from counterfoil.sdk.meter import Meter, meter
from counterfoil.sdk.options import read_options
from counterfoil.sdk.reply import ChatCompletion, EmbeddingResponse
from counterfoil.sdk.stream import AsyncStream, Stream, read_whole
from counterfoil.transport.blocking import BlockingTransport
from counterfoil.transport.pooled import PooledTransport

__all__ = [
    "AsyncChat",
    "AsyncClient",
    "AsyncCompletions",
    "AsyncEmbeddings",
    "Chat",
    "Client",
    "Completions",
    "Embeddings",
]

_Path = str | os.PathLike[str]


class _Settings:
    """What both clients are made of."""

    def __init__(
        self,
        config: _Path | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        region: str | None = None,
        project: str | None = None,
        ledger: _Path | None = None,
        max_retries: int | None = None,
        timeout: float | None = None,
        fallbacks: Iterable[str | Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
        drop: bool = False,
        tags: Iterable[str] = (),
        **unknown: Never,
    ) -> None:
        """Everything is optional, and a call can say it anew.

        `config`: a configuration file of the gateway's form, whose routes can be asked for; `base_url`: a running
        gateway or any OpenAI-compatible server; `api_key`: its key, or the secret of the provider a call names;
        `region` and `project`: where in a cloud, for providers that are in one (Bedrock, Vertex); `ledger`: the SQLite
        file that keeps the entries, else they are in `entries`; `max_retries`: how often a failed attempt is made again
        at one place (2, or what a configured route says); `timeout`: seconds for a whole reply, of a stream for its
        first bytes and each silence; `fallbacks`: models to go on to, in order; `headers`: sent with every request;
        `drop`: leave out (and name in `reply.dropped`) what a provider's dialect cannot say; `tags`: written into every
        entry. Raises BadRequestError for an option that cannot be, ConfigurationError for a `config` that is not there.
        """
        for name in unknown:
            known = list(inspect.signature(type(self)).parameters)[:-1]
            raise TypeError(f"{type(self).__name__}() has no argument {name!r}{nearest(name, known)}")
        options, _ = read_options(
            {
                "base_url": base_url,
                "api_key": api_key,
                "region": region,
                "project": project,
                "max_retries": max_retries,
                "timeout": timeout,
                "fallbacks": tuple(fallbacks) or None,
                "extra_headers": headers,
                "drop": drop or None,
                "tags": tuple(tags) or None,
            }
        )
        self._core = Core(options, config=config, ledger=ledger)
        self._start()

    def _start(self) -> None:
        """Make what drives the calls."""
        raise NotImplementedError

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The newest 1000 entries, oldest first, where no ledger is named; with a ledger they are there."""
        return self._core.entries

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until the ledger's database has every entry closed before; False when it took longer (seconds)."""
        return self._core.flush(timeout)

    def meter(self) -> Meter:
        """`counterfoil.meter()`: it counts the calls of every client made inside it."""
        return meter()


class Client(_Settings):
    """Calls models from threads, which may share it. A context manager; `client.chat.completions.create(...)`."""

    def _start(self) -> None:
        self._transport = BlockingTransport()
        self._runs = _Runs()
        self._finalizer = weakref.finalize(self, _shut, self._core, self._transport, self._runs)

    @property
    def chat(self) -> Chat:
        """Where `completions` is."""
        return Chat(self)

    @property
    def embeddings(self) -> Embeddings:
        """Where `create` is, for vectors."""
        return Embeddings(self)

    def close(self) -> None:
        """End what is open, let go of connections, and shut the ledger. A call after this opens what it needs again."""
        _shut(self._core, self._transport, self._runs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(
        self, model: str, messages: Sequence[Any], stream: bool, params: Mapping[str, object]
    ) -> ChatCompletion | Stream:
        """One call: its reply or its stream. Use `chat.completions.create`."""
        prepared = self._core.prepare(CHAT, model, messages, stream, params)
        run = self._run(prepared)
        try:
            begun = run.begin()
            if prepared.streamed and begun is not None and begun.status < 300:
                return Stream(prepared, begun, run, self)
            body = b"".join(run)
        except BaseException:
            run.close()
            raise
        return read_whole(ChatCompletion, prepared, begun, body, run.outcome)

    def embed(self, model: str, inputs: object, params: Mapping[str, object]) -> EmbeddingResponse:
        """The vectors of `inputs`. Use `embeddings.create`."""
        prepared = self._core.prepare(EMBEDDINGS, model, inputs, False, params)
        run = self._run(prepared)
        try:
            begun = run.begin()
            body = b"".join(run)
        except BaseException:
            run.close()
            raise
        return read_whole(EmbeddingResponse, prepared, begun, body, run.outcome)

    def _run(self, prepared: Prepared) -> BlockingRun:
        core = self._core
        run = BlockingRun(
            prepared.call, core.context, core.books, self._transport, core.reveal, core.embedded, core.credentials
        )
        self._runs.add(run)
        return run


class AsyncClient(_Settings):
    """Calls models from event loops, one after the other or at once.

    An asynchronous context manager; `await client.chat.completions.create(...)`.
    """

    def _start(self) -> None:
        core = self._core
        self._drivers = LoopDrivers(PooledTransport(), core.books, core.reveal, core.embedded_async, core.credentials)
        self._finalizer = weakref.finalize(self, self._core.close)

    @property
    def chat(self) -> AsyncChat:
        """Where `completions` is."""
        return AsyncChat(self)

    @property
    def embeddings(self) -> AsyncEmbeddings:
        """Where `create` is, for vectors."""
        return AsyncEmbeddings(self)

    async def aclose(self) -> None:
        """End what is open on this loop, let go of its connections, and shut the ledger.

        A call after this opens what it needs again.
        """
        await self._drivers.close()
        await asyncio.to_thread(self._core.close)

    async def close(self) -> None:
        """`aclose()`, by another name."""
        await self.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def call(
        self, model: str, messages: Sequence[Any], stream: bool, params: Mapping[str, object]
    ) -> ChatCompletion | AsyncStream:
        """One call: its reply or its stream. Use `chat.completions.create`."""
        await self._ready()
        prepared = self._core.prepare(CHAT, model, messages, stream, params)
        run = PullRun(self._drivers.current(), prepared.call, self._core.context)
        try:
            begun = await run.begin()
            if prepared.streamed and begun is not None and begun.status < 300:
                return AsyncStream(prepared, begun, run, self)
            body = b"".join([data async for data in run])
        except BaseException:
            await run.aclose()
            raise
        return read_whole(ChatCompletion, prepared, begun, body, run.outcome)

    async def embed(self, model: str, inputs: object, params: Mapping[str, object]) -> EmbeddingResponse:
        """The vectors of `inputs`. Use `embeddings.create`."""
        await self._ready()
        prepared = self._core.prepare(EMBEDDINGS, model, inputs, False, params)
        run = PullRun(self._drivers.current(), prepared.call, self._core.context)
        try:
            begun = await run.begin()
            body = b"".join([data async for data in run])
        except BaseException:
            await run.aclose()
            raise
        return read_whole(EmbeddingResponse, prepared, begun, body, run.outcome)

    async def _ready(self) -> None:
        if not self._core.is_ready:
            await asyncio.to_thread(self._core.ready)


class Completions:
    """`client.chat.completions`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @overload
    def create(
        self, *, model: str, messages: Sequence[Any], stream: Literal[False] = False, **params: object
    ) -> ChatCompletion: ...
    @overload
    def create(self, *, model: str, messages: Sequence[Any], stream: Literal[True], **params: object) -> Stream: ...
    @overload
    def create(
        self, *, model: str, messages: Sequence[Any], stream: bool | None, **params: object
    ) -> ChatCompletion | Stream: ...
    def create(
        self, *, model: str, messages: Sequence[Any], stream: bool | None = False, **params: object
    ) -> ChatCompletion | Stream:
        """Ask a model.

        `params`: every field of OpenAI's chat request, and ours: `api_key`, `base_url` (or `api_base`),
        `custom_llm_provider`, `region`, `project`, `timeout`, `max_retries`, `fallbacks`, `extra_headers`,
        `extra_query`, `extra_body`, `tags`, `drop`. Raises counterfoil.Error.
        """
        return self._client.call(model, messages, bool(stream), params)


class AsyncCompletions:
    """`client.chat.completions` of an AsyncClient."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @overload
    def create(
        self, *, model: str, messages: Sequence[Any], stream: Literal[False] = False, **params: object
    ) -> Coroutine[Any, Any, ChatCompletion]: ...
    @overload
    def create(
        self, *, model: str, messages: Sequence[Any], stream: Literal[True], **params: object
    ) -> Coroutine[Any, Any, AsyncStream]: ...
    @overload
    def create(
        self, *, model: str, messages: Sequence[Any], stream: bool | None, **params: object
    ) -> Coroutine[Any, Any, ChatCompletion | AsyncStream]: ...
    def create(
        self, *, model: str, messages: Sequence[Any], stream: bool | None = False, **params: object
    ) -> Coroutine[Any, Any, Any]:
        """Ask a model; as `Completions.create`, to be awaited."""
        return self._client.call(model, messages, bool(stream), params)


class Chat:
    """`client.chat`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def completions(self) -> Completions:
        """Where `create` is."""
        return Completions(self._client)


class AsyncChat:
    """`client.chat` of an AsyncClient."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @property
    def completions(self) -> AsyncCompletions:
        """Where `create` is."""
        return AsyncCompletions(self._client)


class Embeddings:
    """`client.embeddings`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, *, model: str, input: object, **params: object) -> EmbeddingResponse:  # noqa: A002 - OpenAI's name
        """The vectors of a text, of a list of texts, or of tokens.

        `params`: every field of OpenAI's embeddings request (`dimensions`, `encoding_format`, `user`), and ours as
        `chat.completions.create` has them. Raises counterfoil.Error.
        """
        return self._client.embed(model, input, params)


class AsyncEmbeddings:
    """`client.embeddings` of an AsyncClient."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def create(
        self,
        *,
        model: str,
        input: object,  # noqa: A002 - OpenAI's name
        **params: object,
    ) -> Coroutine[Any, Any, EmbeddingResponse]:
        """The vectors of a text or of several; as `Embeddings.create`, to be awaited."""
        return self._client.embed(model, input, params)


class _Runs:
    """The calls of a client that may still be open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[BlockingRun] = weakref.WeakSet()

    def add(self, run: BlockingRun) -> None:
        with self._lock:
            self._open.add(run)

    def end(self) -> None:
        """Close each, without waiting for a thread that reads at this moment: losing its connection ends that."""
        with self._lock:
            runs = tuple(self._open)
            self._open.clear()
        for run in runs:
            run.close(wait=False)


def _shut(core: Core, transport: BlockingTransport, runs: _Runs) -> None:
    runs.end()
    transport.close()
    core.close()
