"""What real replies of Cohere's amount to: tokens and bill, searches, and an end in every one."""

from __future__ import annotations

import pytest

from counterfoil.core.error import FailureKind
from counterfoil.core.event import ChoiceFinished, EmbeddingsGiven, RankingGiven
from counterfoil.ledger.entry import Exit
from counterfoil.usage.usage import Bucket
from tests import wire
from tests.dialects.recorded import check_recording

__all__: list[str] = []

_FOLDERS = ("cohere.v2/", "cohere.v1/", "cohere.embed/", "cohere.rerank/")
_BILLED = {
    "cohere.v2/cohere/ai-cohere-text-0-491e4d": (12, 7),
    "cohere.v2/cohere/openllmetry-test-cohere-v2-chat-legacy-with-tool-calls-and-streaming-0-3dfb38": (62, 28),
    "cohere.v1/cohere/dd-trace-py-completion-command-r-0-02f57d": (6, 33),
    "cohere.v1/cohere/openllmetry-js-should-set-request-and-response-attributes-in-span-for-given-prompt-2-0-5a1b11": (
        23,
        60,
    ),
}


@pytest.mark.parametrize("name", wire.params(*_FOLDERS))
def test_a_recording_is_metered_as_the_oracle_says_however_it_is_cut(name: str) -> None:
    reply = check_recording(name)
    if reply.exit is Exit.REJECTED:
        assert reply.failure is not None
        assert reply.failure.kind in (FailureKind.CONTEXT_WINDOW, FailureKind.NOT_FOUND)
        return
    assert reply.exit is Exit.COMPLETED
    assert reply.settlement.discrepancies == ()
    kinds = (ChoiceFinished, EmbeddingsGiven, RankingGiven)
    assert sum(isinstance(event, kinds) for event in reply.events) == 1


@pytest.mark.parametrize("name", wire.params("cohere.v2/", "cohere.v1/"))
def test_every_chat_keeps_its_bill_beside_its_tokens(name: str) -> None:
    usage = check_recording(name).settlement.usage
    if usage.input_tokens is None:
        assert usage.billed is None
        return
    assert usage.billed is not None
    assert set(usage.billed) == {Bucket.INPUT, Bucket.OUTPUT}
    assert usage.billed[Bucket.INPUT] < usage.input_tokens
    if name in _BILLED:
        assert (usage.billed[Bucket.INPUT], usage.billed[Bucket.OUTPUT]) == _BILLED[name]


@pytest.mark.parametrize("name", wire.params("cohere.rerank/"))
def test_a_rerank_is_billed_in_searches_and_in_nothing_else(name: str) -> None:
    usage = check_recording(name).settlement.usage
    assert usage.buckets == {Bucket.OUTPUT: 0, Bucket.SEARCH_UNITS: 1}
    assert usage.priced == {Bucket.INPUT: 0, Bucket.OUTPUT: 0, Bucket.SEARCH_UNITS: 1}
    assert usage.total_tokens is None


@pytest.mark.parametrize("name", wire.params("cohere.embed/"))
def test_an_embed_used_what_it_is_billed_for(name: str) -> None:
    reply = check_recording(name)
    usage = reply.settlement.usage
    if reply.exit is Exit.COMPLETED:
        assert usage.priced == {Bucket.INPUT: 208, Bucket.OUTPUT: 0}
        assert usage.billed is None
