"""`counterfoil demo`: one real chat through a gateway of its own, and the proof that client and books agree.

Rule 1: nothing is staged. The client is the official one, the gateway is `counterfoil serve` in a process of its own,
the model is real; what is compared are the client's numbers and the ledger's.
Rule 2: it stops all it started, and leaves nothing on the disk.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from counterfoil.cli.child import ended_by_signals, gateway_child
from counterfoil.cli.demo_client import COMPARED, Told, ask, entry_of, write_config
from counterfoil.cli.failure import CommandError, ExitCode
from counterfoil.cli.output import plain, print_line, print_table, tokens
from counterfoil.local.errors import LocalError
from counterfoil.local.weights import installed
from counterfoil.stores.view import EntryView

__all__ = ["DESCRIPTION", "EXAMPLES", "arrange", "run"]

DESCRIPTION = """\
Start a gateway with the embedded model on a free loopback port, stream one real
chat through it with the official openai client, and show that what the client
was told and what the ledger holds agree. No API key, nothing kept, nothing
left running. Exit code 1: they do not agree."""
EXAMPLES = """\
  counterfoil demo
  counterfoil demo --break        cut a stream, hang up, kill -9: and look at the books"""

_PROMPT: Final = "Write two short sentences about the sea."


def arrange(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--break",
        dest="broken",
        action="store_true",
        help="cut, hang up and kill instead, with a provider that plays along",
    )
    parser.add_argument("--prompt", default=_PROMPT, help=f"what is asked (default: {_PROMPT!r})")


def run(arguments: argparse.Namespace) -> int:
    if not _present("openai"):
        raise CommandError(
            "The demo uses the official openai client, which is not installed.",
            "Install it: pip install openai (`make demo` does).",
            code=ExitCode.UNREACHABLE,
        )
    with ended_by_signals(), _scratch() as directory:
        if arguments.broken:
            from counterfoil.cli.demo_break import break_things

            return break_things(directory)
        return _chat(directory, arguments.prompt)


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="counterfoil-demo-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _chat(directory: Path, prompt: str) -> int:
    model = _embedded_model()
    config = write_config(directory, {model: [{"provider": "local", "model": model}]})
    print_line("Starting a gateway with the embedded model ...")
    with gateway_child(config, directory) as gateway:
        print_line(f"It listens on {gateway.url}, process {gateway.pid}.\n")
        print_line(f"> {prompt}")
        sys.stdout.flush()
        told = ask(gateway, model, prompt, _show)
        print_line("\n")
        if told.error is not None:
            raise CommandError(f"The chat failed: {told.error}", code=ExitCode.UNREACHABLE)
        entry = entry_of(directory, told.attempt)
    return _compare(told, entry)


def _embedded_model() -> str:
    try:
        weights = installed()
    except LocalError as error:
        raise CommandError(error.what, error.remedy) from error
    if not _present("xllamacpp"):
        raise CommandError(
            "The embedded model's engine is not installed.",
            "Install it: pip install 'counterfoil[local]'",
            code=ExitCode.UNREACHABLE,
        )
    if weights is None:
        raise CommandError("The embedded model is not installed.", "Install it: counterfoil local install")
    return weights.model_name


def _present(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _show(piece: str, _number: int) -> bool:
    sys.stdout.write(plain(piece))
    sys.stdout.flush()
    return True


def _compare(told: Told, entry: EntryView) -> int:
    usage = told.usage or {}
    booked = msgspec.structs.asdict(entry.usage)
    rows = []
    agree = told.usage is not None and entry.exit == "completed"
    for figure in COMPARED:
        if usage.get(figure) is None and booked[figure] is None:
            continue
        same = usage.get(figure) == booked[figure]
        agree = agree and same
        voucher = entry.provenance.get(figure)
        rows.append(
            (
                figure.replace("_", " "),
                tokens(usage.get(figure)),
                tokens(booked[figure]),
                "" if same else "NOT THE SAME",
                ""
                if voucher is None
                else f"{voucher.value} by the provider"
                if voucher == "reported"
                else voucher.value,
            )
        )
    print_table(("", "client", "ledger", "", "vouched for"), rows, right=("client", "ledger"))
    cost = "unpriced" if entry.cost is None else f"${entry.cost}"
    print_line(f"\nentry {entry.attempt}: {entry.exit}, {cost}")
    print_line("Client and ledger agree." if agree else "CLIENT AND LEDGER DO NOT AGREE.")
    print_line("\nNext: counterfoil demo --break    or    counterfoil serve")
    return ExitCode.DONE if agree else ExitCode.WRONG
