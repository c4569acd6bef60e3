"""The books of a program that calls in process: the ledger it names, or a bounded list in memory.

Rule 1: every call has an entry. Without a ledger the newest are kept here and older ones let go of.
Rule 2: whoever waits for a call's entries is told of each, in the thread that closes it, before the reply's last bytes.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

from counterfoil.ledger.entry import Entry, Opening, Progress
from counterfoil.ledger.store import Books

__all__ = ["KEPT", "Collector", "ProcessBooks", "Watch", "WatchedBooks"]

KEPT: Final = 1_000
"""Entries kept in memory where no ledger is named."""


class Collector(Protocol):
    """Who is told of entries: a meter."""

    def add(self, entry: Entry) -> None:
        """One more. From any thread."""
        ...


class Watch:
    """The entries of one call, as they are closed, and the meters it counts in."""

    def __init__(self, meters: Iterable[Collector] = ()) -> None:
        self.entries: list[Entry] = []
        self._meters = tuple(meters)

    @property
    def last(self) -> Entry | None:
        """The entry of the last attempt that has ended."""
        return self.entries[-1] if self.entries else None

    def tell(self, entry: Entry) -> None:
        """One attempt has ended."""
        self.entries.append(entry)
        for meter in self._meters:
            meter.add(entry)


class ProcessBooks:
    """`Books` in memory. Threads may share it."""

    def __init__(self, kept: int = KEPT) -> None:
        self._entries: deque[Entry] = deque(maxlen=kept)

    def open(self, opening: Opening) -> None:
        """Nothing to write before the call: what dies with the process is not kept here."""

    def progress(self, progress: Progress) -> None:
        """Nothing to note."""

    def close(self, entry: Entry) -> None:
        """Keep the entry, and let go of the oldest when there are too many."""
        self._entries.append(entry)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The newest entries, oldest first."""
        return tuple(self._entries.copy())


class WatchedBooks:
    """`Books` that also tell whoever waits for an exchange's entries. Threads may share it."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._waiting: weakref.WeakValueDictionary[str, Watch] = weakref.WeakValueDictionary()
        self._ended = threading.Condition()
        self._open: dict[str, Watch] = {}
        """By attempt: held until its entry is closed, also when nobody waits for the reply any more."""

    def use(self, books: Books) -> None:
        """Write into other books from now on."""
        self._books = books

    def forked(self, books: Books) -> None:
        """In a child process: what is open is the parent's, and a thread of it may have held the lock."""
        self._books, self._open, self._ended = books, {}, threading.Condition()
        self._waiting = weakref.WeakValueDictionary()

    def watch(self, exchange: str, watch: Watch) -> None:
        """Tell `watch` of every entry of this exchange for as long as somebody holds it."""
        self._waiting[exchange] = watch

    def open(self, opening: Opening) -> None:
        """Write an opening down. Raises BooksUnavailable."""
        self._books.open(opening)
        watch = self._waiting.get(opening.exchange)
        if watch is not None:
            self._open[opening.attempt] = watch

    def progress(self, progress: Progress) -> None:
        """Note what an attempt amounts to so far."""
        self._books.progress(progress)

    def close(self, entry: Entry) -> None:
        """Write an entry down, then tell of it."""
        self._books.close(entry)
        watch = self._open.get(entry.opening.attempt)
        if watch is None:
            return
        watch.tell(entry)
        with self._ended:
            self._open.pop(entry.opening.attempt, None)
            self._ended.notify_all()

    def idle(self, timeout: float) -> bool:
        """Wait until no attempt is open; False when that took longer than `timeout` seconds."""
        with self._ended:
            return self._ended.wait_for(lambda: not self._open, timeout)
