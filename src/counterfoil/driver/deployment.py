"""From a configured deployment and the table of providers to something callable.

Rule 1: what a deployment writes goes before the environment, and the environment before the row.
Rule 2: a secret found in the environment is only for the provider it is named after: it never travels to another host.
Rule 3: a server nobody described is called by its label and treated as its dialect says; nothing else is assumed of it
than that its maker's family of operations (vectors beside chats) is at the usual places.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from decimal import Decimal
from importlib import resources
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

import msgspec

from counterfoil.config import Config, DeploymentConfig
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.registry import DIALECTS
from counterfoil.driver.address import DeploymentError, address_of, find_place, home_of, in_place, missing
from counterfoil.driver.written import nearest
from counterfoil.exchange.route import Deployment
from counterfoil.ledger.price import read_rate
from counterfoil.providers.provider import Auth, Face, Provider
from counterfoil.providers.table import read_table
from counterfoil.transport.credential import nothing_shown
from counterfoil.transport.secret import Secret
from counterfoil.usage.usage import Bucket

__all__ = ["Built", "DeploymentError", "build_deployment", "check_model", "load_table", "secret_variable"]

_UNKNOWN: Final[Mapping[str, Provider]] = MappingProxyType(
    {
        "openai_chat": Provider(
            "",
            "An OpenAI-compatible server",
            "openai_chat",
            keyless=True,
            speaks={"openai_embeddings": Face(), "openai_completions": Face()},
        ),
        "anthropic_messages": Provider(
            "",
            "An Anthropic-compatible server",
            "anthropic_messages",
            keyless=True,
            auth=Auth(style="header", header="x-api-key"),
            headers={"anthropic-version": "2023-06-01"},
            path="/v1/messages",
            quirks=Quirks(default_max_tokens=4096),
            speaks={"anthropic_messages.count": Face(path="/v1/messages/count_tokens")},
        ),
    }
)
"""What is taken for granted of a server nobody described, by its dialect."""
_DEFAULT_DIALECT: Final = "openai_chat"
_CREDENTIALS: Final = frozenset({"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"})
_FRAMING: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "content-encoding"})
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_MODEL_LIMIT: Final = 256
_BUCKETS: Final = tuple(str(bucket) for bucket in Bucket)


class Built(msgspec.Struct, frozen=True):
    """A deployment, the secret the environment gave it, and what its owner should know."""

    deployment: Deployment
    secrets: Mapping[str, Secret] = {}
    warnings: tuple[str, ...] = ()


@functools.cache
def load_table() -> Mapping[str, Provider]:
    """The table of providers that ships with the package."""
    text = resources.files("counterfoil.providers").joinpath("providers.toml").read_text("utf-8")
    return read_table(text, DIALECTS)


def secret_variable(row: Provider, environ: Mapping[str, str]) -> str | None:
    """The environment variable that holds the provider's secret, if one does."""
    return next((name for name in row.secret_env if environ.get(name, "").strip()), None)


def build_deployment(
    written: DeploymentConfig, settings: Config, table: Mapping[str, Provider], environ: Mapping[str, str]
) -> Built:
    """Something callable. `written.api_key` is the name of a secret. Raises DeploymentError."""
    row, known = _row(written, table)
    warnings: list[str] = []
    place = find_place(written, row, environ)
    address = address_of(written, row, place, settings, environ, warnings)
    secret, secrets = _secret(written, row, address.own, environ, warnings)
    if row.auth.service and secret is None and place.region is None:  # a signature names it
        raise DeploymentError(missing(row, "region", row.region_env))
    model = row.model_name(written.model)
    check_model(model, row)
    _check_headers(written.headers)
    prices = _prices(written.prices)

    def facing(row: Provider, base_url: str) -> Deployment:
        dialect, row = DIALECTS[row.dialect], in_place(row, place)
        return Deployment(
            provider=row,
            model=model,
            dialect=dialect,
            base_url=_without_overlap(base_url, row.path or dialect.path(model, False)),
            convention=row.convention_for(model, dialect.convention),
            quirks=row.quirks_for(model),
            secret=secret,
            fetched=row.auth.fetched and secret is None and address.own,
            region=place.region,
            timeouts=written.timeouts or settings.timeouts,
            drop=written.drop,
            headers={name.lower(): value for name, value in written.headers.items()},
            query=dict(written.query),
            prices=prices,
            known=known and address.own and row.verified,
        )

    others = [row.face(name) for name in _others(row, written)]
    # An address that was written with the beginning of one dialect's path (/v1) is the home of the others, too.
    home = _without_overlap(address.base_url, row.path or DIALECTS[row.dialect].path(model, False))
    faces = tuple(facing(other, home if address.moved else home_of(other, place) or home) for other in others)
    deployment = msgspec.structs.replace(facing(row, home), faces=faces)
    return Built(deployment, secrets, tuple(warnings))


