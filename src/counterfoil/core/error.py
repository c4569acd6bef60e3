"""Errors that every dialect can say.

    CounterfoilError
    └── RequestError     what the client sent cannot be done as asked

A failure is data (`Failure`): it crosses dialects, is stored as a status, and says whose fault it was. An exception is
only how pure code refuses a request.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

__all__ = ["CounterfoilError", "Failure", "FailureKind", "Fault", "RequestError"]


class Fault(StrEnum):
    """Whose fault a failure was."""

    CLIENT = "client"
    GATEWAY = "gateway"
    PROVIDER = "provider"
    NETWORK = "network"


class FailureKind(StrEnum):
    """What went wrong, in words every dialect has a name for."""

    INVALID_REQUEST = "invalid_request"
    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    CONTEXT_WINDOW = "context_window"
    CONTENT_POLICY = "content_policy"
    RATE_LIMITED = "rate_limited"
    QUOTA = "quota"
    """The money or the allowance of the account is used up: waiting does not mend it, another account may serve."""
    OVERLOADED = "overloaded"
    TIMED_OUT = "timed_out"
    CONNECTION = "connection"
    BAD_REPLY = "bad_reply"
    """The provider answered something that is not a reply in its dialect."""
    PROVIDER_ERROR = "provider_error"
    UNAVAILABLE = "unavailable"
    """The gateway cannot serve now (shutting down, books cannot be kept)."""
    INTERNAL = "internal"


class Failure(msgspec.Struct, frozen=True):
    """One failure, in no dialect. `message` is for a person and says what to do next; it never holds a secret."""

    kind: FailureKind
    message: str
    fault: Fault
    status: int
    """The HTTP status the client gets."""
    code: str | None = None
    """The provider's own code, as text."""
    type: str | None = None
    """The provider's own type word."""
    param: str | None = None
    retry_after: float | None = None
    """Seconds."""
    should_retry: bool | None = None
    """The provider's own word on whether the same request may succeed when it is made again; None where it has none."""
    provider_status: int | None = None
    """The status the provider answered, if it answered."""


_MESSAGE: Final = 2_000
"""Characters of a refusal. What a client sent may be in it (a field's name, a word that is none of those known), and be
of any length."""
_PARAM: Final = 200


class CounterfoilError(Exception):
    """The base of every error Counterfoil raises on purpose."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class RequestError(CounterfoilError):
    """The request cannot be read, or cannot be carried to this provider."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        said = _short(message, _MESSAGE)
        where = None if param is None else _short(param, _PARAM)
        super().__init__(Failure(FailureKind.INVALID_REQUEST, said, Fault.CLIENT, status, code=code, param=where))


def _short(text: str, limit: int) -> str:
    """Without its middle, where it is longer: the end says what to do."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"
