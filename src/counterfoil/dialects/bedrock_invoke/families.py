"""Bodies of the makers that have a wire of their own on Bedrock and nowhere else here: each known by one key.

Rule 1: a row says where a body keeps its texts, its finish words and its counts; one function reads all rows.
Rule 2: a whole body and a piece of a stream are read alike: a text in a later piece goes on where the last one ended.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html: Titan, Llama, Claude's text completions,
Cohere's Command, Mistral, DeepSeek and AI21's Jurassic. Recorded: Titan, Llama, Claude, Cohere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from counterfoil.core.event import FinishReason
from counterfoil.dialects.bedrock_invoke.schema import number, text
from counterfoil.dialects.schema import UNREADABLE, fields_of, given, whole_number
from counterfoil.usage.reading import Counter

__all__ = ["FINISHES", "LARGEST_CHOICES", "Family", "Piece", "family_of", "read_counts", "read_pieces"]

LARGEST_CHOICES: Final = 128
"""Texts of one body that are looked at."""

FINISHES: Final[Mapping[str, FinishReason]] = {
    "FINISH": FinishReason.STOP,
    "STOP_CRITERIA_MET": FinishReason.STOP,
    "LENGTH": FinishReason.LENGTH,
    "CONTENT_FILTERED": FinishReason.CONTENT_FILTER,
    "stop": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "endoftext": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "COMPLETE": FinishReason.STOP,
    "STOP_SEQUENCE": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "ERROR_LIMIT": FinishReason.LENGTH,
    "ERROR_TOXIC": FinishReason.CONTENT_FILTER,
    "INTERVENED": FinishReason.CONTENT_FILTER,
}
"""Any other word is UNKNOWN."""


class Family(msgspec.Struct, frozen=True):
    """One shape of body."""

    key: str
    """The key that only this shape has. With `listed` it holds the texts' objects, else the text itself."""
    listed: bool = False
    text: tuple[str, ...] = ("text",)
    """In each object of a list: the way to its text."""
    finish: tuple[str, ...] = ("finish_reason",)
    """In each object of a list, or in the body: the way to the word."""
    stopped: str | None = None
    """The stop sequence's key."""
    counts: tuple[tuple[Counter, str], ...] = ()


_TITAN: Final = (
    (Counter.INPUT, "inputTextTokenCount"),
    (Counter.OUTPUT, "totalOutputTextTokenCount"),
)
_FAMILIES: Final = (
    Family("outputText", finish=("completionReason",), counts=_TITAN),
    Family("results", listed=True, text=("outputText",), finish=("completionReason",), counts=_TITAN),
    Family(
        "generation",
        finish=("stop_reason",),
        counts=((Counter.INPUT, "prompt_token_count"), (Counter.OUTPUT, "generation_token_count")),
    ),
    Family("completion", finish=("stop_reason",), stopped="stop"),
    Family("generations", listed=True),
    Family("outputs", listed=True, finish=("stop_reason",)),
    Family("completions", listed=True, text=("data", "text"), finish=("finishReason", "reason")),
    Family("text"),
)
_DEEPSEEK: Final = Family("choices", listed=True, finish=("stop_reason",))
"""Choices that are texts, not messages:
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-deepseek.html"""


class Piece(msgspec.Struct, frozen=True):
    """What a body says of one choice."""

    choice: int
    text: str
    finish: str | None
    stopped: str | None = None


def family_of(fields: Mapping[str, msgspec.Raw]) -> Family | None:
    """The shape of a body; None for none of these."""
    if _DEEPSEEK.key in fields:
        return _DEEPSEEK if _holds_text(fields[_DEEPSEEK.key]) else None
    return next((family for family in _FAMILIES if family.key in fields), None)


def _holds_text(choices: msgspec.Raw) -> bool:
    try:
        first = msgspec.json.decode(choices, type=list[dict[str, msgspec.Raw]])[0]
    except (*UNREADABLE, IndexError):
        return False
    return "text" in first


def read_pieces(family: Family, fields: Mapping[str, msgspec.Raw]) -> list[Piece]:
    """The choices of a body. Raises one of UNREADABLE."""
    if not family.listed:
        stopped = text(fields, family.stopped) if family.stopped else None
        return [Piece(_index(fields), text(fields, family.key) or "", _word(fields, family.finish), stopped)]
    if not given(fields[family.key]):
        return []
    listed = msgspec.json.decode(fields[family.key], type=list[dict[str, msgspec.Raw]])[:LARGEST_CHOICES]
    return [
        Piece(place, _word(item, family.text) or "", _word(item, family.finish)) for place, item in enumerate(listed)
    ]


def read_counts(family: Family, fields: Mapping[str, msgspec.Raw]) -> dict[Counter, int | None]:
    """The counters that are present; null stays null."""
    found: dict[Counter, int | None] = {
        counter: whole_number(number(fields, name)) for counter, name in family.counts if name in fields
    }
    if family.key == "results" and given(fields["results"]):  # Titan counts each result, and not their sum
        listed = msgspec.json.decode(fields["results"], type=list[dict[str, msgspec.Raw]])
        counted = [whole_number(number(item, "tokenCount")) for item in listed]
        known = [count for count in counted if count is not None]
        if known:
            found[Counter.OUTPUT] = sum(known)
    return found


def _index(fields: Mapping[str, msgspec.Raw]) -> int:
    said = whole_number(number(fields, "index"))
    return said if said is not None and 0 <= said < LARGEST_CHOICES else 0


def _word(fields: Mapping[str, msgspec.Raw], way: tuple[str, ...]) -> str | None:
    """A text at the end of a way of keys."""
    for key in way[:-1]:
        raw = fields.get(key)
        if raw is None or bytes(raw)[:1] != b"{":
            return None
        fields = fields_of(raw)
    return text(fields, way[-1])
