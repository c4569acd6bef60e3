"""Newline-delimited JSON: one line, one frame, however the bytes are cut.

Rule 1: a line ends in LF; a CR before it is white space. Lines of nothing but white space are no frames, and the last
line needs no end.
Rule 2: every byte is looked at a bounded number of times, also when they come one at a time.
Rule 3: nothing is lost. The `raw` of all frames, put together, is the input; a blank line belongs to the frame after
it, and blank lines that nothing follows belong to none.

https://github.com/ndjson/ndjson-spec
"""

from __future__ import annotations

from typing import Final

from counterfoil.framing.frame import Frame, FrameTooLarge

__all__ = ["NdjsonFraming"]

_BOM: Final = b"\xef\xbb\xbf"
_WHITE: Final = b" \t\r\n"


class NdjsonFraming:
    """Frames of a stream of JSON lines. `limit` is the size in bytes of the largest line accepted, its end and blank
    lines before it included."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pending = bytearray()
        """The line that has not ended, after the blank lines before it."""
        self._blank = 0
        """How much of `_pending` those blank lines are."""
        self._scanned = 0
        """Where in `_pending` the search for the line's end goes on."""
        self._first = True
        self._failure: FrameTooLarge | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """The frames completed by `data`. Frames before one that is too large come out first; then FrameTooLarge."""
        if self._failure is not None:
            raise self._failure
        self._pending += data
        frames: list[Frame] = []
        start = 0
        while True:
            end = self._pending.find(b"\n", self._scanned) + 1
            if (end or len(self._pending)) - start > self._limit:
                self._failure = FrameTooLarge(self._limit)
                break
            if not end:
                self._scanned = len(self._pending)
                break
            self._scanned = end
            said = self._said(bytes(self._pending[start + self._blank : end]))
            if said:
                frames.append(Frame(said, "", bytes(self._pending[start:end])))
                start, self._blank = end, 0
            else:
                self._blank = end - start
        if self._failure is None:
            del self._pending[:start]
            self._scanned -= start
            return frames
        self._pending.clear()
        if not frames:
            raise self._failure
        return frames

    def close(self) -> Frame | None:
        """The line left without its end: half a frame, or a whole one whose provider ends without it."""
        if self._failure is not None:
            raise self._failure
        raw = bytes(self._pending)
        said = self._said(raw[self._blank :])
        self._pending.clear()
        self._blank = self._scanned = 0
        return Frame(said, "", raw) if said else None

    def _said(self, line: bytes) -> bytes:
        """A line without the white space around it."""
        said = line.strip(_WHITE)
        if said and self._first:
            self._first = False
            return said.removeprefix(_BOM).strip(_WHITE)
        return said
