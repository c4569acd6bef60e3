"""Events to the messages wire, for a client that speaks it behind a provider that does not.

Rule 1: the shape is WIRE 3's: input in the head and in the one `message_delta`, `output_tokens: 0` in the head, one
`message_stop`, never after a failure. Where the operator wants the head exact, it waits, and all else behind it.
Rule 2: blocks are opened and closed one after the other, with rising indexes. What cannot go into the open block waits.
Rule 3: a whole reply is the same blocks, gathered.
Rule 4: what this wire has no words for is left out: log probabilities, another dialect's opaque parts, choices beyond
the first (a client of this dialect cannot ask for them). Opaque parts of this dialect, when a provider of it answered
whole what was asked as a stream, or the other way round, are blocks again.
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
from counterfoil.dialects.anthropic_messages.failure import write_failure
from counterfoil.dialects.anthropic_messages.head import HELD_LIMIT, InputSoFar
from counterfoil.dialects.anthropic_messages.usage import usage_fields
from counterfoil.dialects.dialect import FinalUsage, ReplyFacts
from counterfoil.dialects.proof import seal
from counterfoil.dialects.schema import UNREADABLE, encode, fields_of
from counterfoil.framing.sse import on_one_line

__all__ = ["MessagesEncoder", "frame_bytes"]

_STOP_REASONS: Final[Mapping[FinishReason, str]] = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
    FinishReason.REFUSAL: "refusal",
    FinishReason.PAUSED: "pause_turn",
    FinishReason.UNKNOWN: "end_turn",
}


def frame_bytes(event: str, value: object) -> bytes:
    """One SSE frame of this wire: clients dispatch on the event name."""
    return b"event: " + event.encode() + b"\ndata: " + on_one_line(encode(value)) + b"\n\n"


class _Block:
    """The open block. `kind` is its type on the wire."""

    def __init__(self, kind: str, index: int, call: int = -1, head: Mapping[str, object] | None = None) -> None:
        self.kind = kind
        self.index = index
        self.call = call
        self.head = dict(head or {})
        self.pieces: list[str] = []
        self.signature = ""
        self.citations: list[msgspec.Raw] = []

    def arguments_complete(self) -> bool:
        """Whether the arguments so far are a JSON object: nothing can be added to one."""
        if not self.pieces or not self.pieces[-1].rstrip().endswith("}"):
            return False  # the usual answer, without reading all of them again
        try:
            msgspec.json.decode("".join(self.pieces), type=dict)
        except UNREADABLE:
            return False
        return True

    def whole(self) -> dict[str, object]:
        """The block of a whole message."""
        said = "".join(self.pieces)
        match self.kind:
            case "text":
                return {"type": "text", "text": said, **({"citations": self.citations} if self.citations else {})}
            case "thinking":
                return {"type": "thinking", "thinking": said, "signature": self.signature}
            case "tool_use":
                return {"type": "tool_use", **self.head, "input": _input(said)}
            case _:
                return {"type": self.kind, **self.head}


def _input(arguments: str) -> object:
    """Arguments as an object. Text that is none (cut by the output bound) is wrapped as the vendor's documents say:
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming"""
    try:
        msgspec.json.decode(arguments or "{}", type=dict)
    except UNREADABLE:
        return {"INVALID_JSON": arguments}
    return msgspec.Raw((arguments or "{}").encode())


def _is_ours(event: OpaqueGiven) -> bool:
    """Whether an opaque part is a block of this dialect: an object that names its own type."""
    try:
        kind = msgspec.json.decode(fields_of(event.raw).get("type", b"null"))
    except UNREADABLE:
        return False
    return isinstance(kind, str) and event.kind in (kind, "citation")


class MessagesEncoder:
    """One reply."""

    def __init__(self, facts: ReplyFacts) -> None:
        self._facts = facts
        self._out: list[bytes] = []
        self._begun = False
        self._input = InputSoFar(facts)
        self._headless = False
        """What is in `_out` follows a head that is not written yet."""
        self._held = 0
        self._id = ""
        self._index = 0
        self._open: _Block | None = None
        self._waiting: list[Event] = []
        """What came while a call's arguments were half said: it follows when they are complete."""
        self._blocks: list[dict[str, object]] = []
        self._called: set[int] = set()
        self._refused = False
        self._finish: ChoiceFinished | None = None

    def encode(self, events: Sequence[Event]) -> bytes:
        """The frames of these events; nothing for a whole reply."""
        for event in events:
            self._take(event)
        return self._flush()

    def close(self, final: FinalUsage) -> bytes:
        """The last block's end, `message_delta` with everything that is known, `message_stop`; or the whole message."""
        self._input.end(final)
        self._begin()
        self._release(force=True)
        self._close_block()
        reason, sequence = self._stopped()
        usage = usage_fields(final)
        if not self._facts.streamed:
            return encode(
                {
                    "id": self._id,
                    "type": "message",
                    "role": "assistant",
                    "model": self._facts.model,
                    "content": self._blocks,
                    "stop_reason": reason,
                    "stop_sequence": sequence,
                    "usage": usage,
                }
            )
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        self._emit("message_delta", {"type": "message_delta", "delta": delta, "usage": usage})
        self._emit("message_stop", {"type": "message_stop"})
        return self._flush(now=True)

    def fail(self, failure: Failure) -> bytes:
        """An `error` frame, and no `message_stop` after it; the error body where the reply is whole."""
        body = write_failure(failure)
        if not self._facts.streamed:
            return body
        self._emit("error", msgspec.Raw(body))
        return self._flush(now=True)

    def _stopped(self) -> tuple[str, str | None]:
        finish = self._finish
        if finish is None:
            return "refusal" if self._refused else "tool_use" if self._called else "end_turn", None
        if finish.reason is FinishReason.STOP and self._refused:
            return "refusal", None
        if finish.reason is FinishReason.STOP and finish.stop_sequence is not None:
            return "stop_sequence", finish.stop_sequence
        return _STOP_REASONS[finish.reason], finish.stop_sequence

    def _take(self, event: Event) -> None:
        """One event: said now, kept for the end, or made to wait for the open call."""
        match event:
            case ReplyStarted():
                # Nothing is sent yet: a reply that fails before it says anything can still be asked for elsewhere.
                self._id = self._id or event.id
            case UsageReported():
                self._input.see(event)
            case ReplyFailed() | LogprobsGiven() | OutputHidden():
                return
            case EmbeddingsGiven() | RankingGiven() | TokensCounted():
                return  # of other operations
            case ChoiceFinished():
                if event.choice == 0 and self._finish is None:
                    self._finish = event
                    self._release(force=True)
            case (
                TextDelta()
                | ReasoningDelta()
                | ReasoningSigned()
                | RedactedReasoningGiven()
                | RefusalDelta()
                | ToolCallStarted()
                | ToolArgumentsDelta()
                | OpaqueGiven()
            ):
                if event.choice or (isinstance(event, OpaqueGiven) and not _is_ours(event)):
                    return
                self._begin()
                if self._fits(event):
                    self._say(event)
                    self._release(force=False)
                else:
                    self._waiting.append(event)
            case _:
                assert_never(event)

    def _fits(self, event: Event) -> bool:
        """Whether the event belongs to the open block or that block can be closed for it."""
        opened = self._open
        if opened is None or opened.call < 0:
            return not self._waiting
        if isinstance(event, ToolArgumentsDelta) and event.call == opened.call:
            return True
        return not self._waiting and opened.arguments_complete()

    def _release(self, *, force: bool) -> None:
        """Say what waited, as far as the open block lets it; all of it at the finish."""
        while self._waiting:
            opened = self._open
            mine = [e for e in self._waiting if isinstance(e, ToolArgumentsDelta) and opened and e.call == opened.call]
            for event in mine:
                self._waiting.remove(event)
                self._say(event)
            if not self._waiting:
                return
            if opened is not None and opened.call >= 0 and not (force or opened.arguments_complete()):
                return
            self._say(self._waiting.pop(0))

    def _say(self, event: Event) -> None:
        match event:
            case TextDelta() | RefusalDelta():
                self._refused = self._refused or isinstance(event, RefusalDelta)
                if event.text:
                    self._delta("text", {"type": "text_delta", "text": event.text}, event.text)
            case ReasoningDelta():
                self._delta("thinking", {"type": "thinking_delta", "thinking": event.text}, event.text)
            case ReasoningSigned():
                proof = seal(event.signature, event.origin)
                self._delta("thinking", {"type": "signature_delta", "signature": proof}, "")
                if self._open is not None:
                    self._open.signature = proof
                self._close_block()
            case RedactedReasoningGiven():
                self._open_block("redacted_thinking", {"data": seal(event.data, event.origin)})
                self._close_block()
            case ToolCallStarted():
                if event.call in self._called:
                    return
                self._called.add(event.call)
                given = event.id or f"toolu_{self._facts.id}_{event.call}"
                self._open_block("tool_use", {"id": given, "name": event.name}, event.call)
            case ToolArgumentsDelta(arguments=more):
                if more and self._open is not None and self._open.call == event.call:
                    self._delta("tool_use", {"type": "input_json_delta", "partial_json": more}, more)
            case OpaqueGiven(kind="citation"):
                self._delta("text", {"type": "citations_delta", "citation": event.raw}, "")
                if self._open is not None and not self._facts.streamed:
                    self._open.citations.append(event.raw)
            case OpaqueGiven():
                self._open_block(event.kind, dict(fields_of(event.raw)))
                self._close_block()
            case _:
                raise AssertionError("only content is said")

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        self._id = self._id or self._facts.id
        self._headless = self._facts.streamed

    def _head(self) -> bytes:
        message: dict[str, object] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._facts.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self._input.usage(),
        }
        return frame_bytes("message_start", {"type": "message_start", "message": message})

    def _delta(self, kind: str, delta: Mapping[str, object], piece: str) -> None:
        if self._open is None or self._open.kind != kind:
            self._open_block(kind, {})
        opened = self._open
        if opened is None:
            raise AssertionError("a block was just opened")
        if kind == "tool_use" or not self._facts.streamed:
            opened.pieces.append(piece)
        self._emit("content_block_delta", {"type": "content_block_delta", "index": opened.index, "delta": delta})

    def _open_block(self, kind: str, head: Mapping[str, object], call: int = -1) -> None:
        self._close_block()
        self._open = _Block(kind, self._index, call, head)
        self._index += 1
        start = {"type": kind, **head, **_EMPTY.get(kind, {})}
        self._emit(
            "content_block_start", {"type": "content_block_start", "index": self._open.index, "content_block": start}
        )

    def _close_block(self) -> None:
        opened, self._open = self._open, None
        if opened is None:
            return
        if not self._facts.streamed:
            self._blocks.append(opened.whole())
        self._emit("content_block_stop", {"type": "content_block_stop", "index": opened.index})

    def _emit(self, event: str, value: object) -> None:
        if self._facts.streamed:
            frame = frame_bytes(event, value)
            self._out.append(frame)
            self._held += len(frame) if self._headless else 0

    def _flush(self, *, now: bool = False) -> bytes:
        """What is ready. A head that should be exact keeps everything back until it is, unless `now`."""
        if self._headless:
            waits = self._facts.head == "buffer" and not self._input.exact and self._held <= HELD_LIMIT
            if waits and not now:
                return b""
            self._out.insert(0, self._head())
            self._headless = False
        out = b"".join(self._out)
        self._out.clear()
        return out


_EMPTY: Final[Mapping[str, Mapping[str, object]]] = {
    "text": {"text": ""},
    "thinking": {"thinking": "", "signature": ""},
    "tool_use": {"input": {}},
}
"""What a block of each kind starts with, before its deltas."""
