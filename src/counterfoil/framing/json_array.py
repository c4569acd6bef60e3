"""JSON values that come one after the other: the items of an array that is still being written, or values in a row.

Rule 1: a frame is one whole object. What stands between objects is white space, commas and the array's brackets;
anything else is damage, and nothing after it can be trusted.
Rule 2: every byte is looked at once, also when they come one at a time. Nothing is parsed here: an object is complete
when its brackets are.
Rule 3: nothing is lost. The `raw` of all frames, put together, is the input; what stands between two objects belongs to
the later one. The array's closing bracket is a frame of its own, without data.
Rule 4: `EventsOrArrayFraming` looks at the first byte. No event stream begins with a bracket, so a server that answers
JSON where a stream of events was due (Gemini without `alt=sse`, and its errors with it) is understood all the same.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from counterfoil.framing.frame import Frame, FrameDamaged, FrameTooLarge, Framing, FramingError
from counterfoil.framing.sse import SseFraming

__all__ = ["EventsOrArrayFraming", "JsonArrayFraming"]

_BOM: Final = b"\xef\xbb\xbf"
_SPACE: Final = b" \t\r\n"
_SHAPE: Final = re.compile(rb'["{}\[\]]')
_TEXT_END: Final = re.compile(rb'["\\]')
_BETWEEN: Final = re.compile(rb"[^ \t\r\n,]")
_DAMAGED: Final = "text that is no JSON object where one was due"


class JsonArrayFraming:
    """Frames of a growing JSON array. `limit` is the size in bytes of the largest object accepted, with what stands
    before it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._scanned = 0
        """Where in `_pending` the search goes on."""
        self._begun = 0
        """Where in `_pending` the object begins that is being read."""
        self._depth = 0
        self._in_text = False
        self._in_array = False
        self._over = False
        """The array is closed: what follows is no part of it."""
        self._first = True
        self._failure: FramingError | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """The objects completed by `data`. Those before a bad one come out first; then FramingError."""
        if self._failure is not None:
            raise self._failure
        if self._over:
            return []
        self._pending += data
        frames: list[Frame] = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        if self._failure is None and len(self._pending) > self._limit:
            self._failure = FrameTooLarge(self._limit)
        if self._failure is not None:
            self._pending.clear()
            if not frames:
                raise self._failure
        return frames

    def close(self) -> Frame | None:
        """Half an object left at the end of the bytes."""
        if self._failure is not None:
            raise self._failure
        raw = bytes(self._pending)
        self._pending.clear()
        return Frame(raw[self._begun :], "", raw) if self._depth else None

    def _next(self) -> Frame | None:
        """The next frame that `_pending` holds whole, or None."""
        if self._over or self._failure is not None:
            return None
        if not self._depth:
            found = self._between()
            if found is not None or not self._depth:
                return found
        return self._object()

    def _between(self) -> Frame | None:
        """Look for the next object; the closing bracket, when it comes first."""
        if self._first:
            if _BOM.startswith(bytes(self._pending[:3])) and len(self._pending) < len(_BOM):
                return None
            self._first = False
            self._scanned = len(_BOM) if self._pending.startswith(_BOM) else 0
        while match := _BETWEEN.search(self._pending, self._scanned):
            place, sign = match.start(), match.group()
            if place > self._limit:  # as when the bytes come one at a time
                self._failure = FrameTooLarge(self._limit)
                return None
            self._scanned = place + 1
            if sign == b"{":
                self._begun, self._depth = place, 1
                return None
            if sign == b"[" and not self._in_array:
                self._in_array = True
            elif sign == b"]" and self._in_array:
                self._over = True
                frame = Frame(b"", "", self._cut(place + 1), comment=True)
                self._pending.clear()  # however it was cut, what follows is no part of the array
                return frame
            else:
                self._failure = FrameDamaged(_DAMAGED)
                return None
        self._scanned = len(self._pending)
        return None

    def _object(self) -> Frame | None:
        """The object that has begun, when it is whole."""
        pending, place = self._pending, self._scanned
        while self._depth:
            if self._in_text:
                match = _TEXT_END.search(pending, place)
                if match is None:
                    break
                if match.group() == b"\\":
                    if match.end() == len(pending):  # what it escapes has not come
                        self._scanned = match.start()
                        return None
                    place = match.end() + 1
                    continue
                self._in_text = False
            else:
                match = _SHAPE.search(pending, place)
                if match is None:
                    break
                sign = match.group()
                if sign == b'"':
                    self._in_text = True
                else:
                    self._depth += 1 if sign in b"{[" else -1
            place = match.end()
        if self._depth:
            self._scanned = len(pending)
            return None
        data = bytes(pending[self._begun : place])
        if place > self._limit:
            self._failure = FrameTooLarge(self._limit)
            return None
        return Frame(data, "", self._cut(place))

    def _cut(self, end: int) -> bytes:
        raw = bytes(self._pending[:end])
        del self._pending[:end]
        self._scanned = self._begun = 0
        return raw


class EventsOrArrayFraming:
    """Server-sent events, or JSON where the first byte says so. `limit` as of both."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._head = bytearray()
        self._framing: Framing | None = None
        self._json = False

    def feed(self, data: bytes) -> list[Frame]:
        """The frames completed by `data`. Raises FramingError; frames before the bad one come out first."""
        if self._framing is None:
            self._head += data
            shown = bytes(self._head).removeprefix(_BOM).lstrip(_SPACE)
            if not shown or _BOM.startswith(shown):
                if len(self._head) > self._limit:
                    raise FrameTooLarge(self._limit)
                return []
            data = bytes(self._head)
            self._head.clear()
            self._json = shown[:1] in b"{["
            self._framing = JsonArrayFraming(self._limit) if self._json else SseFraming(self._limit)
        frames = self._framing.feed(data)
        return frames if self._json else [_bare(frame) for frame in frames]

    def close(self) -> Frame | None:
        """Half a frame left at the end of the bytes."""
        if self._framing is None:
            return None
        frame = self._framing.close()
        return frame if frame is None or self._json else _bare(frame)


def _bare(frame: Frame) -> Frame:
    """A block of an event stream; one that is a bare JSON object is what it says.

    Google's own client reads such blocks: an error in mid-stream has no `data:` before it
    (google-genai, `_api_client.HttpResponse._iter_response_stream`).
    """
    if frame.comment and frame.raw.lstrip(_SPACE)[:1] == b"{":
        return msgspec.structs.replace(frame, data=frame.raw.strip(_SPACE), comment=False)
    return frame
