"""Events of Converse's wire to canonical events.

Rule 1: never raises. What cannot be read is a `ReplyFailed`; what is not known is ignored.
Rule 2: a whole reply and its stream give the same events, up to how text is cut.
Rule 3: what only this dialect knows comes out once, word for word; a block is assembled within a limit.
"""

from __future__ import annotations

import base64
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
from counterfoil.dialects.bedrock_converse.failure import frame_failure
from counterfoil.dialects.bedrock_converse.schema import (
    Block,
    BlockEvent,
    Body,
    Delta,
    MetadataEvent,
    ReasoningContent,
    ServiceTier,
    Start,
    StopEvent,
    ToolUse,
    read,
)
from counterfoil.dialects.bedrock_converse.usage import read_report
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.salvage import salvaged
from counterfoil.dialects.schema import UNREADABLE, encode, fields_of, given
from counterfoil.framing.eventstream import ERROR, EXCEPTION
from counterfoil.framing.frame import Frame

__all__ = ["BLOCK_LIMIT", "CALLS_LIMIT", "FINISHES", "ORIGIN", "ConverseDecoder"]

CALLS_LIMIT: Final = 1_024
"""Calls of one reply. A provider that begins more is not sending one."""
BLOCK_LIMIT: Final = 8 * 2**20
"""Characters of deltas that one block may gather."""

ORIGIN: Final = "amazon-bedrock-v1"
"""Whose encrypted reasoning it is where it is no text: then the wire's own base64 is kept."""

FINISHES: Final = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "guardrail_intervened": FinishReason.CONTENT_FILTER,
    "content_filtered": FinishReason.CONTENT_FILTER,
    # Claude's own words, which the enumeration of the API lacks.
    "refusal": FinishReason.REFUSAL,
    "pause_turn": FinishReason.PAUSED,
}
"""https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html: `stopReason`. The two `malformed_`
words are no reason that any other dialect knows."""

_SERVER_TOOL: Final = "server_tool_use"
_NO_ARGUMENTS: Final = "{}"
_WITHHELD: Final = "[REDACTED]"


class _Open:
    """A content block that has started and not stopped."""

    def __init__(self, call: int = -1, opaque: bytes = b"") -> None:
        self.call = call
        self.opaque = opaque
        """The head of a call that the provider answers itself."""
        self.argued = False
        self.gathered: list[str] = []
        self.redacted = bytearray()
        self.size = 0

    def fits(self, piece: str) -> bool:
        """Whether the block may gather one more piece."""
        self.size += len(piece)
        return self.size <= BLOCK_LIMIT


