"""Bedrock and Vertex behind the gateway and both clients of the SDK: fetched credentials, the clouds' own paths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from counterfoil.ledger.entry import Exit
from counterfoil.testing import Counts, Playback, Script, Send, messages_reply, running
from counterfoil.testing.eventstream import EVENT_STREAM, event_message
from tests.exchange.issuer import Issuer, issuing, said
from tests.sdk.support import WAYS, Way, ask
from tests.shells.gateway import gateway

USAGE = {"inputTokens": 7, "outputTokens": 2, "totalTokens": 9}
ARN = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
CLAUDE = "claude-sonnet-4-5@20250929"
MODELS = f"""
models:
  bedrock-claude: [{{provider: bedrock, model: "{ARN}"}}]
  vertex-claude: [{{provider: vertex, model: "{CLAUDE}", region: us-east5}}]
  azure: [{{provider: azure-openai, model: gpt-x}}]
listen: {{port: 0, drain: 5}}
retries: {{attempts: 1}}
"""


def converse(streamed: bool) -> Script:
    """A reply of Bedrock's Converse."""
    if not streamed:
        body = {
            "output": {"message": {"role": "assistant", "content": [{"text": "Good morning"}]}},
            "stopReason": "end_turn",
            "usage": USAGE,
        }
        headers = (("content-type", "application/json"),)
        return Script(
            (Send(json.dumps(body).encode()),), headers=headers, framing="length", usage=Counts(input=7, output=2)
        )
    events = (
        event_message("messageStart", {"role": "assistant"}),
        event_message("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Good morning"}}),
        event_message("contentBlockStop", {"contentBlockIndex": 0}),
        event_message("messageStop", {"stopReason": "end_turn"}),
        event_message("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}}),
    )
    return Script(tuple(map(Send, events)), headers=(("content-type", EVENT_STREAM),), usage=Counts(input=7, output=2))


class Clouds:
    """A provider, an issuer, and an environment that leads to both."""

    def __init__(self, provider: Playback, issuer: Issuer, directory: Path) -> None:
        self.provider, self.issuer = provider, issuer
        person = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
        adc = directory / "application_default_credentials.json"
        adc.write_text(json.dumps({**person, "token_uri": f"{issuer.origin}/google", "quota_project_id": "quiet"}))
        credentials = directory / "credentials"
        credentials.write_text("[work]\naws_access_key_id = AKIAWORK\naws_secret_access_key = hush\n")
        config = directory / "config"
        config.write_text("[profile work]\nregion = eu-west-1\n")
        self.environ = {
            "AWS_PROFILE": "work",
            "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
            "AWS_CONFIG_FILE": str(config),
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": provider.origin,
            "AWS_EC2_METADATA_DISABLED": "true",
            "CLOUDSDK_CONFIG": str(directory),
            "ANTHROPIC_VERTEX_BASE_URL": f"{provider.origin}/v1",
            "AZURE_OPENAI_ENDPOINT": provider.origin,
            "AZURE_AUTHORITY_HOST": issuer.origin,
            "AZURE_TENANT_ID": "t",
            "AZURE_CLIENT_ID": "c",
            "AZURE_CLIENT_SECRET": "hush",
        }

    def was_sent_to_bedrock(self, streamed: bool) -> None:
        served = self.provider.served[-1]
        model = ARN.replace(":", "%3A").replace("/", "%2F")
        assert served.path == f"/model/{model}/{'converse-stream' if streamed else 'converse'}"
        signature = served.headers["authorization"]
        assert signature.startswith("AWS4-HMAC-SHA256 Credential=AKIAWORK/")
        assert "/eu-west-1/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-date," in signature

    def was_sent_to_vertex(self, streamed: bool) -> None:
        served = self.provider.served[-1]
        place = "/v1/projects/quiet/locations/us-east5/publishers/anthropic/models"
        assert served.path == f"{place}/{CLAUDE}:{'streamRawPredict' if streamed else 'rawPredict'}"
        assert served.headers["authorization"] == "Bearer g-1"
        body = json.loads(served.body)
        assert "model" not in body
        assert body["anthropic_version"] == "vertex-2023-10-16"
        assert body["messages"]


