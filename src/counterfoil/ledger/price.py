"""Money: what settled tokens cost, exactly.

Rule 1: money is an integer. Amounts are picodollars (1e-12 USD), rates are picodollars per million tokens; no float
touches either, and a cost is rounded once, half to even.
Rule 2: no known price means unpriced, never 0. So does a count nobody knows, unless its rate is 0.
Rule 3: pricing cannot fail. Whatever is wrong with the input, the answer is an unpriced `Cost` that says why.
Rule 4: a price comes with its source and date, and every departure from a rate of its own is said in the line.

Priced are tokens, and the other units a bucket counts: searches and images. A price for 1,000 searches is written as
that for a million. Charges per request, web search, page or second of audio are left out; `Price.excluded` names those
the source lists, and a fee on every request is also a note on the cost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Final

import msgspec

from counterfoil.ledger.entry import PricedBy
from counterfoil.usage.usage import INPUT_BUCKETS, OUTPUT_BUCKETS, UNIT_BUCKETS, Bucket

__all__ = [
    "PICODOLLARS_PER_DOLLAR",
    "TOKENS_PER_RATE",
    "Cost",
    "CostLine",
    "Price",
    "Rate",
    "cost_of",
    "format_rate",
    "format_usd",
    "free_price",
    "own_price",
    "read_rate",
]

PICODOLLARS_PER_DOLLAR: Final = 10**12
TOKENS_PER_RATE: Final = 10**6
"""A rate is for this many tokens, as price lists write it."""

_NOBODY: Final = PricedBy(source="", date="")
"""Where no price is known; its notes say why."""
_LARGEST_AMOUNT: Final = 2**63 - 1
"""What a 64-bit column holds: about 9.2 million dollars for one line."""
_WRITTEN_RATE: Final = re.compile(r"(\d{1,7})(?:\.(\d{1,12}))?", re.ASCII)
_FEE_ON_EVERY_REQUEST: Final = "requests_kcount"

# Where a bucket has no rate of its own, the first of these that has one is used. True: the substitution is usual (the
# list's plain rate is meant to cover it) and needs no note. A cache write of unspecified or five-minute lifetime is
# what price lists call "cache write"; reasoning is output and tool input is input unless a list says otherwise.
_FALLBACKS: Final[Mapping[Bucket, tuple[tuple[Bucket, bool], ...]]] = {
    Bucket.INPUT: (),
    Bucket.CACHE_READ: ((Bucket.INPUT, False),),
    Bucket.CACHE_READ_AUDIO: ((Bucket.CACHE_READ, False), (Bucket.INPUT_AUDIO, False), (Bucket.INPUT, False)),
    Bucket.CACHE_WRITE: ((Bucket.CACHE_WRITE_5M, True), (Bucket.INPUT, False)),
    Bucket.CACHE_WRITE_5M: ((Bucket.CACHE_WRITE, True), (Bucket.INPUT, False)),
    Bucket.CACHE_WRITE_1H: ((Bucket.CACHE_WRITE, False), (Bucket.CACHE_WRITE_5M, False), (Bucket.INPUT, False)),
    Bucket.INPUT_AUDIO: ((Bucket.INPUT, False),),
    Bucket.INPUT_IMAGE: ((Bucket.INPUT, False),),
    Bucket.TOOL_INPUT: ((Bucket.INPUT, True),),
    Bucket.OUTPUT: (),
    Bucket.REASONING: ((Bucket.OUTPUT, True),),
    Bucket.OUTPUT_AUDIO: ((Bucket.OUTPUT, False),),
    Bucket.OUTPUT_IMAGE: ((Bucket.OUTPUT, False),),
    **dict.fromkeys(UNIT_BUCKETS, ()),
}
_SIDES: Final = ((Bucket.INPUT, INPUT_BUCKETS), (Bucket.OUTPUT, OUTPUT_BUCKETS))
_INPUT_SIDE: Final = frozenset(INPUT_BUCKETS)


@dataclass(frozen=True, slots=True)
class Rate:
    """Picodollars per million tokens (or searches, or images) of one bucket.

    `steps` are `(above, rate)`, ascending: when the inclusive input of the request is more than `above` tokens, `rate`
    is for every token of it, not only for those beyond (the law of Google's, Anthropic's and OpenAI's long-context
    prices: https://ai.google.dev/gemini-api/docs/pricing).
    """

    base: int
    steps: tuple[tuple[int, int], ...] = ()

    def at(self, input_tokens: int) -> int:
        """The rate for a request of `input_tokens`, cache included."""
        rate = self.base
        for above, stepped in self.steps:
            if input_tokens <= above:
                break
            rate = stepped
        return rate


@dataclass(frozen=True)
class Price:
    """What one model costs at one provider at one time.

    `provider` is the price list's name for it, `model` the list's entry that matched, `date` (ISO) when the list was
    taken, `source` whose list it is, `since` the day these rates begin if the list says so. `excluded` are the list's
    charges that are not for tokens. `notes` are carried to every cost.
    """

    provider: str
    model: str
    rates: Mapping[Bucket, Rate]
    date: str
    source: str
    since: str | None = None
    excluded: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def bands(self) -> tuple[tuple[int, Mapping[Bucket, tuple[int, str | None]], tuple[Bucket, ...]], ...]:
        """Ascending `(above, charges by bucket, sides that must be known)`; fallbacks are settled here, once."""
        edges = sorted({-1, *(above for rate in self.rates.values() for above, _ in rate.steps)})
        bands = []
        for edge in edges:
            charges: dict[Bucket, tuple[int, str | None]] = {}
            for bucket in Bucket:
                charge = _charge(bucket, self.rates, edge + 1)
                if charge is not None:
                    charges[bucket] = charge
            sides = tuple(
                side for side, buckets in _SIDES if any(charges.get(bucket, (0, None))[0] for bucket in buckets)
            )
            bands.append((edge, charges, sides))
        return tuple(bands)

    @cached_property
    def priced_by(self) -> PricedBy:
        """What every cost at this price says of it."""
        notes = self.notes
        if _FEE_ON_EVERY_REQUEST in self.excluded:
            notes = (*notes, "the list has a fee per request, which is left out")
        return PricedBy(source=self.source, date=self.date, model=self.model, notes=notes)


class CostLine(msgspec.Struct, frozen=True, gc=False):
    """One bucket of a cost. `tokens` are searches or images in a bucket of those.

    `rate` is in picodollars per million tokens, `amount` in picodollars; None is unknown. Lines add up to the cost's
    amount exactly: where a product is not whole, the remainder is carried into the next line, so that a line can be one
    picodollar away from its own product.
    """

    bucket: str
    tokens: int
    rate: int | None
    amount: int | None
    note: str | None = None


class Cost(msgspec.Struct, frozen=True):
    """Picodollars, or None for unpriced; how they came about, by bucket; and who says so, or why nobody does."""

    amount: int | None
    lines: tuple[CostLine, ...]
    priced_by: PricedBy


def free_price(provider: str, model: str, *, date: str = "", source: str = "local") -> Price:
    """A price of 0 for everything: a model on one's own machine."""
    return Price(provider, model, dict.fromkeys((Bucket.INPUT, Bucket.OUTPUT, *UNIT_BUCKETS), Rate(0)), date, source)


def own_price(
    provider: str, model: str, rates: Mapping[str, str | int | float], *, date: str, source: str = "configuration"
) -> Price:
    """The price a deployment's own configuration states, in dollars per million tokens (searches, images) by bucket.

    A float stands for its shortest decimal writing, which is what the operator wrote. Raises ValueError naming the
    bucket that is unknown or the rate that is not one.
    """
    read: dict[Bucket, Rate] = {}
    for name, rate in rates.items():
        try:
            text = rate if isinstance(rate, str) else format(Decimal(str(rate)), "f")
            read[Bucket(name)] = Rate(read_rate(text))
        except ValueError as error:
            raise ValueError(f"{name}: {rate}: {error}") from error
    return Price(provider, model, read, date, source)


def cost_of(usage: Mapping[Bucket, int], price: Price | None, *, waived: bool = False) -> Cost:
    """What disjoint buckets cost.

    `usage` is `Usage.priced`. Unpriced when there is no price, when a side of the usage that costs something is
    unknown (its own bucket, `INPUT` or `OUTPUT`, is absent), when tokens have no rate, or when a count is malformed.
    `waived` tokens cost 0 whatever their price. Never raises.
    """
    if not isinstance(usage, Mapping):
        return _unpriced(price, "the usage is malformed")
    input_tokens = 0
    for bucket, tokens in usage.items():
        if type(tokens) is not int or tokens < 0:
            return _unpriced(price, f"the count of {str(bucket)[:40]} is malformed")
        if bucket in _INPUT_SIDE:
            input_tokens += tokens
    if waived:
        return _waived(usage, price)
    if price is None:
        return _unpriced(None, "no price is known")
    band = price.bands[0]
    for candidate in price.bands[1:]:
        if input_tokens <= candidate[0]:
            break
        band = candidate
    _, charges, sides = band
    for side in sides:
        if side not in usage:
            return _unpriced(price, f"the {side} tokens are unknown")
    lines = []
    exact = amount = 0
    for bucket, tokens in usage.items():
        if not tokens:
            continue
        charge = charges.get(bucket)
        if charge is None:
            return _unpriced(price, f"the price has no rate for {str(bucket)[:40]}")
        rate, note = charge
        exact += tokens * rate
        total, rest = divmod(exact, TOKENS_PER_RATE)
        if rest:
            total = _half_even(total, rest)
        lines.append(CostLine(bucket, tokens, rate, total - amount, note))
        amount = total
    if amount > _LARGEST_AMOUNT:
        return _unpriced(price, "the amount is beyond what a ledger line holds")
    return Cost(amount, tuple(lines), price.priced_by)


def format_usd(picodollars: int) -> str:
    """Dollars, exactly: at least two decimals, no more than are needed. `12500000` is `$0.0000125`."""
    return ("-$" if picodollars < 0 else "$") + _decimal(abs(picodollars), least=2)


def format_rate(rate: int) -> str:
    """Dollars per million tokens as `read_rate` reads them: `150000000000` is `0.15`."""
    return _decimal(rate, least=0)


def read_rate(text: str) -> int:
    """Dollars per million tokens, in plain decimals, to picodollars per million tokens.

    Raises ValueError for anything else: signs, exponents, ten million dollars or more, more than twelve decimals.
    """
    match = _WRITTEN_RATE.fullmatch(text)
    if match is None:
        raise ValueError("a rate is dollars per million tokens, at most twelve decimals, such as 0.15")
    whole, decimals = match.groups()
    return int(whole) * PICODOLLARS_PER_DOLLAR + int((decimals or "").ljust(12, "0"))


def _charge(bucket: Bucket, rates: Mapping[Bucket, Rate], input_tokens: int) -> tuple[int, str | None] | None:
    own = rates.get(bucket)
    if own is not None:
        return own.at(input_tokens), None
    for other, usual in _FALLBACKS[bucket]:
        rate = rates.get(other)
        if rate is not None:
            return rate.at(input_tokens), None if usual else f"no rate of its own: priced as {other}"
    return None


def _half_even(whole: int, rest: int) -> int:
    twice = 2 * rest
    return whole + 1 if twice > TOKENS_PER_RATE or (twice == TOKENS_PER_RATE and whole & 1) else whole


def _waived(usage: Mapping[Bucket, int], price: Price | None) -> Cost:
    lines = tuple(CostLine(bucket, tokens, None, 0, "waived") for bucket, tokens in usage.items() if tokens)
    known = _NOBODY if price is None else price.priced_by
    return Cost(0, lines, msgspec.structs.replace(known, notes=(*known.notes, "waived")))


def _unpriced(price: Price | None, note: str) -> Cost:
    known = _NOBODY if price is None else price.priced_by
    return Cost(None, (), msgspec.structs.replace(known, notes=(*known.notes, note)))


def _decimal(picodollars: int, *, least: int) -> str:
    whole, part = divmod(picodollars, PICODOLLARS_PER_DOLLAR)
    decimals = f"{part:012d}".rstrip("0").ljust(least, "0")
    return f"{whole}.{decimals}" if decimals else str(whole)
