"""Voyage's rerank: what is asked of it, what it answers, and a Cohere client in front of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from counterfoil.core.error import FailureKind, RequestError
from counterfoil.core.event import Ranked, RankingGiven
from counterfoil.core.operation import RerankRequest
from counterfoil.dialects.cohere import COHERE_RERANK
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.voyage import VOYAGE_RERANK
from counterfoil.exchange.call import Call
from counterfoil.exchange.command import Head, Post
from counterfoil.exchange.route import Route
from counterfoil.ledger.entry import Exit
from counterfoil.usage.usage import Bucket, Provenance
from tests import wire
from tests.dialects.cohere.support import read
from tests.dialects.recorded import check_recording
from tests.exchange.world import Played, World, check_books, deployment, refused

__all__: list[str] = []

BODY = json.dumps(
    {
        "object": "list",
        "data": [
            {"relevance_score": 0.75, "index": 1, "document": "flow"},
            {"relevance_score": 0.5, "index": 0, "document": "ebb"},
        ],
        "model": "rerank-x",
        "usage": {"total_tokens": 57},
    }
).encode()
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("name", wire.params("voyage.rerank/"))
def test_a_recording_is_metered_however_it_is_cut(name: str) -> None:
    reply = check_recording(name)
    assert reply.exit is Exit.COMPLETED
    assert reply.settlement.usage.buckets == {Bucket.INPUT: 57, Bucket.OUTPUT: 0}


def test_the_total_is_all_input_and_says_where_it_is_from() -> None:
    reply = read(BODY, dialect="voyage.rerank", streamed=False)
    (ranking,) = [event for event in reply.events if isinstance(event, RankingGiven)]
    assert ranking.results == (
        Ranked(1, 0.75, msgspec.Raw(b'"flow"')),
        Ranked(0, 0.5, msgspec.Raw(b'"ebb"')),
    )
    usage = reply.settlement.usage
    assert (usage.buckets, usage.total_tokens) == ({Bucket.INPUT: 57, Bucket.OUTPUT: 0}, 57)
    assert usage.provenance[Bucket.INPUT] is Provenance.DERIVED


def written(drop: bool = False, **fields: Any) -> dict[str, Any]:
    request = RerankRequest("m", "high tide", ("ebb", msgspec.Raw(b'{"text":"flow"}')), **fields)
    body: dict[str, Any] = json.loads(VOYAGE_RERANK.write_request(request, "rerank-x", Quirks(), drop).body)
    return body


def test_a_request_has_voyages_names() -> None:
    assert written(top_n=3, return_documents=True, rest={"truncation": msgspec.Raw(b"false")}) == {
        "model": "rerank-x",
        "query": "high tide",
        "documents": ["ebb", "flow"],
        "top_k": 3,
        "return_documents": True,
        "truncation": False,
    }


def test_what_voyage_cannot_say_is_refused_or_dropped_by_name() -> None:
    rest = {"max_tokens_per_doc": msgspec.Raw(b"64")}
    with pytest.raises(RequestError) as error:
        written(rest=rest)
    assert error.value.failure.param == "max_tokens_per_doc"
    assert "max_tokens_per_doc" not in written(drop=True, rest=rest)


def test_an_error_has_its_detail() -> None:
    failure = VOYAGE_RERANK.read_failure(401, {}, b'{"detail": "Provided API key is invalid."}')
    assert (failure.kind, failure.message) == (FailureKind.AUTHENTICATION, "Provided API key is invalid.")
    reply = read(b'{"detail": "the sea is closed"}', dialect="voyage.rerank", streamed=False)
    assert reply.failure is not None
    assert reply.failure.message == "the sea is closed"


@pytest.mark.parametrize("body", [b"{}", b"[]", b"{", b'{"data": [{"index": 1}]}'])
def test_a_body_that_is_no_ranking_is_a_named_failure(body: bytes) -> None:
    reply = read(body, dialect="voyage.rerank", streamed=False)
    assert reply.failure is not None
    assert reply.failure.kind is FailureKind.BAD_REPLY


# ---- a client of Cohere's rerank in front


def asked(**fields: Any) -> Call:
    body = {"model": "house-model", "query": "high tide", "documents": ["ebb", {"text": "flow"}], "top_n": 2, **fields}
    raw = json.dumps(body).encode()
    route = Route("house-model", (deployment(VOYAGE_RERANK),))
    return Call("exchange-1", route, COHERE_RERANK, raw, COHERE_RERANK.peek_request(raw), input_estimate=9)


def test_a_cohere_client_is_ranked_by_voyage_and_counted_once() -> None:
    world = World(Played(Head(200, JSON), [BODY, b""]))
    world.run(asked(return_documents=True))
    check_books(world.log)
    (post,) = world.all(Post)
    assert isinstance(post, Post)
    assert post.path == "/rerank"
    assert json.loads(post.body) == {
        "model": "play-1",
        "query": "high tide",
        "documents": ["ebb", "flow"],
        "top_k": 2,
        "return_documents": True,
    }
    assert world.status == 200
    told = json.loads(world.sent)
    assert told["results"] == [
        {"index": 1, "relevance_score": 0.75, "document": {"text": "flow"}},
        {"index": 0, "relevance_score": 0.5, "document": {"text": "ebb"}},
    ]
    assert told["meta"]["billed_units"] == {"input_tokens": 57}
    assert told["id"].startswith("rerank-")
    entry = world.entry
    assert (entry.exit, entry.usage.input_tokens, entry.usage.output_tokens) == (Exit.COMPLETED, 57, 0)
    assert entry.discrepancies == ()


def test_a_failure_of_voyages_reaches_the_client_in_coheres_words() -> None:
    world = World(refused(400, b'{"detail": "The query is too long."}'))
    outcome = world.run(asked())
    check_books(world.log)
    assert world.entry.exit is Exit.REJECTED
    assert outcome.failure is not None
    assert json.loads(COHERE_RERANK.write_failure(outcome.failure))["message"] == "The query is too long."


def test_a_cohere_provider_is_spoken_to_and_answered_word_for_word() -> None:
    body = b'{"id": "r", "results": [{"index":0,"relevance_score":0.50}], "meta":{"billed_units":{"search_units":1}}}'
    raw = b'{"model":"house-model","query":"q","documents":["ebb"],"hologram":1}'
    route = Route("house-model", (deployment(COHERE_RERANK),))
    world = World(Played(Head(200, JSON), [body, b""]))
    world.run(Call("exchange-1", route, COHERE_RERANK, raw, COHERE_RERANK.peek_request(raw), input_estimate=9))
    check_books(world.log)
    (post,) = world.all(Post)
    assert isinstance(post, Post)
    assert json.loads(post.body) == {"model": "play-1", "query": "q", "documents": ["ebb"], "hologram": 1}
    assert world.sent == body
    usage = world.entry.usage
    assert usage.buckets[Bucket.SEARCH_UNITS] == 1
    assert usage.priced == {Bucket.INPUT: 0, Bucket.OUTPUT: 0, Bucket.SEARCH_UNITS: 1}
