"""How much to think, in the words of wires that lack some of the others' words.

Rule: a wish between two words of a wire becomes the nearest one, and the tables are here for everyone to see.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["LONGEST_USER", "NO_EFFORT", "OPENAI_EFFORTS", "effort_of_budget"]

OPENAI_EFFORTS: Final[Mapping[str, str]] = {"max": "xhigh"}
"""Efforts that OpenAI's wires call otherwise; xhigh is their highest:
https://platform.openai.com/docs/api-reference/chat/create#chat-create-reasoning_effort"""
NO_EFFORT: Final = "none"
"""Thinking switched off, for models that are known to take it (`Quirks.effort_none`): GPT-5.1 and later. o1, o3, GPT-5
and the Codex models refuse the word, and those that do not reason refuse any effort: without it the former think as
they always do, and the latter never do. https://platform.openai.com/docs/guides/reasoning,
github.com/openai/openai-agents-python/issues/2089, github.com/Kilo-Org/cloud/pull/3807"""
LONGEST_USER: Final = 64
"""Characters of a `user` that OpenAI takes (as of `safety_identifier`); Claude Code's names of users are longer."""
_STEPS: Final = ((2048, "low"), (8192, "medium"))
"""The budgets up to which thinking is low and medium, as the way back has them (`anthropic_messages.BUDGETS`)."""


def effort_of_budget(tokens: int) -> str:
    """The effort that comes nearest to a budget of thinking: every model that takes efforts knows these three."""
    return next((effort for most, effort in _STEPS if tokens <= most), "high")
