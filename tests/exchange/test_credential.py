"""Credentials that are fetched: where they are looked for and in which order, how long they are kept, what fails."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from counterfoil.driver.sending import Sending
from counterfoil.providers.auth import AwsKeys, BearerToken
from counterfoil.providers.provider import Auth
from counterfoil.transport import credential as credential_module
from counterfoil.transport import credential_aws, credential_entra, credential_google
from counterfoil.transport.credential import CredentialError, Credentials, nothing_shown, shown, usual_place
from tests.exchange.issuer import Asked, Said, issuing, said

AWS = Auth(style="aws", service="bedrock")
GOOGLE = Auth(style="google")
ENTRA = Auth(style="entra", header="api-key")
SECRETS = ("hush-secret", "hush-token", "hush-session", "hush-key")
"""What must never be shown: every secret in this module begins so."""
NOWHERE = "http://127.0.0.1:1"
"""Where nobody listens."""
NOBODY = {
    "HOME": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
    "AWS_CONFIG_FILE": "/nonexistent/config",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": NOWHERE,
    "CLOUDSDK_CONFIG": "/nonexistent",
    "GCE_METADATA_HOST": "127.0.0.1:1",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST": NOWHERE,
}
"""An environment in which nothing is found, and no real address is asked."""


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def fetch(auth: Auth, environ: Mapping[str, str], clock: Callable[[], float] = time.time) -> object:
    """One search, in an environment of its own."""
    credentials = Credentials({**NOBODY, **environ}, clock=clock)
    try:
        return credentials.get(auth, time.monotonic() + 20)
    finally:
        credentials.close()


def problem(auth: Auth, environ: Mapping[str, str]) -> str:
    """What is said when there is none. It holds no secret, nor do the errors it comes from."""
    with pytest.raises(CredentialError) as caught:
        fetch(auth, environ)
    told: BaseException | None = caught.value
    while told is not None:
        assert not any(secret in f"{told!r}" for secret in SECRETS), "a secret is shown"
        told = told.__cause__ or told.__context__
    return str(caught.value)


def written(directory: Path, name: str, text: str) -> str:
    (directory / name).write_text(text, encoding="utf-8")
    return str(directory / name)


# ---- AWS -----------------------------------------------------------------------------------------------------------


KEYS = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "hush-secret"}
LENT = {
    "AccessKeyId": "ASIA9",
    "SecretAccessKey": "hush-secret",
    "Token": "hush-session",
    "Expiration": "2026-01-02T03:04:05Z",
}
BORROWED = AwsKeys("ASIA9", "hush-secret", "hush-session")


def test_keys_of_the_environment_go_first() -> None:
    assert fetch(AWS, KEYS) == AwsKeys("AKIA1", "hush-secret")
    assert fetch(AWS, {**KEYS, "AWS_SESSION_TOKEN": "hush-session"}) == AwsKeys("AKIA1", "hush-secret", "hush-session")
    everything = {**KEYS, "AWS_PROFILE": "other", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/x"}
    assert fetch(AWS, everything) == AwsKeys("AKIA1", "hush-secret")


def test_half_a_pair_of_keys_is_an_error_and_not_passed_over() -> None:
    assert problem(AWS, {"AWS_ACCESS_KEY_ID": "AKIA1"}) == (
        "AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not"
    )


CREDENTIALS_FILE = """
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key = hush-secret%with$signs

[work]
aws_access_key_id=AKIAWORK
aws_secret_access_key=hush-secret
aws_session_token=hush-session
"""
CONFIG_FILE = """
[default]
region = eu-central-1
s3 =
  max_concurrent_requests = 20
[profile work]
region = ap-south-1
[profile  plain ]
aws_access_key_id = AKIAPLAIN
aws_secret_access_key = hush-secret
[profile process]
credential_process = /bin/hush-secret
[profile roles]
role_arn = arn:aws:iam::1:role/x
source_profile = work
[profile taken]
aws_access_key_id = AKIATAKEN
aws_secret_access_key = hush-secret
role_arn = arn:aws:iam::1:role/x
source_profile = taken
[profile empty]
region = us-east-1
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return {
        "AWS_SHARED_CREDENTIALS_FILE": written(tmp_path, "credentials", CREDENTIALS_FILE),
        "AWS_CONFIG_FILE": written(tmp_path, "config", CONFIG_FILE),
    }


