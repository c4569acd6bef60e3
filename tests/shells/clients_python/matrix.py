"""The matrix: what is served, through what, and how what a client heard is compared with it.

Rule 1: the provider's own list is the truth. Ledger and client are both compared with it, never with each other alone.
Rule 2: no two cells count alike, so nothing of one can pass for another's.
Rule 3: a cell finds its own by the ticket in what is said to the model, which crosses every dialect.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from counterfoil.ledger.entry import Entry, Exit
from counterfoil.stores.projection import Selection
from counterfoil.testing import (
    Answer,
    ChatReply,
    Counts,
    MessagesReply,
    Playback,
    Request,
    Script,
    Served,
    Tool,
    chat_reply,
    dialect_of,
    error_answer,
    error_player,
    gemini_reply,
    in_turn,
    messages_reply,
    no_answer,
    path_player,
    responses_reply,
    running,
)
from tests.shells.clients import booked, estimated
from tests.shells.gateway import SECONDS, RunningGateway, gateway

__all__ = [
    "BAD_KEY",
    "BEFORE",
    "BOATS",
    "BODY_LIMIT",
    "CALLS",
    "GOOD_KEY",
    "MIDDLE",
    "MIDDLE_EXITS",
    "PROOFS",
    "PROVIDERS",
    "RESULTS",
    "SCHEMA",
    "SUBJECTS",
    "THOUGHT",
    "TIDE",
    "TOO_LONG",
    "UNKNOWN_MODEL",
    "Cell",
    "Heard",
    "Stage",
    "cells",
    "parsed",
    "staged",
]

GOOD_KEY: Final = "sk-good"
BAD_KEY: Final = "sk-bad"
BODY_LIMIT: Final = 20_000
TOO_LONG: Final = "la " * BODY_LIMIT
"""What is too long to be said."""
UNKNOWN_MODEL: Final = "nobody-knows-it"

CONFIGURATION: Final = """
models:
  chat: [{{provider: playhouse, model: play-1, base_url: "{origin}/v1", api_key: play}}]
  messages: [{{provider: anthropic, model: claude-sonnet-4-5, base_url: "{origin}", api_key: play}}]
  responses: [{{provider: openai, model: gpt-5, base_url: "{origin}/v1", api_key: play, dialect: openai_responses}}]
  gemini: [{{provider: google, model: gemini-2.5-flash, base_url: "{origin}/v1beta", api_key: play, dialect: gemini}}]
listen: {{port: 0, drain: 5}}
retries: {{attempts: 1}}
limits: {{body: {limit}}}
keys: {{required: true, static: [{{name: harbour, secret: {key}}}]}}
"""

PROVIDERS: Final[Mapping[str, str]] = {
    "chat": "openai_chat",
    "messages": "anthropic_messages",
    "responses": "openai_responses",
    "gemini": "gemini",
}
"""Each route, and the dialect of the provider behind it."""

SUBJECTS: Final = ("text", "tools", "reasoning")
TIDE: Final = Tool("tide", '{"port": "north", "hour": 4}')
BOATS: Final = Tool("boats")
CALLS: Final = [("tide", {"port": "north", "hour": 4}), ("boats", {})]
THOUGHT: Final = "High or low? It is the fourth hour."
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"port": {"type": "string"}, "hour": {"type": "integer"}},
    "required": ["port", "hour"],
}
"""The arguments of `tide`."""

_PLANS: Final[Mapping[str, ChatReply]] = {
    "text": ChatReply(),
    "tools": ChatReply(text="", tools=(TIDE, BOATS)),
    "reasoning": ChatReply(text="At noon it is high.", reasoning=THOUGHT),
}
RESULTS: Final = ("high at four", "three of them")
"""What the calls give."""
PROOFS: Final[Mapping[str, str]] = {
    "messages": MessagesReply().signature,
    "responses": "c2VhbGVkLWluLXBsYXk=",
    "gemini": "c2lnbmVkLWluLXBsYXk=",
}
"""What a provider proves its thinking with, by route; it wants it back."""
_PROOFLESS: Final = frozenset({"openai_chat"})
"""Dialects of clients that know no proofs."""

_Test = TypeVar("_Test", bound=Callable[..., None])
_TICKET: Final = re.compile(rb"ticket-\d+-")
_NUMBERS: Final = itertools.count(1)


@dataclass
class Heard:
    """What a client understood of one reply."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    """Name and parsed arguments of each call."""
    counts: Counts = field(default_factory=Counts)
    """Inclusive totals, worked out of what the client shows."""


@dataclass(frozen=True)
class Cell:
    """One call: which route, about what, and the words that find it again."""

    route: str
    subject: str
    ticket: str
    plan: ChatReply

    @property
    def prompt(self) -> str:
        """What is said to the model."""
        return f"When is high water? {self.ticket}"


def cells(*ways: str) -> Callable[[_Test], _Test]:
    """Parametrise a test over ways of calling, providers and subjects."""

    def apply(test: _Test) -> _Test:
        for name, values in (("subject", SUBJECTS), ("route", PROVIDERS), ("way", ways)):
            test = pytest.mark.parametrize(name, list(values))(test)
        return test

    return apply


def parsed(arguments: str) -> Any:
    """A call's arguments; none at all are none."""
    return json.loads(arguments or "{}")


