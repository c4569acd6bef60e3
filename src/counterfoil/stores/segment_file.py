"""A journal segment as a file that is being written.

Rule 1: a segment is created and locked under another name (`.new`). A process that starts takes any unlocked
`.journal` for a dead one's, so none may ever be seen unlocked while its process lives.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from counterfoil.stores.lock import take_lock
from counterfoil.stores.segment import header_of

__all__ = ["SegmentFile", "create_segment", "sync_directory"]

_CREATE_ATTEMPTS: Final = 5


class SegmentFile:
    """One file being written, and how many of its entries are not yet committed."""

    def __init__(self, path: Path, descriptor: int, marker: bytes, size: int) -> None:
        self.path, self.descriptor, self.marker, self.size = path, descriptor, marker, size
        self.pending = 0
        self.dirty = True
        """Something in it was not synchronised."""
        self.new = True
        """Nothing of it was, not even its name."""
        self.broken = False
        """It ends in half a record that could not be taken back."""

    def delete(self) -> None:
        """Unlock after unlinking: whoever gets the lock finds the name gone."""
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


def create_segment(directory: Path, names: Iterator[str], write: Callable[[int, bytes], int]) -> SegmentFile:
    """A new, empty, locked segment under the first of `names` that works. Raises OSError."""
    for name in islice(names, _CREATE_ATTEMPTS):
        path = directory / f"{name}.journal"
        new = path.with_suffix(".new")
        descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o600)
        marker = os.urandom(3) + b"\xf5"  # a byte that no JSON text holds, and never all zero
        header = header_of(marker)
        try:
            if take_lock(descriptor) and write(descriptor, header) == len(header):
                new.rename(path)
                return SegmentFile(path, descriptor, marker, len(header))
        except FileNotFoundError:
            pass  # a starting process swept it away before it was locked
        except OSError:
            os.close(descriptor)
            new.unlink(missing_ok=True)
            raise
        os.close(descriptor)
        new.unlink(missing_ok=True)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sync_directory(directory: Path) -> None:
    """So that a new segment's name survives a power cut. Nothing is done where directories cannot be opened."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
