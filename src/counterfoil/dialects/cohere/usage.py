"""Cohere's usage: two truths, and bills that are not of tokens.

Rule 1: `tokens` is what the model read and wrote, template included; `billed_units` is what goes on the invoice.
Neither is derived from the other: of 97 recorded chats the billed input was the smaller 95 times and, with images, the
larger twice (WIRE.md 1). People are shown the first, the second is priced.
Rule 2: a bill of searches or images holds nothing else. Tokens it does not name are unknown, and not billed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from counterfoil.dialects.openai_chat.usage import ESTIMATED
from counterfoil.dialects.schema import UNREADABLE, object_of, whole_number
from counterfoil.usage.reading import Counter, Report
from counterfoil.usage.settle import Convention
from counterfoil.usage.usage import Bucket, Usage

__all__ = [
    "CHAT_CONVENTION",
    "EMBED_CONVENTION",
    "RERANK_CONVENTION",
    "read_chat",
    "read_embed",
    "read_rerank",
    "read_token_count",
    "write_billed",
]

CHAT_CONVENTION: Final = Convention(input_includes=Convention().input_includes - {Counter.INPUT_IMAGE})
"""Recorded: cached_tokens 448 of tokens.input_tokens 507, reasoning_tokens 54 of tokens.output_tokens 164; image_tokens
259 beside an input of 34 (WIRE.md 1)."""
EMBED_CONVENTION: Final = Convention(input_includes=CHAT_CONVENTION.input_includes, no_output=True)
"""Image tokens stand beside the text's: https://docs.cohere.com/reference/embed (`billed_units.image_tokens`)."""
RERANK_CONVENTION: Final = Convention(no_output=True)

_CHAT: Final[Mapping[tuple[str, ...], Counter]] = {
    ("tokens", "input_tokens"): Counter.INPUT,
    ("tokens", "output_tokens"): Counter.OUTPUT,
    ("tokens", "image_tokens"): Counter.INPUT_IMAGE,
    ("tokens", "reasoning_tokens"): Counter.REASONING,
    ("cached_tokens",): Counter.CACHE_READ,
    ("billed_units", "input_tokens"): Counter.BILLED_INPUT,
    ("billed_units", "output_tokens"): Counter.BILLED_OUTPUT,
    ("billed_units", "search_units"): Counter.SEARCH_UNITS,
    ("billed_units", "images"): Counter.IMAGES,
}
_TOKEN_COUNT: Final[Mapping[tuple[str, ...], Counter]] = {
    ("prompt_tokens",): Counter.INPUT,
    ("response_tokens",): Counter.OUTPUT,
    ("total_tokens",): Counter.TOTAL,
}
"""Of older v1 chats, beside a bill without `tokens`: cohere.v1/cohere/openllmetry-js-should-set-request-and-..."""
_BILLED_IMAGE_TOKENS: Final = ("billed_units", "image_tokens")
_ABSENT: Final = object()

_Counts = dict[Counter, int | None]


def read_chat(raw: bytes | msgspec.Raw) -> Report | None:
    """`usage` of v2, `meta` of v1; None when it is no object or says nothing."""
    return _report(raw, lambda said: _counts(said, _CHAT))


def read_token_count(raw: bytes | msgspec.Raw) -> Report | None:
    """`token_count` of v1."""
    return _report(raw, lambda said: _counts(said, _TOKEN_COUNT))


def read_embed(raw: bytes | msgspec.Raw) -> Report | None:
    """`meta` of an embed. The bill is the only count of tokens there is, and so the count of what was used."""
    return _report(raw, _embed_counts)


def read_rerank(raw: bytes | msgspec.Raw) -> Report | None:
    """`meta` of a rerank: searches are billed, and no tokens."""
    return _report(raw, _rerank_counts)


def write_billed(usage: Usage) -> dict[str, object]:
    """The members of a `meta` for a client that ranks elsewhere: the bill, in searches or else in tokens.

    Empty when nobody knows; an estimate is marked.
    """
    searches = usage.buckets.get(Bucket.SEARCH_UNITS)
    if searches is not None:
        return {"billed_units": {"search_units": searches}}
    if usage.input_tokens is None:
        return {}
    told: dict[str, object] = {"billed_units": {"input_tokens": usage.input_tokens}}
    return {**told, ESTIMATED: True} if usage.estimated else told


def _embed_counts(said: Mapping[str, Any]) -> _Counts:
    counts = _counts(said, _CHAT)
    images = _counts(said, {_BILLED_IMAGE_TOKENS: Counter.INPUT_IMAGE})
    counts = {**images, **counts}
    billed = counts.pop(Counter.BILLED_INPUT, None)
    if billed is not None:
        if counts.setdefault(Counter.INPUT, billed) != billed:
            counts[Counter.BILLED_INPUT] = billed
    elif counts.get(Counter.INPUT_IMAGE) is not None:
        counts.setdefault(Counter.INPUT, 0)
    elif counts.get(Counter.IMAGES) is not None:
        counts[Counter.BILLED_INPUT] = 0
    return counts


def _rerank_counts(said: Mapping[str, Any]) -> _Counts:
    counts = _counts(said, _CHAT)
    if counts.get(Counter.SEARCH_UNITS) is not None:
        counts.setdefault(Counter.BILLED_INPUT, 0)
    return counts


def _report(raw: bytes | msgspec.Raw, counted: Callable[[Mapping[str, Any]], _Counts]) -> Report | None:
    try:
        counts = counted(object_of(raw))
    except UNREADABLE:
        return None
    return Report(counts, raw=bytes(raw)) if counts else None


def _counts(said: Mapping[str, Any], paths: Mapping[tuple[str, ...], Counter]) -> _Counts:
    """The counters that are present; null stays null. The API's numbers are doubles, so 12.0 is 12."""
    found: _Counts = {}
    for path, counter in paths.items():
        value: Any = said
        for key in path:
            value = value.get(key, _ABSENT) if isinstance(value, dict) else _ABSENT
        count = whole_number(value)
        if value is None or count is not None:  # whether it can be one, the reading says
            found[counter] = count
    return found
