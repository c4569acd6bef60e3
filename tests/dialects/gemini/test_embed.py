"""Vectors and token counts on Google's wires."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from counterfoil.core.error import FailureKind, RequestError
from counterfoil.core.event import EmbeddingsGiven, ReplyFailed, TokensCounted
from counterfoil.core.message import Image, Message, Text
from counterfoil.core.operation import CountRequest, EmbedRequest, ReasoningWish, Tool
from counterfoil.dialects.dialect import Dialect, Quirks
from counterfoil.dialects.gemini import GEMINI_COUNT, GEMINI_EMBED
from counterfoil.dialects.vertex_predict import VERTEX_PREDICT

from .support import PLAIN, Decoded, asked, decode, user

ONE_AT_A_TIME = Quirks(unsupported=frozenset({"batchEmbedContents"}))
UNWRAPPED = Quirks(unsupported=frozenset({"generateContentRequest"}))


def embed(*inputs: Any, **fields: Any) -> EmbedRequest:
    return EmbedRequest(model="house-model", inputs=inputs or ("tide",), **fields)


def body(dialect: Dialect[Any], request: Any, quirks: Quirks = PLAIN) -> Any:
    return json.loads(dialect.write_request(request, "made-1", quirks, False).body)


def whole(dialect: Dialect[Any], said: object) -> Decoded:
    return decode(json.dumps(said).encode(), streamed=False, dialect=dialect)


def vectors(found: Decoded) -> list[tuple[int, Any]]:
    return [
        (one.index, json.loads(bytes(one.vector))) for event in found.of(EmbeddingsGiven) for one in event.embeddings
    ]


def test_each_input_is_a_request_of_its_own() -> None:
    picture = (Text("A quay"), Image(data="AAAA", media_type="image/png"))
    request = embed("tide", picture, dimensions=64, purpose="search_document", title="Harbour")
    wishes = {"taskType": "RETRIEVAL_DOCUMENT", "title": "Harbour", "outputDimensionality": 64}
    parts = [{"text": "A quay"}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]
    assert body(GEMINI_EMBED, request) == {
        "requests": [
            {"model": "models/made-1", "content": {"parts": [{"text": "tide"}]}, **wishes},
            {"model": "models/made-1", "content": {"parts": parts}, **wishes},
        ]
    }
    assert GEMINI_EMBED.path("made-1", False) == "/models/made-1:batchEmbedContents"


def test_vertex_embeds_one_input_a_request() -> None:
    found = body(GEMINI_EMBED, embed("tide", dimensions=64), ONE_AT_A_TIME)
    assert found == {"content": {"parts": [{"text": "tide"}]}, "embedContentConfig": {"outputDimensionality": 64}}
    with pytest.raises(RequestError, match="one input a request"):
        body(GEMINI_EMBED, embed("a", "b"), ONE_AT_A_TIME)


def test_vertex_predicts_instances() -> None:
    found = body(VERTEX_PREDICT, embed("tide", "quay", purpose="query", dimensions=64))
    assert found == {
        "instances": [{"content": text, "task_type": "RETRIEVAL_QUERY"} for text in ("tide", "quay")],
        "parameters": {"outputDimensionality": 64},
    }
    assert VERTEX_PREDICT.path("made-1", False) == "/models/made-1:predict"


@pytest.mark.parametrize("dialect", [GEMINI_EMBED, VERTEX_PREDICT])
@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (embed((1, 2)), "input"),
        (embed(purpose="poetry"), "input_type"),
        (embed(rest={"a_field": msgspec.Raw(b"1")}), "a_field"),
    ],
)
def test_what_cannot_be_embedded_is_refused_by_name(dialect: Dialect[Any], request_: EmbedRequest, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        body(dialect, request_)
    assert caught.value.failure.param == param


@pytest.mark.parametrize("details", ["promptTokenDetails", "promptTokensDetails"])
def test_vectors_and_their_usage(details: str) -> None:
    usage = {"promptTokenCount": 261, details: [{"modality": "IMAGE", "tokenCount": 258}]}
    found = whole(GEMINI_EMBED, {"embeddings": [{"values": [0.5, -1]}, {"values": [0.25]}], "usageMetadata": usage})
    assert vectors(found) == [(0, [0.5, -1]), (1, [0.25])]
    settled = found.settled(GEMINI_EMBED).usage
    assert (settled.input_tokens, settled.output_tokens, settled.buckets["input_image"]) == (261, 0, 258)  # type: ignore[index]  # an enum of str
    one = whole(GEMINI_EMBED, {"embedding": {"values": [0.5]}})
    assert vectors(one) == [(0, [0.5])]
    assert one.settled(GEMINI_EMBED).usage.input_tokens is None


def test_predictions_count_their_own_tokens() -> None:
    def prediction(tokens: Any) -> Any:
        return {"embeddings": {"values": [0.5], "statistics": {"token_count": tokens, "truncated": False}}}

    found = whole(VERTEX_PREDICT, {"predictions": [prediction(10), prediction(7.0)]})
    assert vectors(found) == [(0, [0.5]), (1, [0.5])]
    assert found.settled(VERTEX_PREDICT).usage.input_tokens == 17
    assert json.loads(found.reading.raw[0])[1]["token_count"] == 7.0
    for silent in (None, "x", 1.5, True):
        half = whole(VERTEX_PREDICT, {"predictions": [prediction(10), prediction(silent)]})
        assert half.settled(VERTEX_PREDICT).usage.input_tokens is None


@pytest.mark.parametrize("dialect", [GEMINI_EMBED, VERTEX_PREDICT, GEMINI_COUNT])
@pytest.mark.parametrize(
    "text", [b"{}", b"[]", b"", b"<html>", b'{"embeddings":[{"values":"x"}],"predictions":[{}],"totalTokens":-1}']
)
def test_a_body_that_is_none_is_a_bad_reply(dialect: Dialect[Any], text: bytes) -> None:
    found = decode([text or b" "], streamed=False, dialect=dialect)
    (failed,) = found.of(ReplyFailed)
    assert failed.failure.kind is FailureKind.BAD_REPLY
    assert not found.ended


@pytest.mark.parametrize("dialect", [GEMINI_EMBED, VERTEX_PREDICT, GEMINI_COUNT])
def test_an_error_in_a_body_is_the_error(dialect: Dialect[Any]) -> None:
    found = whole(dialect, {"error": {"code": 404, "message": "No such model.", "status": "NOT_FOUND"}})
    (failed,) = found.of(ReplyFailed)
    assert failed.failure.kind is FailureKind.NOT_FOUND


def test_a_count_takes_the_chat_as_it_would_be_sent() -> None:
    plain = CountRequest(asked(max_output_tokens=5, reasoning=ReasoningWish("high"), user="u"))
    contents = [{"role": "user", "parts": [{"text": "When is the tide?"}]}]
    assert body(GEMINI_COUNT, plain) == {"contents": contents}
    assert GEMINI_COUNT.write_request(plain, "made-1", PLAIN, False).dropped == ()
    system = Message("system", (Text("Be brief."),))
    full = CountRequest(asked(system, user(), tools=(Tool("tide"),)))
    inside = {
        "contents": contents,
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "tools": [{"functionDeclarations": [{"name": "tide"}]}],
    }
    assert body(GEMINI_COUNT, full) == {"generateContentRequest": {"model": "models/made-1", **inside}}
    assert body(GEMINI_COUNT, full, UNWRAPPED) == inside
    assert GEMINI_COUNT.path("made-1", False) == "/models/made-1:countTokens"


def test_a_count_is_a_number_and_costs_nothing() -> None:
    found = whole(GEMINI_COUNT, {"totalTokens": 11, "cachedContentTokenCount": 4})
    assert found.of(TokensCounted) == [TokensCounted(11, 4)]
    assert found.settled(GEMINI_COUNT).usage.total_tokens == 0
