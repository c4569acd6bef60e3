"""The journal: attempts are written down as they happen, so that a killed process loses none.

Rule 1: a call returns when its record is with the system (one plain `write`), so `kill -9` cannot lose it. A power cut
can lose what was not yet synchronised: at most `interval` seconds, see `Fsync` and the README of this package.
Rule 2: `open` fails when the record cannot be written, since nothing may be sent that is not written down. `progress`
and `close` never fail: what they owe is kept, tried again, and health is red until it is paid.
Rule 3: a segment goes away only when every entry closed in it is committed elsewhere and every open attempt in it has
been carried into a later one.

One process writes `<id>-<number>.journal` files and holds a lock on each while it lives.
"""

from __future__ import annotations

import errno
import os
import threading
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import StrEnum
from itertools import count, islice
from pathlib import Path
from typing import Final

import msgspec

from counterfoil.ledger.entry import Entry, Opening, Progress
from counterfoil.ledger.store import BooksUnavailable
from counterfoil.stores.health import HEALTHY, Health
from counterfoil.stores.lock import flush_to_disk
from counterfoil.stores.record import entry_body, opening_body, progress_body
from counterfoil.stores.segment import Contents, Kind, frame_record, read_segment
from counterfoil.stores.segment_file import SegmentFile, create_segment, sync_directory

__all__ = ["Fsync", "Journal", "JournalSettings"]

_FILLER: Final = bytes([Kind.FILLER]) + bytes(8 << 10)  # larger than what is left in a file's last block
_CARRIED_AT_ONCE: Final = 256


class Fsync(StrEnum):
    """When records are forced to the disk. It matters for power cuts only."""

    INTERVAL = "interval"
    """In groups, off the caller's thread. A power cut loses at most the last `interval` seconds."""
    ALWAYS = "always"
    """Before `open` and `close` return: nothing is lost, each call waits for the disk (150 us to milliseconds)."""
    NEVER = "never"
    """When the system likes to: half a minute, usually."""


class JournalSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the journal is kept."""

    fsync: Fsync = Fsync.INTERVAL
    interval: float = 0.2
    """Seconds between synchronisations, and between attempts to write what could not be written."""
    segment_bytes: int = 16 << 20
    """A segment that grew by so much is followed by a new one."""


class _Open:
    """The records an open attempt needs in every segment."""

    __slots__ = ("opening", "progress")

    def __init__(self, opening: bytes) -> None:
        self.opening = opening
        self.progress: bytes | None = None


class Journal:
    """One process' journal in `directory`, which is made if it is missing. Raises OSError when it cannot be.

    Threads may share it. `write` stands in for `os.write` in tests.
    """

    def __init__(
        self,
        directory: Path,
        settings: JournalSettings | None = None,
        *,
        write: Callable[[int, bytes], int] = os.write,
        sync: Callable[[int], None] = flush_to_disk,
    ) -> None:
        self.directory = directory
        self._settings = settings or JournalSettings()
        self._write = write
        self._sync = sync
        process = uuid.uuid4().hex
        self._names = (f"{process}-{number:06d}" for number in count(1))
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        self._owed: dict[str, bytes] = {}
        self._where: dict[str, SegmentFile] = {}
        self._sealed: list[SegmentFile] = []
        self._write_fault: str | None = None
        self._sync_fault: str | None = None
        self._shut = False
        self._always = self._settings.fsync is Fsync.ALWAYS
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._current = self._create()
        self._next_rotation = self._current.size + self._settings.segment_bytes
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._wake.set()
        self._thread = threading.Thread(target=self._tend_until_stopped, name="counterfoil-journal", daemon=True)
        self._thread.start()

    # The caller's thread.

    def open(self, opening: Opening) -> None:
        """Write an opening down. Raises BooksUnavailable; then nothing of it is in the journal."""
        body = opening_body(opening)
        with self._lock:
            if self._shut:
                raise BooksUnavailable("the books are shut")
            try:
                if self._owed:
                    self._pay()
                self._append(body, sync=self._always)
            except OSError as error:
                raise BooksUnavailable(self._red(error)) from error
            self._write_fault = None
            self._open[opening.attempt] = _Open(body)

    def progress(self, progress: Progress) -> None:
        """Write down what an attempt amounts to so far. Never raises; the last one counts."""
        body = progress_body(progress)
        if body is None:
            return
        with self._lock:
            held = self._open.get(progress.attempt)
            if held is None or self._shut:
                return
            held.progress = body
            try:
                self._append(body)
            except OSError as error:
                self._red(error)
            owed = self._owed.get(progress.attempt)
            if owed is None or owed[0] == Kind.PROGRESS:  # never in place of an entry
                if self._write_fault is None:
                    self._owed.pop(progress.attempt, None)
                else:
                    self._owed[progress.attempt] = body

    def close(self, entry: Entry) -> Entry:
        """Write an entry down. Never raises. Gives the entry as written: raw reports that do not fit are left out."""
        entry, body = entry_body(entry)
        attempt = entry.opening.attempt
        with self._lock:
            if body is None or self._shut:
                self._write_fault = (
                    "an entry came after the books were shut" if self._shut else "an entry cannot be encoded"
                )
                return entry
            try:
                if self._owed:
                    self._pay()
                self._append(body, sync=self._always)
            except OSError as error:
                self._red(error)
                self._owed[attempt] = body
            else:
                self._write_fault = None
                self._settled(attempt)
        return entry

    def committed(self, attempts: Iterable[str]) -> None:
        """Their entries are in the database."""
        with self._lock:
            for attempt in attempts:
                if self._owed.pop(attempt, None) is not None:
                    self._open.pop(attempt, None)
                segment = self._where.pop(attempt, None)
                if segment is not None:
                    segment.pending -= 1

    def sweep(self, make_durable: Callable[[], None]) -> None:
        """Delete the segments that are needed no more.

        `make_durable` is called first, when there are any: it returns when what was committed would survive a power
        cut. Whatever it raises is passed on, and nothing is deleted.
        """
        with self._lock:
            if not self._sealed or (self._current.new and self._settings.fsync is not Fsync.NEVER):
                return  # what was carried into the current segment is not on the disk yet
            done = [segment for segment in self._sealed if not segment.pending]
        if not done:
            return
        make_durable()
        with self._lock:
            self._sealed = [segment for segment in self._sealed if segment not in done]
        for segment in done:
            segment.delete()

    def entries(self, attempts: Iterable[str]) -> list[Entry]:
        """Read closed entries back from this process' own segments; those that are there."""
        with self._lock:
            paths = [segment.path for segment in (*self._sealed, self._current)]
            owed = [body for body in self._owed.values() if body[0] == Kind.ENTRY]
        contents = Contents()
        for path in paths:
            with suppress(FileNotFoundError):
                read_segment(path.read_bytes(), contents)
        for body in owed:
            entry = msgspec.json.decode(body[1:], type=Entry)
            contents.entries[entry.opening.attempt] = entry
        return [contents.entries[attempt] for attempt in attempts if attempt in contents.entries]

    def health(self) -> Health:
        """Red while something could not be written or synchronised."""
        with self._lock:
            faults = [fault for fault in (self._write_fault, self._sync_fault) if fault is not None]
            if not faults:
                return HEALTHY
            owed = f"; records that are only in memory: {len(self._owed)}" if self._owed else ""
            return Health(False, "; ".join(faults) + owed)

    def shut(self, make_durable: Callable[[], None]) -> None:
        """Write what is owed, synchronise, and leave. When nothing in the segments is needed, they are deleted.

        `make_durable`: as for `sweep`. What it raises is passed on, after leaving.
        """
        with self._lock:
            if self._shut:
                return
        self._stop.set()
        self._wake.set()
        self._thread.join()
        self._tend()
        with self._lock:
            self._shut = True
            segments, self._sealed = [*self._sealed, self._current], []
            idle = not self._open and not self._where and not self._owed
        try:
            if idle:
                make_durable()
                for segment in segments:
                    segment.path.unlink(missing_ok=True)
        finally:
            for segment in segments:
                os.close(segment.descriptor)

    # Under the lock.

    def _append(self, body: bytes, *, sync: bool = False) -> None:
        """One record into the current segment, whole or not at all. Raises OSError."""
        if (segment := self._current).broken or segment.size >= self._next_rotation:
            self._rotate()
            segment = self._current
        record = frame_record(segment.marker, body)
        if not os.fstat(segment.descriptor).st_nlink:  # what goes into a deleted file dies with this process
            raise OSError(errno.ENOENT, "its file was deleted; start the gateway again")
        try:
            written = self._write(segment.descriptor, record)
            if written != len(record):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sync:
                self._sync(segment.descriptor)
        except OSError:
            self._take_back(segment)
            raise
        segment.size += written
        if not segment.dirty:
            segment.dirty = True
            self._wake.set()

    def _take_back(self, segment: SegmentFile) -> None:
        try:
            os.ftruncate(segment.descriptor, segment.size)
        except OSError:
            segment.broken = True  # a reader skips the half record; the next write starts a new segment

    def _pay(self) -> None:
        """Write what is owed. Raises OSError, and keeps what is still owed."""
        for attempt, body in list(self._owed.items()):
            self._append(body)
            del self._owed[attempt]
            if body[0] == Kind.ENTRY:
                self._settled(attempt)

    def _settled(self, attempt: str) -> None:
        """The attempt's entry is in the current segment."""
        self._open.pop(attempt, None)
        if attempt not in self._where:
            self._where[attempt] = self._current
            self._current.pending += 1

    def _red(self, error: OSError) -> str:
        self._write_fault = f"the journal cannot be written: {error.strerror or 'input/output error'}"
        self._wake.set()
        return self._write_fault

    def _rotate(self) -> None:
        """Go on in a new segment that begins with every attempt still open.

        Raises OSError only when the current segment cannot be used; otherwise a failure means going on in it.
        """
        try:
            segment = self._create()
        except OSError:
            self._next_rotation = self._current.size + self._settings.segment_bytes // 16
            if self._current.broken:
                raise
            return
        try:
            self._carry_into(segment)
        except OSError:
            segment.delete()
            self._next_rotation = self._current.size + self._settings.segment_bytes // 16
            if self._current.broken:
                raise
            return
        self._sealed.append(self._current)
        self._current = segment
        self._next_rotation = segment.size + self._settings.segment_bytes
        self._wake.set()

    def _carry_into(self, segment: SegmentFile) -> None:
        """Begin a segment with the attempts still open, in few large writes. Raises OSError."""
        records = (
            frame_record(segment.marker, body)
            for held in self._open.values()
            for body in (held.opening, held.progress)
            if body is not None
        )
        while group := b"".join(islice(records, _CARRIED_AT_ONCE)):
            if self._write(segment.descriptor, group) != len(group):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            segment.size += len(group)

    def _create(self) -> SegmentFile:
        """Raises OSError."""
        segment = create_segment(self.directory, self._names, self._write)
        if self._always:
            with suppress(OSError):  # the journal's thread does it again, and tells
                sync_directory(self.directory)
        return segment

    # The journal's own thread.

    def _tend_until_stopped(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._stop.wait(self._settings.interval)
            self._wake.clear()
            self._tend()

    def _tend(self) -> None:
        """Try again what failed, and force to the disk what was written."""
        with self._lock:
            if self._write_fault is not None or self._owed:
                self._try_again()
            if self._settings.fsync is Fsync.NEVER:
                return
            written = [segment for segment in (*self._sealed, self._current) if segment.dirty]
            fault = None
            work: list[tuple[SegmentFile, int]] = []
            for segment in written:
                try:
                    work.append((segment, os.dup(segment.descriptor)))  # stays valid when the segment is closed
                    segment.dirty = False
                except OSError as error:
                    fault = _unsynchronised(error)
        for segment, descriptor in work:
            try:
                self._sync(descriptor)
                if segment.new:
                    sync_directory(self.directory)
                    segment.new = False
            except OSError as error:
                segment.dirty = True
                fault = _unsynchronised(error)
            finally:
                os.close(descriptor)
        with self._lock:
            if fault is not None:
                if self._sync_fault is None:
                    # After a failed fsync the system may call the lost pages clean: go on in a new segment.
                    self._next_rotation = 0
                self._wake.set()
            self._sync_fault = fault

    def _try_again(self) -> None:
        try:
            self._pay()
            self._append(_FILLER)
            self._current.size -= len(frame_record(self._current.marker, _FILLER))
            self._take_back(self._current)
        except OSError as error:
            self._red(error)
        else:
            self._write_fault = None


def _unsynchronised(error: OSError) -> str:
    return f"the journal cannot be synchronised: {os.strerror(error.errno or errno.EIO)}"
