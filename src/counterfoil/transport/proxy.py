"""Which proxy an address is reached by: what the usual variables say, and never one for this machine."""

from __future__ import annotations

import urllib.request
from typing import Final

__all__ = ["LOOPBACK", "Proxies"]

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
PROXIES_KEPT: Final = 1024
"""Hosts whose proxy is remembered."""


class Proxies:
    """The system's proxies, each address looked up once. Threads may share it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, int | None], str | None] = {}

    def proxy(self, scheme: str, host: str, port: int | None) -> str | None:
        """The proxy's URL, or None. `port`: None where the address names none.

        The ways HTTP libraries have to ask the variables also read `~/.netrc`, and add what they find there.
        """
        if host in LOOPBACK:
            return None
        key = (scheme, host, port)
        if key not in self._known:
            if len(self._known) >= PROXIES_KEPT:
                self._known.clear()
            bypassed = urllib.request.proxy_bypass(f"{host}:{port}" if port else host)
            proxy = None if bypassed else urllib.request.getproxies().get(scheme)
            found = f"http://{proxy}" if proxy and "://" not in proxy else proxy
            self._known[key] = found
            return found
        return self._known.get(key)
