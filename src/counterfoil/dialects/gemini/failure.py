"""Google's errors, both ways: `{"error": {"code", "message", "status", "details"}}`.

Rule: the status word decides, then the code, then the HTTP status; what only the message or the details say (a
prompt too long, a key that is no key) makes it narrower.

https://ai.google.dev/gemini-api/docs/troubleshooting, https://cloud.google.com/apis/design/errors
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.dialects.failure import (
    RETRY_INFO,
    Meaning,
    details_in,
    error_object,
    is_of_a_day,
    retry_after,
    retry_delay,
    told,
    word_of,
)
from counterfoil.dialects.overflow import Overflow, own_words
from counterfoil.dialects.schema import encode

__all__ = ["frame_failure", "read_failure", "write_failure"]

_STATUSES: Final[Mapping[str, Meaning]] = {
    "INVALID_ARGUMENT": Meaning(FailureKind.INVALID_REQUEST, Fault.CLIENT, 400),
    "FAILED_PRECONDITION": Meaning(FailureKind.INVALID_REQUEST, Fault.CLIENT, 400),
    "OUT_OF_RANGE": Meaning(FailureKind.INVALID_REQUEST, Fault.CLIENT, 400),
    "UNAUTHENTICATED": Meaning(FailureKind.AUTHENTICATION, Fault.GATEWAY, 401),
    "PERMISSION_DENIED": Meaning(FailureKind.PERMISSION, Fault.GATEWAY, 403),
    "NOT_FOUND": Meaning(FailureKind.NOT_FOUND, Fault.GATEWAY, 404),
    "ABORTED": Meaning(FailureKind.PROVIDER_ERROR, Fault.PROVIDER, 409),
    "ALREADY_EXISTS": Meaning(FailureKind.INVALID_REQUEST, Fault.CLIENT, 409),
    "RESOURCE_EXHAUSTED": Meaning(FailureKind.RATE_LIMITED, Fault.PROVIDER, 429),
    "CANCELLED": Meaning(FailureKind.PROVIDER_ERROR, Fault.PROVIDER, 499),
    "UNKNOWN": Meaning(FailureKind.PROVIDER_ERROR, Fault.PROVIDER, 500),
    "INTERNAL": Meaning(FailureKind.PROVIDER_ERROR, Fault.PROVIDER, 500),
    "DATA_LOSS": Meaning(FailureKind.PROVIDER_ERROR, Fault.PROVIDER, 500),
    "UNIMPLEMENTED": Meaning(FailureKind.INVALID_REQUEST, Fault.CLIENT, 501),
    "UNAVAILABLE": Meaning(FailureKind.OVERLOADED, Fault.PROVIDER, 503),
    "DEADLINE_EXCEEDED": Meaning(FailureKind.TIMED_OUT, Fault.PROVIDER, 504),
}
"""https://cloud.google.com/apis/design/errors#handling_errors"""
_BY_CODE: Final[Mapping[int, Meaning]] = {
    **{row.status: row for row in reversed(list(_STATUSES.values()))},
    408: _STATUSES["DEADLINE_EXCEEDED"],
    413: Meaning(FailureKind.TOO_LARGE, Fault.CLIENT, 413),
    502: _STATUSES["INTERNAL"],
}

_NARROWER: Final = (
    # "The input token count (N) exceeds the maximum number of tokens allowed (M)."; Vertex: "... the input token count
    # is N but model only supports up to M."
    (
        re.compile(
            r"token count.{0,80}(?:exceeds|only supports up to)|exceeds the maximum number of (?:input )?tokens"
            r"|context (?:window|length)"
        ),
        FailureKind.CONTEXT_WINDOW,
        Fault.CLIENT,
    ),
    (re.compile(r"payload size exceeds"), FailureKind.TOO_LARGE, Fault.CLIENT),
    (re.compile(r"API key (?:not valid|expired|not found)"), FailureKind.AUTHENTICATION, Fault.GATEWAY),
    (re.compile(r"(?i)blocked (?:by|due to).{0,40}(?:safety|policy)"), FailureKind.CONTENT_POLICY, Fault.CLIENT),
)
"""What INVALID_ARGUMENT and FAILED_PRECONDITION say more exactly in their message only."""

_REASONS: Final[Mapping[str, tuple[FailureKind, Fault]]] = {
    "API_KEY_INVALID": (FailureKind.AUTHENTICATION, Fault.GATEWAY),
    "API_KEY_EXPIRED": (FailureKind.AUTHENTICATION, Fault.GATEWAY),
    "CREDENTIALS_MISSING": (FailureKind.AUTHENTICATION, Fault.GATEWAY),
    "ACCESS_TOKEN_EXPIRED": (FailureKind.AUTHENTICATION, Fault.GATEWAY),
    "SERVICE_DISABLED": (FailureKind.PERMISSION, Fault.GATEWAY),
    "API_KEY_SERVICE_BLOCKED": (FailureKind.PERMISSION, Fault.GATEWAY),
}
"""`reason` of a google.rpc.ErrorInfo: https://cloud.google.com/apis/design/errors#error_info. Google answers a wrong
key with 400 INVALID_ARGUMENT."""

