"""Chat provider to chat client: every frame carried, and mended only where the repair table says so.

Rule 1: what to mend is decided by `repairs.py`. This module decides how little of a frame has to be opened to find out
that nothing is, because it sees every frame of every stream.
Rule 2: a shortcut may only skip rows that have nothing to mend. A test runs every stream with and without shortcuts.
Rule 3: usage and the end mark are held back for `close`, where the settled numbers are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import Event, ReasoningDelta, RefusalDelta, ReplyFailed, TextDelta, ToolCallStarted
from counterfoil.dialects.dialect import FinalUsage, Quirks, ReplyFacts
from counterfoil.dialects.openai_chat.endings import END_REPAIRS, Ending
from counterfoil.dialects.openai_chat.failure import write_failure
from counterfoil.dialects.openai_chat.repairs import (
    BLOCK_REPAIRS,
    CALL_REPAIRS,
    CHOICE_REPAIRS,
    FRAME_REPAIRS,
    MEMBER_REPAIRS,
    WHOLE_CALL_REPAIRS,
    WHOLE_CHOICE_REPAIRS,
    WHOLE_REPAIRS,
    Block,
)
from counterfoil.dialects.openai_chat.splice import (
    NULL,
    CallWork,
    ChoiceWork,
    FrameWork,
    Progress,
    Repair,
    readable,
)
from counterfoil.dialects.openai_chat.usage import write_usage
from counterfoil.dialects.schema import UNREADABLE, encode, fields_of
from counterfoil.framing.frame import Frame

__all__ = ["ChatRelay", "mended"]

_END_MARK: Final = b"[DONE]"
_NO_USAGE_YET: Final = b'{"usage":null}'
"""What a client that asked for usage reads in every frame but the last."""
_SAYS: Final = (TextDelta, ReasoningDelta, RefusalDelta, ToolCallStarted)


class _Anything(msgspec.Struct, gc=False):
    """Some object, not looked into."""


class _Function(msgspec.Struct, gc=False):
    name: _Anything | str | msgspec.UnsetType | None = msgspec.UNSET
    arguments: str | msgspec.UnsetType = msgspec.UNSET


class _Call(msgspec.Struct, gc=False):
    index: int
    id: str | msgspec.UnsetType | None = msgspec.UNSET
    function: _Function | msgspec.UnsetType = msgspec.UNSET


class _Delta(msgspec.Struct, gc=False):
    role: str | msgspec.UnsetType | None = msgspec.UNSET
    tool_calls: list[_Call] | msgspec.UnsetType | None = msgspec.UNSET


class _Choice(msgspec.Struct, gc=False):
    index: int
    delta: _Delta
    finish_reason: str | msgspec.UnsetType | None = msgspec.UNSET


class _Look(msgspec.Struct, gc=False):
    """Just what the rows ask of a frame in the middle of a reply. A frame of any other type gets every row."""

    id: str = ""
    object: str = ""
    created: int = 0
    model: str = ""
    choices: list[_Choice] = []
    usage: _Anything | msgspec.UnsetType | None = msgspec.UNSET
    x_groq: _Anything | msgspec.UnsetType | None = msgspec.UNSET
    error: _Anything | msgspec.UnsetType | None = msgspec.UNSET


_look: Final = msgspec.json.Decoder(_Look).decode
_read_id: Final = msgspec.json.Decoder(str).decode
_read_created: Final = msgspec.json.Decoder(int).decode


class ChatRelay:
    """One reply, carried from a chat provider to a chat client. `Relay` of the chat dialect.

    `carry` gives the bytes of one frame (none for a whole reply, a held frame, and `[DONE]`), `close` what ends the
    reply with the settled usage, `fail` the error frame that ends it otherwise.
    """

    def __init__(self, facts: ReplyFacts, quirks: Quirks, *, shortcuts: bool = True) -> None:
        self._progress = Progress(facts, quirks)
        self._streamed = facts.streamed
        self._shortcuts = shortcuts
        self._model = facts.model
        self._usage_in_order = None if facts.usage_asked else msgspec.UNSET
        """What `usage` is in a frame that needs no repair: null, or absent."""
        self._id = ""
        self._created = 0
        self._body = b""

    def carry(self, frame: Frame, events: Sequence[Event]) -> bytes:
        """One frame repaired, or its own bytes. Never raises."""
        if not self._streamed:
            self._body = frame.data
            return b""
        rows = None
        if self._shortcuts and not frame.comment:
            try:
                seen = _look(frame.data)
            except UNREADABLE:
                pass
            else:
                if self._choices_in_order(seen):
                    if self._members_in_order(seen):
                        return self._block(frame, self._named(frame.data, seen))
                    rows = self._rows_for(seen)
        return self._block(frame, self._repaired(frame, events, rows))

    def close(self, final: FinalUsage) -> bytes:
        """The end of a stream, usage frame and `[DONE]` included; the whole body of a reply that is not streamed."""
        usage = msgspec.Raw(write_usage(final))
        if not self._streamed:
            return self._whole(usage)
        ending = Ending(usage)
        for row in END_REPAIRS:
            row.mend(ending, self._progress)
        return b"".join([b"data: " + frame + b"\n\n" for frame in ending.frames])

    def fail(self, failure: Failure) -> bytes:
        """An error frame, and no end mark; of a whole reply, the error body."""
        body = write_failure(failure)
        return b"data: " + body + b"\n\n" if self._streamed else body

    def _choices_in_order(self, seen: _Look) -> bool:
        """Whether no row for choices and tool deltas has anything to mend or to remember."""
        begun, finished = self._progress.begun, self._progress.finished
        for choice in seen.choices:
            if choice.index not in begun or choice.index in finished or choice.finish_reason is not None:
                return False
            delta = choice.delta
            if type(delta.role) is str:
                return False
            if delta.tool_calls and not self._calls_in_order(choice.index, delta.tool_calls):
                return False
        return bool(seen.choices)

    def _calls_in_order(self, choice: int, calls: list[_Call]) -> bool:
        """Whether every tool delta is more of the call that its choice's last one was, and names it by index alone."""
        last = self._progress.indexes(choice).plain_last
        for call in calls:
            function = call.function
            named = call.id or (function is not msgspec.UNSET and function.name)
            if call.index != last or named:
                return False
        return True

    def _members_in_order(self, seen: _Look) -> bool:
        """Whether rows for frames have nothing to mend but the model's name and `usage` that is not there. The choices
        are in order."""
        return (
            seen.model != ""
            and seen.id == self._id
            and seen.created == self._created
            and seen.object == "chat.completion.chunk"
            and (seen.usage is self._usage_in_order or seen.usage is msgspec.UNSET)
            and seen.x_groq is msgspec.UNSET
            and seen.error is msgspec.UNSET
            and not self._progress.pending
        )

    def _named(self, data: bytes, seen: _Look) -> bytes:
        """A frame whose members are in order: most name the provider's model, and many lack `usage`."""
        complete = seen.usage is self._usage_in_order
        if seen.model == self._model:
            return data if complete else _extended(readable(data), _NO_USAGE_YET)
        values = fields_of(readable(data))
        if not complete:
            values["usage"] = NULL
        values["model"] = self._progress.identity["model"]
        return encode(values)

    def _rows_for(self, seen: _Look) -> Sequence[Repair[FrameWork]]:
        """The rows for frames that may have something to mend. The choices are in order."""
        plain = seen.x_groq is msgspec.UNSET and seen.error is msgspec.UNSET and not self._progress.pending
        return MEMBER_REPAIRS if plain else FRAME_REPAIRS

    def _repaired(
        self, frame: Frame, events: Sequence[Event], rows: Sequence[Repair[FrameWork]] | None = None
    ) -> bytes:
        """The frame's data after every row, or after `rows` when its choices are in order. Empty when nothing of it is
        carried now."""
        data, progress = frame.data, self._progress
        if frame.comment or data.strip() in (b"", _END_MARK):
            return b""
        said = readable(data)
        try:
            work = FrameWork(fields_of(said))
        except UNREADABLE:
            return b"" if any(isinstance(event, ReplyFailed) for event in events) else data
        if rows is None:
            progress.news = {event.choice for event in events if isinstance(event, _SAYS)}
            work.open("delta")
            work.repeated = set(progress.finished)
            for choice in work.choices:
                self._mend_choice(choice)
            work.close()
        for row in rows or FRAME_REPAIRS:
            row.mend(work, progress)
        if work.held:
            return b""
        if not self._id:
            self._id, self._created = _read_id(progress.identity["id"]), _read_created(progress.identity["created"])
        return mended(work, said, data)

    def _mend_choice(self, choice: ChoiceWork) -> None:
        progress = self._progress
        for row in CHOICE_REPAIRS:
            row.mend(choice, progress)
        self._mend_calls(choice, CALL_REPAIRS)
        progress.begun.add(choice.number)
        if bytes(choice.values.get("finish_reason", NULL)) != b"null":
            progress.finished.add(choice.number)

    def _mend_calls(self, choice: ChoiceWork, rows: Sequence[Repair[CallWork]]) -> None:
        calls = choice.calls(self._progress)
        for call in calls:
            for row in rows:
                row.mend(call, self._progress)
        if choice.part is not None and any(call.changed for call in calls):
            choice.put_part({**choice.part, "tool_calls": msgspec.Raw(encode([call.values for call in calls]))})

    def _block(self, frame: Frame, data: bytes) -> bytes:
        """The SSE block of `data`: the frame's own bytes where they are in order."""
        raw = frame.raw
        # One `data: ` line and its end are 8 bytes: whatever else a block holds makes it longer.
        if len(raw) == len(frame.data) + 8 and raw[:6] == b"data: " and raw[-2:] == b"\n\n":
            if not data:
                return b""
            return raw if data is frame.data else b"data: " + data + b"\n\n"
        block = Block(raw, data)
        for row in BLOCK_REPAIRS:
            row.mend(block, self._progress)
        return block.written()

    def _whole(self, usage: msgspec.Raw) -> bytes:
        progress, said = self._progress, readable(self._body)
        try:
            work = FrameWork(fields_of(said))
        except UNREADABLE:
            return self._body
        progress.settled = None if bytes(usage) == b"null" else usage
        work.open("message")
        for choice in work.choices:
            for choice_row in WHOLE_CHOICE_REPAIRS:
                choice_row.mend(choice, progress)
            self._mend_calls(choice, WHOLE_CALL_REPAIRS)
        work.close()
        for row in WHOLE_REPAIRS:
            row.mend(work, progress)
        return mended(work, said, self._body)


def mended(work: FrameWork, said: bytes, own: bytes) -> bytes:
    """What was made of a frame whose readable text is `said`: its `own` bytes where nothing was mended, its text with
    new members behind it where others are as they came."""
    if work.changed or len(work.new) == len(work.values):
        return encode(work.values)
    return _extended(said, encode(work.new)) if work.new else own


def _extended(data: bytes, members: bytes) -> bytes:
    """A JSON object that is not empty, and behind its members those of another one."""
    return data.rstrip()[:-1] + b"," + members[1:]
