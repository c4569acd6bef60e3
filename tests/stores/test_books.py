"""Journal, writer and database together, in processes that are killed and on disks that fill."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from counterfoil.ledger.entry import Entry, Exit
from counterfoil.ledger.store import Books, BooksUnavailable
from counterfoil.stores.books import LedgerBooks, journal_directory, open_books
from counterfoil.stores.health import HEALTHY
from counterfoil.stores.journal import Journal, JournalSettings
from counterfoil.stores.memory import MemoryStore
from counterfoil.stores.projection import TotalKey
from counterfoil.stores.replay import open_and_unflushed
from counterfoil.stores.sqlite import SqliteReader, SqliteStore
from tests.stores.samples import attempt_name, entry_of, opening_of, pricing, progress_of
from tests.stores.writing_process import database_in, made_by

_ROOT = Path(__file__).parents[2]


class Gate(MemoryStore):
    """A store that can be closed for a while, and that can be counted."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.tried = threading.Event()
        self.largest = 0

    def append(self, entries: Sequence[Entry]) -> None:
        self.tried.set()
        self.largest = max(self.largest, len(entries))
        if not self.open.is_set():
            raise sqlite3.OperationalError("database is locked")
        super().append(entries)


def _until(condition: Callable[[], bool]) -> None:
    wait = threading.Event()
    for _ in range(4000):
        if condition():
            return
        wait.wait(0.005)
    raise AssertionError("did not happen within twenty seconds")


def test_what_is_closed_is_in_the_database_after_a_flush(tmp_path: Path) -> None:
    database = tmp_path / "ledger.db"
    books = open_books(database, pricing)
    protocol: Books = books
    protocol.open(opening_of(1))
    protocol.progress(progress_of(1))
    protocol.close(entry_of(1))
    assert books.flush(20)
    assert SqliteReader(database).entry(attempt_name(1)) == entry_of(1)
    assert books.health() == HEALTHY
    assert books.shut(20)
    assert books.shut(20)
    assert list(journal_directory(database).iterdir()) == []
    with pytest.raises(BooksUnavailable):
        books.open(opening_of(2))


def test_an_attempt_left_open_is_crashed_at_the_next_start(tmp_path: Path) -> None:
    books = open_books(tmp_path / "ledger.db", pricing)
    books.open(opening_of(1))
    books.progress(progress_of(1, made=4))
    books.shut(20)
    again = open_books(tmp_path / "ledger.db", pricing)
    assert again.replayed.crashed == (attempt_name(1),)
    (entry,) = again.store.entries()
    assert (entry.exit, entry.usage.output_tokens, entry.cost) == (Exit.CRASHED, 4, 104_000)
    again.shut(20)
    third = open_books(tmp_path / "ledger.db", pricing)
    assert third.replayed.segments == 0
    third.shut(20)


def test_two_gateways_may_keep_one_ledger(tmp_path: Path) -> None:
    first, second = (open_books(tmp_path / "ledger.db", pricing) for _ in range(2))
    for number in range(50):
        for books, base in ((first, 0), (second, 1000)):
            books.open(opening_of(base + number))
            books.close(entry_of(base + number))
    assert first.flush(20)
    assert second.flush(20)
    assert first.store.usage()[TotalKey()].attempts == 100
    assert first.store.verify() == []
    assert first.shut(20)
    assert second.shut(20)


def test_a_database_that_is_locked_is_waited_for(tmp_path: Path) -> None:
    store = Gate()
    books = LedgerBooks(tmp_path, store, pricing)
    store.open.clear()
    books.open(opening_of(1))
    books.close(entry_of(1))
    _until(lambda: not books.health().ok)
    assert "database is locked" in (books.health().reason or "")
    assert not books.flush(0.01)
    assert open_and_unflushed(tmp_path)[0] == [entry_of(1)]
    store.open.set()
    assert books.flush(20)
    assert books.health() == HEALTHY
    assert list(store.entries()) == [entry_of(1)]
    assert books.shut(20)


def test_a_database_locked_by_another_program_is_waited_for(tmp_path: Path) -> None:
    database = tmp_path / "ledger.db"
    books = open_books(database, pricing)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        books.open(opening_of(1))
        books.close(entry_of(1))
        assert not books.flush(0.3)
        assert SqliteReader(database).entry(attempt_name(1)) is None
        other.execute("ROLLBACK")
    assert books.flush(20)
    assert SqliteReader(database).entry(attempt_name(1)) == entry_of(1)
    assert books.shut(20)


def test_what_does_not_fit_into_the_queue_is_fetched_from_the_journal(tmp_path: Path) -> None:
    store = Gate()
    books = LedgerBooks(tmp_path, store, pricing, JournalSettings(segment_bytes=20_000), queue_limit=10)
    store.open.clear()
    for number in range(300):
        books.open(opening_of(number))
        books.close(entry_of(number))
    store.open.set()
    assert books.flush(30)
    assert [entry.opening.attempt for entry in store.entries()] == [attempt_name(number) for number in range(300)]
    assert store.verify() == []
    assert books.shut(20)
    assert list(tmp_path.iterdir()) == []


def test_shutting_while_the_database_is_locked_leaves_the_entries_in_the_journal(tmp_path: Path) -> None:
    store = Gate()
    books = LedgerBooks(tmp_path, store, pricing)
    store.open.clear()
    books.open(opening_of(1))
    books.close(entry_of(1))
    assert not books.shut(0.2)
    later = LedgerBooks(tmp_path, MemoryStore(), pricing)
    assert list(later.store.entries()) == [entry_of(1)]
    assert later.shut(20)


