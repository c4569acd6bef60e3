"""What every store of entries promises."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterfoil.ledger.entry import Entry, Exit, Line, figures
from counterfoil.stores.memory import MemoryStore
from counterfoil.stores.projection import (
    LedgerStore,
    Selection,
    Total,
    TotalKey,
    group_totals,
    selected,
    shown_figures,
    totals_of,
)
from counterfoil.stores.sqlite import SqliteStore
from counterfoil.usage.usage import Bucket, Provenance, Usage
from tests.stores.samples import NOON, attempt_name, entries_strategy, entry_of, usages_strategy

STORES: dict[str, Callable[[Path], LedgerStore]] = {
    "memory": lambda _: MemoryStore(),
    "sqlite": lambda directory: SqliteStore(directory / "ledger.db"),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LedgerStore]:
    with closing(STORES[request.param](tmp_path)) as made:
        yield made


def _attempts(store: LedgerStore, selection: Selection) -> list[str]:
    return [entry.opening.attempt for entry in store.entries(selection)]


def _names(*numbers: int) -> list[str]:
    return [attempt_name(number) for number in numbers]


def test_an_entry_comes_back_as_it_was_written(store: LedgerStore) -> None:
    entry = entry_of(1, user="someone", tags=("a", "b"))
    store.append([entry])
    store.sync()
    assert store.entry(attempt_name(1)) == entry
    assert list(store.entries()) == [entry]
    assert store.entry("nothing") is None


def test_writing_an_entry_twice_changes_nothing(store: LedgerStore) -> None:
    store.append([entry_of(1), entry_of(2), entry_of(1, made=99)])
    once = (list(store.entries()), store.usage(("day", "key", "provider", "model")))
    store.append([entry_of(2, made=77), entry_of(1)])
    assert (list(store.entries()), store.usage(("day", "key", "provider", "model"))) == once
    assert store.usage() == {TotalKey(): Total(attempts=2, input_tokens=200, output_tokens=40, cost=240_000)}


def test_entries_come_oldest_first_whatever_order_they_were_written_in(store: LedgerStore) -> None:
    store.append([entry_of(3), entry_of(1)])
    store.append([entry_of(2)])
    assert _attempts(store, Selection()) == _names(1, 2, 3)


def test_every_condition_selects(store: LedgerStore) -> None:
    other = entry_of(
        2, exit=Exit.CLIENT_GONE, key="solo", provider="groq", model="llama", route="fast", user="u", opened=NOON + 50
    )
    store.append([entry_of(1), other, entry_of(60)])
    for selection in (
        Selection(key="solo"),
        Selection(exit=Exit.CLIENT_GONE),
        Selection(provider="groq"),
        Selection(model="llama"),
        Selection(route="fast"),
        Selection(user="u"),
        Selection(since=NOON + 50, until=NOON + 60),
    ):
        assert _attempts(store, selection) == _names(2), selection
    assert _attempts(store, Selection(since=NOON + 51)) == _names(60)
    assert _attempts(store, Selection(until=NOON + 50)) == _names(1)
    assert _attempts(store, Selection(key="solo", provider="openai")) == []


def test_limit_takes_the_oldest_and_last_the_newest(store: LedgerStore) -> None:
    store.append([entry_of(number) for number in range(1, 1203)])
    assert _attempts(store, Selection(limit=2)) == _names(1, 2)
    assert _attempts(store, Selection(last=2)) == _names(1201, 1202)
    assert _attempts(store, Selection(last=0)) == []
    assert _attempts(store, Selection(limit=0)) == []
    assert _attempts(store, Selection(last=5000)) == _names(*range(1, 1203))
    assert _attempts(store, Selection(limit=1101, since=NOON + 2)) == _names(*range(2, 1103))


def test_unknown_and_unpriced_are_counted_and_not_taken_for_zero(store: LedgerStore) -> None:
    unknown = msgspec.structs.replace(entry_of(1), lines=(Line("m", "reply", Usage({Bucket.INPUT: 5})),))
    store.append([unknown])
    assert store.usage() == {TotalKey(): Total(attempts=1, input_tokens=5, unknown=1, unpriced=1)}


def test_searches_and_images_are_counted_and_are_no_tokens(store: LedgerStore) -> None:
    units = {Bucket.INPUT: 5, Bucket.OUTPUT: 0, Bucket.SEARCH_UNITS: 3, Bucket.IMAGES: 2}
    guessed = dict.fromkeys(units, Provenance.ESTIMATED)
    for number in (1, 2):
        line = Line("m", "reply", Usage(units, guessed), 7)
        store.append([msgspec.structs.replace(entry_of(number), lines=(line,))])
    assert store.usage() == {
        TotalKey(): Total(
            attempts=2, input_tokens=10, search_units=6, images=4, estimated_tokens=10, unknown=0, cost=14
        )
    }
    assert store.verify() == []


def test_estimated_tokens_are_counted(store: LedgerStore) -> None:
    usage = Usage(
        {Bucket.INPUT: 7, Bucket.OUTPUT: 3}, {Bucket.INPUT: Provenance.REPORTED, Bucket.OUTPUT: Provenance.ESTIMATED}
    )
    store.append([msgspec.structs.replace(entry_of(1), lines=(Line("m", "reply", usage, 1),))])
    assert store.usage()[TotalKey()].estimated_tokens == 3


def test_a_waived_line_is_outside_the_totals_and_an_attempt_without_lines_is_counted(store: LedgerStore) -> None:
    usage = Usage({Bucket.INPUT: 7, Bucket.OUTPUT: 3})
    store.append(
        [
            msgspec.structs.replace(entry_of(1), lines=(Line("m", "reply", usage, 1, waived=True),)),
            msgspec.structs.replace(entry_of(2, exit=Exit.REJECTED), lines=()),
        ]
    )
    assert store.usage(("model",)) == {TotalKey(model="gpt-small"): Total(attempts=2)}


def test_money_has_no_largest_amount(store: LedgerStore) -> None:
    huge = [
        msgspec.structs.replace(entry_of(number), lines=(Line("m", "reply", Usage(), 2**63 - 1),))
        for number in range(50)
    ]
    for start in range(0, 50, 7):
        store.append(huge[start : start + 7])
    assert store.usage()[TotalKey()].cost == 50 * (2**63 - 1)
    assert store.verify() == []


def test_usage_by_an_unknown_word_is_refused(store: LedgerStore) -> None:
    with pytest.raises(ValueError, match="not by colour"):
        store.usage(("colour",))


@pytest.mark.parametrize("kind", STORES)
@given(batches=st.lists(entries_strategy, max_size=5), since=st.integers(-200_000, 200_000) | st.none(), data=st.data())
@settings(max_examples=25, deadline=None)
def test_totals_are_what_the_entries_add_up_to(
    kind: str, batches: list[list[Entry]], since: int | None, data: st.DataObject
) -> None:
    by = data.draw(st.lists(st.sampled_from(["day", "key", "provider", "model"]), unique=True))
    until = data.draw(st.none() | st.integers(-200_000, 200_000))
    written: dict[str, Entry] = {}
    with tempfile.TemporaryDirectory() as directory, closing(STORES[kind](Path(directory))) as store:
        for batch in batches:
            store.append(batch)
            for entry in batch:
                written.setdefault(entry.opening.attempt, entry)
        assert store.verify() == []
        selection = Selection(
            since=None if since is None else NOON + since, until=None if until is None else NOON + until
        )
        chosen = sorted(
            (entry for entry in written.values() if selected(entry, selection)),
            key=lambda entry: (entry.opening.opened, entry.opening.attempt),
        )
        assert list(store.entries(selection)) == chosen
        if all(count < 2**63 for total in totals_of(chosen).values() for count in msgspec.structs.astuple(total)[:-1]):
            assert store.usage(by, selection.since, selection.until) == group_totals(totals_of(chosen), by)


@given(usages_strategy)
def test_the_figures_of_totals_are_the_figures_that_are_shown(usage: Usage) -> None:
    shown = figures(usage)
    assert shown_figures(usage) == (
        shown.input_tokens,
        shown.cache_read_tokens,
        shown.cache_write_tokens,
        shown.output_tokens,
        shown.reasoning_tokens,
        shown.search_units,
        shown.images,
    )
