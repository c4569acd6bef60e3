"""`counterfoil models`: what clients can ask for with this configuration and environment."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import msgspec

from counterfoil.cli.failure import ExitCode
from counterfoil.cli.output import print_json, print_line, print_note, print_table
from counterfoil.cli.places import add_books
from counterfoil.cli.setup import gather_or_refuse, listed_names

if TYPE_CHECKING:
    from counterfoil.server.setup import Setup

__all__ = ["DESCRIPTION", "EXAMPLES", "ServedModel", "arrange", "print_models", "run", "served_models"]

DESCRIPTION = """\
The model names a gateway with this configuration would serve: routes that are
configured, and what was found here (secrets in the environment, the embedded
model, servers on this machine)."""
EXAMPLES = """\
  counterfoil models
  counterfoil models --config gateway.yaml --json"""


class ServedModel(msgspec.Struct, frozen=True):
    """A name clients can use, and where it leads, in order of preference."""

    name: str
    deployments: tuple[str, ...]
    """Each `provider/model`."""
    dialects: tuple[str, ...]


def arrange(parser: argparse.ArgumentParser) -> None:
    add_books(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(arguments: argparse.Namespace) -> int:
    setup = gather_or_refuse(arguments)
    for warning in setup.warnings:
        print_note(f"warning: {warning}")
    models = served_models(setup)
    if arguments.json:
        for model in models:
            print_json(model)
    else:
        print_models(setup, models)
    return ExitCode.DONE if models or setup.discovered.found else ExitCode.WRONG


def served_models(setup: Setup) -> list[ServedModel]:
    """The names that can be listed."""
    models = []
    for name in listed_names(setup):
        deployments = setup.names.resolve(name).deployments
        models.append(
            ServedModel(
                name,
                tuple(f"{one.provider.name}/{one.model}" for one in deployments),
                tuple(one.dialect.name for one in deployments),
            )
        )
    return models


def print_models(setup: Setup, models: list[ServedModel]) -> None:
    """Names and where they lead, then providers that serve any model of theirs."""
    if models:
        print_table(("model", "served by"), [(one.name, ", then ".join(one.deployments)) for one in models])
    for found in setup.discovered.found:
        if not found.models:
            print_line(f"{found.title} ({found.detail}): any of its models, as {found.provider}/NAME")
    if not models and not setup.discovered.found:
        print_note("Nothing is served. Set a provider's key (`counterfoil providers`), or: counterfoil local install")
