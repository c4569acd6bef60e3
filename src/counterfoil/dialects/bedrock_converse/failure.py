"""Bedrock's errors: of an answer, and in the middle of a stream. The invoke wire has the same.

Rule 1: the exception's name decides; the status only where there is no name we know.
Rule 2: a body that is not an error in this dialect is never quoted: it may be a page of anything.
Rule 3: an error about a signature quotes the signed headers, and the session token is one of them: of those, only the
first line is told.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html#API_runtime_Converse_Errors,
.../CommonErrors.html, and the recorded `x-amzn-errortype: ValidationException:http://internal.amazon.com/coral/...`
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.dialects.bedrock_converse.schema import UNREADABLE

__all__ = ["bad_reply", "read_failure", "stream_failure"]

_MESSAGE_KEPT: Final = 2000
"""Characters of a provider's message that are kept."""
_LONGEST_WAIT: Final = 86_400.0
"""Seconds; a longer retry-after is taken for this."""
_SECRETS: Final = re.compile(
    r"\b(?:A[KS]IA[A-Z0-9]{8,}|ABSK[A-Za-z0-9+/=_-]{8,}|bedrock-api-key-[\w+/=-]+)|(?<=x-amz-security-token:)[^\n]+"
)
"""Access key ids, Bedrock's own API keys, and a session's token in a header that an error of any name quotes."""


class _Type(msgspec.Struct, frozen=True):
    kind: FailureKind
    fault: Fault
    status: int


_REJECTED: Final = _Type(FailureKind.INVALID_REQUEST, Fault.CLIENT, 400)
# The provider's credential and its model name are the operator's, not the client's.
_UNKNOWN_CALLER: Final = _Type(FailureKind.AUTHENTICATION, Fault.GATEWAY, 403)
_FORBIDDEN: Final = _Type(FailureKind.PERMISSION, Fault.GATEWAY, 403)
_MISSING: Final = _Type(FailureKind.NOT_FOUND, Fault.GATEWAY, 404)
_SLOW: Final = _Type(FailureKind.TIMED_OUT, Fault.PROVIDER, 408)
_HEAVY: Final = _Type(FailureKind.TOO_LARGE, Fault.CLIENT, 413)
_MODEL: Final = _Type(FailureKind.PROVIDER_ERROR, Fault.PROVIDER, 424)
_THROTTLED: Final = _Type(FailureKind.RATE_LIMITED, Fault.PROVIDER, 429)
_NOT_READY: Final = _Type(FailureKind.OVERLOADED, Fault.PROVIDER, 429)
_BROKEN: Final = _Type(FailureKind.PROVIDER_ERROR, Fault.PROVIDER, 500)
_BUSY: Final = _Type(FailureKind.OVERLOADED, Fault.PROVIDER, 503)

_TYPES: Final[Mapping[str, _Type]] = {
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
_BY_STATUS: Final[Mapping[int, _Type]] = {
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
_NARROWER: Final[tuple[tuple[re.Pattern[str], _Type], ...]] = (
    (
        re.compile(
            r"input is too long|prompt is too long|too many (?:input )?tokens|maximum context length"
            r"|input tokens exceed"  # Nova's, often in the middle of a stream
            r"|exceeds? (?:the )?(?:model'?s? )?(?:maximum )?context|context (?:window|limit)",
            re.I,
        ),
        _Type(FailureKind.CONTEXT_WINDOW, Fault.CLIENT, 400),
    ),
    (
        re.compile(r"content filter|blocked by (?:the |our )?(?:content|safety)", re.I),
        _Type(FailureKind.CONTENT_POLICY, Fault.CLIENT, 400),
    ),
    # The second: the model is called by an inference profile only.
    (
        re.compile(r"model identifier is invalid|on-demand throughput isn.t supported", re.I),
        _Type(FailureKind.NOT_FOUND, Fault.GATEWAY, 400),
    ),
)
"""What ValidationException says more exactly in its message only."""


def read_failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """An error answer. `status` is the provider's; `headers` have lower-case names."""
    said = _object(body)
    word = _name(headers.get("x-amzn-errortype")) or _name(said.get("__type"))
    row = _TYPES.get(word or "") or _BY_STATUS.get(status) or (_REJECTED if 400 <= status < 500 else _BROKEN)
    failure = _failure(row, word, _message(said), f"the provider answered status {status} without a readable error")
    return msgspec.structs.replace(
        failure,
        status=status if status >= 400 else failure.status,
        retry_after=_retry_after(headers),
        provider_status=status,
    )


def stream_failure(name: str, data: bytes) -> Failure:
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
    return _failure(row, word, text, "the provider ended the stream with an error without a message")


def bad_reply(message: str) -> Failure:
    """The provider answered something that is not this dialect."""
    return Failure(FailureKind.BAD_REPLY, message, Fault.PROVIDER, 502)


def _failure(row: _Type, word: str | None, message: str | None, unsaid: str) -> Failure:
    if row is _REJECTED and message:
        row = next((narrower for pattern, narrower in _NARROWER if pattern.search(message)), row)
    if row is _UNKNOWN_CALLER and message:
        message = message.strip().partition("\n")[0]
    return Failure(
        kind=row.kind,
        message=_SECRETS.sub("...", message or unsaid)[:_MESSAGE_KEPT],
        fault=row.fault,
        status=row.status,
        type=word,
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
    return said.partition(":")[0].rpartition("#")[2].strip()[:100] or None


def _message(said: Mapping[str, Any]) -> str | None:
    """`message`; the services behind the gateway of AWS write `Message`, and open-weight models `error.message`."""
    inner = said.get("error")
    for found in (said.get("message"), said.get("Message"), inner.get("message") if isinstance(inner, dict) else inner):
        if isinstance(found, str) and found:
            return found
    return None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds. A date is not read: there is no clock here."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, _LONGEST_WAIT) if math.isfinite(seconds) and seconds >= 0 else None
