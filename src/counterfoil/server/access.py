"""Who may call: by key, by nothing at all, or, where no keys are configured, only this machine's own programs.

Rule 1: every key is compared, and each comparison takes the same time whatever was sent.
Rule 2: without keys a web page must not be able to spend the owner's secrets (DESIGN 4.4.5). A page can make a browser
send requests here, so a request must come from loopback, name a loopback host (a page whose name was rebound to
127.0.0.1 names its own), carry no origin but ours, and, to spend anything, be JSON, which a page may not send unasked.
Rule 3: a key's name may be shown, its secret never; what is kept is a digest. A key in a URL (`?key=`) is as good as
one in a header where it is known, and as good as none where it is not: any page can send one, without asking first.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final, Literal
from urllib.parse import parse_qs

import msgspec

from counterfoil.config import Config, StreamUsage
from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault
from counterfoil.server.asgi import Request, Scope
from counterfoil.server.cors import NO_CORS, Cors, cors_rules
from counterfoil.transport.secret import SecretStore

__all__ = [
    "CREDENTIAL_HEADERS",
    "KEY_PARAMETER",
    "NOBODY",
    "Access",
    "Caller",
    "ListenRefused",
    "access_rules",
    "check_listen",
    "is_loopback",
]

Mode = Literal["loopback", "open", "required"]


class Caller(msgspec.Struct, frozen=True):
    """Who called: the name of the key, if one was shown that is known."""

    key: str | None = None
    stream_usage: StreamUsage | None = None


NOBODY: Final = Caller()


class ListenRefused(Exception):
    """The gateway may not listen there. The text says what to write."""


class Access(msgspec.Struct, frozen=True):
    """The rules of one configuration."""

    mode: Mode
    keys: tuple[tuple[bytes, Caller], ...] = ()
    """SHA-256 of each secret, and whom it names."""
    cors: Cors = NO_CORS
    """Which web pages may call."""

    def admit(self, request: Request, *, spends: bool) -> Caller:
        """Who sent this. Raises CounterfoilError (400, 401, 403, 415). `spends`: the request may cost money."""
        headers = request.headers
        if self.mode != "loopback":
            _guard_repeated(request.scope)
        shown, in_url = _shown(headers), _in_url(request.query)
        caller = self._known((*shown, *in_url))
        match self.mode:
            case "required":
                if caller is None:
                    raise _refused(401, FailureKind.AUTHENTICATION, _WRONG_KEY if shown or in_url else _NO_KEY)
                return caller
            case "open":
                if not shown and caller is None and not self.cors.allows(headers.get(b"origin")):
                    _guard_origin(headers)
                return caller or NOBODY
            case "loopback":
                _guard_loopback(request.scope, headers)
                if spends:
                    _guard_json(headers)
                return NOBODY

    def _known(self, offered: Iterable[bytes]) -> Caller | None:
        found: Caller | None = None
        for secret in offered:
            digest = hashlib.sha256(secret).digest()
            for known, caller in self.keys:
                if hmac.compare_digest(known, digest):
                    if found is not None and caller is not found:
                        raise _refused(400, FailureKind.INVALID_REQUEST, _TWO_KEYS)
                    found = caller
        return found


def access_rules(config: Config, secrets: SecretStore) -> Access:
    """The rules that `config` writes down; `secrets` has the secrets its keys name."""
    if config.keys is None:
        return Access("loopback")
    keys = tuple(
        (hashlib.sha256(secret.encode()).digest(), Caller(key.name, key.stream_usage))
        for key in config.keys.static
        if (secret := secrets.reveal(key.secret))
    )
    return Access("required" if config.keys.required else "open", keys, cors_rules(config))


def check_listen(config: Config) -> None:
    """Raises ListenRefused when anyone on the network could call without that having been written down."""
    if config.keys is None and not is_loopback(config.listen.host):
        raise ListenRefused(
            f"Listening on {config.listen.host} would let anyone who can reach it spend your provider keys. "
            "Write `keys: {required: true, static: [{name: ..., secret: ...}]}` into the configuration, "
            "or `keys: {required: false}` if everyone may call, or listen on 127.0.0.1."
        )


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine and nothing else."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


def _guard_repeated(scope: Scope) -> None:
    """Refuse a credential that comes twice: nobody could say which one is meant, or who pays."""
    came: dict[bytes, bytes] = {}
    for name, value in scope.get("headers", ()):
        if name in CREDENTIAL_HEADERS and came.setdefault(name, value) != value:
            message = f"The header {name.decode()} comes twice, with different values. Send it once, with one key."
            raise _refused(400, FailureKind.INVALID_REQUEST, message)


def _shown(headers: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """The secrets that a request's headers show."""
    scheme, _, secret = headers.get(b"authorization", b"").partition(b" ")
    shown = [secret.strip()] if scheme.lower() == b"bearer" else []
    shown += [headers[name].strip() for name in _KEY_HEADERS if name in headers]
    return tuple(secret for secret in shown if secret)


