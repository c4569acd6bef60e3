"""The whole derivation of one entry, as data: reports, reading, convention, buckets, price, cost.

Rule 1: nothing is derived in a second way. Every number is the entry's own, the rates it was charged among them.
Rule 2: price lists at hand only add what an entry does not keep: since when a rate holds, and why it was taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from counterfoil.ledger.correction import with_corrections
from counterfoil.ledger.entry import Entry, Line, Opening, PricedBy
from counterfoil.ledger.price import Price, Rate, cost_of, format_rate
from counterfoil.ledger.price_table import PriceTable
from counterfoil.ledger.pricing import price_of
from counterfoil.stores.replay import OpenAttempt
from counterfoil.stores.view import EntryView, instant, settled_so_far, usd, view_of
from counterfoil.usage.reading import NO_READING, RAW_REPORTS_KEPT, WHOLE_REPLY, Counter, Reading
from counterfoil.usage.settle import Convention, Delivered
from counterfoil.usage.usage import Bucket, Provenance

__all__ = [
    "Corrected",
    "CostStep",
    "Explanation",
    "Part",
    "ReadCounter",
    "SentReport",
    "convention_in_words",
    "explain",
]


class SentReport(msgspec.Struct, frozen=True):
    """One report as the provider sent it; `number` counts from 1. `report` is its text where that is no JSON."""

    number: int
    report: msgspec.Raw | str


class ReadCounter(msgspec.Struct, frozen=True):
    """The last word on one counter, and which report said it. `choice` None: of the whole reply."""

    counter: Counter
    value: int
    said_by: int
    provisional: bool
    choice: int | None


class CostStep(msgspec.Struct, frozen=True):
    """One bucket. `rate` is US dollars per million tokens (searches, images), `amount` US dollars; None where nobody
    can tell."""

    bucket: str
    tokens: int
    provenance: Provenance | None
    rate: str | None
    amount: str | None
    note: str | None


class Part(msgspec.Struct, frozen=True):
    """One line of the entry."""

    model: str
    kind: str
    waived: bool
    steps: tuple[CostStep, ...]
    """What is billed."""
    used: Mapping[Bucket, int] | None
    """What was used, where the provider's bill is of something else."""
    excess: Mapping[Bucket, int]
    cost: str | None
    priced_by: PricedBy | None
    since: str | None
    """The day from which these rates hold, if the list says so."""


class Corrected(msgspec.Struct, frozen=True):
    """One correction: what was counted again has to be added to the entry. `cost` is exact US dollars."""

    correction: str
    at: str
    estimator: str
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost: str | None


class Explanation(msgspec.Struct, frozen=True):
    """Everything that can be said of one attempt's numbers."""

    entry: EntryView
    detail: str | None
    finality: str
    lower_bound: bool
    reports: int
    kept: tuple[SentReport, ...]
    reading: tuple[ReadCounter, ...]
    fell: tuple[str, ...]
    implausible: tuple[str, ...]
    convention: Convention
    convention_in_words: tuple[str, ...]
    delivered: Delivered | None
    """What estimates were made from, in estimated tokens."""
    parts: tuple[Part, ...]
    corrections: tuple[Corrected, ...] = ()
    corrected: EntryView | None = None
    """The entry with its corrections; None when there are none. The client was told what the entry says."""


def explain(one: Entry | OpenAttempt, table: PriceTable, corrections: Sequence[Entry] = ()) -> Explanation:
    """The derivation. `table` is asked for the rates of the day the attempt opened."""
    opening = one.opening
    if isinstance(one, Entry):
        reading, delivered, lines = one.reading, one.delivered, one.lines
        detail, finality, lower_bound = one.detail, one.finality.value, one.lower_bound
    else:
        settled = settled_so_far(one)
        reading = NO_READING if one.progress is None else one.progress.reading
        delivered = None if one.progress is None else one.progress.delivered
        lines = tuple(Line(line.model or opening.model, line.kind, line.usage) for line in settled.lines)
        detail, finality, lower_bound = "still open", settled.finality.value, settled.lower_bound
    return Explanation(
        entry=view_of(one),
        detail=detail,
        finality=finality,
        lower_bound=lower_bound,
        reports=reading.reports,
        kept=tuple(_sent(reading)),
        reading=tuple(_counters(reading)),
        fell=tuple(sorted(reading.fell)),
        implausible=tuple(sorted(reading.implausible)),
        convention=opening.convention,
        convention_in_words=convention_in_words(opening.convention, reading),
        delivered=delivered,
        parts=tuple(_part(line, opening, table) for line in lines),
        corrections=tuple(map(_correction, corrections)),
        corrected=view_of(with_corrections(one, corrections)) if corrections and isinstance(one, Entry) else None,
    )


def _correction(entry: Entry) -> Corrected:
    usage = entry.usage
    return Corrected(
        correction=entry.opening.attempt,
        at=instant(entry.closed),
        estimator="" if entry.corrects is None else entry.corrects.estimator,
        input_tokens=usage.input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        reasoning_tokens=usage.reasoning_tokens or 0,
        cost=usd(entry.cost),
    )


