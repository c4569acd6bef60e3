"""Pulling a reply on an event loop: `driver/drive.py` pushes to a client, and this is a client that is iterated.

Rule 1: the same surface as `driver/blocking.py`, the same bytes, the same entries.
Rule 2: nothing is read ahead: the exchange goes on when the next bytes are asked for.
Rule 3: however the caller stops (`aclose`, a cancelled task, a forgotten run), the entry is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import warnings
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Self

from counterfoil.driver.drive import Driver, Embedded, Run
from counterfoil.driver.sending import Begun
from counterfoil.exchange.call import Call, Context
from counterfoil.exchange.command import Outcome
from counterfoil.ledger.entry import Exit
from counterfoil.ledger.store import Books
from counterfoil.transport.credential import Credentials
from counterfoil.transport.transport import Transport

__all__ = ["LoopDrivers", "PullRun"]


class LoopDrivers:
    """A driver for each event loop that asks for one, all with the same transport and books."""

    def __init__(
        self,
        transport: Transport,
        books: Books,
        reveal: Callable[[str], str | None],
        embedded: Embedded | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self._transport = transport
        self._books = books
        self._reveal = reveal
        self._embedded = embedded
        self._credentials = credentials
        self._process = os.getpid()
        self._drivers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Driver] = weakref.WeakKeyDictionary()

    def current(self) -> Driver:
        """The running loop's driver."""
        if self._process != os.getpid():
            self._process, self._drivers = os.getpid(), weakref.WeakKeyDictionary()
        loop = asyncio.get_running_loop()
        driver = self._drivers.get(loop)
        if driver is None:
            driver = Driver(self._transport, self._books, self._reveal, self._embedded, self._credentials)
            self._drivers[loop] = driver
        return driver

    async def close(self) -> None:
        """Interrupt what runs on this loop, and drop the connections that it opened."""
        driver = self._drivers.pop(asyncio.get_running_loop(), None)
        if driver is not None:
            driver.interrupt_all(Exit.CLIENT_GONE)
            await driver.close()
        else:
            await self._transport.close()


class PullRun:
    """One exchange, pulled. Its reply's bytes are what iterating gives. Use from one task of the driver's loop.

    A caller that stops before the end is a client that hung up, also when its task is cancelled. A run that is
    forgotten is closed on its loop, with a ResourceWarning.
    """

    def __init__(self, driver: Driver, call: Call, context: Context) -> None:
        self._handover = _Handover()
        self._run = driver.run(call, context, self._handover)
        self._task: asyncio.Task[None] | None = None
        self._ahead: bytes | None = None

    async def begin(self) -> Begun | None:
        """Run until the reply's head and first bytes are there. None: closed before there was a reply."""
        if self._handover.begun is None:
            self._ahead = await self._pull()
        return self._handover.begun

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        ahead, self._ahead = self._ahead, None
        data = await self._pull() if ahead is None else ahead
        if data is None:
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        """The rest is not wanted: stop the provider and close the entry. Safe to call twice, and after the end.

        Cancelled meanwhile, it shortens what is still waited for (a last usage, a drain) and raises when it is done.
        """
        self._ahead = None
        task = self._task
        if task is None:
            self._run.outcome = self._run.outcome or Outcome()
            self._handover.end()
            return
        self._handover.stop(self._run)
        cancelled = False
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                cancelled = True
                self._run.interrupt(Exit.CLIENT_GONE)
        if cancelled:
            raise asyncio.CancelledError

    @property
    def outcome(self) -> Outcome | None:
        """How the exchange ended; None while it has not."""
        return self._run.outcome

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _pull(self) -> bytes | None:
        if self._task is None and not self._handover.over:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(_work(self._run, self._handover))
            weakref.finalize(self, _forgotten, loop, self._run, self._handover).atexit = False
        try:
            data = await self._handover.take()
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if data is None and self._task is not None:
            await asyncio.wait({self._task})
            if not self._task.cancelled() and (error := self._task.exception()) is not None:
                raise error
        return data


class _Handover:
    """The driver's client: bytes go from hand to hand."""

    def __init__(self) -> None:
        self.begun: Begun | None = None
        self.over = False
        self.started = False
        self._stopped = False
        self._items: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._wanted = asyncio.Event()

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        self.begun = Begun(status, headers)

    async def send(self, data: bytes, *, last: bool) -> None:
        if self._stopped or not data:
            return
        self._items.append(data)
        self._arrived.set()
        if not last:
            self._wanted.clear()
            await self._wanted.wait()

    async def take(self) -> bytes | None:
        """The next bytes; None at the end. What was given before is answered by this."""
        while not self._items:
            if self.over:
                return None
            self._arrived.clear()
            self._wanted.set()
            await self._arrived.wait()
        return self._items.popleft()

    def stop(self, run: Run) -> None:
        """The client is gone."""
        again, self._stopped = self._stopped, True
        self._items.clear()
        if self.over or again:
            return
        if self.started:
            run.interrupt(Exit.CLIENT_GONE)
        else:
            run.interrupt_first(Exit.CLIENT_GONE)

    def end(self) -> None:
        self.over = True
        self._arrived.set()


async def _work(run: Run, handover: _Handover) -> None:
    handover.started = True
    try:
        await run.wait()
    finally:
        handover.end()


def _forgotten(loop: asyncio.AbstractEventLoop, run: Run, handover: _Handover) -> None:
    if handover.over:
        return
    with contextlib.suppress(RuntimeError):  # the loop is closed, and has cancelled its tasks
        loop.call_soon_threadsafe(handover.stop, run)
    warnings.warn("a reply was forgotten before its end: close it, or use `async with`", ResourceWarning, stacklevel=2)
