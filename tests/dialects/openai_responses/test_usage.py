"""Usage objects of this dialect, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from counterfoil.dialects.dialect import FinalUsage
from counterfoil.dialects.openai_responses.usage import CONVENTION, read_report, write_usage
from counterfoil.usage.reading import NO_READING, Counter
from counterfoil.usage.settle import settle
from counterfoil.usage.usage import Bucket, Usage

from .support import JSON, USAGE


def raw(value: Any) -> bytes:
    return json.dumps(value).encode()


def settled(value: Any) -> Usage:
    report = read_report(raw(value))
    assert report is not None
    return settle(NO_READING.join(report), CONVENTION, ended=True).usage


def test_cache_is_inside_the_input_and_reasoning_inside_the_output() -> None:
    usage = settled(USAGE)
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (40, 12, 52)
    assert (usage.cache_read_tokens, usage.reasoning_tokens) == (8, 5)
    assert (usage.buckets[Bucket.INPUT], usage.buckets[Bucket.OUTPUT]) == (32, 7)


def test_a_cache_write_is_inside_the_input() -> None:
    usage = settled({**USAGE, "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 30}})
    assert (usage.input_tokens, usage.cache_write_tokens, usage.buckets[Bucket.INPUT]) == (40, 30, 2)


def test_perplexitys_words_for_its_cache_are_heard() -> None:
    details = {"cache_creation_input_tokens": 3, "cache_read_input_tokens": 8}
    usage = settled({**USAGE, "input_tokens_details": details})
    assert (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == (40, 8, 3)
    usage = settled({**USAGE, "input_tokens_details": {"cached_tokens": 9, **details}})
    assert usage.cache_read_tokens == 9


def test_absent_null_and_zero_are_three_things() -> None:
    report = read_report(raw({"input_tokens": 0, "output_tokens": None}))
    assert report is not None
    assert report.counts == {Counter.INPUT: 0, Counter.OUTPUT: None}


def test_a_report_before_the_end_has_a_placeholder_for_its_output() -> None:
    report = read_report(raw(USAGE), provisional=True)
    assert report is not None
    assert report.provisional == {Counter.OUTPUT}


@pytest.mark.parametrize("value", [None, [], 3, "x", {}, {"cost": 1}, {"input_tokens_details": {}}])
def test_what_holds_no_counter_is_no_report(value: Any) -> None:
    assert read_report(raw(value)) is None


@given(JSON)
def test_nothing_a_usage_object_holds_raises(value: Any) -> None:
    read_report(raw(value))
    read_report(raw({"input_tokens": value, "output_tokens_details": value}))


def test_what_is_written_reads_back_as_the_same() -> None:
    usage = settled({**USAGE, "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 3}})
    assert settled(json.loads(write_usage(FinalUsage(usage)))).buckets == usage.buckets


def test_sound_and_pictures_are_told_beside_what_the_schema_demands() -> None:
    usage = Usage(
        {
            Bucket.INPUT: 3,
            Bucket.INPUT_AUDIO: 5,
            Bucket.CACHE_READ_AUDIO: 2,
            Bucket.INPUT_IMAGE: 7,
            Bucket.OUTPUT: 1,
            Bucket.OUTPUT_AUDIO: 4,
            Bucket.OUTPUT_IMAGE: 6,
        }
    )
    written = json.loads(write_usage(FinalUsage(usage)))
    assert (written["input_tokens"], written["output_tokens"]) == (17, 11)
    assert written["input_tokens_details"] == {
        "cached_tokens": 2,
        "cache_write_tokens": 0,
        "audio_tokens": 7,
        "image_tokens": 7,
    }
    assert written["output_tokens_details"] == {"reasoning_tokens": 0, "audio_tokens": 4, "image_tokens": 6}


def test_the_details_the_schema_demands_are_there_across_a_crossing() -> None:
    written = json.loads(write_usage(FinalUsage(Usage({Bucket.INPUT: 3, Bucket.OUTPUT: 1}))))
    assert written == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 4,
    }


def test_a_providers_own_object_keeps_its_keys_their_order_and_what_it_lacks() -> None:
    theirs = {"output_tokens": 12, "cost": 0.25, "input_tokens": 40, "output_tokens_details": {"reasoning_tokens": 5}}
    written = write_usage(FinalUsage(settled(theirs), provider_raw=raw(theirs)))
    assert list(json.loads(written))[:4] == list(theirs)
    assert json.loads(written)["cost"] == 0.25
    assert "input_tokens_details" not in json.loads(written)


def test_what_a_provider_says_in_its_details_stays_and_what_is_settled_otherwise_does_not() -> None:
    details = {"text_tokens": 30, "cached_tokens": 99, "audio_tokens": 6}
    theirs = {**USAGE, "input_tokens_details": details}
    usage = Usage({Bucket.INPUT: 32, Bucket.CACHE_READ: 8, Bucket.OUTPUT: 12})
    written = json.loads(write_usage(FinalUsage(usage, provider_raw=raw(theirs))))
    assert written["input_tokens_details"] == {"text_tokens": 30, "cached_tokens": 8}


@pytest.mark.parametrize("said", [{}, {"reasoning_tokens": None}])
def test_a_providers_details_are_never_empty_for_a_client_that_parses_them(said: dict[str, Any]) -> None:
    theirs = {"input_tokens": 40, "input_tokens_details": {}, "output_tokens": 12, "output_tokens_details": said}
    written = json.loads(write_usage(FinalUsage(settled(theirs), provider_raw=raw(theirs))))
    assert written["input_tokens_details"] == {"cached_tokens": 0}
    assert written["output_tokens_details"] == {"reasoning_tokens": 0}


def test_an_estimate_is_marked_and_the_mark_is_read() -> None:
    written = write_usage(FinalUsage(Usage({Bucket.INPUT: 3, Bucket.OUTPUT: 1}), estimated=True))
    assert json.loads(written)["estimated"] is True
    report = read_report(written)
    assert report is not None
    assert report.estimated


@pytest.mark.parametrize("usage", [None, Usage({Bucket.INPUT: 3}), Usage({Bucket.OUTPUT: 3})])
def test_what_nobody_knows_is_null(usage: Usage | None) -> None:
    assert write_usage(FinalUsage(usage)) == b"null"