_NAMES: Final = {counter: counter.value.replace("_", " ") for counter in Counter}
_INPUT_PARTS: Final = (
    Counter.CACHE_READ,
    Counter.CACHE_WRITE,
    Counter.INPUT_AUDIO,
    Counter.INPUT_IMAGE,
    Counter.TOOL_INPUT,
)
_OUTPUT_PARTS: Final = (Counter.REASONING, Counter.OUTPUT_AUDIO, Counter.OUTPUT_IMAGE)


def convention_in_words(convention: Convention, reading: Reading = NO_READING) -> tuple[str, ...]:
    """The convention in sentences: all of it, or what concerns the counters that `reading` has."""
    if convention.no_model:
        return ("no model runs: tokens are counted and not used, and nothing is billed",)
    said = {counter for scope in reading.scopes.values() for counter in scope}
    sentences = [
        *_side("input", _INPUT_PARTS, convention.input_includes, said),
        *_side("output", _OUTPUT_PARTS, convention.output_includes, said),
    ]
    sentences.append(f"total is {' + '.join(_NAMES[counter] for counter in Counter if counter in convention.total_is)}")
    if convention.hidden_reasoning:
        sentences.append("what the total has beyond that is reasoning")
    if convention.no_output:
        sentences.append("the answer is no text: output is 0 where nobody reports it")
    if convention.choices_per_prompt is not None:
        sentences.append(_shared(convention.choices_per_prompt))
    return tuple(sentences)


def _shared(choices: int) -> str:
    if choices == 1:
        return "every choice has a prompt of its own: their inputs add up"
    return f"every {choices} choices share a prompt, whose input counts once"


def _side(side: str, parts: tuple[Counter, ...], included: frozenset[Counter], said: set[Counter]) -> tuple[str, ...]:
    told = [part for part in parts if not said or part in said]
    inside = [_NAMES[part] for part in told if part in included]
    beside = [_NAMES[part] for part in told if part not in included]
    sentences = [f"{side} includes {', '.join(inside)}"] if inside else []
    return (*sentences, *([f"{', '.join(beside)} is beside {side} and added to it"] if beside else []))


def _sent(reading: Reading) -> list[SentReport]:
    first_of_rest = reading.reports - RAW_REPORTS_KEPT + 1 if reading.reports > RAW_REPORTS_KEPT else 1
    return [
        SentReport(place + 1 if place == 0 else first_of_rest + place, _raw(data))
        for place, data in enumerate(reading.raw)
    ]


def _raw(data: bytes) -> msgspec.Raw | str:
    try:
        msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return data.decode("utf-8", "replace")
    return msgspec.Raw(data)


def _counters(reading: Reading) -> list[ReadCounter]:
    return [
        ReadCounter(
            counter,
            said[counter].value,
            said[counter].ordinal,
            said[counter].provisional,
            None if scope == WHOLE_REPLY else scope,
        )
        for scope, said in sorted(reading.scopes.items())
        for counter in Counter
        if counter in said
    ]


def _part(line: Line, opening: Opening, table: PriceTable) -> Part:
    listed = price_of(opening, line.model, table)
    cost = cost_of(line.usage.priced, listed, waived=line.waived)
    same = line.cost is not None and cost.amount == line.cost and cost.priced_by == line.priced_by
    if not same and line.cost is not None and not line.waived:
        cost = cost_of(line.usage.priced, _charged(line))
    steps = {str(step.bucket): step for step in cost.lines} if line.cost is not None else {}
    shown = []
    usage = line.usage
    for bucket, count in _in_order(usage.priced).items():
        step = steps.get(bucket)
        shown.append(
            CostStep(
                bucket=bucket,
                tokens=count,
                provenance=usage.provenance.get(bucket) if usage.buckets.get(bucket) == count else None,
                rate=None if step is None or step.rate is None else format_rate(step.rate),
                amount=usd(step.amount) if step is not None else "0" if line.cost is not None else None,
                note=None if step is None else step.note,
            )
        )
    return Part(
        model=line.model,
        kind=line.kind,
        waived=line.waived,
        steps=tuple(shown),
        used=None if usage.billed is None else _in_order(usage.buckets),
        excess=line.usage.excess,
        cost=usd(line.cost),
        priced_by=line.priced_by,
        since=_since(listed) if same else None,
    )


def _in_order(counts: Mapping[Bucket, int]) -> dict[Bucket, int]:
    return {bucket: counts[bucket] for bucket in Bucket if bucket in counts}


def _charged(line: Line) -> Price:
    """The price as the line keeps it."""
    by = line.priced_by or PricedBy("", "")
    rates = {Bucket(bucket): Rate(rate) for bucket, rate in line.rates.items()}
    return Price("", line.model, rates, by.date, by.source)


def _since(price: Price | None) -> str | None:
    return None if price is None else price.since
