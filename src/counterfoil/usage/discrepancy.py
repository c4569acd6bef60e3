"""What does not add up in a provider's numbers.

Rule: it is kept with the entry, and never fails a request.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from counterfoil.usage.reading import Counter

__all__ = ["Discrepancy", "DiscrepancyKind"]


class DiscrepancyKind(StrEnum):
    """A way in which a provider's numbers do not agree with themselves or with what was seen."""

    TOTAL_MISMATCH = "total_mismatch"
    PART_EXCEEDS_WHOLE = "part_exceeds_whole"
    COUNTER_FELL = "counter_fell"
    ZERO_BESIDE_TEXT = "zero_beside_text"
    CHOICES_UNREPORTED = "choices_unreported"
    LINES_DISAGREE = "lines_disagree"
    IMPLAUSIBLE = "implausible"
    """A number that no count can be: negative, or absurdly large. The raw report has it."""
    VECTOR_COUNT = "vector_count"
    """Another number of vectors came than of inputs was sent."""


class Discrepancy(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that did not add up. Stored with the entry; never an error."""

    kind: DiscrepancyKind
    counter: Counter | None = None
    """None: it is no counter that does not add up, but what came."""
    reported: int | None = None
    expected: int | None = None
