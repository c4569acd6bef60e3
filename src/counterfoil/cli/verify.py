"""`counterfoil verify`: the totals are what the entries add up to, or the exit code says that they are not."""

from __future__ import annotations

import argparse

import msgspec

from counterfoil.cli.failure import ExitCode
from counterfoil.cli.ledger import add_books, reading
from counterfoil.cli.output import number, print_json, print_line
from counterfoil.stores.projection import Difference

__all__ = ["DESCRIPTION", "EXAMPLES", "arrange", "run"]

DESCRIPTION = """\
Add all entries up again and compare with the totals that `usage` shows. Exit
code 0: they agree. 1: they do not, and each difference is shown, costs in
picodollars (1e-12 US dollars)."""
EXAMPLES = """\
  counterfoil verify
  counterfoil verify --config gateway.yaml --json"""


def arrange(parser: argparse.ArgumentParser) -> None:
    add_books(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object: agree, differences")


def run(arguments: argparse.Namespace) -> int:
    with reading(arguments) as books:
        differences = books.store.verify()
        attempts = sum(total.attempts for total in books.store.usage().values())
    if arguments.json:
        print_json({"agree": not differences, "attempts": attempts, "differences": differences})
    elif differences:
        for difference in differences:
            _print(difference)
        print_line(f"{len(differences)} totals are not what their entries add up to.")
    else:
        print_line(f"The totals are what the entries add up to ({number(attempts, 'attempt', 'attempts')}).")
    return ExitCode.WRONG if differences else ExitCode.DONE


def _print(difference: Difference) -> None:
    of = msgspec.structs.asdict(difference.of)
    print_line(", ".join(f"{name} {value}" for name, value in of.items() if value))
    stored, recomputed = (msgspec.structs.asdict(side) for side in (difference.stored, difference.recomputed))
    for figure, value in stored.items():
        if value != recomputed[figure]:
            print_line(f"  {figure}: the total says {value:,}, the entries {recomputed[figure]:,}")
