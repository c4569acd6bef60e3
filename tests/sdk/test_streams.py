"""A stream can be left at any time and in any way, and the books have what was delivered."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import counterfoil
from counterfoil.ledger.entry import Exit
from counterfoil.testing import Counts, Playback, chat_reply
from counterfoil.usage.usage import Provenance
from tests.sdk.support import CHATTING, SECONDS, text_of

__all__: list[str] = []

WORDS = tuple(f"word{number} " for number in range(12))
HELD = chat_reply(text=WORDS, usage=Counts(input=11, output=12)).hold_at(4, "gate")
"""A role frame and three words, then silence until the gate is opened."""


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(SECONDS):
            await test()

    asyncio.run(bounded())


def read(stream: counterfoil.Stream) -> tuple[list[Any], counterfoil.Error | None]:
    """What came of a stream, and what it ended in."""
    chunks: list[Any] = []
    try:
        for chunk in stream:
            chunks.append(chunk)  # noqa: PERF402 - what came before an error is wanted
    except counterfoil.Error as error:
        return chunks, error
    return chunks, None


async def read_async(
    stream: counterfoil.AsyncStream, into: list[Any] | None = None
) -> tuple[list[Any], BaseException | None]:
    """The same on an event loop, where a task can also be cancelled, and what came so far can be looked at."""
    chunks: list[Any] = [] if into is None else into
    try:
        async for chunk in stream:
            chunks.append(chunk)  # noqa: PERF401 - what came before an error is wanted
    except (counterfoil.Error, asyncio.CancelledError) as error:
        return chunks, error
    return chunks, None


def left(provider: Playback) -> None:
    """Wait until the provider has noticed that its client hung up."""
    provider.block_until(lambda: provider.served[0].ended == "client_left")


def test_a_stream_that_is_closed_early_stops_the_provider_and_books_what_was_delivered(provider: Playback) -> None:
    provider.default = HELD
    with counterfoil.Client(base_url=provider.base_url) as client:
        stream = client.chat.completions.create(**CHATTING, stream=True)
        chunks = [next(stream) for _ in range(4)]
        assert stream.entry is None, "it is open"
        stream.close()
        left(provider)
        assert text_of(chunks) == "word0 word1 word2 "
        entry = stream.entry
        assert entry is not None
        assert entry.exit is Exit.CLIENT_GONE
        assert entry.usage.output_tokens
        assert stream.usage is not None
        assert stream.usage.estimated is True
        assert stream.usage.provenance["output_tokens"] is Provenance.ESTIMATED
        assert client.entries == (entry,)
        assert list(stream) == []
        stream.close()
        assert client.entries == (entry,), "closed once"


def stumble(stream: counterfoil.Stream) -> None:
    for chunk in stream:
        assert stream.entry is None, "not while it is being read"
        if chunk.choices[0].delta.content:
            raise ZeroDivisionError


def test_an_exception_in_the_body_of_the_loop_closes_the_stream_with_its_block(provider: Playback) -> None:
    provider.default = HELD
    with counterfoil.Client(base_url=provider.base_url) as client:
        stream = client.chat.completions.create(**CHATTING, stream=True)
        with pytest.raises(ZeroDivisionError), stream:
            stumble(stream)
        left(provider)
        (entry,) = client.entries
        assert entry.exit is Exit.CLIENT_GONE
        assert stream.entry == entry


def test_who_asks_for_the_entry_after_leaving_the_loop_closes_the_stream(provider: Playback) -> None:
    provider.default = HELD
    with counterfoil.Client(base_url=provider.base_url) as client:
        stream = client.chat.completions.create(**CHATTING, stream=True)
        with pytest.raises(ZeroDivisionError):
            stumble(stream)
        assert client.entries == (), "it could be gone on with"
        assert stream.usage is not None
        left(provider)
        assert stream.entry is not None
        assert stream.entry.exit is Exit.CLIENT_GONE


def test_a_loop_that_was_left_can_be_gone_on_with(provider: Playback) -> None:
    provider.default = chat_reply(text=WORDS, usage=Counts(input=11, output=12))
    with (
        counterfoil.Client(base_url=provider.base_url) as client,
        client.chat.completions.create(**CHATTING, stream=True) as stream,
    ):
        first = []
        for chunk in stream:
            first.append(chunk)
            if chunk.choices[0].delta.content:
                break
        rest = list(stream)
        assert text_of([*first, *rest]) == "".join(WORDS)
        assert stream.entry is not None
        assert stream.entry.exit is Exit.COMPLETED


def test_a_stream_that_is_forgotten_is_closed_and_says_so(provider: Playback) -> None:
    provider.default = HELD
    with counterfoil.Client(base_url=provider.base_url) as client, counterfoil.meter() as meter:

        def forget() -> None:
            next(client.chat.completions.create(**CHATTING, stream=True))
            gc.collect()

        with pytest.warns(ResourceWarning, match="forgotten"):
            forget()
        left(provider)
        wait_for(lambda: len(client.entries) == 1)
        assert [entry.exit for entry in meter.entries] == [Exit.CLIENT_GONE], "its meter has it too"


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for another thread, a moment at a time."""
    waiting = threading.Event()
    for _ in range(1000):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("it did not happen")


