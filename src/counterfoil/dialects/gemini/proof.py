"""Proofs of reasoning in `thoughtSignature`, whose type is bytes: base64, whoever made them.

Rule: Google's own stand as they are. Any other maker's is put into base64 with its maker's name before it, so that it
comes back to its maker and to nobody else; a client may write it back in either alphabet of base64.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from counterfoil.dialects.gemini.reply import ORIGIN
from counterfoil.dialects.gemini.turns import STAND_IN
from counterfoil.dialects.proof import format_of, origin_of

__all__ = ["Proof", "seal", "seal_redacted", "unseal"]

_SEALED: Final = re.compile(rb"(?P<format>[a-z][a-z-]{2,40}-v\d{1,3})(?P<redacted>/redacted)?:(?P<proof>[\x20-\x7e]*)")
_STAND_INS: Final = frozenset({STAND_IN, "context_engineering_is_the_way_to_go"})
"""What Google documents for calls that no model of its own made: it proves nothing."""

Proof = tuple[str, str, bool]
"""The proof, its origin, and whether it is a whole block of encrypted reasoning."""


def seal(proof: str, origin: str) -> str:
    """What is written for a proof."""
    return proof if origin == ORIGIN else _sealed(format_of(origin), proof)


def seal_redacted(data: str, origin: str) -> str:
    """What is written for a block of encrypted reasoning."""
    return _sealed(f"{format_of(origin)}/redacted", data)


def unseal(text: str) -> Proof | None:
    """What was sealed, or a proof of Google's; None for one that proves nothing."""
    if not text or text in _STAND_INS:
        return None
    try:
        said = base64.b64decode(text.translate(_STANDARD) + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return text, ORIGIN, False
    if said.decode("latin-1") in _STAND_INS:
        return None
    found = _SEALED.fullmatch(said)
    if found is None:
        return text, ORIGIN, False
    return found["proof"].decode(), origin_of(found["format"].decode()), found["redacted"] is not None


_STANDARD: Final = str.maketrans("-_", "+/")


def _sealed(name: str, proof: str) -> str:
    return base64.b64encode(f"{name}:{proof}".encode()).decode()
