"""What is there without any configuration: providers by their secrets, the local model, servers on this machine.

Rule 1: only loopback is asked, on the ports that table rows name, all at once and within a third of a second.
Rule 2: an answer counts only when it is a list of models. Whatever else listens there is nothing to us.
Rule 3: secrets are not read here, only the names of the variables that hold them; and no credential is fetched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Literal

import msgspec

from counterfoil.config import Config, DeploymentConfig
from counterfoil.driver.deployment import DeploymentError, build_deployment, secret_variable
from counterfoil.providers.listing import read_names
from counterfoil.providers.provider import EMBEDDED, Provider
from counterfoil.transport.credential import shown

__all__ = ["NOTHING_FOUND", "PROBE_SECONDS", "Discovered", "Found", "discover"]

PROBE_SECONDS: Final = 0.3
_ANSWER_LIMIT: Final = 1 << 20


class Found(msgspec.Struct, frozen=True):
    """One provider that can be used as it is."""

    provider: str
    """The row's name."""
    title: str
    how: Literal["environment", "embedded", "answers"]
    detail: str
    """For a person: the variable's or the file's name, or the address that answered."""
    models: tuple[str, ...] = ()
    """What it serves, where it could be asked."""
    variable: str | None = None
    """The environment variable that holds its secret; None also where it goes by credentials that are fetched."""


class Discovered(msgspec.Struct, frozen=True):
    """All that was found, in the table's order."""

    found: tuple[Found, ...] = ()


NOTHING_FOUND: Final = Discovered()


async def discover(
    table: Mapping[str, Provider],
    environ: Mapping[str, str],
    *,
    embedded_model: Callable[[], str | None] = lambda: None,
    within: float = PROBE_SECONDS,
) -> Discovered:
    """Look around once.

    `embedded_model`: the installed local model's name, or None; `within`: seconds for each probe. Never raises for
    what others answer.
    """
    probed = [row for row in table.values() if row.probe is not None]
    answers = await asyncio.gather(*(_probe(row.probe or "", within) for row in probed))
    serving = {row.name: models for row, models in zip(probed, answers, strict=True) if models is not None}
    found = [_found(row, environ, serving.get(row.name), embedded_model) for row in table.values()]
    return Discovered(tuple(one for one in found if one is not None))


def _found(
    row: Provider,
    environ: Mapping[str, str],
    served: tuple[str, ...] | None,
    embedded_model: Callable[[], str | None],
) -> Found | None:
    """How a row can be used here, or None."""
    if row.base_url == EMBEDDED:
        model = embedded_model()
        return None if model is None else Found(row.name, row.title, "embedded", model, (model,))
    if served is not None:
        return Found(row.name, row.title, "answers", row.base_url or "", served, secret_variable(row, environ))
    variable = secret_variable(row, environ)
    shows = variable or shown(row.auth, environ)
    if shows is None:
        return None
    try:
        build_deployment(DeploymentConfig(provider=row.name, model="any"), Config(), {row.name: row}, environ)
    except DeploymentError:  # it lacks an address, a region, a project
        return None
    return Found(row.name, row.title, "environment", shows, (), variable)


async def _probe(url: str, within: float) -> tuple[str, ...] | None:
    """The models that a server on this machine lists, or None when none answers in time with a list."""
    import aiohttp  # only the gateway looks around: the core, which reads names by this module's types, is without it

    try:
        async with (
            asyncio.timeout(within),
            # Proxies are for the world outside: trust_env stays false.
            aiohttp.ClientSession() as session,
            session.get(url, allow_redirects=False, headers={"accept": "application/json"}) as response,
        ):
            if response.status != 200:
                return None
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > _ANSWER_LIMIT:
                    return None
        return read_names("ids", bytes(body)).models
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return None
