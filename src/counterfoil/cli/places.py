"""Where things are: the data directory, the ledger, and the configuration that says otherwise."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import platformdirs

from counterfoil.cli.failure import CommandError, ExitCode

__all__ = [
    "DATA_VARIABLE",
    "LEDGER_NAME",
    "add_books",
    "add_config",
    "add_data_dir",
    "data_directory",
    "ledger_path",
]

DATA_VARIABLE: Final = "COUNTERFOIL_DATA_DIR"
LEDGER_NAME: Final = "ledger.db"
"""The database's name in the data directory."""


def add_config(parser: argparse._ActionsContainer) -> None:
    """The `--config` option."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="the gateway's configuration (YAML)")


def add_data_dir(parser: argparse._ActionsContainer) -> None:
    """The `--data-dir` option."""
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help=f"where the books are kept (default: ${DATA_VARIABLE}, else the user's data directory)",
    )


def add_books(parser: argparse._ActionsContainer) -> None:
    """The options that say whose books are read."""
    add_config(parser)
    add_data_dir(parser)


def data_directory(given: Path | None = None, environment: Mapping[str, str] | None = None) -> Path:
    """`given`, else $COUNTERFOIL_DATA_DIR, else the user's data directory. Not made here."""
    named = given or (os.environ if environment is None else environment).get(DATA_VARIABLE)
    return Path(named or platformdirs.user_data_dir("counterfoil")).expanduser().absolute()


def ledger_path(config: Path | None, data_dir: Path | None) -> Path:
    """The ledger database that a gateway with these options writes.

    A configuration is asked for its `ledger.path` only: books can be read where the providers' secrets are not.
    """
    written = None if config is None else _written_path(config)
    return written or data_directory(data_dir) / LEDGER_NAME


def _written_path(config: Path) -> Path | None:
    from counterfoil.config import Config
    from counterfoil.driver.written import Unreadable, Writing

    writing = Writing(str(config), os.environ)
    try:
        raw = writing.read(config.read_text("utf-8-sig"), Config)
    except Unreadable as error:
        raise CommandError(f"{error}.", code=ExitCode.CONFIGURATION) from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{config} is not UTF-8.", code=ExitCode.CONFIGURATION) from error
    except OSError as error:
        raise CommandError(f"{config} cannot be read: {error.strerror}.", code=ExitCode.CONFIGURATION) from error
    wrong = [problem for problem in writing.problems if problem.key.startswith("ledger")]
    if wrong:
        raise CommandError(f"{wrong[0]}.", code=ExitCode.CONFIGURATION)
    ledger = raw.get("ledger") if isinstance(raw, dict) else None
    path = ledger.get("path") if isinstance(ledger, dict) else None
    return None if not path else config.absolute().parent / Path(path).expanduser()
