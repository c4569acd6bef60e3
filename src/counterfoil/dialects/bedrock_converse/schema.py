"""The JSON of Bedrock's Converse wire, as far as it is read. Binary values are base64 text in it.

Rule 1: what is only carried stays `Raw`.
Rule 2: reading is lenient: absent, null and unknown are fine. The padding key `p` of streamed events is unknown here.
Rule 3: Nova's own bodies (bedrock_invoke) are this JSON too, with each event under its name instead of in a header.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html,
.../API_runtime_ConverseStream.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from counterfoil.dialects.schema import NOT_SENT

__all__ = [
    "Block",
    "BlockEvent",
    "Body",
    "Delta",
    "MetadataEvent",
    "ReasoningContent",
    "ServiceTier",
    "Start",
    "StopEvent",
    "ToolUse",
    "read",
]


_Shape = TypeVar("_Shape")


class ToolUse(msgspec.Struct, frozen=True, rename="camel"):
    """`toolUse`. `input` is a JSON value in a whole block, and a piece of JSON text in a delta."""

    tool_use_id: str | None = None
    name: str | None = None
    input: msgspec.Raw = NOT_SENT
    type: str | None = None
    """"server_tool_use" where the provider ran the tool itself; recorded as "tool_use" or absent otherwise."""


class ReasoningText(msgspec.Struct, frozen=True):
    text: str | None = None
    signature: str | None = None


class ReasoningContent(msgspec.Struct, frozen=True, rename="camel"):
    """Whole blocks nest text and signature in `reasoningText`; deltas hold one of the three beside it."""

    reasoning_text: ReasoningText | None = None
    text: str | None = None
    signature: str | None = None
    redacted_content: str | None = None


class Citations(msgspec.Struct, frozen=True):
    content: tuple[msgspec.Raw, ...] | None = None
    citations: tuple[msgspec.Raw, ...] | None = None


class Block(msgspec.Struct, frozen=True, rename="camel"):
    """One content block of a whole message. Exactly one key is set."""

    text: str | None = None
    tool_use: msgspec.Raw = NOT_SENT
    reasoning_content: ReasoningContent | None = None
    citations_content: Citations | None = None


class Start(msgspec.Struct, frozen=True, rename="camel"):
    """`start` of contentBlockStart. Text and reasoning blocks have none."""

    tool_use: msgspec.Raw = NOT_SENT


class Delta(msgspec.Struct, frozen=True, rename="camel"):
    """`delta` of contentBlockDelta. Exactly one key is set."""

    text: str | None = None
    tool_use: ToolUse | None = None
    reasoning_content: ReasoningContent | None = None
    citation: msgspec.Raw = NOT_SENT


class BlockEvent(msgspec.Struct, frozen=True, rename="camel"):
    """contentBlockStart, contentBlockDelta and contentBlockStop."""

    content_block_index: int | None = None
    start: msgspec.Raw = NOT_SENT
    delta: msgspec.Raw = NOT_SENT


class StopEvent(msgspec.Struct, frozen=True, rename="camel"):
    stop_reason: str | None = None
    additional_model_response_fields: msgspec.Raw = NOT_SENT


class ServiceTier(msgspec.Struct, frozen=True):
    type: Any = None


class MetadataEvent(msgspec.Struct, frozen=True, rename="camel"):
    usage: msgspec.Raw = NOT_SENT
    service_tier: ServiceTier | None = None
    """The one that served it."""


class _Message(msgspec.Struct, frozen=True):
    content: tuple[msgspec.Raw, ...] | None = None


class _Output(msgspec.Struct, frozen=True):
    message: _Message | None = None


class Body(msgspec.Struct, frozen=True, rename="camel"):
    """A whole reply."""

    output: _Output | None = None
    stop_reason: str | None = None
    usage: msgspec.Raw = NOT_SENT
    service_tier: ServiceTier | None = None
    additional_model_response_fields: msgspec.Raw = NOT_SENT


_READERS: Final[Mapping[type[Any], msgspec.json.Decoder[Any]]] = {
    shape: msgspec.json.Decoder(shape)
    for shape in (Block, BlockEvent, Body, Delta, MetadataEvent, Start, StopEvent, ToolUse)
}


def read(data: bytes | msgspec.Raw, shape: type[_Shape]) -> _Shape:
    """`data` as one of the shapes above. Raises one of `UNREADABLE`."""
    found: _Shape = _READERS[shape].decode(data)
    return found
