"""A canonical chat as a body of `/api/chat`.

Rule 1: a message is its texts, its pictures, what was thought and what was called; their order among each other has no
place in this API.
Rule 2: results of tools are known by the name of the tool, which is looked up by the call's id.

https://docs.ollama.com/api/chat, https://docs.ollama.com/capabilities/tool-calling, .../capabilities/thinking
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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
from counterfoil.core.operation import ChatRequest, ReasoningWish, ResponseFormat, Tool
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Quirks, WrittenRequest
from counterfoil.dialects.effort import effort_of_budget
from counterfoil.dialects.ollama.options import Body, only_text
from counterfoil.dialects.prefill import PREFILL, is_begun
from counterfoil.dialects.schema import UNREADABLE, encode

__all__ = ["write_chat"]

_LACKS: Final = "Ollama has no such parameter"
_CACHE: Final = "cache_control"
_LEVELS: Final[Mapping[str, str]] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
"""Efforts, and the nearest of the three levels that the documentation names."""
_NO_PARAMETERS: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_DATA_URL: Final = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
_FAILED: Final = "The tool failed:"
"""Before the result of a tool that failed: this API has no mark for it."""


def write_chat(request: ChatRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The body, and what it leaves out. Raises RequestError."""
    desk = Desk(drop)
    body = Body(model, quirks, desk)
    if request.n != 1:
        raise desk.refuse("n", "this model gives one choice only; ask n times")
    body.put("messages", _messages(request.messages, desk))
    if is_begun(request.messages):
        desk.name(PREFILL)
    _write_tools(body, request, desk)
    body.put("response_format", _format(request.response_format), at="format")
    body.put("reasoning_effort", _think(request.reasoning, desk), at="think")
    body.put("logprobs", request.logprobs)
    body.put("top_logprobs", request.top_logprobs)
    bound = quirks.default_max_tokens if request.max_output_tokens is None else request.max_output_tokens
    body.option("max_tokens", bound, at="num_predict")
    for name in ("temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty"):
        body.option(name, getattr(request, name))
    body.option("stop", list(request.stop) or None)
    body.unless("service_tier", request.service_tier, (None, "auto", "default", "standard_only"), _LACKS)
    if request.user is not None:
        desk.name("user")
    body.rest(request.rest)
    return WrittenRequest(encode(body.written(request.stream)), desk.dropped)


def _write_tools(body: Body, request: ChatRequest, desk: Desk) -> None:
    choice = request.tool_choice
    if choice is not None and choice.mode in ("required", "named"):
        desk.cannot("tool_choice", "Ollama's models choose their tools themselves")
    body.unless("parallel_tool_calls", request.parallel_tool_calls, (None, True), _LACKS)
    if choice is not None and choice.mode == "none":
        return  # a tool that is not there is not called
    body.put("tools", [_tool(tool, desk) for tool in request.tools if _known(tool, desk)] or None)


def _known(tool: Tool, desk: Desk) -> bool:
    if tool.opaque is not None:
        desk.cannot(f"tools.{tool.name}", "only the provider it comes from knows this tool")
    return tool.opaque is None


def _tool(tool: Tool, desk: Desk) -> Mapping[str, Any]:
    if tool.cache is not None:
        desk.name(_CACHE)
    if tool.strict:
        desk.name("tools.strict")
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": {**function, "parameters": tool.parameters or _NO_PARAMETERS}}


def _format(wish: ResponseFormat | None) -> str | msgspec.Raw | None:
    """`format`: the schema itself, or that it be JSON."""
    if wish is None or wish.kind == "text":
        return None
    return wish.schema if wish.kind == "json_schema" and wish.schema is not None else "json"


