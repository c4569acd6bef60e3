"""Frames of `generateContent` to events, for one reply.

Rule 1: never raises. What cannot be read is a `ReplyFailed`; what is not known is skipped.
Rule 2: a frame of a stream and a whole reply have one shape, and are read in the order content, finish, prompt, usage,
error, so that nothing a provider said beside its error is lost.
Rule 3: a proof (`thoughtSignature`) comes out before the call or the text whose part it was in, after a thought.
Rule 4: what only this dialect knows (code, its results, pictures, grounding) comes out word for word, and once: the
safety ratings that every frame repeats are said when they change.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

import msgspec

from counterfoil.core.event import (
    ChoiceFinished,
    Event,
    FinishReason,
    LogprobsGiven,
    OpaqueGiven,
    ReasoningDelta,
    ReasoningSigned,
    ReplyFailed,
    ReplyStarted,
    TextDelta,
    UsageReported,
)
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.gemini.calls import Calls, LimitExceeded
from counterfoil.dialects.gemini.failure import frame_failure
from counterfoil.dialects.gemini.schema import (
    CandidateShape,
    Chunk,
    PartShape,
    PromptFeedback,
    elements_of,
    fields_of,
    read,
)
from counterfoil.dialects.gemini.usage import read_report
from counterfoil.dialects.salvage import salvaged
from counterfoil.dialects.schema import UNREADABLE, given
from counterfoil.framing.frame import Frame

__all__ = ["CHOICES_LIMIT", "FINISHES", "ORIGIN", "GeminiDecoder"]

ORIGIN: Final = "google-gemini-v1"
"""Whose proofs these are: `core.message.Reasoning.origin`."""
CHOICES_LIMIT: Final = 128
"""Candidates of one reply: far more than Google's `candidateCount` allows."""

FINISHES: Final = MappingProxyType(
    {
        "STOP": FinishReason.STOP,
        "MAX_TOKENS": FinishReason.LENGTH,
        "CONTINUATION": FinishReason.LENGTH,
        "SAFETY": FinishReason.CONTENT_FILTER,
        "RECITATION": FinishReason.CONTENT_FILTER,
        "BLOCKLIST": FinishReason.CONTENT_FILTER,
        "PROHIBITED_CONTENT": FinishReason.CONTENT_FILTER,
        "SPII": FinishReason.CONTENT_FILTER,
        "MODEL_ARMOR": FinishReason.CONTENT_FILTER,
        "IMAGE_SAFETY": FinishReason.CONTENT_FILTER,
        "IMAGE_PROHIBITED_CONTENT": FinishReason.CONTENT_FILTER,
        "IMAGE_RECITATION": FinishReason.CONTENT_FILTER,
    }
)
"""Google's word; any other (LANGUAGE, OTHER, NO_IMAGE, MALFORMED_FUNCTION_CALL, UNEXPECTED_TOOL_CALL, ...) is UNKNOWN.
https://ai.google.dev/api/generate-content#FinishReason, and Vertex's MODEL_ARMOR"""
_NUMBERS: Final = MappingProxyType(
    {1: "STOP", 2: "MAX_TOKENS", 3: "SAFETY", 4: "RECITATION", 5: "OTHER", 7: "PROHIBITED_CONTENT"}
)
"""The enum's numbers on which Google's two services agree as far as we say it: 7 is BLOCKLIST or PROHIBITED_CONTENT,
and 6 and from 8 on they differ (https://cloud.google.com/java/docs/reference/google-cloud-aiplatform/latest/
com.google.cloud.aiplatform.v1.Candidate.FinishReason)."""
_UNFINISHED: Final = (None, "", 0, "FINISH_REASON_UNSPECIFIED")
_UNBLOCKED: Final = (None, "", 0, "BLOCK_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED")

