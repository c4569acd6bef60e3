"""The parts of the documentation that the code knows better: `python docs/generate.py` writes them anew.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`. `tests/test_docs.py` fails when one is stale.
"""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import msgspec.inspect as shape

import counterfoil.cli
from counterfoil.cli.command import COMMANDS
from counterfoil.config import (
    ClientGone,
    Config,
    CorsConfig,
    DeploymentConfig,
    Estimates,
    KeysConfig,
    LedgerConfig,
    Limits,
    ListenConfig,
    PassthroughConfig,
    Retries,
    RouteConfig,
    StaticKey,
    Timeouts,
)
from counterfoil.dialects.anthropic_messages.relay import REPAIRS as MESSAGES_REPAIRS
from counterfoil.dialects.dialect import Dialect, Quirks
from counterfoil.dialects.openai_chat.repairs import REPAIRS as CHAT_REPAIRS
from counterfoil.dialects.registry import DIALECTS
from counterfoil.driver.deployment import load_table
from counterfoil.providers.facts import FaceFacts, ProviderFacts, facts_of
from counterfoil.providers.listing import Listing
from counterfoil.providers.provider import Auth, Face, Provider
from counterfoil.providers.table import convention_table
from counterfoil.server.metrics import Counter, Gauge, Histogram, Metrics

__all__ = ["PARTS", "main", "rewritten"]

_FOLDER: Final = Path(__file__).resolve().parent
_PART: Final = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

_GROUPS: Final[tuple[tuple[str, type[msgspec.Struct]], ...]] = (
    ("", Config),
    ("models.NAME", RouteConfig),
    ("models.NAME[]", DeploymentConfig),
    ("keys", KeysConfig),
    ("keys.static[]", StaticKey),
    ("passthrough.NAME", PassthroughConfig),
    ("cors", CorsConfig),
    ("ledger", LedgerConfig),
    ("listen", ListenConfig),
    ("limits", Limits),
    ("timeouts", Timeouts),
    ("retries", Retries),
    ("client_gone", ClientGone),
    ("estimates", Estimates),
)
_UNITS: Final[Mapping[str, str]] = {"Seconds": "seconds", "Bytes": "bytes", "Limits.headers": "bytes"}
"""By the annotation's name, or by struct and field."""


def table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(heads), *lines[1:]]) + "\n"


# ---- structs and what is written under their fields


class _Field(msgspec.Struct, frozen=True):
    name: str
    annotation: str
    text: str
    info: shape.Field


def _fields(struct: type[msgspec.Struct]) -> Iterator[_Field]:
    """The fields of a struct with the docstring each has in the source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(struct))).body[0]
    assert isinstance(body, ast.ClassDef)  # noqa: S101 - a struct is a class
    said: dict[str, tuple[str, str]] = {}
    last = ""
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
            said[last] = (ast.unparse(node.annotation), "")
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and last:
            said[last] = (said[last][0], " ".join(str(node.value.value).split()))
            last = ""
        else:
            last = ""
    info = shape.type_info(struct)
    assert isinstance(info, shape.StructType)  # noqa: S101 - as above
    for field in info.fields:
        yield _Field(field.name, *said[field.name], field)


def _kind(kind: shape.Type) -> str:
    """A type as a person would say it, with its bounds."""
    match kind:
        case shape.UnionType(types=types):
            known = [_kind(one) for one in types if not isinstance(one, shape.NoneType)]
            return " or ".join(dict.fromkeys(known))
        case shape.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case shape.BoolType():
            return "true or false"
        case shape.StrType():
            return "text"
        case shape.IntType() | shape.FloatType():
            return "number" + _bounds(kind)
        case shape.DictType():
            return "names and values"
        case shape.VarTupleType(max_length=most):
            return "list" + (f", up to {most}" if most else "")
        case shape.Metadata(type=inner):
            return _kind(inner)
        case shape.StructType():
            return "keys, below"
    return type(kind).__name__


def _bounds(kind: shape.IntType | shape.FloatType) -> str:
    least = f"above {kind.gt:g}" if kind.gt is not None else _size(int(kind.ge)) if kind.ge is not None else ""
    most = _size(int(kind.le)) if kind.le is not None else ""
    return f", {least} to {most}" if least and most else f", {least or most}" if least or most else ""


def _default(field: shape.Field, *, bare: bool = False) -> str:
    if field.required:
        return "must be given"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if isinstance(value, msgspec.Struct):
        return "as below"
    if value is None or value in ((), {}, frozenset()):
        return "none"
    if isinstance(value, tuple):
        return ", ".join(f"`{one}`" for one in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"`{value}`" if value else "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if bare else _size(value)


def _size(number: int) -> str:
    """A number as it is typed; large round ones of bytes also as they are said."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= 1024 and number % unit == 0:
            return f"{number} ({number // unit} {name})"
    return str(number)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def configuration() -> str:
    """Every key a person can write, by group."""
    parts = []
    for place, struct in _GROUPS:
        title = f"### `{place}`" if place else "### The file"
        about = " ".join((inspect.getdoc(struct) or "").split())
        parts.append(f"{title}\n\n{about}\n\n{table(('key', 'value', 'default', 'meaning'), _keys(struct))}")
    return "\n".join(parts)


