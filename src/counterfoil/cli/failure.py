"""How a command ends, and the one exception that ends it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

__all__ = ["CommandError", "ExitCode", "no_such_provider"]


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


def no_such_provider(name: str, known: Iterable[str], *, code: ExitCode = ExitCode.WRONG) -> CommandError:
    """The error for a provider nobody knows, with the nearest one."""
    from counterfoil.driver.written import close_names  # not before: help loads nothing that reads files

    near = close_names(name, known)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return CommandError(f"There is no provider {name!r}.", f"{hint}`counterfoil providers` lists them.", code=code)
