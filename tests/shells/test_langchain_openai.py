"""Promise: langchain-openai counts every token once through the gateway, whether or not it knows how to ask."""

from __future__ import annotations

import asyncio
import functools
import json
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from counterfoil.ledger.entry import Entry, Exit
from counterfoil.testing import (
    CHAT_SHAPES,
    ChatReply,
    ChatShape,
    Counts,
    MessagesReply,
    Tool,
    chat_player,
    chat_reply,
    in_turn,
    messages_player,
)
from tests.shells.clients import ODDITIES, Stage, booked, model_for, plan_of, staged, texts_of
from tests.shells.gateway import SECONDS

Chat = Callable[..., ChatOpenAI]
HELLO = [HumanMessage("Good morning")]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("stage")) as running:
        yield running


@pytest.fixture(scope="module")
def chat(stage: Stage) -> Iterator[Chat]:
    """Makes chat models with connections that are closed at the end."""
    with openai.DefaultHttpxClient() as http_client:
        yield functools.partial(made, stage, http_client=http_client)


def made(stage: Stage, model: str = "m", **more: Any) -> ChatOpenAI:
    """A chat model at the gateway."""
    more = {"max_retries": 0, "timeout": SECONDS, **more}
    return ChatOpenAI(model=model, base_url=stage.base_url, api_key=SecretStr("sk-any"), **more)


def summed(messages: Sequence[AIMessage]) -> Counts | None:
    """The usage of all messages or chunks added up, as LangChain itself adds them."""
    usages = [message.usage_metadata for message in messages if message.usage_metadata is not None]
    if not usages:
        return None
    whole = functools.reduce(operator.add, [AIMessageChunk(content="", usage_metadata=usage) for usage in usages])
    usage = whole.usage_metadata
    assert usage is not None
    inside, out = usage.get("input_token_details", {}), usage.get("output_token_details", {})
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    return Counts(
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        cache_read=inside.get("cache_read"),
        cache_write=inside.get("cache_creation"),
        reasoning=out.get("reasoning"),
    )


def check_entry(stage: Stage, ticket: str) -> Entry:
    """The one entry, which is what the provider says it served wherever the provider says anything."""
    served, entry = stage.once(ticket)
    assert entry.exit is Exit.COMPLETED
    if served.reported is not None:
        assert booked(entry) == served.reported == served.usage
    return entry


def content_of(messages: Sequence[AIMessage]) -> str:
    """All text of messages or chunks."""
    return "".join(str(message.text) for message in messages)


# --- streams ---------------------------------------------------------------------------------------------------------

# LangChain takes each chunk's only choice for more of one text, so choices are told apart nowhere.
SAID = {name: plan for name, plan in ODDITIES.items() if plan.n == 1}


@pytest.mark.parametrize("oddity", SAID)
@pytest.mark.parametrize("shape", CHAT_SHAPES)
def test_with_stream_usage_the_chunks_add_up_to_the_entry(
    chat: Chat, stage: Stage, shape: ChatShape, oddity: str
) -> None:
    plan = plan_of(oddity, shape=shape)
    ticket = stage.put(plan.script())
    chunks = list(chat(stream_usage=True).stream(HELLO, user=ticket))
    assert summed(chunks) == booked(check_entry(stage, ticket))
    assert content_of(chunks) == "".join(texts_of(plan).values())
    whole = functools.reduce(operator.add, chunks)
    assert [call["name"] for call in whole.tool_calls] == [call.name for call in plan.tools]
    assert sum(chunk.usage_metadata is not None for chunk in chunks) == 1


@pytest.mark.parametrize("shape", CHAT_SHAPES)
def test_who_does_not_ask_sees_nothing_and_is_booked_all_the_same(chat: Chat, stage: Stage, shape: ChatShape) -> None:
    ticket = stage.put(chat_reply(shape=shape))
    chunks = list(chat().stream(HELLO, user=ticket))
    assert summed(chunks) is None
    assert "stream_options" not in stage.served(ticket)[0].request.json or stage.served(ticket)[0].request.asks_usage
    check_entry(stage, ticket)


