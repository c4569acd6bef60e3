"""The recorded replies of real providers: what they used, however their bytes are cut, wherever they are cut off."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from counterfoil.core.event import ChoiceFinished, Event, ReplyFailed, ReplyStarted, UsageReported
from counterfoil.dialects.dialect import FinalUsage
from counterfoil.dialects.openai_chat.encode import ChatEncoder
from counterfoil.dialects.openai_chat.reply import ChatDecoder
from counterfoil.dialects.openai_chat.usage import CONVENTION as CHAT_CONVENTION
from counterfoil.dialects.openai_responses import OPENAI_RESPONSES
from counterfoil.exchange.recorded import read_reply
from counterfoil.framing.sse import SseFraming
from counterfoil.ledger.entry import Exit
from counterfoil.usage.settle import DiscrepancyKind, settle
from tests import wire

from .support import LIMIT, PLAIN, Decoded, decode, facts, joined

PREFIX = "openai.responses/"
EVERY = pytest.mark.parametrize("name", wire.params(PREFIX))
STREAMED = pytest.mark.parametrize("name", wire.params(PREFIX, stream=True))
QUEUED = "openai.responses/openai/pydantic-ai-test-background-mode-streaming-without-starting-after-vcr-1-ba3eb5"
ERROR = "openai.responses/openai/ai-openai-error.1-0-c39351"
ZERO = "openai.responses/openai/dd-trace-py-response-stream-incomplete-0-3d2d4a"
SMALL = 8_000


def recorded(name: str) -> wire.Recording:
    """A recording, unless it is of an error status."""
    recording = wire.read(name)
    if recording.response.status >= 400:
        pytest.skip("an error status: read by read_failure")
    return recording


def decoded(recording: wire.Recording) -> Decoded:
    return decode(recording.response_body, streamed=recording.stream)


@EVERY
def test_usage_equals_the_oracle_in_every_cell(name: str) -> None:
    recording = wire.read(name)
    read = read_reply(
        [recording.response_body], OPENAI_RESPONSES, streamed=recording.stream, status=recording.response.status
    )
    usage, oracle = read.settlement.usage, wire.expected()[name]
    for cell in ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"):
        said = getattr(oracle, cell)
        assert said is None or getattr(usage, cell) == said


@EVERY
def test_a_recorded_reply_is_heard_to_its_end(name: str) -> None:
    found = decoded(recorded(name))
    assert found.done
    assert len(found.of(ReplyStarted)) == 1
    assert len(found.of(ReplyFailed)) == (name == ERROR)
    over = name not in (QUEUED, ERROR)
    assert found.ended == over
    assert len(found.of(ChoiceFinished)) == over
    assert not over or found.text or found.tools


@EVERY
def test_how_the_bytes_are_cut_means_nothing(name: str) -> None:
    recording = recorded(name)
    body = recording.response_body
    whole = decoded(recording)
    for size in (1, 4093):
        pieces: Sequence[bytes] = [body[place : place + size] for place in range(0, len(body), size)]
        assert decode(pieces, streamed=recording.stream) == whole


@STREAMED
def test_a_prefix_has_the_reading_of_the_prefix(name: str) -> None:
    body = recorded(name).response_body
    whole = decode(body)
    step = 1 if len(body) < SMALL else 1009
    framing, decoder = SseFraming(LIMIT), OPENAI_RESPONSES.decoder(True, 1, PLAIN)
    count = 0
    for place in range(0, len(body), step):
        for frame in framing.feed(body[place : place + step]):
            events = decoder.feed(frame)
            assert tuple(events) == whole.events[count : count + len(events)]
            count += len(events)
    assert count == len(whole.events)


@STREAMED
def test_a_stream_says_what_its_terminal_event_repeats(name: str) -> None:
    """The deltas and the whole response of the same reply, read apart, agree."""
    body = recorded(name).response_body
    last = next(
        (
            block
            for block in reversed(body.split(b"\n\n"))
            if b'"type":"response.completed"' in block.replace(b'": "', b'":"')
            or b"event: response.incomplete" in block
        ),
        None,
    )
    if last is None:
        pytest.skip("the reply failed")
    alone = decode(last + b"\n\n")
    told = decode(body)
    assert (alone.text, alone.reasoning, alone.tools) == (told.text, told.reasoning, told.tools)
    assert alone.opaque == told.opaque
    assert alone.settlement == told.settlement


@EVERY
def test_a_chat_client_gets_the_same_reply_and_the_same_count(name: str) -> None:
    """The crossing: this dialect's reply, written as chat, read back as chat."""
    told = decoded(recorded(name))
    if not told.ended:
        pytest.skip("the reply has no end")
    usage = told.settlement.usage
    encoder = ChatEncoder(facts())
    body = encoder.encode(told.events) + encoder.close(FinalUsage(usage))
    framing, decoder = SseFraming(LIMIT), ChatDecoder(True, 1, PLAIN)
    events: list[Event] = [event for frame in framing.feed(body) for event in decoder.feed(frame)]
    heard = Decoded(tuple(events), decoder.ended, decoder.done)
    assert (heard.text, heard.tools) == (told.text, told.tools)
    assert (heard.reasoning or told.reasoning) == told.reasoning
    read = settle(heard.reading, CHAT_CONVENTION, ended=True).usage
    assert (read.input_tokens, read.output_tokens) == (usage.input_tokens, usage.output_tokens)
    assert (read.cache_read_tokens or 0) == (usage.cache_read_tokens or 0)
    assert (read.reasoning_tokens or 0) == (usage.reasoning_tokens or 0)


def test_zeros_beside_text_are_kept_as_a_discrepancy() -> None:
    recording = wire.read(ZERO)
    read = read_reply([recording.response_body], OPENAI_RESPONSES, streamed=True, estimate=True)
    assert read.exit is Exit.COMPLETED
    assert DiscrepancyKind.ZERO_BESIDE_TEXT in [one.kind for one in read.settlement.discrepancies]


@EVERY
def test_what_is_read_of_a_reply_stands_in_its_bytes(name: str) -> None:
    """No counter is made up: each number of the reading is one of the usage object as it came."""
    recording = recorded(name)
    found = decoded(recording)
    reports = [event.report for event in found.events if isinstance(event, UsageReported)]
    assert len(reports) == (recording.usage_reported is not None)
    assert joined(found.events)
