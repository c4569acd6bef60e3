"""Promise: Google's client counts what was served, before every provider, and raises its own errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from google import genai
from google.genai import errors, types

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
)
from tests.shells.clients_python.waiting import AtOnce, Waiting
from tests.shells.gateway import SECONDS

__all__: list[str] = []

CLIENT = "google-genai"
pytestmark = pytest.mark.filterwarnings(
    # google-genai makes a class of aiohttp's session for its asynchronous calls, which aiohttp advises against.
    "ignore:Inheritance class AiohttpClientSession from ClientSession is discouraged:DeprecationWarning"
)
TOOLS: Any = [
    types.Tool(
        function_declarations=[
            types.FunctionDeclaration(name="tide", description="The tide at a port.", parameters_json_schema=SCHEMA),
            types.FunctionDeclaration(name="boats", description="The boats."),
        ]
    )
]


def made(stage: Stage, key: str = GOOD_KEY) -> genai.Client:
    options = types.HttpOptions(base_url=stage.origin, timeout=int(SECONDS * 1000))
    return genai.Client(api_key=key, http_options=options)


@pytest.fixture(scope="module")
def client(stage: Stage, runner: asyncio.Runner, waiting: Waiting) -> Iterator[Any]:
    client = made(stage)
    if isinstance(waiting, AtOnce):
        yield client
    else:
        yield client.aio
        runner.run(client.aio.aclose())
    client.close()


def fields_of(cell: Cell) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if cell.subject == "tools":
        config["tools"] = TOOLS
    if cell.subject == "reasoning":
        config["thinking_config"] = types.ThinkingConfig(include_thoughts=True)
    return {"model": cell.route, "contents": cell.prompt, "config": types.GenerateContentConfig(**config)}


def counts_of(usage: types.GenerateContentResponseUsageMetadata | None) -> Counts:
    """Inclusive totals: on this wire thoughts are beside the candidates."""
    assert usage is not None
    thoughts = usage.thoughts_token_count
    counts = Counts(
        input=(usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0),
        output=(usage.candidates_token_count or 0) + (thoughts or 0),
        cache_read=usage.cached_content_token_count,
        reasoning=thoughts,
    )
    assert usage.total_token_count == counts.total
    return counts


def hear(chunks: list[types.GenerateContentResponse]) -> Heard:
    heard = Heard()
    for chunk in chunks:
        for part in chunk.parts or ():
            if part.function_call is not None:
                heard.calls.append((part.function_call.name or "", part.function_call.args or {}))
            elif part.thought:
                heard.reasoning += part.text or ""
            else:
                heard.text += part.text or ""
    finishes = [one.finish_reason for chunk in chunks for one in chunk.candidates or () if one.finish_reason]
    assert finishes == [types.FinishReason.STOP]
    heard.counts = counts_of(chunks[-1].usage_metadata)
    return heard


@cells("whole", "stream", "chat", "chat stream")
def test_a_cell(client: Any, waiting: Waiting, stage: Stage, way: str, route: str, subject: str) -> None:
    cell = stage.cell(route, subject)
    asked = fields_of(cell)
    if way == "whole":
        heard = hear([waiting.call(client.models.generate_content, **asked)])
    elif way == "stream":
        heard = hear(waiting.each(client.models.generate_content_stream, **asked))
    else:
        chat = client.chats.create(model=cell.route, config=asked["config"])
        if way == "chat":
            heard = hear([waiting.call(chat.send_message, message=cell.prompt)])
        else:
            heard = hear(waiting.each(chat.send_message_stream, message=cell.prompt))
    stage.check(cell, heard, "gemini", unsaid=("cache_write",))


@pytest.mark.parametrize("route", PROVIDERS)
def test_a_trip_cell(client: Any, waiting: Waiting, stage: Stage, route: str) -> None:
    """As its chats do it, which keep the history themselves."""
    trip = stage.trip(route)
    chat = client.chats.create(model=route, config=types.GenerateContentConfig(tools=TOOLS))
    first = waiting.each(chat.send_message_stream, message=trip[1].prompt)
    calls = [call for chunk in first for call in chunk.function_calls or ()]
    results = [
        types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response={"output": result}))
        for call, result in zip(calls, RESULTS, strict=True)
    ]
    second = waiting.call(chat.send_message, message=results)
    stage.check_trip(trip, (hear(first), hear([second])), "gemini", unsaid=("cache_write",))


def test_a_cell_that_only_counts(client: Any, waiting: Waiting, stage: Stage) -> None:
    cell = stage.put(count_player(37), "gemini")
    counted = waiting.call(client.models.count_tokens, model=cell.route, contents=cell.prompt)
    assert counted.total_tokens == 37
    assert len(stage.served(cell)) == 1
    (entry,) = stage.settled()
    assert booked(entry) in (Counts(), Counts(input=0, output=0))


# --- errors ----------------------------------------------------------------------------------------------------------


def ask(client: Any, waiting: Waiting, cell: Cell, *, streamed: bool, **more: Any) -> Any:
    asked, models = fields_of(cell) | more, client.models
    if streamed:
        return waiting.each(models.generate_content_stream, **asked)
    return waiting.call(models.generate_content, **asked)


def check_error(error: errors.APIError, status: int, named: str) -> None:
    assert (error.code, error.status) == (status, named)
    assert error.message
    assert isinstance(error.details, dict)
    assert error.details["error"]["message"] == error.message


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("wrong", ["field", "size", "key", "model"])
def test_an_error_of_the_caller_is_of_its_own_class(
    client: Any, waiting: Waiting, stage: Stage, runner: asyncio.Runner, wrong: str, streamed: bool
) -> None:
    cell = stage.put(no_answer(), "chat")
    changes: dict[str, tuple[int, str, dict[str, Any]]] = {
        "field": (400, "INVALID_ARGUMENT", {"config": {"http_options": {"extra_body": {"contents": "no list"}}}}),
        "size": (413, "INVALID_ARGUMENT", {"config": {"system_instruction": TOO_LONG}}),
        "key": (401, "UNAUTHENTICATED", {}),
        "model": (404, "NOT_FOUND", {"model": UNKNOWN_MODEL}),
    }
    status, named, fields = changes[wrong]
    other = made(stage, BAD_KEY) if wrong == "key" else None
    who = client if other is None else other if isinstance(waiting, AtOnce) else other.aio
    with pytest.raises(errors.ClientError) as caught:
        ask(who, waiting, cell, streamed=streamed, **fields)
    if other is not None:
        runner.run(other.aio.aclose())
        other.close()
    check_error(caught.value, status, named)
    stage.untouched(cell)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("route", PROVIDERS)
@pytest.mark.parametrize("fails", BEFORE)
def test_an_error_before_the_first_byte_is_of_its_own_class(
    client: Any, waiting: Waiting, stage: Stage, fails: str, route: str, streamed: bool
) -> None:
    answer, status, exit_ = BEFORE[fails]
    cell = stage.put(answer, route)
    kind: type[errors.APIError] = errors.ClientError if status < 500 else errors.ServerError
    with pytest.raises(kind) as caught:
        ask(client, waiting, cell, streamed=streamed)
    check_error(caught.value, status, {429: "RESOURCE_EXHAUSTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE"}[status])
    stage.failed(cell, exit_)


@pytest.mark.parametrize("route", PROVIDERS)
@pytest.mark.parametrize("fails", MIDDLE)
def test_an_error_in_mid_stream_is_of_its_own_class(
    client: Any, waiting: Waiting, stage: Stage, fails: str, route: str
) -> None:
    cell = stage.put(MIDDLE[fails][route], route)
    with pytest.raises(errors.APIError) as caught:
        ask(client, waiting, cell, streamed=True)
    assert caught.value.code >= 500
    assert caught.value.status == "INTERNAL"
    assert caught.value.message
    stage.failed(cell, MIDDLE_EXITS[fails])
