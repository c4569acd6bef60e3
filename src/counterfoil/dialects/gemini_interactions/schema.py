"""The JSON of the Interactions API, as far as it is read.

Shapes are those of the recordings (gemini.interactions/google) and of Google's own client (google-genai,
`_gaos/types/interactions`), whose events of before June 2026 (`content.start`, ...) are read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from counterfoil.dialects.schema import NOT_SENT

__all__ = ["ContentShape", "DeltaShape", "EventShape", "InteractionShape", "MetadataShape", "StepShape", "read"]

_Shape = TypeVar("_Shape")


class ContentShape(msgspec.Struct, frozen=True):
    """One entry of a step's content, of any type."""

    type: str = ""
    text: str | None = None


class StepShape(msgspec.Struct, frozen=True):
    """One step of an interaction, of any type; one entry of an older reply's `outputs` too."""

    type: str = ""
    id: Any = None
    name: str | None = None
    arguments: msgspec.Raw = NOT_SENT
    signature: str | None = None
    content: list[msgspec.Raw] | None = None
    summary: list[msgspec.Raw] | None = None
    text: str | None = None


class DeltaShape(msgspec.Struct, frozen=True):
    """`delta` of a step.delta, of any type."""

    type: str = ""
    text: str | None = None
    signature: str | None = None
    content: msgspec.Raw = NOT_SENT
    arguments: msgspec.Raw = NOT_SENT
    """A piece of JSON text; an object in the older events, where a call is one delta."""
    id: Any = None
    name: str | None = None


class MetadataShape(msgspec.Struct, frozen=True):
    """`metadata` of an event: `usage` in the recordings, `total_usage` in Google's client."""

    usage: msgspec.Raw = NOT_SENT
    total_usage: msgspec.Raw = NOT_SENT


class InteractionShape(msgspec.Struct, frozen=True):
    """A whole interaction, and the one inside a lifecycle event."""

    id: str | None = None
    status: str | None = None
    model: Any = None
    created: Any = None
    steps: list[msgspec.Raw] | None = None
    outputs: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = NOT_SENT
    service_tier: Any = None
    error: msgspec.Raw = NOT_SENT
    errors: list[msgspec.Raw] | None = None


class EventShape(msgspec.Struct, frozen=True):
    """One event of a stream, of any type."""

    event_type: str = ""
    index: int = 0
    interaction: msgspec.Raw = NOT_SENT
    step: msgspec.Raw = NOT_SENT
    content: msgspec.Raw = NOT_SENT
    delta: msgspec.Raw = NOT_SENT
    status: str | None = None
    usage: msgspec.Raw = NOT_SENT
    metadata: MetadataShape | None = None
    error: msgspec.Raw = NOT_SENT


_READERS: Final[Mapping[type[Any], msgspec.json.Decoder[Any]]] = {
    shape: msgspec.json.Decoder(shape) for shape in (ContentShape, DeltaShape, EventShape, InteractionShape, StepShape)
}


def read(data: bytes | msgspec.Raw, shape: type[_Shape]) -> _Shape:
    """`data` as one of the shapes above. Raises one of `UNREADABLE`."""
    found: _Shape = _READERS[shape].decode(data)
    return found
