"""What one client asked for, and what pure code may not take for itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from counterfoil.config import Limits, StreamUsage
from counterfoil.core.error import RequestError
from counterfoil.dialects.dialect import ClientDialect, ReplyFacts, RequestPeek
from counterfoil.exchange.carriage import Carriage
from counterfoil.exchange.route import Route
from counterfoil.exchange.transcript import Corrector
from counterfoil.ledger.entry import Line, Opening
from counterfoil.usage.settle import SettledLine

__all__ = ["HEADER_LIMIT", "Call", "Context", "carried_headers"]

HEADER_LIMIT: Final = 4096
"""Characters of a header that is carried."""


def carried_headers(dialect: ClientDialect[Any], said: Callable[[str], str]) -> Mapping[str, str]:
    """The headers of a client's request that belong to its dialect.

    `said`: a header's value by its lower-case name, empty where there is none. Raises RequestError for a value that no
    header should have.
    """
    found: dict[str, str] = {}
    for name in dialect.carried_headers:
        value = said(name).strip()
        if not value:
            continue
        if len(value) > HEADER_LIMIT or not (value.isascii() and value.isprintable()):
            raise RequestError(f"The header {name} is at most {HEADER_LIMIT} printable ASCII characters.", param=name)
        found[name] = value
    return found


class Call(msgspec.Struct, frozen=True):
    """What one client asked for."""

    exchange: str
    route: Route
    dialect: ClientDialect[Any]
    body: bytes
    peek: RequestPeek
    input_estimate: int | None = None
    key: str | None = None
    tags: tuple[str, ...] = ()
    stream_usage: StreamUsage = "when_asked"
    headers: Mapping[str, str] = {}
    """Those of the client's that belong to its dialect (`carried_headers`), in lower case."""
    carriage: Carriage | None = None
    """The call is carried as it is, to the only deployment of its route."""

    def facts(self, opening: Opening) -> ReplyFacts:
        """What the writer of an attempt's reply is told."""
        peek = self.peek
        return ReplyFacts(
            id=f"{self.dialect.id_prefix}{opening.attempt}",
            created=int(opening.opened),
            model=opening.model if self.route.show_provider_model else peek.model,
            streamed=peek.streamed,
            usage_asked=peek.streamed and (peek.usage_asked or self.stream_usage == "always"),
            choices=peek.choices,
            input_estimate=self.input_estimate,
            head=self.route.messages_head,
            convention=opening.convention,
            encoding=peek.encoding,
            form=peek.form,
        )

    @property
    def content_type(self) -> str:
        """Of the reply."""
        if not self.peek.streamed:
            return "application/json"
        return self.dialect.forms.get(self.peek.form, self.dialect.content_type)


class Context(msgspec.Struct, frozen=True):
    """What pure code may not take for itself: time, ids, chance, prices, limits, and what was learned of servers."""

    clock: Callable[[], float]
    """Seconds that never go back."""
    wall: Callable[[], float]
    """Unix seconds."""
    new_id: Callable[[], str]
    """Time-ordered."""
    jitter: Callable[[], float]
    """In [0, 1)."""
    price: Callable[[Opening, tuple[SettledLine, ...]], tuple[Line, ...]]
    """Never raises; what has no known price is unpriced."""
    limits: Limits
    learned: set[str]
    """Base URLs of servers that refused `stream_options`."""
    corrector: Corrector | None = None
    """Who counts again, after the end, what had to be estimated; None: nobody does, and no text is kept."""
