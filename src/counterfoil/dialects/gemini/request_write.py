"""A canonical request as a body for `generateContent`: the crossing from every other dialect.

Rule 1: tables say what becomes of a field; `Desk` says it to the client, by the field's name in chat.
Rule 2: what has the same meaning is carried, what equals the default is left out without a word, and everything else
is refused or dropped by name. The model is in the path, not in the body.

https://ai.google.dev/api/generate-content#method:-models.generatecontent
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from counterfoil.core.operation import ChatRequest, ReasoningWish, Tool
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Quirks, WrittenRequest
from counterfoil.dialects.gemini.schema import fields_of
from counterfoil.dialects.gemini.turns import CACHE_HINT, CALL_IDS, MEDIA_IN_RESULTS, Turns
from counterfoil.dialects.schema import UNREADABLE, encode, given

__all__ = [
    "ALWAYS_THINKS",
    "BUDGETS",
    "LEVELS",
    "NO_LEVELS",
    "NO_THINKING",
    "OWN_TOOLS",
    "chat_body",
    "write_request",
]

Body = dict[str, object]

NO_THINKING: Final = "thinkingConfig"
"""In `Quirks.unsupported` for models that do not think."""
NO_LEVELS: Final = "thinkingConfig.thinkingLevel"
"""In `Quirks.unsupported` for models that know only budgets (Gemini 2.5)."""
ALWAYS_THINKS: Final = "thinkingConfig.off"
"""In `Quirks.unsupported` for models whose thinking cannot be turned off."""
_LEVEL: Final = "thinkingLevel."
"""Begins a name in `Quirks.unsupported` for each level a model lacks ("thinkingLevel.minimal")."""
_OURS: Final = frozenset({NO_THINKING, NO_LEVELS, ALWAYS_THINKS, CALL_IDS, MEDIA_IN_RESULTS})

LEVELS: Final = ("minimal", "low", "medium", "high")
"""Least first. An effort whose level a model lacks gets the next one up."""
_EFFORTS: Final[Mapping[str, str]] = {**{level: level for level in LEVELS}, "xhigh": "high", "max": "high"}
BUDGETS: Final[Mapping[str, int]] = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
"""Effort to level, and to budget for models without levels, as Google's own OpenAI face does it:
https://ai.google.dev/gemini-api/docs/openai#thinking"""
_NO_REASONING: Final = "none"
_DYNAMIC: Final = -1
"""The model decides how much to think: https://ai.google.dev/gemini-api/docs/thinking#set-budget"""

_SERVICE_TIERS: Final[Mapping[str, str]] = {
    "default": "standard",
    "standard": "standard",
    "standard_only": "standard",
    "flex": "flex",
    "priority": "priority",
}

_OWN_FIELDS: Final[Mapping[str, str]] = {
    "safetySettings": "safetySettings",
    "safety_settings": "safetySettings",
    "cachedContent": "cachedContent",
    "cached_content": "cachedContent",
    "labels": "labels",
    "modelArmorConfig": "modelArmorConfig",
}
"""Fields of the body that have no canonical word: carried word for word, whoever says them."""
_OWN_OBJECTS: Final = ("generationConfig", "toolConfig")
"""Objects of the body into which a dotted name of `rest` goes back."""
OWN_TOOLS: Final = frozenset(
    {
        "codeExecution",
        "code_execution",
        "computerUse",
        "computer_use",
        "enterpriseWebSearch",
        "enterprise_web_search",
        "fileSearch",
        "file_search",
        "googleMaps",
        "google_maps",
        "googleSearch",
        "google_search",
        "googleSearchRetrieval",
        "google_search_retrieval",
        "mcpServers",
        "mcp_servers",
        "retrieval",
        "urlContext",
        "url_context",
    }
)
"""What Google's own tools are called, by both names: https://ai.google.dev/api/caching#Tool"""

