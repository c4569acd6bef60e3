"""Reading and writing this dialect in tests: bytes in, facts out. Invented replies, in the shapes servers send."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from counterfoil.core.event import (
    Event,
    OpaqueGiven,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.dialects.dialect import Decoder, Quirks, ReplyFacts
from counterfoil.dialects.openai_responses import OPENAI_RESPONSES
from counterfoil.framing.frame import Frame
from counterfoil.framing.sse import SseFraming
from counterfoil.framing.whole import WholeFraming
from counterfoil.usage.reading import NO_READING, Reading
from counterfoil.usage.settle import Settlement, settle

LIMIT = 8 * 2**20
PLAIN = Quirks()
USAGE = {
    "input_tokens": 40,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 52,
}


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
        return settle(self.reading, OPENAI_RESPONSES.convention, ended=self.ended)

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def refusal(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, RefusalDelta))

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
    decoder: Decoder = OPENAI_RESPONSES.decoder(streamed, 1, quirks)
    pieces = [body] if isinstance(body, bytes) else body
    events = [event for frame in frames_of(pieces, streamed=streamed) for event in decoder.feed(frame)]
    events += decoder.close()
    return Decoded(tuple(events), decoder.ended, decoder.done)


def joined(events: Iterable[Event]) -> list[Event]:
    """Events with neighbouring pieces of the same text put together: how text is cut means nothing."""
    found: list[Event] = []
    for event in events:
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


# ---- replies as servers send them


def response(status: str = "completed", **changes: Any) -> dict[str, Any]:
    """A response object."""
    return {
        "id": "resp_made",
        "object": "response",
        "created_at": 1_700_000_001,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": "made-model-2",
        "output": [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None if status in ("in_progress", "failed") else USAGE,
        **changes,
    }


def sse(*frames: dict[str, Any], named: bool = True, numbered: bool = True) -> bytes:
    """A stream of these frames as OpenAI sends it."""
    out = []
    for number, frame in enumerate(frames):
        told = {"sequence_number": number, **frame} if numbered else frame
        name = f"event: {frame['type']}\n" if named else ""
        out.append(f"{name}data: {json.dumps(told)}\n\n".encode())
    return b"".join(out)


def start(**changes: Any) -> list[dict[str, Any]]:
    kinds = ("response.created", "response.in_progress")
    return [{"type": kind, "response": response("in_progress", **changes)} for kind in kinds]


def added(index: int, **item: Any) -> dict[str, Any]:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def done(index: int, **item: Any) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def message(index: int, *pieces: str, **part: Any) -> list[dict[str, Any]]:
    """A message of one text."""
    place = {"item_id": f"msg_{index}", "output_index": index, "content_index": 0}
    whole = {"type": "output_text", "text": "".join(pieces), "annotations": [], "logprobs": [], **part}
    head = {"id": f"msg_{index}", "type": "message", "role": "assistant"}
    return [
        added(index, **head, status="in_progress", content=[]),
        {
            "type": "response.content_part.added",
            **place,
            "part": {"type": "output_text", "text": "", "annotations": [], "logprobs": []},
        },
        *({"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []} for piece in pieces),
        {"type": "response.output_text.done", **place, "text": "".join(pieces), "logprobs": []},
        {"type": "response.content_part.done", **place, "part": whole},
        done(index, **head, status="completed", content=[whole]),
    ]


def call(index: int, name: str, *pieces: str) -> list[dict[str, Any]]:
    """A function call."""
    place = {"item_id": f"fc_{index}", "output_index": index}
    head = {"id": f"fc_{index}", "type": "function_call", "call_id": f"call_{index}", "name": name}
    return [
        added(index, **head, status="in_progress", arguments=""),
        *({"type": "response.function_call_arguments.delta", **place, "delta": piece} for piece in pieces),
        {"type": "response.function_call_arguments.done", **place, "name": name, "arguments": "".join(pieces)},
        done(index, **head, status="completed", arguments="".join(pieces)),
    ]


def thought(index: int, *parts: str, encrypted: str | None = None) -> list[dict[str, Any]]:
    """A reasoning item with a summary of these parts, each in two deltas."""
    head = {"id": f"rs_{index}", "type": "reasoning"}
    frames = [added(index, **head, summary=[])]
    for number, part in enumerate(parts):
        place = {"item_id": f"rs_{index}", "output_index": index, "summary_index": number}
        half = len(part) // 2
        frames += [
            {"type": "response.reasoning_summary_part.added", **place, "part": {"type": "summary_text", "text": ""}},
            {"type": "response.reasoning_summary_text.delta", **place, "delta": part[:half]},
            {"type": "response.reasoning_summary_text.delta", **place, "delta": part[half:]},
            {"type": "response.reasoning_summary_text.done", **place, "text": part},
            {"type": "response.reasoning_summary_part.done", **place, "part": {"type": "summary_text", "text": part}},
        ]
    proof = {} if encrypted is None else {"encrypted_content": encrypted}
    summary = [{"type": "summary_text", "text": part} for part in parts]
    return [*frames, done(index, **head, summary=summary, **proof)]


def items_of(frames: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items these frames end with: what the terminal event repeats."""
    return [frame["item"] for frame in frames if frame["type"] == "response.output_item.done"]


def reply(*frames: dict[str, Any], status: str = "completed", **changes: Any) -> list[dict[str, Any]]:
    """A whole stream around these frames, which a test may change."""
    last = response(status, **{"output": items_of(frames), **changes})
    return copy.deepcopy([*start(), *frames, {"type": f"response.{status}", "response": last}])


def facts(**changes: Any) -> ReplyFacts:
    known: dict[str, Any] = {
        "id": "resp_ours",
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
    ["type", "response", "item", "output_index", "item_id", "content_index", "summary_index", "delta", "text",
     "arguments", "usage", "error", "content", "summary", "output", "status", "id", "annotation", "logprobs",
     "encrypted_content", "incomplete_details"]
)  # fmt: skip
TYPES = st.sampled_from(
    ["response.created", "response.output_item.added", "response.output_item.done", "response.output_text.delta",
     "response.output_text.done", "response.refusal.delta", "response.reasoning_text.delta",
     "response.reasoning_summary_text.done", "response.function_call_arguments.delta",
     "response.function_call_arguments.done", "response.output_text.annotation.added", "response.completed",
     "response.incomplete", "response.failed", "error", "message", "reasoning", "function_call", "web_search_call"]
)  # fmt: skip
NEARLY = st.recursive(
    st.dictionaries(KEYS, TYPES | JSON, max_size=5),
    lambda inner: st.dictionaries(KEYS, inner | TYPES | st.lists(inner, max_size=2), max_size=5),
    max_leaves=6,
)
"""Objects with the words of this wire in wrong places."""
