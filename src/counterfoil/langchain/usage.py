"""Usage as LangChain counts it.

Rule 1: the numbers are the settled ones of the reply's usage object. Nothing is added up here, nothing is made up.
Rule 2: a detail nobody vouches for is absent, and without both totals there is no `usage_metadata` at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata

from counterfoil.langchain.plain import number_of, plain
from counterfoil.ledger.entry import Entry, vouchers

__all__ = ["accounted", "add_token_usage", "create_usage_metadata", "known_of_entry"]

_INPUT_DETAILS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("audio", ("prompt_tokens_details", "audio_tokens")),
    ("cache_creation", ("prompt_tokens_details", "cache_write_tokens")),
    ("cache_creation", ("prompt_tokens_details", "cache_creation_tokens")),
    ("cache_creation", ("cache_creation_input_tokens",)),
    ("cache_read", ("prompt_tokens_details", "cached_tokens")),
    ("cache_read", ("cache_read_input_tokens",)),
)
"""LangChain's name of a detail of the input, and where a usage object says it. The first place with a number wins."""
_OUTPUT_DETAILS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("audio", ("completion_tokens_details", "audio_tokens")),
    ("reasoning", ("completion_tokens_details", "reasoning_tokens")),
)


def create_usage_metadata(usage: object) -> UsageMetadata | None:
    """The `usage_metadata` of a usage object of the chat dialect; None when its input or its output is unknown.

    Totals are inclusive: `cache_read` and `cache_creation` are parts of `input_tokens`, `reasoning` of `output_tokens`.
    """
    said = plain(usage)
    if not isinstance(said, dict):
        return None
    given, made = number_of(said.get("prompt_tokens")), number_of(said.get("completion_tokens"))
    if given is None or made is None:
        return None
    metadata = UsageMetadata(input_tokens=given, output_tokens=made, total_tokens=given + made)
    if inputs := _details(said, _INPUT_DETAILS):
        metadata["input_token_details"] = InputTokenDetails(**inputs)  # type: ignore[typeddict-item]  # the table's keys
    if outputs := _details(said, _OUTPUT_DETAILS):
        metadata["output_token_details"] = OutputTokenDetails(**outputs)  # type: ignore[typeddict-item]  # likewise
    return metadata


def _details(said: Mapping[str, Any], places: tuple[tuple[str, tuple[str, ...]], ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, place in places:
        inside: Any = said
        for key in place:
            inside = inside.get(key) if isinstance(inside, dict) else None
        count = number_of(inside)
        if count is not None:
            found.setdefault(name, count)
    return found


def known_of_entry(entry: Entry | None) -> dict[str, int]:
    """What the ledger entry knows of a reply whose usage is not known in full, in the words of a usage object."""
    if entry is None:
        return {}
    known = {"prompt_tokens": entry.usage.input_tokens, "completion_tokens": entry.usage.output_tokens}
    return {name: count for name, count in known.items() if count is not None}


def accounted(entry: Entry, cost: Decimal | None) -> dict[str, Any]:
    """`response_metadata["counterfoil"]`: the attempt's id in the ledger, its cost, who vouches for each number.

    `cost` is the exact number of dollars as decimal text, None when there is no known price. `provenance` says who
    vouches for each figure (`input_tokens`, ...): reported, derived, partial or estimated.
    """
    return {
        "attempt": entry.opening.attempt,
        "cost": None if cost is None else str(cost),
        "provenance": {figure: str(voucher) for figure, voucher in vouchers(entry.usage).items()},
    }


def add_token_usage(total: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """The sum of two usage objects, number by number; what is no number stays as it was first said."""
    result = dict(total)
    for name, value in more.items():
        mine = result.get(name)
        if isinstance(value, dict):
            result[name] = add_token_usage(mine if isinstance(mine, dict) else {}, value)
        elif isinstance(value, bool) or not isinstance(value, int):
            result.setdefault(name, value)
        else:
            result[name] = value + mine if isinstance(mine, int) else value
    return result
