"""A correction is a difference: entry and correction add up to what a better count would have given at once."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from counterfoil.ledger.correction import correction_of, is_estimated, with_corrections
from counterfoil.ledger.entry import Entry, Exit, Line, Opening
from counterfoil.stores.projection import totals_of
from counterfoil.usage.reading import NO_READING, Counter, Reading, Report
from counterfoil.usage.settle import Convention, Delivered, SettledLine, settle
from counterfoil.usage.usage import Bucket, Provenance
from tests.laws.strategies import conventions, counts, delivered, reading_of, reports

__all__: list[str] = []

OPENING = Opening("a-1", "e", 1_750_000_000.0, "route", "playhouse", "play-1", "openai_chat", "openai_chat", key="team")


def price(opening: Opening, lines: tuple[SettledLine, ...]) -> tuple[Line, ...]:
    """Two picodollars a billed token; a line of model "unpriced" has no price."""
    return tuple(
        Line(
            line.model or opening.model,
            line.kind,
            line.usage,
            None if line.model == "unpriced" else 2 * sum(line.usage.priced.values()),
            None,
            line.waived,
        )
        for line in lines
    )


def entry_of(reading: Reading, convention: Convention, seen: Delivered, *, ended: bool) -> Entry:
    """As an attempt closes it."""
    opening = msgspec.structs.replace(OPENING, convention=convention)
    settled = settle(reading, convention, ended=ended, delivered=seen)
    return Entry(
        opening,
        opening.opened + 1,
        Exit.COMPLETED if ended else Exit.TRUNCATED,
        price(opening, settled.lines),
        reading,
        seen if settled.usage.estimated else None,
        settled.finality,
        lower_bound=settled.lower_bound,
    )


def like(seen: Delivered, counted: Delivered) -> Delivered:
    """`counted`, with an input where `seen` has one: only what was estimated is counted again."""
    return msgspec.structs.replace(counted, input=None if seen.input is None else counted.input or 0)


def corrected(entry: Entry, counted: Delivered) -> Entry | None:
    return correction_of(entry, counted, price, attempt="a-2", estimator="splintr 1, words", at=entry.closed + 1)


@given(st.lists(reports(counts), max_size=4), conventions, delivered, delivered, st.booleans())
def test_entry_and_correction_add_up_to_what_the_better_count_gives(
    said: list[Report], convention: Convention, seen: Delivered, counted: Delivered, ended: bool
) -> None:
    reading, counted = reading_of(*said), like(seen, counted)
    entry = entry_of(reading, convention, seen, ended=ended)
    assume(entry.delivered is not None)
    better = price(entry.opening, settle(reading, convention, ended=ended, delivered=counted).lines)
    correction = corrected(entry, counted)
    if correction is None:
        assert [line.usage.buckets for line in entry.lines] == [line.usage.buckets for line in better]
        return
    together = with_corrections(entry, [correction])
    for line, now in zip(together.lines, better, strict=True):
        assert {b: n for b, n in line.usage.buckets.items() if n} == {b: n for b, n in now.usage.buckets.items() if n}
        assert {b: n for b, n in line.usage.priced.items() if n} == {b: n for b, n in now.usage.priced.items() if n}
        assert line.cost == now.cost
    before = [line.usage.buckets.keys() & {Bucket.INPUT, Bucket.OUTPUT} for line in entry.lines]
    assert [line.usage.buckets.keys() & {Bucket.INPUT, Bucket.OUTPUT} for line in together.lines] == before


@given(st.lists(reports(counts, lines=False), max_size=3), delivered, delivered)
def test_totals_stay_simple_sums_and_count_the_attempt_once(
    said: list[Report], seen: Delivered, counted: Delivered
) -> None:
    entry = entry_of(reading_of(*said), Convention(), seen, ended=False)
    assume(entry.delivered is not None)
    correction = corrected(entry, like(seen, counted))
    assume(correction is not None)
    assert correction is not None
    (total,) = totals_of([entry, correction]).values()
    (alone,) = totals_of([with_corrections(entry, [correction])]).values()
    assert msgspec.structs.replace(total, estimated_tokens=0) == msgspec.structs.replace(alone, estimated_tokens=0)
    assert total.attempts == 1


def test_a_correction_says_whom_it_corrects_and_who_counted_and_repeats_nothing_else() -> None:
    reading = NO_READING.join(Report({Counter.INPUT: 40}, raw=b"{}"))
    entry = entry_of(reading, Convention(), Delivered(9, 30), ended=False)
    correction = corrected(entry, Delivered(9, 25))
    assert correction is not None
    assert correction.corrects is not None
    assert (correction.corrects.attempt, correction.corrects.estimator) == ("a-1", "splintr 1, words")
    assert correction.opening == msgspec.structs.replace(entry.opening, attempt="a-2")
    (line,) = correction.lines
    assert line.usage.buckets == {Bucket.INPUT: 0, Bucket.OUTPUT: -5}
    assert line.usage.provenance == {Bucket.OUTPUT: Provenance.ESTIMATED}
    assert line.cost == -10
    assert correction.reading == NO_READING
    assert correction.delivered == Delivered(9, 25)


def test_a_bill_that_held_an_estimate_is_corrected_with_it() -> None:
    said = {Counter.INPUT: 40, Counter.OUTPUT: 10, Counter.BILLED_INPUT: 12, Counter.BILLED_OUTPUT: 7}
    entry = entry_of(reading_of(Report(dict(said))), Convention(), Delivered(9, 14, since_report=4), ended=False)
    correction = corrected(entry, Delivered(9, 13, since_report=3))
    assert correction is not None
    (before,), (change,) = entry.lines, correction.lines
    assert (before.usage.billed, before.cost) == ({Bucket.INPUT: 12, Bucket.OUTPUT: 11}, 46)
    assert (change.usage.billed, change.cost) == ({Bucket.INPUT: 0, Bucket.OUTPUT: -1}, -2)


@pytest.mark.parametrize("hidden", [True, False])
def test_a_lower_bound_stays_one_when_it_is_counted_again(hidden: bool) -> None:
    entry = entry_of(NO_READING, Convention(), Delivered(9, 30, hidden=hidden), ended=False)
    correction = corrected(entry, Delivered(9, 25, hidden=hidden))
    assert correction is not None
    assert (entry.lower_bound, correction.lower_bound) == (hidden, hidden)
    assert (correction.exit, correction.finality) == (entry.exit, entry.finality)


def test_a_report_is_never_corrected() -> None:
    reading = NO_READING.join(Report({Counter.INPUT: 40, Counter.OUTPUT: 30}))
    entry = entry_of(reading, Convention(), Delivered(9, 31), ended=True)
    assert not is_estimated(entry, *Bucket)
    assert corrected(entry, Delivered(1000, 1000)) is None


def test_a_count_that_finds_the_same_corrects_nothing() -> None:
    entry = entry_of(NO_READING, Convention(), Delivered(9, 30, 4), ended=False)
    assert is_estimated(entry, Bucket.OUTPUT)
    assert corrected(entry, Delivered(9, 30, 4)) is None


def test_what_has_no_price_has_none_after_it_either() -> None:
    reading = NO_READING.join(Report({}))
    entry = entry_of(reading, Convention(), Delivered(9, 30), ended=False)
    unpriced = msgspec.structs.replace(
        entry, lines=tuple(msgspec.structs.replace(line, cost=None) for line in entry.lines)
    )
    correction = corrected(unpriced, Delivered(9, 25))
    assert correction is not None
    assert correction.cost is None
    (total,) = totals_of([unpriced, correction]).values()
    assert (total.unpriced, total.cost, total.output_tokens) == (1, 0, 25)
