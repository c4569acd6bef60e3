"""A canonical request as a body for a Responses provider: the crossing from every other dialect.

Rule 1: tables say what becomes of a field; `Desk` says it to the client.
Rule 2: nothing is stored at the provider (`store: false`): the history comes from the client each time, and so do the
proofs of reasoning, which are asked for.
Rule 3: a default that differs from the other dialects' is written out: functions are strict here unless they say not.

https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from counterfoil.core.operation import ChatRequest, Tool, ToolChoice
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Quirks, WrittenRequest
from counterfoil.dialects.effort import LONGEST_USER, NO_EFFORT, OPENAI_EFFORTS, effort_of_budget
from counterfoil.dialects.openai_responses.input_write import CACHE_HINT, Block, instructions_and_input
from counterfoil.dialects.prefill import PREFILL, is_begun
from counterfoil.dialects.schema import UNREADABLE, encode, fields_of, given

__all__ = ["OWN_TOOLS", "write_request"]

_NO_WORD: Final = "the Responses API has no such parameter"
_NO_PARAMETERS: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_ENCRYPTED: Final = "reasoning.encrypted_content"
"""In `Quirks.unsupported` for models that do not reason: OpenAI answers 400 when they are asked for it."""
_LOGPROBS: Final = "message.output_text.logprobs"

OWN_TOOLS: Final = frozenset(
    {
        "apply_patch",
        "code_interpreter",
        "computer",
        "computer_use_preview",
        "custom",
        "file_search",
        "image_generation",
        "local_shell",
        "mcp",
        "namespace",
        "programmatic_tool_calling",
        "shell",
        "tool_search",
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
        "x_search",  # https://docs.x.ai/docs/guides/tools/search-tools
    }
)
"""Types of tools that servers of this dialect know beside functions."""

_TIERS: Final[Mapping[str, str]] = {
    "auto": "auto",
    "default": "default",
    "flex": "flex",
    "scale": "scale",
    "priority": "priority",
    "standard_only": "default",
}
_OWN_FIELDS: Final = frozenset(
    {
        "context_management",
        "include",
        "max_tool_calls",
        "metadata",
        "moderation",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "store",
        "truncation",
    }
)
"""Fields without a canonical word that mean the same here, whoever says them."""
_LISTS: Final = frozenset({"context_management"})
"""Those that are lists here, and something else in another dialect that has the word."""
_NEUTRAL: Final[Mapping[str, tuple[object, ...]]] = {
    "stream_options": (),
    "modalities": (["text"],),
    "logit_bias": ({},),
    "functions": ([],),
}
"""Values of other dialects' fields that ask for what happens anyway, and are left out without a word."""
_ALWAYS_SILENT: Final = frozenset({"stream_options"})
"""The gateway answers these itself."""
_ASKS_NOTHING: Final = frozenset({"prediction"})
"""Fields that cannot change the reply: left out, and named."""
_OURS: Final = frozenset({"store", "include", "instructions"})
"""Fields we write unasked: a provider that refuses one goes without."""
_ALWAYS: Final = frozenset({"model", "input", "stream"})


