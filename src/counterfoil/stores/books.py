"""The books of one gateway process: journal first, database soon after.

Rule 1: what `open`, `progress` and `close` return from cannot be lost by `kill -9`.
Rule 2: the journal is what is true until the database has it. Nothing leaves the journal before.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from counterfoil.ledger.entry import Entry, Opening, Progress
from counterfoil.stores.health import HEALTHY, Health
from counterfoil.stores.journal import Journal, JournalSettings
from counterfoil.stores.projection import LedgerStore
from counterfoil.stores.replay import Pricing, Replayed, replay
from counterfoil.stores.sqlite import SqliteStore
from counterfoil.stores.writer import Writer

__all__ = ["LedgerBooks", "journal_directory", "open_books"]


def journal_directory(database: Path) -> Path:
    """Where the journals of a ledger database are: beside it."""
    return database.with_name(database.name + ".journals")


def open_books(database: Path, pricing: Pricing, settings: JournalSettings | None = None) -> LedgerBooks:
    """The books kept in the SQLite file `database` and the journals beside it; both are made if missing.

    What dead processes left is put into the database first; see `LedgerBooks.replayed`. `pricing` prices the lines of
    attempts found open. Raises LedgerUnusable, sqlite3.Error and OSError.
    """
    store = SqliteStore(database)
    try:
        return LedgerBooks(journal_directory(database), store, pricing, settings)
    except BaseException:
        store.close()
        raise


class LedgerBooks:
    """`Books` on a journal and a store. Threads may share it; each process has its own.

    `store` belongs to the books from here on: `shut` closes it.
    """

    def __init__(
        self,
        directory: Path,
        store: LedgerStore,
        pricing: Pricing,
        settings: JournalSettings | None = None,
        *,
        queue_limit: int = 20_000,
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        self.directory = directory
        self.store = store
        self.replayed = Replayed()
        """What the start found."""
        self._pricing = pricing
        self._lock = threading.Lock()
        self._waiting: dict[str, None] = {}
        self._shut = False
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        again = None
        try:
            self.replay()
        except (sqlite3.Error, OSError):
            # A full disk must not keep the gateway from starting: it starts red, and this is tried until it works.
            again = self._replay_again
        self._journal = Journal(directory, settings, write=write)
        self._writer = Writer(store, self._committed, self._fetch, first=again, queue_limit=queue_limit)

    def open(self, opening: Opening) -> None:
        """Write an opening down, before the upstream call. Raises BooksUnavailable; then nothing may be sent."""
        self._journal.open(opening)

    def progress(self, progress: Progress) -> None:
        """What a running attempt amounts to so far. Never raises."""
        self._journal.progress(progress)

    def close(self, entry: Entry) -> None:
        """Write an entry down, exactly once an attempt. Never raises: a failure turns health red."""
        self._write(entry)

    def correct(self, correction: Entry) -> None:
        """Write down what has to be added to an entry written before. Never raises, as `close`."""
        self._write(correction)

    def health(self) -> Health:
        """Green, or red with every reason. Cheap."""
        red = [health.reason or "" for health in (self._journal.health(), self._writer.health()) if not health.ok]
        return Health(False, "; ".join(red)) if red else HEALTHY

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until every entry closed before is in the database; False when it took longer than `timeout` seconds."""
        return self._writer.flush(timeout)

    def replay(self) -> Replayed:
        """Put what dead processes left into the store. Done at the start; may be done at any time, by any thread.

        Raises what the store raises, and OSError.
        """
        found = replay(self.directory, self.store, self._pricing, self.store.sync)
        with self._lock:
            self.replayed += found
        return found

    def shut(self, timeout: float = 10.0) -> bool:
        """Flush, leave the journal, close the store. Whether everything reached the database.

        False: what did not is in the journal, and the next start finds it. Attempts still open will be `crashed`.
        """
        with self._lock:
            if self._shut:
                return True
            self._shut = True
        done = self._writer.stop(timeout)
        try:
            self._journal.shut(self.store.sync)
        except (sqlite3.Error, OSError):
            done = False
        self.store.close()
        return done

    def _write(self, entry: Entry) -> None:
        entry = self._journal.close(entry)
        if not self._writer.offer(entry):
            with self._lock:
                self._waiting[entry.opening.attempt] = None
            self._writer.fetch_soon()

    def _replay_again(self) -> None:
        self.replay()

    def _committed(self, attempts: Sequence[str]) -> None:
        self._journal.committed(attempts)
        with self._lock:
            for attempt in attempts:
                self._waiting.pop(attempt, None)
        self._journal.sweep(self.store.sync)

    def _fetch(self, limit: int) -> list[Entry]:
        with self._lock:
            wanted = list(islice(self._waiting, limit))
        return self._journal.entries(wanted) if wanted else []
