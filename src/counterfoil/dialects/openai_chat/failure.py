"""Errors on the chat wire: a provider's answer to a failure, a failure to the client's body.

Rule: words beat numbers. What the error calls itself says more than its status, and a table maps both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.dialects.dialect import FinalUsage
from counterfoil.dialects.failure import bad_reply, retry_after, told, word_of
from counterfoil.dialects.funds import is_out_of_funds
from counterfoil.dialects.openai_chat.usage import write_usage
from counterfoil.dialects.overflow import Overflow, own_words
from counterfoil.dialects.schema import UNREADABLE

__all__ = ["beside_error", "frame_failure", "read_failure", "write_failure"]

_BY_STATUS: Final = MappingProxyType(
    {
        400: FailureKind.INVALID_REQUEST,
        401: FailureKind.AUTHENTICATION,
        402: FailureKind.QUOTA,  # https://api-docs.deepseek.com/quick_start/error_codes, OpenRouter's, Cohere's
        403: FailureKind.PERMISSION,
        404: FailureKind.NOT_FOUND,
        405: FailureKind.INVALID_REQUEST,
        408: FailureKind.TIMED_OUT,
        409: FailureKind.INVALID_REQUEST,
        413: FailureKind.TOO_LARGE,
        415: FailureKind.INVALID_REQUEST,
        422: FailureKind.INVALID_REQUEST,
        424: FailureKind.PROVIDER_ERROR,
        429: FailureKind.RATE_LIMITED,
        498: FailureKind.RATE_LIMITED,  # https://console.groq.com/docs/errors: flex capacity exceeded
        503: FailureKind.OVERLOADED,
        504: FailureKind.TIMED_OUT,
        529: FailureKind.OVERLOADED,
    }
)
_BY_WORD: Final = MappingProxyType(
    {
        "authentication_error": FailureKind.AUTHENTICATION,
        "billing_hard_limit_reached": FailureKind.QUOTA,
        "billing_not_active": FailureKind.QUOTA,
        "content_filter": FailureKind.CONTENT_POLICY,  # azure.chat/azure-openai/openllmetry-test-prompt-content-…
        "content_policy_violation": FailureKind.CONTENT_POLICY,
        "context_length_exceeded": FailureKind.CONTEXT_WINDOW,
        "deploymentnotfound": FailureKind.NOT_FOUND,  # azure.chat/azure-openai/openllmetry-test-chat-reasoning-1-…
        "engine_overloaded_error": FailureKind.OVERLOADED,
        "exceeded_current_quota_error": FailureKind.QUOTA,  # Moonshot: forum.moonshot.ai/t/429-insufficient-balance/244
        "exceed_context_size_error": FailureKind.CONTEXT_WINDOW,  # llama.cpp, tools/server/README.md
        "insufficient_quota": FailureKind.QUOTA,  # https://platform.openai.com/docs/guides/error-codes
        "invalid_api_key": FailureKind.AUTHENTICATION,
        "model_not_found": FailureKind.NOT_FOUND,
        "not_found_error": FailureKind.NOT_FOUND,
        "overloaded_error": FailureKind.OVERLOADED,
        "permission_error": FailureKind.PERMISSION,
        "rate_limit_error": FailureKind.RATE_LIMITED,
        "rate_limit_exceeded": FailureKind.RATE_LIMITED,
        "ratelimitreached": FailureKind.RATE_LIMITED,  # azure.chat/azure-ai/ruby-llm-chat-real-error-scenarios-…
        "request_too_large": FailureKind.TOO_LARGE,
        "responsibleaipolicyviolation": FailureKind.CONTENT_POLICY,
        "server_error": FailureKind.PROVIDER_ERROR,
        "string_above_max_length": FailureKind.CONTEXT_WINDOW,
        "unavailable_error": FailureKind.OVERLOADED,  # llama.cpp while it loads
    }
)
_CONTEXT: Final = re.compile(
    r"maximum context length|context (?:length|window|size)|prompt is too long|too many (?:input )?tokens"
    r"|(?:prompt|input)[^.]{0,60}exceeds?[^.]{0,60}(?:tokens|limit|context)",
    re.IGNORECASE,
)
_POLICY: Final = re.compile(r"content (?:management )?policy|content[ _]filter|safety (?:system|policy)", re.IGNORECASE)
_ABOUT_THE_REQUEST: Final = frozenset({FailureKind.INVALID_REQUEST, FailureKind.TOO_LARGE, FailureKind.PROVIDER_ERROR})
"""Kinds that a message may sharpen: some providers say no more than 400."""
_ABOUT_MONEY: Final = frozenset({FailureKind.INVALID_REQUEST, FailureKind.RATE_LIMITED, FailureKind.PERMISSION})

_FAULTS: Final = MappingProxyType(
    {
        FailureKind.INVALID_REQUEST: Fault.CLIENT,
        FailureKind.TOO_LARGE: Fault.CLIENT,
        FailureKind.CONTEXT_WINDOW: Fault.CLIENT,
        FailureKind.CONTENT_POLICY: Fault.CLIENT,
        FailureKind.AUTHENTICATION: Fault.GATEWAY,  # the secret is the operator's
        FailureKind.PERMISSION: Fault.GATEWAY,
        FailureKind.QUOTA: Fault.GATEWAY,  # and the account
        FailureKind.NOT_FOUND: Fault.GATEWAY,  # so is the provider's model name
    }
)
"""Whose fault a provider's answer is; the provider's own where the table is silent."""

_TYPES: Final = MappingProxyType(
    {
        FailureKind.INVALID_REQUEST: "invalid_request_error",
        FailureKind.AUTHENTICATION: "authentication_error",
        FailureKind.PERMISSION: "permission_error",
        FailureKind.NOT_FOUND: "not_found_error",
        FailureKind.TOO_LARGE: "invalid_request_error",
        FailureKind.CONTEXT_WINDOW: "invalid_request_error",
        FailureKind.CONTENT_POLICY: "invalid_request_error",
        FailureKind.RATE_LIMITED: "rate_limit_error",
        FailureKind.QUOTA: "insufficient_quota",
        FailureKind.OVERLOADED: "overloaded_error",
        FailureKind.TIMED_OUT: "timeout_error",
        FailureKind.CONNECTION: "api_connection_error",
        FailureKind.BAD_REPLY: "api_error",
        FailureKind.PROVIDER_ERROR: "api_error",
        FailureKind.UNAVAILABLE: "service_unavailable_error",
        FailureKind.INTERNAL: "server_error",
    }
)
"""`error.type` of each kind: https://platform.openai.com/docs/guides/error-codes, and its wording where it has none."""

