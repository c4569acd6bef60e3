"""How much to think, in the words of wires that lack some of the others' words.

Rule: a wish between two words of a wire becomes the nearest one, and the tables are here for everyone to see.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["LONGEST_USER", "OPENAI_EFFORTS", "effort_of_budget"]

OPENAI_EFFORTS: Final[Mapping[str, str]] = {"max": "xhigh"}
"""Efforts that OpenAI's wires call otherwise; xhigh is their highest:
https://platform.openai.com/docs/api-reference/chat/create#chat-create-reasoning_effort"""
LONGEST_USER: Final = 64
"""Characters of a `user` that OpenAI takes (as of `safety_identifier`); Claude Code's names of users are longer."""
_STEPS: Final = ((2048, "low"), (8192, "medium"))
"""The budgets up to which thinking is low and medium, as the way back has them (`anthropic_messages.BUDGETS`)."""


def effort_of_budget(tokens: int) -> str:
    """The effort that comes nearest to a budget of thinking: every model that takes efforts knows these three."""
    return next((effort for most, effort in _STEPS if tokens <= most), "high")
