"""A reading is what one attempt's reports amount to: later words replace earlier ones, and nothing is ever added."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from counterfoil.usage.reading import (
    LARGEST_COUNT,
    LINES_KEPT,
    NAME_KEPT,
    NO_READING,
    OTHER_LINES,
    RAW_REPORTS_KEPT,
    WHOLE_REPLY,
    Counter,
    Reading,
    Report,
    ReportLine,
)
from tests.laws.strategies import any_counts, counts, reading_of, reports

__all__: list[str] = []

_many = st.lists(reports(), max_size=6)


def _grouped(reading: Reading) -> tuple[object, ...]:
    """All of a reading that must not depend on how merges are grouped."""
    return reading.scopes, reading.lines, reading.reports, reading.raw, reading.implausible


@given(_many, reports(scoped=False))
def test_a_report_replaces_what_was_said_before_of_its_counters_and_of_no_other(
    earlier: list[Report], last: Report
) -> None:
    before = reading_of(*earlier)
    after = before.join(last)
    for counter in Counter:
        said = last.counts.get(counter)
        assert after.value(counter) == (before.value(counter) if said is None else said)


@given(_many, st.integers(0, 2), counts)
def test_a_report_of_one_choice_leaves_the_others_alone(
    earlier: list[Report], choice: int, said: dict[Counter, int | None]
) -> None:
    before = reading_of(*earlier)
    after = before.join(Report(said, scope=choice))
    for scope in {WHOLE_REPLY, 0, 1, 2} - {choice}:
        assert after.scopes.get(scope) == before.scopes.get(scope)


@given(_many, st.sets(st.sampled_from(Counter)))
def test_null_neither_sets_nor_clears(earlier: list[Report], silent: set[Counter]) -> None:
    before = reading_of(*earlier)
    after = before.join(Report(dict.fromkeys(silent)))
    assert after.scopes == before.scopes
    assert after.reports == before.reports + 1


def test_absent_null_and_zero_are_three_things() -> None:
    reading = reading_of(
        Report({Counter.INPUT: 5, Counter.OUTPUT: 7}), Report({Counter.INPUT: None, Counter.OUTPUT: 0})
    )
    assert reading.value(Counter.INPUT) == 5
    assert reading.value(Counter.OUTPUT) == 0
    assert reading.value(Counter.REASONING) is None


@given(reports())
def test_saying_the_same_again_changes_no_number(report: Report) -> None:
    once, thrice = reading_of(report), reading_of(report, report, report)
    numbers = [
        {
            scope: {counter: said.value for counter, said in counters.items()}
            for scope, counters in reading.scopes.items()
        }
        for reading in (once, thrice)
    ]
    assert numbers[0] == numbers[1]
    assert once.lines == thrice.lines
    assert thrice.fell == frozenset()


@given(_many, _many, _many)
def test_merging_does_not_depend_on_the_grouping(one: list[Report], two: list[Report], three: list[Report]) -> None:
    a, b, c = reading_of(*one), reading_of(*two), reading_of(*three)
    assert _grouped(a.merge(b).merge(c)) == _grouped(a.merge(b.merge(c)))
    assert _grouped(a.merge(b).merge(c)) == _grouped(reading_of(*one, *two, *three))


@given(_many)
def test_the_empty_reading_is_the_identity(said: list[Report]) -> None:
    reading = reading_of(*said)
    assert NO_READING.merge(reading) == reading
    assert reading.merge(NO_READING) == reading


@given(st.lists(reports(), min_size=1, max_size=6))
def test_an_ordinal_is_the_number_of_the_report_that_spoke_last(said: list[Report]) -> None:
    reading = reading_of(*said)
    for scope, counters in reading.scopes.items():
        for counter, observation in counters.items():
            report = said[observation.ordinal - 1]
            assert (WHOLE_REPLY if report.scope is None else report.scope) == scope
            assert report.counts[counter] == observation.value
            assert not any(
                later.scope == report.scope and later.counts.get(counter) is not None
                for later in said[observation.ordinal :]
            )


@given(st.lists(st.binary(min_size=1, max_size=4), max_size=40))
def test_the_first_report_and_the_last_seven_are_kept_word_for_word(raw: list[bytes]) -> None:
    reading = reading_of(*(Report({}, raw=text) for text in raw))
    assert reading.reports == len(raw)
    assert len(reading.raw) <= RAW_REPORTS_KEPT
    assert list(reading.raw) == (raw if len(raw) <= RAW_REPORTS_KEPT else [raw[0], *raw[1 - RAW_REPORTS_KEPT :]])


def test_a_counter_that_fell_is_noted_unless_it_was_a_placeholder() -> None:
    measured = reading_of(Report({Counter.INPUT: 169}), Report({Counter.INPUT: 79}))
    assert measured.value(Counter.INPUT) == 79
    assert measured.fell == {Counter.INPUT}
    placeholder = Report({Counter.OUTPUT: 10}, provisional=frozenset({Counter.OUTPUT}))
    assert reading_of(placeholder, Report({Counter.OUTPUT: 4})).fell == frozenset()


@given(_many, any_counts)
def test_a_number_no_count_can_be_is_not_heard_but_noted(
    earlier: list[Report], said: dict[Counter, int | None]
) -> None:
    before = reading_of(*earlier)
    after = before.join(Report(said))
    for counter, value in said.items():
        if value is not None and not 0 <= value <= LARGEST_COUNT:
            assert after.value(counter) == before.value(counter)
            assert counter in after.implausible
    for scope in after.scopes.values():
        assert all(0 <= observation.value <= LARGEST_COUNT for observation in scope.values())


def test_lines_beyond_what_an_entry_can_hold_are_added_up_in_one_and_none_of_their_tokens_is_lost() -> None:
    lines = tuple(ReportLine("message", {Counter.INPUT: 2, Counter.OUTPUT: 3}, f"m{n}") for n in range(5000))
    waived = ReportLine("message", {Counter.INPUT: 7}, "declined", waived=True)
    reading = reading_of(Report({}, lines=(*lines, waived)))
    assert len(reading.lines) == LINES_KEPT
    assert reading.lines[:-1] == lines[: LINES_KEPT - 1]
    assert (reading.lines[-1].kind, reading.lines[-1].model) == (OTHER_LINES, None)
    assert sum(line.counts[Counter.INPUT] or 0 for line in reading.lines) == 2 * 5000
    assert sum(line.counts[Counter.OUTPUT] or 0 for line in reading.lines) == 3 * 5000


def test_a_lines_names_are_kept_as_far_as_names_go() -> None:
    (line,) = reading_of(Report({}, lines=(ReportLine("k" * 10**6, {}, "m" * 10**6),))).lines
    assert (line.kind, line.model) == ("k" * NAME_KEPT, "m" * NAME_KEPT)
