"""Events to Gemini's wire, for a client that speaks it behind a provider that does not.

Rule 1: the shape is WIRE 3's: no comments, no end mark, and `usageMetadata` once, on the last frame, which carries the
candidates that end with it.
Rule 2: a call is one part with whole arguments, so what follows a call waits with it for the end of its candidate.
Rule 3: a whole reply is the same parts, gathered.
Rule 4: what this wire has no words for is left out: log probabilities and opaque parts of another dialect. Those of
this one, when a provider of it answered whole what was asked as a stream, or the other way round, are parts again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, assert_never

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
from counterfoil.dialects.gemini.door import ARRAY
from counterfoil.dialects.gemini.failure import write_failure
from counterfoil.dialects.gemini.proof import seal, seal_redacted
from counterfoil.dialects.gemini.reply import FINISHES, ORIGIN
from counterfoil.dialects.gemini.schema import fields_of
from counterfoil.dialects.gemini.usage import write_usage
from counterfoil.dialects.schema import UNREADABLE, encode
from counterfoil.framing.sse import on_one_line

__all__ = ["GeminiEncoder", "Writing"]

Part = dict[str, object]

_WORDS: Final[Mapping[FinishReason, str]] = {
    FinishReason.STOP: "STOP",
    FinishReason.LENGTH: "MAX_TOKENS",
    FinishReason.TOOL_CALLS: "STOP",
    FinishReason.CONTENT_FILTER: "SAFETY",
    FinishReason.REFUSAL: "SAFETY",
    FinishReason.PAUSED: "OTHER",
    FinishReason.UNKNOWN: "OTHER",
}
_OF_CANDIDATE: Final = frozenset({"safetyRatings", "citationMetadata", "groundingMetadata", "urlContextMetadata"})
_OF_REPLY: Final = "promptFeedback"
_NOTHING: Final = b"{}"


class Writing:
    """How the frames of one stream follow each other: as events, or as the items of an array."""

    def __init__(self, form: str) -> None:
        self._array = form == ARRAY
        self._begun = False

    def frame(self, data: bytes) -> bytes:
        """One frame. What is carried word for word (arguments, details of usage) may break a line; no event may."""
        if not self._array:
            return b"data: " + on_one_line(data) + b"\r\n\r\n"
        before = b",\r\n" if self._begun else b"["
        self._begun = True
        return before + data

    def end(self) -> bytes:
        """What ends the stream."""
        return b"" if not self._array else b"]" if self._begun else b"[]"


class _Candidate:
    """One candidate so far."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        """What a call holds back, or all of a whole reply."""
        self.calls: dict[int, tuple[Part, list[str]]] = {}
        self.proof = ""
        """Google's own, for the part that comes next."""
        self.extra: dict[str, msgspec.Raw] = {}
        self.logprobs: msgspec.Raw | None = None
        self.finish: ChoiceFinished | None = None

    def take(self) -> list[Part]:
        """The parts that were held, calls made whole, a proof without a part on an empty text."""
        for part, pieces in self.calls.values():
            call = part["functionCall"]
            if isinstance(call, dict):
                call["args"] = _arguments("".join(pieces))
        held, self.parts, self.calls = self.parts, [], {}
        if self.proof:
            held.append(self.signed({"text": ""}))
        return held

    def signed(self, part: Part) -> Part:
        """The part with the proof that came before it."""
        proof, self.proof = self.proof, ""
        return {**part, "thoughtSignature": proof} if proof else part


def _arguments(text: str) -> object:
    """Arguments as an object. Text that is none (cut by the output bound) is wrapped, so that nothing is lost."""
    try:
        msgspec.json.decode(text or "{}", type=dict)
    except UNREADABLE:
        return {"INVALID_JSON": text}
    return msgspec.Raw((text or "{}").encode())


def _own_part(event: OpaqueGiven) -> Part | None:
    """An opaque part of this dialect: an object with a member of its kind."""
    try:
        fields = fields_of(event.raw)
    except UNREADABLE:
        return None
    return dict(fields) if event.kind in fields else None


