"""Canonical messages as Anthropic turns.

Rule 1: system and developer messages become `system`; a tool's answer is said by the user; neighbours of one role are
one turn, because a call's results must all be in the turn right after it.
Rule 2: what the API refuses and says nothing is left out without a word: text without a visible character, and
unsigned reasoning (only the provider that signed it can read it back).

https://platform.claude.com/docs/en/agents-and-tools/tool-use/implement-tool-use and .../extended-thinking
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from typing import Final, assert_never

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
    Text,
    ToolCall,
    ToolResult,
)
from counterfoil.dialects.anthropic_messages.request import DIALECT
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.schema import UNREADABLE

__all__ = ["Block", "system_and_turns"]

Block = dict[str, object]

_IMAGE_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_NOT_IN_AN_ID: Final = re.compile(r"[^a-zA-Z0-9_-]")
"""Call ids must match ^[a-zA-Z0-9_-]+$; other providers' ids hold dots and colons."""
_DATA_URL: Final = re.compile(r"data:(?P<type>[^;,]*)[^,]*;base64,(?P<data>.*)", re.S)
_MESSAGES: Final = "messages"


def system_and_turns(messages: Sequence[Message], desk: Desk) -> tuple[list[Block], list[Block]]:
    """The blocks of `system`, and the turns. Raises RequestError."""
    system: list[Block] = []
    turns: list[tuple[str, list[Block]]] = []
    for message in messages:
        if message.name:
            desk.name("messages.name")
        if message.role in ("system", "developer"):
            system += _system(message, desk)
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = [*_blocks(_reasoning_first(message), desk)]
        if not blocks:
            continue
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, blocks))
    if not turns:
        raise desk.refuse(_MESSAGES, "at least one message with content is required beside the system prompt")
    _trim_last(turns)
    return system, [{"role": role, "content": _results_first(blocks)} for role, blocks in turns]


def _system(message: Message, desk: Desk) -> Iterator[Block]:
    for part in message.parts:
        if not isinstance(part, Text):
            desk.cannot(_MESSAGES, "a system message can hold only text")
        elif part.text.strip():
            yield {"type": "text", "text": part.text, **_cache(part.cache)}


def _reasoning_first(message: Message) -> Sequence[Part]:
    """Thinking must open the assistant's turn. Where it does, its places between calls are the provider's own order."""
    parts = message.parts
    if message.role != "assistant" or not parts or isinstance(parts[0], Reasoning | RedactedReasoning):
        return parts
    return sorted(parts, key=lambda part: not isinstance(part, Reasoning | RedactedReasoning))


def _results_first(blocks: list[Block]) -> list[Block]:
    return sorted(blocks, key=lambda block: block.get("type") != "tool_result")


def _trim_last(turns: list[tuple[str, list[Block]]]) -> None:
    """The API refuses a last assistant turn whose text ends in white space."""
    role, blocks = turns[-1]
    text = blocks[-1].get("text")
    if role == "assistant" and isinstance(text, str):
        blocks[-1]["text"] = text.rstrip()


def _blocks(parts: Sequence[Part], desk: Desk) -> Iterator[Block]:
    for part in parts:
        block = _block(part, desk)
        if block is not None:
            yield block


def _block(part: Part, desk: Desk) -> Block | None:
    """One part; None when it says nothing the API would take."""
    match part:
        case Text():
            return {"type": "text", "text": part.text, **_cache(part.cache)} if part.text.strip() else None
        case Refusal():
            return {"type": "text", "text": part.text} if part.text.strip() else None
        case Reasoning():
            own = part.signature and not part.origin  # the API refuses a proof that is not its own
            return {"type": "thinking", "thinking": part.text, "signature": part.signature} if own else None
        case RedactedReasoning():
            return None if part.origin else {"type": "redacted_thinking", "data": part.data}
        case Image():
            return _image(part, desk)
        case File():
            return _file(part, desk)
        case Audio():
            raise desk.refuse(_MESSAGES, "this model takes no audio; send a transcript as text")
        case ToolCall():
            return {
                "type": "tool_use",
                "id": _id(part.id, desk),
                "name": part.name,
                "input": _input(part, desk),
                **_cache(part.cache),
            }
        case ToolResult():
            return _result(part, desk)
        case Opaque():
            return _opaque(part, desk)
        case _:
            assert_never(part)


