"""What a client can ask for: one operation, and its request in no dialect.

Rule: an operation is a kind of answer (a chat, vectors, a ranking, a count). What crosses dialects is one of these
requests; a dialect that lacks the operation is never asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

import msgspec

from counterfoil.core.message import CacheMark, Message, Part

__all__ = [
    "ChatRequest",
    "CompleteRequest",
    "CountRequest",
    "EmbedInput",
    "EmbedRequest",
    "Operation",
    "ReasoningWish",
    "RerankRequest",
    "ResponseFormat",
    "Tool",
    "ToolChoice",
]


class Operation(StrEnum):
    """What is asked of a model."""

    CHAT = "chat"
    COMPLETE = "complete"
    """A text goes on where the prompt ends (OpenAI's legacy completions, Ollama's generate). Not a chat: no roles."""
    EMBED = "embed"
    RERANK = "rerank"
    COUNT = "count"
    """How many tokens a chat would be. Runs no model and costs nothing."""

    @property
    def streams(self) -> bool:
        """Whether a reply can come in pieces; of the others a reply is one body, whatever its content type says."""
        return self in (Operation.CHAT, Operation.COMPLETE)


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
    free: bool = False
    """The client leaves it to the model whether to think at all (Anthropic's adaptive thinking, and its effort, which
    bears on the whole answer): a model that cannot is no reason to refuse."""


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
    hints: tuple[str, ...] = ()
    """Names of fields that ask nothing of the reply (whom a cache belongs to, how reasoning is shown): they stay behind
    in every crossing and are named to the client, and no writer looks at them."""


class CompleteRequest(msgspec.Struct, frozen=True):
    """Texts to go on with. None means that the client did not say."""

    model: str
    prompts: tuple[str | tuple[int, ...], ...]
    """Each a text or token ids."""
    suffix: str | None = None
    echo: bool | None = None
    best_of: int | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    """Choices for each prompt."""
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: int | None = None
    user: str | None = None
    stream: bool = False
    stream_usage: bool = False
    rest: Mapping[str, msgspec.Raw] = {}
    """Fields the canonical words lack, by their name in the client's dialect."""
    hints: tuple[str, ...] = ()
    """As of `ChatRequest`."""


EmbedInput = str | tuple[int, ...] | tuple[Part, ...]
"""A text, token ids, or parts (text and images that become one vector)."""


class EmbedRequest(msgspec.Struct, frozen=True):
    """Inputs that each become one vector."""

    model: str
    inputs: tuple[EmbedInput, ...]
    dimensions: int | None = None
    encoding: Literal["float", "base64"] | None = None
    """How vectors are written; None: numbers."""
    purpose: str | None = None
    """What the vectors are for, in the client's own word (Gemini `taskType`, Cohere and Voyage `input_type`)."""
    title: str | None = None
    user: str | None = None
    rest: Mapping[str, msgspec.Raw] = {}
    hints: tuple[str, ...] = ()
    """As of `ChatRequest`."""


class RerankRequest(msgspec.Struct, frozen=True):
    """Documents to put in order of their relevance to a query."""

    model: str
    query: str
    documents: tuple[str | msgspec.Raw, ...]
    """A text, or an object word for word where the dialect takes structured documents."""
    top_n: int | None = None
    return_documents: bool | None = None
    rest: Mapping[str, msgspec.Raw] = {}
    hints: tuple[str, ...] = ()
    """As of `ChatRequest`."""


class CountRequest(msgspec.Struct, frozen=True):
    """A chat whose input is to be counted, not answered."""

    chat: ChatRequest

    @property
    def model(self) -> str:
        return self.chat.model

    @property
    def hints(self) -> tuple[str, ...]:
        """As of the chat."""
        return self.chat.hints
