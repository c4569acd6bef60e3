"""A canonical request as a chat body, for a client that speaks another dialect.

Rule 1: what chat has no words for is refused by name, or dropped by name where the operator chose so: never in silence.
Rule 2: what asks nothing of the reply (a cache mark, tags) is named as dropped and never refused.
Rule 3: a tool message is one text, which is all that every server reads. Its pictures are the user's, after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, assert_never

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
from counterfoil.core.operation import ChatRequest, ResponseFormat, Tool, ToolChoice
from counterfoil.dialects.desk import asks_nothing, cannot_be_carried
from counterfoil.dialects.dialect import Quirks, WrittenRequest
from counterfoil.dialects.effort import LONGEST_USER, NO_EFFORT, OPENAI_EFFORTS, effort_of_budget
from counterfoil.dialects.openai_chat.call_ids import with_ids_of_length
from counterfoil.dialects.openai_chat.history import DIALECT
from counterfoil.dialects.prefill import PREFILL, is_begun
from counterfoil.dialects.proof import format_of
from counterfoil.dialects.results import media_apart

__all__ = ["write_request"]

_CACHE_HINT: Final = "cache_control"
_TIERS: Final[Mapping[str, str | None]] = {
    "auto": None,  # which is what happens anyway, and many servers know no tiers
    "default": "default",
    "standard_only": "default",
    "flex": "flex",
    "scale": "scale",
    "priority": "priority",
}
_BUDGET: Final = "thinking.budget_tokens"
_ANYTHING: Final = "application/octet-stream"
_NO_PARAMETERS: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_ALWAYS: Final = frozenset({"model", "messages", "stream"})
_SAME_NAME: Final = (
    "parallel_tool_calls",
    "temperature",
    "top_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "user",
)
"""Fields that are called the same here and on the wire."""
_BESIDE_CONTENT: Final = ("name", "reasoning_content", "reasoning_details")
"""What a message carries beside its content, and some providers refuse (`messages.name` in `Quirks.unsupported`)."""


class _Lost:
    """What could not be carried, by name."""

    __slots__ = ("hints", "names")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.hints: list[str] = []

    def add(self, name: str) -> None:
        if name not in self.names:
            self.names.append(name)

    def leave(self, name: str) -> None:
        """It asks nothing of the reply, or something near it is asked instead: named, and never refused."""
        if name not in self.hints:
            self.hints.append(name)

    def hint(self, part: Text | Image | File | ToolCall | ToolResult | Tool) -> None:
        if part.cache is not None:
            self.leave(_CACHE_HINT)


def write_request(request: ChatRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The body for a chat provider, and the names of what it could not carry.

    `model` is the provider's name. Raises RequestError for what cannot be carried unless `drop`.
    """
    lost = _Lost()
    said: Sequence[Message] = request.messages
    if quirks.call_id_length is not None:
        said = with_ids_of_length(said, quirks.call_id_length)
    body: dict[str, Any] = {"model": model, "messages": _messages(media_apart(said, _is_text), lost)}
    if is_begun(request.messages):
        lost.leave(PREFILL)
        if quirks.prefix:
            body["messages"][-1]["prefix"] = True
    _tools(request, body, lost)
    for name in _SAME_NAME:
        value = getattr(request, name)
        if value is not None:
            body[name] = value
    bound = quirks.default_max_tokens if request.max_output_tokens is None else request.max_output_tokens
    if bound is not None:
        body[quirks.max_tokens_field] = bound
    if request.stop:
        body["stop"] = list(request.stop)
    if request.n != 1:
        body["n"] = request.n
    if request.response_format is not None:
        body["response_format"] = _format(request.response_format)
    _wishes(request, body, quirks, lost)
    if request.user is not None and len(request.user) > LONGEST_USER:
        del body["user"]
        lost.leave("user")
    for name in request.rest:
        (lost.leave if asks_nothing(name) else lost.add)(name)
    for name in [name for name in body if name in quirks.unsupported and name not in _ALWAYS]:
        del body[name]
        (lost.leave if name == "user" else lost.add)(name)
    _without(body["messages"], quirks.unsupported, lost)
    if request.stream:
        body["stream"] = True
        if quirks.stream_options:
            more = {"continuous_usage_stats": True} if quirks.continuous_usage else {}
            body["stream_options"] = {"include_usage": True, **more}
    if lost.names and not drop:
        raise cannot_be_carried(lost.names, "its chat API does not take it")
    return WrittenRequest(msgspec.json.encode(body), (*lost.names, *lost.hints))


