"""Values to bodies of journal records, within their limits.

Rule 1: an entry is never refused for its size. Raw reports, which a provider sizes, are left out and the entry says so.
Rule 2: an opening is refused: nothing has been sent yet.
"""

from __future__ import annotations

from typing import Final

import msgspec

from counterfoil.ledger.entry import Entry, Opening, Progress
from counterfoil.ledger.store import BooksUnavailable
from counterfoil.stores.segment import LARGEST_RECORD, Kind, body_of
from counterfoil.usage.reading import Reading

__all__ = ["LARGEST_OPENING", "entry_body", "opening_body", "progress_body"]

LARGEST_OPENING: Final = 256 << 10
"""Bytes. Smaller than a record, so that the entry which repeats the opening fits into one too."""
_UNENCODABLE: Final = (ValueError, TypeError, OverflowError, RecursionError, msgspec.MsgspecError)


def opening_body(opening: Opening) -> bytes:
    """Raises BooksUnavailable for what no record can hold."""
    try:
        body = body_of(Kind.OPENING, opening)
    except _UNENCODABLE as error:
        raise BooksUnavailable(f"the opening cannot be encoded: {type(error).__name__}") from error
    if len(body) > LARGEST_OPENING:
        raise BooksUnavailable(f"an opening of {len(body)} bytes is over the limit of {LARGEST_OPENING}")
    return body


def progress_body(progress: Progress) -> bytes | None:
    """None when it cannot be written even without its raw reports. Never raises."""
    body = _encoded(Kind.PROGRESS, progress)
    if body is None:
        body = _encoded(Kind.PROGRESS, msgspec.structs.replace(progress, reading=_lighter(progress.reading)))
    return body


def entry_body(entry: Entry) -> tuple[Entry, bytes | None]:
    """The entry as it can be written, and its body; None when nothing of it can be encoded. Never raises."""
    body = _encoded(Kind.ENTRY, entry)
    if body is None:
        size = sum(map(len, entry.reading.raw))
        detail = "; ".join(filter(None, (entry.detail, f"{size} bytes of raw reports were left out")))
        lighter = msgspec.structs.replace(entry, reading=_lighter(entry.reading), detail=detail)
        body = _encoded(Kind.ENTRY, lighter)
        return (entry, None) if body is None else (lighter, body)
    return entry, body


def _encoded(kind: Kind, value: Progress | Entry) -> bytes | None:
    try:
        body = body_of(kind, value)
    except _UNENCODABLE:
        return None
    return body if len(body) <= LARGEST_RECORD else None


def _lighter(reading: Reading) -> Reading:
    return msgspec.structs.replace(reading, raw=())
