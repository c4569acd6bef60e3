"""The blocking driver: whoever wants the next bytes carries the exchange on, in the own thread, until there are some.

Rule 1: it runs the same exchange as `driver/drive.py`, gives the same bytes and writes the same entries.
Rule 2: the exchange always closes its entry: at its end, by `close()`, when the run is forgotten, at the latest when
the interpreter ends. A caller that stops before the end is a client that hung up.
Rule 3: what the garbage collector finds is closed by a thread, since it may find it while a lock of the books is held.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self, assert_never

from counterfoil.driver.closing import Closer
from counterfoil.driver.drive import NOTE_EVERY
from counterfoil.driver.sending import REFUSED, Begun, Blanking, Payer, blanking_of, sending_of
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
from counterfoil.exchange.meter import Meter
from counterfoil.exchange.route import Deployment
from counterfoil.ledger.entry import Exit
from counterfoil.ledger.store import Books
from counterfoil.providers.provider import EMBEDDED
from counterfoil.transport.blocking import BlockingTransport, BlockingUpstream
from counterfoil.transport.credential import Credentials
from counterfoil.transport.transport import Broken, Cut, Unreachable

__all__ = ["BlockingEmbedded", "BlockingRun"]

BlockingEmbedded = Callable[[float], tuple[str, str]]
"""Starts the embedded model if need be, and gives its base URL and its key.

