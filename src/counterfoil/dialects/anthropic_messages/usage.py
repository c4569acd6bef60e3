"""Anthropic's usage object, both ways.

Rule 1: `input_tokens` excludes cache reads and cache writes (WIRE 1: read > input in 52 of 56 recordings);
`output_tokens` includes thinking (42 of 42). There is no total.
Rule 2: `iterations` record what ran. When they say more than the top level, they become lines (DESIGN 4.1.9).
Rule 3: what is written wrongly (a count that is no number) is absent, never an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from counterfoil.dialects.dialect import FinalUsage
from counterfoil.dialects.schema import UNREADABLE, encode, fields_of, given, object_of, value_of, whole_number
from counterfoil.usage.reading import Counter, Report, ReportLine, is_count, rate_context
from counterfoil.usage.settle import Convention
from counterfoil.usage.usage import INPUT_BUCKETS, Bucket, Usage

__all__ = ["CONVENTION", "ESTIMATED", "read_report", "usage_fields", "write_usage"]

CONVENTION: Final = Convention(
    input_includes=frozenset(),
    output_includes=frozenset({Counter.REASONING}),
    total_is=frozenset({Counter.INPUT, Counter.CACHE_READ, Counter.CACHE_WRITE, Counter.OUTPUT}),
)
"""`total_is` is what a total would be; the dialect reports none."""

ESTIMATED: Final = "estimated"
"""Our mark inside a usage object whose numbers are partly a guess (DESIGN 4.1.6). It is written, and read again."""

_COUNTERS: Final[Mapping[tuple[str, ...], Counter]] = {
    ("input_tokens",): Counter.INPUT,
    ("cache_read_input_tokens",): Counter.CACHE_READ,
    ("cache_creation_input_tokens",): Counter.CACHE_WRITE,
    ("cache_creation", "ephemeral_5m_input_tokens"): Counter.CACHE_WRITE_5M,
    ("cache_creation", "ephemeral_1h_input_tokens"): Counter.CACHE_WRITE_1H,
    ("output_tokens",): Counter.OUTPUT,
    ("output_tokens_details", "thinking_tokens"): Counter.REASONING,
}
_TOP_LEVEL: Final = (Counter.INPUT, Counter.CACHE_READ, Counter.CACHE_WRITE, Counter.OUTPUT)

_MESSAGE: Final = "message"
_FALLBACK: Final = "fallback_message"
_ATTEMPTS: Final = (_MESSAGE, _FALLBACK)
"""Iterations that are a try at the reply itself; the others (compaction, advisor_message) serve it."""

Where = Literal["message_start", "message_delta", "body"]


def read_report(raw: bytes | msgspec.Raw, where: Where, *, declined: bool = False) -> Report | None:
    """One usage object as a report; None when it is no object.

    `declined`: the reply ended with `stop_reason: "refusal"`. A model that declined before any output is not billed
    (WIRE 1, from the vendor's documentation): what it reports becomes a waived line.
    """
    word = bytes(raw)
    try:
        said = object_of(word)
    except UNREADABLE:
        return None
    counts, guessed = _counts(said), said.get(ESTIMATED) is True
    if where == "message_start":
        # What is generated when the head is sent is a placeholder (WIRE 1: 0 to 88 in the recordings), and so is what
        # its iterations say: a later report without iterations would leave them standing for the whole reply.
        return Report(counts, provisional=frozenset({Counter.OUTPUT}), estimated=guessed, context=_rate(said), raw=word)
    return Report(counts, lines=_lines(said, counts, declined), estimated=guessed, context=_rate(said), raw=word)


def _rate(said: Mapping[str, Any]) -> Mapping[str, str]:
    """https://platform.claude.com/docs/en/api/service-tiers, https://platform.claude.com/docs/en/build-with-claude/fast-mode,
    and the place of inference, which is dearer where it was chosen (`us`: a tenth):
    https://platform.claude.com/docs/en/manage-claude/data-residency"""
    place = said.get("inference_geo")
    return rate_context(
        service_tier=said.get("service_tier"),
        speed=said.get("speed"),
        inference_geo=None if place in _ANYWHERE else place,
    )


_ANYWHERE: Final = ("global", "not_available")


def _counts(said: Mapping[str, Any]) -> dict[Counter, int | None]:
    """The counters that are present; null stays null."""
    found: dict[Counter, int | None] = {}
    for path, counter in _COUNTERS.items():
        value: Any = said
        for key in path:
            value = value.get(key, _ABSENT) if isinstance(value, dict) else _ABSENT
        if value is None:
            found[counter] = None
        elif (count := whole_number(value)) is not None:
            found[counter] = count
    return found


_ABSENT: Final = object()


def _lines(said: Mapping[str, Any], top: Mapping[Counter, int | None], declined: bool) -> tuple[ReportLine, ...] | None:
    """The iterations by (type, model, waived), or None when they say nothing that the top level does not."""
    told = said.get("iterations")
    iterations = [item for item in told if isinstance(item, dict)] if isinstance(told, list) else []
    if not iterations:
        return (ReportLine(_MESSAGE, top, waived=True),) if declined and top.get(Counter.OUTPUT) == 0 else None
    waived = _waived(iterations, declined)
    groups: dict[tuple[str, str | None, bool], dict[Counter, int | None]] = {}
    for place, item in enumerate(iterations):
        kind, model = item.get("type"), item.get("model")
        key = (
            kind if isinstance(kind, str) and kind else _MESSAGE,
            model if isinstance(model, str) and model else None,
            place in waived,
        )
        group = groups.setdefault(key, {})
        for counter, value in _counts(item).items():
            group[counter] = value if group.get(counter) is None else (group[counter] or 0) + (value or 0)
    if len(groups) == 1:
        (kind, _, free), counts = next(iter(groups.items()))
        if kind == _MESSAGE and not free and all(counts.get(c) == top.get(c) for c in _TOP_LEVEL):
            return None
    _place_thinking(groups, top)
    return tuple(ReportLine(kind, counts, model, free) for (kind, model, free), counts in groups.items())


def _waived(iterations: list[dict[str, Any]], declined: bool) -> frozenset[int]:
    """The places of attempts that declined before any output. One that wrote something first is billed (WIRE 1)."""
    attempts = [place for place, item in enumerate(iterations) if item.get("type", _MESSAGE) in _ATTEMPTS]
    chain = any(iterations[place].get("type") == _FALLBACK for place in attempts)
    gone = attempts if declined else attempts[:-1] if chain else []
    return frozenset(place for place in gone if iterations[place].get("output_tokens") == 0)


def _place_thinking(
    groups: Mapping[tuple[str, str | None, bool], dict[Counter, int | None]], top: Mapping[Counter, int | None]
) -> None:
    """The top level counts the thinking of the reply itself: it belongs to the attempt that served."""
    thought = top.get(Counter.REASONING)
    if thought is None or any(Counter.REASONING in counts for counts in groups.values()):
        return
    served = [counts for (kind, _, free), counts in groups.items() if kind in _ATTEMPTS and not free]
    if served:
        served[-1][Counter.REASONING] = thought


def write_usage(final: FinalUsage, carried: Mapping[str, msgspec.Raw] | None = None) -> bytes:
    """The usage object a client reads.

    `carried`: the provider's own object of this dialect, whose order and other keys are kept. With no usage to tell the
    counts are null: a zero would be a lie, and clients need the object.
    """
    return encode(usage_fields(final, carried))


def usage_fields(final: FinalUsage, carried: Mapping[str, msgspec.Raw] | None = None) -> dict[str, object]:
    """The keys of `write_usage`, in order; what is unchanged is the provider's own `Raw`."""
    before = dict(carried or {})
    told = _told(final.usage) if final.usage is not None else {"input_tokens": None, "output_tokens": None}
    fields: dict[str, object] = {**before}
    for key, value in told.items():
        fields[key] = _nested(before[key], value) if key in before and isinstance(value, dict) else value
        if key in before and _same(before[key], fields[key]):
            fields[key] = before[key]
    for key in _CACHE_KEYS:
        if key in before and key not in told and not _is_heard(before[key]):
            del fields[key]
    if "cache_creation" not in told and _split_is_stale(before, final.usage):
        fields.pop("cache_creation", None)
    if final.estimated:
        fields[ESTIMATED] = True
    return fields


def _told(usage: Usage) -> dict[str, int | dict[str, int] | None]:
    buckets = usage.buckets
    read = _sum(buckets, (Bucket.CACHE_READ, Bucket.CACHE_READ_AUDIO))
    written = _sum(buckets, (Bucket.CACHE_WRITE, Bucket.CACHE_WRITE_5M, Bucket.CACHE_WRITE_1H))
    rest = _sum(buckets, [bucket for bucket in INPUT_BUCKETS if bucket not in _CACHED])
    told: dict[str, int | dict[str, int] | None] = {"input_tokens": rest if Bucket.INPUT in buckets else None}
    if written is not None:
        told["cache_creation_input_tokens"] = written
    if read is not None:
        told["cache_read_input_tokens"] = read
    if _split_is_known(buckets):
        told["cache_creation"] = {
            "ephemeral_5m_input_tokens": buckets.get(Bucket.CACHE_WRITE_5M, 0),
            "ephemeral_1h_input_tokens": buckets.get(Bucket.CACHE_WRITE_1H, 0),
        }
    told["output_tokens"] = usage.output_tokens
    if Bucket.REASONING in buckets:
        told["output_tokens_details"] = {"thinking_tokens": buckets[Bucket.REASONING]}
    return told


_LIFETIMES: Final = (Bucket.CACHE_WRITE_5M, Bucket.CACHE_WRITE_1H)
_CACHE_KEYS: Final = ("cache_creation_input_tokens", "cache_read_input_tokens")
_CACHED: Final = frozenset({Bucket.CACHE_READ, Bucket.CACHE_READ_AUDIO, Bucket.CACHE_WRITE, *_LIFETIMES})


def _sum(buckets: Mapping[Bucket, int], wanted: Iterable[Bucket]) -> int | None:
    present = [buckets[bucket] for bucket in wanted if bucket in buckets]
    return sum(present) if present else None


def _split_is_known(buckets: Mapping[Bucket, int]) -> bool:
    """The lifetimes account for the whole write: a split with a remainder would be priced as if it had none."""
    return any(bucket in buckets for bucket in _LIFETIMES) and not buckets.get(Bucket.CACHE_WRITE)


def _split_is_stale(before: Mapping[str, msgspec.Raw], usage: Usage | None) -> bool:
    """The provider's own split no longer adds up to the write we tell (WIRE 1: 17269 beside 0/0)."""
    if "cache_creation" not in before or usage is None:
        return False
    try:
        split = msgspec.json.decode(before["cache_creation"])
        return isinstance(split, dict) and sum(split.values()) != (usage.cache_write_tokens or 0)
    except (*UNREADABLE, TypeError):
        return False


def _nested(before: msgspec.Raw, told: Mapping[str, object]) -> dict[str, object]:
    try:
        return {**fields_of(before), **told}
    except UNREADABLE:
        return dict(told)


def _is_heard(raw: msgspec.Raw) -> bool:
    """Whether the provider's own word is null or a count: what is none is in no entry, and clients are not told it."""
    count = whole_number(value_of(raw))
    return not given(raw) or (count is not None and is_count(count))


def _same(before: msgspec.Raw, now: object) -> bool:
    """Whether the provider already says this, whatever its white space."""
    try:
        return bool(msgspec.json.decode(before) == msgspec.json.decode(encode(now)))
    except UNREADABLE:
        return False
