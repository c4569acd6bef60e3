"""The table of docs/langchain.md that says which class can do what, as the page has it.

Rule 1: what is played for each row stands here once, so that every column is tried with the same replies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from counterfoil.testing import ChatReply, Counts
from tests.tree import REPOSITORY

__all__ = ["ASKING", "COUNTS", "NO", "PLANS", "YES", "column"]

YES: Final = "yes"
NO: Final = "no"
ASKING: Final = "with `stream_usage=True`"

COUNTS: Final = Counts(input=40, output=17, cache_read=8, cache_write=4, reasoning=3)

PLANS: Final[Mapping[str, ChatReply]] = {
    "usage of a whole reply": ChatReply(usage=Counts(input=12, output=5)),
    "usage of a stream": ChatReply(usage=Counts(input=12, output=5)),
    "cache read, reasoning tokens": ChatReply(usage=COUNTS),
    "cache written": ChatReply(usage=COUNTS),
    "reasoning text": ChatReply(reasoning="High or low?"),
    "ledger entry and cost in the message": ChatReply(),
}
"""What is played for the rows that are about one reply."""


def column(title: str) -> dict[str, str]:
    """The cells of one column, by the first cell of their rows."""
    page = (REPOSITORY / "docs" / "langchain.md").read_text(encoding="utf-8")
    part = page.partition("## Which class")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")]
    head, _, *body = rows
    place = head.index(title)
    return {row[0]: row[place] for row in body}
