"""Price lists as data, and finding the price of a model in them.

Rule 1: a list is a `Sheet`: providers by the list's own names, each with an ordered list of models. Nothing here knows
a provider: the caller says which name to look under, and an unknown name has no prices, whatever the model is called.
Rule 2: matching happens once for each provider and model; what was found is kept, bounded.
Rule 3: finding cannot fail. A malformed row, name or time is no price. What makes a sheet valid is `check_sheet`, which
whoever installs one calls first.

The matching law and the law of dated, daily and contextual prices are those of genai-prices, whose data the shipped
sheet is: first matching model wins, then the providers in `fallback`, one step; of the windows that apply the last
wins, else the first; a price for a context overrides key by key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from typing import Final

import msgspec

from counterfoil.ledger.price import Price, Rate
from counterfoil.ledger.price_sheet import (
    NAME_LIMIT,
    ModelRow,
    Sheet,
    SheetError,
    check_clause,
    matches,
    models_of,
    read_day,
    read_rates,
    read_second,
)
from counterfoil.usage.usage import Bucket

__all__ = ["PriceTable", "check_sheet"]

_KEPT: Final = 4096
_KEPT_CONTEXTS: Final = 32
_DAY: Final = 86_400
_LATEST: Final = 253_402_300_800
"""Year 10000, in seconds."""
_COMPACT_DATE: Final = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")
_ORDINARY: Final = frozenset({"default", "standard", "auto", "on_demand"})
"""Words for the tier that a list's plain rates are of; the last is Groq's: https://console.groq.com/docs/service-tiers"""


class _Window(msgspec.Struct, frozen=True):
    price: Price | None
    first_day: int | None = None
    between: tuple[int, int] | None = None

    def active(self, at: float) -> bool:
        if self.first_day is not None and at // _DAY < self.first_day:
            return False
        if self.between is None:
            return True
        start, end = self.between
        second = at % _DAY
        return start <= second < end if start <= end else second >= start or second < end


class _Variant(msgspec.Struct, frozen=True):
    when: Mapping[str, str]
    rates: Mapping[Bucket, Rate]
    first_day: int | None


