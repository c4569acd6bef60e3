"""LangChain messages as the chat dialect's, for the next turn.

Rule 1: what a model said goes back as it said it: text, refusal, calls with their ids, reasoning with its proof.
Rule 2: a standard block, LangChain's older one, OpenAI's and Anthropic's of the same thing all give the same part.
Rule 3: a part that is not known here is passed on word for word. What cannot be carried raises ValueError.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from counterfoil.langchain.blocks import detail_of_block
from counterfoil.langchain.plain import text_of

__all__ = ["convert_message_to_dict", "without_reasoning"]

_SKIPPED: Final = frozenset(
    {"tool_call", "tool_call_chunk", "invalid_tool_call", "tool_use", "input_json_delta", "function_call"}
)
"""Blocks that say again what the message's tool calls say."""
_EXTENSIONS: Final = {"application/pdf": "pdf", "text/plain": "txt", "text/markdown": "md", "text/csv": "csv"}
_FORMATS: Final = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav"}
"""The format of a sound, where it is not the second half of its MIME type."""
_BACK: Final = ("reasoning_content", "reasoning_details", "refusal", "extra_content")
"""What goes back from `additional_kwargs` to where it came from."""
_OF_ITS_PROVIDER: Final = frozenset({"reasoning_content", "reasoning_details", "extra_content"})
_INSTEAD: Final = frozenset({"tool_calls", "function_call", "refusal", "audio"})
"""What an assistant's message may have in place of content."""
_Part = dict[str, Any]


def convert_message_to_dict(message: BaseMessage) -> dict[str, Any]:
    """One message in the chat dialect. Raises TypeError for a message that is none of a conversation."""
    if isinstance(message, AIMessage):
        return _assistant(message)
    result: dict[str, Any] = {"role": _role(message), "content": _content(message)}
    if isinstance(message, ToolMessage):
        result["tool_call_id"] = message.tool_call_id
    elif name := message.name or message.additional_kwargs.get("name"):
        result["name"] = name
    return result


def without_reasoning(sent: dict[str, Any]) -> dict[str, Any]:
    """A message's dict without what only its own provider can read: reasoning, and the proofs beside its calls."""
    kept = {key: value for key, value in sent.items() if key not in _OF_ITS_PROVIDER}
    if "tool_calls" in kept:
        kept["tool_calls"] = [
            {key: value for key, value in call.items() if key not in _OF_ITS_PROVIDER} for call in kept["tool_calls"]
        ]
    return kept


def _role(message: BaseMessage) -> str:
    match message:
        case ChatMessage():
            return message.role
        case HumanMessage():
            return "user"
        case SystemMessage():
            return str(message.additional_kwargs.get("__openai_role__", "system"))
        case ToolMessage():
            return "tool"
        case FunctionMessage():
            return "function"
    raise TypeError(f"a {type(message).__name__} cannot be sent to a chat model")


def _content(message: BaseMessage) -> str | list[_Part]:
    if isinstance(message.content, str):
        return message.content
    return [part for block in message.content for part in _parts(block)]


def _assistant(message: AIMessage) -> dict[str, Any]:
    additional = message.additional_kwargs
    result: dict[str, Any] = {"role": "assistant"}
    parts, found = _spoken(message)
    result["content"] = parts
    if name := message.name:
        result["name"] = name
    for key in _BACK:
        if value := additional.get(key) or found.get(key):
            result[key] = value
    calls = _calls(message)
    if calls:
        result["tool_calls"] = calls
    elif function_call := additional.get("function_call"):
        result["function_call"] = function_call
    audio = additional.get("audio") or found.get("audio")
    if isinstance(audio, dict) and audio.get("id"):
        result["audio"] = {"id": audio["id"]}
    if not result["content"] and not _INSTEAD.isdisjoint(result):
        result["content"] = None
    return result


def _spoken(message: AIMessage) -> tuple[str | list[_Part], dict[str, Any]]:
    """The content of an assistant's message, and what its blocks hold that is no content."""
    if isinstance(message.content, str):
        return message.content, {}
    parts: list[_Part] = []
    details: list[dict[str, Any]] = []
    found: dict[str, Any] = {}
    for block in message.content:
        inner = block.get("value", block) if isinstance(block, dict) and block.get("type") == "non_standard" else block
        if isinstance(inner, dict):
            if (detail := detail_of_block(inner)) is not None:
                details.append(detail)
                continue
            if inner.get("type") == "refusal":
                found["refusal"] = found.get("refusal", "") + text_of(inner.get("refusal"))
                continue
            if inner.get("type") == "audio" and inner.get("id"):
                found["audio"] = inner
                continue
        parts += _parts(block)
    text = "".join(text_of(detail.get("text") or detail.get("summary")) for detail in details)
    if text:
        found["reasoning_content"] = text
    if any(detail.keys() - {"type", "text", "summary"} for detail in details):
        found["reasoning_details"] = [{**detail, "index": place} for place, detail in enumerate(details)]
    if all(part.keys() == {"type", "text"} for part in parts):
        return "".join(part["text"] for part in parts), found
    return parts, found


