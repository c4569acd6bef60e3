"""The messages of a chat request in canonical words.

Rule 1: a part says what it is in canonical words, or is carried word for word as opaque: never half of each.
Rule 2: reasoning comes first in a message, with its proof where the client has it; without it only as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from counterfoil.core.message import (
    Audio,
    CacheMark,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    RedactedReasoning,
    Refusal,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from counterfoil.dialects.openai_chat.wish import FileShape, MessageWish, PartWish, UrlShape
from counterfoil.dialects.proof import origin_of, unseal
from counterfoil.dialects.refusal import missing

__all__ = ["DIALECT", "ROLES", "read_messages"]

DIALECT: Final = "openai_chat"
_DATA_URI: Final = re.compile(r"data:(?P<type>[^;,]*)(?:;[^;,]*)*?;base64,", re.IGNORECASE)
_URL: Final = re.compile(r"https?://", re.IGNORECASE)
ROLES: Final[Mapping[str, Role]] = MappingProxyType(
    {
        "system": "system",
        "developer": "developer",
        "user": "user",
        "assistant": "assistant",
        "tool": "tool",
        "function": "tool",
    }
)
"""Roles on the wire and what they are."""
_ANYTHING: Final = "application/octet-stream"
_FILE_TYPES: Final = {".pdf": "application/pdf", ".txt": "text/plain", ".md": "text/markdown", ".csv": "text/csv"}


class _RawMessage(msgspec.Struct, frozen=True):
    """A message again, for the parts and calls that are carried word for word."""

    content: list[msgspec.Raw] | str | None = None
    tool_calls: list[msgspec.Raw] | None = None
    audio: msgspec.Raw = msgspec.Raw(b"null")


_RAW_MESSAGES: Final = msgspec.json.Decoder(list[_RawMessage])


class _Source:
    """The messages as they came, decoded again only when something must be carried word for word."""

    __slots__ = ("_decoded", "_raw")

    def __init__(self, raw: msgspec.Raw) -> None:
        self._raw = raw
        self._decoded: list[_RawMessage] | None = None

    def message(self, place: int) -> _RawMessage:
        if self._decoded is None:
            self._decoded = _RAW_MESSAGES.decode(self._raw)
        return self._decoded[place]


def read_messages(wishes: list[MessageWish], raw: msgspec.Raw) -> tuple[Message, ...]:
    """Canonical messages. `raw` is the JSON of the same list. Raises RequestError."""
    source = _Source(raw)
    legacy = ""
    """The id that stands for the last legacy `function_call`: the wire has none."""
    messages = []
    for place, wish in enumerate(wishes):
        if wish.role == "assistant":
            if wish.function_call is not None:
                legacy = f"call_legacy_{place}"
            parts = _assistant(wish, place, legacy, source)
        elif wish.role in ("tool", "function"):
            parts = (_result(wish, place, legacy, source),)
        else:
            parts = _content(wish, place, source)
        name = None if wish.role == "function" else wish.name
        messages.append(Message(ROLES[wish.role], parts, name))
    return tuple(messages)


def _content(wish: MessageWish, place: int, source: _Source) -> tuple[Part, ...]:
    if wish.content is None:
        raise missing(f"messages[{place}].content")
    if isinstance(wish.content, str):
        return (Text(wish.content),)
    return tuple(_part(part, place, number, source) for number, part in enumerate(wish.content))


def _result(wish: MessageWish, place: int, legacy: str, source: _Source) -> ToolResult:
    call_id = wish.tool_call_id if wish.role == "tool" else wish.tool_call_id or legacy or wish.name
    if not call_id:
        raise missing(f"messages[{place}].tool_call_id")
    return ToolResult(call_id, _content(wish, place, source))


def _assistant(wish: MessageWish, place: int, legacy: str, source: _Source) -> tuple[Part, ...]:
    parts: list[Part] = _reasoning(wish)
    if wish.content:
        parts.extend(_content(wish, place, source))
    if wish.refusal:
        parts.append(Refusal(wish.refusal))
    for number, call in enumerate(wish.tool_calls or ()):
        if call.function is not None:
            parts.append(ToolCall(call.id, call.function.name, call.function.arguments or "{}"))
        else:
            raws = source.message(place).tool_calls or []
            parts.append(Opaque(DIALECT, f"tool_calls.{call.type}", raws[number]))
    if wish.function_call is not None:
        parts.append(ToolCall(legacy, wish.function_call.name, wish.function_call.arguments or "{}"))
    if not parts:
        audio = source.message(place).audio
        if bytes(audio) != b"null":  # an earlier spoken answer, by its id
            parts.append(Opaque(DIALECT, "audio", audio))
    return tuple(parts)


def _reasoning(wish: MessageWish) -> list[Part]:
    """What the model thought. Blocks with proof win over plain text, which says the same again."""
    parts: list[Part] = []
    for block in wish.thinking_blocks or ():
        if block.data:
            parts.append(RedactedReasoning(*unseal(block.data)))
        elif block.thinking or block.signature:
            proof, origin = unseal(block.signature or "")
            parts.append(Reasoning(block.thinking or "", proof or None, origin))
    if parts:
        return parts
    text: list[str] = []
    for detail in wish.reasoning_details or ():
        if detail.data:
            parts.extend(_told(text))
            parts.append(RedactedReasoning(detail.data, origin_of(detail.format)))
            continue
        text.append(detail.text or detail.summary or "")
        if detail.signature:
            parts.append(Reasoning("".join(text), detail.signature, origin_of(detail.format)))
            text.clear()
    parts.extend(_told(text))
    plain = wish.reasoning_content or wish.reasoning
    if plain and not any(isinstance(part, Reasoning) for part in parts):
        parts.insert(0, Reasoning(plain))
    return parts


def _told(text: list[str]) -> list[Part]:
    """Reasoning without proof, from its pieces, which are used up."""
    joined = "".join(text)
    text.clear()
    return [Reasoning(joined)] if joined else []


def _part(part: PartWish, place: int, number: int, source: _Source) -> Part:
    cache = None if part.cache_control is None else CacheMark(part.cache_control.ttl)
    path = f"messages[{place}].content[{number}]"
    made: Part | None = None
    match part.type:
        case "text":
            if part.text is None:
                raise missing(f"{path}.text")
            made = Text(part.text, cache)
        case "image_url":
            if part.image_url is None:
                raise missing(f"{path}.image_url")
            made = _image(part.image_url, cache)
        case "input_audio":
            if part.input_audio is None:
                raise missing(f"{path}.input_audio")
            if not isinstance(part.input_audio, str):
                made = Audio(part.input_audio.data, part.input_audio.format)
        case "file":
            if part.file is None:
                raise missing(f"{path}.file")
            made = _file(part.file, cache)
        case "refusal":
            made = Refusal(part.refusal or "")
        case "thinking" if part.thinking is not None:
            made = Reasoning(_joined(part.thinking), part.signature)
        case "redacted_thinking" if part.data is not None:
            made = RedactedReasoning(part.data)
    if made is not None:
        return made
    raws = source.message(place).content
    if not isinstance(raws, list):
        raise missing(path)
    return Opaque(DIALECT, part.type, raws[number])


def _joined(thinking: str | list[PartWish]) -> str:
    return thinking if isinstance(thinking, str) else "".join(part.text or "" for part in thinking)


def _image(said: UrlShape | str, cache: CacheMark | None) -> Image | None:
    """None for an address that is neither http nor a base64 `data:` one."""
    url, detail = (said, None) if isinstance(said, str) else (said.url, said.detail)
    if _URL.match(url):
        return Image(url=url, detail=detail, cache=cache)
    found = _DATA_URI.match(url)
    if found is None:
        return None
    return Image(data=url[found.end() :], media_type=found["type"] or _ANYTHING, detail=detail, cache=cache)


def _file(said: FileShape, cache: CacheMark | None) -> File | None:
    """None for a file that is neither named nor here."""
    if said.file_id is not None:
        return File(file_id=said.file_id, name=said.filename, cache=cache)
    if said.file_data is None:
        return None
    if _URL.match(said.file_data):
        return File(url=said.file_data, name=said.filename, cache=cache)
    found = _DATA_URI.match(said.file_data)
    if found is not None:
        data, media_type = said.file_data[found.end() :], found["type"] or _ANYTHING
    else:
        suffix = (said.filename or "").lower()[-4:]
        data, media_type = said.file_data, _FILE_TYPES.get(suffix, _ANYTHING)
    return File(data=data, media_type=media_type, name=said.filename, cache=cache)
