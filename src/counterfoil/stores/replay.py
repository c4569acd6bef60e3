"""What dead processes left in their journals, put into the books.

Rule 1: the segments of one process are read together, and only when all of them can be locked: then it is dead.
Rule 2: a segment is deleted after what it holds is committed and durable. Doing it all again changes nothing.
Rule 3: nothing is lost silently. A half record at the end is normal (the process died writing it) and is counted. A
segment damaged in the middle gives what can be read of it, on both sides of the damage, and is then kept beside the
others as `.corrupt`, as is one with an entry the database refuses. A segment of a newer program is not touched.

An attempt found open gets an entry with exit `crashed`, settled from its last progress.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

import msgspec

from counterfoil.ledger.entry import Entry, Exit, Line, Opening, Progress
from counterfoil.ledger.store import EntryStore
from counterfoil.stores.append import append_all
from counterfoil.stores.lock import take_lock
from counterfoil.stores.segment import Contents, SegmentUnreadable, read_segment
from counterfoil.usage.reading import NO_READING
from counterfoil.usage.settle import Delivered, SettledLine, settle
from counterfoil.usage.usage import Bucket, Provenance

__all__ = ["OpenAttempt", "Pricing", "Replayed", "crashed_entry", "open_and_unflushed", "priced", "replay"]

Pricing = Callable[[Opening, tuple[SettledLine, ...], float], tuple[Line, ...]]
"""Prices the settled lines of an attempt at a time (Unix seconds)."""

_BATCH: Final = 500
_LOOKS: Final = 20
_KEPT: Final = ".corrupt"


class Replayed(msgspec.Struct, frozen=True):
    """What a replay found and did."""

    segments: int = 0
    """Read and done with."""
    entries: int = 0
    """Closed entries found in them; most are usually in the database already."""
    crashed: tuple[str, ...] = ()
    """Attempts that were still open."""
    torn_bytes: int = 0
    kept_aside: tuple[Path, ...] = ()
    """Damaged segments, under their new names."""
    notes: tuple[str, ...] = ()
    """What an operator should know, one sentence each."""

    def __add__(self, other: Replayed) -> Replayed:
        """Both."""
        return Replayed(
            self.segments + other.segments,
            self.entries + other.entries,
            self.crashed + other.crashed,
            self.torn_bytes + other.torn_bytes,
            self.kept_aside + other.kept_aside,
            self.notes + other.notes,
        )


class OpenAttempt(msgspec.Struct, frozen=True):
    """An attempt that has no entry yet: running, or left by a process that died and was not replayed."""

    opening: Opening
    progress: Progress | None = None


def replay(
    directory: Path, store: EntryStore, pricing: Pricing, make_durable: Callable[[], None] = lambda: None
) -> Replayed:
    """Put every dead process' journal in `directory` into `store`.

    `make_durable` returns when what the store committed would survive a power cut; segments are deleted after it.
    Raises what the store raises, and OSError; whatever was not committed stays where it is. Several processes may do
    this at once.
    """
    done = Replayed()
    _sweep_unborn(directory)
    for paths in _processes(directory):
        held = _locked(paths)
        if held is None:
            continue
        try:
            done += _replay_process(held, store, pricing, make_durable)
        finally:
            for _, descriptor in held:
                os.close(descriptor)
    return done


def open_and_unflushed(directory: Path) -> tuple[list[Entry], list[OpenAttempt]]:
    """Closed entries still in journals, and attempts that have none, each oldest first. Takes no lock.

    Read this first and the database after it: an entry may move from here to there at any moment, never back. Then an
    attempt the database holds is closed, whatever is said here. Raises OSError when the directory cannot be read.
    """
    processes = _looked_at(directory)
    entries = [entry for contents in processes for entry in contents.entries.values()]
    attempts = [OpenAttempt(*attempt) for contents in processes for attempt in contents.still_open()]
    entries.sort(key=lambda entry: (entry.opening.opened, entry.opening.attempt))
    attempts.sort(key=lambda attempt: (attempt.opening.opened, attempt.opening.attempt))
    return entries, attempts


def crashed_entry(opening: Opening, progress: Progress | None, pricing: Pricing) -> Entry:
    """The entry of an attempt whose process died, from the last that was written of it."""
    reading = NO_READING if progress is None else progress.reading
    delivered = Delivered() if progress is None else progress.delivered
    if delivered.input is None:
        delivered = msgspec.structs.replace(delivered, input=opening.input_estimate)
    closed = opening.opened if progress is None else max(opening.opened, progress.at)
    settled = settle(reading, opening.convention, ended=False, delivered=delivered)
    guessed = settled.usage.provenance.get(Bucket.OUTPUT) is Provenance.ESTIMATED
    return Entry(
        opening,
        closed,
        Exit.CRASHED,
        priced(pricing, opening, settled.lines, closed),
        reading,
        delivered if settled.usage.estimated else None,
        settled.finality,
        settled.discrepancies,
        settled.provider_total,
        # What came after the last progress was seen by nobody who is still here.
        settled.lower_bound or guessed,
        detail="the gateway died before this attempt ended",
        total_ms=(closed - opening.opened) * 1000,
    )


def priced(pricing: Pricing, opening: Opening, lines: tuple[SettledLine, ...], at: float) -> tuple[Line, ...]:
    """`pricing`'s lines; unpriced ones if it raises, since pricing cannot fail an entry (DESIGN 4.3.5)."""
    try:
        return pricing(opening, lines, at)
    except Exception:  # noqa: BLE001 - injected code; the entry matters more than its price, and can be re-priced
        return tuple(Line(line.model or opening.model, line.kind, line.usage, waived=line.waived) for line in lines)


