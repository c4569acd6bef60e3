"""Whose file it is: a lock that lives exactly as long as the process (or the last duplicate of the descriptor).

Rule 1: a lock is never waited for. It is taken or it is not.
Rule 2: the system releases it when the process dies, so a file that can be locked has no living writer.

`flock` where it exists. On Windows one byte far beyond the end of the file is locked instead, so that readers are not
hindered. The ledger must be on a local disk: network file systems keep neither these locks nor SQLite's promises.
"""

from __future__ import annotations

import os
import sys

__all__ = ["flush_to_disk", "take_lock"]

if sys.platform == "win32":  # pragma: no cover - best effort, see the README of this package
    import msvcrt

    _FAR = 1 << 40

    def take_lock(descriptor: int) -> bool:
        """Whether the file is now locked by this process."""
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def take_lock(descriptor: int) -> bool:
        """Whether the file is now locked by this process."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def flush_to_disk(descriptor: int) -> None:
    """Return when what was written has left the machine's memory. Raises OSError."""
    if sys.platform == "darwin":
        # fsync leaves data in the drive's cache there (fsync(2)); some file systems refuse the stronger call.
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError:
            os.fsync(descriptor)
    elif sys.platform == "linux":
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)
