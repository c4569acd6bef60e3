"""A world made of lists: carries an exchange's commands out without IO, and keeps what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from counterfoil.config import ClientGone, Limits, Retries, Timeouts
from counterfoil.dialects.dialect import ClientDialect, Dialect, MissingUsage, Quirks
from counterfoil.dialects.registry import CLIENT_DIALECTS
from counterfoil.exchange.call import Call, Context
from counterfoil.exchange.command import (
    Abort,
    Answer,
    Close,
    Command,
    Deliver,
    Finish,
    Head,
    Interrupted,
    Note,
    Open,
    Outcome,
    Post,
    Read,
    Start,
    Wait,
)
from counterfoil.exchange.exchange import exchange
from counterfoil.exchange.route import Deployment, Route
from counterfoil.exchange.transcript import Corrector
from counterfoil.ledger.entry import Entry, Exit, Line, Opening
from counterfoil.ledger.store import BooksUnavailable
from counterfoil.providers.provider import Provider
from counterfoil.testing import Script
from counterfoil.usage.settle import Convention, SettledLine

CHAT = CLIENT_DIALECTS["openai_chat"]
MESSAGES = CLIENT_DIALECTS["anthropic_messages"]


@dataclass
class Played:
    """What a provider does with one call: an answer to the Post, then answers to the Reads (the last for ever)."""

    head: Head | Interrupted
    reads: list[bytes | Interrupted] = field(default_factory=list)


def played(script: Script, *, then: bytes | Interrupted = b"") -> Played:
    """A script of the playback provider, a read a frame; `then` answers what is read after it."""
    head = Head(script.status, dict(script.headers))
    return Played(head, [*(frame.data for frame in script.frames), then])


def refused(status: int, body: bytes = b"{}", **headers: str) -> Played:
    """An error answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Played(Head(status, {"content-type": "application/json", **named}), [body, b""])


def lost() -> Played:
    """No connection."""
    return Played(Interrupted(Exit.LOST, "the connection was refused", unsent=True))


def price_by_count(opening: Opening, lines: tuple[SettledLine, ...]) -> tuple[Line, ...]:
    """A picodollar a token, so that a cost can be read off."""
    return tuple(
        Line(line.model or opening.model, line.kind, line.usage, line.usage.total_tokens, None, line.waived)
        for line in lines
    )


def deployment(
    dialect: Dialect[Any] = CHAT,
    *,
    name: str = "playhouse",
    convention: Convention | None = None,
    quirks: Quirks | None = None,
    drop: bool = False,
    timeouts: Timeouts | None = None,
    known: bool = True,
) -> Deployment:
    """Something callable in this world."""
    return Deployment(
        provider=Provider(name=name, title=name.title(), dialect=dialect.name),
        model="play-1",
        dialect=dialect,
        base_url=f"http://{name}.test/v1",
        convention=convention or dialect.convention,
        quirks=quirks or Quirks(default_max_tokens=4096),
        timeouts=timeouts or Timeouts(),
        drop=drop,
        known=known,
    )


def call(
    *deployments: Deployment,
    dialect: ClientDialect[Any] = CHAT,
    body: dict[str, object] | None = None,
    stream: bool = True,
    usage_asked: bool = True,
    missing_usage: MissingUsage = "estimate",
    retries: Retries | None = None,
    client_gone: ClientGone | None = None,
    **fields: object,
) -> Call:
    """A client's call of the route "house-model"."""
    request: dict[str, object] = {
        "model": "house-model",
        "messages": [{"role": "user", "content": "Tell me of the tide."}],
        "max_tokens": 100,
        "stream": stream,
        **(body or {}),
        **fields,
    }
    if stream and usage_asked and dialect is CHAT:
        request["stream_options"] = {"include_usage": True}
    raw = msgspec.json.encode(request)
    route = Route(
        "house-model",
        deployments or (deployment(),),
        missing_usage=missing_usage,
        retries=retries or Retries(attempts=1),
        client_gone=client_gone or ClientGone(),
    )
    return Call("exchange-1", route, dialect, raw, dialect.peek_request(raw), input_estimate=9)


