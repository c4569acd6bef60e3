"""Who may call: by key, by nothing at all, or, where no keys are configured, only this machine's own programs.

Rule 1: every key is compared, and each comparison takes the same time whatever was sent.
Rule 2: without keys a web page must not be able to spend the owner's secrets (DESIGN 4.4.5). A page can make a browser
send requests here, so a request must come from loopback, name a loopback host (a page whose name was rebound to
127.0.0.1 names its own), carry no origin but ours, and, to spend anything, be JSON, which a page may not send unasked.
Rule 3: a key's name may be shown, its secret never; what is kept is a digest.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from counterfoil.config import Config, StreamUsage
from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault
from counterfoil.transport.secret import SecretStore

__all__ = ["NOBODY", "Access", "Caller", "ListenRefused", "access_rules", "check_listen", "is_loopback"]

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

    def admit(self, scope: Mapping[str, object], headers: Mapping[bytes, bytes], *, spends: bool) -> Caller:
        """Who sent this. Raises CounterfoilError (401, 403, 415). `spends`: the request may cost money."""
        offered = _offered(headers)
        caller = self._known(offered)
        match self.mode:
            case "required":
                if caller is None:
                    raise _refused(401, FailureKind.AUTHENTICATION, _NO_KEY if not offered else _WRONG_KEY)
                return caller
            case "open":
                if not offered:
                    _guard_origin(headers)
                return caller or NOBODY
            case "loopback":
                _guard_loopback(scope, headers)
                if spends:
                    _guard_json(headers)
                return NOBODY

    def _known(self, offered: Iterable[bytes]) -> Caller | None:
        found: Caller | None = None
        for secret in offered:
            digest = hashlib.sha256(secret).digest()
            for known, caller in self.keys:
                if hmac.compare_digest(known, digest) and found is None:
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
    return Access("required" if config.keys.required else "open", keys)


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


def _offered(headers: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """The secrets a request shows; clients of some dialects use their own header."""
    offered = []
    scheme, _, secret = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and secret.strip():
        offered.append(secret.strip())
    if headers.get(b"x-api-key"):
        offered.append(headers[b"x-api-key"].strip())
    return tuple(offered)


_NO_KEY: Final = "This gateway needs a key. Send it as `Authorization: Bearer KEY` or `x-api-key: KEY`."
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
