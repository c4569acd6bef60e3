"""Which commands there are, and what happens around one of them.

Rule: a command's module is imported only when it is the one asked for, so that help is fast and the core install,
without the `server` and `local` extras, can do all that needs neither.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import re
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Final, NoReturn, Protocol, cast

from counterfoil import __version__
from counterfoil.cli.failure import CommandError, ExitCode

__all__ = ["COMMANDS", "CommandModule", "main", "parser_of"]

_PROGRAM: Final = "counterfoil"
_OPTION: Final = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


class CommandModule(Protocol):
    """What a command's module has."""

    DESCRIPTION: str
    EXAMPLES: str

    def arrange(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; returns an exit code. Raises CommandError."""
        ...


COMMANDS: Final[Mapping[str, Mapping[str, str]]] = {
    "Run": {
        "serve": "start the gateway",
        "chat": "talk to a model through the gateway, in the terminal",
        "demo": "one real chat with a local model, and its books; no API key",
    },
    "Books": {
        "entries": "what was called, an attempt a line, oldest first",
        "usage": "tokens and cost, by model, provider, key or day",
        "explain": "where every number of one entry comes from",
        "verify": "add the entries up again and compare with the totals",
        "meter": "read recorded exchanges as the gateway would: an auditor's tool",
    },
    "Set up": {
        "models": "what clients can ask for",
        "providers": "which providers are known, and which have a secret here",
        "prices": "show a model's price, update the price list",
        "local": "install the embedded model, show it, remove it",
    },
}
"""Commands by heading; each is the module of its name in this package."""

_SUMMARIES: Final = {name: summary for group in COMMANDS.values() for name, summary in group.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (those of the process by default); returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character is no reason to fail
            stream.reconfigure(errors="replace")
    try:
        code = _run(words)
        sys.stdout.flush()
    except CommandError as error:
        _say(f"{_PROGRAM}: {error}")
        return error.code
    except KeyboardInterrupt:
        _say("")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more at its end; what is left has no reader.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    return code


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    return _parser(name, _module(name))


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        if words[1:] and words[0] == "help":
            return _run([words[1], "--help"])
        sys.stdout.write(_overview())
        return ExitCode.DONE
    if words[0] in ("-V", "--version", "version"):
        sys.stdout.write(f"{_PROGRAM} {__version__}\n")
        return ExitCode.DONE
    name = words[0]
    if name not in _SUMMARIES:
        near = get_close_matches(name, _SUMMARIES, n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"`{_PROGRAM} --help` lists them."
        raise CommandError(f"There is no command {name!r}.", hint, code=ExitCode.USAGE)
    module = _module(name)
    try:
        parsed = _parser(name, module).parse_args(words[1:])
    except SystemExit:  # --help was told
        return ExitCode.DONE
    return module.run(parsed)


def _module(name: str) -> CommandModule:
    return cast("CommandModule", importlib.import_module(f"{__package__}.{name}"))


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in a sentence, and where the arguments are told, instead of telling all of them first."""

    def error(self, message: str) -> NoReturn:
        told = message if message.endswith((".", "?")) else f"{message}."
        raise CommandError(f"{self.prog.removeprefix(_PROGRAM).strip()}: {told}", self._lists(), code=ExitCode.USAGE)

    def parse_known_args(  # type: ignore[override]  # one signature for argparse's overloads
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse's, but what is left over is an error of the parser that knows its own options."""
        found, left = super().parse_known_args(args, namespace)
        option = next((word.partition("=")[0] for word in left if word.startswith("-")), None)
        if option is not None:
            near = get_close_matches(option, _OPTION.findall(self.format_usage()), n=1)
            self.error(f"there is no {option}.{f' Did you mean {near[0]}?' if near else ''}")
        if left:
            self.error(f"{left[0]!r} is one word too many")
        return found, left

    def _lists(self) -> str:
        return f"`{self.prog} --help` has all arguments."


def _parser(name: str, module: CommandModule) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"{_PROGRAM} {name}",
        description=module.DESCRIPTION,
        epilog=f"examples:\n{module.EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.arrange(parser)
    return parser


def _overview() -> str:
    lines = [
        f"usage: {_PROGRAM} COMMAND [...]",
        "",
        "An LLM gateway that keeps exact books: every token counted exactly once, and",
        "each number says who vouches for it.",
    ]
    for heading, group in COMMANDS.items():
        lines += ["", heading, *(f"  {name:<10} {summary}" for name, summary in group.items())]
    lines += [
        "",
        f"`{_PROGRAM} COMMAND --help` has the arguments of each, with examples.",
        f"`{_PROGRAM} serve` needs no configuration; it tells you what to try first.",
        "",
    ]
    return "\n".join(lines)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(text + "\n")
