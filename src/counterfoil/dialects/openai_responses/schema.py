"""The JSON of the Responses wire, as far as it is read.

Rule 1: what is only carried stays `Raw`. What is not named here is skipped, never refused.
Rule 2: a key that says nothing of the content takes any type: some server sends it so. Text that is no text is a bad
reply, and its reader says so.

https://platform.openai.com/docs/api-reference/responses/object and .../responses-streaming. Recorded cases are named
by their id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from counterfoil.dialects.schema import NOT_SENT

__all__ = ["Item", "ItemPart", "ResponseObject", "StreamFrame", "read", "word_of"]


_Shape = TypeVar("_Shape")


class StreamFrame(msgspec.Struct, frozen=True):
    """One streamed event of any type; all share this one shape."""

    type: str = ""
    response: msgspec.Raw = NOT_SENT
    item: msgspec.Raw = NOT_SENT
    output_index: Any = None
    """Absent in llama.cpp's events, which have the item's id only (WIRE.md 4)."""
    item_id: Any = None
    content_index: Any = None
    summary_index: Any = None
    delta: Any = None
    text: Any = None
    """Of `response.output_text.done` and its like: everything the deltas said."""
    refusal: Any = None
    arguments: Any = None
    logprobs: msgspec.Raw = NOT_SENT
    annotation: msgspec.Raw = NOT_SENT
    error: msgspec.Raw = NOT_SENT
    """openai.responses/openai/ai-openai-error.1-0-c39351; the published schema has its keys at the top level."""


class ItemPart(msgspec.Struct, frozen=True):
    """One entry of an item's `content` or `summary`, of any type."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: tuple[msgspec.Raw, ...] | None = None
    logprobs: msgspec.Raw = NOT_SENT


class Item(msgspec.Struct, frozen=True):
    """One entry of `output`, of any type that has canonical words."""

    type: str = ""
    id: Any = None
    """Absent in openai.responses/bedrock-mantle's whole function calls."""
    call_id: Any = None
    name: Any = None
    arguments: str | None = None
    content: msgspec.Raw = NOT_SENT
    summary: msgspec.Raw = NOT_SENT
    encrypted_content: Any = None
    """Empty from llama.cpp, which encrypts nothing."""


class _Details(msgspec.Struct, frozen=True):
    reason: Any = None


class ResponseObject(msgspec.Struct, frozen=True):
    """A whole response, and the `response` of a streamed event."""

    object: Any = None
    id: Any = None
    model: Any = None
    created_at: Any = None
    """A float in openai.responses/bedrock-mantle."""
    status: Any = None
    output: tuple[msgspec.Raw, ...] | None = None
    incomplete_details: _Details | None = None
    error: msgspec.Raw = NOT_SENT
    usage: msgspec.Raw = NOT_SENT
    service_tier: Any = None
    """The one that served it, once it is over; before that the one asked for."""


_READERS: Final[Mapping[type[Any], msgspec.json.Decoder[Any]]] = {
    shape: msgspec.json.Decoder(shape)
    for shape in (StreamFrame, ItemPart, Item, ResponseObject, tuple[msgspec.Raw, ...])
}


def read(data: bytes | msgspec.Raw, shape: type[_Shape]) -> _Shape:
    """`data` as one of the shapes above. Raises one of `UNREADABLE`."""
    found: _Shape = _READERS[shape].decode(data)
    return found


def word_of(value: object) -> str:
    """A text as it is; anything else is none."""
    return value if isinstance(value, str) else ""
