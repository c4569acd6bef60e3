"""The items of a reply as we write them, and the events that announce, fill and end each.

Rule 1: every event validates against the published schema, and an item ends with everything its deltas said.
Rule 2: an item knows its place in the output from its beginning, so that items may be open beside each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from counterfoil.dialects.openai_responses.items import FUNCTION_CALL, MESSAGE, REASONING
from counterfoil.dialects.schema import UNREADABLE

__all__ = ["Call", "Item", "Said", "Spoken", "Thought", "Whole"]

Said = tuple[str, dict[str, Any]]
"""An event's type and its fields, without its number."""
_Fields = dict[str, Any]
_NO_ARGUMENTS: Final = "{}"


class Item:
    """One item: `begin` when it is announced, its own verbs while it is open, `end` once."""

    __slots__ = ("id", "index")

    def __init__(self, index: int, item_id: str) -> None:
        self.index = index
        self.id = item_id

    @property
    def place(self) -> _Fields:
        return {"item_id": self.id, "output_index": self.index}

    def begin(self) -> Iterator[Said]:
        yield "response.output_item.added", {"output_index": self.index, "item": self.head()}

    def end(self, *, whole: bool = True) -> Iterator[Said]:
        """`whole`: false where the reply was cut off in it."""
        yield "response.output_item.done", {"output_index": self.index, "item": self.body(whole=whole)}

    def head(self) -> object:
        """The item as it is announced."""
        raise NotImplementedError

    def body(self, *, whole: bool = True) -> object:
        """The item with all that was said."""
        raise NotImplementedError


class _Part:
    """One part of a message."""

    __slots__ = ("annotations", "kind", "logprobs", "pieces")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.pieces: list[str] = []
        self.annotations: list[object] = []
        self.logprobs: list[_Fields] = []

    def body(self) -> _Fields:
        said = "".join(self.pieces)
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": said}
        return {"type": "output_text", "text": said, "annotations": self.annotations, "logprobs": self.logprobs}


class Spoken(Item):
    """A message: text and refusals, in parts that follow each other."""

    __slots__ = ("_ended", "_parts")

    def __init__(self, index: int, item_id: str) -> None:
        super().__init__(index, item_id)
        self._parts: list[_Part] = []
        self._ended = 0

    def head(self) -> object:
        return {"id": self.id, "type": MESSAGE, "status": "in_progress", "content": [], "role": "assistant"}

    def body(self, *, whole: bool = True) -> object:
        return {
            "id": self.id,
            "type": MESSAGE,
            "status": "completed" if whole else "incomplete",
            "content": [part.body() for part in self._parts],
            "role": "assistant",
        }

    def text(self, text: str, logprobs: list[_Fields]) -> Iterator[Said]:
        yield from self._open("output_text")
        part = self._parts[-1]
        part.pieces.append(text)
        part.logprobs += [_whole_entry(entry) for entry in logprobs]
        told = [_entry(entry) for entry in logprobs]
        yield "response.output_text.delta", {**self._here, "delta": text, "logprobs": told}

    def refusal(self, text: str) -> Iterator[Said]:
        yield from self._open("refusal")
        self._parts[-1].pieces.append(text)
        yield "response.refusal.delta", {**self._here, "delta": text}

    def annotation(self, annotation: object) -> Iterator[Said]:
        yield from self._open("output_text")
        noted = self._parts[-1].annotations
        noted.append(annotation)
        number = len(noted) - 1
        fields = {**self._here, "annotation_index": number, "annotation": annotation}
        yield "response.output_text.annotation.added", fields

    def end(self, *, whole: bool = True) -> Iterator[Said]:
        yield from self._close()
        yield from super().end(whole=whole)

    @property
    def _here(self) -> _Fields:
        return {**self.place, "content_index": len(self._parts) - 1}

    def _open(self, kind: str) -> Iterator[Said]:
        if self._parts and self._parts[-1].kind == kind:
            return
        yield from self._close()
        self._parts.append(_Part(kind))
        yield "response.content_part.added", {**self._here, "part": self._parts[-1].body()}

    def _close(self) -> Iterator[Said]:
        if self._ended == len(self._parts):
            return
        self._ended = len(self._parts)
        part = self._parts[-1].body()
        if part["type"] == "refusal":
            yield "response.refusal.done", {**self._here, "refusal": part["refusal"]}
        else:
            told = [_entry(entry) for entry in self._parts[-1].logprobs]
            yield "response.output_text.done", {**self._here, "text": part["text"], "logprobs": told}
        yield "response.content_part.done", {**self._here, "part": part}


