"""What stores show of entries: what can be searched, and totals.

Rule 1: totals are a projection. They are what adding up the entries gives, nothing else, and can be recomputed.
Rule 2: pure. A total of unknowns says how many it does not contain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Protocol

import msgspec

from counterfoil.ledger.entry import Entry, Exit, Line
from counterfoil.ledger.store import EntryStore
from counterfoil.usage.usage import OUTPUT_BUCKETS, UNIT_BUCKETS, Bucket, Provenance, Usage

__all__ = [
    "ALL",
    "DIMENSIONS",
    "FIGURES",
    "Difference",
    "Figures",
    "LedgerStore",
    "Selection",
    "Total",
    "TotalKey",
    "add_totals",
    "compare_totals",
    "day_of",
    "group_totals",
    "selected",
    "shown_figures",
    "totals_of",
]


class Selection(msgspec.Struct, frozen=True):
    """Which entries. Every condition that is not None must hold."""

    since: float | None = None
    """Opened at or after; Unix seconds."""
    until: float | None = None
    """Opened before."""
    key: str | None = None
    exit: Exit | None = None
    provider: str | None = None
    model: str | None = None
    """The provider's name for it."""
    route: str | None = None
    user: str | None = None
    limit: int | None = None
    """At most so many: the oldest."""
    last: int | None = None
    """At most so many: the newest, still oldest first."""


ALL: Final = Selection()


class TotalKey(msgspec.Struct, frozen=True, order=True):
    """What one total is of. None, in a grouped total: of all of them."""

    day: str | None = None
    """The day the attempts were opened, UTC, ISO 8601."""
    key: str | None = None
    """The gateway key's name; empty: without a key."""
    provider: str | None = None
    model: str | None = None
    """The model of the line; attempts are counted at the model that was asked for."""


DIMENSIONS: Final = TotalKey.__struct_fields__


class Total(msgspec.Struct, frozen=True):
    """Sums of entries. Tokens are sums of what is known, in inclusive figures (cache in input, reasoning in output)."""

    attempts: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    search_units: int = 0
    """Searches, which are no tokens."""
    images: int = 0
    estimated_tokens: int = 0
    """How many of the input and output tokens are estimates."""
    unknown: int = 0
    """Lines whose input or output nobody knows; what is known of them is in the sums."""
    unpriced: int = 0
    """Lines without a price; their cost is not in the sum."""
    cost: int = 0
    """Picodollars. Of any size."""

    def __add__(self, other: Total) -> Total:
        """Figure by figure."""
        return Total(*map(int.__add__, msgspec.structs.astuple(self), msgspec.structs.astuple(other)))


FIGURES: Final = Total.__struct_fields__


class Difference(msgspec.Struct, frozen=True):
    """A total that is not what its entries add up to."""

    of: TotalKey
    stored: Total
    recomputed: Total


Figures = tuple[int | None, int | None, int | None, int | None, int | None, int | None, int | None]
"""Input, cache read, cache write, output, reasoning: inclusive, as `Usage`'s properties of these names. Then the
billed units that are no tokens: searches, images."""


class LedgerStore(EntryStore, Protocol):
    """What every store of entries can do. Errors are the database's own, and OSError."""

    def sync(self) -> None:
        """Return when everything appended would survive a power cut."""
        ...

    def entry(self, attempt: str) -> Entry | None:
        """One entry, by its attempt; a correction by its own id."""
        ...

    def corrections(self, attempt: str) -> Sequence[Entry]:
        """What corrects an attempt, oldest first."""
        ...

    def entries(self, selection: Selection = ALL) -> Iterable[Entry]:
        """Entries and corrections, oldest first (by opening, then id), as they are asked for: never all in memory."""
        ...

    def usage(
        self, by: Sequence[str] = (), since: float | None = None, until: float | None = None
    ) -> dict[TotalKey, Total]:
        """Totals, grouped by some of `DIMENSIONS`. Times as in `Selection`. Raises ValueError for another word."""
        ...

    def verify(self) -> list[Difference]:
        """Recompute all totals from all entries; what differs."""
        ...

    def close(self) -> None:
        """Let go of the database. Doing it twice changes nothing."""
        ...


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * 86400, UTC).date().isoformat()