_OPAQUE: Final = (
    ("safetyRatings", "safety_ratings"),
    ("citationMetadata", "citation_metadata"),
    ("groundingMetadata", "grounding_metadata"),
    ("urlContextMetadata", "url_context_metadata"),
)
_BESIDE: Final = frozenset({"thought", "thoughtSignature", "videoMetadata", "mediaResolution", "partMetadata"})
"""Keys of a part that say something of its one member."""
_END_MARK: Final = b"[DONE]"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Candidate:
    """One candidate so far."""

    __slots__ = ("calls", "finished", "said")

    def __init__(self, index: int) -> None:
        self.calls = Calls(index)
        self.finished = False
        self.said: dict[str, bytes] = {}
        """What was last said under each opaque key."""


class GeminiDecoder:
    """Decodes one reply. `choices` is the request's `candidateCount`; a whole reply (`streamed` false) is one frame."""

    def __init__(self, streamed: bool, choices: int, quirks: Quirks) -> None:
        self._streamed = streamed
        self._requested = choices
        self._candidates: dict[int, _Candidate] = {}
        self._finished = 0
        self._started = False
        self._blocked = False
        self._done = False
        self._closed = False
        self._feedback = b""

    @property
    def ended(self) -> bool:
        """Every expected candidate has finished, or the prompt was blocked.

        A candidate that was asked for and never spoke is not waited for once nothing more can come.
        """
        if self._blocked:
            return True
        if not self._finished or self._finished < len(self._candidates):
            return False
        return self._finished >= self._requested or self._done or self._closed

    @property
    def done(self) -> bool:
        """The array of a stream was closed, or the one frame of a whole reply came. An event stream has no end mark."""
        return self._done

    def feed(self, frame: Frame) -> Sequence[Event]:
        """The events of one frame. Never raises."""
        data = frame.data.strip()
        if frame.comment:
            self._done = self._done or frame.raw.strip() == b"]"
            return ()
        if self._streamed and not data:
            return ()
        if data == _END_MARK:  # not Google's, but some servers send it
            self._done = True
            return ()
        events: list[Event] = []
        try:
            for chunk in self._chunks(data):
                self._read(chunk, events)
            if not self._streamed:
                self._close_whole(events)
        except (*UNREADABLE, LimitExceeded):
            what = "frame" if self._streamed else "body"
            events += salvaged(data, read_report, ("usageMetadata",), told=events)
            events.append(ReplyFailed(bad_reply(f"a {what} of {len(data)} bytes that is not a Gemini reply")))
        self._done = self._done or not self._streamed
        return events

    def close(self) -> Sequence[Event]:
        """Who has not spoken by now never will; there is nothing to say of it."""
        self._closed = True
        return ()

    def _chunks(self, data: bytes) -> list[Chunk]:
        """A frame's one object; the objects of an array that came whole."""
        if data[:1] == b"[" and not self._streamed:
            return [read(element, Chunk) for element in elements_of(data)]
        return [read(data, Chunk)]

    def _close_whole(self, events: list[Event]) -> None:
        """A whole body shows that there is no more: what has begun is finished."""
        if not events:
            raise ValueError("no reply")
        for index, candidate in self._candidates.items():
            if not candidate.finished:
                self._finish(index, candidate, "", events)

    def _read(self, chunk: Chunk, events: list[Event]) -> None:
        self._start(chunk, events)
        finished = self._finished
        for said in chunk.candidates or ():
            self._candidate(said, events)
        if given(chunk.prompt_feedback):
            self._prompt(chunk.prompt_feedback, events)
        if given(chunk.usage_metadata):
            last = not self._streamed or self._blocked or self._finished > finished
            report = read_report(chunk.usage_metadata, last=last)
            if report is not None:
                events.append(UsageReported(report))
        if given(chunk.error):
            events.append(ReplyFailed(frame_failure(bytes(chunk.error))))

    def _start(self, chunk: Chunk, events: list[Event]) -> None:
        if self._started or not (chunk.candidates or given(chunk.prompt_feedback) or given(chunk.usage_metadata)):
            return
        self._started = True
        events.append(
            ReplyStarted(
                id=chunk.response_id if isinstance(chunk.response_id, str) else "",
                model=chunk.model_version if isinstance(chunk.model_version, str) else "",
                created=_seconds(chunk.create_time),
            )
        )

    def _candidate(self, said: CandidateShape, events: list[Event]) -> None:
        index = said.index if type(said.index) is int else 0  # protobuf leaves out a zero
        candidate = self._candidates.get(index)
        if candidate is None:
            if not 0 <= index < CHOICES_LIMIT:
                raise LimitExceeded("too many candidates")
            candidate = self._candidates[index] = _Candidate(index)
        if said.content is not None:
            for raw in said.content.parts or ():
                self._part(raw, index, candidate, events)
        for key, name in _OPAQUE:
            raw = getattr(said, name)
            if given(raw) and candidate.said.get(key) != bytes(raw):
                candidate.said[key] = bytes(raw)
                events.append(OpaqueGiven(key, msgspec.Raw(bytes(raw)), index))
        if given(said.logprobs_result):
            events.append(LogprobsGiven(msgspec.Raw(bytes(said.logprobs_result)), index))
        if said.finish_reason not in _UNFINISHED and not candidate.finished:
            word = said.finish_reason
            self._finish(index, candidate, _NUMBERS.get(word, str(word)) if type(word) is int else str(word), events)

    @staticmethod
    def _part(raw: msgspec.Raw, index: int, candidate: _Candidate, events: list[Event]) -> None:
        part = read(raw, PartShape)
        signed = [ReasoningSigned(part.thought_signature, index, ORIGIN)] if part.thought_signature else []
        if part.function_call is not None:
            events += signed
            candidate.calls.add(part.function_call, events)
        elif part.text is not None or not (member := _member(raw)):
            spoken: list[Event] = []
            if part.text:
                spoken = [ReasoningDelta(part.text, index) if part.thought else TextDelta(part.text, index)]
            events += [*spoken, *signed] if part.thought else [*signed, *spoken]
        else:
            events.append(OpaqueGiven(member, msgspec.Raw(bytes(raw)), index))

    def _finish(self, index: int, candidate: _Candidate, word: str, events: list[Event]) -> None:
        candidate.calls.close(events)
        candidate.finished = True
        self._finished += 1
        reason = FINISHES.get(word, FinishReason.UNKNOWN) if word else FinishReason.STOP
        if reason is FinishReason.STOP and len(candidate.calls):
            reason = FinishReason.TOOL_CALLS  # Google says STOP for both
        events.append(ChoiceFinished(reason, index, word))

    def _prompt(self, raw: msgspec.Raw, events: list[Event]) -> None:
        """What Google thought of the prompt. One that it blocked has no candidates, and ends the reply."""
        if bytes(raw) != self._feedback:
            self._feedback = bytes(raw)
            events.append(OpaqueGiven("promptFeedback", msgspec.Raw(bytes(raw))))
        reason = read(raw, PromptFeedback).block_reason
        if reason in _UNBLOCKED or self._blocked:
            return
        self._blocked = True
        for index in range(min(max(self._requested, 1), CHOICES_LIMIT)):
            candidate = self._candidates.setdefault(index, _Candidate(index))
            if not candidate.finished:
                candidate.finished = True
                self._finished += 1
                events.append(ChoiceFinished(FinishReason.CONTENT_FILTER, index, str(reason)))


def _member(raw: msgspec.Raw) -> str:
    """The one key of a part that says what it is."""
    return next((key for key in fields_of(raw) if key not in _BESIDE), "")


def _seconds(said: object) -> int | None:
    """Unix seconds of Vertex's `createTime` (RFC 3339)."""
    try:
        when = datetime.fromisoformat(said) if isinstance(said, str) else None
    except ValueError:
        return None
    return int((when - _EPOCH).total_seconds()) if when is not None and when.tzinfo is not None else None
