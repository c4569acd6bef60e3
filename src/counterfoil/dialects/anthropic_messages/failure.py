"""Anthropic's errors, both ways.

Rule 1: the type word decides; the status only where there is no word we know.
Rule 2: a body that is not an error in this dialect is never quoted: it may be a page of anything.

https://platform.claude.com/docs/en/api/errors
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.dialects.anthropic_messages.schema import UNREADABLE, encode
from counterfoil.dialects.overflow import Overflow, own_words

__all__ = ["bad_reply", "frame_failure", "read_failure", "write_failure"]

_MESSAGE_KEPT: Final = 2000
"""Characters of a provider's message that are kept."""

_LONGEST_WAIT: Final = 86_400.0
"""Seconds; a longer retry-after is taken for this."""
_SECRET: Final = re.compile(r"\bsk-[A-Za-z0-9_-]{8,}|(?<=x-amz-security-token:)[^\n]+|\bA[KS]IA[A-Z0-9]{8,}")
"""Anthropic's own keys, and what AWS quotes of a request whose signature it does not take (Claude on a host of AWS)."""


class _Type(msgspec.Struct, frozen=True):
    kind: FailureKind
    fault: Fault
    status: int


_TYPES: Final[Mapping[str, _Type]] = {
    "invalid_request_error": _Type(FailureKind.INVALID_REQUEST, Fault.CLIENT, 400),
    # The provider's credential and its model name are the operator's, not the client's.
    "authentication_error": _Type(FailureKind.AUTHENTICATION, Fault.GATEWAY, 401),
    "billing_error": _Type(FailureKind.PERMISSION, Fault.GATEWAY, 402),
    "permission_error": _Type(FailureKind.PERMISSION, Fault.GATEWAY, 403),
    "not_found_error": _Type(FailureKind.NOT_FOUND, Fault.GATEWAY, 404),
    "conflict_error": _Type(FailureKind.INVALID_REQUEST, Fault.CLIENT, 409),
    "request_too_large": _Type(FailureKind.TOO_LARGE, Fault.CLIENT, 413),
    "rate_limit_error": _Type(FailureKind.RATE_LIMITED, Fault.PROVIDER, 429),
    "api_error": _Type(FailureKind.PROVIDER_ERROR, Fault.PROVIDER, 500),
    "timeout_error": _Type(FailureKind.TIMED_OUT, Fault.PROVIDER, 504),
    "overloaded_error": _Type(FailureKind.OVERLOADED, Fault.PROVIDER, 529),
}
_BY_STATUS: Final = {
    **{row.status: row for row in _TYPES.values()},
    408: _TYPES["timeout_error"],
    502: _TYPES["api_error"],
    503: _TYPES["overloaded_error"],
}
_CLIENT_ERROR: Final = _TYPES["invalid_request_error"]
_SERVER_ERROR: Final = _TYPES["api_error"]

_NARROWER: Final = (
    # Recorded: "prompt is too long: N tokens > M maximum"; the second since Claude 3.7's strict window check.
    (re.compile(r"prompt is too long|exceeds? (?:the )?(?:model'?s? )?context|context (?:window|limit)", re.I),
     FailureKind.CONTEXT_WINDOW),
    (re.compile(r"content filtering policy", re.I), FailureKind.CONTENT_POLICY),
)  # fmt: skip
"""What invalid_request_error says more exactly in its message only."""

_WRITTEN: Final[Mapping[FailureKind, str]] = {
    FailureKind.INVALID_REQUEST: "invalid_request_error",
    FailureKind.AUTHENTICATION: "authentication_error",
    FailureKind.PERMISSION: "permission_error",
    FailureKind.NOT_FOUND: "not_found_error",
    FailureKind.TOO_LARGE: "request_too_large",
    FailureKind.CONTEXT_WINDOW: "invalid_request_error",
    FailureKind.CONTENT_POLICY: "invalid_request_error",
    FailureKind.RATE_LIMITED: "rate_limit_error",
    FailureKind.OVERLOADED: "overloaded_error",
    FailureKind.TIMED_OUT: "timeout_error",
    FailureKind.CONNECTION: "api_error",
    FailureKind.BAD_REPLY: "api_error",
    FailureKind.PROVIDER_ERROR: "api_error",
    FailureKind.UNAVAILABLE: "overloaded_error",
    FailureKind.INTERNAL: "api_error",
}


def read_failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """An error answer. `status` is the provider's; `headers` have lower-case names."""
    word, message = _said(body)
    return _failure(word, message, status, _retry_after(headers))


def frame_failure(error: bytes) -> Failure:
    """The `error` object of an error frame. The stream answered 200, so the type word gives the status."""
    word, message = _said(error)
    return _failure(word, message, None, None)


def bad_reply(message: str) -> Failure:
    """The provider answered something that is not this dialect."""
    return Failure(FailureKind.BAD_REPLY, message, Fault.PROVIDER, 502)


def write_failure(failure: Failure) -> bytes:
    """`{"type": "error", "error": {"type", "message"}}`."""
    failure = own_words(failure, _TOO_LONG, _too_long, "prompt is too long")
    own = _TYPES.get(failure.type or "")
    word = failure.type if own is not None and own.kind is failure.kind else _WRITTEN[failure.kind]
    return encode({"type": "error", "error": {"type": word, "message": failure.message}})


_TOO_LONG: Final = re.compile(r"prompt is too long|`max_tokens` exceed context limit")
"""Recorded, and https://platform.claude.com/docs/en/build-with-claude/context-windows"""


def _too_long(sizes: Overflow) -> str | None:
    if sizes.by_the_bound:
        parts = f"{sizes.input} + {sizes.output} > {sizes.limit}"
        return f"input length and `max_tokens` exceed context limit: {parts}, decrease input length or `max_tokens`"
    return f"prompt is too long: {sizes.prompt} tokens > {sizes.limit} maximum"


def _said(body: bytes) -> tuple[str | None, str | None]:
    """The type word and the message, of an error body or of the error object in it."""
    try:
        found: Any = msgspec.json.decode(body)
    except UNREADABLE:
        return None, None
    if isinstance(found, list) and found:
        found = found[0]  # Vertex wraps its own errors in a list
    if isinstance(found, dict) and "error" in found:
        found = found["error"]
    if isinstance(found, str):
        return None, found
    if not isinstance(found, dict):
        return None, None
    word, message = found.get("type"), found.get("message")
    return word if isinstance(word, str) else None, message if isinstance(message, str) else None


def _failure(word: str | None, message: str | None, status: int | None, retry_after: float | None) -> Failure:
    row = _TYPES.get(word or "")
    if row is None:
        fallback = _CLIENT_ERROR if status is not None and 400 <= status < 500 else _SERVER_ERROR
        row = _BY_STATUS.get(status or 0, fallback)
    kind = row.kind
    if kind is FailureKind.INVALID_REQUEST and message:
        kind = next((narrower for pattern, narrower in _NARROWER if pattern.search(message)), kind)
    return Failure(
        kind=kind,
        message=_SECRET.sub("[redacted]", message or _unsaid(status))[:_MESSAGE_KEPT],
        fault=row.fault,
        status=row.status if status is None or status < 400 else status,
        type=word,
        retry_after=retry_after,
        provider_status=status,
    )


def _unsaid(status: int | None) -> str:
    if status is None:
        return "the provider reported an error without a message"
    return f"the provider answered status {status} without a readable error"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds. A date is not read: there is no clock here."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return min(seconds, _LONGEST_WAIT)
    return None
