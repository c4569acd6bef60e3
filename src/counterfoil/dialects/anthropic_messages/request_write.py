"""A canonical request as a body for a provider of this dialect: the crossing from every other dialect.

Rule 1: tables say what becomes of a field; `Desk` says it to the client.
Rule 2: what has the same meaning is carried, what equals the provider's default is left out without a word, and
everything else is refused or dropped by name.

https://platform.claude.com/docs/en/api/messages/create
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from counterfoil.core.operation import ChatRequest, ReasoningWish, Tool
from counterfoil.dialects.anthropic_messages.schema import as_provider_wants
from counterfoil.dialects.anthropic_messages.turns import Block, system_and_turns
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Quirks, WrittenRequest
from counterfoil.dialects.schema import UNREADABLE, encode, given

__all__ = ["ADAPTIVE_THINKING", "BUDGETS", "DEFAULT_MAX_TOKENS", "EFFORTS", "write_request"]

DEFAULT_MAX_TOKENS: Final = 4096
"""Written where neither the client nor the quirks give a bound: the field is required."""

ADAPTIVE_THINKING: Final = "thinking.adaptive"
"""In `Quirks.unsupported` for models that know only `thinking.budget_tokens` (Claude 4.5 and older)."""

EFFORTS: Final[Mapping[str, str]] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}
"""reasoning_effort -> output_config.effort. https://platform.claude.com/docs/en/build-with-claude/effort"""

BUDGETS: Final[Mapping[str, int]] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 32768,
    "max": 32768,
}
"""reasoning_effort -> thinking.budget_tokens, for models without effort. The vendor names no such table; 1024 is the
least it takes, and doubling steps are ours."""
_LEAST_BUDGET: Final = 1024
_NO_REASONING: Final = "none"

_SERVICE_TIERS: Final[Mapping[str, str]] = {
    "auto": "auto",
    "default": "standard_only",
    "standard_only": "standard_only",
}
_USER_LIMIT: Final = 256
_SERVER_TOOL: Final = re.compile(r".+_\d{8}|mcp_toolset")
"""Types of this dialect's own tools carry a date (web_search_20250305)."""

_OWN_FIELDS: Final = frozenset(
    {
        "anthropic_beta",
        "anthropic_version",
        "cache_control",
        "container",
        "context_management",
        "fallback_credit_token",
        "fallbacks",
        "inference_geo",
        "mcp_servers",
        "speed",
        "thinking",
    }
)
"""Fields the API documents (and Vertex adds) that have no canonical word: carried word for word, whoever says them."""
_OWN_INNER: Final = ("thinking", "output_config", "metadata")
"""Objects of the body into which a dotted name of `rest` goes back."""

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
        "prediction",  # makes a reply faster, never another one
        "prompt_cache_key",  # where to look for a cached prompt; caching here goes by content
        "prompt_cache_retention",
        "prompt_cache_options",
    }
)
"""Chat fields that cannot change the reply: left out, and named."""
_ALWAYS_SILENT: Final = frozenset({"stream_options"})
"""The gateway answers these itself."""

_UNASKED: Final = 1
"""Temperature and `top_p` where nobody says them. Clients of other APIs send both with this value; Claude refuses both
at once since 4.1, and other values since 4.7 (https://platform.claude.com/docs/en/about-claude/models/migration-guide)."""