class ConverseDecoder:
    """One reply. `choices` is always 1 on this wire and is not looked at."""

    def __init__(self, streamed: bool, choices: int, quirks: Quirks) -> None:
        self._streamed = streamed
        self._quirks = quirks
        self._started = False
        self._finished = False
        self._reported = False
        self._done = False
        self._calls = 0
        self._open: dict[int, _Open] = {}

    @property
    def ended(self) -> bool:
        """A stop reason was seen, or what the quirk says ends a reply."""
        return {"finish": self._finished, "usage": self._reported, "done": self._done}[self._quirks.end]

    @property
    def done(self) -> bool:
        """`metadata` after `messageStop` (all recordings), or the whole reply."""
        return self._done

    def feed(self, frame: Frame) -> Sequence[Event]:
        """The events of one frame."""
        if frame.comment:
            return ()
        if frame.event.startswith((EXCEPTION, ERROR)):
            return (ReplyFailed(frame_failure(frame.event.partition(":")[2], frame.data)),)
        try:
            return self.hear(frame.event, frame.data) if self._streamed else self.whole(frame.data)
        except UNREADABLE:
            failed = ReplyFailed(bad_reply("a reply that is not readable as Converse"))
            return [*salvaged(frame.data, read_report, ("usage",)), failed]

    def close(self) -> Sequence[Event]:
        """The finish, where a quirk says that the provider never sends one and the reply has ended all the same."""
        if self._finished or not self.ended:
            return ()
        return [*self._stop_all(), *self._finish("", None)]

    def hear(self, kind: str, data: bytes | msgspec.Raw) -> Sequence[Event]:
        """One streamed event by its name. Raises one of `UNREADABLE`."""
        reader = self._READERS.get(kind)
        return reader(self, data) if reader is not None else ()

    def whole(self, data: bytes) -> list[Event]:
        """A whole reply. Raises one of `UNREADABLE`."""
        body = read(data, Body)
        if body.output is None and body.stop_reason is None:
            raise ValueError("no reply")
        events = self._start()
        message = body.output.message if body.output is not None else None
        for block in message.content or () if message is not None else ():
            events += self._block(block)
        if body.stop_reason is not None:
            events += self._finish(body.stop_reason, _stop_sequence(body.additional_model_response_fields))
        events += self._usage(body.usage, body.service_tier)
        self._done = True
        return events

    # ---- whole blocks

    def _block(self, raw: msgspec.Raw) -> list[Event]:
        block = read(raw, Block)
        if block.text is not None:
            return [TextDelta(block.text)] if block.text else []
        if given(block.tool_use):
            return self._call(block.tool_use)
        if block.reasoning_content is not None:
            return self._reasoning(block.reasoning_content)
        if block.citations_content is not None:
            said = [fields_of(part) for part in block.citations_content.content or ()]
            texts = [msgspec.json.decode(part["text"], type=str) for part in said if "text" in part]
            cited = [OpaqueGiven("citation", msgspec.Raw(bytes(c))) for c in block.citations_content.citations or ()]
            return [*(TextDelta(text) for text in texts if text), *cited]
        return [OpaqueGiven(kind, msgspec.Raw(bytes(value))) for kind, value in fields_of(raw).items()]

    def _call(self, raw: msgspec.Raw) -> list[Event]:
        tool = read(raw, ToolUse)
        if tool.type == _SERVER_TOOL:
            return [OutputHidden(), OpaqueGiven(_SERVER_TOOL, msgspec.Raw(bytes(raw)))]
        started = self._begin(tool)
        arguments = bytes(tool.input).decode() if given(tool.input) else _NO_ARGUMENTS
        return [started, ToolArgumentsDelta(started.call, arguments)]

    @staticmethod
    def _reasoning(said: ReasoningContent) -> list[Event]:
        if said.redacted_content is not None:
            return [OutputHidden(), _redacted(base64.b64decode(said.redacted_content, validate=True))]
        found = said.reasoning_text
        if found is None:
            return []
        events = _thought(found.text)
        return [*events, ReasoningSigned(found.signature)] if found.signature else events

    # ---- streamed events

    def _message_start(self, data: bytes | msgspec.Raw) -> list[Event]:
        return self._start()

    def _start(self) -> list[Event]:
        """The wire has neither an id nor a model."""
        if self._started:
            return []
        self._started = True
        return [ReplyStarted()]

    def _block_start(self, data: bytes | msgspec.Raw) -> list[Event]:
        said = read(data, BlockEvent)
        index = said.content_block_index or 0
        events = [*self._start(), *self._stop(index)]
        if not given(said.start):
            return events
        start = read(said.start, Start)
        if not given(start.tool_use):
            return events + [
                OpaqueGiven(kind, msgspec.Raw(bytes(value))) for kind, value in fields_of(said.start).items()
            ]
        tool = read(start.tool_use, ToolUse)
        if tool.type == _SERVER_TOOL:
            self._open[index] = _Open(opaque=bytes(start.tool_use))
            return [*events, OutputHidden()]
        started = self._begin(tool)
        self._open[index] = _Open(started.call)
        return [*events, started]

    def _begin(self, tool: ToolUse) -> ToolCallStarted:
        if self._calls >= CALLS_LIMIT:
            raise ValueError("too many calls")
        self._calls += 1
        return ToolCallStarted(self._calls - 1, tool.tool_use_id or "", tool.name or "")

    def _block_delta(self, data: bytes | msgspec.Raw) -> list[Event]:
        said = read(data, BlockEvent)
        events = self._start()
        if not given(said.delta):
            return events
        delta = read(said.delta, Delta)
        index = said.content_block_index or 0
        if delta.text is not None:
            return [*events, TextDelta(delta.text)] if delta.text else events
        if delta.tool_use is not None:
            return events + self._argue(index, delta.tool_use)
        if delta.reasoning_content is not None:
            return events + self._think(index, delta.reasoning_content)
        return events + [OpaqueGiven(kind, msgspec.Raw(bytes(value))) for kind, value in fields_of(said.delta).items()]

    def _argue(self, index: int, tool: ToolUse) -> list[Event]:
        opened = self._open.get(index)
        piece = _piece(tool.input)
        if not piece or opened is None:
            return []
        if opened.call >= 0:
            opened.argued = True
            return [ToolArgumentsDelta(opened.call, piece)]
        if not opened.fits(piece):
            return _too_large()
        opened.gathered.append(piece)
        return []

    def _think(self, index: int, said: ReasoningContent) -> list[Event]:
        if said.redacted_content is not None:
            opened = self._open.setdefault(index, _Open())
            if not opened.fits(said.redacted_content):
                return _too_large()
            begun = not opened.redacted
            opened.redacted += base64.b64decode(said.redacted_content, validate=True)
            return [OutputHidden()] if begun else []
        events = _thought(said.text)
        return [*events, ReasoningSigned(said.signature)] if said.signature else events

    def _block_stop(self, data: bytes | msgspec.Raw) -> list[Event]:
        return self._stop(read(data, BlockEvent).content_block_index or 0)

    def _stop(self, index: int) -> list[Event]:
        opened = self._open.pop(index, None)
        if opened is None:
            return []
        if opened.call >= 0:
            return [] if opened.argued else [ToolArgumentsDelta(opened.call, _NO_ARGUMENTS)]
        if opened.redacted:
            return [_redacted(bytes(opened.redacted))]
        if not opened.opaque:
            return []
        said = "".join(opened.gathered) or _NO_ARGUMENTS
        try:
            msgspec.json.decode(said)
        except UNREADABLE:
            said = encode({"INVALID_JSON": said}).decode()
        whole = {**fields_of(opened.opaque), "input": msgspec.Raw(said.encode())}
        return [OpaqueGiven(_SERVER_TOOL, msgspec.Raw(encode(whole)))]

    def _stop_all(self) -> list[Event]:
        return [event for index in sorted(self._open) for event in self._stop(index)]

    def _message_stop(self, data: bytes | msgspec.Raw) -> list[Event]:
        said = read(data, StopEvent)
        if said.stop_reason is None:
            return []
        stopped = self._stop_all()
        return [
            *self._start(),
            *stopped,
            *self._finish(said.stop_reason, _stop_sequence(said.additional_model_response_fields)),
        ]

    def _metadata(self, data: bytes | msgspec.Raw) -> list[Event]:
        said = read(data, MetadataEvent)
        events = self._usage(said.usage, said.service_tier)
        self._done = self._finished
        return events

    # ---- both

    def _finish(self, word: str, sequence: str | None) -> list[Event]:
        if self._finished:
            return []
        self._finished = True
        reason = FINISHES.get(word, FinishReason.UNKNOWN)
        if not word:  # supplied for a provider that never says one
            reason = FinishReason.TOOL_CALLS if self._calls else FinishReason.STOP
        return [ChoiceFinished(reason, said=word, stop_sequence=sequence)]

    def _usage(self, raw: msgspec.Raw, tier: ServiceTier | None) -> list[Event]:
        report = read_report(raw, tier=tier.type if tier is not None else None) if given(raw) else None
        if report is None:
            return []
        self._reported = True
        return [UsageReported(report)]

    _READERS: Final[dict[str, Callable[[ConverseDecoder, bytes | msgspec.Raw], list[Event]]]] = {
        "messageStart": _message_start,
        "contentBlockStart": _block_start,
        "contentBlockDelta": _block_delta,
        "contentBlockStop": _block_stop,
        "messageStop": _message_stop,
        "metadata": _metadata,
    }