def write_request(request: ChatRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The body, and what it leaves out. Raises RequestError."""
    desk = Desk(drop)
    _refuse_what_has_no_word(request, desk)
    apart = "instructions" not in quirks.unsupported
    instructions, items = instructions_and_input(request.messages, desk, apart=apart)
    body: Block = {"model": model, "input": items}
    if is_begun(request.messages):
        desk.name(PREFILL)
    if instructions is not None:
        body["instructions"] = instructions
    _write_tools(body, request, desk)
    _write_reasoning(body, request, quirks, desk)
    _write_text(body, request)
    _write_sampling(body, request, quirks, desk)
    body["store"] = False
    wanted = {_ENCRYPTED: _ENCRYPTED not in quirks.unsupported, _LOGPROBS: bool(request.logprobs)}
    if any(wanted.values()):
        body["include"] = [name for name, asked in wanted.items() if asked]
    _write_rest(body, request, desk)
    if request.stream:
        body["stream"] = True
    _leave_out_unsupported(body, request, quirks, desk)
    return WrittenRequest(encode(body), desk.dropped)


def _refuse_what_has_no_word(request: ChatRequest, desk: Desk) -> None:
    if request.n != 1:
        raise desk.refuse("n", "this model gives one choice only; ask n times")
    unsaid: tuple[tuple[str, object, tuple[object, ...]], ...] = (
        ("seed", request.seed, (None,)),
        ("stop", request.stop, ((),)),
        ("top_k", request.top_k, (None,)),
        ("presence_penalty", request.presence_penalty, (None, 0)),
        ("frequency_penalty", request.frequency_penalty, (None, 0)),
    )
    for name, value, neutral in unsaid:
        if value not in neutral:
            desk.cannot(name, _NO_WORD)


def _write_tools(body: Block, request: ChatRequest, desk: Desk) -> None:
    tools = [found for tool in request.tools if (found := _tool(tool, desk)) is not None]
    choice = request.tool_choice
    if not tools:
        if choice is not None and choice.mode in ("required", "named"):
            raise desk.refuse("tool_choice", "it asks for a tool and there is none in tools")
        return
    body["tools"] = tools
    if choice is not None:
        body["tool_choice"] = _choice(choice)
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls


def _tool(tool: Tool, desk: Desk) -> object:
    if tool.cache is not None:
        desk.name(CACHE_HINT)
    if tool.opaque is not None:
        if tool.name in OWN_TOOLS:
            return _own_tool(tool.opaque)
        desk.cannot(f"tools.{tool.name}", "only the provider it comes from knows this tool")
        return None
    written: Block = {"type": "function", "name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    written["parameters"] = (
        tool.parameters if tool.parameters is not None and given(tool.parameters) else _NO_PARAMETERS
    )
    written["strict"] = bool(tool.strict)
    return written


def _own_tool(raw: msgspec.Raw) -> object:
    """A tool of this wire word for word; chat's custom tool, whose definition lies one level deeper, put flat.
    https://platform.openai.com/docs/api-reference/chat/create#chat-create-tools"""
    try:
        fields = fields_of(raw)
        inner = fields_of(fields.pop("custom")) if "custom" in fields and "name" not in fields else None
    except UNREADABLE:
        return raw
    return raw if inner is None else {**fields, **inner}


def _choice(choice: ToolChoice) -> object:
    return {"type": "function", "name": choice.name or ""} if choice.mode == "named" else choice.mode


def _write_reasoning(body: Block, request: ChatRequest, quirks: Quirks, desk: Desk) -> None:
    wish = request.reasoning
    if wish is None:
        return
    if wish.effort is not None:
        body["reasoning"] = {"effort": OPENAI_EFFORTS.get(wish.effort, wish.effort)}
    elif wish.enabled is False and quirks.effort_none:
        body["reasoning"] = {"effort": NO_EFFORT}
    elif wish.enabled is False:
        desk.name("thinking")
    elif wish.budget_tokens is not None:
        body["reasoning"] = {"effort": effort_of_budget(wish.budget_tokens)}
    if wish.budget_tokens is not None:
        desk.name("thinking.budget_tokens")  # this API takes an effort, and the nearest one is asked for


def _write_text(body: Block, request: ChatRequest) -> None:
    form = request.response_format
    if form is None or form.kind == "text":
        return
    written: Block = {"type": form.kind}
    if form.kind == "json_schema":
        written["name"] = form.name or "response"
        if form.description is not None:
            written["description"] = form.description
        written["schema"] = form.schema if form.schema is not None else {}
        if form.strict is not None:
            written["strict"] = form.strict
    body["text"] = {"format": written}


def _write_sampling(body: Block, request: ChatRequest, quirks: Quirks, desk: Desk) -> None:
    bound = quirks.default_max_tokens if request.max_output_tokens is None else request.max_output_tokens
    if bound is not None:
        body["max_output_tokens"] = bound
    for name in ("temperature", "top_p", "top_logprobs", "user"):
        value = getattr(request, name)
        if name == "user" and value is not None and len(value) > LONGEST_USER:
            desk.name(name)
        elif value is not None:
            body[name] = value
    if request.service_tier is not None:
        tier = _TIERS.get(request.service_tier)
        if tier is None:
            desk.cannot("service_tier", f"it must be one of {', '.join(_TIERS)}")
        else:
            body["service_tier"] = tier


def _write_rest(body: Block, request: ChatRequest, desk: Desk) -> None:
    """Every field without a canonical word, by the tables above."""
    for name, raw in request.rest.items():
        if not given(raw) or name in _ALWAYS_SILENT:
            continue
        if name == "verbosity":
            held = body.get("text")
            body["text"] = {**(held if isinstance(held, dict) else {}), "verbosity": raw}
        elif name == "include":
            body["include"] = _included(body.get("include"), raw)
        elif name in _OWN_FIELDS and not (name in _LISTS and bytes(raw)[:1] != b"["):
            body[name] = raw if name == "store" else body.get(name, raw)
        elif name in _ASKS_NOTHING:
            desk.name(name)
        elif not (name in _NEUTRAL and msgspec.json.decode(raw) in _NEUTRAL[name]):
            desk.cannot(name, _NO_WORD)


def _included(ours: object, raw: msgspec.Raw) -> object:
    """What we ask to be included, and what the client asks."""
    try:
        asked = msgspec.json.decode(raw, type=list[str])
    except UNREADABLE:
        return raw  # the provider says what is wrong with it
    return list(dict.fromkeys([*(ours if isinstance(ours, list) else ()), *asked]))


def _leave_out_unsupported(body: Block, request: ChatRequest, quirks: Quirks, desk: Desk) -> None:
    """Fields of this dialect that the provider or the model refuses; what we wrote unasked goes without a word."""
    for name in sorted(quirks.unsupported - _ALWAYS):
        if name not in body:
            continue
        if name not in _OURS or name in request.rest:
            desk.cannot(name, "the provider refuses it for this model")
        del body[name]
