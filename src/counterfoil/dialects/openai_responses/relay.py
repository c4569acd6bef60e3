"""Frames for a client of this dialect from a provider of it: repairs by table only.

Rule 1: `REPAIRS` is all that is ever changed. A value it does not name is carried word for word and in order, and a
frame that needs nothing keeps its bytes.
Rule 2: the terminal event waits for `close`, because the usage is settled there; an error event waits for `fail`.
Rule 3: what a row needs is kept within a limit; beyond it the row is not applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import Event, ReplyFailed
from counterfoil.dialects.blocks import BLANK_LINES, Repair, own_block
from counterfoil.dialects.dialect import FinalUsage, Quirks, ReplyFacts
from counterfoil.dialects.openai_responses.encode import frame_bytes
from counterfoil.dialects.openai_responses.failure import error_event, response_error, write_failure
from counterfoil.dialects.openai_responses.usage import write_usage
from counterfoil.dialects.schema import NOT_SENT, UNREADABLE, encode, fields_in, fields_of, given
from counterfoil.framing.frame import Frame
from counterfoil.framing.sse import is_text

__all__ = ["HELD_LIMIT", "REPAIRS", "ResponsesRelay"]


_WIRE: Final = "WIRE 3, Responses"

REPAIRS: Final = (
    Repair("response.model", "the name the client asked for, in every event", "DESIGN 4.4.2"),
    Repair(
        "response.id, response.created_at", "the first event's; ours, where the provider gives none", "DESIGN 4.4.2"
    ),
    Repair("response.usage of the terminal event", "the settled counts, other keys kept", _WIRE),
    Repair("response.usage of an earlier event", "null", _WIRE),
    Repair("response.output of the terminal event", "the items that ended, where it is empty or absent", _WIRE),
    Repair("sequence_number", "one more than the event's before; the first keeps its own", "WIRE 3 and 4 (llama.cpp)"),
    Repair("the terminal event", "once, and last", _WIRE),
    Repair("error, response.error", "written from what was read of them, so that no secret passes", "DESIGN 4.4.4"),
    Repair("the SSE event name", "the event's type, where absent", "WIRE 2, event names"),
    Repair("a block without data that is not UTF-8", "left out: clients give up the stream", "WHATWG event stream"),
    Repair("the blank line after a frame", "added, where the stream ended without it", "WHATWG event stream"),
    Repair("[DONE]", "left out: only OpenRouter sends it", "WIRE 2, [DONE] missing"),
)

HELD_LIMIT: Final = 8 * 2**20
"""Bytes of ended items that are kept for a terminal event without any."""

_TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_ITEM_DONE: Final = "response.output_item.done"
_DONE: Final = b"[DONE]"
_NULL: Final = msgspec.Raw(b"null")
_SAME_EVERYWHERE: Final = ("id", "created_at")


class _Head(msgspec.Struct, frozen=True):
    """What a frame must be asked before it is carried."""

    type: Any = None
    sequence_number: Any = None
    response: msgspec.Raw = NOT_SENT
    item: msgspec.Raw = NOT_SENT
    error: msgspec.Raw = NOT_SENT


_HEAD: Final = msgspec.json.Decoder(_Head)


class ResponsesRelay:
    """One reply."""

    def __init__(self, facts: ReplyFacts, quirks: Quirks) -> None:
        self._facts = facts
        self._number: int | None = None
        """Of the last event that was written."""
        self._same: dict[str, msgspec.Raw] = {}
        self._items: list[msgspec.Raw] = []
        self._held = 0
        self._last: Frame | None = None
        """The terminal event, or the whole response."""
        self._failed: msgspec.Raw = NOT_SENT
        """The response of `response.failed`."""

    def carry(self, frame: Frame, events: Sequence[Event]) -> bytes:
        """One frame repaired, or its own bytes."""
        if not self._facts.streamed:
            self._last = self._last or frame
            return b""
        if frame.comment:
            return own_block(frame) if is_text(frame.raw) else b""
        if frame.data.strip() in (b"", _DONE):
            return b""
        try:
            if any(isinstance(event, ReplyFailed) for event in events):
                self._failed = _HEAD.decode(frame.data).response
                return b""
            return self._carry(frame)
        except UNREADABLE:
            return b""  # the decoder says of it that the reply failed, and `fail` tells the client

    def close(self, final: FinalUsage) -> bytes:
        """The terminal event with the settled usage; or the whole response."""
        if self._last is None:  # a quirk says that the provider never sends one
            return self._end("completed", final)
        try:
            fields = fields_of(self._last.data)
        except UNREADABLE:  # some name in it is no text: no client could read the event
            if self._facts.streamed:
                return self._end(_kind(_HEAD.decode(self._last.data), self._last).removeprefix("response."), final)
            return self._last.data
        if not self._facts.streamed:
            told = self._settled(fields, final)
            return self._last.data if _unchanged(fields, told) else encode(told)
        response = fields_in(fields.get("response"))
        told = self._settled(response, final)
        repaired = fields if _unchanged(response, told) else {**fields, "response": told}
        return self._numbered(self._last, fields, repaired, _HEAD.decode(self._last.data))

    def _end(self, status: str, final: FinalUsage) -> bytes:
        """The end of a reply that has none a client can read."""
        told = {**self._response(status), "usage": msgspec.Raw(write_usage(final))}
        return self._ours(f"response.{status}", {"response": told}) if self._facts.streamed else encode(told)

    def fail(self, failure: Failure) -> bytes:
        """An `error` event and the response that failed; the error body where the reply is whole."""
        if not self._facts.streamed:
            return write_failure(failure)
        theirs = fields_in(self._failed)
        response = self._named(theirs) if theirs else self._response("failed")
        response["error"] = response_error(failure)
        return self._ours("error", error_event(failure)) + self._ours("response.failed", {"response": response})

    def _response(self, status: str) -> dict[str, object]:
        """A response that no provider sent, with what is known."""
        told: dict[str, object] = {
            "object": "response",
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "output": self._items,
            "parallel_tool_calls": True,
            "temperature": None,
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "usage": None,
        }
        return {**self._named({}), **told}

    def _carry(self, frame: Frame) -> bytes:
        head = _HEAD.decode(frame.data)
        kind = _kind(head, frame)
        if kind == "error" or (not kind and given(head.error)):
            return b""
        if kind in _TERMINAL:
            self._last = self._last or frame
            return b""
        if kind == _ITEM_DONE and self._held + len(frame.data) <= HELD_LIMIT:
            self._held += len(frame.data)
            self._items.append(msgspec.Raw(bytes(head.item)))
        if not given(head.response):
            if self._in_order(head) and frame.event and frame.raw.endswith(BLANK_LINES):
                self._number = head.sequence_number
                return frame.raw
            return self._numbered(frame, fields_of(frame.data), None, head)
        fields = fields_of(frame.data)
        response = fields_in(head.response)
        told = self._named(response)
        if given(response.get("usage", NOT_SENT)):
            told["usage"] = _NULL
        repaired = fields if _unchanged(response, told) else {**fields, "response": told}
        return self._numbered(frame, fields, repaired, head)

    def _named(self, response: Mapping[str, msgspec.Raw]) -> dict[str, object]:
        """The response under the name the client asked for, and under one id."""
        if not self._same:
            ours = {"id": self._facts.id, "created_at": self._facts.created}
            for name in _SAME_EVERYWHERE:
                said = response.get(name, NOT_SENT)
                usable = given(said) and bytes(said) != b'""'
                self._same[name] = msgspec.Raw(bytes(said) if usable else encode(ours[name]))
        return {**response, **self._same, "model": self._facts.model}

    def _settled(self, response: Mapping[str, msgspec.Raw], final: FinalUsage) -> dict[str, object]:
        """The response with its usage settled, and every item in its output."""
        told = self._named(response)
        said = response.get("usage", NOT_SENT)
        now = msgspec.Raw(write_usage(msgspec.structs.replace(final, provider_raw=bytes(said) if given(said) else b"")))
        if "usage" in response or bytes(now) != bytes(_NULL):
            told["usage"] = said if _alike(said, now) else now
        if self._items and bytes(response.get("output", _NULL)) in (b"null", b"[]"):
            told["output"] = self._items
        return told

    def _in_order(self, head: _Head) -> bool:
        if type(head.sequence_number) is not int:
            return False
        return self._number is None or head.sequence_number == self._number + 1

    def _numbered(
        self, frame: Frame, fields: Mapping[str, msgspec.Raw], repaired: Mapping[str, object] | None, head: _Head
    ) -> bytes:
        """A frame with the number that is due. `repaired`: its fields now; None or `fields` itself: as they were."""
        kind = _kind(head, frame)
        if self._in_order(head):
            self._number = head.sequence_number
            if repaired is None or repaired is fields:
                return own_block(frame, kind)
            return frame_bytes(kind, repaired)
        self._number = 0 if self._number is None else self._number + 1
        return frame_bytes(kind, {**(fields if repaired is None else repaired), "sequence_number": self._number})

    def _ours(self, kind: str, fields: Mapping[str, object]) -> bytes:
        self._number = 0 if self._number is None else self._number + 1
        return frame_bytes(kind, {"type": kind, "sequence_number": self._number, **fields})


def _kind(head: _Head, frame: Frame) -> str:
    """The event's type. What would break the line of its name is none."""
    return head.type if isinstance(head.type, str) and head.type.isprintable() and head.type else frame.event


def _unchanged(before: Mapping[str, msgspec.Raw], now: Mapping[str, object]) -> bool:
    """Whether a repair left every value as it came."""
    if before.keys() != now.keys():
        return False
    return all(value is before[key] or _same(before[key], value) for key, value in now.items())


def _same(before: msgspec.Raw, now: object) -> bool:
    try:
        if isinstance(now, msgspec.Raw):
            return bytes(before) == bytes(now)
        return not isinstance(now, dict | list) and bool(msgspec.json.decode(before) == now)
    except UNREADABLE:
        return False


def _alike(before: msgspec.Raw, now: msgspec.Raw) -> bool:
    """Whether two values are the same, whatever their white space."""
    try:
        return given(before) and bool(msgspec.json.decode(before) == msgspec.json.decode(now))
    except UNREADABLE:
        return False
