"""One call in each of the four ways a program can make it: sync or async, whole or streamed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

import counterfoil
from counterfoil.ledger.entry import Entry
from counterfoil.testing import Playback, running

__all__ = ["CHATTING", "HELLO", "SECONDS", "WAYS", "Asked", "Way", "ask", "provider_in_environment", "text_of"]

SECONDS: Final = 20.0
"""Bounds every wait."""
HELLO: Final = [{"role": "user", "content": "Good morning"}]
CHATTING: Final[dict[str, Any]] = {"model": "play-1", "messages": HELLO}


@dataclass(frozen=True)
class Way:
    """How a program calls."""

    asynchronous: bool
    streamed: bool

    def __str__(self) -> str:
        return f"{'async' if self.asynchronous else 'sync'}-{'streamed' if self.streamed else 'whole'}"


WAYS: Final = [Way(asynchronous, streamed) for asynchronous in (False, True) for streamed in (False, True)]


@dataclass
class Asked:
    """What came of a call, in whichever way it was made."""

    error: counterfoil.Error | None = None
    reply: counterfoil.ChatCompletion | None = None
    chunks: list[counterfoil.ChatCompletionChunk] = field(default_factory=list)
    usage: Any = None
    cost: Any = None
    entry: Entry | None = None
    dropped: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return (self.reply.choices[0].message.content or "") if self.reply is not None else text_of(self.chunks)


def ask(way: Way, settings: dict[str, Any], **call: Any) -> Asked:
    """Make one call with a client of its own, which is closed before this returns."""
    arguments = {**CHATTING, **call, "stream": way.streamed}
    return asyncio.run(_ask_async(settings, arguments)) if way.asynchronous else _ask(settings, arguments)


def _ask(settings: dict[str, Any], arguments: dict[str, Any]) -> Asked:
    asked = Asked()
    with counterfoil.Client(**settings) as client:
        try:
            found = client.chat.completions.create(**arguments)
            if isinstance(found, counterfoil.Stream):
                with contextlib.closing(found):
                    try:
                        asked.chunks.extend(found)
                    finally:
                        _note(asked, found)
            else:
                _note(asked, found)
        except counterfoil.Error as error:
            asked.error = error
    return asked


async def _ask_async(settings: dict[str, Any], arguments: dict[str, Any]) -> Asked:
    asked = Asked()
    async with asyncio.timeout(SECONDS), counterfoil.AsyncClient(**settings) as client:
        try:
            found = await client.chat.completions.create(**arguments)
            if isinstance(found, counterfoil.AsyncStream):
                async with found:
                    try:
                        async for chunk in found:
                            asked.chunks.append(chunk)
                    finally:
                        _note(asked, found)
            else:
                _note(asked, found)
        except counterfoil.Error as error:
            asked.error = error
    return asked


def _note(asked: Asked, found: Any) -> None:
    if isinstance(found, counterfoil.ChatCompletion):
        asked.reply = found
    else:
        asked.reply = counterfoil.stream_chunk_builder(asked.chunks) if asked.chunks else None
    asked.usage, asked.cost, asked.entry, asked.dropped = found.usage, found.cost, found.entry, found.dropped


def text_of(chunks: Sequence[Any], choice: int = 0) -> str:
    """The text of one choice of a stream."""
    said = [one for chunk in chunks for one in chunk.choices if one.index == choice]
    return "".join(one.delta.content or "" for one in said)


@contextlib.contextmanager
def provider_in_environment(patch: pytest.MonkeyPatch, row: str = "OPENAI") -> Iterator[Playback]:
    """A provider where the environment says that a row of the table is; with a secret for it."""
    with running() as provider:
        patch.setenv(f"{row}_BASE_URL", provider.base_url)
        patch.setenv(f"{row}_API_KEY", "sk-play-000001")
        yield provider
