"""Promise: the official client counts every token once, whatever the provider sent, and its number is the ledger's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pydantic
import pytest

from counterfoil.ledger.entry import Entry, Exit
from counterfoil.testing import (
    CHAT_SHAPES,
    Answer,
    ChatReply,
    ChatShape,
    Counts,
    chat_player,
    chat_reply,
    refusing_stream_options,
)
from tests.shells.clients import (
    ASKED,
    MESSAGES,
    ODDITIES,
    TOOLS,
    Heard,
    Stage,
    booked,
    calls_of,
    estimated,
    hear,
    hear_whole,
    model_for,
    plan_of,
    staged,
    texts_of,
    told,
)
from tests.shells.gateway import SECONDS


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("stage")) as running:
        yield running


@pytest.fixture(scope="module")
def client(stage: Stage) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=stage.base_url, api_key="sk-any", max_retries=0, timeout=SECONDS) as made:
        yield made


@asynccontextmanager
async def calling(stage: Stage) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=stage.base_url, api_key="sk-any", max_retries=0, timeout=SECONDS) as made:
        yield made


def asked_for(plan: ChatReply, ticket: str, **more: Any) -> dict[str, Any]:
    """The request for a plan."""
    n = {"n": plan.n} if plan.n > 1 else {}
    return {"model": model_for(plan), "messages": MESSAGES, "user": ticket, **n, **more}


def ask(client: openai.OpenAI, stage: Stage, answer: Answer, model: str = "m", **more: Any) -> tuple[str, Any]:
    """One call, and the ticket it was made on."""
    ticket = stage.put(answer)
    return ticket, client.chat.completions.create(model=model, messages=MESSAGES, user=ticket, **more)


def check_content(heard: Heard, plan: ChatReply) -> None:
    """Every choice's text, finish and calls reached the client once."""
    assert heard.texts == texts_of(plan)
    assert heard.calls == calls_of(plan)
    reason = "tool_calls" if plan.tools else "stop"
    assert heard.finishes == {choice: [reason] for choice in range(plan.n)}


def check_books(stage: Stage, ticket: str, plan: ChatReply) -> Entry:
    """One call, one entry, and the entry is what the provider says it served."""
    served, entry = stage.once(ticket)
    assert entry.exit is Exit.COMPLETED
    assert entry.provider_id == f"chatcmpl-{served.reply_id}"
    if plan.shape == "absent":
        assert served.reported is None
        assert estimated(entry) >= {"input_tokens", "output_tokens"}
        assert (booked(entry).input or 0) > 0
        assert (booked(entry).output or 0) > 0
    else:
        assert served.reported == served.usage == booked(entry)
        assert not estimated(entry)
        assert not entry.discrepancies
    return entry


def check_told(heard: Heard, entry: Entry, plan: ChatReply) -> None:
    """The client saw usage once, and it is the ledger's."""
    assert heard.counts == booked(entry)
    assert heard.usages[0].get("estimated", False) is (plan.shape == "absent")


# --- every shape, every oddity, every way of calling -----------------------------------------------------------------


@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("shape", CHAT_SHAPES)
def test_a_stream_is_counted_once_and_as_the_provider_says(
    client: openai.OpenAI, stage: Stage, shape: ChatShape, oddity: str
) -> None:
    plan = plan_of(oddity, shape=shape)
    ticket = stage.put(plan.script())
    heard = hear(client.chat.completions.create(**asked_for(plan, ticket, **ASKED)))
    check_content(heard, plan)
    check_told(heard, check_books(stage, ticket, plan), plan)


@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("shape", CHAT_SHAPES)
def test_who_does_not_ask_sees_no_usage_and_the_ledger_is_as_exact(
    client: openai.OpenAI, stage: Stage, shape: ChatShape, oddity: str
) -> None:
    plan = plan_of(oddity, shape=shape)
    ticket = stage.put(plan.script())
    heard = hear(client.chat.completions.create(**asked_for(plan, ticket, stream=True)))
    check_content(heard, plan)
    assert heard.usages == []
    check_books(stage, ticket, plan)
    assert stage.served(ticket)[0].request.asks_usage


@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("shape", [shape for shape in CHAT_SHAPES if shape != "per_choice"])
def test_a_whole_reply_is_counted_once_and_as_the_provider_says(
    client: openai.OpenAI, stage: Stage, shape: ChatShape, oddity: str
) -> None:
    plan = plan_of(oddity, shape=shape, stream=False)
    ticket = stage.put(plan.script())
    heard = hear_whole(client.chat.completions.create(**asked_for(plan, ticket)))
    check_content(heard, plan)
    check_told(heard, check_books(stage, ticket, plan), plan)


