"""What every driver shares: what a Post sends, and the head of the reply that a client is given.

Rule: a URL leaves here as it goes out, percent-encoded once, and no transport touches it: a signature covers it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final, assert_never
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec

from counterfoil.dialects.dialect import ClientDialect
from counterfoil.exchange.carriage import Carriage
from counterfoil.exchange.command import Post
from counterfoil.exchange.route import Deployment
from counterfoil.providers.auth import AwsKeys, BearerToken, Credential, auth_headers, sign
from counterfoil.transport.transport import Unreachable

__all__ = ["REFUSED", "Begun", "Blanking", "Payer", "Sending", "blanking_of", "sending_of"]

Payer = str | Credential | None
"""A secret, or what was fetched where none was given; None: nobody, the provider is free or the deployment keyless."""

REFUSED: Final = frozenset({401, 403})
"""What a provider answers to a credential that holds no longer."""
_SHORTEST: Final = 8
"""Bytes of a secret that is looked for: less is a word of any text."""
_SIGNED: Final = frozenset({"content-type"})
"""The headers of ours that a signature covers: a proxy on the way may change others."""
_PATH: Final = "/%:@!$&'()*+,;=~"


class Begun(msgspec.Struct, frozen=True):
    """The head of a client's reply."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""


class Sending(msgspec.Struct, frozen=True):
    """What is sent to a provider."""

    url: str
    """Whole, in ASCII."""
    headers: Mapping[str, str]
    """A secret among them: they are not shown."""

    def __repr__(self) -> str:
        return f"Sending({self.url!r})"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("url", self.url)]


class Blanking:
    """An error without the secret, however its bytes are cut, and as long as it was: its length may be announced."""

    __slots__ = ("_held", "_secret")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._held = b""
        """The end of what came, where the secret may begin in it."""

    def feed(self, data: bytes) -> bytes:
        """What can be told after these bytes; nothing yet is empty. Empty bytes are the end, and give what was held."""
        secret = self._secret
        known = (self._held + data).replace(secret, b"*" * len(secret))
        longest = min(len(secret) - 1, len(known)) if data else 0
        kept = next((size for size in range(longest, 0, -1) if secret.startswith(known[-size:])), 0)
        told, self._held = known[: len(known) - kept], known[len(known) - kept :]
        return told


def blanking_of(status: int, payer: Payer) -> Blanking | None:
    """For the secret that a reply may repeat: what was shown to a provider that answers with an error. None where there
    is none: what is signed with is never shown."""
    if status < 400 or payer is None or isinstance(payer, AwsKeys):
        return None
    secret = (payer if isinstance(payer, str) else payer.token).encode()
    return Blanking(secret) if len(secret) >= _SHORTEST else None


def sending_of(command: Post, base_url: str, payer: Payer, at: float) -> Sending:
    """What a Post sends, and where. `at`: Unix seconds, for a signature. Pure. Raises Unreachable for no URL."""
    if command.carriage is not None:
        return _carried(command, command.carriage, base_url, payer, at)
    deployment = command.deployment
    provider = deployment.provider
    own = (provider.stream_path or provider.path) if command.streamed else provider.path
    path = _with_model(own, deployment.model) if own else command.path
    url = _own_url(base_url, path, tuple(provider.query.items()), tuple(deployment.query.items()))
    headers = {
        "content-type": "application/json",
        "accept": deployment.dialect.content_type if command.streamed else "application/json",
        "user-agent": "counterfoil",
        **_named(provider.headers, command.headers, deployment),
    }
    return Sending(url, {**headers, **_paid(command, payer, url, headers, at)})


def _carried(command: Post, carriage: Carriage, base_url: str, payer: Payer, at: float) -> Sending:
    """The client's own path, query and headers. What the operator wrote goes before them, what the row says after."""
    deployment = command.deployment
    row, operators = deployment.provider, deployment.query
    asked = [(name, value) for name, value in carriage.query if name not in operators]
    said = {name for name, _ in asked} | operators.keys()
    asked += [*((name, value) for name, value in row.query.items() if name not in said), *operators.items()]
    url = _url(base_url, carriage.path, tuple(asked))
    usual = {name.lower(): value for name, value in row.headers.items()}
    headers = {"user-agent": "counterfoil", "accept": "*/*", **_named(usual, carriage.headers, deployment)}
    return Sending(url, {**headers, **_paid(command, payer, url, headers, at)})


@functools.lru_cache(maxsize=256)
def _own_url(base_url: str, path: str, row: tuple[tuple[str, str], ...], own: tuple[tuple[str, str], ...]) -> str:
    """Where a deployment is called: the same for every call of a model. Raises Unreachable."""
    path, _, query = path.partition("?")
    asked = {**dict(parse_qsl(query, keep_blank_values=True)), **dict(row), **dict(own)}
    return _url(base_url, path, tuple(asked.items()))


def _url(base_url: str, path: str, asked: tuple[tuple[str, str], ...]) -> str:
    """As it goes out. Raises Unreachable."""
    try:
        url = _wire(base_url.rstrip("/")) + quote(path, safe=_PATH)
    except ValueError:
        raise Unreachable("the base_url is not a URL") from None
    return f"{url}?{urlencode(asked, quote_via=quote, safe='')}" if asked else url


def _named(row: Mapping[str, str], client: Mapping[str, str], deployment: Deployment) -> dict[str, str]:
    """The row's headers, over them the client's, and over both the operator's; of a list, the entries of all three."""
    merged = {**row, **client, **deployment.headers}
    dialect = deployment.dialect
    for name in dialect.listed_headers & client.keys() if isinstance(dialect, ClientDialect) else ():
        said = [holder[name] for holder in (row, deployment.headers, client) if name in holder]
        entries = (entry.strip() for value in said for entry in value.split(","))
        merged[name] = ",".join(dict.fromkeys(entry for entry in entries if entry))
    return merged


def _paid(command: Post, payer: Payer, url: str, headers: Mapping[str, str], at: float) -> Mapping[str, str]:
    auth = command.deployment.provider.auth
    match payer:
        case None | str():
            return auth_headers(auth, payer)
        case BearerToken(token=token):
            return {"authorization": f"Bearer {token}"}
        case AwsKeys():
            covered = {name: value for name, value in headers.items() if name in _SIGNED or name.startswith("x-amz")}
            return sign(
                payer,
                method=command.method,
                url=url,
                headers=covered,
                body=command.body,
                region=command.deployment.region or "",
                service=auth.service,
                at=at,
            )
        case _:
            assert_never(payer)


def _with_model(path: str, model: str) -> str:
    """A row's path with the model's name as one segment of it. Its `@` and `:` may stand there (RFC 3986, 3.3)."""
    return path.replace("{model}", quote(model, safe="@:"))


@functools.lru_cache(maxsize=1024)
def _wire(base_url: str) -> str:
    """A base URL as it goes out: the host's name and the path in ASCII. Raises ValueError for what is no host name."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    name = host if host.isascii() else host.encode("idna").decode()
    shown = f"[{name}]" if ":" in name else name
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{shown}{port}{quote(parts.path, safe=_PATH)}"