def test_a_stream_that_was_read_to_its_end_is_complete_whatever_follows(provider: Playback) -> None:
    with counterfoil.Client(base_url=provider.base_url) as client:
        stream = client.chat.completions.create(**CHATTING, stream=True)
        for _ in stream:
            pass
        stream.close()
        assert stream.entry is not None
        assert stream.entry.exit is Exit.COMPLETED
        assert stream.usage is not None
        assert stream.usage.total_tokens == 21
        assert stream.cost is None, "nobody knows the price of a server named by its address"
        assert counterfoil.completion_cost(stream) is None


def test_what_came_is_delivered_before_an_error_frame_is_raised(provider: Playback) -> None:
    provider.default = chat_reply(text="It begins well", error="plain")
    with counterfoil.Client(base_url=provider.base_url) as client:
        stream = client.chat.completions.create(**CHATTING, stream=True)
        chunks, error = read(stream)
        assert text_of(chunks) == "It begins well"
        assert isinstance(error, counterfoil.InternalServerError)
        assert "The play was stopped" in error.message
        assert stream.entry is not None
        assert error.entry == stream.entry
        assert stream.entry.exit is Exit.FAILED
        assert read(stream) == ([], None), "raised once"


def test_a_stream_that_is_cut_is_an_error_and_never_a_short_reply(provider: Playback) -> None:
    provider.default = chat_reply(text=WORDS).cut_at(4)
    with counterfoil.Client(base_url=provider.base_url) as client:
        stream = client.chat.completions.create(**CHATTING, stream=True)
        chunks, error = read(stream)
        assert text_of(chunks) == "word0 word1 word2 "
        assert isinstance(error, counterfoil.BadReplyError)
        assert error.fault == "provider"
        assert stream.entry is not None
        assert stream.entry.exit is Exit.TRUNCATED


# ---- on an event loop


def test_an_async_stream_that_is_closed_early_books_what_was_delivered(provider: Playback) -> None:
    provider.default = HELD

    async def test() -> None:
        async with counterfoil.AsyncClient(base_url=provider.base_url) as client:
            stream = await client.chat.completions.create(**CHATTING, stream=True)
            chunks = [await anext(stream) for _ in range(4)]
            assert stream.entry is None
            await stream.aclose()
            assert text_of(chunks) == "word0 word1 word2 "
            assert stream.entry is not None
            assert stream.entry.exit is Exit.CLIENT_GONE
            assert [chunk async for chunk in stream] == []
            await stream.close()
            assert client.entries == (stream.entry,)

    run(test)
    left(provider)


def test_an_exception_in_the_body_of_an_async_loop_closes_the_stream_with_its_block(provider: Playback) -> None:
    provider.default = HELD

    async def test() -> None:
        async with counterfoil.AsyncClient(base_url=provider.base_url) as client:
            stream = await client.chat.completions.create(**CHATTING, stream=True)

            async def stumble() -> None:
                async with stream:
                    async for _ in stream:
                        raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await stumble()
            assert stream.entry is not None
            assert stream.entry.exit is Exit.CLIENT_GONE

    run(test)
    left(provider)


def test_a_cancelled_task_leaves_a_stream_with_its_entry(provider: Playback) -> None:
    provider.default = HELD

    async def test() -> None:
        async with counterfoil.AsyncClient(base_url=provider.base_url) as client:
            stream = await client.chat.completions.create(**CHATTING, stream=True)
            chunks: list[Any] = []
            task = asyncio.create_task(read_async(stream, chunks))
            while len(chunks) < 4:  # noqa: ASYNC110 - the reader knows of no event
                await asyncio.sleep(0)
            task.cancel()
            _, error = await task
            assert text_of(chunks) == "word0 word1 word2 "
            assert isinstance(error, asyncio.CancelledError)
            assert stream.entry is not None
            assert stream.entry.exit is Exit.CLIENT_GONE
            assert stream.usage is not None
            assert [chunk async for chunk in stream] == []

    run(test)
    left(provider)


def test_a_task_that_is_cancelled_before_the_reply_begins_leaves_an_entry(provider: Playback) -> None:
    provider.default = chat_reply().hold_at(0, "gate")

    async def test() -> None:
        async with counterfoil.AsyncClient(base_url=provider.base_url) as client:
            with counterfoil.meter() as meter:
                task = asyncio.create_task(client.chat.completions.create(**CHATTING))
                await asyncio.to_thread(provider.block_until, lambda: provider.served)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert [entry.exit for entry in meter.entries] == [Exit.CLIENT_GONE]
            assert client.entries == meter.entries

    run(test)


def test_an_async_stream_raises_an_error_frame_after_what_came(provider: Playback) -> None:
    provider.default = chat_reply(text="It begins well", error="plain")

    async def test() -> None:
        async with counterfoil.AsyncClient(base_url=provider.base_url) as client:
            stream = await client.chat.completions.create(**CHATTING, stream=True)
            chunks, error = await read_async(stream)
            assert text_of(chunks) == "It begins well"
            assert isinstance(error, counterfoil.InternalServerError)
            assert stream.entry is not None
            assert stream.entry.exit is Exit.FAILED

    run(test)


def test_a_client_that_is_closed_while_a_stream_is_read_ends_it(provider: Playback) -> None:
    provider.default = HELD

    async def test() -> None:
        client = counterfoil.AsyncClient(base_url=provider.base_url)
        stream = await client.chat.completions.create(**CHATTING, stream=True)
        await anext(stream)
        await client.aclose()
        await read_async(stream)
        await stream.aclose()
        assert stream.entry is not None
        assert stream.entry.exit is not Exit.COMPLETED

    run(test)