@pytest.fixture
def clouds(tmp_path: Path) -> Iterator[Clouds]:
    tokens = {
        "/google": said({"access_token": "g-1", "expires_in": 3600}),
        "/t/oauth2/v2.0/token": said({"access_token": "e-1", "expires_in": 3600}),
    }
    with running() as provider, issuing(tokens) as issuer:
        yield Clouds(provider, issuer, tmp_path)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_gateway_signs_for_bedrock(clouds: Clouds, tmp_path: Path, streamed: bool) -> None:
    clouds.provider.queue(converse(streamed))
    with gateway(tmp_path, text=MODELS, environ=clouds.environ) as running_gateway:
        answer = running_gateway.chat("bedrock-claude", stream=streamed)
        assert answer.status == 200
        text = answer.text if streamed else answer.json["choices"][0]["message"]["content"]
        assert text == "Good morning"
        clouds.was_sent_to_bedrock(streamed)
        entry = running_gateway.entry()
        assert (entry.exit, entry.usage.input_tokens, entry.usage.output_tokens) == (Exit.COMPLETED, 7, 2)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_gateway_fetches_a_token_for_vertex(clouds: Clouds, tmp_path: Path, streamed: bool) -> None:
    clouds.provider.queue(messages_reply(text="Good morning", usage=Counts(input=7, output=2), stream=streamed))
    with gateway(tmp_path, text=MODELS, environ=clouds.environ) as running_gateway:
        answer = running_gateway.chat("vertex-claude", stream=streamed)
        assert answer.status == 200
        assert b"Good" in answer.body
        clouds.was_sent_to_vertex(streamed)
        assert running_gateway.entry().usage.total_tokens == 9


def test_the_gateway_shows_azure_a_token_where_there_is_no_key_and_the_key_where_there_is(
    clouds: Clouds, tmp_path: Path
) -> None:
    with gateway(tmp_path, text=MODELS, environ=clouds.environ) as without_key:
        assert without_key.chat("azure").status == 200
    with gateway(tmp_path, text=MODELS, environ={**clouds.environ, "AZURE_OPENAI_API_KEY": "hush"}) as with_key:
        assert with_key.chat("azure").status == 200
    first, second = (one.headers for one in clouds.provider.served)
    assert (first["authorization"], first.get("api-key")) == ("Bearer e-1", None)
    assert (second.get("authorization"), second["api-key"]) == (None, "hush")


def test_a_gateway_that_finds_no_credential_says_so_and_books_nothing(clouds: Clouds, tmp_path: Path) -> None:
    environ = {**clouds.environ, "AWS_PROFILE": "nobody", "AWS_REGION": "eu-west-1"}
    with gateway(tmp_path, text=MODELS, environ=environ) as running_gateway:
        answer = running_gateway.chat("bedrock-claude")
        assert answer.status == 502
        assert "there is no profile of the name that AWS_PROFILE says" in answer.error["message"]
        entry = running_gateway.entry()
        assert (entry.exit, entry.lines) == (Exit.LOST, ())
    assert not clouds.provider.served


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_both_clients_sign_for_bedrock_and_fetch_a_token_for_vertex(
    clouds: Clouds, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in clouds.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CLOUD_ML_REGION", "us-east5")
    clouds.provider.queue(
        converse(way.streamed),
        messages_reply(text="Good morning", usage=Counts(input=7, output=2), stream=way.streamed),
    )
    asked = ask(way, {}, model=f"bedrock/{ARN}")
    assert asked.error is None
    assert asked.text == "Good morning"
    clouds.was_sent_to_bedrock(way.streamed)
    asked = ask(way, {}, model=f"vertex/{CLAUDE}")
    assert asked.text == "Good morning"
    clouds.was_sent_to_vertex(way.streamed)
    assert asked.entry is not None
    assert asked.entry.usage.total_tokens == 9