def _keys(struct: type[msgspec.Struct]) -> Iterator[tuple[str, ...]]:
    for field in _fields(struct):
        unit = _UNITS.get(field.annotation) or _UNITS.get(f"{struct.__name__}.{field.name}")
        kind = _kind(field.info.type)
        kind = kind.replace("number", unit, 1) if unit else kind
        yield f"`{field.name}`", kind, _default(field.info, bare=unit != "bytes"), _cell(field.text)


def _meanings(struct: type[msgspec.Struct]) -> str:
    rows = ((f"`{field.name}`", _default(field.info), _meaning(field)) for field in _fields(struct))
    return table(("field", "default", "meaning"), rows)


def _meaning(field: _Field) -> str:
    """Its docstring, or its type where the name says it all."""
    return _cell(field.text or f"`{field.annotation}`")


def dialect_verbs() -> str:
    """What a dialect's folder offers."""
    return table(("verb", "shape and meaning"), ((f"`{one.name}`", _meaning(one)) for one in _fields(Dialect)))


# ---- tables of the code


def conventions() -> str:
    """Provider by convention."""
    return convention_table(load_table(), {name: dialect.convention for name, dialect in DIALECTS.items()})


def providers() -> str:
    """Who speaks what, at a glance."""
    return table(
        ("provider", "speaks", "for", "proven by"), (line for facts in _all_facts() for line in _glance(facts))
    )


def provider_details() -> str:
    """Each provider in full."""
    return "\n".join(_details(facts) for facts in _all_facts())


def _all_facts() -> Iterator[ProviderFacts]:
    return (facts_of(row, DIALECTS) for row in load_table().values())


def _glance(facts: ProviderFacts) -> Iterator[tuple[str, ...]]:
    name = f"[`{facts.name}`](#{_anchor(facts)})"
    for face in facts.faces:
        yield name, f"[`{face.dialect}`]({face.link})", face.operation, _proof(face)
        name = ""


_PATTERN: Final = re.compile(r"[^\s,]*[*\[][^\s,:]*")


def _as_code(found: re.Match[str]) -> str:
    return f"`{found[0]}`"


def _anchor(facts: ProviderFacts) -> str:
    return re.sub(r"[^\w\- ]", "", facts.name.lower())


def _proof(face: FaceFacts) -> str:
    return ", ".join(f"`{one}`" for one in face.evidence) if face.verified else "unverified"


def _details(facts: ProviderFacts) -> str:
    moved = f", moved by {_codes(facts.moved_by)}" if facts.moved_by else ""
    address = f"<{facts.address}>" if facts.address.startswith("http") and "{" not in facts.address else facts.address
    said = [f"- address: {_code(address)}{moved}", f"- secret: {facts.secret}"]
    said += [f"- try first: `{facts.try_first}`"] if facts.try_first else []
    said += [f"- meant by a bare {' or '.join(map(_code, facts.names))}"] if facts.names else []
    said += ["- its own list of models is asked for"] if facts.lists_models else []
    said.append(f"- price: {_price(facts)}")
    for face in facts.faces:
        said += [f"- `{face.dialect}`, {face.operation}: {_face(face)}"]
        said += [f"  - {_PATTERN.sub(_as_code, departure)}" for departure in face.departures]
    return f"### {facts.name}\n\n{facts.title}\n\n" + "\n".join(said) + "\n"