class Stage:
    """A gateway that wants a key, the provider behind it, and the tickets."""

    def __init__(self, provider: Playback, running_gateway: RunningGateway) -> None:
        self.provider = provider
        self.gateway = running_gateway
        self._answers: dict[bytes, Answer] = {}
        self._closed: list[Entry] = []
        provider.default = self._choose

    @property
    def origin(self) -> str:
        return self.gateway.origin

    def cell(self, route: str, subject: str) -> Cell:
        """A new cell, with counts that no other has."""
        number = next(_NUMBERS)
        reasoning = 7 + number if subject == "reasoning" else 0
        usage = Counts(
            input=1000 + 17 * number,
            output=200 + 3 * number,
            cache_read=300 + 5 * number,
            cache_write=40 + number,
            reasoning=reasoning,
        )
        plan = replace(_PLANS[subject], usage=usage)
        return self.put(path_player(plan), route, subject, plan)

    def put(self, answer: Answer, route: str, subject: str = "text", plan: ChatReply | None = None) -> Cell:
        """A cell that is answered so."""
        self.settled()  # what a test before this left when it failed
        ticket = f"ticket-{next(_NUMBERS)}-"
        self._answers[ticket.encode()] = answer
        return Cell(route, subject, ticket, plan or ChatReply())

    def served(self, cell: Cell) -> list[Served]:
        """What the provider served on a cell's ticket."""
        return [one for one in self.provider.served if _ticket(one.request) == cell.ticket.encode()]

    def settled(self) -> list[Entry]:
        """The entries since this was asked last, once nothing runs any more; corrections of estimates left out."""
        until = time.monotonic() + SECONDS
        while self.gateway.gateway.driver.open_exchanges:
            assert time.monotonic() < until, "an exchange does not end"
            time.sleep(0.002)
        assert self.gateway.books.flush(SECONDS)
        every = list(self.gateway.books.store.entries(Selection(last=64)))
        known = {entry.opening.attempt for entry in self._closed}
        fresh = [entry for entry in every if entry.opening.attempt not in known and entry.corrects is None]
        self._closed = every
        return fresh

    def trip(self, route: str) -> tuple[Cell, Cell]:
        """Two cells of one conversation: a reply that thinks and calls, and the reply to what its calls gave."""
        first, second = self.cell(route, "tools"), self.cell(route, "text")
        called = Cell(route, "tools", second.ticket, replace(first.plan, reasoning=THOUGHT))
        self._answers[second.ticket.encode()] = in_turn(path_player(called.plan), path_player(second.plan))
        return called, second

    def check(self, cell: Cell, heard: Heard, client: str, unsaid: Iterable[str] = ()) -> None:
        """One call was served, one entry is booked, and all three say the same.

        `unsaid`: what this client has no words for: names of `Counts`, or "reasoning text".
        """
        (served,) = self.served(cell)
        (entry,) = self._booked([served])
        _compare(cell, heard, served, entry, client, set(unsaid))

    def check_trip(
        self, trip: tuple[Cell, Cell], heard: tuple[Heard, Heard], client: str, unsaid: Iterable[str] = ()
    ) -> None:
        """Both calls as in `check`; what the calls gave reached the provider, and so did its own proof of thinking."""
        calls = self.served(trip[1])
        entries = self._booked(calls)
        for cell, said, served, entry in zip(trip, heard, calls, entries, strict=True):
            _compare(cell, said, served, entry, client, set(unsaid))
        sent = calls[1].body.decode()
        assert all(result in sent for result in RESULTS)
        proof = PROOFS.get(trip[0].route)
        if proof is not None and client not in _PROOFLESS:
            assert sent.count(proof) == 1

    def _booked(self, calls: Iterable[Served]) -> list[Entry]:
        for served in calls:  # it notes a frame once it is written, which a client may hear of before
            self.provider.block_until(functools.partial(_over, served), SECONDS)
        return self.settled()

    def failed(self, cell: Cell, exit_: Exit) -> None:
        """One call was served, and its one entry ended so."""
        assert len(self.served(cell)) == 1
        (entry,) = self.settled()
        assert entry.exit is exit_

    def untouched(self, cell: Cell) -> None:
        """Nothing was served, and nothing booked."""
        assert self.served(cell) == []
        assert self.settled() == []

    def _choose(self, request: Request) -> Script:
        answer = self._answers.get(_ticket(request))
        if answer is None:
            return error_answer(500, "no such ticket", dialect=dialect_of(request))
        return answer if isinstance(answer, Script) else answer(request)


