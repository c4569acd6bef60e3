"""What `usageMetadata` amounts to, and what a client of this dialect is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.dialects.dialect import FinalUsage
from counterfoil.dialects.gemini import GEMINI
from counterfoil.dialects.gemini.usage import CONVENTION, read_report, write_usage
from counterfoil.exchange.recorded import read_reply
from counterfoil.usage.reading import NO_READING, Counter
from counterfoil.usage.settle import Settlement, settle
from counterfoil.usage.usage import Bucket, Provenance, Usage

from .support import candidate, chunk, decode, sse, usage


def settled(*said: dict[str, Any]) -> Settlement:
    reading = NO_READING
    for one in said:
        report = read_report(json.dumps(one).encode())
        reading = reading if report is None else reading.join(report)
    return settle(reading, CONVENTION, ended=True)


def told(usage: Usage | None, raw: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    final = FinalUsage(usage, provider_raw=json.dumps(raw).encode() if raw else b"", **more)
    found: dict[str, Any] = json.loads(write_usage(final))
    return found


def test_thoughts_are_beside_the_candidates_and_tools_beside_the_prompt() -> None:
    found = settled(usage(258, 44, 250, toolUsePromptTokenCount=1479))
    assert (found.usage.input_tokens, found.usage.output_tokens) == (1737, 294)
    assert found.usage.reasoning_tokens == 250
    assert found.provider_total == 2031
    assert not found.discrepancies


def test_the_cache_is_inside_the_prompt() -> None:
    found = settled(usage(300, 10, cachedContentTokenCount=217)).usage
    assert (found.input_tokens, found.cache_read_tokens) == (300, 217)
    assert found.buckets == {Bucket.INPUT: 83, Bucket.CACHE_READ: 217, Bucket.OUTPUT: 10}


def test_candidates_that_nobody_counts_are_what_the_total_leaves() -> None:
    found = settled({"promptTokenCount": 15, "thoughtsTokenCount": 2, "totalTokenCount": 17}).usage
    assert (found.output_tokens, found.reasoning_tokens) == (2, 2)
    assert found.provenance[Bucket.OUTPUT] is Provenance.DERIVED


def test_a_prompt_nobody_counts_is_unknown() -> None:
    found = settled({"candidatesTokenCount": 18, "thoughtsTokenCount": 58}).usage
    assert (found.input_tokens, found.output_tokens, found.total_tokens) == (None, 76, None)


@pytest.mark.parametrize("raw", [b'{"trafficType":"ON_DEMAND"}', b"{}", b"null", b"[]", b"7", b"{", b'{"other":1}'])
def test_a_report_without_a_count_is_none(raw: bytes) -> None:
    assert read_report(raw) is None


def test_the_last_word_stands_counter_by_counter_and_a_fall_is_kept() -> None:
    found = settled(usage(46, 51, 101), usage(46, 22, 67), usage(147, 108, 168, toolUsePromptTokenCount=360))
    assert (found.usage.input_tokens, found.usage.output_tokens) == (507, 276)
    assert {one.counter for one in found.discrepancies} == {Counter.OUTPUT, Counter.REASONING, Counter.TOTAL}


def test_a_total_without_candidates_in_mid_stream_is_the_prompts() -> None:
    """A stream that is cut after text and before the first count of candidates used something all the same."""
    cut = sse(
        chunk(candidate({"text": "High water comes at six."}), said={"promptTokenCount": 15, "totalTokenCount": 15})
    )
    read = read_reply([cut], GEMINI, streamed=True, estimate=True).settlement
    assert read.usage.input_tokens == 15
    assert (read.usage.output_tokens or 0) > 0
    assert read.usage.provenance[Bucket.OUTPUT] is Provenance.ESTIMATED
    assert not read.discrepancies
    whole = decode(cut + sse(chunk(candidate(finish="STOP"), said=usage(13, 8)))).settled()
    assert (whole.usage.input_tokens, whole.usage.output_tokens, whole.provider_total) == (13, 8, 21)


def details(**counts: int) -> list[dict[str, Any]]:
    return [{"modality": name.upper(), "tokenCount": count} for name, count in counts.items()]


def test_sound_and_pictures_have_buckets_of_their_own() -> None:
    found = settled(
        usage(
            700,
            40,
            promptTokensDetails=details(text=30, audio=150, image=520),
            candidatesTokensDetails=details(text=10, image=30),
        )
    )
    assert found.usage.buckets == {
        Bucket.INPUT: 30,
        Bucket.INPUT_AUDIO: 150,
        Bucket.INPUT_IMAGE: 520,
        Bucket.OUTPUT: 10,
        Bucket.OUTPUT_IMAGE: 30,
    }
    assert not found.discrepancies


def test_modalities_may_be_numbers() -> None:
    said = [{"modality": number, "tokenCount": 10 * number} for number in (1, 2, 3, 4)]
    found = settled(usage(100, 19, promptTokensDetails=said)).usage.buckets
    assert found == {Bucket.INPUT: 40, Bucket.INPUT_IMAGE: 20, Bucket.INPUT_AUDIO: 40, Bucket.OUTPUT: 19}


@pytest.mark.parametrize("count", [0, -3, 2.5, "9", None, True, []])
def test_a_detail_that_counts_nothing_makes_no_bucket(count: object) -> None:
    said = [{"modality": "AUDIO", "tokenCount": count}, {"modality": "AUDIO"}, {"tokenCount": count}, 7, None]
    found = settled(usage(30, 19, promptTokensDetails=said, candidatesTokensDetails=said))
    assert found.usage.buckets == {Bucket.INPUT: 30, Bucket.OUTPUT: 19}
    assert not found.discrepancies


def test_details_are_cut_to_what_is_left_of_their_whole() -> None:
    parts = details(audio=20, image=25)
    found = settled(usage(40, 30, promptTokensDetails=parts, candidatesTokensDetails=parts))
    assert found.usage.buckets == {
        Bucket.INPUT: 0,
        Bucket.INPUT_AUDIO: 20,
        Bucket.INPUT_IMAGE: 20,
        Bucket.OUTPUT: 0,
        Bucket.OUTPUT_AUDIO: 20,
        Bucket.OUTPUT_IMAGE: 10,
    }
    assert not found.discrepancies


def test_a_prompt_may_be_all_sound_and_an_output_all_picture() -> None:
    said = usage(150, 9, promptTokensDetails=details(audio=150), candidatesTokensDetails=details(image=9))
    assert settled(said).usage.buckets == {
        Bucket.INPUT: 0,
        Bucket.INPUT_AUDIO: 150,
        Bucket.OUTPUT: 0,
        Bucket.OUTPUT_IMAGE: 9,
    }


def test_what_was_cached_of_a_modality_is_not_counted_twice() -> None:
    said = usage(
        200,
        5,
        cachedContentTokenCount=100,
        promptTokensDetails=details(text=50, audio=150),
        cacheTokensDetails=details(text=20, audio=80),
    )
    found = settled(said)
    assert found.usage.buckets == {
        Bucket.CACHE_READ: 20,
        Bucket.CACHE_READ_AUDIO: 80,
        Bucket.INPUT_AUDIO: 70,
        Bucket.INPUT: 30,
        Bucket.OUTPUT: 5,
    }
    assert (found.usage.input_tokens, found.usage.cache_read_tokens) == (200, 100)


@given(
    st.integers(0, 500),
    st.integers(0, 600),
    st.dictionaries(st.sampled_from(["text", "audio", "image", "video"]), st.integers(0, 600)),
    st.dictionaries(st.sampled_from(["text", "audio", "image"]), st.integers(0, 600)),
)
def test_details_that_do_not_add_up_change_no_total(
    prompt: int, cached: int, parts: dict[str, int], cache: dict[str, int]
) -> None:
    plain = usage(prompt, 5, cachedContentTokenCount=cached)
    split = {**plain, "promptTokensDetails": details(**parts), "cacheTokensDetails": details(**cache)}
    assert settled(split).usage.input_tokens == settled(plain).usage.input_tokens
    assert settled(split).usage.cache_read_tokens == cached
    if cached <= prompt:
        assert not settled(split).discrepancies


def test_a_client_is_told_what_is_settled_in_googles_words() -> None:
    raw = usage(258, 44, 250, toolUsePromptTokenCount=1479, serviceTier="standard")
    found = settled(raw).usage
    assert told(found) == {
        "promptTokenCount": 258,
        "candidatesTokenCount": 44,
        "totalTokenCount": 2031,
        "toolUsePromptTokenCount": 1479,
        "thoughtsTokenCount": 250,
    }
    assert told(found, raw) == raw
    assert list(told(found, raw)) == list(raw)


def test_an_object_that_says_what_is_settled_keeps_its_bytes() -> None:
    raw = b'{"promptTokenCount": 19,"candidatesTokenCount": 28,"totalTokenCount": 86,"thoughtsTokenCount": 39}'
    report = read_report(raw)
    assert report is not None
    usage = settle(NO_READING.join(report), CONVENTION, ended=True).usage
    assert json.loads(write_usage(FinalUsage(usage, provider_raw=raw))) == json.loads(raw)
    written = write_usage(FinalUsage(usage, provider_raw=raw.replace(b"19", b"19.0")))
    assert b"19.0" in written


def test_an_estimate_is_marked_and_heard_again() -> None:
    mine = Usage({Bucket.INPUT: 7, Bucket.OUTPUT: 3})
    said = told(mine, estimated=True)
    assert said == {"promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 10, "estimated": True}
    report = read_report(json.dumps(said).encode())
    assert report is not None
    assert report.estimated


def test_what_nobody_knows_is_left_out() -> None:
    assert told(None) == {}
    assert told(Usage({Bucket.OUTPUT: 3})) == {"candidatesTokenCount": 3}


def test_details_of_a_count_that_is_told_otherwise_are_left_out() -> None:
    raw = usage(100, 5, promptTokensDetails=details(text=100))
    assert "promptTokensDetails" in told(settled(raw).usage, raw)
    assert "promptTokensDetails" not in told(Usage({Bucket.INPUT: 40, Bucket.OUTPUT: 5}), raw)


@pytest.mark.parametrize(
    "said",
    [
        [{"modality": "TEXT", "tokenCount": 100}, {"modality": "IMAGE"}],
        [{"modality": "TEXT", "tokenCount": 60}],
    ],
    ids=["a zero that is left out", "less than the whole"],
)
def test_details_that_go_into_what_is_told_are_kept(said: list[dict[str, Any]]) -> None:
    raw = usage(100, 5, promptTokensDetails=said)
    assert told(settled(raw).usage, raw)["promptTokensDetails"] == said


@pytest.mark.parametrize("said", [7, None, "x", [7], [{"tokenCount": "x"}], [{"modality": "TEXT", "tokenCount": None}]])
def test_details_that_cannot_be_added_up_are_left_out(said: object) -> None:
    raw = usage(100, 5, promptTokensDetails=said)
    assert "promptTokensDetails" not in told(settled(raw).usage, raw)


def test_details_of_a_count_that_is_not_told_are_left_out() -> None:
    raw = usage(100, 5, toolUsePromptTokensDetails=details(text=7))
    assert "toolUsePromptTokensDetails" not in told(settled(raw).usage, raw)


def test_a_count_that_nobody_stands_for_is_left_out_of_the_providers_own_object() -> None:
    raw = {**usage(100, 5, cachedContentTokenCount=30), "thoughtsTokenCount": None}
    found = told(Usage({Bucket.OUTPUT: 5}), raw)
    assert found == {"candidatesTokenCount": 5, "thoughtsTokenCount": None}


@given(st.integers(0, 999), st.integers(0, 999), st.integers(0, 999), st.integers(0, 99), st.integers(0, 99))
def test_what_is_written_is_read_back_the_same(prompt: int, made: int, thought: int, tools: int, cached: int) -> None:
    said = usage(prompt, made, thought, toolUsePromptTokenCount=tools, cachedContentTokenCount=min(cached, prompt))
    once = settled(said).usage
    again = settled(told(once)).usage
    assert again.buckets == once.buckets
