"""The arithmetic of real providers, one case each: facts and numbers of WIRE.md 1 and 4, as data of a convention."""

from __future__ import annotations

import pytest

from counterfoil.usage.reading import Counter, Reading, Report, ReportLine
from counterfoil.usage.settle import Convention, Delivered, DiscrepancyKind, Settlement, settle
from counterfoil.usage.usage import Bucket, Provenance
from tests.laws.strategies import reading_of

__all__: list[str] = []

CACHE_OUTSIDE = Convention(
    input_includes=Convention().input_includes - {Counter.CACHE_READ, Counter.CACHE_WRITE},
)
"""Anthropic: `input_tokens` excludes cache reads and writes."""

REASONING_OUTSIDE = Convention(
    output_includes=frozenset({Counter.OUTPUT_AUDIO, Counter.OUTPUT_IMAGE}),
    total_is=frozenset({Counter.INPUT, Counter.OUTPUT, Counter.REASONING}),
)
"""xAI chat: completion excludes reasoning, the total includes it."""


def _settled(convention: Convention, *said: Report, ended: bool = True, seen: Delivered | None = None) -> Settlement:
    return settle(reading_of(*said), convention, ended=ended, delivered=seen)


def _kinds(settled: Settlement) -> list[DiscrepancyKind]:
    return [found.kind for found in settled.discrepancies]


def test_openai_cache_is_in_the_prompt_and_reasoning_in_the_completion() -> None:
    counts = {
        Counter.INPUT: 100,
        Counter.CACHE_READ: 64,
        Counter.OUTPUT: 50,
        Counter.REASONING: 30,
        Counter.TOTAL: 150,
    }
    settled = _settled(Convention(), Report(counts))
    assert settled.usage.buckets == {
        Bucket.INPUT: 36,
        Bucket.CACHE_READ: 64,
        Bucket.OUTPUT: 20,
        Bucket.REASONING: 30,
    }
    assert (settled.usage.input_tokens, settled.usage.output_tokens) == (100, 50)
    assert _kinds(settled) == []


def test_groq_says_the_same_usage_three_times_and_is_billed_once() -> None:
    report = Report({Counter.INPUT: 81, Counter.OUTPUT: 12, Counter.TOTAL: 93})
    settled = _settled(Convention(), report, report, report)
    assert settled.usage.total_tokens == 93
    assert _kinds(settled) == []


def test_cohere_is_shown_in_tokens_and_billed_in_billed_units() -> None:
    counts = {Counter.INPUT: 507, Counter.CACHE_READ: 448, Counter.OUTPUT: 10}
    settled = _settled(Convention(), Report({**counts, Counter.BILLED_INPUT: 12, Counter.BILLED_OUTPUT: 7}))
    assert (settled.usage.input_tokens, settled.usage.output_tokens) == (507, 10)
    assert settled.usage.priced == {Bucket.INPUT: 12, Bucket.OUTPUT: 7}
    assert _kinds(settled) == []


def test_coheres_bill_of_an_image_is_larger_than_its_text() -> None:
    beside = Convention(input_includes=Convention().input_includes - {Counter.INPUT_IMAGE})
    counts = {Counter.INPUT: 34, Counter.INPUT_IMAGE: 259, Counter.OUTPUT: 9, Counter.BILLED_INPUT: 267}
    settled = _settled(beside, Report(counts))
    assert settled.usage.input_tokens == 293
    assert settled.usage.priced == {Bucket.INPUT: 267, Bucket.OUTPUT: 9}
    assert _kinds(settled) == []


def test_a_search_is_billed_and_is_no_token() -> None:
    settled = _settled(Convention(no_output=True), Report({Counter.SEARCH_UNITS: 2, Counter.BILLED_INPUT: 0}))
    assert settled.usage.total_tokens is None
    assert settled.usage.priced == {Bucket.INPUT: 0, Bucket.OUTPUT: 0, Bucket.SEARCH_UNITS: 2}


