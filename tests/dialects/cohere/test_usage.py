"""Two truths: what the model read and wrote, and what is billed."""

from __future__ import annotations

from typing import Any

import pytest

from counterfoil.core.event import UsageReported
from counterfoil.dialects.cohere.usage import CHAT_CONVENTION, read_chat, read_embed, read_rerank
from counterfoil.ledger.price import cost_of, own_price
from counterfoil.usage.reading import Counter, Report
from counterfoil.usage.settle import Delivered, Settlement, settle
from counterfoil.usage.usage import Bucket, Provenance, total_of
from tests.laws.strategies import reading_of

from .support import block, end, read, start

__all__: list[str] = []

RATES = own_price("harbour", "tide", {"input": "2.50", "output": "10.00"}, date="2026-11-01")


def settled(usage: Any) -> Settlement:
    return read(start() + block(0, "text", "At noon.") + end(usage=usage)).settlement


def test_the_tokens_are_shown_and_the_bill_is_priced() -> None:
    usage = settled(
        {
            "billed_units": {"input_tokens": 12, "output_tokens": 7},
            "tokens": {"input_tokens": 500, "output_tokens": 10},
            "cached_tokens": 448,
        }
    ).usage
    assert (usage.input_tokens, usage.cache_read_tokens, usage.output_tokens) == (500, 448, 10)
    assert usage.billed == {Bucket.INPUT: 12, Bucket.OUTPUT: 7}
    cost = cost_of(usage.priced, RATES)
    assert cost.amount == (12 * 2_500_000 + 7 * 10_000_000)
    assert [(line.bucket, line.tokens) for line in cost.lines] == [("input", 12), ("output", 7)]


def test_images_make_the_bill_larger_than_the_text() -> None:
    """WIRE.md 1: tokens.input_tokens 34 beside tokens.image_tokens 259, billed 267."""
    found = settled(
        {
            "billed_units": {"input_tokens": 267, "output_tokens": 40},
            "tokens": {"input_tokens": 34, "output_tokens": 42, "image_tokens": 259},
        }
    )
    usage = found.usage
    assert usage.input_tokens == 34 + 259
    assert usage.claimed(Bucket.INPUT_IMAGE) == 259
    assert usage.priced == {Bucket.INPUT: 267, Bucket.OUTPUT: 40}
    assert found.discrepancies == ()


def test_reasoning_is_inside_the_output() -> None:
    usage = settled({"tokens": {"input_tokens": 9, "output_tokens": 164, "reasoning_tokens": 54}}).usage
    assert (usage.output_tokens, usage.reasoning_tokens) == (164, 54)
    assert usage.billed is None


def test_a_side_that_the_bill_does_not_name_is_billed_as_it_was_used() -> None:
    usage = settled(
        {
            "billed_units": {"input_tokens": 12},
            "tokens": {"input_tokens": 500, "output_tokens": 20, "reasoning_tokens": 5},
        }
    ).usage
    assert usage.priced == {Bucket.INPUT: 12, Bucket.OUTPUT: 15, Bucket.REASONING: 5}


def test_a_bill_without_tokens_prices_a_reply_whose_tokens_nobody_knows() -> None:
    bill = {"billed_units": {"input_tokens": 12, "output_tokens": 7}}
    reply = read(start() + block(0, "text", "At noon.") + end(usage=bill))
    usage = reply.settlement.usage
    assert (usage.input_tokens, usage.output_tokens) == (None, None)
    assert cost_of(usage.priced, RATES).amount == 12 * 2_500_000 + 7 * 10_000_000
    (report,) = [event.report for event in reply.events if isinstance(event, UsageReported)]
    guessed = settle(reading_of(report), CHAT_CONVENTION, ended=True, delivered=Delivered(input=30, output=4)).usage
    assert guessed.provenance[Bucket.INPUT] is Provenance.ESTIMATED
    assert guessed.priced == {Bucket.INPUT: 12, Bucket.OUTPUT: 7}


def test_output_after_the_last_report_of_a_cut_reply_is_billed_too() -> None:
    report = Report({Counter.INPUT: 500, Counter.OUTPUT: 10, Counter.BILLED_INPUT: 12, Counter.BILLED_OUTPUT: 7})
    cut = settle(
        reading_of(report), CHAT_CONVENTION, ended=False, delivered=Delivered(input=1, output=14, since_report=4)
    ).usage
    assert cut.output_tokens == 14
    assert cut.priced == {Bucket.INPUT: 12, Bucket.OUTPUT: 11}


def test_what_two_attempts_are_billed_adds_up_beside_what_they_used() -> None:
    cohere = settled(
        {
            "billed_units": {"input_tokens": 12, "output_tokens": 7},
            "tokens": {"input_tokens": 500, "output_tokens": 10},
        }
    ).usage
    other = settle(reading_of(Report({Counter.INPUT: 40, Counter.OUTPUT: 8})), CHAT_CONVENTION, ended=True).usage
    both = total_of([cohere, other])
    assert (both.input_tokens, both.output_tokens) == (540, 18)
    assert both.priced == {Bucket.INPUT: 52, Bucket.OUTPUT: 15}


@pytest.mark.parametrize("units", [{"search_units": 2}, {"search_units": 2.0}])
def test_a_rerank_is_billed_in_searches(units: dict[str, Any]) -> None:
    report = read_rerank(b'{"billed_units": %s}' % str(units).replace("'", '"').encode())
    assert report is not None
    assert report.counts == {Counter.SEARCH_UNITS: 2, Counter.BILLED_INPUT: 0}


def test_an_embed_of_images_is_billed_by_the_piece_or_in_their_tokens() -> None:
    pieces = read_embed(b'{"billed_units": {"images": 3}}')
    tokens = read_embed(b'{"billed_units": {"image_tokens": 300}}')
    both = read_embed(b'{"billed_units": {"input_tokens": 9, "image_tokens": 300}}')
    assert pieces is not None
    assert tokens is not None
    assert both is not None
    assert pieces.counts == {Counter.IMAGES: 3, Counter.BILLED_INPUT: 0}
    assert tokens.counts == {Counter.INPUT: 0, Counter.INPUT_IMAGE: 300}
    assert both.counts == {Counter.INPUT: 9, Counter.INPUT_IMAGE: 300}


@pytest.mark.parametrize("raw", [b"null", b"[]", b"7", b"{}", b"{", b'{"billed_units": 7}', b"\xff"])
def test_what_says_nothing_is_no_report(raw: bytes) -> None:
    assert read_chat(raw) is None
    assert read_embed(raw) is None
    assert read_rerank(raw) is None


def test_null_neither_sets_nor_clears_and_what_is_no_count_is_kept_as_such() -> None:
    report = read_chat(b'{"tokens": {"input_tokens": null, "output_tokens": -4}, "cached_tokens": 1.5}')
    assert report is not None
    assert report.counts == {Counter.INPUT: None, Counter.OUTPUT: -4}
    assert reading_of(report).implausible == {Counter.OUTPUT}
