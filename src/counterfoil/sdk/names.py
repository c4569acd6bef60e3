"""From what a call names to the deployments it goes to.

Rule 1: an address that was given goes first, and takes the model's name as it is (the server knows its own names). Then
a route of the configuration, then `provider/model`, then a bare name that only one provider of the table means.
Rule 2: nothing is guessed: a name that could mean two providers is an error that lists them.
Rule 3: a secret that was given goes to the model it was given for, never to a fallback, and never to several places.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from counterfoil.config import Config, DeploymentConfig, Timeouts
from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.core.operation import Operation
from counterfoil.dialects.registry import DIALECTS
from counterfoil.driver.deployment import Built, DeploymentError, build_deployment, load_table, secret_variable
from counterfoil.driver.resolve import ModelAmbiguous, ModelNotFound, Resolver
from counterfoil.driver.written import close_names
from counterfoil.exchange.route import Deployment, Route
from counterfoil.providers.provider import EMBEDDED, Provider
from counterfoil.providers.table import matching
from counterfoil.sdk.errors import AuthenticationError, BadRequestError, invalid
from counterfoil.transport.credential import shown
from counterfoil.transport.secret import Secret

__all__ = ["BASE_URL_VARIABLE", "GATEWAY", "KEY_VARIABLE", "Names", "Wanted"]

BASE_URL_VARIABLE: Final = "COUNTERFOIL_BASE_URL"
"""A running gateway, for every call that names no other place."""
KEY_VARIABLE: Final = "COUNTERFOIL_API_KEY"
"""The key of that gateway. It is sent nowhere else."""
GATEWAY: Final = "gateway"
"""What the books call a server that was named by its address alone."""
_NAME_LIMIT: Final = 256
_SHOWN: Final = 100


class Wanted(msgspec.Struct, frozen=True):
    """Where one call (or one fallback of it) is to go."""

    model: str
    base_url: str | None = None
    provider: str | None = None
    """A row of the table, when it is named apart from the model."""
    operation: Operation = Operation.CHAT
    region: str | None = None
    project: str | None = None
    api_key: str | None = None
    """The name of the secret that was given."""
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    timeout: float | None = None
    """Seconds for a whole reply; of a stream: for its first bytes, and for each silence."""
    streamed: bool = False
    drop: bool = False


class Names:
    """Finds routes. Threads may share it."""

    def __init__(
        self,
        config: Config,
        resolver: Resolver | None,
        environ: Mapping[str, str],
        keep: Callable[[Mapping[str, Secret]], None],
        *,
        gateway: bool = True,
        table: Mapping[str, Provider] | None = None,
    ) -> None:
        """`resolver`: of the configured routes; `keep` is given the secrets found in `environ`; `gateway`: whether the
        environment may name a gateway for every call."""
        self._config = config
        self._resolver = resolver
        self._environ = environ
        self._keep = keep
        self._moves = gateway
        self._table = load_table() if table is None else table

    def route(self, wanted: Wanted) -> Route:
        """Where to go. Raises ModelNotFound, ModelAmbiguous, BadRequestError or AuthenticationError."""
        if not 0 < len(wanted.model) <= _NAME_LIMIT or not wanted.model.isprintable():
            raise ModelNotFound(f"a model's name has 1 to {_NAME_LIMIT} printable characters")
        if wanted.base_url is not None:
            return self._plain(wanted, self._there(wanted))
        if wanted.provider is not None:
            return self._plain(wanted, self._of(wanted.provider, _without(wanted.provider, wanted.model), wanted))
        moved = self._environ.get(BASE_URL_VARIABLE, "").strip()
        if moved and self._moves:
            return self._plain(wanted, self._gateway(wanted, moved))
        return self._configured(wanted) or self._plain(wanted, self._listed(wanted))

    def configured(self, model: str) -> bool:
        """Whether a route of the configuration has this name."""
        return self._resolver is not None and model in self._resolver.routes

    def _there(self, wanted: Wanted) -> Deployment:
        """The server at an address: a gateway, unless the call says who it is."""
        provider = wanted.provider
        if provider is None:
            return self._gateway(wanted, wanted.base_url or "")
        return self._of(provider, _without(provider, wanted.model), wanted)

    def _gateway(self, wanted: Wanted, address: str) -> Deployment:
        name = wanted.api_key
        key = self._environ.get(KEY_VARIABLE, "").strip()
        if name is None and key and address == self._environ.get(BASE_URL_VARIABLE, "").strip():
            name = KEY_VARIABLE
            self._keep({name: Secret(key)})
        return self._of(GATEWAY, wanted.model, msgspec.structs.replace(wanted, base_url=address, api_key=name))

    def _configured(self, wanted: Wanted) -> Route | None:
        """A route of the configuration, with what the call says over it."""
        if self._resolver is None:
            return None
        try:
            route = self._resolver.resolve(wanted.model)
        except ModelNotFound:
            return None
        if wanted.api_key is not None and len(route.deployments) > 1:
            raise invalid(
                f"{wanted.model!r} goes to several places, each with its own secret: give no api_key",
                "api_key",
                model=wanted.model,
            )
        for name, said in (("region", wanted.region), ("project", wanted.project)):
            if said is not None:
                raise invalid(
                    f"{wanted.model!r} is configured, and its deployments say their {name}: give none",
                    name,
                    model=wanted.model,
                )
        for one in route.deployments:
            _check_embedded(one)
        return msgspec.structs.replace(route, deployments=tuple(_over(one, wanted) for one in route.deployments))

    def _listed(self, wanted: Wanted) -> Deployment:
        """`provider/model`, or a bare name that the table's patterns know."""
        provider, slash, model = wanted.model.partition("/")
        if slash and model and provider in self._table:
            return self._of(provider, model, wanted)
        rows = list(matching(self._table.values(), wanted.model))
        if len(rows) > 1:
            usable = [
                row
                for row in rows
                if row.keyless or secret_variable(row, self._environ) or shown(row.auth, self._environ)
            ]
            rows = usable if len(usable) == 1 else rows
        if len(rows) > 1:
            raise ModelAmbiguous(wanted.model, [f"{row.name}/{wanted.model}" for row in rows])
        if not rows:
            raise ModelNotFound(self._sorry(wanted.model))
        return self._of(rows[0].name, wanted.model, wanted)

    def _of(self, provider: str, model: str, wanted: Wanted) -> Deployment:
        row = self._table.get(provider)
        if row is not None:
            _check_operation(row, wanted)
        if row is not None and wanted.api_key is None and wanted.base_url is None:
            self._check_secret(row, wanted.model)
        written = DeploymentConfig(
            provider=provider,
            model=model,
            base_url=wanted.base_url,
            region=wanted.region,
            project=wanted.project,
            api_key=wanted.api_key,
            headers=wanted.headers,
            query=wanted.query,
            drop=wanted.drop,
        )
        try:
            built: Built = build_deployment(written, self._config, self._table, self._environ)
        except DeploymentError as error:
            raise invalid(
                f"{wanted.model[:_SHOWN]}: {error.message}", error.field or None, model=wanted.model
            ) from error
        _check_embedded(built.deployment)
        self._keep(built.secrets)
        return msgspec.structs.replace(built.deployment, timeouts=_timeouts(built.deployment.timeouts, wanted))

    def _check_secret(self, row: Provider, model: str) -> None:
        """A secret that is nowhere is found out here, not by asking the provider without one."""
        needless = row.keyless or row.auth.style == "none" or row.auth.fetched
        if needless or secret_variable(row, self._environ) is not None:
            return
        wanted = " or ".join(row.secret_env)
        message = (
            f"{row.title} needs a secret: pass api_key{f', or set {wanted} in the environment' if wanted else ''}."
        )
        failure = Failure(FailureKind.AUTHENTICATION, message, Fault.CLIENT, 401, code="missing_api_key")
        raise AuthenticationError(failure, model=model, provider=row.name)

    def _plain(self, wanted: Wanted, deployment: Deployment) -> Route:
        config = self._config
        return Route(
            name=wanted.model,
            deployments=(deployment,),
            missing_usage=config.missing_usage,
            messages_head=config.messages_head,
            retries=config.retries,
            client_gone=config.client_gone,
        )

    def _sorry(self, name: str) -> str:
        """Why a name is unknown, and what to do next."""
        said = f"The model {name[:_SHOWN]!r} is not known"
        served = [f"{row.name}/{name}" for row in self._table.values() if row.try_first == name]
        if served:
            return f"{said} by its name alone; did you mean {' or '.join(map(repr, served))}?"
        provider, slash, _ = name.partition("/")
        if not slash:
            return (
                f"{said} by its name alone: write `provider/model` (`counterfoil providers` has all), or pass base_url"
            )
        row = self._table.get(provider)
        if row is not None:
            example = f"{provider}/{row.try_first or 'NAME'}"
            return f"{said}: the provider's model stands after the slash, as in {example!r}"
        close = close_names(provider, self._table)[:3]
        other = (
            f"did you mean {' or '.join(map(repr, close))}?"
            if close
            else "`counterfoil providers` has all; a base_url is another server"
        )
        return f"{said}: there is no provider {provider[:_SHOWN]!r}; {other}"


