"""Frames of the messages dialect to events.

Rule 1: never raises. What cannot be read is a `ReplyFailed`; what is not known is ignored, as the API asks of clients.
Rule 2: a whole message and its stream give the same events, up to how text is cut.
Rule 3: a block only this dialect knows comes out once, complete, word for word; it is assembled within a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from counterfoil.core.event import (
    ChoiceFinished,
    Event,
    FinishReason,
    OpaqueGiven,
    OutputHidden,
    ReasoningDelta,
    ReasoningSigned,
    RedactedReasoningGiven,
    ReplyFailed,
    ReplyStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.dialects.anthropic_messages.failure import frame_failure
from counterfoil.dialects.anthropic_messages.schema import Block, Delta, MessageBody, StreamFrame, read
from counterfoil.dialects.anthropic_messages.usage import Where, read_report
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.salvage import salvaged
from counterfoil.dialects.schema import UNREADABLE, encode, fields_of, given
from counterfoil.framing.frame import Frame

__all__ = ["CALLS_LIMIT", "FINISHES", "OPAQUE_LIMIT", "MessagesDecoder"]

CALLS_LIMIT: Final = 1_024
"""Calls of one reply. A server that begins more is not sending one."""
OPAQUE_LIMIT: Final = 8 * 2**20
"""Characters of deltas that one opaque block may gather."""

FINISHES: Final = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "pause_turn": FinishReason.PAUSED,
    # With `pause_after_compaction`: the client is asked to send the conversation again.
    "compaction": FinishReason.PAUSED,
    "refusal": FinishReason.REFUSAL,
}
"""https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons"""

_NO_ARGUMENTS: Final = "{}"


class _Open:
    """A content block that has started and not stopped."""

    def __init__(self, block: Block, raw: bytes, call: int = -1) -> None:
        self.block = block
        self.raw = raw
        self.call = call
        self.argued = False
        self.input: list[str] = []
        self.content: list[str] = []
        self.gathered = 0

    def gather(self, into: list[str], piece: str) -> bool:
        """Keep a piece for the block's end; False when the block has grown past the limit."""
        self.gathered += len(piece)
        if self.gathered > OPAQUE_LIMIT:
            return False
        into.append(piece)
        return True

    def whole(self) -> msgspec.Raw:
        """An opaque block with its deltas put in; its own bytes when it had none."""
        fields: dict[str, msgspec.Raw] = {}
        if any(self.input):
            fields["input"] = msgspec.Raw("".join(self.input).encode())
        if self.content:
            fields["content"] = msgspec.Raw(encode("".join(self.content)))
        if not fields:
            return msgspec.Raw(self.raw)
        try:
            if "input" in fields:
                msgspec.json.decode(fields["input"])
        except UNREADABLE:
            fields["input"] = msgspec.Raw(encode({"INVALID_JSON": "".join(self.input)}))
        return msgspec.Raw(encode({**fields_of(self.raw), **fields}))


