"""Names to routes: what a client asks for, to the deployments that serve it.

Rule 1: a configured name goes first. Then `provider/model`, then a bare model name that only one place serves.
Rule 2: nothing is guessed. A name that could mean two places is an error that lists them; an unknown one is an error
with the nearest names.
Rule 3: where routes are configured, clients reach what is configured and no more, unless discovery was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final
from urllib.parse import urlencode

import msgspec

from counterfoil.config import Config, DeploymentConfig, PassthroughConfig, RouteConfig
from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault, RequestError
from counterfoil.driver.deployment import Built, DeploymentError, build_deployment, check_model, load_table
from counterfoil.driver.discover import NOTHING_FOUND, Discovered, Found
from counterfoil.driver.listing import Asked, Listed
from counterfoil.driver.passthrough import Passthrough, build_passthrough
from counterfoil.exchange.route import Deployment, Route
from counterfoil.providers.provider import EMBEDDED, Provider
from counterfoil.providers.table import matching
from counterfoil.transport.secret import Secret, SecretStore

__all__ = ["ModelAmbiguous", "ModelNotFound", "PublicName", "Resolver", "discovery_wanted", "load_table"]

_KEPT: Final = 1024
"""Routes of discovered models that are remembered: clients choose their names."""
_SHOWN: Final = 100
_COMPARED: Final = 500
_NAME_LIMIT: Final = 256


class ModelNotFound(RequestError):
    """No route has this name. 404."""

    def __init__(self, message: str) -> None:
        failure = Failure(FailureKind.NOT_FOUND, message, Fault.CLIENT, 404, code="model_not_found", param="model")
        CounterfoilError.__init__(self, failure)


class ModelAmbiguous(RequestError):
    """The name could mean several places. 400."""

    def __init__(self, name: str, candidates: Iterable[str]) -> None:
        self.candidates = tuple(candidates)
        listed = ", ".join(repr(candidate) for candidate in self.candidates[:12])
        super().__init__(
            f"{name!r} could mean several models; ask for one of {listed}", param="model", code="model_ambiguous"
        )


class PublicName(msgspec.Struct, frozen=True):
    """One line of `GET /v1/models`."""

    name: str
    owner: str
    """The provider of its first deployment."""


def discovery_wanted(config: Config) -> bool:
    """Whether providers are looked for beyond those that are configured."""
    return not config.models if config.discover is None else config.discover


class Resolver:
    """The routes of one configuration. Frozen as far as callers can see; a new configuration is a new resolver."""

    def __init__(
        self,
        config: Config,
        secrets: SecretStore,
        environ: Mapping[str, str],
        *,
        table: Mapping[str, Provider] | None = None,
        discovered: Discovered = NOTHING_FOUND,
    ) -> None:
        """Build every configured route. Raises DeploymentError, whose message names the route.

        `secrets`: by the names in `config`; `environ`: where providers' own secrets and addresses may be;
        `discovered`: what was found beyond the configuration.
        """
        self._config = config
        self._table = load_table() if table is None else table
        self._environ = environ
        self._found: dict[str, Found] = {found.provider: found for found in discovered.found}
        self._secrets: dict[str, Secret] = {}
        self._warnings: list[str] = []
        self._routes = {name: self._route(name, written) for name, written in config.models.items()}
        self._passthroughs = {name: self._passthrough(name, written) for name, written in config.passthrough.items()}
        self._configured = tuple(_distinct(self._routes.values()))
        for found in discovered.found:
            if found.variable is not None:
                self._secrets[found.variable] = Secret(environ[found.variable].strip())
        self._store = secrets.merged(self._secrets)
        self._kept: dict[str, Route] = {}
        self._names = self._list_names()

    @property
    def secrets(self) -> SecretStore:
        """Every secret a deployment of this resolver names."""
        return self._store

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the owner should know of the configured deployments."""
        return tuple(self._warnings)

    @property
    def routes(self) -> Mapping[str, Route]:
        """The configured routes by name."""
        return self._routes

    @property
    def passthroughs(self) -> Mapping[str, Passthrough]:
        """What may be asked of providers beside the doors, by the names they have there."""
        return self._passthroughs

    def names(self) -> tuple[PublicName, ...]:
        """What clients can ask for, as far as it can be listed: configured first, then what was found."""
        return self._names

    def asked(self) -> tuple[Asked, ...]:
        """Whose lists of models can be asked for: of what was found, since nothing else of theirs can be reached."""
        ways = (self._way_to_ask(provider) for provider in self._found)
        return tuple(way for way in ways if way is not None)

    def listed(self, lists: Iterable[Listed]) -> tuple[PublicName, ...]:
        """`names()`, then what providers list beside. Each can be asked for."""
        names = list(self._names)
        known = {public.name for public in names}
        for one in lists:
            found = self._found.get(one.provider)
            if found is None:
                continue
            for model in one.models:
                name = f"{one.provider}/{model}"
                if name not in known and model not in found.models and self._reaches(one.provider, model):
                    known.add(name)
                    names.append(PublicName(name, one.provider))
        return tuple(names)

    def resolve(self, name: str) -> Route:
        """The route of a client's model name. Raises ModelNotFound or ModelAmbiguous."""
        route = self._routes.get(name) or self._kept.get(name)
        if route is not None:
            return route
        if not name or len(name) > _NAME_LIMIT or not name.isprintable():
            raise ModelNotFound(f"a model's name has 1 to {_NAME_LIMIT} printable characters")
        deployment = self._addressed(name) or self._bare(name)
        if deployment is None:
            raise ModelNotFound(self._sorry(name))
        route = self._plain_route(name, deployment)
        if len(self._kept) >= _KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept[name] = route
        return route

    def _route(self, name: str, written: tuple[DeploymentConfig, ...] | RouteConfig) -> Route:
        route = written if isinstance(written, RouteConfig) else RouteConfig(deployments=written)
        deployments = []
        for place, one in enumerate(route.deployments):
            try:
                built = build_deployment(one, self._config, self._table, self._environ)
            except DeploymentError as error:
                raise DeploymentError(f"models.{name}[{place}]: {error.message}", error.field) from error
            deployments.append(self._kept_secrets(built))
            self._warnings += [f"models.{name}[{place}]: {warning}" for warning in built.warnings]
        config = self._config
        return Route(
            name=name,
            deployments=tuple(deployments),
            stream_usage=route.stream_usage or config.stream_usage,
            missing_usage=route.missing_usage or config.missing_usage,
            messages_head=route.messages_head or config.messages_head,
            retries=route.retries or config.retries,
            client_gone=route.client_gone or config.client_gone,
            show_provider_model=route.show_provider_model,
        )

    def _passthrough(self, name: str, written: PassthroughConfig) -> Passthrough:
        try:
            found = build_passthrough(name, written, self._config, self._table, self._environ)
        except DeploymentError as error:
            raise DeploymentError(f"passthrough.{name}: {error.message}", error.field) from error
        self._kept_secrets(found.built)
        self._warnings += [f"passthrough.{name}: {warning}" for warning in found.built.warnings]
        return found.passthrough

    def _plain_route(self, name: str, deployment: Deployment) -> Route:
        config = self._config
        return Route(
            name=name,
            deployments=(deployment,),
            stream_usage=config.stream_usage,
            missing_usage=config.missing_usage,
            messages_head=config.messages_head,
            retries=config.retries,
            client_gone=config.client_gone,
        )

    def _kept_secrets(self, built: Built) -> Deployment:
        self._secrets.update(built.secrets)
        return built.deployment

    def _addressed(self, name: str) -> Deployment | None:
        """`provider/model`, of what is configured or of a provider that was found."""
        provider, slash, model = name.partition("/")
        if not slash or not model:
            return None
        same = [one for one in self._configured if one.provider.name == provider and one.model == model]
        if len(same) > 1:
            raise ModelAmbiguous(name, self._names_of(same))
        if same:
            return same[0]
        return self._of_found(provider, model) if provider in self._found else None

    def _bare(self, name: str) -> Deployment | None:
        """A model's own name: configured, else listed by a provider that was found, else meant by its patterns."""
        same = [one for one in self._configured if one.model == name]
        if len(same) > 1:
            raise ModelAmbiguous(name, self._names_of(same))
        if same:
            return same[0]
        listing = [found.provider for found in self._found.values() if name in found.models]
        available = [self._table[provider] for provider in self._found if provider in self._table]
        serving = listing or [row.name for row in matching(available, name)]
        if len(serving) > 1:
            raise ModelAmbiguous(name, [f"{provider}/{name}" for provider in serving])
        return self._of_found(serving[0], name) if serving else None

    def _of_found(self, provider: str, model: str) -> Deployment:
        served = self._found[provider].models
        if self._table[provider].base_url == EMBEDDED and model not in served:
            raise ModelNotFound(f"the embedded model is {' or '.join(map(repr, served))}, not {model[:_SHOWN]!r}")
        written = DeploymentConfig(provider=provider, model=model)
        try:
            return build_deployment(written, self._config, self._table, self._environ).deployment
        except DeploymentError as error:
            raise ModelNotFound(f"{provider}/{model[:_SHOWN]}: {error.message}") from error

    def _reaches(self, provider: str, model: str) -> bool:
        """Whether `provider/model` leads to one place."""
        if len(provider) + len(model) >= _NAME_LIMIT:
            return False
        try:
            check_model(model, self._table[provider])
        except DeploymentError:
            return False
        return sum(one.provider.name == provider and one.model == model for one in self._configured) < 2

    def _way_to_ask(self, provider: str) -> Asked | None:
        row = self._table.get(provider)
        if row is None or row.listing is None or row.base_url == EMBEDDED:
            return None
        try:
            reached = self._of_found(provider, "any")
        except ModelNotFound:
            return None
        if reached.fetched:  # such a list is paid for by a signature, and none of ours is asked for yet
            return None
        query = urlencode({**row.query, **row.listing.query})
        url = reached.base_url.rstrip("/") + row.listing.path + (f"?{query}" if query else "")
        return Asked(provider, url, row.listing.shape, row.headers, row.auth, reached.secret)

    def _names_of(self, deployments: Iterable[Deployment]) -> list[str]:
        """The configured routes that hold any of these."""
        wanted = list(deployments)
        return [name for name, route in self._routes.items() if any(one in route.deployments for one in wanted)]

    def _list_names(self) -> tuple[PublicName, ...]:
        names = [PublicName(name, route.deployments[0].provider.name) for name, route in self._routes.items()]
        listed = [model for found in self._found.values() for model in found.models]
        for found in self._found.values():
            for model in found.models:
                alone = listed.count(model) == 1 and model not in self._routes
                names.append(PublicName(model if alone else f"{found.provider}/{model}", found.provider))
        return tuple(names)

    def _sorry(self, name: str) -> str:
        """Why a name is unknown, and what to do next."""
        said = f"The model {name[:_SHOWN]!r} is not known here"
        known = [public.name for public in self._names[:_COMPARED]]
        known += [f"{one.provider.name}/{one.model}" for one in self._configured[:_COMPARED]]
        known += [one.model for one in self._configured[:_COMPARED]]
        close = get_close_matches(name, dict.fromkeys(known), n=3)
        if close:
            return f"{said}; did you mean {' or '.join(repr(one) for one in close)}?"
        if discovery_wanted(self._config):
            provider = name.partition("/")[0] if "/" in name else ""
            rows = [self._table[provider]] if provider in self._table else list(matching(self._table.values(), name))
            wanted = [f"{row.secret_env[0]} for {row.title}" for row in rows if row.secret_env]
            if wanted:
                return f"{said}: set {' or '.join(wanted[:3])} in the environment of the gateway"
        return f"{said}; GET /v1/models lists the names that are"


def _distinct(routes: Iterable[Route]) -> Iterable[Deployment]:
    """The deployments of all routes, each once: a model at a place with a secret."""
    seen: set[tuple[str, str, str, str | None]] = set()
    for route in routes:
        for one in route.deployments:
            thing = (one.provider.name, one.model, one.base_url, one.secret)
            if thing not in seen:
                seen.add(thing)
                yield one
