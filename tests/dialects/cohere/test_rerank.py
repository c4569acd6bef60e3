"""Cohere's rerank: requests of both versions, replies carried and crossed, searches billed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from counterfoil.core.error import FailureKind, RequestError
from counterfoil.core.event import Ranked, RankingGiven, ReplyStarted
from counterfoil.core.operation import RerankRequest
from counterfoil.dialects.cohere import COHERE_RERANK
from counterfoil.dialects.dialect import FinalUsage, Quirks, ReplyFacts
from counterfoil.framing.frame import Frame
from counterfoil.ledger.entry import Exit
from counterfoil.usage.usage import Bucket, Provenance, Usage

from .support import read

__all__: list[str] = []

ASKED: dict[str, Any] = {"model": "house-model", "query": "high tide", "documents": ["ebb", "flow"], "top_n": 1}
BODY = (
    b'{"id": "r-1", "results": [{"index": 1, "relevance_score": 0.91},{"index":0,"relevance_score":2.5e-3}], '
    b'"meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}}'
)
FACTS = ReplyFacts("rerank-ours", 1_700_000_000, "house-model", streamed=False, usage_asked=False)


def body_of(**fields: Any) -> bytes:
    return json.dumps({**ASKED, **fields}).encode()


def test_a_ranking_is_heard_with_its_bill() -> None:
    reply = read(BODY, dialect="cohere.rerank", streamed=False)
    assert reply.exit is Exit.COMPLETED
    assert reply.events[:2] == (ReplyStarted("r-1"), RankingGiven((Ranked(1, 0.91), Ranked(0, 0.0025))))
    assert reply.settlement.usage.buckets[Bucket.SEARCH_UNITS] == 1


def test_a_reply_in_the_clients_own_dialect_keeps_its_bytes() -> None:
    relay = COHERE_RERANK.relay(FACTS, Quirks())
    assert relay.carry(Frame(BODY, "", BODY), ()) == b""
    assert relay.close(FinalUsage(Usage({Bucket.SEARCH_UNITS: 1}))) == BODY


def test_the_peek_sees_the_model_and_refuses_what_cannot_be_ranked() -> None:
    assert COHERE_RERANK.peek_request(body_of()).model == "house-model"
    for wrong, param in (
        (body_of(model=""), "model"),
        (body_of(documents=[]), "documents"),
        (body_of(documents="ebb"), "documents"),
        (body_of(query=7), "query"),
        (b'{"query": "x", "documents": ["a"]}', "model"),
        (b"{", None),
        (b"[" * 100_000, None),
    ):
        with pytest.raises(RequestError) as error:
            COHERE_RERANK.peek_request(wrong)
        assert error.value.failure.param == param


def test_a_request_is_read_whatever_its_version() -> None:
    request = COHERE_RERANK.read_request(
        body_of(documents=["ebb", {"text": "flow"}], return_documents=True, max_tokens_per_doc=64, priority=None)
    )
    assert (request.query, request.top_n, request.return_documents) == ("high tide", 1, True)
    assert request.documents == ("ebb", msgspec.Raw(b'{"text": "flow"}'))
    assert request.rest == {"max_tokens_per_doc": msgspec.Raw(b"64")}


@pytest.mark.parametrize("documents", [[7], [["ebb"]], [None]])
def test_a_document_is_a_text_or_an_object(documents: list[Any]) -> None:
    with pytest.raises(RequestError) as error:
        COHERE_RERANK.read_request(body_of(documents=documents))
    assert error.value.failure.param == "documents[0]"


def test_a_request_nested_too_deep_is_refused() -> None:
    deep = b'{"a":' * 200 + b"1" + b"}" * 200
    with pytest.raises(RequestError, match="nested"):
        COHERE_RERANK.read_request(b'{"model":"m","query":"q","documents":[%s]}' % deep)


def test_a_patch_changes_the_model_and_v1s_documents_and_nothing_else() -> None:
    body = b'{ "query":"q", "model":"house-model","documents":["ebb"],"hologram":{"a" : 1.50},"top_n":2}'
    patched = COHERE_RERANK.patch_request(body, "rerank-x", Quirks(), False)
    assert patched == b'{"query":"q","model":"rerank-x","documents":["ebb"],"hologram":{"a" : 1.50},"top_n":2}'
    old = COHERE_RERANK.patch_request(
        body_of(documents=[{"text": "ebb"}, "flow", {"text": "a", "title": "b"}]), "rerank-x", Quirks(), False
    )
    assert json.loads(old)["documents"] == ["ebb", "flow", {"text": "a", "title": "b"}]
    with pytest.raises(RequestError):
        COHERE_RERANK.patch_request(b"[]", "rerank-x", Quirks(), False)


def test_a_request_is_written_as_v2_has_it() -> None:
    request = RerankRequest(
        "m", "high tide", ("ebb", msgspec.Raw(b'{"text":"flow"}')), 2, None, {"max_tokens_per_doc": msgspec.Raw(b"64")}
    )
    written = COHERE_RERANK.write_request(request, "rerank-x", Quirks(), False)
    assert json.loads(written.body) == {
        "model": "rerank-x",
        "query": "high tide",
        "documents": ["ebb", "flow"],
        "top_n": 2,
        "max_tokens_per_doc": 64,
    }


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("return_documents", {"return_documents": True}),
        ("rank_fields", {"rest": {"rank_fields": msgspec.Raw(b'["title"]')}}),
    ],
)
def test_what_v2_cannot_say_is_refused_or_dropped_by_name(param: str, fields: dict[str, Any]) -> None:
    request = RerankRequest("m", "q", ("ebb",), **fields)
    with pytest.raises(RequestError) as error:
        COHERE_RERANK.write_request(request, "rerank-x", Quirks(), False)
    assert error.value.failure.param == param
    assert COHERE_RERANK.write_request(request, "rerank-x", Quirks(), True).dropped == (param,)


def test_a_document_without_a_text_is_refused_even_where_dropping_is_allowed() -> None:
    request = RerankRequest("m", "q", (msgspec.Raw(b'{"title":"ebb"}'),))
    with pytest.raises(RequestError) as error:
        COHERE_RERANK.write_request(request, "rerank-x", Quirks(), True)
    assert error.value.failure.param == "documents[0]"


def encoded(usage: Usage | None, *places: Ranked) -> dict[str, Any]:
    encoder = COHERE_RERANK.encoder(FACTS)
    assert encoder.encode([RankingGiven(places or (Ranked(1, 0.5),))]) == b""
    body: dict[str, Any] = json.loads(encoder.close(FinalUsage(usage)))
    return body


def test_a_ranking_from_elsewhere_is_written_with_the_tokens_it_was_billed() -> None:
    body = encoded(Usage({Bucket.INPUT: 57, Bucket.OUTPUT: 0}), Ranked(1, 0.5, msgspec.Raw(b'"flow"')), Ranked(0, 0.25))
    assert body == {
        "id": "rerank-ours",
        "results": [
            {"index": 1, "relevance_score": 0.5, "document": {"text": "flow"}},
            {"index": 0, "relevance_score": 0.25},
        ],
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 57}},
    }


def test_a_bill_nobody_knows_is_not_made_up_and_an_estimate_is_marked() -> None:
    assert encoded(None)["meta"] == encoded(Usage())["meta"] == {"api_version": {"version": "2"}}
    guess = encoded(Usage({Bucket.INPUT: 9, Bucket.OUTPUT: 0}, {Bucket.INPUT: Provenance.ESTIMATED}))
    assert guess["meta"]["estimated"] is True
    assert guess["meta"]["billed_units"] == {"input_tokens": 9}
    searches = Usage({Bucket.INPUT: 9, Bucket.SEARCH_UNITS: 2}, {Bucket.INPUT: Provenance.ESTIMATED})
    assert encoded(searches)["meta"]["billed_units"] == {"search_units": 2}
    assert "estimated" not in encoded(searches)["meta"]


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"results": [{"index": "x"}]}', b"7", b"{"])
def test_a_body_that_is_no_ranking_is_a_named_failure(body: bytes) -> None:
    reply = read(body, dialect="cohere.rerank", streamed=False)
    assert reply.failure is not None
    assert reply.failure.kind is FailureKind.BAD_REPLY
