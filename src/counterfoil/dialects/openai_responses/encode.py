"""Events to the Responses wire, for a client that speaks it behind a provider that does not.

Rule 1: the shape is WIRE 3's: `sequence_number` rises by one, `event:` lines name the type, `usage` is null until the
one terminal event, whose `output` holds every item.
Rule 2: nothing is sent before there is something to say, so a reply that fails early can still be asked for elsewhere.
Rule 3: a message or a thought ends when something else begins; a call ends then too if its arguments are complete, and
stays open beside what follows if not.
Rule 4: what this wire has no words for is left out: other dialects' opaque parts, choices beyond the first (a client of
this dialect cannot ask for them). What a response repeats of its request (`tools`, `instructions`, ...) has its neutral
value: the request was another one when it crossed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypedDict, assert_never

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import (
    ChoiceFinished,
    EmbeddingsGiven,
    Event,
    FinishReason,
    LogprobsGiven,
    OpaqueGiven,
    OutputHidden,
    RankingGiven,
    ReasoningDelta,
    ReasoningSigned,
    RedactedReasoningGiven,
    RefusalDelta,
    ReplyFailed,
    ReplyStarted,
    TextDelta,
    TokensCounted,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.dialects.dialect import FinalUsage, ReplyFacts
from counterfoil.dialects.openai_responses.failure import error_event, response_error, write_failure
from counterfoil.dialects.openai_responses.items import ANNOTATION
from counterfoil.dialects.openai_responses.output import Call, Item, Said, Spoken, Thought, Whole
from counterfoil.dialects.openai_responses.thought import to_client
from counterfoil.dialects.openai_responses.usage import write_usage
from counterfoil.dialects.schema import UNREADABLE, encode, fields_of
from counterfoil.framing.sse import on_one_line

__all__ = ["OUTPUT_ITEMS", "ResponsesEncoder", "frame_bytes"]

_INCOMPLETE: Final = {
    FinishReason.LENGTH: "max_output_tokens",
    FinishReason.CONTENT_FILTER: "content_filter",
}
"""Finishes that are no completion; the schema knows no other reasons."""

OUTPUT_ITEMS: Final = frozenset(
    {
        "apply_patch_call",
        "apply_patch_call_output",
        "code_interpreter_call",
        "compaction",
        "computer_call",
        "custom_tool_call",
        "file_search_call",
        "image_generation_call",
        "local_shell_call",
        "mcp_approval_request",
        "mcp_call",
        "mcp_list_tools",
        "shell_call",
        "shell_call_output",
        "tool_search_call",
        "tool_search_output",
        "web_search_call",
    }
)
"""Types of items of this wire that come word for word."""
_ANNOTATIONS: Final = "annotations"
"""Citations of a chat server's, which lie one level deeper there."""
_NOT_IN_AN_ID: Final = re.compile(r"[^A-Za-z0-9_-]")


class _Entry(TypedDict, total=False):
    """What is looked at of one token's log probability."""

    token: Any
    logprob: Any
    bytes: Any
    top_logprobs: list[dict[str, Any]] | None


_ENTRIES: Final = msgspec.json.Decoder(dict[str, list[_Entry] | None])


def frame_bytes(kind: str, value: object) -> bytes:
    """One SSE frame of this wire."""
    return b"event: " + kind.encode() + b"\ndata: " + on_one_line(encode(value)) + b"\n\n"


