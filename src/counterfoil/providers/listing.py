"""Where a provider lists its models, and how its list is read: data of a row, and one small reader for each shape.

Rule 1: a reader is pure and never believes an answer: what is no list raises ValueError, a name that cannot be asked
for is left out, and no list is longer than `MODELS_LIMIT`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

__all__ = ["MODELS_LIMIT", "NAME_LIMIT", "READERS", "Listing", "Names", "Shape", "read_names"]

MODELS_LIMIT: Final = 1000
"""Models of one provider that are kept. Its list may be longer: any of its models can be asked for all the same."""
NAME_LIMIT: Final = 256

Shape = Literal["ids", "array", "gemini", "named"]


class Listing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A provider's own list of its models."""

    path: str = "/models"
    """Below the base URL that its chats are posted to."""
    shape: Shape = "ids"
    """ids: `{"data": [{"id"}]}` (OpenAI, Anthropic). array: the same without the object around it (Together, GitHub).
    gemini: `{"models": [{"name": "models/..."}]}`. named: `{"models": [{"name"}]}` (Ollama, Cohere)."""
    query: Mapping[str, str] = {}
    """Asks for one long page where lists come in pages."""


class Names(msgspec.Struct, frozen=True):
    """What a list amounts to."""

    models: tuple[str, ...]
    """In the provider's order, each once."""
    left_off: int = 0
    """How many more there were."""


class _Id(msgspec.Struct):
    id: str


class _Ids(msgspec.Struct):
    data: list[_Id]


class _Named(msgspec.Struct):
    name: str


class _Models(msgspec.Struct):
    models: list[_Named]


def _ids(body: bytes) -> Iterable[str]:
    return (one.id for one in msgspec.json.decode(body, type=_Ids).data)


def _array(body: bytes) -> Iterable[str]:
    return (one.id for one in msgspec.json.decode(body, type=list[_Id]))


def _named(body: bytes) -> Iterable[str]:
    return (one.name for one in msgspec.json.decode(body, type=_Models).models)


def _gemini(body: bytes) -> Iterable[str]:
    return (name.removeprefix("models/") for name in _named(body))


READERS: Final[Mapping[Shape, Callable[[bytes], Iterable[str]]]] = MappingProxyType(
    {"ids": _ids, "array": _array, "gemini": _gemini, "named": _named}
)
"""A whole answer -> the names in it, as they stand there."""


def read_names(shape: Shape, body: bytes) -> Names:
    """The names in a provider's answer. Raises ValueError (which msgspec's errors are) for what is no such list."""
    try:
        named = dict.fromkeys(READERS[shape](body))
    except RecursionError:
        raise ValueError("nested too deep") from None
    usable = tuple(name for name in named if 0 < len(name) <= NAME_LIMIT and name.isprintable())
    return Names(usable[:MODELS_LIMIT], max(len(usable) - MODELS_LIMIT, 0))
