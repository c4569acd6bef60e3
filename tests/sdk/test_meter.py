"""A meter has every call made inside it, once: nested, across tasks, across threads; and no call of anybody else's."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

import counterfoil
from counterfoil.testing import ChatReply, Counts, Playback, chat_player, error_answer, in_turn
from counterfoil.usage.usage import NOTHING
from tests.sdk.support import CHATTING, HELLO, SECONDS, WAYS, ask, provider_in_environment

__all__: list[str] = []


@pytest.fixture
def client(provider: Playback) -> Any:
    provider.default = chat_player(ChatReply(usage=Counts(input=10, output=3)))
    with counterfoil.Client(base_url=provider.base_url) as found:
        yield found


def call(client: counterfoil.Client, **more: Any) -> counterfoil.ChatCompletion:
    found = client.chat.completions.create(**{**CHATTING, **more})
    assert isinstance(found, counterfoil.ChatCompletion)
    return found


def test_a_meter_has_what_was_called_inside_and_nothing_else(client: counterfoil.Client) -> None:
    call(client)
    with counterfoil.meter() as meter:
        first, second = call(client), call(client)
    call(client)
    assert meter.entries == (first.entry, second.entry)
    assert (meter.usage.input_tokens, meter.usage.output_tokens) == (20, 6)


def test_a_meter_without_calls_is_nothing_and_costs_nothing() -> None:
    with counterfoil.meter() as meter:
        pass
    assert (meter.usage, meter.cost, meter.entries, meter.by("model")) == (NOTHING, Decimal(0), (), {})


def test_nested_meters_both_have_a_call_once(client: counterfoil.Client) -> None:
    with counterfoil.meter() as outer:
        call(client)
        with counterfoil.meter() as inner:
            call(client)
        call(client)
    assert len(inner.entries) == 1
    assert len(outer.entries) == 3
    assert inner.entries[0] in outer.entries


def test_a_meter_sorts_by_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with provider_in_environment(monkeypatch) as provider, counterfoil.meter() as meter:
        provider.default = chat_player(ChatReply(usage=Counts(input=1000, output=100)))
        ask(WAYS[0], {}, model="gpt-4o-mini", user="ada")
        ask(WAYS[2], {}, model="gpt-4o")
    parts = meter.by("model")
    assert parts.keys() == {"gpt-4o-mini", "gpt-4o"}
    assert [part.usage.total_tokens for part in parts.values()] == [1100, 1100]
    assert meter.cost is not None
    costs = [part.cost for part in parts.values()]
    assert sum(cost for cost in costs if cost is not None) == meter.cost
    assert meter.by("user").keys() == {"ada", ""}
    assert meter.by("key").keys() == {""}
    assert meter.by("provider").keys() == {"openai"}
    with pytest.raises(ValueError, match="colour"):
        meter.by("colour")  # type: ignore[arg-type]  # what somebody might write


def test_a_rejected_attempt_adds_no_tokens_and_an_unpriced_one_no_false_cost(
    provider: Playback, client: counterfoil.Client
) -> None:
    provider.default = in_turn(
        error_answer(429, retry_after="0.01"), chat_player(ChatReply(usage=Counts(input=7, output=2)))
    )
    with counterfoil.meter() as meter:
        call(client)
    assert len(meter.entries) == 2
    assert meter.usage.total_tokens == 9
    assert meter.cost is None, "nobody knows the price of this server"


def test_threads_started_inside_are_counted(client: counterfoil.Client) -> None:
    with counterfoil.meter() as meter, ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: call(client), range(64)))
    assert len(meter.entries) == 64
    assert len({entry.opening.attempt for entry in meter.entries}) == 64
    assert meter.usage.total_tokens == 64 * 13
    assert meter.unattributed == 0


def test_threads_started_inside_nested_meters_count_in_both(client: counterfoil.Client) -> None:
    with counterfoil.meter() as outer:
        with counterfoil.meter() as inner, ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: call(client), range(8)))
        with ThreadPoolExecutor(1) as pool:
            pool.submit(call, client).result()
    assert len(inner.entries) == 8
    assert len(outer.entries) == 9


def test_a_thread_between_two_meters_counts_in_the_one_around_both(provider: Playback) -> None:
    client = counterfoil.Client(base_url=provider.base_url)
    meters: list[counterfoil.Meter] = []

    async def hold(opened: asyncio.Barrier, done: asyncio.Event) -> None:
        with counterfoil.meter() as meter:
            meters.append(meter)
            await opened.wait()
            await done.wait()

    async def test() -> None:
        opened, done = asyncio.Barrier(3), asyncio.Event()
        with counterfoil.meter() as outer:
            async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
                for _ in range(2):
                    group.create_task(hold(opened, done))
                await opened.wait()
                await asyncio.get_running_loop().run_in_executor(None, call, client)  # without a context
                done.set()
        assert len(outer.entries) == 1
        assert outer.unattributed == 0
        assert [(meter.entries, meter.unattributed) for meter in meters] == [((), 1), ((), 1)]

    asyncio.run(test())
    client.close()


def test_a_thread_that_was_there_before_counts_only_with_a_context(client: counterfoil.Client) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        with counterfoil.meter() as meter:
            pool.submit(call, client).result()
            assert meter.entries == (), "it may serve somebody else"
            pool.submit(contextvars.copy_context().run, call, client).result()
            assert len(meter.entries) == 1


def test_two_threads_with_a_meter_each_have_their_own_calls(client: counterfoil.Client) -> None:
    both = threading.Barrier(2)

    def work(count: int) -> int:
        with counterfoil.meter() as meter:
            both.wait(SECONDS)
            for _ in range(count):
                call(client)
            both.wait(SECONDS)
        return len(meter.entries)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, (2, 5))) == [2, 5]


def test_a_call_that_could_be_meant_for_two_meters_counts_in_none_and_both_say_so(client: counterfoil.Client) -> None:
    opened, done = threading.Barrier(2), threading.Event()
    meters: list[counterfoil.Meter] = []

    def hold() -> None:
        with counterfoil.meter() as meter:
            meters.append(meter)
            opened.wait(SECONDS)
            done.wait(SECONDS)

    holder = threading.Thread(target=hold)
    holder.start()
    opened.wait(SECONDS)
    with counterfoil.meter() as mine:
        stray = threading.Thread(target=call, args=(client,))
        stray.start()
        stray.join()
    done.set()
    holder.join()
    assert mine.entries == meters[0].entries == ()
    assert mine.unattributed == meters[0].unattributed == 1


def test_tasks_count_where_they_were_started(provider: Playback) -> None:
    async def test() -> None:
        async with asyncio.timeout(SECONDS), counterfoil.AsyncClient(base_url=provider.base_url) as client:

            async def one() -> Any:
                return await client.chat.completions.create(**CHATTING)

            async def metered(count: int) -> int:
                with counterfoil.meter() as inner:
                    await asyncio.gather(*(one() for _ in range(count)))
                return len(inner.entries)

            with counterfoil.meter() as outer:
                counts = await asyncio.gather(metered(2), metered(3), asyncio.create_task(metered(4)))
                stream = await client.chat.completions.create(**CHATTING, stream=True)
            async for _ in stream:
                pass
            assert list(counts) == [2, 3, 4]
            assert len(outer.entries) == 10, "a stream counts where it was asked for, whenever it ends"

    asyncio.run(test())


def test_a_thread_that_is_given_its_context_counts(provider: Playback, client: counterfoil.Client) -> None:
    async def test() -> None:
        with counterfoil.meter() as meter:
            await asyncio.gather(*(asyncio.to_thread(call, client) for _ in range(4)))
        assert len(meter.entries) == 4

    asyncio.run(test())


def test_a_meter_may_be_left_in_another_context_than_it_was_entered(client: counterfoil.Client) -> None:
    def fixture() -> Any:
        with counterfoil.meter() as meter:
            yield meter

    generator = fixture()
    meter = contextvars.copy_context().run(next, generator)
    with pytest.raises(StopIteration):
        next(generator)
    call(client)
    assert meter.entries == ()


def test_a_meter_is_not_opened_twice_at_once() -> None:
    meter = counterfoil.meter()
    with meter, pytest.raises(RuntimeError, match="open already"):
        meter.__enter__()


def test_the_clients_own_meter_is_the_same(client: counterfoil.Client) -> None:
    with client.meter() as meter:
        client.chat.completions.create(model="play-1", messages=HELLO)
    assert len(meter.entries) == 1
