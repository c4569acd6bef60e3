"""Input items in canonical words.

Rule 1: an item says what it is in canonical words, or is carried word for word as opaque: never half of each.
Rule 2: what the model said in a row (reasoning, calls, text) is one message of the assistant's, as other wires have it.
Rule 3: an item that only names what the provider stored cannot be read: nobody here knows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

import msgspec

from counterfoil.core.error import RequestError
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
from counterfoil.dialects.openai_responses.input_write import DIALECT
from counterfoil.dialects.openai_responses.thought import from_client
from counterfoil.dialects.openai_responses.wish import ItemWish, PartWish
from counterfoil.dialects.refusal import missing
from counterfoil.dialects.schema import UNREADABLE, fields_of, given

__all__ = ["decoded", "missing", "read_input", "stateless"]

_Value = TypeVar("_Value")
_ROLES: Final[Mapping[str, Role]] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "developer",
}
_DATA_URI: Final = re.compile(r"data:(?P<type>[^;,]*)(?:;[^;,]*)*?;base64,", re.IGNORECASE)
_ANYTHING: Final = "application/octet-stream"
_FILE_TYPES: Final = {".pdf": "application/pdf", ".txt": "text/plain", ".md": "text/markdown", ".csv": "text/csv"}
_REFERENCE: Final = "item_reference"
_OUTPUT: Final = re.compile(r".+_(?:output|response)")
"""Items that answer a call, by their type."""


def read_input(items: list[msgspec.Raw]) -> tuple[Message, ...]:
    """Canonical messages. Raises RequestError."""
    messages: list[Message] = []
    said: list[Part] = []

    def flush() -> None:
        if said:
            messages.append(Message("assistant", tuple(said)))
            said.clear()

    for place, raw in enumerate(items):
        where = f"input[{place}]"
        for role, parts in _item(raw, where):
            if role == "assistant":
                said.extend(parts)
                continue
            flush()
            messages.append(Message(role, parts))
    flush()
    return tuple(messages)


def _item(raw: msgspec.Raw, where: str) -> Iterator[tuple[Role, tuple[Part, ...]]]:
    """Who says an item, and its parts."""
    kind = _kind(raw, where)
    if kind == _REFERENCE:
        raise stateless(where)
    reader = _READERS.get(kind)
    if reader is None:
        yield "tool" if _OUTPUT.fullmatch(kind) else "assistant", (Opaque(DIALECT, kind, _kept(raw)),)
        return
    yield reader(decoded(raw, ItemWish, where), where)


def _kind(raw: msgspec.Raw, where: str) -> str:
    """An item's type; a message may leave it out."""
    try:
        said = fields_of(raw).get("type", msgspec.Raw(b'"message"'))
        return msgspec.json.decode(said, type=str)
    except UNREADABLE:
        raise RequestError(f"`{where}`: expected an item, which is an object with a `type`.", param=where) from None


def _message(item: ItemWish, where: str) -> tuple[Role, tuple[Part, ...]]:
    role = _ROLES.get(item.role or "")
    if role is None:
        raise RequestError(f"`{where}.role`: expected one of {', '.join(_ROLES)}.", param=f"{where}.role")
    if not given(item.content):
        raise missing(f"{where}.content")
    return role, _content(item.content, f"{where}.content")


def _call(item: ItemWish, where: str) -> tuple[Role, tuple[Part, ...]]:
    call_id = _need(item.call_id, f"{where}.call_id")
    return "assistant", (ToolCall(call_id, _need(item.name, f"{where}.name"), item.arguments or "{}"),)


def _result(item: ItemWish, where: str) -> tuple[Role, tuple[Part, ...]]:
    if not given(item.output):
        raise missing(f"{where}.output")
    call_id = _need(item.call_id, f"{where}.call_id")
    return "tool", (ToolResult(call_id, _content(item.output, f"{where}.output")),)


