"""Where things are: the data directory, the ledger, and the configuration that says otherwise."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import platformdirs

__all__ = ["DATA_VARIABLE", "add_data_dir", "data_directory"]

DATA_VARIABLE: Final = "COUNTERFOIL_DATA_DIR"


def add_data_dir(parser: argparse._ActionsContainer) -> None:
    """The `--data-dir` option."""
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help=f"where the books are kept (default: ${DATA_VARIABLE}, else the user's data directory)",
    )


def data_directory(given: Path | None = None, environment: Mapping[str, str] | None = None) -> Path:
    """`given`, else $COUNTERFOIL_DATA_DIR, else the user's data directory. Not made here."""
    named = given or (os.environ if environment is None else environment).get(DATA_VARIABLE)
    return Path(named or platformdirs.user_data_dir("counterfoil")).expanduser().absolute()
