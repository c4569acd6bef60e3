"""Small chat streams made for a test, and what a decoder says of them. The texts are invented."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from counterfoil.core.event import Event, ReplyFailed, TextDelta
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.openai_chat.reply import ChatDecoder
from counterfoil.framing.frame import Frame

__all__ = ["DONE", "chunk", "delta", "events_of", "finish", "frame", "text_of", "usage"]

DONE = Frame(b"[DONE]")


def frame(value: Any, event: str = "") -> Frame:
    """One frame whose payload is this JSON, or these bytes."""
    return Frame(value if isinstance(value, bytes) else msgspec.json.encode(value), event)


def chunk(choices: Any = (), **more: Any) -> Frame:
    """One chunk. `choices` as they are on the wire; further keys by name."""
    head = {"id": "chat-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "boat-7b"}
    return frame({**head, "choices": choices, **more})


def delta(said: Mapping[str, Any], *, choice: int = 0, reason: str | None = None, **more: Any) -> Frame:
    """A chunk with one delta."""
    return chunk([{"index": choice, "delta": said, "finish_reason": reason}], **more)


def finish(reason: str | None = "stop", *, choice: int = 0, **more: Any) -> Frame:
    """A chunk that finishes a choice."""
    return delta({}, choice=choice, reason=reason, **more)


def usage(given: int = 11, made: int = 4) -> dict[str, int]:
    """A usage object."""
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


def events_of(
    *frames: Frame, streamed: bool = True, choices: int = 1, quirks: Quirks | None = None
) -> tuple[list[Event], ChatDecoder]:
    """The events of the frames and of their end, and the decoder that said them."""
    decoder = ChatDecoder(streamed, choices, quirks or Quirks())
    events = [event for one in frames for event in decoder.feed(one)]
    events.extend(decoder.close())
    assert sum(isinstance(event, ReplyFailed) for event in events) <= 1
    return events, decoder


def text_of(events: list[Event], choice: int = 0) -> str:
    """The text of one choice."""
    return "".join(event.text for event in events if isinstance(event, TextDelta) and event.choice == choice)
