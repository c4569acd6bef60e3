"""Where a deployment is: its base URL, and the region and project that stand in it.

Rule 1: what a deployment writes goes before the environment, and the environment before the row.
Rule 2: a region or project is a plain word before it stands in a URL: it cannot lead to another host.
Rule 3: an address is the provider's own, or it is not, and only its own are shown what the environment holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import urlsplit

import msgspec

from counterfoil.config import Config, DeploymentConfig
from counterfoil.providers.provider import Provider
from counterfoil.providers.table import is_base_url
from counterfoil.transport.credential import usual_place

__all__ = ["Address", "DeploymentError", "Place", "address_of", "find_place", "home_of", "in_place", "missing"]

_REGION: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_PROJECT: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:_-]{0,126}[A-Za-z0-9])?")
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class DeploymentError(Exception):
    """A deployment that cannot be called. `field` is the key of it that is wrong; empty: the whole."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class Place(msgspec.Struct, frozen=True):
    """Where in a cloud. None: nobody says."""

    region: str | None = None
    project: str | None = None


class Address(msgspec.Struct, frozen=True):
    """Where requests go."""

    base_url: str
    own: bool = True
    """It is the provider's own: a tenant's, a server one runs, or below the row's host."""
    moved: bool = False
    """It is not where the row says."""


def find_place(written: DeploymentConfig, row: Provider, environ: Mapping[str, str]) -> Place:
    """The region and the project, as far as they are said. Raises DeploymentError for what cannot be one."""
    region = _word("region", written.region, row.region_env, environ, _REGION)
    project = _word("project", written.project, row.project_env, environ, _PROJECT)
    if (region is None and row.region_env) or (project is None and row.project_env):
        usual_region, usual_project = usual_place(row.auth, environ)
        region = region or (usual_region if usual_region and _REGION.fullmatch(usual_region) else None)
        project = project or (usual_project if usual_project and _PROJECT.fullmatch(usual_project) else None)
    return Place(region, project)


def in_place(row: Provider, place: Place) -> Provider:
    """The row with its place in its paths. Raises DeploymentError for what the place does not say."""
    path, stream_path = (None if one is None else _filled(one, row, place) for one in (row.path, row.stream_path))
    return msgspec.structs.replace(row, path=path, stream_path=stream_path)


def home_of(row: Provider, place: Place) -> str | None:
    """The row's base URL for a place; None when it has none. Raises DeploymentError for what the place does not say."""
    base_url = row.base_url
    if place.region is not None:
        elsewhere = [url for name, url in row.region_base_url.items() if fnmatchcase(place.region, name)]
        base_url = elsewhere[0] if elsewhere else base_url
    return None if base_url is None else _filled(base_url, row, place)


def _filled(text: str, row: Provider, place: Place) -> str:
    words = (("region", place.region, row.region_env), ("project", place.project, row.project_env))
    for name, word, variables in words:
        if f"{{{name}}}" not in text:
            continue
        if word is None:
            raise DeploymentError(missing(row, name, variables))
        text = text.replace(f"{{{name}}}", word)
    return text


def missing(row: Provider, name: str, variables: Iterable[str]) -> str:
    """What to say of a region or a project that nobody says."""
    return f"{row.title} needs a {name}: give its `{name}`{''.join(f', or set {one}' for one in list(variables)[:1])}"


def address_of(
    written: DeploymentConfig,
    row: Provider,
    place: Place,
    settings: Config,
    environ: Mapping[str, str],
    warnings: list[str],
) -> Address:
    """Where a deployment is. Raises DeploymentError."""
    if written.base_url is not None:
        if not is_base_url(written.base_url):
            raise DeploymentError(_no_base_url(written.base_url), "base_url")
        if _is_here(written.base_url, settings):
            warnings.append("its base_url is where this gateway listens unless told otherwise")
        tenants = row.base_url is None and _is_unheard(written.base_url)
        own = row.keyless or tenants or _is_own(written.base_url, row, place)
        return Address(written.base_url, own, moved=written.base_url != _home_if_said(row, place))
    for name in row.base_url_env:
        moved = environ.get(name, "").strip()
        if moved and _is_here(moved, settings):
            warnings.append(f"{name} points at this gateway itself and is not followed")
        elif moved:
            if not is_base_url(moved):
                raise DeploymentError(f"the environment variable {name} is no http or https URL", "base_url")
            return Address(moved, moved=moved != _home_if_said(row, place))
    home = home_of(row, place)
    if home is None:
        raise DeploymentError(f"{row.title} needs a base_url, such as {row.base_url_like}", "base_url")
    return Address(home)


def _home_if_said(row: Provider, place: Place) -> str | None:
    """The same where nobody need say the region of an address that was written whole."""
    try:
        return home_of(row, place)
    except DeploymentError:
        return None


def _word(
    field: str, written: str | None, variables: Iterable[str], environ: Mapping[str, str], shape: re.Pattern[str]
) -> str | None:
    """What a deployment, or else the environment, says."""
    if written is not None:
        if not shape.fullmatch(written):
            raise DeploymentError(f"this is no {field}", field)
        return written
    for name in variables:
        found = environ.get(name, "").strip()
        if found:
            if not shape.fullmatch(found):
                raise DeploymentError(f"the environment variable {name} is no {field}", field)
            return found
    return None


def _no_base_url(text: str) -> str:
    """What is wrong with it, first what is forgotten most. It is not shown: it may hold a secret."""
    if not text.lower().startswith(("http://", "https://")):
        return "a base_url begins with http:// or https://"
    return "an http or https URL is expected, without user, query or fragment"


def _is_own(url: str, row: Provider, place: Place) -> bool:
    """Whether `url` is on one of the provider's hosts, or below one (`eu.api.openai.com`), and no less safely."""
    there = urlsplit(url)
    host = there.hostname or ""
    home = urlsplit(_home_if_said(row, place) or "")
    if home.hostname and (there.scheme in (home.scheme, "https")) and _below(host, home.hostname):
        return True
    owned = row.own_hosts if place.region is None else [one.replace("{region}", place.region) for one in row.own_hosts]
    return there.scheme == "https" and any(_below(host, own) for own in owned)


def _is_unheard(url: str) -> bool:
    """Whether what is sent there can be heard by nobody between: it goes over TLS, or stays on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in _LOOPBACK


def _below(host: str, own: str) -> bool:
    return host == own or host.endswith(f".{own}")


def _is_here(url: str, settings: Config) -> bool:
    """Whether `url` is where this gateway itself listens."""
    try:
        parts = urlsplit(url)
        return parts.hostname in _LOOPBACK and parts.port == settings.listen.port
    except ValueError:
        return False
