"""What Converse's counters mean."""

from __future__ import annotations

import msgspec
import pytest

from counterfoil.dialects.bedrock_converse.usage import CONVENTION, read_report
from counterfoil.dialects.schema import whole_number
from counterfoil.usage.reading import NO_READING, Counter
from counterfoil.usage.settle import DiscrepancyKind, Settlement, settle
from counterfoil.usage.usage import Bucket

from .support import METADATA, START, STOP, read_stream, read_whole, whole

__all__: list[str] = []


def settled(*objects: object) -> Settlement:
    reading = NO_READING
    for said in objects:
        report = read_report(msgspec.json.encode(said))
        assert report is not None
        reading = reading.join(report)
    return settle(reading, CONVENTION, ended=True)


def test_cache_is_beside_the_input_and_inside_the_total() -> None:
    found = settled(
        {
            "inputTokens": 3,
            "outputTokens": 121,
            "totalTokens": 2072,
            "cacheReadInputTokens": 1712,
            "cacheWriteInputTokens": 236,
        }
    )
    assert found.usage.input_tokens == 3 + 1712 + 236
    assert found.usage.buckets == {
        Bucket.INPUT: 3,
        Bucket.CACHE_READ: 1712,
        Bucket.CACHE_WRITE: 236,
        Bucket.OUTPUT: 121,
    }
    assert found.provider_total == 2072
    assert found.discrepancies == ()


def test_the_second_name_of_a_counter_is_not_a_second_counter() -> None:
    both = {"cacheReadInputTokens": 5, "cacheReadInputTokenCount": 5, "cacheWriteInputTokenCount": 2}
    found = settled({"inputTokens": 1, "outputTokens": 1, "totalTokens": 9, **both})
    assert (found.usage.cache_read_tokens, found.usage.cache_write_tokens) == (5, 2)
    apart = settled({"inputTokens": 9, "inputTokenCount": 8, "outputTokens": None, "outputTokenCount": 4})
    assert (apart.usage.input_tokens, apart.usage.output_tokens) == (9, 4)
    assert found.discrepancies == ()


def test_cache_writes_are_split_by_lifetime() -> None:
    found = settled(
        {
            "inputTokens": 1,
            "outputTokens": 1,
            "totalTokens": 102,
            "cacheWriteInputTokens": 100,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 60}, {"ttl": "5m", "inputTokens": 40}],
        }
    )
    assert found.usage.buckets[Bucket.CACHE_WRITE_1H] == 60
    assert found.usage.buckets[Bucket.CACHE_WRITE_5M] == 40
    assert found.usage.buckets[Bucket.CACHE_WRITE] == 0
    assert found.usage.cache_write_tokens == 100
    assert found.discrepancies == ()


def test_a_lifetime_nobody_knows_and_a_detail_without_a_count_leave_the_write_unspecified() -> None:
    details = [{"ttl": "2h", "inputTokens": 60}, {"inputTokens": 4}, {"ttl": "1h"}, {"ttl": "1h", "inputTokens": 30}, 7]
    said = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 102, "cacheWriteInputTokens": 100}
    report = read_report(msgspec.json.encode({**said, "cacheDetails": details}))
    assert report is not None
    assert set(report.counts) <= set(Counter)
    assert settled({**said, "cacheDetails": details}).usage.buckets == {
        Bucket.INPUT: 1,
        Bucket.CACHE_WRITE: 70,
        Bucket.CACHE_WRITE_1H: 30,
        Bucket.OUTPUT: 1,
    }


def test_a_total_that_does_not_add_up_is_kept() -> None:
    found = settled({"inputTokens": 9, "outputTokens": 4, "totalTokens": 14})
    assert [one.kind for one in found.discrepancies] == [DiscrepancyKind.TOTAL_MISMATCH]
    assert found.usage.total_tokens == 13


def test_what_is_not_said_is_unknown_and_not_zero() -> None:
    found = settled({"outputTokens": 50})
    assert (found.usage.input_tokens, found.usage.output_tokens) == (None, 50)
    nothing = read_whole(whole({"text": "x"}, usage=None))
    assert nothing.reading.reports == 0
    assert nothing.settlement.usage.total_tokens is None


def test_absent_null_and_zero_are_three_things() -> None:
    report = read_report(b'{"inputTokens": 0, "outputTokens": null}')
    assert report is not None
    assert report.counts == {Counter.INPUT: 0, Counter.OUTPUT: None}


def test_null_neither_sets_nor_clears() -> None:
    found = settled({"inputTokens": 9, "outputTokens": 4}, {"inputTokens": None, "outputTokens": 6})
    assert (found.usage.input_tokens, found.usage.output_tokens) == (9, 6)


@pytest.mark.parametrize(("said", "count"), [(6.0, 6), (6.5, None), (True, None), ("6", None), (None, None), (-1, -1)])
def test_a_count_is_a_whole_number(said: object, count: int | None) -> None:
    assert whole_number(said) == count


def test_a_count_that_cannot_be_one_is_kept_as_a_discrepancy() -> None:
    found = settled({"inputTokens": -4, "outputTokens": 2**63})
    assert {one.counter for one in found.discrepancies} == {Counter.INPUT, Counter.OUTPUT}
    assert found.usage.total_tokens is None


def test_zeros_beside_text_are_no_free_call() -> None:
    from counterfoil.dialects.bedrock_converse import BEDROCK_CONVERSE
    from counterfoil.exchange.recorded import read_reply

    body = msgspec.json.encode(
        whole({"text": "The tide turns at noon."}, usage={"inputTokens": 0, "outputTokens": 0, "totalTokens": 0})
    )
    found = read_reply([body], BEDROCK_CONVERSE, streamed=False, estimate=True)
    assert DiscrepancyKind.ZERO_BESIDE_TEXT in [one.kind for one in found.settlement.discrepancies]


def test_the_report_is_kept_word_for_word() -> None:
    reply = read_stream(START, STOP, METADATA)
    assert reply.reading.raw == (b'{"inputTokens":9,"outputTokens":4,"totalTokens":13}',)


@pytest.mark.parametrize("said", [b"[]", b"7", b"null", b"{", b"\xff"])
def test_what_is_no_usage_object_is_no_report(said: bytes) -> None:
    assert read_report(said) is None
