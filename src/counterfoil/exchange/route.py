"""A route: a public model name and the deployments that serve it, in order, with a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from counterfoil.config import ClientGone, Retries, StreamUsage, Timeouts
from counterfoil.dialects.dialect import Dialect, MessagesHead, MissingUsage, Quirks
from counterfoil.providers.provider import Provider
from counterfoil.usage.settle import Convention

__all__ = ["Deployment", "Route"]


class Deployment(msgspec.Struct, frozen=True):
    """Something callable. Holds no secret: `secret` names one, and only the transport can look it up."""

    provider: Provider
    model: str
    dialect: Dialect[Any]
    base_url: str
    convention: Convention
    quirks: Quirks = Quirks()
    secret: str | None = None
    """The name under which the transport finds the secret."""
    fetched: bool = False
    """Without a secret its requests are paid for by credentials that are fetched, as `provider.auth` says."""
    region: str | None = None
    """The region that is asked, where the provider has any; signatures are made for it."""
    timeouts: Timeouts = Timeouts()
    drop: bool = False
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    prices: Mapping[str, str] | None = None
    """USD per million tokens by bucket, as the configuration says them."""
    known: bool = True
    """False: a server nobody described, or nobody proved; whether it takes `stream_options` is learned."""
    faces: tuple[Deployment, ...] = ()
    """The same model over the provider's other dialects, in order of preference."""

    def facing(self, dialect: Dialect[Any]) -> Deployment | None:
        """How a client of `dialect` is served: in its own dialect where the provider speaks it, else in the first one
        that has its operation. None: the provider has no such operation."""
        if self.dialect is dialect:
            return self
        able = [face for face in (self, *self.faces) if face.dialect.operation is dialect.operation]
        return next((face for face in able if face.dialect is dialect), able[0] if able else None)


class Route(msgspec.Struct, frozen=True):
    """What a client's model name stands for."""

    name: str
    deployments: tuple[Deployment, ...]
    stream_usage: StreamUsage = "when_asked"
    missing_usage: MissingUsage = "estimate"
    messages_head: MessagesHead = "estimate"
    retries: Retries = Retries()
    client_gone: ClientGone = ClientGone()
    show_provider_model: bool = False
