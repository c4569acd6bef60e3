"""Settled tokens of one or more attempts, in disjoint buckets.

Rule 1: buckets never overlap, so a cost is a dot product and different attempts simply add.
Rule 2: unknown is not zero. A bucket nobody vouched for is absent; adding an unknown total gives an unknown total.
Rule 3: every bucket says who vouches for it, and a sum is vouched for by its weakest part.
Rule 4: what is billed is what was used, unless the provider says otherwise. Then both are kept, and the bill is priced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

__all__ = [
    "INPUT_BUCKETS",
    "NOTHING",
    "OUTPUT_BUCKETS",
    "UNIT_BUCKETS",
    "Bucket",
    "Provenance",
    "Usage",
    "total_of",
    "weakest",
]


class Bucket(StrEnum):
    """One kind of token, or of another unit that is billed, disjoint from all others."""

    INPUT = "input"
    """Input that is none of the kinds below."""
    CACHE_READ = "cache_read"
    CACHE_READ_AUDIO = "cache_read_audio"
    CACHE_WRITE = "cache_write"
    """Written to a cache, lifetime unspecified."""
    CACHE_WRITE_5M = "cache_write_5m"
    CACHE_WRITE_1H = "cache_write_1h"
    INPUT_AUDIO = "input_audio"
    INPUT_IMAGE = "input_image"
    TOOL_INPUT = "tool_input"
    OUTPUT = "output"
    """Output that is none of the kinds below."""
    REASONING = "reasoning"
    OUTPUT_AUDIO = "output_audio"
    OUTPUT_IMAGE = "output_image"
    SEARCH_UNITS = "search_units"
    """Searches, not tokens."""
    IMAGES = "images"
    """Images billed by the piece, not tokens."""


OUTPUT_BUCKETS: Final = (Bucket.OUTPUT, Bucket.REASONING, Bucket.OUTPUT_AUDIO, Bucket.OUTPUT_IMAGE)
UNIT_BUCKETS: Final = (Bucket.SEARCH_UNITS, Bucket.IMAGES)
"""What is billed and is no token. It is in no total of tokens."""
INPUT_BUCKETS: Final = tuple(bucket for bucket in Bucket if bucket not in (*OUTPUT_BUCKETS, *UNIT_BUCKETS))
_INPUT: Final = frozenset(INPUT_BUCKETS)
_OUTPUT: Final = frozenset(OUTPUT_BUCKETS)
_CACHE_READS: Final = (Bucket.CACHE_READ, Bucket.CACHE_READ_AUDIO)
_CACHE_WRITES: Final = (Bucket.CACHE_WRITE, Bucket.CACHE_WRITE_5M, Bucket.CACHE_WRITE_1H)
_SIDES: Final = (Bucket.INPUT, Bucket.OUTPUT)


class Provenance(StrEnum):
    """Who vouches for a number, strongest first."""

    REPORTED = "reported"
    """The provider, in a reply that reached its end."""
    DERIVED = "derived"
    """The provider's other numbers, by an identity its convention states."""
    PARTIAL = "partial"
    """The provider, in a reply that did not reach its end."""
    ESTIMATED = "estimated"
    """Counterfoil, from what was sent or delivered."""
    UNKNOWN = "unknown"
    """Nobody."""


_STRENGTH: Final = {provenance: place for place, provenance in enumerate(Provenance)}


def weakest(provenances: Iterable[Provenance]) -> Provenance:
    """The weakest of several; REPORTED for none."""
    return max(provenances, key=_STRENGTH.__getitem__, default=Provenance.REPORTED)


