"""Each failure is raised under the name people catch, with its status, its provider and whose fault it was."""

from __future__ import annotations

import copy
import pickle
import socket
from typing import Any

import pytest

import counterfoil
from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault
from counterfoil.ledger.entry import Exit
from counterfoil.sdk.errors import error_of
from counterfoil.testing import (
    Answer,
    Playback,
    bad_json,
    chat_reply,
    empty_answer,
    error_answer,
    html_answer,
    no_answer,
    redirect,
    silent_answer,
)
from tests.sdk.support import CHATTING, WAYS, Way, ask, provider_in_environment

__all__: list[str] = []

each_way = pytest.mark.parametrize("way", WAYS, ids=str)

ANSWERS: list[tuple[str, Answer, type[counterfoil.Error], int, str, Exit]] = [
    ("bad request", error_answer(400), counterfoil.BadRequestError, 400, "client", Exit.REJECTED),
    (
        "context window",
        error_answer(400, code="context_length_exceeded"),
        counterfoil.ContextWindowExceededError,
        400,
        "client",
        Exit.REJECTED,
    ),
    (
        "content policy",
        error_answer(400, code="content_policy_violation"),
        counterfoil.ContentPolicyViolationError,
        400,
        "client",
        Exit.REJECTED,
    ),
    ("authentication", error_answer(401), counterfoil.AuthenticationError, 401, "gateway", Exit.REJECTED),
    ("permission", error_answer(403), counterfoil.PermissionDeniedError, 403, "gateway", Exit.REJECTED),
    ("not found", error_answer(404), counterfoil.NotFoundError, 404, "gateway", Exit.REJECTED),
    ("conflict", error_answer(409), counterfoil.ConflictError, 409, "client", Exit.REJECTED),
    ("too large", error_answer(413), counterfoil.RequestTooLargeError, 413, "client", Exit.REJECTED),
    ("unprocessable", error_answer(422), counterfoil.UnprocessableEntityError, 422, "client", Exit.REJECTED),
    ("rate limit", error_answer(429), counterfoil.RateLimitError, 429, "provider", Exit.REJECTED),
    ("server error", error_answer(500), counterfoil.InternalServerError, 500, "provider", Exit.REJECTED),
    ("overloaded", error_answer(503), counterfoil.ServiceUnavailableError, 503, "provider", Exit.REJECTED),
    ("gateway time-out", error_answer(504), counterfoil.Timeout, 504, "provider", Exit.REJECTED),
    ("a web page", html_answer(), counterfoil.BadReplyError, 502, "provider", Exit.FAILED),
    ("a redirect", redirect("http://127.0.0.1:9/"), counterfoil.BadReplyError, 502, "provider", Exit.REJECTED),
    ("half of JSON", bad_json(), counterfoil.BadReplyError, 502, "provider", Exit.FAILED),
    ("nothing", empty_answer(), counterfoil.BadReplyError, 502, "provider", Exit.TRUNCATED),
    ("hung up", no_answer(), counterfoil.APIConnectionError, 502, "network", Exit.LOST),
]


@each_way
@pytest.mark.parametrize(
    ("answer", "kind", "status", "fault", "exit_"), [one[1:] for one in ANSWERS], ids=[one[0] for one in ANSWERS]
)
def test_an_answer_is_raised_as_what_it_is(
    way: Way, answer: Answer, kind: type[counterfoil.Error], status: int, fault: str, exit_: Exit, provider: Playback
) -> None:
    provider.default = answer
    asked = ask(way, {"base_url": provider.base_url, "max_retries": 0})
    error = asked.error
    assert type(error) is kind
    assert error.status_code == status
    assert error.fault == fault
    assert error.model == "play-1"
    assert error.provider == error.llm_provider == "gateway"
    assert error.entry is not None
    assert error.entry.exit is exit_
    assert error.message == str(error) != ""
    assert len(provider.served) == 1


def test_an_error_says_what_the_provider_said(provider: Playback) -> None:
    provider.default = error_answer(
        429, "Slow down, please.", code="rate_limit_exceeded", param="messages", retry_after="3600"
    ).with_headers(x_request_id="req-77")
    error = ask(WAYS[0], {"base_url": provider.base_url}).error
    assert isinstance(error, counterfoil.RateLimitError)
    assert (error.message, error.code, error.param) == ("Slow down, please.", "rate_limit_exceeded", "messages")
    assert (error.retry_after, error.request_id, error.type) == (3600.0, "req-77", "rate_limit_error")
    assert len(provider.served) == 1, "an hour is not waited for"


@each_way
def test_a_provider_that_stays_silent_is_given_up_after_the_time_asked_for(way: Way, provider: Playback) -> None:
    provider.default = silent_answer()
    asked = ask(way, {"base_url": provider.base_url}, timeout=0.2)
    assert isinstance(asked.error, counterfoil.Timeout)
    assert isinstance(asked.error, counterfoil.APIConnectionError)
    assert asked.error.entry is not None
    assert asked.error.entry.exit is Exit.TIMED_OUT


