"""Frames of the Responses dialect to events.

Rule 1: never raises. What cannot be read is a `ReplyFailed`; what is not known is skipped.
Rule 2: a whole response and its stream give the same events, up to how text is cut. What only a later event says in
full (a `done`, the terminal event) is said then, and what has been said is not said again.
Rule 3: an `error` event waits for the `response.failed` that follows it, which may carry usage; anything else that
follows, or the end, lets it out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import ChoiceFinished, Event, FinishReason, ReplyFailed, ReplyStarted, UsageReported
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.openai_responses.failure import CANCELLED, frame_failure
from counterfoil.dialects.openai_responses.items import (
    CLIENT_CALLS,
    FUNCTION_CALL,
    MESSAGE,
    REASONING,
    ItemState,
)
from counterfoil.dialects.openai_responses.schema import Item, ResponseObject, StreamFrame, read, word_of
from counterfoil.dialects.openai_responses.usage import read_report
from counterfoil.dialects.salvage import salvaged
from counterfoil.dialects.schema import UNREADABLE, encode, given
from counterfoil.framing.frame import Frame

__all__ = ["ITEMS_LIMIT", "ResponsesDecoder"]

ITEMS_LIMIT: Final = 1_024
"""Items of one reply. A server that begins more is not sending a reply."""

_INCOMPLETE: Final = {
    "max_output_tokens": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}
"""`incomplete_details.reason`; the first and the last are the published schema's."""
_END_MARK: Final = b"[DONE]"
_FAILED: Final = "failed"
_UNFINISHED: Final = frozenset({"queued", "in_progress"})


