"""Promise: LangChain's Google class counts what was served, before every provider, and raises its own errors."""

from __future__ import annotations

import asyncio
import functools
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.genai import errors
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_google_genai.chat_models import ChatGoogleGenerativeAIError
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

CLIENT = "langchain-google-genai"
pytestmark = [
    # google-genai makes a class of aiohttp's session for its asynchronous calls, which aiohttp advises against.
    pytest.mark.filterwarnings(
        "ignore:Inheritance class AiohttpClientSession from ClientSession is discouraged:DeprecationWarning"
    ),
    # langchain-core notes the body of an error's response with `response.json()`, which is a coroutine of aiohttp's.
    pytest.mark.filterwarnings("ignore:coroutine 'ClientResponse.json' was never awaited:RuntimeWarning"),
]
Model = Callable[..., Any]


@pytest.fixture(scope="module")
def model(stage: Stage, runner: asyncio.Runner) -> Iterator[Model]:
    """A model for a route."""
    kept: list[ChatGoogleGenerativeAI] = []

    @functools.cache
    def made(route: str, *, thinks: bool = False, key: str = GOOD_KEY) -> ChatGoogleGenerativeAI:
        options: dict[str, Any] = {"include_thoughts": True} if thinks else {}
        kept.append(
            ChatGoogleGenerativeAI(
                model=route,
                base_url=stage.origin,
                google_api_key=SecretStr(key),
                max_retries=1,
                timeout=SECONDS,
                **options,
            )
        )
        return kept[-1]

    yield made
    for one in kept:
        assert one.client is not None
        runner.run(one.client.aio.aclose())
        one.client.close()
    gc.collect()  # what was never awaited is told of here, and not in another module


@cells(*WAYS)
def test_a_cell(model: Model, waiting: Waiting, stage: Stage, way: str, route: str, subject: str) -> None:
    cell = stage.cell(route, subject)
    heard = hear(ask(model(route, thinks=subject == "reasoning"), waiting, way, cell))
    stage.check(cell, heard, "gemini", unsaid=("cache_write",))


def googles(error: BaseException) -> errors.APIError:
    """Google's own error: this class raises it as it is, or says more about it in one of its own."""
    found = error if isinstance(error, errors.APIError) else error.__cause__
    assert isinstance(found, errors.APIError)
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", ["field", "size", "key", "model"])
def test_an_error_of_the_caller_is_of_its_own_class(
    model: Model, waiting: Waiting, stage: Stage, wrong: str, way: str
) -> None:
    cell = stage.put(no_answer(), "chat")
    changes: dict[str, tuple[int, str, Any, dict[str, Any]]] = {
        "field": (400, "INVALID_ARGUMENT", model("chat"), {"http_options": {"extra_body": {"contents": "no list"}}}),
        "size": (413, "INVALID_ARGUMENT", model("chat"), {"labels": {"song": TOO_LONG}}),
        "key": (401, "UNAUTHENTICATED", model("chat", key=BAD_KEY), {}),
        "model": (404, "NOT_FOUND", model(UNKNOWN_MODEL), {}),
    }
    status, named, made, fields = changes[wrong]
    with pytest.raises((errors.APIError, ChatGoogleGenerativeAIError)) as caught:
        ask(made, waiting, way, cell, **fields)
    error = googles(caught.value)
    assert (error.code, error.status) == (status, named)
    assert error.message
    stage.untouched(cell)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("route", ["chat", "messages", "gemini"])
@pytest.mark.parametrize("fails", BEFORE)
def test_an_error_before_the_first_byte_is_of_its_own_class(
    model: Model, waiting: Waiting, stage: Stage, fails: str, route: str, way: str
) -> None:
    answer, status, exit_ = BEFORE[fails]
    cell = stage.put(answer, route)
    with pytest.raises((errors.APIError, ChatGoogleGenerativeAIError)) as caught:
        ask(model(route), waiting, way, cell)
    error = googles(caught.value)
    assert error.code == status
    assert error.message
    stage.failed(cell, exit_)


@pytest.mark.parametrize("route", PROVIDERS)
@pytest.mark.parametrize("fails", MIDDLE)
def test_an_error_in_mid_stream_is_of_its_own_class(
    model: Model, waiting: Waiting, stage: Stage, fails: str, route: str
) -> None:
    cell = stage.put(MIDDLE[fails][route], route)
    with pytest.raises((errors.APIError, ChatGoogleGenerativeAIError)) as caught:
        ask(model(route), waiting, "stream", cell)
    assert googles(caught.value).message
    stage.failed(cell, MIDDLE_EXITS[fails])
