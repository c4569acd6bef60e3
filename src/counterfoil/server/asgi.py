"""One request and its response over raw ASGI: reading a body within limits, sending an answer, passing a reply on.

Rule 1: nothing here knows what a model is.
Rule 2: nothing is done per chunk but to hand it over.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final

import msgspec

from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault

__all__ = [
    "HANG_UP",
    "AsgiClient",
    "Gone",
    "Message",
    "Receive",
    "Request",
    "Scope",
    "Send",
    "headers_of",
    "names_of",
    "read_body",
    "refuse_body",
    "respond",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


_LAST_STATUS: Final = 599
"""Of HTTP (RFC 9110, 15). A carried reply may have another, which uvicorn cannot say."""
HEADER: Final = 4096
"""Characters of a header's value that are sent: clients give up on longer lines (Python's on 64 KiB of them)."""
_CONTROL: Final = bytes((*range(32), 127))
_REPEATED: Final = re.compile(rb"[!-~]{1,128}")
"""A client's own request id that is repeated: printable ASCII without spaces."""
_ID_HEADERS: Final = (b"x-request-id", b"request-id")
"""Under which names a reply is named: OpenAI's clients read the first, Anthropic's the second."""
HANG_UP: Final = "counterfoil.hang_up"
"""Our protocol's extension of ASGI: its `tell` is given what is to be called when the client hangs up before its answer
is whole. The standard's way, to await `receive` all the while, takes a task for every request."""


class Gone(Exception):
    """The client hung up before its request was whole."""


class Request(msgspec.Struct, frozen=True):
    """One request: where it came from and how to answer it. Header names are in lower case."""

    scope: Scope
    headers: Mapping[bytes, bytes]
    receive: Receive
    send: Send
    id: str = ""
    """Ours, time-ordered: an exchange that comes of it has the same."""
    answered_with: Sequence[tuple[bytes, bytes]] = ()
    """Headers of every answer to it, whatever the answer is."""

    @property
    def path(self) -> str:
        return str(self.scope["path"])

    def on_hang_up(self, told: Callable[[], None]) -> None:
        """Have `told` called when the client hangs up before its answer is whole. The last one is."""
        self.scope["extensions"][HANG_UP]["tell"](told)

    @property
    def query(self) -> str:
        """As it came, without the question mark. It may hold a key: never shown, never logged."""
        query: bytes = self.scope.get("query_string", b"")
        return query.decode("latin-1")

    def header(self, name: bytes) -> str:
        """A header as text, empty where absent."""
        return self.headers.get(name, b"").decode("latin-1")


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """A request's headers by name. One that comes several times is a list, in order (RFC 9110, 5.3); the same line
    again says nothing more."""
    lines = scope["headers"]
    headers: dict[bytes, bytes] = dict(lines)
    if len(headers) == len(lines):
        return headers
    values: dict[bytes, dict[bytes, None]] = {}
    for name, value in lines:
        values.setdefault(name, {})[value] = None
    return {name: b", ".join(several) for name, several in values.items()}


def names_of(headers: Mapping[bytes, bytes], id_: str) -> tuple[tuple[bytes, bytes], ...]:
    """The headers that name an answer: the request's own `x-request-id` where it can be repeated, else `id_`; and the
    exchange, which is `id_`. Of a request that came to none the books know nothing under that name."""
    exchange, own = id_.encode(), headers.get(b"x-request-id")
    name = own if own and _REPEATED.fullmatch(own) else exchange
    return (*[(header, name) for header in _ID_HEADERS], (b"x-counterfoil-exchange", exchange))


class AsgiClient:
    """Where a reply goes (`driver.drive.Client`). The head waits for the first bytes: a short reply gets a length."""

    __slots__ = ("_head", "_more", "_send", "complete", "status")

    def __init__(self, request: Request) -> None:
        self._send = request.send
        self._more = request.answered_with
        self._head: list[tuple[bytes, bytes]] | None = None
        self.status = 0
        self.complete = False
        """The last bytes were handed over."""

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Keep the head for the first bytes."""
        self.status = status if status <= _LAST_STATUS else 502
        self._head = [(name.encode(), _value(value)) for name, value in headers.items()]
        self._head += self._more

    async def send(self, data: bytes, *, last: bool) -> None:
        """Hand bytes over; waits while the client is slow."""
        if self._head is not None:
            head, self._head = self._head, None
            if last:
                head.append((b"content-length", b"%d" % len(data)))
            await self._send({"type": "http.response.start", "status": self.status, "headers": head})
        if last:
            self.complete = True
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})


async def respond(
    request: Request,
    status: int,
    body: bytes,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> None:
    """Send a whole response."""
    head = [
        (b"content-type", content_type.encode("latin-1")),
        (b"content-length", b"%d" % len(body)),
        *((name.encode("latin-1"), _value(value)) for name, value in (headers or {}).items()),
        *request.answered_with,
    ]
    await request.send({"type": "http.response.start", "status": status, "headers": head})
    await request.send({"type": "http.response.body", "body": body, "more_body": False})


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises CounterfoilError (413, 415) and Gone."""
    announced = request.headers.get(b"content-length")
    if announced is not None and announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    if request.headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise _refused(415, FailureKind.INVALID_REQUEST, "Send the body as it is, without `Content-Encoding`.")
    parts: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()  # how long that may take is for the protocol to say
        if message["type"] == "http.disconnect":
            raise Gone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return part if not parts else b"".join([*parts, part])
        parts.append(part)


async def refuse_body(request: Request, status: int, body: bytes, headers: Mapping[str, str], linger: float) -> None:
    """Answer a request whose body will not be read, and close.

    The rest of the body is thrown away for `linger` seconds: a connection closed on unread bytes is reset, and the
    answer lost with it (RFC 9112, 9.6).
    """
    head = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        *((name.encode("latin-1"), _value(value)) for name, value in headers.items()),
        *request.answered_with,
    ]
    await request.send({"type": "http.response.start", "status": status, "headers": head})
    await request.send({"type": "http.response.body", "body": body, "more_body": True})
    try:
        async with asyncio.timeout(linger):
            while (await request.receive()).get("more_body", False):
                pass
    except TimeoutError:
        pass
    await request.send({"type": "http.response.body", "body": b"", "more_body": False})


def _value(text: str) -> bytes:
    """A header's value; names of fields and models can hold anything, and there can be any number of them."""
    if len(text) > HEADER:
        text = text[: HEADER - 3] + "..."
    if text.isascii() and text.isprintable():
        return text.encode()
    return text.encode("ascii", "backslashreplace").translate(None, _CONTROL)


def _too_large(limit: int) -> CounterfoilError:
    size = f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit >> 10} KiB"
    return _refused(
        413,
        FailureKind.TOO_LARGE,
        f"The request body is larger than {size}. The gateway's `limits.body` sets this.",
    )


def _refused(status: int, kind: FailureKind, message: str) -> CounterfoilError:
    return CounterfoilError(Failure(kind, message, Fault.CLIENT, status))
