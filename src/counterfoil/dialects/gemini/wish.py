"""Reading a client's JSON the way Google does: strict in types, generous in names.

Rule 1: every field has two names, camelCase and snake_case (protobuf's JSON). Both are read, and camelCase is written.
Rule 2: a list of one may be the one; a whole number may be written as text or with a fraction of nothing.
Rule 3: an error names the field and quotes no value.

https://protobuf.dev/programming-guides/json/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from counterfoil.core.error import RequestError
from counterfoil.dialects.gemini.schema import elements_of, fields_of
from counterfoil.dialects.refusal import refused
from counterfoil.dialects.schema import UNREADABLE, given

__all__ = ["Fields", "body_fields", "camel", "inside", "kept", "list_of", "object_of", "request_fields", "value"]

Fields = dict[str, msgspec.Raw]
"""Fields of an object in order, values word for word; by their names in camelCase where they are read."""
_Value = TypeVar("_Value")
_JOINT: Final = re.compile(r"_([a-z0-9])")


def camel(name: str) -> str:
    """A field's name in camelCase."""
    return _JOINT.sub(lambda joint: joint[1].upper(), name)


def body_fields(body: bytes) -> Fields:
    """The fields of a request by the names the client gave them. Raises RequestError."""
    try:
        return fields_of(body)
    except UNREADABLE as error:
        raise refused(error) from None


def request_fields(body: bytes) -> Fields:
    """The fields of a request. Raises RequestError."""
    return {camel(name): raw for name, raw in body_fields(body).items()}


def object_of(raw: msgspec.Raw, where: str) -> Fields:
    """The fields of an object that are given. Raises RequestError."""
    try:
        return {camel(name): one for name, one in fields_of(raw).items() if given(one)}
    except UNREADABLE:
        raise RequestError(f"{where}: this must be an object", param=where) from None


def inside(fields: Mapping[str, msgspec.Raw], name: str) -> Fields:
    """The fields of an object inside; none when it is absent. Raises RequestError."""
    raw = fields.get(name)
    return {} if raw is None or not given(raw) else object_of(raw, name)


def list_of(raw: msgspec.Raw | None, where: str) -> list[msgspec.Raw]:
    """The entries of a list; one entry may stand without it. Raises RequestError."""
    if raw is None or not given(raw):
        return []
    if bytes(raw)[:1] == b"{":
        return [raw]
    try:
        return elements_of(raw)
    except UNREADABLE:
        raise RequestError(f"{where}: this must be a list", param=where) from None


def value(fields: Mapping[str, msgspec.Raw], name: str, shape: type[_Value], where: str = "") -> _Value | None:
    """A field as its type; None when it is absent or null. Raises RequestError."""
    raw = fields.get(name)
    if raw is None or not given(raw):
        return None
    place = f"{where}.{name}" if where else name
    try:
        return msgspec.json.decode(raw, type=shape, strict=False)
    except msgspec.ValidationError as error:  # its text names types and places, never values
        raise RequestError(f"{place}: {error}", param=place) from None
    except UNREADABLE:
        raise RequestError(f"{place}: this cannot be read", param=place) from None


def kept(raw: msgspec.Raw) -> msgspec.Raw:
    """A value with its own bytes, so that it does not hold on to the whole body."""
    return msgspec.Raw(bytes(raw))
