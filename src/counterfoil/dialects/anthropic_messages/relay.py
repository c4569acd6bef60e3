"""Frames for a client of this dialect from a provider of it: repairs by table only.

Rule 1: `REPAIRS` is all that is ever changed. A value it does not name is carried word for word and in order, and a
frame that needs nothing keeps its bytes.
Rule 2: `message_delta` and `message_stop` wait for `close`, because the last usage is settled there; an error frame
waits for `fail`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import Event, ReplyFailed
from counterfoil.dialects.anthropic_messages.encode import frame_bytes
from counterfoil.dialects.anthropic_messages.failure import write_failure
from counterfoil.dialects.anthropic_messages.head import head_usage
from counterfoil.dialects.anthropic_messages.usage import usage_fields
from counterfoil.dialects.blocks import BLANK_LINES, Repair, own_block
from counterfoil.dialects.dialect import FinalUsage, Quirks, ReplyFacts
from counterfoil.dialects.schema import UNREADABLE, encode, fields_in, fields_of, given
from counterfoil.framing.frame import Frame
from counterfoil.framing.sse import is_text

__all__ = ["REPAIRS", "MessagesRelay", "Repair"]


_WIRE: Final = "WIRE 3, Anthropic messages"

REPAIRS: Final = (
    Repair("message_start.message.model, message.model", "the name the client asked for", "DESIGN 4.4.2"),
    Repair("message_start.message.id", "ours, where the provider gives none", "DESIGN 4.4.2"),
    Repair("message_start.message.usage.output_tokens", "0: what it says is a placeholder", _WIRE),
    Repair("message_start.message.usage.input_tokens", "a marked estimate, where absent", _WIRE),
    Repair("message_delta.usage, message.usage", "the settled counts, other keys kept", _WIRE),
    Repair("message_delta", "exactly one; a later one is merged into it", _WIRE),
    Repair("message_stop", "always, and last", _WIRE),
    Repair("the SSE event name", "the frame's type, where absent", "WIRE 2, event names"),
    Repair("a block without data that is not UTF-8", "left out: clients give up the stream", "WHATWG event stream"),
    Repair("the blank line after a frame", "added, where the stream ended without it", "WHATWG event stream"),
    Repair("[DONE]", "left out: no client of this dialect knows it", "WIRE 2, [DONE] missing"),
)


class MessagesRelay:
    """One reply."""

    def __init__(self, facts: ReplyFacts, quirks: Quirks) -> None:
        self._facts = facts
        self._delta: Frame | None = None
        """The one `message_delta`, as it came; None as soon as it had to be merged."""
        self._merged: dict[str, msgspec.Raw] = {}
        self._stop: Frame | None = None
        self._whole: Frame | None = None

    def carry(self, frame: Frame, events: Sequence[Event]) -> bytes:
        """One frame repaired, or its own bytes."""
        if not self._facts.streamed:
            self._whole = frame
            return b""
        if any(isinstance(event, ReplyFailed) for event in events):
            return b""
        if frame.event in _UNTOUCHED and frame.raw.endswith(BLANK_LINES):
            return frame.raw
        if frame.comment:
            return own_block(frame) if is_text(frame.raw) else b""
        if not frame.data.strip():
            return b""  # a client would read an empty line as JSON
        try:
            return self._carry(frame)
        except UNREADABLE:
            return b""  # the decoder says of it that the reply failed, and `fail` tells the client

    def close(self, final: FinalUsage) -> bytes:
        """The held `message_delta` with the settled usage, and `message_stop`; or the whole message."""
        if not self._facts.streamed:
            return self._close_whole(final)
        fields = self._merged or {"type": _raw("message_delta"), "delta": _raw(_NO_REASON)}
        repaired = self._settled(fields, final)
        if self._delta is not None and _unchanged(fields, repaired):
            delta = own_block(self._delta, "message_delta")
        else:
            delta = frame_bytes("message_delta", repaired)
        stop = frame_bytes("message_stop", {"type": "message_stop"})
        if self._stop is not None:
            stop = own_block(self._stop, "message_stop")
        return delta + stop

    def fail(self, failure: Failure) -> bytes:
        """An error frame without a `message_stop`; the error body where the reply is whole."""
        body = write_failure(failure)
        return frame_bytes("error", msgspec.Raw(body)) if self._facts.streamed else body

    def _carry(self, frame: Frame) -> bytes:
        fields = _object(frame)
        kind = _word(fields.get("type")) or frame.event
        if not fields or kind == "error" or (given(fields.get("error", _ABSENT)) and not kind):
            return b""
        if kind == "message_start":
            return self._head(frame, fields)
        if kind == "message_delta":
            self._hold(frame, fields)
            return b""
        if kind == "message_stop":
            self._stop = self._stop or frame
            return b""
        return own_block(frame, kind)

    def _head(self, frame: Frame, fields: dict[str, msgspec.Raw]) -> bytes:
        message = fields_of(fields.get("message", _ABSENT))
        repaired: dict[str, object] = {**message, "model": self._facts.model}
        if not _word(message.get("id")):
            repaired["id"] = self._facts.id
        repaired["usage"] = self._head_usage(message.get("usage"))
        if _unchanged(message, repaired):
            return own_block(frame, "message_start")
        return frame_bytes("message_start", {**fields, "message": repaired})

    def _head_usage(self, raw: msgspec.Raw | None) -> dict[str, object] | msgspec.Raw:
        told = fields_in(raw)
        if not given(told.get("input_tokens", _ABSENT)):
            return {**told, **head_usage(self._facts)}
        repaired = {**told, "output_tokens": 0}
        return raw if raw is not None and _unchanged(told, repaired) else repaired

    def _hold(self, frame: Frame, fields: dict[str, msgspec.Raw]) -> None:
        """Keep the delta; a second one adds what it says and takes nothing away."""
        if not self._merged:
            self._delta, self._merged = frame, fields
            return
        self._delta = None
        for key, value in fields.items():
            before = self._merged.get(key)
            if key in ("delta", "usage") and before is not None and given(before) and given(value):
                self._merged[key] = _joined(before, value)
            elif given(value) or before is None:
                self._merged[key] = value

    def _close_whole(self, final: FinalUsage) -> bytes:
        frame = self._whole
        if frame is None:
            return b""
        try:
            fields = fields_of(frame.data)
        except UNREADABLE:
            return frame.data
        repaired = {**self._settled(fields, final), "model": self._facts.model}
        if not _word(fields.get("id")):
            repaired["id"] = self._facts.id
        return frame.data if _unchanged(fields, repaired) else encode(repaired)

    @staticmethod
    def _settled(fields: Mapping[str, msgspec.Raw], final: FinalUsage) -> dict[str, object]:
        """The fields with the settled usage in its place."""
        raw = fields.get("usage")
        told = fields_in(raw)
        now = usage_fields(final, told)
        return {**fields, "usage": raw if raw is not None and _unchanged(told, now) else now}


_ABSENT: Final = msgspec.Raw()
_NO_REASON: Final = {"stop_reason": None, "stop_sequence": None}
_DONE: Final = b"[DONE]"
_UNTOUCHED: Final = frozenset({"content_block_start", "content_block_delta", "content_block_stop", "ping"})
"""Events that no row of the table names: nearly all of a stream, and not even read."""


def _object(frame: Frame) -> dict[str, msgspec.Raw]:
    return {} if frame.data.strip() == _DONE else fields_of(frame.data)


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(encode(value))


def _word(raw: msgspec.Raw | None) -> str:
    """A field's text; empty when it is absent or no text."""
    try:
        return msgspec.json.decode(raw, type=str) if raw is not None and given(raw) else ""
    except UNREADABLE:
        return ""


def _joined(before: msgspec.Raw, later: msgspec.Raw) -> msgspec.Raw:
    """Two objects; what the later one says replaces, what it leaves null does not."""
    return _raw({**fields_of(before), **{key: value for key, value in fields_of(later).items() if given(value)}})


def _unchanged(before: Mapping[str, msgspec.Raw], now: Mapping[str, object]) -> bool:
    """Whether a repair left every value as it came."""
    if before.keys() != now.keys():
        return False
    return all(value is before[key] or _same(before[key], value) for key, value in now.items())


def _same(before: msgspec.Raw, now: object) -> bool:
    try:
        return not isinstance(now, msgspec.Raw | dict) and bool(msgspec.json.decode(before) == now)
    except UNREADABLE:
        return False