def _cache(mark: CacheMark | None) -> Block:
    if mark is None:
        return {}
    return {"cache_control": {"type": "ephemeral", **({"ttl": mark.ttl} if mark.ttl else {})}}


def _id(given: str, desk: Desk) -> str:
    if not given:
        raise desk.refuse(_MESSAGES, "every tool call and every tool message needs an id")
    return _NOT_IN_AN_ID.sub("_", given)


def _input(call: ToolCall, desk: Desk) -> msgspec.Raw:
    """The arguments word for word: they are an object on this wire, and text on others."""
    said = call.arguments if call.arguments.strip() else "{}"
    try:
        msgspec.json.decode(said, type=dict)
    except UNREADABLE:
        raise desk.refuse(_MESSAGES, f"the arguments of tool call {call.id!r} are not a JSON object") from None
    return msgspec.Raw(said.encode())


def _result(result: ToolResult, desk: Desk) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": _id(result.call_id, desk)}
    content = [*_blocks(result.parts, desk)]
    if len(content) == 1 and content[0].keys() == {"type", "text"}:
        block["content"] = content[0]["text"]
    elif content:
        block["content"] = content
    if result.is_error:
        block["is_error"] = True
    return {**block, **_cache(result.cache)}


def _opaque(part: Opaque, desk: Desk) -> Block | None:
    if part.dialect != DIALECT:
        desk.cannot(f"messages.{part.kind}", "only the provider it comes from knows this part")
        return None
    return msgspec.json.decode(part.raw, type=dict[str, msgspec.Raw])  # type: ignore[return-value]  # Raw is an object


def _image(image: Image, desk: Desk) -> Block:
    if image.detail not in (None, "auto"):
        desk.name("messages.image_url.detail")
    data, kind, url = image.data, image.media_type, image.url
    if url is not None and url.startswith("data:"):
        kind, data = _data_url(url, desk)
        url = None
    if data is not None:
        if kind not in _IMAGE_TYPES:
            raise desk.refuse(_MESSAGES, f"an image must be one of {', '.join(sorted(_IMAGE_TYPES))}")
        source: Block = {"type": "base64", "media_type": kind, "data": data}
    elif url is not None:
        source = {"type": "url", "url": url}
    else:
        source = {"type": "file", "file_id": image.file_id}
    return {"type": "image", "source": source, **_cache(image.cache)}


def _file(file: File, desk: Desk) -> Block:
    data, kind, url = file.data, file.media_type, file.url
    if url is not None and url.startswith("data:"):
        kind, data = _data_url(url, desk)
        url = None
    if file.text is not None:
        source: Block = {"type": "text", "media_type": "text/plain", "data": file.text}
    elif data is not None:
        source = _file_data(data, kind, desk)
    elif url is not None:
        source = {"type": "url", "url": url}
    else:
        source = {"type": "file", "file_id": file.file_id}
    title = {"title": file.name} if file.name else {}
    return {"type": "document", "source": source, **title, **_cache(file.cache)}


def _file_data(data: str, kind: str | None, desk: Desk) -> Block:
    """A document takes PDF as it is and plain text as text."""
    if kind == "application/pdf":
        return {"type": "base64", "media_type": kind, "data": data}
    if kind is not None and kind.startswith("text/"):
        try:
            text = base64.b64decode(data, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise desk.refuse(_MESSAGES, "a text file must be base64 of UTF-8 text") from None
        return {"type": "text", "media_type": "text/plain", "data": text}
    raise desk.refuse(_MESSAGES, "a file must be a PDF or plain text")


def _data_url(url: str, desk: Desk) -> tuple[str, str]:
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise desk.refuse(_MESSAGES, "a data URL must hold base64")
    return found["type"], found["data"]