def day_of(at: float) -> str:
    """The UTC day of a time in Unix seconds."""
    return _day(int(at // 86400))


def shown_figures(usage: Usage) -> Figures:
    """The figures of `usage` in one pass: they are wanted of every entry, on the machine that serves requests."""
    given = made = 0
    read: int | None = None
    written: int | None = None
    reasoned: int | None = None
    excess = usage.excess
    units = {}
    for bucket, tokens in usage.buckets.items():
        if bucket in _UNITS:
            units[bucket] = tokens
            continue
        if bucket in _OUTPUT:
            made += tokens
            if bucket == Bucket.REASONING:
                reasoned = tokens + excess.get(bucket, 0)
            continue
        given += tokens
        if bucket in _READS:
            read = (read or 0) + tokens + excess.get(bucket, 0)
        elif bucket in _WRITES:
            written = (written or 0) + tokens + excess.get(bucket, 0)
    return (
        given if Bucket.INPUT in usage.buckets else None,
        read,
        written,
        made if Bucket.OUTPUT in usage.buckets else None,
        reasoned,
        units.get(Bucket.SEARCH_UNITS),
        units.get(Bucket.IMAGES),
    )


def selected(entry: Entry, selection: Selection) -> bool:
    """Whether the conditions hold (not the limits)."""
    opening = entry.opening
    wanted = (
        (selection.key, opening.key),
        (selection.exit, entry.exit),
        (selection.provider, opening.provider),
        (selection.model, opening.model),
        (selection.route, opening.route),
        (selection.user, opening.user),
    )
    return (
        (selection.since is None or opening.opened >= selection.since)
        and (selection.until is None or opening.opened < selection.until)
        and all(value is None or value == actual for value, actual in wanted)
    )


def totals_of(entries: Iterable[Entry]) -> dict[TotalKey, Total]:
    """What the entries add up to, by day, key, provider and model. Waived lines are outside totals (DESIGN 4.1.9)."""
    sums: dict[tuple[str, str, str, str], list[int]] = {}
    for entry in entries:
        opening = entry.opening
        day, key = day_of(opening.opened), opening.key or ""
        own = entry.corrects is None
        if own:
            _sums(sums, day, key, opening.provider, opening.model)[0] += 1
        for line in entry.lines:
            if not line.waived:
                _add_line(_sums(sums, day, key, opening.provider, line.model), line, own=own)
    return {TotalKey(*key): Total(*figures) for key, figures in sums.items()}


def add_totals(into: dict[TotalKey, Total], more: Mapping[TotalKey, Total]) -> None:
    """Add `more` to `into`."""
    for key, total in more.items():
        into[key] = into.get(key, _NONE) + total


def group_totals(totals: Mapping[TotalKey, Total], by: Sequence[str]) -> dict[TotalKey, Total]:
    """The totals added up over the dimensions not in `by`, sorted. Raises ValueError for an unknown dimension."""
    unknown = set(by) - set(DIMENSIONS)
    if unknown:
        raise ValueError(f"usage is by {', '.join(DIMENSIONS)}; not by {', '.join(sorted(unknown))}")
    grouped: dict[TotalKey, Total] = {}
    for key, total in totals.items():
        kept = TotalKey(*(getattr(key, name) if name in by else None for name in DIMENSIONS))
        add_totals(grouped, {kept: total})
    return dict(sorted(grouped.items(), key=lambda item: [value or "" for value in msgspec.structs.astuple(item[0])]))


def compare_totals(stored: Mapping[TotalKey, Total], recomputed: Mapping[TotalKey, Total]) -> list[Difference]:
    """Where they differ; a missing total is a total of nothing."""
    return [
        Difference(key, stored.get(key, _NONE), recomputed.get(key, _NONE))
        for key in sorted(stored.keys() | recomputed.keys())
        if stored.get(key, _NONE) != recomputed.get(key, _NONE)
    ]


_NONE: Final = Total()
_OUTPUT: Final = frozenset(OUTPUT_BUCKETS)
_UNITS: Final = frozenset(UNIT_BUCKETS)
_READS: Final = frozenset({Bucket.CACHE_READ, Bucket.CACHE_READ_AUDIO})
_WRITES: Final = frozenset({Bucket.CACHE_WRITE, Bucket.CACHE_WRITE_5M, Bucket.CACHE_WRITE_1H})


def _sums(sums: dict[tuple[str, str, str, str], list[int]], *key: str) -> list[int]:
    day, name, provider, model = key
    return sums.setdefault((day, name, provider, model), [0] * len(FIGURES))


def _add_line(figures: list[int], line: Line, *, own: bool) -> None:
    """In the order of `Total`'s fields. What an attempt's own line lacks, its correction does not lack again."""
    usage = line.usage
    shown = shown_figures(usage)
    for place, value in enumerate(shown, 1):
        figures[place] += value or 0
    if Provenance.ESTIMATED in usage.provenance.values():
        figures[8] += sum(
            usage.buckets.get(bucket, 0)
            for bucket, voucher in usage.provenance.items()
            if voucher is Provenance.ESTIMATED and bucket not in _UNITS
        )
    figures[9] += own and (shown[0] is None or shown[3] is None)
    figures[10] += own and line.cost is None
    figures[11] += line.cost or 0