class Usage(msgspec.Struct, frozen=True):
    """Disjoint buckets, who vouches for each, and what a provider claimed beyond the whole.

    `input_tokens` and `output_tokens` are inclusive totals (cache in input, reasoning in output). A total is known
    exactly when its own bucket (`INPUT`, `OUTPUT`) is present.
    """

    buckets: Mapping[Bucket, int] = {}
    provenance: Mapping[Bucket, Provenance] = {}
    excess: Mapping[Bucket, int] = {}
    """Tokens of a part beyond its whole (Azure's grok says cached 163 of a prompt of 7). Shown, never billed."""
    billed: Mapping[Bucket, int] | None = None
    """What is priced, where the provider's bill is not of what the model read and wrote (Cohere's `billed_units`).
    None: what was used is what is billed."""

    def __add__(self, other: Usage) -> Usage:
        """The usage of both. Commutative and associative; `NOTHING` is the identity."""
        buckets = _added(self.buckets, other.buckets)
        provenance: dict[Bucket, Provenance] = {}
        for bucket in buckets:
            vouchers = [side.provenance[bucket] for side in (self, other) if bucket in side.provenance]
            if vouchers:
                provenance[bucket] = weakest(vouchers)
        excess = {
            bucket: self.excess.get(bucket, 0) + other.excess.get(bucket, 0)
            for bucket in Bucket
            if bucket in self.excess or bucket in other.excess
        }
        apart = self.billed is not None or other.billed is not None
        return Usage(buckets, provenance, excess, _added(self.priced, other.priced) if apart else None)

    @property
    def priced(self) -> Mapping[Bucket, int]:
        """What a cost is made of: the bill where the provider states one, else the buckets."""
        return self.buckets if self.billed is None else self.billed

    @property
    def input_tokens(self) -> int | None:
        """All input, cache included; None when unknown."""
        return self._inclusive(Bucket.INPUT, _INPUT)

    @property
    def output_tokens(self) -> int | None:
        """All output, reasoning included; None when unknown."""
        return self._inclusive(Bucket.OUTPUT, _OUTPUT)

    @property
    def total_tokens(self) -> int | None:
        """Input plus output; None when either is unknown."""
        given, made = self.input_tokens, self.output_tokens
        return None if given is None or made is None else given + made

    @property
    def cache_read_tokens(self) -> int | None:
        """Input read from a cache, as claimed; None when nobody said."""
        return self._claimed(_CACHE_READS)

    @property
    def cache_write_tokens(self) -> int | None:
        """Input written to a cache, all lifetimes, as claimed; None when nobody said."""
        return self._claimed(_CACHE_WRITES)

    @property
    def reasoning_tokens(self) -> int | None:
        """Output that was reasoning, as claimed; None when nobody said."""
        return self._claimed((Bucket.REASONING,))

    def claimed(self, bucket: Bucket) -> int | None:
        """One bucket with its excess: what the provider said of it."""
        return self._claimed((bucket,))

    def vouched(self, buckets: Iterable[Bucket]) -> Provenance:
        """Who vouches for the sum of `buckets`; UNKNOWN when none of them is present."""
        present = [self.provenance.get(bucket, Provenance.REPORTED) for bucket in buckets if bucket in self.buckets]
        return weakest(present) if present else Provenance.UNKNOWN

    @property
    def estimated(self) -> bool:
        """Whether any number in it is an estimate."""
        return Provenance.ESTIMATED in self.provenance.values()

    def _inclusive(self, side: Bucket, buckets: frozenset[Bucket]) -> int | None:
        if side not in self.buckets:
            return None
        return sum([count for bucket, count in self.buckets.items() if bucket in buckets])

    def _claimed(self, buckets: Iterable[Bucket]) -> int | None:
        present = [bucket for bucket in buckets if bucket in self.buckets]
        if not present:
            return None
        return sum(self.buckets[bucket] + self.excess.get(bucket, 0) for bucket in present)


def _added(mine: Mapping[Bucket, int], theirs: Mapping[Bucket, int]) -> dict[Bucket, int]:
    """Bucket by bucket. A side that is unknown to one of them is unknown to both."""
    buckets: dict[Bucket, int] = {}
    for bucket in Bucket:
        one, other = mine.get(bucket), theirs.get(bucket)
        if (one is None and other is None) or (bucket in _SIDES and (one is None or other is None)):
            continue
        buckets[bucket] = (one or 0) + (other or 0)
    return buckets


NOTHING: Final = Usage({Bucket.INPUT: 0, Bucket.OUTPUT: 0})
"""Known to be nothing: the identity of addition."""


def total_of(usages: Iterable[Usage]) -> Usage:
    """The sum of several attempts' usage."""
    result = NOTHING
    for usage in usages:
        result = result + usage
    return result