@pytest.mark.parametrize(
    ("profile", "keys", "region"),
    [
        ({}, AwsKeys("AKIADEFAULT", "hush-secret%with$signs"), "eu-central-1"),
        ({"AWS_PROFILE": "work"}, AwsKeys("AKIAWORK", "hush-secret", "hush-session"), "ap-south-1"),
        ({"AWS_PROFILE": "plain"}, AwsKeys("AKIAPLAIN", "hush-secret"), None),
    ],
)
def test_a_profile_has_its_keys_and_its_region_in_either_file(
    files: dict[str, str], profile: dict[str, str], keys: AwsKeys, region: str | None
) -> None:
    assert fetch(AWS, {**files, **profile}) == keys
    assert usual_place(AWS, {**NOBODY, **files, **profile}) == (region, None)


@pytest.mark.parametrize(
    ("profile", "said_"),
    [
        ("process", "by credential_process, which is not done here: run `aws configure export-credentials"),
        ("roles", "by role_arn, which is not done here"),
        ("taken", "by role_arn, which is not done here"),  # AWS's own tools use its keys to take the role, not to call
        ("nobody", "there is no profile of the name that AWS_PROFILE says"),
        ("empty", "the profile that AWS_PROFILE names has no keys"),
    ],
)
def test_a_profile_that_cannot_be_used_is_refused_by_what_it_lacks(
    files: dict[str, str], profile: str, said_: str
) -> None:
    assert said_ in problem(AWS, {**files, "AWS_PROFILE": profile})


def test_a_file_of_profiles_that_is_none_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, "credentials", "aws_secret_access_key = hush-secret\n")
    assert "cannot be read" in problem(AWS, {"AWS_SHARED_CREDENTIALS_FILE": path})
    assert usual_place(AWS, {**NOBODY, "AWS_SHARED_CREDENTIALS_FILE": path}) == (None, None)


