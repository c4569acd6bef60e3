"""`counterfoil explain`: where every number of an entry comes from, from the provider's own words to the cost."""

from __future__ import annotations

import argparse
import textwrap

import msgspec

from counterfoil.cli.failure import CommandError, ExitCode
from counterfoil.cli.ledger import BooksReader, add_books, reading
from counterfoil.cli.output import print_json, print_line, print_table, tokens
from counterfoil.cli.places import data_directory
from counterfoil.exchange.carry import UNKNOWN as UNKNOWN_DIALECT
from counterfoil.ledger.entry import Entry
from counterfoil.ledger.price_sheet import SheetError
from counterfoil.ledger.price_table import PriceTable
from counterfoil.stores.explanation import Explanation, Part, ReadCounter, explain
from counterfoil.stores.price_files import load_prices
from counterfoil.stores.receipt import receipt_of
from counterfoil.usage.settle import Convention, Discrepancy
from counterfoil.usage.usage import UNIT_BUCKETS, Provenance

__all__ = ["DESCRIPTION", "EXAMPLES", "arrange", "run"]

DESCRIPTION = """\
The whole derivation of one entry: each report as the provider sent it, what
they amount to and which one said it, what the counters include, the disjoint
buckets and who vouches for each, and the cost, step by step, with the date and
source of its price. Of an exchange, that of each of its attempts."""
EXAMPLES = """\
  counterfoil explain 019f3c1e-77aa
  counterfoil explain 019f3c1e-77aa --json | jq .reading
  counterfoil explain 019f3c1e-77a2-7d0e-93c7-6a8f1f0b52d4"""

_VOUCHERS = {
    Provenance.REPORTED: "the provider, in a whole reply",
    Provenance.DERIVED: "the provider's other numbers",
    Provenance.PARTIAL: "the provider, before the reply was cut",
    Provenance.ESTIMATED: "Counterfoil, from what it saw",
    Provenance.UNKNOWN: "nobody",
}


