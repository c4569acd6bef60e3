"""Frames of Bedrock's invoke wire to events: a model's own reply in the service's wrapping.

Rule 1: the wrapping is opened here and nowhere else; what is inside is read by the dialect it is written in.
Rule 2: two meters count a stream, the model's and the service's (`amazon-bedrock-invocationMetrics`). The model's
stands: recorded (openinference testinvokemodelwithstreamresponse), the service's lacked 32 tokens of two tool calls.
The service's fills in what the model does not say. Where they differ, both are heard, so that the books show a counter
that fell and both reports word for word.
Rule 3: never raises.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModelWithResponseStream.html
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

from counterfoil.core.event import (
    ChoiceFinished,
    Event,
    FinishReason,
    ReplyFailed,
    ReplyStarted,
    TextDelta,
    UsageReported,
)
from counterfoil.dialects.anthropic_messages.reply import MessagesDecoder
from counterfoil.dialects.bedrock_converse.failure import frame_failure
from counterfoil.dialects.bedrock_converse.reply import ConverseDecoder
from counterfoil.dialects.bedrock_converse.usage import read_report
from counterfoil.dialects.bedrock_invoke.families import FINISHES, family_of, read_counts, read_pieces
from counterfoil.dialects.bedrock_invoke.schema import Chunk, text
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.openai_chat.reply import ChatDecoder
from counterfoil.dialects.schema import UNREADABLE, encode, fields_of, given
from counterfoil.framing.eventstream import ERROR, EXCEPTION
from counterfoil.framing.frame import Frame
from counterfoil.usage.reading import Counter, Report

__all__ = ["InvokeDecoder", "read_head"]

_METRICS: Final = "amazon-bedrock-invocationMetrics"
_GUARDRAIL: Final = "amazon-bedrock-guardrailAction"
_INTERVENED: Final = "INTERVENED"

_HEADERS: Final[Mapping[str, Counter]] = {
    "x-amzn-bedrock-input-token-count": Counter.INPUT,
    "x-amzn-bedrock-output-token-count": Counter.OUTPUT,
    "x-amzn-bedrock-cache-read-input-token-count": Counter.CACHE_READ,
    "x-amzn-bedrock-cache-write-input-token-count": Counter.CACHE_WRITE,
}
_MOST_DIGITS: Final = 18
_CHUNK: Final = msgspec.json.Decoder(Chunk)


def read_head(headers: Mapping[str, str]) -> Report | None:
    """The counts that a whole reply's headers hold: all there is where the body reports none (recorded: Claude 2.1).

    They come before the body, whose own report replaces them (WIRE 1: equal, 30 of 30).
    """
    said = {name: headers[name].strip() for name in _HEADERS if name in headers}
    counts: dict[Counter, int | None] = {
        _HEADERS[name]: int(value)
        for name, value in said.items()
        if value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS
    }
    return Report(counts, raw=encode(said)) if counts else None


class _Inner(Protocol):
    """Who reads the model's own reply."""

    def feed(self, frame: Frame) -> Sequence[Event]: ...

    def close(self) -> Sequence[Event]: ...

    @property
    def ended(self) -> bool: ...

    @property
    def done(self) -> bool: ...