_CODES: Final = MappingProxyType(
    {
        FailureKind.AUTHENTICATION: "invalid_api_key",
        FailureKind.CONTEXT_WINDOW: "context_length_exceeded",
        FailureKind.CONTENT_POLICY: "content_filter",
        FailureKind.NOT_FOUND: "model_not_found",
        FailureKind.QUOTA: "insufficient_quota",
        FailureKind.RATE_LIMITED: "rate_limit_exceeded",
        FailureKind.TOO_LARGE: "request_too_large",
    }
)
"""`error.code` where the provider gave no word: clients decide by these (LangChain by `context_length_exceeded`)."""

_JSON: Final = msgspec.json.Decoder()


class _Said(msgspec.Struct, frozen=True):
    """What an error object says of itself, wherever it says it."""

    message: str | None = None
    code: str | None = None
    type: str | None = None
    param: str | None = None
    status: int | None = None


def read_failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """The failure of an answer with an error status.

    `headers` have lower-case names. The client gets the provider's status where it is an error status and 502 where
    it is not (a redirect, a success that is no reply). Never raises.
    """
    said = _read(body)
    return _failure(said, status, retry_after(headers), status)


def frame_failure(data: bytes) -> Failure:
    """The failure an error frame tells, or an error body under a status that is not an error's. Never raises."""
    said = _read(data)
    return _failure(said, said.status, None, None) if said is not None else bad_reply("an error that is not readable")


def write_failure(failure: Failure) -> bytes:
    """An error body as https://platform.openai.com/docs/guides/error-codes has it, and `fault`: whose fault it was."""
    failure = own_words(failure, _TOO_LONG, _too_long, "Your input exceeds the context window of this model.")
    code = failure.code
    foreign = failure.kind is FailureKind.CONTEXT_WINDOW and _BY_WORD.get((code or "").lower()) is not failure.kind
    if code is None or code.isdigit() or foreign:
        code = _CODES.get(failure.kind, code)
    error = {
        "message": failure.message,
        "type": _TYPES[failure.kind],
        "param": failure.param,
        "code": code,
        "fault": failure.fault.value,
    }
    return msgspec.json.encode({"error": error})


