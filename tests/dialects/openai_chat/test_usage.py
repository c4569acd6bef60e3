"""Promise: a provider's numbers are read wherever it puts them, and a client gets one object with the settled truth."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

import counterfoil.providers.table
from counterfoil.dialects.dialect import FinalUsage
from counterfoil.dialects.openai_chat.usage import CONVENTION, PLACES, read_report, read_timings, write_usage
from counterfoil.dialects.registry import DIALECTS
from counterfoil.providers.table import proven_by, read_table
from counterfoil.usage.reading import NO_READING, Counter
from counterfoil.usage.settle import Convention, settle
from counterfoil.usage.usage import Bucket, Provenance, Usage
from tests import wire
from tests.dialects.openai_chat.recordings import decode_bytes, reading_of, recordings

XAI = Convention(
    output_includes=frozenset({Counter.OUTPUT_AUDIO, Counter.OUTPUT_IMAGE}),
    total_is=frozenset({Counter.INPUT, Counter.OUTPUT, Counter.REASONING}),
)


def counts(value: Any) -> dict[Counter, int | None]:
    report = read_report(msgspec.json.encode(value))
    assert report is not None
    return dict(report.counts)


def told(usage: Usage | None, provider: Any = None, *, estimated: bool = False) -> Any:
    raw = b"" if provider is None else msgspec.json.encode(provider)
    return json.loads(write_usage(FinalUsage(usage, estimated, raw)))


def settled(value: Any, convention: Convention = CONVENTION) -> Usage:
    report = read_report(msgspec.json.encode(value))
    assert report is not None
    return settle(NO_READING.join(report), convention, ended=True).usage


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_full_object_gives_every_counter() -> None:
    assert counts(
        {
            "prompt_tokens": 40,
            "completion_tokens": 20,
            "total_tokens": 60,
            "prompt_tokens_details": {
                "cached_tokens": 8,
                "cache_write_tokens": 4,
                "audio_tokens": 2,
                "image_tokens": 1,
            },
            "completion_tokens_details": {"reasoning_tokens": 6, "audio_tokens": 3, "image_tokens": 5},
        }
    ) == {
        Counter.INPUT: 40,
        Counter.OUTPUT: 20,
        Counter.TOTAL: 60,
        Counter.CACHE_READ: 8,
        Counter.CACHE_WRITE: 4,
        Counter.INPUT_AUDIO: 2,
        Counter.INPUT_IMAGE: 1,
        Counter.REASONING: 6,
        Counter.OUTPUT_AUDIO: 3,
        Counter.OUTPUT_IMAGE: 5,
    }


@pytest.mark.parametrize(("counter", "place"), PLACES, ids=[".".join(place) for _, place in PLACES])
def test_each_place_alone_is_read(counter: Counter, place: tuple[str, ...]) -> None:
    value: Any = 7
    for key in reversed(place):
        value = {key: value}
    assert counts(value) == {counter: 7}


def test_absent_null_and_nought_are_three_things() -> None:
    assert counts({"prompt_tokens": 1}) == {Counter.INPUT: 1}
    assert counts({"prompt_tokens": 1, "completion_tokens": None}) == {Counter.INPUT: 1, Counter.OUTPUT: None}
    assert counts({"prompt_tokens": 1, "completion_tokens": 0}) == {Counter.INPUT: 1, Counter.OUTPUT: 0}


def test_the_first_place_that_has_a_number_wins() -> None:
    both = {"prompt_tokens_details": {"cached_tokens": 8}, "prompt_cache_hit_tokens": 9, "cached_tokens": 10}
    assert counts(both) == {Counter.CACHE_READ: 8}
    assert counts({**both, "prompt_tokens_details": {"cached_tokens": None}}) == {Counter.CACHE_READ: 10}
    assert counts({**both, "prompt_tokens_details": None}) == {Counter.CACHE_READ: 10}


def test_what_alibaba_writes_to_an_explicit_cache_is_a_write_of_five_minutes() -> None:
    details = {
        "text_tokens": 2059,
        "cached_tokens": 0,
        "cache_creation_input_tokens": 2048,
        "cache_creation": {"ephemeral_5m_input_tokens": 2048},
        "cache_type": "ephemeral",
    }
    report = read_report(
        msgspec.json.encode({"prompt_tokens": 2059, "completion_tokens": 9, "prompt_tokens_details": details})
    )
    assert report is not None
    buckets = settle(NO_READING.join(report), CONVENTION, ended=True).usage.buckets
    assert {bucket: count for bucket, count in buckets.items() if count} == {
        Bucket.INPUT: 11,
        Bucket.CACHE_WRITE_5M: 2048,
        Bucket.OUTPUT: 9,
    }


def test_litellms_proxy_says_for_how_long_a_cache_was_written() -> None:
    lifetimes = {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}
    details = {"cached_tokens": 80, "cache_creation_tokens": 30, "cache_creation_token_details": lifetimes}
    assert counts({"prompt_tokens": 200, "prompt_tokens_details": details}) == {
        Counter.INPUT: 200,
        Counter.CACHE_READ: 80,
        Counter.CACHE_WRITE: 30,
        Counter.CACHE_WRITE_5M: 10,
        Counter.CACHE_WRITE_1H: 20,
    }


def test_seconds_and_prices_are_not_tokens() -> None:
    odd = {"prompt_audio_seconds": 4, "cost": 0.5, "queue_time": 0.1, "num_sources_used": 3, "prompt_tokens": 2}
    assert counts(odd) == {Counter.INPUT: 2}


@pytest.mark.parametrize("value", ["12", True, 1.5, [], {}, None])
def test_what_is_no_whole_number_is_not_a_count(value: Any) -> None:
    assert counts({"prompt_tokens": value}) == {Counter.INPUT: None}


def test_a_whole_number_written_with_a_point_is_a_count() -> None:
    assert counts({"prompt_tokens": 12.0}) == {Counter.INPUT: 12}


def test_a_number_that_no_count_can_be_reaches_the_reading_which_keeps_it_as_a_discrepancy() -> None:
    report = read_report(b'{"prompt_tokens":-3,"completion_tokens":4}')
    assert report is not None
    assert NO_READING.join(report).implausible == {Counter.INPUT}


@pytest.mark.parametrize("raw", [b"null", b"{}", b"[]", b"7", b'"x"', b"", b"{", b'{"cost":1}', b"[" * 100_000])
def test_what_holds_no_counter_is_no_report(raw: bytes) -> None:
    assert read_report(raw) is None
    assert read_timings(raw) is None


def test_a_report_keeps_its_json_and_its_scope() -> None:
    report = read_report(b'{"prompt_tokens": 5, "odd": 1.50}', 2)
    assert report is not None
    assert (report.raw, report.scope) == (b'{"prompt_tokens": 5, "odd": 1.50}', 2)


def test_the_same_report_three_times_is_counted_once() -> None:
    report = read_report(b'{"prompt_tokens":12,"completion_tokens":26,"total_tokens":38}')
    assert report is not None
    usage = settle(NO_READING.join(report).join(report).join(report), CONVENTION, ended=True).usage
    assert (usage.input_tokens, usage.output_tokens) == (12, 26)


def test_a_null_in_an_early_report_is_filled_by_a_later_one() -> None:
    early = read_report(b'{"prompt_tokens":22,"completion_tokens":null,"total_tokens":null}')
    late = read_report(b'{"prompt_tokens":22,"completion_tokens":37,"total_tokens":59}')
    assert early is not None
    assert late is not None
    usage = settle(NO_READING.join(early).join(late), CONVENTION, ended=True).usage
    assert usage.output_tokens == 37


# --- writing ---------------------------------------------------------------------------------------------------------


def test_nobody_knows_is_null() -> None:
    assert told(None) is None


@pytest.mark.parametrize("bucket", [Bucket.INPUT, Bucket.OUTPUT])
def test_half_known_is_null_and_never_nought(bucket: Bucket) -> None:
    assert told(Usage({bucket: 5})) is None


def test_totals_are_inclusive_and_details_are_there_only_when_known() -> None:
    assert told(Usage({Bucket.INPUT: 10, Bucket.OUTPUT: 4})) == {
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "total_tokens": 14,
    }
    full = Usage(
        {
            Bucket.INPUT: 10,
            Bucket.CACHE_READ: 30,
            Bucket.CACHE_WRITE: 1,
            Bucket.CACHE_WRITE_5M: 2,
            Bucket.CACHE_WRITE_1H: 3,
            Bucket.INPUT_AUDIO: 5,
            Bucket.OUTPUT: 4,
            Bucket.REASONING: 7,
            Bucket.OUTPUT_AUDIO: 0,
        }
    )
    assert told(full) == {
        "prompt_tokens": 51,
        "completion_tokens": 11,
        "total_tokens": 62,
        "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 6, "audio_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 7, "audio_tokens": 0},
    }


def test_an_estimate_says_so() -> None:
    usage = Usage({Bucket.INPUT: 10, Bucket.OUTPUT: 4}, {Bucket.OUTPUT: Provenance.ESTIMATED})
    assert told(usage, estimated=True)["estimated"] is True
    assert "estimated" not in told(usage)


def test_what_only_the_provider_knows_keeps_its_place_and_its_value() -> None:
    raw = (
        b'{"queue_time":0.0182657290,"prompt_tokens":12,"cost":1e-7,"completion_tokens":26,"total_tokens":38,'
        b'"prompt_tokens_details":{"video_tokens":0,"cached_tokens":3},"server_tool_use":{"web":1}}'
    )
    report = read_report(raw)
    assert report is not None
    usage = settle(NO_READING.join(report), CONVENTION, ended=True).usage
    assert write_usage(FinalUsage(usage, provider_raw=raw)) == raw


def test_reasoning_the_provider_counts_beside_its_output_reaches_the_client_inside_it() -> None:
    said = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 180,
        "completion_tokens_details": {"reasoning_tokens": 60, "rejected_prediction_tokens": 0},
        "num_sources_used": 2,
    }
    assert told(settled(said, XAI), said) == {
        "prompt_tokens": 100,
        "completion_tokens": 80,
        "total_tokens": 180,
        "completion_tokens_details": {"reasoning_tokens": 60, "rejected_prediction_tokens": 0},
        "num_sources_used": 2,
    }


def test_a_detail_the_provider_put_elsewhere_is_where_clients_look_too() -> None:
    said = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "cached_tokens": 8}
    assert told(settled(said), said) == {**said, "prompt_tokens_details": {"cached_tokens": 8}}


def test_null_details_are_left_out() -> None:
    said = {
        "prompt_tokens": 9,
        "completion_tokens": 1,
        "total_tokens": 10,
        "prompt_tokens_details": None,
        "completion_tokens_details": {"reasoning_tokens": None},
    }
    assert told(settled(said), said) == {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}


def test_a_part_larger_than_its_whole_is_shown_as_claimed() -> None:
    said = {
        "prompt_tokens": 7,
        "completion_tokens": 1,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 163},
    }
    assert told(settled(said), said) == said


@pytest.mark.parametrize("raw", [b"", b"null", b"7", b"{", b"[1]"])
def test_a_provider_object_that_is_none_lends_nothing(raw: bytes) -> None:
    written = write_usage(FinalUsage(Usage({Bucket.INPUT: 1, Bucket.OUTPUT: 2}), provider_raw=raw))
    assert json.loads(written) == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


# --- recordings ------------------------------------------------------------------------------------------------------

CELLS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")


@cache
def _table() -> Any:
    path = Path(counterfoil.providers.table.__file__).with_name("providers.toml")
    return read_table(path.read_text(), DIALECTS)


def test_every_recorded_total_is_the_oracles() -> None:
    judged = 0
    for one in recordings():
        row = proven_by(_table(), one.provider)
        assert row is not None, one.provider
        convention = row.convention_for(one.model, CONVENTION)
        oracle = wire.expected().get(one.id)
        if oracle is None or one.status >= 400:
            continue
        events = decode_bytes(one.body, streamed=one.streamed, choices=one.choices, quirks=row.quirks_for(one.model))
        usage = settle(reading_of(events), convention, ended=True).usage
        for cell in CELLS:
            if getattr(oracle, cell) is not None:
                assert getattr(usage, cell) == getattr(oracle, cell), (one.id, cell)
                judged += 1
    assert judged > 450


def test_every_recorded_object_is_written_back_with_all_it_had() -> None:
    seen = 0
    for one in recordings():
        if one.status >= 400:
            continue
        row = proven_by(_table(), one.provider)
        assert row is not None
        events = decode_bytes(one.body, streamed=one.streamed, choices=one.choices, quirks=row.quirks_for(one.model))
        reading = reading_of(events)
        if not reading.raw:
            continue
        usage = settle(reading, row.convention_for(one.model, CONVENTION), ended=True).usage
        said = json.loads(reading.raw[-1])
        written = told(usage, said)
        assert written["prompt_tokens"] == usage.input_tokens, one.id
        assert written["completion_tokens"] == usage.output_tokens, one.id
        known = {"prompt_tokens", "completion_tokens", "total_tokens"}
        details = {"prompt_tokens_details", "completion_tokens_details"}
        for key in said.keys() - known - details:
            assert written[key] == said[key], (one.id, key)
        seen += 1
    assert seen > 130
