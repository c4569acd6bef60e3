"""JSON as every dialect reads and writes it: what is not looked into stays the bytes it came as.

Rule 1: absent, null and present are told apart. `NOT_SENT` stands for the value of a member that is absent.
Rule 2: what the members of a wire are called is its folder's (`*/schema.py`).
Rule 3: one number that nothing holds (1e400) spoils no other: it is read as `BEYOND`, which no count can be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

__all__ = [
    "BEYOND",
    "NOT_SENT",
    "UNREADABLE",
    "Fields",
    "encode",
    "fields_in",
    "fields_of",
    "given",
    "items_in",
    "object_of",
    "text_of",
    "value_of",
    "whole_number",
]

UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""What reading bytes that are not the expected JSON can raise (bad UTF-8, bad base64 and deep nesting included)."""

NOT_SENT: Final = msgspec.Raw()
"""The value of a raw field whose key is absent."""

BEYOND: Final = 2**63
"""What a number is read as that neither a float nor an integer holds; `-BEYOND` below 0."""

_NESTING: Final = 8
"""Levels of an object that are looked into for such a number: those of no usage object are more than four."""

Fields = dict[str, msgspec.Raw]
"""The members of a JSON object in order, values word for word."""

_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT: Final = msgspec.json.Decoder(str)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])
_VALUE: Final = msgspec.json.Decoder()
encode: Final = msgspec.json.Encoder().encode
"""JSON without white space; `Raw` goes in word for word."""
fields_of: Final[Callable[[bytes | msgspec.Raw], Fields]] = msgspec.json.Decoder(Fields).decode
"""The members of a JSON object. Raises one of UNREADABLE."""


def fields_in(raw: bytes | msgspec.Raw | None) -> Fields:
    """The members of a JSON object; none of what is absent or no object."""
    try:
        return fields_of(raw) if raw is not None and given(raw) else {}
    except UNREADABLE:
        return {}


def object_of(data: bytes | msgspec.Raw) -> dict[str, Any]:
    """A JSON object whose numbers are counted with, such as a usage object. Raises one of UNREADABLE."""
    try:
        return _OBJECT.decode(data)
    except msgspec.ValidationError:
        return {name: value_of(raw) for name, raw in fields_of(data).items()}


def value_of(raw: msgspec.Raw, nesting: int = _NESTING) -> object:
    """The value of a member whose numbers are counted with; None where it is nested too deep to say. Raises one of
    UNREADABLE."""
    try:
        return _VALUE.decode(raw)
    except msgspec.ValidationError:  # a number out of range
        if not nesting:
            return None
        start = bytes(raw).lstrip()[:1]
        if start == b"{":
            return {name: value_of(inner, nesting - 1) for name, inner in fields_of(raw).items()}
        if start == b"[":
            return [value_of(inner, nesting - 1) for inner in _ITEMS.decode(raw)]
        return -BEYOND if start == b"-" else BEYOND


def given(raw: bytes | msgspec.Raw | None) -> bool:
    """Whether a member is there with a value other than null."""
    return raw is not None and raw is not NOT_SENT and bytes(raw) not in (b"", b"null")


def items_in(raw: msgspec.Raw) -> int:
    """How many texts a member holds: a text, no value, and the tokens of one text are one. Raises one of UNREADABLE."""
    if bytes(raw)[:1] != b"[":
        return 1
    items = _ITEMS.decode(raw)
    return 1 if items and bytes(items[0])[:1] not in (b'"', b"[") else len(items)


def text_of(raw: msgspec.Raw | None) -> str:
    """The text of a JSON string; empty for anything else."""
    if raw is None or bytes(raw)[:1] != b'"':
        return ""
    try:
        return _TEXT.decode(raw)
    except UNREADABLE:
        return ""


def whole_number(value: object) -> int | None:
    """A count as JSON says it, 12 or 12.0; None for null and anything else. Whether it can be a count of tokens, the
    reading says."""
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) is int else None
