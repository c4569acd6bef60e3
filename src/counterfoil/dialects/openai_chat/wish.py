"""The JSON of a chat request on the wire: shapes, strictly typed.

Rule: here a wrong type is the client's mistake and is named by its path. Keys that are not named are kept elsewhere.

Field names are those of https://platform.openai.com/docs/api-reference/chat/create unless a comment cites another
source.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "CallWish",
    "DefinitionShape",
    "DetailShape",
    "FileShape",
    "FunctionShape",
    "MessageWish",
    "PartWish",
    "ReasoningShape",
    "RequestWish",
    "ThinkingShape",
    "ThoughtShape",
    "ToolWish",
    "UrlShape",
]


class CacheShape(msgspec.Struct, frozen=True):
    """https://openrouter.ai/docs/guides/best-practices/prompt-caching"""

    ttl: str | None = None


class UrlShape(msgspec.Struct, frozen=True):
    url: str
    detail: str | None = None


class AudioShape(msgspec.Struct, frozen=True):
    data: str
    format: str


class FileShape(msgspec.Struct, frozen=True):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class PartWish(msgspec.Struct, frozen=True):
    """One part of a message's content. Which fields count is said by `type`."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: UrlShape | str | None = None
    """Text in Mistral's API: https://docs.mistral.ai/capabilities/vision"""
    input_audio: AudioShape | str | None = None
    file: FileShape | None = None
    thinking: str | list[PartWish] | None = None
    """https://docs.mistral.ai/capabilities/reasoning"""
    signature: str | None = None
    data: str | None = None
    cache_control: CacheShape | None = None


class FunctionShape(msgspec.Struct, frozen=True):
    name: str
    arguments: str = ""


class CallWish(msgspec.Struct, frozen=True):
    """One entry of an assistant's `tool_calls`."""

    id: str
    type: str = "function"
    function: FunctionShape | None = None


class DetailShape(msgspec.Struct, frozen=True):
    """One entry of `reasoning_details`: https://openrouter.ai/docs/guides/best-practices/reasoning-tokens"""

    type: str = ""
    text: str | None = None
    summary: str | None = None
    signature: str | None = None
    data: str | None = None
    format: str | None = None


class ThoughtShape(msgspec.Struct, frozen=True):
    """One entry of `thinking_blocks`: https://docs.litellm.ai/docs/reasoning_content"""

    type: str = "thinking"
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None


class MessageWish(msgspec.Struct, frozen=True):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[PartWish] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[CallWish] | None = None
    tool_call_id: str | None = None
    function_call: FunctionShape | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[DetailShape] | None = None
    thinking_blocks: list[ThoughtShape] | None = None


class DefinitionShape(msgspec.Struct, frozen=True):
    """A function a model may call."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw(b"null")
    strict: bool | None = None


class ToolWish(msgspec.Struct, frozen=True):
    type: str
    function: DefinitionShape | None = None
    cache_control: CacheShape | None = None


class NameShape(msgspec.Struct, frozen=True):
    name: str


class ChoiceShape(msgspec.Struct, frozen=True):
    """`tool_choice` as an object."""

    type: str
    function: NameShape | None = None


class SchemaShape(msgspec.Struct, frozen=True):
    name: str | None = None
    description: str | None = None
    schema: msgspec.Raw = msgspec.Raw(b"null")
    strict: bool | None = None


class FormatShape(msgspec.Struct, frozen=True):
    type: str
    json_schema: SchemaShape | None = None


class StreamShape(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class ReasoningShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`reasoning`: https://openrouter.ai/docs/guides/best-practices/reasoning-tokens"""

    effort: str | None = None
    max_tokens: int | None = None
    enabled: bool | None = None


class ThinkingShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`thinking`: https://docs.claude.com/en/api/openai-sdk, https://docs.z.ai/guides/capabilities/thinking-mode"""

    type: Literal["enabled", "disabled"]
    budget_tokens: int | None = None


class RequestWish(msgspec.Struct, frozen=True):
    """A chat request. Every key that is not here is one the canonical words lack."""

    model: str
    messages: list[MessageWish]
    frequency_penalty: float | None = None
    function_call: str | NameShape | None = None
    functions: list[DefinitionShape] | None = None
    logprobs: bool | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    n: int | None = None
    parallel_tool_calls: bool | None = None
    presence_penalty: float | None = None
    reasoning_effort: str | None = None
    response_format: FormatShape | None = None
    seed: int | None = None
    service_tier: str | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamShape | None = None
    temperature: float | None = None
    tool_choice: str | ChoiceShape | None = None
    tools: list[ToolWish] | None = None
    top_k: int | None = None
    """vLLM, llama.cpp, OpenRouter: https://openrouter.ai/docs/api/reference/parameters"""
    top_logprobs: int | None = None
    top_p: float | None = None
    user: str | None = None
