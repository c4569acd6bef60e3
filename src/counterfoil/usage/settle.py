"""Reading and convention in, usage out: the only door between what a provider said and what is billed.

Rule 1: settle once, after the join. Normalising each report and then joining counts cache twice.
Rule 2: conventions are data. Nothing here knows a provider or a dialect.
Rule 3: what does not add up is kept as a discrepancy and never fails a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from counterfoil.usage.choices import Said, whole_reply
from counterfoil.usage.convention import Convention
from counterfoil.usage.delivered import Delivered, estimated, is_hollow, is_underivable
from counterfoil.usage.discrepancy import Discrepancy, DiscrepancyKind
from counterfoil.usage.reading import Counter, Reading, ReportLine
from counterfoil.usage.usage import INPUT_BUCKETS, OUTPUT_BUCKETS, UNIT_BUCKETS, Bucket, Provenance, Usage, total_of

__all__ = [
    "Convention",
    "Delivered",
    "Discrepancy",
    "DiscrepancyKind",
    "Finality",
    "SettledLine",
    "Settlement",
    "settle",
]

_INPUT_PARTS: Final = (
    Counter.CACHE_READ,
    Counter.CACHE_READ_AUDIO,
    Counter.CACHE_WRITE,
    Counter.INPUT_AUDIO,
    Counter.INPUT_IMAGE,
    Counter.TOOL_INPUT,
)
_OUTPUT_PARTS: Final = (Counter.REASONING, Counter.OUTPUT_AUDIO, Counter.OUTPUT_IMAGE)
_WRITE_LIFETIMES: Final = (Counter.CACHE_WRITE_5M, Counter.CACHE_WRITE_1H)
# An enum called with a value searches for its member each time; these are looked up for every reply.
_BUCKETS: Final = {Counter(bucket.value): bucket for bucket in Bucket}
_COUNTERS: Final = {bucket: counter for counter, bucket in _BUCKETS.items()}
_UNITS: Final = tuple((Counter(bucket.value), bucket) for bucket in UNIT_BUCKETS)
_BILLS: Final = ((Bucket.INPUT, Counter.BILLED_INPUT), (Bucket.OUTPUT, Counter.BILLED_OUTPUT))
_SIDES: Final[Mapping[Bucket, Bucket]] = {
    **dict.fromkeys(INPUT_BUCKETS, Bucket.INPUT),
    **dict.fromkeys(OUTPUT_BUCKETS, Bucket.OUTPUT),
}


class Finality(StrEnum):
    """How far a reading can be trusted to be the provider's last word."""

    FINAL = "final"
    PARTIAL = "partial"
    NONE = "none"


class SettledLine(msgspec.Struct, frozen=True):
    """One model's part of an attempt."""

    usage: Usage
    kind: str = "reply"
    model: str | None = None
    """None: the deployment's own model."""
    waived: bool = False
    context: Mapping[str, str] = {}
    """What the provider says of the rate it served this at: `Report.context`."""


class Settlement(msgspec.Struct, frozen=True):
    """What one attempt used, as far as anybody knows."""

    lines: tuple[SettledLine, ...]
    finality: Finality
    discrepancies: tuple[Discrepancy, ...] = ()
    provider_total: int | None = None
    """TOTAL exactly as the provider last said it."""
    lower_bound: bool = False
    """Some number is an estimate of output nobody could see in full."""

    @property
    def usage(self) -> Usage:
        """The sum of the lines that are billed."""
        billed = [line.usage for line in self.lines if not line.waived]
        return billed[0] if len(billed) == 1 else total_of(billed)


