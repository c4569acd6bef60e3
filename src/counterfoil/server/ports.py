"""Where the gateway listens, and who is there already when it cannot.

Rule 1: the sockets are ours from before anything else starts, so that a taken port costs nothing but a sentence.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, Final

__all__ = ["ListenFailed", "PortTaken", "bind", "holder", "next_free_port"]

BACKLOG: Final = 2048
_ASK_SECONDS: Final = 0.5
_LISTENING: Final = "0A"
"""The state of a listening socket in /proc/net/tcp (proc(5))."""
_TRIED: Final = 50


class ListenFailed(Exception):
    """The gateway cannot listen where it was told to. The text says why and what to do."""


class PortTaken(ListenFailed):
    """Somebody listens there already. `free` is the next port where nobody does."""

    def __init__(self, host: str, port: int, by: str | None, free: int | None) -> None:
        self.host, self.port, self.by, self.free = host, port, by, free
        words = f"Port {port} on {host} is taken{f' by {by}' if by else ''}."
        super().__init__(f"{words} Port {free} is free: `--port {free}`." if free is not None else words)


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets, one for each address of `host`, all on one port; 0: a free one. Raises ListenFailed."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenFailed(f"{host} is not a name or address of this machine ({error.strerror}).") from error
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            # The first one's port, where a free one was asked for.
            chosen = sockets[0].getsockname()[1] if sockets else address[1]
            try:
                sockets.append(_listen(family, kind, protocol, (address[0], chosen, *address[2:])))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise PortTaken(host, port, holder(host, port), next_free_port(host, port)) from error
                # A machine may have a name for ::1 and no IPv6; one address is enough.
                if not sockets and len(found) == 1:
                    raise ListenFailed(_cannot(host, port, error)) from error
                last = error
        if not sockets:
            raise ListenFailed(_cannot(host, port, last))
    except ListenFailed:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def next_free_port(host: str, port: int) -> int | None:
    """The first port after `port` where one can listen."""
    for candidate in range(port + 1, min(port + 1 + _TRIED, 65536)):
        with contextlib.suppress(OSError):
            family, kind, protocol, _, address = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0]
            _listen(family, kind, protocol, address).close()
            return candidate
    return None


def holder(host: str, port: int) -> str | None:
    """Who listens on `port`, in words, as far as can be found out."""
    process = _process(port)
    if _is_counterfoil(host, port):
        return f"another Counterfoil ({process})" if process else "another Counterfoil"
    return process


def _listen(family: int, kind: int, protocol: int, address: tuple[Any, ...]) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # on Windows this option would let two processes share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _cannot(host: str, port: int, error: OSError) -> str:
    more = " Ports below 1024 need rights of their own." if error.errno == errno.EACCES else ""
    return f"Cannot listen on {host}:{port}: {error.strerror}.{more}"


def _is_counterfoil(host: str, port: int) -> bool:
    asked = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on
    connection = http.client.HTTPConnection(asked, port, timeout=_ASK_SECONDS)
    try:
        connection.request("GET", "/health/live")
        answer = json.loads(connection.getresponse().read(1024))
        return isinstance(answer, dict) and answer.get("service") == "counterfoil"
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


def _process(port: int) -> str | None:
    """Name and id of the process that listens, from /proc; None where there is none, or it is somebody else's."""
    if not sys.platform.startswith("linux"):
        return None
    wanted = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _inodes(Path("/proc/net", table), port)}
    for directory in Path("/proc").iterdir():
        if not wanted or not directory.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # gone meanwhile, or not ours to look at
            if any(str(link.readlink()) in wanted for link in (directory / "fd").iterdir()):
                name = (directory / "comm").read_text().strip()
                return f"{name}, process {directory.name}"
    return None


def _inodes(table: Path, port: int) -> list[str]:
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [
        row[9] for row in rows if len(row) > 9 and row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port
    ]
