"""A whole chat reply, built from what was said of each choice.

Rule: a key that the published schema demands is always there, one that it does not is there when something was said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from counterfoil.dialects.schema import UNREADABLE

__all__ = ["ChoiceBody", "write_body"]

_NULL: Final = b"null"
_LISTS: Final = msgspec.json.Decoder(dict[str, list[msgspec.Raw] | None])


class ChoiceBody:
    """One choice of a whole reply."""

    __slots__ = ("_arguments", "_calls", "_details", "_finish", "_logprobs", "_opaque", "_texts")

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._arguments: dict[int, list[str]] = {}
        self._details: list[Mapping[str, Any]] = []
        self._logprobs: list[msgspec.Raw] = []
        self._opaque: dict[str, msgspec.Raw] = {}
        self._finish = "stop"

    def add(self, said: Mapping[str, Any]) -> None:
        """Take one thing that was said, by its name."""
        for name, value in said.items():
            match name:
                case "call":
                    self._calls[value["index"]] = value
                case "arguments":
                    self._arguments.setdefault(value[0], []).append(value[1])
                case "detail":
                    self._details.append(value)
                case "logprobs":
                    self._logprobs.append(value)
                case "opaque":
                    self._opaque[value[0]] = value[1]
                case "finish":
                    self._finish = value
                case _:
                    self._texts.setdefault(name, []).append(value)

    def build(self, index: int) -> dict[str, Any]:
        """The entry of `choices`."""
        texts = {name: "".join(pieces) for name, pieces in self._texts.items()}
        silent = "refusal" in texts or bool(self._calls)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": texts.get("content", None if silent else ""),
            "refusal": texts.get("refusal"),
        }
        if "reasoning_content" in texts:
            message["reasoning_content"] = texts["reasoning_content"]
        if self._details:
            message["reasoning_details"] = self._details
        if self._calls:
            message["tool_calls"] = [self._call(number) for number in sorted(self._calls)]
        message.update(self._opaque)
        return {
            "index": index,
            "message": message,
            "logprobs": _joined(self._logprobs),
            "finish_reason": self._finish,
        }

    def _call(self, number: int) -> dict[str, Any]:
        call = self._calls[number]
        arguments = "".join(self._arguments.get(number, ()))
        return {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["function"]["name"], "arguments": arguments or "{}"},
        }


def write_body(identity: str, created: int, model: str, choices: Mapping[int, ChoiceBody], usage: bytes) -> bytes:
    """The body. A usage that is null is left out: the schema has no null there."""
    body: dict[str, Any] = {
        "id": identity,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [choice.build(index) for index, choice in choices.items()],
    }
    if usage != _NULL:
        body["usage"] = msgspec.Raw(usage)
    return msgspec.json.encode(body)


def _joined(given: list[msgspec.Raw]) -> msgspec.Raw | dict[str, list[msgspec.Raw] | None] | None:
    """Log probabilities that came in pieces, as one; a single one word for word."""
    if len(given) < 2:
        return given[0] if given else None
    joined: dict[str, list[msgspec.Raw] | None] = {"content": None, "refusal": None}
    for raw in given:
        try:
            pieces = _LISTS.decode(raw)
        except UNREADABLE:
            return given[0]
        for key, entries in pieces.items():
            if entries:
                joined[key] = [*(joined.get(key) or ()), *entries]
    return joined
