"""Promise: the matrix can fail. What it compares is compared, and its line says so."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields, replace
from importlib.metadata import version
from typing import Any

import pytest

from counterfoil.testing import Counts
from tests.shells.clients_python.conftest import summary
from tests.shells.clients_python.matrix import CALLS, GOOD_KEY, PROVIDERS, THOUGHT, Cell, Heard, Stage

__all__: list[str] = []


def heard_plainly(stage: Stage, cell: Cell) -> Heard:
    """A cell through the chat door without any client, read as it should be."""
    body = {
        "model": cell.route,
        "messages": [{"role": "user", "content": cell.prompt}],
        "tools": [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("tide", "boats")],
    }
    answer = stage.gateway.post(body, authorization=f"Bearer {GOOD_KEY}")
    assert answer.status == 200
    usage: dict[str, Any] = answer.json["usage"]
    prompt, completion = usage["prompt_tokens_details"], usage["completion_tokens_details"]
    counts = Counts(
        input=usage["prompt_tokens"],
        output=usage["completion_tokens"],
        cache_read=prompt["cached_tokens"],
        cache_write=prompt["cache_write_tokens"],
        reasoning=completion["reasoning_tokens"],
    )
    message = answer.json["choices"][0]["message"]
    calls = CALLS if message.get("tool_calls") else []
    return Heard(message["content"] or "", message.get("reasoning_content") or "", list(calls), counts)


def off(heard: Heard, name: str, more: int) -> Heard:
    """One count that is not what it was."""
    counts: Any = heard.counts
    return replace(heard, counts=replace(counts, **{name: (getattr(counts, name) or 0) + more}))


WRONG: dict[str, Callable[[Heard], Heard]] = {
    "text": lambda heard: replace(heard, text=heard.text + "."),
    "reasoning text": lambda heard: replace(heard, reasoning="low"),
    "a call missing": lambda heard: replace(heard, calls=heard.calls[:1] if heard.calls else CALLS),
    "a wrong argument": lambda heard: replace(heard, calls=[("tide", {"port": "north", "hour": 5}), *CALLS[1:]]),
    **{
        f"{count.name} {more:+}": functools.partial(off, name=count.name, more=more)
        for count in fields(Counts)
        for more in (-1, 1)
    },
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("subject", ["tools", "reasoning"])
def test_what_is_heard_wrongly_is_found(stage: Stage, subject: str, wrong: str) -> None:
    cell = stage.cell("chat", subject)
    heard = WRONG[wrong](heard_plainly(stage, cell))
    with pytest.raises(AssertionError):
        stage.check(cell, heard, "openai_chat")


@pytest.mark.parametrize("subject", ["text", "tools", "reasoning"])
def test_what_is_heard_rightly_is_not(stage: Stage, subject: str) -> None:
    cell = stage.cell("messages", subject)
    stage.check(cell, heard_plainly(stage, cell), "openai_chat")


def test_a_cell_that_did_not_cross_as_it_says_is_found(stage: Stage) -> None:
    cell = stage.cell("chat", "text")
    heard = heard_plainly(stage, cell)
    with pytest.raises(AssertionError):
        stage.check(replace(cell, route="messages"), heard, "openai_chat")


def test_what_a_client_is_said_not_to_say_may_not_be_said(stage: Stage) -> None:
    cell = stage.cell("chat", "text")
    heard = heard_plainly(stage, cell)
    with pytest.raises(AssertionError, match="has words for it now"):
        stage.check(cell, heard, "openai_chat", unsaid=("cache_write",))


def test_no_two_cells_count_alike(stage: Stage) -> None:
    plans = [stage.cell(route, "reasoning").plan for route in PROVIDERS]
    for count in fields(Counts):
        assert len({getattr(plan.usage, count.name) for plan in plans}) == len(plans)
    assert all("".join(plan.reasoning) == THOUGHT for plan in plans)


def test_the_line_of_a_client_says_what_differs() -> None:
    reports = [("openai", "cell", "passed"), ("openai", "cell", "failed"), ("openai", "error", "passed")]
    assert summary(reports) == [f"openai {version('openai')}: 2 cells, 1 differ; 1 errors, all its own"]
    skipped = [("anthropic", "cell", "skipped"), ("anthropic", "cell", "passed")]
    assert summary(skipped) == [f"anthropic {version('anthropic')}: 2 cells, 1 not run, the others all equal"]
