"""The meter counts what passes, once, and says when there is nothing new to write down."""

from __future__ import annotations

import pytest

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.core.event import (
    ChoiceFinished,
    Event,
    FinishReason,
    OutputHidden,
    ReasoningSigned,
    RedactedReasoningGiven,
    ReplyFailed,
    ReplyStarted,
    TextDelta,
    UsageReported,
)
from counterfoil.exchange.meter import LONGEST_ID, Meter
from counterfoil.usage.reading import Counter, Report


def test_nothing_new_is_no_progress() -> None:
    meter = Meter("a", 9)
    assert meter.progress(1.0) is None, "nothing was seen"
    meter.see([TextDelta("The tide turns")])
    noted = meter.progress(2.0)
    assert noted is not None
    assert noted.delivered.output > 0
    assert meter.progress(3.0) is None
    meter.see([TextDelta(" at noon")])
    assert meter.progress(4.0) is not None


def test_the_first_report_is_news_until_it_is_noted() -> None:
    meter = Meter("a", 9)
    meter.see([TextDelta("Noon")])
    assert not meter.news
    meter.see([UsageReported(Report({Counter.INPUT: 5}))])
    assert meter.news
    meter.progress(1.0)
    assert not meter.news
    meter.see([UsageReported(Report({Counter.INPUT: 6}))])
    assert not meter.news


def test_what_follows_a_measured_output_is_counted_apart_and_a_placeholder_measures_nothing() -> None:
    meter = Meter("a", 9)
    meter.see([UsageReported(Report({Counter.OUTPUT: 1}, provisional=frozenset({Counter.OUTPUT}))), TextDelta("Noon")])
    assert meter.delivered.since_report is None
    meter.see([UsageReported(Report({Counter.OUTPUT: 4}))])
    assert meter.delivered.since_report == 0
    meter.see([UsageReported(Report({Counter.OUTPUT: None})), TextDelta(" and the boats come home")])
    assert (meter.delivered.since_report or 0) > 0


def test_each_choice_is_counted_for_itself() -> None:
    meter = Meter("a", 9)
    meter.see([TextDelta("The tide turns", choice=0), TextDelta("Noon", choice=1)])
    delivered = meter.delivered
    assert delivered.choices == {0, 1}
    assert delivered.per_choice[0] > delivered.per_choice[1] > 0
    assert delivered.output == sum(delivered.per_choice.values())


@pytest.mark.parametrize(
    ("reasons", "filtered"),
    [
        ([], False),
        ([FinishReason.STOP], False),
        ([FinishReason.CONTENT_FILTER], True),
        ([FinishReason.CONTENT_FILTER, FinishReason.CONTENT_FILTER], True),
        ([FinishReason.CONTENT_FILTER, FinishReason.STOP], False),
        ([FinishReason.STOP, FinishReason.CONTENT_FILTER], False),
    ],
)
def test_a_reply_is_a_filters_where_a_filter_ended_all_of_it(reasons: list[FinishReason], filtered: bool) -> None:
    meter = Meter("a", 9)
    meter.see([ChoiceFinished(reason, choice) for choice, reason in enumerate(reasons)])
    assert meter.delivered.filtered is filtered


@pytest.mark.parametrize(
    "event", [RedactedReasoningGiven("x"), OutputHidden(), ReasoningSigned("x")], ids=lambda event: type(event).__name__
)
def test_what_nobody_can_read_is_known_as_hidden_and_is_no_refusal(event: Event) -> None:
    meter = Meter("a", 9)
    failed = ReplyFailed(Failure(FailureKind.OVERLOADED, "busy", Fault.PROVIDER, 503))
    assert not meter.delivered.hidden
    meter.see([failed])
    assert meter.refused
    meter.see([event])
    assert meter.delivered.hidden
    assert not meter.refused


def test_an_id_is_kept_as_far_as_an_id_goes_and_an_empty_one_says_nothing() -> None:
    meter = Meter("a", None)
    meter.see([ReplyStarted("x" * 10_000, "m", None), ReplyStarted("", "m", None)])
    assert meter.provider_id == "x" * LONGEST_ID
