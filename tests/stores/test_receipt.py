"""A receipt is what the books have of one exchange now: closed, running, corrected, and nothing of another's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from counterfoil.ledger.price_table import PriceTable
from counterfoil.stores.books import LedgerBooks, open_books
from counterfoil.stores.receipt import Receipt, receipt_of
from tests.stores.samples import entry_of, opening_of
from tests.stores.test_corrections import correction_for, estimated_entry

__all__: list[str] = []

TABLE = PriceTable([])


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def books(database: Path) -> Iterator[LedgerBooks]:
    opened = open_books(database, lambda opening, lines, at: ())
    yield opened
    opened.shut()


def told(receipt: Receipt | None) -> list[tuple[str, str]]:
    assert receipt is not None
    return [(attempt.entry.attempt, attempt.entry.exit) for attempt in receipt.attempts]


def test_every_attempt_of_the_exchange_is_in_it_and_no_other(database: Path, books: LedgerBooks) -> None:
    first, second = entry_of(1, exchange="e-1"), entry_of(2, exchange="e-1")
    for entry in (second, first, entry_of(3, exchange="e-2")):
        books.open(entry.opening)
        books.close(entry)
    assert books.flush()
    receipt = receipt_of(database, "e-1", TABLE)
    assert told(receipt) == [(one.opening.attempt, "completed") for one in (first, second)]
    assert receipt is not None
    assert (receipt.exchange, receipt.key) == ("e-1", first.opening.key)
    assert receipt_of(database, "e-3", TABLE) is None


def test_an_attempt_that_runs_is_in_it_and_is_not_told_twice_once_it_ended(database: Path, books: LedgerBooks) -> None:
    running, entry = opening_of(2, exchange="e-1"), entry_of(1, exchange="e-1")
    for opening in (entry.opening, running):
        books.open(opening)
    books.close(entry)
    assert told(receipt_of(database, "e-1", TABLE)) == [(entry.opening.attempt, "completed"), (running.attempt, "open")]
    assert books.flush()
    assert told(receipt_of(database, "e-1", TABLE)) == [(entry.opening.attempt, "completed"), (running.attempt, "open")]


def test_a_correction_stands_with_its_attempt(database: Path, books: LedgerBooks) -> None:
    entry = estimated_entry(1)
    other = estimated_entry(3, exchange=entry.opening.exchange)
    for one in (entry, other):
        books.open(one.opening)
        books.close(one)
    books.correct(correction_for(entry, 2))
    assert books.flush()
    receipt = receipt_of(database, entry.opening.exchange, TABLE)
    assert receipt is not None
    assert [len(attempt.corrections) for attempt in receipt.attempts] == [1, 0]
    assert receipt.attempts[0].corrected is not None