def test_perplexity_counts_on_and_the_last_word_stands() -> None:
    growing = [Report({Counter.INPUT: 20, Counter.OUTPUT: made, Counter.TOTAL: 20 + made}) for made in range(1, 9)]
    settled = _settled(Convention(), *growing)
    assert settled.usage.output_tokens == 8
    assert settled.usage.total_tokens == 28


def test_databricks_nulls_until_the_finish_are_no_zeros() -> None:
    early = Report({Counter.INPUT: 20, Counter.OUTPUT: None, Counter.TOTAL: None})
    cut = _settled(Convention(), early, early, ended=False)
    assert cut.usage.input_tokens == 20
    assert cut.usage.output_tokens is None


def test_gemini_lowers_its_prompt_in_the_last_chunk_and_the_last_word_stands() -> None:
    settled = _settled(Convention(), Report({Counter.INPUT: 169, Counter.OUTPUT: 3}), Report({Counter.INPUT: 79}))
    assert settled.usage.input_tokens == 79
    assert _kinds(settled) == [DiscrepancyKind.COUNTER_FELL]


def test_anthropic_provisional_output_is_replaced_by_the_final_one_not_added() -> None:
    start = Report({Counter.INPUT: 12, Counter.OUTPUT: 10}, provisional=frozenset({Counter.OUTPUT}))
    settled = _settled(CACHE_OUTSIDE, start, Report({Counter.OUTPUT: 4}))
    assert settled.usage.output_tokens == 4
    assert settled.usage.provenance[Bucket.OUTPUT] is Provenance.REPORTED
    assert _kinds(settled) == []


def test_anthropic_cut_after_its_start_is_estimated_from_what_was_delivered_not_from_the_placeholder() -> None:
    start = Report({Counter.INPUT: 12, Counter.OUTPUT: 1}, provisional=frozenset({Counter.OUTPUT}))
    cut = _settled(CACHE_OUTSIDE, start, ended=False, seen=Delivered(input=15, output=40))
    assert cut.usage.output_tokens == 40
    assert cut.usage.provenance[Bucket.OUTPUT] is Provenance.ESTIMATED
    assert cut.usage.input_tokens == 12
    assert cut.usage.provenance[Bucket.INPUT] is Provenance.PARTIAL


def test_anthropic_cache_is_added_to_its_input() -> None:
    settled = _settled(
        CACHE_OUTSIDE,
        Report({Counter.INPUT: 6, Counter.CACHE_READ: 6289, Counter.CACHE_WRITE: 3337, Counter.OUTPUT: 198}),
    )
    assert settled.usage.input_tokens == 9632
    assert settled.usage.cache_read_tokens == 6289
    assert settled.usage.cache_write_tokens == 3337


def test_anthropic_cache_write_newer_than_its_lifetimes_goes_to_unspecified() -> None:
    start = Report({Counter.CACHE_WRITE: 0, Counter.CACHE_WRITE_5M: 0, Counter.CACHE_WRITE_1H: 0, Counter.INPUT: 3})
    settled = _settled(CACHE_OUTSIDE, start, Report({Counter.CACHE_WRITE: 17269, Counter.OUTPUT: 5}))
    assert settled.usage.buckets[Bucket.CACHE_WRITE] == 17269
    assert Bucket.CACHE_WRITE_5M not in settled.usage.buckets
    assert settled.usage.cache_write_tokens == 17269
    assert _kinds(settled) == []


def test_anthropic_cache_write_that_fell_below_its_older_lifetimes_is_no_disagreement() -> None:
    start = Report({Counter.CACHE_WRITE: 40, Counter.CACHE_WRITE_5M: 40, Counter.INPUT: 3})
    settled = _settled(CACHE_OUTSIDE, start, Report({Counter.CACHE_WRITE: 25, Counter.OUTPUT: 5}))
    assert settled.usage.buckets == {Bucket.INPUT: 3, Bucket.CACHE_WRITE: 25, Bucket.OUTPUT: 5}
    assert _kinds(settled) == [DiscrepancyKind.COUNTER_FELL]


