"""What a better count changes of an entry: a new entry that says only the difference.

Rule 1: an entry is never changed. Its correction is settled by the same reading and convention, from better counts of
what was delivered, and holds what has to be added: entry and correction simply add up, and so do totals.
Rule 2: an estimate stays one. A correction changes numbers that were estimates, and says who counted again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from counterfoil.ledger.entry import Correction, Entry, Line, Opening
from counterfoil.usage.settle import Delivered, Finality, SettledLine, settle
from counterfoil.usage.usage import NOTHING, Bucket, Provenance, Usage

__all__ = ["Pricing", "correction_of", "is_estimated", "with_corrections"]

Pricing = Callable[[Opening, tuple[SettledLine, ...]], tuple[Line, ...]]
"""Prices the settled lines of an attempt. Never raises."""


def is_estimated(entry: Entry, *buckets: Bucket) -> bool:
    """Whether any of `buckets` was estimated from what was delivered."""
    if entry.delivered is None:
        return False
    return any(line.usage.provenance.get(bucket) is Provenance.ESTIMATED for line in entry.lines for bucket in buckets)


def correction_of(
    entry: Entry, counted: Delivered, price: Pricing, *, attempt: str, estimator: str, at: float
) -> Entry | None:
    """The correction of `entry` by what `counted` says was delivered; None when no number changes.

    `attempt` is the correction's own id, `at` its time in Unix seconds, `price` what the entry itself was priced by.
    """
    # Without a report the two ways of settling are one; with one, the finality tells whether the reply had ended.
    ended = entry.finality is Finality.FINAL
    settled = settle(entry.reading, entry.opening.convention, ended=ended, delivered=counted)
    after = price(entry.opening, settled.lines)
    lines = tuple(
        _difference(before, now)
        for before, now in zip(entry.lines, after, strict=True)
        if before.usage.buckets != now.usage.buckets or before.usage.priced != now.usage.priced
    )
    if not lines:
        return None
    return Entry(
        opening=msgspec.structs.replace(entry.opening, attempt=attempt),
        closed=at,
        exit=entry.exit,
        lines=lines,
        delivered=counted,
        finality=entry.finality,
        lower_bound=entry.lower_bound,
        corrects=Correction(entry.opening.attempt, estimator),
    )


def with_corrections(entry: Entry, corrections: Iterable[Entry]) -> Entry:
    """The entry as it stands with its corrections: for views. Nothing of the kind is ever written."""
    lines = list(entry.lines)
    for correction in corrections:
        for change in correction.lines:
            # What nobody reported is estimated in an attempt's last line, and several may be of one model and kind.
            place = max(at for at, line in enumerate(lines) if (line.model, line.kind) == (change.model, change.kind))
            lines[place] = _sum(lines[place], change)
    return msgspec.structs.replace(entry, lines=tuple(lines))


def _difference(before: Line, now: Line) -> Line:
    """A line that makes `before` into `now` when it is added. Both sides are in it: nothing gets unknown by adding."""
    changed = _changed(before.usage.buckets, now.usage.buckets)
    apart = before.usage.billed is not None or now.usage.billed is not None
    billed = {**NOTHING.buckets, **_changed(before.usage.priced, now.usage.priced)} if apart else None
    usage = Usage({**NOTHING.buckets, **changed}, dict.fromkeys(changed, Provenance.ESTIMATED), billed=billed)
    return Line(
        now.model,
        now.kind,
        usage,
        None if before.cost is None or now.cost is None else now.cost - before.cost,
        now.priced_by,
        now.waived,
        now.rates,
    )


def _changed(before: Mapping[Bucket, int], now: Mapping[Bucket, int]) -> dict[Bucket, int]:
    return {
        bucket: now.get(bucket, 0) - before.get(bucket, 0) for bucket in Bucket if now.get(bucket) != before.get(bucket)
    }


def _sum(line: Line, change: Line) -> Line:
    return msgspec.structs.replace(
        line,
        usage=line.usage + change.usage,
        cost=None if line.cost is None or change.cost is None else line.cost + change.cost,
    )
