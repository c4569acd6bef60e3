"""From a command line to what a gateway serves by, and what of it a person is shown.

Rule: `serve`, `models` and `chat` gather in the same way, so that what is shown is what is served.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from counterfoil.cli.failure import CommandError, ExitCode
from counterfoil.cli.places import LEDGER_NAME, data_directory
from counterfoil.config import Config
from counterfoil.core.error import CounterfoilError
from counterfoil.driver.deployment import load_table

if TYPE_CHECKING:
    from counterfoil.server.setup import Setup

__all__ = [
    "SERVER_EXTRA",
    "gather",
    "gather_or_refuse",
    "ledger_of",
    "listed_names",
    "needs_server",
    "trial_model",
]

SERVER_EXTRA: Final = "Install it: pip install 'counterfoil[server]'"


def gather(arguments: argparse.Namespace) -> Setup:
    """Read everything anew. `arguments` has `config` and `data_dir`, and may have `host` and `port`.

    Raises CounterfoilError with a line for everything that is wrong. Looks for servers on this machine's usual ports,
    for a moment, where the configuration wants that.
    """
    from counterfoil.server.setup import load_setup

    def override(config: Config) -> Config:
        said = {"host": getattr(arguments, "host", None), "port": getattr(arguments, "port", None)}
        given = {name: value for name, value in said.items() if value is not None}
        return msgspec.structs.replace(config, listen=msgspec.structs.replace(config.listen, **given))

    return load_setup(arguments.config, data_dir=data_directory(arguments.data_dir), override=override)


def gather_or_refuse(arguments: argparse.Namespace) -> Setup:
    """`gather`, with errors a person can act on."""
    try:
        return gather(arguments)
    except CounterfoilError as error:
        lines = str(error).splitlines()
        text = lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} things are wrong:", *lines])
        raise CommandError(text, code=ExitCode.CONFIGURATION) from error
    except ModuleNotFoundError as error:
        raise needs_server(error) from error


def ledger_of(config: Config, data_dir: Path | None) -> Path:
    """The ledger database of a gateway with this configuration."""
    return Path(config.ledger.path) if config.ledger.path is not None else data_directory(data_dir) / LEDGER_NAME


def listed_names(setup: Setup) -> tuple[str, ...]:
    """The names that clients can be shown."""
    return tuple(public.name for public in setup.names.names())


def trial_model(setup: Setup) -> str | None:
    """A model name to try first; None when nothing is served."""
    names = listed_names(setup)
    if names:
        return names[0]
    table = load_table()
    first = ((one.provider, table[one.provider].try_first) for one in setup.discovered.found)
    return next((f"{provider}/{model}" for provider, model in first if model is not None), None)


def needs_server(error: ModuleNotFoundError) -> CommandError:
    """The error of a core install that is asked for what only the `server` extra can do."""
    name = (error.name or "").partition(".")[0]
    if not name or name == "counterfoil" or importlib.util.find_spec(name) is not None:
        raise error  # a defect of ours, not a missing extra
    return CommandError(f"This needs {name}, which is not installed.", SERVER_EXTRA, code=ExitCode.UNREACHABLE)
