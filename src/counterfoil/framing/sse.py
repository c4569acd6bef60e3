"""Server-sent events: bytes to frames, however the bytes are cut.

Rule 1: the WHATWG event-stream rules decide, as far as a reply needs them; `id` and `retry` are ignored, because no
reply is ever resumed.
Rule 2: every byte is looked at a bounded number of times, also when they come one at a time.
Rule 3: nothing is lost. The `raw` of all frames, put together, is the input; blank lines between two blocks belong to
the later one.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import re
from typing import Final

from counterfoil.framing.frame import Frame, FrameTooLarge

__all__ = ["SseFraming", "is_text", "on_one_line"]

_BOM: Final = b"\xef\xbb\xbf"
_BLANK_LINES: Final = re.compile(rb"[\r\n]*+")
# Possessive, so that the one line end CR LF is never taken for two.
_BLOCK_END: Final = re.compile(rb"(?:\n|\r\n?+)(?:\n|\r\n?+)")


def on_one_line(text: bytes) -> bytes:
    """JSON as the one line of an event. What is carried word for word may break lines, where JSON has white space:
    its own texts hold no line break."""
    if b"\n" in text or b"\r" in text:
        return text.replace(b"\n", b" ").replace(b"\r", b" ")
    return text


def is_text(raw: bytes) -> bool:
    """Whether bytes are UTF-8, as an event stream has to be: of others some clients give up the whole stream."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


class SseFraming:
    """Frames of an event stream. `limit` is the size in bytes of the largest block accepted, its end included.

    A block without a `data` line says nothing: it comes out with `comment=True`, so that its bytes can be carried.
    A block that ends in a bare CR is complete at once; an LF that follows belongs to the next frame's `raw`.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._scanned = 0
        """Where in `_pending` the search for the block's end goes on."""
        self._begun = False
        """Whether `_pending` holds more than blank lines."""
        self._carriage = False
        """Whether the stream ever held a CR. Most never do, and a plain search is faster than a pattern."""
        self._first = True
        self._plain = False
        """Past the first block and without a CR: what nearly every stream is, nearly all the time."""
        self._failure: FrameTooLarge | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """The frames completed by `data`. Frames before one that is too large come out first; then FrameTooLarge."""
        if not self._plain or b"\r" in data or len(self._pending) + len(data) > self._limit:
            return self._feed(data)
        if self._pending:
            return self._feed_more(data)
        if data[:6] == b"data: " and data.find(b"\n", 6) == len(data) - 2 and data[-1:] == b"\n":
            return [Frame(data[6:-2], "", data)]
        blocks = data.split(b"\n\n")
        rest = blocks.pop()
        if not all(blocks):  # an empty one is extra blank lines: not worth being fast for
            return self._feed(data)
        if rest:
            self._pending += rest
            self._begun, self._scanned = rest != b"\n", len(rest) - 1
        return [_frame(block) for block in blocks]

    def _feed_more(self, data: bytes) -> list[Frame]:
        """A plain stream that stopped inside a block last time."""
        if not self._begun:
            return self._feed(data)
        if b"\n\n" not in data and not (data[:1] == b"\n" and self._pending[-1:] == b"\n"):
            self._pending += data
            self._scanned = len(self._pending) - 1
            return []
        whole = bytes(self._pending) + data
        self._pending.clear()
        self._begun, self._scanned = False, 0
        return self.feed(whole)

    def close(self) -> Frame | None:
        """What was left without its blank line: half a frame, or a whole one whose provider ends without it."""
        if self._failure is not None:
            raise self._failure
        raw = bytes(self._pending)
        self._pending.clear()
        if not self._begun:
            return None
        self._begun, self._scanned = False, 0
        return self._block(raw, _BLANK_LINES.match(raw).end(), len(raw))  # type: ignore[union-attr]  # matches nothing too

    def _feed(self, data: bytes) -> list[Frame]:
        if self._failure is not None:
            raise self._failure
        if not self._carriage and b"\r" in data:
            self._carriage = True
        source: bytes | bytearray = data
        if self._pending:
            self._pending += data
            source = self._pending
        frames, start = self._cut(source)
        if source is self._pending:
            del self._pending[:start]
        else:
            self._pending += data[start:] if start else data
        if self._failure is None and len(self._pending) > self._limit:
            self._failure = FrameTooLarge(self._limit)
        self._plain = not (self._carriage or self._first or self._failure)
        if self._failure is not None:
            self._pending.clear()
            if not frames:
                raise self._failure
        return frames

    def _cut(self, source: bytes | bytearray) -> tuple[list[Frame], int]:
        """The complete frames of `source`, and where what remains begins."""
        frames: list[Frame] = []
        start, scanned = 0, self._scanned
        while True:
            if not self._begun:
                scanned = _BLANK_LINES.match(source, scanned).end()  # type: ignore[union-attr]  # matches nothing too
                if scanned == len(source):
                    break
                self._begun = True
            content_end, end = self._block_end(source, scanned)
            if end < 0:
                # The last byte may be the first half of the end.
                scanned = len(source) - 1
                break
            if end - start > self._limit:
                self._failure = FrameTooLarge(self._limit)
                break
            raw = bytes(source[start:end])
            blank = 0 if raw[0] not in b"\r\n" else _BLANK_LINES.match(raw).end()  # type: ignore[union-attr]  # as above
            frames.append(self._block(raw, blank, content_end - start))
            start = scanned = end
            self._begun = False
        self._scanned = scanned - start
        return frames, start

    def _block_end(self, source: bytes | bytearray, scanned: int) -> tuple[int, int]:
        """Where the block's last line ends, and where its blank line ends; -1 when it has not come yet."""
        if not self._carriage:
            at = source.find(b"\n\n", scanned)
            return at, at + 2 if at >= 0 else -1
        match = _BLOCK_END.search(source, scanned)
        return match.span() if match else (-1, -1)

    def _block(self, raw: bytes, begin: int, end: int) -> Frame:
        block = raw[begin:end]
        if self._first:
            self._first = False
            block = block.removeprefix(_BOM)
        return _read(block, raw)


def _frame(block: bytes) -> Frame:
    """The frame of one block without CR and without its end. The two shapes nearly every provider sends come first."""
    if block[:6] == b"data: ":
        if block.find(b"\n", 6) < 0:
            return Frame(block[6:], "", block + b"\n\n")
    elif block[:7] == b"event: ":
        at = block.find(b"\n", 7)
        if block[at : at + 7] == b"\ndata: " and block.find(b"\n", at + 7) < 0:
            return Frame(block[at + 7 :], block[7:at].decode("utf-8", "replace"), block + b"\n\n")
    return _read(block, block + b"\n\n")


def _read(block: bytes, raw: bytes) -> Frame:
    """Any block, field by field."""
    said: list[bytes] = []
    event = b""
    lines = block.splitlines() if b"\r" in block else block.split(b"\n")
    for line in lines:
        field, _, value = line.partition(b":")
        if field == b"data":
            said.append(value[1:] if value[:1] == b" " else value)
        elif field == b"event":
            event = value[1:] if value[:1] == b" " else value
    return Frame(b"\n".join(said), event.decode("utf-8", "replace"), raw, not said)
