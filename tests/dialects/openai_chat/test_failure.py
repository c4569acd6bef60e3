"""Promise: an error says what went wrong, whose fault it was and when to come back, and betrays nothing."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.dialects.failure import RETRY_INFO
from counterfoil.dialects.openai_chat.failure import frame_failure, read_failure, write_failure
from tests.dialects.openai_chat.recordings import recordings


def failure(status: int, error: Any = None, headers: dict[str, str] | None = None) -> Failure:
    body = error if isinstance(error, bytes) else msgspec.json.encode({"error": error})
    return read_failure(status, headers or {}, body)


@pytest.mark.parametrize(
    ("status", "kind", "fault"),
    [
        (400, FailureKind.INVALID_REQUEST, Fault.CLIENT),
        (401, FailureKind.AUTHENTICATION, Fault.GATEWAY),
        (402, FailureKind.QUOTA, Fault.GATEWAY),
        (403, FailureKind.PERMISSION, Fault.GATEWAY),
        (404, FailureKind.NOT_FOUND, Fault.GATEWAY),
        (408, FailureKind.TIMED_OUT, Fault.PROVIDER),
        (413, FailureKind.TOO_LARGE, Fault.CLIENT),
        (418, FailureKind.INVALID_REQUEST, Fault.CLIENT),
        (422, FailureKind.INVALID_REQUEST, Fault.CLIENT),
        (429, FailureKind.RATE_LIMITED, Fault.PROVIDER),
        (500, FailureKind.PROVIDER_ERROR, Fault.PROVIDER),
        (502, FailureKind.PROVIDER_ERROR, Fault.PROVIDER),
        (503, FailureKind.OVERLOADED, Fault.PROVIDER),
        (504, FailureKind.TIMED_OUT, Fault.PROVIDER),
        (529, FailureKind.OVERLOADED, Fault.PROVIDER),
    ],
)
@pytest.mark.parametrize("body", [b'{"error":{"message":"It failed."}}', b"<html>It failed.</html>", b""])
def test_a_status_alone_says_what_happened(status: int, kind: FailureKind, fault: Fault, body: bytes) -> None:
    found = failure(status, body)
    assert (found.kind, found.fault, found.status, found.provider_status) == (kind, fault, status, status)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"code": "context_length_exceeded", "message": "x"}, FailureKind.CONTEXT_WINDOW),
        (400, {"type": "exceed_context_size_error", "code": 400, "message": "x"}, FailureKind.CONTEXT_WINDOW),
        (400, {"code": 400, "message": "This endpoint's maximum context length is 10."}, FailureKind.CONTEXT_WINDOW),
        (400, {"message": "Prompt contains 9 tokens, which exceeds the limit of 8 tokens"}, FailureKind.CONTEXT_WINDOW),
        (413, {"message": "The prompt is too long."}, FailureKind.CONTEXT_WINDOW),
        (400, {"code": "content_filter", "message": "x"}, FailureKind.CONTENT_POLICY),
        (400, {"message": "Stopped by our safety system."}, FailureKind.CONTENT_POLICY),
        (400, {"code": "invalid_api_key", "message": "x"}, FailureKind.AUTHENTICATION),
        (400, {"code": "model_not_found", "message": "x"}, FailureKind.NOT_FOUND),
        (404, {"code": "DeploymentNotFound", "message": "x"}, FailureKind.NOT_FOUND),
        (429, {"code": "insufficient_quota", "message": "x"}, FailureKind.QUOTA),
        (500, {"type": "api_error", "message": "insufficient balance (1008)"}, FailureKind.QUOTA),
        (500, {"type": "overloaded_error", "message": "x"}, FailureKind.OVERLOADED),
        (503, {"type": "unavailable_error", "code": 503, "message": "Loading model"}, FailureKind.OVERLOADED),
        (429, {"message": "Too many tokens a minute: maximum context length is no matter"}, FailureKind.RATE_LIMITED),
    ],
)
def test_words_say_more_than_the_status(status: int, error: dict[str, Any], kind: FailureKind) -> None:
    found = failure(status, error)
    assert found.kind is kind
    assert found.status == status


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"No berth."}}',
        b'{"error":"No berth."}',
        b'{"code":"Some code","error":"No berth."}',
        b'{"message":"No berth."}',
        b'{"object":"error","message":"No berth.","code":400}',
        b'{"detail":"No berth."}',
        b'{"detail":[{"loc":["body"],"msg":"No berth."}]}',
        b'{"object":"error","message":{"detail":[{"msg":"No berth."}]}}',
        b'[{"error":{"message":"No berth.","status":"INVALID_ARGUMENT"}}]',
        b'{"success":false,"errors":[{"message":"No berth.","code":7003}]}',
    ],
)
def test_the_providers_message_is_found_wherever_it_puts_it(body: bytes) -> None:
    assert failure(400, body).message == "No berth."


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(
    ("detail", "wait", "kind"),
    [
        ({"@type": RETRY_INFO, "retryDelay": "37s"}, 37.0, FailureKind.RATE_LIMITED),
        ({"@type": RETRY_INFO, "retryDelay": "0.5s"}, 0.5, FailureKind.RATE_LIMITED),
        ({"@type": RETRY_INFO, "retryDelay": "999999999s"}, 86_400.0, FailureKind.RATE_LIMITED),
        ({"@type": RETRY_INFO, "retryDelay": "soon"}, 4.0, FailureKind.RATE_LIMITED),
        ({"@type": "another", "retryDelay": "37s"}, 4.0, FailureKind.RATE_LIMITED),
        ({"retryDelay": 37}, 4.0, FailureKind.RATE_LIMITED),
        (
            {
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [{"quotaId": "RequestsPerDay-Free"}],
            },
            4.0,
            FailureKind.QUOTA,
        ),
    ],
)
def test_googles_retry_delay_says_when_to_come_back(
    listed: bool, detail: dict[str, Any], wait: float, kind: FailureKind
) -> None:
    error = {"code": 429, "message": "Slow.", "status": "RESOURCE_EXHAUSTED", "details": [7, detail]}
    body = msgspec.json.encode([{"error": error}] if listed else {"error": error})
    found = read_failure(429, {"retry-after": "4"}, body)
    assert (found.retry_after, found.kind, found.message) == (wait, kind, "Slow.")


@pytest.mark.parametrize(("status", "code", "kind"), [(422, 2013, "invalid_request"), (500, 1008, "quota")])
def test_a_base_resp_under_an_error_status_says_more_than_the_status(status: int, code: int, kind: str) -> None:
    found = failure(status, msgspec.json.encode({"base_resp": {"status_code": code, "status_msg": "It failed."}}))
    assert (found.kind, found.status, found.message) == (FailureKind(kind), status, "It failed.")


def test_code_type_and_param_are_carried_as_text() -> None:
    found = failure(400, {"message": "x", "code": 1214, "type": "invalid_request_error", "param": "messages[3]"})
    assert (found.code, found.type, found.param) == ("1214", "invalid_request_error", "messages[3]")


SECRET = "the harbour master's diary"


@pytest.mark.parametrize(
    "body",
    [
        f"<html><title>{SECRET}</title></html>".encode(),
        SECRET.encode(),
        f'{{"reply": "{SECRET}"}}'.encode(),
        f'["{SECRET}"]'.encode(),
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        b"[]",
        b'{"error":{}}',
        b'{"error":[]}',
    ],
)
def test_a_body_that_is_no_error_object_is_not_quoted(body: bytes) -> None:
    found = failure(502, body)
    assert SECRET not in found.message
    assert "502" in found.message


@pytest.mark.parametrize("status", [200, 204, 301, 302, 307])
def test_a_status_that_is_no_error_becomes_a_bad_gateway(status: int) -> None:
    found = failure(status, b"<html></html>")
    assert (found.kind, found.status, found.provider_status) == (FailureKind.BAD_REPLY, 502, status)


def test_an_error_frame_has_the_status_it_names_and_none_of_the_provider() -> None:
    found = frame_failure(b'{"error":{"message":"Slow down.","code":429}}')
    assert (found.kind, found.status, found.provider_status) == (FailureKind.RATE_LIMITED, 429, None)
    unnamed = frame_failure(b'{"error":{"message":"Boom."}}')
    assert (unnamed.kind, unnamed.status) == (FailureKind.PROVIDER_ERROR, 502)


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_is_written_as_an_error_object(kind: FailureKind) -> None:
    body = json.loads(write_failure(Failure(kind, "It failed.", Fault.PROVIDER, 500)))
    assert list(body) == ["error"]
    error = body["error"]
    assert list(error) == ["message", "type", "param", "code", "fault"]
    assert error["fault"] == "provider"
    if kind is FailureKind.CONTEXT_WINDOW:  # told in the words clients look for, tests/dialects/test_context_window.py
        assert error["message"].endswith("(It failed.)")
    else:
        assert error["message"] == "It failed."
    assert error["type"].endswith("_error") or kind is FailureKind.QUOTA  # OpenAI: insufficient_quota


def test_clients_find_the_code_they_look_for() -> None:
    long = Failure(FailureKind.CONTEXT_WINDOW, "x", Fault.CLIENT, 400, code="400")
    assert json.loads(write_failure(long))["error"]["code"] == "context_length_exceeded"
    own = Failure(FailureKind.INVALID_REQUEST, "x", Fault.CLIENT, 400, code="invalid_image_url", param="messages[0]")
    error = json.loads(write_failure(own))["error"]
    assert (error["code"], error["param"]) == ("invalid_image_url", "messages[0]")


def test_what_is_written_is_read_again_as_the_same_failure() -> None:
    for kind in (FailureKind.RATE_LIMITED, FailureKind.CONTEXT_WINDOW, FailureKind.NOT_FOUND, FailureKind.OVERLOADED):
        written = write_failure(Failure(kind, "It failed.", Fault.PROVIDER, 500))
        assert read_failure(500, {}, written).kind is kind


def test_every_recorded_error_is_told_with_its_status_and_its_message() -> None:
    seen = 0
    for one in recordings():
        if one.status < 400:
            continue
        found = read_failure(one.status, one.headers, one.body)
        said = json.loads(one.body)["error"]["message"]
        assert found.status == one.status
        assert found.message == said or "[redacted]" in found.message, one.id
        seen += 1
    assert seen > 8
