"""Frames of Cohere's v2 chat to events.

Rule 1: never raises. What cannot be read is a `ReplyFailed`; frames and members that are not known are skipped.
Rule 2: a whole reply and its stream give the same events, up to how text is cut.
Rule 3: message-end is the end and brings the usage. `[DONE]` after it is optional (absent in
cohere.v2/cohere/ai-cohere-text), and a reply that ended with ERROR or TIMEOUT has failed, its usage kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from counterfoil.core.error import FailureKind
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
from counterfoil.dialects.cohere.failure import frame_failure
from counterfoil.dialects.cohere.schema import CallSaid, ContentSaid, FrameSaid, MessageSaid, ReplySaid
from counterfoil.dialects.cohere.usage import read_chat
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.salvage import salvaged
from counterfoil.dialects.schema import UNREADABLE, encode, given
from counterfoil.framing.frame import Frame
from counterfoil.usage.reading import Report

__all__ = ["CALLS_LIMIT", "FINISHES", "ChatDecoder", "ending"]

FINISHES: Final = {
    "COMPLETE": FinishReason.STOP,
    "STOP_SEQUENCE": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "ERROR_LIMIT": FinishReason.LENGTH,
    "TOOL_CALL": FinishReason.TOOL_CALLS,
    "ERROR_TOXIC": FinishReason.CONTENT_FILTER,
}
"""https://docs.cohere.com/reference/chat (`finish_reason`); the ERROR_ ones with a reason are v1's."""
_FAILURES: Final = {"ERROR": FailureKind.PROVIDER_ERROR, "TIMEOUT": FailureKind.TIMED_OUT}
_NO_ARGUMENTS: Final = "{}"
CALLS_LIMIT: Final = 1_024
"""Calls of one reply. A provider that begins more is not sending one."""

_FRAME: Final = msgspec.json.Decoder(FrameSaid)
_REPLY: Final = msgspec.json.Decoder(ReplySaid)
_MESSAGE: Final = msgspec.json.Decoder(MessageSaid)
_CONTENT: Final = msgspec.json.Decoder(ContentSaid)
_CONTENTS: Final = msgspec.json.Decoder(str | list[msgspec.Raw])
_CALL: Final = msgspec.json.Decoder(CallSaid)
_CALLS: Final = msgspec.json.Decoder(list[CallSaid])
_RAWS: Final = msgspec.json.Decoder(list[msgspec.Raw])


def ending(word: str, said: object, report: Report | None) -> list[Event]:
    """The end of a reply: its finish or its failure, with the usage that came along. `said`: the provider's reason."""
    told: list[Event] = [] if report is None else [UsageReported(report)]
    kind = _FAILURES.get(word)
    if kind is None:
        return [ChoiceFinished(FINISHES.get(word, FinishReason.UNKNOWN), said=word), *told]
    message = said if isinstance(said, str) and said else f"The provider ended its reply with {word}."
    failure = frame_failure(encode({"message": message}))
    return [*told, ReplyFailed(msgspec.structs.replace(failure, kind=kind, code=word))]


