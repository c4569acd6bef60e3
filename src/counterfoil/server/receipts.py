"""What a client is told of its own call: `GET /v1/receipts/{exchange}`, all that `counterfoil explain` shows.

Rule 1: a receipt is for the key that made the call. To any other it does not exist: not found, in the same words.
Rule 2: reading is not spending: it waits its turn, off the loop, and never delays a call.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
from typing import Final

import msgspec

from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault
from counterfoil.server.asgi import Request, respond
from counterfoil.server.door import Found
from counterfoil.server.gateway import Gateway
from counterfoil.server.state import State
from counterfoil.stores.sqlite_schema import LedgerUnusable

__all__ = ["show_receipt"]

_EXCHANGE: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_log = logging.getLogger("counterfoil.server")


async def show_receipt(gateway: Gateway, state: State, request: Request, found: Found) -> None:
    """The exchange and its attempts, oldest first; 404 for a call that another key made, as for none."""
    caller = state.access.admit(request, spends=False)
    exchange = found.place.names["exchange"].lower()
    if gateway.receipts is None or not _EXCHANGE.fullmatch(exchange):
        raise CounterfoilError(_NOT_FOUND)
    try:
        async with gateway.reading:
            receipt = await asyncio.to_thread(gateway.receipts, exchange)
    except (LedgerUnusable, sqlite3.Error, OSError) as error:
        _log.error("a receipt could not be read: %s", type(error).__name__)
        raise CounterfoilError(_UNREADABLE) from None
    if receipt is None or not (state.access.mode == "loopback" or receipt.key == caller.key):
        raise CounterfoilError(_NOT_FOUND)
    await respond(request, 200, msgspec.json.encode(receipt), headers={"cache-control": "no-store"})


_NOT_FOUND: Final = Failure(
    FailureKind.NOT_FOUND,
    "No call of this key has this exchange. Each reply's `x-counterfoil-exchange` names its own.",
    Fault.CLIENT,
    404,
    code="receipt_not_found",
)
_UNREADABLE: Final = Failure(FailureKind.UNAVAILABLE, "The books cannot be read now. Ask again.", Fault.GATEWAY, 503)
