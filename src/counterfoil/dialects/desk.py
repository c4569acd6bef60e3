"""Where a request that crosses into a dialect says what it cannot carry.

Rule 1: nothing is dropped silently (DESIGN 4.4.3). What cannot be carried is a 400 that names the parameter and the way
out, or, where the operator chose `drop`, is left out and named.
"""

from __future__ import annotations

from counterfoil.core.error import RequestError

__all__ = ["Desk"]


class Desk:
    """One request's record of what was left out."""

    def __init__(self, drop: bool) -> None:
        self._drop = drop
        self._dropped: list[str] = []

    @property
    def dropped(self) -> tuple[str, ...]:
        """The names of what was left out, each once, in order."""
        return tuple(dict.fromkeys(self._dropped))

    def cannot(self, param: str, why: str) -> None:
        """`param` cannot be carried. Returns only where dropping is allowed."""
        if not self._drop:
            raise RequestError(
                f"{param} cannot be carried to this model: {why}. Leave it out, or have it dropped with `drop: true` "
                "on the deployment.",
                param=param,
                code="cannot_be_carried",
            )
        self.name(param)

    def refuse(self, param: str, why: str) -> RequestError:
        """`param` is wrong for this provider, and leaving it out would change what is asked: never dropped."""
        return RequestError(f"{param}: {why}", param=param)

    def name(self, param: str) -> None:
        """`param` asks nothing of the reply and is left out; the client can still read that it was."""
        self._dropped.append(param)
