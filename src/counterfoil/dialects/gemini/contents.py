"""A client's `contents` as canonical messages.

Rule 1: neighbouring contents of the model are one message: clients keep a streamed reply in pieces.
Rule 2: a call without an id gets one, and its answer finds it by the function's name, the earliest first: this wire
lets both go without.
Rule 3: what the canonical words lack is an `Opaque` part, word for word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from counterfoil.core.error import RequestError
from counterfoil.core.message import (
    Audio,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    RedactedReasoning,
    Text,
    ToolCall,
    ToolResult,
)
from counterfoil.dialects.gemini.proof import unseal
from counterfoil.dialects.gemini.reply import ORIGIN
from counterfoil.dialects.gemini.schema import compact
from counterfoil.dialects.gemini.turns import DIALECT
from counterfoil.dialects.gemini.wish import Fields, inside, list_of, object_of, value
from counterfoil.dialects.schema import UNREADABLE, given

__all__ = ["Contents", "input_parts", "instruction"]

_ROLES: Final = frozenset({"user", "model", "function", "tool"})
_BESIDE: Final = frozenset({"thought", "thoughtSignature", "partMetadata"})
_SPOKEN: Final = frozenset({"text", "functionCall", "inlineData", "fileData"})
"""Members that have canonical words. The proof of any other part stays in it."""
_SOUNDS: Final[Mapping[str, str]] = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav"}
_OUTPUTS: Final = ("output", "result")
"""Keys of a tool's plain answer: the first in Google's documents, the second in its Python client."""
_FAILED: Final = "error"
_HELD: Final = ("gs://", "files/", "https://generativelanguage.googleapis.com/")
"""Addresses of files that Google holds: nobody else can read them."""


class Contents:
    """The messages of one request, in the making."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, str]] = []
        """Calls without an answer yet: name and id."""
        self._made = 0

    def read(self, raw: msgspec.Raw | None) -> Iterator[Message]:
        """The messages. Raises RequestError."""
        turns: list[tuple[str, list[Fields]]] = []
        for place, content in enumerate(list_of(raw, "contents")):
            where = f"contents.{place}"
            fields = object_of(content, where)
            role = value(fields, "role", str, where) or "user"
            if role not in _ROLES:
                raise RequestError(f"{where}.role: it must be user or model", param=f"{where}.role")
            parts = [object_of(part, f"{where}.parts") for part in list_of(fields.get("parts"), f"{where}.parts")]
            if turns and turns[-1][0] == role == "model":
                turns[-1][1].extend(parts)
            else:
                turns.append((role, parts))
        if not turns:
            raise RequestError("contents: at least one content is required", param="contents")
        for place, (role, parts) in enumerate(turns):
            where = f"contents.{place}"
            yield from (
                [Message("assistant", self._model(parts, where))] if role == "model" else self._user(parts, where)
            )

    def _user(self, parts: Sequence[Fields], where: str) -> Iterator[Message]:
        """A user's turn: tools' answers are messages of their own."""
        said: list[Part] = []
        for fields in parts:
            if "functionResponse" in fields:
                if said:
                    yield Message("user", tuple(said))
                    said = []
                yield Message("tool", (self._result(inside(fields, "functionResponse"), where),))
            else:
                said.append(_part(fields, where))
        if said:
            yield Message("user", tuple(said))

    def _model(self, parts: Sequence[Fields], where: str) -> tuple[Part, ...]:
        """The model's turn: thoughts are joined up to the proof that closes them."""
        found: list[Part] = []
        thought: list[str] = []
        for fields in parts:
            kinds = fields.keys() - _BESIDE
            opaque = bool(kinds) and not kinds <= _SPOKEN
            proof = None if opaque else unseal(value(fields, "thoughtSignature", str, where) or "")
            thinks = "text" in fields and value(fields, "thought", bool, where) is True
            if thinks:
                thought.append(value(fields, "text", str, where) or "")
                if proof is None:
                    continue
            text = "".join(thought)
            thought.clear()
            if proof is not None and proof[2]:
                found.extend([Reasoning(text, origin=ORIGIN)] if text else [])
                found.append(RedactedReasoning(proof[0], proof[1]))
            elif proof is not None:
                found.append(Reasoning(text, proof[0], proof[1]))
            elif text:
                found.append(Reasoning(text, origin=ORIGIN))
            if not thinks:
                found.extend(self._said(fields, where))
        if thought:
            found.append(Reasoning("".join(thought), origin=ORIGIN))
        return tuple(found)

    def _said(self, fields: Fields, where: str) -> Iterator[Part]:
        if "functionCall" in fields:
            yield self._call(inside(fields, "functionCall"), where)
        elif "text" in fields or fields.keys() - _BESIDE:
            part = _part(fields, where)
            if not (isinstance(part, Text) and not part.text):
                yield part

    def _call(self, fields: Fields, where: str) -> ToolCall:
        name = value(fields, "name", str, where)
        if not name:
            raise RequestError(f"{where}.functionCall.name: this field is required", param="contents")
        identity = value(fields, "id", str, where)
        if not identity:
            self._made += 1
            identity = f"call_{self._made}"
        self._waiting.append((name, identity))
        return ToolCall(identity, name, _text(fields.get("args")))

    def _result(self, fields: Fields, where: str) -> ToolResult:
        name, identity = value(fields, "name", str, where), value(fields, "id", str, where)
        mine = next((call for call in self._waiting if (call[1] == identity if identity else call[0] == name)), None)
        if mine is None and not identity:
            raise RequestError(f"{where}.functionResponse: it answers a call that nobody made", param="contents")
        if mine is not None:
            self._waiting.remove(mine)
        answer, failed = _answer(inside(fields, "response"))
        media = [_part(object_of(raw, where), where) for raw in list_of(fields.get("parts"), where)]
        return ToolResult(mine[1] if mine else identity or "", (Text(answer), *media), failed)


