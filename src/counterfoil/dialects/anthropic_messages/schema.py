"""The JSON of the Anthropic messages wire, as far as it is read.

Rule 1: what is only carried stays `Raw`. What is not named here is not lost: whoever reads a shape keeps its bytes.
Rule 2: reading is lenient where a provider writes (absent, null and unknown are fine) and strict where a client does.

https://platform.claude.com/docs/en/api/messages and .../build-with-claude/streaming
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.schema import NOT_SENT

__all__ = ["Block", "Delta", "ErrorBody", "MessageBody", "StreamFrame", "as_provider_wants", "read"]


_Shape = TypeVar("_Shape")


class Delta(msgspec.Struct, frozen=True):
    """`delta` of content_block_delta and of message_delta. All delta types share this one shape."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    citation: msgspec.Raw = NOT_SENT
    content: msgspec.Raw = NOT_SENT
    """compaction_delta (recorded: pydantic-ai compaction-usage-with-cache)."""
    stop_reason: str | None = None
    stop_sequence: str | None = None


class StreamFrame(msgspec.Struct, frozen=True):
    """One streamed frame of any type; a whole message too, for a provider that answers one where a stream was asked."""

    type: str = ""
    index: int | None = None
    message: msgspec.Raw = NOT_SENT
    content_block: msgspec.Raw = NOT_SENT
    delta: msgspec.Raw = NOT_SENT
    usage: msgspec.Raw = NOT_SENT
    error: msgspec.Raw = NOT_SENT


class Block(msgspec.Struct, frozen=True):
    """One content block of a reply, of any type."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = NOT_SENT
    citations: tuple[msgspec.Raw, ...] | None = None


class MessageBody(msgspec.Struct, frozen=True):
    """A whole message, and the head of a streamed one."""

    type: str = ""
    id: str | None = None
    model: str | None = None
    content: tuple[msgspec.Raw, ...] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: msgspec.Raw = NOT_SENT
    error: msgspec.Raw = NOT_SENT


class ErrorBody(msgspec.Struct, frozen=True):
    """`error` of an error answer or an error frame."""

    type: str | None = None
    message: str | None = None


_READERS: Final[Mapping[type[Any], msgspec.json.Decoder[Any]]] = {
    shape: msgspec.json.Decoder(shape) for shape in (Delta, StreamFrame, Block, MessageBody, ErrorBody)
}


def read(data: bytes | msgspec.Raw, shape: type[_Shape]) -> _Shape:
    """`data` as one of the shapes above. Raises one of `UNREADABLE`."""
    found: _Shape = _READERS[shape].decode(data)
    return found


def as_provider_wants(fields: Mapping[str, object], quirks: Quirks) -> dict[str, object]:
    """A request's fields with what this provider wants beside them, and without what it wants elsewhere."""
    return {name: value for name, value in {**quirks.body_set, **fields}.items() if name not in quirks.body_without}
