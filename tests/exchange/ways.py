"""One exchange, three ways to run it against a provider: pushed (the gateway's), pulled on a loop, pulled in a thread.

The clock is real, since deadlines are; ids and the time of day are not, so that what comes out can be compared.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from counterfoil.config import Limits
from counterfoil.driver.blocking import BlockingRun
from counterfoil.driver.drive import Driver
from counterfoil.driver.pull import PullRun
from counterfoil.exchange.call import Call, Context
from counterfoil.exchange.command import Outcome
from counterfoil.ledger.entry import Entry, Exit, Opening, Progress
from counterfoil.ledger.store import BooksUnavailable
from counterfoil.transport.blocking import BlockingTransport
from counterfoil.transport.credential import Credentials
from counterfoil.transport.http import AiohttpTransport
from counterfoil.transport.pooled import PooledTransport
from counterfoil.transport.transport import Transport
from tests.exchange.world import price_by_count

__all__ = ["SECONDS", "WAYS", "Ledger", "Seen", "Way", "context", "reveal"]

SECONDS = 20.0
"""Bounds every run."""


@dataclass
class Ledger:
    """Books that check their own law: opened once, closed once, in that order."""

    full: bool = False
    opened: list[str] = field(default_factory=list)
    closed: list[Entry] = field(default_factory=list)
    notes: list[Progress] = field(default_factory=list)

    def open(self, opening: Opening) -> None:
        if self.full:
            raise BooksUnavailable("no room")
        assert opening.attempt not in self.opened
        self.opened.append(opening.attempt)

    def progress(self, progress: Progress) -> None:
        assert progress.attempt not in [entry.opening.attempt for entry in self.closed], "noted after its close"
        self.notes.append(progress)

    def close(self, entry: Entry) -> None:
        assert entry.opening.attempt in self.opened
        assert entry.opening.attempt not in [closed.opening.attempt for closed in self.closed], "closed twice"
        self.closed.append(entry)

    @property
    def exits(self) -> list[Exit]:
        assert sorted(self.opened) == sorted(entry.opening.attempt for entry in self.closed), "an entry was left open"
        return [entry.exit for entry in self.closed]


@dataclass
class Seen:
    """What the client saw and what was written down."""

    status: int | None
    headers: Mapping[str, str]
    data: bytes
    entries: list[Entry]
    outcome: Outcome | None


class Way(Protocol):
    """Makes a call. `until`: what has come when the client hangs up."""

    def __call__(
        self, call: Call, books: Ledger, until: bytes | None, credentials: Credentials | None = None
    ) -> Seen: ...


def context() -> Context:
    """Real time for deadlines; all else the same in every run."""
    ids = itertools.count()
    return Context(
        clock=time.monotonic,
        wall=lambda: 1_700_000_000.0,
        new_id=lambda: f"attempt-{next(ids)}",
        jitter=lambda: 0.0,
        price=price_by_count,
        limits=Limits(),
        learned=set(),
    )


def reveal(name: str) -> str | None:
    return {"play-secret": "sesame", "long-secret": "zk-live-sesame"}.get(name)


def _timeless(entries: list[Entry]) -> list[Entry]:
    return [msgspec.structs.replace(entry, first_byte_ms=None, total_ms=None) for entry in entries]


def _seen(status: int | None, headers: Mapping[str, str], data: bytes, books: Ledger, outcome: Outcome | None) -> Seen:
    assert books.exits is not None  # checks that none was left open
    if outcome is not None:
        assert [entry.opening.attempt for entry in outcome.entries] == [one.opening.attempt for one in books.closed]
        outcome = msgspec.structs.replace(outcome, entries=())
    return Seen(status, headers, data, _timeless(books.closed), outcome)


def push(call: Call, books: Ledger, until: bytes | None, credentials: Credentials | None = None) -> Seen:
    """The gateway's way; at `until` the client hangs up."""

    class Listening:
        def __init__(self) -> None:
            self.status: int | None = None
            self.headers: Mapping[str, str] = {}
            self.data = b""
            self.hang_up: Callable[[], None] = lambda: None

        async def start(self, status: int, headers: Mapping[str, str]) -> None:
            self.status, self.headers = status, headers

        async def send(self, data: bytes, *, last: bool) -> None:
            self.data += data
            if until is not None and until in self.data and not last:
                asyncio.get_running_loop().call_soon(self.hang_up)
                await asyncio.Event().wait()

    async def run() -> Seen:
        driver = Driver(AiohttpTransport(), books, reveal, credentials=credentials)
        client = Listening()
        driven = driver.run(call, context(), client)
        client.hang_up = lambda: driven.interrupt(Exit.CLIENT_GONE)
        async with asyncio.timeout(SECONDS):
            outcome = await driven.wait()
        await driver.close()
        return _seen(client.status, client.headers, client.data, books, outcome)

    return asyncio.run(run())


def _pull_with(transport: Callable[[], Transport]) -> Way:
    def pull(call: Call, books: Ledger, until: bytes | None, credentials: Credentials | None = None) -> Seen:
        async def run() -> Seen:
            driver = Driver(transport(), books, reveal, credentials=credentials)
            data = b""
            async with asyncio.timeout(SECONDS), PullRun(driver, call, context()) as pulled:
                begun = await pulled.begin()
                async for piece in pulled:
                    data += piece
                    if until is not None and until in data:
                        break
            await driver.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"
            outcome = pulled.outcome
            if begun is None:
                return _seen(None, {}, data, books, outcome)
            return _seen(begun.status, begun.headers, data, books, outcome)

        return asyncio.run(run())

    return pull


def block(call: Call, books: Ledger, until: bytes | None, credentials: Credentials | None = None) -> Seen:
    """In this thread."""
    transport = BlockingTransport()
    data = b""
    with BlockingRun(call, context(), books, transport, reveal, credentials=credentials) as run:
        begun = run.begin()
        for piece in run:
            data += piece
            if until is not None and until in data:
                break
    transport.close()
    if begun is None:
        return _seen(None, {}, data, books, run.outcome)
    return _seen(begun.status, begun.headers, data, books, run.outcome)


WAYS: Mapping[str, Way] = {
    "pushed with aiohttp": push,
    "pulled with aiohttp": _pull_with(AiohttpTransport),
    "pulled with httpcore": _pull_with(PooledTransport),
    "in a thread": block,
}
