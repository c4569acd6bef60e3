"""Completions frames to events, for one reply.

Rule 1: a frame is read once, in the order text, log probabilities, finish, usage, error.
Rule 2: what comes twice is said once (a repeated finish); what never comes is supplied only where a quirk says so, or
where a whole body shows that there is no more.
Rule 3: nothing raises. What cannot be read is a `ReplyFailed`, and quotes nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import (
    ChoiceFinished,
    Event,
    FinishReason,
    LogprobsGiven,
    ReplyFailed,
    ReplyStarted,
    TextDelta,
    UsageReported,
)
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.openai_chat.calls import LimitExceeded
from counterfoil.dialects.openai_chat.content import ChoiceState, read_content
from counterfoil.dialects.openai_chat.failure import frame_failure
from counterfoil.dialects.openai_chat.reply import FINISHES
from counterfoil.dialects.openai_chat.schema import Said
from counterfoil.dialects.openai_chat.usage import read_report, read_timings
from counterfoil.dialects.openai_completions.request import CHOICES_LIMIT
from counterfoil.dialects.salvage import salvaged
from counterfoil.dialects.schema import NOT_SENT, UNREADABLE, given
from counterfoil.framing.frame import Frame

__all__ = ["SILENT", "CompletionDecoder"]

SILENT: Final = (b"", b"null")
"""Frames that say nothing: llama.cpp opens the stream of several prompts with a null."""
_END_MARK: Final = b"[DONE]"
_NO_ERROR: Final = (b"", b"null", b"{}", b'""', b"false")


class _Choice(msgspec.Struct, frozen=True):
    index: Any = None
    text: str | None = None
    delta: Said | None = None
    """Together says its text here again: openai.completions/together."""
    message: Said | None = None
    """Portkey's prompt templates answer a chat reply: openai.completions/portkey."""
    finish_reason: Any = None
    stop_reason: Any = None
    """vLLM: the stop string or token that matched."""
    logprobs: msgspec.Raw = NOT_SENT


class _Chunk(msgspec.Struct, frozen=True):
    """One frame of a streamed reply, or the body of a whole one."""

    id: Any = None
    object: Any = None
    created: Any = None
    model: Any = None
    choices: list[_Choice] | None = None
    value: str | None = None
    """Writer's legacy stream has its text here and no `choices` (WIRE.md 2)."""
    usage: msgspec.Raw = NOT_SENT
    """Null in every chunk of openai.completions/vllm; on the finish chunk of llama.cpp (WIRE.md 4) and Together."""
    timings: msgspec.Raw = NOT_SENT
    error: msgspec.Raw = NOT_SENT


_CHUNK: Final = msgspec.json.Decoder(_Chunk)


