"""The clients of the SDK that models use.

Rule 1: models of one configuration and one ledger share a client, and with it connections and books.
Rule 2: a client lives as long as a model that used it. A model is copied, compared and saved without its clients.
"""

from __future__ import annotations

import threading
from typing import Any, Final
from weakref import WeakValueDictionary

from counterfoil.sdk.calls import shared_async_client, shared_client
from counterfoil.sdk.client import AsyncClient, Client

__all__ = ["Books", "Clients"]

Books = tuple[str | None, str | None]
"""A configuration file and a ledger, each None where it is not named."""
_NOTHING: Final[Books] = (None, None)
_lock: Final = threading.Lock()
_clients: Final[WeakValueDictionary[Books, Client]] = WeakValueDictionary()
_async_clients: Final[WeakValueDictionary[Books, AsyncClient]] = WeakValueDictionary()


class Clients:
    """The clients of one model: made when a call first needs one, and anew when the model names other books."""

    def __init__(self) -> None:
        self._client: tuple[Books, Client] | None = None
        self._async_client: tuple[Books, AsyncClient] | None = None

    def client(self, books: Books) -> Client:
        """The client for threads."""
        held = self._client
        if held is None or held[0] != books:
            with _lock:
                made = shared_client() if books == _NOTHING else _clients.get(books)
                if made is None:
                    made = _clients[books] = Client(books[0], ledger=books[1])
            held = self._client = (books, made)
        return held[1]

    def async_client(self, books: Books) -> AsyncClient:
        """The client for event loops."""
        held = self._async_client
        if held is None or held[0] != books:
            with _lock:
                made = shared_async_client() if books == _NOTHING else _async_clients.get(books)
                if made is None:
                    made = _async_clients[books] = AsyncClient(books[0], ledger=books[1])
            held = self._async_client = (books, made)
        return held[1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Clients)

    def __hash__(self) -> int:
        return hash(Clients)

    def __deepcopy__(self, memo: dict[int, Any]) -> Clients:
        return Clients()

    def __reduce__(self) -> tuple[type[Clients], tuple[()]]:
        return Clients, ()
