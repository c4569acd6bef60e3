"""Function calls of one candidate: whole, or argument by argument.

Rule 1: calls count from 0 in the order they begin. An id nobody gave stays empty.
Rule 2: arguments come out once, as JSON text: what Vertex streams piece by piece (`partialArgs`) is put together first,
within limits, because a piece says where in the object it belongs and is no piece of its text.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

import msgspec

from counterfoil.core.event import Event, OutputHidden, ToolArgumentsDelta, ToolCallStarted
from counterfoil.dialects.gemini.schema import FunctionCallShape, PartialArgument, compact
from counterfoil.dialects.schema import given

__all__ = ["ARGUMENTS_LIMIT", "CALLS_LIMIT", "Calls", "LimitExceeded"]

CALLS_LIMIT: Final = 1_024
"""Calls of one candidate. A provider that begins more is not sending a reply."""
ARGUMENTS_LIMIT: Final = 8 * 2**20
"""Characters of one call's arguments that are put together from pieces."""
_DEEPEST: Final = 64
_LONGEST_LIST: Final = 10_000
_STEP: Final = re.compile(
    r"""\.(?P<key>[^.\[\]]+)|\[(?P<place>\d{1,6})\]|\['(?P<quoted>[^']*)'\]|\["(?P<double>[^"]*)"\]"""
)


class LimitExceeded(ValueError):
    """A frame that decodes, and goes on past what a reply may hold."""


class _Said:
    """A text that comes in pieces, put together once."""

    __slots__ = ("pieces",)

    def __init__(self, before: list[str], piece: str) -> None:
        self.pieces = [*before, piece]

    def whole(self) -> str:
        return "".join(self.pieces)


class Calls:
    """The calls of one candidate."""

    __slots__ = ("_choice", "_count", "_open", "_size")

    def __init__(self, choice: int) -> None:
        self._choice = choice
        self._count = 0
        self._open: dict[str, object] | None = None
        """The arguments so far of a call that comes in pieces."""
        self._size = 0

    def __len__(self) -> int:
        return self._count

    def add(self, call: FunctionCallShape, events: list[Event]) -> None:
        """The events of one `functionCall`. Raises LimitExceeded, and one of `UNREADABLE`."""
        if call.name or self._open is None:
            self.close(events)
            self._begin(call, events)
            if not call.will_continue and not call.partial_args:
                said = compact(call.args).decode() if given(call.args) else "{}"
                events.append(ToolArgumentsDelta(self._count - 1, said, self._choice))
                return
            events.append(OutputHidden(self._choice))  # said when it is over: its pieces need not come in order
            self._open = msgspec.json.decode(call.args, type=dict[str, object]) if given(call.args) else {}
            self._size = 0
        if self._open is not None:
            for piece in call.partial_args or ():
                self._put(self._open, piece)
        if not call.will_continue:
            self.close(events)

    def close(self, events: list[Event]) -> None:
        """The arguments of a call whose pieces are over."""
        if self._open is not None:
            said = msgspec.json.encode(self._open, enc_hook=_Said.whole).decode()
            self._open = None
            events.append(ToolArgumentsDelta(self._count - 1, said, self._choice))

    def _begin(self, call: FunctionCallShape, events: list[Event]) -> None:
        if self._count >= CALLS_LIMIT:
            raise LimitExceeded("too many function calls")
        identity = call.id if isinstance(call.id, str) else ""
        events.append(ToolCallStarted(self._count, identity, call.name or "", self._choice))
        self._count += 1

    def _grow(self, by: int) -> None:
        self._size += by
        if self._size > ARGUMENTS_LIMIT:
            raise LimitExceeded("the arguments of a function call are too large")

    def _put(self, arguments: dict[str, object], piece: PartialArgument) -> None:
        """Put one piece where its path says. Text of an argument that goes on is appended."""
        steps = _steps(piece.json_path)
        if not steps:
            return
        self._grow(len(piece.json_path) + len(piece.string_value or ""))
        inside: object = arguments
        for step, following in pairwise(steps):
            inside = self._inner(inside, step, [] if isinstance(following, int) else {})
            if inside is None:
                return
        before = _at(inside, steps[-1])
        if piece.string_value is not None:
            if isinstance(before, _Said):
                before.pieces.append(piece.string_value)
            else:
                self._set(inside, steps[-1], _Said([before] if isinstance(before, str) else [], piece.string_value))
        elif piece.number_value is not None:
            number = piece.number_value
            self._set(inside, steps[-1], int(number) if number.is_integer() else number)
        elif piece.bool_value is not None:
            self._set(inside, steps[-1], piece.bool_value)
        elif piece.null_value:
            self._set(inside, steps[-1], None)

    def _inner(self, inside: object, step: str | int, empty: object) -> object:
        """The container at `step`, made when there is none; None where it cannot be."""
        found = _at(inside, step)
        if found is None:
            self._set(inside, step, empty)
            found = _at(inside, step)
        return found if isinstance(found, dict | list) else None

    def _set(self, inside: object, step: str | int, value: object) -> None:
        if isinstance(inside, dict) and isinstance(step, str):
            inside[step] = value
        elif isinstance(inside, list) and isinstance(step, int):
            if step >= _LONGEST_LIST:
                raise LimitExceeded("a list in the arguments of a function call is too long")
            missing = max(0, step + 1 - len(inside))
            self._grow(missing * len("null,"))  # what a place far behind the others makes of the arguments' text
            inside.extend([None] * missing)
            inside[step] = value


def _steps(path: str) -> list[str | int]:
    """The steps of `$.a.b[0]`; none for a path that is no such path, or is too deep."""
    if not path.startswith("$"):
        return []
    steps: list[str | int] = []
    place = 1
    while place < len(path):
        found = _STEP.match(path, place)
        if found is None or len(steps) >= _DEEPEST:
            return []
        name = next((found[group] for group in ("key", "quoted", "double") if found[group] is not None), None)
        steps.append(int(found["place"]) if name is None else name)
        place = found.end()
    return steps


def _at(inside: object, step: str | int) -> object:
    if isinstance(inside, dict) and isinstance(step, str):
        return inside.get(step)
    if isinstance(inside, list) and isinstance(step, int) and step < len(inside):
        return inside[step]
    return None
