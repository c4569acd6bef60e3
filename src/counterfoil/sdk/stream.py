"""Streamed replies: iterators of chunks that can be left at any time, and still say what they used.

Rule 1: bytes to chunks is one piece of code (`Chunks`); the two streams differ only in how they wait for bytes.
Rule 2: what came is given before what went wrong is raised.
Rule 3: a stream that is closed has its entry, however it came to be closed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

import msgspec

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.exchange.command import Outcome
from counterfoil.framing.frame import FrameTooLarge
from counterfoil.framing.sse import SseFraming
from counterfoil.ledger.entry import Entry
from counterfoil.sdk.core import Prepared
from counterfoil.sdk.errors import APIError, error_of
from counterfoil.sdk.reply import Booked, ChatCompletionChunk, UsageNode, cost_of, usage_node

if TYPE_CHECKING:
    from counterfoil.driver.blocking import BlockingRun
    from counterfoil.driver.pull import PullRun
    from counterfoil.driver.sending import Begun

__all__ = ["AsyncStream", "Chunks", "Stream", "failed", "read_whole"]

_DROPPED: Final = "x-counterfoil-dropped"
_FRAME: Final = 64 << 20
"""The largest frame taken, in bytes: the exchange has bounded the provider's already."""
_END: Final = b"[DONE]"
_decode: Final = msgspec.json.Decoder().decode


class Chunks:
    """What both streams know: the reply's chunks as they become whole, and its place in the books."""

    def __init__(self, prepared: Prepared, begun: Begun) -> None:
        self._framing = SseFraming(_FRAME)
        self._waiting: deque[ChatCompletionChunk] = deque()
        self._watch = prepared.watch
        self._raised = False
        self.model = prepared.model
        """The name that was asked for."""
        self.exchange = prepared.call.exchange
        """The id of the call, the same in all its entries."""
        self.dropped = dropped_of(begun)
        """Request fields that the provider's dialect could not say and that `drop=True` left out."""

    @property
    def entry(self) -> Entry | None:
        """The ledger's entry; None while the stream is open."""
        return self._watch.last

    @property
    def entries(self) -> tuple[Entry, ...]:
        """One for each attempt of this call that has ended, the last one last."""
        return tuple(self._watch.entries)

    @property
    def usage(self) -> UsageNode | None:
        """OpenAI's usage object, asked for or not; None while the stream is open, or when nobody knows."""
        entry = self.entry
        return None if entry is None else usage_node(entry)

    @property
    def cost(self) -> Decimal | None:
        """US dollars, exact; None while the stream is open, or when there is no known price."""
        return cost_of(self.entry)

    def _take(self) -> ChatCompletionChunk | None:
        return self._waiting.popleft() if self._waiting else None

    def _feed(self, data: bytes) -> None:
        try:
            frames = self._framing.feed(data)
        except FrameTooLarge:  # not possible, since no frame is larger than a reply may be
            return
        for frame in frames:
            if frame.comment or frame.data == _END:
                continue
            said = _decode(frame.data)
            if "error" in said and "choices" not in said:  # the outcome tells it, and more of it
                continue
            chunk = ChatCompletionChunk(said)
            if said.get("usage") is not None:
                chunk.book(self._watch.last, self.exchange, self.dropped)
            self._waiting.append(chunk)

    def _check(self, outcome: Outcome | None) -> None:
        """Raise what went wrong, once."""
        if self._raised or outcome is None or outcome.failure is None:
            return
        self._raised = True
        raise failed(outcome, self.model)


class Stream(Chunks):
    """A streamed reply. Iterate it; leave it with `close()` or `with`. Use from one thread at a time.

    A loop that was left can be gone on with by another one. Whoever asks for `entry`, `usage` or `cost` after leaving a
    loop closes the stream: the provider is stopped, and the books have what was delivered.
    """

    def __init__(self, prepared: Prepared, begun: Begun, run: BlockingRun, client: object) -> None:
        super().__init__(prepared, begun)
        self._run = run
        self._client = client  # which would close what it opened when it is forgotten
        self._left = False
        self._closed = False

    def __iter__(self) -> Iterator[ChatCompletionChunk]:
        self._left = False
        try:
            while True:
                try:
                    chunk = next(self)
                except StopIteration:
                    return
                yield chunk
        except GeneratorExit:
            self._left = True
            raise

    def __next__(self) -> ChatCompletionChunk:
        while (chunk := self._take()) is None:
            data = None if self._closed else next(self._run, None)
            if data is None:
                self._closed = True
                self._check(self._run.outcome)
                raise StopIteration
            self._feed(data)
        return chunk

    @property
    def entry(self) -> Entry | None:
        """The ledger's entry; None while the stream is being read."""
        if self._left and not self._closed:
            self.close()
        return super().entry

    def close(self) -> None:
        """Stop the provider and close the entry. Safe to call twice, and after the end."""
        self._closed = True
        self._waiting.clear()
        self._run.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncStream(Chunks):
    """A streamed reply on an event loop. Iterate it; leave it with `await aclose()` or `async with`.

    A task that is cancelled while it waits for a chunk closes the stream.
    """

    def __init__(self, prepared: Prepared, begun: Begun, run: PullRun, client: object) -> None:
        super().__init__(prepared, begun)
        self._run = run
        self._client = client  # which would close what it opened when it is forgotten
        self._closed = False

    def __aiter__(self) -> AsyncIterator[ChatCompletionChunk]:
        return self

    async def __anext__(self) -> ChatCompletionChunk:
        while (chunk := self._take()) is None:
            data = None
            if not self._closed:
                try:
                    data = await anext(self._run, None)
                except asyncio.CancelledError:
                    self._closed = True
                    raise
            if data is None:
                self._closed = True
                self._check(self._run.outcome)
                raise StopAsyncIteration
            self._feed(data)
        return chunk

    async def aclose(self) -> None:
        """Stop the provider and wait for the entry. Safe to call twice, and after the end."""
        self._closed = True
        self._waiting.clear()
        await self._run.aclose()

    async def close(self) -> None:
        """`aclose()`, by another name."""
        await self.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


_Reply = TypeVar("_Reply", bound=Booked)


def read_whole(
    kind: type[_Reply], prepared: Prepared, begun: Begun | None, body: bytes, outcome: Outcome | None
) -> _Reply:
    """The reply of a call that was not streamed. Raises the error it ended in."""
    if begun is None or outcome is None or outcome.failure is not None:
        raise failed(outcome, prepared.model)
    reply = kind(_decode(body))
    reply.book(prepared.watch.last, prepared.call.exchange, dropped_of(begun))
    return reply


def failed(outcome: Outcome | None, model: str) -> APIError:
    """The error a call ended in, ready to be raised."""
    failure = None if outcome is None else outcome.failure
    if failure is None:
        failure = Failure(FailureKind.CONNECTION, "The call was closed before there was a reply.", Fault.CLIENT, 499)
    entry = outcome.entries[-1] if outcome is not None and outcome.entries else None
    error = error_of(failure, model=model, entry=entry)
    if outcome is not None and outcome.defects:
        error.__cause__ = outcome.defects[0]
    return error


def dropped_of(begun: Begun) -> tuple[str, ...]:
    """What could not be carried to the provider, by the header that says so."""
    return tuple(name for name in begun.headers.get(_DROPPED, "").split(", ") if name)
