"""Chunks to the whole reply they amount to.

Rule 1: what is text grows, what is a list of objects is matched up by index, everything else is said once: the last
word counts.
Rule 2: nothing is lost: a field nobody knows is carried like any other, and a tool call's piece finds its call by its
index, else by its id, else it belongs to the call that is open (a piece that names a function begins another).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from counterfoil.sdk.node import Json, plain
from counterfoil.sdk.reply import ChatCompletion

__all__ = ["stream_chunk_builder"]

_SAID_ONCE: Final = frozenset({"role", "id", "type", "name", "signature", "format", "index", "encrypted_content"})
"""Texts that are said whole, and again by some servers: they never grow."""
_OBJECT: Final = "chat.completion"


def stream_chunk_builder(chunks: Iterable[Mapping[str, Any]]) -> ChatCompletion:
    """The reply that these chunks of a stream amount to, as if it had not been streamed.

    `chunks`: ChatCompletionChunk, or mappings of the same shape; of any number of choices, with or without the usage
    chunk. A reply that was left early is as whole as it came. Raises ValueError when there is no chunk at all.
    """
    head: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
    entry = exchange = None
    dropped: tuple[str, ...] = ()
    some = False
    for chunk in chunks:
        some = True
        said = plain(chunk)
        for key, value in said.items():
            if key not in ("choices", "object") and (value is not None or key not in head):
                head[key] = value
        for piece in said.get("choices") or ():
            index = piece.get("index") or 0
            choices.setdefault(index, _Choice(index)).add(piece)
        entry = getattr(chunk, "entry", None) or entry
        exchange = getattr(chunk, "exchange", None) or exchange
        dropped = getattr(chunk, "dropped", ()) or dropped
    if not some:
        raise ValueError("no chunks: there is nothing to put together")
    body: dict[str, Any] = {
        **{key: head.pop(key) for key in ("id",) if key in head},
        "object": _OBJECT,
        **{key: head.pop(key) for key in ("created", "model") if key in head},
        "choices": [choices[index].whole() for index in sorted(choices)],
        **head,
    }
    reply = ChatCompletion(body)
    reply.book(entry, exchange, dropped)
    return reply


class _Choice:
    """One choice as far as it has come."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._message: dict[str, Any] = {"role": "assistant", "content": None}
        self._calls = _Calls()
        self._rest: dict[str, Any] = {"finish_reason": None}

    def add(self, piece: Mapping[str, Any]) -> None:
        for key, value in piece.items():
            if key == "delta":
                self._delta(value or {})
            elif key == "logprobs":
                self._rest[key] = _grown(self._rest.get(key), value)
            elif key != "index" and (value is not None or key not in self._rest):
                self._rest[key] = value

    def _delta(self, delta: Mapping[str, Any]) -> None:
        for key, value in delta.items():
            if key == "tool_calls":
                for call in value or ():
                    self._calls.add(call)
            elif key in _SAID_ONCE:
                self._message[key] = value if value is not None else self._message.get(key)
            else:
                self._message[key] = _grown(self._message.get(key), value)

    def whole(self) -> dict[str, Any]:
        message = dict(self._message)
        calls = self._calls.whole()
        if calls:
            message["tool_calls"] = calls
            message["content"] = message["content"] or None
        return {"index": self._index, "message": message, **self._rest}


class _Calls:
    """The tool calls of one choice."""

    def __init__(self) -> None:
        self._calls: list[dict[str, Any]] = []
        self._by_index: dict[int, dict[str, Any]] = {}
        self._by_id: dict[str, dict[str, Any]] = {}

    def add(self, piece: Mapping[str, Any]) -> None:
        call = self._of(piece)
        for key, value in piece.items():
            if key == "function" and isinstance(value, Mapping):
                function = call.setdefault("function", {"name": None, "arguments": ""})
                for name, said in value.items():
                    if name == "name":
                        function["name"] = said or function["name"]
                    else:
                        function[name] = _grown(function.get(name), said)
            elif key != "index" and value is not None and value != "":
                call[key] = value if key in _SAID_ONCE else _grown(call.get(key), value)

    def whole(self) -> list[dict[str, Any]]:
        return [{"id": None, "type": "function", **call} for call in self._calls]

    def _of(self, piece: Mapping[str, Any]) -> dict[str, Any]:
        index, name = piece.get("index"), piece.get("id") or None
        function = piece.get("function")
        begins = isinstance(function, Mapping) and bool(function.get("name"))
        found: dict[str, Any] | None = None
        if isinstance(index, int):
            found = self._by_index.get(index)
            if found is not None and name and found.get("id") not in (None, name) and begins:
                found = None  # a server that gives every call index 0
        elif name:
            found = self._by_id.get(name)
        elif not begins and self._calls:
            found = self._calls[-1]
        if found is None:
            found = {}
            self._calls.append(found)
        if isinstance(index, int):
            self._by_index[index] = found
        if name:
            self._by_id[name] = found
        return found


def _grown(old: Json, new: Json) -> Json:
    """`old` with `new` at its end."""
    if new is None:
        return old
    if old is None:
        return plain(new)
    if isinstance(old, str) and isinstance(new, str):
        return old + new
    if isinstance(old, list) and isinstance(new, list):
        return _joined(old, new)
    if isinstance(old, dict) and isinstance(new, Mapping):
        merged = dict(old)
        for key, value in new.items():
            once = key in _SAID_ONCE and value is not None
            merged[key] = value if once else _grown(merged.get(key), value)
        return merged
    return new


def _joined(old: list[Any], new: list[Any]) -> list[Any]:
    """Two lists: objects that say an index find theirs (reasoning blocks), others follow."""
    joined = list(old)
    for one in new:
        index = one.get("index") if isinstance(one, Mapping) else None
        place = next(
            (at for at, other in enumerate(joined) if isinstance(other, dict) and other.get("index") == index), None
        )
        if index is None or place is None:
            joined.append(one)
        else:
            joined[place] = _grown(joined[place], one)
    return joined
