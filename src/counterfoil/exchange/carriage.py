"""What a client asks for in words that nobody changes: a call that is carried as it is, method, path and all.

Rule: what a client may not say to a provider (who pays, what is between two ends of a connection) was left out before.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["Carriage"]


class Carriage(msgspec.Struct, frozen=True):
    """What is carried of a request beside its body."""

    method: str
    path: str
    """Below the deployment's base URL, and exactly what is sent."""
    query: tuple[tuple[str, str], ...] = ()
    """Decoded pairs in the client's order."""
    headers: Mapping[str, str] = {}
    """Those of the client's that go out, names in lower case."""
    known: bool = False
    """The deployment's dialect is the path's own. Without it nobody reads the reply, and its usage is unknown."""
