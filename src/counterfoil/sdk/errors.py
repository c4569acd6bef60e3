"""The errors a call can raise: one tree, under the names people already catch.

    Error
    ├── ConfigurationError              the client cannot be built as asked
    └── APIError                        a call failed
        ├── APIStatusError              there is an answer, and it is a refusal
        │   ├── BadRequestError                 400
        │   │   ├── ContextWindowExceededError
        │   │   ├── ContentPolicyViolationError
        │   │   ├── RequestTooLargeError        413
        │   │   └── UnsupportedParamsError      the provider's dialect has no place for it
        │   ├── AuthenticationError             401
        │   ├── PermissionDeniedError           403
        │   ├── NotFoundError                   404
        │   ├── ConflictError                   409
        │   ├── UnprocessableEntityError        422
        │   ├── RateLimitError                  429
        │   └── InternalServerError             500 and above
        │       └── ServiceUnavailableError     503
        ├── BadReplyError               the answer was no reply, or not a whole one
        └── APIConnectionError          there is no answer
            └── Timeout

Rule 1: a table decides the class, from the kind of failure that the exchange found; nothing is read twice.
Rule 2: an error says whose fault it was and carries the entry of its last attempt, so that the books have it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault
from counterfoil.ledger.entry import Entry

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIStatusError",
    "AuthenticationError",
    "BadReplyError",
    "BadRequestError",
    "ConfigurationError",
    "ConflictError",
    "ContentPolicyViolationError",
    "ContextWindowExceededError",
    "Error",
    "InternalServerError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTooLargeError",
    "ServiceUnavailableError",
    "Timeout",
    "UnprocessableEntityError",
    "UnsupportedParamsError",
    "error_of",
    "invalid",
    "misconfigured",
]

UNSUPPORTED: Final = frozenset({"unsupported_parameter", "cannot_be_carried"})
"""The codes under which a parameter is refused: OpenAI's own, and ours for what cannot cross to another dialect."""


class Error(CounterfoilError):
    """The base of every error the SDK raises. `failure` is what went wrong, in no dialect."""

    def __init__(
        self,
        failure: Failure,
        *,
        model: str | None = None,
        provider: str | None = None,
        entry: Entry | None = None,
    ) -> None:
        super().__init__(failure)
        self.message: str = failure.message
        self.model = model
        """The name that was asked for."""
        self.provider = provider or (None if entry is None else entry.opening.provider)
        """Who was asked last; None when nobody was."""
        self.entry = entry
        """The ledger's entry of the last attempt; None when none was made."""

    @property
    def status_code(self) -> int:
        """The HTTP status: the provider's own, or what a gateway would answer."""
        return self.failure.status

    @property
    def llm_provider(self) -> str | None:
        """`provider`, by another name people look for."""
        return self.provider

    @property
    def retry_after(self) -> float | None:
        """Seconds the provider asked to wait."""
        return self.failure.retry_after

    @property
    def request_id(self) -> str | None:
        """The provider's own id of the request or the reply."""
        return None if self.entry is None else self.entry.provider_id

    @property
    def fault(self) -> Fault:
        """Whose fault it was: client, gateway (here: this program's own set-up), provider or network."""
        return self.failure.fault

    @property
    def code(self) -> str | None:
        """The provider's own code."""
        return self.failure.code

    @property
    def type(self) -> str | None:
        """The provider's own word for the kind of error."""
        return self.failure.type

    @property
    def param(self) -> str | None:
        """The request's field that is wrong."""
        return self.failure.param

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.failure, self.model, self.provider, self.entry)


class ConfigurationError(Error):
    """A client that cannot be built as asked: its configuration, its prices, its options."""


class APIError(Error):
    """A call failed."""


class APIStatusError(APIError):
    """There is an answer, and it is a refusal."""


class BadRequestError(APIStatusError):
    """The request is not one that can be served."""


class ContextWindowExceededError(BadRequestError):
    """The conversation is longer than the model can hold."""


class ContentPolicyViolationError(BadRequestError):
    """The provider's policy forbids the request."""


class RequestTooLargeError(BadRequestError):
    """The request has too many bytes."""


class UnsupportedParamsError(BadRequestError):
    """The provider's dialect cannot say this. `drop=True` leaves such things out."""


class AuthenticationError(APIStatusError):
    """The secret is missing or wrong."""


class PermissionDeniedError(APIStatusError):
    """The secret may not do this."""


class NotFoundError(APIStatusError):
    """There is no such model, or no such place."""


class ConflictError(APIStatusError):
    """The provider is in no state to serve this request."""


class UnprocessableEntityError(APIStatusError):
    """The provider understood the request and cannot follow it."""


class RateLimitError(APIStatusError):
    """Too many requests or tokens, or no money left."""


class InternalServerError(APIStatusError):
    """The provider failed."""


class ServiceUnavailableError(InternalServerError):
    """The provider is overloaded, or this process can serve nothing now."""


class BadReplyError(APIError):
    """The provider answered something that is not a reply, or stopped in the middle of one."""


class APIConnectionError(APIError):
    """No connection could be made, or it broke."""


class Timeout(APIConnectionError):
    """The provider took too long."""


_CLASSES: Final[Mapping[FailureKind, type[APIError]]] = {
    FailureKind.INVALID_REQUEST: BadRequestError,
    FailureKind.AUTHENTICATION: AuthenticationError,
    FailureKind.PERMISSION: PermissionDeniedError,
    FailureKind.NOT_FOUND: NotFoundError,
    FailureKind.TOO_LARGE: RequestTooLargeError,
    FailureKind.CONTEXT_WINDOW: ContextWindowExceededError,
    FailureKind.CONTENT_POLICY: ContentPolicyViolationError,
    FailureKind.RATE_LIMITED: RateLimitError,
    FailureKind.QUOTA: RateLimitError,
    FailureKind.OVERLOADED: ServiceUnavailableError,
    FailureKind.TIMED_OUT: Timeout,
    FailureKind.CONNECTION: APIConnectionError,
    FailureKind.BAD_REPLY: BadReplyError,
    FailureKind.PROVIDER_ERROR: InternalServerError,
    FailureKind.UNAVAILABLE: ServiceUnavailableError,
    FailureKind.INTERNAL: InternalServerError,
}
_BY_STATUS: Final[Mapping[int, type[APIError]]] = {409: ConflictError, 422: UnprocessableEntityError}
"""Statuses with a name of their own, where the kind says no more than that the request was refused."""


def error_of(failure: Failure, *, model: str | None = None, entry: Entry | None = None) -> APIError:
    """The error of a failure, ready to be raised. `entry`: of the last attempt."""
    kind = _CLASSES[failure.kind]
    if failure.kind is FailureKind.INVALID_REQUEST:
        kind = UnsupportedParamsError if failure.code in UNSUPPORTED else _BY_STATUS.get(failure.status, kind)
    return kind(failure, model=model, entry=entry)


def invalid(message: str, param: str | None = None, *, model: str | None = None) -> BadRequestError:
    """A call that cannot be made as asked."""
    return BadRequestError(Failure(FailureKind.INVALID_REQUEST, message, Fault.CLIENT, 400, param=param), model=model)


def misconfigured(message: str) -> ConfigurationError:
    """A client that cannot be built as asked."""
    return ConfigurationError(Failure(FailureKind.INVALID_REQUEST, message, Fault.CLIENT, 400, code="configuration"))


def _again(kind: type[Error], failure: Failure, model: str | None, provider: str | None, entry: Entry | None) -> Error:
    return kind(failure, model=model, provider=provider, entry=entry)
