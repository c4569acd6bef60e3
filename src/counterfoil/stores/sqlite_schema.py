"""The ledger database's tables, and how an older one becomes a newer one.

Rule 1: migrations only go forward and never destroy. One that was released is never edited; a change is a new one.
Rule 2: the whole entry is in `entries.entry`, as JSON. The other columns repeat of it what is searched and shown.
Rule 3: a database of a newer program, or of another program, is never touched.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Final

from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault

__all__ = ["MIGRATIONS", "VERSION", "LedgerUnusable", "migrate", "version_of"]

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        # Counts beyond 2**63-1 are held there as that; the entry's JSON has the exact one.
        """CREATE TABLE entries (
            attempt TEXT NOT NULL PRIMARY KEY,
            exchange TEXT NOT NULL,
            opened REAL NOT NULL,
            closed REAL NOT NULL,
            route TEXT NOT NULL,
            provider TEXT NOT NULL,
            model TEXT NOT NULL,
            key TEXT,
            user TEXT,
            exit TEXT NOT NULL,
            status INTEGER,
            finality TEXT NOT NULL,
            input_tokens INTEGER,
            cache_read_tokens INTEGER,
            cache_write_tokens INTEGER,
            output_tokens INTEGER,
            reasoning_tokens INTEGER,
            provider_total INTEGER,
            cost_picodollars INTEGER,
            estimated INTEGER NOT NULL,
            entry TEXT NOT NULL
        )""",
        "CREATE INDEX entries_by_time ON entries (opened, attempt)",
        # A cost is cost_dollars + cost_picodollars / 1e12, with 0 <= cost_picodollars < 1e12: one integer of
        # picodollars would overflow at 9.2 million dollars.
        """CREATE TABLE totals (
            day TEXT NOT NULL,
            key TEXT NOT NULL,
            provider TEXT NOT NULL,
            model TEXT NOT NULL,
            attempts INTEGER NOT NULL,
            input_tokens INTEGER NOT NULL,
            cache_read_tokens INTEGER NOT NULL,
            cache_write_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL,
            reasoning_tokens INTEGER NOT NULL,
            estimated_tokens INTEGER NOT NULL,
            unknown INTEGER NOT NULL,
            unpriced INTEGER NOT NULL,
            cost_dollars INTEGER NOT NULL,
            cost_picodollars INTEGER NOT NULL,
            PRIMARY KEY (day, key, provider, model)
        ) WITHOUT ROWID""",
        "CREATE TABLE durable (id INTEGER PRIMARY KEY CHECK (id = 1), at REAL NOT NULL)",
    ),
    (
        # Units that are billed and are no tokens.
        "ALTER TABLE entries ADD COLUMN search_units INTEGER",
        "ALTER TABLE entries ADD COLUMN images INTEGER",
        "ALTER TABLE totals ADD COLUMN search_units INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE totals ADD COLUMN images INTEGER NOT NULL DEFAULT 0",
    ),
    (
        # The attempt that a correction corrects. A correction's counts and its cost are differences: they may be < 0.
        "ALTER TABLE entries ADD COLUMN corrects TEXT",
        "CREATE INDEX entries_by_corrected ON entries (corrects, attempt) WHERE corrects IS NOT NULL",
    ),
    (
        # A client knows its call by the exchange.
        "CREATE INDEX entries_by_exchange ON entries (exchange, attempt)",
    ),
)
VERSION: Final = len(MIGRATIONS)


class LedgerUnusable(CounterfoilError):
    """The file is not a ledger this program can use. It was not changed."""

    def __init__(self, message: str) -> None:
        super().__init__(Failure(FailureKind.UNAVAILABLE, message, Fault.GATEWAY, 503))


def version_of(connection: sqlite3.Connection, name: str) -> int:
    """The schema's version; 0 for an empty database. Raises LedgerUnusable for another program's. `name` is shown."""
    try:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "counterfoil_schema" in tables:
            found = connection.execute("SELECT max(version) FROM counterfoil_schema").fetchone()[0]
            version = int(found or 0)
        elif tables:
            raise LedgerUnusable(f"{name} is a database of another program; choose another path for the ledger")
        else:
            version = 0
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise LedgerUnusable(f"{name} is not a database ({error}); choose another path for the ledger") from error
    if version > VERSION:
        raise LedgerUnusable(
            f"{name} was written by a newer Counterfoil (schema {version}; this one knows {VERSION}); "
            "use that version, or another path for the ledger"
        )
    return version


def migrate(connection: sqlite3.Connection, name: str) -> None:
    """Bring the schema up to date, in one transaction. Raises LedgerUnusable and sqlite3.Error."""
    if version_of(connection, name) == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = version_of(connection, name)  # another process may have done it meanwhile
        connection.execute(
            "CREATE TABLE IF NOT EXISTS counterfoil_schema "
            "(version INTEGER NOT NULL PRIMARY KEY, applied REAL NOT NULL)"
        )
        for number, statements in enumerate(MIGRATIONS[version:], version + 1):
            for statement in statements:
                connection.execute(statement)
            connection.execute("INSERT INTO counterfoil_schema VALUES (?, ?)", (number, time.time()))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