def _too_large() -> list[Event]:
    return [ReplyFailed(bad_reply(f"a content block over the limit of {BLOCK_LIMIT} characters"))]


def _piece(raw: msgspec.Raw) -> str:
    """A piece of arguments: text on this wire. An object, which is what it means, is taken as its text."""
    if not given(raw):
        return ""
    said = bytes(raw)
    return msgspec.json.decode(said, type=str) if said[:1] == b'"' else said.decode()


def _thought(text: str | None) -> list[Event]:
    """Reasoning, or what stands for it: Nova 2 bills what it thought and shows a word in its place.
    https://docs.aws.amazon.com/nova/latest/nova2-userguide/reasoning-capabilities.html"""
    if not text:
        return []
    return [OutputHidden(), ReasoningDelta(text)] if text == _WITHHELD else [ReasoningDelta(text)]


def _redacted(data: bytes) -> RedactedReasoningGiven:
    """Claude's is a text (`data` of its own dialect) in binary clothes; anything else keeps the wire's base64."""
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return RedactedReasoningGiven(base64.b64encode(data).decode(), origin=ORIGIN)
    return RedactedReasoningGiven(text)


def _stop_sequence(raw: msgspec.Raw) -> str | None:
    """Which one it was, where the request asked for `/stop_sequence` and the model says it."""
    if not given(raw):
        return None
    try:
        found = msgspec.json.decode(raw)
    except UNREADABLE:
        return None
    word = found.get("stop_sequence") if isinstance(found, dict) else None
    return word if isinstance(word, str) else None