def test_a_whole_reply_that_tells_one_of_two_choices_says_that_the_rest_is_an_estimate(
    client: openai.OpenAI, stage: Stage
) -> None:
    plan = ChatReply(n=2, shape="per_choice", stream=False)
    ticket = stage.put(plan.script())
    heard = hear_whole(client.chat.completions.create(**asked_for(plan, ticket)))
    served, entry = stage.once(ticket)
    assert heard.counts == booked(entry)
    assert heard.usages[0]["estimated"] is True
    assert served.reported is not None
    assert heard.counts.input == served.reported.input
    assert (heard.counts.output or 0) > (served.reported.output or 0)


Way = Callable[[openai.AsyncOpenAI, dict[str, Any]], Awaitable[Heard]]


async def _stream(client: openai.AsyncOpenAI, request: dict[str, Any]) -> Heard:
    return hear([chunk async for chunk in await client.chat.completions.create(**request, **ASKED)])


async def _helper(client: openai.AsyncOpenAI, request: dict[str, Any]) -> Heard:
    options: Any = {"include_usage": True}
    async with client.chat.completions.stream(**request, stream_options=options) as stream:
        return hear_whole(await stream.get_final_completion())


@pytest.mark.parametrize("way", [_stream, _helper], ids=["create", "stream helper"])
@pytest.mark.parametrize("shape", CHAT_SHAPES)
def test_calls_at_the_same_time_are_not_confused(stage: Stage, shape: ChatShape, way: Way) -> None:
    plans = [plan_of(oddity, shape=shape) for oddity in ODDITIES]
    tickets = [stage.put(plan.script()) for plan in plans]

    async def all_at_once() -> list[Heard]:
        async with calling(stage) as client:
            return await asyncio.gather(
                *(way(client, asked_for(plan, ticket)) for plan, ticket in zip(plans, tickets, strict=True))
            )

    for plan, ticket, heard in zip(plans, tickets, asyncio.run(all_at_once()), strict=True):
        check_content(heard, plan)
        check_told(heard, check_books(stage, ticket, plan), plan)


@pytest.mark.parametrize("oddity", ODDITIES)
def test_the_streaming_helper_builds_the_reply_once(client: openai.OpenAI, stage: Stage, oddity: str) -> None:
    plan = plan_of(oddity, shape="repeated")
    ticket = stage.put(plan.script())
    said = ""
    with client.chat.completions.stream(**asked_for(plan, ticket), stream_options={"include_usage": True}) as stream:
        for event in stream:
            if event.type == "content.delta":
                said += event.delta
        heard = hear_whole(stream.get_final_completion())
    check_content(heard, plan)
    assert len(said) == sum(map(len, texts_of(plan).values()))
    check_told(heard, check_books(stage, ticket, plan), plan)


def test_reasoning_that_a_provider_counts_apart_is_inside_for_everyone(client: openai.OpenAI, stage: Stage) -> None:
    usage = Counts(input=40, output=17, cache_read=8, reasoning=9)
    plan = ChatReply(usage=usage, counting="reasoning_apart", reasoning="High or low?")
    ticket, stream = ask(client, stage, plan.script(), "apart", **ASKED)
    heard = hear(stream)
    assert heard.counts == booked(check_books(stage, ticket, plan)) == usage


def test_a_server_that_refuses_to_be_asked_is_asked_without_and_remembered(client: openai.OpenAI, stage: Stage) -> None:
    plan = ChatReply(shape="finish_chunk")
    ticket, stream = ask(client, stage, refusing_stream_options(chat_player(plan)), **ASKED)
    heard = hear(stream)
    refused, entry = stage.entries(ticket)
    assert (refused.exit, entry.exit) == (Exit.REJECTED, Exit.COMPLETED)
    assert refused.usage.total_tokens is None
    assert heard.counts == booked(entry) == stage.served(ticket)[1].usage
    ticket, stream = ask(client, stage, refusing_stream_options(chat_player(plan)), **ASKED)
    assert hear(stream).counts == booked(stage.once(ticket)[1])
    stage.gateway.gateway.state.context.learned.clear()


# --- what the client offers beside counting --------------------------------------------------------------------------


class Tide(pydantic.BaseModel):
    """What a reply is parsed into."""

    port: str
    hour: int


