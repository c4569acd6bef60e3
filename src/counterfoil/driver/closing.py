"""Closing what its owner forgot, on a thread of its own: the garbage collector may find it while a lock is held."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import Protocol

__all__ = ["Closable", "Closer"]


class Closable(Protocol):
    """What can be closed, as often as one likes."""

    def close(self) -> None: ...


class Closer:
    """Closes things one after the other. Whatever one of them raises, the next is closed."""

    def __init__(self) -> None:
        self._forgotten: queue.SimpleQueue[Closable] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def ready(self) -> None:
        """Have a thread. Called while nothing is being collected: a thread cannot be started from there."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="counterfoil-closer", daemon=True)
                self._thread.start()

    def close_soon(self, thing: Closable) -> None:
        """Safe to call from the garbage collector: so is the queue's `put`."""
        self._forgotten.put(thing)

    def forked(self) -> None:
        """In a child: the thread is the parent's, and a lock of the parent may be held for ever."""
        self._forgotten, self._lock, self._thread = queue.SimpleQueue(), threading.Lock(), None

    def _work(self) -> None:
        while True:
            with contextlib.suppress(Exception):
                self._forgotten.get().close()
