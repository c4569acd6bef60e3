"""Canonical messages as input items: what was said, in the order it was said.

Rule 1: a reasoning item goes back only with its proof, only to who made it, and only before what it led to: the API
refuses one that stands last. Reasoning without a proof has no place on this wire, and is left out.
Rule 2: what an item has no room for is refused, because leaving it out would change what is asked; a part of another
dialect is named by `Desk`.

https://platform.openai.com/docs/api-reference/responses/create#responses-create-input
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
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
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.openai_responses.items import FUNCTION_CALL, MESSAGE, REASONING
from counterfoil.dialects.openai_responses.thought import ORIGIN, unpack

__all__ = ["CACHE_HINT", "DIALECT", "Block", "instructions_and_input"]

DIALECT: Final = "openai_responses"
CACHE_HINT: Final = "cache_control"
"""A cache mark changes no answer: it is named as dropped and never refused."""

Block = dict[str, object]
_MESSAGES: Final = "messages"
_CALL_ID_LENGTH: Final = 64
"""The longest `call_id` the published schema takes."""
_ANYTHING: Final = "application/octet-stream"
_ROLES: Final = {"system": "system", "developer": "developer", "user": "user", "tool": "user"}


def instructions_and_input(messages: Sequence[Message], desk: Desk, *, apart: bool) -> tuple[str | None, list[object]]:
    """The instructions, and the input items.

    The system messages a conversation begins with become `instructions` if `apart`; without it, and later ones, they
    are input messages of their role. The instructions are one text, in which each block is a paragraph.
    """
    head = 0
    told: list[str] = []
    while apart and head < len(messages) and messages[head].role == "system":
        texts = [part for part in messages[head].parts if isinstance(part, Text)]
        if len(texts) != len(messages[head].parts):
            break
        for text in texts:
            _hint(text.cache, desk)
            told.append(text.text)
        head += 1
    items: list[object] = []
    for message in messages[head:]:
        items.extend(_items(message, desk))
    return "\n\n".join(told) if told else None, items


def _items(message: Message, desk: Desk) -> Iterable[object]:
    """The items of one message. A name has no place here, and says nothing the content does not."""
    if message.name is not None:
        desk.name("messages.name")
    if message.role == "assistant":
        return _answer(message.parts, desk)
    items: list[object] = []
    spoken: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolResult) or (isinstance(part, Opaque) and part.dialect == DIALECT):
            _say(_ROLES[message.role], spoken, items, desk)
            items.append(_result(part, desk) if isinstance(part, ToolResult) else part.raw)
        else:
            spoken.append(part)
    _say(_ROLES[message.role], spoken, items, desk, even_nothing=not message.parts)
    return items


def _say(role: str, spoken: list[Part], items: list[object], desk: Desk, *, even_nothing: bool = False) -> None:
    """One input message of what was gathered, which is used up. A text alone is a string, which every server reads."""
    if not spoken and not even_nothing:
        return
    content: object = [block for part in spoken if (block := _content(part, desk)) is not None]
    if not spoken or (len(spoken) == 1 and isinstance(spoken[0], Text)):
        content = spoken[0].text if spoken and isinstance(spoken[0], Text) else ""
    items.append({"role": role, "content": content})
    spoken.clear()


def _answer(parts: Sequence[Part], desk: Desk) -> list[object]:
    """The items of what the model said."""
    items: list[object] = []
    text: list[str] = []
    last = 0
    """How many items there are up to the last that is no reasoning."""

    def flush() -> None:
        nonlocal last
        if text:
            items.append({"role": "assistant", "content": "".join(text)})
            text.clear()
            last = len(items)

    for part in parts:
        if isinstance(part, Text):
            _hint(part.cache, desk)
            text.append(part.text)
            continue
        flush()
        item = _said(part, desk)
        if item is not None:
            items.append(item)
            last = last if isinstance(part, Reasoning | RedactedReasoning) else len(items)
    flush()
    return items[:last]


def _said(part: Part, desk: Desk) -> object:
    """One item of an assistant's message, or None for what has no place."""
    match part:
        case Reasoning():
            if part.signature is None or part.origin != ORIGIN:
                return None
            return _reasoning(part.signature, part.text)
        case RedactedReasoning():
            return _reasoning(part.data, "") if part.origin == ORIGIN else None
        case ToolCall():
            _hint(part.cache, desk)
            return {
                "type": FUNCTION_CALL,
                "call_id": _call_id(part.id, desk),
                "name": part.name,
                "arguments": part.arguments or "{}",
            }
        case Refusal():
            return {"type": MESSAGE, "role": "assistant", "content": [{"type": "refusal", "refusal": part.text}]}
        case Opaque():
            return _opaque(part, desk)
        case Image() | File() | Audio() | ToolResult():
            desk.cannot(f"{_MESSAGES}.{type(part).__struct_config__.tag}", "an assistant's message holds text only")
            return None
        case Text():
            raise AssertionError("text is gathered by the caller")
        case _:
            assert_never(part)


