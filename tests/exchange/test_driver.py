"""The driver on a real loop: interruptions, deadlines, and books that close whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from counterfoil.config import ClientGone, Limits, Retries, Timeouts
from counterfoil.driver import drive
from counterfoil.driver.drive import Client, Driver, Run
from counterfoil.exchange.attempt import SLOW_CLIENT
from counterfoil.exchange.call import Context
from counterfoil.exchange.command import Outcome
from counterfoil.exchange.route import Deployment
from counterfoil.ledger.entry import Entry, Exit, Opening, Progress
from counterfoil.ledger.store import BooksUnavailable
from counterfoil.providers.provider import EMBEDDED
from counterfoil.testing import (
    Counts,
    Head,
    Hold,
    Playback,
    Script,
    chat_reply,
    error_answer,
    no_answer,
    silent_answer,
)
from counterfoil.transport.http import AiohttpTransport
from counterfoil.transport.transport import Transport, Unreachable, Upstream
from tests.exchange.world import call, deployment, price_by_count

SECONDS = 10.0
"""Bounds every test."""
REPLY = chat_reply(text=tuple(f"word{number} " for number in range(12)), usage=Counts(input=11, output=7))


class ListBooks:
    """Books that check their own law. `full` makes opening fail."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.closed: list[Entry] = []
        self.notes: list[Progress] = []
        self.full = False

    def open(self, opening: Opening) -> None:
        if self.full:
            raise BooksUnavailable("no room")
        assert opening.attempt not in self.opened
        self.opened.append(opening.attempt)

    def progress(self, progress: Progress) -> None:
        assert progress.attempt not in [entry.opening.attempt for entry in self.closed], "noted after its close"
        self.notes.append(progress)

    def close(self, entry: Entry) -> None:
        assert entry.opening.attempt in self.opened
        assert entry.opening.attempt not in [closed.opening.attempt for closed in self.closed], "closed twice"
        self.closed.append(entry)

    @property
    def exits(self) -> list[Exit]:
        assert sorted(self.opened) == sorted(entry.opening.attempt for entry in self.closed), "an entry was left open"
        return [entry.exit for entry in self.closed]


class ListClient:
    """A client that keeps what it gets. `hold` makes it wait before it takes any more."""

    def __init__(self) -> None:
        self.data = b""
        self.status = 0
        self.over = False
        self.got = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()
        self.starting = asyncio.Event()
        self.started = asyncio.Event()
        self.started.set()

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        self.starting.set()
        await self.started.wait()
        self.status = status

    async def send(self, data: bytes, *, last: bool) -> None:
        assert not self.over, "bytes after the last ones"
        self.data += data
        self.over = last
        self.got.set()
        await self.room.wait()


@dataclass
class Place:
    """A provider, a driver and its books."""

    provider: Playback
    driver: Driver
    books: ListBooks
    ids: list[int] = field(default_factory=list)

    def deployment(self, **fields: Any) -> Deployment:
        return msgspec.structs.replace(deployment(), base_url=self.provider.base_url, **fields)

    def run(self, client: Client, *deployments: Deployment, **fields: Any) -> Run:
        context = Context(
            clock=time.monotonic,
            wall=time.time,
            new_id=self._id,
            jitter=lambda: 0.0,
            price=price_by_count,
            limits=Limits(),
            learned=set(),
        )
        return self.driver.run(call(*(deployments or (self.deployment(),)), **fields), context, client)

    def _id(self) -> str:
        self.ids.append(len(self.ids))
        return f"attempt-{self.ids[-1]}"


@contextlib.asynccontextmanager
async def place(transport: Transport | None = None, **embedded: Any) -> AsyncIterator[Place]:
    """Everything, and nothing left of it afterwards."""
    before = asyncio.all_tasks()
    async with asyncio.timeout(SECONDS):
        async with Playback() as provider:
            books = ListBooks()
            driver = Driver(transport or AiohttpTransport(), books, lambda name: None, **embedded)
            try:
                yield Place(provider, driver, books)
            finally:
                left = driver.open_exchanges
                await driver.close()
            assert not left
        assert asyncio.all_tasks() == before, "a task was left behind"


