"""`/passthrough/NAME/...`: what is asked of a provider beside the doors, word for word, and booked like all else.

Rule 1: off until it is written down, and then for the paths and the keys that are written down.
Rule 2: the client's credentials end here and the provider's begin here. Neither goes further, in either direction.
Rule 3: which method and path are asked, the request line says. What would have the provider take others is refused.
Rule 4: nothing of a body is changed. What is read of it (a model's name, the wish to stream) is for the books.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from counterfoil.config import Retries
from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault, RequestError
from counterfoil.core.estimate import estimate_body
from counterfoil.dialects.dialect import ClientDialect, RequestPeek
from counterfoil.dialects.schema import UNREADABLE, encode, fields_of
from counterfoil.driver.passthrough import Asked, Passthrough, plain_path, plain_query
from counterfoil.exchange.call import Call
from counterfoil.exchange.carriage import Carriage
from counterfoil.exchange.route import Route
from counterfoil.server.asgi import Request, read_body
from counterfoil.server.door import Found
from counterfoil.server.doors import NAME_LENGTH, check_json, check_open, make_call, tags_of
from counterfoil.server.gateway import Gateway
from counterfoil.server.state import State

__all__ = ["PREFIX", "pass_through"]

PREFIX: Final = "/passthrough/"
_SPENDING: Final = frozenset({"PATCH", "POST", "PUT"})
"""What may cost money, and what a web page could make a browser send with a body of its choice. A DELETE it may not
send without asking first, and is refused then."""
_HOPS: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Between two ends of one connection (RFC 9110, 7.6.1), or written anew for the next one."""
_OURS: Final = frozenset({"accept-encoding", "forwarded", "origin", "referer", "via", "x-real-ip", "x-request-id"})
"""What says where a request came from, and how its answer may be packed: a packed one cannot be read for the books."""
_OURS_BEGINNINGS: Final = ("proxy-", "sec-", "x-counterfoil-", "x-forwarded-")
_WHO_PAYS: Final = frozenset(
    {
        "anthropic-workspace-id",
        "openai-organization",
        "openai-project",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-goog-user-project",
    }
)
"""Whom the provider bills within the owner's account is the owner's to say."""
_OVERRULING: Final = ("x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url")
"""Headers that stand for another method or path where servers heed them, as Google's do
(https://cloud.google.com/apis/docs/system-parameters): what the list allowed would not be what is done."""
_SECRETS: Final = ("api-key", "apikey", "authorization", "cookie", "credential", "password", "secret", "token", "-auth")
"""Parts of the names of headers that show who somebody is."""
_HEADER: Final = 8192
"""Characters of a header that goes further."""


class _Said(msgspec.Struct):
    """What is read of a JSON body whose dialect is no client's."""

    model: object = None
    stream: object = None


async def pass_through(gateway: Gateway, state: State, request: Request, found: Found) -> None:
    """One call of an endpoint that has no door here, from its path to its reply."""
    method = str(request.scope["method"])
    caller = state.access.admit(request, spends=method in _SPENDING)
    check_open(gateway)
    through, raw = _entry(state, request)
    if not through.open_to(caller.key):
        message = (
            f"This key may not use the passthrough {through.name!r}. Its `keys` in the configuration say which may."
        )
        raise _refused(403, FailureKind.PERMISSION, message, "passthrough_not_allowed")
    path = plain_path(raw)
    allowed = through.allows(method, path)
    if allowed is None:
        message = f"{method} is not allowed at this path of the passthrough {through.name!r}: its `paths` say what is."
        raise _refused(403, FailureKind.PERMISSION, message, "passthrough_path_not_allowed")
    _check_overruling(request)
    query, asked = plain_query(request.query), through.asked(method, path)
    tags, limits = tags_of(request), state.config.limits
    body = await read_body(request, limits.body)
    is_json = _is_json(request)
    if is_json:
        check_json(body, limits.nesting)
    peek = _peek(asked, body if is_json else b"")
    deployment = asked.served(peek.model)
    dialect = deployment.dialect if asked.known and isinstance(deployment.dialect, ClientDialect) else found.dialect
    headers = _carried(request, through)
    call = Call(
        exchange=request.id,
        route=Route(
            f"{PREFIX}{through.name}{allowed.rpartition(' ')[2]}",
            (deployment,),
            missing_usage="null",
            retries=Retries(attempts=1),
            client_gone=state.config.client_gone,
        ),
        dialect=dialect,
        body=body,
        peek=peek,
        input_estimate=estimate_body(body) if asked.known and is_json else None,
        key=caller.key,
        tags=tags,
        carriage=Carriage(method, path, query, headers, asked.known),
    )
    await make_call(gateway, state, request, call)


