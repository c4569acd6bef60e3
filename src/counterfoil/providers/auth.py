"""How a request shows who pays: pure functions from a row, a secret or a credential, and the request, to headers.

Rule 1: time and credentials are arguments. Rule 2: what is signed is what is sent: a URL comes here as it goes out, its
path and query percent-encoded, and nothing changes it afterwards.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from counterfoil.providers.provider import Auth

__all__ = ["AwsKeys", "BearerToken", "Credential", "auth_headers", "host_of", "sign"]

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_NEVER_SIGNED: Final = frozenset({"expect", "transfer-encoding", "user-agent", "x-amzn-trace-id"})
"""Proxies may change them."""
_PORTS: Final = {"http": 80, "https": 443}
_SPACES: Final = re.compile(r"\s+")


class AwsKeys(msgspec.Struct, frozen=True):
    """What AWS requests are signed with. Shown nowhere."""

    access: str
    secret: str
    session: str | None = None
    """The token of keys that are lent for a time."""

    def __repr__(self) -> str:
        return "AwsKeys([secret])"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class BearerToken(msgspec.Struct, frozen=True):
    """A short-lived token. Shown nowhere."""

    token: str

    def __repr__(self) -> str:
        return "BearerToken([secret])"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


Credential = AwsKeys | BearerToken
"""What was fetched where no secret was given."""


def auth_headers(auth: Auth, secret: str | None) -> Mapping[str, str]:
    """The headers that carry `secret`; none when there is no secret or the provider wants none."""
    if secret is None or auth.style == "none":
        return {}
    bearer = auth.style == "bearer" or (auth.fetched and auth.header == "authorization")
    return {auth.header: f"Bearer {secret}" if bearer else secret}


def sign(
    keys: AwsKeys,
    *,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    region: str,
    service: str,
    at: float,
) -> dict[str, str]:
    """The headers that sign a request by AWS Signature Version 4, to be sent beside `headers`.

    `url`: as it is sent, ASCII; `headers`: those to be covered, by their names in lower case, with no two the same but
    for case; `at`: Unix seconds. The answer holds `host`, `x-amz-date`, `authorization`, and the session's token.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    moment = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
    added = {"host": host_of(url), "x-amz-date": moment}
    if keys.session is not None:
        added["x-amz-security-token"] = keys.session
    covered = {name.lower(): value for name, value in headers.items() if name.lower() not in _NEVER_SIGNED} | added
    covered.pop("authorization", None)
    names = ";".join(sorted(covered))
    parts = urlsplit(url)
    request = "\n".join(
        (
            method,
            _canonical_path(parts.path),
            "&".join(f"{key}={value}" for key, value in sorted(_pairs(parts.query))),
            *(f"{name}:{_SPACES.sub(' ', covered[name]).strip()}" for name in sorted(covered)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    said = "\n".join((_ALGORITHM, moment, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = b"AWS4" + keys.secret.encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    signature = hmac.digest(key, said.encode(), "sha256").hex()
    credential = f"{_ALGORITHM} Credential={keys.access}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**added, "authorization": credential}


def host_of(url: str) -> str:
    """The Host header of a URL: its port only where that is not the usual one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return shown if parts.port in (None, _PORTS.get(parts.scheme)) else f"{shown}:{parts.port}"


def _canonical_path(path: str) -> str:
    """Every service but S3 encodes the path once more, after its dots and doubled slashes are gone."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            kept = kept[:-1]
        elif segment not in ("", "."):
            kept.append(segment)
    end = "/" if kept and path.endswith("/") else ""
    return quote(f"/{'/'.join(kept)}{end}", safe="/~")


def _pairs(query: str) -> list[tuple[str, str]]:
    split = [pair.partition("=") for pair in query.split("&")] if query else []
    return [(key, value) for key, _, value in split]