def instruction(raw: msgspec.Raw | None) -> Iterator[Message]:
    """The system message, if there is one. Raises RequestError."""
    parts = tuple(part for part in input_parts(raw, "systemInstruction") if not _is_empty(part))
    if parts:
        yield Message("system", parts)


def input_parts(raw: msgspec.Raw | None, where: str) -> Iterable[Part]:
    """The parts of one content; a text may stand for it. Raises RequestError."""
    if raw is None or not given(raw):
        return ()
    if bytes(raw)[:1] == b'"':
        return (Text(value({"text": raw}, "text", str, where) or ""),)
    fields = object_of(raw, where)
    return [_part(object_of(part, where), where) for part in list_of(fields.get("parts"), f"{where}.parts")]


def _is_empty(part: Part) -> bool:
    return isinstance(part, Text) and not part.text


def _part(fields: Fields, where: str) -> Part:
    """One part that is no call and no answer."""
    extra = fields.keys() - _BESIDE
    if extra == {"text"}:
        return Text(value(fields, "text", str, where) or "")
    if extra == {"inlineData"}:
        return _inline(inside(fields, "inlineData"), where)
    if extra == {"fileData"}:
        return _file(inside(fields, "fileData"), where)
    kind = next((key for key in fields if key not in _BESIDE), "")
    return Opaque(DIALECT, kind, msgspec.Raw(msgspec.json.encode(fields)))


def _inline(fields: Fields, where: str) -> Part:
    data, kind = value(fields, "data", str, where), value(fields, "mimeType", str, where) or ""
    if data is None:
        raise RequestError(f"{where}.inlineData.data: this field is required", param="contents")
    data = data.translate(_STANDARD)  # other dialects take the standard alphabet only
    family, _, sort = kind.partition("/")
    if family == "image":
        return Image(data=data, media_type=kind)
    if family == "audio":
        return Audio(data, _SOUNDS.get(sort.partition(";")[0], sort.partition(";")[0]))
    return File(data=data, media_type=kind or None, name=value(fields, "displayName", str, where))


_STANDARD: Final = str.maketrans("-_", "+/")


def _file(fields: Fields, where: str) -> Part:
    address, kind = value(fields, "fileUri", str, where), value(fields, "mimeType", str, where)
    if address is None:
        raise RequestError(f"{where}.fileData.fileUri: this field is required", param="contents")
    held = address.startswith(_HELD)
    url, file_id = (None, address) if held else (address, None)
    if kind is not None and kind.startswith("image/"):
        return Image(url=url, file_id=file_id, media_type=kind)
    return File(url=url, file_id=file_id, media_type=kind, name=value(fields, "displayName", str, where))


def _text(raw: msgspec.Raw | None) -> str:
    return compact(raw).decode() if raw is not None and given(raw) else "{}"


def _answer(fields: Fields) -> tuple[str, bool]:
    """A tool's answer as text, and whether it failed."""
    if len(fields) == 1:
        (key,) = fields
        if key == _FAILED or key in _OUTPUTS:
            return _plain(fields[key]), key == _FAILED
    return _plain(msgspec.Raw(msgspec.json.encode(fields))), False


def _plain(raw: msgspec.Raw) -> str:
    """A text as it is, anything else as JSON."""
    try:
        return msgspec.json.decode(raw, type=str)
    except UNREADABLE:
        return compact(raw).decode()
