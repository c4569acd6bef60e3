"""Google's `Schema` (a subset of OpenAPI's) as JSON schema, which is what every other dialect takes.

Rule: what both say is carried under JSON schema's name for it; what only orders or decorates is left out.

https://ai.google.dev/api/caching#Schema
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from counterfoil.dialects.gemini.wish import camel
from counterfoil.dialects.schema import encode

__all__ = ["json_schema"]

_TYPES: Final = {
    "1": "string",
    "2": "number",
    "3": "integer",
    "4": "boolean",
    "5": "array",
    "6": "object",
    "7": "null",
}
"""The enum's numbers, as Google's own clients of the wire write them (langchaingo, otel-contrib)."""
_NUMBERS: Final = frozenset({"minItems", "maxItems", "minProperties", "maxProperties", "minLength", "maxLength"})
"""64-bit integers, which protobuf's JSON writes as text."""
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_MAPS: Final = frozenset({"properties", "defs", "patternProperties"})
_ONES: Final = frozenset({"items", "additionalProperties", "not"})
_LEFT_OUT: Final = frozenset({"propertyOrdering", "nullable", "example"})
_NAMES: Final = {"defs": "$defs", "ref": "$ref"}
_DEEPEST: Final = 64


def json_schema(raw: msgspec.Raw) -> msgspec.Raw:
    """The same schema as JSON schema. Raises one of `UNREADABLE`."""
    return msgspec.Raw(encode(_schema(msgspec.json.decode(raw), 0)))


def _schema(said: Any, depth: int) -> Any:  # noqa: ANN401 - JSON in, JSON out
    if not isinstance(said, dict):
        return said
    if depth > _DEEPEST:
        raise ValueError("a schema that is nested too deeply")
    found: dict[str, Any] = {}
    for key, value in said.items():
        name = camel(key)
        if name in _LEFT_OUT or (name == "format" and value == "enum"):
            continue
        if name == "type":
            found["type"] = _type(value)
        elif name in _MAPS and isinstance(value, dict):
            found[_NAMES.get(name, name)] = {inner: _schema(one, depth + 1) for inner, one in value.items()}
        elif name in _LISTS and isinstance(value, list):
            found[name] = [_schema(one, depth + 1) for one in value]
        elif name in _ONES:
            found[name] = _schema(value, depth + 1)
        elif name in _NUMBERS and isinstance(value, str) and value.isdecimal():
            found[name] = int(value)
        else:
            found[_NAMES.get(name, name)] = value
    if said.get("nullable") is True and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
    return found


def _type(said: object) -> object:
    if isinstance(said, list):
        return [_type(one) for one in said]
    word = str(said).lower()
    return _TYPES.get(word, word)
