"""Sockets to providers: one call is one request, and a connection is lent again only when its reply is over."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from counterfoil.testing import Counts, Cut, Hold, Playback, Script, Send, chat_reply, no_answer, redirect
from counterfoil.transport.http import AiohttpTransport
from counterfoil.transport.pooled import PooledTransport
from counterfoil.transport.transport import Broken, Transport, Unreachable, Upstream
from counterfoil.transport.transport import Cut as CutShort

SECONDS = 10.0
REPLY = chat_reply(text="Good morning", usage=Counts(input=7, output=2))


_kind: Callable[[], Transport] = AiohttpTransport


@pytest.fixture(autouse=True, params=[AiohttpTransport, PooledTransport])
def _either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every promise is kept by both."""
    monkeypatch.setattr("tests.exchange.test_transport._kind", request.param)


async def post(
    transport: Transport, url: str, headers: Mapping[str, str] | None = None, connect: float = 5.0
) -> Upstream:
    return await transport.post(url, headers or {}, b'{"stream":true}', connect=connect)


async def read_all(upstream: Upstream) -> bytes:
    data = b""
    while more := await upstream.read():
        data += more
    return data


def within(test: Callable[[Playback, Transport, str], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a provider and a transport, after which no task is left."""

    async def whole() -> None:
        faults: list[Mapping[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
        async with asyncio.timeout(SECONDS):
            async with Playback() as provider:
                transport = _kind()
                try:
                    await test(provider, transport, f"{provider.base_url}/chat/completions")
                finally:
                    await transport.close()
            assert len(asyncio.all_tasks()) == 1
        assert not faults

    asyncio.run(whole())


def test_a_connection_whose_reply_was_read_serves_the_next_call() -> None:
    async def test(provider: Playback, transport: Transport, url: str) -> None:
        provider.queue(REPLY, REPLY)
        for _ in range(2):
            upstream = await post(transport, url)
            assert (await read_all(upstream)).endswith(b"[DONE]\n\n")
            upstream.finish()
        assert provider.connections == 1

    within(test)


def test_a_connection_is_not_lent_while_something_of_its_reply_is_still_to_come() -> None:
    async def test(provider: Playback, transport: Transport, url: str) -> None:
        provider.queue(REPLY.hold_at(len(REPLY.frames), "end"), REPLY, REPLY)
        first = await post(transport, url)
        await first.read()
        first.finish()
        second = await post(transport, url)
        assert provider.connections == 2
        provider.release("end")
        await read_all(second)
        await provider.wait_for(lambda: provider.served[0].ended)
        for _ in range(10):  # the first one's drain reads the end that is there
            await asyncio.sleep(0)
        third = await post(transport, url)
        await read_all(third)
        assert provider.connections == 2

    within(test)


def test_an_abort_that_comes_late_does_not_hit_the_call_its_connection_was_lent_to() -> None:
    async def test(provider: Playback, transport: Transport, url: str) -> None:
        provider.queue(REPLY, REPLY.hold_at(2, "more"))
        first = await post(transport, url)
        await read_all(first)
        first.finish()
        second = await post(transport, url)
        assert provider.connections == 1
        first.abort()
        first.finish()
        first.abort()
        provider.release("more")
        assert (await read_all(second)).endswith(b"[DONE]\n\n")

    within(test)


def test_an_abort_while_the_rest_is_drained_drops_the_connection() -> None:
    async def test(provider: Playback, transport: Transport, url: str) -> None:
        provider.queue(REPLY.hold_at(len(REPLY.frames), "never"), REPLY)
        first = await post(transport, url)
        await first.read()
        first.finish()
        await asyncio.sleep(0)
        first.abort()
        await provider.wait_for(lambda: provider.served[0].ended)
        assert provider.served[0].ended == "client_left"
        assert (await read_all(await post(transport, url))).endswith(b"[DONE]\n\n")
        assert provider.connections == 2

    within(test)


def test_a_provider_that_never_ends_after_its_end_mark_loses_its_connection_soon() -> None:
    async def test(provider: Playback, transport: Transport, url: str) -> None:
        provider.queue(REPLY.stall_at(len(REPLY.frames)))
        upstream = await post(transport, url)
        await upstream.read()
        upstream.finish()
        began = time.monotonic()
        await provider.wait_for(lambda: provider.served[0].ended)
        assert provider.served[0].ended == "client_left"
        assert time.monotonic() - began < SECONDS / 2

    within(test)


def test_a_provider_that_goes_on_after_its_end_mark_is_not_read_for_long() -> None:
    async def test(provider: Playback, transport: Transport, url: str) -> None:
        junk = Send(b": " + b"x" * 65_536 + b"\n\n")
        provider.queue(replace(REPLY, steps=(*REPLY.steps, *[junk] * 600)))
        upstream = await post(transport, url)
        await upstream.read()
        upstream.finish()
        await provider.wait_for(lambda: provider.served[0].ended)
        assert provider.served[0].ended == "client_left"

    within(test)


def test_what_is_drained_when_the_transport_closes_is_dropped() -> None:
    async def test(provider: Playback, transport: Transport, url: str) -> None:
        provider.queue(REPLY.stall_at(len(REPLY.frames)))
        upstream = await post(transport, url)
        await upstream.read()
        upstream.finish()
        await transport.close()
        assert len(asyncio.all_tasks()) <= 4, "a drain goes on"  # this one, and three of the provider
        await provider.wait_for(lambda: provider.served[0].ended)

    within(test)


def test_a_call_is_made_once_even_on_a_connection_that_turns_out_to_be_dead() -> None:
    async def test(provider: Playback, transport: Transport, url: str) -> None:
        provider.queue(REPLY, no_answer())
        upstream = await post(transport, url)
        await read_all(upstream)
        upstream.finish()
        with pytest.raises(CutShort):
            await post(transport, url)
        assert len(provider.served) == 2

    within(test)


def test_a_redirect_is_not_followed() -> None:
    async def test(provider: Playback, transport: Transport, url: str) -> None:
        provider.queue(redirect(f"{provider.origin}/elsewhere"))
        upstream = await post(transport, url, {"authorization": "Bearer play"})
        assert upstream.status == 307
        upstream.abort()
        assert len(provider.served) == 1
        assert not provider.visits

    within(test)


def test_a_cut_and_a_break_are_told_apart() -> None:
    async def test(provider: Playback, transport: Transport, url: str) -> None:
        provider.queue(REPLY.then_at(1, Hold("cut"), Cut()), REPLY.reset_at(1))
        provider.release("cut")
        upstream = await post(transport, url)
        with pytest.raises(CutShort):
            await read_all(upstream)
        upstream.abort()
        upstream = await post(transport, url)
        with pytest.raises(Broken):
            await read_all(upstream)
        upstream.abort()

    within(test)


def test_the_provider_is_asked_not_to_compress() -> None:
    async def test(provider: Playback, transport: Transport, url: str) -> None:
        await read_all(await post(transport, url))
        assert provider.served[0].headers["accept-encoding"] == "identity"

    within(test)


def test_what_is_compressed_all_the_same_is_not_unpacked_here() -> None:
    packed = gzip.compress(b"x" * 1_000_000)

    async def test(provider: Playback, transport: Transport, url: str) -> None:
        provider.queue(Script(steps=(Send(packed),), framing="length").with_headers(content_encoding="gzip"))
        upstream = await post(transport, url)
        assert upstream.headers["content-encoding"] == "gzip"
        assert await read_all(upstream) == packed

    within(test)


def test_a_header_that_cannot_be_sent_is_told_without_quoting_it() -> None:
    async def test(provider: Playback, transport: Transport, url: str) -> None:
        with pytest.raises(Unreachable) as raised:
            await post(transport, url, {"authorization": "Bearer sesame\r\nx: y"})
        assert "sesame" not in str(raised.value)
        assert not provider.served

    within(test)


def test_nobody_listening_is_unreachable() -> None:
    async def test(provider: Playback, transport: Transport, url: str) -> None:
        spare = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = spare.sockets[0].getsockname()[1]
        spare.close()
        await spare.wait_closed()
        with pytest.raises(Unreachable):
            await post(transport, f"http://127.0.0.1:{port}/v1")

    within(test)


def test_a_host_that_does_not_take_the_connection_is_given_up_in_time() -> None:
    async def test(provider: Playback, transport: Transport, url: str) -> None:
        with contextlib.ExitStack() as stack:
            full = stack.enter_context(socket.socket())
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(4):  # a full queue takes no more, and says nothing
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            began = time.monotonic()
            with pytest.raises(Unreachable):
                await post(transport, f"http://127.0.0.1:{full.getsockname()[1]}/v1", connect=0.2)
            assert time.monotonic() - began < SECONDS / 2

    within(test)


def test_the_proxy_variables_are_heeded_and_a_netrc_never(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine provider.test login someone password sesame\ndefault login x password sesame\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    async def test(provider: Playback, transport: Transport, url: str) -> None:
        monkeypatch.setenv("http_proxy", f"http://user:pass@127.0.0.1:{provider.port}")
        for headers in ({"authorization": "Bearer play"}, {"x-api-key": "play"}):
            await read_all(await post(transport, "http://provider.test/v1/chat/completions", headers))
            served = provider.served[-1]
            assert served.path == "http://provider.test/v1/chat/completions"
            assert served.headers["host"] == "provider.test"
            assert served.headers["proxy-authorization"] == f"Basic {base64.b64encode(b'user:pass').decode()}"
            assert served.headers.get("authorization") == headers.get("authorization")
        await read_all(await post(transport, url))
        assert provider.served[-1].path == "/v1/chat/completions", "this machine needs no proxy"

    within(test)


def test_a_host_that_needs_no_proxy_is_called_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(provider: Playback, transport: Transport, url: str) -> None:
        monkeypatch.setenv("http_proxy", provider.origin)
        monkeypatch.setenv("no_proxy", "provider.invalid")
        with pytest.raises(Unreachable):
            await post(transport, "http://provider.invalid/v1/chat/completions")
        assert not provider.served

    within(test)
