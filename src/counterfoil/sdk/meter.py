"""What the calls made inside a `with` block used and cost.

Rule 1: a call counts in every meter that is open around it, once: nested meters both have it. Tasks, and threads that
were given their parent's context (`asyncio.to_thread`, LangChain's pools), count where they were started.
Rule 2: a thread that was started while a meter was open, and without a context, counts in that meter and in those
around it. Where one of several could be meant nobody can say which: the call counts in none of them, and each says so
in `unattributed`. A thread that was there before counts only with a context (`contextvars.copy_context().run`): it may
serve somebody else.
Rule 3: unknown is not zero: a sum with an unknown part is unknown, and a cost with an unpriced part is None.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from decimal import Decimal
from types import TracebackType
from typing import Final, Literal, Self

import msgspec

from counterfoil.ledger.entry import Entry
from counterfoil.sdk.reply import dollars
from counterfoil.usage.usage import Usage, total_of

__all__ = ["Dimension", "Meter", "Part", "meter", "open_meters"]

Dimension = Literal["model", "provider", "key", "route", "user", "exit"]

_DIMENSIONS: Final[Mapping[str, Callable[[Entry], str | None]]] = {
    "model": lambda entry: entry.opening.model,
    "provider": lambda entry: entry.opening.provider,
    "key": lambda entry: entry.opening.key,
    "route": lambda entry: entry.opening.route,
    "user": lambda entry: entry.opening.user,
    "exit": lambda entry: entry.exit.value,
}

_around: ContextVar[tuple[Meter, ...]] = ContextVar("counterfoil_meters")
_lock: Final = threading.Lock()
_open: Final[list[Meter]] = []
"""All open meters of the process, in the order they were opened."""


class Part(msgspec.Struct, frozen=True):
    """Some entries and what they amount to."""

    entries: tuple[Entry, ...] = ()

    @property
    def usage(self) -> Usage:
        """The sum; unknown where some attempt that ran has unknown usage."""
        return total_of(entry.usage for entry in self.entries if entry.lines)

    @property
    def cost(self) -> Decimal | None:
        """US dollars, exact; None when any attempt is unpriced."""
        costs = [entry.cost for entry in self.entries]
        known = [cost for cost in costs if cost is not None]
        return dollars(sum(known)) if len(known) == len(costs) else None


class Meter:
    """Collects the entries of the calls made inside it. It can be read at any time, also after its end."""

    def __init__(self) -> None:
        self.unattributed = 0
        """Calls from threads without a context that may have been meant for this meter, or for another one."""
        self._entries: list[Entry] = []
        self._before: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        """Threads that were there before it was opened."""
        self.around: tuple[Meter, ...] = ()
        """The meters that it was opened in."""
        self._token: Token[tuple[Meter, ...]] | None = None

    def __enter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError("this meter is open already")
        self.around = _around.get(())
        self._token = _around.set((*self.around, self))
        self._before = weakref.WeakSet(threading.enumerate())
        with _lock:
            _open.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            with contextlib.suppress(ValueError):  # left in another context than entered: a generator, a fixture
                _around.reset(token)
        with _lock, contextlib.suppress(ValueError):
            _open.remove(self)

    def saw_start(self, thread: threading.Thread) -> bool:
        """Whether `thread` was started while this meter was open."""
        return thread not in self._before

    def add(self, entry: Entry) -> None:
        """Count an entry. Called for every call inside; also for entries of your own."""
        self._entries.append(entry)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """One for each attempt, in the order they ended."""
        return tuple(self._entries.copy())

    @property
    def usage(self) -> Usage:
        """The sum; unknown where some attempt that ran has unknown usage."""
        return Part(self.entries).usage

    @property
    def cost(self) -> Decimal | None:
        """US dollars, exact; None when any attempt is unpriced."""
        return Part(self.entries).cost

    def by(self, dimension: Dimension) -> dict[str, Part]:
        """Usage, cost and entries by the provider's model, by provider, key, route, user or exit.

        What has none (a call without a key) is under the empty string. Raises ValueError for another word.
        """
        name_of = _DIMENSIONS.get(dimension)
        if name_of is None:
            raise ValueError(f"{dimension!r} is not one of {', '.join(_DIMENSIONS)}")
        groups: dict[str, list[Entry]] = {}
        for entry in self.entries:
            groups.setdefault(name_of(entry) or "", []).append(entry)
        return {name: Part(tuple(entries)) for name, entries in groups.items()}


def meter() -> Meter:
    """A meter for the calls made inside it: `with counterfoil.meter() as m: ...`, then `m.usage`, `m.cost`, `m.by()`.

    The meter is for all clients of the process, sync and async.
    """
    return Meter()


def open_meters() -> tuple[Meter, ...]:
    """The meters a call made here and now counts in."""
    around = _around.get(None)
    if around is not None:
        return around
    if not _open:
        return ()
    thread = threading.current_thread()
    with _lock:
        could = [one for one in _open if one.saw_start(thread)]
        within = {id(outer) for one in could for outer in one.around}
        innermost = [one for one in could if id(one) not in within]
        sure = [one for one in could if all(one is inner or one in inner.around for inner in innermost)]
        for one in could:
            one.unattributed += one not in sure
    return tuple(sure)