@pytest.mark.parametrize("shape", CHAT_SHAPES)
@pytest.mark.parametrize("asks", [False, True], ids=["does not ask", "asks"])
def test_where_usage_is_always_sent_it_comes_once_asked_or_not(
    chat: Chat, stage: Stage, asks: bool, shape: ChatShape
) -> None:
    ticket = stage.put(chat_reply(shape=shape))
    chunks = list(chat("always", stream_usage=asks).stream(HELLO, user=ticket))
    assert summed(chunks) == booked(check_entry(stage, ticket))
    assert sum(chunk.usage_metadata is not None for chunk in chunks) == 1


def test_two_choices_are_counted_once(chat: Chat, stage: Stage) -> None:
    for shape in CHAT_SHAPES:
        plan = ChatReply(n=2, shape=shape)
        ticket = stage.put(plan.script())
        chunks = list(chat(model_for(plan), stream_usage=True, n=2).stream(HELLO, user=ticket))
        assert summed(chunks) == booked(check_entry(stage, ticket))


def test_all_details_reach_langchains_own_names(chat: Chat, stage: Stage) -> None:
    usage = Counts(input=40, output=17, cache_read=8, cache_write=4, reasoning=3)
    plan = ChatReply(usage=usage, shape="finish_chunk")
    ticket = stage.put(plan.script())
    assert summed(list(chat(stream_usage=True).stream(HELLO, user=ticket))) == usage
    assert booked(check_entry(stage, ticket)) == usage


def test_asynchronous_streams_are_counted_the_same(stage: Stage) -> None:
    plans = {stage.put(plan_of(oddity, shape="repeated").script()): oddity for oddity in SAID}

    async def one(model: ChatOpenAI, ticket: str) -> list[AIMessage]:
        return [chunk async for chunk in model.astream(HELLO, user=ticket)]

    async def all_at_once() -> list[list[AIMessage]]:
        async with openai.DefaultAsyncHttpxClient() as http_client:
            model = made(stage, stream_usage=True, http_async_client=http_client)
            return await asyncio.gather(*(one(model, ticket) for ticket in plans))

    for ticket, chunks in zip(plans, asyncio.run(all_at_once()), strict=True):
        assert summed(chunks) == booked(check_entry(stage, ticket))
        assert content_of(chunks) == "".join(texts_of(SAID[plans[ticket]]).values())


@pytest.mark.parametrize("broken", ["cut", "error"])
def test_a_broken_stream_raises(chat: Chat, stage: Stage, broken: str) -> None:
    script = chat_reply().cut_at(5) if broken == "cut" else chat_reply(error="groq")
    ticket = stage.put(script)
    with pytest.raises(openai.APIError):
        list(chat(stream_usage=True).stream(HELLO, user=ticket))
    _, entry = stage.once(ticket)
    assert entry.exit is (Exit.TRUNCATED if broken == "cut" else Exit.FAILED)


# --- whole replies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("oddity", [*SAID, "two choices"])
def test_a_whole_reply_is_counted_once(chat: Chat, stage: Stage, oddity: str) -> None:
    plan = plan_of(oddity, stream=False)
    ticket = stage.put(plan.script())
    more = {"n": plan.n} if plan.n > 1 else {}
    message = chat(**more).invoke(HELLO, user=ticket)
    assert summed([message]) == booked(check_entry(stage, ticket))
    assert content_of([message]) == texts_of(plan).get(0, "")
    if plan.n == 1:
        assert message.response_metadata["model_name"] == "m"


