"""What a client can ask for. Issue by issue this list grows; today: chat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from counterfoil.core.message import CacheMark, Message

__all__ = ["ChatRequest", "ReasoningWish", "ResponseFormat", "Tool", "ToolChoice"]


class Tool(msgspec.Struct, frozen=True):
    """A function the model may call. `parameters` is a JSON schema, word for word; None: the tool takes none."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw | None = None
    strict: bool | None = None
    cache: CacheMark | None = None
    opaque: msgspec.Raw | None = None
    """A tool only its own dialect knows (a provider's server tool), word for word; then `name` is its type."""


class ToolChoice(msgspec.Struct, frozen=True):
    mode: Literal["auto", "none", "required", "named"]
    name: str | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    kind: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: msgspec.Raw | None = None
    strict: bool | None = None
    description: str | None = None


class ReasoningWish(msgspec.Struct, frozen=True):
    """How much to think: an effort word ("low", "high", ...), a budget in tokens, or a plain on or off."""

    effort: str | None = None
    budget_tokens: int | None = None
    enabled: bool | None = None


class ChatRequest(msgspec.Struct, frozen=True):
    """One chat request in no dialect. None means that the client did not say."""

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: ResponseFormat | None = None
    reasoning: ReasoningWish | None = None
    user: str | None = None
    service_tier: str | None = None
    stream: bool = False
    stream_usage: bool = False
    """The client asked for the usage frame of a stream (chat: `stream_options.include_usage`)."""
    rest: Mapping[str, msgspec.Raw] = {}
    """Fields the canonical words lack, by their name in the client's dialect."""
