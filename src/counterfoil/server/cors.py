"""Which web pages may call from a browser (Cross-Origin Resource Sharing, https://fetch.spec.whatwg.org/#http-cors-protocol).

Rule 1: off until it is written down. A gateway without keys shares nothing: any page in its owner's browser could spend
the owner's secrets (DESIGN 4.4.5).
Rule 2: an origin is compared whole, never as a part or a pattern; `*` needs required keys.
Rule 3: no cookies, no credentials of the browser's: a page shows its key itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from counterfoil.config import Config
from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault

__all__ = ["NO_CORS", "Cors", "cors_rules", "preflight"]

_ANY: Final = "*"
_SECONDS: Final = b"600"
"""How long a browser may keep the answer to a preflight."""
_TOLD: Final = (
    b"x-request-id, request-id, x-counterfoil-exchange, x-counterfoil-attempt, x-counterfoil-dropped, retry-after,"
    b" x-should-retry"
)
"""Headers of a reply that a page may read."""
_NAMES: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z, -]{1,4096}")
"""A list of header names (RFC 9110, 5.6.2)."""

Headers = tuple[tuple[bytes, bytes], ...]


class Cors(msgspec.Struct, frozen=True):
    """The pages that may call."""

    origins: frozenset[bytes] = frozenset()
    anyone: bool = False

    @property
    def on(self) -> bool:
        """Whether any page may."""
        return self.anyone or bool(self.origins)

    def allows(self, origin: bytes | None) -> bool:
        """Whether a page of this origin may."""
        return origin is not None and (self.anyone or origin.lower() in self.origins)

    def headers(self, origin: bytes | None) -> Headers:
        """What every answer carries, so that the page gets to read it, and caches keep pages apart."""
        if not self.on:
            return ()
        if origin is None or not self.allows(origin):
            return ((b"vary", b"origin"),)
        return (
            (b"vary", b"origin"),
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _TOLD),
        )


NO_CORS: Final = Cors()


def cors_rules(config: Config) -> Cors:
    """The rules that `config` writes down. Raises CounterfoilError for what would be unsafe or is no origin."""
    written = config.cors.origins
    if not written:
        return NO_CORS
    if config.keys is None:
        raise _wrong("cors.origins: a gateway without keys answers no web page; write `keys:` as well")
    if _ANY in written and not config.keys.required:
        raise _wrong("cors.origins: `*` lets every page call, so it needs `keys: {required: true}`")
    return Cors(frozenset(_origin(one) for one in written if one != _ANY), _ANY in written)


def preflight(cors: Cors, headers: Mapping[bytes, bytes], allow: str) -> Headers | None:
    """What a browser that asks first is answered beside `Cors.headers`; None: it is no such question.

    Raises CounterfoilError (403) for a page that may not call.
    """
    origin = headers.get(b"origin")
    if origin is None or b"access-control-request-method" not in headers:
        return None
    if not cors.allows(origin):
        raise CounterfoilError(_NOT_ALLOWED)
    wanted = headers.get(b"access-control-request-headers", b"")
    answer: Sequence[tuple[bytes, bytes]] = (
        (b"access-control-allow-methods", allow.encode()),
        (b"access-control-max-age", _SECONDS),
    )
    if _NAMES.fullmatch(wanted):
        answer = (*answer, (b"access-control-allow-headers", wanted))
    return tuple(answer)


_NOT_ALLOWED: Final = Failure(
    FailureKind.PERMISSION,
    "No page of this origin may call. The gateway's `cors.origins` names those that may.",
    Fault.CLIENT,
    403,
)


def _origin(text: str) -> bytes:
    parts = urlsplit(text)
    if parts.scheme and parts.netloc and f"{parts.scheme}://{parts.netloc}".lower() == text.lower() and text.isascii():
        return text.lower().encode()
    raise _wrong(f"cors.origins: {text!r} is no origin; write it as https://app.example, without a path")


def _wrong(message: str) -> CounterfoilError:
    return CounterfoilError(Failure(FailureKind.INVALID_REQUEST, message, Fault.CLIENT, 400, code="configuration"))