class ResponsesEncoder:
    """One reply."""

    def __init__(self, facts: ReplyFacts) -> None:
        self._facts = facts
        self._out: list[bytes] = []
        self._number = 0
        self._begun = False
        self._id = ""
        self._created = facts.created
        self._items: list[Item] = []
        self._open: Spoken | Thought | None = None
        self._calls: dict[int, Call] = {}
        """Calls that have not ended, by their number."""
        self._called: set[int] = set()
        self._finish: ChoiceFinished | None = None

    def encode(self, events: Sequence[Event]) -> bytes:
        """The frames of these events; nothing for a whole reply."""
        for place, event in enumerate(events):
            after = events[place + 1] if place + 1 < len(events) else None
            self._take(event, after if isinstance(after, LogprobsGiven) else None)
        return self._flush()

    def close(self, final: FinalUsage) -> bytes:
        """The ends of what is open and the terminal event; or the whole response."""
        self._begin()
        reason = _INCOMPLETE.get(self._finish.reason) if self._finish is not None else None
        self._end_all(whole=reason is None)
        usage = msgspec.Raw(write_usage(msgspec.structs.replace(final, provider_raw=b"")))
        status = "completed" if reason is None else "incomplete"
        told = self._response(status, usage=usage, output=[item.body(whole=reason is None) for item in self._items])
        told["incomplete_details"] = None if reason is None else {"reason": reason}
        if not self._facts.streamed:
            return encode(told)
        self._emit(f"response.{status}", {"response": told})
        return self._flush()

    def fail(self, failure: Failure) -> bytes:
        """An `error` event and the response that failed, as OpenAI sends both: some clients hear the one, some the
        other. The error body where the reply is whole."""
        if not self._facts.streamed:
            return write_failure(failure)
        self._begin()
        self._emit("error", error_event(failure))
        told = self._response("failed", output=[item.body(whole=False) for item in self._items])
        self._emit("response.failed", {"response": {**told, "error": response_error(failure)}})
        return self._flush()

    def _take(self, event: Event, logprobs: LogprobsGiven | None) -> None:
        """Write one event. `logprobs` are those that belong to a text."""
        match event:
            case ReplyStarted():
                if not self._begun:
                    self._id = self._id or event.id
                    self._created = self._created if event.created is None else event.created
            case ChoiceFinished():
                if event.choice == 0 and self._finish is None:
                    self._finish = event
            case UsageReported() | ReplyFailed() | LogprobsGiven() | OutputHidden():
                return
            case EmbeddingsGiven() | RankingGiven() | TokensCounted():
                return  # of other operations
            case (
                TextDelta()
                | ReasoningDelta()
                | ReasoningSigned()
                | RedactedReasoningGiven()
                | RefusalDelta()
                | ToolCallStarted()
                | ToolArgumentsDelta()
                | OpaqueGiven()
            ):
                if event.choice == 0:
                    self._say(event, logprobs)
            case _:
                assert_never(event)

    def _say(self, event: Event, logprobs: LogprobsGiven | None) -> None:
        match event:
            case TextDelta(text=text) if text:
                self._put(self._spoken().text(text, _entries(logprobs)))
            case RefusalDelta(text=text) if text:
                self._put(self._spoken().refusal(text))
            case ReasoningDelta(text=text) if text:
                self._put(self._thought().summary(text))
            case ReasoningSigned():
                thought = self._thought()
                self._put(thought.summary(""))
                thought.encrypted = to_client(event.signature, event.origin)
                self._end_open()
            case RedactedReasoningGiven():
                self._end_open()
                self._thought().encrypted = to_client(event.data, event.origin)
                self._end_open()
            case ToolCallStarted() if event.call not in self._called:
                self._end_open()
                self._called.add(event.call)
                call_id = event.id or f"call_{self._suffix}_{event.call}"
                call = Call(len(self._items), f"fc_{self._suffix}_{len(self._items)}", call_id, event.name)
                self._calls[event.call] = call
                self._add(call)
            case ToolArgumentsDelta(call=number, arguments=more):
                if more and number in self._calls:
                    self._put(self._calls[number].arguments(more))
            case OpaqueGiven():
                self._opaque(event)
            case _:
                return

    def _opaque(self, event: OpaqueGiven) -> None:
        """A citation, or an item of this wire's (a provider of it answered whole what was asked as a stream, or the
        other way round)."""
        if event.kind == ANNOTATION:
            self._put(self._spoken().annotation(event.raw))
        elif event.kind == _ANNOTATIONS:
            for citation in _citations(event.raw):
                self._put(self._spoken().annotation(citation))
        elif event.kind in OUTPUT_ITEMS and _type_of(event.raw) == event.kind:
            self._end_open()
            item = Whole(len(self._items), event.raw)
            self._add(item)
            self._put(item.end())

    # ---- the items

    def _spoken(self) -> Spoken:
        if not isinstance(self._open, Spoken):
            self._end_open()
            self._open = Spoken(len(self._items), f"msg_{self._suffix}_{len(self._items)}")
            self._add(self._open)
        return self._open

    def _thought(self) -> Thought:
        if not isinstance(self._open, Thought):
            self._end_open()
            self._open = Thought(len(self._items), f"rs_{self._suffix}_{len(self._items)}")
            self._add(self._open)
        return self._open

    @property
    def _suffix(self) -> str:
        """What our ids of items have in common: the response's id as far as an id may go."""
        return _NOT_IN_AN_ID.sub("_", self._id or self._facts.id).removeprefix("resp_")[:40]

    def _add(self, item: Item) -> None:
        self._begin()
        self._items.append(item)
        self._put(item.begin())

    def _end_open(self) -> None:
        """End what is open and whole, because something else begins."""
        if self._open is not None:
            self._put(self._open.end())
            self._open = None
        for number in [number for number, call in self._calls.items() if call.complete()]:
            self._put(self._calls.pop(number).end())

    def _end_all(self, *, whole: bool) -> None:
        """End everything: a message and calls that are open were cut off where the reply was not `whole`."""
        if self._open is not None:
            self._put(self._open.end(whole=whole))
            self._open = None
        for call in self._calls.values():
            self._put(call.end(whole=whole or call.complete()))
        self._calls.clear()

    # ---- the frames

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        self._id = self._id or self._facts.id
        if self._facts.streamed:
            head = self._response("in_progress")
            self._emit("response.created", {"response": head})
            self._emit("response.in_progress", {"response": head})

    def _response(self, status: str, *, usage: object = None, output: Sequence[object] = ()) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "max_output_tokens": None,
            "model": self._facts.model,
            "output": list(output),
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": None,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "truncation": "disabled",
            "usage": usage,
            "metadata": {},
        }

    def _put(self, said: Iterable[Said]) -> None:
        for kind, fields in said:
            self._emit(kind, fields)

    def _emit(self, kind: str, fields: dict[str, Any]) -> None:
        if not self._facts.streamed:
            return
        self._out.append(frame_bytes(kind, {"type": kind, "sequence_number": self._number, **fields}))
        self._number += 1

    def _flush(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out


def _entries(logprobs: LogprobsGiven | None) -> list[dict[str, Any]]:
    """The tokens of log probabilities in chat's shape; none of any other shape."""
    try:
        found = _ENTRIES.decode(logprobs.raw).get("content") if logprobs is not None else None
        return [{**entry} for entry in found or ()]
    except UNREADABLE:
        return []


def _type_of(raw: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(fields_of(raw).get("type", b"null"), type=str)
    except UNREADABLE:
        return ""


def _citations(raw: msgspec.Raw) -> list[object]:
    """Chat's annotations in the shape of this wire: https://platform.openai.com/docs/guides/tools-web-search"""
    try:
        notes = msgspec.json.decode(raw, type=list[dict[str, Any]])
    except UNREADABLE:
        return []
    found: list[object] = []
    for note in notes:
        inner = note.get("url_citation")
        if note.get("type") == "url_citation" and isinstance(inner, dict) and isinstance(inner.get("url"), str):
            places = {key: inner[key] if type(inner.get(key)) is int else 0 for key in ("start_index", "end_index")}
            found.append({"type": "url_citation", "url": inner["url"], **places, "title": str(inner.get("title", ""))})
    return found
