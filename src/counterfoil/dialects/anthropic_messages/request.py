"""A client's request in this dialect: to the canonical words, or on to a provider of the same dialect.

Rule 1: strict. A wrong type is the client's error and names the field; no value of the request is quoted.
Rule 2: nothing is lost on the way. What the canonical words lack is an `Opaque` part, an opaque tool, or in `rest` by
its name ("thinking.display" for a field inside another), or named in `hints` where it asks nothing of the reply. The
one exception is `citations` of earlier replies: they are notes on what was said, not part of it.
Rule 3: to the same dialect only `model` changes, and what the provider wants otherwise by its quirks.

https://platform.claude.com/docs/en/api/messages/create
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal, TypeVar

import msgspec

from counterfoil.core.error import RequestError
from counterfoil.core.message import (
    CacheMark,
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
from counterfoil.core.operation import ChatRequest, ReasoningWish, ResponseFormat, Tool, ToolChoice
from counterfoil.dialects.anthropic_messages.hints import is_hint
from counterfoil.dialects.anthropic_messages.schema import as_provider_wants
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.proof import unseal
from counterfoil.dialects.refusal import refused
from counterfoil.dialects.schema import NOT_SENT, UNREADABLE, encode, fields_of, given

__all__ = ["DIALECT", "patch_request", "read_request"]

DIALECT: Final = "anthropic_messages"

_Value = TypeVar("_Value")


class _Turn(msgspec.Struct, frozen=True):
    role: Literal["user", "assistant", "system"]
    content: msgspec.Raw


class _CacheControl(msgspec.Struct, frozen=True):
    ttl: str | None = None


class _Source(msgspec.Struct, frozen=True):
    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None


class _Kind(msgspec.Struct, frozen=True):
    """All that is read of a block this gateway has no words for."""

    type: str


class _Block(msgspec.Struct, frozen=True):
    """A content block of one of the types in `_SPOKEN`."""

    type: str
    text: str | None = None
    source: _Source | None = None
    title: str | None = None
    context: msgspec.Raw = NOT_SENT
    citations: msgspec.Raw = NOT_SENT
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = NOT_SENT
    tool_use_id: str | None = None
    content: msgspec.Raw = NOT_SENT
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    cache_control: _CacheControl | None = None


class _Tool(msgspec.Struct, frozen=True):
    type: str | None = None
    name: str | None = None
    description: str | None = None
    input_schema: msgspec.Raw = NOT_SENT
    strict: bool | None = None
    cache_control: _CacheControl | None = None


class _ToolChoice(msgspec.Struct, frozen=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Thinking(msgspec.Struct, frozen=True):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = None


class _Format(msgspec.Struct, frozen=True):
    type: Literal["json_schema"]
    schema: msgspec.Raw


class _OutputConfig(msgspec.Struct, frozen=True):
    effort: str | None = None
    format: _Format | None = None


class _Metadata(msgspec.Struct, frozen=True):
    user_id: str | None = None


def patch_request(body: bytes, model: str, quirks: Quirks, ask_usage: bool) -> bytes:
    """The client's body with the provider's model name. This dialect always sends usage, so nothing is asked."""
    return encode(as_provider_wants({**_request_fields(body), "model": model}, quirks))


def read_request(body: bytes, *, counted: bool = False) -> ChatRequest:
    """A client's body. `counted`: only its input is asked for, and no output bound is demanded. Raises RequestError."""
    fields = _request_fields(body)
    rest = {name: _kept(raw) for name, raw in fields.items() if name not in _READ and given(raw)}
    choice = _value(fields, "tool_choice", _ToolChoice)
    thinking = _value(fields, "thinking", _Thinking)
    config = _value(fields, "output_config", _OutputConfig) or _OutputConfig()
    older = _value(fields, "output_format", _Format)
    metadata = _value(fields, "metadata", _Metadata) or _Metadata()
    rest |= _inner(fields, "thinking", _Thinking) | _inner(fields, "output_config", _OutputConfig)
    rest |= _inner(fields, "metadata", _Metadata)
    tools, extra = _tools(fields)
    rest |= extra
    form = config.format or older
    return ChatRequest(
        model=_required(fields, "model", str),
        messages=tuple(_messages(fields)),
        tools=tools,
        tool_choice=None if choice is None else _tool_choice(choice),
        parallel_tool_calls=_parallel(choice),
        max_output_tokens=(_value if counted else _required)(fields, "max_tokens", int),
        temperature=_value(fields, "temperature", float),
        top_p=_value(fields, "top_p", float),
        top_k=_value(fields, "top_k", int),
        stop=_value(fields, "stop_sequences", tuple[str, ...]) or (),
        response_format=None if form is None else ResponseFormat("json_schema", schema=_kept(form.schema)),
        reasoning=_reasoning(thinking, config),
        user=metadata.user_id,
        service_tier=_value(fields, "service_tier", str),
        stream=_value(fields, "stream", bool) or False,
        stream_usage=True,
        rest={name: raw for name, raw in rest.items() if not is_hint(name, raw)},
        hints=tuple(name for name, raw in rest.items() if is_hint(name, raw)),
    )


