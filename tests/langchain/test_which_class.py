"""Promise: docs/langchain.md says truly which class can do what at the gateway; LangChain.js has its own module."""

from __future__ import annotations

import contextlib
import functools
import io
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import openai
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from counterfoil.langchain import ChatCounterfoil
from counterfoil.testing import ChatReply, Counts, Playback, Tool, chat_player, running
from tests.langchain.which_class import ASKING, COUNTS, NO, PLANS, YES, column
from tests.shells.clients import Stage, staged
from tests.shells.gateway import HELLO, SECONDS
from tests.tree import REPOSITORY

__all__: list[str] = []

Make = Callable[..., Any]
OURS: Final[Make] = ChatCounterfoil
CLASSES: Final = ("`ChatCounterfoil`", "`ChatOpenAI`", "`ChatAnthropic`")


class Tide(BaseModel):
    """The tide at a port."""

    port: str


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture(params=CLASSES)
def made(request: pytest.FixtureRequest, stage: Stage) -> Iterator[tuple[str, Make]]:
    """The title of a column, and what makes its model."""
    if request.param == "`ChatCounterfoil`":
        yield request.param, functools.partial(OURS, model="m", base_url=stage.base_url, api_key="sk-any")
        return
    key = SecretStr("sk-any")
    if request.param == "`ChatAnthropic`":
        root = stage.base_url.removesuffix("/v1")

        def anthropic(*, model_kwargs: dict[str, Any], **more: Any) -> Any:
            asked: dict[str, Any] = {
                "model": "m",
                "base_url": root,
                "api_key": key,
                "timeout": SECONDS,
                "max_tokens": 99,
            }
            ticket = {"metadata": {"user_id": model_kwargs["user"]}}
            return ChatAnthropic(**asked, model_kwargs={"extra_body": ticket}, **more)

        yield request.param, anthropic
        return
    with openai.DefaultHttpxClient() as connections:
        yield (
            request.param,
            functools.partial(
                ChatOpenAI, model="m", base_url=stage.base_url, api_key=key, timeout=SECONDS, http_client=connections
            ),
        )


def said(model: Any, *, streamed: bool) -> AIMessage:
    """What the model says, as one message."""
    hello = [HumanMessage("Good morning")]
    pieces = list(model.stream(hello)) if streamed else [model.invoke(hello)]
    whole: AIMessage = functools.reduce(operator.add, pieces)
    return whole


def details(message: AIMessage) -> dict[str, Any]:
    """The details of a message's usage."""
    usage = message.usage_metadata
    if usage is None:
        return {}
    return {**usage.get("input_token_details", {}), **usage.get("output_token_details", {})}


def total(message: AIMessage) -> int | None:
    """All tokens of a message, as it says."""
    return None if message.usage_metadata is None else message.usage_metadata["total_tokens"]


def thought(message: AIMessage) -> str:
    """What stands in its blocks of thinking."""
    blocks = [block for block in message.content if isinstance(block, dict)]
    return "".join(block["thinking"] for block in blocks if block.get("type") == "thinking")


SHOWN: Final[dict[str, Callable[[AIMessage], bool]]] = {
    "usage of a whole reply": lambda message: total(message) == 17,
    "usage of a stream": lambda message: total(message) == 17,
    "cache read, reasoning tokens": lambda message: (
        (details(message).get("cache_read"), details(message).get("reasoning")) == (COUNTS.cache_read, COUNTS.reasoning)
    ),
    "cache written": lambda message: details(message).get("cache_creation") == COUNTS.cache_write,
    "reasoning text": lambda message: (
        "High or low?" in (message.additional_kwargs.get("reasoning_content"), thought(message))
    ),
    "ledger entry and cost in the message": lambda message: "counterfoil" in message.response_metadata,
}


@pytest.mark.parametrize("row", PLANS)
def test_a_reply_shows_what_the_page_says(made: tuple[str, Make], stage: Stage, row: str) -> None:
    title, make = made
    streamed = row == "usage of a stream"

    def shows(**more: Any) -> bool:
        ticket = stage.put(chat_player(PLANS[row]))
        return SHOWN[row](said(make(model_kwargs={"user": ticket}, **more), streamed=streamed))

    found = YES if shows() else ASKING if shows(stream_usage=True) else NO
    assert column(title)[row] == found


@pytest.mark.parametrize("streamed", [False, True], ids=["invoke", "stream"])
def test_tools_and_structured_output_go_through_every_class(
    made: tuple[str, Make], stage: Stage, streamed: bool
) -> None:
    title, make = made
    ticket = stage.put(chat_player(ChatReply(text="", tools=(Tool("Tide", '{"port": "north"}'),))))
    model = make(model_kwargs={"user": ticket})
    calls = said(model.bind_tools([Tide]), streamed=streamed).tool_calls
    found = YES if [call["args"] for call in calls] == [{"port": "north"}] else NO
    assert column(title)["tool calls, structured output"] == found
    read = model.with_structured_output(Tide, method="function_calling").invoke(HELLO)
    assert read == Tide(port="north")


@pytest.fixture(scope="module")
def provider() -> Iterator[Playback]:
    with running() as provider:
        yield provider


def test_only_our_class_meters_without_a_gateway(provider: Playback) -> None:
    message = said(OURS(model="openai/m", base_url=provider.base_url, api_key="sk-any"), streamed=True)
    assert message.usage_metadata is not None
    assert "counterfoil" in message.response_metadata
    assert [column(title)["metered without a gateway"] for title in CLASSES] == [YES, NO, NO]


def test_the_programs_on_the_page_run_and_the_first_chat_has_five_lines(
    provider: Playback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-play")
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    page = (REPOSITORY / "docs" / "langchain.md").read_text(encoding="utf-8")
    programs = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    whole = [program for program in programs if "import" in program]
    assert len(whole) == 2
    assert len(whole[0].splitlines()) <= 5
    said = []
    for program in whole:
        provider.queue(chat_player(ChatReply(text="Hello", usage=Counts(input=12, output=5))))
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(program, "docs/langchain.md", "exec"), {})
        said.append(printed.getvalue().splitlines())
    assert said[0][0].strip() == "Hello"
    assert "'total_tokens': 17" in said[0][-1]
    assert said[1] == ["17"]
