"""How a request shows who pays: pure functions from a row and a secret to headers."""

from __future__ import annotations

from collections.abc import Mapping

from counterfoil.providers.provider import Auth

__all__ = ["auth_headers"]


def auth_headers(auth: Auth, secret: str | None) -> Mapping[str, str]:
    """The headers that carry `secret`; none when there is no secret or the provider wants none."""
    if secret is None or auth.style == "none":
        return {}
    if auth.style == "bearer":
        return {auth.header: f"Bearer {secret}"}
    return {auth.header: secret}
