"""A chat client's request: read into canonical words, or patched for a provider of the same dialect.

Rule 1: a wrong type is refused with the name of what is wrong and of what is expected; a wrong value is the provider's
to judge, unless it would hurt us or hang the provider.
Rule 2: what the canonical words lack is kept word for word: a field in `rest`, a part or a tool as opaque.
Rule 3: a patch changes `model`, `stream_options` and, where the provider takes only some (`call_ids.py`), ids of tool
calls, and nothing else: order, unknown fields and values stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from counterfoil.core.error import RequestError
from counterfoil.core.message import CacheMark
from counterfoil.core.nesting import exceeds
from counterfoil.core.operation import ChatRequest, ReasoningWish, ResponseFormat, Tool, ToolChoice
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.openai_chat.call_ids import written_with_ids_of_length
from counterfoil.dialects.openai_chat.history import ROLES, read_messages
from counterfoil.dialects.openai_chat.wish import DefinitionShape, ReasoningShape, RequestWish, ThinkingShape, ToolWish
from counterfoil.dialects.refusal import missing, refused
from counterfoil.dialects.schema import UNREADABLE, fields_of

__all__ = ["CHOICES_LIMIT", "NESTING_LIMIT", "patch_request", "read_request"]

CHOICES_LIMIT: Final = 128
"""The largest `n`: https://platform.openai.com/docs/api-reference/chat/create"""
NESTING_LIMIT: Final = 100
"""Levels of arrays and objects inside each other."""

_REQUEST: Final = msgspec.json.Decoder(RequestWish)
_TOOLS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_KNOWN: Final = frozenset(field.encode_name for field in msgspec.structs.fields(RequestWish))
_NULL: Final = b"null"
_TRUE: Final = msgspec.Raw(b"true")
_LISTS: Final = {"role": ", ".join(ROLES)}
"""Members whose words are a closed list."""
_CHOICE_MODES: Final[dict[str, Literal["auto", "none", "required"]]] = {
    "auto": "auto",
    "none": "none",
    "required": "required",
    "any": "required",  # https://docs.mistral.ai/capabilities/function_calling
}
_FORMATS: Final[dict[str, Literal["text", "json_object", "json_schema"]]] = {
    "text": "text",
    "json_object": "json_object",
    "json_schema": "json_schema",
}
_REASONING: Final[dict[str, msgspec.json.Decoder[ReasoningShape] | msgspec.json.Decoder[ThinkingShape]]] = {
    "reasoning": msgspec.json.Decoder(ReasoningShape),
    "thinking": msgspec.json.Decoder(ThinkingShape),
}


def read_request(body: bytes) -> ChatRequest:
    """A client's body in canonical words. Raises RequestError, which names the parameter."""
    if exceeds(body, NESTING_LIMIT):
        raise RequestError(f"The body is nested more than {NESTING_LIMIT} levels deep. Send a flatter one.")
    try:
        fields = fields_of(body)
        wish = _REQUEST.decode(body)
    except UNREADABLE as error:
        raise refused(error, _LISTS) from None
    _check(wish)
    tool_choice, response_format = _tool_choice(wish), _format(wish)
    reasoning, taken = _reasoning(wish, fields)
    told = {"tool_choice": tool_choice, "response_format": response_format, "function_call": tool_choice}
    return ChatRequest(
        model=wish.model,
        messages=read_messages(wish.messages, fields["messages"]),
        tools=_tools(wish, fields),
        tool_choice=tool_choice,
        parallel_tool_calls=wish.parallel_tool_calls,
        max_output_tokens=wish.max_tokens if wish.max_completion_tokens is None else wish.max_completion_tokens,
        temperature=wish.temperature,
        top_p=wish.top_p,
        top_k=wish.top_k,
        stop=(wish.stop,) if isinstance(wish.stop, str) else tuple(wish.stop or ()),
        n=1 if wish.n is None else wish.n,
        seed=wish.seed,
        presence_penalty=wish.presence_penalty,
        frequency_penalty=wish.frequency_penalty,
        logprobs=wish.logprobs,
        top_logprobs=wish.top_logprobs,
        response_format=response_format,
        reasoning=reasoning,
        user=wish.user,
        service_tier=wish.service_tier,
        stream=bool(wish.stream),
        stream_usage=bool(wish.stream_options and wish.stream_options.include_usage),
        rest=_rest(fields, taken, told),
    )


def patch_request(body: bytes, model: str, quirks: Quirks, ask_usage: bool) -> bytes:
    """The client's body for a provider of this dialect: its own model name, the usage frame asked for, and ids of tool
    calls that it takes.

    Raises RequestError for a body that is no JSON object.
    """
    try:
        fields = fields_of(body)
        fields["model"] = msgspec.Raw(msgspec.json.encode(model))
        if not quirks.stream_options:
            fields.pop("stream_options", None)
        elif ask_usage and bytes(fields.get("stream", b"")) == b"true":
            fields["stream_options"] = _asking(fields.get("stream_options"), quirks)
        if quirks.call_id_length is not None and "messages" in fields:
            fields["messages"] = written_with_ids_of_length(fields["messages"], quirks.call_id_length)
    except UNREADABLE as error:
        raise refused(error, _LISTS) from None
    return msgspec.json.encode(fields)


