"""Reading the books from outside: the database and the journals beside it, also while a gateway writes both.

Rule 1: nothing is written and nothing is locked.
Rule 2: journals are read before the database, since an entry moves from there to here, never back; the database wins.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import groupby, islice
from pathlib import Path

import msgspec

from counterfoil.cli.failure import CommandError, ExitCode
from counterfoil.cli.places import add_books, ledger_path
from counterfoil.ledger.entry import OPEN, Entry, Exit
from counterfoil.stores.books import journal_directory
from counterfoil.stores.projection import Selection, selected
from counterfoil.stores.replay import OpenAttempt, open_and_unflushed
from counterfoil.stores.sqlite import SqliteReader
from counterfoil.stores.sqlite_schema import LedgerUnusable

__all__ = ["Booked", "BooksReader", "add_books", "reading"]

Booked = Entry | OpenAttempt
"""What the books hold of an attempt: its entry, or what is known while it has none."""


class BooksReader:
    """The books of one ledger database, to be read."""

    def __init__(self, database: Path) -> None:
        self.database = database
        self.store = SqliteReader(database)

    def recorded(self, selection: Selection, exit_: str | None = None) -> Iterator[Booked]:
        """Entries and open attempts, oldest first. `exit_`: an exit's word, or `open`."""
        unflushed, open_ = self._journals()
        if exit_ == OPEN:
            running = [one for one in open_ if _opening_selected(one, selection)]
            found: Iterable[Booked] = (one for one in running if self.store.entry(one.opening.attempt) is None)
        else:
            chosen = msgspec.structs.replace(selection, exit=None if exit_ is None else Exit(exit_))
            fresh: list[Booked] = [one for one in unflushed if selected(one, chosen)]
            if exit_ is None:
                fresh += [one for one in open_ if _opening_selected(one, chosen)]
            found = _distinct(merge(self.store.entries(chosen), sorted(fresh, key=_place), key=_place))
        if selection.last is not None:
            return iter(deque(found, maxlen=selection.last))
        return islice(found, selection.limit)

    def find(self, prefix: str) -> Booked:
        """The one attempt that begins with `prefix`. Raises CommandError when there is none, or several."""
        unflushed, open_ = self._journals()
        everything: list[Booked] = [*open_, *unflushed]
        fresh = {one.opening.attempt: one for one in everything if one.opening.attempt.startswith(prefix)}
        names = sorted({*fresh, *self.store.matching(prefix)})
        if not names:
            raise CommandError(
                f"There is no attempt {prefix!r}, and no exchange.",
                "`counterfoil entries` lists them; an exchange's id is written in full.",
            )
        if len(names) > 1:
            raise CommandError(f"{prefix!r} begins several attempts.", f"Write more of one: {', '.join(names[:5])}")
        return self.store.entry(names[0]) or fresh[names[0]]

    def corrections(self, attempt: str) -> list[Entry]:
        """What corrects an attempt, oldest first."""
        unflushed, _ = self._journals()
        found = {one.opening.attempt: one for one in unflushed if one.corrects and one.corrects.attempt == attempt}
        found |= {one.opening.attempt: one for one in self.store.corrections(attempt)}
        return [one for _, one in sorted(found.items())]

    def _journals(self) -> tuple[list[Entry], list[OpenAttempt]]:
        return open_and_unflushed(journal_directory(self.database))


@contextlib.contextmanager
def reading(arguments: argparse.Namespace) -> Iterator[BooksReader]:
    """The books that the command line means; what cannot be read becomes a CommandError."""
    path = ledger_path(arguments.config, arguments.data_dir)
    if not path.exists():
        raise CommandError(
            f"There are no books at {path}.",
            "They begin with the first `counterfoil serve`; --config or --data-dir says where others are.",
        )
    try:
        yield BooksReader(path)
    except LedgerUnusable as error:
        raise CommandError(f"The books cannot be read: {error}.") from error
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        # SQLite writes beside a database that is only read (its index of what is not in it yet).
        remedy = (
            "" if os.access(path.parent, os.W_OK) else f"Copy {path.parent} to where it can be written: --data-dir."
        )
        raise CommandError(
            f"The books at {path} cannot be read: {error}.", remedy, code=ExitCode.UNREACHABLE
        ) from error


def _opening_selected(attempt: OpenAttempt, selection: Selection) -> bool:
    opening = attempt.opening
    return selected(Entry(opening, opening.opened, Exit.CRASHED, ()), selection)


def _place(one: Booked) -> tuple[float, str]:
    return one.opening.opened, one.opening.attempt


def _distinct(ordered: Iterable[Booked]) -> Iterator[Booked]:
    """Each attempt once. Of several records of one, which stand together, the first is the database's."""
    for _, same in groupby(ordered, key=lambda one: one.opening.attempt):
        yield next(same)
