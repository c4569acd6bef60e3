"""Counts again, on a thread of its own, what had to be estimated, and writes the difference as a correction.

Rule 1: nobody waits for it. The entry is written and the client has its reply before anything is counted here.
Rule 2: text is in memory only, within a limit for one attempt and one for all, and dropped as soon as it is counted.
What does not fit, what is offered too fast and what is left at the end keep the estimate made in line.
Rule 3: nothing here can hurt a request or the books. A process that dies loses corrections, never an entry.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from counterfoil.config import Estimates
from counterfoil.core.estimate import count_request
from counterfoil.core.operation import ChatRequest, CompleteRequest, EmbedRequest
from counterfoil.driver.vocabulary import Vocabularies, available, vocabulary_of
from counterfoil.exchange.transcript import Recount, Transcript
from counterfoil.ledger.correction import correction_of, is_estimated
from counterfoil.ledger.entry import Entry, Opening
from counterfoil.usage.settle import Delivered
from counterfoil.usage.usage import INPUT_BUCKETS, OUTPUT_BUCKETS

__all__ = ["TokenCorrector", "corrector_for", "count_again", "input_tokens"]

_QUEUED: Final = 10_000
"""Attempts that may wait; one more keeps its estimate."""
_PAUSE: Final = 0.001
"""Seconds between two pieces of a text, in which others have the interpreter."""

_log = logging.getLogger("counterfoil.driver")


def corrector_for(
    settings: Estimates,
    write: Callable[[Entry], None],
    *,
    new_id: Callable[[], str],
    wall: Callable[[], float],
    told: Callable[[Entry], None] = lambda _: None,
) -> TokenCorrector | None:
    """The corrector that the settings ask for; None when they ask for none, or when the library is not installed.

    `write` takes a correction down, as `LedgerBooks.correct` does; `told` hears of each that was written, on the
    corrector's thread.
    """
    if settings.tokenizer == "off" or not available():
        return None
    return TokenCorrector(settings, write, new_id=new_id, wall=wall, told=told)


class TokenCorrector:
    """A `Corrector`. Threads may share it; each process has its own."""

    def __init__(
        self,
        settings: Estimates,
        write: Callable[[Entry], None],
        *,
        new_id: Callable[[], str],
        wall: Callable[[], float],
        told: Callable[[Entry], None] = lambda _: None,
    ) -> None:
        self._limit = settings.max_bytes
        self._room = _SharedRoom(settings.total_bytes)
        self._write = write
        self._told = told
        self._new_id = new_id
        self._wall = wall
        self._vocabularies = Vocabularies(partial(time.sleep, _PAUSE))
        self._changed = threading.Condition()
        self._queue: deque[Recount] = deque()
        self._busy = False
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def held(self) -> int:
        """Bytes of text in memory now."""
        return self._room.taken

    def transcript(self, opening: Opening) -> Transcript | None:
        """Where the text of this attempt's reply is to be kept; None for a model without a known vocabulary."""
        if self._closed or vocabulary_of(opening.model) is None:
            return None
        return Transcript(self._room, self._limit)

    def offer(self, recount: Recount) -> None:
        """Count it when there is time. Never waits and never raises."""
        size = len(recount.body)
        if size > self._limit or not self._room.take(size):
            recount = msgspec.structs.replace(recount, body=b"")
        with self._changed:
            if not self._closed and len(self._queue) < _QUEUED:
                self._queue.append(recount)
                self._start()
                self._changed.notify_all()
                return
        self._let_go(recount)

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all that was offered is counted; False when it took longer than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._busy, timeout)

    def close(self, timeout: float = 2.0) -> bool:
        """Count what waits, for `timeout` seconds at most, and drop the rest. Whether nothing was dropped.

        When it returns nothing more is written, unless the text in hand takes longer than another `timeout`.
        """
        done = self.flush(timeout)
        with self._changed:
            self._closed = True
            left = list(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        for recount in left:
            self._let_go(recount)
        if self._thread is not None:
            self._thread.join(timeout)
        return done

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="counterfoil-corrector", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
                self._busy = True
                recount = self._queue.popleft()
            try:
                self._correct(recount)
            except Exception as error:  # noqa: BLE001 - the estimate stands; a message could quote the text
                _log.error("an estimate could not be counted again (%s)", type(error).__name__)
            finally:
                self._let_go(recount)
                del recount

    def _correct(self, recount: Recount) -> None:
        entry = recount.entry
        vocabulary = vocabulary_of(entry.opening.model)
        if vocabulary is None or entry.delivered is None:
            return
        counted = count_again(recount, entry.delivered, partial(self._vocabularies.count, vocabulary))
        correction = correction_of(
            entry,
            counted,
            recount.price,
            attempt=self._new_id(),
            estimator=self._vocabularies.estimator(vocabulary),
            at=self._wall(),
        )
        if correction is not None and not self._closed:
            self._write(correction)
            self._told(correction)

    def _let_go(self, recount: Recount) -> None:
        recount.transcript.drop()
        self._room.give_back(len(recount.body))


def count_again(recount: Recount, delivered: Delivered, count: Callable[[str], int]) -> Delivered:
    """`delivered` with what was estimated counted by `count`, as far as there is text to count."""
    if is_estimated(recount.entry, *OUTPUT_BUCKETS):
        delivered = recount.transcript.counted(delivered, count)
    if recount.body and is_estimated(recount.entry, *INPUT_BUCKETS):
        given = input_tokens(recount.dialect.read_request(recount.body), count)
        delivered = msgspec.structs.replace(delivered, input=delivered.input if given is None else given)
    return delivered


def input_tokens(request: object, count: Callable[[str], int]) -> int | None:
    """Tokens of a request whose texts are counted by `count`; None for one that is not counted so."""
    match request:
        case ChatRequest():
            tally = _Exact(count)
            count_request(request, tally)
            return tally.tokens
        case CompleteRequest(prompts=given) | EmbedRequest(inputs=given) if all(isinstance(one, str) for one in given):
            return sum(count(one) for one in given if isinstance(one, str))
        case _:
            return None


class _Exact:
    """`Counting` by a vocabulary."""

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count
        self.tokens = 0

    def add(self, text: str) -> None:
        self.tokens += self._count(text)

    def add_tokens(self, tokens: int) -> None:
        self.tokens += tokens


class _SharedRoom:
    """`Room` of a fixed size, in one process: the lock of a forked child may be held for ever."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._process = os.getpid()
        self._lock = threading.Lock()
        self.taken = 0

    def take(self, amount: int) -> bool:
        with self._lock:
            if self.taken + amount > self._size:
                return False
            self.taken += amount
            return True

    def give_back(self, amount: int) -> None:
        if self._process != os.getpid():
            return
        with self._lock:
            self.taken -= amount
