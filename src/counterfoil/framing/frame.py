"""One unit of framing. A frame knows its own bytes and nothing of what they mean."""

from __future__ import annotations

from typing import Protocol

import msgspec

__all__ = ["Frame", "FrameDamaged", "FrameTooLarge", "Framing", "FramingError"]


class FramingError(ValueError):
    """The stream cannot be followed any further: the provider's fault. The text names it and quotes nothing of it."""


class FrameTooLarge(FramingError):
    """A frame grew past the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"a frame exceeds the limit of {limit} bytes")
        self.limit = limit


class FrameDamaged(FramingError):
    """A frame contradicts itself (a checksum, a length): nothing after it can be trusted."""


class Frame(msgspec.Struct, frozen=True):
    """One frame of a reply."""

    data: bytes
    """The payload: SSE `data:` lines joined by newlines; a whole body; one NDJSON line. Empty for a comment."""
    event: str = ""
    """The frame's own name for what it holds (SSE `event:`, `:event-type`); empty when it has none."""
    raw: bytes = b""
    """The frame as it came, its end included, so that one nobody repairs keeps its bytes."""
    comment: bool = False
    """The frame holds SSE comments only."""


class Framing(Protocol):
    """Bytes in, frames out, however the bytes are cut."""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames completed by `data`. Raises FramingError; frames before the bad one come out first."""
        ...

    def close(self) -> Frame | None:
        """Half a frame left at the end of the bytes, or None. What is returned was never completed."""
        ...
