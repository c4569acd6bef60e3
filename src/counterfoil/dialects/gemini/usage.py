"""Gemini's `usageMetadata`, both ways.

Rule 1: `promptTokenCount` includes the cache and excludes what tools put into the prompt; `candidatesTokenCount`
excludes thoughts; the total is prompt + tool use + candidates + thoughts (WIRE 1: 756 of 756, Vertex 254 of 254).
Rule 2: a stream says it again in every frame, and it may fall: the last word stands, counter by counter. A total that
comes without candidates in the middle of a reply is the prompt's, not the reply's, and is not heard.
Rule 3: details by modality are parts of their count. What of them does not fit is cut to what is left: a detail is
never worth a disagreement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from counterfoil.dialects.dialect import FinalUsage
from counterfoil.dialects.gemini.schema import fields_of
from counterfoil.dialects.schema import UNREADABLE, encode, object_of, value_of, whole_number
from counterfoil.usage.reading import Counter, Report, rate_context
from counterfoil.usage.settle import Convention
from counterfoil.usage.usage import Bucket, Usage

__all__ = ["CONVENTION", "ESTIMATED", "counts_of", "read_report", "tier_of", "write_usage"]

CONVENTION: Final = Convention(
    input_includes=frozenset({Counter.CACHE_READ, Counter.CACHE_READ_AUDIO, Counter.INPUT_AUDIO, Counter.INPUT_IMAGE}),
    output_includes=frozenset({Counter.OUTPUT_AUDIO, Counter.OUTPUT_IMAGE}),
    total_is=frozenset({Counter.INPUT, Counter.TOOL_INPUT, Counter.OUTPUT, Counter.REASONING}),
    input_falls=True,
)
"""Thoughts beside the candidates, tool use beside the prompt, the cache inside it (WIRE 1)."""

ESTIMATED: Final = "estimated"
"""Our mark inside a usage object whose numbers are partly a guess (DESIGN 4.1.6). It is written, and read again."""

_PLACES: Final[Mapping[Counter, str]] = {
    Counter.INPUT: "promptTokenCount",
    Counter.CACHE_READ: "cachedContentTokenCount",
    Counter.TOOL_INPUT: "toolUsePromptTokenCount",
    Counter.OUTPUT: "candidatesTokenCount",
    Counter.REASONING: "thoughtsTokenCount",
    Counter.TOTAL: "totalTokenCount",
}
_MODALITIES: Final[Mapping[str, str]] = {"IMAGE": "image", "2": "image", "AUDIO": "audio", "4": "audio"}
"""The word, and its number in protobuf's enum: https://ai.google.dev/api/generate-content#Modality"""


def read_report(raw: bytes | msgspec.Raw, *, last: bool = True) -> Report | None:
    """One `usageMetadata`; None when it is no object or holds no count (Vertex: `{"trafficType": "ON_DEMAND"}`).

    `last`: the frame ends the reply, or a choice of it. Never raises.
    """
    word = bytes(raw)
    try:
        said = object_of(word)
    except UNREADABLE:
        return None
    counts = counts_of(said)
    if not last and counts.get(Counter.OUTPUT) is None:
        counts.pop(Counter.TOTAL, None)
    if not counts:
        return None
    return Report(counts, estimated=said.get(ESTIMATED) is True, context=_rate(said), raw=word)


def _rate(said: Mapping[str, Any]) -> Mapping[str, str]:
    """Google AI says the tier itself: https://ai.google.dev/gemini-api/docs/priority-inference"""
    tier = said.get("serviceTier")
    return rate_context(service_tier=tier_of(tier) or _TRAFFIC.get(str(said.get("trafficType"))))


def tier_of(said: object) -> object:
    """Google AI's word for a tier as price lists write it; the enum's word begins with what it is of."""
    return said.lower().removeprefix("service_tier_") if isinstance(said, str) else said


_TRAFFIC: Final[Mapping[str, str]] = {
    "ON_DEMAND": "standard",
    "ON_DEMAND_PRIORITY": "priority",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_OFFPEAK": "offpeak",
    "PROVISIONED_THROUGHPUT": "provisioned",
}
"""Vertex's `trafficType`, in the words of service tiers:
https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/GenerateContentResponse#TrafficType"""


def counts_of(said: Mapping[str, Any]) -> dict[Counter, int | None]:
    """The counters of a `usageMetadata`; null stays null, and what is no number is null."""
    counts: dict[Counter, int | None] = {
        counter: whole_number(said[name]) for counter, name in _PLACES.items() if name in said
    }
    _split_input(counts, said)
    _split_output(counts, said)
    return counts


def _modality_counts(details: object) -> Mapping[str, int]:
    """Tokens of the modalities that have counters of their own ("image", "audio"), of a `...TokensDetails` list."""
    found: dict[str, int] = {}
    for entry in details if isinstance(details, list) else ():
        if not isinstance(entry, dict):
            continue
        name, count = _MODALITIES.get(str(entry.get("modality")).upper()), whole_number(entry.get("tokenCount"))
        if name is not None and count is not None and count > 0:
            found[name] = found.get(name, 0) + count
    return found


