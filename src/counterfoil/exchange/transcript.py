"""The text of one attempt's reply, held in memory until it can be counted by the model's own vocabulary.

Rule 1: it exists only where somebody will count: without a corrector no attempt has one, and the meter pays nothing.
Rule 2: bounded. What does not fit into its room is let go of at once, all of it: the estimate made in line stands.
Rule 3: text stays in memory. It is dropped once it is counted, and goes into no entry, journal, log or error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from counterfoil.core.event import (
    Event,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.dialects.dialect import ClientDialect
from counterfoil.exchange.meter import Meter
from counterfoil.ledger.correction import Pricing, is_estimated
from counterfoil.ledger.entry import Entry, Opening
from counterfoil.usage.settle import Delivered
from counterfoil.usage.usage import Bucket

__all__ = ["CALL_TOKENS", "Corrector", "KeepingMeter", "Recount", "Room", "Transcript", "meter_of", "recount_of"]

CALL_TOKENS: Final = 13
"""What a model writes around one tool call beside its name and arguments, where those are counted by its vocabulary
(4 to 17 for the middle half of 39 recorded replies, median 13)."""

_TEXT: Final = -1
_REASONING: Final = -2
_BLOCK: Final = 1 << 15
"""Bytes that are asked of the room at a time."""
_PIECE: Final = 16
"""Bytes that holding one more piece of text costs beside the text."""

_Texts = dict[tuple[int, int], list[str]]
"""Pieces of text by choice and part of it: a tool call's number, or one of the two above."""


class Room(Protocol):
    """Memory that several transcripts share."""

    def take(self, amount: int) -> bool:
        """Whether there are so many bytes left; then they are taken."""
        ...

    def give_back(self, amount: int) -> None:
        """They are free again."""
        ...


class Transcript:
    """The text of one reply. Not frozen, as the meter is not."""

    __slots__ = ("_at_report", "_limit", "_room", "_spare", "_taken", "_texts", "lost")

    def __init__(self, room: Room, limit: int) -> None:
        """`limit`: bytes of memory at most."""
        self._room = room
        self._limit = limit
        self._taken = 0
        self._spare = 0
        """Of what was taken, not used yet."""
        self._texts: _Texts = {}
        self._at_report: dict[tuple[int, int], int] = {}
        """How many pieces of each text there were."""
        self.lost = False
        """It did not fit, or was dropped: there is nothing to count."""

    def see(self, events: Sequence[Event]) -> None:
        """Keep the text of these events."""
        for event in events:
            match event:
                case TextDelta(text=text, choice=choice) | RefusalDelta(text=text, choice=choice):
                    self._add(choice, _TEXT, text)
                case ToolArgumentsDelta(call=call, arguments=text, choice=choice):
                    self._add(choice, call, text)
                case ReasoningDelta(text=text, choice=choice):
                    self._add(choice, _REASONING, text)
                case ToolCallStarted(call=call, name=name, choice=choice):
                    self._add(choice, call, name)
                case UsageReported(report=report):
                    if report.measures_output:
                        self._at_report = {part: len(pieces) for part, pieces in self._texts.items()}
                case _:
                    pass

    def drop(self) -> None:
        """Let go of all text. Doing it twice changes nothing."""
        self.lost = True
        self._texts = {}
        taken, self._taken, self._spare = self._taken, 0, 0
        if taken:
            self._room.give_back(taken)

    def __del__(self) -> None:
        self.drop()

    def counted(self, seen: Delivered, count: Callable[[str], int]) -> Delivered:
        """`seen` with its output as `count` counts the text. A lost transcript changes nothing."""
        if self.lost:
            return seen
        per_choice, reasoning = _counted(self._texts, count)
        changes: dict[str, Any] = {"output": sum(per_choice.values()), "reasoning": reasoning}
        if seen.since_report is not None:
            before = self._at_report
            rest = {part: pieces[before.get(part, 0) :] for part, pieces in self._texts.items()}
            rest = {part: pieces for part, pieces in rest.items() if pieces}
            later, thought = _counted(rest, count)
            begun = sum(part in before for part in rest if part[1] not in (_TEXT, _REASONING))
            changes["since_report"] = sum(later.values()) + thought - begun * CALL_TOKENS
        if seen.per_choice:
            changes["per_choice"] = {choice: per_choice.get(choice, 0) for choice in seen.per_choice}
        return msgspec.structs.replace(seen, **changes)

    def _add(self, choice: int, part: int, text: str) -> None:
        if self.lost:
            return
        size = text.__sizeof__() + _PIECE
        if size > self._spare and not self._more(size):
            self.drop()
            return
        self._spare -= size
        part_of = (choice, part)
        pieces = self._texts.get(part_of)
        if pieces is None:
            pieces = self._texts[part_of] = []
        pieces.append(text)

    def _more(self, size: int) -> bool:
        """Whether there is room for `size` bytes more than is used."""
        amount = min(max(_BLOCK, size - self._spare), self._limit - self._taken)
        if self._spare + amount < size or not self._room.take(amount):
            return False
        self._taken += amount
        self._spare += amount
        return True


def _counted(texts: _Texts, count: Callable[[str], int]) -> tuple[Mapping[int, int], int]:
    """Tokens of what each choice said, and of all reasoning."""
    spoken: dict[int, int] = {}
    reasoning = 0
    for (choice, part), parts in texts.items():
        tokens = count("".join(parts))
        if part == _REASONING:
            reasoning += tokens
            tokens = 0
        elif part != _TEXT:
            tokens += CALL_TOKENS
        spoken[choice] = spoken.get(choice, 0) + tokens
    return spoken, reasoning


class KeepingMeter(Meter):
    """A meter that also keeps the text, where a corrector wants it."""

    __slots__ = ("transcript",)

    def __init__(self, attempt: str, input_estimate: int | None, transcript: Transcript) -> None:
        super().__init__(attempt, input_estimate)
        self.transcript = transcript

    def see(self, events: Sequence[Event]) -> None:
        """Count these events, and keep their text."""
        super().see(events)
        self.transcript.see(events)


class Recount(msgspec.Struct, frozen=True):
    """An entry with estimates in it, and what they can be counted from."""

    entry: Entry
    transcript: Transcript
    dialect: ClientDialect[Any]
    body: bytes
    """The client's request, in its dialect."""
    price: Pricing


def meter_of(opening: Opening, input_estimate: int | None, corrector: Corrector | None) -> Meter:
    """The meter of an attempt; one that keeps the text where `corrector` could count it."""
    transcript = None if corrector is None else corrector.transcript(opening)
    if transcript is None:
        return Meter(opening.attempt, input_estimate)
    return KeepingMeter(opening.attempt, input_estimate, transcript)


def recount_of(meter: Meter, entry: Entry, dialect: ClientDialect[Any], body: bytes, price: Pricing) -> Recount | None:
    """What the entry's estimates can be counted from. Where nothing was estimated, the text goes here and now."""
    if not isinstance(meter, KeepingMeter):
        return None
    if not is_estimated(entry, *Bucket):
        meter.transcript.drop()
        return None
    return Recount(entry, meter.transcript, dialect, body, price)


class Corrector(Protocol):
    """Who counts again, after the end, what had to be estimated."""

    def transcript(self, opening: Opening) -> Transcript | None:
        """Where the text of this attempt's reply is to be kept; None when nobody could count it."""
        ...

    def offer(self, recount: Recount) -> None:
        """Count it when there is time, drop the text, and write a correction. Never waits and never raises."""
        ...
