"""Promise: Anthropic's client counts what was served, before every provider, and raises its own errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
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

CLIENT = "anthropic"
TOOLS: Any = [
    {"name": "tide", "description": "The tide at a port.", "input_schema": SCHEMA},
    {"name": "boats", "description": "The boats.", "input_schema": {"type": "object", "properties": {}}},
]


@pytest.fixture(scope="module")
def client(stage: Stage, runner: asyncio.Runner, waiting: Waiting) -> Iterator[Any]:
    made: Any = anthropic.Anthropic if isinstance(waiting, AtOnce) else anthropic.AsyncAnthropic
    client = made(base_url=stage.origin, api_key=GOOD_KEY, max_retries=0, timeout=SECONDS)
    yield client
    if isinstance(waiting, AtOnce):
        client.close()
    else:
        runner.run(client.close())


def fields_of(cell: Cell) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "model": cell.route,
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": cell.prompt}],
    }
    if cell.subject == "tools":
        asked["tools"] = TOOLS
    if cell.subject == "reasoning":
        asked |= {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}
    return asked


def counts_of(usage: Any) -> Counts:
    """Inclusive totals: on this wire `input_tokens` is what is left beside the cache."""
    read, write = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
    details = usage.output_tokens_details
    return Counts(
        input=usage.input_tokens + (read or 0) + (write or 0),
        output=usage.output_tokens,
        cache_read=read,
        cache_write=write,
        reasoning=details and details.thinking_tokens,
    )


def hear_message(message: Any) -> Heard:
    heard = Heard(counts=counts_of(message.usage))
    for block in message.content:
        if block.type == "text":
            heard.text += block.text
        elif block.type == "thinking":
            heard.reasoning += block.thinking
        elif block.type == "tool_use":
            heard.calls.append((block.name, block.input))
    assert message.stop_reason == ("tool_use" if heard.calls else "end_turn")
    return heard


def hear_events(events: list[Any]) -> Heard:
    """The raw events, put together as the loop of any application does; the delta's counts are the reply's."""
    heard = Heard()
    calls: dict[int, list[str]] = {}
    for event in events:
        if event.type == "content_block_start" and event.content_block.type == "tool_use":
            calls[event.index] = [event.content_block.name, ""]
        elif event.type == "content_block_delta" and event.delta.type == "text_delta":
            heard.text += event.delta.text
        elif event.type == "content_block_delta" and event.delta.type == "thinking_delta":
            heard.reasoning += event.delta.thinking
        elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
            calls[event.index][1] += event.delta.partial_json
    (end,) = [event for event in events if event.type == "message_delta"]
    heard.counts = counts_of(end.usage)
    heard.calls = [(name, parsed(arguments)) for name, arguments in calls.values()]
    assert [event.type for event in events].count("message_start") == 1
    assert events[-1].type == "message_stop"
    return heard


@cells("create", "stream", "helper")
def test_a_cell(client: Any, waiting: Waiting, stage: Stage, way: str, route: str, subject: str) -> None:
    cell = stage.cell(route, subject)
    asked, door = fields_of(cell), client.messages
    if way == "create":
        heard = hear_message(waiting.call(door.create, **asked))
    elif way == "stream":
        heard = hear_events(waiting.each(door.create, stream=True, **asked))
    else:
        events, final = waiting.helped(door.stream, "get_final_message", **asked)
        heard = hear_message(final)
        assert "".join(event.text for event in events if event.type == "text") == heard.text
        assert "".join(event.thinking for event in events if event.type == "thinking") == heard.reasoning
    stage.check(cell, heard, "anthropic_messages")


@pytest.mark.parametrize("route", PROVIDERS)
def test_a_trip_cell(client: Any, waiting: Waiting, stage: Stage, route: str) -> None:
    trip = stage.trip(route)
    asked = fields_of(trip[1]) | {"tools": TOOLS}
    _, first = waiting.helped(client.messages.stream, "get_final_message", **asked)
    calls = [block for block in first.content if block.type == "tool_use"]
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": result}
        for call, result in zip(calls, RESULTS, strict=True)
    ]
    answer = {"role": "assistant", "content": first.content}
    asked["messages"] = [*asked["messages"], answer, {"role": "user", "content": results}]
    second = waiting.call(client.messages.create, **asked)
    stage.check_trip(trip, (hear_message(first), hear_message(second)), "anthropic_messages")


def test_a_beta_cell(client: Any, waiting: Waiting, stage: Stage) -> None:
    """`?beta=true` and a beta that nobody knows, as Claude Code sends them."""
    cell = stage.cell("messages", "text")
    heard = hear_message(waiting.call(client.beta.messages.create, betas=["harbours-2025-01-01"], **fields_of(cell)))
    stage.check(cell, heard, "anthropic_messages")


def test_a_cell_that_only_counts(client: Any, waiting: Waiting, stage: Stage) -> None:
    cell = stage.put(count_player(37), "messages")
    asked = {"model": cell.route, "messages": [{"role": "user", "content": cell.prompt}]}
    assert waiting.call(client.messages.count_tokens, **asked).input_tokens == 37
    assert len(stage.served(cell)) == 1
    (entry,) = stage.settled()
    assert booked(entry) in (Counts(), Counts(input=0, output=0))


# --- errors ----------------------------------------------------------------------------------------------------------

STATUSES: dict[int, type[anthropic.APIStatusError]] = {
    429: anthropic.RateLimitError,
    502: anthropic.InternalServerError,
    503: anthropic.InternalServerError,
    529: anthropic.InternalServerError,
}


def ask(client: Any, waiting: Waiting, cell: Cell, *, streamed: bool, **more: Any) -> Any:
    asked, method = fields_of(cell) | more, client.messages.create
    return waiting.each(method, stream=True, **asked) if streamed else waiting.call(method, **asked)


def check_body(error: anthropic.APIError) -> None:
    """The error is in the shape that the client's documentation shows."""
    assert isinstance(error.body, dict)
    assert error.body["type"] == "error"
    assert error.body["error"]["message"]
    assert error.body["error"]["message"] in error.message


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("wrong", ["field", "size", "key", "model"])
def test_an_error_of_the_caller_is_of_its_own_class(
    client: Any, waiting: Waiting, stage: Stage, wrong: str, streamed: bool
) -> None:
    cell = stage.put(no_answer(), "gemini")
    changes: dict[str, tuple[type[anthropic.APIStatusError], int, dict[str, Any]]] = {
        "field": (anthropic.BadRequestError, 400, {"extra_body": {"temperature": "warm"}}),
        "size": (anthropic.RequestTooLargeError, 413, {"system": TOO_LONG}),
        "key": (anthropic.AuthenticationError, 401, {}),
        "model": (anthropic.NotFoundError, 404, {"model": UNKNOWN_MODEL}),
    }
    kind, status, fields = changes[wrong]
    who = client.with_options(api_key=BAD_KEY) if wrong == "key" else client
    with pytest.raises(kind) as caught:
        ask(who, waiting, cell, streamed=streamed, **fields)
    assert caught.value.status_code == status
    check_body(caught.value)
    stage.untouched(cell)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("route", PROVIDERS)
@pytest.mark.parametrize("fails", BEFORE)
def test_an_error_before_the_first_byte_is_of_its_own_class(
    client: Any, waiting: Waiting, stage: Stage, fails: str, route: str, streamed: bool
) -> None:
    answer, status, exit_ = BEFORE[fails]
    cell = stage.put(answer, route)
    with pytest.raises(STATUSES[status]) as caught:
        ask(client, waiting, cell, streamed=streamed)
    assert caught.value.status_code == status
    check_body(caught.value)
    stage.failed(cell, exit_)


@pytest.mark.parametrize("route", PROVIDERS)
@pytest.mark.parametrize("fails", MIDDLE)
def test_an_error_in_mid_stream_is_of_its_own_class(
    client: Any, waiting: Waiting, stage: Stage, fails: str, route: str
) -> None:
    cell = stage.put(MIDDLE[fails][route], route)
    with pytest.raises(anthropic.APIError) as caught:
        ask(client, waiting, cell, streamed=True)
    check_body(caught.value)
    stage.failed(cell, MIDDLE_EXITS[fails])
