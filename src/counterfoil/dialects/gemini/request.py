"""A client's request in this dialect: looked at, read into the canonical words, or sent on to a provider that has it.

Rule 1: nothing is lost on the way. What the canonical words lack is an `Opaque` part, an opaque tool, or in `rest` by
its name ("generationConfig.mediaResolution" for a field inside another).
Rule 2: to the same dialect nothing changes but what the door put in, which is taken out again: the model is in the
provider's path.

https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

import msgspec

from counterfoil.core.error import RequestError
from counterfoil.core.operation import ChatRequest, ReasoningWish, ResponseFormat, Tool, ToolChoice
from counterfoil.dialects.dialect import Quirks, RequestPeek
from counterfoil.dialects.gemini.contents import Contents, instruction
from counterfoil.dialects.gemini.door import FORM, MODEL, STREAM, without_spliced
from counterfoil.dialects.gemini.schemas import json_schema
from counterfoil.dialects.gemini.wish import (
    Fields,
    body_fields,
    inside,
    kept,
    list_of,
    object_of,
    request_fields,
    value,
)
from counterfoil.dialects.schema import UNREADABLE, encode, given

__all__ = ["chat_of", "patch_request", "peek_request", "read_request"]

_READ: Final = frozenset(
    {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "serviceTier", MODEL, STREAM, FORM}
)
_CONFIG: Final = frozenset(
    {
        "maxOutputTokens",
        "temperature",
        "topP",
        "topK",
        "stopSequences",
        "candidateCount",
        "seed",
        "presencePenalty",
        "frequencyPenalty",
        "responseLogprobs",
        "logprobs",
        "responseMimeType",
        "responseSchema",
        "responseJsonSchema",
        "thinkingConfig",
    }
)
"""Fields of `generationConfig` that have canonical words."""
_JSON: Final = "application/json"
_PLAIN: Final = "text/plain"
_TEXT_ONLY: Final[tuple[list[str], ...]] = (["TEXT"], ["text"], [])
_TIERS: Final[Mapping[str, str | None]] = {"standard": "default", "unspecified": None}


def peek_request(body: bytes) -> RequestPeek:
    """Read what must be known. Raises RequestError. In this dialect usage is always part of a stream."""
    fields = request_fields(body)
    if not list_of(fields.get("contents"), "contents"):
        raise RequestError("contents: at least one content is required", param="contents")
    config = inside(fields, "generationConfig")
    choices = value(config, "candidateCount", int, "generationConfig")
    return RequestPeek(
        model=value(fields, MODEL, str) or "",
        streamed=value(fields, STREAM, bool) or False,
        usage_asked=True,
        choices=1 if choices is None or choices < 1 else choices,
        form=value(fields, FORM, str) or "",
    )


def patch_request(body: bytes, model: str, quirks: Quirks, ask_usage: bool) -> bytes:
    """The client's own body. This dialect always sends usage, so nothing is asked."""
    fields = body_fields(body)
    own = without_spliced(fields)
    return body if len(own) == len(fields) else encode(own)


def read_request(body: bytes) -> ChatRequest:
    """A client's body. Raises RequestError."""
    fields = request_fields(body)
    chat = chat_of(fields)
    return msgspec.structs.replace(
        chat, model=value(fields, MODEL, str) or "", stream=value(fields, STREAM, bool) or False, stream_usage=True
    )


def chat_of(fields: Fields) -> ChatRequest:
    """A request's fields, without what the URL says. Raises RequestError."""
    config = inside(fields, "generationConfig")
    tools, extra = _tools(fields)
    choice, strict, more = _tool_choice(inside(fields, "toolConfig"))
    form, unread = _format(config)
    unnamed = {name: kept(raw) for name, raw in fields.items() if name not in _READ and given(raw)}
    rest = {name: raw for name, raw in unnamed.items() if not _empty(raw)}
    rest |= _config_rest(config) | extra | more | unread
    return ChatRequest(
        model="",
        messages=(*instruction(fields.get("systemInstruction")), *Contents().read(fields.get("contents"))),
        tools=tuple(msgspec.structs.replace(tool, strict=True) for tool in tools) if strict else tools,
        tool_choice=choice,
        max_output_tokens=_number(config, "maxOutputTokens"),
        temperature=value(config, "temperature", float, "generationConfig"),
        top_p=value(config, "topP", float, "generationConfig"),
        top_k=_number(config, "topK"),
        stop=value(config, "stopSequences", tuple[str, ...], "generationConfig") or (),
        n=_number(config, "candidateCount") or 1,
        seed=_number(config, "seed"),
        presence_penalty=value(config, "presencePenalty", float, "generationConfig"),
        frequency_penalty=value(config, "frequencyPenalty", float, "generationConfig"),
        logprobs=value(config, "responseLogprobs", bool, "generationConfig"),
        top_logprobs=_number(config, "logprobs"),
        response_format=form,
        reasoning=_reasoning(inside(config, "thinkingConfig")),
        service_tier=_tier(fields),
        rest=rest,
    )


def _empty(raw: msgspec.Raw) -> bool:
    """Whether this asks for nothing: LangChain sends `"safetySettings": []` with every request."""
    return b"".join(bytes(raw)[:16].split()) in (b"[]", b"{}")


def _number(config: Fields, name: str) -> int | None:
    return value(config, name, int, "generationConfig")


