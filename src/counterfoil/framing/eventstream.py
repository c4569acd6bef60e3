"""AWS's binary event stream: bytes to frames, however the bytes are cut.

A message is a prelude (its length, its headers' length, a checksum of both), headers, a payload, a checksum of it all.

Rule 1: nothing is believed before its checksum: a length after the prelude's, headers and payload after the message's.
Rule 2: a message that contradicts itself ends the stream. Frames before it come out first.
Rule 3: every byte is looked at a bounded number of times, also when they come one at a time.

https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html, and the service model of Bedrock's runtime for what
`:message-type` is: an event, an exception that the service models, or an error that it does not.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Final

from counterfoil.framing.frame import Frame, FrameDamaged, FrameTooLarge, FramingError

__all__ = ["ERROR", "EXCEPTION", "LARGEST_HEADERS", "EventStreamFraming"]

EXCEPTION: Final = "exception:"
"""What the `event` of a modelled exception's frame begins with; the rest is its name ("throttlingException")."""
ERROR: Final = "error:"
"""What the `event` of an unmodelled error's frame begins with; the rest is its code. Its data is a message, as text."""

LARGEST_HEADERS: Final = 128 * 1024
"""Bytes of headers that the format allows a message."""

_PRELUDE: Final = struct.Struct(">III")
_CHECKSUM: Final = 4
_SMALLEST: Final = _PRELUDE.size + _CHECKSUM

_TEXT: Final = 7
_SIZED: Final = frozenset({6, _TEXT})
"""Header types whose value begins with its length in two bytes: bytes and text."""
_SIZES: Final[Mapping[int, int]] = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a value of every other header type: true, false, 8 to 64 bits, a time, a UUID."""


class EventStreamFraming:
    """Frames of an event stream. `limit` is the size in bytes of the largest message accepted, all of it counted.

    `data` is the payload; `event` is the `:event-type`, or `EXCEPTION` or `ERROR` with the name of what went wrong.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._needed = _PRELUDE.size
        """Bytes that must be there before anything more can be known: the prelude, then the whole message."""
        self._failure: FramingError | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """The messages completed by `data`. Raises FrameTooLarge or FrameDamaged, after the frames before it."""
        if self._failure is not None:
            raise self._failure
        self._pending += data
        frames: list[Frame] = []
        place = 0
        try:
            while len(self._pending) - place >= self._needed:
                if self._needed == _PRELUDE.size:
                    self._needed = _length(self._pending, place, self._limit)
                    continue
                frames.append(_frame(bytes(self._pending[place : place + self._needed])))
                place += self._needed
                self._needed = _PRELUDE.size
        except FramingError as error:
            self._failure = error
            self._pending.clear()
            if not frames:
                raise
            return frames
        if place:
            del self._pending[:place]
        return frames

    def close(self) -> Frame | None:
        """Always None: half a message lacks its checksum, and says nothing. Raises what ended the stream."""
        if self._failure is not None:
            raise self._failure
        self._pending.clear()
        return None


def _length(data: bytearray, place: int, limit: int) -> int:
    """The length of the message that begins at `place`, from its prelude."""
    whole, headers, checksum = _PRELUDE.unpack_from(data, place)
    if zlib.crc32(data[place : place + _PRELUDE.size - _CHECKSUM]) != checksum:
        raise FrameDamaged("an event-stream message whose prelude does not match its checksum")
    if whole > limit:
        raise FrameTooLarge(limit)
    if headers > LARGEST_HEADERS:
        raise FrameTooLarge(LARGEST_HEADERS)
    if headers > whole - _SMALLEST:
        raise FrameDamaged("an event-stream message whose lengths contradict each other")
    return int(whole)


def _frame(message: bytes) -> Frame:
    (checksum,) = struct.unpack_from(">I", message, len(message) - _CHECKSUM)
    if zlib.crc32(memoryview(message)[:-_CHECKSUM]) != checksum:
        raise FrameDamaged("an event-stream message that does not match its checksum")
    _, size, _ = _PRELUDE.unpack_from(message)
    headers = _headers(message[_PRELUDE.size : _PRELUDE.size + size])
    payload = message[_PRELUDE.size + size : -_CHECKSUM]
    match headers.get(":message-type"):
        case "exception":
            return Frame(payload, EXCEPTION + headers.get(":exception-type", ""), message)
        case "error":
            said = payload or headers.get(":error-message", "").encode()
            return Frame(said, ERROR + headers.get(":error-code", ""), message)
        case _:
            return Frame(payload, headers.get(":event-type", ""), message)


def _headers(data: bytes) -> dict[str, str]:
    """The headers that hold text. The others are stepped over: nothing of ours is in them."""
    found: dict[str, str] = {}
    place = 0
    try:
        while place < len(data):
            start = place + 1
            place = start + data[place]
            name, kind = data[start:place], data[place]
            place += 1
            if kind in _SIZED:
                (size,) = struct.unpack_from(">H", data, place)
                place += 2
            else:
                size = _SIZES[kind]
            if place + size > len(data):
                raise FrameDamaged(_BAD_HEADERS)
            if kind == _TEXT:
                found[name.decode("utf-8", "replace")] = data[place : place + size].decode("utf-8", "replace")
            place += size
    except (IndexError, KeyError, struct.error) as error:
        raise FrameDamaged(_BAD_HEADERS) from error
    return found


_BAD_HEADERS: Final = "an event-stream message whose headers cannot be read"
