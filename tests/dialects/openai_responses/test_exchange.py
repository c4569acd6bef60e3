"""A client of this dialect before providers of three: one entry, whose numbers are the client's, however it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from counterfoil.core.error import RequestError
from counterfoil.dialects.registry import CLIENT_DIALECTS, DIALECTS
from counterfoil.exchange.call import Call
from counterfoil.exchange.command import Head, Start
from counterfoil.ledger.entry import Exit
from counterfoil.testing import Counts, Tool, chat_reply, messages_reply
from counterfoil.usage.usage import Provenance
from tests.exchange.world import Played, World, call, check_books, deployment, played, refused

from .schema import checked, frames_of_stream, published
from .support import message, reply, response, sse, start

CLIENT = CLIENT_DIALECTS["openai_responses"]
ASKED: dict[str, object] = {
    "input": [{"role": "user", "content": "Tell me of the tide."}],
    "max_output_tokens": 100,
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "harbour",
}
COUNTS = Counts(input=40, cache_read=8, output=12, reasoning=5)
OWN_USAGE = {
    "input_tokens": 40,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 52,
}
PROVIDERS = ("openai_chat", "anthropic_messages", "openai_responses")


def asked(provider: str, *, stream: bool, **more: object) -> Call:
    fields: dict[str, object] = {"messages": None, "max_tokens": None, **ASKED, **more}
    return call(deployment(DIALECTS[provider]), dialect=CLIENT, stream=stream, body=fields)


def answered(provider: str, *, stream: bool) -> Played:
    """The same words and counts on each provider's wire."""
    if provider == "openai_chat":
        return played(chat_reply(text="High at noon.", usage=COUNTS, stream=stream))
    if provider == "anthropic_messages":
        return played(messages_reply(text="High at noon.", usage=COUNTS, stream=stream))
    frames = reply(*message(0, "High ", "at noon."), usage=OWN_USAGE)
    if stream:
        return Played(Head(200, {"content-type": "text/event-stream"}), [sse(*frames), b""])
    body = json.dumps(frames[-1]["response"]).encode()
    return Played(Head(200, {"content-type": "application/json"}), [body, b""])


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_the_client_counts_what_the_books_hold(provider: str, stream: bool) -> None:
    world = World(answered(provider, stream=stream))
    world.run(asked(provider, stream=stream))
    check_books(world.log)
    usage = world.entry.usage
    assert (world.entry.exit, usage.input_tokens, usage.output_tokens) == (Exit.COMPLETED, 40, 12)
    if stream:
        told = frames_of_stream(world.sent)[-1]["response"]
        checked(frames_of_stream(world.sent))
    else:
        told = json.loads(world.sent)
        published("Response", told)
    assert (told["model"], told["usage"]["input_tokens"], told["usage"]["output_tokens"]) == ("house-model", 40, 12)
    assert told["usage"]["input_tokens_details"]["cached_tokens"] == 8
    assert told["output"][-1]["content"][0]["text"] == "High at noon."
    (head,) = [command for command in world.log if isinstance(command, Start)]
    crossed = provider != CLIENT.name
    assert head.headers.get("x-counterfoil-dropped") == ("prompt_cache_key" if crossed else None)
    assert head.headers["content-type"] == ("text/event-stream" if stream else "application/json")


@pytest.mark.parametrize("stream", [True, False], ids=["a stream was asked", "a whole response was asked"])
def test_a_provider_that_answers_the_other_way_round_is_understood(stream: bool) -> None:
    world = World(answered(CLIENT.name, stream=not stream))
    world.run(asked(CLIENT.name, stream=stream))
    check_books(world.log)
    assert (world.entry.exit, world.entry.usage.output_tokens) == (Exit.COMPLETED, 12)
    told = frames_of_stream(world.sent)[-1]["response"] if stream else json.loads(world.sent)
    assert told["output"][-1]["content"][0]["text"] == "High at noon."


