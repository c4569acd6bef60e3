"""Google's errors: whose fault, what kind, how long to wait, and nothing secret."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.genai import errors

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.dialects.gemini.failure import frame_failure, read_failure, write_failure


def body(status: str, message: str = "No.", code: int = 400, *details: dict[str, Any]) -> bytes:
    error = {"code": code, "message": message, "status": status, "details": list(details)}
    return json.dumps({"error": error}).encode()


@pytest.mark.parametrize(
    ("http", "word", "kind", "fault"),
    [
        (400, "INVALID_ARGUMENT", FailureKind.INVALID_REQUEST, Fault.CLIENT),
        (401, "UNAUTHENTICATED", FailureKind.AUTHENTICATION, Fault.GATEWAY),
        (403, "PERMISSION_DENIED", FailureKind.PERMISSION, Fault.GATEWAY),
        (404, "NOT_FOUND", FailureKind.NOT_FOUND, Fault.GATEWAY),
        (429, "RESOURCE_EXHAUSTED", FailureKind.RATE_LIMITED, Fault.PROVIDER),
        (500, "INTERNAL", FailureKind.PROVIDER_ERROR, Fault.PROVIDER),
        (503, "UNAVAILABLE", FailureKind.OVERLOADED, Fault.PROVIDER),
        (504, "DEADLINE_EXCEEDED", FailureKind.TIMED_OUT, Fault.PROVIDER),
    ],
)
def test_the_status_word_decides(http: int, word: str, kind: FailureKind, fault: Fault) -> None:
    said = body(word, code=http)
    found = read_failure(http, {}, said)
    assert (found.kind, found.fault, found.status, found.type, found.message) == (kind, fault, http, word, "No.")
    assert read_failure(http, {}, b"[" + said + b"]") == found
    assert frame_failure(said).kind is kind
    assert frame_failure(said).status == http


@pytest.mark.parametrize(
    ("http", "kind"),
    [(413, FailureKind.TOO_LARGE), (418, FailureKind.INVALID_REQUEST), (599, FailureKind.PROVIDER_ERROR)],
)
@pytest.mark.parametrize("text", [b"<html>secret page</html>", b"", b"[]", b'{"error":7}', b"{"])
def test_a_body_that_is_no_error_is_not_quoted(http: int, kind: FailureKind, text: bytes) -> None:
    found = read_failure(http, {}, text)
    assert (found.kind, found.status) == (kind, http)
    assert "secret" not in found.message


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (
            "The input token count (2000001) exceeds the maximum number of tokens allowed (1048576).",
            FailureKind.CONTEXT_WINDOW,
        ),
        (
            "Unable to submit request because the input token count is 135538 but model only supports up to 32768.",
            FailureKind.CONTEXT_WINDOW,
        ),
        ("API key not valid. Please pass a valid API key.", FailureKind.AUTHENTICATION),
        ("Request payload size exceeds the limit: 20971520 bytes.", FailureKind.TOO_LARGE),
        ("The prompt was blocked due to our safety policy", FailureKind.CONTENT_POLICY),
        ('Unknown name "tolls": Cannot find field.', FailureKind.INVALID_REQUEST),
    ],
)
def test_a_message_makes_an_invalid_argument_narrower(message: str, kind: FailureKind) -> None:
    assert read_failure(400, {}, body("INVALID_ARGUMENT", message)).kind is kind


def test_a_wrong_key_is_told_by_its_reason() -> None:
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
    }
    found = read_failure(400, {}, body("INVALID_ARGUMENT", "Bad.", 400, info))
    assert (found.kind, found.fault, found.code) == (FailureKind.AUTHENTICATION, Fault.GATEWAY, "API_KEY_INVALID")


@pytest.mark.parametrize(
    ("delay", "wanted"), [("7s", 7.0), ("0.5s", 0.5), ("999999999s", 86_400.0), ("soon", None), (7, None)]
)
def test_how_long_to_wait_is_in_the_details(delay: object, wanted: float | None) -> None:
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    other = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []}
    assert read_failure(429, {}, body("RESOURCE_EXHAUSTED", "Slow.", 429, other, retry)).retry_after == wanted


def test_an_error_of_ours_is_googles_to_its_client() -> None:
    failure = Failure(FailureKind.RATE_LIMITED, "Slow down.", Fault.PROVIDER, 429, retry_after=2.5)
    said = json.loads(write_failure(failure))
    assert said == {
        "error": {
            "code": 429,
            "message": "Slow down.",
            "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2.5s"}],
        }
    }
    raised = errors.ClientError(429, said)
    assert (raised.code, raised.status, raised.message) == (429, "RESOURCE_EXHAUSTED", "Slow down.")


@pytest.mark.parametrize("kind", list(FailureKind))
def test_every_kind_has_a_word_that_is_read_back_as_one(kind: FailureKind) -> None:
    written = write_failure(Failure(kind, "It failed.", Fault.PROVIDER, 500))
    found = frame_failure(written)
    if kind is FailureKind.CONTEXT_WINDOW:  # told in the words clients look for, tests/dialects/test_context_window.py
        assert found.message.endswith("(It failed.)")
    else:
        assert found.message == "It failed."
    assert found.type is not None
    assert json.loads(write_failure(found))["error"]["status"] == found.type


@pytest.mark.parametrize(
    ("status", "word"), [(500, "INTERNAL"), (502, "INTERNAL"), (503, "UNAVAILABLE"), (504, "DEADLINE_EXCEEDED")]
)
def test_a_providers_error_is_told_with_the_word_of_its_status(status: int, word: str) -> None:
    """Another dialect's 503 (Anthropic's `api_error`) is UNAVAILABLE to Google's clients, which then try again."""
    failure = Failure(FailureKind.PROVIDER_ERROR, "It failed.", Fault.PROVIDER, status, type="api_error")
    assert json.loads(write_failure(failure))["error"]["status"] == word
