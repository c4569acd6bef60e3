"""One exchange with the derivation of all its numbers: what a client is shown of its own call.

Rule 1: the books are read as they are at this moment: the journals first, the database after them (README.md).
Rule 2: nothing here decides who may see it; `Receipt.key` says whose it is.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from counterfoil.ledger.entry import Entry
from counterfoil.ledger.price_table import PriceTable
from counterfoil.stores.books import journal_directory
from counterfoil.stores.explanation import Explanation, explain
from counterfoil.stores.replay import OpenAttempt, open_and_unflushed
from counterfoil.stores.sqlite import SqliteReader

__all__ = ["Receipt", "receipt_of"]


class Receipt(msgspec.Struct, frozen=True):
    """Every attempt of one exchange, oldest first, each as `counterfoil explain --json` shows it."""

    exchange: str
    attempts: tuple[Explanation, ...]

    @property
    def key(self) -> str | None:
        """The name of the key that made the call; None: it was made without one."""
        return self.attempts[0].entry.key


def receipt_of(database: Path, exchange: str, table: PriceTable) -> Receipt | None:
    """The receipt of `exchange`, from the ledger at `database`; None when the books do not know it. Blocks.

    `table` is asked for what an entry does not keep of its rates. Raises LedgerUnusable, sqlite3.Error and OSError.
    """
    unflushed, open_ = open_and_unflushed(journal_directory(database))
    known: list[Entry | OpenAttempt] = [*open_, *unflushed]
    found = {one.opening.attempt: one for one in known if one.opening.exchange == exchange}
    found |= {entry.opening.attempt: entry for entry in SqliteReader(database).exchange(exchange)}
    booked = [one for _, one in sorted(found.items())]
    corrections = [one for one in booked if isinstance(one, Entry) and one.corrects is not None]
    attempts = tuple(
        explain(one, table, [more for more in corrections if _corrects(more, one.opening.attempt)])
        for one in booked
        if not (isinstance(one, Entry) and one.corrects is not None)
    )
    return Receipt(exchange, attempts) if attempts else None


def _corrects(correction: Entry, attempt: str) -> bool:
    return correction.corrects is not None and correction.corrects.attempt == attempt
