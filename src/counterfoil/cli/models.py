"""`counterfoil models`: what clients can ask for with this configuration and environment."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from counterfoil.cli.failure import ExitCode
from counterfoil.cli.output import print_json, print_line, print_note, print_table
from counterfoil.cli.places import add_books
from counterfoil.cli.setup import gather_or_refuse

if TYPE_CHECKING:
    from counterfoil.driver.discover import Found
    from counterfoil.driver.listing import Listed
    from counterfoil.server.setup import Setup

__all__ = ["DESCRIPTION", "EXAMPLES", "ServedModel", "arrange", "print_models", "run", "served_models"]

DESCRIPTION = """\
The model names a gateway with this configuration would serve: routes that are
configured, and what was found here (secrets in the environment, the embedded
model, servers on this machine). Providers that were found are asked what they
serve; one that does not answer is named, and takes any of its models all the
same. With a WORD, every name that holds it."""
EXAMPLES = """\
  counterfoil models
  counterfoil models openai/
  counterfoil models --config gateway.yaml --offline --json"""

_PATIENCE: Final = 15.0
"""Seconds for all lists together."""


class ServedModel(msgspec.Struct, frozen=True):
    """A name clients can use, and where it leads, in order of preference."""

    name: str
    deployments: tuple[str, ...]
    """Each `provider/model`."""
    dialects: tuple[str, ...]


def arrange(parser: argparse.ArgumentParser) -> None:
    add_books(parser)
    parser.add_argument("word", nargs="?", metavar="WORD", help="only names that hold it")
    parser.add_argument("--offline", action="store_true", help="ask no provider for its list")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(arguments: argparse.Namespace) -> int:
    setup = gather_or_refuse(arguments)
    for warning in setup.warnings:
        print_note(f"warning: {warning}")
    lists = () if arguments.offline else _ask(setup)
    for listed in lists:
        if listed.problem is not None:
            print_note(f"{listed.provider} could not be asked for its models: {listed.problem}")
    word = arguments.word
    # Without a word, a person is shown what was configured or found and how much else there is, not 400 lines of it.
    all_names = arguments.json or word is not None
    models = served_models(setup, lists if all_names else ())
    models = [one for one in models if word is None or word.lower() in one.name.lower()]
    if arguments.json:
        for model in models:
            print_json(model)
    elif word is not None and not models:
        print_note(f"No name here holds {word!r}. `counterfoil models` lists what is served.")
    elif word is not None:
        print_table(("model", "served by"), [(one.name, ", then ".join(one.deployments)) for one in models])
    else:
        print_models(setup, models, lists)
    if word is not None:
        return ExitCode.DONE if models else ExitCode.WRONG
    return ExitCode.DONE if models or setup.discovered.found else ExitCode.WRONG


def served_models(setup: Setup, lists: Iterable[Listed] = ()) -> list[ServedModel]:
    """The names that can be listed."""
    models = []
    for public in setup.names.listed(lists):
        deployments = setup.names.resolve(public.name).deployments
        models.append(
            ServedModel(
                public.name,
                tuple(f"{one.provider.name}/{one.model}" for one in deployments),
                tuple(one.dialect.name for one in deployments),
            )
        )
    return models


def print_models(setup: Setup, models: list[ServedModel], lists: Sequence[Listed] = ()) -> None:
    """Names and where they lead, then providers that serve any model of theirs."""
    if models:
        print_table(("model", "served by"), [(one.name, ", then ".join(one.deployments)) for one in models])
    listed = {one.provider: one for one in lists}
    for found in setup.discovered.found:
        if not found.models:
            print_line(_any_of(found, listed.get(found.provider)))
    if not models and not setup.discovered.found:
        print_note("Nothing is served. Set a provider's key (`counterfoil providers`), or: counterfoil local install")


def _any_of(found: Found, listed: Listed | None) -> str:
    said = f"{found.title} ({found.detail}): any of its models, as {found.provider}/NAME"
    if listed is None or not listed.models:
        return said
    count = len(listed.models) + listed.left_off
    return f"{said}; it lists {count:,} (counterfoil models {found.provider}/)"


def _ask(setup: Setup) -> tuple[Listed, ...]:
    """What providers list, as far as they say it in time."""
    from counterfoil.driver.listing import Catalogue
    from counterfoil.transport.http import AiohttpTransport

    async def asking() -> tuple[Listed, ...]:
        transport = AiohttpTransport()
        catalogue = Catalogue(transport, setup.secrets.reveal)
        catalogue.follow(setup.names.asked())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await catalogue.refresh()
            return catalogue.lists()
        finally:
            await transport.close()

    return asyncio.run(asking()) if setup.names.asked() else ()
