"""Promise: LangChain's Anthropic class counts what was served, before every provider, and raises its own errors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import anthropic
import pytest
from langchain_anthropic import ChatAnthropic
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

CLIENT = "langchain-anthropic"
Model = Callable[..., Any]


@pytest.fixture(scope="module")
def model(stage: Stage) -> Model:
    """A model for a route."""

    @functools.cache
    def made(route: str, *, thinks: bool = False, key: str = GOOD_KEY) -> ChatAnthropic:
        options: dict[str, Any] = {"model": route, "max_tokens": 4096}
        if thinks:
            options |= {"thinking": {"type": "adaptive"}, "reasoning_effort": "low"}
        return ChatAnthropic(base_url=stage.origin, api_key=SecretStr(key), max_retries=0, timeout=SECONDS, **options)

    return made


@cells(*WAYS)
def test_a_cell(model: Model, waiting: Waiting, stage: Stage, way: str, route: str, subject: str) -> None:
    cell = stage.cell(route, subject)
    heard = hear(ask(model(route, thinks=subject == "reasoning"), waiting, way, cell))
    stage.check(cell, heard, "anthropic_messages")


STATUSES: dict[int, type[anthropic.APIStatusError]] = {
    429: anthropic.RateLimitError,
    502: anthropic.InternalServerError,
    503: anthropic.InternalServerError,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", ["field", "size", "key", "model"])
def test_an_error_of_the_caller_is_of_its_own_class(
    model: Model, waiting: Waiting, stage: Stage, wrong: str, way: str
) -> None:
    cell = stage.put(no_answer(), "gemini")
    changes: dict[str, tuple[type[anthropic.APIStatusError], int, Any, dict[str, Any]]] = {
        "field": (anthropic.BadRequestError, 400, model("gemini"), {"extra_body": {"temperature": "warm"}}),
        "size": (anthropic.RequestTooLargeError, 413, model("gemini"), {"system": TOO_LONG}),
        "key": (anthropic.AuthenticationError, 401, model("gemini", key=BAD_KEY), {}),
        "model": (anthropic.NotFoundError, 404, model(UNKNOWN_MODEL), {}),
    }
    kind, status, made, fields = changes[wrong]
    with pytest.raises(kind) as caught:
        ask(made, waiting, way, cell, **fields)
    assert caught.value.status_code == status
    assert caught.value.message
    stage.untouched(cell)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("route", ["chat", "messages", "gemini"])
@pytest.mark.parametrize("fails", BEFORE)
def test_an_error_before_the_first_byte_is_of_its_own_class(
    model: Model, waiting: Waiting, stage: Stage, fails: str, route: str, way: str
) -> None:
    answer, status, exit_ = BEFORE[fails]
    cell = stage.put(answer, route)
    with pytest.raises(STATUSES[status]) as caught:
        ask(model(route), waiting, way, cell)
    assert caught.value.status_code == status
    assert caught.value.message
    stage.failed(cell, exit_)


@pytest.mark.parametrize("route", PROVIDERS)
@pytest.mark.parametrize("fails", MIDDLE)
def test_an_error_in_mid_stream_is_of_its_own_class(
    model: Model, waiting: Waiting, stage: Stage, fails: str, route: str
) -> None:
    cell = stage.put(MIDDLE[fails][route], route)
    with pytest.raises(anthropic.APIError) as caught:
        ask(model(route), waiting, "stream", cell)
    assert caught.value.message
    stage.failed(cell, MIDDLE_EXITS[fails])
