"""Who speaks which dialect, where. A provider is a row of `providers.toml`; nothing compares its name."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final, Literal

import msgspec

from counterfoil.dialects.dialect import Quirks
from counterfoil.usage.settle import Convention

__all__ = ["EMBEDDED", "Auth", "ModelRule", "Provider"]

EMBEDDED: Final = "embedded:"
"""The base URL of the model this package runs itself. Its address and key change with every start, so whoever posts to
it asks the engine for them first."""


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a secret is shown to the provider."""

    style: Literal["bearer", "header", "none"] = "bearer"
    header: str = "authorization"
    """The header that carries the secret when `style` is "header"."""


class ModelRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What holds for some of a provider's models only. The first rule that matches wins."""

    model: str
    """A shell-style pattern (`google/gemini-*`), matched against the provider's model name."""
    convention: Convention | None = None
    quirks: Quirks | None = None


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the table."""

    name: str
    title: str
    dialect: str
    base_url: str | None = None
    """None: the deployment must say where (a tenant's own resource). `EMBEDDED`: the model we run ourselves."""
    base_url_like: str | None = None
    """What a deployment's own base URL looks like, for a person who has to write one."""
    auth: Auth = Auth()
    secret_env: tuple[str, ...] = ()
    """Environment variables that hold its secret, in order of preference."""
    keyless: bool = False
    """It usually answers without a secret (a server on one's own machine)."""
    meter_only: bool = False
    """Its usage is known, so that recordings can be metered, but this version cannot call it."""
    base_url_env: tuple[str, ...] = ()
    """Environment variables that move it elsewhere, in order of preference."""
    headers: Mapping[str, str] = {}
    """Sent with every request."""
    query: Mapping[str, str] = {}
    path: str | None = None
    """The path below the base URL when it is not the dialect's own; `{model}` stands for the model name."""
    models: tuple[str, ...] = ()
    """Patterns of model names that mean this provider when a client names no provider."""
    try_first: str | None = None
    """A small model to show a newcomer, by the name the provider knows; None where it can be asked for its list."""
    convention: Convention | None = None
    """None: the dialect's own."""
    quirks: Quirks = Quirks()
    model_rules: tuple[ModelRule, ...] = ()
    price_id: str | None = None
    """What the price table calls it; None: it has no list price."""
    free: bool = False
    """Nothing it serves costs money (a model on the user's own machine)."""
    probe: str | None = None
    """A loopback URL that answers when the provider runs on this machine on its usual port."""
    link: str = ""
    """Its documentation of this dialect."""
    evidence: tuple[str, ...] = ("unverified",)
    """Which recordings prove the row, as `dialect/provider` of the recorded wire, or "unverified"."""

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
