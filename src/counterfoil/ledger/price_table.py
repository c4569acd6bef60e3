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
from datetime import date, time
from difflib import get_close_matches
from typing import Any, Final

import msgspec

from counterfoil.ledger.price import Price, Rate, format_rate, read_rate
from counterfoil.usage.usage import Bucket

__all__ = [
    "SHEET_VERSION",
    "ModelRow",
    "PriceTable",
    "ProviderRow",
    "Sheet",
    "SheetError",
    "VariantRow",
    "WindowRow",
    "check_sheet",
    "matches",
    "models_of",
    "read_sheet",
    "write_rate",
]

SHEET_VERSION: Final = 1
_NAME_LIMIT: Final = 256
_KEPT: Final = 4096
_KEPT_CONTEXTS: Final = 32
_DAY: Final = 86_400
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_LATEST: Final = 253_402_300_800
"""Year 10000, in seconds."""
_COMPACT_DATE: Final = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")
_REPEATED_GROUP: Final = re.compile(r"\)[*+{]")
"""A repeated group can take exponential time, and names come from clients."""
_ORDINARY: Final = frozenset({"default", "standard", "auto"})

WrittenRate = str | list[str | int]
"""Dollars per million tokens, as text; or with steps, `[base, above, rate, above, rate, ...]`."""


class SheetError(ValueError):
    """A price list that cannot be trusted; the message says where and why."""


class WindowRow(msgspec.Struct, frozen=True, omit_defaults=True, rename={"since": "from"}, forbid_unknown_fields=True):
    """Rates by bucket, and when they apply: `from` a UTC day on, or `between` two UTC times of every day (`HH:MM`)."""

    rates: dict[str, WrittenRate] = {}
    since: str | None = None
    between: tuple[str, str] | None = None
    other: list[str] = []
    """Charges that are not for tokens of a bucket, by the source's names; not priced."""


class VariantRow(msgspec.Struct, frozen=True, omit_defaults=True, rename={"since": "from"}, forbid_unknown_fields=True):
    """Rates that override a window's, for requests with this context (`{"service_tier": "priority"}`)."""

    when: dict[str, str]
    rates: dict[str, WrittenRate] = {}
    since: str | None = None