class MessagesDecoder:
    """One reply. `choices` is always 1 on this wire and is not looked at."""

    def __init__(self, streamed: bool, choices: int, quirks: Quirks) -> None:
        self._streamed = streamed
        self._quirks = quirks
        self._started = False
        self._finished = False
        self._done = False
        self._reported = False
        self._calls = 0
        self._open: dict[int, _Open] = {}
        self._early: MessageBody | None = None
        """A head that already says why the reply stops (programmatic tool calling)."""

    @property
    def ended(self) -> bool:
        """A stop_reason was seen, or what the quirk says ends a reply."""
        return {"finish": self._finished, "usage": self._reported, "done": self._done}[self._quirks.end]

    @property
    def done(self) -> bool:
        """`message_stop`, or the whole message."""
        return self._done

    def feed(self, frame: Frame) -> Sequence[Event]:
        """The events of one frame."""
        if frame.comment or (self._streamed and not frame.data.strip()):
            return ()
        try:
            return self._feed(frame)
        except UNREADABLE:
            failed = ReplyFailed(bad_reply("a reply that is not readable as an Anthropic message"))
            return [*salvaged(frame.data, lambda raw: read_report(raw, "body"), ("usage",)), failed]

    def close(self) -> Sequence[Event]:
        """The finish, where a quirk says that the provider never sends one and the reply has ended all the same."""
        if self._finished or not self.ended:
            return ()
        return [*self._stop_all(), *self._finish("", None)]

    def _feed(self, frame: Frame) -> Sequence[Event]:
        if self._streamed and frame.data.strip() == b"[DONE]":  # not Anthropic's, but some servers send it
            self._done = True
            return ()
        said = read(frame.data, StreamFrame)
        kind = said.type or frame.event
        if kind == "message":
            return self._body(frame.data)
        reader = self._READERS.get(kind)
        if reader is not None and (self._streamed or kind == "error"):
            return reader(self, said)
        if given(said.error):
            return self._error(said)
        if not kind or not self._streamed:
            raise ValueError("no message")
        return ()

    def _body(self, data: bytes) -> list[Event]:
        """A whole message."""
        body = read(data, MessageBody)
        events = self._start(body)
        for block in body.content or ():
            events += self._block(block)
        if body.stop_reason is not None:
            events += self._finish(body.stop_reason, body.stop_sequence)
        events += self._usage(body.usage, "body", body.stop_reason)
        self._done = True
        return events

    def _message_start(self, said: StreamFrame) -> list[Event]:
        head = read(said.message, MessageBody)
        events = self._start(head)
        for block in head.content or ():
            events += self._block(block)
        if head.stop_reason is not None:
            self._early = head
        return events + self._usage(head.usage, "message_start", None)

    def _start(self, head: MessageBody) -> list[Event]:
        if self._started:
            return []
        self._started = True
        return [ReplyStarted(head.id or "", head.model or "")]

    def _block(self, raw: msgspec.Raw) -> list[Event]:
        """A block that came whole."""
        self._open[-1] = opened = self._opened(read(raw, Block), bytes(raw))
        events = [*self._opening(opened), *self._stop(-1)]
        return events + [
            OpaqueGiven("citation", msgspec.Raw(bytes(citation))) for citation in opened.block.citations or ()
        ]

    def _block_start(self, said: StreamFrame) -> list[Event]:
        index = said.index or 0
        events = self._stop(index)
        self._open[index] = opened = self._opened(read(said.content_block, Block), bytes(said.content_block))
        return [*events, *self._opening(opened)]

    def _opened(self, block: Block, raw: bytes) -> _Open:
        if block.type != "tool_use":
            return _Open(block, raw)
        if self._calls >= CALLS_LIMIT:
            raise ValueError("too many calls")
        self._calls += 1
        return _Open(block, raw, self._calls - 1)

    @staticmethod
    def _opening(opened: _Open) -> list[Event]:
        """What a block says by starting. Text in it counts."""
        block = opened.block
        match block.type:
            case "text":
                return [TextDelta(block.text)] if block.text else []
            case "thinking":
                # A summary, or nothing (`display: omitted`), of what is billed:
                # https://platform.claude.com/docs/en/build-with-claude/extended-thinking#summarized-thinking
                thought: list[Event] = [OutputHidden()]
                thought += [ReasoningDelta(block.thinking)] if block.thinking else []
                return [*thought, ReasoningSigned(block.signature)] if block.signature else thought
            case "redacted_thinking":
                return [RedactedReasoningGiven(block.data or "")]
            case "tool_use":
                return [ToolCallStarted(opened.call, block.id or "", block.name or "")]
            case _:
                return [OutputHidden()]  # told when it is whole

    def _block_delta(self, said: StreamFrame) -> Sequence[Event]:
        delta = read(said.delta, Delta)
        reader = self._DELTAS.get(delta.type)
        opened = self._open.get(said.index or 0)
        if reader is not None:
            return reader(delta, opened)
        if delta.type == "compaction_delta" and opened is not None and given(delta.content):
            piece = msgspec.json.decode(delta.content, type=str)
            return () if opened.gather(opened.content, piece) else self._too_large()
        return (OpaqueGiven(delta.type, msgspec.Raw(bytes(said.delta))),)

    @staticmethod
    def _text(delta: Delta, opened: _Open | None) -> Sequence[Event]:
        return (TextDelta(delta.text),) if delta.text else ()

    @staticmethod
    def _thinking(delta: Delta, opened: _Open | None) -> Sequence[Event]:
        return (ReasoningDelta(delta.thinking),) if delta.thinking else ()

    @staticmethod
    def _signature(delta: Delta, opened: _Open | None) -> Sequence[Event]:
        return (ReasoningSigned(delta.signature),) if delta.signature else ()

    @staticmethod
    def _citation(delta: Delta, opened: _Open | None) -> Sequence[Event]:
        return (OpaqueGiven("citation", msgspec.Raw(bytes(delta.citation))),) if given(delta.citation) else ()

    @staticmethod
    def _input(delta: Delta, opened: _Open | None) -> Sequence[Event]:
        if not delta.partial_json or opened is None:
            return ()
        if opened.call < 0:
            fits = opened.gather(opened.input, delta.partial_json)
            return () if fits else MessagesDecoder._too_large()
        opened.argued = True
        return (ToolArgumentsDelta(opened.call, delta.partial_json),)

    @staticmethod
    def _too_large() -> Sequence[Event]:
        return (ReplyFailed(bad_reply(f"a content block over the limit of {OPAQUE_LIMIT} characters")),)

    def _block_stop(self, said: StreamFrame) -> list[Event]:
        return self._stop(said.index or 0)

    def _stop(self, index: int) -> list[Event]:
        opened = self._open.pop(index, None)
        if opened is None:
            return []
        kind = opened.block.type
        if opened.call >= 0:
            if opened.argued:
                return []
            whole = bytes(opened.block.input).decode() if given(opened.block.input) else _NO_ARGUMENTS
            return [ToolArgumentsDelta(opened.call, whole)]
        return [] if kind in _CANONICAL else [OpaqueGiven(kind, opened.whole())]

    def _stop_all(self) -> list[Event]:
        return [event for index in sorted(self._open) for event in self._stop(index)]

    def _message_delta(self, said: StreamFrame) -> list[Event]:
        delta = read(said.delta, Delta) if given(said.delta) else Delta()
        events: list[Event] = []
        if delta.stop_reason is not None:
            events += self._stop_all()
            events += self._finish(delta.stop_reason, delta.stop_sequence)
        return events + self._usage(said.usage, "message_delta", delta.stop_reason)

    def _message_stop(self, said: StreamFrame) -> list[Event]:
        self._done = True
        if self._early is None:
            return []
        return [*self._stop_all(), *self._finish(self._early.stop_reason or "", self._early.stop_sequence)]

    def _finish(self, word: str, sequence: str | None) -> list[Event]:
        if self._finished:
            return []
        self._finished = True
        reason = FINISHES.get(word, FinishReason.UNKNOWN)
        if not word:  # supplied for a provider that never says one
            reason = FinishReason.TOOL_CALLS if self._calls else FinishReason.STOP
        return [ChoiceFinished(reason, said=word, stop_sequence=sequence)]

    def _usage(self, raw: msgspec.Raw, where: Where, stop_reason: str | None) -> list[Event]:
        report = read_report(raw, where, declined=stop_reason == "refusal") if given(raw) else None
        if report is None:
            return []
        self._reported = self._reported or where != "message_start"
        return [UsageReported(report)]

    def _error(self, said: StreamFrame) -> Sequence[Event]:
        return (ReplyFailed(frame_failure(bytes(said.error) or b"{}")),)

    def _ping(self, said: StreamFrame) -> Sequence[Event]:
        return ()

    _READERS: Final[dict[str, Callable[[MessagesDecoder, StreamFrame], Sequence[Event]]]] = {
        "message_start": _message_start,
        "content_block_start": _block_start,
        "content_block_delta": _block_delta,
        "content_block_stop": _block_stop,
        "message_delta": _message_delta,
        "message_stop": _message_stop,
        "ping": _ping,
        "error": _error,
    }
    _DELTAS: Final[dict[str, Callable[[Delta, _Open | None], Sequence[Event]]]] = {
        "text_delta": _text,
        "thinking_delta": _thinking,
        "signature_delta": _signature,
        "citations_delta": _citation,
        "input_json_delta": _input,
    }


_CANONICAL: Final = frozenset({"text", "thinking", "redacted_thinking"})
"""Blocks whose events are all out when they stop."""