def test_tools_reach_the_provider_as_the_client_wrote_them_and_their_calls_come_back(
    client: openai.OpenAI, stage: Stage
) -> None:
    plan = ChatReply(text="", tools=TOOLS, shape="finish_chunk")
    tools = [openai.pydantic_function_tool(Tide, name="tide")]
    ticket = stage.put(plan.script())
    with client.chat.completions.stream(
        model="m",
        messages=MESSAGES,
        user=ticket,
        tools=tools,
        parallel_tool_calls=True,
    ) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        (choice,) = stream.get_final_completion().choices
    assert [(event.name, event.arguments) for event in done] == [(tool.name, tool.arguments) for tool in TOOLS]
    assert done[0].parsed_arguments == Tide(port="north", hour=4)
    assert [call.function.name for call in choice.message.tool_calls or ()] == ["tide", "boats"]
    sent = stage.served(ticket)[0].request.json
    assert sent["tools"] == json.loads(json.dumps(tools))
    assert sent["parallel_tool_calls"] is True
    check_books(stage, ticket, plan)


@pytest.mark.parametrize("streamed", [False, True], ids=["parse", "stream"])
def test_structured_output_is_parsed(client: openai.OpenAI, stage: Stage, streamed: bool) -> None:
    plan = ChatReply(text=('{"port":', ' "north",', ' "hour": 4}'), stream=streamed)
    ticket = stage.put(plan.script())
    if streamed:
        with client.chat.completions.stream(
            model="m",
            messages=MESSAGES,
            user=ticket,
            response_format=Tide,
        ) as stream:
            parsed = stream.get_final_completion().choices[0].message.parsed
    else:
        completion = client.chat.completions.parse(model="m", messages=MESSAGES, user=ticket, response_format=Tide)
        parsed = completion.choices[0].message.parsed
    assert parsed == Tide(port="north", hour=4)
    assert stage.served(ticket)[0].request.json["response_format"]["json_schema"]["name"] == "Tide"
    check_books(stage, ticket, plan)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_refusals_and_reasoning_come_through(client: openai.OpenAI, stage: Stage, streamed: bool) -> None:
    plan = ChatReply(text="High tide", refusal="No more.", reasoning="Which moon?")
    ticket, said = ask(client, stage, chat_player(plan), stream=streamed)
    parts = [chunk.choices[0].delta for chunk in said] if streamed else [said.choices[0].message]
    assert "".join(getattr(part, "reasoning_content", None) or "" for part in parts) == "Which moon?"
    assert "".join(part.refusal or "" for part in parts) == "No more."
    check_books(stage, ticket, plan)


def test_log_probabilities_come_through(client: openai.OpenAI, stage: Stage) -> None:
    _, stream = ask(client, stage, chat_reply(text="High tide", logprobs=True), stream=True, logprobs=True)
    given = [chunk.choices[0].logprobs for chunk in stream]
    assert "".join(one.token for said in given if said is not None for one in said.content or ()) == "High tide"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_the_raw_response_names_the_entry(client: openai.OpenAI, stage: Stage, streamed: bool) -> None:
    plan = ChatReply()
    ticket = stage.put(chat_player(plan))
    options = ASKED if streamed else {}
    raw = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES, user=ticket, **options)
    heard = hear(raw.parse()) if streamed else hear_whole(raw.parse())
    entry = check_books(stage, ticket, plan)
    assert raw.headers["x-counterfoil-attempt"] == entry.opening.attempt
    assert raw.headers["x-counterfoil-exchange"] == entry.opening.exchange
    assert heard.counts == booked(entry)


def test_a_response_read_line_by_line_ends_with_the_usage_and_the_end_mark(client: openai.OpenAI, stage: Stage) -> None:
    ticket = stage.put(chat_reply(shape="every_chunk", done=False))
    with client.chat.completions.with_streaming_response.create(
        model="m",
        messages=MESSAGES,
        user=ticket,
        **ASKED,
    ) as response:
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    last = json.loads(lines[-2].removeprefix("data: "))
    assert last["choices"] == []
    assert told(last["usage"]) == booked(stage.once(ticket)[1])


def test_fields_the_client_does_not_know_are_carried_both_ways(client: openai.OpenAI, stage: Stage) -> None:
    plan = ChatReply(extra={"harbour": {"depth": 4.50}}, stream=False)
    ticket, completion = ask(client, stage, plan.script(), extra_body={"anchor": [1, None]})
    assert completion.harbour == {"depth": 4.5}
    assert stage.served(ticket)[0].request.json["anchor"] == [1, None]


def test_the_models_are_listed_and_each_can_be_asked_about(client: openai.OpenAI) -> None:
    listed = [model.id for model in client.models.list()]
    assert listed[:4] == ["m", "each", "apart", "claude"]
    assert client.models.retrieve("apart").id == "apart"
    with pytest.raises(openai.NotFoundError, match="'apart'"):
        client.models.retrieve("appart")
