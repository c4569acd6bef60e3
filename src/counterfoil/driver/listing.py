"""What providers say they serve: asked for in the background, kept for a while, shown with what went wrong.

Rule 1: no request waits for a list, and a list that does not come changes nothing but what is shown.
Rule 2: everything is bounded: how many are asked at once, how long each may take, how much it may say.
Rule 3: what is listed can be asked for, as `provider/model`.
Rule 4: an answer is never quoted: a provider that refuses a secret may repeat a part of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal

import msgspec

from counterfoil.providers.auth import auth_headers
from counterfoil.providers.listing import Names, Shape, read_names
from counterfoil.providers.provider import Auth
from counterfoil.transport.transport import Asking, Broken, Cut, Unreachable, Upstream

__all__ = [
    "AGAIN",
    "ANSWER_LIMIT",
    "ASK_SECONDS",
    "AT_ONCE",
    "KEPT_SECONDS",
    "Asked",
    "Catalogue",
    "Listed",
    "ListingFailed",
    "ask",
    "log_change",
]

KEPT_SECONDS: Final = 600.0
"""A list is asked for anew when it is older."""
AGAIN: Final = (30.0, 120.0, KEPT_SECONDS)
"""Seconds after one, two and more failures in a row."""
ASK_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 5.0
ANSWER_LIMIT: Final = 8 << 20
AT_ONCE: Final = 4

Reveal = Callable[[str], str | None]
"""The name of a secret -> the secret."""

_log = logging.getLogger("counterfoil.listing")


class Asked(msgspec.Struct, frozen=True):
    """A provider whose list can be asked for, and how."""

    provider: str
    """The row's name."""
    url: str
    """Whole, percent-encoded."""
    shape: Shape
    headers: Mapping[str, str] = {}
    auth: Auth = Auth()
    secret: str | None = None
    """Its name."""


class Listed(msgspec.Struct, frozen=True):
    """What is known of one provider's list."""

    provider: str
    state: Literal["asking", "listed", "failed"] = "asking"
    """failed: the last time; what it listed before is kept."""
    models: tuple[str, ...] = ()
    left_off: int = 0
    """Models beyond those that are kept."""
    problem: str | None = None
    """Why the last time failed, in words that hold nothing of the answer."""


class _Kept:
    """One provider that is asked."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.listed = Listed(asked.provider)
        self.due = 0.0
        self.failures = 0


class Catalogue:
    """The lists of those that are followed. Use from one event loop."""

    def __init__(
        self,
        transport: Asking,
        reveal: Reveal,
        *,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[Listed, Listed], None] = lambda before, now: None,
    ) -> None:
        """`changed`: called with what was known of a list and what is, after each time it was asked for."""
        self._transport = transport
        self._reveal = reveal
        self._clock = clock
        self._changed = changed
        self._kept: dict[str, _Kept] = {}
        self._wake = asyncio.Event()
        self._places = asyncio.Semaphore(AT_ONCE)

    def follow(self, asked: Iterable[Asked]) -> None:
        """Ask these from now on, and no others. What is known of one that is asked in the same way is kept."""
        kept = {}
        for one in asked:
            known = self._kept.get(one.provider)
            if known is None or known.asked != one:
                known = _Kept(one)
            elif known.failures:  # what was wrong may be what was changed: its secret has the same name as before
                known.due, known.failures = 0.0, 0
            kept[one.provider] = known
        self._kept = kept
        self._wake.set()

    def lists(self) -> tuple[Listed, ...]:
        """What is known now, in the order they are followed."""
        return tuple(kept.listed for kept in self._kept.values())

    async def run(self) -> None:
        """Keep the lists until cancelled."""
        while True:
            self._wake.clear()
            await self.refresh()
            next_due = min((kept.due for kept in self._kept.values()), default=None)
            try:
                async with asyncio.timeout(None if next_due is None else max(next_due - self._clock(), 0.0)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """Ask everyone whose list is due, and wait for the answers."""
        now = self._clock()
        await asyncio.gather(*(self._ask(kept) for kept in self._kept.values() if kept.due <= now))

    async def _ask(self, kept: _Kept) -> None:
        async with self._places:
            before = kept.listed
            try:
                names = await ask(self._transport, kept.asked, self._reveal)
            except Exception as error:  # noqa: BLE001 - one list must not end the others; it holds nothing of the answer
                if not isinstance(error, ListingFailed):
                    _log.error("the list of %s could not be read (%s)", before.provider, type(error).__name__)
                    error = ListingFailed("a defect of ours")
                kept.listed = msgspec.structs.replace(before, state="failed", problem=str(error))
                wait = AGAIN[min(kept.failures, len(AGAIN) - 1)]
                kept.failures += 1
            else:
                kept.listed = Listed(before.provider, "listed", names.models, names.left_off)
                wait, kept.failures = KEPT_SECONDS, 0
            kept.due = self._clock() + wait
        self._changed(before, kept.listed)


class ListingFailed(Exception):
    """No list came. The text is ours and safe to show."""


async def ask(transport: Asking, asked: Asked, reveal: Reveal) -> Names:
    """One provider's list, now. Raises ListingFailed."""
    secret = None if asked.secret is None else reveal(asked.secret)
    headers = {"accept": "application/json", "user-agent": "counterfoil", **asked.headers}
    headers |= auth_headers(asked.auth, secret)
    try:
        async with asyncio.timeout(ASK_SECONDS):
            upstream = await transport.get(asked.url, headers, connect=CONNECT_SECONDS)
            if upstream.status != 200:
                upstream.abort()
                raise ListingFailed(_refusal(upstream.status, asked.secret))
            body = await _whole(upstream)
        return await asyncio.to_thread(read_names, asked.shape, body)  # a long list takes a while to read
    except Unreachable as error:
        raise ListingFailed(str(error)) from None
    except (Cut, Broken):
        raise ListingFailed("the connection broke") from None
    except TimeoutError:
        raise ListingFailed(f"no list within {ASK_SECONDS:g} s") from None
    except ValueError:  # msgspec's errors, and text that is not UTF-8
        raise ListingFailed("its answer is no list of models") from None


async def _whole(upstream: Upstream) -> bytes:
    body = bytearray()
    try:
        while piece := await upstream.read():
            body += piece
            if len(body) > ANSWER_LIMIT:
                raise ListingFailed(f"its list is longer than {ANSWER_LIMIT >> 20} MiB")
    except BaseException:
        upstream.abort()
        raise
    upstream.finish()
    return bytes(body)


def _refusal(status: int, secret: str | None) -> str:
    if status in (401, 403):
        return f"HTTP {status}: {secret} was refused" if secret is not None else f"HTTP {status}: it wants a secret"
    return f"HTTP {status}"


def log_change(before: Listed, now: Listed) -> None:
    """Say once that a list came, or why it does not."""
    if now.state == "failed" and (before.state, before.problem) != (now.state, now.problem):
        _log.warning("%s could not be asked for its models: %s", now.provider, now.problem)
    elif now.state == "listed" and before.state != "listed":
        _log.info("%s lists %d models", now.provider, len(now.models) + now.left_off)
