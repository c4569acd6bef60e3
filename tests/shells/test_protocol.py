"""Promise: an answer takes no more writes than it needs, and who answers is told that the client hung up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from counterfoil.server.asgi import Receive, Request, Scope, Send
from counterfoil.server.limits import Patience
from counterfoil.server.protocol import protocol_class

Answering = Callable[[Request], Awaitable[None]]

HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}
STREAM_HEAD = {"type": "http.response.start", "status": 200, "headers": []}


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


class Wire(asyncio.Transport):
    """A connection that keeps each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False
        self.reading = True

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


async def ask(answering: Answering, request: bytes, then: Callable[[Any, Wire], Awaitable[None]] | None = None) -> Wire:
    """One request on a connection of its own. `then`: what happens to the connection while it is answered."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering(Request(scope, dict(scope["headers"]), receive, send))

    state, wire = ServerState(), Wire()
    config = uvicorn.Config(app, lifespan="off", interface="asgi3", log_config=None)
    protocol = protocol_class(lambda: 1 << 14, Patience())(config, state, {})
    protocol.connection_made(wire)
    protocol.data_received(request)
    task = next(iter(state.tasks))
    await asyncio.sleep(0)
    if then is not None:
        await then(protocol, wire)
    async with asyncio.timeout(10):
        await task
    if not wire.closed:
        protocol.connection_lost(None)
    return wire


def test_a_short_answer_is_one_write() -> None:
    async def answering(request: Request) -> None:
        await request.send(HEAD)
        await request.send(body(b"tide"))

    wire = asyncio.run(ask(answering, b"GET / HTTP/1.1\r\n\r\n"))
    assert [write.partition(b"\r\n\r\n")[2] for write in wire.writes] == [b"tide"]
    assert wire.writes[0].startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_streams_first_frame_goes_out_with_its_head_and_every_other_at_once() -> None:
    async def answering(request: Request) -> None:
        await request.send(STREAM_HEAD)
        for word in (b"one", b"two"):
            await request.send(body(word, more=True))
        await request.send(body(b""))

    first, *others = asyncio.run(ask(answering, b"GET / HTTP/1.1\r\n\r\n")).writes
    assert first.endswith(b"\r\n\r\n3\r\none\r\n")
    assert others == [b"3\r\ntwo\r\n", b"0\r\n\r\n"]


def test_an_answer_without_a_body_is_its_head() -> None:
    async def answering(request: Request) -> None:
        await request.send(HEAD)
        await request.send(body(b"tide"))

    (head,) = asyncio.run(ask(answering, b"HEAD / HTTP/1.1\r\n\r\n")).writes
    assert head.endswith(b"content-length: 4\r\n\r\n")


def test_a_client_that_waits_to_be_told_to_go_on_is_told_at_once() -> None:
    async def answering(request: Request) -> None:
        await request.receive()
        await request.send(HEAD)
        await request.send(body(b"tide"))

    async def send_body(protocol: Any, wire: Wire) -> None:
        protocol.data_received(b"x")

    asked = b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n"
    wire = asyncio.run(ask(answering, asked, send_body))
    assert wire.writes[0] == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert len(wire.writes) == 2


@pytest.mark.parametrize("length", [1, 1 << 17])
def test_who_answers_is_told_when_the_client_hangs_up(length: int) -> None:
    """Also after a body so large that reading was paused: only who reads hears the end."""
    told: list[bool] = []
    paused: list[bool] = []

    async def answering(request: Request) -> None:
        await request.receive()
        gone = asyncio.Event()
        request.on_hang_up(gone.set)
        await gone.wait()
        told.append(True)
        await request.send(HEAD)  # nobody reads it

    async def hang_up(protocol: Any, wire: Wire) -> None:
        protocol.data_received(b"x" * length)
        paused.append(not wire.reading)
        await asyncio.sleep(0)
        assert wire.reading
        wire.close()
        protocol.connection_lost(None)

    wire = asyncio.run(ask(answering, b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % length, hang_up))
    assert (told, wire.writes, paused) == ([True], [], [length > 1])


def test_nobody_is_told_of_a_client_that_goes_after_its_answer() -> None:
    told: list[bool] = []

    async def answering(request: Request) -> None:
        request.on_hang_up(lambda: told.append(True))
        await request.send(HEAD)
        await request.send(body(b"tide"))

    asyncio.run(ask(answering, b"GET / HTTP/1.1\r\n\r\n"))
    assert told == []
