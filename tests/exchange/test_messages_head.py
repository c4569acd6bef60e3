"""What a client of Anthropic's dialect is told of its input at the start of a stream, and what it costs to be exact.

Most clients take the input from the last frame; LangChain.js's Anthropic class takes it from the first one only
(WIRE 3). `messages_head` chooses for whom the books agree.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from counterfoil.config import Config, DeploymentConfig, RouteConfig
from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.core.event import ChoiceFinished, FinishReason, ReplyStarted, TextDelta, UsageReported
from counterfoil.dialects.anthropic_messages import encode as encode_room
from counterfoil.dialects.anthropic_messages.encode import MessagesEncoder
from counterfoil.dialects.dialect import FinalUsage, MessagesHead
from counterfoil.dialects.registry import DIALECTS
from counterfoil.driver.resolve import Resolver
from counterfoil.exchange.command import Deliver
from counterfoil.testing import ChatShape, Counts, Script, chat_reply, gemini_reply
from counterfoil.transport.secret import SecretStore
from counterfoil.usage.reading import Counter, Report
from counterfoil.usage.usage import Bucket, Provenance, Usage
from tests.dialects.anthropic_messages.support import facts
from tests.exchange.world import MESSAGES, World, call, check_books, deployment, played, refused

CHAT_CONVENTION = DIALECTS["openai_chat"].convention
COUNTS = Counts(input=40, output=6, cache_read=30)
SAID = TextDelta("The tide ")
MORE = TextDelta("turns.")
DONE = ChoiceFinished(FinishReason.STOP)
REPORT = UsageReported(Report({Counter.INPUT: 40, Counter.CACHE_READ: 30}))
FINAL = FinalUsage(Usage({Bucket.INPUT: 10, Bucket.CACHE_READ: 30, Bucket.OUTPUT: 6}))


def frames(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(part.partition("data: ")[2]) for part in body.decode().split("\n\n") if part]


def read_as_langchain_js(body: bytes) -> dict[str, int]:
    """Input from `message_start` and nowhere else, output from `message_delta`, cache beside the input."""
    found = {"input": 0, "output": 0}
    for frame in frames(body):
        if frame["type"] == "message_start":
            usage = frame["message"]["usage"]
            found["input"] += usage["input_tokens"] + usage.get("cache_read_input_tokens", 0)
            found["input"] += usage.get("cache_creation_input_tokens", 0)
            found["output"] += usage["output_tokens"]
        elif frame["type"] == "message_delta":
            found["output"] += frame["usage"]["output_tokens"]
    return found


def world_of(script: Script, head: MessagesHead, provider: str = "openai_chat") -> World:
    asked = call(deployment(DIALECTS[provider]), dialect=MESSAGES)
    world = World(played(script))
    world.run(msgspec.structs.replace(asked, route=msgspec.structs.replace(asked.route, messages_head=head)))
    check_books(world.log)
    return world


@pytest.mark.parametrize("shape", ["separate", "finish_chunk", "every_chunk"])
def test_a_client_that_reads_input_only_from_the_start_is_exact_under_buffer(shape: ChatShape) -> None:
    world = world_of(chat_reply(text=("The tide ", "turns."), usage=COUNTS, shape=shape), "buffer")
    assert read_as_langchain_js(world.sent) == {"input": 40, "output": 6}
    assert world.entry.usage.input_tokens == 40
    (head, *_) = frames(world.sent)
    assert head["message"]["usage"] == {"input_tokens": 10, "cache_read_input_tokens": 30, "output_tokens": 0}


def test_under_estimate_that_client_reads_a_marked_estimate_and_every_other_one_the_truth() -> None:
    world = world_of(chat_reply(text=("The tide ", "turns."), usage=COUNTS), "estimate")
    (head, *_, delta, _) = frames(world.sent)
    assert head["message"]["usage"] == {"input_tokens": 9, "output_tokens": 0, "estimated": True}
    assert read_as_langchain_js(world.sent) == {"input": 9, "output": 6}
    assert delta["usage"]["input_tokens"] + delta["usage"]["cache_read_input_tokens"] == 40
    assert "estimated" not in delta["usage"]


@pytest.mark.parametrize("head", ["estimate", "buffer"])
def test_both_ways_say_the_same_but_for_the_head(head: MessagesHead) -> None:
    script = chat_reply(text=("The tide ", "turns."), usage=COUNTS)
    assert frames(world_of(script, head).sent)[1:] == frames(world_of(script, "estimate").sent)[1:]


def test_of_gemini_no_report_but_the_last_is_exact_and_the_head_waits_for_it() -> None:
    script = gemini_reply(text=("The tide ", "turns."), usage=COUNTS)
    assert read_as_langchain_js(world_of(script, "buffer", "gemini").sent)["input"] == 40
    (head, *_) = frames(world_of(script, "estimate", "gemini").sent)
    assert head["message"]["usage"]["estimated"] is True, "a number that may still fall is no more than an estimate"


def test_nothing_is_released_before_the_input_is_known_and_then_all_of_it_in_order() -> None:
    encoder = MessagesEncoder(facts(head="buffer", convention=CHAT_CONVENTION))
    assert encoder.encode([ReplyStarted("id-1"), SAID]) == b""
    assert encoder.encode([MORE]) == b""
    released = encoder.encode([REPORT])
    assert [frame["type"] for frame in frames(released)] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
    ]
    assert frames(released)[0]["message"]["usage"]["input_tokens"] == 10
    assert encoder.encode([TextDelta(" Again.")]) != b"", "once the head is out nothing waits"
    assert [frame["type"] for frame in frames(encoder.encode([DONE]) + encoder.close(FINAL))] == [
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_a_report_before_the_first_word_makes_the_head_exact_either_way() -> None:
    for head in ("estimate", "buffer"):
        encoder = MessagesEncoder(facts(head=head, convention=CHAT_CONVENTION))
        (start, *_) = frames(encoder.encode([ReplyStarted("id-1"), REPORT, SAID]))
        assert start["message"]["usage"] == {"input_tokens": 10, "cache_read_input_tokens": 30, "output_tokens": 0}


def test_a_report_that_is_itself_an_estimate_is_waited_past() -> None:
    encoder = MessagesEncoder(facts(head="buffer", convention=CHAT_CONVENTION))
    assert encoder.encode([SAID, UsageReported(Report({Counter.INPUT: 3}, estimated=True))]) == b""
    (start, *_) = frames(encoder.close(FINAL))
    assert start["message"]["usage"]["input_tokens"] == 10


def test_what_nobody_reported_is_marked_in_the_head_too() -> None:
    guessed = Usage({Bucket.INPUT: 31, Bucket.OUTPUT: 2}, {Bucket.INPUT: Provenance.ESTIMATED})
    for final in (FinalUsage(guessed, estimated=True), FinalUsage(None)):
        encoder = MessagesEncoder(facts(head="buffer", convention=CHAT_CONVENTION))
        encoder.encode([SAID, DONE])
        (start, *_) = frames(encoder.close(final))
        assert start["message"]["usage"] == {"input_tokens": 31, "output_tokens": 0, "estimated": True}


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode_room, "HELD_LIMIT", 1000)
    encoder = MessagesEncoder(facts(head="buffer", convention=CHAT_CONVENTION))
    assert encoder.encode([SAID]) == b""
    released = encoder.encode([TextDelta("x" * 1000)])
    assert frames(released)[0]["message"]["usage"]["estimated"] is True
    assert len(frames(released)) == 4


def test_a_whole_reply_waits_for_nothing() -> None:
    encoder = MessagesEncoder(facts(head="buffer", convention=CHAT_CONVENTION, streamed=False))
    encoder.encode([SAID, MORE, DONE])
    assert json.loads(encoder.close(FINAL))["usage"]["input_tokens"] == 10


def test_a_reply_that_fails_while_its_head_waits_may_be_asked_for_elsewhere() -> None:
    cut = chat_reply(text=("The tide ", "turns."), usage=COUNTS)
    broken = played(cut)
    broken.reads = [*broken.reads[:2], b""]
    asked = call(deployment(), deployment(name="elsewhere"), dialect=MESSAGES)
    route = msgspec.structs.replace(asked.route, messages_head="buffer")
    world = World(broken, played(chat_reply(text=("All is well.",), usage=COUNTS)))
    world.run(msgspec.structs.replace(asked, route=route))
    check_books(world.log)
    assert [entry.opening.provider for entry in world.entries] == ["playhouse", "elsewhere"]
    assert b"All is well." in world.sent
    assert b"The tide" not in world.sent


def test_a_failure_after_the_limit_is_told_as_an_error_frame() -> None:
    encoder = MessagesEncoder(facts(head="buffer", convention=CHAT_CONVENTION))
    encoder.encode([SAID])
    out = frames(encoder.fail(Failure(FailureKind.PROVIDER_ERROR, "Broken.", Fault.PROVIDER, 502)))
    assert [frame["type"] for frame in out] == ["message_start", "content_block_start", "content_block_delta", "error"]


def test_a_provider_that_refuses_is_told_before_anything_waits() -> None:
    asked = call(deployment(), dialect=MESSAGES)
    world = World(refused(429, b'{"error":{"message":"Slow down."}}'))
    world.run(msgspec.structs.replace(asked, route=msgspec.structs.replace(asked.route, messages_head="buffer")))
    assert world.status == 429
    assert len(world.all(Deliver)) == 1


def test_the_setting_is_for_all_routes_or_for_one() -> None:
    there = DeploymentConfig(provider="house", model="m", base_url="http://127.0.0.1:9")
    models: dict[str, tuple[DeploymentConfig, ...] | RouteConfig] = {
        "plain": (there,),
        "exact": RouteConfig(deployments=(there,), messages_head="buffer"),
        "quick": RouteConfig(deployments=(there,), messages_head="estimate"),
    }
    secrets = SecretStore({})
    assert Resolver(Config(models=models), secrets, {}).resolve("plain").messages_head == "estimate"
    assert Resolver(Config(models=models), secrets, {}).resolve("exact").messages_head == "buffer"
    exact = Resolver(Config(models=models, messages_head="buffer"), secrets, {})
    assert exact.resolve("plain").messages_head == "buffer"
    assert exact.resolve("quick").messages_head == "estimate"
