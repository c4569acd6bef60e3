"""Retries, fallbacks and crossings: each attempt its own entry, none after the client's first byte."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import pytest

from counterfoil.config import Retries
from counterfoil.dialects.dialect import ClientDialect
from counterfoil.dialects.registry import CLIENT_DIALECTS, DIALECTS
from counterfoil.exchange.command import Deliver, Open, Post, Start, Wait
from counterfoil.ledger.entry import Exit
from counterfoil.testing import Counts, Tool, chat_reply, messages_reply
from tests.exchange.world import CHAT, MESSAGES, World, call, check_books, deployment, lost, played, refused

REPLY = chat_reply(usage=Counts(input=11, output=7))
BUSY = b'{"error":{"message":"Slow down","type":"rate_limit_error","code":"rate_limited"}}'


def test_a_rate_limit_is_retried_after_the_time_the_provider_asked_for() -> None:
    world = World(refused(429, BUSY, retry_after="7"), played(REPLY))
    world.run(call(retries=Retries(attempts=2)))
    check_books(world.log)
    (wait,) = world.all(Wait)
    assert isinstance(wait, Wait)
    assert wait.seconds == 7
    assert [entry.exit for entry in world.entries] == [Exit.REJECTED, Exit.COMPLETED]
    assert len({entry.opening.attempt for entry in world.entries}) == 2
    assert {entry.opening.exchange for entry in world.entries} == {"exchange-1"}


def test_a_wait_longer_than_the_bound_is_left_for_the_next_deployment() -> None:
    world = World(refused(429, BUSY, retry_after="600"), played(REPLY))
    world.run(call(deployment(name="first"), deployment(name="second"), retries=Retries(attempts=3)))
    assert [entry.opening.provider for entry in world.entries] == ["first", "second"]
    assert not world.all(Wait)


def test_the_last_failure_reaches_the_client_with_its_retry_after() -> None:
    world = World(refused(429, BUSY, retry_after="600"))
    world.run(call())
    assert world.status == 429
    starts = [command for command in world.log if type(command).__name__ == "Start"]
    assert starts[0].headers["retry-after"] == "600"  # type: ignore[union-attr]  # it is a Start


ERROR: Final = b'{"error":{"message":"It failed.","type":"made_up"}}'


@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages", "openai_responses"])
def test_a_provider_that_says_not_to_try_again_is_not_tried_again_but_the_next_one_is(dialect: str) -> None:
    one, two = deployment(DIALECTS[dialect], name="first"), deployment(name="second")
    world = World(refused(429, BUSY, x_should_retry="false"), played(REPLY))
    world.run(call(one, two, retries=Retries(attempts=3)))
    assert [entry.opening.provider for entry in world.entries] == ["first", "second"]
    assert world.status == 200


@pytest.mark.parametrize(("status", "made"), [(400, 2), (404, 2), (409, 2), (503, 2)])
def test_a_provider_that_says_to_try_again_is_tried_again_whatever_its_status(status: int, made: int) -> None:
    world = World(refused(status, ERROR, x_should_retry="true"), played(REPLY))
    world.run(call(retries=Retries(attempts=3)))
    assert (len(world.entries), world.status) == (made, 200)
    check_books(world.log)


def test_a_wrong_request_is_no_other_deployments_when_its_attempts_are_made() -> None:
    world = World(*[refused(400, ERROR, x_should_retry="true")] * 2, played(REPLY))
    world.run(call(deployment(name="first"), deployment(name="second"), retries=Retries(attempts=2)))
    assert [entry.opening.provider for entry in world.entries] == ["first", "first"]
    assert world.status == 400


@pytest.mark.parametrize(
    ("said", "told"), [("true", "true"), ("false", "false"), (" false", "false"), ("perhaps", None), ("", None)]
)
@pytest.mark.parametrize("client", [CHAT, MESSAGES])
def test_the_client_is_told_what_its_provider_says_of_trying_again(
    client: ClientDialect[Any], said: str, told: str | None
) -> None:
    world = World(refused(429, BUSY, x_should_retry=said))
    world.run(call(dialect=client, retries=Retries(attempts=1)))
    (start,) = world.all(Start)
    assert isinstance(start, Start)
    assert (start.status, start.headers.get("x-should-retry")) == (429, told)


def test_a_lost_connection_falls_back_in_the_routes_order() -> None:
    world = World(lost(), lost(), played(REPLY))
    world.run(call(deployment(name="first"), deployment(name="second"), retries=Retries(attempts=2)))
    assert [entry.opening.provider for entry in world.entries] == ["first", "first", "second"]
    assert [entry.exit for entry in world.entries] == [Exit.LOST, Exit.LOST, Exit.COMPLETED]
    check_books(world.log)


def test_a_request_the_client_got_wrong_is_not_tried_elsewhere() -> None:
    body = b'{"error":{"message":"No such field","type":"invalid_request_error","param":"x","code":null}}'
    world = World(refused(400, body), played(REPLY))
    world.run(call(deployment(name="first"), deployment(name="second")))
    assert len(world.entries) == 1
    assert world.status == 400


def test_no_attempt_follows_once_the_client_has_a_byte() -> None:
    world = World(played(REPLY.then_at(3)), played(REPLY))
    world.run(call(deployment(name="first"), deployment(name="second"), retries=Retries(attempts=3)))
    check_books(world.log)
    assert len(world.all(Open)) == 1


def test_a_cut_before_the_first_byte_is_tried_again_elsewhere() -> None:
    world = World(played(REPLY.then_at(0)), played(REPLY))
    world.run(call(deployment(name="first"), deployment(name="second")))
    check_books(world.log)
    assert [entry.exit for entry in world.entries] == [Exit.TRUNCATED, Exit.COMPLETED]
    assert world.status == 200


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_stream_options_is_asked_once_without_and_remembered(status: int) -> None:
    body = b'{"error":{"message":"Unrecognized field: stream_options","type":"invalid_request_error"}}'
    learned: set[str] = set()
    unknown = deployment(known=False)
    world = World(refused(status, body), played(REPLY), learned=learned)
    world.run(call(unknown))
    check_books(world.log)
    assert [entry.exit for entry in world.entries] == [Exit.REJECTED, Exit.COMPLETED]
    first, second = (post for post in world.all(Post) if isinstance(post, Post))
    assert b"include_usage" in first.body
    assert b"stream_options" not in second.body
    later = World(played(REPLY), learned=learned)
    later.run(call(unknown))
    (post,) = later.all(Post)
    assert isinstance(post, Post)
    assert b"stream_options" not in post.body


def test_a_described_provider_that_refuses_a_clients_own_stream_options_is_still_asked_for_usage() -> None:
    body = b'{"error":{"message":"Unknown parameter: stream_options.x","type":"invalid_request_error"}}'
    learned: set[str] = set()
    world = World(refused(400, body), learned=learned)
    world.run(call(stream_options={"x": 1}))
    check_books(world.log)
    assert [entry.exit for entry in world.entries] == [Exit.REJECTED]
    assert world.status == 400
    assert not learned


def test_usage_is_always_asked_of_the_provider_and_shown_only_when_the_client_asked() -> None:
    world = World(played(REPLY))
    world.run(call(usage_asked=False))
    (post,) = world.all(Post)
    assert isinstance(post, Post)
    assert msgspec.json.decode(post.body)["stream_options"] == {"include_usage": True}
    assert b'"usage"' not in world.sent
    assert world.entry.usage.total_tokens == 18


def test_a_chat_client_is_served_by_an_anthropic_provider() -> None:
    script = messages_reply(
        text="The boats come home.",
        thinking="Low water at six.",
        tools=(Tool("tides", '{"port":"Whitby"}'),),
        usage=Counts(input=120, output=33, cache_read=100, cache_write=0),
    )
    world = World(played(script))
    world.run(call(deployment(MESSAGES)))
    check_books(world.log)
    frames = world.frames
    assert frames[-1]["choices"] == []
    usage = frames[-1]["usage"]
    assert isinstance(usage, dict)
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (120, 33, 153)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 100
    deltas = [frame["choices"][0]["delta"] for frame in frames if frame["choices"]]  # type: ignore[index]
    assert "".join(delta.get("content") or "" for delta in deltas) == "The boats come home."
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "Low water at six."
    assert {frame["model"] for frame in frames} == {"house-model"}
    assert world.entry.opening.provider_dialect == MESSAGES.name


def test_a_chat_client_that_does_not_stream_is_served_by_an_anthropic_provider() -> None:
    script = messages_reply(text="Home.", usage=Counts(input=12, output=3, cache_read=0, cache_write=0), stream=False)
    world = World(played(script))
    world.run(call(deployment(MESSAGES), stream=False))
    check_books(world.log)
    reply = msgspec.json.decode(world.sent)
    assert reply["choices"][0]["message"]["content"] == "Home."
    assert reply["usage"]["total_tokens"] == 15


@pytest.mark.parametrize("stream", [True, False])
def test_a_server_that_ignores_the_wish_to_stream_is_still_understood(stream: bool) -> None:
    script = chat_reply(text="Home.", usage=Counts(input=12, output=3), stream=not stream)
    world = World(played(script))
    world.run(call(stream=stream))
    check_books(world.log)
    assert world.entry.exit is Exit.COMPLETED
    assert world.entry.usage.total_tokens == 15
    if stream:
        assert world.sent.endswith(b"data: [DONE]\n\n")
    else:
        assert msgspec.json.decode(world.sent)["choices"][0]["message"]["content"] == "Home."


def test_what_cannot_cross_is_refused_by_name_or_dropped_by_name() -> None:
    refused_world = World()
    refused_world.run(call(deployment(MESSAGES), logit_bias={"50256": -100}))
    assert refused_world.status == 400
    assert b"logit_bias" in refused_world.sent
    assert not refused_world.entries, "nothing was sent, so nothing was opened"
    world = World(played(messages_reply()))
    world.run(call(deployment(MESSAGES, drop=True), logit_bias={"50256": -100}))
    starts = [command for command in world.log if type(command).__name__ == "Start"]
    assert starts[0].headers["x-counterfoil-dropped"] == "logit_bias"  # type: ignore[union-attr]  # it is a Start


@pytest.mark.parametrize(("policy", "last"), [("estimate", b'"estimated":true'), ("null", b'"usage":null')])
def test_a_provider_that_reports_nothing_is_answered_for_as_the_setting_says(policy: str, last: bytes) -> None:
    world = World(played(chat_reply(shape="absent")))
    world.run(call(missing_usage=policy))  # type: ignore[arg-type]  # both are MissingUsage
    end = next(command for command in world.all(Deliver) if isinstance(command, Deliver) and command.last).data
    assert last in end
    assert b'"choices":[]' in end
    assert world.entry.usage.estimated


def test_a_provider_that_reports_nothing_can_be_refused() -> None:
    world = World(played(chat_reply(shape="absent")))
    world.run(call(missing_usage="error"))
    assert b'"error"' in world.sent
    assert b"[DONE]" not in world.sent
    whole = World(played(chat_reply(shape="absent", stream=False)))
    whole.run(call(missing_usage="error", stream=False))
    assert whole.status == 502
    check_books(whole.log)


def test_the_same_dialect_carries_unknown_fields_and_numbers_as_they_were_written() -> None:
    body = {"temperature": 1.0, "x_unknown": {"deep": [1, 2.50]}}
    world = World(played(REPLY))
    world.run(call(body=body))
    (post,) = world.all(Post)
    assert isinstance(post, Post)
    sent = msgspec.json.decode(post.body)
    assert sent["x_unknown"] == {"deep": [1, 2.5]}
    assert sent["model"] == "play-1"
    assert CHAT.peek_request(post.body).usage_asked


def test_usage_is_shown_to_a_client_that_did_not_ask_where_the_operator_says_always() -> None:
    asked = call(usage_asked=False)
    world = World(played(REPLY))
    world.run(msgspec.structs.replace(asked, stream_usage="always"))
    assert world.frames[-1]["usage"] == {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


@pytest.mark.parametrize(("shown", "name"), [(False, "house-model"), (True, "play-1")])
def test_every_frame_shows_the_model_that_was_asked_for_or_the_providers_where_the_route_says_so(
    shown: bool, name: str
) -> None:
    asked = call()
    route = msgspec.structs.replace(asked.route, show_provider_model=shown)
    world = World(played(REPLY))
    world.run(msgspec.structs.replace(asked, route=route))
    assert {frame["model"] for frame in world.frames} == {name}


def test_an_attempt_without_stream_options_takes_nothing_from_the_retries_that_a_failure_has() -> None:
    body = b'{"error":{"message":"Unrecognized field: stream_options","type":"invalid_request_error"}}'
    world = World(refused(400, body), refused(503), played(REPLY))
    world.run(call(deployment(known=False), retries=Retries(attempts=2)))
    assert [entry.exit for entry in world.entries] == [Exit.REJECTED, Exit.REJECTED, Exit.COMPLETED]


SPENT: Final[Mapping[str, tuple[str, int, dict[str, Any]]]] = {
    "OpenAI": (
        "openai_chat",
        429,
        {"error": {"message": "Your quota is spent.", "type": "insufficient_quota", "code": "insufficient_quota"}},
    ),
    "DeepSeek": ("openai_chat", 402, {"error": {"message": "Insufficient Balance", "type": "unknown_error"}}),
    "Moonshot": ("openai_chat", 429, {"error": {"message": "Spent.", "type": "exceeded_current_quota_error"}}),
    "OpenAI's Responses": ("openai_responses", 429, {"error": {"message": "Spent.", "code": "insufficient_quota"}}),
    "Anthropic": ("anthropic_messages", 402, {"error": {"type": "billing_error", "message": "Pay first."}}),
    "Anthropic's other way": (
        "anthropic_messages",
        400,
        {"error": {"type": "invalid_request_error", "message": "The credit balance is too low for this call."}},
    ),
    "Gemini's day": (
        "gemini",
        429,
        {
            "error": {
                "code": 429,
                "message": "The quota is exceeded.",
                "status": "RESOURCE_EXHAUSTED",
                "details": [
                    {
                        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                        "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}],
                    },
                    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"},
                ],
            }
        },
    ),
    "Bedrock's day": (
        "bedrock_converse",
        429,
        {"__type": "ThrottlingException", "message": "Too many tokens per day."},
    ),
}


@pytest.mark.parametrize("said", SPENT)
def test_an_account_that_is_spent_is_asked_once_and_the_next_one_at_once(said: str) -> None:
    provider, status, body = SPENT[said]
    empty, other = deployment(DIALECTS[provider], name="empty"), deployment(name="other")
    world = World(refused(status, msgspec.json.encode(body)), played(REPLY))
    world.run(call(empty, other, retries=Retries(attempts=3)))
    check_books(world.log)
    assert [entry.opening.provider for entry in world.entries] == ["empty", "other"]
    assert not world.all(Wait)
    assert world.status == 200
    alone = World(refused(status, msgspec.json.encode(body)))
    alone.run(call(empty, retries=Retries(attempts=3)))
    assert len(alone.entries) == 1
    assert alone.entry.detail == "quota"
    assert (alone.status, msgspec.json.decode(alone.sent)["error"]["fault"]) == (status, "gateway")


@pytest.mark.parametrize(
    ("name", "fields"), [("OpenAI", {"type", "code", "message"}), ("Anthropic's other way", {"type", "message"})]
)
def test_a_client_of_the_same_dialect_reads_the_providers_own_words_for_an_account_that_is_spent(
    name: str, fields: set[str]
) -> None:
    provider, status, body = SPENT[name]
    client = CLIENT_DIALECTS[provider]
    world = World(refused(status, msgspec.json.encode(body)))
    world.run(call(deployment(client), dialect=client))
    told = msgspec.json.decode(world.sent)["error"]
    assert {field: told[field] for field in fields} == body["error"]


def test_a_minutes_quota_of_gemini_is_waited_for() -> None:
    violation = {"quotaId": "GenerateContentInputTokensPerModelPerMinute-FreeTier"}
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"},
    ]
    error = {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED", "details": details}
    world = World(
        refused(429, msgspec.json.encode({"error": error})), refused(429, msgspec.json.encode({"error": error}))
    )
    world.run(call(deployment(DIALECTS["gemini"]), retries=Retries(attempts=2)))
    (wait,) = world.all(Wait)
    assert isinstance(wait, Wait)
    assert wait.seconds == 2
