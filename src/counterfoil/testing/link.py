"""One client connection of the playback provider, down to the byte.

Rule 1. Nothing is hidden: a write returns when the operating system has taken all of it, a FIN or RST from the client
is noticed while nobody reads, and RST can be sent on purpose. asyncio's streams allow none of the three.
Rule 2. Everything read has a limit; what breaks HTTP or a limit raises `BadRequestError` with the status to answer.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from counterfoil.testing.playbook import Request

__all__ = ["BadRequestError", "ClientLeftError", "Link", "read_request"]

T = TypeVar("T")


class ClientLeftError(Exception):
    """The client closed or reset the connection."""


class BadRequestError(Exception):
    """The request breaks HTTP or a limit; `status` is the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Link(asyncio.Protocol):
    """A connection: `read_until` and `read_exactly` in, `write` out, `gone` when the client has left."""

    def __init__(self, on_open: "Callable[[Link], None]", *, unread_limit: int = 1 << 20) -> None:
        self._on_open = on_open
        self._unread_limit = unread_limit
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None
        self.gone = asyncio.Event()
        self.gone_at: float | None = None

    @property
    def transport(self) -> asyncio.Transport:
        """The transport; an error before the connection was made."""
        if self._transport is None:
            raise RuntimeError("not connected")
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the same verbs and another base
        # No buffer of our own: "written" has to mean that the operating system took it.
        self._transport.set_write_buffer_limits(high=0)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._on_open(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._arrived.set()
        if len(self._buffer) > self._unread_limit:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self._leave()
        return True  # the play decides what to close, and when

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _leave(self) -> None:
        if self.gone_at is None:
            self.gone_at = time.monotonic()
        self.gone.set()
        self._arrived.set()
        self._writable.set()

    async def _more(self) -> None:
        if self.gone.is_set():
            raise ClientLeftError
        self._arrived.clear()
        await self._arrived.wait()

    async def read_until(self, mark: bytes, limit: int, status: int) -> bytes:
        """All bytes up to and including `mark`; more than `limit` without it is a `BadRequestError(status)`."""
        while (found := self._buffer.find(mark)) < 0 and len(self._buffer) <= limit:
            await self._more()
        if found < 0 or found > limit:
            raise BadRequestError(status, f"more than {limit} bytes")
        return self._take(found + len(mark))

    async def read_exactly(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        taken = bytearray()
        while len(taken) < size:
            if not self._buffer:
                await self._more()
            taken += self._take(min(size - len(taken), len(self._buffer)))
        return bytes(taken)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        if len(self._buffer) <= self._unread_limit:
            self.transport.resume_reading()  # a transport that does not read does not notice the client leave
        return taken

    async def write(self, data: bytes) -> None:
        """Hand `data` to the operating system, wait until it took all of it, and let the loop look at the socket."""
        if self.gone.is_set():
            raise ClientLeftError
        self.transport.write(data)
        if self.transport.is_closing():  # the write itself failed
            raise ClientLeftError
        if not self._writable.is_set():
            await self._writable.wait()
            if self.gone.is_set():
                raise ClientLeftError
        await asyncio.sleep(0)

    async def discard(self) -> None:
        """Read and forget until the client leaves: closing over unread bytes would reset what was just answered."""
        while not self.gone.is_set():
            self._take(len(self._buffer))
            with contextlib.suppress(ClientLeftError):
                await self._more()

    async def unless_gone(self, waiting: Awaitable[T]) -> T:
        """The result of `waiting`, or `ClientLeftError` as soon as the client has left."""
        work = asyncio.ensure_future(waiting)
        watch = asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                raise ClientLeftError
            return work.result()
        finally:
            for task in (work, watch):
                task.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)

    def close(self) -> None:
        """FIN, after all that was written."""
        self.transport.close()

    def abort(self) -> None:
        """Close at once; unsent bytes are lost."""
        self.transport.abort()

    def reset(self) -> None:
        """RST: a socket that lingers for no time resets when it is closed."""
        linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()


async def read_request(link: Link, *, header_limit: int, body_limit: int) -> Request:
    """The next request of the connection, answering `Expect: 100-continue` on the way.

    Raises `ClientLeftError` where the client closed before a whole request, `BadRequestError` where it broke a limit.
    """
    head = await link.read_until(b"\r\n\r\n", header_limit, 431)
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequestError(400, "not a request line")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    if headers.get("expect", "").lower() == "100-continue":
        await link.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await _read_body(link, headers, body_limit)
    return Request(method=parts[0], path=parts[1], headers=headers, body=body)


async def _read_body(link: Link, headers: dict[str, str], limit: int) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return await _read_chunks(link, limit)
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise BadRequestError(400, "content-length is not a number")
    if int(length) > limit:
        raise BadRequestError(413, f"more than {limit} bytes")
    return await link.read_exactly(int(length))


async def _read_chunks(link: Link, limit: int) -> bytes:
    body = bytearray()
    while True:
        line = await link.read_until(b"\r\n", 1024, 400)
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError as error:
            raise BadRequestError(400, "not a chunk size") from error
        if size == 0:
            while await link.read_until(b"\r\n", 8192, 431) != b"\r\n":
                pass
            return bytes(body)
        if size < 0 or len(body) + size > limit:
            raise BadRequestError(413, f"more than {limit} bytes")
        body += await link.read_exactly(size)
        await link.read_until(b"\r\n", 2, 400)
