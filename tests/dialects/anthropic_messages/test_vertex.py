"""Claude on Vertex: the model is in the path and the version in the body, whoever the client is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from counterfoil.config import Config, DeploymentConfig
from counterfoil.dialects.anthropic_messages import ANTHROPIC_COUNT, ANTHROPIC_MESSAGES
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.openai_chat import OPENAI_CHAT
from counterfoil.driver.deployment import DeploymentError, build_deployment, load_table
from counterfoil.driver.sending import sending_of
from counterfoil.exchange.command import Post
from counterfoil.exchange.route import Deployment

ASKED = {"model": "house", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
PLACE = {"CLOUD_ML_REGION": "us-east5", "ANTHROPIC_VERTEX_PROJECT_ID": "quiet", "CLOUDSDK_CONFIG": "/nonexistent"}


def vertex(environ: dict[str, str] | None = None, **fields: Any) -> Deployment:
    written = DeploymentConfig(**{"provider": "vertex", "model": "claude-sonnet-4-5@20250929", **fields})
    return build_deployment(written, Config(), load_table(), PLACE if environ is None else environ).deployment


def sent_to(made: Deployment, streamed: bool = False) -> str:
    path = made.dialect.path(made.model, streamed)
    return sending_of(Post(made, path, b"", streamed, 1.0, 1.0), made.base_url, None, 0.0).url


@pytest.mark.parametrize("model", ["claude-sonnet-4-5@20250929", "claude-opus-4-6", "claude-3-7-sonnet@20250219"])
def test_a_client_of_the_same_dialect_gets_the_version_and_loses_the_model(model: str) -> None:
    quirks = vertex(model=model).quirks
    body = ANTHROPIC_MESSAGES.patch_request(json.dumps(ASKED).encode(), model, quirks, False)
    kept = {name: value for name, value in ASKED.items() if name != "model"}
    assert json.loads(body) == {"anthropic_version": "vertex-2023-10-16", **kept}


def test_a_client_of_another_dialect_too() -> None:
    quirks = vertex().quirks
    request = OPENAI_CHAT.read_request(json.dumps({**ASKED, "max_tokens": 9}).encode())
    body = json.loads(ANTHROPIC_MESSAGES.write_request(request, "m", quirks, False).body)
    assert body["anthropic_version"] == "vertex-2023-10-16"
    assert "model" not in body
    assert (body["max_tokens"], body["stream"]) == (9, True)


def test_what_the_client_says_itself_goes_before_what_is_set_for_it() -> None:
    own = json.dumps({**ASKED, "anthropic_version": "vertex-2030"}).encode()
    body = ANTHROPIC_MESSAGES.patch_request(own, "m", Quirks(body_set={"anthropic_version": "x"}), False)
    assert json.loads(body)["anthropic_version"] == "vertex-2030"
    assert json.loads(body)["model"] == "m"


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-east5", "us-east5-aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_region_has_its_own_host_and_a_stream_its_own_path(region: str, host: str, streamed: bool) -> None:
    verb = "streamRawPredict" if streamed else "rawPredict"
    place = f"https://{host}/v1/projects/quiet/locations/{region}/publishers/anthropic/models"
    assert sent_to(vertex(region=region), streamed) == f"{place}/claude-sonnet-4-5@20250929:{verb}"


@pytest.mark.parametrize("end", ["", "/projects/quiet/locations/us-east5/publishers/anthropic/models"])
def test_a_base_url_that_is_written_may_hold_the_beginning_of_the_path(end: str) -> None:
    written = f"https://us-east5-aiplatform.googleapis.com/v1{end}"
    made = vertex(base_url=written)
    assert sent_to(made) == sent_to(vertex())
    assert made.fetched


def test_no_token_goes_to_a_host_that_is_not_googles() -> None:
    for elsewhere in ("https://googleapis.com.example/v1", "http://aiplatform.googleapis.com/v1"):
        written = DeploymentConfig("vertex", "m", base_url=elsewhere)
        built = build_deployment(written, Config(), load_table(), PLACE)
        assert not built.deployment.fetched
        assert "no credentials are sent to another address" in built.warnings[0]
    assert not vertex(base_url="https://h.example", api_key="own").fetched


def test_tokens_are_counted_at_the_place_of_its_own() -> None:
    made = vertex().facing(ANTHROPIC_COUNT)
    assert made is not None
    place = "https://us-east5-aiplatform.googleapis.com/v1/projects/quiet/locations/us-east5"
    assert sent_to(made) == f"{place}/publishers/anthropic/models/count-tokens:rawPredict"
    asked = {"model": "house", "messages": ASKED["messages"]}
    body = ANTHROPIC_COUNT.patch_request(json.dumps(asked).encode(), made.model, made.quirks, False)
    assert json.loads(body)["model"] == made.model
    assert made.fetched


@pytest.mark.parametrize(
    ("environ", "fields", "said", "field"),
    [
        ({}, {}, "needs a region: give its `region`, or set CLOUD_ML_REGION", ""),
        (
            {"CLOUD_ML_REGION": "us-east5"},
            {},
            "needs a project: give its `project`, or set ANTHROPIC_VERTEX_PROJECT_ID",
            "",
        ),
        ({"CLOUD_ML_REGION": "evil.example/x"}, {}, "the environment variable CLOUD_ML_REGION is no region", "region"),
        (PLACE, {"region": "a.b"}, "this is no region", "region"),
        (PLACE, {"project": "../x"}, "this is no project", "project"),
        (PLACE, {"model": ".."}, "a model name is more than dots", "model"),
    ],
)
def test_what_a_place_lacks_is_said(environ: dict[str, str], fields: dict[str, str], said: str, field: str) -> None:
    with pytest.raises(DeploymentError, match=said) as caught:
        vertex({"CLOUDSDK_CONFIG": "/nonexistent", **environ}, **fields)
    assert caught.value.field == field
