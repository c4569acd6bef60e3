"""Converse's usage object.

Rule 1: `inputTokens` excludes cache reads and cache writes, and `totalTokens` includes them (WIRE 1: 428 of 428).
`outputTokens` includes reasoning, which nobody itemises.
Rule 2: `...TokenCount` beside `...Tokens` is the same number by its other name (178 of 178), not another number.
Rule 3: what is written wrongly (a count that is no number) is absent, never an error.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from counterfoil.dialects.schema import UNREADABLE, object_of, whole_number
from counterfoil.usage.reading import Counter, Report, rate_context
from counterfoil.usage.settle import Convention

__all__ = ["CONVENTION", "read_counts", "read_report"]

CONVENTION: Final = Convention(
    input_includes=frozenset(),
    output_includes=frozenset({Counter.REASONING}),
    total_is=frozenset({Counter.INPUT, Counter.CACHE_READ, Counter.CACHE_WRITE, Counter.OUTPUT}),
)

_COUNTERS: Final[Mapping[Counter, tuple[str, str]]] = {
    Counter.INPUT: ("inputTokens", "inputTokenCount"),
    Counter.OUTPUT: ("outputTokens", "outputTokenCount"),
    Counter.TOTAL: ("totalTokens", "totalTokenCount"),
    Counter.CACHE_READ: ("cacheReadInputTokens", "cacheReadInputTokenCount"),
    Counter.CACHE_WRITE: ("cacheWriteInputTokens", "cacheWriteInputTokenCount"),
}
_LIFETIMES: Final[Mapping[str, Counter]] = {"5m": Counter.CACHE_WRITE_5M, "1h": Counter.CACHE_WRITE_1H}
"""`cacheDetails[].ttl`: what was written to the cache, by lifetime."""


def read_report(raw: bytes | msgspec.Raw, *, tier: object = None) -> Report | None:
    """One usage object as a report; None when it is no object. `tier`: the service tier beside it."""
    word = bytes(raw)
    try:
        said = object_of(word)
    except UNREADABLE:
        return None
    return Report(read_counts(said), context=rate_context(service_tier=tier), raw=word)


def read_counts(said: Mapping[str, Any]) -> dict[Counter, int | None]:
    """The counters that are present; null stays null."""
    found: dict[Counter, int | None] = {}
    for counter, names in _COUNTERS.items():
        for name in names:
            if name in said and found.get(counter) is None:
                value = said[name]
                count = whole_number(value)
                if value is None or count is not None:
                    found[counter] = count
    details = said.get("cacheDetails")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict):
            lifetime, count = _LIFETIMES.get(str(detail.get("ttl"))), whole_number(detail.get("inputTokens"))
            if lifetime is not None and count is not None:
                found[lifetime] = (found.get(lifetime) or 0) + count
    return found