_NEUTRAL: Final[Mapping[str, tuple[object, ...]]] = {
    "store": (False,),
    "modalities": (["text"],),
    "logit_bias": ({},),
    "verbosity": ("medium",),
    "functions": ([],),
}
"""Values of chat fields that ask for what happens anyway, and are left out without a word."""
_ASKS_NOTHING: Final = frozenset(
    {
        "metadata",  # tags on completions that the provider stores; nothing is stored here
        "prediction",  # makes a reply faster, never another one
        "prompt_cache_key",  # where to look for a cached prompt; caching here goes by content
        "prompt_cache_retention",
        "prompt_cache_options",
        "safety_identifier",  # who the end user is, which this API has no field for
    }
)
"""Chat fields that cannot change the reply: left out, and named."""
_ALWAYS_SILENT: Final = frozenset({"stream_options"})
"""The gateway answers these itself."""


def write_request(request: ChatRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The body, and what it leaves out. Raises RequestError."""
    desk = Desk(drop)
    body = chat_body(request, quirks, desk)
    return WrittenRequest(encode(body), desk.dropped)


def chat_body(request: ChatRequest, quirks: Quirks, desk: Desk) -> Body:
    """The body's fields. Raises RequestError."""
    turns = Turns(quirks, desk)
    turns.add(request.messages)
    body: Body = {"contents": turns.contents}
    if turns.system:
        body["systemInstruction"] = {"parts": turns.system}
    _write_tools(body, request, desk)
    config: Body = {}
    _write_sampling(config, request)
    _write_format(config, request)
    _write_thinking(config, request.reasoning, quirks, desk)
    if config:
        body["generationConfig"] = config
    _write_tier(body, request, desk)
    if request.user is not None:
        desk.name("user")
    _write_rest(body, request, desk)
    desk.leave_out(body, quirks.unsupported - _OURS)
    return body


def _write_tools(body: Body, request: ChatRequest, desk: Desk) -> None:
    functions = [_function(tool, desk) for tool in request.tools if tool.opaque is None]
    tools: list[object] = [{"functionDeclarations": functions}] if functions else []
    tools += [own for tool in request.tools if (own := _own_tool(tool, desk)) is not None]
    if tools:
        body["tools"] = tools
    choice = request.tool_choice
    if not functions:
        if choice is not None and choice.mode in ("required", "named"):
            raise desk.refuse("tool_choice", "it asks for a tool and there is none in tools")
        return
    if request.parallel_tool_calls is False:
        desk.cannot("parallel_tool_calls", "this API cannot be asked for one call at a time")
    mode: str = "auto" if choice is None else choice.mode
    if mode == "auto" and any(tool.strict for tool in request.tools):
        mode = "strict"
    calling: Body = {"mode": _MODES[mode]} if mode in _MODES else {}
    if choice is not None and choice.mode == "named":
        calling["allowedFunctionNames"] = [choice.name]
    if calling:
        body["toolConfig"] = {"functionCallingConfig": calling}


_MODES: Final[Mapping[str, str]] = {"none": "NONE", "required": "ANY", "named": "ANY", "strict": "VALIDATED"}
"""VALIDATED: text or calls, and calls that keep to their schema. AUTO happens anyway.
https://ai.google.dev/api/caching#FunctionCallingConfig"""


def _function(tool: Tool, desk: Desk) -> Body:
    if tool.cache is not None:
        desk.name(CACHE_HINT)
    written: Body = {"name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    if tool.parameters is not None:
        # `parameters` takes a subset of OpenAPI's schema; this one takes JSON schema as it is.
        written["parametersJsonSchema"] = tool.parameters
    return written


def _own_tool(tool: Tool, desk: Desk) -> object | None:
    """A tool of Google's, word for word; None for a function, and for another provider's tool that is left out."""
    if tool.opaque is None:
        return None
    try:
        fields = fields_of(tool.opaque)
    except UNREADABLE:
        fields = {}
    if fields and fields.keys() <= OWN_TOOLS:
        return tool.opaque
    desk.cannot(f"tools.{tool.name}", "only the provider it comes from knows this tool")
    return None


def _write_sampling(config: Body, request: ChatRequest) -> None:
    said: tuple[tuple[str, object, Sequence[object]], ...] = (
        ("maxOutputTokens", request.max_output_tokens, (None,)),
        ("temperature", request.temperature, (None,)),
        ("topP", request.top_p, (None,)),
        ("topK", request.top_k, (None,)),
        ("candidateCount", request.n, (None, 1)),
        ("seed", request.seed, (None,)),
        ("presencePenalty", request.presence_penalty, (None, 0)),
        ("frequencyPenalty", request.frequency_penalty, (None, 0)),
        ("responseLogprobs", request.logprobs, (None, False)),
        ("logprobs", request.top_logprobs if request.logprobs else None, (None,)),
        ("stopSequences", list(request.stop), ([],)),
    )
    config.update({name: value for name, value, neutral in said if value not in neutral})


def _write_format(config: Body, request: ChatRequest) -> None:
    form = request.response_format
    if form is None or form.kind == "text":
        return
    config["responseMimeType"] = "application/json"
    if form.schema is not None:
        config["responseJsonSchema"] = form.schema


def _write_thinking(config: Body, wish: ReasoningWish | None, quirks: Quirks, desk: Desk) -> None:
    if wish is None:
        return
    off = wish.enabled is False or wish.effort == _NO_REASONING
    if NO_THINKING in quirks.unsupported:
        if wish.free:
            desk.name("reasoning_effort")
        elif not off:
            desk.cannot("reasoning_effort", "this model does not think")
        return
    if off:
        if ALWAYS_THINKS in quirks.unsupported:
            desk.cannot("reasoning_effort", "this model's thinking cannot be turned off")
        else:
            config["thinkingConfig"] = _least(quirks)
        return
    if wish.effort is not None and wish.effort not in _EFFORTS:
        desk.cannot("reasoning_effort", f"it must be one of {', '.join(_EFFORTS)}, {_NO_REASONING}")
        return
    thinking: Body = {"includeThoughts": True}
    if wish.budget_tokens is not None:
        thinking["thinkingBudget"] = wish.budget_tokens
    elif NO_LEVELS in quirks.unsupported:
        thinking["thinkingBudget"] = BUDGETS[_EFFORTS[wish.effort]] if wish.effort is not None else _DYNAMIC
    elif wish.effort is not None:
        thinking["thinkingLevel"] = _level(_EFFORTS[wish.effort], quirks)
    config["thinkingConfig"] = thinking


def _least(quirks: Quirks) -> Body:
    """No thinking; where there are levels, the lowest is what comes closest ("minimal" matches "no thinking" for most
    queries: https://ai.google.dev/gemini-api/docs/gemini-3)."""
    return {"thinkingBudget": 0} if NO_LEVELS in quirks.unsupported else {"thinkingLevel": _level("minimal", quirks)}


def _level(wanted: str, quirks: Quirks) -> str:
    """The level, or the next one up that the model has."""
    levels = LEVELS[LEVELS.index(wanted) :]
    return next((level for level in levels if _LEVEL + level not in quirks.unsupported), levels[-1])


def _write_tier(body: Body, request: ChatRequest, desk: Desk) -> None:
    if request.service_tier is None or request.service_tier == "auto":
        return
    tier = _SERVICE_TIERS.get(request.service_tier)
    if tier is None:
        desk.cannot("service_tier", f"it must be one of auto, {', '.join(_SERVICE_TIERS)}")
    elif tier != "standard":  # which is what happens anyway
        body["serviceTier"] = tier


def _write_rest(body: Body, request: ChatRequest, desk: Desk) -> None:
    """Every field without a canonical word, by the tables above."""
    for name, raw in request.rest.items():
        outer, _, inner = name.partition(".")
        if not given(raw) or name in _ALWAYS_SILENT or _is_neutral(name, raw):
            continue
        if outer in _OWN_OBJECTS:
            _put_into(body, outer, {inner: raw} if inner else fields_of(raw))
        elif name in _OWN_FIELDS:
            body.setdefault(_OWN_FIELDS[name], raw)
        elif name in _ASKS_NOTHING:
            desk.name(name)
        else:
            desk.cannot(name, "the Gemini API has no such parameter")


def _is_neutral(name: str, raw: msgspec.Raw) -> bool:
    try:
        return name in _NEUTRAL and msgspec.json.decode(raw) in _NEUTRAL[name]
    except UNREADABLE:
        return False


def _put_into(body: Body, outer: str, fields: Mapping[str, object]) -> None:
    """Fields for an object of the body. What is there already was said by a canonical word, and stands."""
    held = body.get(outer)
    body[outer] = {**fields, **(held if isinstance(held, dict) else {})}
