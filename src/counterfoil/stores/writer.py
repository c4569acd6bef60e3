"""The database's writer: one thread that commits closed entries in groups.

Rule 1: an entry offered is committed, or is still in the journal. It is never dropped from both.
Rule 2: the caller never waits. When the queue is full the offer is declined, and the entry is fetched from the journal
when there is room again.
Rule 3: a database that cannot be written turns health red and is tried again, less and less often, for ever.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from counterfoil.ledger.entry import Entry
from counterfoil.ledger.store import EntryStore
from counterfoil.stores.append import append_all
from counterfoil.stores.health import HEALTHY, Health

__all__ = ["Writer"]

_GATHER_ROWS: Final = 100
_GATHER_SECONDS: Final = 0.05
_LARGEST_BATCH: Final = 1000
_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 5.0


class Writer:
    """Commits what is offered to `store`, on a thread of its own.

    `committed` is called there with the attempts of each commit. `fetch(limit)` gives entries that were declined and
    are still to be written, empty when there are none. `first` runs there before anything else, until it does not
    raise. All three may raise OSError or the database's errors, and are then called again.
    """

    def __init__(
        self,
        store: EntryStore,
        committed: Callable[[Sequence[str]], None],
        fetch: Callable[[int], Sequence[Entry]] = lambda _: (),
        *,
        first: Callable[[], None] | None = None,
        queue_limit: int = 20_000,
    ) -> None:
        self._store = store
        self._committed = committed
        self._fetch = fetch
        self._first = first
        self._limit = queue_limit
        self._changed = threading.Condition()
        self._queue: deque[Entry] = deque()
        self._busy = True
        self._declined = False
        self._hurry = False
        self._stopping = False
        self._fault: str | None = None
        self._refused: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="counterfoil-ledger", daemon=True)
        self._thread.start()

    def offer(self, entry: Entry) -> bool:
        """Whether the entry was taken. False: the queue is full or the writer has stopped; then see `fetch_soon`."""
        with self._changed:
            if self._stopping or len(self._queue) >= self._limit:
                return False
            self._queue.append(entry)
            if len(self._queue) in (1, _GATHER_ROWS):
                self._changed.notify_all()
            return True

    def fetch_soon(self) -> None:
        """There is something to `fetch`."""
        with self._changed:
            self._declined = True
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until all that was offered or declined before is committed, or refused for good (then health is red).

        False: not within `timeout` seconds.
        """
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            return self._changed.wait_for(self._idle, timeout)

    def health(self) -> Health:
        """Red while the database cannot be written, and for entries it refuses."""
        with self._changed:
            waits = f"; entries that wait: {len(self._queue)}" if self._queue else ""
            reasons = [] if self._fault is None else [f"{self._fault}{waits}"]
            for attempt, reason in list(self._refused.items())[:1]:
                more = f" and {len(self._refused) - 1} more" if len(self._refused) > 1 else ""
                reasons.append(f"the database refuses entry {attempt}{more} ({reason}); kept in the journal")
            return Health(False, "; ".join(reasons)) if reasons else HEALTHY

    def stop(self, timeout: float) -> bool:
        """Commit what is queued and end the thread. False when `timeout` seconds were not enough."""
        done = self.flush(timeout)
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(max(1.0, timeout))
        return done and not self._thread.is_alive()

    def _idle(self) -> bool:
        return not self._queue and not self._busy and not self._declined

    def _enough(self) -> bool:
        return len(self._queue) >= _GATHER_ROWS or self._declined or self._hurry or self._stopping

    def _run(self) -> None:
        if self._first is not None and not self._until_done(self._first):
            return
        while True:
            batch = self._gather()
            if batch is None:
                return
            for start in range(0, len(batch), _LARGEST_BATCH):
                if not self._until_done(partial(self._write, batch[start : start + _LARGEST_BATCH])):
                    return

    def _gather(self) -> Sequence[Entry] | None:
        """The next group to commit; None when it is time to end."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._queue or self._declined or self._stopping)
            if self._stopping and not self._queue:
                return None
            self._busy = True
            self._changed.wait_for(self._enough, _GATHER_SECONDS)
            self._hurry = False
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), _LARGEST_BATCH))]
            if batch or not self._declined:
                return batch
            self._declined = False
        return self._fetch_declined()

    def _fetch_declined(self) -> Sequence[Entry]:
        found: Sequence[Entry] = ()

        def fetch() -> None:
            nonlocal found
            found = [entry for entry in self._fetch(self._limit) if entry.opening.attempt not in self._refused]

        self._until_done(fetch)
        if found:
            with self._changed:
                self._declined = True  # there may be more
        return found

    def _write(self, batch: Sequence[Entry]) -> None:
        refused = append_all(self._store, batch)
        if refused:
            with self._changed:
                self._refused |= refused
        self._committed([entry.opening.attempt for entry in batch if entry.opening.attempt not in refused])

    def _until_done(self, work: Callable[[], None]) -> bool:
        """Do `work`, again and again while it fails. False when told to stop meanwhile."""
        wait = _FIRST_WAIT
        while True:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - the thread must outlive whatever a database does
                with self._changed:
                    self._fault = f"the ledger database cannot be written: {_words(error)}"
                    deadline = time.monotonic() + wait
                    if self._changed.wait_for(lambda: self._stopping, deadline - time.monotonic()):
                        return False
                wait = min(wait * 2, _LONGEST_WAIT)
            else:
                with self._changed:
                    self._fault = None
                return True


def _words(error: Exception) -> str:
    """SQLite's and the system's own words hold no value of an entry; others might."""
    return str(error) if isinstance(error, sqlite3.Error | OSError) else type(error).__name__