class _Found(msgspec.Struct, frozen=True):
    windows: tuple[_Window, ...]
    variants: tuple[_Variant, ...]
    kept: dict[tuple[object, ...], Price]
    """Prices in contexts, by window, day and context; bounded."""

    def price(self, at: float, context: Mapping[str, str] | None) -> Price | None:
        place = self.place(at)
        price = self.windows[place].price
        if price is None or not isinstance(context, Mapping):
            return price
        said = {key: value for key, value in context.items() if isinstance(key, str) and isinstance(value, str)}
        if not said:
            return price
        key = (place, at // _DAY, *said.items())
        kept = self.kept.get(key)
        if kept is None:
            if len(self.kept) >= _KEPT_CONTEXTS:
                self.kept.clear()
            kept = self.kept[key] = self._in_context(price, at // _DAY, said)
        return kept

    def place(self, at: float) -> int:
        """Which window is in force: the last that applies, else the first."""
        return next((place for place in reversed(range(len(self.windows))) if self.windows[place].active(at)), 0)

    def _in_context(self, price: Price, day: float, context: Mapping[str, str]) -> Price:
        rates: dict[Bucket, Rate] = {}
        listed: set[str] = set()
        for variant in self.variants:
            if variant.first_day is not None and day < variant.first_day:
                continue
            if all(context.get(key) == value for key, value in variant.when.items()):
                listed |= variant.when.keys()
                for bucket, rate in variant.rates.items():
                    rates.setdefault(bucket, rate)
        notes = tuple(
            f"{key}={value}"[:60] + ("" if key in listed else ": no price of its own is listed, standard rates")
            for key, value in sorted(context.items())
            if value not in _ORDINARY
        )
        if not notes and not rates:
            return price
        return Price(
            price.provider,
            price.model,
            {**price.rates, **rates},
            price.date,
            price.source,
            price.since,
            price.excluded,
            (*price.notes, *notes),
        )


class PriceTable:
    """Prices from several sheets; the first sheet that knows a model decides.

    Pure but for a bounded memory of what was found. Safe to share between threads.
    """

    def __init__(self, sheets: Sequence[Sheet], *, own: Sheet | None = None) -> None:
        """`own`: the owner's sheet, which goes before the others."""
        self.sheets = tuple(sheets) if own is None else (own, *sheets)
        self._own = None if own is None else PriceTable([own])
        self._models: dict[tuple[int, str], tuple[ModelRow, ...]] = {}
        self._found: dict[tuple[str, str], _Found | None] = {}

    def find(self, provider: str, model: str, at: float, context: Mapping[str, str] | None = None) -> Price | None:
        """The price of `model` under the sheets' name `provider` at the time `at` (Unix seconds, UTC).

        `context` holds what the request or the reply said of its rate, such as `{"service_tier": "priority"}`. None
        when no sheet knows the provider, the model, or any rate for its tokens. Never raises.
        """
        found = self._lookup(provider, model, at)
        return None if found is None else found.price(at, context)

    def find_own(self, provider: str, model: str, at: float, context: Mapping[str, str] | None = None) -> Price | None:
        """As `find`, in the owner's sheet alone. There `provider` is whatever the owner calls it: providers of which no
        list has a price, and servers of one's own, have no other name."""
        return None if self._own is None else self._own.find(provider, model, at, context)

    def window(self, provider: str, model: str, at: float) -> int | None:
        """The place, among the model's `prices`, of the window in force at `at`; None as in `find`."""
        found = self._lookup(provider, model, at)
        return None if found is None else found.place(at)

    def rows(self, model: str, provider: str | None = None) -> Iterator[tuple[str, Sheet, ModelRow]]:
        """Every `(provider, sheet, row)` that prices `model`, one for each provider; for showing, not for pricing."""
        for name in self.providers() if provider is None else (provider,):
            match = self._match(name, model)
            if match is not None:
                yield name, match[0], match[2]

    def providers(self) -> tuple[str, ...]:
        """The providers of all sheets, sorted."""
        return tuple(sorted({name for sheet in self.sheets for name in sheet.providers}))

    def nearest(self, model: str, provider: str | None = None, *, limit: int = 5) -> tuple[str, ...]:
        """Listed names like `model`, as `provider/name`, nearest first."""
        names: dict[str, list[str]] = {}
        for place, sheet in enumerate(self.sheets):
            for name in sheet.providers if provider is None else {provider} & sheet.providers.keys():
                for row in self._rows(place, name):
                    names.setdefault(row.id.lower(), []).append(f"{name}/{row.id}")
        close = get_close_matches(model[:NAME_LIMIT].lower(), names, n=limit, cutoff=0.5)
        return tuple(dict.fromkeys(full for name in close for full in names[name]))[:limit]

    def _lookup(self, provider: str, model: str, at: float) -> _Found | None:
        if not isinstance(at, int | float) or not 0 <= at < _LATEST:
            return None
        key = (provider, model)
        try:
            return self._found[key]
        except KeyError:
            return self._keep(key)
        except TypeError:
            return None

    def _keep(self, key: tuple[str, str]) -> _Found | None:
        match = self._match(*key)
        found = None if match is None else _compile(key[0], *match)
        while len(self._found) >= _KEPT:
            self._found.pop(next(iter(self._found), key), None)
        self._found[key] = found
        return found

    def _match(self, provider: str, model: str) -> tuple[Sheet, str, ModelRow] | None:
        if not isinstance(provider, str) or not isinstance(model, str) or len(model) > NAME_LIMIT:
            return None
        name = model.lower()
        dashed = _COMPACT_DATE.sub(r"-\1-\2-\3", name)
        for place, sheet in enumerate(self.sheets):
            row = sheet.providers.get(provider)
            if row is None:
                continue
            for spelling in dict.fromkeys((name, dashed)):
                for owner in (provider, *row.fallback):
                    for candidate in self._rows(place, owner):
                        if matches(candidate.match, spelling):
                            return sheet, owner, candidate
        return None

    def _rows(self, place: int, provider: str) -> tuple[ModelRow, ...]:
        key = (place, provider)
        if key not in self._models:
            row = self.sheets[place].providers.get(provider)
            try:
                self._models[key] = () if row is None else models_of(row)
            except msgspec.MsgspecError:
                self._models[key] = ()
        return self._models[key]


def check_sheet(sheet: Sheet) -> int:
    """Decode and compile everything in `sheet`; the number of models. Raises SheetError naming the first bad one."""
    count = 0
    for name, provider in sheet.providers.items():
        place = name
        try:
            date.fromisoformat(sheet.date)
            for owner in provider.fallback:
                if owner not in sheet.providers:
                    raise ValueError(f"falls back to {owner}, which is not listed")
            for row in models_of(provider):
                place = f"{name}/{row.id}"
                check_clause(row.match)
                _read(name, sheet, name, row)
                count += 1
        except (ValueError, TypeError, msgspec.MsgspecError) as error:
            raise SheetError(f"{place}: {error}") from error
    return count


def _compile(provider: str, sheet: Sheet, owner: str, row: ModelRow) -> _Found | None:
    try:
        return _read(provider, sheet, owner, row)
    except (ValueError, TypeError, LookupError):
        return None


def _read(provider: str, sheet: Sheet, owner: str, row: ModelRow) -> _Found:
    """Raises ValueError or TypeError for a malformed row."""
    if not row.prices:
        raise ValueError("no prices")
    notes = () if owner == provider else (f"priced from the list of {owner}",)
    windows = []
    for window in row.prices:
        rates = read_rates(window.rates)
        price = Price(provider, row.id, rates, sheet.date, sheet.source, window.since, tuple(window.other), notes)
        between = None if window.between is None else (read_second(window.between[0]), read_second(window.between[1]))
        windows.append(_Window(price if rates else None, read_day(window.since), between))
    # A context's price is the seller's own: another provider's batch or priority rates say nothing about its resale.
    variants = row.variants if owner == provider else []
    return _Found(
        tuple(windows),
        tuple(_Variant(variant.when, read_rates(variant.rates), read_day(variant.since)) for variant in variants),
        {},
    )
