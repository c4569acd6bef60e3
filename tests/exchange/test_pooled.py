"""Connections on event loops: reads that survive a cancellation, loops that end, and pulled replies left early."""

from __future__ import annotations

import asyncio
import gc
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from shutil import which
from typing import Any

import msgspec
import pytest

from counterfoil.config import ClientGone
from counterfoil.driver.pull import LoopDrivers, PullRun
from counterfoil.ledger.entry import Exit
from counterfoil.testing import Counts, Playback, chat_reply, running
from counterfoil.testing.playbook import reply_number
from counterfoil.transport import httpcore
from counterfoil.transport.blocking import BlockingTransport
from counterfoil.transport.pooled import PooledTransport
from counterfoil.transport.transport import Transport, Unreachable, Upstream
from tests.exchange.ways import Ledger, context, reveal
from tests.exchange.world import call, deployment

SECONDS = 10.0
REPLY = chat_reply(text=tuple(f"word{number} " for number in range(12)), usage=Counts(input=11, output=7))


async def post(transport: Transport, url: str) -> Upstream:
    return await transport.post(url, {}, b'{"stream":true}', connect=5.0)


async def read_all(upstream: Upstream) -> bytes:
    data = b""
    while more := await upstream.read():
        data += more
    return data


def test_a_read_that_was_cancelled_loses_nothing() -> None:
    async def test(provider: Playback) -> None:
        transport = PooledTransport()
        upstream = await post(transport, f"{provider.base_url}/chat/completions")
        data, cancelled = b"", 0
        while cancelled < 3:
            try:
                async with asyncio.timeout(0.02):
                    data += await upstream.read()
            except TimeoutError:
                cancelled += 1
        provider.release("more")
        data += await read_all(upstream)
        assert data == REPLY.body.replace(reply_number(0).encode(), provider.served[0].reply_id.encode())
        await transport.close()

    with running() as provider:
        provider.queue(REPLY.hold_at(3, "more"))
        asyncio.run(asyncio.wait_for(test(provider), SECONDS))


def test_each_loop_has_its_connections_and_closes_them_when_it_ends() -> None:
    transport = PooledTransport()

    async def twice(url: str) -> None:
        for _ in range(2):
            upstream = await post(transport, url)
            await read_all(upstream)
            upstream.finish()

    with running() as provider:
        url = f"{provider.base_url}/chat/completions"
        for loops in (1, 2):
            asyncio.run(twice(url))
            assert provider.connections == loops
        others = [threading.Thread(target=lambda: asyncio.run(twice(url))) for _ in range(4)]
        for other in others:
            other.start()
        for other in others:
            other.join(SECONDS)
        assert provider.connections == 6
    gc.collect()  # what was left open would say so


def test_a_reply_dropped_at_the_end_of_its_loop_is_not_sent_any_longer() -> None:
    async def test(url: str) -> None:
        upstream = await post(PooledTransport(), url)
        await upstream.read()
        upstream.abort()

    with running() as provider:
        provider.queue(REPLY.hold_at(3, "never"))
        asyncio.run(test(f"{provider.base_url}/chat/completions"))
        provider.block_until(lambda: provider.served[-1].ended)
        assert provider.served[-1].ended == "client_left"
    gc.collect()


def pulled(test: Callable[[Callable[..., PullRun], Playback, Ledger], Awaitable[None]]) -> None:
    """Run a test that pulls replies; nothing is left of it, and nothing went wrong unseen."""
    books = Ledger()
    faults: list[Any] = []

    async def whole(provider: Playback) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
        drivers = LoopDrivers(PooledTransport(), books, reveal)

        def run(**fields: Any) -> PullRun:
            there = msgspec.structs.replace(deployment(), base_url=provider.base_url)
            return PullRun(drivers.current(), call(there, **fields), context())

        async with asyncio.timeout(SECONDS):
            await test(run, provider, books)
            await drivers.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"

    with running() as provider:
        asyncio.run(whole(provider))
    assert not faults


def test_a_caller_that_leaves_early_is_a_client_that_hung_up() -> None:
    async def test(run: Callable[..., PullRun], provider: Playback, books: Ledger) -> None:
        provider.queue(REPLY.hold_at(5, "never"))
        async with run() as reply:
            begun = await reply.begin()
            assert begun is not None
            await anext(reply)
        assert books.exits == [Exit.CLIENT_GONE]
        assert reply.outcome is not None
        await reply.aclose()
        assert [data async for data in reply] == []

    pulled(test)


