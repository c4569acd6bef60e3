"""How long and how much the server puts up with, where the configuration says nothing.

Rule 1: whatever a client may do slowly or endlessly has a bound here or in `config.Limits`.
"""

from __future__ import annotations

import msgspec

__all__ = ["Patience"]


class Patience(msgspec.Struct, frozen=True):
    """Seconds, and how many connections."""

    head: float = 30.0
    """From the connection, or a request's first byte, to the end of its headers."""
    body: float = 60.0
    """How long a client may pause in the middle of its body."""
    linger: float = 5.0
    """How long the rest of a refused body is thrown away, so that its sender gets to read the answer."""
    keep_alive: int = 75
    """How long an idle connection is kept: longer than the pools of common clients keep theirs (5 to 60 s)."""
    farewell: float = 5.0
    """After the drain deadline: how long interrupted exchanges may take to tell their clients."""
    connections: int = 4096
    """Open at once. One more is told 503 and closed."""
