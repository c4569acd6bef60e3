"""Money is exact, unknown is unpriced, and pricing cannot fail."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.ledger.price import (
    Cost,
    Price,
    Rate,
    cost_of,
    format_rate,
    format_usd,
    free_price,
    own_price,
    read_rate,
)
from counterfoil.ledger.price_sheet import (
    ModelRow,
    ProviderRow,
    Sheet,
    SheetError,
    VariantRow,
    WindowRow,
    matches,
    read_sheet,
)
from counterfoil.ledger.price_table import PriceTable, check_sheet
from counterfoil.stores.price_files import shipped_sheet
from counterfoil.usage.usage import INPUT_BUCKETS, Bucket

SHIPPED = PriceTable([shipped_sheet()])

counts = st.integers(min_value=0, max_value=10**8)
usages = st.dictionaries(st.sampled_from(list(Bucket)), counts)
whole_usages = usages.map(lambda usage: {Bucket.INPUT: 0, Bucket.OUTPUT: 0} | usage)
rate_units = st.integers(min_value=0, max_value=1000 * 10**12)
steps = st.lists(st.tuples(st.integers(1, 10**6), rate_units), max_size=3, unique_by=lambda step: step[0]).map(
    lambda found: tuple(sorted(found))
)
some_rates = st.dictionaries(st.sampled_from(list(Bucket)), st.builds(Rate, rate_units, steps))


def priced(rates: Mapping[Bucket, Rate]) -> Price:
    return Price("seller", "model", rates, "2026-11-01", "list")


full_prices = some_rates.map(lambda rates: priced({Bucket.INPUT: Rate(1), Bucket.OUTPUT: Rate(1)} | rates))
flat_whole_prices = st.dictionaries(
    st.sampled_from(list(Bucket)), st.builds(Rate, st.integers(0, 10**6).map(lambda rate: rate * 10**6))
).map(lambda rates: priced({Bucket.INPUT: Rate(10**6), Bucket.OUTPUT: Rate(10**6)} | rates))


def at(text: str) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()


NOW = at("2026-11-22T12:00")


def dollars(provider: str, model: str, usage: Mapping[Bucket, int], when: float = NOW, **context: str) -> str:
    cost = cost_of(usage, SHIPPED.find(provider, model, when, context))
    assert cost.amount is not None, cost.priced_by
    return format_usd(cost.amount)


# --- laws of a cost


@given(whole_usages, whole_usages, flat_whole_prices)
def test_costs_of_disjoint_parts_add_up_where_there_are_no_steps(
    one: dict[Bucket, int], other: dict[Bucket, int], price: Price
) -> None:
    both = {bucket: one.get(bucket, 0) + other.get(bucket, 0) for bucket in one | other}
    apart = [cost_of(usage, price).amount for usage in (one, other)]
    if None not in apart:
        assert cost_of(both, price).amount == sum(amount for amount in apart if amount is not None)


@given(whole_usages, full_prices)
def test_a_cost_is_the_exact_dot_product_rounded_once_half_to_even(usage: dict[Bucket, int], price: Price) -> None:
    cost = cost_of(usage, price)
    if cost.amount is None:
        return
    with localcontext(prec=60):
        exact = sum((Decimal(line.tokens) * Decimal(line.rate or 0) / 10**6 for line in cost.lines), Decimal(0))
        assert cost.amount == int(exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
    assert {line.bucket: line.tokens for line in cost.lines} == {k: v for k, v in usage.items() if v}


@given(whole_usages, full_prices)
def test_lines_add_up_to_the_amount_and_stay_within_a_picodollar_of_their_product(
    usage: dict[Bucket, int], price: Price
) -> None:
    cost = cost_of(usage, price)
    if cost.amount is None:
        return
    assert sum(line.amount or 0 for line in cost.lines) == cost.amount
    for line in cost.lines:
        assert abs((line.amount or 0) * 10**6 - line.tokens * (line.rate or 0)) <= 10**6


@given(whole_usages, full_prices)
def test_money_is_never_a_float(usage: dict[Bucket, int], price: Price) -> None:
    cost = cost_of(usage, price)
    for number in (cost.amount, *(line.amount for line in cost.lines), *(line.rate for line in cost.lines)):
        assert number is None or type(number) is int


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


@given(
    anything | st.dictionaries(st.sampled_from(list(Bucket)) | st.text(max_size=8), anything, max_size=4),
    st.none() | some_rates.map(priced),
    st.booleans(),
)
def test_pricing_never_raises_and_says_why_there_is_no_amount(usage: Any, price: Price | None, waived: bool) -> None:
    cost = cost_of(usage, price, waived=waived)
    assert isinstance(cost, Cost)
    assert cost.amount is not None or cost.priced_by.notes


@given(anything, anything, anything, anything)
def test_finding_never_raises(provider: Any, model: Any, when: Any, context: Any) -> None:
    assert SHIPPED.find(provider, model, when, context) is None


@given(st.text(max_size=30), st.floats() | st.integers(), anything)
def test_finding_among_real_rows_never_raises(model: str, when: float, context: Any) -> None:
    found = SHIPPED.find("openai", model, when, context)
    assert found is None or found.rates
    known = SHIPPED.find("openai", "gpt-4.1", NOW, context)
    assert known is not None


@given(usages, st.booleans())
def test_no_price_is_unpriced_and_waived_is_nothing(usage: dict[Bucket, int], waived: bool) -> None:
    assert cost_of(usage, None, waived=waived).amount == (0 if waived else None)


@given(whole_usages, full_prices)
def test_waived_tokens_cost_nothing_whatever_their_price(usage: dict[Bucket, int], price: Price) -> None:
    cost = cost_of(usage, price, waived=True)
    assert cost.amount == 0
    assert all(line.amount == 0 and line.note == "waived" for line in cost.lines)


@given(usages)
def test_a_free_model_is_priced_at_nothing_even_when_its_usage_is_unknown(usage: dict[Bucket, int]) -> None:
    cost = cost_of(usage, free_price("local", "smol"))
    assert cost.amount == 0
    assert cost.priced_by.source == "local"


# --- what is unknown


PLAIN = priced({Bucket.INPUT: Rate(read_rate("1")), Bucket.OUTPUT: Rate(read_rate("2"))})


@pytest.mark.parametrize("usage", [{}, {Bucket.INPUT: 5}, {Bucket.OUTPUT: 5}, {Bucket.CACHE_READ: 5, Bucket.OUTPUT: 5}])
def test_a_side_nobody_knows_makes_the_cost_unknown(usage: dict[Bucket, int]) -> None:
    assert cost_of(usage, PLAIN).amount is None


def test_a_side_that_costs_nothing_need_not_be_known() -> None:
    embedding = priced({Bucket.INPUT: Rate(read_rate("0.02"))})
    assert cost_of({Bucket.INPUT: 1000}, embedding).amount == 20_000_000


def test_tokens_without_a_rate_are_not_given_away() -> None:
    embedding = priced({Bucket.INPUT: Rate(read_rate("0.02"))})
    cost = cost_of({Bucket.INPUT: 1000, Bucket.OUTPUT: 1}, embedding)
    assert cost.amount is None
    assert cost.priced_by.notes == ("the price has no rate for output",)
    assert cost.priced_by.source == "list"


@pytest.mark.parametrize("count", [-1, 1.0, True, "7", None])
def test_a_malformed_count_is_unpriced(count: object) -> None:
    usage = cast("Mapping[Bucket, int]", {Bucket.INPUT: 1, Bucket.OUTPUT: count})
    cost = cost_of(usage, PLAIN)
    assert cost.amount is None
    assert cost.priced_by.notes == ("the count of output is malformed",)


def test_an_amount_beyond_a_ledger_column_is_unpriced() -> None:
    assert cost_of({Bucket.INPUT: 10**13, Bucket.OUTPUT: 0}, PLAIN).amount is None
    assert cost_of({Bucket.INPUT: 9 * 10**12, Bucket.OUTPUT: 0}, PLAIN).amount == 9 * 10**18


# --- buckets without a rate of their own


@pytest.mark.parametrize(
    ("bucket", "own", "expected", "noted"),
    [
        (Bucket.REASONING, set(), Bucket.OUTPUT, False),
        (Bucket.TOOL_INPUT, set(), Bucket.INPUT, False),
        (Bucket.CACHE_READ, set(), Bucket.INPUT, True),
        (Bucket.CACHE_READ_AUDIO, set(), Bucket.INPUT, True),
        (Bucket.CACHE_READ_AUDIO, {Bucket.INPUT_AUDIO}, Bucket.INPUT_AUDIO, True),
        (Bucket.CACHE_READ_AUDIO, {Bucket.INPUT_AUDIO, Bucket.CACHE_READ}, Bucket.CACHE_READ, True),
        (Bucket.CACHE_WRITE, set(), Bucket.INPUT, True),
        (Bucket.CACHE_WRITE, {Bucket.CACHE_WRITE_5M}, Bucket.CACHE_WRITE_5M, False),
        (Bucket.CACHE_WRITE_5M, {Bucket.CACHE_WRITE}, Bucket.CACHE_WRITE, False),
        (Bucket.CACHE_WRITE_1H, {Bucket.CACHE_WRITE}, Bucket.CACHE_WRITE, True),
        (Bucket.CACHE_WRITE_1H, {Bucket.CACHE_WRITE, Bucket.CACHE_WRITE_1H}, Bucket.CACHE_WRITE_1H, False),
        (Bucket.INPUT_AUDIO, set(), Bucket.INPUT, True),
        (Bucket.INPUT_IMAGE, set(), Bucket.INPUT, True),
        (Bucket.OUTPUT_AUDIO, set(), Bucket.OUTPUT, True),
        (Bucket.OUTPUT_IMAGE, set(), Bucket.OUTPUT, True),
    ],
)
def test_a_bucket_without_its_own_rate_takes_the_next_and_says_so(
    bucket: Bucket, own: set[Bucket], expected: Bucket, noted: bool
) -> None:
    rates = {each: Rate(place * 10**6) for place, each in enumerate(Bucket, 1)}
    listed = {Bucket.INPUT, Bucket.OUTPUT} | own
    price = priced({each: rate for each, rate in rates.items() if each in listed})
    cost = cost_of({Bucket.INPUT: 0, Bucket.OUTPUT: 0, bucket: 3}, price)
    (line,) = cost.lines
    assert line.rate == rates[expected].base
    assert (line.note is not None) is noted
    assert line.note is None or str(expected) in line.note


# --- steps


@given(st.integers(0, 300_000), st.sampled_from(INPUT_BUCKETS[1:]))
def test_the_inclusive_input_decides_the_step_for_the_whole_request(tokens: int, bucket: Bucket) -> None:
    price = priced(
        {
            Bucket.INPUT: Rate(read_rate("1"), ((200_000, read_rate("2")),)),
            Bucket.OUTPUT: Rate(read_rate("10"), ((200_000, read_rate("15")),)),
        }
    )
    cost = cost_of({Bucket.INPUT: 100_000, bucket: tokens, Bucket.OUTPUT: 10}, price)
    above = 100_000 + tokens > 200_000
    assert {line.bucket: line.rate for line in cost.lines} == {
        Bucket.INPUT: read_rate("2" if above else "1"),
        Bucket.OUTPUT: read_rate("15" if above else "10"),
    } | ({bucket: read_rate("2" if above else "1")} if tokens else {})


# --- writing money


@given(st.integers(-(10**20), 10**20))
def test_dollars_are_written_exactly(amount: int) -> None:
    text = format_usd(amount)
    with localcontext(prec=60):
        assert Decimal(text.replace("$", "")) * 10**12 == amount
    decimals = text.partition(".")[2]
    assert len(decimals) == 2 or not decimals.endswith("0")


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0.00"),
        (12_500_000, "$0.0000125"),
        (-5 * 10**10, "-$0.05"),
        (12_500_000_000_000, "$12.50"),
        (1, "$0." + "0" * 11 + "1"),
    ],
)
def test_dollars_read_well(amount: int, text: str) -> None:
    assert format_usd(amount) == text


@given(st.integers(0, 10**19 - 1))
def test_a_rate_is_read_as_it_is_written(rate: int) -> None:
    assert read_rate(format_rate(rate)) == rate


@pytest.mark.parametrize(
    "text", ["", "-1", "1e3", "nan", "1.", ".5", "0.0000000000001", "99999999", "\uff11", " 1", "1\n"]
)
def test_anything_but_plain_decimals_is_not_a_rate(text: str) -> None:
    with pytest.raises(ValueError, match="dollars per million"):
        read_rate(text)


# --- the shipped list; figures from the providers' published prices


def test_gpt_4o_mini_costs_what_openai_publishes() -> None:
    usage = {Bucket.INPUT: 1000, Bucket.CACHE_READ: 1000, Bucket.OUTPUT: 100, Bucket.REASONING: 100}
    assert dollars("openai", "gpt-4o-mini", usage) == "$0.000345"
    assert dollars("openai", "GPT-4o-mini-2024-07-18", usage) == "$0.000345"
    assert dollars("openai", "gpt-4o-mini-20240718", usage) == "$0.000345"


def test_claude_sonnet_prices_both_lifetimes_of_cache_writes() -> None:
    usage = {
        Bucket.INPUT: 1000,
        Bucket.CACHE_READ: 10_000,
        Bucket.CACHE_WRITE_5M: 2000,
        Bucket.CACHE_WRITE_1H: 4000,
        Bucket.OUTPUT: 500,
    }
    # 0.003 + 0.003 + 0.0075 + 0.024 + 0.0075
    assert dollars("anthropic", "claude-sonnet-4-5-20250929", usage) == "$0.045"


def test_gemini_above_200k_input_is_dearer_for_every_token() -> None:
    below = {Bucket.INPUT: 150_000, Bucket.CACHE_READ: 50_000, Bucket.OUTPUT: 1000, Bucket.REASONING: 1000}
    above = below | {Bucket.INPUT: 150_001}
    assert dollars("google", "gemini-2.5-pro", below) == "$0.21375"
    assert dollars("google", "gemini-2.5-pro", above) == "$0.4175025"


def test_deepseek_is_cheaper_at_night() -> None:
    usage = {Bucket.INPUT: 10**6, Bucket.CACHE_READ: 10**6, Bucket.OUTPUT: 10**6}
    assert dollars("deepseek", "deepseek-chat", usage, at("2026-11-22T12:00")) == "$1.44"
    assert dollars("deepseek", "deepseek-chat", usage, at("2026-11-22T16:30")) == "$0.72"
    assert dollars("deepseek", "deepseek-chat", usage, at("2026-11-22T00:29:59")) == "$0.72"


def test_a_price_that_changed_is_the_one_of_its_day() -> None:
    long = {Bucket.INPUT: 300_000, Bucket.OUTPUT: 0}
    assert dollars("anthropic", "claude-sonnet-4-6", long, at("2026-03-12T23:59")) == "$1.80"
    assert dollars("anthropic", "claude-sonnet-4-6", long, at("2026-03-13T00:00")) == "$0.90"


def test_a_service_tier_has_its_own_price_where_listed_and_is_noted_where_not() -> None:
    usage = {Bucket.INPUT: 10**6, Bucket.OUTPUT: 0}
    assert dollars("openai", "gpt-4.1", usage, service_tier="priority") == "$3.50"
    assert dollars("openai", "gpt-4.1", usage, service_tier="default") == "$2.00"
    unlisted = SHIPPED.find("openai", "gpt-4.1", NOW, {"service_tier": "scale"})
    assert unlisted is not None
    assert unlisted.notes == ("service_tier=scale: no price of its own is listed, standard rates",)


def test_a_resold_model_takes_its_makers_price_and_says_so() -> None:
    price = SHIPPED.find("azure", "gpt-4.1", NOW)
    assert price is not None
    assert price.notes == ("priced from the list of openai",)
    assert price.provider == "azure"


def test_a_known_model_at_an_unknown_provider_has_no_price() -> None:
    assert SHIPPED.find("vllm", "gpt-4o-mini", NOW) is None
    assert SHIPPED.find("openai", "no-such-model", NOW) is None


def test_a_model_billed_by_the_hour_is_unpriced_not_free() -> None:
    assert SHIPPED.find("openai", "whisper-1", NOW) is None


def test_a_model_listed_as_free_is_priced_at_nothing() -> None:
    price = SHIPPED.find("openrouter", "agentica-org/deepcoder-14b-preview:free", NOW)
    cost = cost_of({Bucket.INPUT: 10, Bucket.OUTPUT: 10}, price)
    assert cost.amount == 0
    assert cost.priced_by.source == shipped_sheet().source


def test_a_fee_per_request_is_left_out_and_said() -> None:
    cost = cost_of({Bucket.INPUT: 10, Bucket.OUTPUT: 10}, SHIPPED.find("perplexity", "sonar", NOW))
    assert cost.priced_by.notes == ("the list has a fee per request, which is left out",)


def test_every_row_of_the_shipped_list_compiles() -> None:
    assert check_sheet(shipped_sheet()) > 1000


def test_every_cost_names_its_source_and_date() -> None:
    cost = cost_of({Bucket.INPUT: 10, Bucket.OUTPUT: 10}, SHIPPED.find("openai", "gpt-4o-mini", NOW))
    sheet = shipped_sheet()
    assert (cost.priced_by.source, cost.priced_by.date, cost.priced_by.model) == (
        sheet.source,
        sheet.date,
        "gpt-4o-mini",
    )
    assert cost.priced_by.notes == ()


# --- finding


def sheet_of(*rows: ModelRow, source: str = "list", provider: str = "seller") -> Sheet:
    models = msgspec.Raw(msgspec.json.encode(rows))
    return Sheet(1, source, "2026-11-01", "", {provider: ProviderRow(models)})


def row(match: object, rate: str = "1", **more: Any) -> ModelRow:
    return ModelRow(str(match), match, [WindowRow({"input": rate, "output": rate})], **more)


@pytest.mark.parametrize(
    ("clause", "name", "expected"),
    [
        ("=A-b", "a-b", True),
        ("=a", "ab", False),
        ("^A", "ab", True),
        ("$B", "ab", True),
        ("$a", "ab", False),
        ("*B", "abc", True),
        (r"~^a-\d$", "a-1", True),
        ("~(", "(", False),
        ("?a", "a", False),
        (["any", "=x", "=a"], "a", True),
        (["all", "^a", "$c"], "abc", True),
        (["all", "^a", "$b"], "abc", False),
        (["all", "^a", ["any", "$b", "$c"]], "abc", True),
        (["none", "=a"], "a", False),
        ([], "a", False),
        (None, "a", False),
        ("", "a", False),
    ],
)
def test_a_clause_holds_for_the_names_it_should(clause: object, name: str, expected: bool) -> None:
    assert matches(clause, name) is expected


def test_the_first_row_that_fits_and_the_first_sheet_that_knows_decide() -> None:
    table = PriceTable(
        [sheet_of(row("=a", "7"), source="own"), sheet_of(row("=a", "1"), row("^a", "2"), row("=ab", "3"))]
    )
    found = [table.find("seller", name, NOW) for name in ("a", "ab")]
    assert [(price.source, price.rates[Bucket.INPUT].base) for price in found if price] == [
        ("own", read_rate("7")),
        ("list", read_rate("2")),
    ]


@pytest.mark.parametrize(
    ("moment", "rate"),
    [
        ("2026-11-01T22:00", "1"),
        ("2026-11-02T21:59:59", "1"),
        ("2026-11-02T22:00", "2"),
        ("2026-11-03T01:59:59", "2"),
        ("2026-11-03T02:00", "1"),
    ],
)
def test_hours_that_cross_midnight_apply_from_their_day_on(moment: str, rate: str) -> None:
    windows = [
        WindowRow({"input": "1"}),
        WindowRow({"input": "2"}, since="2026-11-02", between=("22:00", "02:00")),
    ]
    price = PriceTable([sheet_of(ModelRow("a", "=a", windows))]).find("seller", "a", at(moment))
    assert price is not None
    assert price.rates[Bucket.INPUT].base == read_rate(rate)


def test_what_was_found_is_kept_within_a_bound() -> None:
    table = PriceTable([sheet_of(row("^a"))])
    for number in range(5000):
        assert table.find("seller", f"a{number}", NOW) is not None
    assert len(table._found) <= 4096
    assert table.find("seller", "a0", NOW) is table.find("seller", "a0", NOW)


@pytest.mark.parametrize(
    "bad",
    [
        row("?"),
        row("~("),
        row("~(a+)+$"),
        row(["any"]),
        row("=a", "-1"),
        ModelRow("a", "=a", []),
        ModelRow("a", "=a", [WindowRow({"nonsense": "1"})]),
        ModelRow("a", "=a", [WindowRow({"input": ["1", 0, "2"]})]),
        ModelRow("a", "=a", [WindowRow({"input": ["1", 200, "2", 100, "3"]})]),
        ModelRow("a", "=a", [WindowRow({"input": ["1", 200]})]),
        ModelRow("a", "=a", [WindowRow({"input": "1"}, since="soon")]),
        ModelRow("a", "=a", [WindowRow({"input": "1"}, between=("1", "25:00"))]),
        row("=a", variants=[VariantRow({"speed": "fast"}, {"output": "x"})]),
    ],
)
def test_a_bad_row_is_refused_by_name_and_is_no_price_where_it_slipped_in(bad: ModelRow) -> None:
    sheet = sheet_of(bad)
    with pytest.raises(SheetError, match="seller/"):
        check_sheet(sheet)
    found = PriceTable([sheet]).find("seller", "a", NOW)
    assert found is None or bad.match == "~(a+)+$"


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"version":2,"source":"","date":"","licence":"","providers":{}}'],
)
def test_what_is_not_a_price_list_of_this_version_is_refused(data: bytes) -> None:
    with pytest.raises(SheetError):
        read_sheet(data)


def test_unknown_names_bring_the_nearest_listed_ones() -> None:
    assert "openai/gpt-4o-mini" in SHIPPED.nearest("gpt-4o-minni")
    assert all(name.startswith("anthropic/") for name in SHIPPED.nearest("claude-sonet-4-5", "anthropic"))
    assert SHIPPED.nearest("claude-sonet-4-5", "anthropic")
    assert SHIPPED.nearest("zzzzzzzzzzzzzzzz") == ()


def test_what_was_found_in_a_context_is_kept_within_a_bound() -> None:
    table = PriceTable([sheet_of(row("=a", variants=[VariantRow({"tier": "1"}, {"input": "9"}, "2026-11-01")]))])
    for number in range(100):
        assert table.find("seller", "a", NOW, {"tier": str(number)}) is not None
    found = table._found["seller", "a"]
    assert found is not None
    assert len(found.kept) <= 32
    before, after = (table.find("seller", "a", at(day), {"tier": "1"}) for day in ("2026-10-31", "2026-11-01"))
    assert before is not None
    assert after is not None
    assert (before.rates[Bucket.INPUT], after.rates[Bucket.INPUT]) == (Rate(read_rate("1")), Rate(read_rate("9")))


# --- a deployment's own price


def test_a_configured_rate_is_what_the_operator_wrote() -> None:
    price = own_price("seller", "m", {"input": 0.1, "cache_read": "0.025", "output": 1e-05}, date="2026-11-22")
    assert {str(bucket): format_rate(rate.base) for bucket, rate in price.rates.items()} == {
        "input": "0.1",
        "cache_read": "0.025",
        "output": "0.00001",
    }
    assert price.priced_by.source == "configuration"


@pytest.mark.parametrize("rates", [{"inptu": 1}, {"input": -1}, {"input": float("nan")}, {"input": "free"}])
def test_a_configured_rate_that_is_none_is_named(rates: dict[str, str | int | float]) -> None:
    with pytest.raises(ValueError, match=next(iter(rates))):
        own_price("seller", "m", rates, date="2026-11-22")
