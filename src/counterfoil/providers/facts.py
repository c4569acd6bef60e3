"""A row of the table in words: the same facts for the documentation, the command line and programs.

Rule: nothing is said here that the row does not say. A field nobody has words for is shown as it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from counterfoil.dialects.dialect import Dialect, Quirks
from counterfoil.providers.provider import EMBEDDED, Provider
from counterfoil.usage.reading import Counter
from counterfoil.usage.settle import Convention

__all__ = ["FaceFacts", "ProviderFacts", "convention_words", "facts_of", "quirk_words"]


class FaceFacts(msgspec.Struct, frozen=True):
    """One dialect of a provider."""

    dialect: str
    operation: str
    path: str | None
    """Where it departs from the dialect's."""
    verified: bool
    evidence: tuple[str, ...]
    departures: tuple[str, ...]
    """How it differs from the dialect, a sentence each."""
    link: str


class ProviderFacts(msgspec.Struct, frozen=True):
    """One row."""

    name: str
    title: str
    address: str
    secret: str
    faces: tuple[FaceFacts, ...]
    moved_by: tuple[str, ...]
    """Variables that say another address, region or project."""
    names: tuple[str, ...]
    """Patterns of model names that mean it when no provider is named."""
    try_first: str | None
    """As a client writes it."""
    lists_models: bool
    free: bool
    price_id: str | None


def facts_of(row: Provider, dialects: Mapping[str, Dialect[Any]]) -> ProviderFacts:
    """`dialects`: all that the row's can be, by name."""
    return ProviderFacts(
        row.name,
        row.title,
        _address(row),
        _secret(row),
        tuple(_face(row, row.face(name), dialects[name]) for name in row.dialects),
        (*row.base_url_env, *row.region_env, *row.project_env),
        row.models,
        f"{row.name}/{row.try_first}" if row.try_first else None,
        row.listing is not None or row.probe is not None,
        row.free,
        row.price_id,
    )


def _address(row: Provider) -> str:
    if row.base_url == EMBEDDED:
        return "on this machine (counterfoil local)"
    return row.base_url or f"yours, like {row.base_url_like}"


_CREDENTIALS: Final[Mapping[str, str]] = MappingProxyType(
    {"aws": "AWS credentials", "google": "Google credentials", "entra": "Microsoft Entra credentials"}
)


def _secret(row: Provider) -> str:
    if row.auth.style == "none":
        return "none"
    if row.keyless and not row.secret_env:
        return "none needed"
    names = " or ".join(row.secret_env) or "api_key"
    plain = row.auth.style == "bearer" or (row.auth.fetched and row.auth.header == "authorization")
    how = f"{names} as a bearer token" if plain else f"{names} in the header {row.auth.header}"
    if row.auth.fetched:
        return f"{how}, else {_CREDENTIALS.get(row.auth.style, row.auth.style)} as they are found"
    return f"none needed; {how} where it wants one" if row.keyless else how


def _face(row: Provider, face: Provider, dialect: Dialect[Any]) -> FaceFacts:
    said = [*convention_words(face.convention, dialect.convention), *quirk_words(face.quirks)]
    said += _rules_words(face, dialect.convention)
    if face is not row and face.base_url not in (None, row.base_url):
        said.insert(0, f"It is at {face.base_url}.")
    return FaceFacts(
        face.dialect, dialect.operation.value, face.path, face.verified, face.evidence, tuple(said), face.link
    )


def _rules_words(face: Provider, default: Convention) -> list[str]:
    """What holds for some models only: those of which the same is said, together."""
    models: dict[str, list[str]] = {}
    usual = quirk_words(face.quirks)
    for rule in face.model_rules:
        said = convention_words(rule.convention, default)
        said += [words for words in quirk_words(rule.quirks or face.quirks) if words not in usual]
        for words in said:
            models.setdefault(words, []).append(rule.model)
    return [f"{', '.join(patterns)}: {words}" for words, patterns in models.items()]


# ---- conventions

