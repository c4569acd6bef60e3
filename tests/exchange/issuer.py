"""A loopback server that issues credentials: whatever a test says it answers, and what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

__all__ = ["Asked", "Issuer", "issuing", "said"]


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), strict_parsing=True))


Said = tuple[int, Mapping[str, str], bytes]
"""Status, headers, body."""


def said(value: object = None, status: int = 200, **headers: str) -> Said:
    """An answer in JSON, or in bytes as they are."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return status, {name.replace("_", "-"): one for name, one in headers.items()}, body


@dataclass
class Issuer:
    """What it is asked, in order, and how it answers: by `METHOD path`, or by a function."""

    answers: dict[str, Said | Callable[[Asked], Said]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    origin: str = ""
    open_at_once: int = 0
    most_at_once: int = 0

    def answer(self, asked: Asked) -> Said:
        self.asked.append(asked)
        found = self.answers.get(f"{asked.method} {asked.path}") or self.answers.get(asked.path.partition("?")[0])
        if found is None:
            return said({"error": "not_found"}, 404)
        return found(asked) if callable(found) else found

    @property
    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]


@contextmanager
def issuing(answers: Mapping[str, Said | Callable[[Asked], Said]] | None = None) -> Iterator[Issuer]:
    """An issuer on a free port, and nothing left of it afterwards."""
    issuer = Issuer(dict(answers or {}))
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", "0")))
            with lock:
                issuer.open_at_once += 1
                issuer.most_at_once = max(issuer.most_at_once, issuer.open_at_once)
            try:
                status, more, answer = issuer.answer(Asked(self.command, self.path, headers, body))
            finally:
                with lock:
                    issuer.open_at_once -= 1
            try:
                self.send_response(status)
                for name, value in {"content-length": str(len(answer)), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)
            except OSError:  # whoever asked has given up
                self.close_connection = True

        do_GET = do_PUT = do_POST = handle_any

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    issuer.origin = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
