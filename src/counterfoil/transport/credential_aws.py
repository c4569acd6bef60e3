"""AWS credentials: the environment, a web identity, a profile, a container's endpoint, an instance's metadata.

Rule: the order is that of AWS's own tools. What they can do and we do not (running commands, single sign-on, roles that
a profile assumes) is refused by name, with a way round it.

https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
"""

from __future__ import annotations

import configparser
import contextlib
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from counterfoil.providers.auth import AwsKeys
from counterfoil.transport.credential_source import (
    Answer,
    CredentialError,
    Fetched,
    Lookout,
    Source,
    Unshown,
    read_json,
)

__all__ = ["ADVICE", "SOURCES", "profile_region", "shown"]

ADVICE: Final = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or write api_key"
_SHOWING: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_PROFILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_CREDENTIALS_FILE: Final = ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
_CONFIG_FILE: Final = ("AWS_CONFIG_FILE", "~/.aws/config")
_REFUSED: Final = (
    "credential_process",
    "credential_source",
    "login_session",
    "role_arn",
    "sso_role_name",
    "sso_session",
    "sso_start_url",
)
"""Keys of a profile that say that its credentials come from elsewhere."""
_BEFORE_KEYS: Final = ("role_arn", "sso_role_name")
"""Those of them that go before keys in the same profile: it is the role that pays, not who may take it."""
_CONTAINER: Final = "http://169.254.170.2"
_METADATA: Final = "http://169.254.169.254"
_ROLES: Final = "/latest/meta-data/iam/security-credentials/"
_SIX_HOURS: Final = "21600"
_ROLE: Final = re.compile(r"[\w+=,.@-]{1,128}")
_REGION: Final = re.compile(r"[a-z0-9-]{1,64}")
_SESSION: Final = "counterfoil"


class _Lent(Unshown):
    """What containers and instances are given."""

    access: str = msgspec.field(name="AccessKeyId")
    secret: str = msgspec.field(name="SecretAccessKey")
    session: str = msgspec.field(name="Token")
    expires: str = msgspec.field(name="Expiration")


def shown(environ: Mapping[str, str]) -> str | None:
    """What shows that there are credentials: a variable, or the file of profiles."""
    name = next((name for name in _SHOWING if environ.get(name, "").strip()), None)
    return name or (_CREDENTIALS_FILE[1] if _is_file(environ) else None)


def profile_region(environ: Mapping[str, str]) -> str | None:
    """The region of the profile in use; None when it has none or cannot be read."""
    lookout = Lookout(environ)
    try:
        values = _profile(lookout, lookout.said("AWS_PROFILE") or "default")
    except CredentialError:
        return None
    region = (values or {}).get("region", "").strip()
    return region or None


def from_environment(lookout: Lookout, scope: str) -> Fetched | str:
    """Keys in variables."""
    access, secret = lookout.said("AWS_ACCESS_KEY_ID"), lookout.said("AWS_SECRET_ACCESS_KEY")
    if access is None:
        return "AWS_ACCESS_KEY_ID is not set"
    if secret is None:
        raise CredentialError("AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not")
    return Fetched(AwsKeys(access, secret, lookout.said("AWS_SESSION_TOKEN")))


def from_web_identity(lookout: Lookout, scope: str) -> Fetched | str:
    """A token in a file, exchanged for a role's keys (Kubernetes)."""
    token = lookout.named_file("AWS_WEB_IDENTITY_TOKEN_FILE")
    if token is None:
        return "AWS_WEB_IDENTITY_TOKEN_FILE is not set"
    role = lookout.said("AWS_ROLE_ARN")
    if role is None:
        raise CredentialError("AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not")
    fields = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": role,
        "RoleSessionName": lookout.said("AWS_ROLE_SESSION_NAME") or _SESSION,
        "WebIdentityToken": token.strip(),
    }
    answer = lookout.post_form(_security_service(lookout), fields, "AWS's security token service")
    return _granted(answer)


def from_profile(lookout: Lookout, scope: str) -> Fetched | str:
    """Keys in `~/.aws/credentials` or `~/.aws/config`."""
    named = lookout.said("AWS_PROFILE")
    profile = named or "default"
    values = _profile(lookout, profile)
    if values is None:
        if named is not None:
            raise CredentialError("there is no profile of the name that AWS_PROFILE says")
        return "there is no default profile in ~/.aws"
    access, secret = values.get("aws_access_key_id", "").strip(), values.get("aws_secret_access_key", "").strip()
    if access and secret and not any(key in values for key in _BEFORE_KEYS):
        return Fetched(AwsKeys(access, secret, values.get("aws_session_token", "").strip() or None))
    other = next((key for key in _REFUSED if key in values), None)
    if other is not None:
        raise CredentialError(
            f"the AWS profile in use gets its credentials by {other}, which is not done here: run "
            "`aws configure export-credentials --format env` and set what it prints"
        )
    if named is not None:
        raise CredentialError("the profile that AWS_PROFILE names has no keys")
    return "the default profile has no keys"


