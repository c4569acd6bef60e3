"""An attempt that carries: the provider's status, headers and bytes go by as they come, read for the books only.

Rule 1: the bytes a client reads are the provider's, all of them, in order. Nothing of ours is added: bytes that are
missing are told by the connection that breaks off.
Rule 2: where the path's dialect is known the reply is read by the way. Whatever is found in it, or is not, changes no
byte. Where it is not known, nobody guesses: the usage is unknown, which is never 0.
Rule 3: the entry is opened and closed as every other one (`attempt.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import Event
from counterfoil.dialects.dialect import FinalUsage
from counterfoil.exchange.attempt import Running
from counterfoil.exchange.call import Call, Context
from counterfoil.exchange.carriage import Carriage
from counterfoil.exchange.command import Abort, Answer, Command, Deliver, Finish, Head, Interrupted, Open, Post, Start
from counterfoil.exchange.ending import CUT, DEFECT, Attempted, bad_reply, redirected
from counterfoil.exchange.reply import Reply, Step, is_streamed, is_web_page, request_id
from counterfoil.exchange.route import Deployment
from counterfoil.framing.frame import Frame
from counterfoil.ledger.entry import Entry, Exit
from counterfoil.usage.settle import Convention

__all__ = ["UNKNOWN", "CarriedReply", "CarriedWriter", "carry"]

UNKNOWN: Final = "unknown"
"""What the books call the dialect of a path that nobody knows."""
_SHOWN: Final = frozenset(
    {
        "accept-ranges",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-range",
        "content-type",
        "etag",
        "expires",
        "last-modified",
        "link",
        "location",
        "openai-processing-ms",
        "openai-version",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
    }
)
"""Headers of a reply that say something of it, and nothing of whose account it is."""
_SHOWN_BEGINNINGS: Final = ("x-ratelimit-", "anthropic-ratelimit-", "ratelimit")


def carry(
    call: Call, carriage: Carriage, deployment: Deployment, context: Context
) -> Generator[Command, Answer, Attempted]:
    """Make the one attempt of a call that is carried."""
    running = _Carrying(call, carriage, deployment, context)
    yield Open(running.opening, running.meter)
    try:
        return (yield from running.walk(call.body, carriage.headers))
    except Exception as error:  # noqa: BLE001 - a defect of ours must not leave an entry open
        return (yield from running.defect(error))


class _Carrying(Running):
    """The walk of an attempt, with nothing between the provider's bytes and the client."""

    _reply: CarriedReply

    def __init__(self, call: Call, carriage: Carriage, deployment: Deployment, context: Context) -> None:
        # What was estimated is counted again from the client's request, in the client's dialect: here the provider's.
        known = carriage.known and deployment.dialect is call.dialect
        quiet = context if known else msgspec.structs.replace(context, corrector=None)
        super().__init__(call, deployment, deployment.quirks, quiet, ())
        self._carriage = carriage
        self._guesses = carriage.known
        self._head: Mapping[str, str] = {}
        if not carriage.known:
            self.opening = msgspec.structs.replace(self.opening, provider_dialect=UNKNOWN, convention=Convention())
        if not known:
            self.opening = msgspec.structs.replace(self.opening, client_dialect=self.opening.provider_dialect)

    def post(self, body: bytes, headers: Mapping[str, str]) -> Post:
        """The request as it came."""
        return msgspec.structs.replace(super().post(body, headers), carriage=self._carriage)

    # ---- the head

    def rejected(self, head: Head) -> Generator[Command, Answer, Attempted]:
        """An error, or a redirect, which is the client's to follow: they are carried like every other answer. Only a
        refusal of what the gateway signed is told in our words: AWS quotes the signed headers, a token among them."""
        if head.status == 403 and self._deployment.fetched:
            return msgspec.structs.replace((yield from super().rejected(head)), last=True)
        self.expect(head)
        return (yield from self.end((yield from self.follow())))

    def expect(self, head: Head) -> Failure | None:
        """Prepare to carry what this head announces; a failure when it announces nothing."""
        self._status, self._head = head.status, head.headers
        if head.status < 200:
            return bad_reply(f"The provider answered with status {head.status}, which announces no reply.")
        length, read = head.headers.get("content-length", ""), self._read(head)
        self._guesses = read is not None
        self._reply = CarriedReply(read, int(length) if length.isdecimal() else None)
        self._writer = CarriedWriter(self._reply)
        self.meter.identify(request_id(head.headers))
        return None

    def _read(self, head: Head) -> Reply | None:
        """What reads the reply meanwhile; None where there is nothing that can be read."""
        compressed = head.headers.get("content-encoding", "").strip().lower() not in ("", "identity")
        if not self._carriage.known or not 200 <= head.status < 300 or compressed or is_web_page(head.headers):
            return None
        dialect, peek = self._deployment.dialect, self._call.peek
        return Reply(
            dialect,
            self.meter,
            streamed=is_streamed(head.headers, dialect, asked=peek.streamed),
            choices=peek.choices,
            quirks=self._quirks,
            limits=self._context.limits,
            headers=head.headers,
        )

    def start(self) -> Start:
        """The provider's status, and those of its headers that a client may see."""
        named = {field.strip().lower() for field in self._head.get("connection", "").split(",")}
        shown = {
            name: value
            for name, value in self._head.items()
            if name not in named and (name in _SHOWN or name.startswith(_SHOWN_BEGINNINGS))
        }
        assert self._status is not None  # noqa: S101 - nothing is begun before there is a head
        return Start(self._status, {**shown, **self._headers})

    def _deadline(self) -> float:
        """Also what follows the reply's end is the client's, who would see its connection break off before."""
        return super()._deadline() if self._reply.last or self._gone_at is not None else self._silence()

    # ---- the end

    def end(self, interruption: Interrupted | None) -> Generator[Command, Answer, Attempted]:
        """Close the entry, then release the last bytes, whatever they amount to. Where bytes are missing after the
        reply's own end, the books have all of it and the client is told as of any bytes that are missing."""
        if interruption is not None and not self._reply.ended:
            return (yield from self.give_up(interruption))
        yield Finish() if interruption is None else Abort()
        entry = yield from self._close(self._told())
        if self._gone_at is None and (interruption is None or self._reply.last):
            if not self._begun:
                yield self.start()
            yield Deliver(self._writer.close(FinalUsage(None)), self.began + self._timeouts.total, last=True)
        return Attempted(entry, told=True, defect=self._reply.defect)

    def _told(self) -> Entry:
        """The entry of a reply whose bytes all came: its exit is what its dialect says of them."""
        failure = self.meter.failure if self._reply.defect is None else DEFECT
        if failure is not None:
            return self._entry(Exit.FAILED, ended=self._reply.ended, detail=failure.kind.value)
        if not self._reply.ended:
            return self._entry(Exit.TRUNCATED, detail=CUT.kind.value)
        return self._entry(Exit.COMPLETED, ended=True)

    def tell(self, failure: Failure) -> Generator[Command, Answer, None]:
        """Say nothing: the door breaks the connection off, as HTTP tells that bytes are missing."""
        yield from ()

    def _entry(self, exit_: Exit, *, ended: bool = False, detail: str | None = None) -> Entry:
        status = self._status
        if status is None or status < 300:
            return super()._entry(exit_, ended=ended, detail=detail)
        said = redirected(status) if status < 400 else self._call.dialect.read_failure(status, self._head, b"")
        return super()._entry(Exit.REJECTED, detail=said.kind.value)


