"""The recorded replies of Google and Vertex: what they used, however their bytes are cut, wherever they are cut off."""

from __future__ import annotations

from typing import Any

import pytest

from counterfoil.cli.meter import RECORDED_DIALECTS
from counterfoil.core.error import FailureKind
from counterfoil.core.event import ChoiceFinished, EmbeddingsGiven, ReplyFailed, TokensCounted
from counterfoil.dialects.dialect import FinalUsage
from counterfoil.dialects.openai_chat import OPENAI_CHAT
from counterfoil.dialects.registry import DIALECTS
from counterfoil.exchange.recorded import read_reply
from counterfoil.ledger.entry import Exit

from ... import wire
from .support import LIMIT, PLAIN, Decoded, decode, facts

FAMILY = ("gemini.", "vertex.predict_embed/")


def names(*, failed: bool, judged: bool = False) -> list[Any]:
    """The recordings of this family: replies or errors, all or those with a word of the oracle's."""
    found = [name for name in wire.ids(*FAMILY) if (wire.read(name).response.status >= 400) is failed]
    wanted = [name for name in found if not judged or name in wire.expected()]
    return wanted or [pytest.param("absent", marks=pytest.mark.skip(reason=wire.ABSENT))]


REPLIES = pytest.mark.parametrize("name", names(failed=False))
STREAMS = pytest.mark.parametrize("name", wire.params("gemini.", stream=True))
SMALL = 8_000
BACKGROUND = "gemini.interactions/google/openinference-test-agent-stream"


def read(recording: wire.Recording, pieces: list[bytes] | None = None) -> Decoded:
    dialect = DIALECTS[RECORDED_DIALECTS[recording.dialect]]
    body = [recording.response_body] if pieces is None else pieces
    return decode(body, streamed=recording.stream, dialect=dialect)


@pytest.mark.parametrize("name", names(failed=False, judged=True))
def test_usage_equals_the_oracle_in_every_cell(name: str) -> None:
    recording = wire.read(name)
    expected = wire.expected()[name]
    usage = read(recording).settled(DIALECTS[RECORDED_DIALECTS[recording.dialect]]).usage
    cells = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    judged = {cell: getattr(expected, cell) for cell in cells if getattr(expected, cell) is not None}
    assert {cell: getattr(usage, cell) for cell in judged} == judged


@REPLIES
def test_a_recorded_reply_is_heard_to_its_end(name: str) -> None:
    recording = wire.read(name)
    found = read(recording)
    assert found.ended
    assert not found.of(ReplyFailed)
    if recording.dialect in ("gemini.generateContent", "gemini.interactions"):
        assert len(found.of(ChoiceFinished)) == 1
    else:
        assert found.of(EmbeddingsGiven) or found.of(TokensCounted)


@pytest.mark.parametrize("name", names(failed=True))
def test_a_recorded_error_is_understood(name: str) -> None:
    recording = wire.read(name)
    status = recording.response.status
    dialect = DIALECTS[RECORDED_DIALECTS[recording.dialect]]
    found = read_reply([recording.response_body], dialect, streamed=False, status=status)
    assert found.exit is Exit.REJECTED
    assert found.failure is not None
    kinds = {
        401: FailureKind.AUTHENTICATION,
        403: FailureKind.PERMISSION,
        404: FailureKind.NOT_FOUND,
        429: FailureKind.RATE_LIMITED,
    }
    assert (found.failure.kind, found.failure.provider_status) == (kinds[status], status)
    assert found.failure.type is not None


@REPLIES
def test_how_the_bytes_are_cut_means_nothing(name: str) -> None:
    recording = wire.read(name)
    body, whole = recording.response_body, read(recording)
    assert read(recording, [body[place : place + 1] for place in range(len(body))]) == whole
    assert read(recording, [body[place : place + 4093] for place in range(0, len(body), 4093)]) == whole


@STREAMS
def test_a_prefix_has_the_reading_of_the_prefix(name: str) -> None:
    recording = wire.read(name)
    dialect, body, whole = DIALECTS[RECORDED_DIALECTS[recording.dialect]], recording.response_body, read(recording)
    step = 1 if len(body) < SMALL else 1009
    framing, decoder = dialect.framing(LIMIT), dialect.decoder(True, 1, PLAIN)
    count = 0
    for place in range(0, len(body), step):
        for frame in framing.feed(body[place : place + step]):
            events = decoder.feed(frame)
            assert tuple(events) == whole.events[count : count + len(events)]
            count += len(events)
        assert decoder.ended == any(isinstance(event, ChoiceFinished) for event in whole.events[:count])
    last = framing.close()
    count += len(decoder.feed(last)) if last is not None else 0
    assert count == len(whole.events)


@pytest.mark.parametrize("name", wire.params("gemini.generateContent/", "gemini.interactions/"))
def test_a_chat_client_gets_the_same_reply_and_the_same_count(name: str) -> None:
    """The crossing: this wire's reply, written as chat, read back as chat."""
    recording = wire.read(name)
    if recording.response.status >= 400:
        pytest.skip("an error")
    told = read(recording)
    usage = told.settled(DIALECTS[RECORDED_DIALECTS[recording.dialect]]).usage
    encoder = OPENAI_CHAT.encoder(facts())
    body = encoder.encode(told.events) + encoder.close(FinalUsage(usage))
    heard = decode(body, dialect=OPENAI_CHAT)
    assert heard.ended
    assert heard.text == told.text
    assert heard.reasoning == told.reasoning
    assert [call[1:] for call in heard.tools] == [call[1:] for call in told.tools]
    if usage.total_tokens is not None:
        found = heard.settled(OPENAI_CHAT).usage
        assert (found.input_tokens, found.output_tokens) == (usage.input_tokens, usage.output_tokens)
        assert (found.cache_read_tokens or 0, found.reasoning_tokens or 0) == (
            usage.cache_read_tokens or 0,
            usage.reasoning_tokens or 0,
        )


def test_work_in_the_background_is_answered_while_it_runs() -> None:
    (name,) = wire.ids(BACKGROUND) or (pytest.skip(wire.ABSENT),)
    found = read(wire.read(name))
    assert [event.said for event in found.of(ChoiceFinished)] == ["in_progress"]
    assert found.reading.reports == 0