def _entry(state: State, request: Request) -> tuple[Passthrough, bytes]:
    """The passthrough that is asked, and the path below it as it came. Raises CounterfoilError (404)."""
    raw: bytes = request.scope["raw_path"]
    name, slash, rest = raw.removeprefix(PREFIX.encode()).partition(b"/")
    through = state.passthroughs.get(name.decode("latin-1")) if raw.startswith(PREFIX.encode()) and slash else None
    if through is None:
        message = (
            "Nothing is passed on here. `passthrough:` in the gateway's configuration says what is; by default nothing."
        )
        raise _refused(404, FailureKind.NOT_FOUND, message, "path_not_found")
    return through, b"/" + rest


def _check_overruling(request: Request) -> None:
    for name in _OVERRULING:
        if name.encode() in request.headers:
            message = f"`{name}` asks for another method or path than the request's own, so it is not passed on."
            raise RequestError(message, code="header_refused")


def _is_json(request: Request) -> bool:
    kind = request.header(b"content-type").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _peek(asked: Asked, body: bytes) -> RequestPeek:
    """What the books, and whoever reads the reply, need of a request. What cannot be read the provider may refuse."""
    dialect = asked.deployment.dialect
    try:
        if asked.known and isinstance(dialect, ClientDialect):
            peek = dialect.peek_request(_named(body, asked.model))
        else:
            said = msgspec.json.decode(body, type=_Said)
            model = said.model if isinstance(said.model, str) else ""
            peek = RequestPeek(model, streamed=said.stream is True)
    except (RequestError, *UNREADABLE):
        peek = RequestPeek("")
    model = asked.model or peek.model
    user = peek.user if peek.user is not None and len(peek.user) <= NAME_LENGTH else None
    streamed = peek.streamed if asked.streamed is None else asked.streamed
    fits = len(model) <= NAME_LENGTH and model.isprintable()
    return msgspec.structs.replace(peek, model=model if fits else "", streamed=streamed, user=user)


def _named(body: bytes, model: str) -> bytes:
    """The body with the model that only the path names, to be read here. Raises one of UNREADABLE for no object."""
    if not model:
        return body
    fields = fields_of(body)
    return body if "model" in fields else encode({**fields, "model": model})


def _carried(request: Request, through: Passthrough) -> Mapping[str, str]:
    """The client's headers that go further."""
    own = through.deployment.provider.auth.header.lower()
    named = {name.strip().lower() for name in request.header(b"connection").split(",")}
    carried: dict[str, str] = {}
    for raw_name, raw_value in request.headers.items():
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name in _HOPS or name in _OURS or name in _WHO_PAYS or name in named or name == own:
            continue
        if name.startswith(_OURS_BEGINNINGS) or any(part in name for part in _SECRETS):
            continue
        if "_" in name:  # to many servers the same as a hyphen, and so the name of a header that was left out above
            continue
        if len(value) <= _HEADER and value.isascii() and value.isprintable():
            carried[name] = value
    return carried


def _refused(status: int, kind: FailureKind, message: str, code: str) -> CounterfoilError:
    return CounterfoilError(Failure(kind, message, Fault.CLIENT, status, code=code))