class InvokeDecoder:
    """One reply of any maker. Who made it is known by its first body."""

    def __init__(self, streamed: bool, choices: int, quirks: Quirks) -> None:
        self._streamed = streamed
        self._choices = choices
        self._quirks = quirks
        self._inner: _Inner | None = None
        self._said: dict[Counter, int] = {}
        """What the model's own reports say, placeholders left out."""
        self._measured = False
        self._blocked = False
        self._finished = False

    @property
    def ended(self) -> bool:
        """The model's own reply has ended, or a guardrail ended it."""
        return self._blocked or (self._inner is not None and self._inner.ended)

    @property
    def done(self) -> bool:
        """The model's own end mark, or the service's metrics after the reply's end, or the whole body."""
        if self._inner is None:
            return False
        return self._inner.done or (self.ended and self._measured)

    def feed(self, frame: Frame) -> Sequence[Event]:
        """The events of one frame."""
        if frame.comment:
            return ()
        if frame.event.startswith((EXCEPTION, ERROR)):
            return (ReplyFailed(frame_failure(frame.event.partition(":")[2], frame.data)),)
        if self._streamed and frame.event != "chunk":
            return ()
        try:
            data = base64.b64decode(_CHUNK.decode(frame.data).bytes, validate=True) if self._streamed else frame.data
            return self._body(data)
        except UNREADABLE:
            return (ReplyFailed(bad_reply("a reply that is not readable as one of a model on Bedrock")),)

    def close(self) -> Sequence[Event]:
        """What the model's own dialect says at the end."""
        return self._inner.close() if self._inner is not None else ()

    def _body(self, data: bytes) -> Sequence[Event]:
        fields = fields_of(data)
        if self._inner is None:
            self._inner = self._reader(fields)
        events = [*self._inner.feed(Frame(data))] if self._inner is not None else []
        for event in events:
            if isinstance(event, UsageReported):
                self._hear(event.report)
            elif isinstance(event, ChoiceFinished):
                self._finished = True
        if not self._finished and self._inner is not None and text(fields, _GUARDRAIL) == _INTERVENED:
            self._finished = self._blocked = True
            events.append(ChoiceFinished(FinishReason.CONTENT_FILTER, said=_INTERVENED))
        return events + self._metrics(fields)

    def _reader(self, fields: Mapping[str, msgspec.Raw]) -> _Inner | None:
        """Who reads bodies like this; None where it holds nothing of a reply (a guardrail's trace alone)."""
        family = family_of(fields)
        if family is None and "choices" in fields:
            return ChatDecoder(self._streamed, self._choices, self._quirks)
        if family is not None:
            return _FamilyDecoder(self._streamed)
        if "type" in fields:
            return MessagesDecoder(self._streamed, 1, self._quirks)
        if fields.keys() & _NOVA:
            return _NovaDecoder(self._streamed, self._quirks)
        if not self._streamed:
            raise ValueError("no reply of a known maker")
        return None

    def _hear(self, report: Report) -> None:
        for counter, value in report.counts.items():
            if value is not None and counter not in report.provisional:
                self._said[counter] = value

    def _metrics(self, fields: Mapping[str, msgspec.Raw]) -> list[Event]:
        """The service's report, and after it the model's once more where they differ."""
        raw = fields.get(_METRICS)
        if raw is None or not given(raw):
            return []
        self._measured = True
        report = read_report(raw)
        if report is None:
            return []
        stands = {
            counter: self._said[counter]
            for counter, value in report.counts.items()
            if value is not None and self._said.get(counter, value) != value
        }
        events: list[Event] = [UsageReported(report)]
        return [*events, UsageReported(Report(dict(stands)))] if stands else events


_NOVA: Final = frozenset(
    {
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
        "output",
        "stopReason",
    }
)


class _NovaDecoder:
    """Nova's bodies are Converse's; a streamed event stands under its name."""

    def __init__(self, streamed: bool, quirks: Quirks) -> None:
        self._streamed = streamed
        self._converse = ConverseDecoder(streamed, 1, quirks)

    @property
    def ended(self) -> bool:
        return self._converse.ended

    @property
    def done(self) -> bool:
        return self._converse.done

    def feed(self, frame: Frame) -> Sequence[Event]:
        if not self._streamed:
            return self._converse.whole(frame.data)
        return [event for name, raw in fields_of(frame.data).items() for event in self._converse.hear(name, raw)]

    def close(self) -> Sequence[Event]:
        return self._converse.close()


class _FamilyDecoder:
    """Bodies of the families in `families.py`."""

    def __init__(self, streamed: bool) -> None:
        self._streamed = streamed
        self._started = False
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._done = False

    @property
    def ended(self) -> bool:
        return bool(self._finished) and not self._open

    @property
    def done(self) -> bool:
        return self._done

    def feed(self, frame: Frame) -> Sequence[Event]:
        self._done = not self._streamed
        fields = fields_of(frame.data)
        family = family_of(fields)
        if family is None:
            return self._finish(0, text(fields, "finish_reason"))  # Cohere's streams end with a word alone
        events: list[Event] = []
        if not self._started:
            self._started = True
            events.append(ReplyStarted(text(fields, "id") or ""))
        for piece in read_pieces(family, fields):
            if piece.choice in self._finished:
                continue
            self._open.add(piece.choice)
            if piece.text:
                events.append(TextDelta(piece.text, piece.choice))
            events += self._finish(piece.choice, piece.finish, piece.stopped)
        counts = read_counts(family, fields)
        if counts:
            said = {name: fields[name] for _, name in family.counts if name in fields}
            events.append(UsageReported(Report(counts, raw=encode(said))))
        return events

    def _finish(self, choice: int, word: str | None, stopped: str | None = None) -> list[Event]:
        if word is None or choice not in self._open:
            return []
        self._open.discard(choice)
        self._finished.add(choice)
        return [ChoiceFinished(FINISHES.get(word, FinishReason.UNKNOWN), choice, word, stopped)]

    def close(self) -> Sequence[Event]:
        return ()
