"""Providers called from a thread, with httpcore. The twin of `transport/pooled.py`.

Rule 1: it keeps the rules of `transport/transport.py`.
Rule 2: every wait has a deadline on `time.monotonic`; TimeoutError says that it passed.
Rule 3: a child process never uses, and never shuts down, a connection of its parent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import httpcore2

from counterfoil.transport.httpcore import (
    FAILURES,
    LATER,
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
from counterfoil.transport.transport import DRAIN_BYTES, Broken, Cut

__all__ = ["BlockingTransport", "BlockingUpstream"]

LINGER: Final = 0.25
"""Seconds the caller waits for the end of a body whose reply is over, so that its connection can be used again."""
PIECE: Final = 64 * 1024


class BlockingTransport:
    """HTTP/1.1 over a keep-alive pool. Threads may share it, and calls of one thread use connections of another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[PoolKey, httpcore2.ConnectionPool] = {}
        self._proxies = Proxies()
        _TRANSPORTS.add(self)

    def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        connect: float,
        deadline: float = float("inf"),
        method: str = "POST",
    ) -> BlockingUpstream:
        """Send and wait for the head. `connect`: seconds to connect; `deadline`: when the head must have come.

        Raises Unreachable, Cut, Broken or TimeoutError. Looking a host name up takes as long as the system lets it.
        """
        watch = Watch(deadline)
        address = find_address(url, self._proxies)
        try:
            seconds = max(min(connect, watch.left()), 0.001)
            request = build_request(address, headers, body, connect=seconds, watch=watch, method=method)
            response = self._pool(address.pool).handle_request(request)
        except (httpcore2.LocalProtocolError, ValueError) as error:
            raise post_failure(error, watch, connect) from None  # what it says may quote a header
        except FAILURES as error:
            if isinstance(error, httpcore2.TimeoutException) and watch.left() <= 0:
                raise TimeoutError from None
            raise post_failure(error, watch, connect) from error
        return BlockingUpstream(response, watch)

    def close(self) -> None:
        """Drop every connection. A call that is still under way breaks. May be used again afterwards."""
        with self._lock:
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    def _pool(self, key: PoolKey) -> httpcore2.ConnectionPool:
        with self._lock:
            pool = self._pools.get(key)
            if pool is None:
                pool = httpcore2.ConnectionPool(**pool_settings(key), network_backend=_Backend())
                self._pools[key] = pool
            return pool

    def _forked(self) -> None:
        """In a child: forget the parent's connections. A thread of the parent may have held either lock."""
        pools, self._pools, self._lock = self._pools, {}, threading.Lock()
        for pool in pools.values():
            for connection in pool.connections:
                connection.close()


class BlockingUpstream:
    """A provider's answer, its body not yet read. Use from one thread at a time."""

    def __init__(self, response: httpcore2.Response, watch: Watch) -> None:
        self.status, headers = head_of(response)
        self.headers: Mapping[str, str] = headers
        self._response = response
        self._watch = watch
        self._chunks: Iterator[bytes] = response.iter_stream()
        self._over = False

    def read(self, deadline: float, tick: Callable[[], None] | None = None) -> bytes:
        """Some bytes, empty at the end. `tick` is called about once a second while none come.

        Raises Cut, Broken, or TimeoutError, after which the connection is lost.
        """
        self._watch.deadline, self._watch.tick = deadline, tick
        try:
            for data in self._chunks:
                if data:
                    return data
        except httpcore2.TimeoutException:
            raise TimeoutError from None
        except FAILURES as error:
            raise read_failure(error) from error
        self._over = True
        return b""

    def finish(self) -> None:
        """The reply is complete: give the connection back once the rest of the body has come, or drop it soon."""
        left, deadline = DRAIN_BYTES, time.monotonic() + LINGER
        with contextlib.suppress(TimeoutError, Cut, Broken):
            while not self._over and left > 0:
                left -= len(self.read(deadline))
        self._response.close()

    def abort(self) -> None:
        """Drop the connection, so that the provider stops. Safe to call twice."""
        self._response.close()


class _Stream(httpcore2.NetworkStream):
    """A stream whose time-out is a Watch where httpcore hands one through."""

    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner
        self._process = os.getpid()
        self._closed = False

    def read(self, max_bytes: int, timeout: float | Watch | None = None) -> bytes:
        if not isinstance(timeout, Watch):
            return self._inner.read(max_bytes, timeout)
        while True:
            left = timeout.left()
            if left <= 0:
                raise httpcore2.ReadTimeout
            try:
                data = self._inner.read(max_bytes, min(left, LATER))
            except httpcore2.ReadTimeout:
                if timeout.tick is not None:
                    timeout.tick()
                continue
            if not data and self._closed:
                raise httpcore2.ReadError  # it was our side that closed
            timeout.ended = not data
            return data

    def write(self, buffer: bytes, timeout: float | Watch | None = None) -> None:
        if not isinstance(timeout, Watch):
            self._inner.write(buffer, timeout)
            return
        for at in range(0, len(buffer), PIECE):
            left = timeout.left()
            if left <= 0:
                raise httpcore2.WriteTimeout
            self._inner.write(buffer[at : at + PIECE], None if left == float("inf") else left)

    def close(self) -> None:
        self._closed = True
        if self._process == os.getpid():
            # A thread that waits for this socket is woken by this, and not by the closing.
            with contextlib.suppress(OSError, AttributeError):
                self._inner.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's
        return self._inner.get_extra_info(info)


class _Backend(httpcore2.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        return _Stream(super().connect_tcp(host, port, timeout, local_address, socket_options))


_TRANSPORTS: Final[weakref.WeakSet[BlockingTransport]] = weakref.WeakSet()


def _forget() -> None:
    for transport in tuple(_TRANSPORTS):
        transport._forked()  # noqa: SLF001 - of this module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
