"""Errors on the Responses wire: of an error answer, of an error event, of a response that failed.

Rule: an error answer is the same object as on OpenAI's chat wire, and is read and written there. What is particular
here are the words of `response.error`, which come inside a stream that answered 200: the word gives the status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.dialects.openai_chat import failure as chat
from counterfoil.dialects.openai_chat.failure import read_failure, write_failure

__all__ = ["CANCELLED", "error_event", "frame_failure", "read_failure", "response_error", "write_failure"]

CANCELLED: Final = Failure(
    FailureKind.PROVIDER_ERROR, "The response was cancelled at the provider.", Fault.PROVIDER, 502, code="cancelled"
)

_WORDS: Final[Mapping[str, FailureKind]] = {
    "server_error": FailureKind.PROVIDER_ERROR,
    "rate_limit_exceeded": FailureKind.RATE_LIMITED,
    "insufficient_quota": FailureKind.QUOTA,  # openai.responses/openai/ai-openai-error.1-0-c39351
    "context_length_exceeded": FailureKind.CONTEXT_WINDOW,
    "vector_store_timeout": FailureKind.TIMED_OUT,
    "bio_policy": FailureKind.CONTENT_POLICY,
    "image_content_policy_violation": FailureKind.CONTENT_POLICY,
    **dict.fromkeys(
        (
            "invalid_prompt",
            "data_residency_mismatch",
            "invalid_image",
            "invalid_image_format",
            "invalid_base64_image",
            "invalid_image_url",
            "image_too_large",
            "image_too_small",
            "image_parse_error",
            "invalid_image_mode",
            "image_file_too_large",
            "unsupported_image_media_type",
            "empty_image_file",
            "failed_to_download_image",
            "image_file_not_found",
        ),
        FailureKind.INVALID_REQUEST,
    ),
}
"""`ResponseErrorCode` of the published schema, and two more words that are sent."""

_STATUSES: Final[Mapping[FailureKind, int]] = {
    FailureKind.INVALID_REQUEST: 400,
    FailureKind.AUTHENTICATION: 401,
    FailureKind.PERMISSION: 403,
    FailureKind.NOT_FOUND: 404,
    FailureKind.TOO_LARGE: 413,
    FailureKind.CONTEXT_WINDOW: 400,
    FailureKind.CONTENT_POLICY: 400,
    FailureKind.RATE_LIMITED: 429,
    FailureKind.QUOTA: 429,
    FailureKind.OVERLOADED: 503,
    FailureKind.TIMED_OUT: 504,
}
_CLIENTS: Final = frozenset({FailureKind.INVALID_REQUEST, FailureKind.CONTENT_POLICY, FailureKind.CONTEXT_WINDOW})

_WRITTEN: Final[Mapping[FailureKind, str]] = {
    FailureKind.RATE_LIMITED: "rate_limit_exceeded",
    FailureKind.QUOTA: "rate_limit_exceeded",
    FailureKind.INVALID_REQUEST: "invalid_prompt",
    FailureKind.TOO_LARGE: "invalid_prompt",
    FailureKind.CONTENT_POLICY: "invalid_prompt",
}
"""`response.error.code` of each kind; all others are `server_error`."""


def frame_failure(data: bytes) -> Failure:
    """The failure of an `error` event, or of a response with an `error`. Never raises."""
    said = chat.frame_failure(data)
    kind = _WORDS.get(said.code or "", said.kind)
    if kind is FailureKind.INVALID_REQUEST and said.kind in _CLIENTS:
        kind = said.kind  # the message says more exactly what was wrong
    fault = Fault.CLIENT if kind in _CLIENTS else said.fault
    status = said.status if said.status != 502 else _STATUSES.get(kind, 502)
    return msgspec.structs.replace(said, kind=kind, fault=fault, status=status)


def response_error(failure: Failure) -> dict[str, object]:
    """`response.error` of a response that failed.

    Its words are a closed list of the published schema, but for the context window: there Codex, like the API, goes by
    `context_length_exceeded`.
    """
    code = _WRITTEN.get(failure.kind, "server_error")
    if failure.kind is FailureKind.CONTEXT_WINDOW:
        code = "context_length_exceeded"
    elif failure.code is not None and _WORDS.get(failure.code) is failure.kind:
        code = failure.code
    return {"code": code, "message": msgspec.json.decode(write_failure(failure))["error"]["message"]}


def error_event(failure: Failure) -> dict[str, object]:
    """The fields of an `error` event: those of the published schema, and the object that OpenAI sends, which is what
    its clients look for."""
    error = msgspec.json.decode(write_failure(failure))["error"]
    return {"code": error["code"], "message": error["message"], "param": error["param"], "error": error}
