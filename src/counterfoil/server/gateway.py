"""What every request to one gateway shares: the state it serves by, the driver, the counts.

Rule 1: `state` is replaced whole; everything else lives as long as the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from counterfoil.driver.drive import Driver
from counterfoil.driver.listing import Catalogue
from counterfoil.ledger.entry import Exit
from counterfoil.server.limits import Patience
from counterfoil.server.metrics import Metrics
from counterfoil.server.state import ReloadRefused, State
from counterfoil.stores.receipt import Receipt

__all__ = ["Gateway", "Loader"]

READERS: Final = 2
"""How many receipts are read at once."""

Loader = Callable[[State], tuple[State, tuple[str, ...]]]
"""The state that is served by -> the one to serve by, and what needs a restart. Runs in a thread. Raises
ReloadRefused."""


class Gateway:
    """One gateway. Use from one event loop."""

    def __init__(
        self,
        state: State,
        driver: Driver,
        metrics: Metrics,
        *,
        patience: Patience | None = None,
        loader: Loader | None = None,
        catalogue: Catalogue | None = None,
        receipts: Callable[[str], Receipt | None] | None = None,
    ) -> None:
        self.state = state
        self.driver = driver
        self.metrics = metrics
        self.patience = patience or Patience()
        self.draining = False
        self.catalogue = catalogue
        """None: no provider is asked for its models."""
        self.receipts = receipts
        """An exchange -> what the books have of it. Runs in a thread. Raises LedgerUnusable, sqlite3.Error, OSError."""
        self.reading = asyncio.Semaphore(READERS)
        self._loader = loader
        self._reloading = asyncio.Lock()

    async def reload(self) -> tuple[str, ...]:
        """Serve by a new configuration; returns what needs a restart. Raises ReloadRefused; then nothing changed."""
        if self._loader is None:
            raise ReloadRefused(("This gateway was started without a configuration that can be read again.",))
        async with self._reloading:
            self.state, notes = await asyncio.to_thread(self._loader, self.state)
        self.metrics.know(self.state.config.models)
        if self.catalogue is not None:
            self.catalogue.follow(self.state.names.asked())
        return notes

    def interrupt(self) -> None:
        """End every open exchange; their entries are closed as `shutdown`."""
        self.driver.interrupt_all(Exit.SHUTDOWN)
