"""The recorded replies of real providers: what they used, however their bytes are cut, wherever they are cut off."""

from __future__ import annotations

import msgspec
import pytest

from counterfoil.core.event import ChoiceFinished, Event, ReplyFailed, ReplyStarted, UsageReported
from counterfoil.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from counterfoil.dialects.dialect import FinalUsage
from counterfoil.dialects.openai_chat.encode import ChatEncoder
from counterfoil.dialects.openai_chat.reply import ChatDecoder
from counterfoil.dialects.openai_chat.usage import CONVENTION as CHAT_CONVENTION
from counterfoil.framing.sse import SseFraming
from counterfoil.framing.whole import WholeFraming
from counterfoil.usage.reading import NO_READING
from counterfoil.usage.settle import settle

from ..readers import chunks_of
from .support import LIMIT, PLAIN, Decoded, Recording, decode, facts, joined, oracle, replies, sse, start

EVERY_REPLY = pytest.mark.parametrize("recording", replies())
SMALL = 8_000


def said(reply: Decoded) -> list[Event]:
    """What the reply says, without who says it and what it cost."""
    return joined(event for event in reply.events if not isinstance(event, ReplyStarted | UsageReported))


@EVERY_REPLY
def test_usage_equals_the_oracle_in_every_cell(recording: Recording) -> None:
    usage = decode(recording.body, streamed=recording.streamed).settlement.usage
    expected = oracle()[recording.name]
    cells = {
        "input_tokens": usage.input_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }
    assert {name: str(cells[name]) for name in cells if expected[name]} == {
        name: expected[name] for name in cells if expected[name]
    }


@EVERY_REPLY
def test_a_recorded_reply_is_heard_to_its_end(recording: Recording) -> None:
    found = decode(recording.body, streamed=recording.streamed)
    assert found.ended
    assert found.done
    assert len(found.of(ChoiceFinished)) == 1
    assert not found.of(ReplyFailed)
    assert found.text or found.tools


@EVERY_REPLY
def test_how_the_bytes_are_cut_means_nothing(recording: Recording) -> None:
    whole = decode(recording.body, streamed=recording.streamed)
    single = [recording.body[place : place + 1] for place in range(len(recording.body))]
    assert decode(single, streamed=recording.streamed) == whole
    odd = [recording.body[place : place + 4093] for place in range(0, len(recording.body), 4093)]
    assert decode(odd, streamed=recording.streamed) == whole


@EVERY_REPLY
def test_a_prefix_has_the_reading_of_the_prefix(recording: Recording) -> None:
    if not recording.streamed:
        pytest.skip("a whole reply has no prefix")
    whole = decode(recording.body)
    step = 1 if len(recording.body) < SMALL else 1009
    framing, decoder = SseFraming(LIMIT), ANTHROPIC_MESSAGES.decoder(True, 1, PLAIN)
    count = 0
    for place in range(0, len(recording.body), step):
        for frame in framing.feed(recording.body[place : place + step]):
            events = decoder.feed(frame)
            assert tuple(events) == whole.events[count : count + len(events)]
            count += len(events)
        assert decoder.ended == any(isinstance(event, ChoiceFinished) for event in whole.events[:count])
    assert count == len(whole.events)


@EVERY_REPLY
def test_a_chat_client_gets_the_same_reply_and_the_same_count(recording: Recording) -> None:
    """The crossing: this dialect's reply, written as chat, read back as chat."""
    told = decode(recording.body, streamed=recording.streamed)
    usage = told.settlement.usage
    encoder = ChatEncoder(facts())
    body = encoder.encode(told.events) + encoder.close(FinalUsage(usage))
    framing, decoder = SseFraming(LIMIT), ChatDecoder(True, 1, PLAIN)
    heard = Decoded(tuple(e for frame in framing.feed(body) for e in decoder.feed(frame)), decoder.ended, decoder.done)
    assert (heard.text, heard.tools) == (told.text, told.tools)
    deltas = [choice["delta"] for chunk in chunks_of(body) for choice in chunk["choices"]]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == told.reasoning
    read = settle(heard.reading, CHAT_CONVENTION, ended=True).usage
    assert (read.input_tokens, read.output_tokens) == (usage.input_tokens, usage.output_tokens)
    assert (read.cache_read_tokens or 0) == (usage.cache_read_tokens or 0)
    assert (read.reasoning_tokens or 0) == (usage.reasoning_tokens or 0)


@EVERY_REPLY
def test_a_client_of_this_dialect_counts_what_the_books_hold(recording: Recording) -> None:
    """The relay, in the mode it came: read back, it settles to the same usage and says the same things."""
    told = decode(recording.body, streamed=recording.streamed)
    usage = told.settlement.usage
    relay = ANTHROPIC_MESSAGES.relay(facts(streamed=recording.streamed), PLAIN)
    framing = SseFraming(LIMIT) if recording.streamed else WholeFraming(LIMIT)
    decoder = ANTHROPIC_MESSAGES.decoder(recording.streamed, 1, PLAIN)
    frames = framing.feed(recording.body)
    last = framing.close()
    out = b"".join(relay.carry(frame, decoder.feed(frame)) for frame in [*frames, *([last] if last else [])])
    body = out + relay.close(FinalUsage(usage, provider_raw=told.reading.raw[-1]))
    heard = decode(body, streamed=recording.streamed)
    assert said(heard) == said(told)
    # What a client sees are the top-level counts; lines are for the books.
    top = NO_READING
    for event in heard.events:
        if isinstance(event, UsageReported):
            top = top.join(msgspec.structs.replace(event.report, lines=None))
    read = settle(top, ANTHROPIC_MESSAGES.convention, ended=True).usage
    assert (read.input_tokens, read.output_tokens) == (usage.input_tokens, usage.output_tokens)


def test_half_a_reply_has_half_a_reading() -> None:
    """The same promise as above, for a checkout without recordings."""
    found = decode(sse(start({"input_tokens": 7, "cache_read_input_tokens": 5, "output_tokens": 2})))
    assert not found.ended
    assert found.settlement.usage.input_tokens == 12
