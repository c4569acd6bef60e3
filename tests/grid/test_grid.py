"""Promise: SDK = LangChain = gateway = ledger = what the provider served, by every call path, dialect and usage shape.

One provider and one gateway serve the whole grid; the provider's own list is the truth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import openai
import pytest

import counterfoil
from counterfoil.ledger.entry import Entry, Exit, vouchers
from counterfoil.testing import CHAT_SHAPES, ChatReply, Counts, MessagesReply, Script, Served
from counterfoil.usage.usage import Provenance
from tests.grid.paths import PATHS, Asked, CallPath, Told, World
from tests.shells.clients import booked, staged
from tests.shells.gateway import SECONDS

__all__: list[str] = []

_FULL = Counts(input=140, output=37, cache_read=100, cache_write=8, reasoning=5)
_CUT = 6
"""Frames that are served of a reply that is cut: the role and five words, or the start and some words."""

_SLACK = 6
"""Tokens by which the estimates of two clients' requests for the same may differ: names of fields, spaces."""


@dataclasses.dataclass(frozen=True)
class Case:
    """What the provider does."""

    plan: ChatReply | MessagesReply
    route: str = "m"
    cut: bool = False

    @property
    def script(self) -> Script:
        script = self.plan.script()
        return script.cut_at(_CUT) if self.cut else script

    @property
    def n(self) -> int:
        return self.plan.n if isinstance(self.plan, ChatReply) else 1

    @property
    def unreported(self) -> bool:
        """Whether the provider says nothing of what it served."""
        return all(frame.reported is None for frame in self.script.frames)


STREAMED: Mapping[str, Case] = {
    **{f"chat {shape}": Case(ChatReply(shape=shape, usage=_FULL)) for shape in CHAT_SHAPES},
    "chat two choices": Case(ChatReply(n=2, usage=_FULL)),
    "chat two choices, each its own": Case(
        ChatReply(n=2, shape="per_choice", usage=Counts(input=11, output=20)), "each"
    ),
    "chat cut, nothing reported": Case(ChatReply(usage=_FULL), cut=True),
    "chat cut, counts running": Case(ChatReply(shape="every_chunk", usage=_FULL), cut=True),
    "messages full": Case(MessagesReply(usage=_FULL), "claude"),
    "messages output_only": Case(MessagesReply(usage=_FULL, delta="output_only"), "claude"),
    "messages thinking": Case(MessagesReply(usage=_FULL, thinking="High or low?"), "claude"),
    "messages cut": Case(MessagesReply(usage=_FULL), "claude", cut=True),
}
WHOLE: Mapping[str, Case] = {
    "chat": Case(ChatReply(stream=False, usage=_FULL)),
    "chat two choices": Case(ChatReply(stream=False, n=2, usage=_FULL)),
    "chat absent": Case(ChatReply(stream=False, shape="absent", usage=_FULL)),
    "messages": Case(MessagesReply(stream=False, usage=_FULL), "claude"),
    "messages thinking": Case(MessagesReply(stream=False, usage=_FULL, thinking="High or low?"), "claude"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with staged(tmp_path_factory.mktemp("grid")) as stage:
        config = stage.gateway.config_path
        with (
            counterfoil.Client(config=config, max_retries=0, timeout=SECONDS) as sdk,
            counterfoil.Client(base_url=stage.base_url, api_key="any", max_retries=0, timeout=SECONDS) as there,
            openai.OpenAI(base_url=stage.base_url, api_key="sk-any", max_retries=0, timeout=SECONDS) as official,
        ):
            yield World(stage, config, sdk, there, official)


@dataclasses.dataclass(frozen=True)
class Book:
    """What an entry says that every way must agree on."""

    counts: Counts
    vouchers: Mapping[str, Provenance]
    exit: Exit


def _book(entry: Entry) -> Book:
    return Book(booked(entry), vouchers(entry.usage), entry.exit)


_references: dict[tuple[bool, str], Book] = {}


def _reference(world: World, name: str, case: Case, *, streamed: bool) -> Book:
    """What the gateway books for a bare call: what is not reported is compared with this."""
    if (streamed, name) not in _references:
        ticket = world.stage.put(case.script)
        PATHS["raw stream" if streamed else "raw whole"].call(world, Asked(case.route, ticket, case.n))
        _references[streamed, name] = _book(world.stage.once(ticket)[1])
    return _references[streamed, name]


def _compare(book: Book, reference: Book) -> None:
    """The same; an estimate of the input is made from the request's bytes, which each client writes its own way."""
    if reference.vouchers["input_tokens"] is not Provenance.ESTIMATED:
        assert book == reference
        return
    assert book.counts.input is not None
    assert reference.counts.input is not None
    assert abs(book.counts.input - reference.counts.input) <= _SLACK
    assert book == dataclasses.replace(reference, counts=dataclasses.replace(reference.counts, input=book.counts.input))


def _cells(cases: Mapping[str, Case], *, streamed: bool) -> list[tuple[str, str]]:
    return [(path, name) for path, row in PATHS.items() if row.streamed is streamed for name in cases]


def _call(world: World, path: CallPath, case: Case) -> tuple[Told, Served, list[Entry]]:
    """The call, what was served for it, and every entry of it: of this process and of the gateway."""
    ticket = world.stage.put(case.script)
    said = path.call(world, Asked(case.route, ticket, case.n))
    (served,) = world.stage.served(ticket)
    world.stage.provider.block_until(lambda: served.ended is not None)  # its list is written after its bytes are
    assert len(said.entries) == path.own
    theirs = world.stage.entries(ticket)
    assert len(theirs) == path.gateway
    return said, served, [*said.entries, *theirs]


def _check_told_of_failure(entry: Entry, theirs: Entry) -> None:
    """Before a gateway whose provider was cut off: its error frame has what it booked, and whoever meters there books
    the same."""
    assert entry.exit is Exit.FAILED
    assert entry.reading.reports == 1
    assert booked(entry) == booked(theirs)
    assert Provenance.REPORTED not in vouchers(entry.usage).values()


def _check(world: World, path: CallPath, name: str, case: Case) -> None:
    said, served, entries = _call(world, path, case)
    if case.cut and path.own and path.gateway:
        _check_told_of_failure(*entries)
        entries.pop(0)
    reference, *others = [_book(entry) for entry in entries]
    assert others == [reference] * len(others)
    _compare(reference, _reference(world, name, case, streamed=path.streamed))
    if case.cut:
        assert said.error is not None
        assert reference.exit is Exit.TRUNCATED
        if not (path.own and path.gateway):
            assert said.usage in (None, reference.counts)
        if served.reported is not None:
            assert reference.counts.input == served.reported.input == _FULL.input
        assert served.text.startswith(said.text)
        return
    assert said.error is None
    assert reference.exit is Exit.COMPLETED
    if case.n == 1:
        assert said.text == served.text
    if case.unreported:
        assert set(reference.vouchers.values()) <= {Provenance.ESTIMATED, Provenance.UNKNOWN}
        assert said.usage == reference.counts
    else:
        assert said.usage == reference.counts == served.reported == served.usage


@pytest.mark.parametrize(("path", "name"), _cells(STREAMED, streamed=True))
def test_a_streamed_reply_is_counted_the_same_by_everybody(world: World, path: str, name: str) -> None:
    _check(world, PATHS[path], name, STREAMED[name])


@pytest.mark.parametrize(("path", "name"), _cells(WHOLE, streamed=False))
def test_a_whole_reply_is_counted_the_same_by_everybody(world: World, path: str, name: str) -> None:
    _check(world, PATHS[path], name, WHOLE[name])
