"""A chat frame taken apart just far enough to mend it, and what a reply's earlier frames said.

Rule 1: a value is a `msgspec.Raw` until somebody has to look inside, and is written back as the same bytes.
Rule 2: nothing here decides what to mend; `repairs.py` does.
Rule 3: what cannot be looked into (its text is not UTF-8, it is nested without end) is left as it came.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgspec

from counterfoil.dialects.dialect import Quirks, ReplyFacts
from counterfoil.dialects.schema import UNREADABLE, Fields, encode, fields_of, text_of

__all__ = [
    "ASSISTANT",
    "EMPTY",
    "HELD_LIMIT",
    "NO_CHOICES",
    "NULL",
    "CallIndexes",
    "CallWork",
    "ChoiceWork",
    "FrameWork",
    "Progress",
    "Repair",
    "has_object",
    "is_empty",
    "members_of",
    "opened_by",
    "readable",
]

Subject = TypeVar("Subject")

ASSISTANT: Final = msgspec.Raw(b'"assistant"')
NO_CHOICES: Final = msgspec.Raw(b"[]")
NULL: Final = msgspec.Raw(b"null")
HELD_LIMIT: Final = 1 << 20
"""Bytes of values kept from frames that are not carried themselves. Recorded ones hold under 4 KiB."""
_A_TIME: Final = re.compile(rb"[1-9][0-9]{0,17}")
"""Seconds that a client's integer holds."""
EMPTY: Final = frozenset({b"null", b'""', b"[]", b"{}"})
"""What says nothing, as providers write it."""

_read_objects: Final = msgspec.json.Decoder(list[Fields]).decode
_read_index: Final = msgspec.json.Decoder(int).decode


def readable(data: bytes) -> bytes:
    """`data` as UTF-8: bytes that are none read as U+FFFD, as the event-stream rules have it."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace").encode()
    return data


def is_empty(value: msgspec.Raw | None) -> bool:
    """Whether a value is absent, null, or an empty string, list or object."""
    return value is None or bytes(value) in EMPTY


def has_object(values: Fields, key: str) -> bool:
    """Whether `key` holds a JSON object."""
    value = values.get(key)
    return value is not None and bytes(value)[:1] == b"{"


def members_of(values: Fields, key: str) -> Fields | None:
    """The members of the object that `key` holds; None where it holds none, or one that cannot be read."""
    if not has_object(values, key):
        return None
    try:
        return fields_of(values[key])
    except UNREADABLE:
        return None


def opened_by(key: str, value: msgspec.Raw, values: Fields) -> Fields:
    """`values` with `key` as its first member."""
    return {key: value} | values | {key: value}


def _index_of(value: msgspec.Raw | None) -> int | None:
    if value is None:
        return None
    try:
        return _read_index(value)
    except UNREADABLE:
        return None


def _objects(value: msgspec.Raw | None) -> list[Fields] | None:
    """The objects of a list; None for anything else."""
    if value is None:
        return None
    try:
        return _read_objects(value)
    except UNREADABLE:
        return None


class _Call:
    """One tool call, by the index that its deltas have on the wire."""

    __slots__ = ("id", "id_told", "index", "name", "name_told")

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.id_told = self.name_told = False
        """The client has been told."""


class CallIndexes:
    """Which call of one choice a tool delta belongs to, and the index it is known by on the wire.

    The calls are those that `calls.CallBook` counts; a test holds the two together. A provider's index is kept as long
    as one call has it; any other call gets the next free number (WIRE.md 3: "two calls never share an index").
    """

    __slots__ = ("_by_id", "_by_index", "_last", "_taken", "plain_last")

    def __init__(self) -> None:
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._taken: set[int] = set()
        self._last: _Call | None = None
        self.plain_last: int | None = None
        """The index of the call that the last delta belonged to, where the provider's index and ours are the same."""

    def __bool__(self) -> bool:
        return bool(self._taken)

    def find(self, said: int | None, identity: str, name: str, named: set[int]) -> _Call:
        """The call a delta belongs to. `named` holds the calls that earlier entries of its list have named."""
        if said is not None:
            call = self._by_index.get(said)
        elif identity:
            call = self._by_id.get(identity)
        else:
            call = self._last
        if call is None or self._another(call, said, identity, name, named):
            call = self._begin(said)
        if said is not None:
            self._by_index[said] = call
        if identity:
            self._by_id[identity] = call
        if name:
            named.add(call.index)
        call.id, call.name = call.id or identity, call.name or name
        self._last = call
        self.plain_last = call.index if said == call.index else None
        return call

    def _begin(self, said: int | None) -> _Call:
        index = said if said is not None and said >= 0 and said not in self._taken else None
        call = _Call(max(self._taken, default=-1) + 1 if index is None else index)
        self._taken.add(call.index)
        return call

    @staticmethod
    def _another(call: _Call, said: int | None, identity: str, name: str, named: set[int]) -> bool:
        if not name:
            return False
        if call.index in named or (identity and call.id and identity != call.id):
            return True
        return said is None and not identity and bool(call.name) and name != call.name


