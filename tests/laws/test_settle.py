"""Settling happens once, invents nothing, hides nothing and never fails."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from counterfoil.usage.reading import Counter, Reading, Report, ReportLine
from counterfoil.usage.settle import Convention, Delivered, Discrepancy, DiscrepancyKind, Finality, Settlement, settle
from counterfoil.usage.usage import INPUT_BUCKETS, OUTPUT_BUCKETS, Bucket, Provenance
from tests.laws.strategies import any_counts, conventions, counts, delivered, reading_of, reports

__all__: list[str] = []

_INPUT_PARTS = (
    Counter.CACHE_READ,
    Counter.CACHE_READ_AUDIO,
    Counter.CACHE_WRITE,
    Counter.INPUT_AUDIO,
    Counter.INPUT_IMAGE,
    Counter.TOOL_INPUT,
)
_OUTPUT_PARTS = (Counter.REASONING, Counter.OUTPUT_AUDIO, Counter.OUTPUT_IMAGE)
_LIFETIMES = (Counter.CACHE_WRITE_5M, Counter.CACHE_WRITE_1H)


def _settled(said: dict[Counter, int | None], convention: Convention | None = None) -> Settlement:
    return settle(reading_of(Report(said)), convention or Convention(), ended=True)


@given(
    st.lists(reports(any_counts, marked=True), max_size=6),
    conventions,
    st.booleans(),
    st.none() | delivered,
)
def test_settling_never_fails_and_no_bucket_is_ever_negative(
    said: list[Report], convention: Convention, ended: bool, seen: Delivered | None
) -> None:
    settled = settle(reading_of(*said), convention, ended=ended, delivered=seen)
    assert settled.lines
    for line in settled.lines:
        assert all(value >= 0 for value in line.usage.buckets.values())
        assert all(value > 0 for value in line.usage.excess.values())
        assert line.usage.provenance.keys() == line.usage.buckets.keys()
    assert msgspec.json.decode(msgspec.json.encode(settled), type=Settlement) == settled


@given(st.lists(reports(any_counts), max_size=6))
def test_a_reading_survives_being_stored(said: list[Report]) -> None:
    reading = reading_of(*said)
    assert msgspec.json.decode(msgspec.json.encode(reading), type=Reading) == reading


@given(st.dictionaries(st.sampled_from(Counter), st.integers(0, 300)), st.data(), conventions)
def test_totals_do_not_depend_on_how_the_counters_were_spread_over_reports(
    said: dict[Counter, int], data: st.DataObject, convention: Convention
) -> None:
    spread: list[dict[Counter, int | None]] = [{}, {}, {}]
    for counter, value in said.items():
        spread[data.draw(st.integers(0, 2))][counter] = value
    at_once = settle(reading_of(Report(dict(said))), convention, ended=True).usage
    in_pieces = settle(reading_of(*map(Report, spread)), convention, ended=True).usage
    assert in_pieces == at_once


@given(counts, conventions, delivered | st.none())
def test_a_bill_changes_nothing_of_what_is_shown_and_is_priced_as_it_was_said(
    said: dict[Counter, int | None], convention: Convention, seen: Delivered | None
) -> None:
    bills = {Counter.BILLED_INPUT: Bucket.INPUT, Counter.BILLED_OUTPUT: Bucket.OUTPUT}
    billed = settle(reading_of(Report(said)), convention, ended=True, delivered=seen).usage
    without = {counter: value for counter, value in said.items() if counter not in bills}
    plain = settle(reading_of(Report(without)), convention, ended=True, delivered=seen).usage
    assert (billed.buckets, billed.provenance, billed.excess) == (plain.buckets, plain.provenance, plain.excess)
    stated = {bills[counter]: value for counter, value in said.items() if counter in bills and value is not None}
    assert (billed.billed is None) == (not stated)
    assert stated.items() <= billed.priced.items()
    for side, buckets in ((Bucket.INPUT, INPUT_BUCKETS), (Bucket.OUTPUT, OUTPUT_BUCKETS)):
        if side not in stated:
            assert {b: billed.priced.get(b) for b in buckets} == {b: plain.buckets.get(b) for b in buckets}


@given(counts, conventions, st.integers(1, 4))
def test_the_same_report_again_bills_nothing_more(
    said: dict[Counter, int | None], convention: Convention, times: int
) -> None:
    once = settle(reading_of(Report(said)), convention, ended=True)
    often = settle(reading_of(*[Report(said)] * times), convention, ended=True)
    assert often == once


@given(counts, conventions)
def test_parts_inside_a_whole_never_exceed_it_and_what_they_claim_beyond_it_is_kept(
    said: dict[Counter, int | None], convention: Convention
) -> None:
    usage = _settled(said, convention).usage
    for side, parts, included in (
        (Counter.INPUT, _INPUT_PARTS, convention.input_includes),
        (Counter.OUTPUT, _OUTPUT_PARTS, convention.output_includes),
    ):
        whole = said.get(side)
        if whole is None or convention.hidden_reasoning:
            continue
        inside = sum(usage.buckets.get(Bucket(part.value), 0) for part in parts if part in included)
        if Counter.CACHE_WRITE in included and side is Counter.INPUT:
            inside += sum(usage.buckets.get(Bucket(child.value), 0) for child in _LIFETIMES)
        assert inside + usage.buckets[Bucket(side.value)] == whole
    for part in (*_INPUT_PARTS, *_OUTPUT_PARTS):
        claimed = said.get(part)
        if claimed is not None and part is not Counter.CACHE_WRITE and not convention.hidden_reasoning:
            assert usage.claimed(Bucket(part.value)) == claimed
    written = said.get(Counter.CACHE_WRITE)
    if written is not None:
        assert usage.cache_write_tokens == written


@given(counts, st.integers(0, 300), conventions)
def test_a_part_outside_its_whole_is_added_to_it(
    said: dict[Counter, int | None], given_input: int, convention: Convention
) -> None:
    settled = _settled({**said, Counter.INPUT: given_input}, convention)
    outside = sum(said.get(part) or 0 for part in _INPUT_PARTS if part not in convention.input_includes)
    if said.get(Counter.CACHE_WRITE) is None and Counter.CACHE_WRITE not in convention.input_includes:
        outside += sum(said.get(child) or 0 for child in _LIFETIMES)
    assert settled.usage.input_tokens == given_input + outside


@given(counts, st.tuples(*[st.integers(0, 20)] * 3), conventions)
def test_a_total_that_does_not_add_up_is_kept_and_bills_nothing(
    said: dict[Counter, int | None], whole: tuple[int, int, int], convention: Convention
) -> None:
    said = {**said, **dict(zip((Counter.INPUT, Counter.OUTPUT, Counter.TOTAL), whole, strict=True))}
    convention = msgspec.structs.replace(convention, hidden_reasoning=False)
    settled = _settled(said, convention)
    assert settled.provider_total == said[Counter.TOTAL]
    known = _settled({counter: value for counter, value in said.items() if counter is not Counter.TOTAL}, convention)
    assert settled.usage == known.usage
    written = said.get(Counter.CACHE_WRITE)
    lifetimes = [said[child] for child in _LIFETIMES if said.get(child) is not None]
    if written is None and lifetimes:
        written = sum(value or 0 for value in lifetimes)
    counted = {**said, Counter.CACHE_WRITE: written}
    expected = sum(counted.get(counter) or 0 for counter in convention.total_is)
    found = [item for item in settled.discrepancies if item.kind is DiscrepancyKind.TOTAL_MISMATCH]
    assert [(item.reported, item.expected) for item in found] == (
        [] if expected == said[Counter.TOTAL] else [(said[Counter.TOTAL], expected)]
    )


@given(st.lists(reports(), max_size=4), conventions, st.booleans())
def test_without_what_was_seen_nothing_is_estimated(said: list[Report], convention: Convention, ended: bool) -> None:
    settled = settle(reading_of(*said), convention, ended=ended)
    vouchers = {voucher for line in settled.lines for voucher in line.usage.provenance.values()}
    assert vouchers <= ({Provenance.REPORTED, Provenance.DERIVED} if ended else {Provenance.PARTIAL})
    assert not settled.lower_bound


@given(st.lists(reports(scoped=False), max_size=4), conventions, delivered)
def test_what_was_seen_never_changes_what_was_reported_at_the_end(
    said: list[Report], convention: Convention, seen: Delivered
) -> None:
    plain = settle(reading_of(*said), convention, ended=True)
    filled = settle(reading_of(*said), convention, ended=True, delivered=seen)
    placeholders = {counter for report in said for counter in report.provisional}
    assume(Counter.OUTPUT not in placeholders)
    if seen.output + seen.reasoning:  # text contradicts a zero
        assume(all(line.usage.buckets.get(Bucket.OUTPUT) != 0 for line in plain.lines))
    for before, after in zip(plain.lines, filled.lines, strict=True):
        for bucket, value in before.usage.buckets.items():
            assert after.usage.buckets[bucket] == value
            assert after.usage.provenance[bucket] == before.usage.provenance[bucket]


def test_no_report_at_all_is_unknown_not_zero() -> None:
    settled = settle(Reading(), Convention(), ended=True)
    assert settled.finality is Finality.NONE
    assert settled.usage.input_tokens is None
    assert settled.usage.output_tokens is None


@pytest.mark.parametrize("ended", [True, False])
def test_a_cut_reply_is_settled_from_its_last_report_and_says_partial(ended: bool) -> None:
    settled = settle(reading_of(Report({Counter.INPUT: 9, Counter.OUTPUT: 4})), Convention(), ended=ended)
    assert settled.finality is (Finality.FINAL if ended else Finality.PARTIAL)
    assert settled.usage.vouched(OUTPUT_BUCKETS) is (Provenance.REPORTED if ended else Provenance.PARTIAL)
    assert settled.usage.total_tokens == 13


@given(st.integers(0, 50), st.integers(0, 50))
def test_a_side_nobody_said_is_derived_from_the_total(given_input: int, made: int) -> None:
    settled = _settled({Counter.INPUT: given_input, Counter.TOTAL: given_input + made})
    assert settled.usage.output_tokens == made
    assert settled.usage.vouched([Bucket.OUTPUT]) is Provenance.DERIVED
    assert settled.usage.vouched(INPUT_BUCKETS) is Provenance.REPORTED


def test_numbers_no_count_can_be_are_a_discrepancy_and_stay_unknown() -> None:
    settled = _settled({Counter.INPUT: 12, Counter.OUTPUT: -1, Counter.CACHE_READ: 10**30})
    assert settled.usage.input_tokens == 12
    assert settled.usage.output_tokens is None
    assert settled.usage.cache_read_tokens is None
    assert [(item.kind, item.counter) for item in settled.discrepancies] == [
        (DiscrepancyKind.IMPLAUSIBLE, Counter.CACHE_READ),
        (DiscrepancyKind.IMPLAUSIBLE, Counter.OUTPUT),
    ]


_SEEN = Delivered(input=9, output=30, choices=frozenset({0, 1}), per_choice={0: 12, 1: 18})


@pytest.mark.parametrize(
    ("report", "found"),
    [
        (
            Report({Counter.INPUT: 9, Counter.OUTPUT: 4, Counter.TOTAL: 15}),
            Discrepancy(DiscrepancyKind.TOTAL_MISMATCH, Counter.TOTAL, 15, 13),
        ),
        (
            Report({Counter.INPUT: 7, Counter.CACHE_READ: 163, Counter.OUTPUT: 4}),
            Discrepancy(DiscrepancyKind.PART_EXCEEDS_WHOLE, Counter.CACHE_READ, 163, 7),
        ),
        (
            Report({Counter.INPUT: 9, Counter.CACHE_WRITE: 5, Counter.CACHE_WRITE_1H: 6, Counter.OUTPUT: 4}),
            Discrepancy(DiscrepancyKind.PART_EXCEEDS_WHOLE, Counter.CACHE_WRITE_5M, 6, 5),
        ),
        (
            Report({Counter.INPUT: 9, Counter.OUTPUT: 0}),
            Discrepancy(DiscrepancyKind.ZERO_BESIDE_TEXT, Counter.OUTPUT, 0, 30),
        ),
        (
            Report({Counter.INPUT: 0, Counter.OUTPUT: 0}),
            Discrepancy(DiscrepancyKind.ZERO_BESIDE_TEXT, Counter.OUTPUT, 0, 30),
        ),
        (
            Report({Counter.INPUT: 9, Counter.TOTAL: 9}),
            Discrepancy(DiscrepancyKind.ZERO_BESIDE_TEXT, Counter.TOTAL, 0, 30),
        ),
        (
            Report({Counter.INPUT: 9, Counter.OUTPUT: 4}, scope=0),
            Discrepancy(DiscrepancyKind.CHOICES_UNREPORTED, Counter.OUTPUT, 1, 2),
        ),
        (
            Report(
                {Counter.INPUT: 9, Counter.OUTPUT: 8},
                lines=tuple(ReportLine(kind, {Counter.INPUT: 9, Counter.OUTPUT: 3}) for kind in ("one", "two")),
            ),
            Discrepancy(DiscrepancyKind.LINES_DISAGREE, Counter.OUTPUT, 6, 8),
        ),
    ],
)
def test_a_discrepancy_has_what_was_said_and_what_it_was_measured_by(report: Report, found: Discrepancy) -> None:
    assert settle(reading_of(report), Convention(), ended=True, delivered=_SEEN).discrepancies == (found,)


@pytest.mark.parametrize(
    "said",
    [
        {Counter.INPUT: 9, Counter.OUTPUT: 0},
        {Counter.INPUT: 0, Counter.OUTPUT: 0},
        {Counter.INPUT: 9, Counter.TOTAL: 9},
    ],
)
def test_a_zero_beside_nothing_is_believed(said: dict[Counter, int | None]) -> None:
    settled = settle(reading_of(Report(said)), Convention(), ended=True, delivered=Delivered(input=9))
    assert settled.usage.output_tokens == 0
    assert not settled.usage.estimated
    assert not settled.discrepancies


def test_lines_that_tell_more_than_the_top_level_do_not_disagree_with_it() -> None:
    line = ReportLine("reply", {Counter.INPUT: 9, Counter.OUTPUT: 5})
    for top in (4, 5):
        report = Report({Counter.INPUT: 9, Counter.OUTPUT: top}, lines=(line,))
        assert not settle(reading_of(report), Convention(), ended=True).discrepancies
    assert not settle(reading_of(Report({}, lines=(line,))), Convention(), ended=True).discrepancies


def test_a_total_below_what_it_should_hold_derives_nothing() -> None:
    settled = _settled({Counter.INPUT: 9, Counter.TOTAL: 8})
    assert (settled.usage.input_tokens, settled.usage.output_tokens) == (9, None)


@given(st.tuples(*[st.integers(0, 60)] * 4))
def test_a_total_that_may_hide_reasoning_is_the_total_and_no_token_of_it_is_counted_twice(
    said: tuple[int, int, int, int],
) -> None:
    given_input, output, reasoning, hidden = said
    total = given_input + output + hidden
    counts = dict(zip((Counter.INPUT, Counter.OUTPUT, Counter.REASONING), said, strict=False))
    usage = _settled({**counts, Counter.TOTAL: total}, Convention(hidden_reasoning=True)).usage
    assert usage.total_tokens == sum(usage.buckets.values()) == total
    assert usage.buckets[Bucket.REASONING] <= reasoning + hidden
    assert usage.buckets[Bucket.REASONING] >= min(output + hidden, max(reasoning, hidden))


def test_a_total_that_may_hide_reasoning_does_not_tell_the_output() -> None:
    settled = _settled({Counter.INPUT: 9, Counter.TOTAL: 30}, Convention(hidden_reasoning=True))
    assert (settled.usage.input_tokens, settled.usage.output_tokens) == (9, None)


@pytest.mark.parametrize("ended", [True, False])
def test_a_report_that_is_marked_as_an_estimate_stays_one_until_a_measure_replaces_it(ended: bool) -> None:
    counts = {Counter.INPUT: 31, Counter.OUTPUT: 7, Counter.TOTAL: 38}
    guessed, measured = Report(counts, estimated=True), Report(counts)
    usage = settle(reading_of(measured, guessed), Convention(), ended=ended).usage
    assert set(usage.provenance.values()) == {Provenance.ESTIMATED}
    assert (usage.input_tokens, usage.output_tokens) == (31, 7)
    assert not settle(reading_of(guessed, measured), Convention(), ended=ended).usage.estimated
    choices = reading_of(*(msgspec.structs.replace(guessed, scope=scope) for scope in (0, 1)))
    assert settle(choices, Convention(), ended=ended).usage.estimated
    guessed, measured = Report({Counter.OUTPUT: 7}, estimated=True), Report({Counter.OUTPUT: 7})
    for one, other in ((guessed, measured), (measured, guessed)):
        mixed = reading_of(msgspec.structs.replace(one, scope=0), msgspec.structs.replace(other, scope=1))
        assert settle(mixed, Convention(), ended=ended).usage.vouched(OUTPUT_BUCKETS) is Provenance.ESTIMATED


_VECTORS = Convention(no_output=True)


@pytest.mark.parametrize(
    ("said", "given_input", "vouched"),
    [
        ({Counter.INPUT: 8}, 8, Provenance.REPORTED),
        ({Counter.INPUT: 8, Counter.TOTAL: 8}, 8, Provenance.REPORTED),
        ({Counter.TOTAL: 8}, 8, Provenance.DERIVED),
        ({}, None, Provenance.UNKNOWN),
    ],
)
def test_a_reply_that_is_no_text_has_no_output_once_it_is_whole(
    said: dict[Counter, int | None], given_input: int | None, vouched: Provenance
) -> None:
    settled = _settled(said, _VECTORS)
    assert (settled.usage.input_tokens, settled.usage.output_tokens) == (given_input, 0)
    assert settled.usage.vouched([Bucket.OUTPUT]) is Provenance.DERIVED
    assert settled.usage.vouched(INPUT_BUCKETS) is vouched
    assert not settled.discrepancies
    cut = settle(reading_of(Report(said)), _VECTORS, ended=False)
    assert cut.usage.output_tokens is None or {Counter.INPUT, Counter.TOTAL} <= said.keys()


def test_an_output_that_is_reported_beside_vectors_stands() -> None:
    assert _settled({Counter.INPUT: 8, Counter.OUTPUT: 3}, _VECTORS).usage.output_tokens == 3
    assert _settled({Counter.INPUT: 8, Counter.TOTAL: 11}, _VECTORS).usage.output_tokens == 3


@given(st.lists(reports(any_counts), max_size=3), st.booleans(), st.none() | delivered)
def test_where_no_model_runs_nothing_is_used_whatever_is_said(
    said: list[Report], ended: bool, seen: Delivered | None
) -> None:
    settled = settle(reading_of(*said), Convention(no_model=True), ended=ended, delivered=seen)
    assert (settled.usage.input_tokens, settled.usage.output_tokens) == (0, 0)
    assert set(settled.usage.provenance.values()) == {Provenance.DERIVED}
    assert not settled.discrepancies
