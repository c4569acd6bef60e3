"""Google credentials: a service account's key, a person's sign-in, the metadata server.

Rule: the order is that of Google's own tools. The kinds of files that we cannot use are refused by name.

https://cloud.google.com/docs/authentication/application-default-credentials
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from counterfoil.providers.auth import BearerToken
from counterfoil.transport.credential_source import (
    Answer,
    CredentialError,
    Fetched,
    Lookout,
    Source,
    Unshown,
    read_json,
)

__all__ = ["ADVICE", "SCOPE", "SOURCES", "file_project", "shown"]

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
ADVICE: Final = (
    "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a service account's key"
)
_VARIABLE: Final = "GOOGLE_APPLICATION_CREDENTIALS"
_FILE: Final = "application_default_credentials.json"
_SHOWING: Final = (_VARIABLE, "GCE_METADATA_HOST", "K_SERVICE", "GAE_SERVICE")
_TOKENS: Final = "https://oauth2.googleapis.com/token"
_METADATA: Final = "169.254.169.254"
_JWT_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_JWT_SECONDS: Final = 3600
_ISSUER: Final = "Google's token endpoint"
_SERVER: Final = "Google's metadata server"
_Shape = TypeVar("_Shape", bound=msgspec.Struct)


class _Kind(msgspec.Struct):
    type: str = ""
    project_id: str | None = None
    quota_project_id: str | None = None


class _Account(Unshown):
    """A service account's key. https://cloud.google.com/iam/docs/keys-create-delete"""

    client_email: str
    private_key: str
    private_key_id: str = ""
    token_uri: str = _TOKENS


class _Person(Unshown):
    """What `gcloud auth application-default login` leaves behind."""

    client_id: str
    client_secret: str
    refresh_token: str
    token_uri: str = _TOKENS


class _Token(Unshown):
    access_token: str
    expires_in: float = 3600.0


def shown(environ: Mapping[str, str]) -> str | None:
    """What shows that there are credentials: a variable, or gcloud's file."""
    name = next((name for name in _SHOWING if environ.get(name, "").strip()), None)
    try:
        return name or (f"gcloud's {_FILE}" if _usual(environ).expanduser().is_file() else None)
    except (OSError, RuntimeError, ValueError):
        return None


def file_project(environ: Mapping[str, str]) -> str | None:
    """The project that the credentials file names; None when it names none or cannot be read."""
    try:
        text = _text(Lookout(environ))
        kind = _Kind() if text is None else _decoded(text, _Kind)
    except CredentialError:
        return None
    return kind.project_id or kind.quota_project_id


def from_file(lookout: Lookout, scope: str) -> Fetched | str:
    """The file that the variable names, or gcloud's own."""
    text = _text(lookout)
    if text is None:
        return f"{_VARIABLE} is not set, and gcloud has left no {_FILE}"
    kind = _decoded(text, _Kind).type
    match kind:
        case "service_account":
            return _of_account(lookout, _decoded(text, _Account), scope)
        case "authorized_user":
            return _of_person(lookout, _decoded(text, _Person))
        case "external_account" | "external_account_authorized_user" | "impersonated_service_account":
            raise CredentialError(f"Google credentials of the kind {kind} cannot be used here: {ADVICE}")
        case _:
            raise CredentialError(f"the Google credentials file is of no kind that is known: {ADVICE}")


def from_metadata(lookout: Lookout, scope: str) -> Fetched | str:
    """What Compute Engine, Cloud Run and GKE lend."""
    if (lookout.said("NO_GCE_CHECK") or "").lower() == "true":
        return "NO_GCE_CHECK is set"
    place = f"http://{lookout.said('GCE_METADATA_HOST') or _METADATA}"
    headers = {"metadata-flavor": "Google"}
    there = lookout.knock("GET", f"{place}/", headers, _SERVER)
    if there is None or there.headers.get("metadata-flavor") != "Google":
        return "no Google metadata server answered"
    path = f"/computeMetadata/v1/instance/service-accounts/default/token?scopes={quote(scope, safe='')}"
    answer = lookout.ask("GET", place + path, headers, _SERVER)
    if answer.status == 404:
        return "the machine has no service account"
    return _granted(answer, lookout.now(), _SERVER)


SOURCES: Final[tuple[Source, ...]] = (from_file, from_metadata)


def _text(lookout: Lookout) -> str | None:
    named = lookout.named_file(_VARIABLE)
    return lookout.file(_usual(lookout.environ), f"gcloud's {_FILE}") if named is None else named


def _usual(environ: Mapping[str, str]) -> Path:
    """Where gcloud keeps it."""
    moved = environ.get("CLOUDSDK_CONFIG", "").strip()
    roaming = environ.get("APPDATA", "").strip() if os.name == "nt" else ""
    return Path(moved or (f"{roaming}/gcloud" if roaming else "~/.config/gcloud")) / _FILE


def _of_person(lookout: Lookout, person: _Person) -> Fetched:
    """RFC 6749, 6."""
    fields = {
        "grant_type": "refresh_token",
        "client_id": person.client_id,
        "client_secret": person.client_secret,
        "refresh_token": person.refresh_token,
    }
    now = lookout.now()
    return _granted(lookout.post_form(person.token_uri, fields, _ISSUER), now, _ISSUER)


def _of_account(lookout: Lookout, account: _Account, scope: str) -> Fetched:
    """RFC 7523, 2.1: a statement that the account's key signs. https://developers.google.com/identity/protocols/oauth2/service-account"""
    now = lookout.now()
    claims = {
        "iss": account.client_email,
        "scope": scope,
        "aud": account.token_uri,
        "iat": int(now),
        "exp": int(now) + _JWT_SECONDS,
    }
    header = {"alg": "RS256", "typ": "JWT", **({"kid": account.private_key_id} if account.private_key_id else {})}
    stated = b".".join(_base64(msgspec.json.encode(part)) for part in (header, claims))
    assertion = stated + b"." + _base64(_signature(account.private_key, stated))
    fields = {"grant_type": _JWT_GRANT, "assertion": assertion.decode()}
    return _granted(lookout.post_form(account.token_uri, fields, _ISSUER), now, _ISSUER)


def _signature(private_key: str, stated: bytes) -> bytes:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import padding, rsa
    except ImportError:
        raise CredentialError(
            "a service account's key is used with the `google` extra: pip install 'counterfoil[google]'"
        ) from None
    try:
        key = serialization.load_pem_private_key(private_key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CredentialError("the service account's private_key cannot be read") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise CredentialError("the service account's private_key is no RSA key")
    return key.sign(stated, padding.PKCS1v15(), hashes.SHA256())


def _granted(answer: Answer, asked: float, who: str) -> Fetched:
    token = read_json(answer, _Token, who)
    if not token.access_token or not (token.access_token.isascii() and token.access_token.isprintable()):
        raise CredentialError(f"{who} answered what is no token")
    return Fetched(BearerToken(token.access_token), asked + token.expires_in)


def _decoded(text: str, shape: type[_Shape]) -> _Shape:
    try:
        return msgspec.json.decode(text, type=shape)
    except (msgspec.DecodeError, RecursionError):
        raise CredentialError(f"the Google credentials file cannot be read: {ADVICE}") from None


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