class CallWork:
    """One tool delta of a choice."""

    __slots__ = ("call", "changed", "function", "values")

    def __init__(self, values: Fields, indexes: CallIndexes, named: set[int]) -> None:
        self.values = values
        self.changed = False
        self.function: Fields | None = members_of(values, "function")
        """The members of its `function`; None where it has none."""
        self.call = indexes.find(self.said_index(), text_of(values.get("id")), self.name(), named)

    def name(self) -> str:
        return text_of(self.function.get("name")) if self.function else ""

    def said_index(self) -> int | None:
        return _index_of(self.values.get("index"))

    def put(self, values: Fields) -> None:
        """Replace its members."""
        self.values, self.changed = values, True

    def put_function(self, function: Fields) -> None:
        """Replace the members of its `function`."""
        self.function = function
        self.put({**self.values, "function": msgspec.Raw(encode(function))})


class ChoiceWork:
    """One choice of a frame, and its `delta` (of a whole reply: its `message`)."""

    __slots__ = ("changed", "number", "part", "part_changed", "part_name", "values")

    def __init__(self, values: Fields, part_name: str) -> None:
        self.values = values
        self.part_name = part_name
        self.number = _index_of(values.get("index")) or 0
        self.changed = self.part_changed = False
        self.part: Fields | None = members_of(values, part_name)

    def calls(self, progress: Progress) -> list[CallWork]:
        """Its tool deltas; none where it has none or they are no objects."""
        given = _objects(self.part.get("tool_calls")) if self.part else None
        if not given:
            return []
        named: set[int] = set()
        return [CallWork(values, progress.indexes(self.number), named) for values in given]

    def put(self, key: str, value: msgspec.Raw) -> None:
        self.values[key] = value
        self.changed = True

    def drop(self, key: str) -> None:
        if self.values.pop(key, None) is not None:
            self.changed = True

    def put_part(self, part: Fields) -> None:
        """Replace its delta's members."""
        self.part, self.part_changed = part, True

    def raw(self) -> msgspec.Raw:
        """The choice as JSON, its own bytes wherever nothing was put."""
        if self.part_changed and self.part is not None:
            self.put(self.part_name, msgspec.Raw(encode(self.part)))
        return msgspec.Raw(encode(self.values))