def settle(reading: Reading, convention: Convention, *, ended: bool, delivered: Delivered | None = None) -> Settlement:
    """Settle one attempt.

    `ended`: the reply reached its dialect's end, so the last reports stand. `delivered`: with it, what nobody reported
    is estimated from what was seen; without it, the unknown stays unknown.
    """
    if convention.no_model:
        return Settlement((SettledLine(_NOTHING),), _finality(reading, ended))
    found = [Discrepancy(DiscrepancyKind.COUNTER_FELL, counter) for counter in sorted(reading.fell)]
    found += [Discrepancy(DiscrepancyKind.IMPLAUSIBLE, counter) for counter in sorted(reading.implausible)]
    voucher = Provenance.REPORTED if ended else Provenance.PARTIAL
    whole, unreported = whole_reply(reading, convention, delivered, found)
    if delivered is not None and not reading.lines and is_hollow(whole, delivered):
        found.append(Discrepancy(DiscrepancyKind.ZERO_BESIDE_TEXT, Counter.OUTPUT, 0, delivered.output))
        whole = {}
    if any(said.estimated for said in whole.values()):
        voucher = Provenance.ESTIMATED  # whoever reported it vouches for no more
    counts = {counter: said.value for counter, said in whole.items()}
    told = Counter.OUTPUT in counts or {Counter.INPUT, Counter.TOTAL} <= counts.keys()
    silent = convention.no_output and ended and not told
    top = _usage({Counter.OUTPUT: 0, **counts} if silent else counts, _stale(whole), convention, voucher, found)
    if silent:
        top = Usage(top.buckets, {**top.provenance, Bucket.OUTPUT: Provenance.DERIVED}, top.excess)
    elif delivered is not None and Counter.OUTPUT not in counts and is_underivable(top, delivered):
        found.append(Discrepancy(DiscrepancyKind.ZERO_BESIDE_TEXT, Counter.TOTAL, 0, delivered.output))
        buckets = {bucket: count for bucket, count in top.buckets.items() if bucket is not Bucket.OUTPUT}
        top = msgspec.structs.replace(top, buckets=buckets)
    if reading.lines:
        lines = tuple(_line(line, convention, voucher, found) for line in reading.lines)
        _check_lines(lines, top, found)
    else:
        lines = (SettledLine(top),)
    lower_bound, added = False, 0
    if delivered is not None:
        if counts.get(Counter.OUTPUT) == 0 and delivered.output + delivered.reasoning > 0:
            found.append(Discrepancy(DiscrepancyKind.ZERO_BESIDE_TEXT, Counter.OUTPUT, 0, delivered.output))
        said = whole.get(Counter.OUTPUT)
        # What came after the last report is of unreported choices, as far as there are any: it is not added twice.
        added = unreported.output if ended else max(unreported.output, delivered.since_report or 0)
        # A line's output and one derived from the total of a whole reply are measures too; a placeholder is not.
        placeholder = not reading.lines and (not ended if said is None else said.provisional)
        measured = Bucket.OUTPUT in lines[-1].usage.buckets and not placeholder
        filled = estimated(lines[-1].usage, delivered, added, measured=measured, all_input=not unreported.prompts)
        lower_bound = delivered.hidden and filled.provenance.get(Bucket.OUTPUT) is Provenance.ESTIMATED
        lines = (*lines[:-1], msgspec.structs.replace(lines[-1], usage=filled))
    lines = _billed(lines, [line.counts for line in reading.lines] or [counts], added)
    if reading.context:
        lines = tuple(msgspec.structs.replace(line, context=reading.context) for line in lines)
    return Settlement(lines, _finality(reading, ended), tuple(found), reading.value(Counter.TOTAL), lower_bound)


_NOTHING: Final = Usage(
    {Bucket.INPUT: 0, Bucket.OUTPUT: 0}, {Bucket.INPUT: Provenance.DERIVED, Bucket.OUTPUT: Provenance.DERIVED}
)


def _finality(reading: Reading, ended: bool) -> Finality:
    return Finality.NONE if not reading.reports else Finality.FINAL if ended else Finality.PARTIAL


def _stale(whole: Said) -> bool:
    """Whether the cache write's lifetimes are older than the cache write itself (DESIGN 4.1.8)."""
    parent = whole.get(Counter.CACHE_WRITE)
    return parent is not None and any(
        child in whole and whole[child].ordinal < parent.ordinal for child in _WRITE_LIFETIMES
    )


def _line(line: ReportLine, convention: Convention, voucher: Provenance, found: list[Discrepancy]) -> SettledLine:
    counts = {counter: value for counter, value in line.counts.items() if value is not None}
    return SettledLine(_usage(counts, False, convention, voucher, found), line.kind, line.model, line.waived)


def _check_lines(lines: tuple[SettledLine, ...], top: Usage, found: list[Discrepancy]) -> None:
    itemised = sum(line.usage.output_tokens or 0 for line in lines)
    if top.output_tokens is not None and itemised < top.output_tokens:
        found.append(Discrepancy(DiscrepancyKind.LINES_DISAGREE, Counter.OUTPUT, itemised, top.output_tokens))


def _usage(
    counts: Mapping[Counter, int],
    stale: bool,
    convention: Convention,
    voucher: Provenance,
    found: list[Discrepancy],
) -> Usage:
    """Disjoint buckets of one model's counters."""
    known, derived = _derive(counts, convention, found)
    buckets: dict[Bucket, int] = {}
    excess: dict[Bucket, int] = {}
    _divide(known, Counter.INPUT, _INPUT_PARTS, convention.input_includes, buckets, excess, found)
    _divide(known, Counter.OUTPUT, _OUTPUT_PARTS, convention.output_includes, buckets, excess, found)
    _split_writes(known, stale, buckets, found)
    buckets.update((bucket, known[unit]) for unit, bucket in _UNITS if unit in known)
    provenance = {
        bucket: Provenance.DERIVED if _COUNTERS[bucket] in derived and voucher is Provenance.REPORTED else voucher
        for bucket in buckets
    }
    return Usage(buckets, provenance, excess)


