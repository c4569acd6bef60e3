"""Vectors in process: OpenAI's shape, whoever makes them, and the same books as of any other call."""

from __future__ import annotations

import asyncio
import base64
import struct
from decimal import Decimal
from typing import Any

import pytest

import counterfoil
from counterfoil.ledger.entry import Exit
from counterfoil.testing import EmbeddingsReply, Playback, error_answer
from counterfoil.usage.usage import Provenance
from tests.sdk.support import SECONDS, provider_in_environment

__all__: list[str] = []

TEXTS = ["low tide", "high tide"]

each_way = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


def _embed(asynchronous: bool, settings: dict[str, Any], **call: Any) -> counterfoil.EmbeddingResponse:
    """One call with a client of its own, which is closed before this returns."""

    async def awaited() -> counterfoil.EmbeddingResponse:
        async with asyncio.timeout(SECONDS), counterfoil.AsyncClient(**settings) as client:
            return await client.embeddings.create(**call)

    if asynchronous:
        return asyncio.run(awaited())
    with counterfoil.Client(**settings) as client:
        return client.embeddings.create(**call)


@each_way
def test_vectors_their_usage_and_their_entry_are_what_was_served(asynchronous: bool, provider: Playback) -> None:
    provider.default = EmbeddingsReply(((0.5, -1.25), (2.0, 0.125)), input=8).script()
    reply = _embed(asynchronous, {"base_url": provider.base_url}, model="play-vectors", input=TEXTS)
    assert [item.embedding for item in reply.data] == [[0.5, -1.25], [2.0, 0.125]]
    assert [item["index"] for item in reply["data"]] == [0, 1]
    assert reply.model == "play-vectors"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens, reply.usage.completion_tokens) == (8, 8, None)
    assert reply.usage.provenance["input_tokens"] is Provenance.REPORTED
    entry = reply.entry
    assert entry is not None
    assert (entry.exit, entry.usage.input_tokens, entry.usage.output_tokens) == (Exit.COMPLETED, 8, 0)
    assert entry.opening.client_dialect == "openai_embeddings"
    request = provider.served[0].request
    assert request.path == "/v1/embeddings"
    assert request.json == {"model": "play-vectors", "input": TEXTS}


@each_way
def test_a_provider_of_the_table_is_found_by_the_name_of_its_model_and_its_price_is_known(
    asynchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with provider_in_environment(monkeypatch) as provider:
        reply = _embed(asynchronous, {}, model="text-embedding-3-small", input="low tide", dimensions=3)
    assert provider.served[0].request.json["dimensions"] == 3
    assert reply.entry is not None
    assert reply.entry.opening.provider == "openai"
    assert isinstance(reply.cost, Decimal)
    assert reply.cost > 0
    assert reply.cost == counterfoil.completion_cost(reply)


@each_way
def test_vectors_come_as_base64_where_that_is_asked_for(asynchronous: bool, provider: Playback) -> None:
    reply = _embed(
        asynchronous, {"base_url": provider.base_url}, model="v", input=[1, 2, 3], encoding_format="base64", tags=["t"]
    )
    (item,) = reply.data
    assert struct.unpack("<3f", base64.b64decode(item.embedding)) == (0.5, 0.25, 0.125)
    assert reply.entry is not None
    assert reply.entry.opening.tags == ("t",)


def test_what_nobody_counted_is_a_marked_estimate(provider: Playback) -> None:
    provider.default = EmbeddingsReply(input=None).script()
    reply = _embed(False, {"base_url": provider.base_url}, model="v", input="low tide")
    assert reply.usage is not None
    assert reply.usage.estimated is True
    assert reply.usage.provenance["input_tokens"] is Provenance.ESTIMATED
    assert reply.entry is not None
    assert reply.entry.usage.output_tokens == 0


@each_way
def test_a_refusal_is_raised_with_its_entry(asynchronous: bool, provider: Playback) -> None:
    provider.default = error_answer(404, code="model_not_found")
    with pytest.raises(counterfoil.NotFoundError) as raised:
        _embed(asynchronous, {"base_url": provider.base_url}, model="v", input="low tide")
    assert raised.value.entry is not None
    assert raised.value.entry.exit is Exit.REJECTED


def test_nothing_to_embed_is_refused_before_anybody_is_asked(provider: Playback) -> None:
    with pytest.raises(counterfoil.BadRequestError) as raised:
        _embed(False, {"base_url": provider.base_url}, model="v", input=[])
    assert raised.value.param == "input"
    assert not provider.served


def test_a_provider_that_only_chats_is_not_asked_for_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        provider_in_environment(monkeypatch, "ANTHROPIC") as provider,
        pytest.raises(counterfoil.BadRequestError) as no,
    ):
        _embed(False, {}, model="anthropic/claude-haiku-4-5", input="low tide")
    assert no.value.code == "operation_not_supported"
    assert not provider.served


@pytest.mark.parametrize("model", ["anthropic/claude-haiku-4-5", "bedrock/amazon.nova-micro-v1:0"])
def test_what_a_provider_cannot_do_is_said_before_a_secret_or_a_region_is_asked_for(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(counterfoil.BadRequestError, match=f"which serves '{model}', cannot embed") as raised:
        _embed(False, {}, model=model, input="low tide")
    assert (raised.value.code, raised.value.param) == ("operation_not_supported", "model")


def test_vectors_can_be_asked_for_without_a_client_and_count_in_a_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    with provider_in_environment(monkeypatch), counterfoil.meter() as meter:
        reply = counterfoil.embedding("openai/text-embedding-3-small", TEXTS)

        async def awaited() -> counterfoil.EmbeddingResponse:
            async with asyncio.timeout(SECONDS):
                return await counterfoil.aembedding("openai/text-embedding-3-small", TEXTS)

        again = asyncio.run(awaited())
    assert len(reply.data) == 2
    assert again.data == reply.data
    assert meter.usage.input_tokens == 16
    assert meter.usage.output_tokens == 0