def _wishes(request: ChatRequest, body: dict[str, Any], quirks: Quirks, lost: _Lost) -> None:
    """Fields that chat has in part."""
    if request.top_k is not None:
        lost.add("top_k")
    if request.service_tier is not None:
        tier = _TIERS.get(request.service_tier)
        if tier is not None:
            body["service_tier"] = tier
        elif request.service_tier not in _TIERS:
            lost.add("service_tier")
    wish = request.reasoning
    if wish is None:
        return
    if wish.effort is not None:
        body["reasoning_effort"] = OPENAI_EFFORTS.get(wish.effort, wish.effort)
    elif wish.enabled is False and quirks.effort_none:
        body["reasoning_effort"] = NO_EFFORT
    elif wish.enabled is False:
        lost.leave("thinking")
    elif wish.budget_tokens is not None:
        body["reasoning_effort"] = effort_of_budget(wish.budget_tokens)
    if wish.budget_tokens is not None:
        lost.leave(_BUDGET)


def _messages(messages: Iterable[Message], lost: _Lost) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "assistant":
            written.append(_named(_assistant(message.parts, lost), message))
            continue
        spoken: list[Part] = []
        role = "user" if message.role == "tool" else message.role
        for part in message.parts:
            if not isinstance(part, ToolResult):
                spoken.append(part)
                continue
            if spoken:
                written.append(_named({"role": role, "content": _content(spoken, lost)}, message))
                spoken = []
            written.append(_result(part, lost))
        if spoken or not message.parts:
            written.append(_named({"role": role, "content": _content(spoken, lost)}, message))
    return written


def _without(messages: list[dict[str, Any]], unsupported: frozenset[str], lost: _Lost) -> None:
    """Leaves out of the history what the provider refuses in a message; each is named, and none asks anything."""
    for name in _BESIDE_CONTENT:
        if (place := f"messages.{name}") not in unsupported:
            continue
        for message in messages:
            if message.pop(name, None) is not None:
                lost.leave(place)


def _named(written: dict[str, Any], message: Message) -> dict[str, Any]:
    if message.name is not None:
        written["name"] = message.name
    return written


def _result(result: ToolResult, lost: _Lost) -> dict[str, Any]:
    """A tool message, which holds text only. Chat has no mark of an error, so the text says it."""
    lost.hint(result)
    texts = ["The tool failed:"] if result.is_error else []
    for part in result.parts:
        if isinstance(part, Text | File) and part.text is not None:
            lost.hint(part)
            texts.append(part.text)
        else:
            lost.add(f"tool_result.{_kind(part)}")
    return {"role": "tool", "tool_call_id": result.call_id, "content": "\n".join(texts)}


def _is_text(part: Part) -> bool:
    """Whether a part of a result can stay in it."""
    return isinstance(part, File) and part.text is not None


def _assistant(parts: Iterable[Part], lost: _Lost) -> dict[str, Any]:
    written: dict[str, Any] = {"role": "assistant", "content": None}
    spoken: list[Part] = []
    thought: list[str] = []
    details: list[dict[str, Any]] = []
    calls: list[Any] = []
    for part in parts:
        if isinstance(part, Reasoning):
            thought.append(part.text)
            if part.signature is not None:
                proof = {"type": "reasoning.text", "text": part.text, "signature": part.signature}
                details.append({**proof, "format": format_of(part.origin)})
        elif isinstance(part, RedactedReasoning):
            details.append({"type": "reasoning.encrypted", "data": part.data, "format": format_of(part.origin)})
        elif isinstance(part, ToolCall):
            lost.hint(part)
            function = {"name": part.name, "arguments": part.arguments}
            calls.append({"id": part.id, "type": "function", "function": function})
        elif isinstance(part, Opaque) and part.dialect == DIALECT and part.kind.startswith("tool_calls."):
            calls.append(part.raw)
        elif isinstance(part, Refusal):
            written["refusal"] = part.text
        else:
            spoken.append(part)
    if spoken or not calls:
        written["content"] = _content(spoken, lost)
    if thought:
        written["reasoning_content"] = "".join(thought)
    if details:
        written["reasoning_details"] = details
    if calls:
        written["tool_calls"] = calls
    return written


