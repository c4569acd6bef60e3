"""What may be asked of a provider beside the doors: which paths, by whom, where they lead, and what reads the answers.

Rule 1: nothing is asked that the configuration does not list, and nobody asks whom it does not name.
Rule 2: what was compared with the list is what is sent, character by character. A path that two readers could take for
two paths (dots, slashes or percent signs in disguise) is refused, not mended.
Rule 3: which dialect an answer is in, the provider's row says: its own paths do, then the usual ones.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes, urlsplit

import msgspec

from counterfoil.config import Config, DeploymentConfig, PassthroughConfig
from counterfoil.core.error import RequestError
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.registry import CLIENT_DIALECTS
from counterfoil.driver.deployment import Built, DeploymentError, build_deployment
from counterfoil.exchange.route import Deployment
from counterfoil.providers.provider import EMBEDDED, Provider

__all__ = [
    "METHODS",
    "Asked",
    "BuiltPassthrough",
    "Passthrough",
    "build_passthrough",
    "plain_path",
    "plain_query",
]

METHODS: Final = ("DELETE", "GET", "PATCH", "POST", "PUT")
_SEGMENT: Final = re.compile(rb"[A-Za-z0-9._~:@$+,=!-]{1,512}")
"""What a segment may be made of: what no server decodes, splits or takes for something else."""
_WRITTEN: Final = re.compile(r"[A-Za-z0-9._~:@$+,=!*-]{1,512}")
_LONGEST: Final = 4096
_PARAMETERS: Final = 100
_VERSION: Final = re.compile(r"/v[0-9]+[a-z0-9]*/?$")
_MODEL: Final = "counterfoil-model"
"""Stands for the model in a path while its pattern is made."""
_DEPLOYED: Final = "(?:/deployments/(?P<deployment>[^/]+))?"
"""Azure's way to name the model."""
_USUAL: Final = f"(?:/openai{_DEPLOYED})?(?:/v[0-9]+[a-z0-9]*)?"
"""What may stand before a path that clients of a dialect ask everywhere."""


class _Allowed(msgspec.Struct, frozen=True):
    """One line of the list."""

    written: str
    method: str | None
    pattern: re.Pattern[str]


class _Reader(msgspec.Struct, frozen=True):
    """Which dialect answers at paths like this."""

    pattern: re.Pattern[str]
    deployment: Deployment
    streamed: bool | None
    """What the path says of it; None: the body does."""


class Asked(msgspec.Struct, frozen=True):
    """One request, as far as its path and method say it."""

    deployment: Deployment
    known: bool
    """The deployment's dialect is the path's own."""
    model: str = ""
    streamed: bool | None = None

    def served(self, model: str) -> Deployment:
        """The deployment as it is for one model: how it counts, and what is different about it."""
        row, dialect = self.deployment.provider, self.deployment.dialect
        if not self.known or row.dialect != dialect.name:  # a usual path of a dialect that its row does not speak of
            return msgspec.structs.replace(self.deployment, model=model)
        convention, quirks = row.convention_for(model, dialect.convention), row.quirks_for(model)
        return msgspec.structs.replace(self.deployment, model=model, convention=convention, quirks=quirks)


class Passthrough(msgspec.Struct, frozen=True):
    """What one entry of the configuration amounts to."""

    name: str
    deployment: Deployment
    """Its base URL is where the paths begin; its model is nobody's."""
    allowed: tuple[_Allowed, ...]
    keys: frozenset[str]
    readers: tuple[_Reader, ...]

    def open_to(self, key: str | None) -> bool:
        """Whether the bearer of this key (None: nobody known) may ask."""
        return not self.keys or key in self.keys

    def allows(self, method: str, path: str) -> str | None:
        """The line of the list that allows it, as it was written; None: nothing does."""
        for one in self.allowed:
            if one.method in (None, method) and one.pattern.fullmatch(path):
                return one.written
        return None

    def asked(self, method: str, path: str) -> Asked:
        """Where it goes, and what reads the answer. Only a POST is answered by a model."""
        for reader in self.readers if method == "POST" else ():
            match = reader.pattern.fullmatch(path)
            if match is None:
                continue
            model = next((name for name in match.groupdict().values() if name), "")
            return Asked(reader.deployment, True, model, reader.streamed)
        return Asked(self.deployment, False)


class BuiltPassthrough(msgspec.Struct, frozen=True):
    """An entry, and what the environment gave for it."""

    passthrough: Passthrough
    built: Built


def build_passthrough(
    name: str,
    written: PassthroughConfig,
    settings: Config,
    table: Mapping[str, Provider],
    environ: Mapping[str, str],
) -> BuiltPassthrough:
    """An entry ready to be asked through. `written.api_key` is the name of a secret. Raises DeploymentError."""
    if not _WRITTEN.fullmatch(name) or "*" in name or not name.strip("."):
        raise DeploymentError("a name is one segment of a path: letters, digits and -._~")
    allowed = tuple(_allowed(one, f"paths[{place}]") for place, one in enumerate(written.paths))
    _check_keys(written, settings)
    built = build_deployment(
        DeploymentConfig(
            provider=written.provider or name,
            model=_MODEL,
            base_url=written.base_url,
            api_key=written.api_key,
            region=written.region,
            project=written.project,
            dialect=written.dialect,
            timeouts=written.timeouts,
            headers=written.headers,
            query=written.query,
        ),
        settings,
        table,
        environ,
    )
    deployment = built.deployment
    if deployment.base_url == EMBEDDED:
        raise DeploymentError("the embedded model has nothing beside the doors", "provider")
    home = _home(deployment, written.base_url)
    faces = tuple(msgspec.structs.replace(face, base_url=home, faces=()) for face in (deployment, *deployment.faces))
    nobodys = msgspec.structs.replace(faces[0], model="", convention=faces[0].dialect.convention, quirks=Quirks())
    readers = (*_own_readers(faces), *_usual_readers(nobodys))
    return BuiltPassthrough(Passthrough(name, nobodys, allowed, frozenset(written.keys), readers), built)


def _check_keys(written: PassthroughConfig, settings: Config) -> None:
    keys = settings.keys
    known = frozenset(key.name for key in keys.static) if keys is not None else frozenset()
    for place, key in enumerate(written.keys):
        if key not in known:
            raise DeploymentError("no key of this configuration has this name", f"keys[{place}]")
    if keys is not None and keys.required and not written.keys:
        raise DeploymentError("say by name which keys may ask", "keys")


def _home(deployment: Deployment, written: str | None) -> str:
    """Where the paths begin: the base URL without a version, which is part of every path.

    A deployment's own base URL may have lost what its dialect's path begins with, so what was written goes before it.
    """
    base = (written or deployment.base_url).rstrip("/")
    return base[: -len(found.group())] if (found := _VERSION.search(urlsplit(base).path)) else base


# ---- the list


def _allowed(written: str, field: str) -> _Allowed:
    """A line of the list. Raises DeploymentError."""
    method, space, path = written.rpartition(" ")
    method = method.strip()
    if (space and method not in METHODS) or not path.startswith("/"):
        raise DeploymentError(f"a path begins with a slash; before it may stand one of {', '.join(METHODS)}", field)
    body = path.removesuffix("/*")  # all below a path
    for segment in body.split("/")[1:]:
        if not _WRITTEN.fullmatch(segment) or not segment.strip("."):
            raise DeploymentError(
                "between slashes stand letters, digits, `*` and -._~:@$+,=!, nothing encoded, and more than dots", field
            )
    parts = [re.escape(part) for part in path.split("*")]
    last = parts.pop()
    pattern = "[^/]*".join(parts) + (".*" if parts and not last else f"[^/]*{last}" if parts else last)
    return _Allowed(written, method or None, re.compile(pattern, re.DOTALL))


def plain_path(raw: bytes) -> str:
    """A path as it is compared and sent. Raises RequestError for one that could be taken for another.

    `raw`: as it came, percent-encoded, without its query. What is encoded without need is decoded.
    """
    segments = [unquote_to_bytes(segment) for segment in raw.split(b"/")]
    if len(raw) > _LONGEST or segments[0] or len(segments) < 2:
        raise _bad_path("is too long" if len(raw) > _LONGEST else "does not begin with a slash")
    for segment in segments[1:]:
        if not segment:
            raise _bad_path("has an empty segment")
        if not _SEGMENT.fullmatch(segment):
            raise _bad_path("has a character, encoded or not, that stands in no path here")
        if not segment.strip(b"."):
            raise _bad_path("has a segment of dots")
    return b"/".join(segments).decode("ascii")


def _bad_path(what: str) -> RequestError:
    return RequestError(f"The path {what}, so it is not passed on.", code="path_refused")


_CREDENTIALS: Final = frozenset(
    {
        "$key",
        "$userproject",
        "access_token",
        "api-key",
        "api_key",
        "apikey",
        "auth_token",
        "key",
        "oauth_token",
        "subscription-key",
        "token",
        "userproject",
        "x-amz-credential",
        "x-amz-security-token",
        "x-amz-signature",
    }
)
"""Parameters that show who pays: Gemini's `key`, which is ours here, and what other wires have in its place."""
_OVERRULING: Final = frozenset({"$httpmethod", "_method"})
"""Parameters that stand for another method where servers heed them (https://cloud.google.com/apis/docs/system-parameters)."""


def plain_query(query: str) -> tuple[tuple[str, str], ...]:
    """A query's parameters, decoded, without whatever shows who pays. Raises RequestError."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_PARAMETERS, encoding="utf-8", errors="strict")
    except ValueError:
        raise RequestError(
            f"The query has more than {_PARAMETERS} parameters, or is not UTF-8.", code="query_refused"
        ) from None
    if any(name.lower() in _OVERRULING for name, _ in pairs):
        raise RequestError(
            "The query asks for another method than the request's own, so it is not passed on.", code="query_refused"
        )
    return tuple((name, value) for name, value in pairs if name.lower() not in _CREDENTIALS)


# ---- who reads the answer


def _own_readers(faces: Iterable[Deployment]) -> tuple[_Reader, ...]:
    """The paths of the provider's row, wherever below its address they stand; the longest, which says most, first."""
    found: dict[str, tuple[int, _Reader]] = {}
    for face in faces:
        row, dialect = face.provider, face.dialect
        whole = row.path or dialect.path(_MODEL, False)
        streamed = (row.stream_path or row.path) or dialect.path(_MODEL, True)
        paths = [path.replace("{model}", _MODEL).partition("?")[0] for path in (whole, streamed)]
        for place, path in enumerate(paths):
            pattern = f"(?:/[^/]+)*?{_DEPLOYED}{_modelled(path)}"
            said = None if paths[0] == paths[1] else bool(place)
            # The first of two dialects at one path is the row's choice.
            found.setdefault(pattern, (len(path.replace(_MODEL, "")), _Reader(re.compile(pattern), face, said)))
    return tuple(reader for _, reader in sorted(found.values(), key=lambda one: -one[0]))


def _usual_readers(deployment: Deployment) -> tuple[_Reader, ...]:
    """The paths that clients ask everywhere, for what the row does not speak of."""
    return tuple(
        _Reader(
            pattern,
            msgspec.structs.replace(
                deployment, dialect=CLIENT_DIALECTS[name], convention=CLIENT_DIALECTS[name].convention
            ),
            streamed,
        )
        for name, pattern, streamed in _usual_paths()
    )


@functools.cache
def _usual_paths() -> tuple[tuple[str, re.Pattern[str], bool | None], ...]:
    found: list[tuple[str, re.Pattern[str], bool | None]] = []
    for name, dialect in CLIENT_DIALECTS.items():
        paths = [dialect.path(_MODEL, streamed).partition("?")[0] for streamed in (False, True)]
        for place, path in enumerate(dict.fromkeys(paths)):
            said = None if paths[0] == paths[1] else bool(place)
            found.append((name, re.compile(_USUAL + _modelled(path)), said))
    return tuple(found)


def _modelled(path: str) -> str:
    return re.escape(path).replace(re.escape(_MODEL), "(?P<model>[^/]+)")
