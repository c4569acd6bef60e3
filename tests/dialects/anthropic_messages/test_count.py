"""Counting the tokens of a chat: one number comes back, nothing is used, and what shapes a reply is not asked."""

from __future__ import annotations

import msgspec
import pytest

from counterfoil.core.error import FailureKind, RequestError
from counterfoil.core.event import TokensCounted
from counterfoil.core.message import Message, Text
from counterfoil.core.operation import ChatRequest, CountRequest, Operation, Tool
from counterfoil.dialects.anthropic_messages import ANTHROPIC_COUNT
from counterfoil.dialects.dialect import FinalUsage, Quirks, ReplyFacts
from counterfoil.exchange.recorded import ReadReply, read_reply
from counterfoil.framing.frame import Frame
from counterfoil.ledger.entry import Exit
from tests import wire

__all__: list[str] = []

FACTS = ReplyFacts("ours", 1_700_000_000, "house-model", streamed=False, usage_asked=False)
NO_USAGE = FinalUsage(None)


def _read(*pieces: bytes, status: int = 200) -> ReadReply:
    return read_reply(pieces, ANTHROPIC_COUNT, streamed=False, status=status)


def _counted(reply: ReadReply) -> list[int]:
    return [event.input_tokens for event in reply.events if isinstance(event, TokensCounted)]


@pytest.mark.parametrize("name", wire.params("anthropic.count_tokens/"))
def test_a_recorded_count_is_read_and_uses_nothing(name: str) -> None:
    recording = wire.read(name)
    body = recording.response_body
    whole = _read(body)
    assert _counted(whole) == [recording.usage_reported["input_tokens"]]
    assert whole.exit is Exit.COMPLETED
    assert (whole.settlement.usage.input_tokens, whole.settlement.usage.output_tokens) == (0, 0)
    assert _read(*[body[place : place + 1] for place in range(len(body))]) == whole
    for end in range(len(body)):
        cut = _read(body[:end])
        assert not _counted(cut)
        assert (cut.settlement.usage.input_tokens, cut.settlement.usage.output_tokens) == (0, 0)
    read = ANTHROPIC_COUNT.read_request(msgspec.json.encode(recording.request_body))
    assert read.model == recording.model


@pytest.mark.parametrize("body", [b"{}", b'{"input_tokens":-1}', b'{"input_tokens":"12"}', b"<html>", b"\xff"])
def test_what_is_no_count_fails_by_name(body: bytes) -> None:
    reply = _read(body)
    assert reply.exit is Exit.FAILED
    assert reply.failure is not None
    assert reply.failure.kind is FailureKind.BAD_REPLY


def test_an_error_in_a_body_that_was_answered_200_is_told() -> None:
    reply = _read(b'{"type":"error","error":{"type":"overloaded_error","message":"Busy."}}')
    assert reply.failure is not None
    assert reply.failure.kind is FailureKind.OVERLOADED


def test_a_client_asks_without_an_output_bound() -> None:
    body = msgspec.json.encode(
        {"model": "m", "messages": [{"role": "user", "content": "How long is this?"}], "system": "Be brief."}
    )
    read = ANTHROPIC_COUNT.read_request(body)
    assert ANTHROPIC_COUNT.operation is Operation.COUNT
    assert [message.role for message in read.chat.messages] == ["system", "user"]
    assert read.chat.max_output_tokens is None
    peek = ANTHROPIC_COUNT.peek_request(body)
    assert (peek.model, peek.streamed) == ("m", False)
    patched = ANTHROPIC_COUNT.patch_request(body, "claude-x", Quirks(), True)
    assert msgspec.json.decode(patched) == {**msgspec.json.decode(body), "model": "claude-x"}


@pytest.mark.parametrize(
    "body",
    [b"[]", b"{", b'{"messages":[{}]}', b'{"model":"","messages":[{}]}', b'{"model":"m","messages":[]}', b"[" * 9999],
)
def test_a_request_that_cannot_be_counted_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        ANTHROPIC_COUNT.peek_request(body)


def test_only_what_is_counted_is_sent() -> None:
    chat = ChatRequest(
        model="house-model",
        messages=(Message("system", (Text("Be brief."),)), Message("user", (Text("Hello"),))),
        tools=(Tool("look", parameters=msgspec.Raw(b'{"type":"object"}')),),
        max_output_tokens=7,
        temperature=0.3,
        top_k=4,
        stop=("END",),
        n=3,
        seed=5,
        logprobs=True,
        frequency_penalty=1.0,
        user="u",
        service_tier="flex",
        stream=True,
    )
    written = ANTHROPIC_COUNT.write_request(CountRequest(chat), "claude-x", Quirks(), False)
    assert written.dropped == ()
    assert msgspec.json.decode(written.body) == {
        "model": "claude-x",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        "system": "Be brief.",
        "tools": [{"name": "look", "input_schema": {"type": "object"}}],
    }


def test_a_client_reads_the_number_whoever_counted() -> None:
    encoder = ANTHROPIC_COUNT.encoder(FACTS)
    assert encoder.encode((TokensCounted(41),)) == b""
    assert encoder.close(NO_USAGE) == b'{"input_tokens":41}'
    body = b'{"input_tokens": 41, "context_management": {"original_input_tokens": 90}}'
    relay = ANTHROPIC_COUNT.relay(FACTS, Quirks())
    relay.carry(Frame(body), ())
    assert relay.close(NO_USAGE) == body
