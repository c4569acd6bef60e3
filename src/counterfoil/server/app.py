"""The gateway as an ASGI application: each request to its door, and every error in its door's dialect.

Rule 1: paths are a table (`paths.py`).
Rule 2: a request takes the state once, so that a reload never changes what an exchange runs by.
Rule 3: whatever goes wrong is answered in a shape the client's library can read, and says whose fault it was.
Rule 4: every answer names its request (`x-request-id`, the client's own where it sent one that can be repeated) and an
exchange.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault
from counterfoil.dialects.dialect import ClientDialect
from counterfoil.driver.drive import new_id
from counterfoil.server.asgi import Gone, Receive, Request, Scope, Send, headers_of, names_of, refuse_body, respond
from counterfoil.server.cors import preflight
from counterfoil.server.door import Found
from counterfoil.server.doors import log_defect
from counterfoil.server.gateway import Gateway
from counterfoil.server.paths import DOORS, dialect_at, find, not_found
from counterfoil.server.state import State

__all__ = ["DOORS", "Application"]


class Application:
    """The ASGI application."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise ValueError("only HTTP is spoken here")
        gateway = self._gateway
        state = gateway.state
        headers = headers_of(scope)
        id_ = new_id()
        always = (*names_of(headers, id_), *state.access.cors.headers(headers.get(b"origin")))
        request = Request(scope, headers, receive, send, id_, always)
        found: Found | None = None
        try:
            found = find(request.path, request.query, headers)
            await self._answer(state, request, found)
        except CounterfoilError as error:
            await self._refuse(request, found, error.failure)
        except Gone:
            gateway.metrics.answered(None, 499)
        except Exception as error:  # noqa: BLE001 - a defect of ours still gets an answer, and its place is logged
            log_defect(error, None)
            await self._refuse(request, found, _DEFECT)

    async def _answer(self, state: State, request: Request, found: Found | None) -> None:
        if found is None:
            raise not_found(request.path)
        method, door, cors = request.scope["method"], found.door, state.access.cors
        handler = door.handler(method)
        if handler is not None:
            await handler(self._gateway, state, request, found)
        elif method == "OPTIONS" and cors.on:
            more = preflight(cors, request.headers, door.allow) or ((b"allow", door.allow.encode()),)
            await request.send(
                {"type": "http.response.start", "status": 204, "headers": [*more, *request.answered_with]}
            )
            await request.send({"type": "http.response.body", "body": b"", "more_body": False})
            self._gateway.metrics.answered(None, 204)
        elif method == "POST" and ":" in (found.place.model or ""):
            raise not_found(request.path)  # no model but a method of one, that nobody answers (Gemini's `:predict`)
        else:
            await self._refuse(request, found, _wrong_method(method, door.allow), {"allow": door.allow})

    async def _refuse(
        self, request: Request, found: Found | None, failure: Failure, headers: Mapping[str, str] | None = None
    ) -> None:
        self._gateway.metrics.answered(None, failure.status)
        dialect: ClientDialect[Any] = dialect_at(request.path, request.headers) if found is None else found.dialect
        more = dict(headers or {})
        if failure.retry_after is not None:
            more["retry-after"] = f"{failure.retry_after:g}"
        if failure.status == 401:
            more["www-authenticate"] = "Bearer"
        body = dialect.write_failure(failure)
        if failure.status == 413:
            await refuse_body(request, failure.status, body, more, self._gateway.patience.linger)
        else:
            await respond(request, failure.status, body, headers=more)


def _wrong_method(method: str, allow: str) -> Failure:
    message = f"{method} is not answered here, only {allow}."
    return Failure(FailureKind.INVALID_REQUEST, message, Fault.CLIENT, 405, code="method_not_allowed")


_DEFECT: Final = Failure(
    FailureKind.INTERNAL, "The gateway failed on this request. This is a defect of ours.", Fault.GATEWAY, 500
)
