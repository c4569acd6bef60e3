"""A process that keeps books until it is killed, and says on its standard output what it does before and after it.

    python -m tests.stores.writing_process DIRECTORY BASE [before|half|after N]

Its attempts are numbered from BASE + 1. With a point it kills itself with SIGKILL: before the Nth write to its journal,
with half of it written, or after it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from counterfoil.stores.books import LedgerBooks, journal_directory
from counterfoil.stores.journal import JournalSettings
from counterfoil.stores.sqlite import SqliteStore
from tests.stores.samples import entry_of, opening_of, pricing, progress_of

__all__ = ["SEGMENT_BYTES", "database_in", "made_by"]

SEGMENT_BYTES = 64 << 10
"""Small, so that segments are followed by others all the time."""
_KEPT_OPEN = 8


def database_in(directory: Path) -> Path:
    return directory / "ledger.db"


def made_by(number: int) -> int:
    """The output tokens attempt `number` is reported with, so that entries cannot be mixed up unseen."""
    return number % 50


def _dying(where: str, at: int) -> Callable[[int, bytes], int]:
    calls = 0

    def write(descriptor: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == at and where != "after":
            if where == "half":
                os.write(descriptor, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        written = os.write(descriptor, data)
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    return write


def _say(what: str, number: int) -> None:
    os.write(1, f"{what} {number}\n".encode())


def main() -> None:
    directory = Path(sys.argv[1])
    base = int(sys.argv[2])
    write = _dying(sys.argv[3], int(sys.argv[4])) if len(sys.argv) > 3 else os.write
    database = database_in(directory)
    books = LedgerBooks(
        journal_directory(database),
        SqliteStore(database),
        pricing,
        JournalSettings(segment_bytes=SEGMENT_BYTES),
        write=write,
    )
    for number in range(base + 1, base + 1_000_000):
        _say("opening", number)
        books.open(opening_of(number))
        _say("opened", number)
        books.progress(progress_of(number, made=made_by(number)))
        _say("reported", number)
        old = number - _KEPT_OPEN
        if old > base and old % 10:  # every tenth stays open for ever
            _say("closing", old)
            books.close(entry_of(old, made=made_by(old)))
            _say("closed", old)


if __name__ == "__main__":
    main()
