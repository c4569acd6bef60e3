"""Usage of different attempts adds up: in any order, in any grouping, and never out of nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from counterfoil.usage.usage import (
    INPUT_BUCKETS,
    NOTHING,
    OUTPUT_BUCKETS,
    UNIT_BUCKETS,
    Bucket,
    Provenance,
    Usage,
    total_of,
    weakest,
)
from tests.laws.strategies import usages

__all__: list[str] = []


@given(usages, usages, usages)
def test_addition_does_not_depend_on_the_grouping(a: Usage, b: Usage, c: Usage) -> None:
    assert (a + b) + c == a + (b + c)


@given(usages, usages)
def test_addition_does_not_depend_on_the_order(a: Usage, b: Usage) -> None:
    assert a + b == b + a


@given(usages)
def test_nothing_is_the_identity(usage: Usage) -> None:
    assert usage + NOTHING == usage
    assert NOTHING + usage == usage
    assert total_of([]) == NOTHING


@given(st.lists(usages, max_size=5))
def test_one_unknown_side_makes_that_total_unknown_and_only_that(several: list[Usage]) -> None:
    total = total_of(several)
    for side, inclusive in ((Bucket.INPUT, "input_tokens"), (Bucket.OUTPUT, "output_tokens")):
        known = [getattr(usage, inclusive) for usage in several]
        assert getattr(total, inclusive) == (None if None in known else sum(known))
        assert (side in total.buckets) == all(side in usage.buckets for usage in several)


@given(usages)
def test_buckets_are_disjoint_so_the_inclusive_totals_are_their_sums(usage: Usage) -> None:
    assert sorted([*INPUT_BUCKETS, *OUTPUT_BUCKETS, *UNIT_BUCKETS]) == sorted(Bucket), "each bucket is in one group"
    if usage.input_tokens is not None and usage.output_tokens is not None:
        tokens = {bucket: count for bucket, count in usage.buckets.items() if bucket not in UNIT_BUCKETS}
        assert usage.input_tokens + usage.output_tokens == sum(tokens.values()) == usage.total_tokens


@given(usages)
def test_units_that_are_no_tokens_are_in_no_total(usage: Usage) -> None:
    without = Usage({bucket: count for bucket, count in usage.buckets.items() if bucket not in UNIT_BUCKETS})
    for total in ("input_tokens", "output_tokens", "total_tokens"):
        assert getattr(usage, total) == getattr(without, total)


@given(st.lists(usages, min_size=1, max_size=4))
def test_the_bill_of_a_sum_is_the_sum_of_the_bills(several: list[Usage]) -> None:
    total = total_of(several)
    bills = total_of([Usage(usage.priced) for usage in several])
    assert total.priced == bills.buckets
    assert (total.billed is None) == all(usage.billed is None for usage in several)


@given(usages, usages)
def test_every_bucket_of_a_sum_says_who_vouches_and_never_more_strongly_than_its_parts(a: Usage, b: Usage) -> None:
    total = a + b
    assert total.provenance.keys() == total.buckets.keys()
    order = list(Provenance)
    for bucket, voucher in total.provenance.items():
        for part in (a, b):
            assert order.index(voucher) >= order.index(part.provenance.get(bucket, Provenance.REPORTED))


@given(usages, usages)
def test_an_estimate_stays_visible_in_every_sum_that_keeps_its_bucket(a: Usage, b: Usage) -> None:
    total = a + b
    kept = {
        bucket for bucket, voucher in a.provenance.items() if voucher is Provenance.ESTIMATED
    } & total.buckets.keys()
    if kept and Provenance.UNKNOWN not in b.provenance.values():
        assert total.estimated


@given(usages, usages)
def test_what_was_claimed_beyond_the_whole_adds_up_apart_and_is_never_in_a_total(a: Usage, b: Usage) -> None:
    total = a + b
    assert sum(total.excess.values()) == sum(a.excess.values()) + sum(b.excess.values())
    without = Usage(total.buckets, total.provenance)
    assert (total.input_tokens, total.output_tokens) == (without.input_tokens, without.output_tokens)


def test_unknown_is_not_zero() -> None:
    silent = Usage()
    assert silent.input_tokens is None
    assert silent.output_tokens is None
    assert silent.reasoning_tokens is None
    assert silent.vouched(INPUT_BUCKETS) is Provenance.UNKNOWN
    assert (silent + Usage({Bucket.INPUT: 3, Bucket.OUTPUT: 4})).total_tokens is None


@given(st.lists(st.sampled_from(Provenance), min_size=1))
def test_a_sum_is_vouched_for_by_its_weakest_part(vouchers: list[Provenance]) -> None:
    assert list(Provenance).index(weakest(vouchers)) == max(map(list(Provenance).index, vouchers))
