"""What the gateway serves by, as one frozen value: a reload puts another in its place, whole.

Rule 1: a request takes the state once and keeps it to its end.
Rule 2: what must outlive a reload (books, connections, counters, what was learned of servers) is not in here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from counterfoil.config import Config
from counterfoil.driver.listing import Asked, Listed
from counterfoil.driver.passthrough import Passthrough
from counterfoil.driver.resolve import PublicName
from counterfoil.exchange.call import Context
from counterfoil.exchange.route import Route
from counterfoil.server.access import Access
from counterfoil.stores.health import Health

__all__ = ["Names", "ReloadRefused", "State"]


class Names(Protocol):
    """Model names to routes."""

    def resolve(self, name: str) -> Route:
        """What `name` stands for. Raises CounterfoilError with the nearest names when it stands for nothing."""
        ...

    def names(self) -> Sequence[PublicName]:
        """What clients are shown, in order, as far as the configuration and what was found say it."""
        ...

    def listed(self, lists: Iterable[Listed]) -> Sequence[PublicName]:
        """The same, and what providers list beside."""
        ...

    def asked(self) -> Sequence[Asked]:
        """Whose lists of models are asked for."""
        ...


class ReloadRefused(Exception):
    """The new configuration cannot be taken; the old one stays. `messages` say where and why, and hold no secret."""

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__("; ".join(messages))
        self.messages = tuple(messages)


class State(msgspec.Struct, frozen=True):
    """One configuration, ready to serve by."""

    config: Config
    names: Names
    access: Access
    context: Context
    health: Callable[[], Health]
    """Of the books."""
    since: int
    """When it was loaded, in Unix seconds: the `created` of the models it lists."""
    passthroughs: Mapping[str, Passthrough] = {}
    """What may be asked of providers beside the doors; none, unless it is written down."""
