"""Events of an interaction to our events, for one reply.

Rule 1: never raises. What cannot be read is a `ReplyFailed`; what is not known is skipped.
Rule 2: a whole interaction and its stream give the same events, up to how text is cut.
Rule 3: usage is heard wherever it stands (beside an event, in an update, in the interaction), and its last word stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from counterfoil.core.event import (
    ChoiceFinished,
    Event,
    FinishReason,
    OpaqueGiven,
    ReasoningDelta,
    ReasoningSigned,
    ReplyFailed,
    ReplyStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.gemini.calls import CALLS_LIMIT, LimitExceeded
from counterfoil.dialects.gemini.failure import frame_failure
from counterfoil.dialects.gemini.reply import ORIGIN
from counterfoil.dialects.gemini.schema import compact
from counterfoil.dialects.gemini_interactions.schema import (
    ContentShape,
    DeltaShape,
    EventShape,
    InteractionShape,
    StepShape,
    read,
)
from counterfoil.dialects.gemini_interactions.usage import read_report
from counterfoil.dialects.schema import UNREADABLE, given
from counterfoil.framing.frame import Frame

__all__ = ["FINISHES", "InteractionsDecoder"]

FINISHES: Final[Mapping[str, FinishReason]] = {
    "completed": FinishReason.STOP,
    "requires_action": FinishReason.TOOL_CALLS,
    "incomplete": FinishReason.LENGTH,
    "budget_exceeded": FinishReason.LENGTH,
    "requires_continuation": FinishReason.PAUSED,
    "cancelled": FinishReason.UNKNOWN,
    "in_progress": FinishReason.PAUSED,
    "queued": FinishReason.PAUSED,
}
"""Google's word for where an interaction stands. One in the background is answered while it still runs."""
_RUNNING: Final = ("in_progress", "queued")
_FAILED: Final = "failed"
_END_MARK: Final = b"[DONE]"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT: Final = "text"


class _Call:
    """A call that has begun."""

    __slots__ = ("argued", "number", "whole")

    def __init__(self, number: int, whole: bytes) -> None:
        self.number = number
        self.whole = whole
        """Arguments that came with its beginning; they count when no piece follows."""
        self.argued = False


