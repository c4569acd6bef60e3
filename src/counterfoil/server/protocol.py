"""What uvicorn leaves unbounded in HTTP itself: the size of a head, the time it may take, how many connections.

Rule 1: an answer given here has the shape of every other error at its path, and a name, though no request was read.
Rule 2: nothing here runs per chunk of a reply.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final, Literal
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope
from uvicorn.config import Config as UvicornConfig
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.dialects.dialect import ClientDialect
from counterfoil.dialects.openai_chat import OPENAI_CHAT
from counterfoil.driver.drive import new_id
from counterfoil.server.asgi import HANG_UP, names_of
from counterfoil.server.limits import Patience
from counterfoil.server.paths import dialect_at

__all__ = ["Protocol", "protocol_class"]

_Awaited = Literal["head", "body", "nothing"]
"""What of a request is yet to come."""
_UPGRADE: Final = re.compile(rb"\r\nUpgrade:", re.IGNORECASE)
_IGNORED: Final = b"\r\nX-grade:"
"""As long as what it stands for. The wish for another protocol is ignored, as HTTP allows: Java's client asks for h2c
with every request, and the parser would take the request's body for the other protocol."""
_PER_HEADER: Final = 4
"""Bytes of a header line beside its name and value: `: ` and the line's end."""


class Protocol(HttpToolsProtocol):
    """One connection. `protocol_class` sets its limits."""

    head_limit: Callable[[], int]
    patience: Patience

    def __init__(
        self,
        config: UvicornConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.access_log = False  # it would show whole URLs, and a URL may hold a key
        self.url, self.headers = b"", []
        self._limit = type(self).head_limit()
        self._head = 0
        """Bytes of the head being read, as far as they were parsed."""
        self._unparsed = 0
        """Bytes since the parser last finished something: a header that never ends is only seen here."""
        self._awaited: _Awaited = "head"
        self._refused = False
        self._answering: RequestResponseCycle | None = None
        """The request whose answer is on its way; `cycle` is the latest one read."""
        self._told: Callable[[], None] | None = None
        """Who is told when the client of that request hangs up."""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > 2 * self.patience.connections:
            transport.abort()
        elif len(self.connections) > self.patience.connections:
            self._refuse(_failure(503, FailureKind.OVERLOADED, Fault.GATEWAY, "The gateway has too many connections."))
        else:
            self._start_timer(self.patience.head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._unparsed += len(data)
        if self._awaited != "body" and b"pgrade:" in data:
            data = _UPGRADE.sub(_IGNORED, data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(_failure(400, FailureKind.INVALID_REQUEST, Fault.CLIENT, "This gateway speaks only HTTP/1.1."))
        except httptools.HttpParserError:
            if not self._refused:
                self.send_400_response("Invalid HTTP request received.")
        if self._refused or self.transport.is_closing():
            return
        if self._unparsed > self._limit or self._head > self._limit:
            self._refuse_head()
        elif self._awaited == "head" and self._timer is None:
            self._start_timer(self.patience.head)
        elif self._awaited == "body":
            self._stop_timer()
            self._start_timer(self.patience.body)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0
        self._awaited = "head"

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._head += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value) + _PER_HEADER
        if self._head <= self._limit:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._unparsed = 0
        if self._head > self._limit:
            self._refuse_head()
        if not self._refused:
            super().on_headers_complete()
            self._awaited = "body"
            if len(self.pipeline) == 1:
                # One request that waits its turn must not keep its client's hang-up from being read.
                self.flow.resume_reading()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering, self._told = cycle, None
        cycle.transport = _HeldHead(cycle)  # type: ignore[assignment]  # as much of a transport as a cycle uses
        cycle.scope["extensions"] = {HANG_UP: {"tell": self._tell}}

        async def bounded(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            try:
                await app(scope, receive, send)
            finally:
                if self._answering is cycle:
                    self._told = None  # it holds the whole request
                # uvicorn closes after what is buffered is sent: to a client that reads nothing, never.
                if not cycle.response_complete:
                    if cycle.response_started:
                        self._hang_up()  # a reply that was carried has no other way to say that it is not whole
                    self.loop.call_later(self.patience.linger, self.transport.abort)

        super()._start_asgi_task(cycle, bounded)

    def on_response_complete(self) -> None:
        held = None if self._answering is None else self._answering.transport
        if isinstance(held, _HeldHead):
            held.let_go()  # nothing follows the head of an answer to HEAD
        super().on_response_complete()

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_timer()
        self._awaited = "nothing"
        self._unparsed = 0
        if not self._refused:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(_failure(400, FailureKind.INVALID_REQUEST, Fault.CLIENT, msg))

    def _refuse_head(self) -> None:
        self._refuse(
            _failure(
                431,
                FailureKind.TOO_LARGE,
                Fault.CLIENT,
                f"The request line and headers are larger than {self._limit >> 10} KiB. "
                "The gateway's `limits.headers` sets this.",
            )
        )

    def _timed_out(self) -> None:
        self._timer = None
        if self._awaited == "body" and self.cycle.response_started:
            self._hang_up()  # it was answered already, and its rest is not wanted
            return
        message = {
            "head": f"The request's headers did not come within {self.patience.head:g} s.",
            "body": f"No more of the request's body came for {self.patience.body:g} s.",
            "nothing": "",
        }[self._awaited]
        self._refuse(_failure(408, FailureKind.TIMED_OUT, Fault.CLIENT, message))

    def _start_timer(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._timed_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, failure: Failure) -> None:
        """Answer without a request, unless another one's answer is due before, and hang up."""
        self._refused = True
        self._stop_timer()
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._hang_up()
            return
        if not self._answerable():
            self.cycle.keep_alive = False  # the answer that is on its way is the last
            return
        body = self._dialect().write_failure(failure)
        head = [STATUS_LINE[failure.status]]
        read = {} if self._awaited == "nothing" else dict(self.headers)
        head += [b"%s: %s\r\n" % pair for pair in (*self.server_state.default_headers, *names_of(read, new_id()))]
        head.append(b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body))
        self.transport.write(b"".join([*head, body]))
        self._disconnect()  # whoever waits for the rest of this body waits no longer
        if self.transport.can_write_eof():
            # What still comes is thrown away: closing on unread bytes resets the connection and loses the answer.
            self.transport.write_eof()
            self._timer = self.loop.call_later(self.patience.linger, self.transport.close)
        else:
            self.transport.close()

    def _dialect(self) -> ClientDialect[Any]:
        """Of the path, as far as it was read."""
        if self._awaited == "nothing":
            return OPENAI_CHAT
        return dialect_at(unquote(self.url.partition(b"?")[0].decode("latin-1")), dict(self.headers))

    def _hang_up(self) -> None:
        self._disconnect()
        self.transport.close()

    def _disconnect(self) -> None:
        """Tell whoever answers on this connection. uvicorn tells only the latest request, which may wait its turn."""
        cycle = self._answering
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if self._told is not None:
                self._told()

    def _tell(self, told: Callable[[], None]) -> None:
        """`HANG_UP`."""
        self._told = told
        self.flow.resume_reading()  # a large body may have paused it, and only who reads hears the end

    def _answerable(self) -> bool:
        """Whether the next bytes the client reads are the answer to what was just refused."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return True
        return self._awaited == "body" and not cycle.response_started


class _HeldHead:
    """What a request's answer is written to until its head is out: the head waits for the bytes that follow it at once,
    so that both are one packet."""

    __slots__ = ("_cycle", "_head", "_transport")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._transport = cycle.transport
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            self._cycle.transport = self._transport
            self._transport.write(self._head + data)
        elif self._cycle.response_started:
            self._head = data
        else:
            self._transport.write(data)  # "100 Continue"

    def let_go(self) -> None:
        """Nothing follows the head."""
        if self._head:
            self.write(b"")

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self.let_go()
        self._transport.close()


def protocol_class(head_limit: Callable[[], int], patience: Patience) -> type[Protocol]:
    """A protocol with these limits. `head_limit`: bytes, asked for once a connection, so that a reload counts."""
    return type("GatewayProtocol", (Protocol,), {"head_limit": staticmethod(head_limit), "patience": patience})


def _failure(status: int, kind: FailureKind, fault: Fault, message: str) -> Failure:
    return Failure(kind, message, fault, status)
