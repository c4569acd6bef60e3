"""Which proxy an address is reached by: what the usual variables say, and never one for this machine itself."""

from __future__ import annotations

import ipaddress
import urllib.request
from typing import Final

__all__ = ["LOOPBACK", "Proxies", "is_metadata_host"]

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_METADATA_HOSTS: Final = frozenset({"metadata.google.internal", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"})
"""Where clouds answer a machine about itself, beside the link-local addresses."""
PROXIES_KEPT: Final = 1024
"""Hosts whose proxy is remembered."""


def is_metadata_host(host: str) -> bool:
    """Whether a cloud answers there about the machine that asks, and about nobody else's: no proxy may ask for it."""
    try:
        return host in _METADATA_HOSTS or ipaddress.ip_address(host).is_link_local
    except ValueError:
        return False


class Proxies:
    """The system's proxies, each address looked up once. Threads may share it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, int | None], str | None] = {}

    def proxy(self, scheme: str, host: str, port: int | None) -> str | None:
        """The proxy's URL, or None. `port`: None where the address names none.

        The ways HTTP libraries have to ask the variables also read `~/.netrc`, and add what they find there.
        """
        key = (scheme, host, port)
        if key not in self._known:
            if len(self._known) >= PROXIES_KEPT:
                self._known.clear()
            found = self._known[key] = _found(scheme, host, port)
            return found
        return self._known.get(key)


def _found(scheme: str, host: str, port: int | None) -> str | None:
    if host in LOOPBACK or is_metadata_host(host):
        return None
    if urllib.request.proxy_bypass(f"{host}:{port}" if port else host):
        return None
    proxy = urllib.request.getproxies().get(scheme)
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy
