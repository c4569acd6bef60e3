"""Every path that is served: which door it is, and what it says itself.

Rule 1: a door is a row of a table, a path or a template with `{names}`. Nothing else compares paths.
Rule 2: a path is of one dialect, or its row says that the headers tell; also a path where nothing is served has one, so
that a client's library can read the refusal.

Which paths clients really ask for: https://platform.openai.com/docs/api-reference,
https://platform.claude.com/docs/en/api, https://ai.google.dev/api/all-methods, https://docs.cohere.com/reference/rerank,
https://learn.microsoft.com/en-us/azure/ai-foundry/openai/reference
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault
from counterfoil.dialects.anthropic_messages import ANTHROPIC_COUNT, ANTHROPIC_MESSAGES
from counterfoil.dialects.cohere import COHERE_RERANK
from counterfoil.dialects.dialect import ClientDialect
from counterfoil.dialects.gemini import GEMINI, GEMINI_COUNT, GEMINI_EMBED, Asked, asked_of, splice
from counterfoil.dialects.openai_chat import OPENAI_CHAT
from counterfoil.dialects.openai_completions import OPENAI_COMPLETIONS
from counterfoil.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from counterfoil.dialects.openai_responses import OPENAI_RESPONSES, OPENAI_RESPONSES_COUNT
from counterfoil.dialects.refusal import refused
from counterfoil.dialects.schema import UNREADABLE, encode, fields_of
from counterfoil.driver.passthrough import METHODS
from counterfoil.server.admin import live, ready, reload, show_metrics
from counterfoil.server.door import Door, Fill, Found, Place
from counterfoil.server.doors import answer_call
from counterfoil.server.models import list_models, show_model
from counterfoil.server.pages import home
from counterfoil.server.passthrough import PREFIX, pass_through
from counterfoil.server.receipts import show_receipt

__all__ = ["DOORS", "dialect_at", "find", "not_found"]

PATH_LIMIT: Final = 1024
"""Characters of a path with a name in it: four times the longest name. A pattern may take a square of them to fail."""
_SHOWN: Final = 100
"""Characters of a path that an error repeats."""


def _call(dialect: ClientDialect[Any], fill: Fill | None = None) -> Door:
    return Door({"POST": answer_call}, dialect, fill)


def _named(body: bytes, place: Place) -> bytes:
    """Azure's way: the deployment in the path is the model, whatever the body says."""
    try:
        fields: Mapping[str, object] = fields_of(body)
    except UNREADABLE as error:
        raise refused(error) from None
    return encode({**fields, "model": place.model})


def _asked(dialect: ClientDialect[Any]) -> Door:
    def fill(body: bytes, place: Place) -> bytes:
        return splice(body, Asked(dialect.name, place.model or "", bool(place.streamed), place.variant))

    return _call(dialect, fill)


_OPENAI: Final = ("/v1", "", "/openai/v1")
"""Where OpenAI's paths are looked for: below a base URL with `/v1`, without it, and below Azure's newer one."""
_UNNAMED: Final = (*_OPENAI, "/openai")
"""And below Azure's older one, where what is asked for names no deployment."""
_BARE: Final = ("/v1", "")
_CALLS: Final = (
    (_OPENAI, "/chat/completions", OPENAI_CHAT),
    (_OPENAI, "/completions", OPENAI_COMPLETIONS),
    (_OPENAI, "/embeddings", OPENAI_EMBEDDINGS),
    (_UNNAMED, "/responses", OPENAI_RESPONSES),
    (_UNNAMED, "/responses/input_tokens", OPENAI_RESPONSES_COUNT),
    (_BARE, "/messages", ANTHROPIC_MESSAGES),
    (_BARE, "/messages/count_tokens", ANTHROPIC_COUNT),
    ((*_BARE, "/v2"), "/rerank", COHERE_RERANK),
)
"""Calls whose body says everything: below what, at which path, in which dialect."""

_MODELS: Final = Door({"GET": list_models}, by_headers=True)
_GEMINI_MODELS: Final = Door({"GET": list_models}, GEMINI)
_MODEL: Final = Door({"GET": show_model}, by_headers=True)
_GEMINI_MODEL: Final = Door({"GET": show_model}, GEMINI)

DOORS: Final[Mapping[str, Door]] = MappingProxyType(
    {
        "/": Door({"GET": home}),
        **{base + path: _call(dialect) for bases, path, dialect in _CALLS for base in bases},
        **{f"{base}/models": _MODELS for base in _UNNAMED},
        "/v1beta/models": _GEMINI_MODELS,
        "/health/live": Door({"GET": live}),
        "/health/ready": Door({"GET": ready}),
        "/metrics": Door({"GET": show_metrics}),
        "/admin/reload": Door({"POST": reload}),
    }
)
"""Paths that are one door each."""

_GEMINI_CALLS: Final = {dialect.name: _asked(dialect) for dialect in (GEMINI, GEMINI_COUNT, GEMINI_EMBED)}


def _gemini(names: Mapping[str, str], query: str) -> Found | None:
    """A method of a model; which, and what it asks for, is the dialect's to say."""
    alt = _value(query, "alt") or _value(query, "$alt")  # both are Google's
    asked = asked_of(f"/{names['collection']}/{names['method']}", alt)
    if asked is None:
        return None
    door = _GEMINI_CALLS[asked.dialect]
    return Found(door, door.dialect, Place(asked.model, asked.streamed, asked.form, names))


def _at(door: Door) -> Callable[[Mapping[str, str], str], Found]:
    def found(names: Mapping[str, str], query: str) -> Found:
        return Found(door, door.dialect, Place(names.get("model"), names=names))

    return found


def _passed(names: Mapping[str, str], query: str) -> Found:
    """What is asked of a provider beside the doors, told in the dialect whose paths begin like that."""
    dialect = _begun(f"/{names['rest']}")
    door = Door(_PASSED.methods, dialect, heads=False) if dialect is not None else _PASSED
    return Found(door, door.dialect, Place(names=names))


_PASSED: Final = Door(dict.fromkeys(METHODS, pass_through), by_headers=True, heads=False)

_Reader = Callable[[Mapping[str, str], str], Found | None]
"""(what stands for each name, the query) -> the door; None: it is not this one."""

_TEMPLATES: Final[tuple[tuple[str, _Reader], ...]] = (
    *(
        (f"{version}{place}/{{collection}}/{{method}}", _gemini)
        for version in ("/v1beta", "/v1", "", "/v1beta1", "/v1alpha")
        for place in ("", "/publishers/google", "/projects/{project}/locations/{location}/publishers/google")
    ),
    *(
        (f"/openai/deployments/{{model}}{path}", _at(_call(dialect, _named)))
        for path, dialect in (
            ("/chat/completions", OPENAI_CHAT),
            ("/completions", OPENAI_COMPLETIONS),
            ("/embeddings", OPENAI_EMBEDDINGS),
        )
    ),
    *((f"{base}/models/{{model}}", _at(_MODEL)) for base in _UNNAMED),
    ("/v1beta/models/{model}", _at(_GEMINI_MODEL)),
    ("/v1/receipts/{exchange}", _at(Door({"GET": show_receipt}))),
    (f"{PREFIX}{{provider}}/{{rest}}", _passed),
)
"""Paths that go on with names, the first that fits."""

_FORMS: Final[Mapping[str, str]] = {
    "model": ".+",
    "method": ".+:[A-Za-z]+",
    "collection": "models|tunedModels",
    "rest": ".*",
}
"""What may stand for a name; for any other, one segment."""


def _compiled() -> Iterator[tuple[re.Pattern[str], _Reader]]:
    for template, reader in _TEMPLATES:
        parts = re.split(r"\{(\w+)\}", template)
        texts = [
            f"(?P<{part}>{_FORMS.get(part, '[^/]+')})" if place % 2 else re.escape(part)
            for place, part in enumerate(parts)
        ]
        yield re.compile("".join(texts)), reader


_PATTERNS: Final = tuple(_compiled())


def find(path: str, query: str = "", headers: Mapping[bytes, bytes] | None = None) -> Found | None:
    """The door at `path`; None where nothing is served.

    `path`: without its query, percent-decoded; `headers`: names in lower case, for paths of several dialects.
    """
    door = DOORS.get(path)
    if door is not None:
        return Found(door, _shown(headers) or door.dialect if door.by_headers else door.dialect)
    for pattern, reader in _PATTERNS if len(path) <= PATH_LIMIT else ():
        match = pattern.fullmatch(path)
        found = None if match is None else reader(match.groupdict(), query)
        if found is not None:
            dialect = _shown(headers) if found.door.by_headers else None
            return found if dialect is None else msgspec.structs.replace(found, dialect=dialect)
    return None


_SHOWN_BY: Final = (
    (b"anthropic-version", ANTHROPIC_MESSAGES),
    (b"x-goog-api-client", GEMINI),
    (b"x-goog-api-key", GEMINI),
)
"""Headers that only the clients of one dialect send."""
_BEGINNINGS: Final = (
    (re.compile(r"(?:/v1)?/v1(?:beta1?|alpha)/|/v1/projects/|(?:/v1)?/(?:models|tunedModels)/.+:[A-Za-z]+$"), GEMINI),
    (re.compile(r"(?:/v1){0,2}/(?:messages|complete)\b"), ANTHROPIC_MESSAGES),
    (re.compile(r"(?:/openai)?(?:/v1){0,2}/responses\b"), OPENAI_RESPONSES),
    (re.compile(r"(?:/v[12]){0,2}/rerank\b"), COHERE_RERANK),
)
"""Whose paths begin like that."""


def _shown(headers: Mapping[bytes, bytes] | None) -> ClientDialect[Any] | None:
    return next((dialect for name, dialect in _SHOWN_BY if name in (headers or {})), None)


def dialect_at(path: str, headers: Mapping[bytes, bytes] | None = None) -> ClientDialect[Any]:
    """The dialect in which a refusal at `path` is told, whether anything is served there or not."""
    found = find(path, "", headers)
    if found is not None:
        return found.dialect
    return _begun(path) or _shown(headers) or OPENAI_CHAT


def _begun(path: str) -> ClientDialect[Any] | None:
    return next((dialect for pattern, dialect in _BEGINNINGS if pattern.match(path[:PATH_LIMIT])), None)


_HINTS: Final = (
    (
        re.compile(r"(?:/openai)?/v1(?:beta)?/v1(?:beta)?\b"),
        "The base URL ends in a version, and the client adds its own: leave it out.",
    ),
    (re.compile(r".*//"), "Two slashes follow each other: leave out the one at the end of the base URL."),
    (re.compile(r".+/$"), "It ends in a slash too many."),
    (
        re.compile(r"(?:/openai)?(?:/v1)?/responses/"),
        "Replies are not kept here, so there is none to fetch: send the whole conversation to POST /v1/responses.",
    ),
    (re.compile(r"/(?:v1/)?complete$"), "Anthropic's text completions are gone: POST /v1/messages."),
    (
        re.compile(r".*/audio|.*/images|.*/files|.*/batches|.*/fine_tuning|.*/assistants|.*/threads"),
        "It has no door; `passthrough:` in the gateway's configuration can hand it on to one provider.",
    ),
    (re.compile(r".*message"), "Anthropic's messages: POST /v1/messages and /v1/messages/count_tokens."),
    (re.compile(r".*rerank"), "Rankings: POST /v2/rerank."),
    (re.compile(r".*embed"), "Vectors: POST /v1/embeddings."),
    (
        re.compile(r"/v1(?:beta1?|alpha)/|.*[gG]enerateContent"),
        "Gemini: POST /v1beta/models/MODEL:generateContent, :streamGenerateContent, :countTokens, :embedContent.",
    ),
    (re.compile(r"/openai/deployments"), "Azure: POST /openai/deployments/MODEL/chat/completions, /embeddings."),
)
"""What is said of a path like that, the first that fits."""
_PLAIN_HINT: Final = "POST /v1/chat/completions takes chats, GET / says what there is."


def not_found(path: str) -> CounterfoilError:
    """404: nothing is served at `path`, and what might have been meant."""
    shown = path if len(path) <= _SHOWN else path[: _SHOWN - 1] + "…"
    hint = next((text for pattern, text in _HINTS if pattern.match(path[:PATH_LIMIT])), _PLAIN_HINT)
    message = f"Nothing is served at {shown}. {hint}"
    return CounterfoilError(Failure(FailureKind.NOT_FOUND, message, Fault.CLIENT, 404, code="path_not_found"))


def _value(query: str, name: str) -> str:
    """The first value of a query's parameter; empty where there is none."""
    if name not in query:
        return ""
    return parse_qs(query, max_num_fields=None).get(name, [""])[0]