class ChatDecoder:
    """One reply. `choices` is always 1 on this wire and is not looked at."""

    def __init__(self, streamed: bool, choices: int, quirks: Quirks) -> None:
        self._streamed = streamed
        self._started = False
        self._ended = False
        self._done = False
        self._count = 0
        self._calls: dict[int, tuple[int, bool]] = {}
        """Open calls by the wire's index: our number, and whether arguments were said."""

    @property
    def ended(self) -> bool:
        """A finish reason was seen."""
        return self._ended

    @property
    def done(self) -> bool:
        """message-end was seen, or the whole reply."""
        return self._done

    def feed(self, frame: Frame) -> Sequence[Event]:
        """The events of one frame."""
        data = frame.data
        if self._done or frame.comment or (self._streamed and data.strip() in (b"", b"[DONE]")):
            return ()
        try:
            return self._frame(frame) if self._streamed else self._body(data)
        except UNREADABLE:
            told = salvaged(data, read_chat, ("usage",), ("delta", "usage"))
            return [*told, ReplyFailed(bad_reply("a frame that is not of Cohere's chat"))]

    def close(self) -> Sequence[Event]:
        return ()

    # ---- a stream

    def _frame(self, frame: Frame) -> Sequence[Event]:
        said = _FRAME.decode(frame.data)
        kind = said.type or frame.event
        reader = self._READERS.get(kind)
        if reader is not None:
            return reader(self, said)
        if kind == "error" or bytes(said.message)[:1] == b'"':
            return (ReplyFailed(frame_failure(frame.data)),)
        if not kind:
            return self._body(frame.data)  # a whole reply where a stream was asked for
        return ()

    def _start(self, said: FrameSaid | ReplySaid) -> list[Event]:
        if self._started:
            return []
        self._started = True
        return [ReplyStarted(said.id if isinstance(said.id, str) else "")]

    def _content(self, said: FrameSaid) -> Sequence[Event]:
        message = _message(said)
        events: list[Event] = []
        if given(message.content) and bytes(message.content)[:1] == b"{":
            events += _block(message.content)
        if given(said.logprobs):
            events += _logprobs(said.logprobs)
        return events

    def _plan(self, said: FrameSaid) -> Sequence[Event]:
        plan = _message(said).tool_plan
        return (ReasoningDelta(plan),) if plan else ()

    def _call_start(self, said: FrameSaid) -> Sequence[Event]:
        raw = _message(said).tool_calls
        call = _CALL.decode(raw) if given(raw) else CallSaid()
        events = list(self._call_end(said))  # an index that is used again is a new call
        return events + self._call(_index(said), call)

    def _call(self, index: int, call: CallSaid) -> list[Event]:
        if self._count >= CALLS_LIMIT:
            raise ValueError("too many calls")
        number = self._count
        self._count += 1
        name = call.function.name if call.function is not None else None
        arguments = call.function.arguments if call.function is not None else None
        self._calls[index] = (number, bool(arguments))
        started: list[Event] = [ToolCallStarted(number, call.id or "", name or "")]
        return [*started, ToolArgumentsDelta(number, arguments)] if arguments else started

    def _call_delta(self, said: FrameSaid) -> Sequence[Event]:
        raw = _message(said).tool_calls
        found = self._calls.get(_index(said))
        if found is None or not given(raw):
            return ()
        call = _CALL.decode(raw)
        arguments = call.function.arguments if call.function is not None else None
        if not arguments:
            return ()
        self._calls[_index(said)] = (found[0], True)
        return (ToolArgumentsDelta(found[0], arguments),)

    def _call_end(self, said: FrameSaid) -> Sequence[Event]:
        number, argued = self._calls.pop(_index(said), (0, True))
        return () if argued else (ToolArgumentsDelta(number, _NO_ARGUMENTS),)

    def _citation(self, said: FrameSaid) -> Sequence[Event]:
        raw = _message(said).citations
        return (OpaqueGiven("citation", msgspec.Raw(bytes(raw))),) if given(raw) else ()

    def _end(self, said: FrameSaid) -> Sequence[Event]:
        delta = said.delta
        if delta is None:
            raise ValueError("an end without a delta")
        report = read_chat(delta.usage) if given(delta.usage) else None
        return [*self._open_calls(), *self._finish(delta.finish_reason, delta.error, report)]

    def _open_calls(self) -> list[Event]:
        unsaid = [number for number, argued in self._calls.values() if not argued]
        self._calls.clear()
        return [ToolArgumentsDelta(number, _NO_ARGUMENTS) for number in sorted(unsaid)]

    def _finish(self, reason: object, error: object, report: Report | None) -> list[Event]:
        self._done = True
        word = reason if isinstance(reason, str) else "ERROR" if error else ""
        self._ended = word not in _FAILURES
        return ending(word, error, report)

    _READERS: Final[dict[str, Callable[[ChatDecoder, FrameSaid], Sequence[Event]]]] = {
        "message-start": _start,
        "content-start": _content,
        "content-delta": _content,
        "tool-plan-delta": _plan,
        "tool-call-start": _call_start,
        "tool-call-delta": _call_delta,
        "tool-call-end": _call_end,
        "citation-start": _citation,
        "message-end": _end,
    }

    # ---- a whole reply

    def _body(self, data: bytes) -> list[Event]:
        said = _REPLY.decode(data)
        if bytes(said.message)[:1] == b'"':
            self._done = True
            return [ReplyFailed(frame_failure(data))]
        message = _MESSAGE.decode(said.message)
        events = self._start(said)
        if message.tool_plan:
            events.append(ReasoningDelta(message.tool_plan))
        if given(message.content):
            contents = _CONTENTS.decode(message.content)
            blocks = (
                [TextDelta(contents)] if isinstance(contents, str) else [one for c in contents for one in _block(c)]
            )
            events += blocks
        for raw in _RAWS.decode(message.citations) if given(message.citations) else ():
            events.append(OpaqueGiven("citation", msgspec.Raw(bytes(raw))))
        for place, call in enumerate(_CALLS.decode(message.tool_calls) if given(message.tool_calls) else ()):
            events += self._call(place, call)
        events += self._open_calls()
        for raw in _RAWS.decode(said.logprobs) if given(said.logprobs) else ():
            events += _logprobs(raw)
        report = read_chat(said.usage) if given(said.usage) else None
        return [*events, *self._finish(said.finish_reason, None, report)]


def _message(said: FrameSaid) -> MessageSaid:
    message = said.delta.message if said.delta is not None else None
    return MessageSaid() if message is None else message


def _index(said: FrameSaid) -> int:
    return said.index if type(said.index) is int else 0


def _block(raw: msgspec.Raw) -> list[Event]:
    """A block, its start, or what a delta adds to one (which names no type)."""
    said = _CONTENT.decode(raw)
    if said.type not in _CANONICAL:
        return [OpaqueGiven(said.type, msgspec.Raw(bytes(raw)))]
    events: list[Event] = [ReasoningDelta(said.thinking)] if said.thinking else []
    return [*events, TextDelta(said.text)] if said.text else events


def _logprobs(raw: msgspec.Raw) -> list[Event]:
    """One item in the shape of chat's, which clients know. A piece of several tokens is as likely as all of them."""
    item = _LOGPROBS.decode(raw)
    if item.text is None or item.logprobs is None:
        return []
    piece = {
        "token": item.text,
        "logprob": sum(item.logprobs),
        "bytes": list(item.text.encode("utf-8", "surrogatepass")),
        "top_logprobs": [],
    }
    return [LogprobsGiven(msgspec.Raw(encode({"content": [piece], "refusal": None})))]


class _LogprobItem(msgspec.Struct, frozen=True):
    """https://docs.cohere.com/reference/chat (`logprobs`); not in any recording."""

    text: str | None = None
    logprobs: list[float] | None = None


_LOGPROBS: Final = msgspec.json.Decoder(_LogprobItem)
_CANONICAL: Final = frozenset({"", "text", "thinking"})
