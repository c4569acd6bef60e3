"""From settled lines to lines with a cost: which price holds for which model, and whose it is.

The owner's own prices go first, then the table; a provider that is free costs nothing; what has no known price is
unpriced, which is never 0. Nothing here can raise into a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from counterfoil.ledger.entry import Line, Opening
from counterfoil.ledger.price import Price, cost_of, free_price, own_price
from counterfoil.ledger.price_table import PriceTable
from counterfoil.usage.settle import SettledLine

__all__ = ["price_lines", "price_of"]


def price_lines(opening: Opening, lines: tuple[SettledLine, ...], table: PriceTable) -> tuple[Line, ...]:
    """Price the lines of one attempt, by the prices that held when it opened."""
    return tuple(_priced(opening, line, table) for line in lines)


def _priced(opening: Opening, line: SettledLine, table: PriceTable) -> Line:
    model = line.model or opening.model
    cost = cost_of(line.usage.priced, price_of(opening, model, table, line.context), waived=line.waived)
    rates = {charge.bucket: charge.rate for charge in cost.lines if charge.rate is not None}
    return Line(model, line.kind, line.usage, cost.amount, cost.priced_by, line.waived, rates)


def price_of(opening: Opening, model: str, table: PriceTable, context: Mapping[str, str] | None = None) -> Price | None:
    """The price that holds for `model` in this attempt: the owner's, none because it is free, or the list's.

    `context`: what the provider says of the rate it served this at; a list may have a price of its own for it.
    """
    if opening.own_prices is not None and model == opening.model:
        day = datetime.fromtimestamp(opening.opened, UTC).date().isoformat()
        try:
            return own_price(opening.provider, model, opening.own_prices, date=day)
        except ValueError:  # the configuration is checked when it is read; pricing never fails a request
            return None
    if opening.free:
        source = "free: no model runs" if opening.convention.no_model else "local"
        return free_price(opening.provider, model, source=source)
    own = table.find_own(opening.provider, model, opening.opened, context)
    if own is not None or opening.price_id is None:
        return own
    return table.find(opening.price_id, model, opening.opened, context)