def test_anthropic_cache_write_keeps_the_lifetimes_it_was_split_into() -> None:
    counts = {Counter.CACHE_WRITE: 100, Counter.CACHE_WRITE_5M: 30, Counter.CACHE_WRITE_1H: 60, Counter.INPUT: 1}
    usage = _settled(CACHE_OUTSIDE, Report(counts)).usage
    assert (usage.buckets[Bucket.CACHE_WRITE_5M], usage.buckets[Bucket.CACHE_WRITE_1H]) == (30, 60)
    assert usage.buckets[Bucket.CACHE_WRITE] == 10
    assert usage.cache_write_tokens == 100


def test_anthropic_iterations_replace_the_top_level_and_what_is_waived_is_not_billed() -> None:
    lines = (
        ReportLine("compaction", {Counter.INPUT: 500, Counter.OUTPUT: 70}),
        ReportLine("advisor_message", {Counter.INPUT: 40, Counter.OUTPUT: 8}, model="another"),
        ReportLine("declined", {Counter.INPUT: 408, Counter.OUTPUT: 0}, waived=True),
        ReportLine("message", {Counter.INPUT: 9, Counter.OUTPUT: 5}),
    )
    settled = _settled(CACHE_OUTSIDE, Report({Counter.INPUT: 9, Counter.OUTPUT: 5}, lines=lines))
    assert settled.usage.input_tokens == 549
    assert settled.usage.output_tokens == 83
    assert [line.model for line in settled.lines] == [None, "another", None, None]
    assert [line.waived for line in settled.lines] == [False, False, True, False]


def test_xai_reasoning_is_outside_the_completion_and_inside_the_total() -> None:
    counts = {Counter.INPUT: 7, Counter.OUTPUT: 10, Counter.REASONING: 96, Counter.TOTAL: 113}
    settled = _settled(REASONING_OUTSIDE, Report(counts))
    assert settled.usage.output_tokens == 106
    assert settled.usage.buckets[Bucket.OUTPUT] == 10
    assert _kinds(settled) == []


def test_vercel_gemini_reasoning_is_outside_the_completion_and_outside_the_total() -> None:
    convention = Convention(output_includes=REASONING_OUTSIDE.output_includes)
    counts = {Counter.INPUT: 61, Counter.OUTPUT: 10, Counter.REASONING: 96, Counter.TOTAL: 71}
    settled = _settled(convention, Report(counts))
    assert settled.usage.output_tokens == 106
    assert settled.usage.total_tokens == 167
    assert settled.provider_total == 71
    assert _kinds(settled) == []


def test_mistral_audio_is_outside_the_prompt_and_inside_the_total() -> None:
    convention = Convention(
        input_includes=Convention().input_includes - {Counter.INPUT_AUDIO},
        total_is=frozenset({Counter.INPUT, Counter.OUTPUT, Counter.INPUT_AUDIO}),
    )
    counts = {Counter.INPUT: 20, Counter.INPUT_AUDIO: 375, Counter.OUTPUT: 201, Counter.TOTAL: 596}
    settled = _settled(convention, Report(counts))
    assert settled.usage.input_tokens == 395
    assert settled.usage.buckets[Bucket.INPUT] == 20
    assert _kinds(settled) == []


@pytest.mark.parametrize("hidden", [62, 1])
def test_the_thinking_that_the_gemini_compatible_face_hides_is_what_its_total_has_beyond_the_sum(hidden: int) -> None:
    counts = {Counter.INPUT: 35, Counter.OUTPUT: 12, Counter.TOTAL: 47 + hidden}
    settled = _settled(Convention(hidden_reasoning=True), Report(counts))
    assert settled.usage.reasoning_tokens == hidden
    assert settled.usage.output_tokens == 12 + hidden
    assert settled.usage.total_tokens == 47 + hidden
    assert settled.usage.provenance[Bucket.REASONING] is Provenance.DERIVED
    assert settled.usage.provenance[Bucket.OUTPUT] is Provenance.REPORTED


