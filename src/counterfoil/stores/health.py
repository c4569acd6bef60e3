"""Whether a store does its work, in words an operator can act on."""

from __future__ import annotations

import msgspec

__all__ = ["HEALTHY", "Health"]


class Health(msgspec.Struct, frozen=True):
    """`ok` is green. `reason` says what is wrong, and is None when nothing is."""

    ok: bool
    reason: str | None = None


HEALTHY = Health(True)