def from_container(lookout: Lookout, scope: str) -> Fetched | str:
    """What ECS and EKS lend to a container."""
    relative, full = (lookout.said(f"AWS_CONTAINER_CREDENTIALS_{kind}_URI") for kind in ("RELATIVE", "FULL"))
    if relative is None and full is None:
        return "this is no AWS container"
    url = full if relative is None else f"{_CONTAINER}/{relative.lstrip('/')}"
    token = lookout.named_file("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    token = lookout.said("AWS_CONTAINER_AUTHORIZATION_TOKEN") if token is None else token.strip()
    if token is not None and not (token.isascii() and token.isprintable()):
        raise CredentialError("the container's authorization token is no printable ASCII")
    who = "the container's credentials endpoint"
    return _lent(lookout.ask("GET", url or "", {} if token is None else {"authorization": token}, who), who)


def from_instance(lookout: Lookout, scope: str) -> Fetched | str:
    """What EC2 lends to an instance, by the second version of its metadata service."""
    if (lookout.said("AWS_EC2_METADATA_DISABLED") or "").lower() == "true":
        return "AWS_EC2_METADATA_DISABLED is set"
    place = (lookout.said("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _METADATA).rstrip("/")
    who = "the instance's metadata service"
    granted = lookout.knock(
        "PUT", f"{place}/latest/api/token", {"x-aws-ec2-metadata-token-ttl-seconds": _SIX_HOURS}, who
    )
    if granted is None or granted.status != 200:
        return "no AWS instance metadata answered"
    try:
        headers = {"x-aws-ec2-metadata-token": granted.body.decode("ascii").strip()}
    except UnicodeDecodeError:
        return "no AWS instance metadata answered"
    roles = lookout.ask("GET", place + _ROLES, headers, who)
    if roles.status == 404:
        return "the instance has no role"
    role = roles.body.decode("utf-8", "replace").partition("\n")[0].strip()
    if roles.status != 200 or not _ROLE.fullmatch(role):
        raise CredentialError(f"{who} names no role ({roles.status})")
    return _lent(lookout.ask("GET", f"{place}{_ROLES}{quote(role)}", headers, who), who)


SOURCES: Final[tuple[Source, ...]] = (
    from_environment,
    from_web_identity,
    from_profile,
    from_container,
    from_instance,
)


def _lent(answer: Answer, who: str) -> Fetched:
    lent = read_json(answer, _Lent, who)
    return Fetched(AwsKeys(lent.access, lent.secret, lent.session), _unix(lent.expires, who))


def _granted(answer: Answer) -> Fetched:
    """What the security token service answers, in XML of four plain values."""
    who = "AWS's security token service"
    text = answer.body.decode("utf-8", "replace")

    def value(name: str) -> str:
        found = re.search(rf"<{name}>\s*([^<>&\s]{{1,8192}})\s*</{name}>", text)
        return "" if found is None else found.group(1)

    if answer.status != 200:
        code = re.fullmatch(r"[A-Za-z]{1,64}", value("Code"))
        raise CredentialError(f"{who} refused ({answer.status}{'' if code is None else f' {code.group()}'})")
    keys = AwsKeys(value("AccessKeyId"), value("SecretAccessKey"), value("SessionToken"))
    if not (keys.access and keys.secret and keys.session):
        raise CredentialError(f"{who} answered what is no credential")
    return Fetched(keys, _unix(value("Expiration"), who))


def _security_service(lookout: Lookout) -> str:
    moved = lookout.said("AWS_ENDPOINT_URL_STS")
    if moved is not None:
        return moved
    region = lookout.said("AWS_REGION") or lookout.said("AWS_DEFAULT_REGION")
    if region is None or not _REGION.fullmatch(region):
        return "https://sts.amazonaws.com/"
    return f"https://sts.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}/"


def _unix(written: str, who: str) -> float:
    try:
        return datetime.fromisoformat(written).timestamp()
    except ValueError:
        raise CredentialError(f"{who} answered without an end of its credentials") from None


def _profile(lookout: Lookout, name: str) -> Mapping[str, str] | None:
    """A profile's values, from both files: those of the credentials file win. Raises CredentialError."""
    config = _sections(lookout, *_CONFIG_FILE)
    credentials = _sections(lookout, *_CREDENTIALS_FILE)
    found = [config.get(f"profile {name}"), config.get(name) if name == "default" else None, credentials.get(name)]
    known = [one for one in found if one is not None]
    return {key: value for one in known for key, value in one.items()} if known else None


def _sections(lookout: Lookout, variable: str, usual: str) -> Mapping[str, Mapping[str, str]]:
    moved = lookout.said(variable)
    text = lookout.file(Path(moved or usual), f"the file that {variable} names" if moved else usual)
    if text is None:
        return {}
    parser = configparser.RawConfigParser(strict=False, default_section="\0")
    readable = False
    with contextlib.suppress(configparser.Error):
        parser.read_string(text)
        readable = True
    if not readable:  # said out here, since the parser's error quotes the line, which may hold a key
        raise CredentialError(f"the AWS file {usual} (or {variable}) cannot be read")
    return {" ".join(section.split()): dict(parser.items(section)) for section in parser.sections()}


def _is_file(environ: Mapping[str, str]) -> bool:
    variable, usual = _CREDENTIALS_FILE
    try:
        return Path(environ.get(variable, "").strip() or usual).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):
        return False