def test_a_start_on_a_database_that_cannot_be_written_is_red_and_catches_up(tmp_path: Path) -> None:
    left = Journal(tmp_path)
    left.open(opening_of(1))
    left.shut(lambda: None)
    store = Gate()
    store.open.clear()
    books = LedgerBooks(tmp_path, store, pricing)
    books.open(opening_of(2))
    books.close(entry_of(2))
    _until(lambda: not books.health().ok)
    store.open.set()
    assert books.flush(20)
    assert {entry.opening.attempt for entry in store.entries()} == {attempt_name(1), attempt_name(2)}
    assert books.replayed.crashed == (attempt_name(1),)
    assert books.shut(20)


def test_an_entry_the_database_refuses_holds_up_no_other_and_stays_in_the_journal(tmp_path: Path) -> None:
    books = open_books(tmp_path / "ledger.db", pricing)
    impossible = msgspec.structs.replace(entry_of(2), opening=opening_of(2, opened=1e300))
    for entry in (entry_of(1), impossible, entry_of(3)):
        books.open(entry.opening)
        books.close(entry)
    assert books.flush(20)
    assert [entry.opening.attempt for entry in books.store.entries()] == [attempt_name(1), attempt_name(3)]
    assert attempt_name(2) in (books.health().reason or "")
    books.shut(20)
    closed, _ = open_and_unflushed(books.directory)
    assert impossible in closed


def test_commits_are_made_in_groups(tmp_path: Path) -> None:
    store = Gate()
    books = LedgerBooks(tmp_path, store, pricing)
    for number in range(500):
        books.open(opening_of(number))
        books.close(entry_of(number))
    assert books.flush(20)
    assert store.largest >= 100
    assert books.shut(20)


def test_segments_go_away_under_load(tmp_path: Path) -> None:
    database = tmp_path / "ledger.db"
    books = open_books(database, pricing, JournalSettings(interval=0.001, segment_bytes=20_000))
    books.open(opening_of(0))
    for number in range(1, 2000):
        books.open(opening_of(number))
        books.close(entry_of(number))
    assert books.flush(30)
    _until(lambda: _settles(books))
    closed, still_open = open_and_unflushed(books.directory)
    assert [attempt.opening for attempt in still_open] == [opening_of(0)]
    assert len(closed) < 200
    assert SqliteReader(database).usage()[TotalKey()].attempts >= 1999
    books.shut(20)


def _settles(books: LedgerBooks) -> bool:
    """Segments are swept after commits: make one, and see whether few are left."""
    number = 100_000 + len(list(books.store.entries()))
    books.open(opening_of(number))
    books.close(entry_of(number))
    return books.flush(20) and len(list(books.directory.glob("*.journal"))) <= 2


# Real processes.


def _start(module: str, directory: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.stores.{module}", str(directory), *arguments],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _check(said: list[str], directory: Path) -> None:
    """What the dead process said it did against what the books hold after the next start."""
    by_word: dict[str, set[int]] = {word: set() for word in ("opening", "opened", "reported", "closing", "closed")}
    for line in said:
        word, written = line.split()
        by_word[word].add(int(written))
    books = open_books(database_in(directory), pricing)
    assert books.replayed.kept_aside == ()
    found = {entry.opening.attempt: entry for entry in books.store.entries()}
    assert books.store.verify() == []
    assert books.shut(30)
    names = {attempt_name(number): number for number in by_word["opening"]}
    assert found.keys() <= names.keys()
    assert {attempt_name(number) for number in by_word["opened"]} <= found.keys()
    for name, entry in found.items():
        number = names[name]
        if number in by_word["closed"]:
            assert entry == entry_of(number, made=made_by(number))
        elif number in by_word["closing"]:
            assert entry.exit is Exit.CRASHED or entry == entry_of(number, made=made_by(number))
        else:
            assert entry.exit is Exit.CRASHED
        if number in by_word["reported"]:
            assert entry.usage.output_tokens == made_by(number)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("lines", [1, 40, 700, 9000, 30_000])
def test_a_process_killed_at_any_time_loses_no_attempt_and_doubles_none(tmp_path: Path, lines: int) -> None:
    _check(_killed_after(tmp_path, lines), tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_process_killed_again_and_again_loses_no_attempt_and_doubles_none(tmp_path: Path) -> None:
    said: list[str] = []
    for round_, lines in enumerate((2000, 1, 3000, 1, 1, 500)):
        said += _killed_after(tmp_path, lines, base=round_ * 1_000_000)
    _check(said, tmp_path)


def _killed_after(directory: Path, lines: int, base: int = 0) -> list[str]:
    """What a process said that was killed when it had said so many lines."""
    with _start("writing_process", directory, str(base)) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.readlines()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    whole = [line.decode() for line in said if line.endswith(b"\n")]
    assert len(whole) >= lines
    return whole


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize(
    ("where", "write"),
    [("before", 2), ("half", 2), ("after", 2), ("half", 3), ("before", 40), ("half", 41), ("after", 42), ("half", 999)],
)
def test_a_process_killed_at_a_journal_write_loses_no_attempt_and_doubles_none(
    tmp_path: Path, where: str, write: int
) -> None:
    with _start("writing_process", tmp_path, "0", where, str(write)) as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (-signal.SIGKILL, b"")
    _check(output.decode().splitlines(), tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_refuses_openings_and_loses_no_entry(tmp_path: Path) -> None:
    with _start("disk_full_process", tmp_path) as process:
        output, errors = process.communicate(timeout=90)
    assert (process.returncode, errors) == (0, b"")
    taken = int(output.split()[0])
    assert taken > 100
    with closing(SqliteStore(database_in(tmp_path))) as store:
        assert list(store.entries()) == [entry_of(number) for number in range(1, taken + 2)]
        assert store.verify() == []
    assert list(journal_directory(database_in(tmp_path)).iterdir()) == []