def _derive(
    counts: Mapping[Counter, int], convention: Convention, found: list[Discrepancy]
) -> tuple[dict[Counter, int], frozenset[Counter]]:
    """Add what the total tells beyond the counters; note a total that does not add up."""
    known = dict(counts)
    if Counter.CACHE_WRITE not in known and any(child in known for child in _WRITE_LIFETIMES):
        known[Counter.CACHE_WRITE] = sum(known.get(child, 0) for child in _WRITE_LIFETIMES)
    total = known.get(Counter.TOTAL)
    if total is None:
        return known, frozenset()
    missing = [side for side in (Counter.INPUT, Counter.OUTPUT) if side not in known]
    rest = total - sum(known.get(counter, 0) for counter in convention.total_is)
    if len(missing) == 1:
        if rest < 0 or convention.hidden_reasoning:
            return known, frozenset()
        known[missing[0]] = rest
        return known, frozenset(missing)
    if not missing and rest > 0 and convention.hidden_reasoning:
        itemised = known.get(Counter.REASONING, 0)
        beside = _in_the_rest(known, rest, convention)
        if not beside or itemised <= rest or Counter.REASONING in convention.output_includes:
            if Counter.REASONING in convention.output_includes:
                known[Counter.OUTPUT] += rest
            known[Counter.REASONING] = max(itemised, rest) if beside else itemised + rest
            return known, frozenset() if known[Counter.REASONING] == itemised else frozenset({Counter.REASONING})
    if not missing and rest:
        found.append(Discrepancy(DiscrepancyKind.TOTAL_MISMATCH, Counter.TOTAL, total, total - rest))
    return known, frozenset()


def _in_the_rest(known: Mapping[Counter, int], rest: int, convention: Convention) -> bool:
    """Whether the itemised reasoning is of what TOTAL has beyond its sum, and not of OUTPUT: it is the whole of that
    rest, or does not fit into OUTPUT, or the convention puts it beside OUTPUT and not into the sum."""
    itemised = known.get(Counter.REASONING, 0)
    if Counter.REASONING in convention.total_is:
        return False
    return Counter.REASONING not in convention.output_includes or itemised == rest or itemised > known[Counter.OUTPUT]


def _divide(
    known: Mapping[Counter, int],
    side: Counter,
    parts: Iterable[Counter],
    included: frozenset[Counter],
    buckets: dict[Bucket, int],
    excess: dict[Bucket, int],
    found: list[Discrepancy],
) -> None:
    """Split one side into disjoint buckets. A part never takes more than its whole has left."""
    whole = known.get(side)
    left = whole
    for part in parts:
        claimed = known.get(part)
        if claimed is None:
            continue
        if part not in included or left is None:
            buckets[_BUCKETS[part]] = claimed
            continue
        taken = min(claimed, left)
        left -= taken
        buckets[_BUCKETS[part]] = taken
        if claimed > taken:
            excess[_BUCKETS[part]] = claimed - taken
            found.append(Discrepancy(DiscrepancyKind.PART_EXCEEDS_WHOLE, part, claimed, whole))
    if left is not None:
        buckets[_BUCKETS[side]] = left


def _split_writes(
    known: Mapping[Counter, int], stale: bool, buckets: dict[Bucket, int], found: list[Discrepancy]
) -> None:
    """Give the cache write its lifetimes as far as they fit; the remainder stays unspecified."""
    written = buckets.get(Bucket.CACHE_WRITE)
    lifetimes = {child: known[child] for child in _WRITE_LIFETIMES if known.get(child)}
    if written is None or not lifetimes:
        return
    if sum(lifetimes.values()) > written:
        if not stale:
            found.append(
                Discrepancy(
                    DiscrepancyKind.PART_EXCEEDS_WHOLE, Counter.CACHE_WRITE_5M, sum(lifetimes.values()), written
                )
            )
        return
    for child, value in lifetimes.items():
        buckets[_BUCKETS[child]] = value
    buckets[Bucket.CACHE_WRITE] = written - sum(lifetimes.values())


def _billed(
    lines: tuple[SettledLine, ...], said: Iterable[Mapping[Counter, int | None]], added: int
) -> tuple[SettledLine, ...]:
    """The lines with the bill of each, where its counters state one; a side that is not in it is billed as used.

    `added`: the estimate of output that came after the last report, in the last line. It will be on the bill, too.
    """
    found = []
    for number, (line, counts) in enumerate(zip(lines, said, strict=True), 1):
        stated = {side: value for side, counter in _BILLS if (value := counts.get(counter)) is not None}
        if stated:
            if Bucket.OUTPUT in stated and number == len(lines):
                stated[Bucket.OUTPUT] += added
            rest = {bucket: n for bucket, n in line.usage.buckets.items() if _SIDES.get(bucket) not in stated}
            usage = msgspec.structs.replace(line.usage, billed={**stated, **rest})
            line = msgspec.structs.replace(line, usage=usage)
        found.append(line)
    return tuple(found)
