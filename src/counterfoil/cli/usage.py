"""`counterfoil usage`: totals as the ledger keeps them; `verify` proves that they are what its entries add up to."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import msgspec

from counterfoil.cli.failure import ExitCode
from counterfoil.cli.ledger import add_books, reading
from counterfoil.cli.output import number, print_json, print_note, print_table, tokens
from counterfoil.cli.when import add_period
from counterfoil.stores.projection import Total, TotalKey
from counterfoil.stores.view import instant, usd

__all__ = ["DESCRIPTION", "EXAMPLES", "UsageReport", "UsageRow", "arrange", "run"]

DESCRIPTION = """\
Tokens and cost of closed attempts. Figures are inclusive: cache in the input,
reasoning in the output. Costs are exact US dollars of what has a price; what
has none is counted beside them and never taken for free."""
EXAMPLES = """\
  counterfoil usage
  counterfoil usage --by key --since 2026-05-01 --until 2026-06-01
  counterfoil usage --by day --by model --json | jq .total.cost"""

_BY = ("model", "provider", "key", "day")
_UNITS = ("search_units", "images")
"""Shown only where there are any."""


class UsageRow(msgspec.Struct, frozen=True):
    """One total. What it is of is None where it was not asked for; `cost` is exact US dollars."""

    day: str | None
    key: str | None
    provider: str | None
    model: str | None
    attempts: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    search_units: int
    images: int
    total_tokens: int
    estimated_tokens: int
    estimated_share: float
    """Of the input and output tokens, from 0 to 1."""
    unknown: int
    """Model runs whose input or output nobody knows."""
    unpriced: int
    """Model runs whose cost is not in `cost`."""
    cost: str


class UsageReport(msgspec.Struct, frozen=True):
    """The answer to `usage --json`."""

    by: tuple[str, ...]
    since: str | None
    until: str | None
    rows: tuple[UsageRow, ...]
    total: UsageRow


def arrange(parser: argparse.ArgumentParser) -> None:
    add_books(parser)
    add_period(parser)
    parser.add_argument(
        "--by", choices=_BY, action="append", help="what to group by; may be given again (default: model)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object: by, since, until, rows, total")


def run(arguments: argparse.Namespace) -> int:
    by = tuple(dict.fromkeys(arguments.by or ["model"]))
    with reading(arguments) as books:
        grouped = books.store.usage(by, arguments.since, arguments.until)
    report = _report(by, grouped, arguments.since, arguments.until)
    if arguments.json:
        print_json(report)
    elif not report.rows:
        print_note("Nothing was used in this time.")
    else:
        _print(report)
    return ExitCode.DONE


def _report(
    by: tuple[str, ...], grouped: Mapping[TotalKey, Total], since: float | None, until: float | None
) -> UsageReport:
    return UsageReport(
        by,
        None if since is None else instant(since),
        None if until is None else instant(until),
        tuple(_row(key, total) for key, total in grouped.items()),
        _row(TotalKey(), sum(grouped.values(), Total())),
    )


def _row(key: TotalKey, total: Total) -> UsageRow:
    figures = msgspec.structs.asdict(total)
    cost = usd(figures.pop("cost")) or "0"
    both = total.input_tokens + total.output_tokens
    share = round(total.estimated_tokens / both, 6) if both else 0.0
    return UsageRow(**msgspec.structs.asdict(key), **figures, total_tokens=both, estimated_share=share, cost=cost)


def _print(report: UsageReport) -> None:
    units = tuple(name for name in _UNITS if getattr(report.total, name))
    counted = ("attempts", "input", "cached", "output", "reasoning", *(name.replace("_", " ") for name in units))
    heads = (*report.by, *counted, "estimated", "unpriced", "cost $")
    rows = [(*(_name(row, word) for word in report.by), *_cells(row, units)) for row in report.rows]
    if len(rows) > 1:
        rows.append(("total", *[""] * (len(report.by) - 1), *_cells(report.total, units)))
    print_table(heads, rows, right=heads[len(report.by) :])
    if report.total.unknown:
        unknown = number(report.total.unknown, "model run has", "model runs have")
        print_note(f"{unknown} an input or output that nobody knows; it is in no sum.")


def _name(row: UsageRow, word: str) -> str:
    name: str | None = getattr(row, word)
    return name or "(no key)" if word == "key" else name or ""


def _cells(row: UsageRow, units: tuple[str, ...]) -> tuple[str, ...]:
    return (
        tokens(row.attempts),
        tokens(row.input_tokens),
        tokens(row.cache_read_tokens),
        tokens(row.output_tokens),
        tokens(row.reasoning_tokens),
        *(tokens(getattr(row, name)) for name in units),
        f"{row.estimated_share:.1%}" if row.estimated_tokens else "0%",
        tokens(row.unpriced),
        row.cost,
    )
