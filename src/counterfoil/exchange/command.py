"""What an exchange asks of the world, and what the world answers.

An exchange is a generator: it yields commands and is sent answers. It opens no socket, reads no clock it was not given
and writes no file, so one driver can run it on an event loop, another in a thread, and a test from a list.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping

import msgspec

from counterfoil.core.error import Failure
from counterfoil.exchange.carriage import Carriage
from counterfoil.exchange.meter import Meter
from counterfoil.exchange.route import Deployment
from counterfoil.exchange.transcript import Recount
from counterfoil.ledger.entry import Entry, Exit, Opening, Progress

__all__ = [
    "Abort",
    "Answer",
    "Close",
    "Command",
    "Deliver",
    "Finish",
    "Head",
    "Interrupted",
    "Note",
    "Open",
    "Outcome",
    "Post",
    "Read",
    "Start",
    "Steps",
    "Wait",
]


class Open(msgspec.Struct, frozen=True):
    """Write the opening down. Answer: None. BooksUnavailable is thrown in when it cannot be written.

    From here until its Close the driver asks `meter` once a second how far the attempt has come, and writes that down.
    """

    opening: Opening
    meter: Meter


class Post(msgspec.Struct, frozen=True):
    """Call the provider. Answer: Head or Interrupted."""

    deployment: Deployment
    path: str
    body: bytes
    streamed: bool
    connect: float
    """Seconds to connect."""
    deadline: float
    """On the context's clock: when the head must have come."""
    headers: Mapping[str, str] = {}
    """The client's own, of the dialect that both sides speak."""
    carriage: Carriage | None = None
    """The call goes out as it came, and not to `path`."""

    @property
    def method(self) -> str:
        """Of the request."""
        return "POST" if self.carriage is None else self.carriage.method


class Read(msgspec.Struct, frozen=True):
    """Read some bytes of the reply. Answer: bytes (empty at the end) or Interrupted."""

    deadline: float


class Start(msgspec.Struct, frozen=True):
    """Begin the client's response. Nothing of it reaches the client before the first Deliver. Answer: None."""

    status: int
    headers: Mapping[str, str]


class Deliver(msgspec.Struct, frozen=True):
    """Give the client bytes, waiting while it is slow. Answer: None or Interrupted."""

    data: bytes
    deadline: float
    last: bool = False


class Note(msgspec.Struct, frozen=True):
    """Write progress down now. Answer: None."""

    progress: Progress


class Close(msgspec.Struct, frozen=True):
    """Write the entry down, then offer what there is to count again to the context's corrector. Answer: None."""

    entry: Entry
    recount: Recount | None = None


class Finish(msgspec.Struct, frozen=True):
    """The reply is complete: the upstream connection may serve another call. Answer: None."""


class Abort(msgspec.Struct, frozen=True):
    """The reply is not wanted any more: drop the upstream connection so that the provider stops. Answer: None."""


class Wait(msgspec.Struct, frozen=True):
    """Wait before the next attempt. Answer: None or Interrupted."""

    seconds: float


class Head(msgspec.Struct, frozen=True):
    """The head of a provider's reply. Header names in lower case."""

    status: int
    headers: Mapping[str, str]


class Interrupted(msgspec.Struct, frozen=True):
    """A command was not carried through. `exit` is LOST, TRUNCATED, TIMED_OUT, CLIENT_GONE or SHUTDOWN."""

    exit: Exit
    detail: str = ""
    """In the gateway's own words; never what a provider or client sent."""
    unsent: bool = False
    """The request never reached the provider."""


Command = Open | Post | Read | Start | Deliver | Note | Close | Finish | Abort | Wait
Answer = Head | bytes | Interrupted | None


class Outcome(msgspec.Struct, frozen=True):
    """How an exchange ended, for metrics and logs."""

    entries: tuple[Entry, ...] = ()
    failure: Failure | None = None
    """What the client was told, when it was told a failure."""
    defects: tuple[Exception, ...] = ()
    """Errors in our own code, for the log."""


Steps = Generator[Command, Answer, Outcome]
