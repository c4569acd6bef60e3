"""Chunks amount to the reply that would have come whole, in every shape a stream was seen in."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

import counterfoil
from counterfoil.testing import ChatReply, Counts, MessagesReply, Playback, Tool, chat_player, messages_player
from tests.sdk.support import WAYS, ask

__all__: list[str] = []

TOOLS = (Tool("weather", '{"town": "Ayr", "when": "today"}', "call_a"), Tool("tide", '{"port": "Oban"}', "call_b"))
TWIN = (Tool("weather", '{"town": "Ayr"}', "call_a"), Tool("weather", '{"town": "Oban"}', "call_b"))
USAGE = Counts(input=9, output=4, reasoning=1)

PLANS = {
    "text": ChatReply(usage=USAGE),
    "reasoning": ChatReply(usage=USAGE, reasoning="first this then that"),
    "reasoning by its other name": ChatReply(usage=USAGE, reasoning="first this", reasoning_key="reasoning"),
    "a refusal": ChatReply(usage=USAGE, text="", refusal="I would rather not"),
    "three answers": ChatReply(usage=USAGE, n=3),
    "the role on every chunk": ChatReply(usage=USAGE, role="every"),
    "two finishes": ChatReply(usage=USAGE, finish_times=2),
    "an empty first frame": ChatReply(usage=USAGE, azure=True),
    "one tool": ChatReply(usage=USAGE, text="", tools=TOOLS[:1]),
    "two tools": ChatReply(usage=USAGE, text="", tools=TOOLS),
    "two calls of one tool": ChatReply(usage=USAGE, text="", tools=TWIN),
    "whole calls": ChatReply(usage=USAGE, text="", tools=TOOLS, tool_deltas="whole"),
    "calls without an index": ChatReply(usage=USAGE, text="", tools=TOOLS, tool_deltas="no_index"),
    "the id on every piece": ChatReply(usage=USAGE, text="", tools=TWIN, tool_deltas="repeated_id"),
    "a tool for each of two answers": ChatReply(usage=USAGE, text="", n=2, tools=TOOLS),
}


def comparable(reply: Any) -> dict[str, Any]:
    """What of a reply must not depend on how it came."""
    said = reply.model_dump(exclude_none=True)
    for key in ("id", "created", "prompt_filter_results"):
        said.pop(key, None)
    for choice in said["choices"]:
        if choice["message"].get("content") == "":
            del choice["message"]["content"]
    return dict(said)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_the_chunks_of_a_stream_amount_to_the_whole_reply(
    asynchronous: bool, plan: ChatReply, provider: Playback
) -> None:
    provider.default = chat_player(plan)
    ways = [way for way in WAYS if way.asynchronous is asynchronous]
    settings = {"base_url": provider.base_url}
    n = {"n": plan.n} if plan.n > 1 else {}
    whole, streamed = (
        ask(way, settings, **n, **({"stream_options": {"include_usage": True}} if way.streamed else {})) for way in ways
    )
    assert streamed.chunks
    assert comparable(streamed.reply) == comparable(whole.reply)
    assert streamed.reply is not None
    assert streamed.reply.entry == streamed.entry
    assert streamed.reply.object == "chat.completion"


def test_a_reply_of_another_dialect_is_put_together_with_its_signature(provider: Playback) -> None:
    counts = Counts(input=30, output=12, reasoning=4)
    plan = MessagesReply(text="Calm", thinking="Look out", signature="c2ln", tools=TOOLS, usage=counts)
    provider.default = messages_player(plan)
    call = {"base_url": provider.origin, "custom_llm_provider": "anthropic", "max_tokens": 50}
    whole, streamed = (ask(way, {"api_key": "sk-own-00001"}, model="claude-haiku-4-5", **call) for way in WAYS[:2])
    assert whole.reply is not None
    assert streamed.reply is not None
    message, other = whole.reply.choices[0].message, streamed.reply.choices[0].message
    for said in (message, other):  # the provider's own white space within the arguments is not the same
        found = [
            (call.id, call.function.name, json.loads(call.function.arguments or "")) for call in said.tool_calls or ()
        ]
        assert found == [(tool.id, tool.name, json.loads(tool.arguments)) for tool in TOOLS]
    assert (other.content, other.reasoning_content) == (message.content, message.reasoning_content)
    assert plain_details(other) == plain_details(message)


def plain_details(message: Any) -> Any:
    return message.model_dump()["reasoning_details"]


def chunk(delta: dict[str, Any], index: int = 0, **choice: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": index, "delta": delta, **choice}]}


def calls(*pieces: dict[str, Any]) -> Any:
    reply = counterfoil.stream_chunk_builder([chunk({"tool_calls": [piece]}) for piece in pieces])
    return [
        (call.id, call.function.name, call.function.arguments) for call in reply.choices[0].message.tool_calls or ()
    ]


def named(name: str, arguments: str = "") -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def test_a_server_that_gives_every_call_the_same_index_loses_none() -> None:
    pieces = [
        {"index": 0, "id": "a", "function": named("f", '{"x"')},
        {"index": 0, "function": {"arguments": ":1}"}},
        {"index": 0, "id": "b", "function": named("g", "{}")},
    ]
    assert calls(*pieces) == [("a", "f", '{"x":1}'), ("b", "g", "{}")]


def test_pieces_that_take_turns_find_their_calls() -> None:
    pieces = [
        {"index": 0, "id": "a", "function": named("f")},
        {"index": 1, "id": "b", "function": named("g")},
        {"index": 0, "function": {"arguments": "{}"}},
        {"index": 1, "function": {"name": None, "arguments": "[]"}},
    ]
    assert calls(*pieces) == [("a", "f", "{}"), ("b", "g", "[]")]


def test_pieces_without_index_and_id_belong_to_the_call_that_is_open() -> None:
    pieces = [
        {"function": named("f", "{")},
        {"function": {"arguments": "}"}},
        {"function": named("f", "{}")},
    ]
    assert calls(*pieces) == [(None, "f", "{}"), (None, "f", "{}")]


def test_a_name_that_comes_late_or_never_loses_nothing() -> None:
    pieces = [{"index": 0, "id": "a", "function": {"arguments": "{"}}, {"index": 0, "function": named("f", "}")}]
    assert calls(*pieces) == [("a", "f", "{}")]
    assert calls({"index": 0, "function": {"arguments": "{}"}}) == [(None, None, "{}")]


def test_logprobs_grow_and_fields_nobody_knows_are_kept() -> None:
    reply = counterfoil.stream_chunk_builder(
        [
            chunk({"role": "assistant", "content": "a"}, logprobs={"content": [{"token": "a"}], "refusal": None}),
            chunk({"content": "b"}, logprobs={"content": [{"token": "b"}]}),
            chunk({"content": None, "mood": {"calm": 1}}, finish_reason="stop", matched_stop=7),
            {"id": "c", "choices": [], "usage": {"total_tokens": 3}, "citations": ["here"]},
        ]
    )
    choice = reply.choices[0]
    assert choice.message.content == "ab"
    assert choice.logprobs is not None
    assert [one.token for one in choice.logprobs.content] == ["a", "b"]
    assert choice.message.mood == {"calm": 1}
    assert (choice.finish_reason, choice.matched_stop, reply.citations) == ("stop", 7, ["here"])
    assert reply.usage is not None
    assert reply.usage.total_tokens == 3


def test_reasoning_blocks_are_matched_by_their_index() -> None:
    def detail(**fields: Any) -> dict[str, Any]:
        return chunk({"reasoning_details": [fields]})

    reply = counterfoil.stream_chunk_builder(
        [
            detail(index=0, type="reasoning.text", text="one "),
            detail(index=0, type="reasoning.text", text="two"),
            detail(index=0, signature="sig"),
            detail(index=1, type="reasoning.encrypted", data="xyz"),
        ]
    )
    assert reply.choices[0].message.model_dump()["reasoning_details"] == [
        {"index": 0, "type": "reasoning.text", "text": "one two", "signature": "sig"},
        {"index": 1, "type": "reasoning.encrypted", "data": "xyz"},
    ]


def test_a_stream_that_was_left_amounts_to_what_came_of_it(provider: Playback) -> None:
    with (
        counterfoil.Client(base_url=provider.base_url) as client,
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True) as stream,
    ):
        reply = counterfoil.stream_chunk_builder(itertools.islice(stream, 3))
    assert reply.choices[0].message.content == "The tide"
    assert reply.choices[0].finish_reason is None


def test_nothing_cannot_be_put_together() -> None:
    with pytest.raises(ValueError, match="no chunks"):
        counterfoil.stream_chunk_builder([])
