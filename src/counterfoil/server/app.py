"""The gateway as an ASGI application: which path is answered by whom, and every error in its door's dialect.

Rule 1: paths are a table.
Rule 2: a request takes the state once, so that a reload never changes what an exchange runs by.
Rule 3: whatever goes wrong is answered in a shape the client's library can read, and says whose fault it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault
from counterfoil.dialects.dialect import ClientDialect
from counterfoil.dialects.openai_chat import OPENAI_CHAT
from counterfoil.server.admin import live, ready, reload, show_metrics
from counterfoil.server.asgi import Gone, Receive, Request, Scope, Send, refuse_body, respond
from counterfoil.server.doors import answer_call, list_models, log_defect, show_model
from counterfoil.server.gateway import Gateway
from counterfoil.server.pages import home
from counterfoil.server.state import State

__all__ = ["DOORS", "Application", "Door"]

Handler = Callable[[Gateway, State, Request, ClientDialect[Any]], Awaitable[None]]


class Door(msgspec.Struct, frozen=True):
    """One path: who answers which method, in which dialect."""

    methods: Mapping[str, Handler]
    dialect: ClientDialect[Any] = OPENAI_CHAT

    @property
    def allow(self) -> str:
        """The value of an `Allow` header."""
        return ", ".join(sorted({*self.methods, *(["HEAD"] if "GET" in self.methods else [])}))


_CHAT: Final = Door({"POST": answer_call})
_MODELS: Final = Door({"GET": list_models})
_MODEL: Final = Door({"GET": show_model})

DOORS: Final[Mapping[str, Door]] = MappingProxyType(
    {
        "/": Door({"GET": home}),
        "/v1/chat/completions": _CHAT,
        "/chat/completions": _CHAT,
        "/v1/models": _MODELS,
        "/models": _MODELS,
        "/health/live": Door({"GET": live}),
        "/health/ready": Door({"GET": ready}),
        "/metrics": Door({"GET": show_metrics}),
        "/admin/reload": Door({"POST": reload}),
    }
)
_BELOW: Final = (("/v1/models/", _MODEL), ("/models/", _MODEL))
"""Paths that go on with a name."""


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
        request = Request(scope, dict(scope["headers"]), receive, send)
        door = DOORS.get(scope["path"]) or _below(scope["path"])
        try:
            if door is None:
                raise _not_found(request.path)
            method = scope["method"]
            handler = door.methods.get("GET" if method == "HEAD" else method)
            if handler is None:
                await self._refuse(request, door.dialect, _wrong_method(method, door.allow), {"allow": door.allow})
                return
            await handler(gateway, state, request, door.dialect)
        except CounterfoilError as error:
            await self._refuse(request, OPENAI_CHAT if door is None else door.dialect, error.failure)
        except Gone:
            self._gateway.metrics.answered(None, 499)
        except Exception as error:  # noqa: BLE001 - a defect of ours still gets an answer, and its place is logged
            log_defect(error, None)
            await self._refuse(request, OPENAI_CHAT if door is None else door.dialect, _DEFECT)

    async def _refuse(
        self, request: Request, dialect: ClientDialect[Any], failure: Failure, headers: Mapping[str, str] | None = None
    ) -> None:
        self._gateway.metrics.answered(None, failure.status)
        more = dict(headers or {})
        if failure.retry_after is not None:
            more["retry-after"] = f"{failure.retry_after:g}"
        if failure.status == 401:
            more["www-authenticate"] = "Bearer"
        body = dialect.write_failure(failure)
        if failure.status == 413:
            await refuse_body(request, failure.status, body, more, self._gateway.patience.linger)
        else:
            await respond(request.send, failure.status, body, headers=more)


def _below(path: str) -> Door | None:
    for prefix, door in _BELOW:
        if path.startswith(prefix) and len(path) > len(prefix):
            return door
    return None


def _not_found(path: str) -> CounterfoilError:
    shown = path if len(path) <= 100 else path[:99] + "…"
    message = f"Nothing is served at {shown}. POST /v1/chat/completions takes chats, GET / says what there is."
    return CounterfoilError(Failure(FailureKind.NOT_FOUND, message, Fault.CLIENT, 404, code="path_not_found"))


def _wrong_method(method: str, allow: str) -> Failure:
    message = f"{method} is not answered here, only {allow}."
    return Failure(FailureKind.INVALID_REQUEST, message, Fault.CLIENT, 405, code="method_not_allowed")


_DEFECT: Final = Failure(
    FailureKind.INTERNAL, "The gateway failed on this request. This is a defect of ours.", Fault.GATEWAY, 500
)
