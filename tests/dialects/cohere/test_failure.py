"""Cohere's errors: what its numbers and words mean, and what a client of its rerank is told."""

from __future__ import annotations

import json

import pytest

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.dialects.cohere import COHERE, COHERE_RERANK

__all__: list[str] = []


@pytest.mark.parametrize(
    ("status", "body", "kind", "fault"),
    [
        (400, {"message": "invalid request: temperature"}, FailureKind.INVALID_REQUEST, Fault.CLIENT),
        (400, {"message": "too many tokens: limit 288000"}, FailureKind.CONTEXT_WINDOW, Fault.CLIENT),
        (401, {"message": "invalid api token"}, FailureKind.AUTHENTICATION, Fault.GATEWAY),
        (402, {"message": "the account has reached its limit"}, FailureKind.QUOTA, Fault.GATEWAY),
        (404, {"message": "model 'x' not found"}, FailureKind.NOT_FOUND, Fault.GATEWAY),
        (422, {"message": "unprocessable"}, FailureKind.INVALID_REQUEST, Fault.CLIENT),
        (429, {"message": "trial key"}, FailureKind.RATE_LIMITED, Fault.PROVIDER),
        (498, {"message": "deny-listed"}, FailureKind.CONTENT_POLICY, Fault.CLIENT),
        (499, {"message": "closed"}, FailureKind.TIMED_OUT, Fault.PROVIDER),
        (500, {"message": "internal"}, FailureKind.PROVIDER_ERROR, Fault.PROVIDER),
        (503, {"message": "busy"}, FailureKind.OVERLOADED, Fault.PROVIDER),
        (504, {"message": "slow"}, FailureKind.TIMED_OUT, Fault.PROVIDER),
        (422, {"detail": [{"msg": "texts must be a list"}]}, FailureKind.INVALID_REQUEST, Fault.CLIENT),
    ],
)
def test_every_status_has_its_kind(status: int, body: object, kind: FailureKind, fault: Fault) -> None:
    failure = COHERE.read_failure(status, {"retry-after": "3"}, json.dumps(body).encode())
    assert (failure.kind, failure.fault, failure.provider_status) == (kind, fault, status)
    assert failure.retry_after == 3
    assert failure.message in (body if isinstance(body, dict) else {}).get("message", "texts must be a list")


def test_the_word_of_an_error_is_its_code() -> None:
    body = b'{"error_type":"TOO_MANY_TOKENS","message":"too many tokens"}'
    assert COHERE.read_failure(400, {}, body).code == "TOO_MANY_TOKENS"


def test_a_rerank_client_is_told_in_its_own_words() -> None:
    failure = Failure(FailureKind.OVERLOADED, "Busy. Try again.", Fault.PROVIDER, 503)
    assert json.loads(COHERE_RERANK.write_failure(failure)) == {"message": "Busy. Try again.", "fault": "provider"}