def _content(parts: list[Part], lost: _Lost) -> str | list[Any]:
    """A text alone is a string, which every server reads; anything else is a list of parts."""
    if not parts:
        return ""
    if len(parts) == 1 and isinstance(parts[0], Text):
        lost.hint(parts[0])
        return parts[0].text
    written = [_part(part, lost) for part in parts]
    return [part for part in written if part is not None]


def _part(part: Part, lost: _Lost) -> Mapping[str, Any] | msgspec.Raw | None:
    """One part on the wire; None, and its name noted, for what chat cannot say."""
    match part:
        case Text():
            lost.hint(part)
            return {"type": "text", "text": part.text}
        case Image():
            lost.hint(part)
            return _image(part, lost)
        case File():
            lost.hint(part)
            return _file(part, lost)
        case Audio():
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
        case Opaque():
            if part.dialect == DIALECT:
                return part.raw
            lost.add(part.kind)
            return None
        case Refusal():
            return {"type": "refusal", "refusal": part.text}
        case ToolCall() | ToolResult() | Reasoning() | RedactedReasoning():
            lost.add(_kind(part))
            return None
        case _:
            assert_never(part)


def _image(part: Image, lost: _Lost) -> Mapping[str, Any] | None:
    if part.url is not None:
        url = part.url
    elif part.data is not None:
        url = f"data:{part.media_type or _ANYTHING};base64,{part.data}"
    else:
        lost.add("image.file_id")
        return None
    shape = {"url": url} if part.detail is None else {"url": url, "detail": part.detail}
    return {"type": "image_url", "image_url": shape}


def _file(part: File, lost: _Lost) -> Mapping[str, Any] | None:
    if part.text is not None:
        return {"type": "text", "text": part.text}
    if part.file_id is not None:
        shape = {"file_id": part.file_id}
    elif part.data is not None:
        shape = {"file_data": f"data:{part.media_type or _ANYTHING};base64,{part.data}"}
    else:
        lost.add("file.url")
        return None
    return {"type": "file", "file": shape if part.name is None else {**shape, "filename": part.name}}


def _kind(part: Part) -> str:
    """A part's own word, for a person."""
    return part.kind if isinstance(part, Opaque) else str(type(part).__struct_config__.tag)


def _tools(request: ChatRequest, body: dict[str, Any], lost: _Lost) -> None:
    tools = []
    for tool in request.tools:
        lost.hint(tool)
        if tool.opaque is not None:
            lost.add(f"tools.{tool.name}")
            continue
        function: dict[str, Any] = {"name": tool.name}
        if tool.description is not None:
            function["description"] = tool.description
        function["parameters"] = _NO_PARAMETERS if tool.parameters is None else tool.parameters
        if tool.strict is not None:
            function["strict"] = tool.strict
        tools.append({"type": "function", "function": function})
    if tools:
        body["tools"] = tools
    if request.tool_choice is not None and tools:
        body["tool_choice"] = _choice(request.tool_choice)


def _choice(choice: ToolChoice) -> str | Mapping[str, Any]:
    if choice.mode == "named":
        return {"type": "function", "function": {"name": choice.name or ""}}
    return choice.mode


def _format(wish: ResponseFormat) -> Mapping[str, Any]:
    if wish.kind != "json_schema":
        return {"type": wish.kind}
    shape: dict[str, Any] = {"name": wish.name or "response"}
    if wish.description is not None:
        shape["description"] = wish.description
    if wish.schema is not None:
        shape["schema"] = wish.schema
    if wish.strict is not None:
        shape["strict"] = wish.strict
    return {"type": "json_schema", "json_schema": shape}
