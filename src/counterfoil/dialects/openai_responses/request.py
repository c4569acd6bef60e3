"""A Responses client's request: peeked at, read into canonical words, or patched for a provider of the same dialect.

Rule 1: a wrong type is refused with the name of what is wrong; a wrong value is the provider's to judge.
Rule 2: what the canonical words lack is kept word for word in `rest`, or named in `hints` where it asks nothing of the
reply. What asks for what happens anyway (`store: false`) is left out.
Rule 3: what only a provider that stores responses can do is refused when the request crosses: nothing is stored here.
Rule 4: to the same dialect only `model` changes, and the proofs that we named the makers of: this wire's own become
what they were, others' are left out.

https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from counterfoil.core.error import RequestError
from counterfoil.core.message import Message, Text
from counterfoil.core.nesting import exceeds
from counterfoil.core.operation import ChatRequest, ReasoningWish, ResponseFormat, Tool, ToolChoice
from counterfoil.dialects.dialect import Quirks, RequestPeek
from counterfoil.dialects.openai_responses.input_read import decoded, missing, read_input, stateless
from counterfoil.dialects.openai_responses.items import REASONING
from counterfoil.dialects.openai_responses.thought import ORIGIN, SEALED, from_client, unpack
from counterfoil.dialects.openai_responses.wish import ChoiceShape, FormatShape, RequestWish, ToolWish
from counterfoil.dialects.refusal import refused
from counterfoil.dialects.schema import UNREADABLE, encode, fields_of, given

__all__ = ["NESTING_LIMIT", "patch_request", "peek_request", "read_request"]

NESTING_LIMIT: Final = 100
"""Levels of arrays and objects inside each other."""

_REQUEST: Final = msgspec.json.Decoder(RequestWish)
_KNOWN: Final = frozenset(field.encode_name for field in msgspec.structs.fields(RequestWish))
_LOGPROBS: Final = "message.output_text.logprobs"
_GIVEN_ANYWAY: Final = frozenset({"reasoning.encrypted_content", _LOGPROBS})
"""What can be included and is: the one always, the other as `logprobs`."""

_STORED: Final[Mapping[str, tuple[object, ...]]] = {
    "previous_response_id": (None,),
    "conversation": (None,),
    "prompt": (None,),
    "store": (None, False),
    "background": (None, False),
}
"""Fields that need a provider that stores responses, and the values that do not."""
_NEUTRAL: Final[Mapping[str, tuple[object, ...]]] = {
    "truncation": ("disabled",),
    "context_management": ([],),
}
"""Values that ask for what happens anyway."""
_ALWAYS_SILENT: Final = frozenset({"stream_options"})
"""Padding of frames against eavesdroppers; we write none."""
_HINTS: Final = frozenset(
    {
        "client_metadata",  # Codex says who calls
        "max_tool_calls",  # bounds built-in tools, which are refused by their own names
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
    }
)
"""Fields that ask nothing of the reply."""
_CHOICE_MODES: Final[Mapping[str, Literal["auto", "none", "required"]]] = {
    "auto": "auto",
    "none": "none",
    "required": "required",
}
_FORMATS: Final[Mapping[str, Literal["text", "json_object", "json_schema"]]] = {
    "text": "text",
    "json_object": "json_object",
    "json_schema": "json_schema",
}


class _Peek(msgspec.Struct, frozen=True):
    model: str
    stream: bool | None = None
    background: bool | None = None
    user: str | None = None
    safety_identifier: str | None = None


_PEEK: Final = msgspec.json.Decoder(_Peek)


def peek_request(body: bytes) -> RequestPeek:
    """Read what must be known. Raises RequestError. In this dialect usage is always part of a stream."""
    try:
        request = _PEEK.decode(body)
    except UNREADABLE as error:
        raise refused(error) from None
    if not request.model:
        raise RequestError("`model` is empty. Name a model; GET /v1/models lists them.", param="model")
    if request.background and not request.stream:
        raise RequestError(
            "`background` without `stream` answers before the model does, and what it uses would never be known here. "
            "Ask for a stream, or without `background`.",
            param="background",
            code="background_not_supported",
        )
    return RequestPeek(
        model=request.model,
        streamed=bool(request.stream),
        usage_asked=True,
        user=request.user or request.safety_identifier,
    )


def patch_request(body: bytes, model: str, quirks: Quirks, ask_usage: bool) -> bytes:
    """The client's body for a provider of this dialect. This wire always sends usage, so nothing is asked.

    Raises RequestError for a body that is no JSON object.
    """
    try:
        fields: dict[str, object] = {**fields_of(body), "model": model}
        if SEALED.search(body):
            fields["input"] = _without_seals(fields.get("input"))
    except UNREADABLE as error:
        raise refused(error) from None
    return encode(fields)


def _without_seals(said: object) -> object:
    """The input with our names of makers taken off its proofs; a proof of another wire's goes with its item."""
    if not isinstance(said, msgspec.Raw) or not bytes(said).lstrip().startswith(b"["):
        return said
    items: list[object] = []
    for raw in msgspec.json.decode(said, type=list[msgspec.Raw]):
        fields = fields_of(raw) if SEALED.search(bytes(raw)) else {}
        if bytes(fields.get("type", b"")) != encode(REASONING):
            items.append(raw)
            continue
        proof, origin = from_client("", msgspec.json.decode(fields["encrypted_content"], type=str))
        if origin == ORIGIN:
            item_id, encrypted = unpack(proof)
            items.append({**fields, **({"id": item_id} if item_id else {}), "encrypted_content": encrypted})
    return items


