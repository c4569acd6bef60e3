"""Promise: LangChain.js counts every token once through the gateway; what docs/langchain.md says of it is so.

Needs Node.js 20 and LangChain.js where `make langchain-js` puts it; skipped, with the reason, where they are not.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from counterfoil.testing import CHAT_SHAPES, ChatReply, ChatShape, Counts, MessagesReply, chat_player, messages_player
from tests.langchain.which_class import COUNTS, NO, PLANS, YES, column
from tests.shells.clients import TOOLS, Stage, booked, staged
from tests.tree import REPOSITORY

__all__: list[str] = []

MODULES: Final = Path(sys.prefix) / "langchain-js" / "node_modules"
PROGRAM: Final = REPOSITORY / "tests" / "shells" / "langchain_js.mjs"
PATHS: Final = ("invoke", "stream")

Hear = Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("stage")) as running:
        yield running


@pytest.fixture(scope="module")
def hear(stage: Stage) -> Hear:
    """What LangChain.js hears of several calls, made by one process."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    if not (MODULES / "@langchain" / "openai").is_dir():
        pytest.skip("LangChain.js is not installed (make langchain-js)")

    def heard(asks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        given = {"modules": str(MODULES), "base_url": stage.base_url, "asks": asks}
        ran = subprocess.run(
            [node, str(PROGRAM)], input=json.dumps(given), capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 0, ran.stderr
        answers: list[dict[str, Any]] = json.loads(ran.stdout)
        return answers

    return heard


def ask(ticket: str, path: str, model: str = "m", **fields: Any) -> dict[str, Any]:
    """One call of `ChatOpenAI`, with these fields."""
    return {"ticket": ticket, "model": model, "fields": fields, "path": path}


def counts(usage: Mapping[str, Any] | None) -> Counts | None:
    """A message's usage as counts."""
    if usage is None:
        return None
    inside, out = usage.get("input_token_details") or {}, usage.get("output_token_details") or {}
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    return Counts(
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        cache_read=inside.get("cache_read"),
        cache_write=inside.get("cache_creation"),
        reasoning=out.get("reasoning"),
    )


def test_every_shape_is_counted_once(hear: Hear, stage: Stage) -> None:
    shapes: list[ChatShape] = list(CHAT_SHAPES)
    tickets = [stage.put(ChatReply(shape=shape).script()) for shape in shapes]
    for shape, ticket, said in zip(shapes, tickets, hear([ask(ticket, "stream") for ticket in tickets]), strict=True):
        served, entry = stage.once(ticket)
        assert counts(said["usage"]) == booked(entry), shape
        assert said["told"] == 1, shape
        assert said["text"] == served.text, shape


def test_it_asks_by_itself_and_may_be_told_not_to(hear: Hear, stage: Stage) -> None:
    tickets = [stage.put(chat_player(ChatReply())) for _ in range(2)]
    told, untold = hear([ask(tickets[0], "stream"), ask(tickets[1], "stream", streamUsage=False)])
    assert counts(told["usage"]) == booked(stage.once(tickets[0])[1])
    assert untold["usage"] is None
    assert booked(stage.once(tickets[1])[1]) == stage.once(tickets[1])[0].usage


@pytest.mark.parametrize("path", PATHS)
def test_cache_and_reasoning_are_counted(hear: Hear, stage: Stage, path: str) -> None:
    ticket = stage.put(chat_player(ChatReply(usage=Counts(input=40, output=17, cache_read=8, reasoning=3))))
    (said,) = hear([ask(ticket, path)])
    assert counts(said["usage"]) == booked(stage.once(ticket)[1])


@pytest.mark.parametrize("path", PATHS)
def test_an_anthropic_provider_is_counted_with_its_cache(hear: Hear, stage: Stage, path: str) -> None:
    usage = Counts(input=120, output=9, cache_read=100, cache_write=0)
    ticket = stage.put(messages_player(MessagesReply(usage=usage)))
    (said,) = hear([ask(ticket, path, "claude")])
    entry = booked(stage.once(ticket)[1])
    assert entry == usage
    heard = counts(said["usage"])
    assert heard is not None
    assert (heard.input, heard.output, heard.cache_read) == (120, 9, 100)


@pytest.mark.parametrize("path", PATHS)
def test_tool_calls_arrive(hear: Hear, stage: Stage, path: str) -> None:
    ticket = stage.put(chat_player(ChatReply(text="", tools=TOOLS)))
    (said,) = hear([ask(ticket, path)])
    assert said["calls"] == [{"name": "tide", "args": {"port": "north", "hour": 4}}, {"name": "boats", "args": {}}]


@pytest.mark.parametrize("path", PATHS)
def test_reasoning_arrives(hear: Hear, stage: Stage, path: str) -> None:
    ticket = stage.put(chat_player(ChatReply(reasoning="High or low?")))
    (said,) = hear([ask(ticket, path)])
    assert said["reasoning"] == "High or low?"


SHOWN: Final[Mapping[str, Callable[[dict[str, Any]], bool]]] = {
    "usage of a whole reply": lambda said: (said["usage"] or {}).get("total_tokens") == 17,
    "usage of a stream": lambda said: (said["usage"] or {}).get("total_tokens") == 17,
    "cache read, reasoning tokens": lambda said: (
        (said["usage"]["input_token_details"].get("cache_read"), said["usage"]["output_token_details"].get("reasoning"))
        == (COUNTS.cache_read, COUNTS.reasoning)
    ),
    "cache written": lambda said: said["usage"]["input_token_details"].get("cache_creation") == COUNTS.cache_write,
    "reasoning text": lambda said: said["reasoning"] == "High or low?",
    "ledger entry and cost in the message": lambda said: "counterfoil" in said["metadata"],
}


def test_the_page_says_truly_what_it_shows(hear: Hear, stage: Stage) -> None:
    tickets = {row: stage.put(chat_player(plan)) for row, plan in PLANS.items()}
    paths = {row: "stream" if row == "usage of a stream" else "invoke" for row in PLANS}
    answers = hear([ask(ticket, paths[row]) for row, ticket in tickets.items()])
    found = {row: YES if SHOWN[row](said) else NO for row, said in zip(tickets, answers, strict=True)}
    page = column("`ChatOpenAI` in JS")
    # Tool calls have a test above; what is metered without a gateway is not LangChain.js's to know.
    assert page == found | {"tool calls, structured output": YES, "metered without a gateway": NO}