def test_hidden_thinking_outside_the_completion_is_counted_once() -> None:
    convention = Convention(hidden_reasoning=True, output_includes=REASONING_OUTSIDE.output_includes)
    settled = _settled(convention, Report({Counter.INPUT: 35, Counter.OUTPUT: 12, Counter.TOTAL: 109}))
    assert settled.usage.total_tokens == 109


@pytest.mark.parametrize("reasoning_is_inside", [True, False])
@pytest.mark.parametrize(
    ("itemised", "answer", "thought", "vouched"),
    [
        (28, 6, 28, Provenance.REPORTED),  # all that the total has beyond the sum
        (10, 6, 28, Provenance.DERIVED),  # more than the completion holds: of the rest, which has 18 more
        (0, 6, 28, Provenance.DERIVED),
    ],
)
def test_thinking_that_is_itemised_and_in_the_total_only_is_counted_once(
    reasoning_is_inside: bool, itemised: int, answer: int, thought: int, vouched: Provenance
) -> None:
    inside = Convention().output_includes if reasoning_is_inside else REASONING_OUTSIDE.output_includes
    counts = {Counter.INPUT: 66, Counter.OUTPUT: 6, Counter.REASONING: itemised, Counter.TOTAL: 100}
    settled = _settled(Convention(hidden_reasoning=True, output_includes=inside), Report(counts))
    usage = settled.usage
    assert (usage.buckets[Bucket.OUTPUT], usage.buckets[Bucket.REASONING]) == (answer, thought)
    assert (usage.output_tokens, usage.total_tokens, usage.excess) == (34, 100, {})
    assert usage.provenance[Bucket.REASONING] is vouched
    assert _kinds(settled) == []


def test_thinking_inside_the_completion_and_more_of_it_in_the_total_add_up() -> None:
    counts = {Counter.INPUT: 66, Counter.OUTPUT: 6, Counter.REASONING: 3, Counter.TOTAL: 100}
    usage = _settled(Convention(hidden_reasoning=True), Report(counts)).usage
    assert (usage.buckets[Bucket.OUTPUT], usage.buckets[Bucket.REASONING], usage.total_tokens) == (3, 31, 100)


def test_more_thinking_than_a_total_has_room_for_is_billed_as_itemised_and_kept_as_a_discrepancy() -> None:
    counts = {Counter.INPUT: 66, Counter.OUTPUT: 6, Counter.REASONING: 40, Counter.TOTAL: 100}
    inside = _settled(Convention(hidden_reasoning=True), Report(counts))
    assert (inside.usage.total_tokens, inside.usage.excess) == (100, {Bucket.REASONING: 6})
    assert _kinds(inside) == [DiscrepancyKind.PART_EXCEEDS_WHOLE]
    beside = Convention(hidden_reasoning=True, output_includes=REASONING_OUTSIDE.output_includes)
    outside = _settled(beside, Report(counts))
    assert (outside.usage.total_tokens, outside.usage.buckets[Bucket.REASONING]) == (112, 40)
    assert _kinds(outside) == [DiscrepancyKind.TOTAL_MISMATCH]


def test_azure_grok_cache_beyond_the_prompt_is_shown_and_not_billed() -> None:
    settled = _settled(Convention(), Report({Counter.INPUT: 7, Counter.CACHE_READ: 163, Counter.OUTPUT: 9}))
    usage = settled.usage
    assert usage.input_tokens == 7
    assert usage.buckets[Bucket.INPUT] == 0
    assert usage.buckets[Bucket.CACHE_READ] == 7
    assert usage.excess == {Bucket.CACHE_READ: 156}
    assert usage.cache_read_tokens == 163
    assert _kinds(settled) == [DiscrepancyKind.PART_EXCEEDS_WHOLE]