def read_request(body: bytes) -> ChatRequest:
    """A client's body in canonical words. Raises RequestError, which names the parameter."""
    if exceeds(body, NESTING_LIMIT):
        raise RequestError(f"The body is nested more than {NESTING_LIMIT} levels deep. Send a flatter one.")
    try:
        fields = fields_of(body)
        wish = _REQUEST.decode(body)
    except UNREADABLE as error:
        raise refused(error) from None
    for name, neutral in _STORED.items():
        if name in fields and not _means(fields[name], neutral):
            raise stateless(name)
    choice, form = _tool_choice(wish), _format(wish)
    included = wish.include or []
    logprobs = _LOGPROBS in included or bool(wish.top_logprobs)
    return ChatRequest(
        model=_named(wish.model),
        messages=_messages(wish),
        tools=tuple(_tool(raw, f"tools[{place}]") for place, raw in enumerate(wish.tools or ())),
        tool_choice=choice,
        parallel_tool_calls=wish.parallel_tool_calls,
        max_output_tokens=wish.max_output_tokens,
        temperature=wish.temperature,
        top_p=wish.top_p,
        logprobs=logprobs or None,
        top_logprobs=wish.top_logprobs if logprobs else None,
        response_format=form,
        reasoning=ReasoningWish(effort=wish.reasoning.effort) if wish.reasoning and wish.reasoning.effort else None,
        user=wish.user or wish.safety_identifier,
        service_tier=wish.service_tier,
        stream=bool(wish.stream),
        stream_usage=True,
        rest=_rest(fields, wish, choice, form),
        hints=_hints(fields, included, wish),
    )


def _named(model: str) -> str:
    if not model:
        raise missing("model")
    return model


def _messages(wish: RequestWish) -> tuple[Message, ...]:
    told = (Message("system", (Text(wish.instructions),)),) if wish.instructions else ()
    if isinstance(wish.input, str):
        return (*told, Message("user", (Text(wish.input),)))
    messages = read_input(wish.input or [])
    if not messages:
        raise missing("input")
    return (*told, *messages)


def _tool(raw: msgspec.Raw, where: str) -> Tool:
    tool = decoded(raw, ToolWish, where)
    if tool.type != "function":
        return Tool(tool.type, opaque=msgspec.Raw(bytes(raw)))
    if not tool.name:
        raise missing(f"{where}.name")
    parameters = msgspec.Raw(bytes(tool.parameters)) if given(tool.parameters) else None
    return Tool(tool.name, tool.description, parameters, tool.strict)


def _tool_choice(wish: RequestWish) -> ToolChoice | None:
    """The choice in canonical words; None for one they lack (`allowed_tools`, a built-in tool), kept in `rest`."""
    said = wish.tool_choice
    if isinstance(said, ChoiceShape):
        return ToolChoice("named", said.name) if said.type == "function" and said.name else None
    mode = _CHOICE_MODES.get(said or "")
    return None if mode is None else ToolChoice(mode)


def _format(wish: RequestWish) -> ResponseFormat | None:
    """The format in canonical words; None for one they lack, which is kept in `rest`."""
    said = wish.text.format if wish.text is not None else None
    if said is None or said.type not in _FORMATS:
        return None
    return ResponseFormat(
        kind=_FORMATS[said.type],
        name=said.name,
        schema=msgspec.Raw(bytes(said.schema)) if given(said.schema) else None,
        strict=said.strict,
        description=said.description,
    )


def _rest(
    fields: Mapping[str, msgspec.Raw], wish: RequestWish, choice: ToolChoice | None, form: ResponseFormat | None
) -> dict[str, msgspec.Raw]:
    """The fields that canonical words lack and that ask for something."""
    rest = {
        name: msgspec.Raw(bytes(raw))
        for name, raw in fields.items()
        if given(raw)
        and name not in _KNOWN | _HINTS | _ALWAYS_SILENT | _STORED.keys()
        and not (name in _NEUTRAL and _means(raw, _NEUTRAL[name]))
    }
    if choice is None and given(fields.get("tool_choice", msgspec.Raw())):
        rest["tool_choice"] = msgspec.Raw(bytes(fields["tool_choice"]))
    said: FormatShape | None = wish.text.format if wish.text is not None else None
    if form is None and said is not None:
        rest["text.format"] = msgspec.Raw(encode({"type": said.type}))
    return rest


def _hints(fields: Mapping[str, msgspec.Raw], included: list[str], wish: RequestWish) -> tuple[str, ...]:
    """The names of what asks nothing of the reply, or only how it is told."""
    hints = [name for name in fields if name in _HINTS and given(fields[name])]
    if wish.user is None and "safety_identifier" in hints:
        hints.remove("safety_identifier")  # it is `user` by its newer name
    hints += [f"include.{name}" for name in included if name not in _GIVEN_ANYWAY]
    for outer, known in (("reasoning", ("effort",)), ("text", ("format",))):
        inside = fields_of(fields[outer]) if outer in fields and given(fields[outer]) else {}
        hints += [f"{outer}.{name}" for name, raw in inside.items() if name not in known and given(raw)]
    return tuple(hints)


def _means(raw: msgspec.Raw, values: tuple[object, ...]) -> bool:
    said = msgspec.json.decode(raw)
    return any(said is value or (said == value and type(said) is type(value)) for value in values)
