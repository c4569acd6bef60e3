"""What an Ollama reply says it used.

Rule 1: the counts stand beside the content, so the report keeps the counts and times and nothing else of the frame.
Rule 2: a count that is not there is unknown: a prompt that was still in memory used to have no `prompt_eval_count`
(ollama.chat/ollama/openllmetry-test-ollama-async-chat-legacy-0-ba7785).

https://docs.ollama.com/api/usage
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from counterfoil.dialects.schema import UNREADABLE, encode, fields_of, value_of, whole_number
from counterfoil.usage.reading import Counter, Report
from counterfoil.usage.settle import Convention

__all__ = ["CONVENTION", "read_report"]

CONVENTION: Final = Convention()
"""`eval_count` counts thinking (openinference-test-chat-stream-0-da614b: 889 for a few digits). There is no total and
no counter of a cache."""

_COUNTS: Final[Mapping[str, Counter]] = {"prompt_eval_count": Counter.INPUT, "eval_count": Counter.OUTPUT}
_KEPT: Final = (
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
)


def read_report(frame: bytes | msgspec.Raw) -> Report | None:
    """The report of a frame; None when it holds no count. Never raises."""
    try:
        fields = fields_of(frame)
    except UNREADABLE:
        return None
    counts: dict[Counter, int | None] = {}
    for name, counter in _COUNTS.items():
        if name in fields:
            try:
                counts[counter] = whole_number(value_of(fields[name]))
            except UNREADABLE:
                counts[counter] = None
    if not counts:
        return None
    return Report(counts, raw=encode({name: fields[name] for name in _KEPT if name in fields}))