def arrange(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "id", metavar="ID", help="an attempt's id, or the beginning of it; or an exchange's (x-counterfoil-exchange)"
    )
    add_books(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.id:
        raise CommandError("Nothing has an empty id.", "`counterfoil entries` lists them.", code=ExitCode.USAGE)
    try:
        table = load_prices(data_directory(arguments.data_dir)).table
    except (SheetError, OSError):  # the entry has its cost; without the lists only its rates cannot be shown
        table = load_prices().table
    with reading(arguments) as books:
        receipt = receipt_of(books.database, arguments.id, table)
        explanations = (_of_attempt(books, arguments.id, table),) if receipt is None else receipt.attempts
    if arguments.json:
        print_json(explanations[0] if receipt is None else receipt)
        return ExitCode.DONE
    for place, explanation in enumerate(explanations):
        if place:
            print_line("\n" + "-" * 80 + "\n")
        _print(explanation)
    return ExitCode.DONE


def _of_attempt(books: BooksReader, attempt: str, table: PriceTable) -> Explanation:
    found = books.find(attempt)
    if isinstance(found, Entry) and found.corrects is not None:  # its numbers mean nothing without the attempt's
        found = books.find(found.corrects.attempt)
    return explain(found, table, books.corrections(found.opening.attempt))


def _print(said: Explanation) -> None:
    _head(said)
    _reports(said)
    _reading(said)
    for part in said.parts:
        _part(part, alone=len(said.parts) == 1)
    _end(said)


def _head(said: Explanation) -> None:
    entry = said.entry
    closed = "still open" if entry.closed is None else f"closed {entry.closed}"
    if entry.total_ms is not None:
        closed += f", {entry.total_ms:,.0f} ms"
    if entry.first_byte_ms is not None:
        closed += f", first byte after {entry.first_byte_ms:,.0f} ms"
    status = "" if entry.status is None else f", HTTP {entry.status}"
    key = "" if entry.key is None else f", key {entry.key}"
    facts = [
        ("attempt", entry.attempt),
        ("exchange", entry.exchange),
        ("asked for", f"{entry.route} ({_in(entry.client_dialect)}{key})"),
        ("served by", f"{', '.join(filter(None, (entry.provider, entry.model)))} ({_in(entry.provider_dialect)})"),
        ("opened", entry.opened),
        ("", closed),
        ("exit", f"{entry.exit}{status}{f': {said.detail}' if said.detail else ''}"),
    ]
    if entry.provider_id is not None:
        facts.append(("its id there", entry.provider_id))
    for name, fact in facts:
        print_line(f"{name:<13} {fact}")


def _in(dialect: str) -> str:
    return "in no dialect known here" if dialect == UNKNOWN_DIALECT else f"in {dialect}"


def _reports(said: Explanation) -> None:
    kept = len(said.kept)
    which = "" if kept == said.reports else f", {kept} kept: the first and the last"
    _title(f"What the provider reported ({said.reports}{which})")
    if not said.reports:
        print_line("nothing")
    for report in said.kept:
        raw = report.report
        text = raw if isinstance(raw, str) else msgspec.json.format(bytes(raw), indent=2).decode()
        head = f"{report.number}. "
        print_line(head + textwrap.indent(text, " " * len(head)).lstrip())


def _reading(said: Explanation) -> None:
    if not said.reading and not said.convention.no_model:
        return
    if said.reading:
        _title("Reading: the last word on each counter")
        print_table(("counter", "tokens", "said by"), [_read(one) for one in said.reading], right=("tokens",))
    if said.fell:
        print_line(f"A later report lowered: {', '.join(said.fell)}. The later one holds.")
    if said.implausible:
        print_line(f"Not heard, since no count can be so: {', '.join(said.implausible)}.")
    _title(f"Convention of {said.entry.provider}")
    for sentence in said.convention_in_words:
        print_line(sentence)


def _read(one: ReadCounter) -> tuple[str, str, str]:
    whose = "" if one.choice is None else f", for choice {one.choice}"
    placeholder = ", a placeholder" if one.provisional else ""
    return one.counter.value, tokens(one.value), f"report {one.said_by}{whose}{placeholder}"


def _part(part: Part, *, alone: bool) -> None:
    _title("Buckets and cost" if alone else f"Buckets and cost: {part.kind}, {part.model}")
    rows = [
        (
            step.bucket,
            tokens(step.tokens),
            step.provenance.value if step.provenance is not None else "?" if part.used is None else "on the bill",
            step.rate or "",
            step.amount or "",
            step.note or "",
        )
        for step in part.steps
    ]
    if part.used is not None:
        print_table(("used", "tokens"), [(name, tokens(count)) for name, count in part.used.items()], right=("tokens",))
        print_line("The provider's bill is of other numbers:")
    heads = ("bucket", "tokens", "vouched", "$ per M", "$", "")
    if rows:
        print_table(heads, rows, right=("tokens", "$ per M", "$"))
    else:
        print_line("what was used: nobody knows")
    for bucket, count in part.excess.items():
        print_line(f"The provider claimed {tokens(count)} more of {bucket} than its whole holds; they are not billed.")
    if part.waived:
        print_line("Waived by the provider: outside cost and totals.")
    by = part.priced_by
    if part.cost is None:
        why = "; ".join(by.notes) if by is not None and by.notes else "no price is known"
        print_line(f"cost: unpriced ({why})")
        return
    print_line(f"cost: ${part.cost}")
    if by is not None:
        since = f", in force since {part.since}" if part.since else ""
        dated = f" of {by.date}" if by.date else ""
        print_line(f"price: {by.model or part.model}, {by.source}{dated}{since}")
        for note in by.notes:
            print_line(f"note: {note}")


def _end(said: Explanation) -> None:
    entry = said.entry
    if entry.discrepancies:
        _title("What does not add up")
        for found in entry.discrepancies:
            print_line(_discrepancy(found))
    if said.corrections:
        _corrections(said)
    _title("Shown as")
    rows = []
    now = None if said.corrected is None else msgspec.structs.asdict(said.corrected.usage)
    for figure, value in msgspec.structs.asdict(entry.usage).items():
        if value is None and figure in UNIT_BUCKETS:  # nobody bills what was not asked for
            continue
        voucher = entry.provenance.get(figure)
        corrected = [] if now is None else [tokens(now[figure])]
        rows.append((figure, tokens(value), *corrected, _vouched_by(voucher, figure, said.convention)))
    heads = ("figure", "tokens", *(["corrected"] if now is not None else []), "vouched for by")
    print_table(heads, rows, right=("tokens", "corrected"))
    if said.lower_bound:
        print_line("Some output could not be seen in full: its estimate is a lower bound.")
    cost = "unpriced" if entry.cost is None else f"${entry.cost}"
    after = "" if said.corrected is None or said.corrected.cost is None else f", corrected ${said.corrected.cost}"
    print_line(f"cost: {cost}{after}")


def _vouched_by(voucher: Provenance | None, figure: str, convention: Convention) -> str:
    """Who says a figure. What follows from the kind of call alone was in no number of the provider's."""
    if voucher is Provenance.DERIVED and convention.no_model:
        return "the kind of call: counting runs no model"
    if voucher is Provenance.DERIVED and convention.no_output and figure == "output_tokens":
        return "the kind of call: its answer is no text"
    return "" if voucher is None else _VOUCHERS[voucher]


def _corrections(said: Explanation) -> None:
    _title("Counted again, after the reply: what is added to the estimate (the client was told the estimate)")
    rows = [
        (
            one.estimator,
            tokens(one.input_tokens),
            tokens(one.output_tokens),
            tokens(one.reasoning_tokens),
            one.cost or "-",
        )
        for one in said.corrections
    ]
    print_table(("counted by", "input", "output", "reasoning", "$"), rows, right=("input", "output", "reasoning", "$"))


def _discrepancy(found: Discrepancy) -> str:
    sides = []
    if found.reported is not None:
        sides.append(f"{'came' if found.counter is None else 'reported'} {tokens(found.reported)}")
    if found.expected is not None:
        sides.append(f"expected {tokens(found.expected)}")
    of = [] if found.counter is None else [found.counter.value]
    return f"{found.kind.value.replace('_', ' ')}: {' '.join([*of, ', '.join(sides)]).strip()}"


def _title(text: str) -> None:
    print_line(f"\n{text}")
