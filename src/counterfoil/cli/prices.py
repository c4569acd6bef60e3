"""`counterfoil prices`: what a model costs, and bringing the list up to date."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import msgspec

from counterfoil.cli.failure import CommandError, ExitCode
from counterfoil.cli.output import print_json, print_line, print_note, print_table
from counterfoil.cli.places import add_data_dir, data_directory
from counterfoil.driver.deployment import load_table
from counterfoil.ledger.price_sheet import SheetError
from counterfoil.providers.provider import Provider
from counterfoil.stores.price_files import ShownPrice, UpdateError, load_prices, show, update

__all__ = ["DESCRIPTION", "EXAMPLES", "arrange", "run"]

DESCRIPTION = """\
Prices are in US dollars per million tokens. The owner's own file (prices.yaml
in the data directory) goes first, then the newer of the shipped list and the
last update."""
EXAMPLES = """\
  counterfoil prices show gpt-4o-mini
  counterfoil prices show claude-sonnet-4-5 --provider anthropic --json
  counterfoil prices update"""


def arrange(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="show|update")
    shown = actions.add_parser("show", help="every price of a model", description="Every listed price of a model.")
    shown.add_argument("model", metavar="MODEL", help="its name, as the provider or the list has it")
    shown.add_argument("--provider", help="only this provider's, by the price list's name")
    shown.add_argument("--json", action="store_true", help="one JSON object")
    shown.set_defaults(action=_show)
    updated = actions.add_parser(
        "update",
        help="fetch the newest list",
        description="Fetch the newest list with pip (nothing is installed), check it whole, and use it from then on.",
    )
    updated.add_argument("--wheel", type=Path, help="a genai-prices wheel that was downloaded elsewhere")
    updated.add_argument("--json", action="store_true", help="one JSON object")
    updated.set_defaults(action=_update)
    for action in (shown, updated):
        add_data_dir(action)


def run(arguments: argparse.Namespace) -> int:
    code: int = arguments.action(arguments)
    return code


def _show(arguments: argparse.Namespace) -> int:
    try:
        loaded = load_prices(data_directory(arguments.data_dir))
    except (SheetError, OSError) as error:
        raise CommandError(f"The prices cannot be read: {error}.", code=ExitCode.CONFIGURATION) from error
    for notice in loaded.notices:
        print_note(notice)
    found = show(loaded.table, arguments.model, at=time.time(), provider=arguments.provider)
    free = None if found.prices else _free(arguments.model, arguments.provider)
    if arguments.json:
        print_json({**msgspec.structs.asdict(found), "free": free is not None})
        return ExitCode.DONE if found.prices or free else ExitCode.WRONG
    if free is not None:
        print_line(f"{arguments.model} costs nothing ({free.title}, on your own machine).")
        return ExitCode.DONE
    if not found.prices:
        where = f" at {arguments.provider}" if arguments.provider else ""
        near = f"Nearest: {', '.join(found.nearest)}." if found.nearest else "Nothing listed is like it."
        if arguments.provider:
            anywhere = show(loaded.table, arguments.model, at=time.time()).prices
            owners = ", ".join(dict.fromkeys(price.provider for price in anywhere))
            near = f"The list has it of {owners}." if owners else near
        raise CommandError(f"No price of {arguments.model!r} is known{where}.", near)
    _print(found.prices)
    sources = sorted({f"{price.source}, {price.date}" for price in found.prices})
    print_line(f"\nUS dollars per million tokens. Source: {'; '.join(sources)}.")
    return ExitCode.DONE


def _free(model: str, provider: str | None) -> Provider | None:
    """The provider that serves it for nothing, when one is named or it is the model that one is tried with."""
    named = provider or model.partition("/")[0]
    rows = load_table().values()
    return next((row for row in rows if row.free and (row.name == named or row.try_first == model)), None)


def _print(prices: tuple[ShownPrice, ...]) -> None:
    rows: list[tuple[str, str, str, str, str]] = []
    for price in prices:
        notes = [_when(price)] if not price.current else []
        notes += [price.note] if price.note else []
        notes += [f"not counted: {', '.join(price.excluded)}"] if price.excluded else []
        who = (price.provider, price.model)
        for bucket, rate in price.rates.items():
            rows.append((*who, bucket, rate, "; ".join(notes)))
            who, notes = ("", ""), []
        for edge, rates in price.above.items():
            rows += [
                ("", "", bucket, rate, f"when the input is over {edge:,} tokens") for bucket, rate in rates.items()
            ]
    print_table(("provider", "model", "tokens", "rate", ""), rows, right=("rate",))


def _when(price: ShownPrice) -> str:
    if price.when:
        return "only with " + ", ".join(f"{key}={value}" for key, value in price.when.items())
    if price.between:
        return f"daily {'-'.join(price.between)} UTC"
    return f"from {price.since}" if price.since else "not in force now"


def _update(arguments: argparse.Namespace) -> int:
    if arguments.wheel is None:
        print_note("Fetching the newest list with pip ...")
    try:
        done = update(data_directory(arguments.data_dir), wheel=arguments.wheel)
    except UpdateError as error:
        raise CommandError(
            f"The prices were not updated: {error}.",
            "The list before is still in use.",
            code=ExitCode.UNREACHABLE if arguments.wheel is None else ExitCode.WRONG,
        ) from error
    if arguments.json:
        print_json(done)
        return ExitCode.DONE
    print_line(f"{done.models:,} models of {done.source}, {done.date}, in {done.path}")
    print_line(f"{done.added} added, {done.removed} removed, {done.changed} with another rate.")
    if done.biggest:
        print_line()
        rows = [(f"{one.provider}/{one.model}", one.bucket, one.before, one.now) for one in done.biggest]
        print_table(("largest changes", "tokens", "before", "now"), rows, right=("before", "now"))
    print_line("\nA gateway that is running reads it at the next reload or start.")
    return ExitCode.DONE