_READ: Final = frozenset(
    {
        "model",
        "messages",
        "system",
        "tools",
        "tool_choice",
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "stop_sequences",
        "thinking",
        "output_config",
        "output_format",
        "metadata",
        "service_tier",
        "stream",
    }
)
"""Top-level fields that have canonical words."""


def _request_fields(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        return fields_of(body)
    except UNREADABLE as error:
        raise refused(error) from None


def _value(fields: Mapping[str, msgspec.Raw], name: str, shape: type[_Value]) -> _Value | None:
    """A field as its type; None when it is absent or null."""
    raw = fields.get(name)
    return None if raw is None or not given(raw) else _decoded(raw, shape, name)


def _required(fields: Mapping[str, msgspec.Raw], name: str, shape: type[_Value]) -> _Value:
    value = _value(fields, name, shape)
    if value is None:
        raise RequestError(f"{name}: this field is required", param=name)
    return value


def _decoded(raw: msgspec.Raw, shape: type[_Value], name: str) -> _Value:
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as error:  # its text names types and places, never values
        raise RequestError(f"{name}: {error}", param=name) from None
    except UNREADABLE:
        raise RequestError(f"{name}: this cannot be read", param=name) from None


def _kept(raw: msgspec.Raw) -> msgspec.Raw:
    """A value with its own bytes, so that it does not hold on to the whole body."""
    return msgspec.Raw(bytes(raw))


def _inner(fields: Mapping[str, msgspec.Raw], name: str, known: type[msgspec.Struct]) -> dict[str, msgspec.Raw]:
    """The fields inside `name` that have no canonical word, by their dotted names."""
    raw = fields.get(name)
    if raw is None or not given(raw):
        return {}
    extra = fields_of(raw).items()
    return {
        f"{name}.{key}": _kept(value) for key, value in extra if key not in known.__struct_fields__ and given(value)
    }


def _messages(fields: Mapping[str, msgspec.Raw]) -> Iterator[Message]:
    system = fields.get("system")
    if system is not None and given(system):
        yield Message("system", tuple(_parts(system, "system")))
    turns = _required(fields, "messages", list[_Turn])
    if not turns:
        raise RequestError("messages: at least one message is required", param="messages")
    for place, turn in enumerate(turns):
        yield from _split(turn.role, _parts(turn.content, f"messages.{place}.content"))


def _split(role: Literal["user", "assistant", "system"], parts: Iterable[Part]) -> Iterator[Message]:
    """A turn as messages: here tool results are said by the user, in the canonical words by the tool."""
    said: list[Part] = []
    split = False
    for part in parts:
        if isinstance(part, ToolResult):
            if said:
                yield Message(role, tuple(said))
            said, split = [], True
            yield Message("tool", (part,))
        else:
            said.append(part)
    if said or not split:
        yield Message(role, tuple(said))


def _parts(raw: msgspec.Raw, where: str) -> Iterator[Part]:
    """Content as parts: a text, or a list of blocks."""
    content = _decoded(raw, str | list[msgspec.Raw], where)  # type: ignore[arg-type]  # a union is a type to msgspec
    if isinstance(content, str):
        yield Text(content)
        return
    for place, item in enumerate(content):
        yield _part(item, f"{where}.{place}")


_SPOKEN: Final = frozenset({"text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"})
"""Block types that have canonical words."""


def _part(raw: msgspec.Raw, where: str) -> Part:
    kind = _decoded(raw, _Kind, where).type
    if kind not in _SPOKEN:
        return Opaque(DIALECT, kind, _kept(raw))
    block = _decoded(raw, _Block, where)
    cache = _cache(block.cache_control)
    match block.type:
        case "text":
            return Text(_need(block.text, where, "text"), cache)
        case "image":
            return _image(_need(block.source, where, "source"), cache, raw)
        case "document":
            return _document(block, _need(block.source, where, "source"), cache, raw)
        case "tool_use":
            arguments = bytes(block.input).decode() if given(block.input) else "{}"
            return ToolCall(_need(block.id, where, "id"), _need(block.name, where, "name"), arguments, cache)
        case "tool_result":
            parts = tuple(_parts(block.content, f"{where}.content")) if given(block.content) else ()
            return ToolResult(_need(block.tool_use_id, where, "tool_use_id"), parts, block.is_error or False, cache)
        case "thinking":
            proof, origin = unseal(block.signature or "")
            return Reasoning(_need(block.thinking, where, "thinking"), proof or None, origin)
        case "redacted_thinking":
            return RedactedReasoning(*unseal(_need(block.data, where, "data")))
        case _:
            raise AssertionError("every spoken type is read above")


def _need(value: _Value | None, where: str, name: str) -> _Value:
    if value is None:
        raise RequestError(f"{where}.{name}: this field is required", param=where)
    return value


def _cache(control: _CacheControl | None) -> CacheMark | None:
    return None if control is None else CacheMark(control.ttl)


def _image(source: _Source, cache: CacheMark | None, raw: msgspec.Raw) -> Part:
    match source.type:
        case "base64":
            return Image(data=source.data, media_type=source.media_type, cache=cache)
        case "url":
            return Image(url=source.url, cache=cache)
        case "file":
            return Image(file_id=source.file_id, cache=cache)
        case _:
            return Opaque(DIALECT, "image", _kept(raw))


def _document(block: _Block, source: _Source, cache: CacheMark | None, raw: msgspec.Raw) -> Part:
    if given(block.context) or given(block.citations):
        return Opaque(DIALECT, "document", _kept(raw))
    match source.type:
        case "base64":
            return File(data=source.data, media_type=source.media_type, name=block.title, cache=cache)
        case "text":
            return File(text=source.data, name=block.title, cache=cache)
        case "url":
            return File(url=source.url, name=block.title, cache=cache)
        case "file":
            return File(file_id=source.file_id, name=block.title, cache=cache)
        case _:
            return Opaque(DIALECT, "document", _kept(raw))


def _tools(fields: Mapping[str, msgspec.Raw]) -> tuple[tuple[Tool, ...], dict[str, msgspec.Raw]]:
    """The tools, and the fields of client tools that have no canonical word."""
    tools: list[Tool] = []
    extra: dict[str, msgspec.Raw] = {}
    for place, raw in enumerate(_value(fields, "tools", list[msgspec.Raw]) or ()):
        tool = _decoded(raw, _Tool, f"tools.{place}")
        if tool.type not in (None, "custom"):
            tools.append(Tool(tool.type or "", cache=_cache(tool.cache_control), opaque=_kept(raw)))
            continue
        schema = _kept(tool.input_schema) if given(tool.input_schema) else None
        name = _need(tool.name, f"tools.{place}", "name")
        tools.append(Tool(name, tool.description, schema, tool.strict, _cache(tool.cache_control)))
        extra |= _inner({"tools": raw}, "tools", _Tool)
    return tuple(tools), extra


_MODES: Final[Mapping[str, Literal["auto", "none", "required", "named"]]] = {
    "auto": "auto",
    "any": "required",
    "tool": "named",
    "none": "none",
}


def _tool_choice(choice: _ToolChoice) -> ToolChoice:
    if choice.type == "tool" and choice.name is None:
        raise RequestError("tool_choice.name: this field is required", param="tool_choice")
    return ToolChoice(_MODES[choice.type], choice.name)


def _parallel(choice: _ToolChoice | None) -> bool | None:
    if choice is None or choice.disable_parallel_tool_use is None:
        return None
    return not choice.disable_parallel_tool_use


def _reasoning(thinking: _Thinking | None, config: _OutputConfig) -> ReasoningWish | None:
    if thinking is None:
        return None if config.effort is None else ReasoningWish(effort=config.effort, free=True)
    free = thinking.type == "adaptive"
    return ReasoningWish(config.effort, thinking.budget_tokens, thinking.type != "disabled", free)