class FrameWork:
    """One frame, or one whole body: its members, and its choices where they had to be opened."""

    __slots__ = ("changed", "choices", "held", "new", "repeated", "speaks", "values")

    def __init__(self, values: Fields) -> None:
        self.values = values
        self.changed = False
        """A member it had is another one now, or gone."""
        self.new: Fields = {}
        """Members it did not have: they follow the others."""
        self.choices: list[ChoiceWork] = []
        self.speaks = True
        """Some choice of it says something to the client."""
        self.held = False
        """It is not carried: what it holds goes out with a later frame."""
        self.repeated: set[int] = set()
        """Choices that had finished before this frame."""

    def open(self, part_name: str) -> None:
        """Take its choices apart. Choices that are no list of objects stay as they came."""
        raw = self.values.get("choices")
        given = _objects(raw)
        if given is None:
            self.speaks = not is_empty(raw)
            return
        self.speaks = bool(given)
        self.choices = [ChoiceWork(values, part_name) for values in given]

    def close(self) -> None:
        """Put back the choices that were mended."""
        if any(choice.changed or choice.part_changed for choice in self.choices):
            self.put("choices", msgspec.Raw(encode([choice.raw() for choice in self.choices])))

    def put(self, key: str, value: msgspec.Raw) -> None:
        if key in self.values:
            self.changed = True
        else:
            self.new[key] = value
        self.values[key] = value

    def drop(self, key: str) -> None:
        if self.values.pop(key, None) is not None:
            self.changed = True


class Progress:
    """What a reply's earlier frames said, as far as a later repair depends on it."""

    __slots__ = (
        "_held",
        "_indexes",
        "begun",
        "facts",
        "finished",
        "identified",
        "identity",
        "identity_said",
        "last",
        "news",
        "pending",
        "quirks",
        "settled",
    )

    def __init__(self, facts: ReplyFacts, quirks: Quirks) -> None:
        self.facts = facts
        self.quirks = quirks
        self.identity: Fields = {
            "id": msgspec.Raw(encode(facts.id)),
            "object": msgspec.Raw(b'"chat.completion.chunk"' if facts.streamed else b'"chat.completion"'),
            "created": msgspec.Raw(encode(facts.created)),
            "model": msgspec.Raw(encode(facts.model)),
        }
        """What every frame of the reply says of it, in the order in which we write it."""
        self.identity_said: tuple[tuple[str, bytes], ...] = ()
        """The same as bytes, once it stands, to compare with."""
        self.identified = False
        """A frame has been carried: id and created stand."""
        self.begun: set[int] = set()
        self.finished: set[int] = set()
        self.pending: Fields = {}
        """Members of frames that had no choice to say, for the next frame that is carried."""
        self.news: set[int] = set()
        """Choices of which the frame says something that no earlier one said."""
        self.last: Fields = {}
        """The provider's usage frame, which our last frame is made from."""
        self.settled: msgspec.Raw | None = None
        """The usage object of a whole reply; None while streaming, and where there is none."""
        self._held = 0
        """Bytes of values in `pending` and `last`."""
        self._indexes: dict[int, CallIndexes] = {}

    def indexes(self, choice: int) -> CallIndexes:
        """The tool calls of a choice."""
        return self._indexes.setdefault(choice, CallIndexes())

    def has_calls(self, choice: int) -> bool:
        return bool(self._indexes.get(choice))

    def hold(self, held: Fields, more: Fields) -> None:
        """Keep values for a later frame, up to HELD_LIMIT; what would pass it is left out."""
        for key, value in more.items():
            grows = len(bytes(value)) - len(bytes(held.get(key, b"")))
            if self._held + grows <= HELD_LIMIT:
                self._held += grows
                held[key] = msgspec.Raw(bytes(value))  # a copy: the value itself keeps its whole frame alive

    def release(self, key: str) -> msgspec.Raw:
        """Take a value out of `pending`."""
        value = self.pending.pop(key)
        self._held -= len(bytes(value))
        return value

    def identify(self, values: Fields) -> None:
        """Let the first frame that is carried say the reply's id and time, where it says them."""
        if self.identified:
            return
        self.identified = True
        if text_of(values.get("id")):
            self.identity["id"] = msgspec.Raw(bytes(values["id"]))
        created = values.get("created")
        if created is not None and _A_TIME.fullmatch(bytes(created)):
            self.identity["created"] = msgspec.Raw(bytes(created))
        self.identity_said = tuple((key, bytes(value)) for key, value in self.identity.items())


@dataclass(frozen=True, slots=True)
class Repair(Generic[Subject]):
    """One row: what it is called, what it mends, the fact that asks for it, and the function that does it."""

    name: str
    mends: str
    cites: str
    mend: Callable[[Subject, Progress], None]
