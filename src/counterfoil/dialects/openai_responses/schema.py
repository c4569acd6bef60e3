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

__all__ = [
    "NO_RAW",
    "UNREADABLE",
    "Item",
    "ItemPart",
    "ResponseObject",
    "StreamFrame",
    "encode",
    "fields_of",
    "given",
    "read",
    "word_of",
]

NO_RAW: Final = msgspec.Raw()
UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""What reading bytes that are not the expected JSON can raise (bad UTF-8 and deep nesting included)."""

_ENCODER: Final = msgspec.json.Encoder()
_Shape = TypeVar("_Shape")


class StreamFrame(msgspec.Struct, frozen=True):
    """One streamed event of any type; all share this one shape."""

    type: str = ""
    response: msgspec.Raw = NO_RAW
    item: msgspec.Raw = NO_RAW
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
    logprobs: msgspec.Raw = NO_RAW
    annotation: msgspec.Raw = NO_RAW
    error: msgspec.Raw = NO_RAW
    """openai.responses/openai/ai-openai-error.1-0-c39351; the published schema has its keys at the top level."""


class ItemPart(msgspec.Struct, frozen=True):
    """One entry of an item's `content` or `summary`, of any type."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: tuple[msgspec.Raw, ...] | None = None
    logprobs: msgspec.Raw = NO_RAW


class Item(msgspec.Struct, frozen=True):
    """One entry of `output`, of any type that has canonical words."""

    type: str = ""
    id: Any = None
    """Absent in openai.responses/bedrock-mantle's whole function calls."""
    call_id: Any = None
    name: Any = None
    arguments: str | None = None
    content: msgspec.Raw = NO_RAW
    summary: msgspec.Raw = NO_RAW
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
    error: msgspec.Raw = NO_RAW
    usage: msgspec.Raw = NO_RAW
    service_tier: Any = None
    """The one that served it, once it is over; before that the one asked for."""


_READERS: Final[Mapping[type[Any], msgspec.json.Decoder[Any]]] = {
    shape: msgspec.json.Decoder(shape)
    for shape in (StreamFrame, ItemPart, Item, ResponseObject, tuple[msgspec.Raw, ...])
}
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(data: bytes | msgspec.Raw, shape: type[_Shape]) -> _Shape:
    """`data` as one of the shapes above. Raises one of `UNREADABLE`."""
    found: _Shape = _READERS[shape].decode(data)
    return found


def fields_of(data: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The fields of a JSON object, in order, values word for word. Raises one of `UNREADABLE`."""
    return _FIELDS.decode(data)


def given(raw: msgspec.Raw) -> bool:
    """Whether a field was there with a value other than null."""
    said = bytes(raw)
    return bool(said) and said != b"null"


def word_of(value: object) -> str:
    """A text as it is; anything else is none."""
    return value if isinstance(value, str) else ""


def encode(value: object) -> bytes:
    """JSON without white space; `Raw` goes in word for word."""
    return _ENCODER.encode(value)