class ResponsesDecoder:
    """One reply. `choices` is always 1 on this wire and is not looked at."""

    def __init__(self, streamed: bool, choices: int, quirks: Quirks) -> None:
        self._streamed = streamed
        self._quirks = quirks
        self._items: list[ItemState] = []
        self._by_key: dict[int | str, ItemState] = {}
        self._current: ItemState | None = None
        self._calls = 0
        self._started = False
        self._finished = False
        self._failed = False
        self._reported = False
        self._done = False
        self._error: Failure | None = None

    @property
    def ended(self) -> bool:
        """A terminal event was seen, an error that says nothing more will come, or what the quirk says ends a reply."""
        if self._error is not None:
            return True
        return {"finish": self._finished, "usage": self._reported, "done": self._done}[self._quirks.end]

    @property
    def done(self) -> bool:
        """The terminal event, or the whole response."""
        return self._done

    def feed(self, frame: Frame) -> Sequence[Event]:
        """The events of one frame."""
        if frame.comment or (self._streamed and not frame.data.strip()):
            return ()
        events: list[Event] = []
        try:
            self._feed(frame, events)
        except UNREADABLE:
            what = "a frame" if self._streamed else "a body"
            events += salvaged(frame.data, read_report, ("response", "usage"), ("usage",), told=events)
            self._fail(bad_reply(f"{what} of {len(frame.data)} bytes that is not a response"), events)
        return self._begun(events)

    def close(self) -> Sequence[Event]:
        """An error that nothing followed; the finish, where a quirk says that the provider never sends one."""
        events: list[Event] = []
        if self._error is not None:
            self._fail(self._error, events)
        elif self.ended and not self._finished and not self._failed:
            self._finish(self._stopped(), "", events)
        return self._begun(events)

    def _begun(self, events: list[Event]) -> list[Event]:
        """The events, after a start that nobody sent."""
        if not self._started and any(not isinstance(event, ReplyFailed) for event in events):
            self._started = True
            events.insert(0, ReplyStarted())
        return events

    def _feed(self, frame: Frame, events: list[Event]) -> None:
        if self._streamed and frame.data.strip() == _END_MARK:  # OpenRouter's (WIRE.md 2)
            self._done = True
            return
        if not self._streamed:
            self._body(frame.data, events)
            return
        said = read(frame.data, StreamFrame)
        kind = said.type or frame.event
        if self._error is not None and kind != "response.failed":
            self._fail(self._error, events)
            return
        reader = self._READERS.get(kind)
        if reader is not None:
            reader(self, said, events)
        elif kind == "error" or (not kind and given(said.error)):
            self._error = frame_failure(frame.data)
        elif not kind:
            raise ValueError("no event of a response")

    # ---- the response as a whole

    def _body(self, data: bytes, events: list[Event]) -> None:
        """A whole response, or an error under a status that is not an error's."""
        self._done = True
        response = read(data, ResponseObject)
        if response.object != "response" and response.output is None:
            if not given(response.error):
                raise ValueError("no response")
            self._fail(frame_failure(data), events)
            return
        self._terminal(response, word_of(response.status) or "completed", events)

    def _head(self, said: StreamFrame, events: list[Event]) -> None:
        if not given(said.response):
            return
        response = read(said.response, ResponseObject)
        self._start(response, events)
        self._usage(response, events, provisional=True)

    def _start(self, response: ResponseObject, events: list[Event]) -> None:
        if self._started:
            return
        self._started = True
        created = response.created_at
        at = int(created) if type(created) in (int, float) and 0 <= created < 1 << 53 else None
        events.append(ReplyStarted(word_of(response.id), word_of(response.model), at))

    def _completed(self, said: StreamFrame, events: list[Event]) -> None:
        self._over("completed", said, events)

    def _incomplete(self, said: StreamFrame, events: list[Event]) -> None:
        self._over("incomplete", said, events)

    def _failure(self, said: StreamFrame, events: list[Event]) -> None:
        self._over(_FAILED, said, events)

    def _cancelled(self, said: StreamFrame, events: list[Event]) -> None:
        self._over("cancelled", said, events)

    def _over(self, kind: str, said: StreamFrame, events: list[Event]) -> None:
        """A terminal event. Its status says more than its name: `completed` with status `incomplete` is incomplete."""
        self._done = True
        response = read(said.response, ResponseObject) if given(said.response) else ResponseObject()
        status = word_of(response.status)
        self._terminal(response, status if kind == "completed" and status not in ("", *_UNFINISHED) else kind, events)

    def _terminal(self, response: ResponseObject, status: str, events: list[Event]) -> None:
        """What has not been said, then the finish, the usage and the failure."""
        self._start(response, events)
        self._claim(response.output or (), events)
        failed = status in (_FAILED, "cancelled")
        if not failed and status not in _UNFINISHED:
            reason, word = self._stopped(), status
            if status == "incomplete":
                word = word_of(response.incomplete_details.reason) if response.incomplete_details else ""
                reason = _INCOMPLETE.get(word, FinishReason.UNKNOWN)
            self._finish(reason, word or status, events)
        self._usage(response, events)
        if failed:
            self._fail(self._why(response, status), events)

    def _why(self, response: ResponseObject, status: str) -> Failure:
        """Why the response failed. An `error` event before it says more than its own two words."""
        if self._error is not None:
            return self._error
        if given(response.error):
            return frame_failure(encode({"error": response.error}))
        return CANCELLED if status == "cancelled" else frame_failure(b'{"error":{"code":"server_error"}}')

    def _stopped(self) -> FinishReason:
        waits = any(item.kind in CLIENT_CALLS for item in self._items)
        return FinishReason.TOOL_CALLS if waits else FinishReason.STOP

    def _finish(self, reason: FinishReason, said: str, events: list[Event]) -> None:
        if self._finished:
            return
        self._finished = True
        for item in self._items:
            item.close(events)
        events.append(ChoiceFinished(reason, said=said))

    def _usage(self, response: ResponseObject, events: list[Event], *, provisional: bool = False) -> None:
        if not given(response.usage):
            return
        report = read_report(response.usage, provisional=provisional, tier=response.service_tier)
        if report is not None:
            self._reported = self._reported or not provisional
            events.append(UsageReported(report))

    def _fail(self, failure: Failure, events: list[Event]) -> None:
        self._error = None
        if not self._failed:
            self._failed = True
            events.append(ReplyFailed(failure))

    # ---- its items

    def _claim(self, output: Sequence[msgspec.Raw], events: list[Event]) -> None:
        """The terminal event's items: each is one that came before, and is finished, or is new.

        Ids decide; some servers make up new ones for every event, so place and type decide next, then the order.
        """
        if len(output) > ITEMS_LIMIT:  # each of them would be looked for among all others
            raise ValueError("too many items")
        left = list(self._items)
        items = [read(raw, Item) for raw in output]
        found: dict[int, ItemState] = {}
        for place, item in enumerate(items):
            mine = next((one for one in left if one.id and one.id == word_of(item.id)), None)
            if mine is not None:
                left.remove(mine)
                found[place] = mine
        for place, item in enumerate(items):
            if place in found:
                continue
            kind = item.type or MESSAGE
            here = self._by_key.get(place)
            alike = [one for one in left if one.kind == kind]
            if here in alike or alike:
                found[place] = here if here is not None and here in alike else alike[0]
                left.remove(found[place])
        for place, item in enumerate(items):
            state = found.get(place) or self._open(item.type, None, item, events)
            state.finish(item, output[place], events)

    def _open(self, kind: str, key: int | str | None, item: Item, events: list[Event]) -> ItemState:
        if len(self._items) >= ITEMS_LIMIT:
            raise ValueError("too many items")
        kind = kind or MESSAGE
        call = -1
        if kind == FUNCTION_CALL:
            call, self._calls = self._calls, self._calls + 1
        state = ItemState(kind, word_of(item.id), call)
        self._items.append(state)
        self._current = state
        if key is not None:
            self._by_key[key] = state
        state.start(item, events)
        return state

    def _added(self, said: StreamFrame, events: list[Event]) -> None:
        item = read(said.item, Item)
        key = _key(said, item)
        if key is None or key not in self._by_key:
            self._open(item.type, key, item, events)

    def _item_done(self, said: StreamFrame, events: list[Event]) -> None:
        item = read(said.item, Item)
        key = _key(said, item)
        state = self._current if key is None else self._by_key.get(key)
        if state is None or (key is None and (state.done or state.kind != item.type)):
            state = self._open(item.type, key, item, events)
        state.finish(item, said.item, events)

    def _of(self, said: StreamFrame, kind: str, events: list[Event]) -> ItemState:
        """The item an event speaks of; one that was never announced begins here."""
        key = _key(said, None)
        state = self._current if key is None else self._by_key.get(key)
        if state is None or (key is None and state.kind != kind):
            return self._open(kind, key, Item(id=said.item_id), events)
        return state

    # ---- what they say

    def _text(self, said: StreamFrame, events: list[Event]) -> None:
        state = self._of(said, MESSAGE, events)
        state.text(_place(said.content_index), _text_of(said.delta), events)
        state.logprobs(said.logprobs, events)

    def _text_done(self, said: StreamFrame, events: list[Event]) -> None:
        self._of(said, MESSAGE, events).text(_place(said.content_index), _text_of(said.text), events, whole=True)

    def _refusal(self, said: StreamFrame, events: list[Event]) -> None:
        self._of(said, MESSAGE, events).refusal(_place(said.content_index), _text_of(said.delta), events)

    def _refusal_done(self, said: StreamFrame, events: list[Event]) -> None:
        state = self._of(said, MESSAGE, events)
        state.refusal(_place(said.content_index), _text_of(said.refusal), events, whole=True)

    def _thought(self, said: StreamFrame, events: list[Event]) -> None:
        self._of(said, REASONING, events).thought(_place(said.content_index), _text_of(said.delta), events)

    def _thought_done(self, said: StreamFrame, events: list[Event]) -> None:
        state = self._of(said, REASONING, events)
        state.thought(_place(said.content_index), _text_of(said.text), events, whole=True)

    def _summary(self, said: StreamFrame, events: list[Event]) -> None:
        self._of(said, REASONING, events).summary(_place(said.summary_index), _text_of(said.delta), events)

    def _summary_done(self, said: StreamFrame, events: list[Event]) -> None:
        state = self._of(said, REASONING, events)
        state.summary(_place(said.summary_index), _text_of(said.text), events, whole=True)

    def _arguments(self, said: StreamFrame, events: list[Event]) -> None:
        self._of(said, FUNCTION_CALL, events).arguments(_text_of(said.delta), events)

    def _arguments_done(self, said: StreamFrame, events: list[Event]) -> None:
        self._of(said, FUNCTION_CALL, events).arguments(_text_of(said.arguments), events, whole=True)

    def _annotation(self, said: StreamFrame, events: list[Event]) -> None:
        self._of(said, MESSAGE, events).annotation(said.annotation, events)

    _READERS: Final[dict[str, Callable[[ResponsesDecoder, StreamFrame, list[Event]], None]]] = {
        "response.created": _head,
        "response.queued": _head,
        "response.in_progress": _head,
        "response.output_item.added": _added,
        "response.output_item.done": _item_done,
        "response.output_text.delta": _text,
        "response.output_text.done": _text_done,
        "response.output_text.annotation.added": _annotation,
        "response.refusal.delta": _refusal,
        "response.refusal.done": _refusal_done,
        "response.reasoning_text.delta": _thought,
        "response.reasoning_text.done": _thought_done,
        "response.reasoning_summary_text.delta": _summary,
        "response.reasoning_summary_text.done": _summary_done,
        "response.function_call_arguments.delta": _arguments,
        "response.function_call_arguments.done": _arguments_done,
        "response.completed": _completed,
        "response.incomplete": _incomplete,
        "response.failed": _failure,
        "response.cancelled": _cancelled,
    }


def _key(said: StreamFrame, item: Item | None) -> int | str | None:
    """What an item is known by: its place in the output, or its id where a server gives no place (llama.cpp)."""
    if type(said.output_index) is int:
        return said.output_index
    return word_of(said.item_id) or (word_of(item.id) if item is not None else "") or None


def _place(index: object) -> int:
    return index if type(index) is int else 0


def _text_of(value: object) -> str:
    """A delta's text. Raises ValueError for one that is no text."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError("no text")
    return value