def test_openrouter_reasoning_beyond_the_completion_is_shown_and_not_billed() -> None:
    settled = _settled(Convention(), Report({Counter.INPUT: 20, Counter.OUTPUT: 10, Counter.REASONING: 11}))
    assert settled.usage.output_tokens == 10
    assert settled.usage.reasoning_tokens == 11
    assert settled.usage.buckets[Bucket.OUTPUT] == 0
    assert _kinds(settled) == [DiscrepancyKind.PART_EXCEEDS_WHOLE]


def test_bedrock_cache_is_outside_the_input_and_inside_the_total() -> None:
    convention = Convention(
        input_includes=CACHE_OUTSIDE.input_includes,
        total_is=frozenset({Counter.INPUT, Counter.OUTPUT, Counter.CACHE_READ, Counter.CACHE_WRITE}),
    )
    counts = {
        Counter.INPUT: 5,
        Counter.CACHE_READ: 900,
        Counter.CACHE_WRITE: 80,
        Counter.OUTPUT: 15,
        Counter.TOTAL: 1000,
    }
    settled = _settled(convention, Report(counts))
    assert settled.usage.input_tokens == 985
    assert settled.usage.total_tokens == 1000
    assert _kinds(settled) == []


def test_llama_cpp_reports_each_choice_and_the_prompt_counts_once() -> None:
    settled = _settled(
        Convention(),
        Report({Counter.INPUT: 30, Counter.OUTPUT: 11, Counter.TOTAL: 41}, scope=0),
        Report({Counter.INPUT: 30, Counter.OUTPUT: 17, Counter.TOTAL: 47}, scope=1),
    )
    assert settled.usage.input_tokens == 30
    assert settled.usage.output_tokens == 28
    assert _kinds(settled) == []


def test_llama_cpp_whole_reply_reports_one_choice_and_the_other_is_estimated() -> None:
    seen = Delivered(output=25, choices=frozenset({0, 1}), per_choice={0: 12, 1: 13})
    settled = _settled(Convention(), Report({Counter.INPUT: 30, Counter.OUTPUT: 11}, scope=0), seen=seen)
    assert settled.usage.output_tokens == 24
    assert settled.usage.provenance[Bucket.OUTPUT] is Provenance.ESTIMATED
    assert settled.usage.provenance[Bucket.INPUT] is Provenance.REPORTED
    assert DiscrepancyKind.CHOICES_UNREPORTED in _kinds(settled)


def test_a_choice_that_nobody_reported_is_estimated_also_where_it_alone_spoke() -> None:
    """llama.cpp reports the first choice of a whole reply, which may be the silent one."""
    seen = Delivered(output=13, choices=frozenset({1}))
    settled = _settled(Convention(), Report({Counter.INPUT: 30, Counter.OUTPUT: 2}, scope=0), seen=seen)
    assert settled.usage.output_tokens == 15
    assert settled.usage.provenance[Bucket.OUTPUT] is Provenance.ESTIMATED


def test_what_an_unreported_choice_said_after_the_last_report_is_estimated_once() -> None:
    """Choice 0 finished and was reported; choice 1 had said 30, and said 20 more before the stream was cut."""
    seen = Delivered(output=80, since_report=20, choices=frozenset({0, 1}), per_choice={0: 30, 1: 50})
    settled = _settled(Convention(), Report({Counter.INPUT: 10, Counter.OUTPUT: 30}, scope=0), ended=False, seen=seen)
    assert settled.usage.output_tokens == 80


def _of_choice(choice: int, *, read: int, wrote: int) -> Report:
    """As llama.cpp reports a choice of a completion: measured with two prompts of 6 and 17 tokens."""
    return Report({Counter.INPUT: read, Counter.OUTPUT: wrote, Counter.TOTAL: read + wrote}, scope=choice)


