"""What a door is: which methods a path answers, in which dialect, and what the path itself says of a request.

Rule 1: a door is data. `paths.py` lists them; whoever answers is told which one was found.
Rule 2: errors at a path are in its dialect, also when nothing is served there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from counterfoil.dialects.dialect import ClientDialect
from counterfoil.dialects.openai_chat import OPENAI_CHAT
from counterfoil.server.asgi import Request
from counterfoil.server.gateway import Gateway
from counterfoil.server.state import State

__all__ = ["Door", "Found", "Handler", "Place"]


class Place(msgspec.Struct, frozen=True):
    """What a path says of a request beside which door it is."""

    model: str | None = None
    """The public model name, where the path has it (Azure's deployments, Gemini's models)."""
    streamed: bool | None = None
    """Whether a stream is asked for, where the path says it (Gemini); None: the body says it."""
    variant: str = ""
    """Which shape of its dialect's replies is asked for (`RequestPeek.form`)."""
    names: Mapping[str, str] = {}
    """What stands in the path for each `{name}` of its template."""


class Found(msgspec.Struct, frozen=True):
    """A door, as one request found it."""

    door: Door
    dialect: ClientDialect[Any]
    """In which it is answered; the door's own, unless the request's headers show another client."""
    place: Place = Place()


Handler = Callable[[Gateway, State, Request, Found], Awaitable[None]]
Fill = Callable[[bytes, Place], bytes]
"""(client's body, what the path says) -> the body with it. Raises RequestError for what is no JSON object."""


class Door(msgspec.Struct, frozen=True):
    """One path or several: who answers which method, in which dialect."""

    methods: Mapping[str, Handler]
    dialect: ClientDialect[Any] = OPENAI_CHAT
    fill: Fill | None = None
    """How what the path says comes into the body; None: the body says everything."""
    by_headers: bool = False
    """The path is of several dialects, and the request's headers tell which."""
    heads: bool = True
    """A HEAD is answered as a GET whose body is not sent."""

    @property
    def allow(self) -> str:
        """The value of an `Allow` header."""
        return ", ".join(sorted({*self.methods, *(["HEAD"] if self.heads and "GET" in self.methods else [])}))

    def handler(self, method: str) -> Handler | None:
        """Who answers `method`."""
        return self.methods.get("GET" if method == "HEAD" and self.heads else method)
