"""The JSON of a Responses request on the wire: shapes, strictly typed.

Rule: here a wrong type is the client's mistake and is named by its path. Keys that are not named are kept elsewhere.

Field names are those of https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

import msgspec

from counterfoil.dialects.schema import NOT_SENT

__all__ = [
    "AudioShape",
    "FormatShape",
    "ItemWish",
    "PartWish",
    "ReasoningShape",
    "RequestWish",
    "SummaryShape",
    "TextShape",
    "ToolWish",
]


class AudioShape(msgspec.Struct, frozen=True):
    data: str
    format: str


class PartWish(msgspec.Struct, frozen=True):
    """One part of a message's content or of a function's output. Which fields count is said by `type`."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    file_data: str | None = None
    filename: str | None = None
    input_audio: AudioShape | None = None
    prompt_cache_breakpoint: msgspec.Raw = NOT_SENT


class SummaryShape(msgspec.Struct, frozen=True):
    text: str = ""


class ItemWish(msgspec.Struct, frozen=True):
    """One input item of a type that has canonical words."""

    type: str | None = None
    id: str | None = None
    role: str | None = None
    content: msgspec.Raw = NOT_SENT
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: msgspec.Raw = NOT_SENT
    summary: list[SummaryShape] | None = None
    encrypted_content: str | None = None


class ToolWish(msgspec.Struct, frozen=True):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = NOT_SENT
    strict: bool | None = None


class ChoiceShape(msgspec.Struct, frozen=True):
    """`tool_choice` as an object."""

    type: str
    name: str | None = None


class FormatShape(msgspec.Struct, frozen=True):
    type: str
    name: str | None = None
    description: str | None = None
    schema: msgspec.Raw = NOT_SENT
    strict: bool | None = None


class TextShape(msgspec.Struct, frozen=True):
    format: FormatShape | None = None


class ReasoningShape(msgspec.Struct, frozen=True):
    effort: str | None = None


class RequestWish(msgspec.Struct, frozen=True):
    """A request. Every key that is not here is one the canonical words lack."""

    model: str
    input: str | list[msgspec.Raw] | None = None
    instructions: str | None = None
    include: list[str] | None = None
    max_output_tokens: int | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningShape | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    stream: bool | None = None
    temperature: float | None = None
    text: TextShape | None = None
    tool_choice: str | ChoiceShape | None = None
    tools: list[msgspec.Raw] | None = None
    top_logprobs: int | None = None
    top_p: float | None = None
    user: str | None = None
