"""What every driver shares: what a Post sends, and the head of the reply that a client is given."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

import msgspec

from counterfoil.exchange.command import Post
from counterfoil.providers.auth import auth_headers

__all__ = ["Begun", "Sending", "sending_of"]


class Begun(msgspec.Struct, frozen=True):
    """The head of a client's reply."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""


class Sending(msgspec.Struct, frozen=True):
    """What is sent to a provider."""

    url: str
    headers: Mapping[str, str]
    query: Mapping[str, str]


def sending_of(command: Post, base_url: str, secret: str | None) -> Sending:
    """What a Post sends, and where. Pure."""
    deployment = command.deployment
    provider = deployment.provider
    own = (provider.stream_path or provider.path) if command.streamed else provider.path
    path, _, query = (own.format(model=deployment.model) if own else command.path).partition("?")
    return Sending(
        base_url.rstrip("/") + path,
        {
            "content-type": "application/json",
            "accept": deployment.dialect.content_type if command.streamed else "application/json",
            "user-agent": "counterfoil",
            **provider.headers,
            **deployment.headers,
            **auth_headers(provider.auth, secret),
        },
        {**dict(parse_qsl(query, keep_blank_values=True)), **provider.query, **deployment.query},
    )
