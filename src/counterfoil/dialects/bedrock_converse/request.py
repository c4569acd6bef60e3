"""A canonical request as a Converse body: the crossing from every other dialect.

Rule 1: tables say what becomes of a field; `Desk` says it to the client.
Rule 2: what Converse has no word for but the model's maker has (`makers.py`) goes into `additionalModelRequestFields`.
Rule 3: what asks for what happens anyway is left out without a word; everything else is refused or dropped by name.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from counterfoil.core.message import ToolCall
from counterfoil.core.operation import ChatRequest, Tool
from counterfoil.dialects.bedrock_converse.makers import Maker, maker_of
from counterfoil.dialects.bedrock_converse.thinking import write_thinking
from counterfoil.dialects.bedrock_converse.turns import Block, cache_point, system_and_turns
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Quirks, WrittenRequest
from counterfoil.dialects.schema import UNREADABLE, encode, given

__all__ = ["write_request"]

_OWN_FIELDS: Final = frozenset(
    {
        "additionalModelRequestFields",
        "additionalModelResponseFieldPaths",
        "guardrailConfig",
        "outputConfig",
        "performanceConfig",
        "promptVariables",
        "requestMetadata",
        "serviceTier",
    }
)
"""Fields of Converse without a canonical word: carried word for word, whoever says them. Of objects we write a part of,
the client's own keys stand."""

_SERVICE_TIERS: Final[Mapping[str, str]] = {
    "default": "default",
    "standard_only": "default",
    "flex": "flex",
    "priority": "priority",
    "reserved": "reserved",
}
_NEUTRAL: Final[Mapping[str, tuple[object, ...]]] = {
    "stream_options": (),
    "store": (False,),
    "modalities": (["text"],),
    "logit_bias": ({},),
    "verbosity": ("medium",),
    "functions": ([],),
    "web_search_options": (),
}
"""Values of chat fields that ask for what happens anyway, and are left out without a word."""
_ASKS_NOTHING: Final = frozenset(
    {
        "metadata",  # tags on completions that the provider stores; nothing is stored here
        "metadata.user_id",
        "prediction",  # makes a reply faster, never another one
        "prompt_cache_key",  # where to look for a cached prompt; caching here goes by cache points
        "prompt_cache_retention",
        "prompt_cache_options",
        "safety_identifier",
        "anthropic_version",
    }
)
"""Fields that cannot change the reply: left out, and named."""
_ALWAYS_SILENT: Final = frozenset({"stream_options"})
"""The gateway answers these itself."""
_NO_SUCH: Final = "Bedrock's Converse has no such parameter for this model"