def within(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test on a loop on which nothing may go wrong unseen."""
    faults: list[Mapping[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
        await test()

    asyncio.run(watched())
    assert not faults


async def interrupted(
    run: Run, when: Awaitable[object], *exits: Exit, also: Callable[[asyncio.Task[Any]], object] | None = None
) -> Outcome:
    """Start the run, and interrupt it in one turn of the loop once `when` has come."""
    task = asyncio.create_task(run.wait())
    await when
    for exit_ in exits:
        run.interrupt(exit_)
    if also is not None:
        also(task)
    try:
        return await task
    finally:
        assert run._task is None


def test_a_stream_is_carried_and_booked_and_its_connection_used_again() -> None:
    async def test() -> None:
        async with place() as here:
            here.provider.queue(REPLY, REPLY, REPLY)
            for _ in range(3):
                client = ListClient()
                outcome = await here.run(client).wait()
                assert outcome.failure is None
                assert client.data.endswith(b"[DONE]\n\n")
                assert client.over
                await here.provider.wait_for(lambda: here.provider.served[-1].ended)
                for _ in range(10):  # the last chunk's end is there, and is read
                    await asyncio.sleep(0)
            assert here.books.exits == [Exit.COMPLETED] * 3
            assert here.provider.connections == 1

    within(test)


@pytest.mark.parametrize("exit_", [Exit.CLIENT_GONE, Exit.SHUTDOWN, Exit.TIMED_OUT])
def test_an_interruption_closes_the_entry_and_leaves_the_task_as_it_was(exit_: Exit) -> None:
    async def test() -> None:
        async with place() as here:
            here.provider.queue(REPLY.stall_at(4))
            client = ListClient()
            run = here.run(client)

            async def around() -> int:
                await run.wait()
                await asyncio.sleep(0)
                task = asyncio.current_task()
                assert task is not None
                return task.cancelling()

            task = asyncio.create_task(around())
            await here.provider.wait_for(lambda: here.provider.served and here.provider.served[0].stalled)
            run.interrupt(exit_)
            assert await task == 0
            assert here.books.exits == [exit_]
            await here.provider.wait_for(lambda: here.provider.served[0].ended)
            assert here.provider.served[0].ended == "client_left", "the upstream call goes on"
            assert (b'"error"' in client.data) is (exit_ is not Exit.CLIENT_GONE)

    within(test)


def test_an_exchange_that_begins_while_the_gateway_ends_calls_nobody_and_is_not_cancelled_later() -> None:
    async def test() -> None:
        async with place() as here:
            here.driver.interrupt_all(Exit.SHUTDOWN)
            client = ListClient()
            outcome = await here.run(client).wait()
            await asyncio.sleep(0)
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            assert outcome.failure is not None
            assert client.status == 503
            assert here.books.exits == [Exit.SHUTDOWN]
            assert not here.provider.served

    within(test)


def test_a_task_cancelled_from_outside_closes_its_entry_first() -> None:
    async def test() -> None:
        async with place() as here:
            here.provider.queue(REPLY.stall_at(4))
            client = ListClient()
            task = asyncio.create_task(here.run(client).wait())
            await client.got.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert here.books.exits == [Exit.SHUTDOWN]

    within(test)


def test_a_cancellation_beside_an_interruption_is_not_swallowed() -> None:
    async def test() -> None:
        async with place() as here:
            here.provider.queue(REPLY.stall_at(4))
            client = ListClient()
            with pytest.raises(asyncio.CancelledError):
                await interrupted(here.run(client), client.got.wait(), Exit.TIMED_OUT, also=lambda task: task.cancel())
            assert here.books.exits == [Exit.SHUTDOWN]

    within(test)


def test_a_time_out_does_not_hide_that_the_client_has_gone() -> None:
    async def test() -> None:
        async with place() as here:
            here.provider.queue(silent_answer(), REPLY)
            run = here.run(ListClient(), here.deployment(), here.deployment())
            seen = here.provider.wait_for(lambda: here.provider.served)
            await interrupted(run, seen, Exit.TIMED_OUT, Exit.CLIENT_GONE)
            assert here.books.exits == [Exit.CLIENT_GONE]
            assert len(here.provider.served) == 1, "another attempt was made for a client that is gone"

    within(test)


def test_what_is_cancelled_under_an_exchange_is_a_lost_call_and_not_a_cancelled_task() -> None:
    class Cancelling(AiohttpTransport):
        async def post(self, *args: Any, **keywords: Any) -> Upstream:
            raise asyncio.CancelledError

    async def test() -> None:
        async with place(Cancelling()) as here:
            client = ListClient()
            outcome = await here.run(client).wait()
            assert outcome.failure is not None
            assert here.books.exits == [Exit.LOST]
            assert client.status == 502

    within(test)


def test_an_interruption_while_the_head_is_handed_over_is_answered_by_what_follows() -> None:
    async def test() -> None:
        async with place() as here:
            here.provider.queue(REPLY.hold_at(3, "later"))
            client = ListClient()
            client.started.clear()
            await interrupted(here.run(client), client.starting.wait(), Exit.CLIENT_GONE)
            assert here.books.exits == [Exit.CLIENT_GONE]
            assert not client.data

    within(test)


def test_a_client_that_is_gone_while_the_provider_refuses_gets_no_other_attempt() -> None:
    async def test() -> None:
        async with place() as here:
            here.provider.queue(error_answer(503, "busy").stall_at(0), REPLY)
            run = here.run(ListClient(), retries=Retries(attempts=3, backoff=0.01))
            await interrupted(run, _until(lambda: run._upstream is not None), Exit.CLIENT_GONE)
            assert here.books.exits == [Exit.REJECTED]
            assert len(here.provider.served) == 1

    within(test)


def test_a_shutdown_between_two_attempts_is_told_to_the_client() -> None:
    async def test() -> None:
        async with place() as here:
            here.provider.queue(error_answer(503, "busy", retry_after="9"), REPLY)
            client = ListClient()
            run = here.run(client, retries=Retries(attempts=2, retry_after_max=10))
            outcome = await interrupted(run, _until(lambda: len(here.books.closed) == 1), Exit.SHUTDOWN)
            assert outcome.failure is not None
            assert client.status == 503
            assert client.over
            assert here.books.exits == [Exit.REJECTED]

    within(test)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0.005)


def test_a_drained_reply_that_fails_is_not_tried_again_for_a_client_that_is_gone() -> None:
    async def test() -> None:
        async with place() as here:
            here.provider.queue(REPLY.then_at(0, Head(), Hold("end")), REPLY)
            client = ListClient()
            run = here.run(
                client, here.deployment(), here.deployment(), client_gone=ClientGone(action="drain", drain=SECONDS)
            )
            task = asyncio.create_task(run.wait())
            await _until(lambda: run._upstream is not None)
            run.interrupt(Exit.CLIENT_GONE)
            await asyncio.sleep(0)
            here.provider.release("end")
            await task
            assert here.books.exits == [Exit.TRUNCATED]
            assert len(here.provider.served) == 1

    within(test)


def test_a_reply_is_drained_for_a_client_that_is_gone_no_longer_than_the_route_says() -> None:
    async def test() -> None:
        async with place() as here:
            here.provider.queue(REPLY.stall_at(4))
            client = ListClient()
            run = here.run(client, client_gone=ClientGone(action="drain", drain=0.1))
            await interrupted(run, client.got.wait(), Exit.CLIENT_GONE)
            assert here.books.exits == [Exit.CLIENT_GONE]

    within(test)


def test_a_client_that_fails_at_the_last_bytes_leaves_the_entry_as_it_was_closed() -> None:
    class Failing(ListClient):
        async def send(self, data: bytes, *, last: bool) -> None:
            if last:
                raise RuntimeError("a defect")
            await super().send(data, last=last)

    async def test() -> None:
        async with place() as here:
            here.provider.queue(REPLY)
            outcome = await here.run(Failing()).wait()
            assert here.books.exits == [Exit.COMPLETED]
            assert len(outcome.defects) == 1

    within(test)


def test_a_client_that_was_slow_does_not_make_the_provider_late() -> None:
    async def test() -> None:
        async with place() as here:
            here.provider.queue(REPLY.hold_at(1, "more"))
            client = ListClient()
            client.room.clear()
            run = here.run(client, here.deployment(timeouts=Timeouts(between_frames=1.0)))
            task = asyncio.create_task(run.wait())
            await client.got.wait()
            await asyncio.sleep(1.2)  # longer than a provider may be silent
            client.room.set()
            await asyncio.sleep(0.15)  # the ticker looks at the next read
            here.provider.release("more")
            await task
            assert here.books.exits == [Exit.COMPLETED]

    within(test)


@pytest.mark.parametrize(
    ("script", "limit", "status"),
    [
        (silent_answer(), "first_byte", 504),
        (silent_answer(), "total", 504),
        (REPLY.stall_at(0), "first_byte", 504),
        (REPLY.stall_at(4), "between_frames", 200),
        (REPLY.stall_at(4), "total", 200),
    ],
)
def test_every_deadline_holds_and_is_named_where_it_is_set(script: Script, limit: str, status: int) -> None:
    async def test() -> None:
        async with place() as here:
            here.provider.queue(script)
            client = ListClient()
            began = time.monotonic()
            await here.run(client, here.deployment(timeouts=Timeouts(**{limit: 0.1}))).wait()
            assert time.monotonic() - began < SECONDS / 2
            assert here.books.exits == [Exit.TIMED_OUT]
            assert client.status == status
            said = f"timeouts.{limit}: 0.1 s"
            assert here.books.closed[0].detail == said
            assert f"The provider took too long to answer ({said}).".encode() in client.data

    within(test)


def test_the_last_usage_is_awaited_for_its_time_and_the_reply_is_complete_without() -> None:
    async def test() -> None:
        async with place() as here:
            frames = len(REPLY.frames)
            here.provider.queue(REPLY.stall_at(frames - 2))  # the usage frame and the end mark never come
            client = ListClient()
            await here.run(client, here.deployment(timeouts=Timeouts(last_usage=0.1))).wait()
            assert here.books.exits == [Exit.COMPLETED]
            assert client.data.endswith(b"[DONE]\n\n")
            assert here.books.closed[0].usage.estimated

    within(test)


def test_a_client_that_takes_nothing_holds_an_exchange_no_longer_than_its_deadline() -> None:
    async def test() -> None:
        async with place() as here:
            here.provider.queue(REPLY)
            client = ListClient()
            client.room.clear()
            await here.run(client, here.deployment(timeouts=Timeouts(total=0.2))).wait()
            assert here.books.exits == [Exit.TIMED_OUT]
            assert here.books.closed[0].detail == SLOW_CLIENT

    within(test)


def test_an_engine_that_never_starts_is_bounded_by_the_first_byte() -> None:
    async def never() -> tuple[str, str]:
        await asyncio.Event().wait()
        raise AssertionError

    async def test() -> None:
        async with place(embedded=never) as here:
            client = ListClient()
            local = msgspec.structs.replace(here.deployment(timeouts=Timeouts(first_byte=0.1)), base_url=EMBEDDED)
            await here.run(client, local).wait()
            assert here.books.exits == [Exit.TIMED_OUT]
            assert client.status == 504

    within(test)


@pytest.mark.parametrize("engine", [None, "broken"])
def test_an_engine_that_cannot_start_is_a_lost_call(engine: str | None) -> None:
    async def broken() -> tuple[str, str]:
        raise Unreachable("no weights")

    async def test() -> None:
        async with place(embedded=broken if engine else None) as here:
            client = ListClient()
            await here.run(client, msgspec.structs.replace(here.deployment(), base_url=EMBEDDED)).wait()
            assert here.books.exits == [Exit.LOST]
            assert client.status == 502

    within(test)


def test_books_that_cannot_be_opened_refuse_the_call() -> None:
    async def test() -> None:
        async with place() as here:
            here.books.full = True
            client = ListClient()
            outcome = await here.run(client).wait()
            assert outcome.failure is not None
            assert client.status == 503
            assert not here.provider.served

    within(test)


@pytest.mark.parametrize("broken", ["post", "read", "send"])
def test_an_error_of_our_own_closes_the_entry_and_is_told_as_one(broken: str) -> None:
    class Faulty(AiohttpTransport):
        async def post(self, *args: Any, **keywords: Any) -> Upstream:
            if broken == "post":
                raise RuntimeError("a defect")
            upstream = await super().post(*args, **keywords)
            if broken == "read":
                upstream.read = _fail  # type: ignore[method-assign]  # that is the point
            return upstream

    class FaultyClient(ListClient):
        async def send(self, data: bytes, *, last: bool) -> None:
            if broken == "send" and not last:
                raise RuntimeError("a defect")
            await super().send(data, last=last)

    async def test() -> None:
        async with place(Faulty()) as here:
            here.provider.queue(REPLY)
            client = FaultyClient()
            outcome = await here.run(client).wait()
            assert here.books.exits == [Exit.FAILED]
            assert [type(defect) for defect in outcome.defects] == [RuntimeError]
            assert client.over
            assert b"defect of ours" in client.data

    within(test)


async def _fail() -> bytes:
    raise RuntimeError("a defect")


def test_one_run_that_fails_at_a_tick_does_not_stop_the_deadlines_of_the_others() -> None:
    async def test() -> None:
        async with place() as here:
            here.provider.queue(REPLY.stall_at(4), REPLY.stall_at(4))
            loop = asyncio.get_running_loop()
            said: list[object] = []
            loop.set_exception_handler(lambda loop, context: said.append(context["exception"]))
            timeouts = Timeouts(between_frames=0.3)
            runs = [here.run(ListClient(), here.deployment(timeouts=timeouts)) for _ in range(2)]

            def failing(now: float) -> None:
                runs[0].tick = type(runs[0]).tick.__get__(runs[0])  # type: ignore[method-assign]  # once only
                raise RuntimeError("a defect")

            runs[0].tick = failing  # type: ignore[method-assign]  # that is the point
            await asyncio.gather(*(run.wait() for run in runs))
            assert len(said) == 1
            assert sorted(here.books.exits) == [Exit.TIMED_OUT, Exit.TIMED_OUT]

    within(test)


def test_progress_is_noted_while_the_provider_is_silent() -> None:
    async def test() -> None:
        async with place() as here:
            here.provider.queue(REPLY.stall_at(6))
            client = ListClient()
            run = here.run(client)
            await interrupted(run, _until(lambda: bool(here.books.notes)), Exit.CLIENT_GONE)
            assert here.books.notes[-1].delivered.output > 0
            assert not here.books.notes[-1].reading.reports

    within(test)


def test_progress_is_noted_no_oftener_than_it_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "NOTE_EVERY", 0.3)

    async def test() -> None:
        async with place() as here:
            here.provider.queue(REPLY.paced(0.06))
            began = time.monotonic()
            await here.run(ListClient()).wait()
            # One more for the first report.
            assert len(here.books.notes) <= 2 + (time.monotonic() - began) / drive.NOTE_EVERY

    within(test)


def test_nothing_is_noted_of_an_attempt_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "NOTE_EVERY", 0.0)

    class Lingering(ListClient):
        async def send(self, data: bytes, *, last: bool) -> None:
            await super().send(data, last=last)
            if last:
                await asyncio.sleep(4 * drive.TICK)

    async def test() -> None:
        async with place() as here:
            here.provider.queue(chat_reply(text="Good morning", shape="absent").delivered("whole"))
            await here.run(Lingering()).wait()
            assert here.books.exits == [Exit.COMPLETED]

    within(test)


def test_an_end_that_nobody_foresaw_still_stops_the_provider() -> None:
    class Fatal(BaseException):
        pass

    class Failing(ListClient):
        async def send(self, data: bytes, *, last: bool) -> None:
            raise Fatal

    async def test() -> None:
        async with place() as here:
            here.provider.queue(REPLY.stall_at(2))
            with pytest.raises(Fatal):
                await here.run(Failing()).wait()
            await here.provider.wait_for(lambda: here.provider.served[0].ended)
            assert here.provider.served[0].ended == "client_left"

    within(test)


def test_the_provider_is_called_with_the_secret_of_its_deployment() -> None:
    async def test() -> None:
        async with place() as here:
            here.driver._reveal = {"play-secret": "sesame"}.get
            await here.run(ListClient(), here.deployment(secret="play-secret")).wait()
            assert here.provider.served[0].headers["authorization"] == "Bearer sesame"

    within(test)


def test_a_stale_connection_is_a_lost_attempt_with_its_own_entry_and_then_a_reply() -> None:
    async def test() -> None:
        async with place() as here:
            here.provider.queue(REPLY, no_answer(), REPLY)
            for _ in range(2):
                client = ListClient()
                await here.run(client, retries=Retries(attempts=2, backoff=0.01)).wait()
                assert client.data.endswith(b"[DONE]\n\n")
            assert here.books.exits == [Exit.COMPLETED, Exit.LOST, Exit.COMPLETED]
            assert here.books.closed[1].usage.total_tokens is None, "nobody knows whether it was read"

    within(test)


def test_many_streams_at_once_never_see_each_other() -> None:
    async def test() -> None:
        async with place() as here:
            words = {number: tuple(f"<{number}-{word}> " for word in range(30)) for number in range(60)}
            cuts = ("as_is", "whole", "bytes")

            def answer(request: Any) -> Script:
                number = int(request.json["user"])
                script = chat_reply(text=words[number], usage=Counts(input=1000 + number, output=500 + number))
                return script.delivered(cuts[number % 3])  # type: ignore[arg-type]  # one of Delivery

            here.provider.default = answer
            clients = [ListClient() for _ in words]
            runs = [here.run(client, user=str(number)) for number, client in enumerate(clients)]
            tasks = [asyncio.create_task(run.wait()) for run in runs]
            gone = range(0, 60, 7)
            for number in gone:
                asyncio.get_running_loop().call_later(0.002 * number, runs[number].interrupt, Exit.CLIENT_GONE)
            await asyncio.gather(*tasks)
            for number, client in enumerate(clients):
                said = b"".join(word.encode() for word in words[number])
                heard = b"".join(
                    choice["delta"].get("content", "").encode()
                    for block in client.data.split(b"\n\n")
                    if block and block != b"data: [DONE]"
                    for choice in msgspec.json.decode(block[6:])["choices"]
                )
                assert said.startswith(heard)
                assert heard == said or number in gone
            for entry in here.books.closed:
                number = int(entry.opening.user or "")
                if entry.exit is Exit.COMPLETED:
                    assert (entry.usage.input_tokens, entry.usage.output_tokens) == (1000 + number, 500 + number)
            assert len(here.books.exits) == 60

    within(test)
