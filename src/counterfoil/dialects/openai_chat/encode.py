"""Events to what a chat client reads, when the provider speaks another dialect.

Rule 1: exactly the shape of WIRE.md 3: a role in the first chunk of a choice, one finish for each, one usage object in
one last chunk without choices, then the end mark.
Rule 2: one id, one time, one model for all frames of a reply.
Rule 3: nothing is sent before there is something to say, so a reply that fails early can still be asked for elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import (
    ChoiceFinished,
    EmbeddingsGiven,
    Event,
    FinishReason,
    LogprobsGiven,
    OpaqueGiven,
    OutputHidden,
    RankingGiven,
    ReasoningDelta,
    ReasoningSigned,
    RedactedReasoningGiven,
    RefusalDelta,
    ReplyFailed,
    ReplyStarted,
    TextDelta,
    TokensCounted,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.dialects.dialect import FinalUsage, ReplyFacts
from counterfoil.dialects.openai_chat.body import ChoiceBody, write_body
from counterfoil.dialects.openai_chat.failure import write_failure
from counterfoil.dialects.openai_chat.usage import write_usage
from counterfoil.dialects.proof import format_of
from counterfoil.framing.sse import on_one_line

__all__ = ["CARRIED", "ChatEncoder"]

_FINISHES: Final[Mapping[FinishReason, bytes]] = MappingProxyType(
    {
        FinishReason.STOP: b'"stop"',
        FinishReason.LENGTH: b'"length"',
        FinishReason.TOOL_CALLS: b'"tool_calls"',
        FinishReason.CONTENT_FILTER: b'"content_filter"',
        FinishReason.REFUSAL: b'"content_filter"',
        FinishReason.PAUSED: b'"stop"',
        FinishReason.UNKNOWN: b'"stop"',
    }
)
"""The five words of the published schema; a chat client has no other."""

CARRIED: Final = frozenset({"annotations", "audio", "images", "extra_content"})
"""Kinds of `OpaqueGiven` that have a place in a chat delta. Others have none and are not written."""

_END: Final = b"data: [DONE]\n\n"
_encode: Final = msgspec.json.encode


class _Choice:
    """One choice as far as it has been written."""

    __slots__ = ("body", "finished", "reasoning", "spoken", "told")

    def __init__(self, streamed: bool) -> None:
        self.spoken = False
        self.finished = False
        self.reasoning: list[str] = []
        """The text of the reasoning block that is open: its proof is written with all of it."""
        self.told = 0
        """Reasoning blocks closed so far."""
        self.body = None if streamed else ChoiceBody()


class ChatEncoder:
    """Encodes one chat reply, streamed or whole."""

    def __init__(self, facts: ReplyFacts) -> None:
        self._facts = facts
        self._id = facts.id
        self._created = facts.created
        self._choices: dict[int, _Choice] = {}
        self._head = b""
        self._tail = b',"usage":null}\n\n' if facts.usage_asked else b"}\n\n"

    def encode(self, events: Sequence[Event]) -> bytes:
        """The frames of these events; empty for a whole reply, and for what a client is not told."""
        frames = [self._event(event) for event in events]
        return b"".join(frames)

    def close(self, final: FinalUsage) -> bytes:
        """The last frames, or the whole body. The usage object holds nothing but what is settled: the provider's own
        object is of another dialect."""
        usage = write_usage(msgspec.structs.replace(final, provider_raw=b""))
        if not self._choices:
            self._choice(0)
        unfinished = [index for index, choice in self._choices.items() if not choice.finished]
        frames = [self._event(ChoiceFinished(FinishReason.STOP, index)) for index in unfinished]
        if not self._facts.streamed:
            bodies = {index: choice.body for index, choice in sorted(self._choices.items()) if choice.body is not None}
            return write_body(self._id, self._created, self._facts.model, bodies, usage)
        if self._facts.usage_asked:
            frames.append(self._opening() + b'],"usage":' + usage + b"}\n\n")
        return b"".join((*frames, _END))

    def fail(self, failure: Failure) -> bytes:
        """An error frame, after which nothing comes; of a whole reply the error body."""
        body = write_failure(failure)
        return b"data: " + body + b"\n\n" if self._facts.streamed else body

    def _event(self, event: Event) -> bytes:
        """The frame of one event. Clients take any number of chunks, so each event is its own."""
        match event:
            case TextDelta():
                return self._delta(event.choice, b'"content":' + _encode(event.text), {"content": event.text})
            case ToolArgumentsDelta():
                return self._arguments(event)
            case ReasoningDelta():
                self._choice(event.choice).reasoning.append(event.text)
                raw = b'"reasoning_content":' + _encode(event.text)
                return self._delta(event.choice, raw, {"reasoning_content": event.text})
            case ToolCallStarted():
                return self._call(event)
            case ChoiceFinished():
                return self._finish(event)
            case ReasoningSigned():
                return self._signed(event)
            case RedactedReasoningGiven():
                detail = {"type": "reasoning.encrypted", "data": event.data, "format": format_of(event.origin)}
                return self._detail(event.choice, detail)
            case RefusalDelta():
                return self._delta(event.choice, b'"refusal":' + _encode(event.text), {"refusal": event.text})
            case LogprobsGiven():
                return self._logprobs(event)
            case OpaqueGiven():
                return self._opaque(event)
            case ReplyStarted():
                self._begin(event)
                return b""
            case UsageReported() | OutputHidden() | ReplyFailed():
                return b""  # the books are settled by the exchange, and a failure is told by `fail`
            case EmbeddingsGiven() | RankingGiven() | TokensCounted():
                return b""  # of other operations

    def _begin(self, event: ReplyStarted) -> None:
        if not self._head:
            self._id = event.id or self._id
            self._created = self._created if event.created is None else event.created

    def _opening(self) -> bytes:
        """A frame up to its choices."""
        if not self._head:
            self._head = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[' % (
                _encode(self._id),
                self._created,
                _encode(self._facts.model),
            )
        return self._head

    def _choice(self, index: int) -> _Choice:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice(self._facts.streamed)
        return choice

    def _delta(self, index: int, delta: bytes, said: Mapping[str, Any], finish: bytes = b"null") -> bytes:
        """One chunk of one choice. `said` is the same for a whole reply's body."""
        choice = self._choice(index)
        if choice.body is not None:
            choice.body.add(said)
            return b""
        if not choice.spoken:
            choice.spoken = True
            content = b"" if delta.startswith(b'"content"') else b',"content":' + (b"null" if delta else b'""')
            delta = b'"role":"assistant"' + content + (b"," + delta if delta else b"")
        return b'%b{"index":%d,"delta":{%b},"finish_reason":%b}]%b' % (
            self._opening(),
            index,
            delta,
            finish,
            self._tail,
        )

    def _call(self, event: ToolCallStarted) -> bytes:
        """The first delta of a call: the only one with its id, type and name."""
        call = {
            "index": event.call,
            "id": event.id or f"call_{self._facts.id}_{event.choice}_{event.call}",
            "type": "function",
            "function": {"name": event.name, "arguments": ""},
        }
        return self._delta(event.choice, b'"tool_calls":' + _encode([call]), {"call": call})

    def _arguments(self, event: ToolArgumentsDelta) -> bytes:
        raw = b'"tool_calls":[{"index":%d,"function":{"arguments":%b}}]' % (event.call, _encode(event.arguments))
        return self._delta(event.choice, raw, {"arguments": (event.call, event.arguments)})

    def _signed(self, event: ReasoningSigned) -> bytes:
        """The block's proof beside all of its text: what a client must send back to go on."""
        choice = self._choice(event.choice)
        text = "".join(choice.reasoning)
        choice.reasoning.clear()
        detail = {"type": "reasoning.text", "text": text, "signature": event.signature}
        detail["format"] = format_of(event.origin)
        return self._detail(event.choice, detail)

    def _detail(self, index: int, detail: dict[str, Any]) -> bytes:
        choice = self._choice(index)
        detail["index"] = choice.told
        choice.told += 1
        return self._delta(index, b'"reasoning_details":' + _encode([detail]), {"detail": detail})

    def _logprobs(self, event: LogprobsGiven) -> bytes:
        choice = self._choice(event.choice)
        if choice.body is not None:
            choice.body.add({"logprobs": event.raw})
            return b""
        role = b""
        if not choice.spoken:
            choice.spoken = True
            role = b'"role":"assistant","content":""'
        return b'%b{"index":%d,"delta":{%b},"logprobs":%b,"finish_reason":null}]%b' % (
            self._opening(),
            event.choice,
            role,
            on_one_line(bytes(event.raw)),
            self._tail,
        )

    def _opaque(self, event: OpaqueGiven) -> bytes:
        if event.kind not in CARRIED:
            return b""
        raw = b'"%b":%b' % (event.kind.encode(), on_one_line(bytes(event.raw)))
        return self._delta(event.choice, raw, {"opaque": (event.kind, event.raw)})

    def _finish(self, event: ChoiceFinished) -> bytes:
        choice = self._choice(event.choice)
        if choice.finished:
            return b""
        choice.finished = True
        word = _FINISHES[event.reason]
        return self._delta(event.choice, b"", {"finish": word.decode().strip('"')}, word)
