"""A gateway that kills itself with SIGKILL at a named point: the real program, with one thread of fate woven in.

`python doomed.py POINT:NUMBER serve --config ...` dies the NUMBERth time it comes to POINT:

    open.before, open.after, progress.before, progress.after, close.before, close.after    a journal write
    frame.after                                                                            bytes given to a client

`none:0` never dies by itself.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from counterfoil.cli import main
from counterfoil.driver.drive import Run
from counterfoil.stores.journal import Journal

POINTS = (
    *(f"{write}.{side}" for write in ("open", "progress", "close") for side in ("before", "after")),
    "frame.after",
)


class Fate:
    """Counts down to the end."""

    def __init__(self, point: str, number: int) -> None:
        self._point, self._left = point, number

    def comes_to(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


def weave(fate: Fate) -> None:
    """Let the journal's writes and the deliveries pass by fate."""

    def around(name: str, write: Callable[..., Any]) -> Callable[..., Any]:
        def woven(*arguments: Any) -> Any:
            fate.comes_to(f"{name}.before")
            result = write(*arguments)
            fate.comes_to(f"{name}.after")
            return result

        return woven

    for name in ("open", "progress", "close"):
        setattr(Journal, name, around(name, getattr(Journal, name)))
    deliver = Run._interruptible

    async def woven_deliver(self: Run, command: Any) -> Any:
        answer = await deliver(self, command)
        if type(command).__name__ == "Deliver":
            fate.comes_to("frame.after")
        return answer

    Run._interruptible = woven_deliver  # type: ignore[method-assign]  # the thread of fate


if __name__ == "__main__":
    point, _, number = sys.argv[1].partition(":")
    weave(Fate(point, int(number)))
    sys.exit(main(sys.argv[2:]))
