"""Cohere's frames and bodies with invented text, and what a reply of them amounts to."""

from __future__ import annotations

import json
from typing import Any

from counterfoil.core.event import Event, ReasoningDelta, TextDelta, ToolArgumentsDelta, ToolCallStarted
from counterfoil.dialects.dialect import Dialect
from counterfoil.dialects.registry import DIALECTS
from counterfoil.exchange.recorded import ReadReply, read_reply

__all__ = [
    "DONE",
    "END",
    "USAGE",
    "block",
    "calls_of",
    "chat",
    "delta",
    "end",
    "frame",
    "read",
    "reasoning_of",
    "start",
    "text_of",
]

USAGE = {
    "billed_units": {"input_tokens": 12, "output_tokens": 7},
    "tokens": {"input_tokens": 500, "output_tokens": 10},
    "cached_tokens": 448,
}
DONE = b"data: [DONE]\n\n"


def frame(kind: str, **fields: Any) -> bytes:
    """One frame as the wire has it: its kind is the event's name and the JSON's type."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def delta(kind: str, index: int = 0, **message: Any) -> bytes:
    """A frame that adds to the message."""
    return frame(kind, index=index, delta={"message": message})


def start() -> bytes:
    empty: dict[str, Any] = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    return frame("message-start", id="reply-1", delta={"message": empty})


def block(index: int, kind: str, *pieces: str) -> bytes:
    """A whole block of text or thinking, a frame a piece."""
    opened = delta("content-start", index, content={"type": kind, kind: ""})
    said = b"".join(delta("content-delta", index, content={kind: piece}) for piece in pieces)
    return opened + said + frame("content-end", index=index)


def end(reason: str | None = "COMPLETE", usage: Any = USAGE, **more: Any) -> bytes:
    return frame("message-end", delta={"finish_reason": reason, "usage": usage, **more})


END = end()


def chat(*parts: Any, calls: Any = None, plan: str | None = None, reason: str = "COMPLETE", **more: Any) -> bytes:
    """A whole reply."""
    message: dict[str, Any] = {"role": "assistant", "content": list(parts)}
    if calls is not None:
        message["tool_calls"] = calls
    if plan is not None:
        message["tool_plan"] = plan
    return json.dumps({"id": "reply-1", "message": message, "finish_reason": reason, "usage": USAGE, **more}).encode()


def read(*data: bytes, dialect: str = "cohere", streamed: bool = True, **more: Any) -> ReadReply:
    found: Dialect[Any] = DIALECTS[dialect]
    return read_reply(data, found, streamed=streamed, **more)


def text_of(events: tuple[Event, ...]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def reasoning_of(events: tuple[Event, ...]) -> str:
    return "".join(event.text for event in events if isinstance(event, ReasoningDelta))


def calls_of(events: tuple[Event, ...]) -> list[tuple[str, str, str]]:
    """Every call: id, name, arguments."""
    return [
        (
            event.id,
            event.name,
            "".join(e.arguments for e in events if isinstance(e, ToolArgumentsDelta) and e.call == event.call),
        )
        for event in events
        if isinstance(event, ToolCallStarted)
    ]