class ModelRow(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One model. `match` is a clause: `=name`, `^start`, `$end`, `*part`, `~regex`, or `["any"|"all", clause, ...]`."""

    id: str
    match: Any
    prices: list[WindowRow]
    variants: list[VariantRow] = []


class ProviderRow(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Models, not decoded until the provider is asked for; and whose models it also sells, at their list's prices."""

    models: msgspec.Raw
    fallback: list[str] = []


class Sheet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One price list: whose (`source`), when taken (`date`, ISO), under which licence."""

    version: int
    source: str
    date: str
    licence: str
    providers: dict[str, ProviderRow]


class _Window(msgspec.Struct, frozen=True):
    price: Price | None
    first_day: int | None = None
    between: tuple[int, int] | None = None

    def active(self, at: float) -> bool:
        if self.first_day is not None:
            return at // _DAY >= self.first_day
        if self.between is not None:
            start, end = self.between
            second = at % _DAY
            return start <= second < end if start <= end else second >= start or second < end
        return True


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

    def __init__(self, sheets: Sequence[Sheet]) -> None:
        self.sheets = tuple(sheets)
        self._models: dict[tuple[int, str], tuple[ModelRow, ...]] = {}
        self._found: dict[tuple[str, str], _Found | None] = {}

    def find(self, provider: str, model: str, at: float, context: Mapping[str, str] | None = None) -> Price | None:
        """The price of `model` under the sheets' name `provider` at the time `at` (Unix seconds, UTC).

        `context` holds what the request or the reply said of its rate, such as `{"service_tier": "priority"}`. None
        when no sheet knows the provider, the model, or any rate for its tokens. Never raises.
        """
        found = self._lookup(provider, model, at)
        return None if found is None else found.price(at, context)

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
        close = get_close_matches(model[:_NAME_LIMIT].lower(), names, n=limit, cutoff=0.5)
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
        if not isinstance(provider, str) or not isinstance(model, str) or len(model) > _NAME_LIMIT:
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


def read_sheet(data: bytes) -> Sheet:
    """A sheet from its JSON. Raises SheetError; models are decoded later, see `check_sheet`."""
    try:
        sheet = msgspec.json.decode(data, type=Sheet)
    except msgspec.MsgspecError as error:
        raise SheetError(f"not a price list: {error}") from error
    if sheet.version != SHEET_VERSION:
        raise SheetError(f"a price list of version {sheet.version}; this program reads version {SHEET_VERSION}")
    return sheet


def models_of(row: ProviderRow) -> tuple[ModelRow, ...]:
    """The models of a provider, in matching order. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(row.models, type=tuple[ModelRow, ...])


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
                _check_clause(row.match)
                _read(name, sheet, name, row)
                count += 1
        except (ValueError, TypeError, msgspec.MsgspecError) as error:
            raise SheetError(f"{place}: {error}") from error
    return count


def matches(clause: object, name: str) -> bool:
    """Whether a clause (see `ModelRow`) holds for a name in lower case. A malformed clause holds for none."""
    if isinstance(clause, str):
        text = clause[1:]
        match clause[:1]:
            case "=":
                return name == text.lower()
            case "^":
                return name.startswith(text.lower())
            case "$":
                return name.endswith(text.lower())
            case "*":
                return text.lower() in name
            case "~":
                try:
                    return re.search(text, name) is not None
                except re.error:
                    return False
        return False
    if isinstance(clause, list) and clause[:1] in (["any"], ["all"]):
        combine = any if clause[0] == "any" else all
        return combine(matches(part, name) for part in clause[1:])
    return False


def write_rate(rate: Rate) -> WrittenRate:
    """A rate as sheets hold it."""
    if not rate.steps:
        return format_rate(rate.base)
    written: list[str | int] = [format_rate(rate.base)]
    for above, stepped in rate.steps:
        written += (above, format_rate(stepped))
    return written


def _check_clause(clause: object, depth: int = 0) -> None:
    if isinstance(clause, str) and clause[:1] in tuple("=^$*~") and (len(clause) > 1 or clause == "^"):
        if clause[0] == "~":
            try:
                re.compile(clause[1:])
            except re.error as error:
                raise ValueError(f"the pattern {clause[1:]!r}: {error}") from error
            if _REPEATED_GROUP.search(clause) or len(clause) > _NAME_LIMIT:
                raise ValueError(f"the pattern {clause[1:]!r} may take too long")
        return
    if isinstance(clause, list) and len(clause) > 1 and clause[0] in ("any", "all") and depth < 4:
        for part in clause[1:]:
            _check_clause(part, depth + 1)
        return
    raise ValueError(f"{clause!r} is not a clause")


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
        rates = _rates(window.rates)
        price = Price(provider, row.id, rates, sheet.date, sheet.source, window.since, tuple(window.other), notes)
        between = None if window.between is None else (_second(window.between[0]), _second(window.between[1]))
        windows.append(_Window(price if rates else None, _day(window.since), between))
    # A context's price is the seller's own: another provider's batch or priority rates say nothing about its resale.
    variants = row.variants if owner == provider else []
    return _Found(
        tuple(windows),
        tuple(_Variant(variant.when, _rates(variant.rates), _day(variant.since)) for variant in variants),
        {},
    )


def _rates(written: Mapping[str, WrittenRate]) -> dict[Bucket, Rate]:
    return {Bucket(bucket): _rate(rate) for bucket, rate in written.items()}


def _rate(written: WrittenRate) -> Rate:
    if isinstance(written, str):
        return Rate(read_rate(written))
    base, rest = written[0], written[1:]
    steps = tuple((above, read_rate(str(rate))) for above, rate in zip(rest[::2], rest[1::2], strict=True))
    edges = [above for above, _ in steps]
    if not all(isinstance(above, int) and above > 0 for above in edges) or edges != sorted(set(edges), key=int):
        raise ValueError("steps must be whole numbers of tokens, ascending")
    return Rate(read_rate(str(base)), tuple((int(above), rate) for above, rate in steps))


def _day(written: str | None) -> int | None:
    return None if written is None else date.fromisoformat(written).toordinal() - _EPOCH_DAY


def _second(written: str) -> int:
    moment = time.fromisoformat(written)
    return moment.hour * 3600 + moment.minute * 60 + moment.second
