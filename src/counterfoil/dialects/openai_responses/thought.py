"""Proofs of reasoning on this wire: what must go back of a reasoning item, packed into one text.

Rule 1: an item of this wire is proved by its id and its `encrypted_content` together. One text holds both, because the
canonical words and the other dialects have room for one.
Rule 2: in what a client of this wire is given, `encrypted_content` names the maker of the proof before it. What comes
back without a name is this wire's own. So a proof finds its maker behind any route, and nobody else is sent it.
"""

from __future__ import annotations

import re
from typing import Final

from counterfoil.dialects.proof import format_of, origin_of, seal, unseal

__all__ = ["ORIGIN", "SEALED", "from_client", "pack", "to_client", "unpack"]

ORIGIN: Final = "openai-responses-v1"
"""What OpenRouter calls these proofs: https://openrouter.ai/docs/guides/best-practices/reasoning-tokens"""

SEALED: Final = re.compile(rb'"encrypted_content"\s*:\s*"[a-z][a-z-]{2,40}-v\d{1,3}:')
"""Where the text of a request holds a proof that we named the maker of."""

_AN_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_PACKED: Final = re.compile(r"([A-Za-z0-9_.-]{0,128}):")
"""Encrypted content is base64, which has no colon."""


def pack(item_id: str, encrypted: str) -> str:
    """Id and encrypted content as one text. An id that is none is left out: the API takes an item without it."""
    return f"{item_id if _AN_ID.fullmatch(item_id) else ''}:{encrypted}"


def unpack(proof: str) -> tuple[str, str]:
    """Id and encrypted content of what `pack` made; a proof from elsewhere (OpenRouter's chat) has no id."""
    packed = _PACKED.match(proof)
    return ("", proof) if packed is None else (packed[1], proof[packed.end() :])


def to_client(proof: str, origin: str) -> str:
    """A proof of anybody's as the `encrypted_content` that a client of this wire keeps."""
    return seal(proof, format_of(origin))


def from_client(item_id: str, encrypted: str) -> tuple[str, str]:
    """Proof and origin of an item that a client sends back: of `to_client`, or of a provider of this wire."""
    proof, maker = unseal(encrypted)
    return (proof, origin_of(maker)) if maker else (pack(item_id, encrypted), ORIGIN)