def _config_rest(config: Fields) -> dict[str, msgspec.Raw]:
    """Fields of `generationConfig` without a canonical word; text alone is what happens anyway."""
    found = {f"generationConfig.{name}": kept(raw) for name, raw in config.items() if name not in _CONFIG}
    modalities = "generationConfig.responseModalities"
    if modalities in found and msgspec.json.decode(found[modalities]) in _TEXT_ONLY:
        del found[modalities]
    return found


def _tier(fields: Fields) -> str | None:
    said = value(fields, "serviceTier", str)
    return None if said is None else _TIERS.get(said.lower(), said.lower())


def _tools(fields: Fields) -> tuple[tuple[Tool, ...], dict[str, msgspec.Raw]]:
    """The functions and Google's own tools, and what functions have that no canonical word says."""
    tools: list[Tool] = []
    extra: dict[str, msgspec.Raw] = {}
    for raw in list_of(fields.get("tools"), "tools"):
        for name, said in object_of(raw, "tools").items():
            if name == "functionDeclarations":
                tools += _functions(said, extra)
            else:
                tools.append(Tool(name, opaque=msgspec.Raw(encode({name: said}))))
    return tuple(tools), extra


_FUNCTION: Final = frozenset({"name", "description", "parameters", "parametersJsonSchema"})


def _functions(raw: msgspec.Raw, extra: dict[str, msgspec.Raw]) -> Iterator[Tool]:
    for place, one in enumerate(list_of(raw, "tools.functionDeclarations")):
        where = f"tools.functionDeclarations.{place}"
        fields = object_of(one, where)
        name = value(fields, "name", str, where)
        if not name:
            raise RequestError(f"{where}.name: this field is required", param="tools")
        extra |= {f"tools.{key}": kept(said) for key, said in fields.items() if key not in _FUNCTION}
        yield Tool(name, value(fields, "description", str, where), _parameters(fields, where))


def _parameters(fields: Fields, where: str) -> msgspec.Raw | None:
    if "parametersJsonSchema" in fields:
        return kept(fields["parametersJsonSchema"])
    return _converted(fields["parameters"], where) if "parameters" in fields else None


def _converted(raw: msgspec.Raw, where: str) -> msgspec.Raw:
    try:
        return json_schema(raw)
    except UNREADABLE:
        raise RequestError(f"{where}: this schema cannot be read", param=where) from None


_Mode = Literal["auto", "none", "required", "named"]
_MODES: Final[Mapping[str, _Mode]] = {
    "MODE_UNSPECIFIED": "auto",
    "AUTO": "auto",
    "VALIDATED": "auto",
    "ANY": "required",
    "NONE": "none",
}


def _tool_choice(config: Fields) -> tuple[ToolChoice | None, bool, dict[str, msgspec.Raw]]:
    """The choice, whether calls must keep to their schemas, and what no canonical word says."""
    more = {f"toolConfig.{name}": kept(raw) for name, raw in config.items() if name != "functionCallingConfig"}
    calling = inside(config, "functionCallingConfig")
    said = value(calling, "mode", str, "toolConfig.functionCallingConfig")
    names = value(calling, "allowedFunctionNames", list[str], "toolConfig.functionCallingConfig") or []
    known = {"mode", "allowedFunctionNames"}
    more |= {f"toolConfig.{name}": kept(raw) for name, raw in calling.items() if name not in known}
    if said is None:
        return None, False, more
    mode = _MODES.get(said.upper())
    if mode is None:
        place = "toolConfig.functionCallingConfig.mode"
        raise RequestError(f"{place}: it must be one of {', '.join(_MODES)}", param=place)
    if mode == "required" and len(names) == 1:
        return ToolChoice("named", names[0]), False, more
    if names:
        more["toolConfig.functionCallingConfig.allowedFunctionNames"] = kept(calling["allowedFunctionNames"])
    return ToolChoice(mode), said.upper() == "VALIDATED", more


def _format(config: Fields) -> tuple[ResponseFormat | None, dict[str, msgspec.Raw]]:
    kind = value(config, "responseMimeType", str, "generationConfig") or ""
    schema = config.get("responseJsonSchema")
    if schema is None and "responseSchema" in config:
        schema = _converted(config["responseSchema"], "generationConfig.responseSchema")
    if schema is not None and kind in ("", _JSON):
        return ResponseFormat("json_schema", name="response", schema=kept(schema)), {}
    if kind == _JSON:
        return ResponseFormat("json_object"), {}
    if kind in ("", _PLAIN):
        return None, {}
    names = ("responseMimeType", "responseSchema", "responseJsonSchema")
    return None, {f"generationConfig.{name}": kept(config[name]) for name in names if name in config}


def _reasoning(thinking: Fields) -> ReasoningWish | None:
    """Thinking that is neither bounded nor asked to be shown is what happens anyway."""
    budget = value(thinking, "thinkingBudget", int, "generationConfig.thinkingConfig")
    level = value(thinking, "thinkingLevel", str, "generationConfig.thinkingConfig")
    shown = value(thinking, "includeThoughts", bool, "generationConfig.thinkingConfig")
    if level is not None and level.upper() != "THINKING_LEVEL_UNSPECIFIED":
        return ReasoningWish(effort=level.lower())
    if budget is not None:
        return ReasoningWish(budget_tokens=budget) if budget > 0 else ReasoningWish(enabled=budget < 0)
    return ReasoningWish(enabled=True) if shown else None