Its argument says on `time.monotonic` until when. Raises Unreachable or TimeoutError.
"""


_INTERRUPTED: Final = "the call was interrupted"


class BlockingRun:
    """One exchange, pulled. Its reply's bytes are what iterating gives.

    One thread at a time; different runs may share transport and books. `close()` from another thread takes effect when
    the bytes that are waited for have come. A run that is forgotten before its end is closed as well, with a
    ResourceWarning, as an open file is: nobody can say when.
    """

    def __init__(
        self,
        call: Call,
        context: Context,
        books: Books,
        transport: BlockingTransport,
        reveal: Callable[[str], str | None],
        embedded: BlockingEmbedded | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """`reveal`: a secret by its name; `credentials`: where deployments without a secret find what pays for them."""
        self._pulled = _Pulled(call, context, books, transport, reveal, embedded, credentials)
        self._ahead: bytes | None = None
        _CLOSER.ready()
        weakref.finalize(self, _forgotten, self._pulled).atexit = False

    def begin(self) -> Begun | None:
        """Run until the reply's head and first bytes are there. None: closed before there was a reply."""
        if self._pulled.begun is None:
            self._ahead = self._pulled.pull()
        return self._pulled.begun

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        ahead, self._ahead = self._ahead, None
        data = self._pulled.pull() if ahead is None else ahead
        if data is None:
            raise StopIteration
        return data

    def close(self, *, wait: bool = True) -> None:
        """The rest is not wanted: stop the provider and close the entry. Safe to call twice, and after the end.

        `wait`: also for another thread that reads at this moment; else that thread ends it when its bytes have come.
        """
        self._ahead = None
        self._pulled.close(wait=wait)

    @property
    def outcome(self) -> Outcome | None:
        """How the exchange ended; None while it has not."""
        return self._pulled.outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Pulled:
    """The exchange itself, which outlives a run that is forgotten."""

    def __init__(
        self,
        call: Call,
        context: Context,
        books: Books,
        transport: BlockingTransport,
        reveal: Callable[[str], str | None],
        embedded: BlockingEmbedded | None,
        credentials: Credentials | None,
    ) -> None:
        self._books = books
        self._transport = transport
        self._reveal = reveal
        self._embedded = embedded
        self._credentials = credentials
        self._sent = True
        """False while a Post has not yet gone out: what is interrupted then has cost nothing."""
        self._wall = context.wall
        self._corrector = context.corrector
        self._steps = exchange(call, context)
        self._upstream: BlockingUpstream | None = None
        self._blanking: Blanking | None = None
        self._finished: BlockingUpstream | None = None
        """Its reply is complete. The caller has the last bytes before the rest of the connection's are waited for."""
        self._meter: Meter | None = None
        self._note_at = 0.0
        self._pending: Deliver | None = None
        self._interruption: Interrupted | None = None
        self._lock = threading.RLock()
        self._running = False
        self.begun: Begun | None = None
        self.outcome: Outcome | None = None
        self.process = os.getpid()
        self.started = False
        self._fatal: BaseException | None = None

    def pull(self) -> bytes | None:
        """The next bytes of the reply; None at its end."""
        with self._lock:
            if self._running:
                raise RuntimeError("this reply is being read")
            while self.outcome is None:
                data = self._advance()
                if data:
                    return data
            self._let_go()
            return None

    def close(self, *, wait: bool = True) -> None:
        """Run to the end, without the caller. `wait`: also for another thread that reads at this moment."""
        if self.outcome is None:
            self._interruption = Interrupted(Exit.CLIENT_GONE)
        if not self._lock.acquire(blocking=wait):
            return
        try:
            if self._running:  # by this very thread: what it waits for will be answered with the interruption
                return
            if not self.started:
                self._end(Outcome())
            while self.outcome is None:
                self._advance()
            self._let_go()
        finally:
            self._lock.release()

    @property
    def left(self) -> bool:
        """Whether there is something to close."""
        return self.process == os.getpid() and self.started and (self.outcome is None or self._finished is not None)

    def _let_go(self) -> None:
        finished, self._finished = self._finished, None
        if finished is not None:
            finished.finish()

    def _end(self, outcome: Outcome) -> None:
        self._steps.close()
        self._meter, self.outcome = None, outcome
        _RUNNING.discard(self)
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    def _advance(self) -> bytes:
        """Carry the exchange on until it has bytes for the caller, or to its end, which may have none."""
        self._running, last = True, b""
        try:
            command = self._resume()
            while True:
                if isinstance(command, Deliver) and self._interruption is None:
                    if not command.last:
                        self._pending = command
                        return command.data
                    last = command.data
                try:
                    answer = self._carry_out(command)
                except Exception as error:  # noqa: BLE001 - the exchange closes its entry whatever fails
                    command = self._steps.throw(error)
                else:
                    command = self._steps.send(answer)
        except StopIteration as stop:
            self._end(stop.value)
        except BaseException:
            self._end(Outcome())
            raise
        finally:
            self._running = False
        fatal, self._fatal = self._fatal, None
        if fatal is not None:
            raise fatal
        return last

    def _resume(self) -> Command:
        if not self.started:
            self.started = True
            _RUNNING.add(self)
            return next(self._steps)
        pending, self._pending = self._pending, None
        if self._interruption is not None:
            return self._steps.send(self._take_interruption())
        # The caller was away, and no ticker looks at deadlines meanwhile.
        late = pending is not None and time.monotonic() >= pending.deadline
        return self._steps.send(Interrupted(Exit.TIMED_OUT) if late else None)

    def _take_interruption(self) -> Interrupted | None:
        interruption, self._interruption = self._interruption, None
        return interruption

    def _carry_out(self, command: Command) -> Answer:
        match command:
            case Read() | Deliver() | Post() | Wait():
                self._sent = not isinstance(command, Post)
                return self._unsent(self._take_interruption() or self._waited(command))
            case Open(opening=opening, meter=meter):
                self._books.open(opening)
                self._meter, self._note_at = meter, time.monotonic() + NOTE_EVERY
            case Note(progress=progress):
                self._books.progress(progress)
            case Close(entry=entry, recount=recount):
                self._meter = None
                self._books.close(entry)
                if recount is not None and self._corrector is not None:
                    self._corrector.offer(recount)
            case Start(status=status, headers=headers):
                self.begun = Begun(status, headers)
            case Finish():
                self._finished, self._upstream = self._upstream, None
            case Abort():
                if self._upstream is not None:
                    self._upstream.abort()
                self._upstream = None
            case _:
                assert_never(command)
        return None

    def _read(self, upstream: BlockingUpstream, deadline: float) -> bytes:
        if self._blanking is None:
            return upstream.read(deadline, self._note)
        while True:
            data = upstream.read(deadline, self._note)
            told = self._blanking.feed(data)
            if told or not data:
                return told

    def _waited(self, command: Read | Deliver | Post | Wait) -> Answer:
        try:
            match command:
                case Read(deadline=deadline):
                    self._note()
                    return b"" if self._upstream is None else self._read(self._upstream, deadline)
                case Post():
                    return self._post(command)
                case Wait(seconds=seconds):
                    time.sleep(seconds)
                case Deliver():  # the last bytes: the caller has them once the exchange is over
                    pass
        except TimeoutError:
            return Interrupted(Exit.TIMED_OUT)
        except Cut as error:
            return Interrupted(Exit.TRUNCATED, str(error))
        except Broken as error:
            return Interrupted(Exit.LOST, str(error))
        except Exception:
            raise
        except BaseException as error:  # noqa: BLE001 - raised again once the entry is closed
            self._fatal = error
            return Interrupted(Exit.CLIENT_GONE, _INTERRUPTED)
        return None

    def _unsent(self, answer: Answer) -> Answer:
        """An answer as it is; an interruption says whether the request had gone out."""
        if self._sent or not isinstance(answer, Interrupted):
            return answer
        return Interrupted(answer.exit, answer.detail, unsent=True)

    def _note(self) -> None:
        now = time.monotonic()
        if self._meter is None or now < self._note_at:
            return
        self._note_at = now + NOTE_EVERY
        progress = self._meter.progress(self._wall())
        if progress is not None:
            self._books.progress(progress)

    def _post(self, command: Post) -> Head | Interrupted:
        deployment = command.deployment
        try:
            base_url, payer = self._paid(deployment, command.deadline)
            sending = sending_of(command, base_url, payer, self._wall())
            self._sent = True
            upstream = self._transport.post(
                sending.url,
                sending.headers,
                command.body,
                connect=command.connect,
                deadline=command.deadline,
                method=command.method,
            )
        except (Unreachable, Broken, Cut) as error:
            return Interrupted(Exit.LOST, str(error), unsent=isinstance(error, Unreachable))
        self._upstream, self._blanking = upstream, blanking_of(upstream.status, payer)
        if deployment.fetched and upstream.status in REFUSED and self._credentials is not None:
            self._credentials.refused(payer)
        return Head(upstream.status, upstream.headers)

    def _paid(self, deployment: Deployment, deadline: float) -> tuple[str, Payer]:
        """Where the deployment is now, and who pays. Raises Unreachable or TimeoutError."""
        if deployment.base_url == EMBEDDED:
            if self._embedded is None:
                raise Unreachable("this process runs no model of its own")
            return self._embedded(deadline)
        if not deployment.fetched:
            return deployment.base_url, self._reveal(deployment.secret) if deployment.secret else None
        if self._credentials is None:
            raise Unreachable("this process fetches no credentials")
        return deployment.base_url, self._credentials.get(deployment.provider.auth, deadline)


_RUNNING: Final[set[_Pulled]] = set()
"""Begun and not ended: what the end of the interpreter still closes."""


_CLOSER: Final = Closer()


def _forgotten(pulled: _Pulled) -> None:
    unread = pulled.outcome is None
    if not pulled.left:
        return
    _CLOSER.close_soon(pulled)
    if unread:
        warnings.warn("a reply was forgotten before its end: close it, or use `with`", ResourceWarning, stacklevel=2)


def _close_all() -> None:
    for pulled in tuple(_RUNNING):
        with contextlib.suppress(Exception):
            pulled.close(wait=False)


def _forked() -> None:
    """In a child: what runs is the parent's."""
    _RUNNING.clear()
    _CLOSER.forked()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
