"""Completions provider to completions client: every frame carried, and mended by those rows of the chat's repair table
that are about frames and choices, not about messages.

Rule 1: a JSON value that no row names is carried as it came, byte for byte and in order.
Rule 2: usage and the end mark are held back for `close`, where the settled numbers are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import Event, ReplyFailed, TextDelta
from counterfoil.dialects.dialect import FinalUsage, Quirks, ReplyFacts
from counterfoil.dialects.openai_chat.endings import END_REPAIRS, Ending
from counterfoil.dialects.openai_chat.failure import write_failure
from counterfoil.dialects.openai_chat.relay import mended
from counterfoil.dialects.openai_chat.repairs import (
    BLOCK_REPAIRS,
    CHOICE_REPAIRS,
    FRAME_REPAIRS,
    WHOLE_REPAIRS,
    Block,
)
from counterfoil.dialects.openai_chat.splice import (
    NULL,
    ChoiceWork,
    FrameWork,
    Progress,
    Repair,
    is_empty,
    readable,
)
from counterfoil.dialects.openai_chat.usage import write_usage
from counterfoil.dialects.openai_completions.reply import SILENT
from counterfoil.dialects.schema import UNREADABLE, Fields, encode, fields_of
from counterfoil.framing.frame import Frame

__all__ = ["CompletionRelay"]

_END_MARK: Final = b"[DONE]"
_OBJECT: Final = msgspec.Raw(b'"text_completion"')
_OF_CHOICES: Final = frozenset({"choice index", "finish key", "finish repeated"})
_OF_ENDS: Final = frozenset({"usage frame", "end mark"})
_CHOICE_ROWS: Final[tuple[Repair[ChoiceWork], ...]] = tuple(row for row in CHOICE_REPAIRS if row.name in _OF_CHOICES)
_END_ROWS: Final[tuple[Repair[Ending], ...]] = tuple(row for row in END_REPAIRS if row.name in _OF_ENDS)


class CompletionRelay:
    """One reply, carried. `Relay` of the completions dialect."""

    def __init__(self, facts: ReplyFacts, quirks: Quirks) -> None:
        self._progress = Progress(facts, quirks)
        self._progress.identity["object"] = _OBJECT
        self._streamed = facts.streamed
        self._body = b""

    def carry(self, frame: Frame, events: Sequence[Event]) -> bytes:
        """One frame repaired, or its own bytes. Never raises."""
        if not self._streamed:
            if not frame.comment:
                self._body = frame.data
            return b""
        data = self._repaired(frame, events)
        raw = frame.raw
        if data and data is frame.data and raw == b"data: " + data + b"\n\n":
            return raw
        block = Block(raw, data)
        for row in BLOCK_REPAIRS:
            row.mend(block, self._progress)
        return block.written()

    def close(self, final: FinalUsage) -> bytes:
        """The end of a stream, usage frame and `[DONE]` included; the whole body of a reply that is not streamed."""
        usage = msgspec.Raw(write_usage(final))
        if not self._streamed:
            return self._whole(usage)
        ending = Ending(usage)
        self._supply(ending)
        for row in _END_ROWS:
            row.mend(ending, self._progress)
        return b"".join([b"data: " + frame + b"\n\n" for frame in ending.frames])

    def fail(self, failure: Failure) -> bytes:
        """An error frame, and no end mark; of a whole reply, the error body."""
        body = write_failure(failure)
        return b"data: " + body + b"\n\n" if self._streamed else body

    def _repaired(self, frame: Frame, events: Sequence[Event]) -> bytes:
        """The frame's data after every row; empty when nothing of it is carried now."""
        data, progress = frame.data, self._progress
        if frame.comment or data.strip() in (*SILENT, _END_MARK):
            return b""
        said = readable(data)
        try:
            work = FrameWork(fields_of(said))
        except UNREADABLE:
            return b"" if any(isinstance(event, ReplyFailed) for event in events) else data
        if "choices" not in work.values:
            self._give_choices(work, events)
        work.open("text")
        work.repeated = set(progress.finished)
        for choice in work.choices:
            for row in _CHOICE_ROWS:
                row.mend(choice, progress)
            progress.begun.add(choice.number)
            if not is_empty(choice.values.get("finish_reason")):
                progress.finished.add(choice.number)
        work.close()
        for frame_row in FRAME_REPAIRS:
            frame_row.mend(work, progress)
        if work.held:
            return b""
        return mended(work, said, data)

    @staticmethod
    def _give_choices(work: FrameWork, events: Sequence[Event]) -> None:
        """A frame that has its text elsewhere says it in a choice (Writer, WIRE.md 2): no client looks elsewhere."""
        texts = [event.text for event in events if isinstance(event, TextDelta)]
        if texts:
            work.put("choices", msgspec.Raw(encode([_choice(0, "".join(texts), NULL)])))

    def _supply(self, ending: Ending) -> None:
        """What no frame of the provider's says: a finish it never sends, values that came after the last choice."""
        progress = self._progress
        if progress.quirks.end != "finish":
            for number in sorted((progress.begun or {0}) - progress.finished):
                ending.add(self._frame(_choice(number, "", msgspec.Raw(b'"stop"'))))
        if progress.pending and not progress.facts.usage_asked:
            ending.add({**self._frame(_choice(0, "", NULL)), **progress.pending})

    def _frame(self, choice: Fields) -> Fields:
        values = {**self._progress.identity, "choices": msgspec.Raw(encode([choice]))}
        return {**values, "usage": NULL} if self._progress.facts.usage_asked else values

    def _whole(self, usage: msgspec.Raw) -> bytes:
        progress, said = self._progress, readable(self._body)
        try:
            work = FrameWork(fields_of(said))
        except UNREADABLE:
            return self._body
        progress.settled = None if bytes(usage) == b"null" else usage
        for row in WHOLE_REPAIRS:
            row.mend(work, progress)
        return mended(work, said, self._body)


def _choice(number: int, text: str, finish: msgspec.Raw) -> Fields:
    values = {"text": text, "index": number, "logprobs": None}
    return {**{key: msgspec.Raw(encode(value)) for key, value in values.items()}, "finish_reason": finish}