_PARTS: Final[Mapping[Counter, str]] = MappingProxyType(
    {
        Counter.CACHE_READ: "cache reads",
        Counter.CACHE_READ_AUDIO: "cached audio",
        Counter.CACHE_WRITE: "cache writes",
        Counter.INPUT_AUDIO: "audio",
        Counter.INPUT_IMAGE: "images",
        Counter.TOOL_INPUT: "what tools read",
        Counter.REASONING: "reasoning",
        Counter.OUTPUT_AUDIO: "spoken output",
        Counter.OUTPUT_IMAGE: "drawn output",
    }
)


def convention_words(convention: Convention | None, default: Convention) -> list[str]:
    """How a convention departs from its dialect's; nothing where it does not."""
    if convention is None or convention == default:
        return []
    said = []
    for whole, mine, usual in (
        ("input", convention.input_includes, default.input_includes),
        ("output", convention.output_includes, default.output_includes),
    ):
        said += [f"It counts {_list(usual - mine)} beside the {whole}, not in it."] if usual - mine else []
        said += [f"It counts {_list(mine - usual)} in the {whole}."] if mine - usual else []
    if convention.total_is != default.total_is:
        said.append(f"Its total is {' + '.join(_word(one) for one in Counter if one in convention.total_is)}.")
    if convention.hidden_reasoning and not default.hidden_reasoning:
        said.append("Reasoning is only in its total.")
    known = {"input_includes", "output_includes", "total_is", "hidden_reasoning"}
    return said + _others(convention, default, known)


def _word(counter: Counter) -> str:
    return _PARTS.get(counter, counter.value.replace("_", " "))


def _list(counters: frozenset[Counter]) -> str:
    """In the order of the counters: a set has none."""
    words = [_word(one) for one in Counter if one in counters]
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


# ---- quirks


def _refuses(fields: frozenset[str]) -> str:
    return f"It refuses {', '.join(sorted(fields))}."


_QUIRKS: Final[Mapping[str, Callable[[Any], str]]] = MappingProxyType(
    {
        "end": lambda end: f"A reply ends with {'its usage' if end == 'usage' else 'the end mark'}, finished or not.",
        "stream_options": lambda _: "It refuses stream_options; its streams carry usage unasked.",
        "continuous_usage": lambda _: "It can report usage with every frame, and is asked to.",
        "usage_per_choice": lambda _: "With n > 1 each choice has its own usage.",
        "max_tokens_field": lambda name: f"It knows the output bound as {name}.",
        "effort_none": lambda _: "It takes the effort none: thinking switched off.",
        "default_max_tokens": lambda bound: f"It demands an output bound: {bound} where the client gives none.",
        "dimensions_field": lambda name: f"It knows a vector's length as {name}.",
        "body_set": lambda fields: f"Its bodies carry {', '.join(f'{name}: {fields[name]}' for name in fields)}.",
        "body_without": lambda fields: f"Its bodies are without {', '.join(sorted(fields))}.",
        "signed_calls": lambda _: "It refuses a history whose tool calls lack its own proof.",
        "call_id_length": lambda length: f"It takes ids of tool calls only of {length} letters and digits.",
        "prefix": lambda _: "It takes a last message of the assistant's only as the answer's prefix.",
        "unsupported": _refuses,
    }
)
"""Words for a quirk that is not the dialect's way."""


def quirk_words(quirks: Quirks) -> list[str]:
    """What a provider does otherwise than its dialect, a sentence each."""
    said = []
    for field in quirks.__struct_fields__:
        value = getattr(quirks, field)
        if value != getattr(_USUAL, field) and field in _QUIRKS:
            said.append(_QUIRKS[field](value))
    return said + _others(quirks, _USUAL, set(_QUIRKS))


_USUAL: Final = Quirks()


def _others(value: msgspec.Struct, usual: msgspec.Struct, known: set[str]) -> list[str]:
    """Departures nobody has words for, as they are written."""
    said = []
    for field in value.__struct_fields__:
        mine = getattr(value, field)
        if field not in known and mine != getattr(usual, field):
            shown = ", ".join(sorted(map(str, mine))) if isinstance(mine, frozenset) else mine
            said.append(f"{field}: {shown}.")
    return said
