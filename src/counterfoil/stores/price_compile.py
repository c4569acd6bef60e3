"""From the wheel of genai-prices to a price sheet, without running any of it.

Rule 1: the wheel's data is a Python module; it is parsed, never imported or executed. Only literals, lists and calls of
the constructors named here are understood, anything else is refused.
Rule 2: the same wheel and date give the same bytes.
Rule 3: what is dropped is dropped on purpose: descriptions, links, usage extractors. Charges that are not for tokens of
a bucket keep their names and lose their amounts.
"""

from __future__ import annotations

import ast
import re
import zipfile
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

import msgspec

from counterfoil.ledger.price_sheet import SHEET_VERSION, ModelRow, SheetError, VariantRow, WindowRow, read_sheet
from counterfoil.ledger.price_table import check_sheet

__all__ = ["LICENCE", "compile_source", "compile_wheel"]

LICENCE: Final = "MIT, Copyright (c) Pydantic Services Inc. 2025 to present; see NOTICE-prices.txt"

_DATA: Final = "genai_prices/data.py"
_DATA_LIMIT: Final = 32 * 1024 * 1024
_WHEEL: Final = re.compile(r"genai_prices-(\d[\w.]{0,40})-py3-none-any\.whl", re.ASCII)
_TWELVE_DECIMALS: Final = Decimal(1).scaleb(-12)

# genai-prices' names for what we count. Its `input_mtok` is for all input that has no narrower rate, as is our INPUT.
_BUCKETS: Final = {
    "input_mtok": "input",
    "cache_read_mtok": "cache_read",
    "cache_audio_read_mtok": "cache_read_audio",
    "cache_write_mtok": "cache_write",
    "cache_write_5m_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "input_image_mtok": "input_image",
    "input_tool_mtok": "tool_input",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "output_audio_mtok": "output_audio",
    "output_image_mtok": "output_image",
}
_CLAUSES: Final = {
    "ClauseEquals": ("equals", "="),
    "ClauseStartsWith": ("starts_with", "^"),
    "ClauseEndsWith": ("ends_with", "$"),
    "ClauseContains": ("contains", "*"),
    "ClauseRegex": ("regex", "~"),
}
_COMBINED: Final = {"ClauseOr": ("or_", "any"), "ClauseAnd": ("and_", "all")}
_UNUSED_FIELDS: Final = frozenset({"extractors"})
"""Fields whose values are skipped unread: they hold constructors that prices do not need."""

_Fields = dict[str, Any]


class _Call(msgspec.Struct, frozen=True):
    """A constructor call that was read: its name and its keyword arguments."""

    name: str
    fields: _Fields


def compile_wheel(wheel: Path, date: str) -> bytes:
    """The sheet of a `genai_prices-*.whl`, as JSON. `date` (ISO) is when the list was taken.

    Raises SheetError for anything that is not such a wheel, OSError when it cannot be read.
    """
    match = _WHEEL.fullmatch(wheel.name)
    if match is None:
        raise SheetError(f"{wheel.name} is not a wheel of genai-prices")
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(_DATA).file_size > _DATA_LIMIT:
                raise SheetError(f"{_DATA} is larger than {_DATA_LIMIT} bytes")
            source = archive.read(_DATA).decode()
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
        raise SheetError(f"{wheel.name} does not hold {_DATA}: {error}") from error
    return compile_source(source, version=match[1], date=date)