@pytest.mark.parametrize("way", [way for way in WAYS if way.streamed], ids=str)
def test_a_stream_that_falls_silent_is_given_up_too(way: Way, provider: Playback) -> None:
    provider.default = chat_reply(text=("one ", "two ", "three ")).stall_at(3)
    asked = ask(way, {"base_url": provider.base_url, "timeout": 0.3})
    assert isinstance(asked.error, counterfoil.Timeout)
    assert asked.text == "one two "
    assert asked.entry is not None
    assert asked.entry.exit is Exit.TIMED_OUT


@each_way
def test_a_place_where_nobody_is_is_a_connection_error(way: Way) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        asked = ask(way, {"base_url": address, "max_retries": 0})
    assert type(asked.error) is counterfoil.APIConnectionError
    assert asked.error.entry is not None
    assert asked.error.entry.lines == (), "no model ran"


@each_way
def test_a_secret_that_is_nowhere_is_missed_before_anybody_is_asked(way: Way) -> None:
    asked = ask(way, {}, model="openai/gpt-4o-mini")
    error = asked.error
    assert isinstance(error, counterfoil.AuthenticationError)
    assert "OPENAI_API_KEY" in error.message
    assert (error.provider, error.fault, error.entry) == ("openai", "client", None)


def test_a_secret_never_shows_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with provider_in_environment(monkeypatch) as provider:
        provider.default = error_answer(401, "Incorrect API key provided: sk-play-000001.")
        error = ask(WAYS[0], {}, model="openai/gpt-4o-mini").error
    assert isinstance(error, counterfoil.AuthenticationError)
    assert "sk-play-000001" not in repr(error) + str(error) + repr(error.failure) + repr(error.entry)


def test_an_error_is_caught_by_every_name_above_it() -> None:
    above = {
        counterfoil.ContextWindowExceededError: (counterfoil.BadRequestError, counterfoil.APIStatusError),
        counterfoil.ContentPolicyViolationError: (counterfoil.BadRequestError,),
        counterfoil.UnsupportedParamsError: (counterfoil.BadRequestError,),
        counterfoil.RateLimitError: (counterfoil.APIStatusError, counterfoil.APIError, counterfoil.Error),
        counterfoil.Timeout: (counterfoil.APIConnectionError, counterfoil.APIError),
        counterfoil.ServiceUnavailableError: (counterfoil.InternalServerError,),
        counterfoil.ConfigurationError: (counterfoil.Error, CounterfoilError),
    }
    for kind, bases in above.items():
        assert all(issubclass(kind, base) for base in bases)


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_of_failure_has_its_class(kind: FailureKind) -> None:
    failure = Failure(kind, "It failed.", Fault.PROVIDER, 500)
    error = error_of(failure, model="m")
    assert isinstance(error, counterfoil.APIError)
    assert error.failure is failure


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_can_be_sent_to_another_process(again: Any, provider: Playback) -> None:
    provider.default = error_answer(404)
    error = ask(WAYS[0], {"base_url": provider.base_url}).error
    assert error is not None
    other = again(error)
    assert type(other) is type(error)
    assert (str(other), other.status_code, other.entry, other.model) == (str(error), 404, error.entry, "play-1")


@pytest.mark.parametrize("client", [counterfoil.Client, counterfoil.AsyncClient])
def test_a_client_that_cannot_be_is_refused_when_it_is_made(client: Any, tmp_path: Any) -> None:
    path = tmp_path / "nofile.yaml"
    with pytest.raises(counterfoil.ConfigurationError) as caught:
        client(path)
    assert caught.value.message == f"{path}: No such file or directory"
    with pytest.raises(counterfoil.ConfigurationError, match="this is no path"):
        client("a\0b")
    with pytest.raises(TypeError) as mistyped:
        client(bas_url="http://127.0.0.1:1/v1")
    assert str(mistyped.value) == f"{client.__name__}() has no argument 'bas_url'; did you mean 'base_url'?"
    with pytest.raises(TypeError, match="no argument 'zz'; known here: config, base_url, "):
        client(zz=1)


@pytest.mark.parametrize("address", ["127.0.0.1:4000/v1", "localhost:4000/v1", "ftp://example.com/v1"])
def test_an_address_that_lacks_its_beginning_says_so_first(address: str) -> None:
    error = ask(WAYS[0], {"base_url": address}).error
    assert isinstance(error, counterfoil.BadRequestError)
    assert error.message == "play-1: a base_url begins with http:// or https://"
    assert error.param == "base_url"


def test_a_configuration_that_cannot_be_read_is_said_with_all_that_is_wrong(tmp_path: Any) -> None:
    path = tmp_path / "counterfoil.yaml"
    path.write_text("models:\n  m:\n    - provider: nobody\n      model: x\nlimit: 3\n")
    with counterfoil.Client(path) as client, pytest.raises(counterfoil.ConfigurationError) as caught:
        client.chat.completions.create(**CHATTING)
    assert "no such provider" in str(caught.value)
    assert "no such key" in str(caught.value)
    assert f"{path}:5" in str(caught.value)
