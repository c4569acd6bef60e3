"""The recorded replies of Bedrock: what they used, however their bytes are cut, wherever they are cut off."""

from __future__ import annotations

import pytest

from counterfoil.core.error import FailureKind, Fault
from counterfoil.core.event import ChoiceFinished, ReplyFailed, ReplyStarted, TokensCounted, ToolCallStarted
from counterfoil.dialects.bedrock_converse import BEDROCK_CONVERSE
from counterfoil.dialects.dialect import Quirks
from counterfoil.framing.eventstream import EventStreamFraming
from counterfoil.ledger.entry import Exit
from tests import wire

from ..recorded import recorded
from .support import judged

EVERY = pytest.mark.parametrize("name", wire.params("bedrock.converse/"))
STREAMED = pytest.mark.parametrize("name", wire.params("bedrock.converse/", stream=True))
SILENT = ("openinference-should-handle-empty-minimal-response",)

__all__: list[str] = []


@EVERY
def test_usage_equals_the_oracle_however_the_bytes_are_cut(name: str) -> None:
    reply = judged(name)
    if recorded(name).status >= 300:
        assert reply.exit is Exit.REJECTED
        assert reply.failure is not None
        assert (reply.failure.kind, reply.failure.fault) == (FailureKind.INVALID_REQUEST, Fault.CLIENT)
        return
    assert reply.exit is Exit.COMPLETED
    assert reply.settlement.discrepancies == ()
    assert reply.reading.reports == (not any(word in name for word in SILENT))


@EVERY
def test_a_recorded_reply_is_heard_to_its_end(name: str) -> None:
    if recorded(name).status >= 300:
        pytest.skip("an error status: read by read_failure")
    events = recorded(name).read().events
    assert sum(isinstance(event, ReplyStarted) for event in events) == 1
    assert sum(isinstance(event, ChoiceFinished) for event in events) == 1
    assert not any(isinstance(event, ReplyFailed) for event in events)
    assert any(isinstance(event, ToolCallStarted) for event in events) == ("tools" in wire.read(name).features)


@STREAMED
def test_a_prefix_has_the_reading_of_the_prefix(name: str) -> None:
    body = wire.read(name).response_body
    framing, decoder = EventStreamFraming(1 << 23), BEDROCK_CONVERSE.decoder(True, 1, Quirks())
    whole = recorded(name).read().events
    count = 0
    for place in range(len(body)):
        for frame in framing.feed(body[place : place + 1]):
            events = decoder.feed(frame)
            assert tuple(events) == whole[count : count + len(events)]
            count += len(events)
        assert decoder.ended == any(isinstance(event, ChoiceFinished) for event in whole[:count])
    assert count == len(whole)
    assert decoder.done


@pytest.mark.parametrize("name", wire.params("bedrock.countTokens/"))
def test_a_count_is_read_and_costs_nothing(name: str) -> None:
    reply = judged(name)
    assert reply.events == (TokensCounted(19),)
    assert reply.settlement.usage.total_tokens == 0
