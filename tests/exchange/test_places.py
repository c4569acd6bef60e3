"""Deployments of clouds: their region and project, and whether a secret or a fetched credential pays."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from counterfoil.config import Config, DeploymentConfig
from counterfoil.driver.deployment import Built, DeploymentError, build_deployment, load_table
from counterfoil.driver.discover import discover
from counterfoil.providers.table import TableError, read_table
from counterfoil.sdk.names import Names, Wanted
from tests.exchange.test_credential import CONFIG_FILE, NOBODY, written

TABLE = load_table()


def built(provider: str, environ: dict[str, str], **fields: Any) -> Built:
    said = DeploymentConfig(**{"provider": provider, "model": "m", **fields})
    return build_deployment(said, Config(), TABLE, {**NOBODY, **environ})


def test_a_region_is_what_the_deployment_says_else_its_variables_else_the_profiles(tmp_path: Path) -> None:
    profile = {"AWS_CONFIG_FILE": written(tmp_path, "config", CONFIG_FILE), "AWS_PROFILE": "work"}
    assert built("bedrock", profile).deployment.region == "ap-south-1"
    assert built("bedrock", {**profile, "AWS_DEFAULT_REGION": "b-1"}).deployment.region == "b-1"
    assert built("bedrock", {**profile, "AWS_DEFAULT_REGION": "b-1", "AWS_REGION": "a-1"}).deployment.region == "a-1"
    made = built("bedrock", {**profile, "AWS_REGION": "a-1"}, region="c-1").deployment
    assert (made.region, made.base_url) == ("c-1", "https://bedrock-runtime.c-1.amazonaws.com")
    china = built("bedrock", {}, region="cn-north-1").deployment.base_url
    assert china == "https://bedrock-runtime.cn-north-1.amazonaws.com.cn"


@pytest.mark.parametrize("fields", [{}, {"base_url": "https://vpce-1.bedrock-runtime.eu-west-1.vpce.amazonaws.com"}])
def test_a_signature_needs_a_region_wherever_it_goes(fields: dict[str, str]) -> None:
    with pytest.raises(DeploymentError, match="Bedrock needs a region: give its `region`, or set AWS_REGION"):
        built("bedrock", {}, **fields)


@pytest.mark.parametrize(
    ("base_url", "own"),
    [
        ("https://vpce-1-2.bedrock-runtime.eu-west-1.vpce.amazonaws.com", True),
        ("https://vpce-1-2-eu-west-1a.bedrock-runtime.eu-west-1.vpce.amazonaws.com", True),
        ("https://bedrock-runtime-fips.eu-west-1.amazonaws.com", True),
        ("https://bedrock-runtime.eu-west-1.api.aws", True),
        ("http://vpce-1-2.bedrock-runtime.eu-west-1.vpce.amazonaws.com", False),
        ("https://vpce-1-2.bedrock-runtime.us-east-1.vpce.amazonaws.com", False),  # a signature there names its region
        ("https://vpce-1-2.vpce-svc-3.eu-west-1.vpce.amazonaws.com", False),  # another customer's service
        ("https://vpce-1-2.bedrock-runtime.eu-west-1.vpce.amazonaws.com.example.org", False),
    ],
)
def test_a_vpcs_endpoint_is_bedrocks_own(base_url: str, own: bool) -> None:
    keys = {"AWS_REGION": "eu-west-1"}
    signed = built("bedrock", keys, base_url=base_url)
    by_key = built("bedrock", {**keys, "AWS_BEARER_TOKEN_BEDROCK": "hush"}, base_url=base_url)
    assert (signed.deployment.fetched, by_key.deployment.secret is not None) == (own, own)
    assert bool(signed.warnings) is bool(by_key.warnings) is not own
    assert signed.deployment.base_url == base_url


def test_a_key_of_bedrocks_own_goes_before_keys_that_sign() -> None:
    by_key = built("bedrock", {"AWS_REGION": "a-1", "AWS_BEARER_TOKEN_BEDROCK": "hush"})
    assert (by_key.deployment.secret, by_key.deployment.fetched) == ("AWS_BEARER_TOKEN_BEDROCK", False)
    written_ = built("bedrock", {"AWS_REGION": "a-1"}, api_key="own").deployment
    assert (written_.secret, written_.fetched) == ("own", False)
    signed = built("bedrock", {"AWS_REGION": "a-1"}).deployment
    assert (signed.secret, signed.fetched) == (None, True)
    assert all(face.fetched and face.region == "a-1" for face in signed.faces)


ENTRA = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "hush"}
AZURE = {"AZURE_OPENAI_ENDPOINT": "https://r.openai.azure.com"}


@pytest.mark.parametrize("provider", ["azure-openai", "azure-openai-dated"])
def test_azure_goes_by_its_key_else_by_entra_else_says_both(provider: str) -> None:
    by_key = built(provider, {**AZURE, **ENTRA, "AZURE_OPENAI_API_KEY": "hush"}).deployment
    assert (by_key.secret, by_key.fetched) == ("AZURE_OPENAI_API_KEY", False)
    by_entra = built(provider, {**AZURE, **ENTRA}).deployment
    assert (by_entra.secret, by_entra.fetched) == (None, True)
    with pytest.raises(DeploymentError) as caught:
        built(provider, AZURE)
    assert "write api_key or set AZURE_OPENAI_API_KEY. Without one: set AZURE_TENANT_ID," in caught.value.message


@pytest.mark.parametrize(
    ("base_url", "sent"),
    [
        ("https://r.openai.azure.com", True),
        ("https://models.example.com/azure", True),  # in front of it, under a name of one's own
        ("http://127.0.0.1:8080", True),
        ("http://r.openai.azure.com", False),
        ("http://localhost.example.com", False),
    ],
)
def test_what_the_environment_holds_goes_to_a_tenants_address_but_never_in_the_clear(base_url: str, sent: bool) -> None:
    by_entra = built("azure-openai", ENTRA, base_url=base_url)
    by_key = built("azure-openai", {"AZURE_OPENAI_API_KEY": "hush"}, base_url=base_url)
    assert (by_entra.deployment.fetched, by_key.deployment.secret is not None) == (sent, sent)
    assert bool(by_entra.warnings) is bool(by_key.warnings) is not sent
    assert built("azure-openai", {}, base_url=base_url, api_key="own").deployment.secret == "own"


def test_what_shows_credentials_is_found_without_fetching_them_and_only_where_nothing_is_missing() -> None:
    def found(environ: dict[str, str]) -> dict[str, str]:
        rows = {name: row for name, row in TABLE.items() if row.probe is None}
        discovered = asyncio.run(discover(rows, {**NOBODY, "GCE_METADATA_HOST": "", **environ}))
        return {one.provider: one.detail for one in discovered.found}

    assert found({}) == {}
    assert found({"AWS_PROFILE": "work"}) == {}
    signed = dict.fromkeys(["bedrock", "bedrock-mantle"], "AWS_PROFILE")
    assert found({"AWS_PROFILE": "work", "AWS_REGION": "a-1"}) == signed
    google = {"GOOGLE_APPLICATION_CREDENTIALS": "/a.json", "CLOUD_ML_REGION": "us-east5"}
    assert found(google) == {}
    assert found({**google, "GOOGLE_CLOUD_PROJECT": "p"})["vertex"] == "GOOGLE_APPLICATION_CREDENTIALS"
    azure = {"azure-openai": "AZURE_CLIENT_SECRET", "azure-openai-dated": "AZURE_CLIENT_SECRET"}
    assert found({**AZURE, **ENTRA}) == azure


def test_a_call_of_the_sdk_needs_no_secret_where_credentials_are_fetched() -> None:
    names = Names(Config(), None, {**NOBODY, "AWS_REGION": "a-1"}, lambda secrets: None)
    (made,) = names.route(Wanted("bedrock/amazon.nova-micro-v1:0")).deployments
    assert (made.fetched, made.model) == (True, "amazon.nova-micro-v1:0")


ROW = """
[cloud]
title = "Cloud"
dialect = "openai_chat"
base_url = "https://{region}.cloud.example/{project}"
link = "https://cloud.example/docs"
"""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('auth = { style = "aws" }', "names no service"),
        ('path = "/{tenant}/chat"', "names what is unknown"),
        ('region_base_url = { eu = "https://{where}.cloud.example" }', "region's base URL"),
    ],
)
def test_a_row_names_no_place_that_a_deployment_cannot_say(more: str, said: str) -> None:
    from counterfoil.dialects.registry import DIALECTS

    assert read_table(ROW, DIALECTS)["cloud"].base_url
    with pytest.raises(TableError, match=said):
        read_table(ROW + more, DIALECTS)
