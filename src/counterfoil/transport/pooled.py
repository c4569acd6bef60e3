"""Providers called on an event loop, with httpcore: what the core installs. The twin of `transport/blocking.py`.

Rule 1: it keeps the rules of `transport/transport.py`.
Rule 2: connections belong to the event loop that opened them. They are closed by `close()` on that loop, or when the
loop shuts its asynchronous generators down (as `asyncio.run` does), whichever comes first.
Rule 3: a child process never uses a connection of its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import weakref
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

import httpcore2

from counterfoil.transport.httpcore import (
    FAILURES,
    PoolKey,
    Watch,
    build_request,
    find_address,
    head_of,
    pool_settings,
    post_failure,
    read_failure,
)
from counterfoil.transport.proxy import Proxies
from counterfoil.transport.transport import DRAIN_BYTES, DRAIN_SECONDS, Broken, Cut, Upstream

__all__ = ["PooledTransport"]

T = TypeVar("T")


class PooledTransport:
    """HTTP/1.1 over a keep-alive pool for each event loop. Loops of several threads may share it."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Pools] = weakref.WeakKeyDictionary()
        self._proxies = Proxies()

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, connect: float, method: str = "POST"
    ) -> Upstream:
        """Send and wait for the head. `connect`: seconds to connect. Raises Unreachable, Cut or Broken."""
        watch = Watch()
        address = find_address(url, self._proxies)
        try:
            request = build_request(address, headers, body, connect=connect, watch=watch, method=method)
            pools = await self._opened()
            response = await pools.pool(address.pool).handle_async_request(request)
        except (httpcore2.LocalProtocolError, ValueError) as error:
            raise post_failure(error, watch, connect) from None  # what it says may quote a header
        except FAILURES as error:
            raise post_failure(error, watch, connect) from error
        return _Response(response, pools)

    async def close(self) -> None:
        """Drop every connection that the running loop opened. May be used again afterwards."""
        pools = self._loops.pop(asyncio.get_running_loop(), None)
        if pools is not None:
            await pools.close()

    async def _opened(self) -> _Pools:
        if self._process != os.getpid():
            self._process, self._loops = os.getpid(), weakref.WeakKeyDictionary()
        loop = asyncio.get_running_loop()
        pools = self._loops.get(loop)
        if pools is None:
            for other in [other for other in self._loops if other.is_closed()]:
                self._loops.pop(other, None)
            pools = self._loops[loop] = _Pools()
            await pools.stay()
        return pools


class _Pools:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self._pools: dict[PoolKey, httpcore2.AsyncConnectionPool] = {}
        self._keeper = _keep(self)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.responses: set[_Response] = set()
        """Whose bodies are neither read to the end nor dropped."""

    async def stay(self) -> None:
        """Have the loop close this when it ends: it finishes the asynchronous generators that it has seen begin."""
        await anext(self._keeper)

    def pool(self, key: PoolKey) -> httpcore2.AsyncConnectionPool:
        pool = self._pools.get(key)
        if pool is None:
            pool = httpcore2.AsyncConnectionPool(**pool_settings(key), network_backend=_Backend())
            self._pools[key] = pool
        return pool

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for it is told; often nobody does any more

    async def close(self) -> None:
        await self._keeper.aclose()

    async def drop(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for response in tuple(self.responses):
            await response.drop()
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.aclose()
        for _ in range(2):  # a transport closes its socket a turn of the loop after it was told to
            await asyncio.sleep(0)


async def _keep(pools: _Pools) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await pools.drop()


class _Response:
    """One response behind the interface."""

    def __init__(self, response: httpcore2.Response, pools: _Pools) -> None:
        self.status, headers = head_of(response)
        self.headers: Mapping[str, str] = headers
        self._response = response
        self._pools = pools
        self._chunks: AsyncGenerator[bytes, None] = response.aiter_stream()
        self._reading: asyncio.Task[bytes] | None = None
        self._over = False
        """The connection was given back, or dropped."""
        pools.responses.add(self)

    async def read(self) -> bytes:
        # httpcore cannot go on with a read that was cancelled, so none is: the next one takes up what is under way.
        reading = self._reading
        if reading is None:
            if self._over:
                return b""
            reading = self._reading = self._pools.spawn(self._next())
        try:
            data = await asyncio.shield(reading)
        except FAILURES as error:
            self._reading = None
            raise read_failure(error) from error
        self._reading = None
        return data

    async def _next(self) -> bytes:
        async for data in self._chunks:
            if data:
                return data
        self._over = True
        await self._response.aclose()
        self._pools.responses.discard(self)
        return b""

    def finish(self) -> None:
        if not self._over:
            self._pools.spawn(self._drain())

    def abort(self) -> None:
        if self._over:
            return
        self._over = True
        # At once, and not when the task runs: the loop may end before.
        with contextlib.suppress(OSError, AttributeError, TypeError):  # not every loop's socket can be shut down
            self._response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._pools.spawn(self.drop())

    async def _drain(self) -> None:
        left = DRAIN_BYTES
        with contextlib.suppress(TimeoutError, Cut, Broken):
            async with asyncio.timeout(DRAIN_SECONDS):
                while left > 0 and (data := await self.read()):
                    left -= len(data)
        self.abort()

    async def drop(self) -> None:
        """Let go of all that belongs to this response."""
        self._over = True
        reading = self._reading
        if reading is not None:
            reading.cancel()
            await asyncio.wait({reading})
        with contextlib.suppress(RuntimeError):  # a loop that ends is closing it at this moment
            await self._chunks.aclose()
        await self._response.aclose()
        self._pools.responses.discard(self)


class _Stream(httpcore2.AsyncNetworkStream):
    """A stream that tells the watch, where httpcore hands one through, that the other side has closed."""

    def __init__(self, inner: httpcore2.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | Watch | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        if not isinstance(timeout, Watch):
            return await self._inner.read(max_bytes, timeout)
        data = await self._inner.read(max_bytes)
        timeout.ended = not data
        return data

    async def write(self, buffer: bytes, timeout: float | Watch | None = None) -> None:  # noqa: ASYNC109
        await self._inner.write(buffer, None if isinstance(timeout, Watch) else timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's
        return self._inner.get_extra_info(info)


class _Backend(httpcore2.AnyIOBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return _Stream(await super().connect_tcp(host, port, timeout, local_address, socket_options))
