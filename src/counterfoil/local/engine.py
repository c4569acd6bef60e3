"""The embedded model as a supervised child process.

Rules of this room:
1. At most one child at a time, started on first use. A thread of its own starts it, waits for it and ends with it.
2. A child that died is started again by the next `ensure()`; one that keeps dying is left alone for a while, with a
   clear error.
3. A closed engine leaves no process. So does a killed parent: see `child.py`.
"""

import asyncio
import atexit
import contextlib
import importlib.util
import os
import secrets
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeAlias, assert_never

from counterfoil.local.errors import EngineClosed, EngineError, EngineFailed, EngineMissing, WeightsMissing
from counterfoil.local.process import CHILD_COMMAND, Address, Process
from counterfoil.local.weights import Weights, installed

__all__ = ["Engine", "Limits", "Shape"]


@dataclass(frozen=True, slots=True)
class Shape:
    """How the model is run: tokens that a slot can hold, replies at once, threads (None for a modest default)."""

    context: int = 4096
    slots: int = 2
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the supervisor puts up with. All but `starts` in seconds.

    `load`: from the process's start to its first healthy answer. `starts`: how many in a row may fail or die young.
    `steady`: what has lived that long did not die young. `pause`: before the second start in a row, doubling up to
    `longest_pause`. `rest`: how long a failed engine is left alone. `hang_up`: what a child may take to end by itself.
    """

    load: float = 60.0
    starts: int = 4
    steady: float = 30.0
    pause: float = 0.25
    longest_pause: float = 4.0
    rest: float = 30.0
    hang_up: float = 1.0


@dataclass(frozen=True, slots=True)
class _Down:
    pass


@dataclass(frozen=True, slots=True)
class _Starting:
    result: "Future[Address]"


@dataclass(frozen=True, slots=True)
class _Up:
    address: Address


@dataclass(frozen=True, slots=True)
class _Failed:
    reason: str
    until: float


@dataclass(frozen=True, slots=True)
class _Closed:
    pass


_State: TypeAlias = _Down | _Starting | _Up | _Failed | _Closed

_THREADS_AT_MOST: Final = 4  # more make a model of this size no faster and the machine no nicer
_KILLED_SECONDS: Final = 5.0
_open_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()


class Engine:
    """Runs `weights` (by default the installed ones) in a child process. Any thread and any event loop may use it."""

    def __init__(
        self,
        weights: Weights | None = None,
        *,
        shape: Shape | None = None,
        limits: Limits | None = None,
        command: Sequence[str] = CHILD_COMMAND,
    ) -> None:
        self._weights = weights
        self._shape = shape or Shape()
        self._limits = limits or Limits()
        self._command = tuple(command)
        self._lock = threading.Lock()
        self._state: _State = _Down()
        self._closing = threading.Event()
        self._process: Process | None = None
        self._keeper: threading.Thread | None = None
        self._owner = os.getpid()
        self._starts = 0
        self._failures = 0

    @property
    def pid(self) -> int | None:
        """The child's process id while there is one."""
        process = self._process
        return process.pid if process is not None else None

    @property
    def starts(self) -> int:
        """How many processes this engine has started so far."""
        return self._starts

    async def ensure(self) -> Address:
        """Where the model answers, starting it if need be. Concurrent calls share one start; giving up leaves it be.

        Raises WeightsMissing, GgufUnusable, EngineMissing, EngineFailed or EngineClosed.
        """
        state = self._state
        return state.address if isinstance(state, _Up) else await asyncio.wrap_future(self._begin())

    def ensure_blocking(self) -> Address:
        """`ensure` for callers without an event loop."""
        return self._begin().result()

    async def close(self) -> None:
        """End the child and refuse further use. Returns when the process is gone. May be called again."""
        await asyncio.to_thread(self.close_blocking)

    def close_blocking(self) -> None:
        """`close` for callers without an event loop; also run when the interpreter exits."""
        if os.getpid() != self._owner:  # a fork's copy must not end its parent's child
            return
        with self._lock:
            self._state = _Closed()
            self._closing.set()
            process, keeper = self._process, self._keeper
        if process is not None:
            process.hang_up()
        if keeper is not None and keeper is not threading.current_thread():
            keeper.join(self._limits.hang_up)
            if keeper.is_alive() and process is not None:
                process.kill()
            keeper.join(_KILLED_SECONDS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _begin(self) -> "Future[Address]":
        """The future address: known already, on its way, or begun here."""
        with self._lock:
            match self._state:
                case _Closed():
                    raise _closed()
                case _Starting(result):
                    return result
                case _Up(address):
                    known: Future[Address] = Future()
                    known.set_result(address)
                    return known
                case _Failed(reason, until) if time.monotonic() < until:
                    raise _failed(reason)
                case _Failed() | _Down():
                    return self._start()
                case never:
                    assert_never(never)

    def _start(self) -> "Future[Address]":
        """Called with the lock held."""
        weights = self._weights or installed()
        if weights is None:
            raise WeightsMissing("The local model is not installed.", "Run `counterfoil local install`.")
        if self._command == CHILD_COMMAND and importlib.util.find_spec("xllamacpp") is None:
            raise EngineMissing("The local model's engine is not installed.", "Run `pip install 'counterfoil[local]'`.")
        result: Future[Address] = Future()
        # Running futures cannot be cancelled, so a caller that gives up does not take the start from the others.
        result.set_running_or_notify_cancel()
        self._state = _Starting(result)
        self._keeper = threading.Thread(
            target=self._keep, args=(weights, result), name="counterfoil-model", daemon=True
        )
        _open_engines.add(self)
        self._keeper.start()
        return result

    def _keep(self, weights: Weights, result: "Future[Address]") -> None:
        """The life of one child, on a thread of its own: the tries to start it, its time, its end."""
        try:
            process, address = self._bring_up(weights)
        except EngineError as error:
            result.set_exception(error)
            return
        finally:
            # A fault of ours must not leave callers waiting; the thread's own hook reports it.
            if sys.exc_info()[0] is not None and not result.done():
                result.set_exception(_failed("The local model's supervisor failed."))
        born = time.monotonic()
        result.set_result(address)
        process.wait()
        with self._lock:
            self._process = None
            self._failures = 0 if time.monotonic() - born >= self._limits.steady else self._failures + 1
            if not isinstance(self._state, _Closed):
                self._state = _Down() if self._failures < self._limits.starts else self._give_up(process.obituary())

    def _bring_up(self, weights: Weights) -> tuple[Process, Address]:
        """Start children until one is ready. Raises EngineFailed when enough were tried, EngineClosed when closed."""
        while True:
            self._closing.wait(self._pause())
            begun = time.monotonic()
            process = self._launch(weights)
            address = process.await_ready(self._limits.load, self._closing.is_set) if process is not None else None
            with self._lock:
                if address is not None and process is not None and not isinstance(self._state, _Closed):
                    self._state = _Up(address)
                    return process, address
            last_words = "it could not be started"
            if process is not None:
                process.hang_up()
                process.wait()
                last_words = process.obituary()
            late = time.monotonic() - begun >= self._limits.load
            with self._lock:
                self._process = None
                self._failures += 1
                if isinstance(self._state, _Closed):
                    raise _closed()
                # What did not load within the limit will hardly do so at once, and its callers have waited long enough.
                if late or self._failures >= self._limits.starts:
                    words = f"it was not ready within {self._limits.load:g} s" if late else last_words
                    self._state = self._give_up(words)
                    raise _failed(self._state.reason)

    def _launch(self, weights: Weights) -> Process | None:
        """A started child, or None where the system refused. Not started once closed."""
        with self._lock:
            if isinstance(self._state, _Closed):
                return None
            settings = {
                "model": str(weights.path),
                "alias": weights.model_name,
                "context": self._shape.context,
                "slots": self._shape.slots,
                "threads": self._shape.threads or _modest_threads(),
            }
            self._starts += 1
            with contextlib.suppress(OSError):
                self._process = Process(settings, secrets.token_urlsafe(32), self._command)
            return self._process

    def _give_up(self, last_words: str) -> _Failed:
        """Called with the lock held. After the rest, one more start is tried."""
        failures, self._failures = self._failures, max(self._limits.starts - 1, 0)
        times = "once" if failures == 1 else f"{failures} times in a row"
        return _Failed(f"The local model failed {times}: {last_words}.", time.monotonic() + self._limits.rest)

    def _pause(self) -> float:
        limits = self._limits
        return min(limits.pause * 2.0 ** (self._failures - 1), limits.longest_pause) if self._failures else 0.0


def _closed() -> EngineClosed:
    return EngineClosed("The local model was closed.", "Start it anew with another Engine.")


def _failed(reason: str) -> EngineFailed:
    return EngineFailed(
        reason, "Free some memory, run `counterfoil local install` again, or choose another model with `--gguf`."
    )


def _modest_threads() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(usable or 1, _THREADS_AT_MOST)


@atexit.register
def _close_all() -> None:
    for engine in list(_open_engines):
        engine.close_blocking()
