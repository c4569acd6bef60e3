"""What all dialects do alike with a provider's error: no secret is told, whoever made it, and a wait is heard.

A host that speaks one dialect passes on what the one behind it said, so each form of a secret is tried in every
dialect, in an error answer and in an error frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from counterfoil.core.error import Failure
from counterfoil.core.event import ReplyFailed
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.failure import LONGEST_WAIT, MESSAGE_LIMIT, retry_after, told
from counterfoil.dialects.registry import DIALECTS
from counterfoil.framing.frame import Frame

__all__: list[str] = []

WHOLE: Final = frozenset(name for name in DIALECTS if name.endswith((".count", ".embed", ".rerank", "embeddings")))


def error(message: str) -> dict[str, Any]:
    """An error in the shapes of most dialects at once."""
    return {"type": "error", "error": {"type": "api_error", "message": message}, "message": message}


FRAMES: Final[Mapping[str, Callable[[str], tuple[str, dict[str, Any]]]]] = {
    "bedrock_converse": lambda message: ("exception:internalServerException", {"message": message}),
    "bedrock_invoke": lambda message: ("exception:internalServerException", {"message": message}),
    "cohere": lambda message: ("", {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": message}}),
    "cohere_v1": lambda message: ("", {"message": message}),
    "gemini_interactions": lambda message: ("", {"event_type": "error", "error": {"message": message}}),
    "ollama": lambda message: ("", {"error": message}),
    "ollama.generate": lambda message: ("", {"error": message}),
    "voyage.rerank": lambda message: ("", {"detail": message}),
}
"""The name and the content of an error frame, where it is not as most have it."""


def answered(name: str, message: str) -> Failure:
    """An error answer, read by the dialect with this name."""
    return DIALECTS[name].read_failure(400, {}, json.dumps(error(message)).encode())


def heard(name: str, message: str) -> Failure:
    """An error in a reply that had begun, or in a body that came with 200."""
    event, said = FRAMES[name](message) if name in FRAMES else ("error", error(message))
    decoder = DIALECTS[name].decoder(name not in WHOLE, 1, Quirks())
    events = [*decoder.feed(Frame(json.dumps(said).encode(), event)), *decoder.close()]
    failures = [event.failure for event in events if isinstance(event, ReplyFailed)]
    assert len(failures) == 1, "one error is one failure"
    return failures[0]


def readings(name: str, message: str) -> list[Failure]:
    """The failure as each way of reading it has it. Bedrock's count knows no error under 200."""
    return [answered(name, message), *([] if name == "bedrock_converse.count" else [heard(name, message)])]


SECRETS: Final[Mapping[str, str]] = {
    "OpenAI": "sk-proj-AbCdEf0123456789",
    "OpenAI, starred": "sk-ab****************wxyz",
    "Anthropic": "sk-ant-api03-AbCdEf",
    "without a digit": "sk-AbCdEfGhIjKlMnOpQrStUv",
    "OpenRouter": "sk-or-v1-0123456789abcdef",
    "Cohere, starred": "****Ab3d",
    "DeepSeek, starred": "****-key",
    "LiteLLM, shortened": "sk-...Ab1d",
    "Groq": "gsk_AbCdEf0123456789",
    "xAI": "xai-AbCdEf0123456789",
    "Hugging Face": "hf_AbCdEfGhIj0123456789",
    "Perplexity": "pplx-0123456789abcdef",
    "NVIDIA": "nvapi-AbCdEf0123456789",
    "Cerebras": "csk-AbCdEf0123456789",
    "Fireworks": "fw_3ZAbCdEfGhIj",
    "Together": "tgp_v1_AbCdEf0123456789",
    "Voyage": "pa-AbCdEf0123456789",
    "Vercel": "vck_AbCdEf0123456789",
    "Google": "AIzaSyAbCdEf0123456789AbCdEf",
    "Google, all letters": "AIza" + "Sy" * 17,
    "Google, express mode": "AQ.Ab8RN6AbCdEfGhIjKlMnOpQr",
    "Google, a token": "ya29." + "a0" * 20,
    "Google, an OAuth client": "GOCSPX-AbCdEfGhIjKl",
    "AWS": "AKIAIOSFODNN7EXAMPLE",
    "AWS, lent": "ASIAIOSFODNN7EXAMPLE",
    "Bedrock": "ABSKQmVkcm9ja0FQSUtleQ==",
    "Bedrock, lent": "bedrock-api-key-YmVkcm9jaw==",
    "Entra, a client's": "abc8Q~AbCdEfGhIjKlMnOpQrStUvWxYz.-_~01",
    "Databricks": "dapi0123456789abcdef0123456789abcdef",
    "GitHub": "ghp_AbCdEfGhIjKlMnOpQrStUvWx0123456789",
    "GitHub, fine-grained": "github_pat_11AbCdEfGhIjKlMnOpQrSt_UvWx",
    "a JSON web token": "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJvcGVyYXRvciJ9.AbCd-EfGh_IjKl",
}
"""Secrets known by their own form."""

