"""Usage on the Responses wire: a provider's object to a report, settled usage to the client's object.

Rule 1: reading applies no convention. Cache is inside `input_tokens`, reasoning inside `output_tokens`, the total is
the sum of both: also for xAI, which counts otherwise on its chat wire (WIRE.md 1: 1225 of 1225).
Rule 2: writing starts from what is settled. A provider's own object lends only its order and the keys we do not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from counterfoil.dialects.dialect import FinalUsage
from counterfoil.dialects.schema import UNREADABLE, encode, fields_in, object_of, whole_number
from counterfoil.usage.reading import Counter, Report, rate_context
from counterfoil.usage.settle import Convention
from counterfoil.usage.usage import Bucket, Usage

__all__ = ["CONVENTION", "ESTIMATED", "PLACES", "read_report", "write_usage"]

CONVENTION: Final = Convention()
"""As on OpenAI's chat wire (WIRE.md 1, OpenAI responses)."""

ESTIMATED: Final = "estimated"
"""Our mark inside a usage object whose numbers are partly a guess (DESIGN 4.1.6). It is written, and read again."""

_IN: Final = "input_tokens_details"
_OUT: Final = "output_tokens_details"

PLACES: Final[Mapping[tuple[str, ...], Counter]] = {
    ("input_tokens",): Counter.INPUT,
    ("output_tokens",): Counter.OUTPUT,
    ("total_tokens",): Counter.TOTAL,
    (_IN, "cached_tokens"): Counter.CACHE_READ,
    (_IN, "cache_write_tokens"): Counter.CACHE_WRITE,
    (_IN, "audio_tokens"): Counter.INPUT_AUDIO,
    (_IN, "image_tokens"): Counter.INPUT_IMAGE,
    (_OUT, "reasoning_tokens"): Counter.REASONING,
    (_OUT, "audio_tokens"): Counter.OUTPUT_AUDIO,
    (_OUT, "image_tokens"): Counter.OUTPUT_IMAGE,
    # Perplexity's Agent API: https://docs.perplexity.ai/api-reference/agent-post
    (_IN, "cache_read_input_tokens"): Counter.CACHE_READ,
    (_IN, "cache_creation_input_tokens"): Counter.CACHE_WRITE,
}
"""Where each counter is said; the first place that has a number wins. Audio and image details are not in the published
schema; some servers send them."""


def read_report(raw: bytes | msgspec.Raw, *, provisional: bool = False, tier: object = None) -> Report | None:
    """The report of one usage object, or None when it is no object or holds no counter. Never raises.

    `provisional`: it came before the reply's end, so its output is a placeholder. `tier`: the service tier that the
    response around it says.
    """
    word = bytes(raw)
    try:
        said = object_of(word)
    except UNREADABLE:
        return None
    counts: dict[Counter, int | None] = {}
    for place, counter in PLACES.items():
        inside: Any = said
        for key in place[:-1]:
            inside = inside.get(key)
            if not isinstance(inside, dict):
                inside = {}
        if place[-1] in inside and counts.get(counter) is None:
            counts[counter] = whole_number(inside[place[-1]])
    if not counts:
        return None
    placeholders = frozenset({Counter.OUTPUT}) if provisional else frozenset()
    return Report(
        counts,
        provisional=placeholders,
        estimated=said.get(ESTIMATED) is True,
        context=rate_context(service_tier=tier),
        raw=word,
    )


def write_usage(final: FinalUsage) -> bytes:
    """The client's usage object, or `null` when the input or the output is known to nobody.

    Inclusive totals; `"estimated": true` when some number is an estimate. What the provider's own object has beyond
    that keeps its place and its value. Without one the details are complete: the published schema demands
    `cached_tokens`, `cache_write_tokens` and `reasoning_tokens`, and clients read them without asking, so they are 0
    where nobody said more. The books keep the difference. In the provider's own object, details that nobody told stay
    out, and those that are there have what the schema always demanded: Codex takes none, but takes `{}` for a broken
    stream, and asks again.
    """
    usage = final.usage
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return b"null"
    before = fields_in(final.provider_raw)
    told: dict[str, object] = {
        "input_tokens": usage.input_tokens,
        _IN: _details(before, _IN, _input_details(usage)),
        "output_tokens": usage.output_tokens,
        _OUT: _details(before, _OUT, _output_details(usage)),
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    merged: dict[str, object] = {**before, **{name: value for name, value in told.items() if value is not None}}
    if final.estimated:
        merged[ESTIMATED] = True
    return encode(merged)


def _input_details(usage: Usage) -> Mapping[str, int | None]:
    heard = [usage.claimed(bucket) for bucket in (Bucket.INPUT_AUDIO, Bucket.CACHE_READ_AUDIO)]
    audio = [count for count in heard if count is not None]
    return {
        "cached_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "audio_tokens": sum(audio) if audio else None,
        "image_tokens": usage.claimed(Bucket.INPUT_IMAGE),
    }


def _output_details(usage: Usage) -> Mapping[str, int | None]:
    return {
        "reasoning_tokens": usage.reasoning_tokens,
        "audio_tokens": usage.claimed(Bucket.OUTPUT_AUDIO),
        "image_tokens": usage.claimed(Bucket.OUTPUT_IMAGE),
    }


_DEMANDED: Final[Mapping[str, tuple[str, ...]]] = {
    _IN: ("cached_tokens", "cache_write_tokens"),
    _OUT: ("reasoning_tokens",),
}
"""What the schema demands of each details object; first what it always did."""


def _details(
    before: Mapping[str, msgspec.Raw], name: str, told: Mapping[str, int | None]
) -> Mapping[str, object] | None:
    """The provider's details with what is settled in their place; None where it sent none and none are known."""
    raw = before.get(name)
    demanded = _DEMANDED[name][:1] if before else _DEMANDED[name]
    if before and raw is None and all(count is None for count in told.values()):
        return None
    details: dict[str, object] = {**fields_in(raw)}
    for place, count in told.items():
        if count is not None:
            details[place] = count
        elif place in demanded:
            details[place] = 0
        elif place in details:
            del details[place]
    return details