class World:
    """Answers commands. `interrupt` may answer any interruptible command with an interruption instead."""

    def __init__(
        self,
        *calls: Played,
        interrupt: Callable[[int, Command], Interrupted | None] | None = None,
        books_open: Callable[[Opening], None] | None = None,
        learned: set[str] | None = None,
        corrector: Corrector | None = None,
    ) -> None:
        self._corrector = corrector
        self._calls = list(calls)
        self._interrupt = interrupt or (lambda number, command: None)
        self._books_open = books_open or (lambda opening: None)
        self._reads: list[bytes | Interrupted] = []
        self._ids: Iterator[int] = iter(range(10**6))
        self.now = 1000.0
        self.log: list[Command] = []
        self.outcome = Outcome()
        self.learned: set[str] = set() if learned is None else learned

    def run(self, client_call: Call) -> Outcome:
        """Carry an exchange out to its end."""
        context = Context(
            clock=lambda: self.now,
            wall=lambda: 1_700_000_000.0 + self.now,
            new_id=lambda: f"attempt-{next(self._ids)}",
            jitter=lambda: 0.5,
            price=price_by_count,
            limits=Limits(),
            learned=self.learned,
            corrector=self._corrector,
        )
        steps = exchange(client_call, context)
        try:
            command = next(steps)
            while True:
                self.log.append(command)
                try:
                    answer = self._answer(command)
                except BooksUnavailable as error:
                    command = steps.throw(error)
                else:
                    command = steps.send(answer)
        except StopIteration as stop:
            self.outcome = stop.value
            return self.outcome

    def _answer(self, command: Command) -> Answer:
        self.now += 0.01
        if isinstance(command, Post | Read | Deliver | Wait):
            interruption = self._interrupt(len(self.log) - 1, command)
            if interruption is not None:
                return interruption
        match command:
            case Open(opening=opening):
                self._books_open(opening)
            case Post():
                played = self._calls.pop(0)
                self._reads = list(played.reads)
                return played.head
            case Read():
                return self._reads.pop(0) if len(self._reads) > 1 else self._reads[0] if self._reads else b""
            case Wait(seconds=seconds):
                self.now += seconds
            case Close(recount=recount):
                if recount is not None and self._corrector is not None:
                    self._corrector.offer(recount)
            case _:
                pass
        return None

    # ---- what was asked

    def all(self, kind: type[Command]) -> list[Command]:
        """The commands of one kind, in order."""
        return [command for command in self.log if isinstance(command, kind)]

    @property
    def entries(self) -> list[Entry]:
        """The entries that were closed, in order."""
        return [command.entry for command in self.log if isinstance(command, Close)]

    @property
    def entry(self) -> Entry:
        """The only entry."""
        (entry,) = self.entries
        return entry

    @property
    def sent(self) -> bytes:
        """What the client got."""
        return b"".join(command.data for command in self.log if isinstance(command, Deliver))

    @property
    def frames(self) -> list[dict[str, object]]:
        """The JSON of the chat frames the client got, the end mark left out."""
        blocks = [block for block in self.sent.decode().split("\n\n") if block]
        data = [block.removeprefix("data: ") for block in blocks]
        return [msgspec.json.decode(text) for text in data if text != "[DONE]"]

    @property
    def status(self) -> int:
        """The status the client got."""
        (start,) = [command for command in self.log if isinstance(command, Start)]
        return start.status


def check_books(log: Sequence[Command]) -> None:
    """The laws every exchange keeps, whatever happened on the way."""
    opened: list[str] = []
    closed: list[str] = []
    last_sent = False
    for command in log:
        match command:
            case Open(opening=opening):
                assert opened == closed, "an attempt opens before the last one is closed"
                assert not last_sent
                assert not any(isinstance(earlier, Deliver) for earlier in log[: log.index(command)]), (
                    "a new attempt after the client received a byte"
                )
                opened.append(opening.attempt)
            case Post():
                assert len(opened) == len(closed) + 1, "a call without an open entry"
            case Close(entry=entry):
                closed.append(entry.opening.attempt)
                assert not last_sent, "the last bytes were released before the entry was closed"
            case Deliver(last=last):
                assert not last_sent, "bytes after the last ones"
                last_sent = last
            case Start() | Read() | Note() | Wait() | Finish() | Abort():
                pass
    assert opened == closed, "an entry was left open, or closed twice"
    posts = sum(isinstance(command, Post) for command in log)
    ends = sum(isinstance(command, Finish | Abort) for command in log)
    assert ends >= posts, "an upstream connection was left behind"
