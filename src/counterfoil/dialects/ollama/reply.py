"""Ollama's frames to events: of `/api/chat` and `/api/generate`, which differ in where the text is.

Rule 1: a call comes whole, its arguments as an object; the next one is another call, whatever index it says.
Rule 2: the reply ends with the frame that says `done`. Nothing raises; what cannot be read is a `ReplyFailed`.

https://docs.ollama.com/api/chat, https://docs.ollama.com/api/generate, https://docs.ollama.com/api/errors
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from counterfoil.core.event import (
    ChoiceFinished,
    Event,
    FinishReason,
    LogprobsGiven,
    OpaqueGiven,
    ReasoningDelta,
    ReplyFailed,
    ReplyStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.ollama.usage import read_report
from counterfoil.dialects.openai_chat.failure import frame_failure
from counterfoil.dialects.salvage import salvaged
from counterfoil.dialects.schema import NOT_SENT, UNREADABLE, encode, given
from counterfoil.framing.frame import Frame

__all__ = ["CALLS_LIMIT", "OllamaDecoder"]

CALLS_LIMIT: Final = 1_024
"""Calls of one reply. A server that makes more is not sending one."""

_FINISHES: Final[Mapping[str, FinishReason]] = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
"""`load` and `unload` answer a request without any message."""


class _Function(msgspec.Struct, frozen=True):
    name: str | None = None
    arguments: msgspec.Raw = NOT_SENT
    """An object."""


class _Call(msgspec.Struct, frozen=True):
    id: Any = None
    """Newer servers only."""
    function: _Function | None = None


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None
    images: msgspec.Raw = NOT_SENT


class _Frame(msgspec.Struct, frozen=True):
    """A line of a stream, or the body of a whole reply."""

    model: Any = None
    created_at: Any = None
    message: _Message | None = None
    response: str | None = None
    """Of generate."""
    thinking: str | None = None
    """Of generate."""
    logprobs: msgspec.Raw = NOT_SENT
    done: bool | None = None
    done_reason: Any = None
    error: msgspec.Raw = NOT_SENT


_FRAME: Final = msgspec.json.Decoder(_Frame)


class OllamaDecoder:
    """Decodes one reply. It has one choice."""

    def __init__(self, streamed: bool, choices: int, quirks: Quirks) -> None:
        self._streamed = streamed
        self._started = False
        self._calls = 0
        self._ended = False
        self._done = False

    @property
    def ended(self) -> bool:
        """A frame said `done`."""
        return self._ended

    @property
    def done(self) -> bool:
        return self._done

    def feed(self, frame: Frame) -> Sequence[Event]:
        """The events of one line, or of the body. Never raises."""
        if self._done or frame.comment:
            return ()
        events: list[Event] = []
        try:
            self._read(_FRAME.decode(frame.data), frame.data, events)
        except UNREADABLE:
            self._done = True
            events += salvaged(frame.data, read_report, (), told=events)
            events.append(ReplyFailed(bad_reply(f"a frame of {len(frame.data)} bytes that is no Ollama reply")))
        if not self._streamed:
            self._done = True
        return events

    def close(self) -> Sequence[Event]:
        return ()

    def _read(self, said: _Frame, data: bytes, events: list[Event]) -> None:
        if given(said.error):
            self._done = True
            events += salvaged(data, read_report, ())
            events.append(ReplyFailed(frame_failure(data)))
            return
        if said.message is None and said.response is None and not said.done:
            raise msgspec.ValidationError("neither a message nor the end")
        if not self._started:
            self._started = True
            events.append(ReplyStarted(model=_text(said.model), created=_created(said.created_at)))
        self._say(said, events)
        if said.done:
            self._end(said, data, events)

    def _say(self, said: _Frame, events: list[Event]) -> None:
        message = said.message or _Message(said.response, said.thinking)
        if message.thinking:
            events.append(ReasoningDelta(message.thinking))
        if message.content:
            events.append(TextDelta(message.content))
        if given(message.images):
            events.append(OpaqueGiven("ollama.images", message.images))
        for call in message.tool_calls or ():
            self._call(call, events)
        if given(said.logprobs):
            # The entries are those of a chat reply's `logprobs.content`.
            events.append(LogprobsGiven(msgspec.Raw(encode({"content": said.logprobs}))))

    def _call(self, call: _Call, events: list[Event]) -> None:
        if call.function is None:
            return
        if self._calls >= CALLS_LIMIT:
            raise msgspec.ValidationError("too many tool calls")
        arguments = call.function.arguments
        events.append(ToolCallStarted(self._calls, _text(call.id), call.function.name or ""))
        events.append(ToolArgumentsDelta(self._calls, bytes(arguments).decode() if given(arguments) else "{}"))
        self._calls += 1

    def _end(self, said: _Frame, data: bytes, events: list[Event]) -> None:
        self._ended = self._done = True
        word = _text(said.done_reason)
        reason = _FINISHES.get(word or "stop", FinishReason.UNKNOWN)
        if self._calls and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS
        events.append(ChoiceFinished(reason, said=word))
        report = read_report(data)
        if report is not None:
            events.append(UsageReported(report))


def _text(said: object) -> str:
    return said if isinstance(said, str) else ""


def _created(said: object) -> int | None:
    """Unix seconds of an RFC 3339 time."""
    try:
        return int(datetime.fromisoformat(said).timestamp()) if isinstance(said, str) else None
    except (ValueError, OverflowError, OSError):
        return None