def _compare(cell: Cell, heard: Heard, served: Served, entry: Entry, client: str, unsaid: set[str]) -> None:
    wanted = served.usage
    assert wanted is not None
    assert wanted == served.reported, "the list of what was served is not in order"
    assert booked(entry) == wanted
    assert not estimated(entry)
    assert entry.discrepancies == ()
    assert entry.exit is Exit.COMPLETED
    assert (entry.opening.client_dialect, entry.opening.provider_dialect) == (client, PROVIDERS[cell.route])
    for count in fields(Counts):
        said, true = getattr(heard.counts, count.name), getattr(wanted, count.name)
        if count.name in unsaid:
            assert not said, f"{count.name}: the client has words for it now"
        else:
            assert (said or 0) == (true or 0), f"{count.name}: the client says {said}, {true} was served"
    assert heard.text == cell.plan.text
    assert heard.calls == (CALLS if cell.plan.tools else [])
    assert heard.reasoning == ("" if "reasoning text" in unsaid else "".join(cell.plan.reasoning))


@contextlib.contextmanager
def staged(directory: Path) -> Iterator[Stage]:
    """A running stage."""
    with running() as provider:
        text = CONFIGURATION.format(origin=provider.origin, limit=BODY_LIMIT, key=GOOD_KEY)
        with gateway(directory, text=text) as running_gateway:
            yield Stage(provider, running_gateway)


BEFORE: Final[Mapping[str, tuple[Answer, int, Exit]]] = {
    "it refuses": (error_player(429, "The harbour is full."), 429, Exit.REJECTED),
    "it is overloaded": (error_player(503, "The harbour is full."), 503, Exit.REJECTED),
    "it hangs up": (no_answer(), 502, Exit.LOST),
}
"""A provider that fails before the first byte of its reply: its answer, our status, the entry's exit."""


MIDDLE: Final[Mapping[str, Mapping[str, Script]]] = {
    "it hangs up": {
        "chat": chat_reply().cut_at(5),
        "messages": messages_reply().cut_at(6),
        "responses": responses_reply().cut_at(8),
        "gemini": gemini_reply().cut_at(4),
    },
    "it says so": {
        "chat": chat_reply(error="plain"),
        "messages": messages_reply(error="api_error"),
        "responses": responses_reply(error="event_and_failed"),
        "gemini": gemini_reply(error="INTERNAL"),
    },
}
"""A provider that fails in the middle of a stream, by route."""
MIDDLE_EXITS: Final[Mapping[str, Exit]] = {"it hangs up": Exit.TRUNCATED, "it says so": Exit.FAILED}


def _over(served: Served) -> bool:
    return served.ended is not None


def _ticket(request: Request) -> bytes:
    found = _TICKET.search(request.body)
    return found.group() if found else b""
