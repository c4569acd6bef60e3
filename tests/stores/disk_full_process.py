"""A process whose files may not grow beyond a limit (RLIMIT_FSIZE), as on a full disk; then the limit is lifted.

    python -m tests.stores.disk_full_process DIRECTORY

It prints how many openings were taken before the first was refused, and fails if any promise is broken.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

from counterfoil.ledger.store import BooksUnavailable
from counterfoil.stores.books import open_books
from tests.stores.samples import entry_of, opening_of, pricing, progress_of
from tests.stores.writing_process import database_in

_LIMIT = 256 << 10


def main() -> None:
    books = open_books(database_in(Path(sys.argv[1])), pricing)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LIMIT, hard))
    number = 0
    refused = ""
    while not refused:
        number += 1
        try:
            books.open(opening_of(number))
        except BooksUnavailable as error:
            refused = str(error)
        else:
            books.progress(progress_of(number))
    taken = number - 1
    for one in range(1, taken + 1):
        books.close(entry_of(one))
    health = books.health()
    assert not health.ok, "health is green on a full disk"
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    deadline = time.monotonic() + 30
    while not books.health().ok:
        assert time.monotonic() < deadline, f"still red: {books.health().reason}"
        time.sleep(0.01)
    books.open(opening_of(number))
    books.close(entry_of(number))
    assert books.shut(30), "not everything was flushed"
    print(taken, refused)  # noqa: T201 - this process' result


if __name__ == "__main__":
    main()
