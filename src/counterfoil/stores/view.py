"""One attempt as it is shown, by a command or by the gateway: the same keys in the same order everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from counterfoil.ledger.entry import OPEN, Entry, Line, Opening, PricedBy, UsageFigures, figures, vouchers
from counterfoil.ledger.price import PICODOLLARS_PER_DOLLAR
from counterfoil.stores.replay import OpenAttempt
from counterfoil.usage.reading import NO_READING
from counterfoil.usage.settle import Delivered, Discrepancy, Settlement, settle
from counterfoil.usage.usage import Bucket, Provenance

__all__ = ["EntryView", "LineView", "instant", "settled_so_far", "usd", "view_of"]


class LineView(msgspec.Struct, frozen=True):
    """One model's part of an attempt. `buckets` are disjoint, `usage` the inclusive totals made of them, `billed` what
    is priced where the provider's bill is not of what was used."""

    model: str
    kind: str
    usage: UsageFigures
    buckets: Mapping[Bucket, int]
    billed: Mapping[Bucket, int] | None
    provenance: Mapping[Bucket, Provenance]
    cost: str | None
    priced_by: PricedBy | None
    waived: bool


class EntryView(msgspec.Struct, frozen=True):
    """One attempt. Times are ISO 8601 in UTC, `cost` is exact US dollars, None is unknown (of a cost: unpriced)."""

    attempt: str
    exchange: str
    opened: str
    closed: str | None
    route: str
    provider: str
    model: str
    client_dialect: str
    provider_dialect: str
    key: str | None
    user: str | None
    tags: tuple[str, ...]
    exit: str
    status: int | None
    usage: UsageFigures
    provenance: Mapping[str, Provenance]
    discrepancies: tuple[Discrepancy, ...]
    lines: tuple[LineView, ...]
    cost: str | None
    priced_by: PricedBy | None
    """Of the first billed line; None for unpriced. Each line has its own."""
    first_byte_ms: float | None
    total_ms: float | None
    provider_id: str | None
    corrects: str | None
    """The attempt whose numbers this changes: then they are differences, and add up with that attempt's own."""
    estimator: str | None
    """What counted for a correction."""


def view_of(one: Entry | OpenAttempt) -> EntryView:
    """What is shown of an entry, or of an attempt that is still open."""
    return _entry(one) if isinstance(one, Entry) else _open(one)


def settled_so_far(attempt: OpenAttempt) -> Settlement:
    """What an open attempt amounts to by the last that was written of it, as if it ended there."""
    progress = attempt.progress
    delivered = Delivered() if progress is None else progress.delivered
    if delivered.input is None:
        delivered = msgspec.structs.replace(delivered, input=attempt.opening.input_estimate)
    reading = NO_READING if progress is None else progress.reading
    return settle(reading, attempt.opening.convention, ended=False, delivered=delivered)


def instant(at: float) -> str:
    """Unix seconds as ISO 8601 in UTC, to the millisecond."""
    return (
        datetime.fromtimestamp(round(at * 1000) / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def usd(picodollars: int | None) -> str | None:
    """Dollars as an exact decimal, without trailing zeros; None for unpriced."""
    if picodollars is None:
        return None
    whole, part = divmod(abs(picodollars), PICODOLLARS_PER_DOLLAR)
    decimals = f"{part:012d}".rstrip("0")
    return ("-" if picodollars < 0 else "") + (f"{whole}.{decimals}" if decimals else str(whole))


def _entry(entry: Entry) -> EntryView:
    billed = [line for line in entry.lines if not line.waived]
    usage = entry.usage
    return _view(
        entry.opening,
        closed=instant(entry.closed),
        exit=entry.exit.value,
        status=entry.status,
        usage=figures(usage, entry.provider_total),
        provenance=vouchers(usage),
        discrepancies=entry.discrepancies,
        lines=tuple(map(_line, entry.lines)),
        cost=usd(entry.cost),
        priced_by=billed[0].priced_by if billed and entry.cost is not None else None,
        first_byte_ms=_milliseconds(entry.first_byte_ms),
        total_ms=_milliseconds(entry.total_ms),
        provider_id=entry.provider_id,
        corrects=None if entry.corrects is None else entry.corrects.attempt,
        estimator=None if entry.corrects is None else entry.corrects.estimator,
    )


def _open(attempt: OpenAttempt) -> EntryView:
    settled = settled_so_far(attempt)
    usage = settled.usage
    return _view(
        attempt.opening,
        closed=None,
        exit=OPEN,
        status=None,
        usage=figures(usage, settled.provider_total),
        provenance=vouchers(usage),
        discrepancies=settled.discrepancies,
        lines=(),
        cost=None,
        priced_by=None,
        first_byte_ms=None,
        total_ms=None,
        provider_id=None,
        corrects=None,
        estimator=None,
    )


def _view(opening: Opening, **rest: object) -> EntryView:
    known = {
        "attempt": opening.attempt,
        "exchange": opening.exchange,
        "opened": instant(opening.opened),
        "route": opening.route,
        "provider": opening.provider,
        "model": opening.model,
        "client_dialect": opening.client_dialect,
        "provider_dialect": opening.provider_dialect,
        "key": opening.key,
        "user": opening.user,
        "tags": opening.tags,
    }
    return EntryView(**known, **rest)  # type: ignore[arg-type]  # the two callers above give every other field


def _line(line: Line) -> LineView:
    usage = line.usage
    return LineView(
        line.model,
        line.kind,
        figures(usage),
        usage.buckets,
        usage.billed,
        usage.provenance,
        usd(line.cost),
        line.priced_by,
        line.waived,
    )


def _milliseconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