def _reasoning(item: ItemWish, where: str) -> tuple[Role, tuple[Part, ...]]:
    """Reasoning with its proof; without a proof only its text, for the dialects that have a place for it.

    A summary, even an empty one, tells a block that was signed from one that was encrypted whole.
    """
    text = "\n\n".join(part.text for part in item.summary or ())
    if not item.encrypted_content:
        return "assistant", (Reasoning(text),) if text else ()
    proof, origin = from_client(item.id or "", item.encrypted_content)
    if item.summary:
        return "assistant", (Reasoning(text, proof, origin),)
    return "assistant", (RedactedReasoning(proof, origin),)


_READERS: Final = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _result,
    "reasoning": _reasoning,
}


def _content(raw: msgspec.Raw, where: str) -> tuple[Part, ...]:
    """Content as parts: a text, or a list of parts."""
    content = decoded(raw, str | list[msgspec.Raw], where)  # type: ignore[arg-type]  # a union is a type to msgspec
    if isinstance(content, str):
        return (Text(content),)
    return tuple(_part(part, f"{where}[{place}]") for place, part in enumerate(content))


def _part(raw: msgspec.Raw, where: str) -> Part:
    part = decoded(raw, PartWish, where)
    cache = CacheMark() if given(part.prompt_cache_breakpoint) else None
    made: Part | None = None
    match part.type:
        case "input_text" | "output_text" | "text":
            made = Text(_need(part.text, f"{where}.text"), cache)
        case "refusal":
            made = Refusal(part.refusal or "")
        case "input_image":
            made = _image(part, cache)
        case "input_file":
            made = _file(part, cache)
        case "input_audio" if part.input_audio is not None:
            made = Audio(part.input_audio.data, part.input_audio.format)
    return Opaque(DIALECT, part.type, _kept(raw)) if made is None else made


def _image(part: PartWish, cache: CacheMark | None) -> Image | None:
    """None for an image that is nowhere."""
    if part.file_id is not None:
        return Image(file_id=part.file_id, detail=part.detail, cache=cache)
    if part.image_url is None:
        return None
    found = _DATA_URI.match(part.image_url)
    if found is None:
        return Image(url=part.image_url, detail=part.detail, cache=cache)
    data = part.image_url[found.end() :]
    return Image(data=data, media_type=found["type"] or _ANYTHING, detail=part.detail, cache=cache)


def _file(part: PartWish, cache: CacheMark | None) -> File | None:
    """None for a file that is nowhere."""
    if part.file_id is not None:
        return File(file_id=part.file_id, name=part.filename, cache=cache)
    if part.file_url is not None:
        return File(url=part.file_url, name=part.filename, cache=cache)
    if part.file_data is None:
        return None
    found = _DATA_URI.match(part.file_data)
    if found is not None:
        data, media_type = part.file_data[found.end() :], found["type"] or _ANYTHING
    else:
        data = part.file_data
        media_type = _FILE_TYPES.get((part.filename or "").lower()[-4:], _ANYTHING)
    return File(data=data, media_type=media_type, name=part.filename, cache=cache)


def decoded(raw: msgspec.Raw, shape: type[_Value], where: str) -> _Value:
    """A value as its type. Raises RequestError, which names places and types and never a value."""
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as error:
        raise RequestError(f"`{where}`: {error}.", param=where, code="invalid_type") from None
    except UNREADABLE:
        raise RequestError(f"`{where}` cannot be read.", param=where) from None


def stateless(param: str) -> RequestError:
    """`param` asks for what a provider of this very API stores, and the one behind this model stores nothing."""
    return RequestError(
        f"`{param}` needs a provider that stores responses, and this model's is asked in another API, where nothing is "
        "stored: the gateway keeps no contents. Send the whole conversation in `input`, and leave it out.",
        param=param,
        code="stateless",
    )


def _need(value: str | None, param: str) -> str:
    if not value:
        raise missing(param)
    return value


def _kept(raw: msgspec.Raw) -> msgspec.Raw:
    """A value with its own bytes, so that it does not hold on to the whole body."""
    return msgspec.Raw(bytes(raw))