def _others(row: Provider, written: DeploymentConfig) -> list[str]:
    """The dialects beside the row's own. One that was written down is the only one for its operation."""
    if written.dialect is None:
        return list(row.speaks)
    chosen = DIALECTS[row.dialect].operation
    return [name for name in row.speaks if name in DIALECTS and DIALECTS[name].operation is not chosen]


def _row(written: DeploymentConfig, table: Mapping[str, Provider]) -> tuple[Provider, bool]:
    """The provider's row, or what is taken for granted of an unknown server; and whether it is described."""
    row = table.get(written.provider)
    if written.dialect is not None and written.dialect not in DIALECTS:
        raise DeploymentError(f"no such dialect{nearest(written.dialect, DIALECTS)}", "dialect")
    if row is not None and (written.dialect is None or written.dialect in row.dialects):
        return row if written.dialect is None else row.face(written.dialect), True
    if written.base_url is None:
        hint = nearest(written.provider, table) or "; see `counterfoil providers`"
        wrong = f"no such provider{hint}" if row is None else f"{row.title} speaks {row.dialect} at its own address"
        end = "" if wrong.endswith("?") else "."
        raise DeploymentError(f"{wrong}{end} For any other server write its base_url", "provider")
    dialect = written.dialect or _DEFAULT_DIALECT
    plain = _UNKNOWN.get(dialect) or Provider("", "A server", dialect, keyless=True)
    price_id = None if row is None else row.price_id
    return msgspec.structs.replace(plain, name=written.provider, price_id=price_id), False


def _secret(
    written: DeploymentConfig, row: Provider, own: bool, environ: Mapping[str, str], warnings: list[str]
) -> tuple[str | None, Mapping[str, Secret]]:
    """The name of the secret to send, and the secret itself when the environment gave it."""
    if written.api_key is not None:
        return written.api_key, {}
    name = secret_variable(row, environ)
    if name is not None and own:
        return name, {name: Secret(environ[name].strip())}
    if name is not None:
        warnings.append(f"{name} is not sent to another address than {row.title}'s; write api_key to send one")
    elif not own and row.auth.fetched:
        warnings.append(f"no credentials are sent to another address than {row.title}'s; write api_key to send one")
    elif row.auth.fetched:
        advice = nothing_shown(row.auth, environ)
        if advice is not None:
            wanted = " or ".join(["write api_key", *(f"set {name}" for name in row.secret_env)])
            raise DeploymentError(f"{row.title} needs a secret: {wanted}. Without one: {advice}")
    elif own and not row.keyless and row.auth.style != "none":
        wanted = " or ".join(row.secret_env) or "its secret"
        raise DeploymentError(f"{row.title} needs a secret: write api_key, or set {wanted}")
    return None, {}


def _prices(written: Mapping[str, float | str] | None) -> Mapping[str, str] | None:
    """Dollars per million tokens by bucket, as written, once they can be read."""
    if written is None:
        return None
    prices: dict[str, str] = {}
    for bucket, rate in written.items():
        field = f"prices.{bucket}"
        if bucket not in _BUCKETS:
            raise DeploymentError(f"no such kind of token{nearest(bucket, _BUCKETS)}", field)
        text = rate if isinstance(rate, str) else format(Decimal(str(rate)), "f")
        try:
            read_rate(text)
        except ValueError as error:
            raise DeploymentError(str(error), field) from error
        prices[bucket] = text
    return prices


def check_model(model: str, row: Provider) -> None:
    """Raises DeploymentError for a name that no model of this provider can have."""
    if not model or len(model) > _MODEL_LIMIT or not model.isprintable():
        raise DeploymentError(f"a model name has 1 to {_MODEL_LIMIT} printable characters", "model")
    if not model.strip("."):  # as a part of a URL it would be another path
        raise DeploymentError("a model name is more than dots", "model")


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        field = f"headers.{name}"
        if name.lower() in _CREDENTIALS:
            raise DeploymentError("a secret is written as api_key", field)
        if name.lower() in _FRAMING or not _TOKEN.fullmatch(name):
            raise DeploymentError("this header cannot be set", field)
        if not value.isascii() or not value.isprintable():
            raise DeploymentError("a header's value is printable ASCII", field)


def _without_overlap(base_url: str, path: str) -> str:
    """`base_url` without the beginning of `path`, which follows it: people write a base URL with and without /v1."""
    base, wanted = base_url.rstrip("/"), path.strip("/").split("/")
    had = urlsplit(base).path.strip("/").split("/")
    for length in range(min(len(wanted), len(had)), 0, -1):
        if had[-length:] == wanted[:length]:
            return base[: -len("/".join(had[-length:]))].rstrip("/")
    return base
