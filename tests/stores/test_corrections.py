"""A correction in the books: it adds up, it is there once, and a crash beside it loses nothing but it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from counterfoil.ledger.correction import correction_of, with_corrections
from counterfoil.ledger.entry import Entry, Exit, Line, Opening
from counterfoil.stores.books import journal_directory, open_books
from counterfoil.stores.memory import MemoryStore
from counterfoil.stores.projection import LedgerStore, Selection, Total, TotalKey
from counterfoil.stores.replay import open_and_unflushed, replay
from counterfoil.stores.sqlite import SqliteStore
from counterfoil.usage.reading import NO_READING
from counterfoil.usage.settle import Delivered, SettledLine, settle
from tests.stores.samples import NOON, attempt_name, dead_copy, entry_of, opening_of, pricing, progress_of
from tests.stores.test_contract import STORES

__all__: list[str] = []

DAY = 86_400.0


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LedgerStore]:
    with closing(STORES[request.param](tmp_path)) as made:
        yield made


def _price(opening: Opening, lines: tuple[SettledLine, ...]) -> tuple[Line, ...]:
    return pricing(opening, lines, opening.opened)


def estimated_entry(number: int = 1, *, output: int = 30, **changes: object) -> Entry:
    """An attempt of which nobody reported anything."""
    opening = opening_of(number, **changes)
    seen = Delivered(90, output)
    settled = settle(NO_READING, opening.convention, ended=False, delivered=seen)
    return Entry(
        opening,
        opening.opened + 2,
        Exit.TRUNCATED,
        _price(opening, settled.lines),
        NO_READING,
        seen,
        settled.finality,
        status=200,
    )


def correction_for(entry: Entry, number: int, *, given: int = 80, made: int = 25) -> Entry:
    correction = correction_of(
        entry,
        Delivered(given, made),
        _price,
        attempt=attempt_name(number),
        estimator="splintr 1, words",
        at=entry.closed + 1,
    )
    assert correction is not None
    return correction


def test_entry_and_correction_add_up(store: LedgerStore) -> None:
    entry = estimated_entry(1)
    correction = correction_for(entry, 501)
    store.append([entry])
    store.append([correction])
    total = Total(attempts=1, input_tokens=80, output_tokens=25, estimated_tokens=105, cost=105_000)
    assert store.usage() == {TotalKey(): total}
    assert store.verify() == []
    assert store.entry(attempt_name(501)) == correction
    assert store.corrections(attempt_name(1)) == [correction]
    assert store.corrections(attempt_name(501)) == []
    assert with_corrections(entry, store.corrections(attempt_name(1))).usage.total_tokens == 105


def test_writing_a_correction_twice_changes_nothing(store: LedgerStore) -> None:
    entry = estimated_entry(1)
    correction = correction_for(entry, 501)
    store.append([entry, correction, correction])
    once = (list(store.entries()), store.usage(("day", "key", "provider", "model")))
    store.append([correction, entry])
    assert (list(store.entries()), store.usage(("day", "key", "provider", "model"))) == once
    assert store.verify() == []


def test_a_correction_that_comes_first_adds_up_all_the_same(store: LedgerStore) -> None:
    entry = estimated_entry(1)
    store.append([correction_for(entry, 501)])
    store.append([entry])
    assert store.usage()[TotalKey()].output_tokens == 25
    assert store.verify() == []


def test_a_correction_stands_where_its_attempt_stands(store: LedgerStore) -> None:
    entry = estimated_entry(1, user="someone")
    late = msgspec.structs.replace(correction_for(entry, 501), closed=NOON + 3 * DAY)
    other = entry_of(2, opened=NOON + 2 * DAY)
    store.append([other, late, entry])
    assert [one.opening.attempt for one in store.entries()] == [attempt_name(number) for number in (1, 501, 2)]
    for selection in (Selection(until=NOON + DAY), Selection(user="someone"), Selection(exit=Exit.TRUNCATED)):
        assert [one.opening.attempt for one in store.entries(selection)] == [attempt_name(1), attempt_name(501)]
    assert store.usage((), NOON, NOON + DAY)[TotalKey()].output_tokens == 25


def test_several_corrections_of_one_attempt_come_in_their_order(store: LedgerStore) -> None:
    entry = estimated_entry(1)
    corrections = [correction_for(entry, number, made=20 + number) for number in (503, 501, 502)]
    store.append([entry, *corrections])
    assert [one.opening.attempt for one in store.corrections(attempt_name(1))] == [
        attempt_name(number) for number in (501, 502, 503)
    ]


def test_a_correction_goes_through_the_journal_into_the_database(tmp_path: Path) -> None:
    database = tmp_path / "ledger.db"
    books = open_books(database, pricing)
    entry = estimated_entry(1)
    correction = correction_for(entry, 501)
    books.open(entry.opening)
    books.close(entry)
    books.correct(correction)
    assert books.flush(20)
    assert list(books.store.entries()) == [entry, correction]
    assert books.store.verify() == []
    assert books.shut(20)
    assert list(journal_directory(database).iterdir()) == []


def test_a_process_that_dies_after_the_correction_keeps_both_and_before_it_keeps_the_entry(tmp_path: Path) -> None:
    directory = tmp_path / "ledger.db.journals"
    books = open_books(tmp_path / "ledger.db", pricing)
    entry = estimated_entry(1)
    correction = correction_for(entry, 501)
    books.open(entry.opening)
    books.progress(progress_of(1))
    books.close(entry)
    before = dead_copy(directory, tmp_path / "before")
    books.correct(correction)
    after = dead_copy(directory, tmp_path / "after")
    books.shut(20)
    for left, kept in ((before, [entry]), (after, [entry, correction])):
        assert open_and_unflushed(left) == (kept, [])
        store = MemoryStore()
        assert replay(left, store, pricing).crashed == ()
        assert list(store.entries()) == kept
        assert store.verify() == []


def test_a_ledger_from_before_corrections_gets_a_place_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from counterfoil.stores import sqlite_schema

    at = next(
        number for number, step in enumerate(sqlite_schema.MIGRATIONS) if any("corrects" in text for text in step)
    )
    with monkeypatch.context() as before:
        before.setattr(sqlite_schema, "MIGRATIONS", sqlite_schema.MIGRATIONS[:at])
        before.setattr(sqlite_schema, "VERSION", at)
        before.setattr("counterfoil.stores.sqlite.VERSION", at)
        with closing(SqliteStore(tmp_path / "ledger.db")):
            pass
    with closing(SqliteStore(tmp_path / "ledger.db")) as store:
        entry = estimated_entry(1)
        store.append([entry, correction_for(entry, 501)])
        assert len(store.corrections(attempt_name(1))) == 1
        assert store.verify() == []