_ASK: Final = msgspec.Raw(b'{"include_usage":true}')
_ASK_ALWAYS: Final = msgspec.Raw(b'{"include_usage":true,"continuous_usage_stats":true}')


def _asking(options: msgspec.Raw | None, quirks: Quirks) -> msgspec.Raw:
    """`stream_options` that ask for usage, and keep whatever else the client put there."""
    if options is None or bytes(options) == _NULL:
        return _ASK_ALWAYS if quirks.continuous_usage else _ASK
    fields = fields_of(options)
    fields["include_usage"] = _TRUE
    if quirks.continuous_usage:
        fields["continuous_usage_stats"] = _TRUE
    return msgspec.Raw(msgspec.json.encode(fields))


def _check(wish: RequestWish) -> None:
    """What types alone do not say."""
    if not wish.model:
        raise RequestError("`model` is empty. Name a model.", param="model", code="missing_required_parameter")
    if not wish.messages:
        # llama.cpp hangs on an empty list (WIRE.md 4)
        raise RequestError("`messages` is empty. Send at least one message.", param="messages", code="empty_array")
    if wish.n is not None and not 1 <= wish.n <= CHOICES_LIMIT:
        raise RequestError(f"`n` must be between 1 and {CHOICES_LIMIT}.", param="n", code="invalid_value")
    for name, bound in (("max_tokens", wish.max_tokens), ("max_completion_tokens", wish.max_completion_tokens)):
        if bound is not None and bound < 0:
            raise RequestError(f"`{name}` must not be negative.", param=name, code="invalid_value")


def _tools(wish: RequestWish, fields: dict[str, msgspec.Raw]) -> tuple[Tool, ...]:
    if wish.tools:
        raws: list[msgspec.Raw] | None = None
        found = []
        for place, tool in enumerate(wish.tools):
            if tool.type == "function":
                found.append(_function(tool, place))
                continue
            raws = _TOOLS.decode(fields["tools"]) if raws is None else raws
            found.append(Tool(name=tool.type, opaque=raws[place]))
        return tuple(found)
    return tuple(_definition(shape, None) for shape in wish.functions or ())


def _function(tool: ToolWish, place: int) -> Tool:
    if tool.function is None:
        raise missing(f"tools[{place}].function")
    return _definition(tool.function, CacheMark(tool.cache_control.ttl) if tool.cache_control else None)


def _definition(shape: DefinitionShape, cache: CacheMark | None) -> Tool:
    return Tool(
        name=shape.name,
        description=shape.description,
        parameters=None if bytes(shape.parameters) == _NULL else shape.parameters,
        strict=shape.strict,
        cache=cache,
    )


def _tool_choice(wish: RequestWish) -> ToolChoice | None:
    """The choice in canonical words; None for one they lack (`allowed_tools`, a custom tool): it is kept in `rest`."""
    said = wish.tool_choice
    if said is None and wish.function_call is not None:
        if not isinstance(wish.function_call, str):
            return ToolChoice("named", wish.function_call.name)
        said = wish.function_call
    if isinstance(said, str):
        mode = _CHOICE_MODES.get(said)
        return None if mode is None else ToolChoice(mode)
    if said is None or said.function is None:
        return None
    return ToolChoice("named", said.function.name)


def _format(wish: RequestWish) -> ResponseFormat | None:
    """The format in canonical words; None for one they lack, which is kept in `rest`."""
    said = wish.response_format
    if said is None or said.type not in _FORMATS:
        return None
    shape = said.json_schema
    if shape is None:
        return ResponseFormat(_FORMATS[said.type])
    return ResponseFormat(
        kind=_FORMATS[said.type],
        name=shape.name,
        schema=None if bytes(shape.schema) == _NULL else shape.schema,
        strict=shape.strict,
        description=shape.description,
    )


def _reasoning(wish: RequestWish, fields: dict[str, msgspec.Raw]) -> tuple[ReasoningWish | None, str | None]:
    """How much to think, and the field beyond `reasoning_effort` that said so, when canonical words hold all of it."""
    if wish.reasoning_effort is not None:
        return ReasoningWish(effort=wish.reasoning_effort), None
    for key, decoder in _REASONING.items():
        try:
            said = decoder.decode(fields[key])
        except (KeyError, *UNREADABLE):
            continue
        if isinstance(said, ThinkingShape):
            return ReasoningWish(budget_tokens=said.budget_tokens, enabled=said.type == "enabled"), key
        return ReasoningWish(effort=said.effort, budget_tokens=said.max_tokens, enabled=said.enabled), key
    return None, None


def _rest(fields: dict[str, msgspec.Raw], taken: str | None, told: Mapping[str, object]) -> dict[str, msgspec.Raw]:
    """The fields canonical words lack: unknown names, and known names whose value they could not hold (`told` None)."""
    return {
        key: raw
        for key, raw in fields.items()
        if (key not in _KNOWN or told.get(key, ...) is None) and key != taken and bytes(raw) != _NULL
    }