class GeminiEncoder:
    """One reply."""

    def __init__(self, facts: ReplyFacts) -> None:
        self._facts = facts
        self._writing = Writing(facts.form)
        self._id = ""
        self._candidates: dict[int, _Candidate] = {}
        self._feedback: msgspec.Raw | None = None

    def encode(self, events: Sequence[Event]) -> bytes:
        """The frames of these events; nothing for a whole reply."""
        out: list[bytes] = []
        for event in events:
            said = self._take(event)
            if said:
                out.append(self._frame([said]))
        return b"".join(out)

    def close(self, final: FinalUsage) -> bytes:
        """The last frame: how each candidate ended, and the usage; or the whole reply."""
        blocked = self._feedback is not None and b'"blockReason"' in bytes(self._feedback)
        if blocked and not any(one.parts or one.calls for one in self._candidates.values()):
            self._candidates.clear()  # a prompt that was blocked has no candidates
        elif not self._candidates:
            self._of(0)
        candidates = [self._last(index) for index in sorted(self._candidates)]
        body: dict[str, object] = {"candidates": candidates} if candidates else {}
        if self._feedback is not None:
            body[_OF_REPLY] = self._feedback
        usage = write_usage(final)
        if usage != _NOTHING:
            body["usageMetadata"] = msgspec.Raw(usage)
        data = encode({**body, **self._identity()})
        return self._writing.frame(data) + self._writing.end() if self._facts.streamed else data

    def fail(self, failure: Failure) -> bytes:
        """An error frame; the error body where the reply is whole. An array is closed all the same, because a client
        may read it only as a whole: its last item is the error."""
        body = write_failure(failure)
        return self._writing.frame(body) + self._writing.end() if self._facts.streamed else body

    def _identity(self) -> dict[str, object]:
        return {"modelVersion": self._facts.model, "responseId": self._id or self._facts.id}

    def _frame(self, candidates: list[Mapping[str, object]]) -> bytes:
        return self._writing.frame(encode({"candidates": candidates, **self._identity()}))

    def _take(self, event: Event) -> Mapping[str, object] | None:
        """One event: a candidate to be written now, or kept for later."""
        match event:
            case ReplyStarted():
                self._id = self._id or event.id
            case TextDelta() | RefusalDelta():
                return self._say(event.choice, {"text": event.text}) if event.text else None
            case ReasoningDelta():
                return self._say(event.choice, {"text": event.text, "thought": True}) if event.text else None
            case ReasoningSigned():
                return self._sign(event)
            case RedactedReasoningGiven():
                proof = seal_redacted(event.data, event.origin)
                return self._say(event.choice, {"text": "", "thought": True, "thoughtSignature": proof})
            case ToolCallStarted():
                self._call(event)
            case ToolArgumentsDelta():
                opened = self._of(event.choice).calls.get(event.call)
                if opened is not None:
                    opened[1].append(event.arguments)
            case OpaqueGiven():
                return self._opaque(event)
            case LogprobsGiven():
                if b'"chosenCandidates"' in bytes(event.raw):  # this dialect's own shape
                    self._of(event.choice).logprobs = event.raw
            case ChoiceFinished():
                candidate = self._of(event.choice)
                candidate.finish = candidate.finish or event
            case UsageReported() | OutputHidden() | ReplyFailed():
                pass  # the books are settled by the exchange, and a failure is told by `fail`
            case EmbeddingsGiven() | RankingGiven() | TokensCounted():
                pass  # of other operations
            case _:
                assert_never(event)
        return None

    def _of(self, index: int) -> _Candidate:
        return self._candidates.setdefault(index, _Candidate())

    def _say(self, index: int, part: Part) -> Mapping[str, object] | None:
        candidate = self._of(index)
        if not part.get("thought"):
            part = candidate.signed(part)
        if self._facts.streamed and not candidate.calls:
            return {"content": {"parts": [part], "role": "model"}, "index": index}
        _append(candidate.parts, part)
        return None

    def _sign(self, event: ReasoningSigned) -> Mapping[str, object] | None:
        """Google's proofs are of the part that follows; any other maker's is of the thought before it."""
        proof = seal(event.signature, event.origin)
        if event.origin != ORIGIN:
            return self._say(event.choice, {"text": "", "thought": True, "thoughtSignature": proof})
        candidate = self._of(event.choice)
        before, candidate.proof = candidate.proof, ""
        said = None
        if before:  # it was of no part at all
            said = self._say(event.choice, {"text": "", "thoughtSignature": before})
        candidate.proof = proof
        return said

    def _call(self, event: ToolCallStarted) -> None:
        candidate = self._of(event.choice)
        if event.call in candidate.calls:
            return
        identity = {"id": event.id} if event.id else {}
        part = candidate.signed({"functionCall": {**identity, "name": event.name}})
        candidate.parts.append(part)
        candidate.calls[event.call] = (part, [])

    def _opaque(self, event: OpaqueGiven) -> Mapping[str, object] | None:
        if event.kind == _OF_REPLY:
            self._feedback = event.raw
        elif event.kind in _OF_CANDIDATE:
            self._of(event.choice).extra[event.kind] = event.raw
        elif (part := _own_part(event)) is not None:
            return self._say(event.choice, part)
        return None

    def _last(self, index: int) -> Mapping[str, object]:
        """A candidate's last words."""
        candidate = self._of(index)
        parts = candidate.take()
        finish = candidate.finish
        word = "STOP" if finish is None else _word(finish)
        said: dict[str, object] = {}
        if parts or word in ("STOP", "MAX_TOKENS"):
            said["content"] = {"parts": parts or [{"text": ""}], "role": "model"}
        said["finishReason"] = word
        said["index"] = index
        said.update(candidate.extra)
        if candidate.logprobs is not None:
            said["logprobsResult"] = candidate.logprobs
        return said


def _word(finish: ChoiceFinished) -> str:
    """Google's own word where it was one, else ours for the reason."""
    return finish.said if finish.said in FINISHES else _WORDS[finish.reason]


def _append(parts: list[Part], part: Part) -> None:
    """One more part; text goes on in the text before it."""
    before = parts[-1] if parts else None
    if before is not None and before.keys() == part.keys() and part.keys() <= {"text", "thought"}:
        parts[-1] = {**before, "text": f"{before['text']}{part['text']}"}
    else:
        parts.append(part)
