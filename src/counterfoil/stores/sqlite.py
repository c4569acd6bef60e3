"""Entries in one SQLite file, in WAL mode: one writer at a time, readers at any time.

Rule 1: entries and totals change in one transaction, and only for entries that were not there.
Rule 2: readers have connections of their own, which cannot write, and hold no snapshot longer than a page.
Rule 3: a commit survives the process at once, and a power cut after `sync` (WAL with `synchronous = NORMAL`).
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec

from counterfoil.ledger.entry import Entry
from counterfoil.stores.projection import (
    ALL,
    DIMENSIONS,
    FIGURES,
    Difference,
    Selection,
    Total,
    TotalKey,
    add_totals,
    compare_totals,
    day_of,
    group_totals,
    shown_figures,
    totals_of,
)
from counterfoil.stores.sqlite_schema import VERSION, LedgerUnusable, migrate, version_of

__all__ = ["SqliteReader", "SqliteStore"]

_LARGEST: Final = 2**63 - 1
_DOLLAR: Final = 10**12
_DAY: Final = 86400
_PAGE: Final = 500
_BUSY_MS: Final = 5000
_WAL_KEPT_BYTES: Final = 64 << 20
_ENTRY_COLUMNS: Final = (
    *("attempt", "exchange", "opened", "closed", "route", "provider", "model", "key", "user", "exit", "status"),
    *("finality", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"),
    *("search_units", "images", "provider_total", "cost_picodollars", "estimated", "entry", "corrects"),
)
_TOTAL_COLUMNS: Final = (*DIMENSIONS, *(name for name in FIGURES if name != "cost"), "cost_dollars", "cost_picodollars")

# The texts below are put together from names written here and in `projection`, never from values.
_INSERT_ENTRY: Final = (
    f"INSERT INTO entries ({', '.join(_ENTRY_COLUMNS)}) VALUES ({', '.join('?' * len(_ENTRY_COLUMNS))})"  # noqa: S608
)
_PRESENT: Final = "SELECT attempt FROM entries WHERE attempt IN (SELECT value FROM json_each(?))"
_TOTALS: Final = f"SELECT {', '.join(_TOTAL_COLUMNS)} FROM totals"  # noqa: S608
_ONE_TOTAL: Final = f"{_TOTALS} WHERE day = ? AND key = ? AND provider = ? AND model = ?"
_PUT_TOTAL: Final = (
    f"INSERT OR REPLACE INTO totals ({', '.join(_TOTAL_COLUMNS)}) VALUES ({', '.join('?' * len(_TOTAL_COLUMNS))})"  # noqa: S608
)
_DECODE: Final = msgspec.json.Decoder(Entry).decode
_ENCODE: Final = msgspec.json.Encoder().encode


class SqliteReader:
    """Reads a ledger, also while a gateway writes it. Safe to share between threads; nothing is kept open.

    Raises LedgerUnusable when the file is missing or is not a ledger this program reads, and sqlite3.Error.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def entry(self, attempt: str) -> Entry | None:
        """One entry, by its attempt."""
        with closing(self._reading()) as connection:
            row = connection.execute("SELECT entry FROM entries WHERE attempt = ?", (attempt,)).fetchone()
        return None if row is None else _DECODE(row[0])

    def corrections(self, attempt: str) -> list[Entry]:
        """What corrects an attempt, oldest first."""
        with closing(self._reading()) as connection:
            rows = connection.execute("SELECT entry FROM entries WHERE corrects = ? ORDER BY attempt", (attempt,))
            return [_DECODE(row[0]) for row in rows]

    def exchange(self, exchange: str) -> list[Entry]:
        """Every entry of one exchange, corrections too, oldest first."""
        with closing(self._reading()) as connection:
            rows = connection.execute("SELECT entry FROM entries WHERE exchange = ? ORDER BY attempt", (exchange,))
            return [_DECODE(row[0]) for row in rows]

    def present(self, attempts: Iterable[str]) -> set[str]:
        """Those of `attempts` that have an entry."""
        with closing(self._reading()) as connection:
            return {row[0] for row in connection.execute(_PRESENT, (_ENCODE(list(attempts)).decode(),))}

    def matching(self, prefix: str, limit: int = 10) -> list[str]:
        """Attempts that begin with `prefix`, in their order: for a person who typed the start of one."""
        with closing(self._reading()) as connection:
            rows = connection.execute(
                "SELECT attempt FROM entries WHERE attempt >= ? AND substr(attempt, 1, ?) = ? ORDER BY attempt LIMIT ?",
                (prefix, len(prefix), prefix, limit),
            )
            return [row[0] for row in rows]

    def entries(self, selection: Selection = ALL) -> Iterator[Entry]:
        """Entries, oldest first, a page at a time."""
        with closing(self._reading()) as connection:
            yield from _pages(connection, selection)

    def usage(
        self, by: Sequence[str] = (), since: float | None = None, until: float | None = None
    ) -> dict[TotalKey, Total]:
        """Totals, grouped by some of `DIMENSIONS`: whole days from the totals, parts of days from the entries."""
        with closing(self._reading()) as connection:
            connection.execute("BEGIN")
            return group_totals(_between(connection, since, until), by)

    def verify(self) -> list[Difference]:
        """Recompute all totals from all entries, in one snapshot; what differs."""
        with closing(self._reading()) as connection:
            connection.execute("BEGIN")
            return compare_totals(_stored(connection), _held(totals_of(_pages(connection, ALL))))

    def _reading(self) -> sqlite3.Connection:
        if not self.path.exists():
            raise LedgerUnusable(f"there is no ledger at {self.path}")
        connection = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            if version_of(connection, str(self.path)) < VERSION:
                raise LedgerUnusable(
                    f"{self.path} is of an older version; starting the gateway once brings it up to date"
                )
        except BaseException:
            connection.close()
            raise
        return connection


