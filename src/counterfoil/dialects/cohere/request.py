"""A canonical chat as a body for Cohere's v2 chat.

Rule 1: tables say what becomes of a field; `Desk` says it to the client.
Rule 2: what has the same meaning is carried, what asks for what happens anyway is left out without a word, and
everything else is refused or dropped by name.

https://docs.cohere.com/reference/chat
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from counterfoil.core.operation import ChatRequest, Tool
from counterfoil.dialects.cohere.turns import Block, turns_and_documents
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Quirks, WrittenRequest
from counterfoil.dialects.prefill import PREFILL, is_begun
from counterfoil.dialects.schema import UNREADABLE, encode, given

__all__ = ["BUDGETS", "write_request"]

BUDGETS: Final[Mapping[str, int | None]] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": None,
    "xhigh": None,
    "max": None,
}
"""reasoning_effort -> thinking.token_budget. Cohere has no words of effort; without a budget its models think as long
as they like (https://docs.cohere.com/docs/reasoning), and the steps below that are ours."""
_NO_REASONING: Final = "none"

_WIDEST_P: Final = 0.99
"""The API takes p from 0.01 to 0.99, and 0.75 when nothing is said: top_p 1, which chat clients send to ask for no cut,
is sent as the widest."""

_OWN_FIELDS: Final = frozenset({"citation_options", "documents", "priority", "safety_mode", "strict_tools", "thinking"})
"""Fields the API documents that have no canonical word: carried word for word, whoever says them."""
_NEUTRAL: Final[Mapping[str, tuple[object, ...]]] = {
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "store": (False,),
    "verbosity": ("medium",),
}
"""Values of chat fields that ask for what happens anyway."""
_ASKS_NOTHING: Final = frozenset(
    {"metadata", "prediction", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "user"}
)
"""Chat fields that cannot change the reply: left out, and named."""
_TIERS: Final = frozenset({"auto", "default", "standard_only"})
_NO_PARAMETERS: Final = {"type": "object", "properties": {}}
_NO_WORD: Final = "Cohere's chat has no such parameter"


def write_request(request: ChatRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The body, and what it leaves out. Raises RequestError."""
    desk = Desk(drop)
    if request.n != 1:
        raise desk.refuse("n", "this model gives one choice only; ask n times")
    turns, documents = turns_and_documents(request.messages, desk)
    body: Block = {"model": model, "messages": turns}
    if is_begun(request.messages):
        desk.name(PREFILL)
    if documents:
        body["documents"] = documents
    _write_tools(body, request, desk)
    _write_thinking(body, request, desk)
    _write_format(body, request, desk)
    _write_sampling(body, request, desk)
    _write_rest(body, request, desk)
    desk.leave_out(body, quirks.unsupported)
    if request.stream:
        body["stream"] = True
    return WrittenRequest(encode(body), desk.dropped)


def _write_tools(body: Block, request: ChatRequest, desk: Desk) -> None:
    tools = [_tool(tool, desk) for tool in request.tools if _known(tool, desk)]
    if tools:
        body["tools"] = tools
    strict = {bool(tool.strict) for tool in request.tools if tool.opaque is None}
    if strict == {True}:
        body["strict_tools"] = True
    elif True in strict:
        desk.cannot("tools.strict", "Cohere holds all tools to their schemas or none")
    if request.parallel_tool_calls is False:
        desk.cannot("parallel_tool_calls", "Cohere's models may always call several tools at once")
    choice = request.tool_choice
    if choice is None or choice.mode == "auto":
        return
    if not tools:
        if choice.mode != "none":
            raise desk.refuse("tool_choice", "it asks for a tool and there is none in tools")
        return
    names = [tool.name for tool in request.tools]
    if choice.mode == "named" and names != [choice.name]:
        desk.cannot("tool_choice", "Cohere can be made to call a tool, not to call one of several")
        return
    body["tool_choice"] = "NONE" if choice.mode == "none" else "REQUIRED"


def _known(tool: Tool, desk: Desk) -> bool:
    if tool.cache is not None:
        desk.name("cache_control")
    if tool.opaque is not None:
        desk.cannot(f"tools.{tool.name}", "only the provider it comes from knows this tool")
    return tool.opaque is None


def _tool(tool: Tool, desk: Desk) -> Block:
    function: Block = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.parameters if given(tool.parameters) else _NO_PARAMETERS
    return {"type": "function", "function": function}


def _write_thinking(body: Block, request: ChatRequest, desk: Desk) -> None:
    wish = request.reasoning
    if wish is None or (wish.free and wish.effort is None):
        return  # models that can think do, where nothing is said
    if wish.enabled is False or wish.effort == _NO_REASONING:
        body["thinking"] = {"type": "disabled"}
        return
    budget = wish.budget_tokens
    if budget is None and wish.effort is not None:
        if wish.effort not in BUDGETS:
            desk.cannot("reasoning_effort", f"it must be one of {', '.join(BUDGETS)}, {_NO_REASONING}")
            return
        budget = BUDGETS[wish.effort]
    body["thinking"] = {"type": "enabled", **({} if budget is None else {"token_budget": budget})}


def _write_format(body: Block, request: ChatRequest, desk: Desk) -> None:
    form = request.response_format
    if form is None or form.kind == "text":
        return
    if form.kind == "json_schema" and form.schema is None:
        desk.cannot("response_format", "a JSON schema is asked for and there is none")
        return
    schema = {"json_schema": form.schema} if form.schema is not None else {}
    body["response_format"] = {"type": "json_object", **schema}


def _write_sampling(body: Block, request: ChatRequest, desk: Desk) -> None:
    carried: tuple[tuple[str, object], ...] = (
        ("max_tokens", request.max_output_tokens),
        ("temperature", request.temperature),
        ("k", request.top_k),
        ("stop_sequences", list(request.stop) or None),
        ("seed", request.seed),
        ("logprobs", request.logprobs or None),
    )
    body.update((name, value) for name, value in carried if value is not None)
    if request.top_p is not None:
        if 0.01 <= request.top_p <= 1:
            body["p"] = min(request.top_p, _WIDEST_P)
        else:
            desk.cannot("top_p", "Cohere takes 0.01 to 0.99")
    penalties: Sequence[tuple[str, float | None]] = (
        ("presence_penalty", request.presence_penalty),
        ("frequency_penalty", request.frequency_penalty),
    )
    for name, penalty in penalties:
        if penalty and not 0 <= penalty <= 1:
            desk.cannot(name, "Cohere takes 0 to 1")
        elif penalty:  # some models refuse both at once, were one of them the default 0
            body[name] = penalty
    if request.top_logprobs:
        desk.cannot("top_logprobs", "Cohere tells the chosen token's only")
    if request.service_tier not in (None, *_TIERS):
        desk.cannot("service_tier", _NO_WORD)
    if request.user is not None:
        desk.name("user")


def _write_rest(body: Block, request: ChatRequest, desk: Desk) -> None:
    """Every field without a canonical word, by the tables above."""
    for name, raw in request.rest.items():
        if not given(raw):
            continue
        if name == "documents" and "documents" in body:
            body[name] = [*_list(raw, desk), *_list(msgspec.Raw(encode(body[name])), desk)]
        elif name in _OWN_FIELDS:
            body.setdefault(name, raw)
        elif name in _ASKS_NOTHING:
            desk.name(name)
        elif not (name in _NEUTRAL and msgspec.json.decode(raw) in _NEUTRAL[name]):
            desk.cannot(name, _NO_WORD)


def _list(raw: msgspec.Raw, desk: Desk) -> list[msgspec.Raw]:
    try:
        return msgspec.json.decode(raw, type=list[msgspec.Raw])
    except UNREADABLE:
        raise desk.refuse("documents", "a list is expected") from None