_TOO_LONG: Final = re.compile(r"maximum context length|exceeds? the context window", re.IGNORECASE)


_FRAME_END: Final = b"}\n\n"


def beside_error(frame: bytes, final: FinalUsage) -> bytes:
    """An error frame of ours with the usage object beside its error; as it is where nobody knows the usage.

    Clients that raise the error look at nothing else of the frame (openai-python `_streaming.py`, openai-node
    `core/streaming.ts`); those that meter, as our own SDK does, have what was booked.
    """
    usage = write_usage(msgspec.structs.replace(final, provider_raw=b""))  # what is settled, and no more
    if usage == b"null" or not frame.endswith(_FRAME_END):
        return frame
    return frame.removesuffix(_FRAME_END) + b',"usage":' + usage + _FRAME_END


def _too_long(sizes: Overflow) -> str | None:
    """In OpenAI's words, which others of this dialect repeat (recorded: openai.chat/openrouter)."""
    said = f"This model's maximum context length is {sizes.limit} tokens."
    return f"{said} However, you requested {sizes.asked} tokens."


def _failure(said: _Said | None, status: int | None, wait: float | None, answered: int | None) -> Failure:
    kind = _kind(said, status)
    return Failure(
        kind=kind,
        message=told(said.message if said is not None else None, status),
        fault=_FAULTS.get(kind, Fault.PROVIDER),
        status=status if status is not None and 400 <= status <= 599 else 502,
        code=said.code if said is not None else None,
        type=said.type if said is not None else None,
        param=said.param if said is not None else None,
        retry_after=wait,
        provider_status=answered,
    )


def _kind(said: _Said | None, status: int | None) -> FailureKind:
    if said is not None:
        for word in (said.code, said.type):
            kind = _BY_WORD.get(word.lower()) if word is not None else None
            if kind is not None:
                return kind
    if status is not None and status < 400:
        kind = FailureKind.BAD_REPLY if said is None else FailureKind.PROVIDER_ERROR
    elif status is None or status >= 500:
        kind = _BY_STATUS.get(status or 500, FailureKind.PROVIDER_ERROR)
    else:
        kind = _BY_STATUS.get(status, FailureKind.INVALID_REQUEST)
    if kind in _ABOUT_MONEY and is_out_of_funds(None if said is None else said.message):
        return FailureKind.QUOTA
    if said is not None and said.message is not None and kind in _ABOUT_THE_REQUEST:
        if _CONTEXT.search(said.message):
            return FailureKind.CONTEXT_WINDOW
        if _POLICY.search(said.message):
            return FailureKind.CONTENT_POLICY
    if kind is FailureKind.PROVIDER_ERROR and said is not None and said.type == "invalid_request_error":
        return FailureKind.INVALID_REQUEST
    return kind


def _read(body: bytes) -> _Said | None:
    """The error object of a body, in each of the shapes servers of this dialect use; None when it has none."""
    try:
        found: Any = _JSON.decode(body)
    except UNREADABLE:
        return None
    if isinstance(found, list):  # Gemini's OpenAI face wraps its error in a list
        found = found[0] if found else None
    if not isinstance(found, dict):
        return None
    outer = found
    inner = found.get("error")
    if isinstance(inner, dict):
        found = inner
    elif isinstance(found.get("errors"), list) and found["errors"] and isinstance(found["errors"][0], dict):
        found = found["errors"][0]  # Cloudflare's API envelope
    message = _message(found) or (inner if isinstance(inner, str) and inner else None)
    code, kind, param = word_of(found.get("code")), word_of(found.get("type")), word_of(found.get("param"))
    if message is None and code is None and kind is None:
        return None
    status = next(
        (
            number
            for number in (found.get("status_code"), found.get("status"), found.get("code"), outer.get("status_code"))
            if type(number) is int and 400 <= number <= 599
        ),
        None,
    )
    return _Said(message, code, kind, param, status)


def _message(found: Mapping[str, Any]) -> str | None:
    """An error's text: `message`, FastAPI's `detail`, Mistral's validation list."""
    for key in ("message", "detail", "msg"):
        text = found.get(key)
        if isinstance(text, dict):
            text = text.get("detail", text.get("message"))
        if isinstance(text, list):
            lines = [line["msg"] for line in text if isinstance(line, dict) and isinstance(line.get("msg"), str)]
            text = "; ".join(lines[:8])
        if isinstance(text, str) and text:
            return text
    return None