def write_request(request: ChatRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The body, and what it leaves out. The model and the stream are in the path. Raises RequestError."""
    desk = Desk(drop)
    body = _body(request, model, quirks, desk)
    return WrittenRequest(encode(body), desk.dropped)


def _body(request: ChatRequest, model: str, quirks: Quirks, desk: Desk) -> Block:
    if request.n != 1:
        raise desk.refuse("n", "this model gives one choice only; ask n times")
    maker = maker_of(model)
    system, turns = system_and_turns(request.messages, maker, desk)
    body: Block = {"messages": turns}
    if system:
        body["system"] = system
    extra: Block = {}
    _write_inference(body, request, maker, desk)
    _write_tools(body, request, maker, desk)
    _write_makers_own(extra, request, maker, desk)
    write_thinking(body, extra, request, maker, quirks, desk)
    _write_format(body, request, desk)
    _write_tier(body, request, desk)
    _write_rest(body, extra, request, desk)
    if extra:
        body["additionalModelRequestFields"] = extra
    desk.leave_out(body, quirks.unsupported, _CLIENT_NAMES)
    return body


def _write_inference(body: Block, request: ChatRequest, maker: Maker, desk: Desk) -> None:
    written: Block = {}
    if request.max_output_tokens is not None:
        written["maxTokens"] = request.max_output_tokens
    for name, key, value in (("temperature", "temperature", request.temperature), ("top_p", "topP", request.top_p)):
        if value in (None, maker.unasked):
            continue
        if 0 <= value <= 1:
            written[key] = value
        else:
            desk.cannot(name, "Bedrock's Converse takes 0 to 1")
    stop = [sequence for sequence in request.stop if sequence.strip()]
    if len(stop) < len(request.stop):
        desk.cannot("stop", "a stop sequence must hold more than white space")
    if stop:
        written["stopSequences"] = stop
    if written:
        body["inferenceConfig"] = written


def _write_tools(body: Block, request: ChatRequest, maker: Maker, desk: Desk) -> None:
    choice = request.tool_choice
    tools: list[Block] = []
    for tool in request.tools:
        tools += _tool(tool, maker, desk)
    if not tools:
        if choice is not None and choice.mode in ("required", "named"):
            raise desk.refuse("tool_choice", "it asks for a tool and there is none in tools")
        if called := _called(request):
            body["toolConfig"] = {"tools": called}
        return  # none can be called anyway
    if choice is not None and choice.mode == "none":
        if not _has_calls(body):
            return  # the model knows no tool, so it calls none
        desk.cannot("tool_choice", "Bedrock's Converse cannot forbid tools where the conversation holds calls")
    elif request.parallel_tool_calls is False:
        desk.cannot("parallel_tool_calls", "Bedrock's Converse cannot forbid several calls at once")
    config: Block = {"tools": tools}
    match choice.mode if choice is not None else None:
        case "auto":
            config["toolChoice"] = {"auto": {}}
        case "required":
            config["toolChoice"] = {"any": {}}
        case "named":
            config["toolChoice"] = {"tool": {"name": choice.name if choice is not None else ""}}
        case "none" | None:
            pass
    body["toolConfig"] = config


def _called(request: ChatRequest) -> list[Block]:
    """The tools of a history whose request offers none, each once. Converse refuses calls and results without them
    ("The toolConfig field must be defined when using toolUse and toolResult content blocks"), and has no word that
    forbids a call: only the description can."""
    parts = (part for message in request.messages for part in message.parts)
    names = dict.fromkeys(part.name for part in parts if isinstance(part, ToolCall))
    schema = {"json": _NO_PARAMETERS}
    return [{"toolSpec": {"name": name, "description": _NOT_NOW, "inputSchema": schema}} for name in names]


def _has_calls(body: Block) -> bool:
    turns = body["messages"]
    assert isinstance(turns, list)  # noqa: S101 - made above
    return any("toolUse" in block or "toolResult" in block for turn in turns for block in turn["content"])


def _tool(tool: Tool, maker: Maker, desk: Desk) -> Sequence[Block]:
    if tool.opaque is not None:
        desk.cannot(f"tools.{tool.name}", "only the provider it comes from knows this tool")
        return ()
    schema: object = tool.parameters if tool.parameters is not None and given(tool.parameters) else _NO_PARAMETERS
    written: Block = {"name": tool.name}
    if tool.description:
        written["description"] = tool.description
    written["inputSchema"] = {"json": schema}
    if tool.strict:
        written["strict"] = True
    if tool.cache is None:
        return ({"toolSpec": written},)
    if not maker.caches:
        desk.name("cache_control")
        return ({"toolSpec": written},)
    return ({"toolSpec": written}, cache_point(tool.cache))


_NO_PARAMETERS: Final = {"type": "object", "properties": {}}
_NOT_NOW: Final = "It was called earlier in this conversation. It is not offered now: do not call it."


def _write_makers_own(extra: Block, request: ChatRequest, maker: Maker, desk: Desk) -> None:
    """Fields that Converse lacks, where the model's maker has them."""
    if request.top_k is not None:
        if not maker.top_k:
            desk.cannot("top_k", _NO_SUCH)
        else:
            *outer, last = maker.top_k
            held = extra
            for name in outer:
                held = held.setdefault(name, {})  # type: ignore[assignment]  # only objects of our own making
            held[last] = request.top_k
    unsaid: tuple[tuple[str, object, Sequence[object]], ...] = (
        ("seed", request.seed, (None,)),
        ("presence_penalty", request.presence_penalty, (None, 0)),
        ("frequency_penalty", request.frequency_penalty, (None, 0)),
        ("logprobs", request.logprobs, (None, False)),
        ("top_logprobs", request.top_logprobs, (None, 0)),
    )
    for name, value, neutral in unsaid:
        if value in neutral:
            continue
        if name in maker.fields:
            extra[name] = value
        else:
            desk.cannot(name, _NO_SUCH)
    if request.user is not None:
        desk.name("user")


def _write_format(body: Block, request: ChatRequest, desk: Desk) -> None:
    """https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html; the schema is JSON text in JSON."""
    form = request.response_format
    if form is None or form.kind == "text":
        return
    if form.kind == "json_object" or form.schema is None:
        desk.cannot("response_format", "Bedrock's Converse has no schemaless JSON mode; use json_schema")
        return
    schema: Block = {"schema": bytes(form.schema).decode("utf-8", "replace")}
    if form.name:
        schema["name"] = form.name
    if form.description:
        schema["description"] = form.description
    config = body.get("outputConfig")
    written = {"type": "json_schema", "structure": {"jsonSchema": schema}}
    body["outputConfig"] = {**(config if isinstance(config, dict) else {}), "textFormat": written}


def _write_tier(body: Block, request: ChatRequest, desk: Desk) -> None:
    if request.service_tier in (None, "auto"):
        return
    tier = _SERVICE_TIERS.get(request.service_tier or "")
    if tier is None:
        desk.cannot("service_tier", f"it must be one of auto, {', '.join(_SERVICE_TIERS)}")
    else:
        body["serviceTier"] = {"type": tier}


def _write_rest(body: Block, extra: Block, request: ChatRequest, desk: Desk) -> None:
    """Every field without a canonical word, by the tables above."""
    for name, raw in request.rest.items():
        if not given(raw) or name in _ALWAYS_SILENT:
            continue
        if name == "additionalModelRequestFields":
            extra.update(_object(name, raw, desk))
        elif name in _OWN_FIELDS:
            held = body.get(name)
            body[name] = {**held, **_object(name, raw, desk)} if isinstance(held, dict) else raw
        elif name in _ASKS_NOTHING:
            desk.name(name)
        elif not (name in _NEUTRAL and _value(raw) in _NEUTRAL[name]):
            desk.cannot(name, _NO_SUCH)


def _object(name: str, raw: msgspec.Raw, desk: Desk) -> dict[str, msgspec.Raw]:
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except UNREADABLE:
        raise desk.refuse(name, "it must be an object") from None


def _value(raw: msgspec.Raw) -> object:
    return msgspec.json.decode(raw)


_CLIENT_NAMES: Final[Mapping[str, str]] = {
    "inferenceConfig.stopSequences": "stop",
    "inferenceConfig.temperature": "temperature",
    "inferenceConfig.topP": "top_p",
    "outputConfig.effort": "reasoning_effort",
    "outputConfig.textFormat": "response_format",
    "serviceTier": "service_tier",
    "toolConfig": "tools",
    "toolConfig.toolChoice": "tool_choice",
}
"""How a client knows what is left out."""
