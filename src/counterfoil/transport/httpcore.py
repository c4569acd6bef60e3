"""What both transports on httpcore share: addresses, pools, and what its errors mean.

Rule 1: the words of a failure are ours, and the same whichever transport met it: a client reads them.
Rule 2: no error repeats what was sent: a header that cannot be sent may hold a secret.
"""

from __future__ import annotations

import functools
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import httpcore2
import msgspec

from counterfoil.transport.proxy import Proxies
from counterfoil.transport.transport import KEEP_ALIVE, POOL, Broken, Cut, Unreachable

__all__ = [
    "FAILURES",
    "Address",
    "PoolKey",
    "Watch",
    "build_request",
    "find_address",
    "head_of",
    "pool_settings",
    "post_failure",
    "read_failure",
]

PoolKey = tuple[bool, str | None]
"""Whether TLS is spoken, and the proxy's URL."""

IDLE: Final = 100
"""Idle connections kept in one pool."""
PORTS: Final = {"http": 80, "https": 443}
LATER: Final = 1.0
"""Seconds between two calls of a watch's `tick`."""
FAILURES: Final = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.UnsupportedProtocol,
    OSError,
    ValueError,
)
"""What httpcore raises for a call that failed."""
_UNUSABLE: Final = "the base_url, a header or the proxy of this provider cannot be used"


class Watch:
    """How long a call may take, and whether its connection was closed by the other side.

    httpcore fixes a request's time-outs when it is sent, and hands them to our stream unchanged. This one it hands on
    as well, and its deadline can move from read to read.
    """

    __slots__ = ("deadline", "ended", "tick")

    def __init__(self, deadline: float = float("inf")) -> None:
        self.deadline = deadline
        """On `time.monotonic`."""
        self.ended = False
        self.tick: Callable[[], None] | None = None
        """Called about once a second while nothing comes."""

    def left(self) -> float:
        """Seconds left; not above 0 when there are none."""
        return self.deadline - time.monotonic()


class Address(msgspec.Struct, frozen=True):
    """Where a request goes."""

    url: httpcore2.URL
    host: str
    """The value of the Host header."""
    pool: PoolKey


def find_address(url: str, proxies: Proxies) -> Address:
    """Take a URL apart. What is percent-encoded stays so; what cannot stand there is encoded. Raises Unreachable."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        if parts.scheme not in PORTS or not host:
            raise ValueError(parts.scheme)
        name = host if host.isascii() else host.encode("idna").decode()
    except ValueError:
        raise Unreachable("the base_url is not a URL") from None
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    if parts.query:
        target += f"?{quote(parts.query, safe='%/:@!$&()*+,;=~?')}"
    shown = f"[{name}]" if ":" in name else name
    return Address(
        httpcore2.URL(scheme=parts.scheme.encode(), host=name.encode(), port=port, target=target.encode()),
        shown if port in (None, PORTS[parts.scheme]) else f"{shown}:{port}",
        (parts.scheme == "https", proxies.proxy(parts.scheme, name, port)),
    )


def pool_settings(key: PoolKey) -> dict[str, Any]:
    """The arguments of a pool, sync or async. Raises Unreachable for a proxy that is none."""
    secure, proxy = key
    settings: dict[str, Any] = {
        "max_connections": POOL,
        "max_keepalive_connections": IDLE,
        "keepalive_expiry": KEEP_ALIVE,
        "retries": 0,
    }
    if secure:
        settings["ssl_context"] = _system_trust()
    if proxy is not None:
        settings["proxy"] = _proxy(proxy)
    return settings


def _proxy(written: str) -> httpcore2.Proxy:
    try:
        parts = urlsplit(written)
        port = parts.port
        if parts.scheme not in PORTS or not parts.hostname:
            raise ValueError(parts.scheme)
        # It is taken apart here, since a user's name and password in the URL are not read from it.
        return httpcore2.Proxy(
            httpcore2.URL(scheme=parts.scheme.encode(), host=parts.hostname.encode("idna"), port=port, target=b"/"),
            (unquote(parts.username).encode(), unquote(parts.password or "").encode()) if parts.username else None,
            ssl_context=_system_trust() if parts.scheme == "https" else None,
        )
    except ValueError:
        raise Unreachable(_UNUSABLE) from None


@functools.cache
def _system_trust() -> ssl.SSLContext:
    """TLS by the authorities this system trusts (`truststore`). Reading them takes longer than a call."""
    return httpcore2.default_ssl_context()


def build_request(
    address: Address, headers: Mapping[str, str], body: bytes, *, connect: float, watch: Watch, method: str = "POST"
) -> httpcore2.Request:
    """One request. Raises ValueError for a header that is not ASCII."""
    whole = {"host": address.host, "content-length": str(len(body)), "accept-encoding": "identity", **headers}
    times = {"connect": connect, "pool": connect, "read": watch, "write": watch}
    return httpcore2.Request(
        method,
        address.url,
        headers=[(name.encode("ascii"), value.encode("ascii")) for name, value in whole.items()],
        content=body,
        extensions={"timeout": times},
    )


def head_of(response: httpcore2.Response) -> tuple[int, dict[str, str]]:
    """Status and headers, names in lower case."""
    return response.status, {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
    }


def post_failure(error: Exception, watch: Watch, connect: float) -> Exception:
    """What a failed post amounts to: Unreachable, Cut or Broken."""
    cause = error.args[0] if error.args else None
    match error:
        case httpcore2.ConnectTimeout():
            return Unreachable(f"no connection within {connect:g} s")
        case httpcore2.PoolTimeout():
            return Unreachable(f"no connection was free within {connect:g} s")
        case httpcore2.ConnectError() if isinstance(cause, ssl.SSLCertVerificationError):
            return Unreachable("the provider's TLS certificate is not valid")
        case httpcore2.ConnectError() if isinstance(cause, socket.gaierror):
            return Unreachable("the provider's host name does not resolve")
        case httpcore2.ConnectError():
            return Unreachable("the connection was refused")
        case httpcore2.ProxyError():
            return Unreachable(f"the proxy refused the connection ({str(cause).split(' ')[0]})")
        case httpcore2.RemoteProtocolError() if watch.ended:
            return Cut("the provider hung up without an answer")
        case httpcore2.RemoteProtocolError():
            return Broken("the provider's answer is not HTTP as it should be")
        case httpcore2.LocalProtocolError() | httpcore2.UnsupportedProtocol() | ValueError():
            return Unreachable(_UNUSABLE)
        case _:
            return Broken("the connection broke")


def read_failure(error: Exception) -> Exception:
    """What a failed read amounts to: Cut or Broken."""
    if isinstance(error, httpcore2.ProtocolError):
        return Cut("the reply was cut")
    return Broken("the connection broke in the middle of the reply")