def _in_url(query: str) -> tuple[bytes, ...]:
    """The secret that a request's URL shows (Gemini)."""
    if KEY_PARAMETER not in query:
        return ()
    found = parse_qs(query, encoding="latin-1").get(KEY_PARAMETER, [])
    return tuple(secret.strip().encode("latin-1", "replace") for secret in found[:1] if secret.strip())


_KEY_HEADERS: Final = (b"x-api-key", b"api-key", b"x-goog-api-key")
CREDENTIAL_HEADERS: Final = frozenset({b"authorization", *_KEY_HEADERS})
"""Where clients put their key: Anthropic's, Azure's and Google's in headers of their own. None goes further."""
KEY_PARAMETER: Final = "key"
"""Where Gemini's clients may put it in the URL."""
_NO_KEY: Final = (
    "This gateway needs a key. Send it as `Authorization: Bearer KEY`, "
    "or in `x-api-key`, `api-key` or `x-goog-api-key`."
)
_TWO_KEYS: Final = (
    "This request shows two of the gateway's keys. Send one: each call is booked under the name of its key."
)
_WRONG_KEY: Final = "This key is not known here. It must be one of the gateway's own keys, not a provider's."
_HOW: Final = " To let others call, write `keys:` into the gateway's configuration."
_LOOPBACK_NAMES: Final = frozenset({b"127.0.0.1", b"localhost", b"[::1]"})
_LOOPBACK_PEERS: Final = frozenset({"127.0.0.1", "::1"})


def _guard_loopback(scope: Mapping[str, object], headers: Mapping[bytes, bytes]) -> None:
    client = scope.get("client")
    peer = client[0] if isinstance(client, list | tuple) and client else ""
    if peer not in _LOOPBACK_PEERS and not is_loopback(str(peer)):
        raise _forbidden("Without keys, this gateway answers only programs on its own machine." + _HOW)
    host = headers.get(b"host", b"")
    name, colon, port = host.rpartition(b":")
    if not (colon and port.isdigit()):
        name = host
    if name.lower() not in _LOOPBACK_NAMES:
        raise _forbidden(
            "Without keys, this gateway answers only to http://127.0.0.1, http://localhost and http://[::1]." + _HOW
        )
    _guard_origin(headers)


def _guard_origin(headers: Mapping[bytes, bytes]) -> None:
    origin = headers.get(b"origin")
    if origin is not None and origin.lower() != b"http://" + headers.get(b"host", b"").lower():
        raise _forbidden("Without a key, this gateway answers no web page but its own." + _HOW)


def _guard_json(headers: Mapping[bytes, bytes]) -> None:
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise _refused(415, FailureKind.INVALID_REQUEST, "Send the body with `Content-Type: application/json`.")


def _forbidden(message: str) -> CounterfoilError:
    return _refused(403, FailureKind.PERMISSION, message)


def _refused(status: int, kind: FailureKind, message: str) -> CounterfoilError:
    return CounterfoilError(Failure(kind, message, Fault.CLIENT, status))
