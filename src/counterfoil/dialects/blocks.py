"""A frame of a stream of events carried as it came, in the dialects whose events have names.

Rule: a frame that nobody mends keeps its bytes. It gets only what a client's reader needs of a block and it lacks: the
event's name, and the blank line at its end.
"""

from __future__ import annotations

from typing import Final

import msgspec

from counterfoil.framing.frame import Frame

__all__ = ["BLANK_LINES", "Repair", "own_block"]

BLANK_LINES: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")
"""What ends a block."""


class Repair(msgspec.Struct, frozen=True):
    """One thing that is repaired: where, into what, and why."""

    where: str
    into: str
    cites: str


def own_block(frame: Frame, kind: str = "") -> bytes:
    """The frame's own bytes, with the event name (`kind` where it has none) or the blank line it lacks."""
    name = frame.event or kind
    if frame.raw.endswith(BLANK_LINES) and name == frame.event:
        return frame.raw
    if frame.comment:
        return frame.raw.rstrip(b"\r\n") + b"\n\n"
    lines = b"".join(b"data: " + line + b"\n" for line in frame.data.split(b"\n"))
    return (b"event: " + name.encode() + b"\n" if name else b"") + lines + b"\n"
