"""What a client's URL says: in this dialect the model, the operation and the wish to stream are no part of the body.

Rule: the door puts them into the body under names that no request of Google's has (`model` apart, which repeats the
path), and `patch_request` takes them out again. So a body alone tells all that must be known, as in every dialect.

https://ai.google.dev/api/all-methods
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

import msgspec

from counterfoil.dialects.gemini.wish import Fields, body_fields
from counterfoil.dialects.schema import encode

__all__ = ["ARRAY", "FORM", "MODEL", "ONE", "SPLICED", "STREAM", "Asked", "asked_of", "splice", "without_spliced"]

MODEL: Final = "model"
STREAM: Final = "counterfoilStream"
FORM: Final = "counterfoilForm"
SPLICED: Final = (MODEL, STREAM, FORM)
"""The names under which `splice` writes what the URL says."""

ARRAY: Final = "array"
"""The form of a stream without `alt=sse`: one JSON array."""
ONE: Final = "one"
"""The form of `embedContent`: one vector, not a list of one."""

_METHOD: Final = re.compile(r"(?:^|/)(?P<kind>models|tunedModels)/(?P<model>[^:]+(?::[^:]+)*):(?P<method>[A-Za-z]+)$")
_DIALECTS: Final[Mapping[str, str]] = {
    "generateContent": "gemini",
    "streamGenerateContent": "gemini",
    "countTokens": "gemini.count",
    "embedContent": "gemini.embed",
    "batchEmbedContents": "gemini.embed",
}


class Asked(msgspec.Struct, frozen=True):
    """What a URL asks for."""

    dialect: str
    """The name of the client dialect that answers."""
    model: str
    """As the client names it; without `models/` before it."""
    streamed: bool = False
    form: str = ""


def asked_of(path: str, alt: str = "") -> Asked | None:
    """What `.../models/M:method?alt=...` asks for; None for a path of another shape, or a method nobody answers.

    `path`: percent-encoded or not, with whatever stands before the collection (`/v1beta`, Vertex's project).
    """
    found = _METHOD.search(unquote(path))
    dialect = _DIALECTS.get(found["method"]) if found is not None else None
    if found is None or dialect is None:
        return None
    model = found["model"] if found["kind"] == "models" else f"{found['kind']}/{found['model']}"
    streamed = found["method"] == "streamGenerateContent"
    form = ARRAY if streamed and alt != "sse" else ONE if found["method"] == "embedContent" else ""
    return Asked(dialect, model, streamed, form)


def splice(body: bytes, asked: Asked) -> bytes:
    """The body with what the URL says. Raises RequestError for what is no JSON object."""
    fields: dict[str, object] = {**without_spliced(body_fields(body)), MODEL: asked.model}
    if asked.streamed:
        fields[STREAM] = True
    if asked.form:
        fields[FORM] = asked.form
    return encode(fields)


def without_spliced(fields: Fields) -> Fields:
    """The client's own fields."""
    return {name: raw for name, raw in fields.items() if name not in SPLICED}
