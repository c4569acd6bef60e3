"""What runs an exchange: carries its commands out on an event loop, and interrupts them from outside.

Rule 1: one exchange is one task. An interruption (client gone, time-out, shutdown) cancels whatever the task awaits and
becomes the answer to that command, so the exchange always closes its entry.
Rule 2: nothing per chunk but the exchange itself: deadlines and progress are looked after by one ticker.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol, assert_never

from counterfoil.driver.sending import REFUSED, Blanking, Payer, blanking_of, sending_of
from counterfoil.exchange.call import Call, Context
from counterfoil.exchange.command import (
    Abort,
    Answer,
    Close,
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
from counterfoil.transport.credential import Credentials
from counterfoil.transport.transport import Broken, Cut, Transport, Unreachable, Upstream

__all__ = ["Client", "Driver", "Embedded", "Run", "jitter", "new_id"]

Embedded = Callable[[], Awaitable[tuple[str, str]]]
"""Starts the embedded model if need be, and gives its base URL and its key. Raises Unreachable. May be cancelled."""

TICK: Final = 0.05
"""Seconds between looks at deadlines."""
_WAITS: Final = (Read, Deliver, Post, Wait)
"""The commands that an interruption answers."""
_CANCELLED: Final = "the task was cancelled"
NOTE_EVERY: Final = 0.9
"""Seconds between notes of one attempt's progress: with the tick, delivered output is at most a second behind."""


