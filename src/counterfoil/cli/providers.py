"""`counterfoil providers`: the table of providers, and which of them have a secret in this environment."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from counterfoil.cli.failure import ExitCode, no_such_provider
from counterfoil.cli.output import print_json, print_line, print_table, shortened
from counterfoil.config import Config, DeploymentConfig
from counterfoil.dialects.registry import DIALECTS
from counterfoil.driver.deployment import DeploymentError, build_deployment, load_table, secret_variable
from counterfoil.providers.facts import FaceFacts, ProviderFacts, facts_of
from counterfoil.providers.provider import Provider
from counterfoil.transport.credential import shown

__all__ = ["DESCRIPTION", "EXAMPLES", "ProviderView", "arrange", "run"]

DESCRIPTION = """\
Every provider Counterfoil knows: the dialects it speaks, whether recordings
prove how it counts in each, where its secret comes from and whether one is
set here (never the secret itself). With a NAME, all that is known of one. Any
other server with an OpenAI-compatible interface works too: write its base_url
in the configuration."""
EXAMPLES = """\
  counterfoil providers
  counterfoil providers groq
  counterfoil providers --json | jq -r 'select(.ready == "yes").name'"""

Ready = Literal["yes", "no secret needed", "credentials are looked for", "no"]
_ORDER: Final[tuple[Ready, ...]] = ("yes", "no secret needed", "credentials are looked for", "no")
_WIDTH: Final = 98
_NEEDS: Final = 38


class ProviderView(msgspec.Struct, frozen=True):
    """One provider, here."""

    facts: ProviderFacts
    ready: Ready
    """Whether it can be called from here."""
    secret_env: tuple[str, ...]
    secret_found: str | None
    """The variable that holds its secret here; or what shows that there are credentials that can be fetched."""
    needs: str | None
    """What it takes to be ready."""


def arrange(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="only this one, with all that is known of it")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(arguments: argparse.Namespace) -> int:
    table = load_table()
    if arguments.name is not None and arguments.name not in table:
        raise no_such_provider(arguments.name, table)
    rows = table.values() if arguments.name is None else (table[arguments.name],)
    views = [_view(row) for row in rows]
    if arguments.json:
        for view in views:
            # One flat object: what is known of it anywhere, then what holds here.
            here = {name: value for name, value in msgspec.structs.asdict(view).items() if name != "facts"}
            print_json(msgspec.structs.asdict(view.facts) | here)
    elif arguments.name is not None:
        _print_one(views[0])
    else:
        _print_all(views)
    return ExitCode.DONE


def _view(row: Provider) -> ProviderView:
    found = secret_variable(row, os.environ) or shown(row.auth, os.environ)
    facts = facts_of(row, DIALECTS)
    try:
        # Whoever builds a deployment of it says best what is missing. The model's name is none.
        build_deployment(DeploymentConfig(provider=row.name, model="any"), Config(), load_table(), os.environ)
    except DeploymentError as error:
        return ProviderView(facts, "no", row.secret_env, found, error.message.removeprefix(f"{row.title} "))
    ready: Ready = "yes" if found is not None else "no secret needed" if row.keyless else "credentials are looked for"
    return ProviderView(facts, ready, row.secret_env, found, None)


def _print_all(views: list[ProviderView]) -> None:
    """What can be used comes first; a line for each dialect."""
    rows: list[tuple[str, str, str, str]] = []
    for view in sorted(views, key=lambda view: _ORDER.index(view.ready)):
        head = (view.facts.name, _here(view))
        for face in view.facts.faces:
            rows.append((head[0], face.dialect, "yes" if face.verified else "no", head[1]))
            head = ("", "")
    print_table(("provider", "speaks", "proven", "here"), rows)
    print_line(
        "\nproven: recordings show how it counts; the others are taken at the word of their documentation."
        "\n`counterfoil providers NAME` tells all of one, with its address."
    )


def _here(view: ProviderView) -> str:
    match view.ready:
        case "yes":
            return f"ready ({view.secret_found})"
        case "no":
            needs = view.needs or ""
            if needs.startswith("needs a secret") and view.secret_env:
                return f"set {view.secret_env[0]}"
            return shortened(needs.partition(",")[0].partition(":")[0], _NEEDS)
        case _:
            return view.ready


def _print_one(view: ProviderView) -> None:
    facts = view.facts
    print_line(f"{facts.name}: {facts.title}\n")
    lines = {
        "address": facts.address + (f" (moved by {', '.join(facts.moved_by)})" if facts.moved_by else ""),
        "secret": facts.secret,
        "here": view.needs or _here(view),
        "try first": facts.try_first,
        "meant by": ", ".join(facts.names),
        "models": "its own list is asked for" if facts.lists_models else None,
        "price": "free"
        if facts.free
        else f"the list's {facts.price_id}"
        if facts.price_id
        else "not in the price list",
    }
    for name, said in lines.items():
        if said:
            _print_wrapped(f"{name:<10}", said)
    for face in facts.faces:
        print_line()
        for line in _face_lines(face):
            _print_wrapped("", line)


def _face_lines(face: FaceFacts) -> Iterator[str]:
    yield f"{face.dialect} ({face.operation})"
    yield (
        f"  proven by {', '.join(face.evidence)}"
        if face.verified
        else "  unverified: no recording proves how it counts"
    )
    if face.path is not None:
        yield f"  posted to {face.path}"
    for said in face.departures:
        yield f"  - {said}"
    yield f"  {face.link}"


def _print_wrapped(head: str, text: str) -> None:
    indent = " " * (len(head) or len(text) - len(text.lstrip()) + 2)
    lines = textwrap.wrap(
        text, _WIDTH, initial_indent=head, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    for line in lines:
        print_line(line)
