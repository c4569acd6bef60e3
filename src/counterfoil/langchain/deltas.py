"""What one delta or message of a choice says, in LangChain's words.

Rule 1: every text is said once. `reasoning_content` has all reasoning text; `reasoning_details` has what proves it.
Rule 2: pieces of one thing carry one number, because LangChain joins by `index`: two calls never share one.
Rule 3: a value that LangChain would join wrongly (a name, an id, a type said again) is said only the first time.
"""

from __future__ import annotations

from typing import Any, Final

from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk

from counterfoil.langchain.plain import as_json, text_of

__all__ = ["Calls", "Pieces", "Reasoning", "content_of", "details_of", "take_apart"]

_CARRIED: Final = ("annotations", "images", "audio", "extra_content")
"""Keys that are carried to `additional_kwargs` as they are."""
_ONCE: Final = ("type", "format", "id")
"""Members of a reasoning detail that LangChain would write one after the other."""


class Pieces:
    """One delta taken apart."""

    __slots__ = ("additional", "calls", "text")

    def __init__(self) -> None:
        self.text = ""
        self.calls: list[ToolCallChunk] = []
        self.additional: dict[str, Any] = {}

    def __bool__(self) -> bool:
        return bool(self.text or self.calls or self.additional)


class _Call:
    """One tool call so far."""

    __slots__ = ("extra", "id", "name", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.id = ""
        self.name = ""
        self.extra: Any = None


class Calls:
    """The tool calls of one choice: which of them a delta belongs to."""

    __slots__ = ("_by_id", "_by_index", "_calls", "_current")

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._current: _Call | None = None

    def read(self, parts: list[Any]) -> list[ToolCallChunk]:
        """The chunks of the `tool_calls` of one delta."""
        named: set[int] = set()
        """Calls that this list has named: another entry with a name is another call."""
        return [self._chunk(part, named) for part in parts if isinstance(part, dict)]

    def unnamed(self, prefix: str) -> list[ToolCallChunk]:
        """Ids, made from `prefix`, for the calls that got none: without one no tool can answer."""
        made = []
        for call in self._calls:
            if not call.id:
                call.id = f"call_{prefix}_{call.number}"
                made.append(tool_call_chunk(name=None, args="", id=call.id, index=call.number))
        return made

    def extras(self) -> dict[str, Any]:
        """By the id of its call: what must go back with the call in a later turn."""
        return {call.id: {"extra_content": call.extra} for call in self._calls if call.extra and call.id}

    def _chunk(self, part: dict[str, Any], named: set[int]) -> ToolCallChunk:
        function = part.get("function")
        custom = part.get("custom")
        said = function if isinstance(function, dict) else custom if isinstance(custom, dict) else {}
        name, identity = text_of(said.get("name")), text_of(part.get("id"))
        index = part.get("index")
        call = self._find(index if type(index) is int else None, identity, name, named)
        if name:
            named.add(call.number)
        new_name = name if not call.name else ""
        new_id = identity if not call.id else ""
        call.name, call.id = call.name or name, call.id or identity
        call.extra = call.extra or part.get("extra_content")
        return tool_call_chunk(name=new_name or None, args=_arguments(said), id=new_id or None, index=call.number)

    def _find(self, index: int | None, identity: str, name: str, named: set[int]) -> _Call:
        if index is not None:
            call = self._by_index.get(index)
        elif identity:
            call = self._by_id.get(identity)
        else:
            call = self._current
        if call is None or self._another(call, index, identity, name, named):
            call = _Call(len(self._calls))
            self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        if identity:
            self._by_id[identity] = call
        self._current = call
        return call

    @staticmethod
    def _another(call: _Call, index: int | None, identity: str, name: str, named: set[int]) -> bool:
        """Whether a delta that would go to `call` begins another one (some servers give every call the index 0, others
        give every delta of one call a new id: it takes a name to begin a call)."""
        if not name:
            return False
        if call.number in named or (identity and call.id and identity != call.id):
            return True
        return index is None and not identity and bool(call.name) and name != call.name


def _arguments(said: dict[str, Any]) -> str:
    value = said.get("arguments")
    if value is None:
        return "" if said.get("input") is None else as_json({"input": said["input"]})
    return value if isinstance(value, str) else as_json(value)


class Reasoning:
    """The reasoning of one choice so far: blocks, each perhaps with proof at its end."""

    __slots__ = ("_block", "_in_details", "_numbers", "_plain", "_said")

    def __init__(self) -> None:
        self._block = 0
        """The block that text without a number belongs to."""
        self._numbers: dict[tuple[Any, str], int] = {}
        self._said: dict[int, set[str]] = {}
        """By block: the members that are said once and have been."""
        self._plain: set[int] = set()
        """Blocks whose text came outside of details."""
        self._in_details: set[int] = set()
        """Blocks whose details hold their text so far."""

    def read(self, text: str, details: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
        """The text to say and the details to keep, of one delta."""
        if not details:
            return text, self._plainly(text)
        told: list[str] = []
        kept = [self._detail(detail, told) for detail in details]
        return text or "".join(told), kept

    def _plainly(self, text: str) -> list[dict[str, Any]]:
        """Text without details. After a block with proof, details hold it too, or it would join the first block."""
        if not text:
            return []
        self._plain.add(self._block)
        if not self._block:
            return []
        self._in_details.add(self._block)
        return [self._once(self._block, {"type": "reasoning.text", "text": text, "index": self._block})]

    def _detail(self, detail: dict[str, Any], told: list[str]) -> dict[str, Any]:
        number = self._number(detail)
        words = text_of(detail.get("text")) or text_of(detail.get("summary"))
        proof = detail.get("signature") or detail.get("data")
        piece = {**detail, "index": number}
        again = bool(proof) and number in self._plain
        """The proof comes with all of the block's text again."""
        if again and number in self._in_details:
            piece = {key: value for key, value in piece.items() if key not in ("text", "summary")}
        if words and not again:
            told.append(words)
            self._in_details.add(number)
        if proof:
            self._block = number + 1
        return self._once(number, piece)

    def _number(self, detail: dict[str, Any]) -> int:
        """The block of a detail: by its own index and type where it has an index, else the block that is open."""
        index, kind = detail.get("index"), text_of(detail.get("type"))
        if type(index) is not int:
            return self._block
        key = (index, kind)
        if key not in self._numbers:
            taken = set(self._numbers.values())
            number = index
            while number in taken:
                number += 1
            self._numbers[key] = number
        return self._numbers[key]

    def _once(self, number: int, piece: dict[str, Any]) -> dict[str, Any]:
        said = self._said.setdefault(number, set())
        kept = {key: value for key, value in piece.items() if value is not None and key not in said}
        said.update(key for key in _ONCE if key in kept)
        return kept


def take_apart(said: dict[str, Any], calls: Calls, reasoning: Reasoning) -> Pieces:
    """One delta or message of a choice, as plain dicts, taken apart."""
    pieces = Pieces()
    pieces.text, thought, parts = content_of(said.get("content"))
    plain = text_of(said.get("reasoning_content")) or text_of(said.get("reasoning")) or thought
    text, details = reasoning.read(plain, details_of(said))
    kept: dict[str, Any] = {
        "reasoning_content": text,
        "reasoning_details": details,
        "refusal": text_of(said.get("refusal")),
        "parts": parts,
        "function_call": _legacy(said.get("function_call")),
    }
    kept.update({key: said.get(key) for key in _CARRIED})
    pieces.additional = {key: value for key, value in kept.items() if _tells(value)}
    tool_calls = said.get("tool_calls")
    if isinstance(tool_calls, list):
        pieces.calls = calls.read(tool_calls)
    return pieces


def details_of(said: dict[str, Any]) -> list[dict[str, Any]]:
    """`reasoning_details`, or what LiteLLM's servers send in their place (https://docs.litellm.ai/docs/reasoning_content)."""
    details = said.get("reasoning_details")
    if isinstance(details, list) and details:
        return [detail for detail in details if isinstance(detail, dict)]
    blocks = said.get("thinking_blocks")
    return [_thinking(block) for block in blocks if isinstance(block, dict)] if isinstance(blocks, list) else []


def _thinking(block: dict[str, Any]) -> dict[str, Any]:
    if block.get("data"):
        return {"type": "reasoning.encrypted", "data": block["data"]}
    detail = {"type": "reasoning.text", "text": block.get("thinking"), "signature": block.get("signature")}
    return {key: value for key, value in detail.items() if value}


def content_of(content: object) -> tuple[str, str, list[dict[str, Any]]]:
    """The text of `content`, the reasoning among it, and the parts that are neither."""
    if isinstance(content, str):
        return content, "", []
    if isinstance(content, dict):
        return as_json(content), "", []
    text: list[str] = []
    thought: list[str] = []
    parts: list[dict[str, Any]] = []
    for part in content if isinstance(content, list) else ():
        if isinstance(part, str):
            text.append(part)
        elif not isinstance(part, dict):
            continue
        elif part.get("type") == "thinking":
            inner = part.get("thinking")
            thought.append(inner if isinstance(inner, str) else content_of(inner)[0])
        elif part.get("type", "text") == "text" and isinstance(part.get("text"), str):
            text.append(part["text"])
        else:
            parts.append(part)
    return "".join(text), "".join(thought), parts


def _legacy(call: object) -> dict[str, Any] | None:
    if not isinstance(call, dict) or not any(call.values()):
        return None
    return {key: value if value is not None else "" for key, value in call.items()}


def _tells(value: object) -> bool:
    """Whether a value says anything: one server sends an `audio` of empty texts and zeros."""
    return any(value.values()) if isinstance(value, dict) else bool(value)
