"""Reading and writing this dialect in tests: bytes in, facts out."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st

from counterfoil.core.event import (
    Event,
    OpaqueGiven,
    OutputHidden,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from counterfoil.dialects.dialect import Decoder, Quirks, ReplyFacts
from counterfoil.framing.frame import Frame
from counterfoil.framing.sse import SseFraming
from counterfoil.framing.whole import WholeFraming
from counterfoil.usage.reading import NO_READING, Reading
from counterfoil.usage.settle import Settlement, settle

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

    @property
    def settlement(self) -> Settlement:
        return settle(self.reading, ANTHROPIC_MESSAGES.convention, ended=self.ended)

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
            (event.id, event.name, json.loads(self._arguments(event.call)))
            for event in self.events
            if isinstance(event, ToolCallStarted)
        ]

    def _arguments(self, call: int) -> str:
        return "".join(e.arguments for e in self.events if isinstance(e, ToolArgumentsDelta) and e.call == call)

    @property
    def opaque(self) -> list[tuple[str, Any]]:
        return [(event.kind, json.loads(bytes(event.raw))) for event in self.events if isinstance(event, OpaqueGiven)]

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def frames_of(pieces: Iterable[bytes], *, streamed: bool) -> Iterator[Frame]:
    """The frames of a body that came in these pieces; half a frame at the end too."""
    framing = SseFraming(LIMIT) if streamed else WholeFraming(LIMIT)
    for piece in pieces:
        yield from framing.feed(piece)
    last = framing.close()
    if last is not None:
        yield last


def decode(body: bytes | Sequence[bytes], *, streamed: bool = True, quirks: Quirks = PLAIN) -> Decoded:
    """A reply decoded from its bytes, however they are cut."""
    decoder: Decoder = ANTHROPIC_MESSAGES.decoder(streamed, 1, quirks)
    pieces = [body] if isinstance(body, bytes) else body
    events = [event for frame in frames_of(pieces, streamed=streamed) for event in decoder.feed(frame)]
    events += decoder.close()
    return Decoded(tuple(events), decoder.ended, decoder.done)


def joined(events: Iterable[Event]) -> list[Event]:
    """Events with neighbouring pieces of the same text put together: how text is cut means nothing."""
    found: list[Event] = []
    for event in events:
        if isinstance(event, OutputHidden):  # of the books alone
            continue
        before = found[-1] if found else None
        if isinstance(before, TextDelta) and isinstance(event, TextDelta):
            found[-1] = TextDelta(before.text + event.text)
        elif isinstance(before, ReasoningDelta) and isinstance(event, ReasoningDelta):
            found[-1] = ReasoningDelta(before.text + event.text)
        elif (
            isinstance(before, ToolArgumentsDelta)
            and isinstance(event, ToolArgumentsDelta)
            and before.call == event.call
        ):
            found[-1] = ToolArgumentsDelta(event.call, before.arguments + event.arguments)
        else:
            found.append(event)
    return found


def sse(*frames: dict[str, Any], named: bool = True) -> bytes:
    """A stream of these frames as Anthropic sends it."""
    return b"".join(
        (f"event: {frame['type']}\n" if named else "").encode() + b"data: " + json.dumps(frame).encode() + b"\n\n"
        for frame in frames
    )


def start(usage: dict[str, Any] | None = None, **message: Any) -> dict[str, Any]:
    head: dict[str, Any] = {
        "id": "msg_made",
        "type": "message",
        "role": "assistant",
        "model": "claude-made-1",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 25, "output_tokens": 3} if usage is None else usage,
    }
    return {"type": "message_start", "message": {**head, **message}}


def block(index: int, content_block: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content_block},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text_block(index: int, *pieces: str) -> list[dict[str, Any]]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": piece} for piece in pieces))


def end(stop_reason: str = "end_turn", usage: dict[str, Any] | None = None, **delta: Any) -> list[dict[str, Any]]:
    said = {"stop_reason": stop_reason, "stop_sequence": None, **delta}
    return [
        {"type": "message_delta", "delta": said, "usage": {"output_tokens": 12} if usage is None else usage},
        {"type": "message_stop"},
    ]


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


# ---- frames that are nearly right

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["type", "index", "message", "content_block", "delta", "usage", "error", "content", "text", "id"]
)
TYPES = st.sampled_from(
    ["message", "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
     "message_stop", "ping", "error", "text_delta", "input_json_delta", "tool_use", "thinking", "compaction_delta"]
)  # fmt: skip
NEARLY = st.recursive(
    st.dictionaries(KEYS, TYPES | JSON, max_size=5),
    lambda inner: st.dictionaries(KEYS, inner | TYPES, max_size=5),
    max_leaves=6,
)
"""Objects with the words of this wire in wrong places."""


# ---- recordings


class Recording(msgspec.Struct, frozen=True):
    name: str
    streamed: bool
    status: int
    body: bytes


def _shared() -> Path | None:
    for folder in Path(__file__).resolve().parents:
        found = folder.parent / "shared" / "wire"
        if found.is_dir():
            return found
    return None


@cache
def recordings() -> tuple[Recording, ...]:
    """All recorded exchanges of this dialect; none where the recordings are not beside the checkout."""
    shared = _shared()
    if shared is None:
        return ()
    found = []
    for path in sorted((shared / "anthropic.messages").glob("*/*.json")):
        record = json.loads(path.read_text())
        response = record["response"]
        found.append(Recording(record["id"], record["stream"], response["status"], response["body"].encode()))
    return tuple(found)


@cache
def oracle() -> dict[str, dict[str, str]]:
    shared = _shared()
    assert shared is not None
    with (shared / "expected.tsv").open() as lines:
        return {row["id"]: row for row in csv.DictReader(lines, delimiter="\t")}


def replies() -> list[Any]:
    """Pytest parameters: every recorded reply, or one that is skipped and says why."""
    found = [pytest.param(one, id=one.name.partition("/")[2]) for one in recordings() if one.status < 400]
    if found:
        return found
    return [pytest.param(None, marks=pytest.mark.skip(reason="../shared/wire is not beside this checkout"))]
