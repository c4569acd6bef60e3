"""`counterfoil providers`: the table of providers, and which of them have a secret in this environment."""

from __future__ import annotations

import argparse
import os

import msgspec

from counterfoil.cli.failure import CommandError, ExitCode
from counterfoil.cli.output import print_json, print_line, print_table
from counterfoil.driver.deployment import load_table, secret_variable
from counterfoil.providers.provider import EMBEDDED, Provider

__all__ = ["DESCRIPTION", "EXAMPLES", "ProviderView", "arrange", "run"]

DESCRIPTION = """\
Every provider Counterfoil knows: its dialect, where it is, where its secret
comes from and whether one is set here (never the secret itself), and which
recordings prove how it counts. Any other server with an OpenAI-compatible
interface works too: write its base_url in the configuration."""
EXAMPLES = """\
  counterfoil providers
  counterfoil providers groq
  counterfoil providers --json | jq -r 'select(.secret_found).name'"""


class ProviderView(msgspec.Struct, frozen=True):
    """One provider. `secret_found`: the variable that holds its secret here, or None."""

    name: str
    title: str
    dialect: str
    base_url: str | None
    base_url_like: str | None
    secret_env: tuple[str, ...]
    secret_found: str | None
    callable: bool
    """False: its recordings can be metered, but it is not called by this version."""
    link: str
    evidence: tuple[str, ...]


def arrange(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="only this one, with all that is known of it")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(arguments: argparse.Namespace) -> int:
    table = load_table()
    if arguments.name is not None and arguments.name not in table:
        raise CommandError(f"There is no provider {arguments.name!r}.", "`counterfoil providers` lists them.")
    rows = table.values() if arguments.name is None else (table[arguments.name],)
    views = [_view(row) for row in rows]
    if arguments.json:
        for view in views:
            print_json(view)
    elif arguments.name is not None:
        for field, value in msgspec.structs.asdict(views[0]).items():
            shown = ", ".join(value) if isinstance(value, tuple) else value
            print_line(f"{field:<14} {'-' if shown is None else shown}")
    else:
        rows_shown = [(view.name, view.dialect, _secret(view), _address(view)) for view in views if view.callable]
        print_table(("provider", "dialect", "secret", "address"), rows_shown)
        metered = [view.name for view in views if not view.callable]
        if metered:
            print_line(f"\nonly metered so far: {', '.join(metered)}")
    return ExitCode.DONE


def _view(row: Provider) -> ProviderView:
    return ProviderView(
        row.name,
        row.title,
        row.dialect,
        row.base_url,
        row.base_url_like,
        row.secret_env,
        secret_variable(row, os.environ),
        not row.meter_only,
        row.link,
        row.evidence,
    )


def _secret(view: ProviderView) -> str:
    if view.secret_found is not None:
        return f"found ({view.secret_found})"
    return f"set {view.secret_env[0]}" if view.secret_env else "none needed"


def _address(view: ProviderView) -> str:
    if view.base_url == EMBEDDED:
        return "on this machine (counterfoil local)"
    return view.base_url or f"yours, like {view.base_url_like}"
