"""One immutable record of the ledger: what one attempt was, how it ended, what it used and what that cost.

Rule 1: an entry is identified by its attempt. Writing it twice changes nothing; a correction is a new entry.
Rule 2: books, not contents. Nothing here can hold prompt or reply text, nor a secret.
Rule 3: every number keeps its voucher, its raw reports and its price's date, so that it can be explained and re-priced.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from counterfoil.usage.reading import Reading
from counterfoil.usage.settle import Convention, Delivered, Discrepancy, Finality
from counterfoil.usage.usage import INPUT_BUCKETS, OUTPUT_BUCKETS, UNIT_BUCKETS, Bucket, Provenance, Usage, total_of

__all__ = [
    "OPEN",
    "Correction",
    "Entry",
    "Exit",
    "Line",
    "Opening",
    "PricedBy",
    "Progress",
    "UsageFigures",
    "figures",
    "vouchers",
]

OPEN: Final = "open"
"""What a view shows as the exit of an attempt that is still running."""


class Exit(StrEnum):
    """How an attempt ended. Total: every attempt ends in exactly one of these."""

    COMPLETED = "completed"
    """The reply reached its end (also when the model refused)."""
    REJECTED = "rejected"
    """The provider answered an error status."""
    FAILED = "failed"
    """The provider sent an error frame, or something that is not a reply."""
    TRUNCATED = "truncated"
    """The stream ended before its reply did."""
    LOST = "lost"
    """The connection could not be made, or broke."""
    TIMED_OUT = "timed_out"
    CLIENT_GONE = "client_gone"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    """Found open when the journal was replayed."""


class Opening(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known before the upstream call. Written first; nothing is sent before it is."""

    attempt: str
    """Time-ordered id (UUIDv7 text)."""
    exchange: str
    opened: float
    """Unix seconds."""
    route: str
    """The model name the client asked for."""
    provider: str
    model: str
    """The provider's name for the model."""
    client_dialect: str
    provider_dialect: str
    key: str | None = None
    """The name of the gateway key, never its secret."""
    user: str | None = None
    tags: tuple[str, ...] = ()
    streamed: bool = False
    input_estimate: int | None = None
    """Tokens, from the request alone."""
    price_id: str | None = None
    """How the price table names the provider; None: it has no list price."""
    free: bool = False
    """Nothing this provider serves costs money."""
    own_prices: Mapping[str, str] | None = None
    """The owner's prices for `model`: USD per million tokens by bucket, as written."""
    convention: Convention = Convention()
    """How the provider's counters are to be read: kept, so that a crashed attempt can be settled without its table."""


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an open attempt amounts to so far. The last one settles a crashed attempt."""

    attempt: str
    at: float
    """Unix seconds."""
    reading: Reading
    delivered: Delivered


class PricedBy(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a price came from."""

    source: str
    date: str
    """The day the price is from, ISO 8601."""
    model: str = ""
    """The price table's own name for the model."""
    notes: tuple[str, ...] = ()


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model's part of an entry."""

    model: str
    kind: str
    usage: Usage
    cost: int | None = None
    """Picodollars (1e-12 USD); None: unpriced, which is never 0."""
    priced_by: PricedBy | None = None
    waived: bool = False
    rates: Mapping[str, int] = {}
    """What each bucket was charged, by its name: picodollars per million tokens. Pinned, since price lists move on."""


class Correction(msgspec.Struct, frozen=True, omit_defaults=True):
    """What makes an entry a correction: which entry's numbers it changes, and who counted again."""

    attempt: str
    """The attempt that is corrected."""
    estimator: str
    """What counted, and by which vocabulary (`splintr 0.22.0, o200k_base`)."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt, closed; or, where `corrects` says so, what has to be added to one.

    The lines of a correction are differences, which may be negative: entry and corrections simply add up. Its opening
    is the attempt's own but for the id, so that both stand at the same place in every sum and selection.
    """

    opening: Opening
    closed: float
    """Unix seconds."""
    exit: Exit
    lines: tuple[Line, ...]
    """None when no model ran: the provider rejected the request or was never reached."""
    reading: Reading = Reading()
    delivered: Delivered | None = None
    """What estimates were made from; None when nothing had to be estimated."""
    finality: Finality = Finality.NONE
    discrepancies: tuple[Discrepancy, ...] = ()
    provider_total: int | None = None
    lower_bound: bool = False
    status: int | None = None
    """The HTTP status the provider answered."""
    detail: str | None = None
    """Why it ended so, in the gateway's own words: never text of a prompt, a reply or a provider's message."""
    first_byte_ms: float | None = None
    """From opening to the first byte of the reply."""
    total_ms: float = 0.0
    provider_id: str | None = None
    """The provider's own id of the reply or the request."""
    corrects: Correction | None = None
    """None: an attempt's own entry."""

    @property
    def usage(self) -> Usage:
        """The sum of the lines that are billed; unknown when there are none."""
        billed = [line.usage for line in self.lines if not line.waived]
        if len(billed) == 1:
            return billed[0]
        return total_of(billed) if billed else Usage()

    @property
    def cost(self) -> int | None:
        """Picodollars; None when any billed line is unpriced; 0 when no model ran."""
        total = 0
        for line in self.lines:
            if line.waived:
                continue
            if line.cost is None:
                return None
            total += line.cost
        return total


class UsageFigures(msgspec.Struct, frozen=True):
    """What a person or a tool is shown: inclusive totals (cache in input, reasoning in output). None: unknown."""

    input_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    total_tokens: int | None
    provider_total: int | None = None
    search_units: int | None = None
    """Searches that are billed; no tokens, as images are none."""
    images: int | None = None


def figures(usage: Usage, provider_total: int | None = None) -> UsageFigures:
    """The shown figures of `usage`."""
    return UsageFigures(
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.total_tokens,
        provider_total,
        usage.buckets.get(Bucket.SEARCH_UNITS),
        usage.buckets.get(Bucket.IMAGES),
    )


_FIGURE_BUCKETS: Final[Mapping[str, tuple[Bucket, ...]]] = {
    "input_tokens": INPUT_BUCKETS,
    "cache_read_tokens": (Bucket.CACHE_READ, Bucket.CACHE_READ_AUDIO),
    "cache_write_tokens": (Bucket.CACHE_WRITE, Bucket.CACHE_WRITE_5M, Bucket.CACHE_WRITE_1H),
    "output_tokens": OUTPUT_BUCKETS,
    "reasoning_tokens": (Bucket.REASONING,),
}
_FIGURE_UNITS: Final[Mapping[str, Bucket]] = {bucket.value: bucket for bucket in UNIT_BUCKETS}


def vouchers(usage: Usage) -> dict[str, Provenance]:
    """Who vouches for each shown figure; an inclusive total whose own bucket is absent is UNKNOWN.

    Units that are no tokens are named only where they are billed.
    """
    known = {
        "input_tokens": Bucket.INPUT in usage.buckets,
        "output_tokens": Bucket.OUTPUT in usage.buckets,
    }
    said = {
        name: usage.vouched(buckets) if known.get(name, True) else Provenance.UNKNOWN
        for name, buckets in _FIGURE_BUCKETS.items()
    }
    units = {name: usage.vouched((bucket,)) for name, bucket in _FIGURE_UNITS.items() if bucket in usage.buckets}
    return {**said, **units}