def _think(wish: ReasoningWish | None, desk: Desk) -> bool | str | None:
    """`think`: a level, on, or off. A level that a model does not know falls back to its own, so only those that the
    documentation names are sent."""
    if wish is None:
        return None
    if wish.effort is not None:
        if wish.effort in _LEVELS:
            return _LEVELS[wish.effort]
        if wish.effort != "none":
            desk.cannot("reasoning_effort", f"it must be one of {', '.join(_LEVELS)}, none")
        return False if wish.effort == "none" else None
    if wish.budget_tokens is not None and wish.enabled is not False:
        desk.name("thinking.budget_tokens")  # this API takes a level, and the nearest one is asked for
        return effort_of_budget(wish.budget_tokens)
    return None if wish.free else wish.enabled


def _messages(messages: Iterable[Message], desk: Desk) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    """Tools by the id of their calls."""
    for message in messages:
        if message.name is not None:
            desk.name("messages.name")
        spoken: list[Part] = []
        for part in message.parts:
            if isinstance(part, ToolResult):
                written += _said("user" if message.role == "tool" else message.role, spoken, desk)
                spoken = []
                written.append(_result(part, names, desk))
                continue
            if isinstance(part, ToolCall):
                names[part.id] = part.name
            spoken.append(part)
        written += _said("user" if message.role == "tool" else message.role, spoken, desk)
    return written


def _said(role: str, parts: list[Part], desk: Desk) -> list[dict[str, Any]]:
    """What one message says; none for no parts."""
    if not parts:
        return []
    texts: list[str] = []
    thought: list[str] = []
    pictures: list[str] = []
    calls: list[Mapping[str, Any]] = []
    for part in parts:
        if getattr(part, "cache", None) is not None:
            desk.name(_CACHE)
        match part:
            case Text(text=text) | Refusal(text=text):
                texts.append(text)
            case Reasoning():
                thought.append(part.text)
            case RedactedReasoning():
                pass  # a proof for another provider
            case Image():
                pictures.append(_picture(part, desk))
            case File():
                texts.append(_file(part, desk))
            case Audio():
                raise desk.refuse("messages.input_audio", "Ollama takes no audio; send a transcript as text")
            case ToolCall():
                calls.append(_call(part, desk))
            case Opaque():
                desk.cannot(f"messages.{part.kind}", "only the provider it comes from knows this part")
            case ToolResult():
                raise AssertionError("results are messages of their own")
            case _:
                assert_never(part)
    message: dict[str, Any] = {"role": "system" if role == "developer" else role, "content": only_text(texts)}
    more = {"thinking": "".join(thought), "images": pictures, "tool_calls": calls}
    return [message | {name: value for name, value in more.items() if value}]


def _result(result: ToolResult, names: Mapping[str, str], desk: Desk) -> dict[str, Any]:
    parts: list[Part] = [Text(_FAILED), *result.parts] if result.is_error else list(result.parts)
    if result.cache is not None:
        desk.name(_CACHE)
    said = _said("tool", parts, desk) or [{"role": "tool", "content": ""}]
    named = {"tool_name": names[result.call_id]} if result.call_id in names else {}
    return {**said[0], **named, "tool_call_id": result.call_id}


def _call(call: ToolCall, desk: Desk) -> Mapping[str, Any]:
    """A call with its arguments as an object: they are text on other wires."""
    arguments = call.arguments.strip() or "{}"
    try:
        msgspec.json.decode(arguments, type=dict)
    except UNREADABLE:
        raise desk.refuse("messages", f"the arguments of tool call {call.id!r} are not a JSON object") from None
    return {"id": call.id, "function": {"name": call.name, "arguments": msgspec.Raw(arguments.encode())}}


def _picture(image: Image, desk: Desk) -> str:
    if image.detail not in (None, "auto"):
        desk.name("messages.image_url.detail")
    if image.data is not None:
        return image.data
    found = _DATA_URL.match(image.url or "")
    if image.url is None or found is None:
        raise desk.refuse("messages.image_url", "Ollama fetches no pictures; send the picture itself as base64")
    return image.url[found.end() :]


def _file(file: File, desk: Desk) -> str:
    if file.text is None:
        raise desk.refuse("messages.file", "Ollama reads no documents; send their text")
    return file.text