def test_llama_cpp_reports_each_prompt_and_the_prompts_add() -> None:
    said = [_of_choice(1, read=17, wrote=4), _of_choice(0, read=6, wrote=4)]
    settled = _settled(Convention(choices_per_prompt=1), *said)
    assert (settled.usage.input_tokens, settled.usage.output_tokens) == (23, 8)
    assert _kinds(settled) == []


def test_llama_cpp_repeats_a_prompt_for_each_of_its_choices_and_it_counts_once() -> None:
    said = [_of_choice(choice, read=6 if choice < 2 else 17, wrote=3) for choice in (1, 0, 2, 3)]
    settled = _settled(Convention(choices_per_prompt=2), *said)
    assert (settled.usage.input_tokens, settled.usage.output_tokens) == (23, 12)


def test_a_prompt_that_nobody_reported_is_said_and_filled_from_the_request() -> None:
    seen = Delivered(input=30, output=8, choices=frozenset({0, 1}), per_choice={0: 4, 1: 4})
    settled = _settled(Convention(choices_per_prompt=1), _of_choice(0, read=6, wrote=4), seen=seen)
    assert (settled.usage.input_tokens, settled.usage.output_tokens) == (30, 8)
    assert settled.usage.provenance[Bucket.INPUT] is Provenance.ESTIMATED
    assert [(found.counter, found.reported, found.expected) for found in settled.discrepancies] == [
        (Counter.OUTPUT, 1, 2),
        (Counter.INPUT, 1, 2),
    ]
    told = _settled(
        Convention(choices_per_prompt=1), _of_choice(0, read=6, wrote=4), Report({Counter.INPUT: 23}), seen=seen
    )
    assert told.usage.input_tokens == 23
    assert Counter.INPUT not in {found.counter for found in told.discrepancies}
    shared = _settled(Convention(choices_per_prompt=2), _of_choice(0, read=6, wrote=4), seen=seen)
    assert shared.usage.input_tokens == 6
    assert shared.usage.provenance[Bucket.INPUT] is Provenance.REPORTED


ZEROS = Report({Counter.INPUT: 0, Counter.OUTPUT: 0, Counter.TOTAL: 0, Counter.REASONING: 0})


@pytest.mark.parametrize("ended", [True, False])
def test_a_report_of_nothing_but_zeros_beside_text_is_no_measure_and_no_free_call(ended: bool) -> None:
    seen = Delivered(input=50, output=30, since_report=0)
    settled = _settled(Convention(), ZEROS, ended=ended, seen=seen)
    assert (settled.usage.input_tokens, settled.usage.output_tokens) == (50, 30)
    assert set(settled.usage.provenance.values()) == {Provenance.ESTIMATED}
    assert _kinds(settled) == [DiscrepancyKind.ZERO_BESIDE_TEXT]
    assert settled.provider_total == 0


@pytest.mark.parametrize("only", [Counter.INPUT, Counter.OUTPUT])
def test_one_zero_that_is_all_that_was_said_beside_text_is_no_measure_either(only: Counter) -> None:
    settled = _settled(Convention(), Report({only: 0}), seen=Delivered(input=50, output=30, since_report=0))
    assert (settled.usage.input_tokens, settled.usage.output_tokens) == (50, 30)
    assert set(settled.usage.provenance.values()) == {Provenance.ESTIMATED}
    assert _kinds(settled) == [DiscrepancyKind.ZERO_BESIDE_TEXT]


def test_the_bill_of_a_report_of_nothing_but_zeros_is_no_measure_either() -> None:
    billed = Report({**ZEROS.counts, Counter.BILLED_INPUT: 0, Counter.BILLED_OUTPUT: 0})
    assert _settled(Convention(), billed, seen=Delivered(input=50, output=30)).usage.priced[Bucket.OUTPUT] == 30


