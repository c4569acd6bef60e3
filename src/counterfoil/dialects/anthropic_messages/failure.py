"""Anthropic's errors, both ways.

Rule: the type word decides; the status only where there is no word we know.

https://platform.claude.com/docs/en/api/errors
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.dialects.failure import Meaning, error_object, retry_after, should_retry, told, word_of
from counterfoil.dialects.funds import is_out_of_funds
from counterfoil.dialects.overflow import Overflow, own_words
from counterfoil.dialects.schema import encode

__all__ = ["frame_failure", "read_failure", "write_failure"]

_TYPES: Final[Mapping[str, Meaning]] = {
    "invalid_request_error": Meaning(FailureKind.INVALID_REQUEST, Fault.CLIENT, 400),
    "authentication_error": Meaning(FailureKind.AUTHENTICATION, Fault.GATEWAY, 401),
    "billing_error": Meaning(FailureKind.QUOTA, Fault.GATEWAY, 402),
    "permission_error": Meaning(FailureKind.PERMISSION, Fault.GATEWAY, 403),
    "not_found_error": Meaning(FailureKind.NOT_FOUND, Fault.GATEWAY, 404),
    "conflict_error": Meaning(FailureKind.INVALID_REQUEST, Fault.CLIENT, 409),
    "request_too_large": Meaning(FailureKind.TOO_LARGE, Fault.CLIENT, 413),
    "rate_limit_error": Meaning(FailureKind.RATE_LIMITED, Fault.PROVIDER, 429),
    "api_error": Meaning(FailureKind.PROVIDER_ERROR, Fault.PROVIDER, 500),
    "timeout_error": Meaning(FailureKind.TIMED_OUT, Fault.PROVIDER, 504),
    "overloaded_error": Meaning(FailureKind.OVERLOADED, Fault.PROVIDER, 529),
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

_ABOUT_MONEY: Final = frozenset({FailureKind.INVALID_REQUEST, FailureKind.RATE_LIMITED, FailureKind.PROVIDER_ERROR})
"""Kinds that words about money make narrower. MiniMax's Messages face says them under 500 api_error
(github.com/MiniMax-AI/MiniMax-M2 issue 62)."""

_WRITTEN: Final[Mapping[FailureKind, str]] = {
    FailureKind.INVALID_REQUEST: "invalid_request_error",
    FailureKind.AUTHENTICATION: "authentication_error",
    FailureKind.PERMISSION: "permission_error",
    FailureKind.NOT_FOUND: "not_found_error",
    FailureKind.TOO_LARGE: "request_too_large",
    FailureKind.CONTEXT_WINDOW: "invalid_request_error",
    FailureKind.CONTENT_POLICY: "invalid_request_error",
    FailureKind.RATE_LIMITED: "rate_limit_error",
    FailureKind.QUOTA: "billing_error",
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
    failure = _failure(body, status, retry_after(headers))
    return msgspec.structs.replace(failure, should_retry=should_retry(headers))


def frame_failure(error: bytes) -> Failure:
    """The `error` object of an error frame. The stream answered 200, so the type word gives the status."""
    return _failure(error, None, None)


def write_failure(failure: Failure) -> bytes:
    """`{"type": "error", "error": {"type", "message"}}`."""
    failure = own_words(failure, _TOO_LONG, _too_long, "prompt is too long")
    own = _TYPES.get(failure.type or "")
    same = own is not None and failure.kind in (own.kind, FailureKind.QUOTA)  # Anthropic tells that as a 400, too
    word = failure.type if same else _WRITTEN[failure.kind]
    return encode({"type": "error", "error": {"type": word, "message": failure.message}})


_TOO_LONG: Final = re.compile(r"prompt is too long|`max_tokens` exceed context limit")
"""Recorded, and https://platform.claude.com/docs/en/build-with-claude/context-windows"""


def _too_long(sizes: Overflow) -> str | None:
    if sizes.by_the_bound:
        parts = f"{sizes.input} + {sizes.output} > {sizes.limit}"
        return f"input length and `max_tokens` exceed context limit: {parts}, decrease input length or `max_tokens`"
    return f"prompt is too long: {sizes.prompt} tokens > {sizes.limit} maximum"


def _failure(body: bytes, status: int | None, wait: float | None) -> Failure:
    said = error_object(body)
    word, message = word_of(said.get("type")), said.get("message")
    message = message if isinstance(message, str) else None
    row = _TYPES.get(word or "")
    if row is None:
        fallback = _CLIENT_ERROR if status is not None and 400 <= status < 500 else _SERVER_ERROR
        row = _BY_STATUS.get(status or 0, fallback)
    kind, fault = row.kind, row.fault
    if kind in _ABOUT_MONEY and is_out_of_funds(message):
        kind, fault = FailureKind.QUOTA, Fault.GATEWAY
    elif kind is FailureKind.INVALID_REQUEST and message:
        kind = next((narrower for pattern, narrower in _NARROWER if pattern.search(message)), kind)
    return Failure(
        kind=kind,
        message=told(message, status),
        fault=fault,
        status=row.status if status is None or status < 400 else status,
        type=word,
        retry_after=wait,
        provider_status=status,
    )