@pytest.mark.parametrize("as_file", [False, True])
def test_a_container_is_lent_keys_for_its_token(tmp_path: Path, as_file: bool) -> None:
    with issuing({"/creds": said(LENT)}) as issuer:
        token = {"AWS_CONTAINER_AUTHORIZATION_TOKEN": "hush-token"}
        if as_file:
            token = {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": written(tmp_path, "token", "hush-token\n")}
        assert fetch(AWS, {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{issuer.origin}/creds", **token}) == BORROWED
        assert issuer.asked[0].headers["authorization"] == "hush-token"


@pytest.mark.parametrize("url", ["http://keys.example/creds", "ftp://127.0.0.1/creds", "keys", "http://[::1/creds"])
def test_a_secret_is_not_asked_for_in_the_clear_beyond_this_machine(url: str) -> None:
    said_ = problem(AWS, {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url})
    assert said_ == "the address of the container's credentials endpoint is neither https nor on this machine"


def instance(issuer_answers: dict[str, Any] | None = None) -> dict[str, Any]:
    roles = "/latest/meta-data/iam/security-credentials/"

    def only_with_token(answer: Said) -> Callable[[Asked], Said]:
        return lambda asked: answer if asked.headers.get("x-aws-ec2-metadata-token") == "hush-token" else said({}, 401)

    return {
        "PUT /latest/api/token": said(b"hush-token"),
        f"GET {roles}": only_with_token(said(b"my-role\n")),
        f"GET {roles}my-role": only_with_token(said({"Code": "Success", **LENT})),
        **(issuer_answers or {}),
    }


def test_an_instance_is_lent_keys_by_the_second_version_of_its_metadata() -> None:
    with issuing(instance()) as issuer:
        assert fetch(AWS, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{issuer.origin}/"}) == BORROWED
        assert [asked.method for asked in issuer.asked] == ["PUT", "GET", "GET"]
        assert issuer.asked[0].headers["x-aws-ec2-metadata-token-ttl-seconds"] == "21600"


def test_an_instance_without_a_role_or_without_metadata_is_passed_over() -> None:
    with issuing(instance({"GET /latest/meta-data/iam/security-credentials/": said(b"", 404)})) as issuer:
        assert "the instance has no role" in problem(AWS, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": issuer.origin})
        said_ = problem(AWS, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": issuer.origin, "AWS_EC2_METADATA_DISABLED": "true"})
        assert "AWS_EC2_METADATA_DISABLED is set" in said_
        assert len(issuer.asked) == 2


def test_metadata_that_never_answers_holds_nobody_up() -> None:
    silence = threading.Event()

    def nothing(asked: Asked) -> Said:
        silence.wait(20)
        return said({})

    with issuing({"/latest/api/token": nothing}) as issuer:
        began = time.monotonic()
        assert "no AWS instance metadata answered" in problem(AWS, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": issuer.origin})
        assert time.monotonic() - began < 10
        silence.set()


ROLE = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA9</AccessKeyId>
<SecretAccessKey>hush-secret</SecretAccessKey><SessionToken>hush-session</SessionToken>
<Expiration>2026-01-02T03:04:05Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""


def test_a_clusters_token_is_exchanged_for_a_roles_keys(tmp_path: Path) -> None:
    with issuing({"POST /": said(ROLE.encode())}) as issuer:
        environ = {
            "AWS_WEB_IDENTITY_TOKEN_FILE": written(tmp_path, "token", "hush-token\n"),
            "AWS_ROLE_ARN": "arn:aws:iam::1:role/x",
            "AWS_ENDPOINT_URL_STS": f"{issuer.origin}/",
        }
        assert fetch(AWS, environ) == BORROWED
        assert issuer.asked[0].form == {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": "arn:aws:iam::1:role/x",
            "RoleSessionName": "counterfoil",
            "WebIdentityToken": "hush-token",
        }
        refusal = b"<ErrorResponse><Error><Code>ExpiredTokenException</Code><Message>hush-token</Message></Error></X>"
        issuer.answers["POST /"] = said(refusal, 400)
        assert problem(AWS, environ) == "AWS's security token service refused (400 ExpiredTokenException)"
        issuer.answers["POST /"] = said(b"<html>hush-token</html>")
        assert problem(AWS, environ) == "AWS's security token service answered what is no credential"
        assert "AWS_ROLE_ARN is not" in problem(AWS, {**environ, "AWS_ROLE_ARN": " "})
        moved = problem(AWS, {**environ, "AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent/hush-token"})
        assert moved == "there is no such file as AWS_WEB_IDENTITY_TOKEN_FILE names"


def test_what_is_nowhere_is_said_with_all_that_was_tried_and_what_to_set() -> None:
    assert problem(AWS, {}) == (
        "no AWS credentials: AWS_ACCESS_KEY_ID is not set; AWS_WEB_IDENTITY_TOKEN_FILE is not set; there is no default "
        "profile in ~/.aws; this is no AWS container; no AWS instance metadata answered. To mend it: set "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or write api_key"
    )
    assert problem(GOOGLE, {}) == (
        "no Google credentials: GOOGLE_APPLICATION_CREDENTIALS is not set, and gcloud has left no "
        "application_default_credentials.json; no Google metadata server answered. To mend it: run `gcloud auth "
        "application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a service account's key"
    )
    assert problem(ENTRA, {}).startswith(
        "no Microsoft Entra credentials: AZURE_CLIENT_SECRET is not set; AZURE_FEDERATED_TOKEN_FILE is not set; "
        "IDENTITY_ENDPOINT is not set; no managed identity answered. To mend it: set AZURE_TENANT_ID"
    )


# ---- Google --------------------------------------------------------------------------------------------------------


GRANTED = {"access_token": "hush-token", "expires_in": 3599, "token_type": "Bearer"}


@pytest.fixture(scope="module")
def rsa_key() -> Any:
    rsa: Any = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa", reason="cryptography is not there")
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def account_file(directory: Path, origin: str, rsa_key: Any) -> str:
    from cryptography.hazmat.primitives import serialization

    pem = rsa_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "project_id": "quiet-project",
        "private_key_id": "k1",
        "private_key": pem.decode(),
        "client_email": "meter@quiet-project.iam.gserviceaccount.com",
        "token_uri": f"{origin}/token",
        "universe_domain": "googleapis.com",
    }
    return written(directory, "account.json", json.dumps(account))


def test_a_service_account_states_who_it_is_with_its_key(tmp_path: Path, rsa_key: Any) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    clock = Clock()
    with issuing({"POST /token": said(GRANTED)}) as issuer:
        environ = {"GOOGLE_APPLICATION_CREDENTIALS": account_file(tmp_path, issuer.origin, rsa_key)}
        assert fetch(GOOGLE, environ, clock) == BearerToken("hush-token")
        form = issuer.asked[0].form
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        stated, _, signature = form["assertion"].rpartition(".")
        rsa_key.public_key().verify(_bytes(signature), stated.encode(), padding.PKCS1v15(), hashes.SHA256())
        header, claims = (json.loads(_bytes(part)) for part in stated.split("."))
        assert header == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
        assert claims == {
            "iss": "meter@quiet-project.iam.gserviceaccount.com",
            "scope": "https://www.googleapis.com/auth/cloud-platform",
            "aud": f"{issuer.origin}/token",
            "iat": 1_000_000,
            "exp": 1_003_600,
        }
        assert usual_place(GOOGLE, {**NOBODY, **environ}) == (None, "quiet-project")


def _bytes(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_a_service_account_without_the_extra_names_it(
    tmp_path: Path, rsa_key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = account_file(tmp_path, NOWHERE, rsa_key)
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    said_ = problem(GOOGLE, {"GOOGLE_APPLICATION_CREDENTIALS": path})
    assert said_ == "a service account's key is used with the `google` extra: pip install 'counterfoil[google]'"


PERSON = {"type": "authorized_user", "client_id": "c", "client_secret": "hush-secret", "refresh_token": "hush-token"}


def test_a_persons_sign_in_is_renewed_from_gclouds_own_file(tmp_path: Path) -> None:
    with issuing({"POST /token": said(GRANTED)}) as issuer:
        person = {**PERSON, "token_uri": f"{issuer.origin}/token", "quota_project_id": "own-project"}
        written(tmp_path, "application_default_credentials.json", json.dumps(person))
        environ = {"CLOUDSDK_CONFIG": str(tmp_path)}
        assert fetch(GOOGLE, environ) == BearerToken("hush-token")
        assert issuer.asked[0].form == {
            "grant_type": "refresh_token",
            "client_id": "c",
            "client_secret": "hush-secret",
            "refresh_token": "hush-token",
        }
        assert usual_place(GOOGLE, {**NOBODY, **environ}) == (None, "own-project")
        issuer.answers["POST /token"] = said({"error": "invalid_grant", "error_description": "hush-token"}, 400)
        assert problem(GOOGLE, environ) == "Google's token endpoint refused (400 invalid_grant)"
        issuer.answers["POST /token"] = said({"error": "hush-token <&>"}, 400)
        assert problem(GOOGLE, environ) == "Google's token endpoint refused (400)"
        issuer.answers["POST /token"] = said(b"x" * 300_000)
        assert "more than" in problem(GOOGLE, environ)
        issuer.answers["POST /token"] = said({"access_token": "a\r\nb"})
        assert "no token" in problem(GOOGLE, environ)


@pytest.mark.parametrize(
    ("text", "said_"),
    [
        (json.dumps({**PERSON, "type": "external_account"}), "of the kind external_account cannot be used here"),
        (json.dumps({**PERSON, "type": "hush-secret"}), "of no kind that is known"),
        ('{"type": "authorized_user"}', "cannot be read"),
        ("hush-secret", "cannot be read"),
        (json.dumps({**PERSON, "token_uri": "http://keys.example/token"}), "neither https nor on this machine"),
    ],
)
def test_a_google_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str, said_: str) -> None:
    path = written(tmp_path, "google.json", text)
    assert said_ in problem(GOOGLE, {"GOOGLE_APPLICATION_CREDENTIALS": path})
    assert usual_place(GOOGLE, {**NOBODY, "GOOGLE_APPLICATION_CREDENTIALS": path}) == (None, None)


def metadata_host(origin: str) -> dict[str, str]:
    return {"GCE_METADATA_HOST": origin.removeprefix("http://")}


def test_a_google_machine_is_lent_a_token_once_its_metadata_showed_what_it_is() -> None:
    path = "/computeMetadata/v1/instance/service-accounts/default/token"
    answers = {"/": said({}, Metadata_Flavor="Google"), path: said(GRANTED)}
    with issuing(answers) as issuer:
        assert fetch(GOOGLE, metadata_host(issuer.origin)) == BearerToken("hush-token")
        assert all(asked.headers["metadata-flavor"] == "Google" for asked in issuer.asked)
        assert issuer.paths[-1] == f"{path}?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform"
        issuer.answers["/"] = said({})
        assert "no Google metadata server answered" in problem(GOOGLE, metadata_host(issuer.origin))


# ---- Entra ---------------------------------------------------------------------------------------------------------


APPLICATION = {"AZURE_TENANT_ID": "tenant-1", "AZURE_CLIENT_ID": "app-1", "AZURE_CLIENT_SECRET": "hush-secret"}


@pytest.mark.parametrize("token", ["", "hush-token\nx: y", "hush-tok\u00e9n"])
def test_a_token_that_no_header_can_carry_is_none(token: str) -> None:
    granted = {"POST /tenant-1/oauth2/v2.0/token": said({"access_token": token, "expires_in": 60})}
    with issuing(granted) as issuer:
        environ = {**APPLICATION, "AZURE_AUTHORITY_HOST": issuer.origin}
        assert problem(ENTRA, environ) == "Microsoft Entra's token endpoint answered what is no token"
    path = "/computeMetadata/v1/instance/service-accounts/default/token"
    with issuing({"/": said({}, Metadata_Flavor="Google"), path: said({"access_token": token})}) as issuer:
        assert problem(GOOGLE, metadata_host(issuer.origin)) == "Google's metadata server answered what is no token"


def test_an_applications_secret_is_exchanged_for_a_token() -> None:
    with issuing({"POST /tenant-1/oauth2/v2.0/token": said(GRANTED)}) as issuer:
        environ = {**APPLICATION, "AZURE_AUTHORITY_HOST": f"{issuer.origin}/"}
        assert fetch(ENTRA, environ) == BearerToken("hush-token")
        assert issuer.asked[0].form == {
            "grant_type": "client_credentials",
            "client_id": "app-1",
            "scope": "https://cognitiveservices.azure.com/.default",
            "client_secret": "hush-secret",
        }
        other = Auth(style="entra", scope="https://ai.azure.com/.default")
        fetch(other, environ)
        assert issuer.asked[1].form["scope"] == "https://ai.azure.com/.default"
        refusal = {"error": "invalid_client", "error_codes": [7000215], "error_description": "hush-secret"}
        issuer.answers["POST /tenant-1/oauth2/v2.0/token"] = said(refusal, 401)
        assert problem(ENTRA, environ) == (
            "Microsoft Entra's token endpoint refused (401 invalid_client AADSTS7000215)"
        )
        assert "AZURE_TENANT_ID is not" in problem(ENTRA, {**environ, "AZURE_TENANT_ID": ""})
        assert "AZURE_TENANT_ID is no tenant" in problem(ENTRA, {**environ, "AZURE_TENANT_ID": "../x"})
        in_the_clear = problem(ENTRA, {**environ, "AZURE_AUTHORITY_HOST": "http://login.example"})
        assert "neither https nor on this machine" in in_the_clear


def test_a_workloads_token_is_exchanged_for_entras(tmp_path: Path) -> None:
    with issuing({"POST /tenant-1/oauth2/v2.0/token": said(GRANTED)}) as issuer:
        environ = {
            "AZURE_TENANT_ID": "tenant-1",
            "AZURE_CLIENT_ID": "app-1",
            "AZURE_FEDERATED_TOKEN_FILE": written(tmp_path, "token", "hush-key\n"),
            "AZURE_AUTHORITY_HOST": issuer.origin,
        }
        assert fetch(ENTRA, environ) == BearerToken("hush-token")
        form = issuer.asked[0].form
        assert form["client_assertion"] == "hush-key"
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def test_a_managed_identity_is_asked_where_the_machine_says() -> None:
    clock = Clock()
    granted = {"access_token": "hush-token", "expires_on": str(int(clock.now) + 3600), "expires_in": ""}
    with issuing({"/msi": said(granted), "/metadata/identity/oauth2/token": said(granted)}) as issuer:
        place = {"IDENTITY_ENDPOINT": f"{issuer.origin}/msi", "IDENTITY_HEADER": "hush-key", "AZURE_CLIENT_ID": "a/1"}
        assert fetch(ENTRA, place, clock) == BearerToken("hush-token")
        assert issuer.asked[0].headers["x-identity-header"] == "hush-key"
        resource = "resource=https%3A%2F%2Fcognitiveservices.azure.com"
        assert issuer.paths[0] == f"/msi?api-version=2019-08-01&{resource}&client_id=a%2F1"
        assert fetch(ENTRA, {"AZURE_POD_IDENTITY_AUTHORITY_HOST": issuer.origin}, clock) == BearerToken("hush-token")
        knocked, asked = issuer.asked[1:]
        assert "metadata" not in knocked.headers
        assert asked.headers["metadata"] == "true"
        assert asked.path == f"/metadata/identity/oauth2/token?api-version=2018-02-01&{resource}"


# ---- what shows without asking anybody -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "environ", "shows"),
    [
        (AWS, {}, None),
        (AWS, KEYS, "AWS_ACCESS_KEY_ID"),
        (AWS, {"AWS_PROFILE": "work"}, "AWS_PROFILE"),
        (GOOGLE, {"GCE_METADATA_HOST": ""}, None),
        (GOOGLE, {"GOOGLE_APPLICATION_CREDENTIALS": "/a.json"}, "GOOGLE_APPLICATION_CREDENTIALS"),
        (ENTRA, {}, None),
        (ENTRA, APPLICATION, "AZURE_CLIENT_SECRET"),
        (Auth(), KEYS, None),
    ],
)
def test_the_environment_shows_credentials_without_anybody_being_asked(
    auth: Auth, environ: dict[str, str], shows: str | None
) -> None:
    assert shown(auth, {**NOBODY, **environ}) == shows


def test_files_show_credentials_by_the_names_their_tools_give_them(tmp_path: Path) -> None:
    aws = written(tmp_path, "credentials", CREDENTIALS_FILE)
    assert shown(AWS, {**NOBODY, "AWS_SHARED_CREDENTIALS_FILE": aws}) == "~/.aws/credentials"
    written(tmp_path, "application_default_credentials.json", "{}")
    found = shown(GOOGLE, {**NOBODY, "GCE_METADATA_HOST": "", "CLOUDSDK_CONFIG": str(tmp_path)})
    assert found == "gcloud's application_default_credentials.json"


def test_entra_is_looked_for_only_where_something_speaks_of_it() -> None:
    assert nothing_shown(AWS, NOBODY) is None
    assert "AZURE_TENANT_ID" in (nothing_shown(ENTRA, NOBODY) or "")
    assert nothing_shown(ENTRA, {"AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential"}) is None


# ---- kept, renewed, one search at a time ---------------------------------------------------------------------------


class Tokens:
    """An issuer of numbered tokens that hold for a time, and a gate before each answer."""

    def __init__(self, seconds: float = 3600.0) -> None:
        self.seconds = seconds
        self.given = 0
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self.broken = False

    def __call__(self, asked: Asked) -> Said:
        self.waiting.set()
        assert self.gate.wait(20)
        if self.broken:
            return said({"error": "temporarily_unavailable"}, 503)
        self.given += 1
        return said({"access_token": f"token-{self.given}", "expires_in": self.seconds})


class Kept:
    """Entra's credentials from `tokens`, with a clock to turn."""

    def __init__(self, origin: str, tokens: Tokens) -> None:
        self.clock = Clock()
        self.tokens = tokens
        environ = {**NOBODY, **APPLICATION, "AZURE_AUTHORITY_HOST": origin}
        self.credentials = Credentials(environ, clock=self.clock)

    def get(self, seconds: float = 10.0) -> str:
        found = self.credentials.get(ENTRA, time.monotonic() + seconds)
        assert isinstance(found, BearerToken)
        return found.token

    def settle(self, given: int) -> None:
        """Wait for a search in the background, to its very end."""
        until = time.monotonic() + 10
        held = next(iter(self.credentials._held.values()))
        while self.tokens.given < given or held.search is not None:
            assert time.monotonic() < until
            time.sleep(0.002)


@pytest.fixture
def kept() -> Any:
    tokens = Tokens()
    with issuing({"/tenant-1/oauth2/v2.0/token": tokens}) as issuer:
        place = Kept(issuer.origin, tokens)
        yield place
        tokens.gate.set()
        place.credentials.close()


def test_a_token_is_kept_and_renewed_early_without_anybody_waiting(kept: Kept) -> None:
    assert kept.get() == "token-1"
    kept.clock.now += 3600 - credential_module.EARLY - 1
    assert kept.get() == "token-1"
    assert kept.tokens.given == 1
    kept.tokens.gate.clear()
    kept.clock.now += 2
    assert kept.get() == kept.get() == "token-1"  # although the next one is asked for, and held up
    kept.tokens.gate.set()
    kept.settle(2)
    assert kept.get() == "token-2"


def test_a_token_that_has_all_but_ended_is_used_no_more(kept: Kept) -> None:
    assert kept.get() == "token-1"
    kept.clock.now += 3600 - credential_module.LATEST + 1
    assert kept.get() == "token-2"


def test_a_renewal_that_fails_early_changes_nothing_until_the_token_ends(kept: Kept) -> None:
    assert kept.get() == "token-1"
    kept.tokens.broken = True
    kept.clock.now += 3600 - credential_module.EARLY + 1
    assert kept.get() == "token-1"
    held = next(iter(kept.credentials._held.values()))
    until = time.monotonic() + 10
    while held.search is not None:
        assert time.monotonic() < until
        time.sleep(0.002)
    assert kept.get() == "token-1"
    kept.clock.now += credential_module.EARLY
    with pytest.raises(CredentialError, match="503 temporarily_unavailable"):
        kept.get()
    kept.tokens.broken = False
    with pytest.raises(CredentialError, match="503"):  # remembered for a moment, so that a crowd is told at once
        kept.get()
    kept.clock.now += credential_module.REMEMBERED + 0.1
    assert kept.get() == "token-2"


def test_a_crowd_of_threads_and_loops_makes_one_search(kept: Kept) -> None:
    kept.tokens.gate.clear()

    async def many() -> list[object]:
        return await asyncio.gather(*(kept.credentials.wait(ENTRA) for _ in range(20)))

    with ThreadPoolExecutor(12) as pool:
        threads = [pool.submit(kept.get) for _ in range(8)]
        loops = [pool.submit(asyncio.run, many()) for _ in range(2)]
        assert kept.tokens.waiting.wait(10)
        kept.tokens.gate.set()
        assert {one.result(10) for one in threads} == {"token-1"}
        for one in loops:
            assert set(map(str, one.result(10))) == {"BearerToken([secret])"}
    assert kept.tokens.given == 1


def test_who_stops_waiting_does_not_stop_the_search(kept: Kept) -> None:
    kept.tokens.gate.clear()

    async def given_up() -> None:
        waiting = asyncio.create_task(kept.credentials.wait(ENTRA))
        await asyncio.to_thread(kept.tokens.waiting.wait, 10)
        other = asyncio.create_task(kept.credentials.wait(ENTRA))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        kept.tokens.gate.set()
        assert await other == BearerToken("token-1")

    asyncio.run(given_up())
    assert kept.get() == "token-1"
    assert kept.tokens.given == 1


def test_a_loop_that_ends_while_it_waits_leaves_no_trace(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    kept.tokens.gate.clear()

    async def left() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await kept.credentials.wait(ENTRA)

    asyncio.run(left())
    with pytest.raises(TimeoutError):
        kept.get(0.05)
    kept.tokens.gate.set()
    assert kept.get() == "token-1"
    assert not caplog.records


def test_a_credential_that_a_provider_refused_is_looked_for_anew_unless_it_is_new(kept: Kept) -> None:
    first = kept.credentials.get(ENTRA)
    kept.credentials.refused(first)
    assert kept.get() == "token-1"
    kept.clock.now += credential_module.AGAIN + 1
    kept.credentials.refused(BearerToken("token-1"))  # the same words, but not the one that was given
    assert kept.get() == "token-1"
    kept.credentials.refused(first)
    assert kept.get() == "token-2"


def test_what_one_provider_refused_is_kept_where_no_other_is_to_be_had(kept: Kept) -> None:
    """A 403 may mean one model: whoever issues credentials may be down meanwhile."""
    first = kept.credentials.get(ENTRA)
    kept.tokens.broken = True
    kept.clock.now += credential_module.AGAIN + 1
    kept.credentials.refused(first)
    assert kept.get() == "token-1"
    kept.tokens.broken = False
    kept.clock.now += credential_module.AGAIN + 1
    kept.credentials.refused(first)
    assert kept.get() == "token-2"


def test_each_who_waited_is_told_by_an_error_of_their_own(kept: Kept) -> None:
    kept.tokens.broken = True
    kept.tokens.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(kept.get) for _ in range(8)]
        assert kept.tokens.waiting.wait(10)
        kept.tokens.gate.set()
        errors = [one.exception(10) for one in asked]
    assert {str(error) for error in errors} == {str(errors[0])}
    assert len({id(error) for error in errors}) == len(errors)


def test_what_holds_a_secret_shows_none_of_it() -> None:
    shown_ = [
        msgspec.convert(LENT, credential_aws._Lent),
        credential_google._Account("me@example.com", "hush-key"),
        credential_google._Person("client", "hush-secret", "hush-token"),
        credential_google._Token("hush-token"),
        credential_entra._Token("hush-token"),
        Sending("https://example.com/", {"authorization": "Bearer hush-token"}),
    ]
    assert not any(secret in f"{shown_!r}{list(map(str, shown_))}" for secret in SECRETS)


def test_a_new_configuration_looks_anew(kept: Kept) -> None:
    assert kept.get() == "token-1"
    kept.credentials.forget()
    assert kept.get() == "token-2"


def test_another_scope_is_another_token(kept: Kept) -> None:
    assert kept.get() == "token-1"
    other = kept.credentials.get(Auth(style="entra", scope="https://ai.azure.com/.default"))
    assert other == BearerToken("token-2")


def test_a_defect_of_ours_is_told_as_one_and_the_next_call_searches_again(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(credential_module, "_find", lambda *_: dict[str, object]()["hush-secret"])
        with pytest.raises(CredentialError, match="Microsoft Entra credentials: a defect of ours") as caught:
            kept.get()
        assert "hush" not in str(caught.value)
    kept.clock.now += credential_module.REMEMBERED + 0.1
    assert kept.get() == "token-1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_process_does_not_wait_for_a_search_of_its_parent(kept: Kept) -> None:
    kept.tokens.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(kept.get)
        assert kept.tokens.waiting.wait(10)
        reading, writing = os.pipe()
        kept.credentials._lock.acquire()  # as another thread might hold it
        child = os.fork()
        if child == 0:
            said_ = b"?"
            try:
                held = next(iter(kept.credentials._held.values()))
                said_ = b"free" if held.search is None and kept.credentials._lock.acquire(timeout=5) else b"stuck"
            finally:
                os.write(writing, said_)
                os._exit(0)
        kept.credentials._lock.release()
        kept.tokens.gate.set()
        os.waitpid(child, 0)
        assert os.read(reading, 16) == b"free"
        os.close(reading)
        os.close(writing)
        assert waiting.result(10) == "token-1"
