"""What a provider's error comes to in every dialect: what of it is told, and when to come back.

Rule 1: only what the provider wrote as an error's message or word is told, bounded, and with every secret in it
blanked. The forms of all providers are looked for in every dialect: a host passes on what the one behind it said, and
that one may speak another.
Rule 2: a body that is not an error in its dialect is never quoted: it may be a page of anything.
Rule 3: the provider's credential and its model name are the operator's. What is wrong with them is the gateway's fault.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.dialects.schema import UNREADABLE

__all__ = [
    "LONGEST_WAIT",
    "MESSAGE_LIMIT",
    "RETRY_INFO",
    "Meaning",
    "bad_reply",
    "details_in",
    "error_object",
    "is_of_a_day",
    "retry_after",
    "retry_delay",
    "should_retry",
    "told",
    "word_of",
]

MESSAGE_LIMIT: Final = 2_000
"""Characters of a provider's message that are told."""
_WORD_LIMIT: Final = 200
"""Characters of a code, a type or the name of a parameter."""
LONGEST_WAIT: Final = 86_400.0
"""Seconds; a longer wait is taken for this."""

RETRY_INFO: Final = "type.googleapis.com/google.rpc.RetryInfo"
"""https://cloud.google.com/apis/design/errors#error_payloads, as Google's two faces say it: its own and OpenAI's."""
_EXCEEDED: Final = "type.googleapis.com/google.rpc.QuotaFailure"
_A_DAYS: Final = "PerDay"
"""In a `quotaId` of a QuotaFailure (GenerateRequestsPerDayPerProjectPerModel): github.com/google-gemini/gemini-cli
issue 8437. The RetryInfo beside it says seconds all the same."""
_SECONDS: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")

_BLANK: Final = "[redacted]"
_VALUE: Final = r"(?:(?=[^\s\d]{0,200}\d)(?=[^\sA-Za-z]{0,200}[A-Za-z])[\w.~+/=%*-]{8,}|[\w.~+/=%*-]{20,})"
"""Letters with a digit among them, or too long for a word: "API key: required" is none."""
_NAMED: Final = re.compile(
    # What AWS quotes of a request whose signature it does not take, which is its headers, line by line.
    r"(?P<name>x-amz-security-token:)[^\n]+"
    # RFC 6750 and RFC 7617; "Authorization=Bearer ..." is AWS's where it wants a signature.
    r"|(?P<scheme>\b(?:Bearer|Basic) +)(?!auth|cred|realm)[^\s\"',;]{8,}"
    # A header, a member of a body, a field of a query (Gemini's ?key=, Azure's sig=) or a sentence that names it:
    # "Incorrect API key provided: ...". Keys of Azure, Cohere and Mistral have no form to be known by.
    r"|(?P<field>\b(?:(?:x-|x-goog-)?api[ _-]?key|access[ _-]?token|(?:proxy-)?authorization|(?:client[ _-]?)?secret"
    r"|(?:subscription|access)[ _-]?key|password|credential|signature|token|key|sig)"
    rf"(?: (?:provided|passed|received|is))?[\"'`]? ?(?:[:=]|%3D) ?[\"'`]?(?:Bearer +|Basic +)?){_VALUE}",
    re.IGNORECASE,
)
"""Anything that stands where a secret stands, whoever made it."""
_FORMED: Final = re.compile(
    # Recorded from OpenAI and Cohere: what is left of a key that was starred already.
    r"[\w-]{0,8}\*{4,}[\w*-]*"
    # OpenAI, Anthropic, DeepSeek, OpenRouter, LiteLLM (which shortens its own: sk-...Ab1). A plain word has no digit.
    r"|\b[spr]k[-_](?=[A-Za-z_\-*.]{0,200}\d)[\w\-*.]{6,}|\bsk-[\w-]{20,}"
    # Groq, xAI, Hugging Face, Perplexity, Cerebras, Fireworks, Vercel. Models are called so, too: xai-grok-4-fast.
    r"|\b(?:gsk_|xai-|hf_|pplx-|csk-|fw_|vck_|key-)(?=[A-Za-z]{0,200}\d)[A-Za-z0-9]{8,}"
    # NVIDIA, Together, Voyage
    r"|\b(?:nvapi-|tgp_v1_|pa-)(?=[A-Za-z_-]{0,200}\d)[\w-]{16,}"
    # Google: API keys, keys of express mode, OAuth tokens, an OAuth client's secret.
    r"|\b(?:AIza[\w-]{16,}|AQ\.[\w-]{20,}|ya29\.[\w.-]{10,}|GOCSPX-[\w-]{8,})"
    # AWS: access key ids, https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html; Bedrock's own
    # keys, https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys.html
    r"|\bA[KS]IA[A-Z0-9]{8,}|\bABSK[\w+/=-]{8,}|\bbedrock-api-key-[\w+/=-]+"
    # Microsoft Entra, a client's secret; Databricks; GitHub Models: rules of github.com/gitleaks/gitleaks
    r"|(?<![\w~.-])[\w~.]{3}\dQ~[\w~.-]{20,}|\bdapi[0-9a-f]{32}|\b(?:gh[opsu]_|github_pat_)\w{20,}"
    # A JSON web token, which Entra, Snowflake, IBM and MiniMax take: RFC 7519
    r"|(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?",
    re.ASCII,
)
"""Keys and tokens as their makers form them."""