def _reasoning(proof: str, text: str) -> Block:
    item_id, encrypted = unpack(proof)
    summary = [{"type": "summary_text", "text": text}] if text else []
    named = {"id": item_id} if item_id else {}
    return {"type": REASONING, **named, "summary": summary, "encrypted_content": encrypted}


def _call_id(given: str, desk: Desk) -> str:
    """The id, which other dialects let grow longer than this one."""
    if not given:
        raise desk.refuse(_MESSAGES, "every tool call and every tool message needs an id")
    if len(given) <= _CALL_ID_LENGTH:
        return given
    return f"call_{hashlib.sha256(given.encode()).hexdigest()[:48]}"


def _result(result: ToolResult, desk: Desk) -> Block:
    """A function's output. The wire has no mark of an error, so the text says it."""
    _hint(result.cache, desk)
    parts: list[Part] = [Text("The tool failed:"), *result.parts] if result.is_error else list(result.parts)
    output: object
    if all(isinstance(part, Text) for part in parts):
        texts = [part.text for part in parts if isinstance(part, Text)]
        output = "\n".join(texts)
    else:
        output = [block for part in parts if (block := _content(part, desk)) is not None]
    return {"type": "function_call_output", "call_id": _call_id(result.call_id, desk), "output": output}


def _content(part: Part, desk: Desk) -> object:
    """One part of an input message or of a function's output; None for what was named and left out."""
    match part:
        case Text():
            _hint(part.cache, desk)
            return {"type": "input_text", "text": part.text}
        case Image():
            _hint(part.cache, desk)
            return _image(part)
        case File():
            _hint(part.cache, desk)
            return _file(part)
        case Refusal():
            return {"type": "input_text", "text": part.text}
        case Audio():
            raise desk.refuse(_MESSAGES, "the Responses API takes no audio; send a transcript as text")
        case Opaque():
            return _opaque(part, desk)
        case ToolCall() | ToolResult() | Reasoning() | RedactedReasoning():
            desk.cannot(f"{_MESSAGES}.{type(part).__struct_config__.tag}", "it has no place in this message")
            return None
        case _:
            assert_never(part)


def _opaque(part: Opaque, desk: Desk) -> msgspec.Raw | None:
    if part.dialect == DIALECT:
        return part.raw
    desk.cannot(f"{_MESSAGES}.{part.kind}", "only the provider it comes from knows this part")
    return None


def _image(image: Image) -> Block:
    block: Block = {"type": "input_image", "detail": image.detail or "auto"}
    if image.file_id is not None:
        block["file_id"] = image.file_id
    elif image.url is not None:
        block["image_url"] = image.url
    else:
        block["image_url"] = f"data:{image.media_type or _ANYTHING};base64,{image.data or ''}"
    return block


def _file(file: File) -> Block:
    if file.text is not None:
        return {"type": "input_text", "text": file.text}
    block: Block = {"type": "input_file"}
    if file.file_id is not None:
        block["file_id"] = file.file_id
        return block  # its name is the stored file's
    if file.url is not None:
        block["file_url"] = file.url
    else:
        block["file_data"] = f"data:{file.media_type or _ANYTHING};base64,{file.data or ''}"
        # The API refuses data without a name.
        block["filename"] = file.name or f"file.{(file.media_type or _ANYTHING).rpartition('/')[2]}"
    return block


def _hint(cache: CacheMark | None, desk: Desk) -> None:
    if cache is not None:
        desk.name(CACHE_HINT)
