"""Usage of an interaction, which is Gemini's under other names: thoughts and tool use beside input and output, all four
in the total (WIRE 1: 24 of 24)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from counterfoil.dialects.gemini.usage import counts_of, tier_of
from counterfoil.dialects.schema import UNREADABLE, object_of
from counterfoil.usage.reading import Report, rate_context

__all__ = ["read_report"]

_NAMES: Final[Mapping[str, str]] = {
    "total_input_tokens": "promptTokenCount",
    "total_cached_tokens": "cachedContentTokenCount",
    "total_tool_use_tokens": "toolUsePromptTokenCount",
    "total_output_tokens": "candidatesTokenCount",
    "total_thought_tokens": "thoughtsTokenCount",
    "total_tokens": "totalTokenCount",
}
_DETAILS: Final[Mapping[str, str]] = {
    "input_tokens_by_modality": "promptTokensDetails",
    "cached_tokens_by_modality": "cacheTokensDetails",
    "output_tokens_by_modality": "candidatesTokensDetails",
}


def read_report(raw: bytes | msgspec.Raw, *, tier: object = None) -> Report | None:
    """One usage object; None when it is no object or holds no count. `tier`: the interaction's. Never raises."""
    word = bytes(raw)
    try:
        said = object_of(word)
    except UNREADABLE:
        return None
    named: dict[str, Any] = {name: said[key] for key, name in _NAMES.items() if key in said}
    named |= {name: _details(said[key]) for key, name in _DETAILS.items() if key in said}
    counts = counts_of(named)
    return Report(counts, context=rate_context(service_tier=tier_of(tier)), raw=word) if counts else None


def _details(entries: object) -> list[dict[str, object]]:
    """`[{"modality": "text", "tokens": 11}]` in `generateContent`'s words."""
    return [
        {"modality": entry.get("modality"), "tokenCount": entry.get("tokens")}
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
    ]