def compile_source(source: str, *, version: str, date: str) -> bytes:
    """The sheet of the text of `genai_prices/data.py`, as JSON, one model a line. Raises SheetError."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SheetError(f"{_DATA} is not Python: {error}") from error
    providers = _value(_providers_node(tree))
    if not isinstance(providers, list):
        raise SheetError("providers is not a list")
    lines = [_provider(call) for call in providers]
    head = {"version": SHEET_VERSION, "source": f"genai-prices {version}", "date": date, "licence": LICENCE}
    written = msgspec.json.encode(head)[:-1] + b',"providers":{\n' + b",\n".join(lines) + b"\n}}\n"
    check_sheet(read_sheet(written))
    return written


def _providers_node(tree: ast.Module) -> ast.expr:
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "providers":
            if node.value is not None:
                return node.value
        elif isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "providers" for target in node.targets
        ):
            return node.value
    raise SheetError(f"{_DATA} has no providers")


def _value(node: ast.expr) -> object:
    """Literals as themselves, calls as `_Call`, numbers of money as Decimal, times as text."""
    match node:
        case ast.Constant(value=value) if value is None or isinstance(value, bool | int | str):
            return value
        case ast.List(elts=elements):
            return [_value(element) for element in elements]
        case ast.Dict(keys=keys, values=values) if all(keys):
            return {_value(key): _value(value) for key, value in zip(keys, values, strict=True) if key is not None}
        case ast.Call(func=ast.Name(id="Decimal"), args=[ast.Constant(value=str(text))], keywords=[]):
            return _decimal(text)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="datetime"), attr=kind), args=args, keywords=keywords):
            return _moment(kind, [_value(argument) for argument in args], keywords, node.lineno)
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords):
            fields = {word.arg: _value(word.value) for word in keywords if word.arg and word.arg not in _UNUSED_FIELDS}
            return _Call(name, fields)
    raise SheetError(f"{_DATA}, line {node.lineno}: not understood")


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise SheetError(f"{text!r} is not a number") from error
    if not number.is_finite() or not 0 <= number < 10**7:
        raise SheetError(f"{text!r} is not a rate")
    return number


def _moment(kind: str, args: list[Any], keywords: list[ast.keyword], line: int) -> str:
    zones = [ast.unparse(word.value) for word in keywords if word.arg == "tzinfo"]
    if not all(isinstance(argument, int) for argument in args) or zones not in (
        [],
        ["datetime.UTC"],
        ["datetime.timezone.utc"],
    ):
        raise SheetError(f"{_DATA}, line {line}: a time that is not plain UTC")
    if kind == "date" and len(args) == 3:
        return f"{args[0]:04d}-{args[1]:02d}-{args[2]:02d}"
    if kind == "time" and 1 <= len(args) <= 3:
        hour, minute, second = (*args, 0, 0)[:3]
        return f"{hour:02d}:{minute:02d}" + (f":{second:02d}" if second else "")
    raise SheetError(f"{_DATA}, line {line}: datetime.{kind} is not understood")


def _provider(call: object) -> bytes:
    fields = _fields(call, "Provider")
    name, models = fields.get("id"), fields.get("models", [])
    if not isinstance(name, str) or not isinstance(models, list):
        raise SheetError(f"a provider without a name or models: {name!r}")
    rows = b",\n".join(msgspec.json.encode(_model(name, model)) for model in models)
    fallback = fields.get("fallback_model_providers")
    tail = b',"fallback":' + msgspec.json.encode(fallback) if fallback else b""
    return msgspec.json.encode(name) + b':{"models":[\n' + rows + b"]" + tail + b"}"


def _model(provider: str, call: object) -> ModelRow:
    fields = _fields(call, "ModelInfo")
    name = fields.get("id")
    if not isinstance(name, str):
        raise SheetError(f"{provider}: a model without a name")
    try:
        prices = fields.get("prices")
        windows = [_window(price) for price in prices] if isinstance(prices, list) else [_window(prices)]
        # An empty price is how the source writes both "free" and "no longer known". Only a name that itself says free
        # settles which; the rest stay in place, so that no later pattern takes their names, and unpriced.
        if name.endswith(":free"):
            windows = [
                window if window.rates else msgspec.structs.replace(window, rates={"input": "0", "output": "0"})
                for window in windows
            ]
        variants = [_variant(variant) for variant in fields.get("price_variants") or ()]
        return ModelRow(name, _clause(fields["match"]), windows, variants)
    except (SheetError, LookupError, TypeError) as error:
        raise SheetError(f"{provider}/{name}: {error}") from error


def _window(price: object) -> WindowRow:
    if isinstance(price, _Call) and price.name == "ConditionalPrice":
        since, between = _constraint(price.fields.get("constraint"))
        rates, other = _rates(price.fields["prices"])
        return WindowRow(rates, since, between, other)
    rates, other = _rates(price)
    return WindowRow(rates, other=other)


def _variant(variant: object) -> VariantRow:
    fields = _fields(variant, "PriceVariant")
    since, between = _constraint(fields.get("constraint"))
    if between is not None:
        raise SheetError("a price for a context and a time of day is not understood")
    return VariantRow(fields["when"], _rates(fields["prices"])[0], since)


def _constraint(constraint: object) -> tuple[str | None, tuple[str, str] | None]:
    if constraint is None:
        return None, None
    if isinstance(constraint, _Call) and constraint.name == "StartDateConstraint":
        return constraint.fields["start_date"], None
    if isinstance(constraint, _Call) and constraint.name == "TimeOfDateConstraint":
        return None, (constraint.fields["start_time"], constraint.fields["end_time"])
    raise SheetError(f"a price under a condition that is not understood: {constraint!r}")


def _rates(price: object) -> tuple[dict[str, Any], list[str]]:
    fields: Mapping[str, Any] = _fields(price, "ModelPrice")
    rates = {bucket: _rate(fields[key]) for key, bucket in _BUCKETS.items() if fields.get(key) is not None}
    return rates, [key for key, value in fields.items() if key not in _BUCKETS and value is not None]


def _rate(value: object) -> str | list[str | int]:
    if isinstance(value, Decimal):
        return _text(value)
    fields = _fields(value, "TieredPrices")
    written: list[str | int] = [_text(fields["base"])]
    for tier in sorted((_fields(tier, "Tier") for tier in fields["tiers"]), key=lambda tier: int(tier["start"])):
        written += (tier["start"], _text(tier["price"]))
    return written


def _text(number: object) -> str:
    """Plain decimals. The source's own float dust (`0.18000000000000002`) goes at the thirteenth decimal."""
    if not isinstance(number, Decimal):
        raise SheetError(f"{number!r} is not a rate")
    text = format(number.quantize(_TWELVE_DECIMALS, rounding=ROUND_HALF_EVEN), "f")
    return text.rstrip("0").rstrip(".") or "0"


def _clause(call: object) -> str | list[object]:
    if isinstance(call, _Call):
        if call.name in _CLAUSES:
            field, mark = _CLAUSES[call.name]
            return mark + str(call.fields[field])
        if call.name in _COMBINED:
            field, word = _COMBINED[call.name]
            parts = [_clause(part) for part in call.fields[field]]
            return parts[0] if len(parts) == 1 else [word, *parts]
    raise SheetError("a match clause that is not understood")


def _fields(call: object, name: str) -> _Fields:
    if not isinstance(call, _Call) or call.name != name:
        raise SheetError(f"expected {name}, found {getattr(call, 'name', type(call).__name__)}")
    return call.fields
