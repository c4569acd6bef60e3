"""The ledger that a program names: its books, and who counts again what had to be estimated in them.

Rule 1: one is opened by the first call and shut with its client, or before a fork. It is never carried into a child.
"""

from __future__ import annotations

import time
from pathlib import Path

from counterfoil.config import Config
from counterfoil.driver.corrector import TokenCorrector, corrector_for
from counterfoil.driver.drive import new_id
from counterfoil.ledger.entry import Line, Opening
from counterfoil.ledger.price_table import PriceTable
from counterfoil.ledger.pricing import price_lines
from counterfoil.stores.books import LedgerBooks, open_books
from counterfoil.stores.journal import Fsync, JournalSettings
from counterfoil.usage.settle import SettledLine

__all__ = ["OpenLedger", "open_ledger"]


class OpenLedger:
    """`Books` on disk, and the corrector that adds to them. Threads may share it."""

    def __init__(self, books: LedgerBooks, corrector: TokenCorrector | None) -> None:
        self._books = books
        self.corrector = corrector
        self.open = books.open
        self.progress = books.progress
        self.close = books.close

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until the database has every entry closed before and its correction.

        False when that took longer than `timeout` seconds.
        """
        end = time.monotonic() + timeout
        counted = self.corrector is None or self.corrector.flush(timeout)
        return self._books.flush(max(0.0, end - time.monotonic())) and counted

    def shut(self) -> bool:
        """Count what waits, flush, and let go. Whether everything reached the database."""
        if self.corrector is not None:
            self.corrector.close()
        return self._books.shut()


def open_ledger(path: Path, config: Config, prices: PriceTable) -> OpenLedger:
    """Open the ledger at `path`, as `config` says. Raises LedgerUnusable, sqlite3.Error and OSError."""

    def price(opening: Opening, lines: tuple[SettledLine, ...], _at: float) -> tuple[Line, ...]:
        return price_lines(opening, lines, prices)

    settings = JournalSettings(fsync=Fsync(config.ledger.fsync), interval=config.ledger.fsync_interval)
    books = open_books(path, price, settings)
    return OpenLedger(books, corrector_for(config.estimates, books.correct, new_id=new_id, wall=time.time))
