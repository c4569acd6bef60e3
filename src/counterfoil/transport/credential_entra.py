"""Microsoft Entra credentials: an application's secret, a workload's federated token, a managed identity.

Rule: the order is that of Microsoft's own tools. A person's sign-in (`az login`) is not used: a gateway has none.

https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

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

__all__ = ["ADVICE", "SCOPE", "SOURCES", "shown"]

SCOPE: Final = "https://cognitiveservices.azure.com/.default"
ADVICE: Final = (
    "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET; or, on a machine that has a managed identity, "
    "AZURE_CLIENT_ID or AZURE_TOKEN_CREDENTIALS=ManagedIdentityCredential"
)
_SHOWING: Final = (
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "IDENTITY_ENDPOINT",
    "AZURE_CLIENT_ID",
    "AZURE_TOKEN_CREDENTIALS",
)
_AUTHORITY: Final = "https://login.microsoftonline.com"
_METADATA: Final = "http://169.254.169.254"
_TENANT: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ISSUER: Final = "Microsoft Entra's token endpoint"
_IDENTITY: Final = "the managed identity's endpoint"


class _Token(Unshown):
    access_token: str
    expires_in: float | str | None = None
    """Seconds; a text from managed identities."""
    expires_on: float | str | None = None
    """Unix seconds."""


def shown(environ: Mapping[str, str]) -> str | None:
    """What shows that there are credentials: a variable."""
    return next((name for name in _SHOWING if environ.get(name, "").strip()), None)


def from_secret(lookout: Lookout, scope: str) -> Fetched | str:
    """An application's secret."""
    secret = lookout.said("AZURE_CLIENT_SECRET")
    if secret is None:
        return "AZURE_CLIENT_SECRET is not set"
    return _ask_for(lookout, scope, {"client_secret": secret}, "AZURE_CLIENT_SECRET")


def from_workload(lookout: Lookout, scope: str) -> Fetched | str:
    """A token of a cluster, exchanged for one of Entra's (Kubernetes)."""
    assertion = lookout.named_file("AZURE_FEDERATED_TOKEN_FILE")
    if assertion is None:
        return "AZURE_FEDERATED_TOKEN_FILE is not set"
    fields = {"client_assertion_type": _ASSERTION, "client_assertion": assertion.strip()}
    return _ask_for(lookout, scope, fields, "AZURE_FEDERATED_TOKEN_FILE")


def from_app_service(lookout: Lookout, scope: str) -> Fetched | str:
    """The managed identity of App Service, Functions and Container Apps."""
    place, header = lookout.said("IDENTITY_ENDPOINT"), lookout.said("IDENTITY_HEADER")
    if place is None or header is None:
        return "IDENTITY_ENDPOINT is not set"
    asked = _asked(lookout, scope, "2019-08-01")
    joint = "&" if "?" in place else "?"
    return _granted(lookout.ask("GET", f"{place}{joint}{asked}", {"x-identity-header": header}, _IDENTITY), lookout)


def from_machine(lookout: Lookout, scope: str) -> Fetched | str:
    """The managed identity of a virtual machine."""
    place = (lookout.said("AZURE_POD_IDENTITY_AUTHORITY_HOST") or _METADATA).rstrip("/")
    url = f"{place}/metadata/identity/oauth2/token?{_asked(lookout, scope, '2018-02-01')}"
    # Without its header it refuses at once, which is how one finds out that it is there.
    if lookout.knock("GET", url, {}, _IDENTITY) is None:
        return "no managed identity answered"
    return _granted(lookout.ask("GET", url, {"metadata": "true"}, _IDENTITY), lookout)


SOURCES: Final[tuple[Source, ...]] = (from_secret, from_workload, from_app_service, from_machine)


def _ask_for(lookout: Lookout, scope: str, fields: Mapping[str, str], by: str) -> Fetched:
    tenant, client = lookout.said("AZURE_TENANT_ID"), lookout.said("AZURE_CLIENT_ID")
    if tenant is None or client is None:
        raise CredentialError(f"{by} is set, but {'AZURE_TENANT_ID' if tenant is None else 'AZURE_CLIENT_ID'} is not")
    if not _TENANT.fullmatch(tenant):
        raise CredentialError("AZURE_TENANT_ID is no tenant")
    authority = (lookout.said("AZURE_AUTHORITY_HOST") or _AUTHORITY).rstrip("/")
    if "://" not in authority:
        authority = f"https://{authority}"
    whole = {"grant_type": "client_credentials", "client_id": client, "scope": scope, **fields}
    return _granted(lookout.post_form(f"{authority}/{tenant}/oauth2/v2.0/token", whole, _ISSUER), lookout, _ISSUER)


def _asked(lookout: Lookout, scope: str, version: str) -> str:
    """The query of a managed identity's endpoint, which knows resources and no scopes."""
    resource = quote(scope.removesuffix("/.default"), safe="")
    client = lookout.said("AZURE_CLIENT_ID")
    return f"api-version={version}&resource={resource}" + (f"&client_id={quote(client, safe='')}" if client else "")


def _granted(answer: Answer, lookout: Lookout, who: str = _IDENTITY) -> Fetched:
    token = read_json(answer, _Token, who)
    if not token.access_token or not (token.access_token.isascii() and token.access_token.isprintable()):
        raise CredentialError(f"{who} answered what is no token")
    left, end = _number(token.expires_in), _number(token.expires_on)
    return Fetched(BearerToken(token.access_token), end if left is None else lookout.now() + left)


def _number(written: float | str | None) -> float | None:
    try:
        return None if written is None else float(written)
    except ValueError:
        return None