def _price(facts: ProviderFacts) -> str:
    if facts.free:
        return "free"
    return f"`{facts.price_id}` in the list" if facts.price_id else "in no list"


def _face(face: FaceFacts) -> str:
    posted = f", posted to `{face.path}`" if face.path is not None else ""
    proof = f"proven by {_proof(face)}" if face.verified else "unverified"
    return f"{proof}{posted} ([page]({face.link}))"


def _code(text: str) -> str:
    return text if text.startswith(("<", "on ")) else f"`{text}`"


def _codes(names: tuple[str, ...]) -> str:
    return ", ".join(map(_code, names))


def chat_repairs() -> str:
    """The repair table of the chat dialect."""
    return table(("row", "what is mended", "why"), ((one.name, one.mends, one.cites) for one in CHAT_REPAIRS))


def messages_repairs() -> str:
    """The repair table of the messages dialect."""
    return table(("where", "into", "why"), ((one.where, one.into, one.cites) for one in MESSAGES_REPAIRS))


def metrics() -> str:
    """What `GET /metrics` shows."""
    found: list[tuple[str, ...]] = []
    shown = Metrics(lambda: 0, lambda: True)
    families = [value for value in vars(shown).values() if isinstance(value, Counter | Histogram)]
    gauges = [one for value in vars(shown).values() if isinstance(value, tuple) for one in value]
    for family in (*families, *(one for one in gauges if isinstance(one, Gauge))):
        labels = () if isinstance(family, Gauge) else family.labels
        found.append((f"`{family.name}`", ", ".join(f"`{one}`" for one in labels), family.help))
    return table(("metric", "labels", "meaning"), iter(found))


def commands() -> str:
    """Every command: what it does, and examples of it."""
    parts = []
    for heading, group in COMMANDS.items():
        parts.append(f"## {heading}\n")
        for name, summary in group.items():
            module = importlib.import_module(f"counterfoil.cli.{name}")
            about = " ".join(module.DESCRIPTION.split())
            examples = re.sub(r"(\S) {3,}(?=\S)", r"\1  # ", textwrap.dedent(module.EXAMPLES).strip("\n"))
            parts.append(f"### `counterfoil {name}`: {summary}\n\n{about}\n\n```bash\n{examples}\n```\n")
    return "\n".join(parts)


def exit_codes() -> str:
    """What the process returns."""
    text = (counterfoil.cli.__doc__ or "").partition("Exit codes:")[2]
    rows = (line.split(None, 1) for line in text.strip().splitlines())
    return table(("code", "meaning"), ((code, meaning.strip()) for code, meaning in rows))


PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "conventions": conventions,
    "providers": providers,
    "provider-details": provider_details,
    "chat-repairs": chat_repairs,
    "messages-repairs": messages_repairs,
    "configuration": configuration,
    "provider-fields": functools.partial(_meanings, Provider),
    "face-fields": functools.partial(_meanings, Face),
    "auth-fields": functools.partial(_meanings, Auth),
    "listing-fields": functools.partial(_meanings, Listing),
    "quirks": functools.partial(_meanings, Quirks),
    "dialect-verbs": dialect_verbs,
    "metrics": metrics,
    "commands": commands,
    "exit-codes": exit_codes,
}
"""By the name in the marker."""


def rewritten(text: str) -> str:
    """A page with its generated parts written anew. Raises KeyError for a part that nobody makes."""

    def part(found: re.Match[str]) -> str:
        return f"{found[1]}\n{PARTS[found[2]]().strip()}\n\n{found[3]}"

    return _PART.sub(part, text)


def main(arguments: list[str] | None = None) -> int:
    """Rewrite every page; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="say what is stale, write nothing")
    check: Any = parser.parse_args(arguments).check
    stale = 0
    for page in sorted(_FOLDER.rglob("*.md")):
        before = page.read_text(encoding="utf-8")
        now = rewritten(before)
        if now == before:
            continue
        stale += 1
        sys.stdout.write(f"{'stale' if check else 'written'}: {page.relative_to(_FOLDER.parent)}\n")
        if not check:
            page.write_text(now, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