def write_request(request: ChatRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The body, and what it leaves out. Raises RequestError."""
    desk = Desk(drop)
    if request.n != 1:
        raise desk.refuse("n", "this model gives one choice only; ask n times")
    _refuse_what_has_no_word(request, desk)
    system, turns = system_and_turns(request.messages, desk)
    body: Block = {"model": model, "max_tokens": _bound(request, quirks), "messages": turns}
    if system:
        alone = len(system) == 1 and system[0].keys() == {"type", "text"}
        body["system"] = system[0]["text"] if alone else system
    _write_tools(body, request, desk)
    _write_thinking(body, request, quirks, desk)
    _write_format(body, request, desk)
    _write_sampling(body, request, desk)
    _write_user(body, request, desk)
    _write_rest(body, request, desk)
    if request.stream:
        body["stream"] = True
    desk.leave_out(body, quirks.unsupported - {ADAPTIVE_THINKING})
    return WrittenRequest(encode(as_provider_wants(body, quirks)), desk.dropped)


def _refuse_what_has_no_word(request: ChatRequest, desk: Desk) -> None:
    unsaid: tuple[tuple[str, object, Sequence[object]], ...] = (
        ("seed", request.seed, (None,)),
        ("presence_penalty", request.presence_penalty, (None, 0)),
        ("frequency_penalty", request.frequency_penalty, (None, 0)),
        ("logprobs", request.logprobs, (None, False)),
        ("top_logprobs", request.top_logprobs, (None, 0)),
    )
    for name, value, neutral in unsaid:
        if value not in neutral:
            desk.cannot(name, "the Anthropic messages API has no such parameter")


def _bound(request: ChatRequest, quirks: Quirks) -> int:
    """`max_tokens`. Thinking counts towards it, so a budget nobody bounded is added to the default."""
    if request.max_output_tokens is not None:
        return request.max_output_tokens
    default = quirks.default_max_tokens or DEFAULT_MAX_TOKENS
    wish = request.reasoning
    if wish is None or wish.enabled is False:
        return default
    if wish.budget_tokens is not None:
        return default + wish.budget_tokens
    return default + BUDGETS.get(wish.effort or "", 0) if ADAPTIVE_THINKING in quirks.unsupported else default


def _write_tools(body: Block, request: ChatRequest, desk: Desk) -> None:
    tools = [found for tool in request.tools if (found := _tool(tool, desk)) is not None]
    if tools:
        body["tools"] = tools
    choice = request.tool_choice
    if not tools:
        if choice is not None and choice.mode in ("required", "named"):
            raise desk.refuse("tool_choice", "it asks for a tool and there is none in tools")
        return  # the API takes no tool_choice without tools, and none can be called anyway
    modes = {"auto": "auto", "required": "any", "none": "none", "named": "tool"}
    if choice is None and request.parallel_tool_calls is not False:
        return
    written: Block = {"type": modes[choice.mode] if choice is not None else "auto"}
    if choice is not None and choice.mode == "named":
        written["name"] = choice.name
    if request.parallel_tool_calls is False and written["type"] != "none":
        written["disable_parallel_tool_use"] = True
    body["tool_choice"] = written


def _tool(tool: Tool, desk: Desk) -> object:
    if tool.opaque is not None:
        if _SERVER_TOOL.fullmatch(tool.name):
            return tool.opaque
        desk.cannot(f"tools.{tool.name}", "only the provider it comes from knows this tool")
        return None
    schema: object = tool.parameters if tool.parameters is not None and given(tool.parameters) else _NO_PARAMETERS
    written: Block = {"name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    written["input_schema"] = schema
    if tool.strict:
        written["strict"] = True
    if tool.cache is not None:
        written["cache_control"] = {"type": "ephemeral", **({"ttl": tool.cache.ttl} if tool.cache.ttl else {})}
    return written


_NO_PARAMETERS: Final = {"type": "object", "properties": {}}


def _write_thinking(body: Block, request: ChatRequest, quirks: Quirks, desk: Desk) -> None:
    wish = request.reasoning
    if wish is None or wish.effort == _NO_REASONING:
        return  # models that always think refuse "disabled"; the others do not think unless asked
    adaptive = ADAPTIVE_THINKING not in quirks.unsupported
    if wish.effort is not None and wish.effort not in EFFORTS:
        desk.cannot("reasoning_effort", f"it must be one of {', '.join(EFFORTS)}, {_NO_REASONING}")
        return
    if wish.effort is not None and (adaptive or wish.budget_tokens is not None):
        body["output_config"] = {"effort": EFFORTS[wish.effort]}
    if wish.enabled is False:
        body["thinking"] = {"type": "disabled"}
    elif wish.budget_tokens is not None:
        body["thinking"] = {"type": "enabled", "budget_tokens": wish.budget_tokens}
    elif adaptive:
        body["thinking"] = {"type": "adaptive"}
    else:
        _write_budget(body, wish, desk)


def _write_budget(body: Block, wish: ReasoningWish, desk: Desk) -> None:
    """Effort as a budget, below the bound on all output."""
    bound = body["max_tokens"]
    budget = BUDGETS[wish.effort or "medium"]
    if isinstance(bound, int):
        budget = min(budget, bound - 1)
    if budget < _LEAST_BUDGET:
        desk.cannot(
            "reasoning_effort", f"the bound on output leaves less than the {_LEAST_BUDGET} tokens thinking needs"
        )
        return
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _write_format(body: Block, request: ChatRequest, desk: Desk) -> None:
    form = request.response_format
    if form is None or form.kind == "text":
        return
    if form.kind == "json_object" or form.schema is None:
        desk.cannot("response_format", "the Anthropic messages API has no schemaless JSON mode; use json_schema")
        return
    config = body.get("output_config")
    written = {"type": "json_schema", "schema": form.schema}
    body["output_config"] = {**(config if isinstance(config, dict) else {}), "format": written}


def _write_sampling(body: Block, request: ChatRequest, desk: Desk) -> None:
    if request.temperature not in (None, _UNASKED):
        if 0 <= request.temperature <= 1:
            body["temperature"] = request.temperature
        else:
            desk.cannot("temperature", "the Anthropic messages API takes 0 to 1")
    if request.top_p not in (None, _UNASKED):
        body["top_p"] = request.top_p
    if request.top_k is not None:
        body["top_k"] = request.top_k
    stop = [sequence for sequence in request.stop if sequence.strip()]
    if len(stop) < len(request.stop):
        desk.cannot("stop", "a stop sequence must hold more than white space")
    if stop:
        body["stop_sequences"] = stop
    if request.service_tier is not None:
        tier = _SERVICE_TIERS.get(request.service_tier)
        if tier is None:
            desk.cannot("service_tier", f"it must be one of {', '.join(_SERVICE_TIERS)}")
        else:
            body["service_tier"] = tier


def _write_user(body: Block, request: ChatRequest, desk: Desk) -> None:
    user = request.user
    if user is None:
        user = _text(request.rest.get("safety_identifier"))
    if user is None:
        return
    if len(user) > _USER_LIMIT:
        desk.name("user")
        return
    body["metadata"] = {"user_id": user}


def _write_rest(body: Block, request: ChatRequest, desk: Desk) -> None:
    """Every field without a canonical word, by the tables above."""
    for name, raw in request.rest.items():
        if not given(raw) or name in _ALWAYS_SILENT:
            continue
        if name == "safety_identifier" and _text(raw) is not None:
            continue  # it is `user` by its newer name
        outer, _, inner = name.partition(".")
        if inner and outer in _OWN_INNER:
            held = body.get(outer)
            body[outer] = {**(held if isinstance(held, dict) else {}), inner: raw}
        elif name in _OWN_FIELDS:
            body.setdefault(name, raw)
        elif name in _ASKS_NOTHING:
            desk.name(name)
        elif not (name in _NEUTRAL and msgspec.json.decode(raw) in _NEUTRAL[name]):
            desk.cannot(name, "the Anthropic messages API has no such parameter")


def _text(raw: msgspec.Raw | None) -> str | None:
    try:
        return None if raw is None or not given(raw) else msgspec.json.decode(raw, type=str)
    except UNREADABLE:
        return None