def _split_input(counts: dict[Counter, int | None], said: Mapping[str, Any]) -> None:
    """The audio and the images of the prompt. Both counts include what was cached of them; our counters do not."""
    whole, cached = counts.get(Counter.INPUT), counts.get(Counter.CACHE_READ)
    cache = _modality_counts(said.get("cacheTokensDetails"))
    if cached is not None:
        audio = min(cache.get("audio", 0), cached)
        if audio:
            counts[Counter.CACHE_READ] = cached - audio
            counts[Counter.CACHE_READ_AUDIO] = audio
    if whole is None:
        return
    left = whole - (cached or 0)
    prompt = _modality_counts(said.get("promptTokensDetails", said.get("promptTokenDetails")))
    for name, counter in (("audio", Counter.INPUT_AUDIO), ("image", Counter.INPUT_IMAGE)):
        if name in prompt:
            counts[counter] = max(0, min(prompt[name] - cache.get(name, 0), left))
            left -= counts[counter] or 0


def _split_output(counts: dict[Counter, int | None], said: Mapping[str, Any]) -> None:
    left = counts.get(Counter.OUTPUT)
    if left is None:
        return
    made = _modality_counts(said.get("candidatesTokensDetails"))
    for name, counter in (("audio", Counter.OUTPUT_AUDIO), ("image", Counter.OUTPUT_IMAGE)):
        if name in made:
            counts[counter] = min(made[name], left)
            left -= counts[counter] or 0


def write_usage(final: FinalUsage) -> bytes:
    """The client's `usageMetadata`, from what is settled; `{}` when nobody knows anything.

    The provider's own object of this dialect lends its order and the keys we do not know. Where its details of a
    count no longer add up to what is told, they are left out.
    """
    usage = final.usage
    if usage is None:
        return b"{}"
    fields = _own(final.provider_raw)
    told = {name: count for name, count in _told(usage).items() if count is not None}
    for name, count in told.items():
        if _word(fields.get(name)) != count:
            fields[name] = msgspec.Raw(b"%d" % count)
    for name in _COUNTS:
        if name in fields and name not in told and _word(fields[name]) is not None:
            del fields[name]
    for details, name in _DETAILS.items():
        if details in fields and _sum(fields[details]) != told.get(name) and not _partial(fields[details], name, told):
            del fields[details]
    if final.estimated:
        fields[ESTIMATED] = msgspec.Raw(b"true")
    return encode(fields)


_COUNTS: Final = tuple(_PLACES.values())
_DETAILS: Final[Mapping[str, str]] = {
    "promptTokensDetails": "promptTokenCount",
    "cacheTokensDetails": "cachedContentTokenCount",
    "candidatesTokensDetails": "candidatesTokenCount",
    "toolUsePromptTokensDetails": "toolUsePromptTokenCount",
}


def _own(raw: bytes) -> dict[str, msgspec.Raw]:
    try:
        fields = fields_of(raw)
    except UNREADABLE:
        return {}
    return fields if any(name in fields for name in (*_COUNTS, "trafficType")) else {}


def _told(usage: Usage) -> dict[str, int | None]:
    """The counts by their names here, in the order Google writes them."""
    tools = usage.buckets.get(Bucket.TOOL_INPUT)
    thoughts = usage.reasoning_tokens
    return {
        "promptTokenCount": _less(usage.input_tokens, tools),
        "candidatesTokenCount": _less(usage.output_tokens, usage.buckets.get(Bucket.REASONING)),
        "totalTokenCount": usage.total_tokens,
        "cachedContentTokenCount": usage.cache_read_tokens,
        "toolUsePromptTokenCount": tools,
        "thoughtsTokenCount": thoughts,
    }


def _less(whole: int | None, part: int | None) -> int | None:
    return None if whole is None else whole - (part or 0)


def _word(raw: msgspec.Raw | None) -> int | None:
    try:
        return None if raw is None else whole_number(value_of(raw))
    except UNREADABLE:
        return None


def _sum(raw: msgspec.Raw) -> int | None:
    """What the details add up to; None when that cannot be said."""
    try:
        entries = value_of(raw)
    except UNREADABLE:
        return None
    return _added(entries) if isinstance(entries, list) else None


def _added(entries: Iterable[object]) -> int | None:
    counts = [whole_number(entry.get("tokenCount", 0)) if isinstance(entry, dict) else None for entry in entries]
    return None if None in counts else sum(count or 0 for count in counts)


def _partial(raw: msgspec.Raw, name: str, told: Mapping[str, int]) -> bool:
    """Details that never added up to all of it, and need not (WIRE 1: 3 prompts with code execution)."""
    added = _sum(raw)
    return added is not None and name in told and added <= told[name]
