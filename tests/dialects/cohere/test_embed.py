"""Cohere's embed behind a client of OpenAI's embeddings: vectors of every kind, and what they are for."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from counterfoil.core.error import FailureKind, RequestError
from counterfoil.core.event import Embedding, EmbeddingsGiven
from counterfoil.core.message import Image, Text
from counterfoil.core.operation import EmbedInput, EmbedRequest
from counterfoil.dialects.cohere import COHERE_EMBED
from counterfoil.dialects.dialect import Quirks
from counterfoil.ledger.entry import Exit

from .support import read

__all__: list[str] = []

BODY: dict[str, Any] = {
    "id": "e-1",
    "embeddings": {"float": [[0.5, -0.25], [1, 0]], "int8": [[64, -32], [127, 0]], "ubinary": None},
    "texts": ["ebb", "flow"],
    "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 4}},
    "response_type": "embeddings_by_type",
}


def written(*inputs: EmbedInput, drop: bool = False, **fields: Any) -> dict[str, Any]:
    request = EmbedRequest("house-model", inputs or ("ebb",), **fields)
    body: dict[str, Any] = json.loads(COHERE_EMBED.write_request(request, "embed-x", Quirks(), drop).body)
    return body


def vectors(body: Any) -> tuple[Embedding, ...]:
    reply = read(json.dumps(body).encode(), dialect="cohere.embed", streamed=False)
    (found,) = [event for event in reply.events if isinstance(event, EmbeddingsGiven)]
    return found.embeddings


def test_vectors_keep_their_kind_their_place_and_their_digits() -> None:
    assert [(one.kind, one.index, bytes(one.vector)) for one in vectors(BODY)] == [
        ("float", 0, b"[0.5, -0.25]"),
        ("float", 1, b"[1, 0]"),
        ("int8", 0, b"[64, -32]"),
        ("int8", 1, b"[127, 0]"),
    ]
    assert [one.kind for one in vectors({**BODY, "embeddings": [[0.5], [1]]})] == ["float", "float"]
    assert bytes(vectors({"embeddings": {"base64": ["AAAA"]}})[0].vector) == b'"AAAA"'


def test_texts_are_texts_and_a_silent_client_gets_vectors_of_documents() -> None:
    assert written("ebb", "flow") == {
        "model": "embed-x",
        "input_type": "search_document",
        "texts": ["ebb", "flow"],
        "embedding_types": ["float"],
    }


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("query", "search_query"),
        ("search_query", "search_query"),
        ("document", "search_document"),
        ("RETRIEVAL_QUERY", "search_query"),
        ("clustering", "clustering"),
    ],
)
def test_what_vectors_are_for_is_said_in_coheres_words(word: str, kind: str) -> None:
    assert written(purpose=word)["input_type"] == kind


def test_images_and_texts_together_are_one_input() -> None:
    together = (Text("ebb"), Image(data="AAAA", media_type="image/png"))
    body = written("flow", together, dimensions=256)
    assert body["output_dimension"] == 256
    assert body["inputs"] == [
        {"content": [{"type": "text", "text": "flow"}]},
        {
            "content": [
                {"type": "text", "text": "ebb"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ]
        },
    ]


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("input_type", {"purpose": "haruspicy"}),
        ("title", {"title": "Tides"}),
        ("hologram", {"rest": {"hologram": msgspec.Raw(b"1")}}),
    ],
)
def test_what_cannot_be_carried_is_refused_or_dropped_by_name(param: str, fields: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as error:
        written(**fields)
    assert error.value.failure.param == param
    request = EmbedRequest("m", ("ebb",), **fields)
    assert COHERE_EMBED.write_request(request, "embed-x", Quirks(), True).dropped == (param,)


def test_token_ids_are_of_another_vocabulary_and_never_sent() -> None:
    with pytest.raises(RequestError, match="token ids"):
        written((1, 2, 3), drop=True)


def test_coheres_own_fields_are_carried() -> None:
    rest = {"embedding_types": msgspec.Raw(b'["int8"]'), "truncate": msgspec.Raw(b'"END"')}
    body = written(rest=rest)
    assert (body["embedding_types"], body["truncate"]) == (["int8"], "END")


@pytest.mark.parametrize("body", [b"{}", b"[]", b"", b'{"embeddings": {"float": [7]}}', b'{"embeddings": "x"}'])
def test_a_body_that_is_no_embeddings_is_a_named_failure(body: bytes) -> None:
    reply = read(body, dialect="cohere.embed", streamed=False)
    if body:
        assert reply.failure is not None
        assert reply.failure.kind is FailureKind.BAD_REPLY
    assert reply.exit in (Exit.FAILED, Exit.TRUNCATED)


def test_an_error_under_a_good_status_is_told() -> None:
    reply = read(b'{"message": "the sea is closed"}', dialect="cohere.embed", streamed=False)
    assert reply.failure is not None
    assert reply.failure.message == "the sea is closed"
