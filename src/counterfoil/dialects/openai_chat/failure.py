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
from counterfoil.dialects.failure import (
    bad_reply,
    details_in,
    is_of_a_day,
    retry_after,
    retry_delay,
    should_retry,
    told,
    word_of,
)
from counterfoil.dialects.funds import is_out_of_funds
from counterfoil.dialects.openai_chat.usage import write_usage
from counterfoil.dialects.overflow import Overflow, own_words
from counterfoil.dialects.schema import UNREADABLE

__all__ = ["beside_error", "error_in", "frame_failure", "read_failure", "write_failure"]

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
_BY_BASE_RESP: Final[Mapping[int, tuple[FailureKind, int]]] = MappingProxyType(
    {
        1001: (FailureKind.TIMED_OUT, 504),
        1002: (FailureKind.RATE_LIMITED, 429),
        1004: (FailureKind.AUTHENTICATION, 401),
        1008: (FailureKind.QUOTA, 402),
        1026: (FailureKind.CONTENT_POLICY, 400),  # of the input
        1027: (FailureKind.CONTENT_POLICY, 400),  # of the output
        1039: (FailureKind.RATE_LIMITED, 429),  # tokens; "retry later"
        1041: (FailureKind.RATE_LIMITED, 429),  # connections
        1042: (FailureKind.INVALID_REQUEST, 400),  # too many characters that nobody sees
        2013: (FailureKind.INVALID_REQUEST, 400),
        2045: (FailureKind.RATE_LIMITED, 429),  # a rate that grew too fast
        2049: (FailureKind.AUTHENTICATION, 401),
        2056: (FailureKind.QUOTA, 429),  # the allowance of a plan, for hours
    }
)
"""Kind and status of a `base_resp.status_code`, under HTTP 200 or an error status; any other that is not 0 is the
provider's own failure. https://platform.minimax.io/docs/api-reference/errorcode"""
_OWN_FAILURE: Final = (FailureKind.PROVIDER_ERROR, 502)
_CONTEXT: Final = re.compile(
    r"maximum context length|context (?:length|window|size)|prompt is too long|too many (?:input )?tokens"
    r"|(?:prompt|input)[^.]{0,60}exceeds?[^.]{0,60}(?:tokens|limit|context)",
    re.IGNORECASE,
)
_POLICY: Final = re.compile(r"content (?:management )?policy|content[ _]filter|safety (?:system|policy)", re.IGNORECASE)
_ABOUT_THE_REQUEST: Final = frozenset({FailureKind.INVALID_REQUEST, FailureKind.TOO_LARGE, FailureKind.PROVIDER_ERROR})
"""Kinds that a message may sharpen: some providers say no more than 400."""
_ABOUT_MONEY: Final = frozenset(
    {FailureKind.INVALID_REQUEST, FailureKind.RATE_LIMITED, FailureKind.PERMISSION, FailureKind.PROVIDER_ERROR}
)

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
    kind: FailureKind | None = None
    """What its code stands for, where that says all."""
    delay: float | None = None
    """Seconds to wait."""
    spent: bool = False
    """What is exceeded is the allowance of a whole day."""


def read_failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """The failure of an answer with an error status.

    `headers` have lower-case names. The client gets the provider's status where it is an error status and 502 where
    it is not (a redirect, a success that is no reply). Never raises.
    """
    said = _read(body)
    failure = _failure(said, status, retry_after(headers), status)
    return msgspec.structs.replace(failure, should_retry=should_retry(headers))


def frame_failure(data: bytes) -> Failure:
    """The failure an error frame tells, or an error body under a status that is not an error's. Never raises."""
    said = _read(data)
    return _failure(said, said.status, None, None) if said is not None else bad_reply("an error that is not readable")


def error_in(data: bytes) -> Failure | None:
    """The failure told by a body that is no reply, if it is an error with a message: a `message`, a `detail`, a
    `base_resp`, or an error in a list. Never raises."""
    said = _read(data)
    return None if said is None or said.message is None else _failure(said, said.status, None, None)


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
        retry_after=wait if said is None or said.delay is None else said.delay,
        provider_status=answered,
    )


def _kind(said: _Said | None, status: int | None) -> FailureKind:
    if said is None:
        return _kind_of(status, FailureKind.BAD_REPLY)
    words = [word.lower() for word in (said.code, said.type) if word is not None]
    worded = next((_BY_WORD[word] for word in words if word in _BY_WORD), None)
    if worded is not None:
        return worded
    kind = said.kind or _kind_of(status, FailureKind.PROVIDER_ERROR)
    if kind in _ABOUT_MONEY and is_out_of_funds(said.message):
        return FailureKind.QUOTA
    if kind is FailureKind.RATE_LIMITED and said.spent:
        return FailureKind.QUOTA
    if said.message is not None and kind in _ABOUT_THE_REQUEST:
        if _CONTEXT.search(said.message):
            return FailureKind.CONTEXT_WINDOW
        if _POLICY.search(said.message):
            return FailureKind.CONTENT_POLICY
    if kind is FailureKind.PROVIDER_ERROR and said.type == "invalid_request_error":
        return FailureKind.INVALID_REQUEST
    return kind


def _kind_of(status: int | None, success: FailureKind) -> FailureKind:
    """What a status says. `success`: what it is where the status is none of an error."""
    if status is not None and status < 400:
        return success
    if status is None or status >= 500:
        return _BY_STATUS.get(status or 500, FailureKind.PROVIDER_ERROR)
    return _BY_STATUS.get(status, FailureKind.INVALID_REQUEST)


def _read(body: bytes) -> _Said | None:
    """The error object of a body, in each of the shapes servers of this dialect use; None when it has none."""
    try:
        found: Any = _JSON.decode(body)
    except UNREADABLE:
        return None
    found = _first(found)  # Gemini's OpenAI face wraps its error in a list
    if not isinstance(found, dict):
        return None
    outer = found
    inner = _first(found.get("error"))
    if isinstance(inner, dict):
        found = inner
    elif (stated := _base_resp(found.get("base_resp"))) is not None:
        return stated
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
    details = details_in(found)
    return _Said(message, code, kind, param, status, delay=retry_delay(details), spent=is_of_a_day(details))


def _first(found: object) -> object:
    return (found[0] if found else None) if isinstance(found, list) else found


def _base_resp(stated: object) -> _Said | None:
    """MiniMax's way to fail: `{"status_code": 1008, "status_msg": "insufficient balance"}`. 0 is no failure."""
    code = stated.get("status_code") if isinstance(stated, dict) else None
    if not isinstance(stated, dict) or type(code) is not int or not code:
        return None
    kind, status = _BY_BASE_RESP.get(code, _OWN_FAILURE)
    message = stated.get("status_msg")
    if not isinstance(message, str) or not message:
        message = f"The provider answered status_code {code}."
    return _Said(message, str(code), status=status, kind=kind)


def _message(found: Mapping[str, Any]) -> str | None:
    """An error's text: `message`, FastAPI's `detail`, Mistral's validation list."""
    for key in ("message", "detail", "msg"):
        text = found.get(key)
        if isinstance(text, dict):
            text = text.get("detail", text.get("message", text.get("error")))
        if isinstance(text, list):
            lines = [line["msg"] for line in text if isinstance(line, dict) and isinstance(line.get("msg"), str)]
            text = "; ".join(lines[:8])
        if isinstance(text, str) and text:
            return text
    return None