_WRITTEN: Final[Mapping[FailureKind, str]] = {
    FailureKind.INVALID_REQUEST: "INVALID_ARGUMENT",
    FailureKind.AUTHENTICATION: "UNAUTHENTICATED",
    FailureKind.PERMISSION: "PERMISSION_DENIED",
    FailureKind.NOT_FOUND: "NOT_FOUND",
    FailureKind.TOO_LARGE: "INVALID_ARGUMENT",
    FailureKind.CONTEXT_WINDOW: "INVALID_ARGUMENT",
    FailureKind.CONTENT_POLICY: "INVALID_ARGUMENT",
    FailureKind.RATE_LIMITED: "RESOURCE_EXHAUSTED",
    FailureKind.QUOTA: "RESOURCE_EXHAUSTED",
    FailureKind.OVERLOADED: "UNAVAILABLE",
    FailureKind.TIMED_OUT: "DEADLINE_EXCEEDED",
    FailureKind.CONNECTION: "UNAVAILABLE",
    FailureKind.BAD_REPLY: "INTERNAL",
    FailureKind.PROVIDER_ERROR: "INTERNAL",
    FailureKind.UNAVAILABLE: "UNAVAILABLE",
    FailureKind.INTERNAL: "INTERNAL",
}
_PROVIDER_ERRORS: Final[Mapping[int, str]] = {
    409: "ABORTED",
    499: "CANCELLED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""A provider's error of no narrower kind, told under a status that has a word of its own. Google's clients read the
word, and try again where it is UNAVAILABLE."""


class _Said(msgspec.Struct, frozen=True):
    word: str | None = None
    message: str | None = None
    code: int | None = None
    reason: str | None = None
    delay: float | None = None
    spent: bool = False
    """What is exceeded is the allowance of a whole day."""


def read_failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """An error answer. `status` is the provider's; `headers` have lower-case names."""
    said = _said(body)
    wait = said.delay
    return _failure(said, status, retry_after(headers) if wait is None else wait)


def frame_failure(error: bytes) -> Failure:
    """An error frame, or the `error` object of one. The stream answered 200, so its own words give the status."""
    said = _said(error)
    return _failure(said, None, said.delay)


def write_failure(failure: Failure) -> bytes:
    """`{"error": {"code", "message", "status"}}`, with a RetryInfo where there is a delay to tell."""
    failure = own_words(failure, _TOO_LONG, _too_long, "The input token count exceeds the maximum number of tokens.")
    own = _STATUSES.get(failure.type or "")
    word = failure.type if own is not None and own.kind is failure.kind else _WRITTEN[failure.kind]
    if own is None and failure.kind is FailureKind.PROVIDER_ERROR:
        word = _PROVIDER_ERRORS.get(failure.status, word)
    error: dict[str, object] = {"code": failure.status, "message": failure.message, "status": word}
    if failure.retry_after is not None:
        error["details"] = [{"@type": RETRY_INFO, "retryDelay": f"{failure.retry_after:g}s"}]
    return encode({"error": error})


_TOO_LONG: Final = re.compile(r"exceeds the maximum number of (?:input )?tokens")


def _too_long(sizes: Overflow) -> str | None:
    return f"The input token count ({sizes.asked}) exceeds the maximum number of tokens allowed ({sizes.limit})."


def _said(body: bytes) -> _Said:
    """What an error body says, or the error object in it, or the array around it."""
    found = error_object(body)
    message, code, details = found.get("message"), found.get("code"), details_in(found)
    reasons = [entry["reason"] for entry in details if isinstance(entry.get("reason"), str)]
    return _Said(
        word=word_of(found.get("status")),
        message=message if isinstance(message, str) else None,
        code=code if type(code) is int else None,
        reason=word_of(reasons[0]) if reasons else None,
        delay=retry_delay(details),
        spent=is_of_a_day(details),
    )


def _failure(said: _Said, status: int | None, wait: float | None) -> Failure:
    row = _STATUSES.get(said.word or "") or _BY_CODE.get(said.code or 0) or _BY_CODE.get(status or 0)
    if row is None:
        row = _STATUSES["INVALID_ARGUMENT" if status is not None and 400 <= status < 500 else "INTERNAL"]
    kind, fault = _REASONS.get(said.reason or "", (row.kind, row.fault))
    if kind is FailureKind.RATE_LIMITED and (said.spent or 402 in (status, said.code)):
        kind, fault = FailureKind.QUOTA, Fault.GATEWAY
    if kind is FailureKind.INVALID_REQUEST and said.message:
        narrower = (entry for entry in _NARROWER if entry[0].search(said.message))
        _, kind, fault = next(narrower, (None, kind, fault))
    return Failure(
        kind=kind,
        message=told(said.message, status),
        fault=fault,
        status=_shown(said, row, status),
        code=said.reason,
        type=said.word,
        retry_after=wait,
        provider_status=status,
    )


def _shown(said: _Said, row: Meaning, status: int | None) -> int:
    """The status the client gets: the provider's own, or the one its words stand for."""
    if status is not None and status >= 400:
        return status
    return said.code if said.code is not None and 400 <= said.code <= 599 else row.status
