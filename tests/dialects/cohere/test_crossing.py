"""Cohere behind clients of other dialects, through the exchange: told in tokens, booked with the bill."""

from __future__ import annotations

import json

import pytest

from counterfoil.dialects.cohere import COHERE
from counterfoil.exchange.command import Head, Post
from counterfoil.ledger.entry import Exit
from counterfoil.usage.usage import Bucket
from tests.dialects.readers import CHAT_READERS, Counted, chunks_of, text_of
from tests.exchange.world import MESSAGES, Played, World, call, check_books, deployment

from .support import DONE, END, block, chat, delta, start

__all__: list[str] = []

STREAM = [start(), block(0, "thinking", "The tide turns."), block(1, "text", "At ", "noon."), END + DONE]
EVENTS = Head(200, {"content-type": "text/event-stream"})
JSON = Head(200, {"content-type": "application/json"})


def check_entry(world: World) -> None:
    check_books(world.log)
    entry = world.entry
    assert entry.exit is Exit.COMPLETED
    assert (entry.usage.input_tokens, entry.usage.cache_read_tokens, entry.usage.output_tokens) == (500, 448, 10)
    assert entry.usage.priced == {Bucket.INPUT: 12, Bucket.OUTPUT: 7}
    assert entry.discrepancies == ()


@pytest.mark.parametrize("reader", CHAT_READERS)
def test_every_chat_client_counts_the_tokens_of_a_stream_once(reader: str) -> None:
    world = World(Played(EVENTS, [*STREAM, b""]))
    world.run(call(deployment(COHERE)))
    chunks = chunks_of(world.sent)
    assert text_of(chunks) == {0: "At noon."}
    assert CHAT_READERS[reader](chunks, True) == Counted(500, 10)
    check_entry(world)


def test_a_stream_is_asked_for_at_v2s_address_without_options() -> None:
    world = World(Played(EVENTS, [*STREAM, b""]))
    world.run(call(deployment(COHERE)))
    (post,) = world.all(Post)
    assert isinstance(post, Post)
    assert post.path == "/v2/chat"
    body = json.loads(post.body)
    assert (body["stream"], body["max_tokens"]) == (True, 100)
    assert "stream_options" not in body


def test_a_whole_reply_reaches_a_messages_client() -> None:
    body = chat({"type": "text", "text": "At noon."})
    world = World(Played(JSON, [body, b""]))
    world.run(call(deployment(COHERE), dialect=MESSAGES, stream=False))
    told = json.loads(world.sent)
    assert [part["text"] for part in told["content"] if part["type"] == "text"] == ["At noon."]
    assert told["usage"]["input_tokens"] + told["usage"]["cache_read_input_tokens"] == 500
    assert (told["usage"]["output_tokens"], told["stop_reason"]) == (10, "end_turn")
    check_entry(world)


def test_a_call_reaches_a_chat_client_with_its_arguments() -> None:
    called = {"id": "c-1", "type": "function", "function": {"name": "tide_at", "arguments": '{"port":"Brest"}'}}
    body = chat(calls=[called], plan="Look it up.", reason="TOOL_CALL")
    world = World(Played(JSON, [body, b""]))
    world.run(call(deployment(COHERE), stream=False))
    (choice,) = json.loads(world.sent)["choices"]
    (tool,) = choice["message"]["tool_calls"]
    assert (tool["function"], choice["finish_reason"]) == (called["function"], "tool_calls")
    assert choice["message"]["reasoning_content"] == "Look it up."


def test_a_cut_stream_is_told_and_its_text_is_estimated() -> None:
    world = World(Played(EVENTS, [start(), delta("content-delta", content={"text": "At noon, as always."}), b""]))
    world.run(call(deployment(COHERE)))
    assert b'"error"' in world.sent
    assert b"[DONE]" not in world.sent
    assert world.entry.exit is Exit.TRUNCATED
    assert world.entry.usage.estimated
    assert world.entry.usage.billed is None
