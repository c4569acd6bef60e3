"""From a configuration file, or from none, to all that a gateway serves by.

Rule 1: everything is read anew each time, so that a reload means what a restart would.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from counterfoil.config import Config
from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault
from counterfoil.driver.configuration import Loaded, load
from counterfoil.driver.deployment import DeploymentError, load_table
from counterfoil.driver.discover import NOTHING_FOUND, Discovered, discover
from counterfoil.driver.resolve import Resolver, discovery_wanted
from counterfoil.ledger.price_sheet import SheetError
from counterfoil.ledger.price_table import PriceTable
from counterfoil.local import LocalError, installed
from counterfoil.providers.provider import EMBEDDED
from counterfoil.server.cors import cors_rules
from counterfoil.stores.price_files import load_prices
from counterfoil.transport.secret import SecretStore

__all__ = ["Setup", "load_setup"]


class Setup(msgspec.Struct, frozen=True):
    """All that a configuration amounts to."""

    config: Config
    names: Resolver
    secrets: SecretStore
    prices: PriceTable
    discovered: Discovered = NOTHING_FOUND
    warnings: tuple[str, ...] = ()
    environ: Mapping[str, str] = msgspec.field(default_factory=lambda: os.environ)
    """Where credentials are looked for that no secret stands for."""


def load_setup(
    path: Path | None,
    *,
    data_dir: Path | None = None,
    environ: Mapping[str, str] | None = None,
    override: Callable[[Config], Config] = lambda config: config,
) -> Setup:
    """Read the configuration at `path` (None: what a gateway without one finds) and what it needs. Blocks.

    `data_dir`: where price files may lie; `override`: what the command line says goes over the file. Raises
    CounterfoilError with a line for everything that is wrong. Not to be called on a running event loop.
    """
    environ = os.environ if environ is None else environ
    loaded = load(path, environ) if path is not None else Loaded(Config(), SecretStore())
    config = override(loaded.config)
    try:
        cors_rules(config)
    except CounterfoilError as error:
        raise loaded.wrong("cors.origins", error.failure.message.removeprefix("cors.origins: ")) from error
    found = NOTHING_FOUND
    if discovery_wanted(config):
        found = asyncio.run(discover(load_table(), environ, embedded_model=_embedded_model))
    try:
        names = Resolver(config, loaded.secrets, environ, discovered=found)
        prices = load_prices(data_dir, Path(config.prices) if config.prices is not None else None)
    except DeploymentError as error:
        raise _wrong(error.message) from error
    except SheetError as error:
        raise loaded.wrong("prices", str(error)) from error
    except OSError as error:
        raise loaded.wrong("prices", f"{error.filename} cannot be read: {error.strerror}") from error
    _check_embedded(names, loaded)
    warnings = (*map(str, loaded.warnings), *prices.notices)
    return Setup(config, names, names.secrets, prices.table, found, warnings, environ)


def _embedded_model() -> str | None:
    """The model this machine can run by itself: weights without their engine are no model."""
    if importlib.util.find_spec("xllamacpp") is None:
        return None
    try:
        weights = installed()
    except LocalError as error:
        raise _wrong(str(error)) from error
    return None if weights is None else weights.model_name


def _check_embedded(names: Resolver, loaded: Loaded) -> None:
    """The embedded engine answers whatever it is called: a wrong name would stand in the books as if it were true."""
    for route in names.routes.values():
        for one in route.deployments:
            model = _embedded_model() if one.base_url == EMBEDDED else one.model
            if model is not None and one.model != model:
                raise loaded.wrong(f"models.{route.name}", f"the embedded model is {model!r}, not {one.model!r}")


def _wrong(message: str) -> CounterfoilError:
    return CounterfoilError(Failure(FailureKind.INVALID_REQUEST, message, Fault.CLIENT, 400, code="configuration"))
