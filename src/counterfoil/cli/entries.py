"""`counterfoil entries`: what was called, an attempt a line, oldest first, also while the gateway runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from counterfoil.cli.failure import ExitCode
from counterfoil.cli.ledger import add_books, reading
from counterfoil.cli.output import print_json, print_line, print_note, tokens
from counterfoil.cli.when import add_period
from counterfoil.ledger.entry import OPEN, Exit
from counterfoil.stores.projection import Selection
from counterfoil.stores.view import EntryView, view_of
from counterfoil.usage.usage import UNIT_BUCKETS, Provenance

__all__ = ["DESCRIPTION", "ENTRY_HEADS", "EXAMPLES", "arrange", "entry_cells", "print_entries", "run"]

DESCRIPTION = """\
Every attempt the gateway made, a line each, oldest first; those that are still
running show as open, and so do those of a gateway that died, until the next
start closes them. Costs are exact US dollars. In the table ~ marks an estimate,
? what nobody knows, and - what has no price. Searches and images that are
billed stand behind the cost. A correction has a line of its own below its
attempt's: what has to be added."""
EXAMPLES = """\
  counterfoil entries --last 20
  counterfoil entries --since 1h --exit client_gone
  counterfoil entries --since today --key ci --json | jq -s 'map(.usage.total_tokens) | add'"""

ENTRY_HEADS = ("opened", "attempt", "model", "exit", "input", "output", "cost $", "")
_WIDTHS = (19, 13, 22, 11, 8, 8, 12, 0)
"""At least so wide; what is longer takes the room it needs. The rows come one at a time, so none is known before."""
_RIGHT = frozenset({"input", "output", "cost $"})


def arrange(parser: argparse.ArgumentParser) -> None:
    add_books(parser)
    add_period(parser)
    parser.add_argument("--key", metavar="NAME", help="called with this gateway key")
    parser.add_argument("--exit", choices=[*(exit_.value for exit_ in Exit), OPEN], help="ended so")
    parser.add_argument("--provider", metavar="NAME", help="made to this provider")
    parser.add_argument("--route", metavar="NAME", help="the model name that the client asked for")
    parser.add_argument("--model", metavar="NAME", help="the provider's name of the model")
    parser.add_argument("--user", metavar="NAME", help="the request's user")
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--limit", type=_count, metavar="N", help="at most N: the oldest")
    some.add_argument("--last", type=_count, metavar="N", help="at most N: the newest, still oldest first")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(arguments: argparse.Namespace) -> int:
    selection = Selection(
        since=arguments.since,
        until=arguments.until,
        key=arguments.key,
        provider=arguments.provider,
        model=arguments.model,
        route=arguments.route,
        user=arguments.user,
        limit=arguments.limit,
        last=arguments.last,
    )
    with reading(arguments) as books:
        views = (view_of(one) for one in books.recorded(selection, arguments.exit))
        if arguments.json:
            for view in views:
                print_json(view)
        elif not print_entries(views):
            print_note("No entries.")
    return ExitCode.DONE


def print_entries(views: Iterable[EntryView]) -> int:
    """A table, a line as it comes; how many there were."""
    count = 0
    for count, view in enumerate(views, 1):
        if count == 1:
            print_line(_aligned(ENTRY_HEADS))
        print_line(_aligned(entry_cells(view)))
    return count


def entry_cells(view: EntryView) -> tuple[str, ...]:
    """One attempt in the columns of `ENTRY_HEADS`. The attempt is shortened to what tells it from others."""
    return (
        view.opened[:19].replace("T", " "),
        view.attempt[:13],
        view.model,
        view.exit if view.corrects is None else "correction",
        _marked(view, "input_tokens", view.usage.input_tokens),
        _marked(view, "output_tokens", view.usage.output_tokens),
        "-" if view.cost is None else view.cost,
        ", ".join(_units(view)),
    )


def _units(view: EntryView) -> Iterator[str]:
    """What is billed and is no token, as `2 search units`; of most attempts nothing."""
    for bucket in UNIT_BUCKETS:
        count = getattr(view.usage, bucket.value)
        if count:
            name = bucket.value.replace("_", " ")
            yield f"{_marked(view, bucket.value, count)} {name.removesuffix('s') if count == 1 else name}"


def _marked(view: EntryView, figure: str, count: int | None) -> str:
    return ("~" if view.provenance[figure] is Provenance.ESTIMATED else "") + tokens(count)


def _aligned(cells: Iterable[str]) -> str:
    columns = zip(ENTRY_HEADS, cells, _WIDTHS, strict=True)
    return "  ".join(
        cell.rjust(width) if head in _RIGHT else cell.ljust(width) for head, cell, width in columns
    ).rstrip()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of entries; write 1 or more")
    return int(text)
