"""Who speaks which dialect, where. A provider is a row of `providers.toml`; nothing compares its name."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final, Literal, get_args

import msgspec

from counterfoil.dialects.dialect import Quirks
from counterfoil.providers.listing import Listing
from counterfoil.usage.settle import Convention

__all__ = ["EMBEDDED", "FETCHED", "UNVERIFIED", "Auth", "AuthStyle", "Face", "FetchedStyle", "ModelRule", "Provider"]

UNVERIFIED: Final = "unverified"
"""The evidence of a row that no recording proves."""
EMBEDDED: Final = "embedded:"
"""The base URL of the model this package runs itself. Its address and key change with every start, so whoever posts to
it asks the engine for them first."""


FetchedStyle = Literal["aws", "google", "entra"]
"""Credentials that are found and fetched when no secret is given: AWS (requests are signed), Google and Microsoft Entra
(short-lived bearer tokens)."""
AuthStyle = Literal["bearer", "header", "none"] | FetchedStyle
FETCHED: Final[frozenset[str]] = frozenset(get_args(FetchedStyle))


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a request shows who pays."""

    style: AuthStyle = "bearer"
    """bearer, header: the secret in `header`. none: nothing. aws, google, entra: with a secret as bearer or header, as
    `header` says; without one, by credentials that are fetched (docs/credentials.md)."""
    header: str = "authorization"
    """The header that carries the secret; a bearer when it is `authorization`."""
    service: str = ""
    """aws: the service that signatures are made for ("bedrock")."""
    scope: str = ""
    """google, entra: what a token is asked for, when not the usual scope of the style."""

    @property
    def fetched(self) -> bool:
        """Whether it goes without a secret where credentials can be fetched."""
        return self.style in FETCHED


class ModelRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What holds for some of a provider's models only. The first rule that matches wins."""

    model: str
    """A shell-style pattern (`google/gemini-*`), matched against the provider's model name."""
    convention: Convention | None = None
    quirks: Quirks | None = None


class Face(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another dialect that the same provider speaks with the same secret, and what differs there from its row."""

    base_url: str | None = None
    """None: the row's."""
    region_base_url: Mapping[str, str] | None = None
    """None: the row's, or none when it has a `base_url` of its own."""
    auth: Auth | None = None
    """None: the row's."""
    path: str | None = None
    stream_path: str | None = None
    query: Mapping[str, str] | None = None
    """None: the row's."""
    headers: Mapping[str, str] | None = None
    """None: the row's."""
    convention: Convention | None = None
    quirks: Quirks = Quirks()
    model_rules: tuple[ModelRule, ...] = ()
    link: str | None = None
    evidence: tuple[str, ...] = (UNVERIFIED,)


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the table."""

    name: str
    title: str
    dialect: str
    """The one it is spoken to in when the client's own is none of its dialects."""
    speaks: Mapping[str, Face] = {}
    """Its other dialects by name, in order of preference: for the same operation, and for others."""
    base_url: str | None = None
    """None: the deployment must say where (a tenant's own resource). `EMBEDDED`: the model we run ourselves. `{region}`
    and `{project}` stand for what the deployment, or else the environment, says."""
    region_base_url: Mapping[str, str] = {}
    """The base URL of regions that are elsewhere, by shell-style patterns (`global`, `cn-*`). The first match wins."""
    own_hosts: tuple[str, ...] = ()
    """Domains that are the provider's own beside its base URL's host: a base URL that is written may lead there.
    `{region}` stands for the deployment's region."""
    base_url_like: str | None = None
    """What a deployment's own base URL looks like, for a person who has to write one."""
    auth: Auth = Auth()
    secret_env: tuple[str, ...] = ()
    """Environment variables that hold its secret, in order of preference."""
    keyless: bool = False
    """It usually answers without a secret (a server on one's own machine)."""
    base_url_env: tuple[str, ...] = ()
    """Environment variables that move it elsewhere, in order of preference."""
    region_env: tuple[str, ...] = ()
    """Environment variables that say the region, in order of preference."""
    project_env: tuple[str, ...] = ()
    """Environment variables that say the project, in order of preference."""
    headers: Mapping[str, str] = {}
    """Sent with every request."""
    query: Mapping[str, str] = {}
    path: str | None = None
    """The path below the base URL when it is not the dialect's own. `{model}` stands for the model's name as one part
    of it, `{region}` and `{project}` for the deployment's."""
    stream_path: str | None = None
    """The same for a streamed reply, where that differs."""
    models: tuple[str, ...] = ()
    """Patterns of model names that mean this provider when a client names no provider."""
    try_first: str | None = None
    """A small model to show a newcomer, by the name the provider knows; None where it can be asked for its list."""
    convention: Convention | None = None
    """None: the dialect's own."""
    quirks: Quirks = Quirks()
    model_rules: tuple[ModelRule, ...] = ()
    collection: str = ""
    """What its documentation writes before models' names (`models/`). It is left out: rules, prices and other
    providers know the name alone."""
    price_id: str | None = None
    """What the price table calls it; None: it has no list price."""
    free: bool = False
    """Nothing it serves costs money (a model on the user's own machine)."""
    listing: Listing | None = None
    """Where it lists its models; None: it has no list that can be asked for with the same secret."""
    probe: str | None = None
    """A loopback URL that answers when the provider runs on this machine on its usual port."""
    link: str = ""
    """Its documentation of this dialect."""
    evidence: tuple[str, ...] = (UNVERIFIED,)
    """Which recordings prove the row, as `dialect/provider` of the recorded wire, or "unverified"."""

    @property
    def verified(self) -> bool:
        """Whether recordings prove how it counts in this dialect."""
        return any(one != UNVERIFIED for one in self.evidence)

    @property
    def dialects(self) -> tuple[str, ...]:
        """All the dialects it speaks, its own first."""
        return (self.dialect, *self.speaks)

    def face(self, dialect: str) -> Provider:
        """This row as it is for one of its dialects. Raises KeyError for another."""
        if dialect == self.dialect:
            return self
        face = self.speaks[dialect]
        elsewhere = face.region_base_url
        if elsewhere is None:
            elsewhere = self.region_base_url if face.base_url is None else {}
        return msgspec.structs.replace(
            self,
            dialect=dialect,
            base_url=face.base_url or self.base_url,
            region_base_url=elsewhere,
            auth=face.auth or self.auth,
            path=face.path,
            stream_path=face.stream_path,
            query=self.query if face.query is None else face.query,
            headers=self.headers if face.headers is None else face.headers,
            convention=face.convention,
            quirks=face.quirks,
            model_rules=face.model_rules,
            link=face.link or self.link,
            evidence=face.evidence,
        )

    def means(self, model: str) -> bool:
        """Whether a model's bare name is one of this provider's."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)

    def model_name(self, written: str) -> str:
        """The name this provider knows a model by. `provider/model` has taken off a beginning that is part of the name
        where its models are called after it: Perplexity's is `perplexity/sonar`."""
        name = written.removeprefix(self.collection)
        whole = f"{self.name}/{name}"
        return whole if self.means(whole) and not self.means(name) else name

    def convention_for(self, model: str, default: Convention) -> Convention:
        """How this provider counts `model`; `default` is its dialect's convention."""
        for rule in self.model_rules:
            if rule.convention is not None and fnmatchcase(model, rule.model):
                return rule.convention
        return self.convention or default

    def quirks_for(self, model: str) -> Quirks:
        """The provider's quirks when it serves `model`."""
        for rule in self.model_rules:
            if rule.quirks is not None and fnmatchcase(model, rule.model):
                return rule.quirks
        return self.quirks