def _calls(message: AIMessage) -> list[_Part]:
    extras = message.additional_kwargs.get("tool_call_extras") or {}
    said: list[tuple[str | None, str | None, str]] = [
        (call["id"], call["name"], json.dumps(call["args"], ensure_ascii=False)) for call in message.tool_calls
    ]
    said += [(call["id"], call["name"], call["args"] or "") for call in message.invalid_tool_calls]
    if not said:
        raw = message.additional_kwargs.get("tool_calls") or ()
        return [{key: call[key] for key in ("id", "type", "function") if key in call} for call in raw]
    calls = []
    for place, (identity, name, arguments) in enumerate(said):
        call: _Part = {"id": identity or f"call_{place}", "type": "function"}
        call["function"] = {"name": name or "", "arguments": arguments}
        calls.append({**call, **extras.get(identity, {})})
    return calls


def _parts(block: str | dict[Any, Any]) -> list[_Part]:
    """The parts of one block of content: one, or none."""
    if isinstance(block, str):
        return [{"type": "text", "text": block}]
    if block.get("type") == "non_standard":
        value = block.get("value")
        return _parts(value) if isinstance(value, dict) else []
    kind = block.get("type", "text" if "text" in block else None)
    if kind in _SKIPPED or detail_of_block(block) is not None:
        return []
    make = _MADE.get(text_of(kind))
    part = make(block) if make is not None else {key: value for key, value in block.items() if key != "index"}
    mark = block.get("cache_control") or (block.get("extras") or {}).get("cache_control")
    return [{**part, "cache_control": mark} if mark else part]


def _text(block: _Part) -> _Part:
    return {"type": "text", "text": text_of(block.get("text"))}


def _plain_text(block: _Part) -> _Part:
    """A text document: in the words of a file where its text is not here."""
    text = block.get("text")
    if not isinstance(text, str):
        encoded = block.get("base64")
        if not isinstance(encoded, str):
            return _file(block)
        text = base64.b64decode(encoded).decode("utf-8", errors="replace")
    return {"type": "text", "text": text}


def _image(block: _Part) -> _Part:
    url = _address(block)
    if url is None:
        identity = _identity(block)
        if identity is None:
            raise ValueError("an image block needs `url`, `base64` or `file_id`")
        return {"type": "file", "file": {"file_id": identity}}
    image: _Part = {"url": url}
    if detail := block.get("detail") or (block.get("extras") or {}).get("detail"):
        image["detail"] = detail
    return {"type": "image_url", "image_url": image}


def _audio(block: _Part) -> _Part:
    data = _data(block)
    if data is None:
        raise ValueError("an audio block needs `base64`: the chat dialect carries no address of a sound")
    subtype = _mime(block).partition("/")[2].partition(";")[0]
    return {"type": "input_audio", "input_audio": {"data": data, "format": _FORMATS.get(subtype, subtype)}}


def _file(block: _Part) -> _Part:
    if isinstance(block.get("file"), dict):  # the dialect's own
        return {"type": "file", "file": block["file"]}
    identity = _identity(block)
    if identity is not None:
        return {"type": "file", "file": {"file_id": identity}}
    url = _address(block)
    if url is None:
        raise ValueError("a file block needs `url`, `base64` or `file_id`")
    return {"type": "file", "file": {"file_data": url, "filename": _filename(block)}}


def _video(block: _Part) -> _Part:
    url = _address(block)
    if url is None:
        raise ValueError("a video block needs `url` or `base64`")
    return {"type": "video_url", "video_url": {"url": url}}


_MADE: Final = {
    "text": _text,
    "text-plain": _plain_text,
    "image": _image,
    "audio": _audio,
    "file": _file,
    "document": _file,
    "video": _video,
}
"""How a block of each type becomes a part. A type that is not here is passed on."""


def _source(block: _Part) -> _Part:
    """Anthropic's `source`, else the block itself."""
    source = block.get("source")
    return source if isinstance(source, dict) else block


def _data(block: _Part) -> str | None:
    """Base64 of a block: standard, older (`data`), or Anthropic's."""
    source = _source(block)
    data = source.get("base64") or source.get("data")
    return data if isinstance(data, str) else None


def _address(block: _Part) -> str | None:
    """Where the thing is: an address, or itself as a `data:` one."""
    url = _source(block).get("url")
    if isinstance(url, str):
        return url
    data = _data(block)
    return None if data is None else f"data:{_mime(block)};base64,{data}"


def _identity(block: _Part) -> str | None:
    source = _source(block)
    identity = source.get("file_id") or (source.get("id") if block.get("source_type") == "id" else None)
    return identity if isinstance(identity, str) else None


def _mime(block: _Part) -> str:
    source = _source(block)
    mime = source.get("mime_type") or source.get("media_type")
    if not isinstance(mime, str):
        raise ValueError(f"a block of type {block.get('type')!r} with base64 data needs `mime_type`")
    return mime


def _filename(block: _Part) -> str:
    """The file's name: some providers refuse a file without one."""
    for place in (block, block.get("extras"), block.get("metadata")):
        if isinstance(place, dict) and (name := place.get("filename") or place.get("name") or place.get("title")):
            return str(name)
    mime = _source(block).get("mime_type") or _source(block).get("media_type")
    return f"file.{_EXTENSIONS.get(text_of(mime), 'pdf')}"
