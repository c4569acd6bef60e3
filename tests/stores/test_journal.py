"""An attempt that was opened is never lost, whatever the disk does; and nothing the disk does fails a reply."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from counterfoil.ledger.entry import Entry, Exit
from counterfoil.ledger.store import BooksUnavailable
from counterfoil.stores.health import HEALTHY
from counterfoil.stores.journal import Fsync, Journal, JournalSettings
from counterfoil.stores.memory import MemoryStore
from counterfoil.stores.record import LARGEST_OPENING
from counterfoil.stores.replay import open_and_unflushed
from counterfoil.stores.segment import LARGEST_RECORD, Contents, read_segment
from counterfoil.usage.reading import Counter, Report
from tests.stores.samples import attempt_name, dead_copy, entry_of, opening_of, progress_of, reading_of, replayed

NEVER_TENDED = JournalSettings(interval=3600.0)


class Disk:
    """`os.write` that can be told to fail."""

    def __init__(self) -> None:
        self.fault: Callable[[int, bytes], int] | None = None

    def write(self, descriptor: int, data: bytes) -> int:
        return os.write(descriptor, data) if self.fault is None else self.fault(descriptor, data)

    def full(self) -> None:
        """As a full disk: what still fits is written."""
        self.fault = lambda descriptor, data: os.write(descriptor, data[: len(data) // 2])

    def broken(self, code: int = errno.EIO) -> None:
        def fail(_: int, __: bytes) -> int:
            raise OSError(code, os.strerror(code))

        self.fault = fail

    def works(self) -> None:
        self.fault = None


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def journal(tmp_path: Path, disk: Disk) -> Iterator[Journal]:
    made = Journal(tmp_path / "live", NEVER_TENDED, write=disk.write)
    yield made
    disk.works()
    made.shut(lambda: None)


def _read(directory: Path) -> Contents:
    contents = Contents()
    for path in sorted(directory.iterdir()):
        read_segment(path.read_bytes(), contents)
    return contents


def test_an_opening_on_a_full_disk_is_refused_and_leaves_nothing(tmp_path: Path, journal: Journal, disk: Disk) -> None:
    journal.open(opening_of(1))
    before = _read(tmp_path / "live")
    disk.full()
    with pytest.raises(BooksUnavailable, match=os.strerror(errno.ENOSPC)):
        journal.open(opening_of(2))
    after = _read(tmp_path / "live")
    assert (after.openings, after.torn, after.damage) == (before.openings, 0, [])
    assert not journal.health().ok
    disk.works()
    journal.open(opening_of(3))
    assert journal.health() == HEALTHY
    assert list(_read(tmp_path / "live").openings) == [attempt_name(1), attempt_name(3)]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_an_opening_that_cannot_be_written_says_why(journal: Journal, disk: Disk, code: int) -> None:
    disk.broken(code)
    with pytest.raises(BooksUnavailable) as raised:
        journal.open(opening_of(1))
    assert os.strerror(code) in raised.value.failure.message
    assert raised.value.failure.status == 503
    health = journal.health()
    assert not health.ok
    assert os.strerror(code) in (health.reason or "")


def test_closing_on_a_full_disk_does_not_fail_and_is_paid_when_there_is_room(
    tmp_path: Path, journal: Journal, disk: Disk
) -> None:
    for number in (1, 2):
        journal.open(opening_of(number))
    disk.full()
    journal.progress(progress_of(1))
    journal.close(entry_of(1))
    journal.progress(progress_of(2, made=3))
    journal.progress(progress_of(2, made=4))
    health = journal.health()
    assert not health.ok
    assert "records that are only in memory: 2" in (health.reason or "")
    assert journal.entries([attempt_name(1)]) == [entry_of(1)]
    disk.works()
    journal.open(opening_of(3))
    contents = _read(tmp_path / "live")
    assert contents.entries == {attempt_name(1): entry_of(1)}
    assert contents.progress[attempt_name(2)] == progress_of(2, made=4)
    assert (contents.damage, journal.health()) == ([], HEALTHY)


def test_health_turns_green_without_traffic(tmp_path: Path, disk: Disk) -> None:
    journal = Journal(tmp_path, JournalSettings(interval=0.01), write=disk.write)
    journal.open(opening_of(1))
    paid = threading.Event()

    def fail_until_paid(descriptor: int, data: bytes) -> int:
        if paid.is_set():
            return os.write(descriptor, data)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    disk.fault = fail_until_paid
    journal.close(entry_of(1))
    assert not journal.health().ok
    paid.set()
    _until(lambda: journal.health() == HEALTHY)
    contents = _read(tmp_path)
    assert contents.entries == {attempt_name(1): entry_of(1)}
    assert (contents.torn, contents.damage) == (0, [])
    journal.shut(lambda: None)


def _until(condition: Callable[[], bool]) -> None:
    wait = threading.Event()
    for _ in range(2000):
        if condition():
            return
        wait.wait(0.005)
    raise AssertionError("did not happen within ten seconds")


def test_a_half_record_that_cannot_be_taken_back_hides_nothing(
    tmp_path: Path, journal: Journal, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.open(opening_of(1))

    def no_truncation(_: int, __: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "ftruncate", no_truncation)
    disk.full()
    with pytest.raises(BooksUnavailable):
        journal.open(opening_of(2))
    disk.works()
    journal.open(opening_of(3))
    journal.close(entry_of(1))
    assert len(list((tmp_path / "live").iterdir())) == 2
    found = replayed(dead_copy(tmp_path / "live", tmp_path / "dead"))
    assert found.keys() == {attempt_name(1), attempt_name(3)}
    assert found[attempt_name(1)] == entry_of(1)


def test_an_opening_that_is_too_large_is_refused_alone(journal: Journal) -> None:
    with pytest.raises(BooksUnavailable, match="over the limit"):
        journal.open(opening_of(1, user="x" * LARGEST_OPENING))
    assert journal.health() == HEALTHY
    with pytest.raises(BooksUnavailable, match="cannot be encoded"):
        journal.open(opening_of(1, user="\ud800"))
    journal.open(opening_of(1))


def test_an_entry_with_huge_raw_reports_is_kept_without_them(tmp_path: Path, journal: Journal) -> None:
    report = Report({Counter.INPUT: 100, Counter.OUTPUT: 20}, raw=b"x" * (2 * LARGEST_RECORD))
    huge = msgspec.structs.replace(entry_of(1), reading=reading_of().join(report), detail="cut")
    journal.open(huge.opening)
    journal.progress(msgspec.structs.replace(progress_of(1), reading=huge.reading))
    written = journal.close(huge)
    assert (written.reading.raw, written.lines) == ((), huge.lines)
    assert written.reading.value(Counter.INPUT) == 100
    assert (written.detail or "").startswith("cut; ")
    contents = _read(tmp_path / "live")
    assert contents.entries == {attempt_name(1): written}
    assert contents.progress[attempt_name(1)].reading.value(Counter.OUTPUT) == 20


def test_counts_of_any_size_can_be_written(tmp_path: Path, journal: Journal) -> None:
    report = Report({Counter.INPUT: 2**80, Counter.OUTPUT: 0})
    entry = msgspec.structs.replace(entry_of(1), reading=reading_of().join(report), provider_total=2**80)
    journal.open(entry.opening)
    journal.close(entry)
    assert _read(tmp_path / "live").entries == {attempt_name(1): entry}


def test_rotation_carries_what_is_open_and_drops_what_is_committed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "live", JournalSettings(fsync=Fsync.NEVER, segment_bytes=4000))
    journal.open(opening_of(0))
    journal.progress(progress_of(0, made=7))
    durable: list[int] = []
    for number in range(1, 100):
        journal.open(opening_of(number))
        journal.close(entry_of(number))
        journal.committed([attempt_name(number)])
        journal.sweep(lambda: durable.append(1))
    assert durable
    assert len(list((tmp_path / "live").iterdir())) <= 2
    found = replayed(dead_copy(tmp_path / "live", tmp_path / "dead"))
    assert (found[attempt_name(0)].exit, found[attempt_name(0)].usage.output_tokens) == (Exit.CRASHED, 7)
    journal.shut(lambda: None)


def test_a_segment_with_uncommitted_entries_stays(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "live", JournalSettings(fsync=Fsync.NEVER, segment_bytes=4000))
    for number in range(100):
        journal.open(opening_of(number))
        journal.close(entry_of(number))
        if number:
            journal.committed([attempt_name(number)])
        journal.sweep(lambda: None)
    found = replayed(dead_copy(tmp_path / "live", tmp_path / "dead"))
    assert found[attempt_name(0)] == entry_of(0)
    journal.shut(lambda: None)


def test_segments_are_kept_while_the_database_cannot_promise_to_keep_them(tmp_path: Path) -> None:
    journal = Journal(tmp_path, JournalSettings(fsync=Fsync.NEVER, segment_bytes=1000))
    for number in range(10):
        journal.open(opening_of(number))
        journal.close(entry_of(number))
    journal.committed([attempt_name(number) for number in range(10)])
    before = sorted(tmp_path.iterdir())

    def refuse() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        journal.sweep(refuse)
    assert sorted(tmp_path.iterdir()) == before
    journal.sweep(lambda: None)
    assert len(list(tmp_path.iterdir())) == 1
    journal.shut(lambda: None)


def test_segments_are_kept_until_what_was_carried_from_them_is_on_the_disk(tmp_path: Path) -> None:
    journal = Journal(tmp_path, JournalSettings(interval=3600.0, segment_bytes=1000))
    for number in range(10):
        journal.open(opening_of(number))
        journal.close(entry_of(number))
    journal.committed([attempt_name(number) for number in range(10)])
    before = sorted(tmp_path.iterdir())
    assert len(before) > 1
    journal.sweep(lambda: None)
    assert sorted(tmp_path.iterdir()) == before
    journal._tend()
    journal.sweep(lambda: None)
    assert len(list(tmp_path.iterdir())) == 1
    journal.shut(lambda: None)


def test_a_rotation_that_fails_goes_on_in_the_old_segment(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "live", JournalSettings(interval=3600.0, segment_bytes=1000), write=disk.write)
    create = os.open

    def no_new_files(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return create(path, flags, mode)

    monkeypatch.setattr(os, "open", no_new_files)
    for number in range(10):
        journal.open(opening_of(number))
    monkeypatch.undo()
    assert len(list((tmp_path / "live").iterdir())) == 1
    for number in range(10):
        journal.close(entry_of(number))
    assert len(list((tmp_path / "live").iterdir())) > 1
    assert len(_read(tmp_path / "live").entries) == 10
    journal.shut(lambda: None)


def test_synchronisation_follows_the_setting(tmp_path: Path) -> None:
    synced: list[str] = []

    def sync(_: int) -> None:
        synced.append(threading.current_thread().name)

    always = Journal(tmp_path / "a", JournalSettings(fsync=Fsync.ALWAYS, interval=3600.0), sync=sync)
    always.open(opening_of(1))
    always.progress(progress_of(1))
    always.close(entry_of(1))
    assert synced == [threading.current_thread().name] * 2
    always.shut(lambda: None)

    synced.clear()
    grouped = Journal(tmp_path / "b", JournalSettings(interval=0.001), sync=sync)
    grouped.open(opening_of(1))
    _until(lambda: bool(synced))
    assert threading.current_thread().name not in synced
    grouped.close(entry_of(1))
    grouped.shut(lambda: None)

    synced.clear()
    never = Journal(tmp_path / "c", JournalSettings(fsync=Fsync.NEVER, interval=0.001), sync=sync)
    never.open(opening_of(1))
    never.shut(lambda: None)
    assert synced == []


def test_an_opening_that_cannot_be_synchronised_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    fail: list[int] = []

    def sync(_: int) -> None:
        if fail:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    journal = Journal(tmp_path, JournalSettings(fsync=Fsync.ALWAYS, interval=3600.0), sync=sync)
    fail.append(1)
    with pytest.raises(BooksUnavailable):
        journal.open(opening_of(1))
    fail.clear()
    assert _read(tmp_path).openings == {}
    journal.shut(lambda: None)


def test_nothing_is_opened_once_the_file_was_deleted(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "live", NEVER_TENDED)
    journal.open(opening_of(1))
    for path in (tmp_path / "live").iterdir():
        path.unlink()
    with pytest.raises(BooksUnavailable, match="its file was deleted"):
        journal.open(opening_of(2))
    assert not journal.health().ok
    journal.shut(lambda: None)


def test_a_failed_synchronisation_turns_health_red_until_one_succeeds(tmp_path: Path) -> None:
    fail = threading.Event()
    fail.set()

    def sync(_: int) -> None:
        if fail.is_set():
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    journal = Journal(tmp_path / "live", JournalSettings(interval=0.001), sync=sync)
    journal.open(opening_of(1))
    _until(lambda: "synchronised" in (journal.health().reason or ""))
    fail.clear()
    _until(lambda: journal.health() == HEALTHY)
    journal.open(opening_of(2))
    assert replayed(dead_copy(tmp_path / "live", tmp_path / "dead")).keys() == {attempt_name(1), attempt_name(2)}
    journal.shut(lambda: None)


def test_leaving_keeps_what_is_open_and_deletes_what_is_done(tmp_path: Path) -> None:
    done = Journal(tmp_path / "done")
    done.open(opening_of(1))
    done.close(entry_of(1))
    done.committed([attempt_name(1)])
    done.shut(lambda: None)
    done.shut(lambda: None)
    assert list((tmp_path / "done").iterdir()) == []
    with pytest.raises(BooksUnavailable, match="shut"):
        done.open(opening_of(2))
    done.close(entry_of(2))
    assert not done.health().ok

    running = Journal(tmp_path / "running")
    running.open(opening_of(1))
    running.shut(lambda: None)
    assert replayed(tmp_path / "running").keys() == {attempt_name(1)}


def test_leaving_keeps_what_is_committed_but_not_durable(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open(opening_of(1))
    journal.close(entry_of(1))
    journal.committed([attempt_name(1)])

    def refuse() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        journal.shut(refuse)
    assert replayed(tmp_path) == {attempt_name(1): entry_of(1)}


def test_threads_may_share_a_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path, JournalSettings(segment_bytes=8000))

    def run(base: int) -> None:
        for number in range(base, base + 100):
            journal.open(opening_of(number))
            journal.progress(progress_of(number))
            journal.close(entry_of(number))

    threads = [threading.Thread(target=run, args=(base,)) for base in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    closed, still_open = open_and_unflushed(tmp_path)
    assert (len(closed), still_open) == (300, [])
    journal.shut(lambda: None)


class JournalLife(RuleBasedStateMachine):
    """Anything may happen to a journal in any order; whenever its process dies, each opened attempt has one entry."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.disk = Disk()
        self.journal = Journal(self.home / "live", JournalSettings(Fsync.NEVER, 3600.0, 1500), write=self.disk.write)
        self.store = MemoryStore()
        self.next = 0
        self.copies = 0
        self.opened: set[int] = set()
        self.closed: dict[int, Entry] = {}
        self.made: dict[int, int] = {}

    @rule()
    def open(self) -> None:
        self.next += 1
        try:
            self.journal.open(opening_of(self.next))
        except BooksUnavailable:
            assert self.disk.fault is not None
        else:
            self.opened.add(self.next)

    @precondition(lambda self: self.opened)
    @rule(data=st.data(), made=st.integers(0, 50))
    def progress(self, data: st.DataObject, made: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.opened)))
        self.made[number] = made
        self.journal.progress(progress_of(number, made=made))

    @precondition(lambda self: self.opened)
    @rule(data=st.data(), made=st.integers(0, 50))
    def close(self, data: st.DataObject, made: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.opened)))
        self.opened.remove(number)
        self.closed[number] = entry_of(number, made=made)
        self.journal.close(self.closed[number])

    @precondition(lambda self: self.closed)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        numbers = data.draw(st.sets(st.sampled_from(sorted(self.closed)), min_size=1))
        self.store.append([self.closed[number] for number in numbers])
        self.journal.committed([attempt_name(number) for number in numbers])

    @rule()
    def sweep(self) -> None:
        self.journal.sweep(lambda: None)

    @rule(how=st.sampled_from(["full", "broken", "works", "works"]))
    def disk_turns(self, how: str) -> None:
        getattr(self.disk, how)()

    @invariant()
    def a_death_now_loses_and_doubles_nothing(self) -> None:
        self.copies += 1
        dead = dead_copy(self.home / "live", self.home / f"dead{self.copies}")
        store = MemoryStore()
        store.append(list(self.store.entries()))
        found = replayed(dead, store)
        assert found.keys() == {attempt_name(number) for number in (*self.opened, *self.closed)}
        owed = 0
        for number, entry in self.closed.items():
            # An entry owed to a full disk dies with its process; its attempt does not.
            owed += found[attempt_name(number)] != entry
            assert found[attempt_name(number)] == entry or found[attempt_name(number)].exit is Exit.CRASHED
        assert not owed or not self.journal.health().ok
        for number in self.opened:
            crashed = found[attempt_name(number)]
            assert crashed.exit is Exit.CRASHED
            if self.journal.health().ok:
                assert crashed.usage.output_tokens == self.made.get(number, 0)
        assert store.verify() == []
        shutil.rmtree(dead)

    def teardown(self) -> None:
        self.disk.works()
        self.journal.shut(lambda: None)
        shutil.rmtree(self.home)


TestJournalLife = JournalLife.TestCase
TestJournalLife.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
