"""The meter counts what passes, once, and says when there is nothing new to write down."""

from __future__ import annotations

from counterfoil.core.event import ReplyStarted, TextDelta, UsageReported
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


def test_an_id_is_kept_as_far_as_an_id_goes_and_an_empty_one_says_nothing() -> None:
    meter = Meter("a", None)
    meter.see([ReplyStarted("x" * 10_000, "m", None), ReplyStarted("", "m", None)])
    assert meter.provider_id == "x" * LONGEST_ID
