"""Chat frames to events, for one reply.

Rule 1: a frame is read once, in the order content, finish, usage, error, so that nothing a provider said beside its
error is lost.
Rule 2: what comes twice is said once (a repeated finish); what never comes is supplied only where a quirk says so, or
where a whole body shows that there is no more.
Rule 3: nothing raises. What cannot be read is a `ReplyFailed`, and quotes nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from counterfoil.core.error import Failure, FailureKind
from counterfoil.core.event import (
    ChoiceFinished,
    Event,
    FinishReason,
    LogprobsGiven,
    OpaqueGiven,
    ReplyFailed,
    ReplyStarted,
    UsageReported,
)
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.openai_chat.calls import LimitExceeded
from counterfoil.dialects.openai_chat.content import ChoiceState, read_content
from counterfoil.dialects.openai_chat.failure import error_in, frame_failure
from counterfoil.dialects.openai_chat.schema import Chunk, ReplyChoice, XGroq, decode_chunk, decode_x_groq
from counterfoil.dialects.openai_chat.usage import read_report, read_timings
from counterfoil.dialects.salvage import salvaged
from counterfoil.dialects.schema import NOT_SENT, UNREADABLE, given
from counterfoil.framing.frame import Frame
from counterfoil.usage.reading import Report

__all__ = ["CHOICES_LIMIT", "FINISHES", "ChatDecoder"]

CHOICES_LIMIT: Final = 128
"""Choices of one reply: the largest `n` of https://platform.openai.com/docs/api-reference/chat/create."""

FINISHES: Final = MappingProxyType(
    {
        "stop": FinishReason.STOP,
        "eos": FinishReason.STOP,  # openai.chat/together
        "eos_token": FinishReason.STOP,  # text-generation-inference
        "end_turn": FinishReason.STOP,
        "stop_sequence": FinishReason.STOP,
        "length": FinishReason.LENGTH,
        "max_tokens": FinishReason.LENGTH,
        "model_length": FinishReason.LENGTH,  # https://docs.mistral.ai/api/endpoint/chat
        "tool_calls": FinishReason.TOOL_CALLS,
        "tool_use": FinishReason.TOOL_CALLS,
        "function_call": FinishReason.TOOL_CALLS,
        "content_filter": FinishReason.CONTENT_FILTER,
        "sensitive": FinishReason.CONTENT_FILTER,  # https://docs.z.ai/api-reference/llm/chat-completion
        "refusal": FinishReason.REFUSAL,
    }
)
"""A provider's finish word; any other is UNKNOWN."""

_END_MARK: Final = b"[DONE]"
_WHOLE: Final = "chat.completion"
_EMPTY_LIST: Final = b"[]"
_NO_ERROR: Final = (b"null", b"{}", b'""', b"false")
_NO_EVENTS: Final[tuple[Event, ...]] = ()


