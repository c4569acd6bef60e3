"""Promise: OpenAI's client counts what was served, on both of its doors, before every provider."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from counterfoil.testing import Counts, count_player, no_answer
from tests.shells.clients import booked
from tests.shells.clients_python.matrix import (
    BAD_KEY,
    BEFORE,
    GOOD_KEY,
    MIDDLE,
    MIDDLE_EXITS,
    PROVIDERS,
    RESULTS,
    SCHEMA,
    TOO_LONG,
    UNKNOWN_MODEL,
    Cell,
    Heard,
    Stage,
    cells,
    parsed,
)
from tests.shells.clients_python.waiting import AtOnce, Waiting
from tests.shells.gateway import SECONDS

__all__: list[str] = []

CLIENT = "openai"
TOOLS: Any = [
    {"name": "tide", "description": "The tide at a port.", "parameters": SCHEMA},
    {"name": "boats", "description": "The boats.", "parameters": {"type": "object", "properties": {}}},
]


@pytest.fixture(scope="module")
def client(stage: Stage, runner: asyncio.Runner, waiting: Waiting) -> Iterator[Any]:
    made: Any = openai.OpenAI if isinstance(waiting, AtOnce) else openai.AsyncOpenAI
    client = made(base_url=f"{stage.origin}/v1", api_key=GOOD_KEY, max_retries=0, timeout=SECONDS)
    yield client
    if isinstance(waiting, AtOnce):
        client.close()
    else:
        runner.run(client.close())


# --- chat ------------------------------------------------------------------------------------------------------------


def chat_fields(cell: Cell) -> dict[str, Any]:
    asked: dict[str, Any] = {"model": cell.route, "messages": [{"role": "user", "content": cell.prompt}]}
    if cell.subject == "tools":
        asked["tools"] = [{"type": "function", "function": tool} for tool in TOOLS]
    if cell.subject == "reasoning":
        asked["reasoning_effort"] = "low"
    return asked


def chat_counts(usage: Any) -> Counts:
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    counts = Counts(
        input=usage.prompt_tokens,
        output=usage.completion_tokens,
        cache_read=prompt and prompt.cached_tokens,
        cache_write=prompt and getattr(prompt, "cache_write_tokens", None),
        reasoning=completion and completion.reasoning_tokens,
    )
    assert usage.total_tokens == counts.total
    return counts


def hear_chunks(chunks: list[Any]) -> Heard:
    heard = Heard()
    calls: dict[int, list[str]] = {}
    usages = [chunk.usage for chunk in chunks if chunk.usage is not None]
    for chunk in chunks:
        for choice in chunk.choices:
            heard.text += choice.delta.content or ""
            heard.reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            for call in choice.delta.tool_calls or ():
                whole = calls.setdefault(call.index, ["", ""])
                whole[0] += call.function.name or ""
                whole[1] += call.function.arguments or ""
    heard.calls = [(name, parsed(arguments)) for name, arguments in calls.values()]
    (usage,) = usages
    heard.counts = chat_counts(usage)
    return heard


def hear_completion(completion: Any) -> Heard:
    message = completion.choices[0].message
    calls = [(call.function.name, parsed(call.function.arguments)) for call in message.tool_calls or ()]
    thought = getattr(message, "reasoning_content", None) or ""
    return Heard(message.content or "", thought, calls, chat_counts(completion.usage))


@cells("create", "stream", "helper")
def test_a_chat_cell(client: Any, waiting: Waiting, stage: Stage, way: str, route: str, subject: str) -> None:
    cell = stage.cell(route, subject)
    asked, door = chat_fields(cell), client.chat.completions
    counted: dict[str, Any] = {"stream_options": {"include_usage": True}}
    if way == "create":
        heard = hear_completion(waiting.call(door.create, **asked))
    elif way == "stream":
        heard = hear_chunks(waiting.each(door.create, stream=True, **counted, **asked))
    else:
        events, final = waiting.helped(door.stream, "get_final_completion", **counted, **asked)
        heard = hear_completion(final)
        assert "".join(event.delta for event in events if event.type == "content.delta") == heard.text
    stage.check(cell, heard, "openai_chat")


@pytest.mark.parametrize("route", PROVIDERS)
def test_a_chat_trip_cell(client: Any, waiting: Waiting, stage: Stage, route: str) -> None:
    trip = stage.trip(route)
    asked = chat_fields(trip[1]) | {"tools": [{"type": "function", "function": tool} for tool in TOOLS]}
    first = waiting.call(client.chat.completions.create, **asked)
    message = first.choices[0].message
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": result}
        for call, result in zip(message.tool_calls, RESULTS, strict=True)
    ]
    asked["messages"] = [*asked["messages"], message.model_dump(exclude_none=True), *results]
    second = waiting.call(client.chat.completions.create, **asked)
    stage.check_trip(trip, (hear_completion(first), hear_completion(second)), "openai_chat")


# --- responses -------------------------------------------------------------------------------------------------------


def responses_fields(cell: Cell) -> dict[str, Any]:
    asked: dict[str, Any] = {"model": cell.route, "input": cell.prompt}
    if cell.subject == "tools":
        asked["tools"] = [{"type": "function", "strict": False, **tool} for tool in TOOLS]
    if cell.subject == "reasoning":
        asked["reasoning"] = {"effort": "low", "summary": "auto"}
    return asked


def hear_response(response: Any) -> Heard:
    heard = Heard(response.output_text)
    for item in response.output:
        if item.type == "function_call":
            heard.calls.append((item.name, parsed(item.arguments)))
        elif item.type == "reasoning":
            heard.reasoning += "".join(part.text for part in item.summary)
    usage = response.usage
    heard.counts = Counts(
        input=usage.input_tokens,
        output=usage.output_tokens,
        cache_read=usage.input_tokens_details.cached_tokens,
        cache_write=getattr(usage.input_tokens_details, "cache_write_tokens", None),
        reasoning=usage.output_tokens_details.reasoning_tokens,
    )
    assert usage.total_tokens == heard.counts.total
    assert response.status == "completed"
    return heard


def check_events(events: list[Any], heard: Heard) -> None:
    """The events say piece by piece what the response says at once, and the usage only once."""

    def said(kind: str) -> str:
        return "".join(event.delta for event in events if event.type == f"response.{kind}.delta")

    assert said("output_text") == heard.text
    assert said("reasoning_summary_text") == heard.reasoning
    assert [event.sequence_number for event in events] == list(range(len(events)))
    told = [event.response.usage for event in events if getattr(event, "response", None) is not None]
    assert [usage is not None for usage in told] == [False] * (len(told) - 1) + [True]


@cells("create", "stream", "helper")
def test_a_responses_cell(client: Any, waiting: Waiting, stage: Stage, way: str, route: str, subject: str) -> None:
    cell = stage.cell(route, subject)
    asked, door = responses_fields(cell), client.responses
    if way == "create":
        heard = hear_response(waiting.call(door.create, **asked))
    elif way == "stream":
        events = waiting.each(door.create, stream=True, **asked)
        heard = hear_response(events[-1].response)
        check_events(events, heard)
    else:
        events, final = waiting.helped(door.stream, "get_final_response", **asked)
        heard = hear_response(final)
        check_events(events, heard)
    stage.check(cell, heard, "openai_responses")


@pytest.mark.parametrize("route", PROVIDERS)
def test_a_responses_trip_cell(client: Any, waiting: Waiting, stage: Stage, route: str) -> None:
    """As an application without `store` does it, which keeps the proofs itself."""
    trip = stage.trip(route)
    asked = responses_fields(trip[1]) | {
        "tools": [{"type": "function", "strict": False, **tool} for tool in TOOLS],
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }
    first = waiting.call(client.responses.create, **asked)
    calls = [item for item in first.output if item.type == "function_call"]
    results = [
        {"type": "function_call_output", "call_id": call.call_id, "output": result}
        for call, result in zip(calls, RESULTS, strict=True)
    ]
    asked["input"] = [{"role": "user", "content": asked["input"]}, *first.output, *results]
    second = waiting.call(client.responses.create, **asked)
    stage.check_trip(trip, (hear_response(first), hear_response(second)), "openai_responses")


def test_a_cell_that_only_counts(client: Any, waiting: Waiting, stage: Stage) -> None:
    cell = stage.put(count_player(37), "responses")
    counted = waiting.call(client.responses.input_tokens.count, model=cell.route, input=cell.prompt)
    assert counted.input_tokens == 37
    assert len(stage.served(cell)) == 1
    (entry,) = stage.settled()
    assert booked(entry) in (Counts(), Counts(input=0, output=0))


# --- errors ----------------------------------------------------------------------------------------------------------

DOORS = ("chat", "responses")
STATUSES: dict[int, type[openai.APIStatusError]] = {
    429: openai.RateLimitError,
    502: openai.InternalServerError,
    503: openai.InternalServerError,
}


def ask(client: Any, waiting: Waiting, door: str, cell: Cell, *, streamed: bool = False, **more: Any) -> Any:
    chat = door == "chat"
    asked = (chat_fields if chat else responses_fields)(cell) | more
    method = client.chat.completions.create if chat else client.responses.create
    return waiting.each(method, stream=True, **asked) if streamed else waiting.call(method, **asked)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("wrong", ["field", "size", "key", "model"])
def test_an_error_of_the_caller_is_of_its_own_class(
    client: Any, waiting: Waiting, stage: Stage, wrong: str, streamed: bool, door: str
) -> None:
    cell = stage.put(no_answer(), "gemini")
    changes: dict[str, tuple[type[openai.APIStatusError], int, dict[str, Any]]] = {
        "field": (openai.BadRequestError, 400, {"temperature": "warm"}),
        "size": (openai.APIStatusError, 413, {"metadata": {"song": TOO_LONG}}),
        "key": (openai.AuthenticationError, 401, {}),
        "model": (openai.NotFoundError, 404, {"model": UNKNOWN_MODEL}),
    }
    kind, status, fields = changes[wrong]
    who = client.with_options(api_key=BAD_KEY) if wrong == "key" else client
    with pytest.raises(kind) as caught:
        ask(who, waiting, door, cell, streamed=streamed, **fields)
    assert caught.value.status_code == status
    assert caught.value.message
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["message"] in caught.value.message
    stage.untouched(cell)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("route", PROVIDERS)
@pytest.mark.parametrize("fails", BEFORE)
def test_an_error_before_the_first_byte_is_of_its_own_class(
    client: Any, waiting: Waiting, stage: Stage, fails: str, route: str, streamed: bool, door: str
) -> None:
    answer, status, exit_ = BEFORE[fails]
    cell = stage.put(answer, route)
    with pytest.raises(STATUSES[status]) as caught:
        ask(client, waiting, door, cell, streamed=streamed)
    assert caught.value.status_code == status
    assert caught.value.message
    stage.failed(cell, exit_)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("route", PROVIDERS)
@pytest.mark.parametrize("fails", MIDDLE)
def test_an_error_in_mid_stream_is_of_its_own_class(
    client: Any, waiting: Waiting, stage: Stage, fails: str, route: str, door: str
) -> None:
    cell = stage.put(MIDDLE[fails][route], route)
    with pytest.raises(openai.APIError) as caught:
        ask(client, waiting, door, cell, streamed=True)
    assert caught.value.message
    stage.failed(cell, MIDDLE_EXITS[fails])
