"""Errors of this dialect: words to kinds, whose fault, and no secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from counterfoil.core.error import FailureKind, Fault
from counterfoil.dialects.openai_responses.failure import frame_failure, read_failure
from tests import wire


def failed(**error: Any) -> bytes:
    return json.dumps({"error": error}).encode()


@pytest.mark.parametrize(
    ("code", "kind", "fault", "status"),
    [
        ("server_error", FailureKind.PROVIDER_ERROR, Fault.PROVIDER, 502),
        ("rate_limit_exceeded", FailureKind.RATE_LIMITED, Fault.PROVIDER, 429),
        ("insufficient_quota", FailureKind.QUOTA, Fault.GATEWAY, 429),
        ("context_length_exceeded", FailureKind.CONTEXT_WINDOW, Fault.CLIENT, 400),
        ("vector_store_timeout", FailureKind.TIMED_OUT, Fault.PROVIDER, 504),
        ("bio_policy", FailureKind.CONTENT_POLICY, Fault.CLIENT, 400),
        ("image_content_policy_violation", FailureKind.CONTENT_POLICY, Fault.CLIENT, 400),
        ("invalid_prompt", FailureKind.INVALID_REQUEST, Fault.CLIENT, 400),
        ("image_too_large", FailureKind.INVALID_REQUEST, Fault.CLIENT, 400),
        ("made_up", FailureKind.PROVIDER_ERROR, Fault.PROVIDER, 502),
    ],
)
def test_the_word_inside_a_stream_gives_kind_fault_and_status(
    code: str, kind: FailureKind, fault: Fault, status: int
) -> None:
    found = frame_failure(failed(code=code, message="It went wrong."))
    assert (found.kind, found.fault, found.status, found.code) == (kind, fault, status, code)
    assert found.message == "It went wrong."


def test_both_shapes_of_an_error_event_say_the_same() -> None:
    flat = json.dumps({"type": "error", "code": "server_error", "message": "Broke.", "param": None}).encode()
    nested = json.dumps({"type": "error", "error": {"code": "server_error", "message": "Broke."}}).encode()
    for said in (frame_failure(flat), frame_failure(nested)):
        assert (said.kind, said.message, said.code) == (FailureKind.PROVIDER_ERROR, "Broke.", "server_error")


def test_a_message_may_say_more_exactly_what_was_wrong() -> None:
    found = frame_failure(failed(code="invalid_prompt", message="It was flagged by our content policy."))
    assert found.kind is FailureKind.CONTENT_POLICY


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error":null}', b'"sk-proj-abc123def456"'])
def test_a_body_that_is_no_error_is_not_quoted(body: bytes) -> None:
    found = read_failure(500, {}, body)
    assert found.kind is FailureKind.PROVIDER_ERROR
    assert "sk-proj" not in found.message


@pytest.mark.parametrize("name", wire.params("openai.responses/"))
def test_recorded_errors_have_their_kind(name: str) -> None:
    recording = wire.read(name)
    status = recording.response.status
    if status < 400:
        pytest.skip("a reply")
    found = read_failure(status, {}, recording.response_body)
    kinds = {400: FailureKind.INVALID_REQUEST, 401: FailureKind.AUTHENTICATION}
    assert (found.kind, found.status, found.provider_status) == (kinds[status], status, status)
    assert found.message
