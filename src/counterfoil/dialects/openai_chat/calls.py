"""Which tool call a delta belongs to.

Rule 1: two calls never share a number. Numbers count the calls of a choice from 0, in the order they begin.
Rule 2: nothing is made up. An id or a name nobody gave stays empty.
"""

from __future__ import annotations

from typing import Final

import msgspec

from counterfoil.core.event import Event, ToolArgumentsDelta, ToolCallStarted
from counterfoil.dialects.openai_chat.schema import FunctionCall, ToolCallPart

__all__ = ["CALLS_LIMIT", "CallBook", "LimitExceeded"]

CALLS_LIMIT: Final = 1_024
"""Calls of one choice. A provider that begins more is not sending a reply."""


class LimitExceeded(ValueError):
    """A frame that decodes, and goes on past what a reply may hold."""


class _Call:
    """One tool call so far."""

    __slots__ = ("argued", "id", "name", "number", "started")

    def __init__(self, number: int, identity: str) -> None:
        self.number = number
        self.id = identity
        self.name = ""
        self.started = False
        self.argued = False


class CallBook:
    """The tool calls of one choice."""

    __slots__ = ("_by_id", "_by_index", "_calls", "_choice", "_current", "_legacy")

    def __init__(self, choice: int) -> None:
        self._choice = choice
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._current: _Call | None = None
        self._legacy: _Call | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def parts(self, parts: list[ToolCallPart], events: list[Event]) -> None:
        """The events of the `tool_calls` of one delta. Raises LimitExceeded."""
        named: set[int] = set()
        """Calls that an earlier entry of this list has named: another entry with a name is another call."""
        for part in parts:
            function = part.function
            call = self._find(part, function.name if function is not None else None, named)
            if function is None:
                continue
            if function.name:
                named.add(call.number)
            self._say(call, function, events)

    def legacy(self, function: FunctionCall, events: list[Event]) -> None:
        """The events of a `function_call`, which is one call without an id. An empty one is none (Snowflake)."""
        if self._legacy is None:
            if not function.name and not function.arguments:
                return
            self._legacy = self._begin("")
        self._say(self._legacy, function, events)

    def close(self, events: list[Event]) -> None:
        """What is missing before the choice finishes: a start nobody named, arguments of a tool that takes none."""
        for call in self._calls:
            self._start(call, events)
            if not call.argued:
                call.argued = True
                events.append(ToolArgumentsDelta(call.number, "{}", self._choice))

    def _find(self, part: ToolCallPart, name: str | None, named: set[int]) -> _Call:
        index = part.index if type(part.index) is int else None
        identity = part.id if type(part.id) is str else ""
        if index is not None:
            call = self._by_index.get(index)
        elif identity:
            call = self._by_id.get(identity)
        else:
            call = self._current
        if call is None or self._another(call, index, identity, name, named):
            call = self._begin(identity)
        if index is not None:
            self._by_index[index] = call
        if identity:
            call.id = call.id or identity
            self._by_id[identity] = call
        self._current = call
        return call

    @staticmethod
    def _another(call: _Call, index: int | None, identity: str, name: str | None, named: set[int]) -> bool:
        """Whether a delta that would go to `call` begins another one.

        Gemini's OpenAI face gives every parallel call the index 0; older vLLM made up a new id for every delta of one
        call. So an id alone does not begin a call that has an index: a name must come with it.
        """
        if not name:
            return False
        if call.number in named or (identity and call.id and identity != call.id):
            return True
        return index is None and not identity and bool(call.name) and name != call.name

    def _begin(self, identity: str) -> _Call:
        if len(self._calls) >= CALLS_LIMIT:
            raise LimitExceeded("too many tool calls")
        call = _Call(len(self._calls), identity)
        self._calls.append(call)
        return call

    def _say(self, call: _Call, function: FunctionCall, events: list[Event]) -> None:
        if function.name and not call.name:
            call.name = function.name
            self._start(call, events)
        said = function.arguments
        text = msgspec.json.encode(said).decode() if isinstance(said, dict) else said
        if text:
            self._start(call, events)
            call.argued = True
            events.append(ToolArgumentsDelta(call.number, text, self._choice))

    def _start(self, call: _Call, events: list[Event]) -> None:
        if not call.started:
            call.started = True
            events.append(ToolCallStarted(call.number, call.id, call.name, self._choice))
