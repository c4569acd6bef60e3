"""Attempts, progress and entries with invented content, and hypothesis strategies for them."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
from hypothesis import strategies as st

from counterfoil.ledger.entry import Entry, Exit, Line, Opening, PricedBy, Progress
from counterfoil.stores.memory import MemoryStore
from counterfoil.stores.replay import replay
from counterfoil.usage.reading import NO_READING, Counter, Reading, Report
from counterfoil.usage.settle import Delivered, SettledLine, settle
from counterfoil.usage.usage import Bucket, Provenance, Usage

__all__ = [
    "NOON",
    "attempt_name",
    "dead_copy",
    "entries_strategy",
    "entry_of",
    "opening_of",
    "pricing",
    "progress_of",
    "reading_of",
    "replayed",
]

NOON = 1_750_000_000.0
"""2025-06-15 15:06:40 UTC."""


def attempt_name(number: int) -> str:
    return f"0197{number:08x}-0000-7000-8000-000000000000"


def opening_of(number: int = 1, **changes: object) -> Opening:
    opening = Opening(
        attempt_name(number),
        f"exchange-{number}",
        NOON + number,
        "my-model",
        "openai",
        "gpt-small",
        "openai_chat",
        "openai_chat",
        key="team",
        streamed=True,
        input_estimate=90,
    )
    return msgspec.structs.replace(opening, **changes)


def reading_of(given: int = 100, made: int = 20) -> Reading:
    raw = b'{"prompt_tokens":%d,"completion_tokens":%d}' % (given, made)
    return NO_READING.join(Report({Counter.INPUT: given, Counter.OUTPUT: made}, raw=raw))


def progress_of(number: int = 1, *, made: int = 20, after: float = 1.0) -> Progress:
    return Progress(attempt_name(number), NOON + number + after, reading_of(made=made), Delivered(90, made + 1))


def pricing(opening: Opening, lines: tuple[SettledLine, ...], at: float) -> tuple[Line, ...]:
    """A thousand picodollars a known token."""
    return tuple(
        Line(
            line.model or opening.model,
            line.kind,
            line.usage,
            (line.usage.total_tokens or 0) * 1000,
            PricedBy("a list", "2025-06-01"),
            line.waived,
        )
        for line in lines
    )


def entry_of(number: int = 1, *, made: int = 20, exit: Exit = Exit.COMPLETED, **changes: object) -> Entry:  # noqa: A002
    opening = opening_of(number, **changes)
    settled = settle(reading_of(made=made), opening.convention, ended=exit is Exit.COMPLETED)
    return Entry(
        opening,
        opening.opened + 2,
        exit,
        pricing(opening, settled.lines, opening.opened),
        reading_of(made=made),
        None,
        settled.finality,
        status=200,
        total_ms=2000.0,
    )


def dead_copy(directory: Path, to: Path) -> Path:
    """What is left when the process that writes `directory` dies now: the same files, and nobody's locks."""
    return shutil.copytree(directory, to)


def replayed(directory: Path, store: MemoryStore | None = None) -> dict[str, Entry]:
    """Every entry there is after replaying `directory`, by attempt."""
    store = store or MemoryStore()
    replay(directory, store, pricing)
    return {entry.opening.attempt: entry for entry in store.entries()}


_counts = st.none() | st.integers(0, 2**70) | st.integers(0, 1000)
_names = st.sampled_from(["alpha", "beta", "it's; --", "Ünïcode \U0001f389", ""])


@st.composite
def _usages(draw: st.DrawFn) -> Usage:
    buckets = draw(st.dictionaries(st.sampled_from(list(Bucket)), st.integers(0, 2**70), max_size=6))
    vouchers = {bucket: draw(st.sampled_from(list(Provenance))) for bucket in buckets}
    excess = {bucket: draw(st.integers(0, 99)) for bucket in buckets if draw(st.booleans())}
    billed = draw(st.none() | st.dictionaries(st.sampled_from(list(Bucket)), st.integers(0, 2**70), max_size=3))
    return Usage(buckets, vouchers, excess, billed)


@st.composite
def _entries(draw: st.DrawFn) -> Entry:
    opening = Opening(
        attempt_name(draw(st.integers(0, 12))),
        "exchange",
        NOON + draw(st.integers(-200_000, 200_000)) / 2,
        draw(_names),
        draw(_names),
        draw(_names),
        "openai_chat",
        "openai_chat",
        key=draw(st.none() | _names),
        user=draw(st.none() | _names),
    )
    lines = st.builds(
        Line, _names, st.just("reply"), _usages(), st.none() | st.integers(0, 2**70), st.none(), st.booleans()
    )
    return Entry(
        opening,
        opening.opened + 1,
        draw(st.sampled_from(list(Exit))),
        tuple(draw(st.lists(lines, max_size=3))),
        status=draw(st.none() | st.integers(100, 599)),
        provider_total=draw(_counts),
    )


entries_strategy = st.lists(_entries(), max_size=15)
usages_strategy = _usages()