def test_zeros_beside_the_words_of_a_filter_are_true() -> None:
    """A prompt that Bedrock's guardrail blocks is answered by a text of its owner's; no model has run."""
    settled = _settled(Convention(), ZEROS, seen=Delivered(input=50, output=30, filtered=True))
    assert (settled.usage.input_tokens, settled.usage.output_tokens) == (0, 0)
    assert not settled.usage.estimated
    assert _kinds(settled) == [DiscrepancyKind.ZERO_BESIDE_TEXT]


def test_an_output_of_zero_beside_an_input_stands_and_is_suspicious() -> None:
    settled = _settled(Convention(), Report({Counter.INPUT: 7, Counter.OUTPUT: 0}), seen=Delivered(output=30))
    assert settled.usage.output_tokens == 0
    assert _kinds(settled) == [DiscrepancyKind.ZERO_BESIDE_TEXT]


@pytest.mark.parametrize("ended", [True, False])
def test_a_total_that_is_the_prompts_makes_no_output_of_zero_beside_text(ended: bool) -> None:
    """Gemini leaves `candidatesTokenCount` out of frames, and then says prompt, or prompt and thoughts, as total."""
    beside = Convention(
        output_includes=frozenset(), total_is=frozenset({Counter.INPUT, Counter.OUTPUT, Counter.REASONING})
    )
    report = Report({Counter.INPUT: 7, Counter.REASONING: 40, Counter.TOTAL: 47})
    settled = _settled(beside, report, ended=ended, seen=Delivered(input=9, output=30))
    assert settled.usage.buckets == {Bucket.INPUT: 7, Bucket.OUTPUT: 30, Bucket.REASONING: 40}
    assert settled.usage.provenance[Bucket.OUTPUT] is Provenance.ESTIMATED
    assert settled.usage.provenance[Bucket.REASONING] is not Provenance.ESTIMATED
    assert _kinds(settled) == [DiscrepancyKind.ZERO_BESIDE_TEXT]


def test_an_output_derived_from_the_running_total_of_a_cut_reply_is_a_floor() -> None:
    report = Report({Counter.INPUT: 7, Counter.TOTAL: 12})
    cut = _settled(Convention(), report, ended=False, seen=Delivered(output=30))
    assert (cut.usage.output_tokens, cut.usage.provenance[Bucket.OUTPUT]) == (30, Provenance.ESTIMATED)
    early = _settled(Convention(), report, ended=False, seen=Delivered(output=3))
    assert (early.usage.output_tokens, early.usage.provenance[Bucket.OUTPUT]) == (5, Provenance.PARTIAL)


def test_a_reply_without_any_report_is_estimated_and_hidden_output_makes_it_a_lower_bound() -> None:
    seen = Delivered(input=50, output=30, reasoning=8, hidden=True)
    settled = settle(Reading(), Convention(), ended=True, delivered=seen)
    assert (settled.usage.input_tokens, settled.usage.output_tokens) == (50, 38)
    assert set(settled.usage.provenance.values()) == {Provenance.ESTIMATED}
    assert settled.lower_bound
    assert _kinds(settled) == []


def test_reasoning_that_was_reported_is_not_replaced_by_what_was_seen_of_it() -> None:
    report = Report({Counter.INPUT: 7, Counter.REASONING: 40})
    settled = _settled(Convention(), report, seen=Delivered(input=9, output=30, reasoning=15))
    assert settled.usage.buckets == {Bucket.INPUT: 7, Bucket.OUTPUT: 30, Bucket.REASONING: 40}
    assert settled.usage.provenance[Bucket.REASONING] is Provenance.REPORTED


def test_what_was_delivered_after_the_last_report_of_a_cut_reply_is_added_as_an_estimate() -> None:
    report = Report({Counter.INPUT: 20, Counter.OUTPUT: 100})
    cut = _settled(Convention(), report, ended=False, seen=Delivered(output=140, since_report=35))
    assert cut.usage.output_tokens == 135
    assert cut.usage.provenance[Bucket.OUTPUT] is Provenance.ESTIMATED
