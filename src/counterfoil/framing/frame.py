"""One unit of framing. A frame knows its own bytes and nothing of what they mean."""

from __future__ import annotations

from typing import Protocol

import msgspec

__all__ = ["Frame", "FrameTooLarge", "Framing"]


class FrameTooLarge(ValueError):
    """A frame grew past the limit. The provider's fault; the stream cannot be followed any further."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"a frame exceeds the limit of {limit} bytes")
        self.limit = limit


class Frame(msgspec.Struct, frozen=True):
    """One frame of a reply."""

    data: bytes
    """The payload: SSE `data:` lines joined by newlines; a whole body; one NDJSON line. Empty for a comment."""
    event: str = ""
    """The SSE event name; empty when the frame has none."""
    raw: bytes = b""
    """The frame as it came, its end included, so that one nobody repairs keeps its bytes."""
    comment: bool = False
    """The frame holds SSE comments only."""


class Framing(Protocol):
    """Bytes in, frames out, however the bytes are cut."""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames completed by `data`. Raises FrameTooLarge."""
        ...

    def close(self) -> Frame | None:
        """Half a frame left at the end of the bytes, or None. What is returned was never completed."""
        ...
