"""Times as a person writes them, to Unix seconds. Without an offset they are UTC, as the books are."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

__all__ = ["WHEN_HELP", "add_period", "read_when"]

WHEN_HELP: Final = "2026-05-01, 2026-05-01T12:30Z, today, or how long ago: 90s, 30m, 2h, 7d"
_AGO: Final = re.compile(r"(\d{1,9})([smhdw])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def add_period(parser: argparse.ArgumentParser) -> None:
    """The options `--since` and `--until`."""
    parser.add_argument("--since", type=read_when, metavar="WHEN", help=f"opened then or later ({WHEN_HELP})")
    parser.add_argument("--until", type=read_when, metavar="WHEN", help="opened before then")


def read_when(text: str, now: Callable[[], float] = time.time) -> float:
    """Unix seconds. Raises argparse.ArgumentTypeError with what would be understood."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return max(0.0, now() - int(ago[1]) * _SECONDS[ago[2]])
    if text == "today":
        return now() // 86_400 * 86_400
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; write {WHEN_HELP}") from error
