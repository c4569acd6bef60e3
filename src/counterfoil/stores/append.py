"""Entries into a store, where one that cannot be stored must not hold up the others.

Rule 1: an error that is about an entry is told from one that is about the database. The second is raised, and the
caller tries again later; nothing is refused because a disk is full or a file is locked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from counterfoil.ledger.entry import Entry
from counterfoil.ledger.store import EntryStore

__all__ = ["append_all"]

_ABOUT_AN_ENTRY: Final = (
    ValueError,
    TypeError,
    ArithmeticError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
)


def append_all(store: EntryStore, entries: Sequence[Entry]) -> dict[str, str]:
    """Append them, together if possible. Gives the attempts that were refused, and why (a kind of error, no values)."""
    try:
        store.append(entries)
    except _ABOUT_AN_ENTRY:
        pass
    else:
        return {}
    refused = {}
    for entry in entries:
        try:
            store.append([entry])
        except _ABOUT_AN_ENTRY as error:
            refused[entry.opening.attempt] = type(error).__name__
    return refused
