"""Reading and writing this dialect in tests: bytes in, facts out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from google.genai import types

from counterfoil.core.event import (
    Event,
    OpaqueGiven,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.core.message import Message, Part, Text
from counterfoil.core.operation import ChatRequest
from counterfoil.dialects.dialect import Dialect, Quirks, ReplyFacts
from counterfoil.dialects.gemini import GEMINI
from counterfoil.framing.frame import Frame
from counterfoil.framing.whole import WholeFraming
from counterfoil.usage.reading import NO_READING, Reading
from counterfoil.usage.settle import Settlement, settle

__all__ = [
    "LIMIT",
    "PLAIN",
    "Decoded",
    "array",
    "as_google_reads",
    "asked",
    "candidate",
    "chunk",
    "decode",
    "facts",
    "frames_of",
    "joined",
    "said_by_model",
    "sse",
    "usage",
    "user",
]

LIMIT = 8 * 2**20
PLAIN = Quirks()


class Decoded(msgspec.Struct, frozen=True):
    """A reply as it was understood."""

    events: tuple[Event, ...]
    ended: bool
    done: bool

    @property
    def reading(self) -> Reading:
        reading = NO_READING
        for event in self.events:
            if isinstance(event, UsageReported):
                reading = reading.join(event.report)
        return reading

    def settled(self, dialect: Dialect[Any] = GEMINI) -> Settlement:
        return settle(self.reading, dialect.convention, ended=self.ended)

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def reasoning(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, ReasoningDelta))

    @property
    def tools(self) -> list[tuple[str, str, Any]]:
        """Every call: id, name, arguments as JSON."""
        return [
            (event.id, event.name, json.loads(self._arguments(event)))
            for event in self.events
            if isinstance(event, ToolCallStarted)
        ]

    def _arguments(self, call: ToolCallStarted) -> str:
        return "".join(
            event.arguments
            for event in self.events
            if isinstance(event, ToolArgumentsDelta) and (event.call, event.choice) == (call.call, call.choice)
        )

    @property
    def opaque(self) -> list[tuple[str, Any]]:
        return [(event.kind, json.loads(bytes(event.raw))) for event in self.events if isinstance(event, OpaqueGiven)]

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def frames_of(pieces: Iterable[bytes], *, streamed: bool, dialect: Dialect[Any] = GEMINI) -> Iterator[Frame]:
    """The frames of a body that came in these pieces; half a frame at the end too."""
    framing = dialect.framing(LIMIT) if streamed else WholeFraming(LIMIT)
    for piece in pieces:
        yield from framing.feed(piece)
    last = framing.close()
    if last is not None:
        yield last


def decode(
    body: bytes | Sequence[bytes], *, streamed: bool = True, choices: int = 1, dialect: Dialect[Any] = GEMINI
) -> Decoded:
    """A reply decoded from its bytes, however they are cut."""
    decoder = dialect.decoder(streamed, choices, PLAIN)
    pieces = [body] if isinstance(body, bytes) else body
    frames = frames_of(pieces, streamed=streamed, dialect=dialect)
    events = [event for frame in frames for event in decoder.feed(frame)]
    events += decoder.close()
    return Decoded(tuple(events), decoder.ended, decoder.done)


def joined(events: Iterable[Event]) -> list[Event]:
    """Events with neighbouring pieces of the same text put together: how text is cut means nothing."""
    found: list[Event] = []
    for event in events:
        before = found[-1] if found else None
        if isinstance(before, TextDelta) and isinstance(event, TextDelta) and before.choice == event.choice:
            found[-1] = TextDelta(before.text + event.text, event.choice)
        elif isinstance(before, ReasoningDelta) and isinstance(event, ReasoningDelta) and before.choice == event.choice:
            found[-1] = ReasoningDelta(before.text + event.text, event.choice)
        else:
            found.append(event)
    return found


def sse(*chunks: dict[str, Any], end: str = "\r\n\r\n") -> bytes:
    """A stream of these chunks as Google sends it: CR LF, no end mark."""
    return "".join(f"data: {json.dumps(chunk, ensure_ascii=False)}{end}" for chunk in chunks).encode()


def array(*chunks: dict[str, Any]) -> bytes:
    """The same without `alt=sse`: a JSON array, laid out over lines."""
    return (
        "[" + "\n,\r\n".join(json.dumps(chunk, indent=2, ensure_ascii=False) for chunk in chunks) + "\n]\n"
    ).encode()


def candidate(*parts: dict[str, Any], finish: Any = None, **more: Any) -> dict[str, Any]:
    """A candidate of these parts."""
    said: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, **more}
    return said if finish is None else {**said, "finishReason": finish}


def usage(
    prompt: int | None = 9, candidates: int | None = 4, thoughts: int | None = None, **more: Any
) -> dict[str, Any]:
    """A `usageMetadata` that adds up."""
    counts = {"promptTokenCount": prompt, "candidatesTokenCount": candidates, "thoughtsTokenCount": thoughts}
    known = {name: count for name, count in counts.items() if count is not None}
    return {**known, "totalTokenCount": sum(known.values()) + more.get("toolUsePromptTokenCount", 0), **more}


def chunk(*candidates: dict[str, Any], said: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A frame with these candidates."""
    head: dict[str, Any] = {"candidates": list(candidates)} if candidates else {}
    tail = {} if said is None else {"usageMetadata": said}
    return {**head, **tail, "modelVersion": "gemini-made-1", "responseId": "made", **more}


def user(text: str = "When is the tide?") -> Message:
    return Message("user", (Text(text),))


def asked(*messages: Message, **fields: Any) -> ChatRequest:
    """A chat request in no dialect."""
    return ChatRequest(model="house-model", messages=messages or (user(),), **fields)


def as_google_reads(frame: dict[str, Any]) -> types.GenerateContentResponse:
    """A frame as Google's own client reads it: keys it does not know are left out first."""
    copied = json.loads(json.dumps(frame))
    return types.GenerateContentResponse._from_response(response=copied, kwargs={})


def said_by_model(*parts: Part) -> Message:
    return Message("assistant", parts)


def facts(**changes: Any) -> ReplyFacts:
    known: dict[str, Any] = {
        "id": "ours",
        "created": 1_700_000_000,
        "model": "house-model",
        "streamed": True,
        "usage_asked": True,
        "input_estimate": 31,
    }
    return ReplyFacts(**{**known, **changes})