@pytest.mark.parametrize("turns", [0, 1, 2, 30])
def test_a_caller_whose_task_is_cancelled_leaves_a_closed_entry(turns: int) -> None:
    async def test(run: Callable[..., PullRun], provider: Playback, books: Ledger) -> None:
        provider.queue(REPLY.hold_at(5, "never"))
        reply = run()
        task = asyncio.ensure_future(_consume(reply))
        for _ in range(turns):
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert set(books.exits) <= {Exit.CLIENT_GONE}
        assert len(books.exits) <= 1
        await reply.aclose()
        assert [data async for data in reply] == []

    pulled(test)


async def _consume(reply: PullRun) -> None:
    async for _ in reply:
        pass


def test_a_run_that_is_closed_before_it_begins_calls_nobody() -> None:
    async def test(run: Callable[..., PullRun], provider: Playback, books: Ledger) -> None:
        reply = run()
        await reply.aclose()
        assert await reply.begin() is None
        assert [data async for data in reply] == []
        assert reply.outcome is not None
        assert not books.opened
        assert not provider.served

    pulled(test)


def test_a_second_cancellation_shortens_the_drain_and_the_entry_is_closed() -> None:
    async def test(run: Callable[..., PullRun], provider: Playback, books: Ledger) -> None:
        provider.queue(REPLY.hold_at(5, "never"))
        reply = run(client_gone=ClientGone(action="drain", drain=SECONDS))
        await anext(reply)
        task = asyncio.create_task(reply.aclose())
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert books.exits == [Exit.CLIENT_GONE]

    pulled(test)


def test_nothing_is_read_ahead_of_the_caller() -> None:
    async def test(run: Callable[..., PullRun], provider: Playback, books: Ledger) -> None:
        provider.queue(REPLY.hold_at(3, "more"))
        reply = run()
        await anext(reply)
        provider.release("more")
        await asyncio.sleep(0.1)
        assert not books.closed, "the exchange went on without its caller"
        await _consume(reply)
        assert books.exits == [Exit.COMPLETED]

    pulled(test)


def test_a_run_that_is_forgotten_closes_its_entry_and_says_so() -> None:
    async def test(run: Callable[..., PullRun], provider: Playback, books: Ledger) -> None:
        provider.queue(REPLY.hold_at(5, "never"))
        reply = run()
        await reply.begin()
        with pytest.warns(ResourceWarning, match="forgotten before its end"):  # noqa: PT031 - what is forgotten, and when
            del reply
            gc.collect()
        while not books.closed:  # noqa: ASYNC110 - books have no event
            await asyncio.sleep(0.005)
        assert books.exits == [Exit.CLIENT_GONE]
        await asyncio.sleep(0.01)

    pulled(test)


def test_an_unfinished_reply_is_closed_when_its_loop_ends() -> None:
    books = Ledger()
    kept: list[PullRun] = []

    async def test(provider: Playback) -> None:
        drivers = LoopDrivers(PooledTransport(), books, reveal)
        there = msgspec.structs.replace(deployment(), base_url=provider.base_url)
        kept.append(PullRun(drivers.current(), call(there), context()))
        await kept[0].begin()

    with running() as provider:
        provider.queue(REPLY.hold_at(5, "never"))
        asyncio.run(test(provider))
        provider.block_until(lambda: provider.served[-1].ended)
    assert books.exits == [Exit.SHUTDOWN]
    assert kept[0].outcome is not None


@pytest.mark.skipif(which("openssl") is None, reason="no openssl here to make a certificate with")
def test_a_certificate_is_checked_against_the_trust_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made, *subject], check=True, capture_output=True, timeout=60)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate, key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        await reader.read()
        writer.close()

    def block(url: str) -> bytes:
        transport = BlockingTransport()
        try:
            return bytes(transport.post(url, {}, b"{}", connect=5.0).read(float("inf")))
        finally:
            transport.close()

    async def test() -> None:
        server = await asyncio.start_server(answer, "localhost", 0, ssl=server_side)
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/v1"
        httpcore._system_trust.cache_clear()
        with pytest.raises(Unreachable, match="certificate"):
            await PooledTransport().post(url, {}, b"{}", connect=5.0)
        with pytest.raises(Unreachable, match="certificate"):
            await asyncio.to_thread(block, url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        httpcore._system_trust.cache_clear()
        transport = PooledTransport()
        assert await (await transport.post(url, {}, b"{}", connect=5.0)).read() == b"hi"
        assert await asyncio.to_thread(block, url) == b"hi"
        await transport.close()
        server.close()
        await server.wait_closed()

    try:
        asyncio.run(asyncio.wait_for(test(), SECONDS))
    finally:
        httpcore._system_trust.cache_clear()
