"""Converse in tests: streams written, replies read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from counterfoil.core.event import (
    ChoiceFinished,
    Event,
    OutputHidden,
    ReasoningDelta,
    ReplyStarted,
    TextDelta,
    ToolArgumentsDelta,
    UsageReported,
)
from counterfoil.core.operation import ChatRequest
from counterfoil.dialects.bedrock_converse import BEDROCK_CONVERSE
from counterfoil.dialects.dialect import Quirks
from counterfoil.exchange.recorded import ReadReply, read_reply
from counterfoil.ledger.entry import Exit
from counterfoil.testing.eventstream import event_message
from tests import wire

from ..recorded import recorded

__all__ = [
    "CLAUDE",
    "METADATA",
    "START",
    "STOP",
    "USAGE",
    "body_of",
    "finish_of",
    "heard",
    "joined",
    "judged",
    "read_stream",
    "read_whole",
    "said",
    "text_of",
    "whole",
]

CLAUDE = "eu.anthropic.claude-sonnet-4-6"
USAGE = {"inputTokens": 9, "outputTokens": 4, "totalTokens": 13}

Said = tuple[str, object]
START: Said = ("messageStart", {"role": "assistant", "p": "abc"})
STOP: Said = ("messageStop", {"stopReason": "end_turn", "p": "ab"})
METADATA: Said = ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 210}, "p": "a"})


def said(index: int, **delta: object) -> Said:
    """A contentBlockDelta."""
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": delta}


def read_stream(*events: Said | bytes, quirks: Quirks | None = None) -> ReadReply:
    """Read a stream of these events, cut byte by byte and whole, which has to be the same."""
    data = b"".join(event if isinstance(event, bytes) else event_message(*event) for event in events)
    reply = read_reply([data], BEDROCK_CONVERSE, streamed=True, quirks=quirks or Quirks())
    single = [data[place : place + 1] for place in range(len(data))]
    assert read_reply(single, BEDROCK_CONVERSE, streamed=True, quirks=quirks or Quirks()) == reply
    return reply


def read_whole(body: object) -> ReadReply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_reply([data], BEDROCK_CONVERSE, streamed=False)


def whole(*blocks: object, stop: str | None = "end_turn", usage: object = USAGE) -> dict[str, object]:
    """A whole reply."""
    body: dict[str, object] = {"output": {"message": {"role": "assistant", "content": list(blocks)}}, "usage": usage}
    return {**body, "stopReason": stop} if stop is not None else body


def heard(reply: ReadReply) -> list[Event]:
    """What a client is told of the reply, without who says it and what it cost, its text joined."""
    return joined(e for e in reply.events if not isinstance(e, OutputHidden | ReplyStarted | UsageReported))


def joined(events: Iterable[Event]) -> list[Event]:
    """Neighbouring pieces of one text put together."""
    found: list[Event] = []
    for event in events:
        last = found[-1] if found else None
        match last, event:
            case (TextDelta(text=before), TextDelta(text=more)):
                found[-1] = TextDelta(before + more)
            case (ReasoningDelta(text=before), ReasoningDelta(text=more)):
                found[-1] = ReasoningDelta(before + more)
            case (ToolArgumentsDelta(call=call, arguments=before), ToolArgumentsDelta(call=same, arguments=more)) if (
                call == same
            ):
                found[-1] = ToolArgumentsDelta(call, before + more)
            case _:
                found.append(event)
    return found


def text_of(reply: ReadReply) -> str:
    return "".join(event.text for event in reply.events if isinstance(event, TextDelta))


def finish_of(reply: ReadReply) -> ChoiceFinished:
    (finish,) = [event for event in reply.events if isinstance(event, ChoiceFinished)]
    return finish


_JUDGED = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")


def judged(name: str) -> ReadReply:
    """A recorded reply, after the oracle and every cut. The usage comes after the end, so a prefix may lack only it."""
    one, oracle = recorded(name), wire.expected().get(name)
    reply = one.read()
    usage = reply.settlement.usage
    for cell in _JUDGED:
        expected = getattr(oracle, cell, None)
        assert expected is None or getattr(usage, cell) == expected
    if one.status >= 300:
        return reply
    for size in (1, 7, 4096):
        assert one.read([one.data[place : place + size] for place in range(0, len(one.data), size)]) == reply
    for end in range(0, len(one.data), max(1, len(one.data) // 256)):
        cut = one.read([one.data[:end]])
        assert cut.exit is not Exit.COMPLETED or cut.reading.reports <= reply.reading.reports
        assert not one.streamed or cut.events == reply.events[: len(cut.events)]
    return reply


def body_of(request: ChatRequest, model: str = CLAUDE, *, drop: bool = False, quirks: Quirks | None = None) -> Any:
    """The body as JSON, and what was dropped under the key `dropped`."""
    written = BEDROCK_CONVERSE.write_request(request, model, quirks or Quirks(), drop)
    body = json.loads(written.body)
    return {**body, "dropped": list(written.dropped)} if written.dropped else body
