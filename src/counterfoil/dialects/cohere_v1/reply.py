"""Replies of Cohere's v1 chat to events.

Rule 1: never raises. Frames and members that are not known are skipped.
Rule 2: stream-end repeats the whole reply; of what the stream has said only the rest is taken from it, and the usage.

Streams are read as documented; no recording has one (WIRE.md 5). https://docs.cohere.com/v1/reference/chat-stream,
https://docs.cohere.com/v1/docs/streaming; recorded: cohere.v1/cohere
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from counterfoil.core.event import (
    Event,
    OpaqueGiven,
    ReplyFailed,
    ReplyStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.dialects.cohere.failure import frame_failure
from counterfoil.dialects.cohere.reply import CALLS_LIMIT, ending
from counterfoil.dialects.cohere.usage import read_chat, read_token_count
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.salvage import salvaged
from counterfoil.dialects.schema import NOT_SENT, UNREADABLE, given
from counterfoil.framing.frame import Frame

__all__ = ["ChatDecoder"]


class _Call(msgspec.Struct, frozen=True):
    """v1's calls have no id, and arguments that are an object."""

    name: str = ""
    parameters: msgspec.Raw = NOT_SENT


class _Reply(msgspec.Struct, frozen=True):
    """A whole reply, `response` of stream-end, or an error body (`message`)."""

    text: str | None = None
    generation_id: Any = None
    response_id: Any = None
    finish_reason: Any = None
    citations: list[msgspec.Raw] | None = None
    tool_calls: list[_Call] | None = None
    token_count: msgspec.Raw = NOT_SENT
    meta: msgspec.Raw = NOT_SENT
    message: Any = None


class _Frame(msgspec.Struct, frozen=True):
    """One line of a stream."""

    event_type: str = ""
    generation_id: Any = None
    text: str | None = None
    citations: list[msgspec.Raw] | None = None
    tool_calls: list[_Call] | None = None
    finish_reason: Any = None
    error: Any = None
    response: msgspec.Raw = NOT_SENT
    message: Any = None


_REPLY: Final = msgspec.json.Decoder(_Reply)
_FRAME: Final = msgspec.json.Decoder(_Frame)


class ChatDecoder:
    """One reply. `choices` is always 1 on this wire and is not looked at."""

    def __init__(self, streamed: bool, choices: int, quirks: Quirks) -> None:
        self._streamed = streamed
        self._said: set[str] = set()
        """What the stream has said already: "start", "text", "citations", "calls"."""
        self._ended = False
        self._done = False

    @property
    def ended(self) -> bool:
        """A whole reply, or stream-end, was seen."""
        return self._ended

    @property
    def done(self) -> bool:
        return self._done

    def feed(self, frame: Frame) -> Sequence[Event]:
        """The events of one frame."""
        if self._done or frame.comment or not frame.data.strip():
            return ()
        try:
            return self._frame(frame.data) if self._streamed else self._whole(frame.data)
        except UNREADABLE:
            told = salvaged(frame.data, read_chat, ("meta",), ("response", "meta"))
            return [*told, ReplyFailed(bad_reply("a frame that is not of Cohere's v1 chat"))]

    def close(self) -> Sequence[Event]:
        return ()

    def _whole(self, data: bytes) -> Sequence[Event]:
        said = _REPLY.decode(data)
        if said.text is None and isinstance(said.message, str):
            self._done = True
            return (ReplyFailed(frame_failure(data)),)
        if said.text is None and said.tool_calls is None:
            raise ValueError("no reply")
        return self._rest(said, said.finish_reason, None)

    def _frame(self, data: bytes) -> Sequence[Event]:
        said = _FRAME.decode(data)
        match said.event_type:
            case "stream-start":
                return self._start(said.generation_id)
            case "text-generation":
                return self._text(said.text)
            case "citation-generation":
                return self._citations(said.citations)
            case "tool-calls-generation":
                return self._calls(said.tool_calls)
            case "stream-end":
                reply = _REPLY.decode(said.response) if given(said.response) else _Reply()
                return self._rest(reply, said.finish_reason or reply.finish_reason, said.error)
            case "":
                return self._whole(data)
        return ()

    def _rest(self, reply: _Reply, reason: object, error: object) -> Sequence[Event]:
        """What was not said yet, the usage, and the end."""
        self._done = True
        told: list[Event] = self._start(reply.generation_id or reply.response_id)
        told += () if "text" in self._said else self._text(reply.text)
        told += () if "citations" in self._said else self._citations(reply.citations)
        told += () if "calls" in self._said else self._calls(reply.tool_calls)
        # The bill comes last: it is the later report, and the older count beside it has the tokens it lacks.
        counted = read_token_count(reply.token_count) if given(reply.token_count) else None
        told += [UsageReported(counted)] if counted is not None else []
        word = reason if isinstance(reason, str) else ""
        end = ending(word, error, read_chat(reply.meta) if given(reply.meta) else None)
        self._ended = not any(isinstance(event, ReplyFailed) for event in end)
        return told + end

    def _start(self, reply_id: object) -> list[Event]:
        if "start" in self._said:
            return []
        self._said.add("start")
        return [ReplyStarted(reply_id if isinstance(reply_id, str) else "")]

    def _text(self, text: str | None) -> list[Event]:
        if not text:
            return []
        self._said.add("text")
        return [TextDelta(text)]

    def _citations(self, citations: list[msgspec.Raw] | None) -> list[Event]:
        self._said.add("citations")
        return [OpaqueGiven("citation", msgspec.Raw(bytes(raw))) for raw in citations or ()]

    def _calls(self, calls: list[_Call] | None) -> list[Event]:
        self._said.add("calls")
        events: list[Event] = []
        if len(calls or ()) > CALLS_LIMIT:
            raise ValueError("too many calls")
        for number, call in enumerate(calls or ()):
            arguments = bytes(call.parameters).decode() if given(call.parameters) else "{}"
            events += [ToolCallStarted(number, "", call.name), ToolArgumentsDelta(number, arguments)]
        return events
