"""What Anthropic reports is read as it is meant, and told as clients count it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.dialects.anthropic_messages.usage import CONVENTION, read_report, usage_fields, write_usage
from counterfoil.dialects.dialect import FinalUsage
from counterfoil.dialects.schema import fields_of
from counterfoil.usage.reading import NO_READING, Counter, Report
from counterfoil.usage.settle import Settlement, settle
from counterfoil.usage.usage import Bucket, Provenance, Usage

STEP = {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}


def report(usage: object, where: str = "message_delta", *, declined: bool = False) -> Report:
    found = read_report(json.dumps(usage).encode(), where, declined=declined)  # type: ignore[arg-type]  # test word
    assert found is not None
    return found


def settled(*usages: tuple[str, dict[str, Any]], declined: bool = False) -> Settlement:
    reading = NO_READING
    for where, usage in usages:
        reading = reading.join(report(usage, where, declined=declined and where != "message_start"))
    return settle(reading, CONVENTION, ended=True)


def told(usage: Usage, *, estimated: bool = False, carried: dict[str, Any] | None = None) -> dict[str, Any]:
    before = None if carried is None else fields_of(json.dumps(carried).encode())
    found: dict[str, Any] = json.loads(write_usage(FinalUsage(usage, estimated), before))
    return found


def test_absent_null_and_zero_are_three_things() -> None:
    counts = report({"input_tokens": None, "output_tokens": 0}).counts
    assert counts == {Counter.INPUT: None, Counter.OUTPUT: 0}


def test_input_excludes_cache_and_output_includes_thinking() -> None:
    usage = settled(
        (
            "body",
            {
                "input_tokens": 10,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 50,
                "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
                "output_tokens": 40,
                "output_tokens_details": {"thinking_tokens": 15},
            },
        )
    ).usage
    assert (usage.input_tokens, usage.output_tokens) == (160, 40)
    assert usage.buckets == {
        Bucket.INPUT: 10,
        Bucket.CACHE_READ: 100,
        Bucket.CACHE_WRITE: 0,
        Bucket.CACHE_WRITE_5M: 20,
        Bucket.CACHE_WRITE_1H: 30,
        Bucket.OUTPUT: 25,
        Bucket.REASONING: 15,
    }


def test_the_output_count_of_the_head_is_a_placeholder() -> None:
    head = report({"input_tokens": 4, "output_tokens": 88}, "message_start")
    assert head.provisional == {Counter.OUTPUT}


def test_the_old_form_says_only_output_in_the_delta() -> None:
    usage = settled(
        ("message_start", {"input_tokens": 52, "cache_read_input_tokens": 7, "output_tokens": 2}),
        ("message_delta", {"output_tokens": 216}),
    ).usage
    assert (usage.input_tokens, usage.output_tokens) == (59, 216)


def test_a_later_cache_write_makes_the_older_split_stale() -> None:
    settlement = settled(
        (
            "message_start",
            {
                "input_tokens": 2,
                "cache_creation_input_tokens": 40,
                "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 1,
            },
        ),
        ("message_delta", {"input_tokens": 6, "cache_creation_input_tokens": 55, "output_tokens": 9}),
    )
    assert settlement.usage.cache_write_tokens == 55
    assert settlement.usage.buckets[Bucket.CACHE_WRITE] == 15
    assert not settlement.discrepancies


@pytest.mark.parametrize("wrong", [True, "12", 2.5, [], {}])
def test_a_count_that_is_no_count_is_absent(wrong: object) -> None:
    assert report({"input_tokens": wrong, "output_tokens": 3}).counts == {Counter.OUTPUT: 3}


@pytest.mark.parametrize("wrong", [-1, 2**60, 1e40])
def test_a_number_that_no_count_can_be_is_noted_and_not_heard(wrong: float) -> None:
    reading = NO_READING.join(report({"input_tokens": wrong, "output_tokens": 3}))
    assert reading.implausible == {Counter.INPUT}
    assert settle(reading, CONVENTION, ended=True).usage.input_tokens is None


@pytest.mark.parametrize("wrong", [b"", b"[]", b"7", b"null", b"{", b"\xff", b"[" * 100_000])
def test_usage_that_is_no_object_is_no_report(wrong: bytes) -> None:
    assert read_report(wrong, "body") is None


def test_one_message_iteration_that_repeats_the_top_level_makes_no_lines() -> None:
    top = {**STEP, "input_tokens": 54, "output_tokens": 14}
    assert report({**top, "iterations": [{**top, "type": "message"}]}).lines is None


def test_message_iterations_that_add_up_to_the_top_level_make_no_lines() -> None:
    one = {**STEP, "input_tokens": 20, "output_tokens": 5, "type": "message"}
    top = {**STEP, "input_tokens": 40, "output_tokens": 10, "iterations": [one, one]}
    assert report(top).lines is None


def test_an_advisor_is_a_line_of_its_own_and_the_messages_are_one() -> None:
    settlement = settled(
        (
            "body",
            {
                "input_tokens": 230,
                "output_tokens": 30,
                "output_tokens_details": {"thinking_tokens": 8},
                "iterations": [
                    {"type": "message", "input_tokens": 100, "output_tokens": 20},
                    {"type": "advisor_message", "model": "claude-wise-1", "input_tokens": 250, "output_tokens": 6},
                    {"type": "message", "input_tokens": 130, "output_tokens": 10},
                ],
            },
        )
    )
    assert [
        (line.kind, line.model, line.usage.input_tokens, line.usage.output_tokens) for line in settlement.lines
    ] == [
        ("message", None, 230, 30),
        ("advisor_message", "claude-wise-1", 250, 6),
    ]
    assert settlement.lines[0].usage.reasoning_tokens == 8
    assert settlement.lines[1].usage.reasoning_tokens is None
    assert (settlement.usage.input_tokens, settlement.usage.output_tokens) == (480, 36)
    assert not settlement.discrepancies


def test_compaction_is_outside_the_top_level_and_inside_the_total() -> None:
    settlement = settled(
        ("message_start", {"input_tokens": 100, "cache_read_input_tokens": 5000, "output_tokens": 7}),
        (
            "message_delta",
            {
                "input_tokens": 18,
                "cache_read_input_tokens": 0,
                "output_tokens": 8,
                "iterations": [
                    {"type": "compaction", "input_tokens": 100, "cache_read_input_tokens": 5000, "output_tokens": 83},
                    {"type": "message", "input_tokens": 18, "cache_read_input_tokens": 0, "output_tokens": 8},
                ],
            },
        ),
    )
    assert (settlement.usage.input_tokens, settlement.usage.cache_read_tokens) == (5118, 5000)
    assert settlement.usage.output_tokens == 91


def test_a_model_that_declined_before_any_output_is_waived() -> None:
    settlement = settled(("message_delta", FALLBACK))
    assert [(line.kind, line.model, line.waived) for line in settlement.lines] == [
        ("message", "claude-first-1", True),
        ("fallback_message", "claude-second-1", False),
    ]
    assert (settlement.usage.input_tokens, settlement.usage.output_tokens) == (44, 9)


FALLBACK: dict[str, Any] = {
    "input_tokens": 44,
    "output_tokens": 9,
    "iterations": [
        {"type": "message", "model": "claude-first-1", "input_tokens": 41, "output_tokens": 0},
        {"type": "fallback_message", "model": "claude-second-1", "input_tokens": 44, "output_tokens": 9},
    ],
}


def test_a_model_that_declined_after_output_is_billed_as_itself() -> None:
    first = {**FALLBACK["iterations"][0], "output_tokens": 5}
    settlement = settled(("message_delta", {**FALLBACK, "iterations": [first, FALLBACK["iterations"][1]]}))
    assert [(line.model, line.waived) for line in settlement.lines] == [
        ("claude-first-1", False),
        ("claude-second-1", False),
    ]
    assert (settlement.usage.input_tokens, settlement.usage.output_tokens) == (85, 14)


def test_a_fallback_that_alone_served_the_reply_keeps_its_model() -> None:
    only = FALLBACK["iterations"][1]
    (line,) = settled(("message_delta", {**FALLBACK, "iterations": [only]})).lines
    assert (line.kind, line.model) == ("fallback_message", "claude-second-1")


def test_thinking_of_the_top_level_belongs_to_the_attempt_that_served() -> None:
    lines = settled(("message_delta", {**FALLBACK, "output_tokens_details": {"thinking_tokens": 4}})).lines
    assert [line.usage.reasoning_tokens for line in lines] == [None, 4]


def test_thinking_is_not_given_to_an_attempt_that_declined_after_output() -> None:
    first = {**FALLBACK["iterations"][0], "output_tokens": 5}
    details = {"output_tokens_details": {"thinking_tokens": 4}, "iterations": [first, FALLBACK["iterations"][1]]}
    lines = settled(("message_delta", {**FALLBACK, **details})).lines
    assert [line.usage.reasoning_tokens for line in lines] == [None, 4]


@pytest.mark.parametrize("own", [(0, 1), (1,)])
def test_an_iteration_that_counts_its_own_thinking_is_believed(own: tuple[int, ...]) -> None:
    steps = [dict(step) for step in FALLBACK["iterations"]]
    for place in own:
        steps[place]["output_tokens_details"] = {"thinking_tokens": 2}
    lines = settled(
        ("message_delta", {**FALLBACK, "output_tokens_details": {"thinking_tokens": 4}, "iterations": steps})
    ).lines
    assert lines[1].usage.reasoning_tokens == 2


def test_a_refusal_before_any_output_is_waived_whole() -> None:
    settlement = settled(("body", {"input_tokens": 41, "output_tokens": 0}), declined=True)
    assert [line.waived for line in settlement.lines] == [True]
    assert settlement.usage.total_tokens == 0


def test_a_refusal_of_every_model_before_any_output_is_waived_line_by_line() -> None:
    steps = [{**step, "output_tokens": 0} for step in FALLBACK["iterations"]]
    settlement = settled(("body", {**FALLBACK, "output_tokens": 0, "iterations": steps}), declined=True)
    assert [line.waived for line in settlement.lines] == [True, True]
    assert settlement.usage.total_tokens == 0


@pytest.mark.parametrize("declined", [True, False])
def test_what_served_a_reply_is_billed_although_it_wrote_nothing(declined: bool) -> None:
    steps = [{"type": "compaction", "input_tokens": 100, "output_tokens": 0}, *FALLBACK["iterations"]]
    lines = settled(("body", {**FALLBACK, "iterations": steps}), declined=declined).lines
    assert [(line.kind, line.waived) for line in lines] == [
        ("compaction", False),
        ("message", True),
        ("fallback_message", False),
    ]


def test_a_refusal_after_output_is_billed() -> None:
    usage = settled(("body", {"input_tokens": 41, "output_tokens": 6}), declined=True).usage
    assert usage.total_tokens == 47


def test_no_output_without_a_refusal_is_billed() -> None:
    """`max_tokens: 0` fills a cache and is paid for."""
    assert settled(("body", {"input_tokens": 41, "output_tokens": 0})).usage.total_tokens == 41


@pytest.mark.parametrize("iterations", [None, 3, "x", {}, [], [1, None], [[]]])
def test_iterations_that_are_none_leave_the_top_level(iterations: object) -> None:
    assert report({"input_tokens": 1, "output_tokens": 2, "iterations": iterations}).lines is None


@pytest.mark.parametrize("word", ["", None, 7, [], {}])
def test_an_iteration_whose_names_are_no_names_is_the_message_of_the_model_that_was_asked(word: object) -> None:
    steps = [
        {"type": word, "model": word, "input_tokens": 20, "output_tokens": 3},
        {"type": "compaction", "input_tokens": 100, "output_tokens": 8},
    ]
    lines = settled(("body", {"input_tokens": 20, "output_tokens": 3, "iterations": steps})).lines
    assert [(line.kind, line.model) for line in lines] == [("message", None), ("compaction", None)]


def test_iterations_of_the_head_are_not_taken_for_the_reply() -> None:
    assert report({**FALLBACK}, "message_start").lines is None


def test_what_is_told_excludes_cache_from_input() -> None:
    usage = Usage(
        {
            Bucket.INPUT: 5,
            Bucket.INPUT_AUDIO: 2,
            Bucket.CACHE_READ: 100,
            Bucket.CACHE_READ_AUDIO: 1,
            Bucket.CACHE_WRITE: 0,
            Bucket.CACHE_WRITE_1H: 30,
            Bucket.OUTPUT: 8,
            Bucket.REASONING: 4,
        }
    )
    assert told(usage) == {
        "input_tokens": 7,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 101,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 30},
        "output_tokens": 12,
        "output_tokens_details": {"thinking_tokens": 4},
    }


def test_a_split_with_a_remainder_is_not_told() -> None:
    usage = Usage({Bucket.INPUT: 1, Bucket.CACHE_WRITE: 15, Bucket.CACHE_WRITE_5M: 40, Bucket.OUTPUT: 2})
    assert "cache_creation" not in told(usage)
    assert told(usage)["cache_creation_input_tokens"] == 55


def test_a_detail_nobody_reported_is_left_out() -> None:
    assert told(Usage({Bucket.INPUT: 1, Bucket.OUTPUT: 2})) == {"input_tokens": 1, "output_tokens": 2}


def test_an_unknown_count_is_null_and_not_zero() -> None:
    assert told(Usage({Bucket.INPUT: 1})) == {"input_tokens": 1, "output_tokens": None}
    assert json.loads(write_usage(FinalUsage(None))) == {"input_tokens": None, "output_tokens": None}
    parts = Usage({Bucket.INPUT_AUDIO: 2, Bucket.CACHE_READ: 3, Bucket.REASONING: 4})
    assert (told(parts)["input_tokens"], told(parts)["output_tokens"]) == (None, None)


def test_an_estimate_is_marked() -> None:
    usage = Usage({Bucket.INPUT: 1, Bucket.OUTPUT: 2}, {Bucket.OUTPUT: Provenance.ESTIMATED})
    assert told(usage, estimated=True)["estimated"] is True
    assert "estimated" not in told(usage)


@pytest.mark.parametrize("where", ["message_start", "message_delta", "body"])
def test_the_mark_of_an_estimate_is_heard_again(where: str) -> None:
    usage = Usage({Bucket.INPUT: 1, Bucket.OUTPUT: 2})
    assert report(told(usage, estimated=True), where).estimated
    assert not report(told(usage), where).estimated
    assert not report({**told(usage), "estimated": "yes"}, where).estimated


def test_other_keys_of_the_provider_are_kept_in_order() -> None:
    carried = {"service_tier": "standard", "output_tokens": 2, "server_tool_use": {"web_search_requests": 1}}
    found = told(Usage({Bucket.INPUT: 1, Bucket.OUTPUT: 2}), carried=carried)
    assert list(found) == ["service_tier", "output_tokens", "server_tool_use", "input_tokens"]


def test_a_split_of_the_provider_that_no_longer_adds_up_is_left_out() -> None:
    carried = {"cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}}
    stale = Usage({Bucket.INPUT: 1, Bucket.CACHE_WRITE: 17, Bucket.OUTPUT: 2})
    assert "cache_creation" not in told(stale, carried=carried)
    for fits in ({Bucket.INPUT: 1, Bucket.CACHE_WRITE: 0, Bucket.OUTPUT: 2}, {Bucket.INPUT: 1, Bucket.OUTPUT: 2}):
        assert told(Usage(fits), carried=carried)["cache_creation"] == carried["cache_creation"]


def test_a_value_the_provider_already_says_keeps_its_bytes() -> None:
    before = fields_of(b'{"output_tokens_details": { "thinking_tokens" : 4 }, "output_tokens":12}')
    usage = Usage({Bucket.INPUT: 1, Bucket.OUTPUT: 8, Bucket.REASONING: 4})
    fields = usage_fields(FinalUsage(usage), before)
    assert isinstance(fields["output_tokens_details"], msgspec.Raw)
    assert fields["output_tokens_details"] is before["output_tokens_details"]


BUCKETS = (
    Bucket.CACHE_READ,
    Bucket.CACHE_WRITE,
    Bucket.REASONING,
)


@given(
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.dictionaries(st.sampled_from(BUCKETS), st.integers(0, 10**6)),
    st.one_of(st.none(), st.tuples(st.integers(0, 10**6), st.integers(0, 10**6))),
)
def test_what_is_told_is_read_back_as_the_same_usage(
    given_tokens: int, made: int, parts: dict[Bucket, int], split: tuple[int, int] | None
) -> None:
    buckets = {Bucket.INPUT: given_tokens, Bucket.OUTPUT: made, **parts}
    if split is not None and any(split):
        buckets |= {Bucket.CACHE_WRITE: 0, Bucket.CACHE_WRITE_5M: split[0], Bucket.CACHE_WRITE_1H: split[1]}
        buckets = {bucket: value for bucket, value in buckets.items() if value or bucket not in LIFETIMES}
    usage = Usage(buckets)
    reading = NO_READING.join(report(told(usage)))
    assert settle(reading, CONVENTION, ended=True).usage.buckets == buckets


LIFETIMES = (Bucket.CACHE_WRITE_5M, Bucket.CACHE_WRITE_1H)
