"""Text is kept only where somebody will count it, within its limits, and goes when it is not needed."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field

import pytest

from counterfoil.core.event import (
    Event,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.exchange.command import Close, Interrupted, Open, Read
from counterfoil.exchange.meter import Meter
from counterfoil.exchange.transcript import CALL_TOKENS, Recount, Transcript
from counterfoil.ledger.entry import Exit, Opening
from counterfoil.testing import Counts, Tool, chat_reply, error_answer
from counterfoil.usage.reading import Counter, Report
from counterfoil.usage.settle import Delivered
from tests.exchange.world import World, call, check_books, played

__all__: list[str] = []

WORDS = ("The ", "tide ", "turns ", "at ", "noon")


@dataclass
class Shelf:
    """A room that says what is in it."""

    size: int = 1 << 20
    taken: int = 0

    def take(self, amount: int) -> bool:
        if self.taken + amount > self.size:
            return False
        self.taken += amount
        return True

    def give_back(self, amount: int) -> None:
        self.taken -= amount


@dataclass
class Desk:
    """A corrector that keeps what it is offered."""

    room: Shelf = field(default_factory=Shelf)
    limit: int = 1 << 20
    asked: list[str] = field(default_factory=list)
    offered: list[Recount] = field(default_factory=list)

    def transcript(self, opening: Opening) -> Transcript | None:
        self.asked.append(opening.model)
        return Transcript(self.room, self.limit)

    def offer(self, recount: Recount) -> None:
        self.offered.append(recount)


def words(text: str) -> int:
    return len(text.split())


def kept(*events: Event, room: Shelf | None = None, limit: int = 1 << 20) -> Transcript:
    transcript = Transcript(room or Shelf(), limit)
    for event in events:
        transcript.see([event])
    return transcript


def test_text_is_counted_by_choice_and_reasoning_apart() -> None:
    transcript = kept(
        ReasoningDelta("so it "),
        TextDelta("The tide "),
        TextDelta("Noon", choice=1),
        ReasoningDelta("seems"),
        TextDelta("turns"),
        RefusalDelta(" no", choice=1),
    )
    seen = Delivered(9, 40, 10, choices=frozenset({0, 1}), per_choice={0: 20, 1: 20})
    counted = transcript.counted(seen, words)
    assert (counted.output, counted.reasoning, counted.per_choice) == (5, 3, {0: 3, 1: 2})
    assert (counted.input, counted.choices, counted.since_report) == (9, seen.choices, None)


def test_a_tool_call_is_its_name_its_arguments_and_what_stands_around_them() -> None:
    transcript = kept(
        TextDelta("One moment"),
        ToolCallStarted(0, "c1", "tide "),
        ToolArgumentsDelta(0, '{"port": '),
        ToolArgumentsDelta(0, '"north"}'),
        ToolCallStarted(1, "c2", "noon"),
    )
    assert transcript.counted(Delivered(), words).output == 2 + 3 + 1 + 2 * CALL_TOKENS


def test_what_came_after_a_measured_report_is_counted_apart() -> None:
    transcript = kept(
        TextDelta("one two three "),
        UsageReported(Report({Counter.OUTPUT: 3})),
        TextDelta("four five"),
        ReasoningDelta("six"),
        UsageReported(Report({Counter.OUTPUT: 1}, provisional=frozenset({Counter.OUTPUT}))),
        UsageReported(Report({Counter.INPUT: 1})),
    )
    counted = transcript.counted(Delivered(output=9, since_report=4), words)
    assert (counted.output, counted.since_report) == (5, 3)


def test_a_call_that_goes_on_after_a_report_has_begun_before_it() -> None:
    transcript = kept(
        ToolCallStarted(0, "c1", "tide "),
        UsageReported(Report({Counter.OUTPUT: 3})),
        ToolArgumentsDelta(0, "{ }"),
        ToolCallStarted(1, "c2", "noon"),
    )
    counted = transcript.counted(Delivered(output=9, since_report=4), words)
    assert (counted.output, counted.since_report) == (3 + 1 + 2 * CALL_TOKENS, 2 + 1 + CALL_TOKENS)


@pytest.mark.parametrize("pieces", [1, 3, 200])
def test_a_text_that_does_not_fit_is_let_go_of_and_the_estimate_stands(pieces: int) -> None:
    room = Shelf()
    text = "noon " * 20_000
    size = -(-len(text) // pieces)
    events = [TextDelta(text[start : start + size]) for start in range(0, len(text), size)]
    transcript = kept(*events, TextDelta("more"), room=room, limit=50_000)
    assert transcript.lost
    assert room.taken == 0
    seen = Delivered(9, 40)
    assert transcript.counted(seen, words) == seen


def test_many_small_pieces_count_for_what_they_take_in_memory() -> None:
    room = Shelf()
    transcript = kept(*[TextDelta("a")] * 5000, room=room, limit=100_000)
    assert transcript.lost
    assert room.taken == 0


def test_texts_share_a_room_and_give_it_back() -> None:
    room = Shelf(size=100_000)
    first = kept(TextDelta("a" * 60_000), room=room)
    second = kept(TextDelta("b" * 60_000), room=room)
    assert (first.lost, second.lost) == (False, True)
    first.drop()
    first.drop()
    assert room.taken == 0
    third = kept(TextDelta("c" * 60_000), room=room)
    assert not third.lost
    del third
    gc.collect()
    assert room.taken == 0


def test_without_a_corrector_nothing_is_kept() -> None:
    world = World(played(chat_reply(text=WORDS, shape="absent")))
    world.run(call(usage_asked=False))
    (opened,) = [command for command in world.log if isinstance(command, Open)]
    assert type(opened.meter) is Meter
    assert [command.recount for command in world.log if isinstance(command, Close)] == [None]


def test_a_reply_that_nobody_reported_is_offered_with_its_text_and_its_request() -> None:
    desk = Desk()
    world = World(played(chat_reply(text=WORDS, shape="absent", tools=(Tool("tide"),))), corrector=desk)
    asked = call(usage_asked=False)
    world.run(asked)
    check_books(world.log)
    (recount,) = desk.offered
    assert desk.asked == ["play-1"]
    assert (recount.entry, recount.body, recount.dialect) == (world.entry, asked.body, asked.dialect)
    counted = recount.transcript.counted(Delivered(), words)
    assert counted.output == 5 + len(["tide{}"]) + CALL_TOKENS


def test_a_cut_reply_is_offered_with_what_was_delivered() -> None:
    desk = Desk()
    script = chat_reply(text=WORDS, usage=Counts(input=11, output=7))

    def cut(number: int, command: object) -> Interrupted | None:
        reads = sum(isinstance(one, Read) for one in world.log)
        return Interrupted(Exit.CLIENT_GONE) if isinstance(command, Read) and reads == 4 else None

    world = World(played(script), corrector=desk, interrupt=cut)
    world.run(call())
    assert world.entry.exit is Exit.CLIENT_GONE
    (recount,) = desk.offered
    assert 0 < recount.transcript.counted(Delivered(), words).output < 5


@pytest.mark.parametrize(
    "script",
    [chat_reply(text=WORDS, usage=Counts(input=11, output=7)), error_answer(400)],
    ids=["reported", "refused"],
)
def test_text_goes_at_once_where_nothing_was_estimated(script: object) -> None:
    desk = Desk()
    world = World(played(script), corrector=desk)  # type: ignore[arg-type]  # a Script in each case
    world.run(call())
    assert desk.asked == ["play-1"]
    assert desk.offered == []
    assert desk.room.taken == 0
