"""Proofs of reasoning on this wire: what must go back of a reasoning item, packed into one text.

Rule: an item is proved by its id and its `encrypted_content` together. One text holds both, because the canonical words
and the other dialects have room for one.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["ORIGIN", "pack", "unpack"]

ORIGIN: Final = "openai-responses-v1"
"""What OpenRouter calls these proofs: https://openrouter.ai/docs/guides/best-practices/reasoning-tokens"""

_AN_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_PACKED: Final = re.compile(r"([A-Za-z0-9_.-]{0,128}):")


def pack(item_id: str, encrypted: str) -> str:
    """Id and encrypted content as one text. An id that is none is left out: the API takes an item without it."""
    return f"{item_id if _AN_ID.fullmatch(item_id) else ''}:{encrypted}"


def unpack(proof: str) -> tuple[str, str]:
    """Id and encrypted content of what `pack` made; a proof from elsewhere (OpenRouter's chat) has no id."""
    packed = _PACKED.match(proof)
    return ("", proof) if packed is None else (packed[1], proof[packed.end() :])