class Client(Protocol):
    """Where the reply goes."""

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Begin the response. Nothing need reach the client before the first send."""
        ...

    async def send(self, data: bytes, *, last: bool) -> None:
        """Give the client bytes; returns when it can take more."""
        ...


class Driver:
    """Runs exchanges. One per event loop."""

    def __init__(
        self,
        transport: Transport,
        books: Books,
        reveal: Callable[[str], str | None],
        embedded: Embedded | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """`reveal`: a secret by its name; `credentials`: where deployments without a secret find what pays for them."""
        self._transport = transport
        self._books = books
        self._reveal = reveal
        self._embedded = embedded
        self._credentials = credentials
        self._running: set[Run] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self._closing = False

    def run(self, call: Call, context: Context, client: Client) -> Run:
        """An exchange ready to be awaited (`await run.wait()`) and interrupted."""
        return Run(self, call, context, client)

    @property
    def open_exchanges(self) -> int:
        """How many exchanges are running."""
        return len(self._running)

    def interrupt_all(self, exit_: Exit, detail: str = "") -> None:
        """Interrupt every exchange, and every later one at its first await."""
        self._closing = True
        for run in tuple(self._running):
            run.interrupt(exit_, detail)

    async def close(self) -> None:
        """Stop the ticker and drop every connection."""
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        await self._transport.close()

    def _enter(self, run: Run) -> None:
        self._running.add(run)
        if self._ticker is None:
            self._ticker = asyncio.get_running_loop().call_later(TICK, self._tick)
        if self._closing:
            run.interrupt_first(Exit.SHUTDOWN)

    def _leave(self, run: Run) -> None:
        self._running.discard(run)

    def _tick(self) -> None:
        # First of all: whatever a run does, the deadlines of the others must go on.
        self._ticker = asyncio.get_running_loop().call_later(TICK, self._tick) if self._running else None
        now = time.monotonic()
        for run in tuple(self._running):
            run.tick(now)


class Run:
    """One exchange being driven."""

    def __init__(self, driver: Driver, call: Call, context: Context, client: Client) -> None:
        self._driver = driver
        self._books = driver._books  # noqa: SLF001 - a run is the driver's other half
        self._transport = driver._transport  # noqa: SLF001
        self._reveal = driver._reveal  # noqa: SLF001
        self._embedded = driver._embedded  # noqa: SLF001
        self._credentials = driver._credentials  # noqa: SLF001
        self._context = context
        self._client = client
        self._steps = exchange(call, context)
        self._upstream: Upstream | None = None
        self._blanking: Blanking | None = None
        self._meter: Meter | None = None
        self._note_at = 0.0
        self._sent = True
        """False while a Post has not yet gone out: what is interrupted then has cost nothing."""
        self._deadline: float | None = None
        self._task: asyncio.Task[object] | None = None
        self._interruption: Interrupted | None = None
        self._asked = 0
        """How often others have asked the task to stop: theirs to take back."""
        self._cancelled = False
        self.outcome: Outcome | None = None
        """How it ended, also when `wait` was cancelled; None until then."""

    async def wait(self) -> Outcome:
        """Drive the exchange to its end. If the surrounding task is cancelled, the entry is closed first."""
        self._task = asyncio.current_task()
        self._asked = 0 if self._task is None else self._task.cancelling()
        self._driver._enter(self)  # noqa: SLF001
        try:
            return await self._drive()
        finally:
            self._task = None
            self._driver._leave(self)  # noqa: SLF001
            if self._upstream is not None:
                self._upstream.abort()
            if self._cancelled:
                raise asyncio.CancelledError

    def interrupt(self, exit_: Exit, detail: str = "") -> None:
        """Interrupt what the exchange waits for. Call from outside its task.

        The first interruption that nobody has answered yet stands, but for a time-out: another attempt may follow one,
        so it must not hide that the client has gone or that the gateway ends.
        """
        if self._task is None:
            return
        if self._interruption is None:
            self._interruption = Interrupted(exit_, detail)
            self._task.cancel()
        elif self._interruption.exit is Exit.TIMED_OUT:
            self._interruption = Interrupted(exit_, detail)

    def interrupt_first(self, exit_: Exit) -> None:
        """Interrupt the exchange at its first wait. Call from its own task, where a cancellation would hit later."""
        self._interruption = Interrupted(exit_)

    def tick(self, now: float) -> None:
        """Look at the deadline and the progress."""
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            self.interrupt(Exit.TIMED_OUT)
        if self._meter is not None and now >= self._note_at:
            self._note_at = now + NOTE_EVERY
            note = self._meter.progress(self._context.wall())
            if note is not None:
                self._books.progress(note)

    async def _drive(self) -> Outcome:
        steps = self._steps
        try:
            command = next(steps)
            while True:
                try:
                    answer: Answer = None
                    # A chunk is a Read and a Deliver: they go straight, since a coroutine in between is paid for twice.
                    if isinstance(command, _WAITS):
                        answer = await self._interruptible(command)
                    else:
                        await self._carry_out(command)
                except Exception as error:  # noqa: BLE001 - the exchange closes its entry whatever fails
                    command = steps.throw(error)
                else:
                    command = steps.send(answer)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            self.outcome = outcome
            return outcome

    async def _carry_out(self, command: Open | Note | Close | Start | Finish | Abort) -> None:
        match command:
            case Open(opening=opening, meter=meter):
                self._books.open(opening)
                self._meter, self._note_at = meter, time.monotonic() + NOTE_EVERY
            case Note(progress=progress):
                self._books.progress(progress)
            case Close(entry=entry, recount=recount):
                self._deadline = self._meter = None
                self._books.close(entry)
                if recount is not None and self._context.corrector is not None:
                    self._context.corrector.offer(recount)
            case Start(status=status, headers=headers):
                await self._start(status, headers)
            case Finish():
                if self._upstream is not None:
                    self._upstream.finish()
                self._upstream = None
            case Abort():
                if self._upstream is not None:
                    self._upstream.abort()
                self._upstream = None
            case _:
                assert_never(command)

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        try:
            await self._client.start(status, headers)
        except asyncio.CancelledError:  # the next interruptible command answers it
            self._interruption = self._take_interruption()

    async def _read(self, upstream: Upstream) -> bytes:
        if self._blanking is None:
            return await upstream.read()
        while True:
            data = await upstream.read()
            told = self._blanking.feed(data)
            if told or not data:
                return told

    async def _interruptible(self, command: Read | Deliver | Post | Wait) -> Answer:
        self._deadline = None if isinstance(command, Wait) else command.deadline
        self._sent = not isinstance(command, Post)
        if self._interruption is not None:
            return self._answered()
        try:
            match command:
                case Read():
                    return b"" if self._upstream is None else await self._read(self._upstream)
                case Deliver(data=data, last=last):
                    await self._client.send(data, last=last)
                    return None
                case Post():
                    return await self._post(command)
                case Wait(seconds=seconds):
                    await asyncio.sleep(seconds)
                    return None
        except asyncio.CancelledError:
            return self._take_interruption()
        except Cut as error:
            return Interrupted(Exit.TRUNCATED, str(error))
        except Broken as error:
            return Interrupted(Exit.LOST, str(error))

    def _take_interruption(self) -> Interrupted:
        """Turn a cancellation into an answer. One from outside is honoured once the books are closed."""
        interruption = self._answered()
        task = self._task
        if task is None:
            raise asyncio.CancelledError
        others = task.cancelling() > 0 if interruption is None else task.uncancel() > self._asked
        if others:
            self._asked, self._cancelled = task.cancelling(), True
            return Interrupted(Exit.SHUTDOWN, _CANCELLED, unsent=not self._sent)
        # Without either nobody stopped this task: what it waited for was cancelled under it.
        return interruption or Interrupted(Exit.LOST, "the call was dropped", unsent=not self._sent)

    def _answered(self) -> Interrupted | None:
        """The interruption that is answered now, if there is one."""
        interruption, self._interruption = self._interruption, None
        if interruption is None or self._sent:
            return interruption
        return Interrupted(interruption.exit, interruption.detail, unsent=True)

    async def _post(self, command: Post) -> Head | Interrupted:
        deployment = command.deployment
        try:
            base_url, payer = await self._paid(deployment)
            sending = sending_of(command, base_url, payer, self._context.wall())
            self._sent = True
            upstream = await self._transport.post(
                sending.url, sending.headers, command.body, connect=command.connect, method=command.method
            )
        except (Unreachable, Broken, Cut) as error:
            return Interrupted(Exit.LOST, str(error), unsent=isinstance(error, Unreachable))
        self._upstream, self._blanking = upstream, blanking_of(upstream.status, payer)
        if deployment.fetched and upstream.status in REFUSED and self._credentials is not None:
            self._credentials.refused(payer)
        return Head(upstream.status, upstream.headers)

    async def _paid(self, deployment: Deployment) -> tuple[str, Payer]:
        """Where the deployment is now, and who pays. Raises Unreachable."""
        if deployment.base_url == EMBEDDED:
            return await self._start_embedded()
        if not deployment.fetched:
            return deployment.base_url, self._reveal(deployment.secret) if deployment.secret else None
        if self._credentials is None:
            raise Unreachable("this process fetches no credentials")
        return deployment.base_url, await self._credentials.wait(deployment.provider.auth)

    async def _start_embedded(self) -> tuple[str, str]:
        if self._embedded is None:
            raise Unreachable("this process runs no model of its own")
        return await self._embedded()


def new_id() -> str:
    """A time-ordered id: UUID version 7 (RFC 9562, 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10))
    value = (milliseconds & (1 << 48) - 1) << 80 | 7 << 76 | (noise >> 68) << 64 | 2 << 62 | noise & (1 << 62) - 1
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def jitter() -> float:
    """A number in [0, 1)."""
    return random.random()  # noqa: S311 - spreads retries, guards nothing
