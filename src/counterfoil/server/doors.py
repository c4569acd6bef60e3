"""The endpoints that clients speak to: from a request to an exchange, and the list of models.

Rule 1: a door decides nothing about a reply. It reads the request, finds the route, and hands both to the driver.
Rule 2: every refusal comes before an entry is opened, in the door's dialect.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any, Final

import msgspec

from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault, RequestError
from counterfoil.core.estimate import estimate_body
from counterfoil.core.nesting import exceeds
from counterfoil.dialects.dialect import ClientDialect, RequestPeek
from counterfoil.driver.drive import Run, new_id
from counterfoil.driver.listing import Listed
from counterfoil.exchange.call import Call
from counterfoil.ledger.entry import Exit
from counterfoil.server.asgi import AsgiClient, Receive, Request, read_body, respond
from counterfoil.server.gateway import Gateway
from counterfoil.server.state import State

__all__ = ["answer_call", "list_models", "show_model"]

TAGS: Final = 16
TAG_LENGTH: Final = 64
NAME_LENGTH: Final = 256
"""Of a model's name and of a `user`: both are written down with every entry."""
CLIENT_CLOSED: Final = 499
"""The status counted where no answer could be given."""

_log = logging.getLogger("counterfoil.server")


async def answer_call(gateway: Gateway, state: State, request: Request, dialect: ClientDialect[Any]) -> None:
    """One client call, from its body to its reply."""
    caller = state.access.admit(request.scope, request.headers, spends=True)
    if gateway.draining:
        raise CounterfoilError(
            Failure(FailureKind.UNAVAILABLE, "The gateway is shutting down. Send it again.", Fault.GATEWAY, 503)
        )
    limits = state.config.limits
    tags = _tags(request.header(b"x-counterfoil-tags"))
    body = await read_body(request, limits.body)
    if not body.isascii():
        _check_text(body)
    if exceeds(body, limits.nesting):
        raise RequestError(
            f"The request is nested deeper than {limits.nesting}. The gateway's `limits.nesting` sets this.",
            code="too_deep",
        )
    peek = _bounded(dialect.peek_request(body))
    route = state.names.resolve(peek.model)
    call = Call(
        exchange=new_id(),
        route=route,
        dialect=dialect,
        body=body,
        peek=peek,
        input_estimate=estimate_body(body),
        key=caller.key,
        tags=tags,
        stream_usage=caller.stream_usage or route.stream_usage,
    )
    client = AsgiClient(request.send)
    run = gateway.driver.run(call, state.context, client)
    watcher = asyncio.create_task(_watch(request.receive, run, client))
    try:
        outcome = await run.wait()
    finally:
        watcher.cancel()
    gateway.metrics.exchanged(route.name, client.status if client.complete else CLIENT_CLOSED, outcome)
    for defect in outcome.defects:
        log_defect(defect, call.exchange)


async def _watch(receive: Receive, run: Run, client: AsgiClient) -> None:
    """Notice that the client hung up, also while the provider is silent: only whoever awaits `receive` is told."""
    while (await receive())["type"] != "http.disconnect":
        pass
    if not client.complete:
        run.interrupt(Exit.CLIENT_GONE)


async def list_models(gateway: Gateway, state: State, request: Request, dialect: ClientDialect[Any]) -> None:
    """`GET /v1/models`: the names that can be asked for, and how the providers' own lists fare. Waits for nobody."""
    state.access.admit(request.scope, request.headers, spends=False)
    lists = () if gateway.catalogue is None else gateway.catalogue.lists()
    answer: dict[str, object] = {
        "object": "list",
        "data": [_model(public.name, public.owner, state) for public in state.names.listed(lists)],
    }
    if lists:
        answer["counterfoil"] = {"listings": [_listing(one) for one in lists]}
    await respond(request.send, 200, msgspec.json.encode(answer))


async def show_model(gateway: Gateway, state: State, request: Request, dialect: ClientDialect[Any]) -> None:
    """`GET /v1/models/NAME`: one of them, or 404 with the nearest names."""
    state.access.admit(request.scope, request.headers, spends=False)
    name = request.path.partition("/models/")[2]
    _check_name(name)
    route = state.names.resolve(name)
    await respond(request.send, 200, msgspec.json.encode(_model(route.name, route.deployments[0].provider.name, state)))


def log_defect(defect: BaseException, exchange: str | None) -> None:
    """Say where our own code failed: the type and the places, never what it held (a message can quote content)."""
    places = " < ".join(
        f"{frame.name} ({frame.filename.rpartition('counterfoil/')[2]}:{frame.lineno})"
        for frame in reversed(traceback.extract_tb(defect.__traceback__))
    )
    _log.error("defect %s in exchange %s at %s", type(defect).__name__, exchange or "-", places or "unknown place")


def _model(name: str, owner: str, state: State) -> dict[str, object]:
    return {"id": name, "object": "model", "created": state.since, "owned_by": owner}


def _listing(listed: Listed) -> dict[str, object]:
    return {
        "provider": listed.provider,
        "state": listed.state,
        "models": len(listed.models),
        "left_off": listed.left_off,
        "problem": listed.problem,
    }


def _check_text(body: bytes) -> None:
    """JSON is UTF-8 (RFC 8259, 8.1). Whoever reads the body after this need not think of anything else."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"The request body is not UTF-8: byte {error.start}.", code="invalid_json") from None


def _bounded(peek: RequestPeek) -> RequestPeek:
    _check_name(peek.model)
    if peek.user is not None and len(peek.user) > NAME_LENGTH:
        raise RequestError(f"`user` is longer than {NAME_LENGTH} characters.", param="user")
    return peek


def _check_name(name: str) -> None:
    if len(name) > NAME_LENGTH:
        message = f"No model has a name longer than {NAME_LENGTH} characters. GET /v1/models lists them."
        raise CounterfoilError(Failure(FailureKind.NOT_FOUND, message, Fault.CLIENT, 404, param="model"))


def _tags(header: str) -> tuple[str, ...]:
    if not header:
        return ()
    tags = tuple(tag for tag in (part.strip() for part in header.split(",")) if tag)
    if len(tags) > TAGS or any(len(tag) > TAG_LENGTH or not tag.isprintable() for tag in tags):
        raise RequestError(f"`x-counterfoil-tags` takes up to {TAGS} tags of up to {TAG_LENGTH} characters.")
    return tags
