"""The recorded chat exchanges, and what the decoder says of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import msgspec

from counterfoil.core.event import Event, UsageReported
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.openai_chat.reply import ChatDecoder
from counterfoil.framing.frame import Frame
from counterfoil.framing.sse import SseFraming
from counterfoil.usage.reading import NO_READING, Reading
from tests import wire

__all__ = [
    "DIALECTS",
    "Recording",
    "decode_bytes",
    "decode_frames",
    "reading_of",
    "recordings",
]

DIALECTS = ("openai.chat", "azure.chat", "mistral.chat")
_LIMIT = 8 << 20


class Recording(msgspec.Struct, frozen=True):
    """One recorded exchange."""

    id: str
    provider: str
    model: str
    streamed: bool
    status: int
    choices: int
    body: bytes
    headers: Mapping[str, str]


@cache
def recordings() -> tuple[Recording, ...]:
    """Every recorded chat exchange; skips the test when they are absent."""
    found = tuple(_adapted(record) for record in wire.records(*(f"{dialect}/" for dialect in DIALECTS)))
    assert len(found) > 150
    return found


def decode_bytes(body: bytes, *, streamed: bool, choices: int, quirks: Quirks, step: int | None = None) -> list[Event]:
    """The events of a body that comes `step` bytes at a time; None: all at once."""
    if not streamed:
        return decode_frames([Frame(body, "", body)], streamed=False, choices=choices, quirks=quirks)
    framing = SseFraming(_LIMIT)
    frames: list[Frame] = []
    for start in range(0, len(body), step or len(body) or 1):
        frames += framing.feed(body[start : start + step] if step else body)
    framing.close()
    return decode_frames(frames, streamed=True, choices=choices, quirks=quirks)


def decode_frames(frames: list[Frame], *, streamed: bool, choices: int, quirks: Quirks) -> list[Event]:
    """The events of frames, the end of the bytes included."""
    decoder = ChatDecoder(streamed, choices, quirks)
    events: list[Event] = []
    for frame in frames:
        events.extend(decoder.feed(frame))
    events.extend(decoder.close())
    return events


def reading_of(events: list[Event]) -> Reading:
    """What the reports among the events amount to."""
    reading = NO_READING
    for event in events:
        if isinstance(event, UsageReported):
            reading = reading.join(event.report)
    return reading


def _adapted(record: wire.Recording) -> Recording:
    asked = record.request_body
    choices = asked.get("n") if isinstance(asked, dict) else None
    body = record.response_body
    return Recording(
        id=record.id,
        provider=f"{record.dialect}/{record.provider}",
        model=record.model or "",
        streamed=not body.lstrip().startswith(b"{"),
        status=record.response.status,
        choices=choices if isinstance(choices, int) else 1,
        body=body,
        headers={name.lower(): value for name, value in record.response.headers.items()},
    )
