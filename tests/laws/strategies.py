"""What hypothesis draws: reports, conventions and usage of every shape, sensible and not."""

from __future__ import annotations

from hypothesis import strategies as st

from counterfoil.usage.reading import LARGEST_COUNT, Counter, Reading, Report, ReportLine
from counterfoil.usage.settle import Convention, Delivered
from counterfoil.usage.usage import Bucket, Provenance, Usage

__all__ = ["any_counts", "conventions", "counts", "delivered", "reading_of", "reports", "usages"]

_COUNTERS = st.sampled_from(Counter)
_SMALL = st.integers(0, 300)

counts = st.dictionaries(_COUNTERS, st.none() | _SMALL, max_size=8)
"""Counters with numbers a provider may well send, nulls among them."""

any_counts = st.dictionaries(
    _COUNTERS, st.none() | _SMALL | st.integers(-(10**30), 10**30) | st.just(LARGEST_COUNT), max_size=14
)
"""Counters with any number at all."""


def _lines(numbers: st.SearchStrategy[dict[Counter, int | None]]) -> st.SearchStrategy[tuple[ReportLine, ...] | None]:
    line = st.builds(
        ReportLine, kind=st.sampled_from(["message", "compaction", "advisor"]), counts=numbers, waived=st.booleans()
    )
    return st.none() | st.lists(line, max_size=3).map(tuple)


def reports(
    numbers: st.SearchStrategy[dict[Counter, int | None]] = counts,
    *,
    scoped: bool = True,
    lines: bool = True,
    marked: bool = False,
) -> st.SearchStrategy[Report]:
    return st.builds(
        Report,
        counts=numbers,
        scope=st.none() | st.integers(0, 2) if scoped else st.none(),
        lines=_lines(numbers) if lines else st.none(),
        provisional=st.frozensets(_COUNTERS, max_size=2),
        estimated=st.booleans() if marked else st.just(False),
        raw=st.binary(max_size=3),
    )


_INPUT_PARTS = [
    Counter(bucket.value) for bucket in Bucket if bucket.value.startswith(("cache_read", "input_", "tool_"))
]

_IN_A_TOTAL = sorted(set(Counter) - {Counter.TOTAL, Counter.BILLED_INPUT, Counter.BILLED_OUTPUT})

conventions = st.builds(
    Convention,
    input_includes=st.frozensets(st.sampled_from([*_INPUT_PARTS, Counter.CACHE_WRITE])),
    output_includes=st.frozensets(st.sampled_from([Counter.REASONING, Counter.OUTPUT_AUDIO, Counter.OUTPUT_IMAGE])),
    total_is=st.frozensets(st.sampled_from(_IN_A_TOTAL), max_size=4).map(
        lambda extra: extra | {Counter.INPUT, Counter.OUTPUT}
    ),
    hidden_reasoning=st.booleans(),
)

delivered = st.builds(
    Delivered,
    input=st.none() | _SMALL,
    output=_SMALL,
    reasoning=_SMALL,
    since_report=st.none() | _SMALL,
    choices=st.frozensets(st.integers(0, 3)),
    per_choice=st.dictionaries(st.integers(0, 3), _SMALL, max_size=3),
    hidden=st.booleans(),
)


@st.composite
def _usage(draw: st.DrawFn) -> Usage:
    buckets = draw(st.dictionaries(st.sampled_from(Bucket), st.integers(0, 10**9), max_size=len(Bucket)))
    excess = draw(st.dictionaries(st.sampled_from(Bucket), st.integers(1, 10**6), max_size=3))
    voucher = draw(st.sampled_from(Provenance))
    provenance = {bucket: draw(st.sampled_from([voucher, Provenance.REPORTED])) for bucket in buckets}
    billed = draw(st.none() | st.dictionaries(st.sampled_from(Bucket), st.integers(0, 10**9), max_size=4))
    return Usage(buckets, provenance, {bucket: value for bucket, value in excess.items() if bucket in buckets}, billed)


usages = _usage()


def reading_of(*said: Report) -> Reading:
    """The reports joined in order."""
    reading = Reading()
    for report in said:
        reading = reading.join(report)
    return reading
