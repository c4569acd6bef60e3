"""What keeps entries, seen from pure code: the protocols. The stores themselves are in `stores/`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault
from counterfoil.ledger.entry import Entry, Opening, Progress

__all__ = ["Books", "BooksUnavailable", "EntryStore"]


class BooksUnavailable(CounterfoilError):
    """An opening could not be written down, so nothing may be sent (disk full, read-only, closed)."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            Failure(
                FailureKind.UNAVAILABLE,
                f"The ledger cannot be written ({reason}), so no request is accepted until it can.",
                Fault.GATEWAY,
                503,
            )
        )


class Books(Protocol):
    """Where attempts are written down as they happen. Each call returns when a killed process would not lose it."""

    def open(self, opening: Opening) -> None:
        """Before the upstream call. Raises BooksUnavailable; then nothing is sent."""
        ...

    def progress(self, progress: Progress) -> None:
        """What a running attempt amounts to. Never raises."""
        ...

    def close(self, entry: Entry) -> None:
        """Exactly once an attempt, before its last frame is released. Never raises: a failure turns health red."""
        ...


class EntryStore(Protocol):
    """The database of closed entries."""

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries and their totals in one transaction. An entry already there changes nothing."""
        ...