class CompletionDecoder:
    """Decodes one reply. `choices` is prompts times `n`; a whole reply (`streamed` false) is one frame."""

    def __init__(self, streamed: bool, choices: int, quirks: Quirks) -> None:
        self._streamed = streamed
        self._requested = choices
        self._quirks = quirks
        self._choices: dict[int, ChoiceState] = {}
        self._finished = 0
        self._last = 0
        """The choice that spoke or finished last."""
        self._started = False
        self._done = False
        self._closed = False
        self._failed = False
        self._timings: dict[int | None, bytes] = {}

    @property
    def ended(self) -> bool:
        """Every choice that was asked for has finished, or every one that spoke, once nothing more comes."""
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
        if frame.comment or data.strip() in SILENT:
            return ()
        if data.strip() == _END_MARK:
            return self._mark()
        events: list[Event] = []
        try:
            self._read(_CHUNK.decode(data), frame, events)
        except (*UNREADABLE, LimitExceeded):
            events += salvaged(data, read_report, ("usage",), told=events)
            self._fail(self._unreadable(frame), events)
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
        events: list[Event] = []
        self._done = True
        if self._quirks.end == "done" and not self._failed:
            self._finish_all(events)
        self._release_timings(events)
        return events

    def _read(self, chunk: _Chunk, frame: Frame, events: list[Event]) -> None:
        try:
            self._read_said(chunk, events)
        finally:
            if not self._started and (events or (isinstance(chunk.id, str) and chunk.id)):
                self._started = True
                events.insert(0, _started(chunk))
        failure = self._failure(chunk, frame)
        if failure is not None:
            self._fail(failure, events)

    def _read_said(self, chunk: _Chunk, events: list[Event]) -> None:
        choices = [_Choice(text=chunk.value)] if chunk.choices is None and chunk.value is not None else chunk.choices
        for choice in choices or ():
            self._read_choice(choice, events)
        if choices and not self._streamed:
            self._finish_all(events)
        if given(chunk.usage):
            self._report(chunk, events)
        elif given(chunk.timings):
            self._timings[self._scope()] = bytes(chunk.timings)

    def _read_choice(self, said: _Choice, events: list[Event]) -> None:
        number = said.index if type(said.index) is int else 0
        choice = self._choices.get(number)
        if choice is None:
            if not 0 <= number < CHOICES_LIMIT:
                raise LimitExceeded
            choice = self._choices[number] = ChoiceState(number)
        self._last = number
        spoken = said.message or said.delta
        if said.text:
            events.append(TextDelta(said.text, number))
        elif said.text is None and spoken is not None:
            read_content(spoken, choice, events)
        if given(said.logprobs):
            events.append(LogprobsGiven(said.logprobs, number))
        reason = said.finish_reason
        if reason and isinstance(reason, str) and not choice.finished:
            matched = said.stop_reason if isinstance(said.stop_reason, str) else None
            self._finish(choice, FINISHES.get(reason, FinishReason.UNKNOWN), reason, matched, events)

    def _finish(
        self, choice: ChoiceState, reason: FinishReason, said: str, matched: str | None, events: list[Event]
    ) -> None:
        choice.calls.close(events)
        choice.finished = True
        self._finished += 1
        events.append(ChoiceFinished(reason, choice.index, said, matched))

    def _finish_all(self, events: list[Event]) -> None:
        """Supply the finish of every choice that has none: a quirk or a whole body says that no more will come."""
        if not self._choices:
            self._choices[0] = ChoiceState(0)
        for choice in self._choices.values():
            if not choice.finished:
                self._finish(choice, FinishReason.STOP, "", None, events)

    def _report(self, chunk: _Chunk, events: list[Event]) -> None:
        report = read_report(bytes(chunk.usage), self._scope())
        if report is None:
            return
        self._timings.clear()
        if self._quirks.end == "usage" and self._streamed and not chunk.choices and not self._failed:
            self._finish_all(events)
        events.append(UsageReported(report))

    def _scope(self) -> int | None:
        """The choice a report is of, where each has its own; a whole reply reports the first only (WIRE.md 4).

        llama.cpp, asked with two prompts: the usage is on each choice's own finish frame, and its input is that
        choice's prompt alone; the first prompt's `n` choices come first in the numbering.
        """
        if not self._quirks.usage_per_choice or max(self._requested, len(self._choices)) < 2:
            return None
        return self._last if self._streamed else 0

    def _failure(self, chunk: _Chunk, frame: Frame) -> Failure | None:
        """The failure a frame tells, if it tells one."""
        spoke = bool(chunk.choices) or chunk.value is not None
        if bytes(chunk.error) not in _NO_ERROR or frame.event == "error":
            return frame_failure(frame.data)
        if not spoke and chunk.object == "error":  # older vLLM
            return frame_failure(frame.data)
        if not spoke and not self._streamed:
            return bad_reply("a body without choices")
        return None

    def _release_timings(self, events: list[Event]) -> None:
        reports = [read_timings(raw, scope) for scope, raw in self._timings.items()]
        events.extend(UsageReported(report) for report in reports if report is not None)
        self._timings.clear()

    def _fail(self, failure: Failure, events: list[Event]) -> None:
        if not self._failed:
            self._failed = True
            events.append(ReplyFailed(failure))

    def _unreadable(self, frame: Frame) -> Failure:
        if frame.event == "error":
            return frame_failure(frame.data)
        what = "a frame" if self._streamed else "a body"
        return bad_reply(f"{what} of {len(frame.data)} bytes that is no completion")


def _started(chunk: _Chunk) -> ReplyStarted:
    return ReplyStarted(
        id=chunk.id if isinstance(chunk.id, str) else "",
        model=chunk.model if isinstance(chunk.model, str) else "",
        created=chunk.created if type(chunk.created) is int else None,
    )
