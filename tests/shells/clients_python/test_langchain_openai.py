"""Promise: LangChain's OpenAI class counts what was served, on both of its doors, before every provider."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from counterfoil.testing import no_answer
from tests.shells.clients_python.langchain import WAYS, ask, hear
from tests.shells.clients_python.matrix import (
    BAD_KEY,
    BEFORE,
    GOOD_KEY,
    MIDDLE,
    MIDDLE_EXITS,
    PROVIDERS,
    TOO_LONG,
    UNKNOWN_MODEL,
    Stage,
    cells,
)
from tests.shells.clients_python.waiting import Waiting
from tests.shells.gateway import SECONDS

__all__: list[str] = []

CLIENT = "langchain-openai"
DOORS = {"chat": "openai_chat", "responses": "openai_responses"}
Model = Callable[..., Any]


@pytest.fixture(scope="module")
def model(stage: Stage, runner: asyncio.Runner) -> Iterator[Model]:
    """A model for a route and a door."""
    asynchronous = openai.DefaultAsyncHttpxClient()
    with openai.DefaultHttpxClient() as http_client:

        @functools.cache
        def made(route: str, door: str, key: str = GOOD_KEY, **more: Any) -> ChatOpenAI:
            options: dict[str, Any] = {"use_responses_api": door == "responses", **more}
            return ChatOpenAI(
                model=route,
                base_url=f"{stage.origin}/v1",
                api_key=SecretStr(key),
                max_retries=0,
                timeout=SECONDS,
                stream_usage=True,
                http_client=http_client,
                http_async_client=asynchronous,
                **options,
            )

        yield made
    runner.run(asynchronous.aclose())


@pytest.mark.parametrize("door", DOORS)
@cells(*WAYS)
def test_a_cell(model: Model, waiting: Waiting, stage: Stage, way: str, route: str, subject: str, door: str) -> None:
    cell = stage.cell(route, subject)
    options: dict[str, Any] = {}
    if subject == "reasoning":
        options = {"reasoning_effort": "low"}
    heard = hear(ask(model(route, door, **options), waiting, way, cell))
    # This class has no place for the reasoning text of the chat wire.
    stage.check(cell, heard, DOORS[door], unsaid=("reasoning text",) if door == "chat" else ())


STATUSES: dict[int, type[openai.APIStatusError]] = {
    429: openai.RateLimitError,
    502: openai.InternalServerError,
    503: openai.InternalServerError,
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", ["field", "size", "key", "model"])
def test_an_error_of_the_caller_is_of_its_own_class(
    model: Model, waiting: Waiting, stage: Stage, wrong: str, way: str, door: str
) -> None:
    cell = stage.put(no_answer(), "gemini")
    changes: dict[str, tuple[type[openai.APIStatusError], int, Any, dict[str, Any]]] = {
        "field": (openai.BadRequestError, 400, model("gemini", door), {"temperature": "warm"}),
        "size": (openai.APIStatusError, 413, model("gemini", door), {"extra_body": {"user": TOO_LONG}}),
        "key": (openai.AuthenticationError, 401, model("gemini", door, key=BAD_KEY), {}),
        "model": (openai.NotFoundError, 404, model(UNKNOWN_MODEL, door), {}),
    }
    kind, status, made, fields = changes[wrong]
    with pytest.raises(kind) as caught:
        ask(made, waiting, way, cell, **fields)
    assert caught.value.status_code == status
    assert caught.value.message
    stage.untouched(cell)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("route", ["chat", "messages", "gemini"])
@pytest.mark.parametrize("fails", BEFORE)
def test_an_error_before_the_first_byte_is_of_its_own_class(
    model: Model, waiting: Waiting, stage: Stage, fails: str, route: str, way: str, door: str
) -> None:
    answer, status, exit_ = BEFORE[fails]
    cell = stage.put(answer, route)
    with pytest.raises(STATUSES[status]) as caught:
        ask(model(route, door), waiting, way, cell)
    assert caught.value.status_code == status
    assert caught.value.message
    stage.failed(cell, exit_)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("route", PROVIDERS)
@pytest.mark.parametrize("fails", MIDDLE)
def test_an_error_in_mid_stream_is_of_its_own_class(
    model: Model, waiting: Waiting, stage: Stage, fails: str, route: str, door: str
) -> None:
    cell = stage.put(MIDDLE[fails][route], route)
    with pytest.raises(openai.APIError) as caught:
        ask(model(route, door), waiting, "stream", cell)
    assert caught.value.message
    stage.failed(cell, MIDDLE_EXITS[fails])
