"""The endpoints that clients speak to: from a request to an exchange.

Rule 1: a door decides nothing about a reply. It reads the request, finds the route, and hands both to the driver.
Rule 2: every refusal comes before an entry is opened, in the door's dialect.
Rule 3: what the path says is put into the body first. Then one body says everything, whatever the dialect.
"""

from __future__ import annotations

import logging
import traceback
from typing import Final

from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault, RequestError
from counterfoil.core.estimate import estimate_body
from counterfoil.core.nesting import exceeds, holds_more
from counterfoil.dialects.dialect import RequestPeek
from counterfoil.exchange.call import Call, carried_headers
from counterfoil.ledger.entry import Exit
from counterfoil.server.asgi import AsgiClient, Request, read_body
from counterfoil.server.door import Found
from counterfoil.server.gateway import Gateway
from counterfoil.server.state import State

__all__ = ["answer_call", "check_json", "check_name", "check_open", "log_defect", "make_call", "tags_of"]

TAGS: Final = 16
TAG_LENGTH: Final = 64
NAME_LENGTH: Final = 256
"""Of a model's name and of a `user`: both are written down with every entry."""
VALUES: Final = 1_000_000
"""Of a request, told by its commas. Lists of token ids are the longest that anybody sends: OpenAI embeds 300,000 tokens
a request. A value is dear to read, and while one request is read the others wait."""
CONTAINERS: Final = 100_000
"""Arrays and objects of a request, each dearer than a value. Hundreds of tools in a long talk are a few thousand."""
CLIENT_CLOSED: Final = 499
"""The status counted where no answer could be given."""

_log = logging.getLogger("counterfoil.server")


async def answer_call(gateway: Gateway, state: State, request: Request, found: Found) -> None:
    """One client call, from its body to its reply."""
    caller = state.access.admit(request, spends=True)
    check_open(gateway)
    limits = state.config.limits
    tags = tags_of(request)
    body = await read_body(request, limits.body)
    check_json(body, limits.nesting)
    input_estimate = estimate_body(body)  # of the client's own words: what the path says, no model is told
    if found.door.fill is not None:
        body = found.door.fill(body, found.place)
    dialect = found.dialect
    peek = _bounded(dialect.peek_request(body))
    headers = carried_headers(dialect, lambda name: request.header(name.encode()))
    route = state.names.resolve(peek.model)
    call = Call(
        exchange=request.id,
        route=route,
        dialect=dialect,
        body=body,
        peek=peek,
        input_estimate=input_estimate,
        key=caller.key,
        tags=tags,
        stream_usage=caller.stream_usage or route.stream_usage,
        headers=headers,
    )
    await make_call(gateway, state, request, call)


async def make_call(gateway: Gateway, state: State, request: Request, call: Call) -> None:
    """Run one call to its end, and count it."""
    client = AsgiClient(request)
    run = gateway.driver.run(call, state.context, client)

    def gone() -> None:
        if not client.complete:
            run.interrupt(Exit.CLIENT_GONE)

    request.on_hang_up(gone)
    outcome = await run.wait()
    gateway.metrics.exchanged(call.route.name, client.status if client.complete else CLIENT_CLOSED, outcome)
    for defect in outcome.defects:
        log_defect(defect, call.exchange)


def log_defect(defect: BaseException, exchange: str | None) -> None:
    """Say where our own code failed: the type and the places, never what it held (a message can quote content)."""
    places = " < ".join(
        f"{frame.name} ({frame.filename.rpartition('counterfoil/')[2]}:{frame.lineno})"
        for frame in reversed(traceback.extract_tb(defect.__traceback__))
    )
    _log.error("defect %s in exchange %s at %s", type(defect).__name__, exchange or "-", places or "unknown place")


def check_open(gateway: Gateway) -> None:
    """Raises CounterfoilError (503) once nothing new is begun."""
    if gateway.draining:
        raise CounterfoilError(
            Failure(FailureKind.UNAVAILABLE, "The gateway is shutting down. Send it again.", Fault.GATEWAY, 503)
        )


def check_json(body: bytes, nesting: int) -> None:
    """JSON is UTF-8 (RFC 8259, 8.1), no deeper than `nesting`, and no more than can be read in a moment. Whoever reads
    the body after this need not think of that. Raises RequestError."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise RequestError(f"The request body is not UTF-8: byte {error.start}.", code="invalid_json") from None
    strings = (body.count(b'"') - body.count(b'\\"')) // 2  # a key is no value, but it has one
    if strings > 2 * VALUES or holds_more(body, b",", VALUES):
        raise _too_much(f"{VALUES:,} values")
    if holds_more(body, b"[{", CONTAINERS):
        raise _too_much(f"{CONTAINERS:,} arrays and objects")
    if exceeds(body, nesting):
        raise RequestError(
            f"The request is nested deeper than {nesting}. The gateway's `limits.nesting` sets this.", code="too_deep"
        )


def _too_much(what: str) -> RequestError:
    return RequestError(f"The request holds more than {what}. Send it in parts.", code="too_many_values")


def _bounded(peek: RequestPeek) -> RequestPeek:
    check_name(peek.model)
    if peek.user is not None and len(peek.user) > NAME_LENGTH:
        raise RequestError(f"`user` is longer than {NAME_LENGTH} characters.", param="user")
    return peek


def check_name(name: str) -> None:
    """Raises CounterfoilError (404) for what is too long to be a model's name."""
    if len(name) > NAME_LENGTH:
        message = f"No model has a name longer than {NAME_LENGTH} characters. GET /v1/models lists them."
        raise CounterfoilError(Failure(FailureKind.NOT_FOUND, message, Fault.CLIENT, 404, param="model"))


def tags_of(request: Request) -> tuple[str, ...]:
    """What a client wants its call to be found by. Raises RequestError."""
    header = request.header(b"x-counterfoil-tags")
    if not header:
        return ()
    tags = tuple(tag for tag in (part.strip() for part in header.split(",")) if tag)
    if len(tags) > TAGS or any(len(tag) > TAG_LENGTH or not tag.isprintable() for tag in tags):
        raise RequestError(f"`x-counterfoil-tags` takes up to {TAGS} tags of up to {TAG_LENGTH} characters.")
    return tags