def _check_embedded(deployment: Deployment) -> None:
    """The embedded engine answers whatever it is called: a wrong name would stand in the books as if it were true."""
    if deployment.base_url != EMBEDDED:
        return
    from counterfoil.local import LocalError, installed

    with contextlib.suppress(LocalError):  # said when it is started
        weights = installed()
        if weights is not None and weights.model_name != deployment.model:
            raise ModelNotFound(f"the embedded model is {weights.model_name!r}, not {deployment.model[:_SHOWN]!r}")


def _check_operation(row: Provider, wanted: Wanted) -> None:
    """What a provider cannot do at all is said before a secret for it is asked for."""
    if any(DIALECTS[name].operation is wanted.operation for name in row.dialects):
        return
    message = f"{row.title}, which serves {wanted.model!r}, cannot {wanted.operation}."
    code = "operation_not_supported"
    raise BadRequestError(
        Failure(FailureKind.INVALID_REQUEST, message, Fault.CLIENT, 400, code=code, param="model"), model=wanted.model
    )


def _without(provider: str, model: str) -> str:
    """`model` without the provider in front of it, where both were given."""
    return model.removeprefix(f"{provider}/") or model


def _over(deployment: Deployment, wanted: Wanted) -> Deployment:
    """A configured deployment with what the call says over it."""
    return msgspec.structs.replace(
        deployment,
        secret=wanted.api_key or deployment.secret,
        headers={**deployment.headers, **{name.lower(): value for name, value in wanted.headers.items()}},
        query={**deployment.query, **wanted.query},
        drop=deployment.drop or wanted.drop,
        timeouts=_timeouts(deployment.timeouts, wanted),
    )


def _timeouts(known: Timeouts, wanted: Wanted) -> Timeouts:
    seconds = wanted.timeout
    if seconds is None:
        return known
    return msgspec.structs.replace(
        known,
        connect=min(known.connect, seconds),
        first_byte=seconds,
        between_frames=seconds,
        total=known.total if wanted.streamed else seconds,
    )
