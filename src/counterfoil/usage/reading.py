"""What one attempt's provider has said so far.

Rule 1: a later report replaces an earlier one, counter by counter. Reports are never added and never maximised.
Rule 2: presence is tracked. An absent counter, a null one and a 0 are three things; null neither sets nor clears.
Rule 3: a number that no count can be (negative, or beyond `LARGEST_COUNT`) is not heard, and that it came is kept.
Rule 4: nothing is normalised here. A counter means what the provider's convention says, until `settle` reads it once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

__all__ = [
    "LARGEST_COUNT",
    "LINES_KEPT",
    "NAME_KEPT",
    "NO_READING",
    "OTHER_LINES",
    "RAW_REPORTS_KEPT",
    "WHOLE_REPLY",
    "Counter",
    "Observation",
    "Reading",
    "Report",
    "ReportLine",
    "is_count",
    "rate_context",
]

LARGEST_COUNT: Final = 10**9
"""The largest number taken for a count of one reply's tokens: hundreds of times any context window, and small enough
that a cost still fits in 64 bits."""

RAW_REPORTS_KEPT: Final = 8
"""How many reports a reading keeps word for word: the first, and the last seven. The count of all of them is kept."""


LINES_KEPT: Final = 64
"""Lines of a report that are kept apart, the last for what all others add up to: an entry has to fit into a record."""
NAME_KEPT: Final = 256
"""Characters of a line's kind and model that are kept."""
OTHER_LINES: Final = "other"
"""The kind of the line that the rest are added up in."""

_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}", re.ASCII)
"""What a word of a price list looks like. Nothing else that a provider says gets into an entry."""

WHOLE_REPLY: Final = -1
"""The scope of a report that speaks of the reply, not of one choice."""


class Counter(StrEnum):
    """A number a provider reports, before any convention is applied. Units: tokens, but for the last of them."""

    INPUT = "input"
    CACHE_READ = "cache_read"
    CACHE_READ_AUDIO = "cache_read_audio"
    CACHE_WRITE = "cache_write"
    CACHE_WRITE_5M = "cache_write_5m"
    CACHE_WRITE_1H = "cache_write_1h"
    INPUT_AUDIO = "input_audio"
    INPUT_IMAGE = "input_image"
    TOOL_INPUT = "tool_input"
    OUTPUT = "output"
    REASONING = "reasoning"
    OUTPUT_AUDIO = "output_audio"
    OUTPUT_IMAGE = "output_image"
    TOTAL = "total"
    BILLED_INPUT = "billed_input"
    """Input tokens on the bill, where the provider says that they are others than the model read (Cohere)."""
    BILLED_OUTPUT = "billed_output"
    SEARCH_UNITS = "search_units"
    """Searches on the bill: Cohere's rerank bills these and no tokens. https://docs.cohere.com/reference/rerank"""
    IMAGES = "images"
    """Images on the bill, by the piece. https://docs.cohere.com/reference/embed"""


class ReportLine(msgspec.Struct, frozen=True):
    """One model's part in a report that itemises several (Anthropic's `iterations`)."""

    kind: str
    counts: Mapping[Counter, int | None]
    model: str | None = None
    waived: bool = False
    """The provider does not bill it: a model that declined before any output."""


class Report(msgspec.Struct, frozen=True):
    """One usage object a provider sent."""

    counts: Mapping[Counter, int | None]
    scope: int | None = None
    """None: the reply. A number: that choice of it (llama.cpp with n > 1, WIRE.md 4)."""
    lines: tuple[ReportLine, ...] | None = None
    """When present, these replace the top level (DESIGN 4.1.9)."""
    provisional: frozenset[Counter] = frozenset()
    """Counters that are placeholders, not measures (Anthropic's `output_tokens` in `message_start`)."""
    estimated: bool = False
    """Whoever sent it says that some number in it is an estimate (a gateway, of a provider that reported nothing)."""
    context: Mapping[str, str] = {}
    """What the provider says of the rate it served this at, in the words of price lists (`service_tier`: `flex`)."""
    raw: bytes = b""
    """The JSON as it came, so that an entry can be explained and priced again."""

    @property
    def measures_output(self) -> bool:
        """Whether it says how much was written until now: what comes after it is not in it."""
        return self.counts.get(Counter.OUTPUT) is not None and Counter.OUTPUT not in self.provisional


class Observation(msgspec.Struct, frozen=True):
    """The last word on one counter."""

    value: int
    ordinal: int
    """The number of the report that said it, from 1. A parent newer than its children makes them stale."""
    provisional: bool = False
    estimated: bool = False
    """Its report was marked as holding estimates. Which number is one, the mark does not tell."""