class ChatDecoder:
    """Decodes one chat reply. `choices` is the `n` of the request; a whole reply (`streamed` false) is one frame."""

    def __init__(self, streamed: bool, choices: int, quirks: Quirks) -> None:
        self._streamed = streamed
        self._requested = choices
        self._quirks = quirks
        self._choices: dict[int, ChoiceState] = {}
        self._finished = 0
        self._last_finished: int | None = None
        self._started = False
        self._done = False
        self._closed = False
        self._failed = False
        self._reported = False
        self._counted_apart = quirks.usage_per_choice
        self._timings: dict[int | None, bytes] = {}
        self._citations = b""

    @property
    def ended(self) -> bool:
        """Every expected choice has finished.

        A choice that was asked for and never spoke is not waited for once the provider says that it is done, or has
        no more bytes: some servers ignore `n`.
        """
        if not self._finished or self._finished < len(self._choices):
            return False
        return self._finished >= self._requested or self._done or self._closed

    @property
    def done(self) -> bool:
        """The end mark of a stream came, or the one frame of a whole reply."""
        return self._done

    def feed(self, frame: Frame) -> Sequence[Event]:
        """The events of one frame. Never raises."""
        data = frame.data
        if not data or frame.comment:
            return _NO_EVENTS
        if data == _END_MARK:
            return self._mark()
        events: list[Event] = []
        try:
            chunk = decode_chunk(data)
            self._read(chunk, frame, events)
        except (*UNREADABLE, LimitExceeded):
            if data.strip() == _END_MARK:
                return self._mark()
            events += salvaged(data, read_report, ("usage",), told=events)
            self._fail(self._unreadable(frame), events, instead=not self._streamed)
        if not self._streamed:
            self._done = True
        return events

    def close(self) -> Sequence[Event]:
        """The report of llama.cpp's timings, if no usage object came."""
        self._closed = True
        events: list[Event] = []
        self._release_timings(events)
        return events

    def _mark(self) -> Sequence[Event]:
        """The end mark."""
        events: list[Event] = []
        self._done = True
        if self._quirks.end == "done" and not self._failed:
            self._finish_all(events)
        self._release_timings(events)
        return events

    def _read(self, chunk: Chunk, frame: Frame, events: list[Event]) -> None:
        groq = _groq(chunk)
        try:
            self._read_said(chunk, groq, events)
        finally:
            if not self._started and (events or (type(chunk.id) is str and chunk.id)):
                self._started = True
                events.insert(0, _started(chunk))
        failure = self._failure(chunk, groq, frame)
        if failure is not None:
            self._fail(failure, events, instead=not self._streamed or given(chunk.base_resp))

    def _read_said(self, chunk: Chunk, groq: XGroq | None, events: list[Event]) -> None:
        choices = chunk.choices
        if choices:
            for choice in choices:
                self._read_choice(choice, chunk.object, events)
            if not self._streamed:
                self._finish_all(events)
        if chunk.citations is not NOT_SENT:
            self._cite(bytes(chunk.citations), events)
        if groq is not None:
            self._report(groq.usage, chunk, events)
        if given(chunk.usage):
            self._report(chunk.usage, chunk, events)
        else:
            for choice in choices or ():
                self._report(choice.usage, chunk, events)
        if chunk.timings is not NOT_SENT and given(chunk.timings):
            self._timings[self._scope(chunk)] = bytes(chunk.timings)

    def _failure(self, chunk: Chunk, groq: XGroq | None, frame: Frame) -> Failure | None:
        """The failure a frame tells, if it tells one."""
        if chunk.error is not NOT_SENT and bytes(chunk.error) not in _NO_ERROR:
            return frame_failure(frame.data)
        if frame.event == "error":
            return frame_failure(frame.data)
        if not chunk.choices:
            if chunk.object == "error":  # older vLLM; mistral: {"object":"error","message":...}
                return frame_failure(frame.data)
            stated = error_in(frame.data) if not self._streamed or given(chunk.base_resp) else None
            if stated is not None:
                return stated
            if not self._streamed:
                return bad_reply("a body without choices")
        if groq is not None and given(groq.error):
            return frame_failure(b'{"error":' + bytes(groq.error) + b"}")
        return None

    def _read_choice(self, said: ReplyChoice, kind: object, events: list[Event]) -> None:
        choice = self._choice(said.index)
        spoken = said.delta if self._streamed else said.message
        if spoken is None:
            spoken = said.message if self._streamed else said.delta
            if choice.spoke and kind == _WHOLE:  # MiniMax ends with all that its deltas said (GCWing/OpenBitFun#792)
                spoken = None
        if spoken is not None:
            read_content(spoken, choice, events)
        if said.logprobs is not NOT_SENT and given(said.logprobs):
            events.append(LogprobsGiven(said.logprobs, choice.index))
        reason = said.finish_reason
        if reason is None and type(said.stop_reason) is str and said.stop_reason in FINISHES:
            reason = said.stop_reason  # Mistral's models on Bedrock: see ReplyChoice
        if reason and type(reason) is str and not choice.finished:
            matched = said.stop_reason if type(said.stop_reason) is str else None
            self._finish(choice, FINISHES.get(reason, FinishReason.UNKNOWN), reason, matched, events)

    def _choice(self, index: object) -> ChoiceState:
        number = index if type(index) is int else 0
        choice = self._choices.get(number)
        if choice is None:
            if not 0 <= number < CHOICES_LIMIT:
                raise LimitExceeded
            choice = self._choices[number] = ChoiceState(number)
        return choice

    def _finish(
        self, choice: ChoiceState, reason: FinishReason, said: str, matched: str | None, events: list[Event]
    ) -> None:
        choice.calls.close(events)
        choice.finished = True
        self._finished += 1
        self._last_finished = choice.index
        events.append(ChoiceFinished(reason, choice.index, said, matched))

    def _finish_all(self, events: list[Event]) -> None:
        """Supply the finish of every choice that has none: a quirk or a whole body says that no more will come."""
        if not self._choices:
            self._choice(0)
        for choice in self._choices.values():
            if not choice.finished:
                reason = FinishReason.TOOL_CALLS if len(choice.calls) else FinishReason.STOP
                self._finish(choice, reason, "", None, events)

    def _report(self, raw: msgspec.Raw, chunk: Chunk, events: list[Event]) -> None:
        if not given(raw):
            return
        report = read_report(bytes(raw), self._scope(chunk), tier=chunk.service_tier)
        if report is None:
            return
        self._reported = True
        if self._quirks.end == "usage" and self._streamed and not chunk.choices and not self._failed:
            self._finish_all(events)
        events.append(UsageReported(report))

    def _scope(self, chunk: Chunk) -> int | None:
        """The choice a report is of, where each has its own: the one that finished last before it (WIRE.md 4).

        A row says so, or the bytes do: a usage frame between the finishes of two choices can only be the first one's.
        """
        expected = max(self._requested, len(self._choices))
        between = self._streamed and not chunk.choices and 0 < self._finished < expected
        self._counted_apart = self._counted_apart or between
        if not self._counted_apart or expected < 2:
            return None
        if not self._streamed:
            return 0
        if self._last_finished is not None:
            return self._last_finished
        spoken = chunk.choices[-1].index if chunk.choices else 0
        return spoken if type(spoken) is int else 0

    def _release_timings(self, events: list[Event]) -> None:
        if not self._reported:
            reports: list[Report | None] = [read_timings(raw, scope) for scope, raw in self._timings.items()]
            events.extend(UsageReported(report) for report in reports if report is not None)
        self._timings.clear()

    def _cite(self, raw: bytes, events: list[Event]) -> None:
        """Perplexity says its citations again in every chunk; each new list is said once."""
        if raw not in (b"null", _EMPTY_LIST, self._citations):
            self._citations = raw
            events.append(OpaqueGiven("citations", msgspec.Raw(raw)))

    def _fail(self, failure: Failure, events: list[Event], *, instead: bool) -> None:
        """`instead`: of a reply, if none had begun. What cannot be read may have been one."""
        if not self._failed:
            self._failed = True
            readable = failure.kind is not FailureKind.BAD_REPLY
            events.append(ReplyFailed(failure, instead=instead and readable and not self._choices))

    def _unreadable(self, frame: Frame) -> Failure:
        if frame.event == "error":
            return frame_failure(frame.data)
        stated = error_in(frame.data) if frame.data.lstrip().startswith(b"[") else None
        if stated is not None:
            return stated
        if self._streamed:
            return bad_reply(f"a frame of {len(frame.data)} bytes that is not a chat completion chunk")
        return bad_reply(f"a body of {len(frame.data)} bytes that is not a chat completion")


def _started(chunk: Chunk) -> ReplyStarted:
    return ReplyStarted(
        id=chunk.id if type(chunk.id) is str else "",
        model=chunk.model if type(chunk.model) is str else "",
        created=chunk.created if type(chunk.created) is int else None,
    )


def _groq(chunk: Chunk) -> XGroq | None:
    """The value of `x_groq`; one that is no object says nothing."""
    if chunk.x_groq is NOT_SENT:
        return None
    try:
        return decode_x_groq(chunk.x_groq)
    except UNREADABLE:
        return None
