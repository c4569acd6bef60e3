"""Bedrock's errors: of an answer, and in the middle of a stream. The invoke wire has the same.

Rule 1: the exception's name decides; the status only where there is no name we know.
Rule 2: an error about a signature quotes the signed headers, and the session token is one of them: of those, only the
first line is told.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html#API_runtime_Converse_Errors,
.../CommonErrors.html, and the recorded `x-amzn-errortype: ValidationException:http://internal.amazon.com/coral/...`
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.dialects.failure import Meaning, retry_after, told, word_of
from counterfoil.dialects.funds import is_out_of_funds
from counterfoil.dialects.schema import UNREADABLE

__all__ = ["frame_failure", "read_failure"]

_REJECTED: Final = Meaning(FailureKind.INVALID_REQUEST, Fault.CLIENT, 400)
_UNKNOWN_CALLER: Final = Meaning(FailureKind.AUTHENTICATION, Fault.GATEWAY, 403)
_FORBIDDEN: Final = Meaning(FailureKind.PERMISSION, Fault.GATEWAY, 403)
_MISSING: Final = Meaning(FailureKind.NOT_FOUND, Fault.GATEWAY, 404)
_SLOW: Final = Meaning(FailureKind.TIMED_OUT, Fault.PROVIDER, 408)
_HEAVY: Final = Meaning(FailureKind.TOO_LARGE, Fault.CLIENT, 413)
_MODEL: Final = Meaning(FailureKind.PROVIDER_ERROR, Fault.PROVIDER, 424)
_THROTTLED: Final = Meaning(FailureKind.RATE_LIMITED, Fault.PROVIDER, 429)
_SPENT: Final = Meaning(FailureKind.QUOTA, Fault.GATEWAY, 429)
_NOT_READY: Final = Meaning(FailureKind.OVERLOADED, Fault.PROVIDER, 429)
_BROKEN: Final = Meaning(FailureKind.PROVIDER_ERROR, Fault.PROVIDER, 500)
_BUSY: Final = Meaning(FailureKind.OVERLOADED, Fault.PROVIDER, 503)

_TYPES: Final[Mapping[str, Meaning]] = {
    "ValidationException": _REJECTED,
    "ConflictException": _REJECTED,
    "SerializationException": _REJECTED,
    "UnrecognizedClientException": _UNKNOWN_CALLER,
    "InvalidSignatureException": _UNKNOWN_CALLER,
    "IncompleteSignatureException": _UNKNOWN_CALLER,
    "MissingAuthenticationTokenException": _UNKNOWN_CALLER,
    "ExpiredTokenException": _UNKNOWN_CALLER,
    "UnauthorizedException": _UNKNOWN_CALLER,
    "AccessDeniedException": _FORBIDDEN,
    "OptInRequiredException": _FORBIDDEN,
    "ResourceNotFoundException": _MISSING,
    "UnknownOperationException": _MISSING,
    "ModelTimeoutException": _SLOW,
    "RequestEntityTooLargeException": _HEAVY,
    "ModelErrorException": _MODEL,
    "ModelStreamErrorException": _MODEL,
    "ThrottlingException": _THROTTLED,
    "ServiceQuotaExceededException": _THROTTLED,
    "ModelNotReadyException": _NOT_READY,
    "InternalServerException": _BROKEN,
    "InternalFailureException": _BROKEN,
    "ServiceUnavailableException": _BUSY,
}
_BY_STATUS: Final[Mapping[int, Meaning]] = {
    401: _UNKNOWN_CALLER,
    403: _FORBIDDEN,
    404: _MISSING,
    408: _SLOW,
    413: _HEAVY,
    424: _MODEL,
    429: _THROTTLED,
    503: _BUSY,
    504: _SLOW,
    529: _BUSY,
}
_NARROWER: Final[tuple[tuple[re.Pattern[str], Meaning], ...]] = (
    (
        re.compile(
            r"input is too long|prompt is too long|too many (?:input )?tokens|maximum context length"
            r"|input tokens exceed"  # Nova's, often in the middle of a stream
            r"|exceeds? (?:the )?(?:model'?s? )?(?:maximum )?context|context (?:window|limit)",
            re.I,
        ),
        Meaning(FailureKind.CONTEXT_WINDOW, Fault.CLIENT, 400),
    ),
    (
        re.compile(r"content filter|blocked by (?:the |our )?(?:content|safety)", re.I),
        Meaning(FailureKind.CONTENT_POLICY, Fault.CLIENT, 400),
    ),
    # The second: the model is called by an inference profile only.
    (
        re.compile(r"model identifier is invalid|on-demand throughput isn.t supported", re.I),
        Meaning(FailureKind.NOT_FOUND, Fault.GATEWAY, 400),
    ),
)
"""What ValidationException says more exactly in its message only."""


def read_failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """An error answer. `status` is the provider's; `headers` have lower-case names."""
    said = _object(body)
    word = _name(headers.get("x-amzn-errortype")) or _name(said.get("__type"))
    row = _TYPES.get(word or "") or _BY_STATUS.get(status) or (_REJECTED if 400 <= status < 500 else _BROKEN)
    failure = _failure(row, word, _message(said), status)
    return msgspec.structs.replace(
        failure,
        status=status if status >= 400 else failure.status,
        retry_after=retry_after(headers),
    )


def frame_failure(name: str, data: bytes) -> Failure:
    """An exception or an error in a stream. The stream answered 200, so the name gives the status."""
    said = _object(data)
    word = _name(name[:1].upper() + name[1:])
    row = _TYPES.get(word or "", _BROKEN)
    if row is _MODEL:
        original = said.get("originalStatusCode")
        row = _BY_STATUS.get(original, row) if isinstance(original, int) else row
    text = _message(said)
    if text is None and not said:
        text = data.decode("utf-8", "replace").strip() or None  # an unmodelled error's message is no JSON
    return _failure(row, word, text, None)


def _failure(row: Meaning, word: str | None, message: str | None, status: int | None) -> Failure:
    if row is _REJECTED and message:
        row = next((narrower for pattern, narrower in _NARROWER if pattern.search(message)), row)
    if row is _THROTTLED and is_out_of_funds(message):
        row = _SPENT
    if row is _UNKNOWN_CALLER and message:
        message = message.strip().partition("\n")[0]
    return Failure(
        kind=row.kind,
        message=told(message, status),
        fault=row.fault,
        status=row.status,
        type=word,
        provider_status=status,
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except UNREADABLE:
        return {}
    return found if isinstance(found, dict) else {}


def _name(said: object) -> str | None:
    """The bare name in `ValidationException:http://...` and in `com.amazon.coral.service#ValidationException`."""
    if not isinstance(said, str):
        return None
    return word_of(said.partition(":")[0].rpartition("#")[2].strip())


def _message(said: Mapping[str, Any]) -> str | None:
    """`message`; the services behind the gateway of AWS write `Message`, and open-weight models `error.message`."""
    inner = said.get("error")
    for found in (said.get("message"), said.get("Message"), inner.get("message") if isinstance(inner, dict) else inner):
        if isinstance(found, str) and found:
            return found
    return None
