"""An error keeps its meaning from the provider's answer to the client's."""

from __future__ import annotations

import json

import pytest

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.dialects.anthropic_messages import ANTHROPIC_MESSAGES

from .support import recordings


def read(status: int, body: bytes | str | dict[str, object], **headers: str) -> Failure:
    data = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
    return ANTHROPIC_MESSAGES.read_failure(status, {k.replace("_", "-"): v for k, v in headers.items()}, data)


def error(kind: str, message: str = "Said so.") -> dict[str, object]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


TYPES = [
    (400, "invalid_request_error", FailureKind.INVALID_REQUEST, Fault.CLIENT),
    (401, "authentication_error", FailureKind.AUTHENTICATION, Fault.GATEWAY),
    (402, "billing_error", FailureKind.QUOTA, Fault.GATEWAY),
    (403, "permission_error", FailureKind.PERMISSION, Fault.GATEWAY),
    (404, "not_found_error", FailureKind.NOT_FOUND, Fault.GATEWAY),
    (413, "request_too_large", FailureKind.TOO_LARGE, Fault.CLIENT),
    (429, "rate_limit_error", FailureKind.RATE_LIMITED, Fault.PROVIDER),
    (500, "api_error", FailureKind.PROVIDER_ERROR, Fault.PROVIDER),
    (504, "timeout_error", FailureKind.TIMED_OUT, Fault.PROVIDER),
    (529, "overloaded_error", FailureKind.OVERLOADED, Fault.PROVIDER),
]


@pytest.mark.parametrize(("status", "word", "kind", "fault"), TYPES)
def test_every_documented_error_is_understood_and_said_again(
    status: int, word: str, kind: FailureKind, fault: Fault
) -> None:
    failure = read(status, error(word))
    assert (failure.kind, failure.fault, failure.status, failure.message) == (kind, fault, status, "Said so.")
    assert (failure.type, failure.provider_status) == (word, status)
    assert json.loads(ANTHROPIC_MESSAGES.write_failure(failure)) == {
        "type": "error",
        "error": {"type": word, "message": "Said so."},
    }


@pytest.mark.parametrize(("status", "word", "kind", "fault"), TYPES)
def test_the_status_decides_where_no_word_is_known(status: int, word: str, kind: FailureKind, fault: Fault) -> None:
    failure = read(status, "<html>Bad Gateway</html>")
    assert (failure.kind, failure.fault, failure.status) == (kind, fault, status)
    assert "html" not in failure.message
    assert str(status) in failure.message


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("prompt is too long: 215000 tokens > 200000 maximum", FailureKind.CONTEXT_WINDOW),
        ("input length and `max_tokens` exceed context limit: 1 + 2 > 2", FailureKind.CONTEXT_WINDOW),
        ("Output blocked by content filtering policy", FailureKind.CONTENT_POLICY),
        ("max_tokens: field required", FailureKind.INVALID_REQUEST),
    ],
)
def test_an_invalid_request_is_told_apart_by_its_message(message: str, kind: FailureKind) -> None:
    failure = read(400, error("invalid_request_error", message))
    assert failure.kind is kind
    assert json.loads(ANTHROPIC_MESSAGES.write_failure(failure))["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("status", "word"), [(400, "invalid_request_error"), (429, "rate_limit_error"), (500, "api_error")]
)
def test_an_account_that_is_spent_is_told_apart_under_any_word(status: int, word: str) -> None:
    failure = read(status, error(word, "insufficient balance (1008)"))
    assert (failure.kind, failure.fault, failure.status) == (FailureKind.QUOTA, Fault.GATEWAY, status)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "plain"}}, "plain"),
        ({"error": "a text"}, "a text"),
        ({"message": "top"}, "top"),
        ('[{"error":{"code":400,"message":"wrapped","status":"INVALID_ARGUMENT"}}]', "wrapped"),
    ],
)
def test_the_errors_of_imitators_are_read_too(body: str | dict[str, object], message: str) -> None:
    assert read(400, body).message == message


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_has_a_word_here(kind: FailureKind) -> None:
    failure = Failure(kind, "So.", Fault.GATEWAY, 500)
    assert json.loads(ANTHROPIC_MESSAGES.write_failure(failure))["error"]["type"] in {word for _, word, _, _ in TYPES}


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"error":{"type":1,"message":2}}']
)
def test_no_body_makes_it_raise(body: bytes) -> None:
    assert read(500, body).kind is FailureKind.PROVIDER_ERROR


def test_recorded_errors_are_understood() -> None:
    found = {one.status: read(one.status, one.body).kind for one in recordings() if one.status >= 400}
    if not found:
        pytest.skip("../shared/wire is not beside this checkout")
    assert found == {404: FailureKind.NOT_FOUND, 401: FailureKind.AUTHENTICATION}
