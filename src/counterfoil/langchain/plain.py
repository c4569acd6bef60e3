"""Anything reply-shaped as plain dicts and lists.

Rule: a mapping, a reply node of the SDK, an object of `openai` and an object with attributes read the same.
"""

# ruff: noqa: ANN401 - any value may come out
from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["as_json", "number_of", "plain", "text_of"]

_SIMPLE: Final = (str, int, float, bool, type(None), bytes)


def plain(value: object) -> Any:
    """`value` in dicts, lists, texts and numbers; what is none of these stays as it is."""
    if isinstance(value, _SIMPLE):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return plain(dump())
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict):
        return {key: plain(inner) for key, inner in attributes.items() if not key.startswith("_")}
    return value


def text_of(value: object) -> str:
    """`value` when it is text, else the empty text."""
    return value if isinstance(value, str) else ""


def number_of(value: object) -> int | None:
    """`value` when it is a whole number that can count something, else None."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return value


def as_json(value: object) -> str:
    """The JSON text of a value that some server sent parsed."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
