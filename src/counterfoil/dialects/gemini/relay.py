"""From a provider of this dialect to a client of it: everything is carried, and the repair table names what is not.

Rule 1: a value that no row names keeps its bytes and its place; a frame that needs nothing keeps all of its bytes.
Rule 2: the frame that ends the reply is held until the usage is settled. Others are not: usage is taken out of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import ChoiceFinished, Event, ReplyFailed
from counterfoil.dialects.blocks import BLANK_LINES
from counterfoil.dialects.dialect import FinalUsage, Quirks, ReplyFacts
from counterfoil.dialects.gemini.door import ARRAY
from counterfoil.dialects.gemini.encode import GeminiEncoder, Writing
from counterfoil.dialects.gemini.failure import write_failure
from counterfoil.dialects.gemini.schema import compact, elements_of, fields_of
from counterfoil.dialects.gemini.usage import write_usage
from counterfoil.dialects.schema import UNREADABLE, encode, given
from counterfoil.framing.frame import Frame

__all__ = ["REPAIRS", "GeminiRelay"]

REPAIRS: Final[Mapping[str, tuple[str, str]]] = {
    "modelVersion": ("the name the client asked for", "DESIGN 4.4.2"),
    "responseId": ("one for all frames; ours where the provider gives none", "DESIGN 4.4.2"),
    "usageMetadata": ("once, settled, on the last frame; left out of those before it", "WIRE 3, Gemini"),
    "a frame without candidates": ("after the end, its values go into the last frame", "WIRE 3, Gemini"),
    "a comment": ("left out: Google's own clients crash", "WIRE 3, Gemini"),
    "[DONE]": ("left out: no client of this dialect knows it", "WIRE 2"),
    "an array where one reply was asked for": ("one reply, with all that its items say", "DESIGN 4.4.2"),
    "framing": ("events or an array, as the client asked, whatever the provider sent", "gemini.generateContent/google"),
}
"""What is mended, how, and what asks for it."""

_USAGE: Final = "usageMetadata"
_MODEL: Final = "modelVersion"
_ID: Final = "responseId"
_DONE: Final = b"[DONE]"
_NOTHING: Final = b"{}"
_SILENT: Final = msgspec.Raw(encode([{"content": {"parts": [{"text": ""}], "role": "model"}, "index": 0}]))


class GeminiRelay:
    """One reply."""

    def __init__(self, facts: ReplyFacts, quirks: Quirks) -> None:
        self._facts = facts
        self._writing = Writing(facts.form)
        self._as_events = facts.form != ARRAY
        self._id: msgspec.Raw | None = None
        self._finished: set[int] = set()
        self._held: dict[str, msgspec.Raw] | None = None
        self._held_frame: Frame | None = None
        self._whole: Frame | None = None
        self._events: Sequence[Event] = ()
        """Of the whole reply."""

    def carry(self, frame: Frame, events: Sequence[Event]) -> bytes:
        """One frame repaired, or its own bytes. What ends the reply is held back for `close`."""
        if frame.comment or any(isinstance(event, ReplyFailed) for event in events):
            return b""
        if not self._facts.streamed:
            self._whole, self._events = frame, events
            return b""
        if not frame.data.strip() or frame.data.strip() == _DONE:
            return b""
        try:
            fields = fields_of(frame.data)
        except UNREADABLE:
            return b""  # the decoder says of it that the reply failed, and `fail` tells the client
        self._finished |= {event.choice for event in events if isinstance(event, ChoiceFinished)}
        if self._held is not None and not given(fields.get("candidates", _ABSENT)):
            self._held |= {name: raw for name, raw in fields.items() if given(raw)}
            self._held_frame = None
            return b""
        before = self._release()
        if self._finished and len(self._finished) >= self._facts.choices:
            self._held, self._held_frame = dict(fields), frame
            return before
        return before + self._write(fields, frame, None)

    def close(self, final: FinalUsage) -> bytes:
        """The held frame with the settled usage; or the whole reply."""
        usage = write_usage(final)
        if not self._facts.streamed:
            return self._close_whole(usage, final)
        fields, frame = self._held, self._held_frame
        self._held = self._held_frame = None
        if fields is None:
            fields = {"candidates": _SILENT}
        return self._write(fields, frame, usage) + self._writing.end()

    def fail(self, failure: Failure) -> bytes:
        """What was held, and an error frame; the error body where the reply is whole."""
        body = write_failure(failure)
        if not self._facts.streamed:
            return body
        return self._release() + self._writing.frame(body) + self._writing.end()

    def _release(self) -> bytes:
        """A frame that was held and is not the last."""
        fields, frame = self._held, self._held_frame
        self._held = self._held_frame = None
        return b"" if fields is None else self._write(fields, frame, None)

    def _write(self, fields: Mapping[str, msgspec.Raw], frame: Frame | None, usage: bytes | None) -> bytes:
        """One frame. `usage`: of the last one."""
        mended = self._mended(fields, usage)
        if frame is not None and mended == dict(fields):
            if self._as_events and frame.raw.endswith(BLANK_LINES) and frame.raw.startswith(b"data: "):
                return frame.raw
            return self._writing.frame(compact(frame.data))
        return self._writing.frame(compact(encode(mended)))

    def _mended(self, fields: Mapping[str, msgspec.Raw], usage: bytes | None) -> dict[str, msgspec.Raw]:
        """The fields with what the table names, in their places."""
        found = dict(fields)
        found[_MODEL] = _same_or(fields.get(_MODEL), encode(self._facts.model))
        if self._id is None:
            said = fields.get(_ID)
            self._id = said if said is not None and given(said) else msgspec.Raw(encode(self._facts.id))
        found[_ID] = _same_or(fields.get(_ID), bytes(self._id))
        if usage is None or usage == _NOTHING:
            found.pop(_USAGE, None)
        else:
            found[_USAGE] = _same_or(fields.get(_USAGE), usage)
        return found

    def _close_whole(self, usage: bytes, final: FinalUsage) -> bytes:
        if self._whole is None:
            return b""
        data = self._whole.data
        try:
            if data.lstrip()[:1] != b"[":
                return self._one(data, usage)
            items = elements_of(data)
            return self._one(items[0], usage) if len(items) == 1 else self._gathered(final)
        except UNREADABLE:
            return data

    def _gathered(self, final: FinalUsage) -> bytes:
        encoder = GeminiEncoder(self._facts)
        encoder.encode(self._events)
        return encoder.close(final)

    def _one(self, data: bytes | msgspec.Raw, usage: bytes) -> bytes:
        fields = fields_of(data)
        mended = self._mended(fields, usage)
        return bytes(data) if mended == fields else encode(mended)


_ABSENT: Final = msgspec.Raw()


def _same_or(before: msgspec.Raw | None, now: bytes) -> msgspec.Raw:
    """The value as it came, when it says the same."""
    try:
        if before is not None and msgspec.json.decode(before) == msgspec.json.decode(now):
            return before
    except UNREADABLE:
        pass
    return msgspec.Raw(now)