NAMED: Final[Mapping[str, tuple[str, str]]] = {
    "a bearer": ("Authorization: Bearer {}", "tideharbourlantern"),
    "a bearer of letters": ("The header Bearer {} is not known", "harbourlight"),
    "a bearer, as AWS quotes it": ("requires 'Credential' parameter. Authorization=Bearer {}", "q7harbour"),
    "a basic authorization": ("authorization: Basic {}", "aGFyYm91cjpsYW50ZXJu"),
    "without a scheme": ("Authorization: {}", "0123456789abcdef0123456789abcdef"),
    "in JSON": ('{{"Authorization": "Bearer {}", "x-api-key": "-"}}', "harbour7lantern"),
    "a query": ("POST https://host/v1/models?key={}&alt=sse failed", "Harbour7Lantern"),
    "a signed address": ("https://host/blob?sv=2026&sig={}", "aB3%2FcD4%2BeF5%3D"),
    "Azure's": ("api-key: {}", "0123456789abcdef0123456789abcdef"),
    "Anthropic's header": ("x-api-key: {}", "harbour7lantern"),
    "Google's header": ("x-goog-api-key={}", "harbour7lantern"),
    "a subscription": ("Ocp-Apim-Subscription-Key: {}", "0123456789abcdef0123456789abcdef"),
    "a member": ('"api_key": "{}"', "AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEf"),
    "a sentence": ("Incorrect API key provided: {}", "a1b2c3d4e5f6"),
    "LiteLLM's sentence": ("Invalid proxy server token passed. Received API Key = {}, Key Hash", "harbour-7-lantern"),
    "an access token": ("access_token={}", "harbour7lantern.tide"),
    "a client's secret": ("client_secret={}&grant_type=x", "harbour7lantern~tide"),
    "a password": ("password: {}", "harbour7lantern"),
    "what AWS quotes": ("does not match.\nx-amz-security-token:{}\n\nhost;x-amz-date", "IQoJ/hush+hush=="),
    "what AWS quotes of a credential": ("Credential={}, SignedHeaders=host", "ASIAHUSHHUSH/20260101/us-east-1"),
    "a signature": ("SignedHeaders=host, Signature={}", "0123456789abcdef0123456789abcdef"),
}
"""Secrets known by what stands before them: a text, and what must not be told of it."""


@pytest.mark.parametrize("form", SECRETS)
@pytest.mark.parametrize("name", DIALECTS)
def test_no_secret_is_told_in_any_dialect(name: str, form: str) -> None:
    secret = SECRETS[form]
    for failure in readings(name, f"The key {secret} is wrong."):
        assert failure.message == "The key [redacted] is wrong."


@pytest.mark.parametrize("form", NAMED)
@pytest.mark.parametrize("name", DIALECTS)
def test_what_stands_where_a_secret_stands_is_not_told_in_any_dialect(name: str, form: str) -> None:
    text, secret = NAMED[form]
    before, _, after = text.format("|").partition("|")
    for failure in readings(name, text.format(secret)):
        assert failure.message == f"{before}[redacted]{after}"


@pytest.mark.parametrize(
    "message",
    [
        "The task-force is at the key-stone.",
        "Use sk as a language code.",
        "a * b * c",
        "API key: required",
        "Invalid API key provided: none was sent.",
        "Missing Bearer authentication, see the documentation.",
        "Bearer credentials are required",
        "Authorization: header is missing",
        "This model's maximum context length is 8192 tokens. However, you requested 10000000 tokens.",
        "max_tokens=200000 is more than this model's limit",
        "Unknown parameter: 'messages[0].key'.",
        "The model gpt-4.1-mini-2025-04-14 does not exist or you do not have access to it.",
        "The model xai-grok-4-fast-reasoning is not hosted here; pplx-embed-v1-4b is.",
        "hf-internal-testing/tiny-random-gpt2 is not a chat model",
        "Request id 0123456789abcdef0123456789abcdef failed",
        "Expected token: 200000, found: 12345678",
        "Rate limit reached for claude-sonnet-4-5-20250929 in organization org-1",
    ],
)
@pytest.mark.parametrize("status", [400, None])
def test_plain_words_are_not_taken_for_secrets(message: str, status: int | None) -> None:
    assert told(message, status) == message


@pytest.mark.parametrize("name", DIALECTS)
def test_the_words_beside_a_message_tell_no_secret_and_are_short(name: str) -> None:
    secret = "sk-proj-AbCdEf0123456789"
    words = dict.fromkeys(("code", "type", "status", "param", "error_type", "__type"), f"{secret} " + "x" * 5000)
    failure = DIALECTS[name].read_failure(400, {}, json.dumps({**words, "error": words}).encode())
    for word in (failure.code, failure.type, failure.param):
        assert word is None or (secret not in word and len(word) <= 200)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_long_message_is_cut(name: str) -> None:
    assert len(answered(name, "ab " * 50_000).message) == MESSAGE_LIMIT


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize(
    "body", [b"", b"<html>secret page</html>", b"[]", b"{}", b"7", b'{"message": 7}', b"\xff", b"[" * 100_000]
)
def test_a_body_that_is_no_error_is_not_quoted(name: str, body: bytes) -> None:
    failure = DIALECTS[name].read_failure(502, {}, body)
    assert failure.message == "The provider answered HTTP 502 without a readable message."


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "0", "retry-after": "1"}, 1.0),
        ({"retry-after": "0"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "9999999"}, LONGEST_WAIT),
        ({"x-ratelimit-reset-requests": "12ms"}, None),
        ({}, None),
    ],
)
def test_when_to_come_back_is_read_in_seconds(headers: dict[str, str], wait: float | None) -> None:
    assert retry_after(headers) == wait


@pytest.mark.parametrize("name", DIALECTS)
def test_when_to_come_back_is_heard_in_every_dialect(name: str) -> None:
    body = json.dumps(error("Slow down.")).encode()
    assert DIALECTS[name].read_failure(429, {"retry-after-ms": "1500", "retry-after": "9"}, body).retry_after == 1.5