class InteractionsDecoder:
    """One reply. `choices` is always 1 on this wire and is not looked at."""

    def __init__(self, streamed: bool, choices: int, quirks: Quirks) -> None:
        self._streamed = streamed
        self._started = False
        self._finished = False
        self._failed = False
        self._done = False
        self._count = 0
        self._calls: dict[int, _Call] = {}
        """Calls that have begun and not stopped, by their step's index."""

    @property
    def ended(self) -> bool:
        """The interaction said that it came to an end."""
        return self._finished

    @property
    def done(self) -> bool:
        """`event: done`, or the whole interaction."""
        return self._done

    def feed(self, frame: Frame) -> Sequence[Event]:
        """The events of one frame. Never raises."""
        data = frame.data.strip()
        if frame.comment or (self._streamed and not data):
            return ()
        if data == _END_MARK or frame.event == "done":
            self._done = True
            return ()
        events: list[Event] = []
        try:
            if self._streamed:
                self._event(read(data, EventShape), frame.event, data, events)
            else:
                self._whole(read(data, InteractionShape), data, events)
        except (*UNREADABLE, LimitExceeded):
            what = "frame" if self._streamed else "body"
            events.append(ReplyFailed(bad_reply(f"a {what} of {len(data)} bytes that is no interaction")))
        self._done = self._done or not self._streamed
        return events

    def close(self) -> Sequence[Event]:
        """Nothing is certain only at the end."""
        return ()

    def _event(self, said: EventShape, name: str, data: bytes, events: list[Event]) -> None:
        kind = said.event_type or name
        reader = self._READERS.get(kind)
        if reader is not None:
            reader(self, said, events)
        elif given(said.error):
            self._fail(bytes(said.error), events)
        elif not kind:
            self._whole(read(data, InteractionShape), data, events)  # a stream was asked for and a body came
        for raw in (said.usage, *((said.metadata.usage, said.metadata.total_usage) if said.metadata else ())):
            self._usage(raw, events)

    def _whole(self, said: InteractionShape, data: bytes, events: list[Event]) -> None:
        if given(said.error) and not said.status:
            self._fail(data, events)
            return
        if said.id is None and said.status is None:
            raise ValueError("no interaction")
        self._start(said, events)
        self._steps(said, events)
        self._usage(said.usage, events, said.service_tier)
        self._finish(said, events, whole=True)
        self._done = True

    def _steps(self, said: InteractionShape, events: list[Event]) -> None:
        for raw in said.steps if said.steps is not None else said.outputs or ():
            self._begin(-1, raw, events)
            self._stop(-1, events)

    def _start(self, said: InteractionShape, events: list[Event]) -> None:
        if not self._started:
            self._started = True
            model = said.model if isinstance(said.model, str) else ""
            events.append(ReplyStarted(said.id or "", model, _seconds(said.created)))

    def _created(self, said: EventShape, events: list[Event]) -> None:
        self._start(read(said.interaction, InteractionShape), events)

    def _completed(self, said: EventShape, events: list[Event]) -> None:
        interaction = read(said.interaction, InteractionShape)
        if not self._started:
            self._start(interaction, events)
            self._steps(interaction, events)
        self._usage(interaction.usage, events, interaction.service_tier)
        self._finish(interaction, events, whole=False)

    def _finish(self, said: InteractionShape, events: list[Event], *, whole: bool) -> None:
        for index in sorted(self._calls):
            self._stop(index, events)
        status = said.status or ""
        if status == _FAILED:
            error = bytes(said.errors[0]) if said.errors else bytes(said.error) or b"{}"
            self._fail(error, events)
        elif not self._finished and (whole or status not in _RUNNING):
            self._finished = True
            reason = FINISHES.get(status, FinishReason.UNKNOWN)
            if reason is FinishReason.STOP and self._count:
                reason = FinishReason.TOOL_CALLS
            events.append(ChoiceFinished(reason, said=status))

    def _update(self, said: EventShape, events: list[Event]) -> None:
        """A word on where it stands: its end comes with `interaction.completed`."""

    def _step_start(self, said: EventShape, events: list[Event]) -> None:
        self._stop(said.index, events)
        raw = said.step if given(said.step) else said.content
        if given(raw):
            self._begin(said.index, raw, events)

    def _begin(self, index: int, raw: msgspec.Raw, events: list[Event]) -> None:
        """A step with what it holds so far."""
        step = read(raw, StepShape)
        match step.type:
            case "thought":
                for entry in step.summary or ():
                    self._say(entry, ReasoningDelta, events)
                if step.signature:
                    events.append(ReasoningSigned(step.signature, origin=ORIGIN))
            case "model_output":
                for entry in step.content or ():
                    self._say(entry, TextDelta, events)
            case "text":
                self._say(raw, TextDelta, events)
            case "function_call":
                if step.signature:
                    events.append(ReasoningSigned(step.signature, origin=ORIGIN))
                self._call(index, step.id, step.name, step.arguments, events)
            case _:
                if not self._streamed:
                    events.append(OpaqueGiven(step.type, msgspec.Raw(bytes(raw))))

    @staticmethod
    def _say(raw: msgspec.Raw, kind: type[TextDelta | ReasoningDelta], events: list[Event]) -> None:
        content = read(raw, ContentShape)
        if content.type != _TEXT:
            events.append(OpaqueGiven(content.type, msgspec.Raw(bytes(raw))))
        elif content.text:
            events.append(kind(content.text))

    def _call(self, index: int, identity: object, name: str | None, said: msgspec.Raw, events: list[Event]) -> None:
        if self._count >= CALLS_LIMIT:
            raise LimitExceeded("too many function calls")
        self._calls[index] = _Call(self._count, compact(said) if given(said) else b"{}")
        events.append(ToolCallStarted(self._count, identity if isinstance(identity, str) else "", name or ""))
        self._count += 1

    def _step_delta(self, said: EventShape, events: list[Event]) -> None:
        delta = read(said.delta, DeltaShape)
        match delta.type:
            case "text":
                if delta.text:
                    events.append(TextDelta(delta.text))
            case "thought_summary":
                if given(delta.content):
                    self._say(delta.content, ReasoningDelta, events)
            case "thought_signature":
                if delta.signature:
                    events.append(ReasoningSigned(delta.signature, origin=ORIGIN))
            case "arguments_delta":
                self._argue(said.index, delta, events)
            case "function_call":
                self._call(said.index, delta.id, delta.name, delta.arguments, events)
            case _:
                events.append(OpaqueGiven(delta.type, msgspec.Raw(bytes(said.delta))))

    def _argue(self, index: int, delta: DeltaShape, events: list[Event]) -> None:
        call = self._calls.get(index)
        piece = msgspec.json.decode(delta.arguments, type=str) if given(delta.arguments) else ""
        if call is not None and piece:
            call.argued = True
            events.append(ToolArgumentsDelta(call.number, piece))

    def _step_stop(self, said: EventShape, events: list[Event]) -> None:
        self._stop(said.index, events)

    def _stop(self, index: int, events: list[Event]) -> None:
        call = self._calls.pop(index, None)
        if call is not None and not call.argued:
            events.append(ToolArgumentsDelta(call.number, call.whole.decode()))

    def _usage(self, raw: msgspec.Raw, events: list[Event], tier: object = None) -> None:
        report = read_report(raw, tier=tier) if given(raw) else None
        if report is not None:
            events.append(UsageReported(report))

    def _error(self, said: EventShape, events: list[Event]) -> None:
        self._fail(bytes(said.error) or b"{}", events)

    def _fail(self, error: bytes, events: list[Event]) -> None:
        if not self._failed:
            self._failed = True
            events.append(ReplyFailed(frame_failure(error)))

    _READERS: Final[dict[str, Callable[[InteractionsDecoder, EventShape, list[Event]], None]]] = {
        "interaction.created": _created,
        "interaction.start": _created,
        "interaction.status_update": _update,
        "interaction.completed": _completed,
        "interaction.complete": _completed,
        "step.start": _step_start,
        "step.delta": _step_delta,
        "step.stop": _step_stop,
        "content.start": _step_start,
        "content.delta": _step_delta,
        "content.stop": _step_stop,
        "error": _error,
    }


def _seconds(said: object) -> int | None:
    """Unix seconds of a time in RFC 3339."""
    try:
        when = datetime.fromisoformat(said) if isinstance(said, str) else None
    except ValueError:
        return None
    return int((when - _EPOCH).total_seconds()) if when is not None and when.tzinfo is not None else None
