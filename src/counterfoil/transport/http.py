"""Providers called with aiohttp (the `server` extra): the gateway's transport. Small on purpose.

Rule 1: it keeps the rules of `transport/transport.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Mapping
from typing import Final

import aiohttp
from yarl import URL

from counterfoil.transport.proxy import Proxies
from counterfoil.transport.transport import (
    DRAIN_BYTES,
    DRAIN_SECONDS,
    KEEP_ALIVE,
    POOL,
    Broken,
    Cut,
    Unreachable,
    Upstream,
)

__all__ = ["AiohttpTransport"]

_ADDED: Final = ("user-agent", "accept", "accept-encoding", "content-type")
"""Headers that aiohttp adds where a request has none."""
_KEPT: Final = 256
"""URLs that are remembered as they were taken apart: a deployment has one or two."""


@functools.lru_cache(_KEPT)
def _taken_apart(url: str) -> URL:
    """It may be signed: nothing of it is written in another way."""
    return URL(url, encoded=True)


@functools.lru_cache
def _connecting(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=seconds)


class AiohttpTransport:
    """HTTP/1.1 over a keep-alive pool. Use from one event loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._proxies = Proxies()
        self._draining: set[asyncio.Task[None]] = set()

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, connect: float, method: str = "POST"
    ) -> Upstream:
        return await self._send(method, url, headers, body or None, connect=connect)

    async def get(self, url: str, headers: Mapping[str, str], *, connect: float) -> Upstream:
        return await self._send("GET", url, headers, None, connect=connect)

    async def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        connect: float,
    ) -> Upstream:
        try:
            target = _taken_apart(url)
            headers = {"accept-encoding": "identity", **headers}
            response = await self._opened().request(
                method,
                target,
                data=body,
                headers=headers,
                # Leaving some out costs as much as a tenth of the call, so it is asked for only where one is missing.
                skip_auto_headers=None if all(name in headers for name in _ADDED) else _ADDED,
                proxy=self._proxies.proxy(target.scheme, target.host or "", target.port),
                allow_redirects=False,
                timeout=_connecting(connect),
            )
        except aiohttp.ClientConnectorCertificateError as error:
            raise Unreachable("the provider's TLS certificate is not valid") from error
        except aiohttp.ConnectionTimeoutError as error:
            raise Unreachable(f"no connection within {connect:g} s") from error
        except aiohttp.ClientConnectorDNSError as error:
            raise Unreachable("the provider's host name does not resolve") from error
        except aiohttp.ClientConnectorError as error:
            raise Unreachable("the connection was refused") from error
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise Unreachable("the base_url is not a URL") from error
        except aiohttp.ServerDisconnectedError as error:
            raise Cut("the provider hung up without an answer") from error
        except aiohttp.ClientHttpProxyError as error:
            raise Unreachable(f"the proxy refused the connection ({error.status})") from error
        except aiohttp.ClientResponseError as error:
            raise Broken("the provider's answer is not HTTP as it should be") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Broken("the connection broke") from error
        except ValueError:  # what cannot be sent: a line end in a header, a proxy that is no address; it may quote them
            raise Unreachable("the base_url, a header or the proxy of this provider cannot be used") from None
        return _Response(response, self._draining)

    async def close(self) -> None:
        """Drop every connection."""
        draining = tuple(self._draining)
        for task in draining:
            task.cancel()
        await asyncio.gather(*draining, return_exceptions=True)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        session = self._session
        if session is None:
            session = self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=POOL, keepalive_timeout=KEEP_ALIVE),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=64 * 1024,
                max_field_size=64 * 1024,
            )
            # It would repeat a GET, PUT or DELETE whose connection turns out to be closed: two calls in one attempt.
            session._retry_connection = False  # noqa: SLF001 - there is no other way to say so
        return session


class _Response:
    """One aiohttp response behind the interface."""

    def __init__(self, response: aiohttp.ClientResponse, draining: set[asyncio.Task[None]]) -> None:
        self._response = response
        self._content = response.content
        self._protocol = response.connection.protocol if response.connection is not None else None
        self._draining = draining
        self.status = response.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}

    async def read(self) -> bytes:
        try:
            return await self._content.readany()
        except aiohttp.ClientPayloadError as error:
            # The body's error says only that it is not whole; the connection knows whether it was closed or broke.
            if self._protocol is not None and isinstance(self._protocol.exception(), OSError):
                raise Broken("the connection broke in the middle of the reply") from error
            raise Cut("the reply was cut") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Broken("the connection broke in the middle of the reply") from error

    def finish(self) -> None:
        if self._content.at_eof():
            self._response.release()
            return
        task = asyncio.get_running_loop().create_task(self._drain())
        self._draining.add(task)
        task.add_done_callback(self._drained)

    def abort(self) -> None:
        self._response.close()

    async def _drain(self) -> None:
        left = DRAIN_BYTES
        with contextlib.suppress(TimeoutError, Cut, Broken):
            async with asyncio.timeout(DRAIN_SECONDS):
                while left > 0:
                    data = await self.read()
                    if not data:
                        self._response.release()
                        return
                    left -= len(data)

    def _drained(self, task: asyncio.Task[None]) -> None:
        """Also of a task that was cancelled before it began."""
        self._draining.discard(task)
        self._response.close()  # changes nothing for a connection that was given back
