"""An answer that a client began is carried to every dialect, and named where it may not be gone on with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from counterfoil.core.message import Image, Message, Part, Text, ToolCall, ToolResult
from counterfoil.core.operation import ChatRequest
from counterfoil.dialects.dialect import Dialect, Quirks, WrittenRequest
from counterfoil.dialects.prefill import PREFILL
from counterfoil.dialects.registry import DIALECTS
from counterfoil.driver.deployment import load_table
from tests.dialects.crossing.test_grid import BOUND_NEEDED, MODELS, PROVIDERS

__all__: list[str] = []

ASKED = Message("user", (Text("When is high water?"),))
BEGUN = Message("assistant", (Text("High water is at"),))
GO_ON = {"anthropic_messages", "bedrock_converse", "bedrock_invoke", "gemini"}
"""Dialects in which a last turn of the model's is one to go on with."""


def write(dialect: Dialect[Any], *messages: Message, quirks: Quirks | None = None) -> WrittenRequest:
    needed = Quirks(default_max_tokens=4096 if dialect.name in BOUND_NEEDED else None)
    request = ChatRequest("house-model", messages)
    return dialect.write_request(request, MODELS.get(dialect.name, "made-1"), quirks or needed, False)


@pytest.mark.parametrize("dialect", PROVIDERS, ids=lambda dialect: dialect.name)
def test_a_begun_answer_is_the_last_turn_everywhere_and_named_where_it_may_be_taken_for_a_finished_one(
    dialect: Dialect[Any],
) -> None:
    written = write(dialect, ASKED, BEGUN)
    assert written.dropped == (() if dialect.name in GO_ON else (PREFILL,))
    body = json.loads(written.body)
    turns = body.get("messages") or body.get("input") or body["contents"]
    assert turns[-1]["role"] == ("model" if dialect.name == "gemini" else "assistant")
    assert "High water is at" in json.dumps(turns[-1])


@pytest.mark.parametrize("dialect", PROVIDERS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(
    "more",
    [
        pytest.param((BEGUN, Message("user", (Text("Go on."),))), id="the user spoke last"),
        pytest.param(
            (
                Message("assistant", (ToolCall("t1", "tides", "{}"),)),
                Message("tool", (ToolResult("t1", (Text("Noon."),)),)),
            ),
            id="a tool answered last",
        ),
    ],
)
def test_a_conversation_that_ends_on_the_other_side_has_no_begun_answer(
    dialect: Dialect[Any], more: tuple[Message, ...]
) -> None:
    assert PREFILL not in write(dialect, ASKED, *more).dropped


@pytest.mark.parametrize("parts", [(), (Text(" \n"),), (Text("Let me see."), ToolCall("t1", "tides", "{}"))])
def test_what_says_nothing_or_calls_a_tool_is_no_begun_answer(parts: tuple[Part, ...]) -> None:
    chat = DIALECTS["openai_chat"]
    assert PREFILL not in write(chat, ASKED, Message("assistant", parts)).dropped


@pytest.mark.parametrize("result", [Text("Noon."), Image(url="https://harbour.example/boat.png")])
def test_mistral_gets_it_as_the_prefix_which_is_all_it_takes(result: Part) -> None:
    called = Message("assistant", (ToolCall("t1", "tides", "{}"),)), Message("tool", (ToolResult("t1", (result,)),))
    quirks = load_table()["mistral"].quirks
    written = write(DIALECTS["openai_chat"], ASKED, *called, BEGUN, quirks=quirks)
    turns = json.loads(written.body)["messages"]
    assert turns[-1] == {"role": "assistant", "content": "High water is at", "prefix": True}
    assert not any("prefix" in turn for turn in turns[:-1])
    assert written.dropped == (PREFILL,), "its reply may say the beginning again"
    assert "prefix" not in json.loads(write(DIALECTS["openai_chat"], ASKED, BEGUN).body)["messages"][-1]