class Thought(Item):
    """Reasoning, which a client of this wire reads as a summary."""

    __slots__ = ("_begun", "encrypted", "pieces")

    def __init__(self, index: int, item_id: str) -> None:
        super().__init__(index, item_id)
        self._begun = False
        self.pieces: list[str] = []
        self.encrypted = ""

    def head(self) -> object:
        return {"id": self.id, "type": REASONING, "summary": []}

    def body(self, *, whole: bool = True) -> object:
        told = {"id": self.id, "type": REASONING, "summary": [self._part()] if self._begun else []}
        return {**told, "encrypted_content": self.encrypted} if self.encrypted else told

    def summary(self, text: str) -> Iterator[Said]:
        """More of it; an empty text only tells that there is a summary, where a proof needs one to belong to."""
        if not self._begun:
            yield "response.reasoning_summary_part.added", {**self._here, "part": self._part()}
            self._begun = True
        if text:
            self.pieces.append(text)
            yield "response.reasoning_summary_text.delta", {**self._here, "delta": text}

    def end(self, *, whole: bool = True) -> Iterator[Said]:
        if self._begun:
            part = self._part()
            yield "response.reasoning_summary_text.done", {**self._here, "text": part["text"]}
            yield "response.reasoning_summary_part.done", {**self._here, "part": part}
        yield from super().end(whole=whole)

    @property
    def _here(self) -> _Fields:
        return {**self.place, "summary_index": 0}

    def _part(self) -> _Fields:
        return {"type": "summary_text", "text": "".join(self.pieces)}


class Call(Item):
    """A function call."""

    __slots__ = ("_call_id", "_name", "_pieces")

    def __init__(self, index: int, item_id: str, call_id: str, name: str) -> None:
        super().__init__(index, item_id)
        self._call_id = call_id
        self._name = name
        self._pieces: list[str] = []

    def head(self) -> object:
        return self._item("in_progress", "")

    def body(self, *, whole: bool = True) -> object:
        return self._item("completed" if whole else "incomplete", self._arguments())

    def arguments(self, more: str) -> Iterator[Said]:
        self._pieces.append(more)
        yield "response.function_call_arguments.delta", {**self.place, "delta": more}

    def complete(self) -> bool:
        """Whether the arguments so far are a JSON object: nothing can be added to one."""
        if not self._pieces or not self._pieces[-1].rstrip().endswith("}"):
            return False  # the usual answer, without reading all of them again
        try:
            msgspec.json.decode("".join(self._pieces), type=dict)
        except UNREADABLE:
            return False
        return True

    def end(self, *, whole: bool = True) -> Iterator[Said]:
        told = {**self.place, "name": self._name, "arguments": self._arguments()}
        yield "response.function_call_arguments.done", told
        yield from super().end(whole=whole)

    def _arguments(self) -> str:
        return "".join(self._pieces) or _NO_ARGUMENTS

    def _item(self, status: str, arguments: str) -> _Fields:
        return {
            "id": self.id,
            "type": FUNCTION_CALL,
            "status": status,
            "arguments": arguments,
            "call_id": self._call_id,
            "name": self._name,
        }


class Whole(Item):
    """An item of this wire that came word for word."""

    __slots__ = ("_raw",)

    def __init__(self, index: int, raw: msgspec.Raw) -> None:
        super().__init__(index, "")
        self._raw = raw

    def head(self) -> object:
        return self._raw

    def body(self, *, whole: bool = True) -> object:
        return self._raw


def _entry(entry: Mapping[str, Any]) -> _Fields:
    """One token's log probability as an event says it: without bytes."""
    others = entry.get("top_logprobs") or ()
    return {
        "token": entry.get("token"),
        "logprob": entry.get("logprob"),
        "top_logprobs": [{"token": other.get("token"), "logprob": other.get("logprob")} for other in others],
    }


def _whole_entry(entry: Mapping[str, Any]) -> _Fields:
    """The same as an item says it: with bytes, also where nobody gave them."""
    told = _entry(entry)
    told["top_logprobs"] = [_with_bytes(other) for other in entry.get("top_logprobs") or ()]
    return {**told, "bytes": _bytes(entry)}


def _with_bytes(entry: Mapping[str, Any]) -> _Fields:
    return {"token": entry.get("token"), "logprob": entry.get("logprob"), "bytes": _bytes(entry)}


def _bytes(entry: Mapping[str, Any]) -> list[int]:
    given = entry.get("bytes")
    return given if isinstance(given, list) else list(str(entry.get("token", "")).encode("utf-8", "replace"))
