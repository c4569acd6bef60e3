"""How data is shown: JSON lines for programs, tables and plain figures for people.

Rule: what others wrote (names from clients, ids and text from providers) cannot move the cursor or set colours.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Final

import msgspec

__all__ = [
    "UNKNOWN",
    "number",
    "plain",
    "print_json",
    "print_line",
    "print_note",
    "print_table",
    "shortened",
    "tokens",
]

UNKNOWN: Final = "?"
"""What a person sees where nobody knows a number. Never 0."""
_CONTROLS: Final = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if code not in (9, 10)}


def plain(text: str) -> str:
    """Without control characters but line ends and tabs."""
    return text.translate(_CONTROLS)


def print_line(text: str = "") -> None:
    """A line of data (or several), without control characters."""
    sys.stdout.write(plain(text) + "\n")


def print_note(text: str) -> None:
    """A line about the data, on standard error."""
    sys.stderr.write(plain(text) + "\n")


def print_json(value: object) -> None:
    """A value as JSON on one line, word for word."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Columns as wide as their contents, those in `right` aligned to the right. Nothing is cut off."""
    widths = [
        max(len(head), *(len(row[place]) for row in rows)) if rows else len(head) for place, head in enumerate(heads)
    ]
    for row in (heads, *rows):
        cells = (
            cell.rjust(width) if head in right else cell.ljust(width)
            for head, cell, width in zip(heads, row, widths, strict=True)
        )
        print_line("  ".join(cells).rstrip())


def tokens(count: int | None) -> str:
    """A count for people."""
    return UNKNOWN if count is None else f"{count:,}"


def number(count: int, one: str, many: str) -> str:
    """A count with the word for it: `number(1, "attempt", "attempts")` is `1 attempt`."""
    return f"{count:,} {one if count == 1 else many}"


def shortened(text: str, width: int | None = None) -> str:
    """At most `width` characters (the terminal's by default), an ellipsis where something was left out."""
    width = width or shutil.get_terminal_size().columns
    return text if len(text) <= width else text[: width - 1] + "…"
