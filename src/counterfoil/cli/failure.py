"""How a command ends, and the one exception that ends it."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CommandError", "ExitCode"]


class ExitCode(IntEnum):
    """What a process returns; `counterfoil.cli` says what each means."""

    DONE = 0
    WRONG = 1
    USAGE = 2
    CONFIGURATION = 3
    UNREACHABLE = 4
    PARTIAL = 5
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class CommandError(Exception):
    """An expected error: `what` happened, in a sentence, and what to do next, in another."""

    def __init__(self, what: str, remedy: str = "", *, code: ExitCode = ExitCode.WRONG) -> None:
        super().__init__(f"{what} {remedy}".strip())
        self.code = code