class SqliteStore(SqliteReader):
    """A `LedgerStore` in the SQLite file `path`, which is made (with its directory) if it is missing.

    Threads may share it; several processes may write one file. Raises LedgerUnusable, sqlite3.Error and OSError.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Readable by its owner only, as are the files SQLite puts beside it.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            version_of(self._connection, str(path))
            self._use_wal()
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
            migrate(self._connection, str(path))
        except BaseException:
            self._connection.close()
            raise

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries and their totals in one transaction. An entry already there changes nothing."""
        by_attempt: dict[str, Entry] = {}
        for entry in entries:
            by_attempt.setdefault(entry.opening.attempt, entry)
        rows = {attempt: _row(entry) for attempt, entry in by_attempt.items()}
        with self._lock:
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                for (present,) in connection.execute(_PRESENT, (_ENCODE(list(rows)).decode(),)):
                    del rows[present]
                connection.executemany(_INSERT_ENTRY, rows.values())
                _add_to_totals(connection, totals_of(by_attempt[attempt] for attempt in rows))
                connection.execute("COMMIT")
            except BaseException:
                # A failed COMMIT may have ended the transaction already.
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def sync(self) -> None:
        """Return when everything appended would survive a power cut: one commit that waits for the log's disk."""
        with self._lock:
            self._connection.execute("PRAGMA synchronous = FULL")
            try:
                self._connection.execute("INSERT OR REPLACE INTO durable VALUES (1, ?)", (time.time(),))
            finally:
                self._connection.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        """Let go of the database. Doing it twice changes nothing."""
        with self._lock:
            self._connection.close()

    def _use_wal(self) -> None:
        """The switch does not wait for another process that is making it; the busy time-out is not heard there."""
        deadline = time.monotonic() + _BUSY_MS / 1000
        while True:
            try:
                mode = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
                continue
            if mode != "wal":
                raise LedgerUnusable(f"{self.path} is where SQLite cannot use a write-ahead log; use a local disk")
            return


def _row(entry: Entry) -> tuple[Any, ...]:
    """In the order of `_ENTRY_COLUMNS`."""
    opening, lines = entry.opening, entry.lines
    usage = lines[0].usage if len(lines) == 1 and not lines[0].waived else entry.usage
    return (
        opening.attempt,
        opening.exchange,
        opening.opened,
        entry.closed,
        opening.route,
        opening.provider,
        opening.model,
        opening.key,
        opening.user,
        entry.exit.value,
        _fitting(entry.status),
        entry.finality.value,
        *map(_fitting, shown_figures(usage)),
        _fitting(entry.provider_total),
        _fitting(entry.cost),
        usage.estimated,
        _ENCODE(entry).decode(),
        None if entry.corrects is None else entry.corrects.attempt,
    )


def _fitting(value: int | None) -> int | None:
    return value if value is None or -_LARGEST <= value <= _LARGEST else _LARGEST if value > 0 else -_LARGEST


