"""The only opener of provider sockets. Small on purpose: post, read some, finish, abort.

Rule 1: nothing above this file knows which library speaks HTTP.
Rule 2: a redirect is never followed (it would carry a secret elsewhere) and a request is never repeated here: an
attempt is one call, so that it can have one entry.
Rule 3: a connection goes back to the pool only after its reply was read to the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import urllib.request
from collections.abc import Mapping
from typing import Final, Protocol

import aiohttp
from yarl import URL

__all__ = ["AiohttpTransport", "Broken", "Cut", "Transport", "Unreachable", "Upstream"]

POOL: Final = 10_000
"""Connections open at once, over all providers."""
KEEP_ALIVE: Final = 15.0
"""Seconds an idle connection is kept. That a server closed it sooner is noticed, but for the moment on the wire."""
DRAIN_SECONDS: Final = 1.0
DRAIN_BYTES: Final = 64 * 1024
PROXIES_KEPT: Final = 1024
"""Hosts whose proxy is remembered."""
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Unreachable(Exception):
    """No connection could be made. The text is the gateway's own and safe to show."""


class Broken(Exception):
    """The connection broke."""


class Cut(Exception):
    """The provider closed the connection before the body it announced was complete."""


class Upstream(Protocol):
    """A provider's answer, its body not yet read."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""

    async def read(self) -> bytes:
        """Some bytes, empty at the end. Raises Cut or Broken. Cancelling it loses nothing."""
        ...

    def finish(self) -> None:
        """The reply is complete: give the connection back once the rest of the body has come."""
        ...

    def abort(self) -> None:
        """Drop the connection, so that the provider stops. Safe to call twice."""
        ...


class Transport(Protocol):
    """How a provider is called."""

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, connect: float, query: Mapping[str, str]
    ) -> Upstream:
        """Send and wait for the head. `connect`: seconds to connect. Raises Unreachable, Cut or Broken."""
        ...

    async def close(self) -> None: ...


class AiohttpTransport:
    """HTTP/1.1 over a keep-alive pool. Use from one event loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[tuple[str, str, int | None], str | None] = {}
        self._draining: set[asyncio.Task[None]] = set()

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, connect: float, query: Mapping[str, str]
    ) -> Upstream:
        try:
            target = URL(url)
            if query:
                target = target.update_query(query)
            response = await self._opened().post(
                target,
                data=body,
                headers={"accept-encoding": "identity", **headers},
                proxy=self._proxy(target),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect),
            )
        except aiohttp.ClientConnectorCertificateError as error:
            raise Unreachable("the provider's TLS certificate is not valid") from error
        except aiohttp.ConnectionTimeoutError as error:
            raise Unreachable(f"no connection within {connect:g} s") from error
        except aiohttp.ClientConnectorDNSError as error:
            raise Unreachable("the provider's host name does not resolve") from error
        except aiohttp.ClientConnectorError as error:
            raise Unreachable("the connection was refused") from error
        except aiohttp.InvalidURL as error:
            raise Unreachable("the base_url is not a URL") from error
        except aiohttp.ServerDisconnectedError as error:
            raise Cut("the provider hung up without an answer") from error
        except aiohttp.ClientHttpProxyError as error:
            raise Unreachable(f"the proxy refused the connection ({error.status})") from error
        except aiohttp.ClientResponseError as error:
            raise Broken("the provider's answer is not HTTP as it should be") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Broken("the connection broke") from error
        except ValueError as error:  # what cannot be sent: a line end in a header, a proxy that is no address
            raise Unreachable("the base_url, a header or the proxy of this provider cannot be used") from error
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

    def _proxy(self, target: URL) -> str | None:
        """What the usual proxy variables say of this address. Never a proxy for this machine.

        aiohttp's own way to ask them (`trust_env`) also reads `~/.netrc`, once a request, and adds what it finds there.
        """
        host, key = target.host or "", (target.scheme, target.host or "", target.port)
        if host in LOOPBACK:
            return None
        if key not in self._proxies:
            if len(self._proxies) >= PROXIES_KEPT:
                self._proxies.clear()
            bypassed = urllib.request.proxy_bypass(f"{host}:{target.port}" if target.port else host)
            proxy = None if bypassed else urllib.request.getproxies().get(target.scheme)
            self._proxies[key] = f"http://{proxy}" if proxy and "://" not in proxy else proxy
        return self._proxies[key]

    def _opened(self) -> aiohttp.ClientSession:
        session = self._session
        if session is None:
            session = self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=POOL, keepalive_timeout=KEEP_ALIVE),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept"),
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=64 * 1024,
                max_field_size=64 * 1024,
            )
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