def test_a_call_crosses_with_its_arguments() -> None:
    tool = Tool("tides", '{"port":"Cuxhaven"}')
    world = World(played(messages_reply(text=(), tools=(tool,), usage=COUNTS)))
    world.run(asked("anthropic_messages", stream=True, tools=[{"type": "function", "name": "tides"}]))
    output = frames_of_stream(world.sent)[-1]["response"]["output"]
    assert [(item["name"], json.loads(item["arguments"])) for item in output if item["type"] == "function_call"] == [
        ("tides", {"port": "Cuxhaven"})
    ]


BEGUN = start() + message(0, "High ")[:3]
BROKE = {"code": "server_error", "message": "Broke."}


@pytest.mark.parametrize(
    ("frames", "exit_"),
    [
        (BEGUN, Exit.TRUNCATED),
        ([*BEGUN, {"type": "error", **BROKE}], Exit.FAILED),
        (reply(*message(0, "High "), status="failed", error=BROKE), Exit.FAILED),
    ],
    ids=["cut", "an error event", "a failed response"],
)
def test_a_reply_that_breaks_is_told_as_an_error_and_booked(frames: list[dict[str, Any]], exit_: Exit) -> None:
    world = World(Played(Head(200, {"content-type": "text/event-stream"}), [sse(*frames), b""]))
    world.run(asked(CLIENT.name, stream=True))
    check_books(world.log)
    entry = world.entry
    assert (entry.exit, entry.usage.estimated) == (exit_, True)
    told = frames_of_stream(world.sent)
    assert [frame["type"] for frame in told[-2:]] == ["error", "response.failed"]
    assert not any(frame["type"] in ("response.completed", "response.incomplete") for frame in told)


def test_usage_of_a_response_that_failed_is_booked_and_told() -> None:
    frames = reply(*message(0, "High "), status="failed", error=BROKE, usage=OWN_USAGE)
    world = World(Played(Head(200, {"content-type": "text/event-stream"}), [sse(*frames), b""]))
    world.run(asked(CLIENT.name, stream=True))
    usage = world.entry.usage
    assert (usage.input_tokens, usage.output_tokens) == (40, 12)
    assert Provenance.ESTIMATED not in usage.provenance.values()
    assert frames_of_stream(world.sent)[-1]["response"]["usage"] == OWN_USAGE


def test_an_error_status_is_an_error_in_this_dialects_words() -> None:
    world = World(refused(429, b'{"error":{"message":"Slow down.","code":"rate_limit_exceeded"}}', retry_after="7"))
    world.run(asked(CLIENT.name, stream=True))
    (failure,) = [failure for failure in [world.outcome.failure] if failure is not None]
    body = json.loads(CLIENT.write_failure(failure))
    assert (failure.status, failure.retry_after) == (429, 7)
    assert body["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize("provider", ["openai_chat", "anthropic_messages"])
def test_what_needs_a_store_is_refused_before_anything_is_opened(provider: str) -> None:
    world = World()
    try:
        world.run(asked(provider, stream=True, previous_response_id="resp_1"))
        failure = world.outcome.failure
    except RequestError as error:
        failure = error.failure
    assert failure is not None
    assert (failure.code, failure.param, world.entries) == ("stateless", "previous_response_id", [])


def test_what_a_provider_of_this_dialect_stores_is_asked_of_it() -> None:
    world = World(answered(CLIENT.name, stream=False))
    world.run(asked(CLIENT.name, stream=False, previous_response_id="resp_1", store=True))
    assert world.entry.exit is Exit.COMPLETED


def test_a_reply_that_is_none_is_no_reply() -> None:
    body = json.dumps(response("queued", usage=None)).encode()
    world = World(Played(Head(200, {"content-type": "application/json"}), [body, b""]))
    world.run(asked(CLIENT.name, stream=False))
    assert world.entry.exit is Exit.TRUNCATED