class Meaning(msgspec.Struct, frozen=True):
    """What a provider's word, or its status, stands for."""

    kind: FailureKind
    fault: Fault
    status: int
    """The HTTP status that goes with it."""


def told(message: str | None, status: int | None) -> str:
    """What the client is told of a provider's message: bounded, and without a secret. `status` is the provider's, and
    None for an error in a stream; it is told where there is no message."""
    if not message:
        return f"The provider answered {'an error' if status is None else f'HTTP {status}'} without a readable message."
    blanked = _without_secrets(message[: MESSAGE_LIMIT * 2])
    return blanked if len(blanked) <= MESSAGE_LIMIT else blanked[: MESSAGE_LIMIT - 1] + "…"


def word_of(value: object) -> str | None:
    """A code, a type or the name of a parameter as text (Azure, OpenRouter and llama.cpp send numbers); None where
    there is none."""
    if type(value) is int:
        return str(value)
    return _without_secrets(value[:_WORD_LIMIT]) if isinstance(value, str) and value else None


def _without_secrets(text: str) -> str:
    named = _NAMED.sub(lambda found: (found["name"] or found["scheme"] or found["field"]) + _BLANK, text)
    return _FORMED.sub(_BLANK, named)


def error_object(body: bytes) -> Mapping[str, Any]:
    """The error object of a body: the body itself, its `error`, or either in a list. A text in its place is a message.
    Empty where there is none. Never raises."""
    try:
        found: Any = msgspec.json.decode(body)
    except UNREADABLE:
        return {}
    if isinstance(found, list) and found:
        found = found[0]  # Vertex, and Gemini's stream without alt=sse
    if isinstance(found, dict):
        found = found.get("error", found)
    if isinstance(found, str):
        return {"message": found}
    return found if isinstance(found, dict) else {}


def bad_reply(what: str) -> Failure:
    """The provider sent something that is not a reply in its dialect. `what` quotes nothing of it."""
    return Failure(FailureKind.BAD_REPLY, f"The provider sent {what}.", Fault.PROVIDER, 502)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait. `headers` have lower-case names. An HTTP date is not read: that takes a clock. Azure sends
    `retry-after-ms: 0` beside `retry-after: 1` (azure.chat/azure-ai), so a zero does not count."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            wait = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if math.isfinite(wait) and wait > 0:
            return min(wait, LONGEST_WAIT)
    return None


def details_in(error: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The objects in an error's `details`."""
    details = error.get("details")
    return [entry for entry in details if isinstance(entry, dict)] if isinstance(details, list) else []


def retry_delay(details: Iterable[Mapping[str, Any]]) -> float | None:
    """Seconds to wait, by the first RetryInfo among Google's details: "7s", "0.5s"."""
    for detail in details:
        said = detail.get("retryDelay")
        found = _SECONDS.fullmatch(said) if isinstance(said, str) and detail.get("@type") == RETRY_INFO else None
        if found:
            return min(float(found[1]), LONGEST_WAIT)
    return None


def is_of_a_day(details: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a QuotaFailure among Google's details is of a day's allowance."""
    for detail in details:
        found = detail.get("violations") if detail.get("@type") == _EXCEEDED else None
        ids = [one.get("quotaId") for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        if any(isinstance(one, str) and _A_DAYS in one for one in ids):
            return True
    return False


_SHOULD_RETRY: Final = {"true": True, "false": False}


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """`x-should-retry`, which OpenAI and Anthropic send and their clients heed before any status (openai-python and
    anthropic-sdk-python, `_base_client.py`); None where nothing is said. `headers` have lower-case names."""
    return _SHOULD_RETRY.get(headers.get("x-should-retry", "").strip())