class CarriedReply:
    """A reply that goes by. `read`: what reads it meanwhile; `length`: bytes that were announced."""

    def __init__(self, read: Reply | None, length: int | None) -> None:
        self._read = read
        self._left = length
        self._closed = False
        self.last = length == 0
        """An end mark came, or the last byte that was announced: what came last waits until the books are closed."""
        self.defect: Exception | None = None
        """Where our own code failed to read it, which is no reason not to carry it."""

    @property
    def ended(self) -> bool:
        """The reply reached its dialect's end; where nobody reads it, or it is not read before it is whole: its last
        byte."""
        if self._read is None:
            return self.last or self._closed
        return (self.last and not self._closed) or self._read.ended

    @property
    def over(self) -> bool:
        """What follows an end mark, or cannot be read, is still carried: only the end of the bytes is the end."""
        return self._closed

    def feed(self, data: bytes) -> Sequence[Step]:
        """These bytes, as one step."""
        if self._left is not None:
            self._left = max(self._left - len(data), 0)
        if self._read is not None and not self._read.over and self.defect is None:
            self._attempt(lambda read: read.feed(data))
        self.last = self._left == 0 or (self._read is not None and self._read.marked)
        return ((Frame(b"", raw=data), ()),)

    def close(self) -> Sequence[Step]:
        """The bytes are over."""
        self._closed = True
        if self.defect is None:
            self._attempt(lambda read: read.close())
        return ()

    def _attempt(self, step: Callable[[Reply], object]) -> None:
        try:
            if self._read is not None:
                step(self._read)
        except Exception as error:  # noqa: BLE001 - said with the outcome
            self.defect = error


class CarriedWriter:
    """What the client reads of it: the same. The last bytes are held back until the entry is closed."""

    def __init__(self, reply: CarriedReply) -> None:
        self._reply = reply
        self._held = b""

    def carry(self, frame: Frame, events: Sequence[Event]) -> bytes:
        """The provider's bytes. Of what may be the last of them, one piece stays behind."""
        held, self._held = self._held, b""
        if not self._reply.last:
            return held + frame.raw
        self._held = frame.raw
        return held

    def close(self, final: FinalUsage) -> bytes:
        """What was held back."""
        return self._held

    def fail(self, failure: Failure) -> bytes:
        """Nothing: words of ours would be read as the provider's."""
        return b""
