"""What a dead process left is put into the books once, whatever it left, and however often that is tried."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from counterfoil.ledger.entry import Entry, Exit, Line, Opening
from counterfoil.stores import replay as replay_module
from counterfoil.stores.journal import Fsync, Journal, JournalSettings
from counterfoil.stores.lock import take_lock
from counterfoil.stores.memory import MemoryStore
from counterfoil.stores.replay import crashed_entry, open_and_unflushed, replay
from counterfoil.stores.segment import HEADER_SIZE, Contents, Kind, body_of, frame_record, header_of, read_segment
from counterfoil.stores.sqlite import SqliteStore
from counterfoil.usage.reading import NO_READING
from counterfoil.usage.settle import Delivered, Finality, SettledLine
from counterfoil.usage.usage import Bucket, Provenance
from tests.stores.samples import (
    NOON,
    attempt_name,
    dead_copy,
    entry_of,
    opening_of,
    pricing,
    progress_of,
    replayed,
)


def _leave(journal: Journal) -> None:
    journal.shut(lambda: None)


def _written(directory: Path) -> Path:
    """A journal with one attempt closed, one reported on, one only opened."""
    journal = Journal(directory / "live")
    journal.open(opening_of(1))
    journal.open(opening_of(2))
    journal.progress(progress_of(2, made=5))
    journal.close(entry_of(1))
    journal.open(opening_of(3))
    journal.progress(progress_of(2, made=8, after=2.0))
    copy = dead_copy(directory / "live", directory / "dead")
    _leave(journal)
    return copy


def test_closed_attempts_are_entered_and_open_ones_are_crashed(tmp_path: Path) -> None:
    found = replayed(_written(tmp_path))
    assert found[attempt_name(1)] == entry_of(1)
    assert [found[attempt_name(number)].exit for number in (2, 3)] == [Exit.CRASHED, Exit.CRASHED]


def test_replaying_twice_is_replaying_once(tmp_path: Path) -> None:
    dead = _written(tmp_path)
    again = dead_copy(dead, tmp_path / "again")
    store = MemoryStore()
    first = replay(dead, store, pricing)
    assert (first.segments, first.entries, first.crashed) == (1, 1, (attempt_name(2), attempt_name(3)))
    once, totals = list(store.entries()), store.usage()
    assert replay(dead, store, pricing).segments == 0
    assert replay(again, store, pricing).segments == 1
    assert (list(store.entries()), store.usage()) == (once, totals)
    assert list(dead.iterdir()) == []


def test_a_crashed_attempt_is_settled_from_its_last_progress() -> None:
    entry = crashed_entry(opening_of(2), progress_of(2, made=8, after=2.0), pricing)
    assert (entry.exit, entry.closed, entry.total_ms) == (Exit.CRASHED, NOON + 4, 2000.0)
    assert (entry.usage.input_tokens, entry.usage.output_tokens) == (100, 8)
    assert entry.usage.provenance[Bucket.OUTPUT] is Provenance.PARTIAL
    assert (entry.finality, entry.cost) == (Finality.PARTIAL, 108_000)


def test_a_crashed_attempt_without_reports_is_estimated_from_what_was_delivered() -> None:
    progress = msgspec.structs.replace(progress_of(2), reading=NO_READING, delivered=Delivered(output=12))
    entry = crashed_entry(opening_of(2), progress, pricing)
    assert (entry.usage.input_tokens, entry.usage.output_tokens) == (90, 12)
    assert entry.usage.vouched((Bucket.INPUT, Bucket.OUTPUT)) is Provenance.ESTIMATED
    assert entry.lower_bound
    assert entry.delivered == Delivered(90, 12)


def test_a_crashed_attempt_without_progress_has_the_input_of_its_opening() -> None:
    entry = crashed_entry(opening_of(2), None, pricing)
    assert (entry.usage.input_tokens, entry.usage.output_tokens, entry.closed) == (90, 0, NOON + 2)
    assert entry.lower_bound


def test_a_crashed_attempt_whose_input_nobody_knows_stays_unknown() -> None:
    assert crashed_entry(opening_of(2, input_estimate=None), None, pricing).usage.input_tokens is None


def test_pricing_that_fails_leaves_an_unpriced_entry() -> None:
    def broken(opening: Opening, lines: tuple[SettledLine, ...], at: float) -> tuple[Line, ...]:
        raise RuntimeError("no prices today")

    entry = crashed_entry(opening_of(2), progress_of(2), broken)
    assert (entry.cost, entry.usage.total_tokens) == (None, 120)


def test_a_journal_cut_at_any_byte_gives_one_entry_for_each_opening_that_is_whole(tmp_path: Path) -> None:
    (segment,) = _written(tmp_path).iterdir()
    data = segment.read_bytes()
    for end in range(len(data) + 1):
        contents = Contents()
        read_segment(data[:end], contents)
        directory = tmp_path / str(end)
        directory.mkdir()
        (directory / segment.name).write_bytes(data[:end])
        store = MemoryStore()
        done = replay(directory, store, pricing)
        found = list(store.entries())
        assert [entry.opening.attempt for entry in found] == sorted(contents.openings.keys() | contents.entries.keys())
        assert {entry.opening.attempt for entry in found if entry.exit is not Exit.CRASHED} == set(contents.entries)
        assert done.kept_aside == ()
        assert list(directory.iterdir()) == []


def test_a_death_between_commit_and_deletion_doubles_nothing(tmp_path: Path) -> None:
    dead = _written(tmp_path)
    store = SqliteStore(tmp_path / "ledger.db")

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay(dead, store, pricing, die)
    committed = list(store.entries())
    assert len(committed) == 3
    assert len(list(dead.iterdir())) == 1
    assert len(replay(dead, store, pricing, store.sync).crashed) == 2
    assert list(store.entries()) == committed
    assert store.verify() == []
    store.close()


def test_a_store_that_fails_leaves_the_journal_where_it_is(tmp_path: Path) -> None:
    dead = _written(tmp_path)

    class Full(MemoryStore):
        def append(self, entries: object) -> None:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replay(dead, Full(), pricing)
    assert len(replayed(dead)) == 3


def test_a_living_process_is_left_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open(opening_of(1))
    assert replayed(tmp_path) == {}
    journal.close(entry_of(1))
    _leave(journal)
    assert list(replayed(tmp_path)) == [attempt_name(1)]


def test_processes_that_start_at_once_replay_once(tmp_path: Path) -> None:
    dead = _written(tmp_path)
    stores = [SqliteStore(tmp_path / "ledger.db") for _ in range(4)]
    ready = threading.Barrier(4)

    def start(store: SqliteStore) -> None:
        ready.wait(10)
        replay(dead, store, pricing, store.sync)

    threads = [threading.Thread(target=start, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(list(stores[0].entries())) == 3
    assert stores[0].verify() == []
    assert list(dead.iterdir()) == []
    for store in stores:
        store.close()


def test_a_replay_that_waits_for_another_does_not_read_a_deleted_segment(tmp_path: Path) -> None:
    dead = _written(tmp_path)
    store = MemoryStore()
    inside: list[int] = []

    def meanwhile() -> None:
        inside.append(replay(dead, store, pricing).segments)

    replay(dead, store, pricing, meanwhile)
    assert inside == [0]


def _rotated(journal: Journal, numbers: range) -> None:
    """Write until the segments that were there are gone."""
    for number in numbers:
        journal.open(opening_of(number))
        journal.close(entry_of(number))
        journal.committed([attempt_name(number)])
        journal.sweep(lambda: None)


def test_a_segment_its_process_deleted_at_the_last_moment_is_not_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, JournalSettings(fsync=Fsync.NEVER, segment_bytes=3000))
    journal.open(opening_of(0))
    looked: list[int] = []

    def rotate_first(descriptor: int) -> bool:
        _rotated(journal, range(1, 20))
        looked.append(descriptor)
        return take_lock(descriptor)

    monkeypatch.setattr("counterfoil.stores.replay.take_lock", rotate_first)
    assert replayed(tmp_path) == {}
    assert looked
    journal.close(entry_of(0))
    assert open_and_unflushed(tmp_path)[0][0] == entry_of(0)
    _leave(journal)


def test_the_view_looks_again_when_a_segment_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, JournalSettings(fsync=Fsync.NEVER, segment_bytes=3000))
    journal.open(opening_of(0))
    listed = replay_module._processes
    looks: list[int] = []

    def rotate_after(directory: Path) -> Iterator[list[Path]]:
        processes = list(listed(directory))
        if not looks:
            _rotated(journal, range(1, 20))
        looks.append(1)
        return iter(processes)

    monkeypatch.setattr(replay_module, "_processes", rotate_after)
    _, still_open = open_and_unflushed(tmp_path)
    assert [attempt.opening for attempt in still_open] == [opening_of(0)]
    assert len(looks) == 2
    _leave(journal)


def test_the_segments_of_one_process_are_one_journal(tmp_path: Path) -> None:
    marker = b"\x01\x02\x03\xf5"

    def segment(number: int, *records: bytes) -> None:
        text = header_of(marker) + b"".join(frame_record(marker, record) for record in records)
        (tmp_path / f"abc-{number:06d}.journal").write_bytes(text)

    segment(1, body_of(Kind.OPENING, opening_of(1)), body_of(Kind.PROGRESS, progress_of(1, made=3)))
    segment(2, body_of(Kind.OPENING, opening_of(1)), body_of(Kind.PROGRESS, progress_of(1, made=9)))
    segment(3, body_of(Kind.ENTRY, entry_of(1)))
    closed, still_open = open_and_unflushed(tmp_path)
    assert (closed, still_open) == ([entry_of(1)], [])
    (tmp_path / "abc-000003.journal").unlink()
    assert replayed(tmp_path)[attempt_name(1)].usage.output_tokens == 9


def test_a_damaged_segment_is_salvaged_kept_aside_and_reported(tmp_path: Path) -> None:
    dead = _written(tmp_path)
    (segment,) = dead.iterdir()
    data = segment.read_bytes()
    segment.write_bytes(data[: HEADER_SIZE + 20] + b"\x00" + data[HEADER_SIZE + 21 :])
    store = MemoryStore()
    done = replay(dead, store, pricing)
    # The opening of the first attempt is lost, but its entry repeats it.
    assert {entry.opening.attempt for entry in store.entries()} == {attempt_name(number) for number in (1, 2, 3)}
    assert done.kept_aside == (segment.with_name(segment.name + ".corrupt"),)
    assert done.kept_aside[0].stat().st_size == len(data)
    assert "not records" in done.notes[0]
    assert replay(dead, store, pricing).notes == ()


def test_a_file_that_is_no_journal_is_kept_aside(tmp_path: Path) -> None:
    (tmp_path / "abc-000001.journal").write_bytes(b"something else entirely")
    done = replay(tmp_path, MemoryStore(), pricing)
    assert [path.name for path in done.kept_aside] == ["abc-000001.journal.corrupt"]
    assert "not a journal" in done.notes[0]


def test_a_newer_programs_journal_is_left_for_it(tmp_path: Path) -> None:
    segment = tmp_path / "abc-000001.journal"
    text = header_of(b"\x01\x02\x03\xf5")
    segment.write_bytes(text[:8] + b"\x63\x00\x00\x00" + text[12:])
    done = replay(tmp_path, MemoryStore(), pricing)
    assert "newer program" in done.notes[0]
    assert segment.exists()


def test_an_entry_the_database_refuses_is_kept_aside_and_holds_up_no_other(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    impossible = msgspec.structs.replace(entry_of(2), opening=opening_of(2, opened=1e300))
    for entry in (entry_of(1), impossible, entry_of(3)):
        journal.open(entry.opening)
        journal.close(entry)
    _leave(journal)
    store = SqliteStore(tmp_path / "ledger.db")
    done = replay(tmp_path, store, pricing, store.sync)
    assert [entry.opening.attempt for entry in store.entries()] == [attempt_name(1), attempt_name(3)]
    assert len(done.kept_aside) == 1
    assert attempt_name(2) in done.notes[0]
    store.close()


def test_a_segment_that_died_unborn_is_swept_away_and_one_being_born_is_not(tmp_path: Path) -> None:
    (tmp_path / "abc-000001.new").write_bytes(b"")
    born = Journal(tmp_path)
    replay(tmp_path, MemoryStore(), pricing)
    assert [path.suffix for path in tmp_path.iterdir()] == [".journal"]
    _leave(born)


def test_the_view_shows_closed_and_open_attempts_of_a_living_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path, JournalSettings(segment_bytes=2000))
    for number in range(1, 20):
        journal.open(opening_of(number))
        journal.progress(progress_of(number, made=number))
        if number % 2:
            journal.close(entry_of(number))
    (tmp_path / "zzz-000001.journal").write_bytes(b"\x89C")
    closed, still_open = open_and_unflushed(tmp_path)
    assert closed == [entry_of(number) for number in range(1, 20, 2)]
    assert [attempt.opening for attempt in still_open] == [opening_of(number) for number in range(2, 20, 2)]
    assert [attempt.progress for attempt in still_open] == [
        progress_of(number, made=number) for number in range(2, 20, 2)
    ]
    _leave(journal)


def test_the_view_never_fails_and_never_loses_an_attempt_while_the_journal_is_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path, JournalSettings(segment_bytes=4000))
    first: list[Entry] = []
    done = threading.Event()
    journal.open(opening_of(0))

    def write() -> None:
        for number in range(1, 400):
            journal.open(opening_of(number))
            journal.close(entry_of(number))
            journal.committed([attempt_name(number)])
            journal.sweep(lambda: None)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen = 0
    while not done.is_set() or not seen:
        closed, still_open = open_and_unflushed(tmp_path)
        first += closed[:1]
        assert attempt_name(0) in {attempt.opening.attempt for attempt in still_open}
        seen += 1
    thread.join(30)
    _leave(journal)


def test_files_of_the_journal_are_for_their_owner_only(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journals")
    (segment,) = (tmp_path / "journals").iterdir()
    if os.name == "posix":
        assert segment.stat().st_mode & 0o077 == 0
        assert (tmp_path / "journals").stat().st_mode & 0o077 == 0
    _leave(journal)
