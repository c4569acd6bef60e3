"""What went wrong, whose fault it was, and what nobody is told."""

from __future__ import annotations

import pytest

from counterfoil.core.error import FailureKind, Fault
from counterfoil.dialects.bedrock_converse.failure import frame_failure, read_failure

__all__: list[str] = []

CORAL = ":http://internal.amazon.com/coral/com.amazon.bedrock/"


@pytest.mark.parametrize(
    ("status", "name", "message", "kind", "fault"),
    [
        (400, "ValidationException", "The stop sequence is wrong.", FailureKind.INVALID_REQUEST, Fault.CLIENT),
        (
            400,
            "ValidationException",
            "Input is too long for requested model.",
            FailureKind.CONTEXT_WINDOW,
            Fault.CLIENT,
        ),
        (
            400,
            "ValidationException",
            "prompt is too long: 9 tokens > 8 maximum",
            FailureKind.CONTEXT_WINDOW,
            Fault.CLIENT,
        ),
        (
            400,
            "ValidationException",
            "The model returned these errors: Input Tokens Exceeded: Number of input tokens exceeds maximum length.",
            FailureKind.CONTEXT_WINDOW,
            Fault.CLIENT,
        ),
        (
            400,
            "ValidationException",
            "Invocation of model ID m with on-demand throughput isn\u2019t supported. Retry with an inference profile.",
            FailureKind.NOT_FOUND,
            Fault.GATEWAY,
        ),
        (
            400,
            "ValidationException",
            "Output blocked by content filtering policy",
            FailureKind.CONTENT_POLICY,
            Fault.CLIENT,
        ),
        (400, "ValidationException", "The provided model identifier is invalid.", FailureKind.NOT_FOUND, Fault.GATEWAY),
        (400, "ServiceQuotaExceededException", "Quota.", FailureKind.RATE_LIMITED, Fault.PROVIDER),
        (403, "AccessDeniedException", "No access to the model.", FailureKind.PERMISSION, Fault.GATEWAY),
        (403, "ExpiredTokenException", "The token expired.", FailureKind.AUTHENTICATION, Fault.GATEWAY),
        (403, "UnrecognizedClientException", "The token is invalid.", FailureKind.AUTHENTICATION, Fault.GATEWAY),
        (404, "ResourceNotFoundException", "No such model.", FailureKind.NOT_FOUND, Fault.GATEWAY),
        (408, "ModelTimeoutException", "Too slow.", FailureKind.TIMED_OUT, Fault.PROVIDER),
        (424, "ModelErrorException", "The model failed.", FailureKind.PROVIDER_ERROR, Fault.PROVIDER),
        (429, "ThrottlingException", "Too many tokens, please wait.", FailureKind.RATE_LIMITED, Fault.PROVIDER),
        (429, "ModelNotReadyException", "Not ready.", FailureKind.OVERLOADED, Fault.PROVIDER),
        (500, "InternalServerException", "Oh.", FailureKind.PROVIDER_ERROR, Fault.PROVIDER),
        (503, "ServiceUnavailableException", "Busy.", FailureKind.OVERLOADED, Fault.PROVIDER),
    ],
)
def test_an_answers_exception_says_what_happened(
    status: int, name: str, message: str, kind: FailureKind, fault: Fault
) -> None:
    body = b'{"message":"%s"}' % message.encode()
    failure = read_failure(status, {"x-amzn-errortype": name + CORAL}, body)
    assert (failure.kind, failure.fault, failure.message, failure.type) == (kind, fault, message, name)
    assert failure.status == failure.provider_status == status


def test_the_name_may_stand_in_the_body() -> None:
    body = b'{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"No."}'
    failure = read_failure(403, {}, body)
    assert (failure.kind, failure.type, failure.message) == (FailureKind.PERMISSION, "AccessDeniedException", "No.")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailureKind.INVALID_REQUEST),
        (401, FailureKind.AUTHENTICATION),
        (403, FailureKind.PERMISSION),
        (404, FailureKind.NOT_FOUND),
        (413, FailureKind.TOO_LARGE),
        (429, FailureKind.RATE_LIMITED),
        (500, FailureKind.PROVIDER_ERROR),
        (503, FailureKind.OVERLOADED),
    ],
)
def test_without_a_name_the_status_says_it_and_a_strange_body_is_not_quoted(status: int, kind: FailureKind) -> None:
    failure = read_failure(status, {}, b"<html>secret page</html>")
    assert failure.kind is kind
    assert "secret page" not in failure.message


def test_an_error_about_a_signature_does_not_tell_what_was_signed() -> None:
    body = (
        b'{"message":"The request signature we calculated does not match the signature you provided.\\n\\n'
        b"The Canonical String for this request should have been\\n'POST\\nx-amz-security-token:TOPSECRET'\"}"
    )
    failure = read_failure(403, {"x-amzn-errortype": "InvalidSignatureException"}, body)
    assert failure.message.endswith("you provided.")
    assert "TOPSECRET" not in failure.message
    for headers in ({}, {"x-amzn-errortype": "SignatureDoesNotMatch"}):  # a name we do not know quotes all the same
        assert "TOPSECRET" not in read_failure(403, headers, body).message


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [
        ("throttlingException", FailureKind.RATE_LIMITED, 429),
        ("modelStreamErrorException", FailureKind.PROVIDER_ERROR, 424),
        ("modelTimeoutException", FailureKind.TIMED_OUT, 408),
        ("internalServerException", FailureKind.PROVIDER_ERROR, 500),
        ("serviceUnavailableException", FailureKind.OVERLOADED, 503),
        ("validationException", FailureKind.INVALID_REQUEST, 400),
        ("exceptionOfTomorrow", FailureKind.PROVIDER_ERROR, 500),
    ],
)
def test_an_exception_in_a_stream_has_the_status_its_name_has(name: str, kind: FailureKind, status: int) -> None:
    failure = frame_failure(name, b'{"message":"It stopped."}')
    assert (failure.kind, failure.status, failure.message) == (kind, status, "It stopped.")
    assert failure.provider_status is None


def test_a_models_own_status_in_a_stream_says_more() -> None:
    said = b'{"message":"x","originalStatusCode":529,"originalMessage":"Overloaded"}'
    assert frame_failure("modelStreamErrorException", said).kind is FailureKind.OVERLOADED


def test_an_unmodelled_error_is_told_in_its_own_words() -> None:
    assert frame_failure("InternalError", b"It broke.").message == "It broke."
    assert frame_failure("InternalError", b"").message == "The provider answered an error without a readable message."
