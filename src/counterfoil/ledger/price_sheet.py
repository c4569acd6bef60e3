"""A price list as data: the shape of the file that ships, and what its parts mean.

Rule 1: rates are text in dollars per million tokens, so that no number passes through a float.
Rule 2: names are matched by clauses, which are data. A clause that could take long is refused when a sheet is checked,
for names come from clients.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, time
from typing import Any, Final

import msgspec

from counterfoil.ledger.price import Rate, read_rate
from counterfoil.usage.usage import Bucket

__all__ = [
    "NAME_LIMIT",
    "SHEET_VERSION",
    "ModelRow",
    "ProviderRow",
    "Sheet",
    "SheetError",
    "VariantRow",
    "WindowRow",
    "WrittenRate",
    "check_clause",
    "matches",
    "models_of",
    "read_day",
    "read_rates",
    "read_second",
    "read_sheet",
]

SHEET_VERSION: Final = 1
NAME_LIMIT: Final = 256
"""Characters of a model name; a longer one is no model."""
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_REPEATED_GROUP: Final = re.compile(r"\)[*+{]")
"""A repeated group can take exponential time, and names come from clients."""

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


def check_clause(clause: object, depth: int = 0) -> None:
    """Raises ValueError for a clause that is malformed or could take long to match."""
    if isinstance(clause, str) and clause[:1] in tuple("=^$*~") and (len(clause) > 1 or clause == "^"):
        if clause[0] == "~":
            try:
                re.compile(clause[1:])
            except re.error as error:
                raise ValueError(f"the pattern {clause[1:]!r}: {error}") from error
            if _REPEATED_GROUP.search(clause) or len(clause) > NAME_LIMIT:
                raise ValueError(f"the pattern {clause[1:]!r} may take too long")
        return
    if isinstance(clause, list) and len(clause) > 1 and clause[0] in ("any", "all") and depth < 4:
        for part in clause[1:]:
            check_clause(part, depth + 1)
        return
    raise ValueError(f"{clause!r} is not a clause")


def read_rates(written: Mapping[str, WrittenRate]) -> dict[Bucket, Rate]:
    """Raises ValueError or TypeError for what is not a bucket or not a rate."""
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


def read_day(written: str | None) -> int | None:
    """Days since 1970-01-01 of an ISO day. Raises ValueError."""
    return None if written is None else date.fromisoformat(written).toordinal() - _EPOCH_DAY


def read_second(written: str) -> int:
    """Seconds since midnight of an ISO time of day. Raises ValueError."""
    moment = time.fromisoformat(written)
    return moment.hour * 3600 + moment.minute * 60 + moment.second