def test_asynchronous_calls_are_each_one_entry(stage: Stage) -> None:
    tickets = [stage.put(chat_player(ChatReply(text=("Aye ",) * count))) for count in range(1, 5)]

    async def all_at_once() -> list[AIMessage]:
        async with openai.DefaultAsyncHttpxClient() as http_client:
            model = made(stage, http_async_client=http_client)
            return await asyncio.gather(*(model.ainvoke(HELLO, user=ticket) for ticket in tickets))

    messages = asyncio.run(all_at_once())
    assert [summed([message]) for message in messages] == [booked(check_entry(stage, ticket)) for ticket in tickets]


def test_each_call_of_a_batch_is_one_entry(chat: Chat, stage: Stage) -> None:
    ticket = stage.put(chat_player(ChatReply()))
    batch = chat(model_kwargs={"user": ticket}).batch([HELLO] * 5)
    entries = stage.entries(ticket)
    assert len(entries) == len(batch) == 5
    assert {entry.provider_id for entry in entries} == {f"chatcmpl-{one.reply_id}" for one in stage.served(ticket)}
    assert [summed([message]) for message in batch] == [booked(entry) for entry in entries]


# --- tools -----------------------------------------------------------------------------------------------------------


@tool
def tide(port: str, hour: int) -> str:
    """The tide at a port."""
    return f"{port} {hour}"


@tool
def boats() -> str:
    """The boats in the harbour."""
    return "three"


@pytest.mark.parametrize("streamed", [False, True], ids=["invoke", "stream"])
@pytest.mark.parametrize("model", ["m", "claude"])
def test_tools_go_there_and_back(chat: Chat, stage: Stage, model: str, streamed: bool) -> None:
    tools = (Tool("tide", '{"port": "north", "hour": 4}', "toolu_one"), Tool("boats", id="toolu_two"))
    if model == "m":
        ticket = stage.put(in_turn(chat_player(ChatReply(text="", tools=tools)), chat_player(ChatReply(text="High."))))
    else:
        # An Anthropic provider says of its cache that nothing was read or written.
        usage = Counts(input=31, output=8, cache_read=0, cache_write=0)
        first, second = MessagesReply(text="", tools=tools, usage=usage), MessagesReply(text="High.", usage=usage)
        ticket = stage.put(in_turn(messages_player(first), messages_player(second)))
    bound = chat(model, stream_usage=True, model_kwargs={"user": ticket}).bind_tools([tide, boats])

    def ask(messages: Sequence[Any]) -> AIMessage:
        if not streamed:
            return bound.invoke(messages)
        whole: AIMessage = functools.reduce(operator.add, bound.stream(messages))
        return whole

    asked = ask(HELLO)
    assert [(call["name"], call["args"], call["id"]) for call in asked.tool_calls] == [
        ("tide", {"port": "north", "hour": 4}, "toolu_one"),
        ("boats", {}, "toolu_two"),
    ]
    results = [
        ToolMessage({"tide": tide, "boats": boats}[call["name"]].invoke(call["args"]), tool_call_id=call["id"])
        for call in asked.tool_calls
    ]
    answer = ask([*HELLO, asked, *results])
    assert answer.text == "High."
    entries = stage.entries(ticket)
    assert [summed([message]) for message in (asked, answer)] == [booked(entry) for entry in entries]
    assert [served.usage for served in stage.served(ticket)] == [booked(entry) for entry in entries]
    sent = json.dumps(stage.served(ticket)[1].request.json["messages"])
    assert "north 4" in sent
    assert sent.count("toolu_one") == sent.count("toolu_two") == 2


# --- an Anthropic provider -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["claude", "claude-always"])
def test_an_anthropic_provider_is_counted_with_its_cache(chat: Chat, stage: Stage, model: str) -> None:
    usage = Counts(input=120, output=9, cache_read=100, cache_write=8)
    ticket = stage.put(messages_player(MessagesReply(usage=usage)))
    chunks = list(chat(model, stream_usage=model == "claude").stream(HELLO, user=ticket))
    assert summed(chunks) == usage == booked(check_entry(stage, ticket))
    ticket = stage.put(messages_player(MessagesReply(usage=usage)))
    assert summed([chat(model).invoke(HELLO, user=ticket)]) == usage