def _pages(connection: sqlite3.Connection, selection: Selection) -> Iterator[Entry]:
    conditions, values = _conditions(selection)
    after: tuple[float, str] | None = None
    comparison = ">"
    if selection.last is not None:
        if selection.last <= 0:
            return
        start = connection.execute(
            f"SELECT opened, attempt FROM entries{_where(conditions)} "  # noqa: S608 - names written here
            "ORDER BY opened DESC, attempt DESC LIMIT 1 OFFSET ?",
            (*values, selection.last - 1),
        ).fetchone()
        after, comparison = start, ">="
    left = _LARGEST if selection.limit is None else selection.limit
    while left > 0:
        place = [] if after is None else [f"(opened, attempt) {comparison} (?, ?)"]
        rows = connection.execute(
            f"SELECT opened, attempt, entry FROM entries{_where([*conditions, *place])} "  # noqa: S608 - as above
            "ORDER BY opened, attempt LIMIT ?",
            (*values, *(after or ()), min(left, _PAGE)),
        ).fetchall()
        if not rows:
            return
        yield from (_DECODE(row[2]) for row in rows)
        left -= len(rows)
        after, comparison = rows[-1][:2], ">"


def _conditions(selection: Selection) -> tuple[list[str], list[Any]]:
    wanted = (
        ("opened >= ?", selection.since),
        ("opened < ?", selection.until),
        ("key = ?", selection.key),
        ("exit = ?", None if selection.exit is None else selection.exit.value),
        ("provider = ?", selection.provider),
        ("model = ?", selection.model),
        ("route = ?", selection.route),
        ("user = ?", selection.user),
    )
    held = [(text, value) for text, value in wanted if value is not None]
    return [text for text, _ in held], [value for _, value in held]


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _between(connection: sqlite3.Connection, since: float | None, until: float | None) -> dict[TotalKey, Total]:
    """Totals of the entries opened in [since, until)."""
    first = None if since is None else int(-(-since // _DAY))
    beyond = None if until is None else int(until // _DAY)
    if first is not None and beyond is not None and first > beyond:
        return totals_of(_pages(connection, Selection(since=since, until=until)))
    parts: list[Iterable[Entry]] = []
    if since is not None and first is not None and since < first * _DAY:
        parts.append(_pages(connection, Selection(since=since, until=first * _DAY)))
    if until is not None and beyond is not None and beyond * _DAY < until:
        parts.append(_pages(connection, Selection(since=beyond * _DAY, until=until)))
    totals = _stored(connection, None if first is None else first * _DAY, None if beyond is None else beyond * _DAY)
    add_totals(totals, totals_of(chain.from_iterable(parts)))
    return totals


def _stored(
    connection: sqlite3.Connection, since: float | None = None, until: float | None = None
) -> dict[TotalKey, Total]:
    """The totals table, of the whole days from `since` to before `until`."""
    days = [(text, day_of(at)) for text, at in (("day >= ?", since), ("day < ?", until)) if at is not None]
    rows = connection.execute(_TOTALS + _where([text for text, _ in days]), [day for _, day in days])
    return dict(map(_total, rows))


def _total(row: Sequence[Any]) -> tuple[TotalKey, Total]:
    return TotalKey(*row[:4]), Total(*[*row[4:-2], row[-2] * _DOLLAR + row[-1]])


def _add_to_totals(connection: sqlite3.Connection, more: Mapping[TotalKey, Total]) -> None:
    """Under the write lock of a transaction: what is read here is still true when it is written."""
    rows = []
    for key, total in more.items():
        place = msgspec.structs.astuple(key)
        row = connection.execute(_ONE_TOTAL, place).fetchone()
        after = total if row is None else _total(row)[1] + total
        *figures, cost = msgspec.structs.astuple(after)
        dollars, rest = divmod(cost, _DOLLAR)
        rows.append((*place, *map(_fitting, figures), _fitting(dollars), rest))
    connection.executemany(_PUT_TOTAL, rows)


def _held(totals: Mapping[TotalKey, Total]) -> dict[TotalKey, Total]:
    """As the table holds them: counts, but not costs, stop at what a column takes."""
    held = {}
    for key, total in totals.items():
        *figures, cost = msgspec.structs.astuple(total)
        held[key] = Total(*[*(_fitting(figure) or 0 for figure in figures), cost])
    return held
