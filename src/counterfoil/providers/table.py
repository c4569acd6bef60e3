"""The table of providers: its text to rows, and rows to the table people read.

Rule 1: the table is data. A row that cannot be right (an unknown dialect, no link, no evidence) is refused when it is
read, by its name. Rule 2: no IO. Who loads the packaged text is `driver/deployment.py`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from counterfoil.providers.provider import EMBEDDED, UNVERIFIED, Provider
from counterfoil.usage.reading import Counter
from counterfoil.usage.settle import Convention

__all__ = ["TableError", "convention_table", "is_base_url", "matching", "proven_by", "read_table"]


class TableError(ValueError):
    """A table that cannot be trusted; the message says which row and why."""


def read_table(text: str, dialects: Mapping[str, object]) -> Mapping[str, Provider]:
    """The rows of `providers.toml` by name, in the file's order.

    `dialects`: the known ones by name. Raises TableError.
    """
    try:
        rows = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TableError(f"the table of providers is not TOML: {error}") from error
    table: dict[str, Provider] = {}
    for name, fields in rows.items():
        try:
            row = msgspec.convert({"name": name, **fields} if isinstance(fields, dict) else fields, Provider)
        except msgspec.ValidationError as error:
            raise TableError(f"{name}: {error}") from error
        problem = _problem(row, name, dialects)
        if problem:
            raise TableError(f"{name}: {problem}")
        table[name] = row
    return MappingProxyType(table)


def is_base_url(text: str) -> bool:
    """Whether provider paths can be put behind `text`: http or https, a host, no query, no fragment, no user."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    return (
        parts.scheme in ("http", "https") and bool(parts.hostname) and plain and text.isprintable() and " " not in text
    )


def matching(rows: Iterable[Provider], model: str) -> tuple[Provider, ...]:
    """The rows whose patterns mean `model` when a client names no provider."""
    return tuple(row for row in rows if row.means(model))


def proven_by(table: Mapping[str, Provider], recording: str) -> Provider | None:
    """The row of a recording's `dialect/provider`, as it is for that dialect: the first that names it as evidence."""
    faces = (row.face(dialect) for row in table.values() for dialect in row.dialects)
    return next((row for row in faces if recording in row.evidence), None)


def convention_table(table: Mapping[str, Provider], defaults: Mapping[str, Convention]) -> str:
    """Who counts how, as a Markdown table: each dialect, then the providers that count otherwise in it.

    `defaults`: each dialect's convention by its name.
    """
    lines = [
        "| dialect | provider | models | added to the input | added to the output | total is | evidence |",
        "|---|---|---|---|---|---|---|",
    ]
    for dialect, default in defaults.items():
        faces = [row.face(dialect) for row in table.values() if dialect in row.dialects]
        departing = [line for face in faces for line in _departures(face, default)]
        who = "all others" if departing else "all"
        lines += [_line(dialect, who, "all", default, ""), *departing]
    return "\n".join(lines) + "\n"


def _departures(face: Provider, default: Convention) -> list[str]:
    """A line for each of its conventions that is not its dialect's."""
    own = {rule.model: rule.convention for rule in face.model_rules if rule.convention not in (None, default)}
    evidence = ", ".join(f"`{one}`" if one != UNVERIFIED else one for one in face.evidence)
    who = f"[{face.title}]({face.link}) `{face.name}`"
    lines = [_line(face.dialect, who, f"`{model}`", one, evidence) for model, one in own.items() if one is not None]
    if face.convention is not None and face.convention != default:
        lines.append(_line(face.dialect, who, "others" if own else "all", face.convention, evidence))
    return lines


def _problem(row: Provider, name: str, dialects: Mapping[str, object]) -> str | None:
    """What is wrong with a row, or None."""
    checks: dict[str, Any] = {
        f"the table is called {name!r}, the row {row.name!r}": row.name == name,
        f"{row.dialect!r} is not a dialect": row.dialect in dialects,
        f"it speaks what is no dialect: {', '.join(row.speaks)}": all(name in dialects for name in row.speaks),
        "no link to its documentation": row.link.startswith("https://"),
        'no evidence: name recordings, or say "unverified"': bool(row.evidence),
        f"{row.base_url!r} is not a base URL": row.base_url in (None, EMBEDDED) or _is_place(str(row.base_url)),
        "a region's base URL that is none": all(map(_is_place, row.region_base_url.values())),
        "neither a base_url nor what one looks like": row.base_url or row.base_url_like,
        f"{row.path!r} does not begin with a slash": row.path is None or row.path.startswith("/"),
        "a path that names what is unknown": not any(map(_names_another, (row.path or "", row.stream_path or ""))),
        "its probe is not on this machine": row.probe is None or urlsplit(row.probe).hostname == "127.0.0.1",
        "an aws auth that names no service": row.auth.style != "aws" or bool(row.auth.service),
        "a header auth that names no header": row.auth.style != "header" or row.auth.header != "authorization",
        "its listing's path does not begin with a slash": row.listing is None or row.listing.path.startswith("/"),
        "a rule for models that says nothing": all(rule.convention or rule.quirks for rule in row.model_rules),
    }
    return next((problem for problem, holds in checks.items() if not holds), None)


def _is_place(base_url: str) -> bool:
    """Whether it is a base URL once its region and its project are known, and names nothing else."""
    filled = base_url.replace("{region}", "region").replace("{project}", "project")
    return is_base_url(filled) and "{model}" not in filled and not _names_another(filled)


def _names_another(text: str) -> bool:
    """Whether a place is left for something that no deployment says."""
    return re.search(r"\{(?!(model|region|project)\})", text) is not None


_INPUT_SIDE: Final = (Counter.CACHE_READ, Counter.CACHE_WRITE, Counter.INPUT_AUDIO, Counter.INPUT_IMAGE)
_OUTPUT_SIDE: Final = (Counter.REASONING,)
_WORDS: Final[Mapping[Counter, str]] = {
    Counter.CACHE_READ: "cache read",
    Counter.CACHE_WRITE: "cache write",
    Counter.INPUT_AUDIO: "audio",
    Counter.INPUT_IMAGE: "images",
    Counter.TOOL_INPUT: "what tools read",
}


def _line(dialect: str, who: str, models: str, convention: Convention, evidence: str) -> str:
    beside_input = [_word(counter) for counter in _INPUT_SIDE if counter not in convention.input_includes]
    if Counter.TOOL_INPUT in convention.total_is:  # the others never report it
        beside_input.append(_word(Counter.TOOL_INPUT))
    beside_output = [_word(counter) for counter in _OUTPUT_SIDE if counter not in convention.output_includes]
    if convention.hidden_reasoning:
        beside_output.append("reasoning, hidden in the total")
    total = [_word(counter) for counter in Counter if counter in convention.total_is]
    counted = (", ".join(beside_input) or "nothing", ", ".join(beside_output) or "nothing", " + ".join(total))
    if convention.no_model:
        counted = ("no model runs", "", "")
    cells = (f"`{dialect}`", who, models, *counted, evidence)
    return f"| {' | '.join(cells)} |"


def _word(counter: Counter) -> str:
    return _WORDS.get(counter, counter.value.replace("_", " "))
