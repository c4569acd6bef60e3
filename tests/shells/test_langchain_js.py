"""Promise: LangChain.js counts every token once, wherever a provider says it; what docs/langchain.md says of it is so.

What it counts before each dialect is tried beside the other clients of Node.js, in `clients_node`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import pytest

from counterfoil.testing import CHAT_SHAPES, ChatReply, Counts, chat_player
from tests.langchain.which_class import COUNTS, NO, PLANS, YES, column
from tests.shells.clients import Stage, booked, staged
from tests.shells.clients_node.house import heard_by, node_command

__all__: list[str] = []

Hear = Callable[[Mapping[str, Mapping[str, Any]]], dict[str, Any]]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    node_command()  # before anything is started
    with staged(tmp_path_factory.mktemp("stage")) as running:
        yield running


@pytest.fixture(scope="module")
def hear(stage: Stage) -> Hear:
    """What LangChain.js hears of several calls, by ticket."""

    def heard(asks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        orders = [
            {"name": ticket, "model": "m", "way": "stream", "fields": {"user": ticket}, **ask}
            for ticket, ask in asks.items()
        ]
        return heard_by("langchain_openai", stage.base_url, orders, "sk-any")

    return heard


def counts(usage: Mapping[str, Any]) -> Counts:
    """A message's usage as counts."""
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
    tickets = {stage.put(ChatReply(shape=shape).script()): shape for shape in CHAT_SHAPES}
    for ticket, said in hear({ticket: {} for ticket in tickets}).items():
        served, entry = stage.once(ticket)
        assert [counts(usage) for usage in said["usages"]] == [booked(entry)], tickets[ticket]
        assert said["told"] == 1, tickets[ticket]
        assert said["text"] == served.text, tickets[ticket]


def test_it_asks_by_itself_and_may_be_told_not_to(hear: Hear, stage: Stage) -> None:
    told, untold = (stage.put(chat_player(ChatReply())) for _ in range(2))
    said = hear({told: {}, untold: {"fields": {"user": untold, "streamUsage": False}}})
    assert counts(said[told]["usages"][0]) == booked(stage.once(told)[1])
    assert said[untold]["usages"] == [None]
    assert booked(stage.once(untold)[1]) == stage.once(untold)[0].usage


def total(said: Mapping[str, Any]) -> object:
    """The total of what a message says of its usage."""
    (usage,) = said["usages"]
    return (usage or {}).get("total_tokens")


SHOWN: Final[Mapping[str, Callable[[dict[str, Any]], bool]]] = {
    "usage of a whole reply": lambda said: total(said) == 17,
    "usage of a stream": lambda said: total(said) == 17,
    "cache read, reasoning tokens": lambda said: (
        (counts(said["usages"][0]).cache_read, counts(said["usages"][0]).reasoning)
        == (COUNTS.cache_read, COUNTS.reasoning)
    ),
    "cache written": lambda said: counts(said["usages"][0]).cache_write == COUNTS.cache_write,
    "reasoning text": lambda said: said["reasoning"] == "High or low?",
    "ledger entry and cost in the message": lambda said: "counterfoil" in said["metadata"],
}


def test_the_page_says_truly_what_it_shows(hear: Hear, stage: Stage) -> None:
    tickets = {stage.put(chat_player(plan)): row for row, plan in PLANS.items()}
    ways = {ticket: {"way": "stream" if row == "usage of a stream" else "whole"} for ticket, row in tickets.items()}
    found = {tickets[ticket]: YES if SHOWN[tickets[ticket]](said) else NO for ticket, said in hear(ways).items()}
    page = column("`ChatOpenAI` in JS")
    # Tool calls are tried in `clients_node`; what is metered without a gateway is not LangChain.js's to know.
    assert page == found | {"tool calls, structured output": YES, "metered without a gateway": NO}
