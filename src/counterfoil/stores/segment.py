"""The journal's file format: records to bytes, and bytes, however damaged, to records.

Rule 1: pure. Files are opened, locked and deleted elsewhere.
Rule 2: a bad record hides no other. Every record starts with a marker drawn at random for its segment, so reading goes
on behind whatever cannot be read, and text that a client chose cannot pose as a record.
Rule 3: what is skipped is said: `torn` for bytes at the end (a process died while writing), `damage` for bytes or
records in the middle.

    segment   magic (8) | version (u32) | marker (4) | record...
    record    marker (4) | length (u32) | crc32 (u32) | kind (1) | body (JSON)

`length` and the checksum cover kind and body; the checksum is seeded with the marker. Numbers are little-endian. A body
is JSON: it holds integers of any size, which a provider may send, and a person can read it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final
from zlib import crc32

import msgspec

from counterfoil.ledger.entry import Entry, Opening, Progress

__all__ = [
    "HEADER_SIZE",
    "LARGEST_RECORD",
    "MAGIC",
    "VERSION",
    "Contents",
    "Kind",
    "SegmentUnreadable",
    "body_of",
    "frame_record",
    "header_of",
    "read_segment",
]

MAGIC: Final = b"\x89CFJ\r\n\x1a\n"
"""Like PNG's: a transfer that changes line ends, or stops at the first end-of-file character, breaks it visibly."""
VERSION: Final = 2
"""Raised when records begin to say what an older program would take for something else. 2: entries may be corrections,
and usage may hold units that are no tokens; format 1 is read as it is."""
_HEADER: Final = struct.Struct("<8sI4s")
_HEAD: Final = struct.Struct("<4sII")
HEADER_SIZE: Final = _HEADER.size
LARGEST_RECORD: Final = 1 << 20
"""Bytes of kind and body."""


class Kind(IntEnum):
    """What a record is. Never 0, which is what a file system leaves where nothing was written."""

    OPENING = 1
    PROGRESS = 2
    ENTRY = 3
    FILLER = 4
    """Written only to see whether the disk takes it again; skipped."""


class SegmentUnreadable(Exception):
    """The file is not a segment this program reads. `newer` when a later version of it wrote the file."""

    def __init__(self, reason: str, *, newer: bool = False) -> None:
        super().__init__(reason)
        self.newer = newer


@dataclass(slots=True)
class Contents:
    """What a segment, or the segments of one process in their order, amount to. Later records replace earlier ones."""

    openings: dict[str, Opening] = field(default_factory=dict)
    progress: dict[str, Progress] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    torn: int = 0
    """Bytes at the end that are no whole record."""
    damage: list[str] = field(default_factory=list)
    """What in the middle could not be read."""

    def still_open(self) -> Iterator[tuple[Opening, Progress | None]]:
        """The attempts opened and not closed, in the order of their opening."""
        for attempt, opening in self.openings.items():
            if attempt not in self.entries:
                yield opening, self.progress.get(attempt)


_ENCODE: Final = msgspec.json.Encoder().encode
_KIND_BYTES: Final = {kind: bytes([kind]) for kind in Kind}
_OPENING: Final = msgspec.json.Decoder(Opening)
_PROGRESS: Final = msgspec.json.Decoder(Progress)
_ENTRY: Final = msgspec.json.Decoder(Entry)


def header_of(marker: bytes) -> bytes:
    """The first bytes of a segment. `marker`: 4 random bytes, not all zero."""
    return _HEADER.pack(MAGIC, VERSION, marker)


def body_of(kind: Kind, value: Opening | Progress | Entry) -> bytes:
    """Kind and body of one record. Raises ValueError (UnicodeEncodeError) or TypeError for what JSON cannot hold."""
    return _KIND_BYTES[kind] + _ENCODE(value)


def frame_record(marker: bytes, body: bytes) -> bytes:
    """One record. `body` begins with its kind."""
    return _HEAD.pack(marker, len(body), crc32(body, int.from_bytes(marker, "little"))) + body


def read_segment(data: bytes, contents: Contents) -> None:
    """Add what `data`, a whole segment or the beginning of one, says to `contents`. Raises SegmentUnreadable."""
    if len(data) < HEADER_SIZE:
        if MAGIC.startswith(data[: len(MAGIC)]):
            contents.torn += len(data)
            return
        raise SegmentUnreadable("not a journal")
    magic, version, marker = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise SegmentUnreadable("not a journal")
    if version > VERSION:
        raise SegmentUnreadable(f"written by a newer program (format {version})", newer=True)
    torn_at: int | None = None
    for at, body in _records(data, marker):
        if torn_at is not None:
            contents.damage.append(f"{at - torn_at} bytes at {torn_at} are not records")
            torn_at = None
        if body is None:
            torn_at = at
            continue
        try:
            _take(body, contents)
        except (msgspec.MsgspecError, ValueError) as error:
            # Only the kind of error is told: the text could quote the record.
            contents.damage.append(f"the record at {at} cannot be read ({type(error).__name__})")
    if torn_at is not None and _died_writing(data[torn_at:], marker):
        contents.torn += len(data) - torn_at
    elif torn_at is not None:
        contents.damage.append(f"the last {len(data) - torn_at} bytes are not records")


def _records(data: bytes, marker: bytes) -> Iterator[tuple[int, bytes | None]]:
    """Bodies with where they stand; a None body starts a stretch that holds no record."""
    seed = int.from_bytes(marker, "little")
    at, lost = HEADER_SIZE, False
    while at < len(data):
        body = None
        if len(data) - at > _HEAD.size and data.startswith(marker, at):
            _, length, checksum = _HEAD.unpack_from(data, at)
            start = at + _HEAD.size
            if 0 < length <= LARGEST_RECORD and start + length <= len(data):
                body = data[start : start + length]
                if crc32(body, seed) != checksum:
                    body = None
        if body is not None:
            yield at, body
            at, lost = at + _HEAD.size + len(body), False
            continue
        if not lost:
            yield at, None
            lost = True
        following = data.find(marker, at + 1)
        if following < 0:
            return
        at = following


def _died_writing(tail: bytes, marker: bytes) -> bool:
    """Whether `tail` is the beginning of one record, or what a file system leaves where nothing was written."""
    if len(tail) < _HEAD.size:
        return marker.startswith(tail[: len(marker)]) or not any(tail)
    started, length, _ = _HEAD.unpack_from(tail)
    return (started == marker and len(tail) - _HEAD.size < length <= LARGEST_RECORD) or not any(tail)


def _take(body: bytes, contents: Contents) -> None:
    text = memoryview(body)[1:]
    match Kind(body[0]):
        case Kind.OPENING:
            opening = _OPENING.decode(text)
            contents.openings[opening.attempt] = opening
        case Kind.PROGRESS:
            progress = _PROGRESS.decode(text)
            contents.progress[progress.attempt] = progress
        case Kind.ENTRY:
            entry = _ENTRY.decode(text)
            contents.entries[entry.opening.attempt] = entry
        case Kind.FILLER:
            pass
