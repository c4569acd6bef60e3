"""The recorded bodies of many makers: what they used, however their bytes are cut, wherever they are cut off."""

from __future__ import annotations

import pytest

from counterfoil.core.error import FailureKind, Fault
from counterfoil.core.event import ChoiceFinished, ReplyFailed, ReplyStarted, TextDelta, ToolCallStarted
from counterfoil.ledger.entry import Exit
from counterfoil.usage.reading import Counter
from counterfoil.usage.settle import DiscrepancyKind
from counterfoil.usage.usage import Bucket, Provenance
from tests import wire

from ..bedrock_converse.support import judged
from ..recorded import recorded

EVERY = pytest.mark.parametrize("name", wire.params("bedrock.invoke/"))
TWO_METERS = "bedrock.invoke/bedrock/openinference-testinvokemodelwithstreamresponse.test-invoke-0-11eaa5"
SILENT = "anthropic-invoke-stream"
"""A reply of no text (recorded as it is: the prompt ends in an answer)."""

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
    usage = reply.settlement.usage
    assert usage.total_tokens  # every recorded reply says both sides: in its body, its headers or its last event
    assert usage.provenance[Bucket.OUTPUT] is Provenance.REPORTED
    found = [(one.kind, one.counter) for one in reply.settlement.discrepancies]
    assert found == ([(DiscrepancyKind.COUNTER_FELL, Counter.OUTPUT)] if name == TWO_METERS else [])


@EVERY
def test_a_recorded_reply_is_heard_to_its_end(name: str) -> None:
    if recorded(name).status >= 300:
        pytest.skip("an error status: read by read_failure")
    events = recorded(name).read().events
    assert sum(isinstance(event, ReplyStarted) for event in events) == 1
    assert sum(isinstance(event, ChoiceFinished) for event in events) == 1
    assert not any(isinstance(event, ReplyFailed) for event in events)
    assert any(isinstance(event, TextDelta | ToolCallStarted) for event in events) == (SILENT not in name)


def test_the_services_meter_lacks_the_tool_calls_and_both_reports_are_kept() -> None:
    if wire.shared() is None:
        pytest.skip(wire.ABSENT)
    reply = recorded(TWO_METERS).read()
    assert reply.settlement.usage.output_tokens == 130
    assert any(b'"outputTokenCount":98' in raw for raw in reply.reading.raw)
    assert any(b'"output_tokens":130' in raw for raw in reply.reading.raw)
