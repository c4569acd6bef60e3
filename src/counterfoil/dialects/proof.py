"""Whose proof of reasoning a text is, on wires that have one field for it and no word for its maker.

Rule: Claude's proofs stand as they are, because the wires that have no such word are Claude's. Any other maker's name
stands before the proof, so that it comes back to its maker and to nobody else.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["CLAUDE", "format_of", "origin_of", "seal", "unseal"]

CLAUDE: Final = "anthropic-claude-v1"
"""How OpenRouter calls Claude's proofs: https://openrouter.ai/docs/guides/best-practices/reasoning-tokens"""
_NOBODY: Final = frozenset({"", "unknown", CLAUDE})
_SEALED: Final = re.compile(r"([a-z][a-z-]{2,40}-v\d{1,3}):")
"""A proof is base64, which has no colon."""


def origin_of(said: str | None) -> str:
    """The `origin` of a proof whose `format` a chat server or client said."""
    return "" if said is None or said in _NOBODY else said


def format_of(origin: str) -> str:
    """The `format` of a proof with this `origin`."""
    return origin or CLAUDE


def seal(proof: str, origin: str) -> str:
    """The proof with its maker before it."""
    return f"{origin}:{proof}" if origin else proof


def unseal(text: str) -> tuple[str, str]:
    """Proof and origin of what `seal` wrote, or of a proof of Claude's."""
    sealed = _SEALED.match(text)
    return (text, "") if sealed is None else (text[sealed.end() :], sealed[1])
