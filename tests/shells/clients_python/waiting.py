"""How a client is called: at once, or awaited. A matrix is written once for both.

Rule 1: an asynchronous client lives on one loop, which lasts for a module.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, Protocol

__all__ = ["AtOnce", "Awaited", "Waiting"]


class Waiting(Protocol):
    """How a client is called: at once, or awaited. A matrix is written once for both."""

    def call(self, method: Callable[..., Any], **fields: Any) -> Any:
        """The result."""
        ...

    def each(self, method: Callable[..., Any], **fields: Any) -> list[Any]:
        """The items of a stream."""
        ...

    def helped(self, method: Callable[..., Any], final: str, **fields: Any) -> tuple[list[Any], Any]:
        """The events of a streaming helper, and what its method `final` gives after them."""
        ...


class AtOnce:
    """A synchronous client."""

    def call(self, method: Callable[..., Any], **fields: Any) -> Any:
        return method(**fields)

    def each(self, method: Callable[..., Any], **fields: Any) -> list[Any]:
        found: Iterable[Any] = method(**fields)
        return list(found)

    def helped(self, method: Callable[..., Any], final: str, **fields: Any) -> tuple[list[Any], Any]:
        with method(**fields) as stream:
            return list(stream), getattr(stream, final)()


class Awaited:
    """An asynchronous client, on a loop that lasts for a module."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.runner = runner

    def call(self, method: Callable[..., Any], **fields: Any) -> Any:
        async def call() -> Any:
            return await method(**fields)

        return self.runner.run(call())

    def each(self, method: Callable[..., Any], **fields: Any) -> list[Any]:
        async def each() -> list[Any]:
            found = method(**fields)
            items: AsyncIterable[Any] = found if hasattr(found, "__aiter__") else await found
            return [item async for item in items]

        return self.runner.run(each())

    def helped(self, method: Callable[..., Any], final: str, **fields: Any) -> tuple[list[Any], Any]:
        async def helped() -> tuple[list[Any], Any]:
            async with method(**fields) as stream:
                return [event async for event in stream], await getattr(stream, final)()

        return self.runner.run(helped())