def _looked_at(directory: Path) -> list[Contents]:
    """What each process' segments hold. If one goes away meanwhile, the next has what was open in it: look again."""
    for last in (False,) * (_LOOKS - 1) + (True,):
        found: list[Contents] = []
        gone = False
        for paths in _processes(directory):
            found.append(Contents())
            for path in paths:
                try:
                    read_segment(path.read_bytes(), found[-1])
                except FileNotFoundError:
                    gone = True
                except SegmentUnreadable:
                    continue
        if last or not gone:
            break
    return found


def _processes(directory: Path) -> Iterator[list[Path]]:
    """The segments in `directory`, of one process at a time, in the order they were written."""
    paths = sorted(directory.glob("*-*.journal"))
    for _, group in groupby(paths, key=lambda path: path.stem.rpartition("-")[0]):
        yield list(group)


def _locked(paths: list[Path]) -> list[tuple[Path, int]] | None:
    """All of them locked; None when any cannot be, or is gone: its process lives, or another replay has them."""
    held: list[tuple[Path, int]] = []
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            break
        held.append((path, descriptor))
        if not take_lock(descriptor) or not _is_at(descriptor, path):
            break
    else:
        return held
    for _, descriptor in held:
        os.close(descriptor)
    return None


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the locked file is still the one of that name: another replay may have deleted it before we got it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _replay_process(
    held: list[tuple[Path, int]], store: EntryStore, pricing: Pricing, make_durable: Callable[[], None]
) -> Replayed:
    contents = Contents()
    damaged: list[Path] = []
    read: list[Path] = []
    notes: list[str] = []
    for path, descriptor in held:
        before = len(contents.damage)
        try:
            read_segment(_whole(descriptor), contents)
        except SegmentUnreadable as error:
            if error.newer:
                # Its process' other segments are left too: this one may hold how their attempts ended.
                return Replayed(notes=(f"{path}: {error}; it is left for that program",))
            contents.damage.append(str(error))
        (damaged if len(contents.damage) > before else read).append(path)
        notes += (f"{path}: {what}" for what in contents.damage[before:])
    crashed = [crashed_entry(opening, progress, pricing) for opening, progress in contents.still_open()]
    found = [*contents.entries.values(), *crashed]
    refused: dict[str, str] = {}
    for start in range(0, len(found), _BATCH):
        refused |= append_all(store, found[start : start + _BATCH])
    if refused:
        damaged += read
        read = []
        notes += (f"the database refuses entry {attempt} ({reason})" for attempt, reason in refused.items())
    make_durable()
    for path in read:
        path.unlink(missing_ok=True)
    return Replayed(
        len(held),
        len(contents.entries),
        tuple(entry.opening.attempt for entry in crashed),
        contents.torn,
        tuple(path.rename(path.with_name(path.name + _KEPT)) for path in damaged),
        tuple(notes),
    )


def _whole(descriptor: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as file:
        return file.read()


def _sweep_unborn(directory: Path) -> None:
    """Delete segments that were never given their name; nothing was written to them."""
    for path in directory.glob("*.new"):
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            if take_lock(descriptor):
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
