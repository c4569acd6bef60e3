"""A reply is priced at the rate it was served at: what the provider says of it reaches the price list."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

import pytest

from counterfoil.dialects.registry import DIALECTS
from counterfoil.exchange.recorded import read_reply
from counterfoil.ledger.entry import Line, Opening
from counterfoil.ledger.price_sheet import read_sheet
from counterfoil.ledger.price_table import PriceTable
from counterfoil.ledger.pricing import price_lines
from counterfoil.testing.eventstream import event_message
from counterfoil.usage.reading import Counter, Reading, Report, rate_context
from counterfoil.usage.settle import Convention, settle

__all__: list[str] = []

AT: Final = 1_795_000_000.0
TABLE: Final = PriceTable([read_sheet(resources.files("counterfoil.ledger").joinpath("prices.json").read_bytes())])


def line_of(model: str, context: Mapping[str, str], *, price_id: str = "openai") -> Line:
    opening = Opening("a", "e", AT, "r", "p", model, "openai_chat", "openai_chat", price_id=price_id)
    reading = Reading().join(Report({Counter.INPUT: 1_000_000, Counter.OUTPUT: 1_000_000}, context=context))
    (line,) = price_lines(opening, settle(reading, Convention(), ended=True).lines, TABLE)
    return line


def test_a_dearer_tier_costs_more_and_a_slower_one_less() -> None:
    usual, dear, slow = (
        line_of("gpt-5", context).cost or 0 for context in ({}, {"service_tier": "priority"}, {"service_tier": "flex"})
    )
    assert usual == 11_250_000_000_000  # $1.25 and $10.00
    assert slow * 2 == usual
    assert dear > usual
    assert line_of("gpt-5", {"service_tier": "default"}).cost == usual


@pytest.mark.parametrize("word", ["default", "standard", "auto", "on_demand"])
def test_the_ordinary_tier_by_any_name_needs_no_remark(word: str) -> None:
    line = line_of("llama-3.1-8b-instant", {"service_tier": word}, price_id="groq")
    assert line.cost
    assert line.priced_by is not None
    assert line.priced_by.notes == ()


def test_fast_mode_is_priced_as_fast() -> None:
    fast, usual = (
        line_of("claude-opus-4-8", context, price_id="anthropic").cost or 0 for context in ({"speed": "fast"}, {})
    )
    assert fast > usual > 0


def test_googles_flex_tier_is_priced_as_its_list_says() -> None:
    slow, usual = (
        line_of("gemini-3.8-flash-tts", context, price_id="google").cost or 0
        for context in ({"service_tier": "flex"}, {"service_tier": "standard"})
    )
    assert 0 < slow < usual


def test_a_tier_without_a_price_of_its_own_is_said_in_the_line() -> None:
    line = line_of("us.anthropic.claude-sonnet-4-5-20250929-v1:0", {"service_tier": "reserved"}, price_id="aws")
    assert line.cost is not None
    assert line.priced_by is not None
    assert any("service_tier=reserved: no price of its own" in note for note in line.priced_by.notes)


def test_a_chosen_place_of_inference_is_said_in_the_line_that_has_no_price_for_it() -> None:
    line = line_of("claude-opus-4-8", {"inference_geo": "us"}, price_id="anthropic")
    assert line.priced_by is not None
    assert any("inference_geo=us: no price of its own" in note for note in line.priced_by.notes)


@pytest.mark.parametrize("word", ["", "two words", "x" * 41, "tier\n", "Größe"])
def test_what_is_no_word_of_a_price_list_is_not_kept(word: str) -> None:
    assert Reading().join(Report({Counter.INPUT: 1}, context={"service_tier": word})).context == {}


def test_what_is_no_text_was_not_said() -> None:
    assert rate_context(service_tier=None, speed=7, other=["x"]) == {}


def test_the_last_word_stands() -> None:
    asked, served = (Report({Counter.INPUT: 1}, context={"service_tier": word}) for word in ("priority", "default"))
    reading = Reading().join(asked).join(Report({Counter.OUTPUT: 2})).join(served)
    assert reading.context == {"service_tier": "default"}


def _sse(*values: object) -> bytes:
    return b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values)


def _chat(**more: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}, **more}


_RESPONSE: Final = {"object": "response", "output": [], "usage": {"input_tokens": 7, "output_tokens": 5}}
_CLAUDE: Final = {"type": "message", "content": [], "stop_reason": "end_turn"}
_CONVERSE: Final = {"inputTokens": 7, "outputTokens": 5, "totalTokens": 12}
SAID: Final[Mapping[str, tuple[str, bool, bytes, Mapping[str, str]]]] = {
    "chat": ("openai_chat", True, _sse(_chat(service_tier="flex")), {"service_tier": "flex"}),
    "chat, whole": (
        "openai_chat",
        False,
        json.dumps(_chat(service_tier="priority")).encode(),
        {"service_tier": "priority"},
    ),
    "Responses, which says first what was asked for": (
        "openai_responses",
        True,
        _sse(
            {"type": "response.created", "response": {**_RESPONSE, "usage": None, "service_tier": "priority"}},
            {
                "type": "response.completed",
                "response": {**_RESPONSE, "status": "completed", "service_tier": "default"},
            },
        ),
        {"service_tier": "default"},
    ),
    "messages": (
        "anthropic_messages",
        False,
        json.dumps(
            {**_CLAUDE, "usage": {"input_tokens": 7, "output_tokens": 5, "service_tier": "standard", "speed": "fast"}}
        ).encode(),
        {"service_tier": "standard", "speed": "fast"},
    ),
    "Messages, inference in one place": (
        "anthropic_messages",
        False,
        json.dumps({**_CLAUDE, "usage": {"input_tokens": 7, "output_tokens": 5, "inference_geo": "us"}}).encode(),
        {"inference_geo": "us"},
    ),
    "Messages, inference anywhere": (
        "anthropic_messages",
        False,
        json.dumps({**_CLAUDE, "usage": {"input_tokens": 7, "output_tokens": 5, "inference_geo": "global"}}).encode(),
        {},
    ),
    "Vertex": (
        "gemini",
        False,
        json.dumps(
            {
                "candidates": [{"finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7, "trafficType": "ON_DEMAND_FLEX"},
            }
        ).encode(),
        {"service_tier": "flex"},
    ),
    "Google AI": (
        "gemini",
        False,
        json.dumps(
            {
                "candidates": [{"finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7, "serviceTier": "priority"},
            }
        ).encode(),
        {"service_tier": "priority"},
    ),
    "Google AI, the enum's word": (
        "gemini",
        True,
        _sse(
            {
                "candidates": [{"finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7, "serviceTier": "SERVICE_TIER_FLEX"},
            }
        ),
        {"service_tier": "flex"},
    ),
    "Interactions": (
        "gemini_interactions",
        False,
        json.dumps(
            {
                "id": "v1_a",
                "status": "completed",
                "service_tier": "flex",
                "usage": {"total_tokens": 7, "total_input_tokens": 5, "total_output_tokens": 2},
            }
        ).encode(),
        {"service_tier": "flex"},
    ),
    "Converse": (
        "bedrock_converse",
        True,
        event_message("messageStop", {"stopReason": "end_turn"})
        + event_message("metadata", {"usage": _CONVERSE, "serviceTier": {"type": "priority"}}),
        {"service_tier": "priority"},
    ),
    "Converse, whole": (
        "bedrock_converse",
        False,
        json.dumps(
            {"output": {}, "stopReason": "end_turn", "usage": _CONVERSE, "serviceTier": {"type": "flex"}}
        ).encode(),
        {"service_tier": "flex"},
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_the_tier_that_served_a_reply_is_read_beside_its_usage(case: str) -> None:
    dialect, streamed, body, said = SAID[case]
    reply = read_reply([body], DIALECTS[dialect], streamed=streamed)
    assert reply.reading.context == said
    assert reply.settlement.lines[0].context == said
