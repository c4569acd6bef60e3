"""Canonical messages as Cohere's turns.

Rule 1: a tool's answer is a turn of its own, and so is the text beside it. Files of text become `documents`, which the
model can cite; what is no text and no image is refused. A tool's pictures are the user's, in the turn after it.
Rule 2: reasoning goes back where the wire has a place for it: as the plan of a turn with calls, else as thinking. What
is signed or encrypted is another model's, and no part of what was said here.

https://docs.cohere.com/reference/chat (`messages`), https://docs.cohere.com/docs/reasoning
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Final, assert_never

import msgspec

from counterfoil.core.message import (
    Audio,
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
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.results import media_apart

__all__ = ["DIALECT", "Block", "turns_and_documents", "written_image"]

DIALECT: Final = "cohere"
Block = dict[str, object]

_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "tool": "user", "assistant": "assistant"}
_MESSAGES: Final = "messages"
_CACHE_HINT: Final = "cache_control"


def turns_and_documents(messages: Sequence[Message], desk: Desk) -> tuple[list[Block], list[Block]]:
    """The turns, and the documents that stand beside them. Raises RequestError."""
    turns: list[Block] = []
    documents: list[Block] = []
    for message in media_apart(messages, lambda part: isinstance(part, File)):
        if message.name:
            desk.name("messages.name")
        if message.role == "assistant":
            turns.append(_assistant(message.parts, desk))
            continue
        spoken: list[Block] = []
        for part in message.parts:
            if isinstance(part, ToolResult):
                if spoken:
                    turns.append(_turn(_ROLES[message.role], spoken))
                    spoken = []
                turns.append(_result(part, desk))
            elif isinstance(part, File):
                documents.append(_document(part, len(documents), desk))
            else:
                spoken += _block(part, desk)
        if spoken or not any(isinstance(part, ToolResult) for part in message.parts):
            turns.append(_turn(_ROLES[message.role], spoken))
    return turns, documents


def _turn(role: str, blocks: list[Block]) -> Block:
    return {"role": role, "content": _content(blocks)}


def _content(blocks: list[Block]) -> object:
    """One text as a text; the API takes both."""
    if not blocks:
        return ""
    return blocks[0]["text"] if len(blocks) == 1 and blocks[0]["type"] == "text" else blocks


def _assistant(parts: Iterable[Part], desk: Desk) -> Block:
    blocks: list[Block] = []
    thought: list[str] = []
    calls: list[Block] = []
    for part in parts:
        if isinstance(part, Reasoning):
            if part.signature is None and part.text:
                thought.append(part.text)
        elif isinstance(part, ToolCall):
            _hint(part, desk)
            function = {"name": part.name, "arguments": part.arguments.strip() or "{}"}
            calls.append({"id": part.id, "type": "function", "function": function})
        elif isinstance(part, ToolResult | File | Image):
            raise desk.refuse(_MESSAGES, "an assistant's turn can hold text and tool calls only")
        else:
            blocks += _block(part, desk)
    turn: Block = {"role": "assistant"}
    if thought and calls:
        turn["tool_plan"] = "\n".join(thought)
    elif thought:
        blocks = [{"type": "thinking", "thinking": "\n".join(thought)}, *blocks]
    if calls:
        turn["tool_calls"] = calls
    if blocks or not calls:
        turn["content"] = _content(blocks)
    return turn


def _result(result: ToolResult, desk: Desk) -> Block:
    """A tool's turn holds text only. The wire has no mark of an error, so the text says it."""
    _hint(result, desk)
    if not result.call_id:
        raise desk.refuse(_MESSAGES, "every tool message needs the id of its call")
    blocks: list[Block] = [{"type": "text", "text": "The tool failed:"}] if result.is_error else []
    for part in result.parts:
        if isinstance(part, Text | Opaque):
            blocks += _block(part, desk)
        elif isinstance(part, File) and _text_of(part) is not None:
            blocks.append({"type": "document", "document": {"data": _data(part, _text_of(part) or "")}})
        else:
            desk.cannot("messages.tool_result", "a tool's answer can hold text only")
    return {"role": "tool", "tool_call_id": result.call_id, "content": _content(blocks)}


def _block(part: Part, desk: Desk) -> list[Block]:
    """One part of what is said; nothing where it is no part of what was said here."""
    match part:
        case Text():
            _hint(part, desk)
            return [{"type": "text", "text": part.text}]
        case Refusal():
            return [{"type": "text", "text": part.text}]
        case Image():
            _hint(part, desk)
            return [written_image(part, desk)]
        case Audio():
            raise desk.refuse(_MESSAGES, "this model takes no audio; send a transcript as text")
        case Opaque():
            if part.dialect == DIALECT:
                return [msgspec.json.decode(part.raw, type=Block)]
            desk.cannot(f"messages.{part.kind}", "only the provider it comes from knows this part")
            return []
        case Reasoning() | RedactedReasoning():
            return []
        case File() | ToolCall() | ToolResult():
            raise desk.refuse(_MESSAGES, "a tool call belongs to an assistant's turn")
        case _:
            assert_never(part)


def written_image(image: Image, desk: Desk) -> Block:
    """An image's block, of a chat and of an embed."""
    if image.url is not None:
        url = image.url
    elif image.data is not None:
        url = f"data:{image.media_type or 'image/png'};base64,{image.data}"
    else:
        raise desk.refuse(_MESSAGES, "an image must be here or at an address; the provider keeps no files")
    detail = {"detail": image.detail} if image.detail is not None else {}
    return {"type": "image_url", "image_url": {"url": url, **detail}}


def _document(file: File, number: int, desk: Desk) -> Block:
    _hint(file, desk)
    text = _text_of(file)
    if text is None:
        raise desk.refuse(_MESSAGES, "this model takes files of plain text only")
    return {"id": f"doc:{number}", "data": _data(file, text)}


def _data(file: File, text: str) -> Block:
    return {**({"title": file.name} if file.name else {}), "text": text}


def _text_of(file: File) -> str | None:
    if file.text is not None:
        return file.text
    if file.data is None or not (file.media_type or "").startswith("text/"):
        return None
    try:
        return base64.b64decode(file.data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _hint(part: Text | Image | File | ToolCall | ToolResult, desk: Desk) -> None:
    """A cache mark changes no answer: it is left out, and named."""
    if part.cache is not None:
        desk.name(_CACHE_HINT)
