"""Entries in memory: for tests, and for a program that keeps its own books. Nothing survives the process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from counterfoil.ledger.entry import Entry
from counterfoil.stores.projection import (
    ALL,
    Difference,
    Selection,
    Total,
    TotalKey,
    add_totals,
    compare_totals,
    group_totals,
    selected,
    totals_of,
)

__all__ = ["MemoryStore"]


class MemoryStore:
    """A `LedgerStore`. Threads may share it. It grows with every entry: that is what it is for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._totals: dict[TotalKey, Total] = {}

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries and their totals, all or none. An entry already there changes nothing."""
        with self._lock:
            new = {
                entry.opening.attempt: entry
                for entry in reversed(entries)
                if entry.opening.attempt not in self._entries
            }
            totals = totals_of(new.values())
            self._entries.update(reversed(new.items()))
            add_totals(self._totals, totals)

    def sync(self) -> None:
        """Nothing to wait for."""

    def entry(self, attempt: str) -> Entry | None:
        """One entry, by its attempt."""
        return self._entries.get(attempt)

    def corrections(self, attempt: str) -> list[Entry]:
        """What corrects an attempt, oldest first."""
        with self._lock:
            found = [one for one in self._entries.values() if one.corrects and one.corrects.attempt == attempt]
        return sorted(found, key=lambda entry: entry.opening.attempt)

    def entries(self, selection: Selection = ALL) -> Iterator[Entry]:
        """Entries, oldest first."""
        with self._lock:
            found = [entry for entry in self._entries.values() if selected(entry, selection)]
        found.sort(key=lambda entry: (entry.opening.opened, entry.opening.attempt))
        if selection.last is not None:
            found = found[max(0, len(found) - selection.last) :]
        return iter(found[: selection.limit])

    def usage(
        self, by: Sequence[str] = (), since: float | None = None, until: float | None = None
    ) -> dict[TotalKey, Total]:
        """Totals, grouped by some of `DIMENSIONS`."""
        return group_totals(totals_of(self.entries(Selection(since=since, until=until))), by)

    def verify(self) -> list[Difference]:
        """Recompute all totals from all entries; what differs."""
        with self._lock:
            return compare_totals(self._totals, totals_of(self._entries.values()))

    def close(self) -> None:
        """Nothing to let go of."""
