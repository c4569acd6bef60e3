"""The ledger database: readable while it is written, never touched when it is not ours, never overflowing."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from counterfoil.ledger.entry import Line
from counterfoil.stores import sqlite_schema
from counterfoil.stores.projection import Selection, Total, TotalKey
from counterfoil.stores.sqlite import SqliteReader, SqliteStore
from counterfoil.stores.sqlite_schema import VERSION, LedgerUnusable, migrate
from counterfoil.usage.usage import Bucket, Usage
from tests.stores.samples import NOON, attempt_name, entry_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "ledger.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(path)) as made:
        yield made


def test_entries_survive_the_process(path: Path) -> None:
    with closing(SqliteStore(path)) as first:
        first.append([entry_of(1)])
    with closing(SqliteStore(path)) as second:
        second.append([entry_of(1), entry_of(2)])
        assert list(second.entries()) == [entry_of(1), entry_of(2)]
        assert second.usage()[TotalKey()].attempts == 2


def test_the_columns_say_what_the_entry_says(path: Path, store: SqliteStore) -> None:
    store.append([entry_of(1)])
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute(
            "SELECT key, exit, status, input_tokens, output_tokens, cache_read_tokens, cost_picodollars, estimated,"
            " json_extract(entry, '$.opening.attempt') FROM entries"
        ).fetchone()
    assert row == ("team", "completed", 200, 100, 20, None, 120_000, 0, attempt_name(1))


def test_counts_beyond_a_column_are_kept_exactly_in_the_entry(store: SqliteStore) -> None:
    line = Line("m", "reply", Usage({Bucket.INPUT: 2**80, Bucket.OUTPUT: 1}), 2**80)
    entry = msgspec.structs.replace(entry_of(1), lines=(line,), provider_total=2**90)
    store.append([entry, entry_of(2)])
    assert store.entry(attempt_name(1)) == entry
    total = store.usage()[TotalKey()]
    assert (total.attempts, total.cost) == (2, 2**80 + 120_000)
    assert store.verify() == []


def test_part_of_a_day_is_counted_exactly(store: SqliteStore) -> None:
    store.append([entry_of(number * 3600) for number in range(100)])
    hours = {(number * 3600) + NOON for number in range(100)}
    for since, until in ((0, 99), (10, 20), (8, 60), (9, 9), (30, 20), (50, 120)):
        start, end = NOON + since * 3600, NOON + until * 3600
        expected = sum(start <= hour < end for hour in hours)
        assert store.usage((), start, end).get(TotalKey(), Total()).attempts == expected


def test_verify_finds_what_was_changed_behind_its_back(path: Path, store: SqliteStore) -> None:
    store.append([entry_of(1), entry_of(2)])
    assert store.verify() == []
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE totals SET output_tokens = output_tokens + 1")
    (difference,) = store.verify()
    assert difference.stored.output_tokens == difference.recomputed.output_tokens + 1
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM totals")
    (difference,) = store.verify()
    assert difference.stored == Total()


def test_entries_and_totals_change_together_or_not_at_all(path: Path, store: SqliteStore) -> None:
    store.append([entry_of(1)])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON totals BEGIN SELECT raise(ABORT, 'disk full'); END")
    with pytest.raises(sqlite3.IntegrityError, match="disk full"):
        store.append([entry_of(2)])
    assert [entry.opening.attempt for entry in store.entries()] == [attempt_name(1)]
    assert store.verify() == []
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER full")
    store.append([entry_of(2)])
    assert store.usage()[TotalKey()].attempts == 2


def test_two_processes_may_write_one_ledger(path: Path) -> None:
    stores = [SqliteStore(path) for _ in range(2)]

    def write(store: SqliteStore) -> None:
        for start in range(0, 200, 10):
            store.append([entry_of(number) for number in range(start, start + 10)])

    threads = [threading.Thread(target=write, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert stores[0].usage()[TotalKey()].attempts == 200
    assert stores[0].verify() == []
    for store in stores:
        store.close()


def test_many_may_create_the_ledger_at_once(path: Path) -> None:
    failures: list[BaseException] = []
    ready = threading.Barrier(6)

    def create() -> None:
        ready.wait(10)
        try:
            SqliteStore(path).close()
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            failures.append(error)

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_readers_see_whole_commits_while_the_ledger_is_written(path: Path, store: SqliteStore) -> None:
    done = threading.Event()

    def write() -> None:
        for start in range(0, 3000, 50):
            store.append([entry_of(number) for number in range(start, start + 50)])
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    reader = SqliteReader(path)
    looks = 0
    while not done.is_set() or not looks:
        assert reader.usage().get(TotalKey(), Total()).attempts % 50 == 0
        assert reader.verify() == []
        seen = [entry.opening.attempt for entry in reader.entries(Selection(last=700))]
        assert seen == sorted(seen)
        looks += 1
    thread.join(60)
    assert sum(1 for _ in reader.entries()) == 3000


def test_a_slow_reader_holds_up_nobody(path: Path, store: SqliteStore) -> None:
    store.append([entry_of(number) for number in range(1200)])
    slow = store.entries()
    next(slow)
    store.append([entry_of(number) for number in range(1200, 1300)])
    with closing(sqlite3.connect(path)) as connection:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    assert sum(1 for _ in slow) == 1299


def test_a_reader_cannot_write(path: Path, store: SqliteStore) -> None:
    reader = SqliteReader(path)
    with closing(reader._reading()) as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM entries")
    assert reader.present(["x", attempt_name(1)]) == set()
    store.append([entry_of(1), entry_of(2)])
    assert reader.present(["x", attempt_name(1)]) == {attempt_name(1)}
    assert reader.matching("0197") == [attempt_name(1), attempt_name(2)]
    assert reader.matching("0197", limit=1) == [attempt_name(1)]
    assert reader.matching("%") == []


def test_a_missing_ledger_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnusable, match="there is no ledger at"):
        SqliteReader(tmp_path / "none.db").usage()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opened", [SqliteStore, lambda path: SqliteReader(path).usage()])
def test_a_newer_ledger_is_not_touched(path: Path, opened: type[SqliteStore]) -> None:
    SqliteStore(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO counterfoil_schema VALUES (?, 0)", (VERSION + 1,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    with pytest.raises(LedgerUnusable, match="newer Counterfoil"):
        opened(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("opened", [SqliteStore, lambda path: SqliteReader(path).usage()])
def test_another_programs_file_is_not_touched(tmp_path: Path, opened: type[SqliteStore]) -> None:
    database = tmp_path / "other.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE theirs (id)")
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but a page of notes " * 50)
    for path, complaint in ((database, "another program"), (text, "not a database")):
        before = path.read_bytes()
        with pytest.raises(LedgerUnusable, match=complaint):
            opened(path)
        assert path.read_bytes() == before


def test_an_older_ledger_is_migrated_and_keeps_its_entries(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(SqliteStore(path)) as store:
        store.append([entry_of(1)])
    more = (*sqlite_schema.MIGRATIONS, ("CREATE TABLE added (id INTEGER)",))
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", more)
    monkeypatch.setattr(sqlite_schema, "VERSION", len(more))
    monkeypatch.setattr("counterfoil.stores.sqlite.VERSION", len(more))
    with pytest.raises(LedgerUnusable, match="older version"):
        SqliteReader(path).usage()
    for _ in range(2):
        with closing(SqliteStore(path)) as store:
            assert list(store.entries()) == [entry_of(1)]
    applied = [(number,) for number in range(1, len(more) + 1)]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version FROM counterfoil_schema").fetchall() == applied
        assert connection.execute("SELECT count(*) FROM added").fetchone() == (0,)


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SqliteStore(path).close()
    more = (*sqlite_schema.MIGRATIONS, ("CREATE TABLE added (id INTEGER)", "not SQL"))
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", more)
    monkeypatch.setattr(sqlite_schema, "VERSION", len(more))
    with pytest.raises(sqlite3.OperationalError):
        SqliteStore(path)
    monkeypatch.undo()
    with closing(SqliteStore(path)) as store, closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'added'").fetchall() == []
        store.append([entry_of(1)])


def test_a_ledger_of_before_searches_were_counted_is_migrated_and_adds_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir(parents=True)
    entry = entry_of(1)
    with closing(sqlite3.connect(path)) as connection, monkeypatch.context() as before:
        before.setattr(sqlite_schema, "MIGRATIONS", sqlite_schema.MIGRATIONS[:1])
        before.setattr(sqlite_schema, "VERSION", 1)
        migrate(connection, "the ledger")
    newer = path.with_name("newer.db")
    with closing(SqliteStore(newer)) as store:
        store.append([entry])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ATTACH ? AS newer", (str(newer),))
        for table in ("entries", "totals"):
            columns = ", ".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
            connection.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM newer.{table}")
    with closing(SqliteStore(path)) as store:
        assert store.verify() == []
        store.append([entry, entry_of(2)])
        assert list(store.entries()) == [entry, entry_of(2)]
        assert store.verify() == []
        assert store.usage()[TotalKey()].search_units == 0


def test_the_first_migration_is_what_it_was_when_it_was_released(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", sqlite_schema.MIGRATIONS[:1])
    monkeypatch.setattr(sqlite_schema, "VERSION", 1)
    with closing(SqliteStore(path)), closing(sqlite3.connect(path)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(entries)")]
        totals = [row[1] for row in connection.execute("PRAGMA table_info(totals)")]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert columns == [
        "attempt",
        "exchange",
        "opened",
        "closed",
        "route",
        "provider",
        "model",
        "key",
        "user",
        "exit",
        "status",
        "finality",
        "input_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "provider_total",
        "cost_picodollars",
        "estimated",
        "entry",
    ]
    assert totals == [
        "day",
        "key",
        "provider",
        "model",
        "attempts",
        "input_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "estimated_tokens",
        "unknown",
        "unpriced",
        "cost_dollars",
        "cost_picodollars",
    ]


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_the_ledger_is_for_its_owner_only(path: Path, store: SqliteStore) -> None:
    store.append([entry_of(1)])
    for file in (path.parent, *path.parent.iterdir()):
        assert file.stat().st_mode & 0o077 == 0, file


def test_a_path_with_any_characters_works(tmp_path: Path) -> None:
    odd = tmp_path / "a b?c#d%20é" / "ledger?.db"
    with closing(SqliteStore(odd)) as store:
        store.append([entry_of(1)])
        assert list(store.entries()) == [entry_of(1)]


def test_sync_and_close_may_be_repeated(path: Path) -> None:
    store = SqliteStore(path)
    store.sync()
    store.sync()
    store.close()
    store.close()
