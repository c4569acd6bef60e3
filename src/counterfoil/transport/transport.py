"""How a provider is called: the protocols that every transport keeps, and the ways in which a call may fail.

Rule 1: nothing above `transport/` knows which library speaks HTTP.
Rule 2: a redirect is never followed (it would carry a secret elsewhere) and a request is never repeated here: an
attempt is one call, so that it can have one entry.
Rule 3: a connection goes back to the pool only after its reply was read to the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

__all__ = [
    "DRAIN_BYTES",
    "DRAIN_SECONDS",
    "KEEP_ALIVE",
    "POOL",
    "Asking",
    "Broken",
    "Cut",
    "Transport",
    "Unreachable",
    "Upstream",
]

POOL: Final = 10_000
"""Connections open at once, over all providers."""
KEEP_ALIVE: Final = 15.0
"""Seconds an idle connection is kept. That a server closed it sooner is noticed, but for the moment on the wire."""
DRAIN_SECONDS: Final = 1.0
DRAIN_BYTES: Final = 64 * 1024


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
        self, url: str, headers: Mapping[str, str], body: bytes, *, connect: float, method: str = "POST"
    ) -> Upstream:
        """Send and wait for the head. `url`: percent-encoded, and sent as it is; `connect`: seconds to connect.

        `method`: another one, for a call that is carried as it came. Raises Unreachable, Cut or Broken.
        """
        ...

    async def close(self) -> None: ...


class Asking(Protocol):
    """How a provider is asked for what costs nothing, such as the list of its models. No part of a client's call."""

    async def get(self, url: str, headers: Mapping[str, str], *, connect: float) -> Upstream:
        """Ask and wait for the head. `url`: percent-encoded; `connect`: seconds to connect.

        Raises Unreachable, Cut or Broken.
        """
        ...