class Reading(msgspec.Struct, frozen=True):
    """All reports of one attempt, joined. `Reading()` is the identity of `merge`."""

    scopes: Mapping[int, Mapping[Counter, Observation]] = {}
    """By choice; `WHOLE_REPLY` for reports of the reply."""
    lines: tuple[ReportLine, ...] = ()
    reports: int = 0
    fell: frozenset[Counter] = frozenset()
    """Counters that a later report lowered. Legitimate for some providers (Gemini), always worth keeping."""
    raw: tuple[bytes, ...] = ()
    implausible: frozenset[Counter] = frozenset()
    """Counters for which something came that is no count. It counts as null did."""
    context: Mapping[str, str] = {}
    """The last word on each part of `Report.context`."""

    def join(self, report: Report) -> Reading:
        """This reading after one more report."""
        return self.merge(_single(report))

    def merge(self, later: Reading) -> Reading:
        """This reading followed by `later`. The empty reading is its identity.

        Counters, ordinals, lines and raw reports do not depend on the grouping; `fell` does, and is exact when reports
        are joined one at a time.
        """
        if not self.reports:
            return later
        if not later.reports:
            return self
        scopes = dict(self.scopes)
        fell = set(self.fell | later.fell)
        for scope, counters in later.scopes.items():
            known = dict(scopes.get(scope, {}))
            for counter, said in counters.items():
                before = known.get(counter)
                if before is not None and said.value < before.value and not before.provisional:
                    fell.add(counter)
                known[counter] = Observation(said.value, self.reports + said.ordinal, said.provisional, said.estimated)
            scopes[scope] = known
        return Reading(
            scopes=scopes,
            lines=later.lines or self.lines,
            reports=self.reports + later.reports,
            fell=frozenset(fell),
            raw=_bounded(self.raw + later.raw),
            implausible=self.implausible | later.implausible,
            context={**self.context, **later.context} if later.context else self.context,
        )

    def value(self, counter: Counter, scope: int = WHOLE_REPLY) -> int | None:
        """The last number said for `counter`, or None when nobody said one."""
        said = self.scopes.get(scope, {}).get(counter)
        return None if said is None else said.value


NO_READING: Final = Reading()


def is_count(value: int) -> bool:
    """Whether a number can be a count of one reply's tokens."""
    return 0 <= value <= LARGEST_COUNT


def rate_context(**said: object) -> Mapping[str, str]:
    """A `Report.context` of what a provider said under each name; what is no text, or empty, it did not say."""
    return {name: word for name, word in said.items() if isinstance(word, str) and word}


def _single(report: Report) -> Reading:
    deaf: set[Counter] = set()
    said = {
        counter: Observation(value, 1, counter in report.provisional, report.estimated)
        for counter, value in _plausible(report.counts, deaf).items()
        if value is not None
    }
    lines = tuple(
        ReportLine(
            line.kind[:NAME_KEPT],
            _plausible(line.counts, deaf),
            line.model and line.model[:NAME_KEPT],
            line.waived,
        )
        for line in report.lines or ()
    )
    if len(lines) > LINES_KEPT:
        lines = (*lines[: LINES_KEPT - 1], _folded(lines[LINES_KEPT - 1 :], deaf))
    return Reading(
        scopes={WHOLE_REPLY if report.scope is None else report.scope: said} if said else {},
        lines=lines,
        reports=1,
        raw=(report.raw,) if report.raw else (),
        implausible=frozenset(deaf),
        context={key: word for key, word in report.context.items() if _WORD.fullmatch(word)} if report.context else {},
    )


def _folded(lines: tuple[ReportLine, ...], deaf: set[Counter]) -> ReportLine:
    """One line of no model for all of these. What is waived is outside the totals, and left out."""
    counts: dict[Counter, int | None] = {}
    for line in lines:
        if not line.waived:
            for counter, value in line.counts.items():
                if value is not None:
                    counts[counter] = (counts.get(counter) or 0) + value
    return ReportLine(OTHER_LINES, _plausible(counts, deaf))


def _plausible(counts: Mapping[Counter, int | None], deaf: set[Counter]) -> Mapping[Counter, int | None]:
    """The counts without what no count can be, whose counters go into `deaf`."""
    wrong = {counter for counter, value in counts.items() if value is not None and not is_count(value)}
    if not wrong:
        return counts
    deaf |= wrong
    return {counter: value for counter, value in counts.items() if counter not in wrong}


def _bounded(raw: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return raw if len(raw) <= RAW_REPORTS_KEPT else (raw[0], *raw[1 - RAW_REPORTS_KEPT :])
