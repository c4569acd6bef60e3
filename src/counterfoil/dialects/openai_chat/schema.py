"""The JSON of a chat reply on the wire, as far as it is read.

Rule 1: only what becomes an event, a report or a repair is named here; every other key is skipped, never refused.
Rule 2: absent, null and present are told apart. `NOT_SENT` stands for the absent value of a key carried word for word.
Rule 3: a key that says nothing of the content takes any type, because some provider sends it (Writer a `created` as
text); a key that holds content has a type, and a frame that breaks it is a bad reply.

Field names and shapes are those of https://platform.openai.com/docs/api-reference/chat unless a comment cites another
source. Recorded cases are named by their id.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from counterfoil.dialects.schema import NOT_SENT

__all__ = [
    "Chunk",
    "ContentPart",
    "FunctionCall",
    "ReasoningDetail",
    "ReplyChoice",
    "Said",
    "ToolCallPart",
    "XGroq",
    "decode_chunk",
    "decode_part",
    "decode_x_groq",
]


class FunctionCall(msgspec.Struct, frozen=True):
    """`tool_calls[].function`, and the legacy `function_call`."""

    name: str | None = None
    """Null in later deltas:
    openai.chat/writer/openllmetry-test-writer-async-streaming-chat-multiple-tool-call-request…"""
    arguments: str | dict[str, msgspec.Raw] | None = None
    """JSON text; absent in openai.chat/openrouter/llm-test-tools-streaming-variant-c-0-86b186, null in Writer's first
    deltas. Ollama's own API answers an object (https://docs.ollama.com/api/chat), and servers built on it leak it."""


class ToolCallPart(msgspec.Struct, frozen=True):
    """One entry of `delta.tool_calls` or `message.tool_calls`."""

    index: Any = None
    """Absent in mistral.chat/mistral/openinference-test-synchronous-streaming-chat-completions-with-tool-call-resp…"""
    id: Any = None
    function: FunctionCall | None = None
    extra_content: msgspec.Raw = NOT_SENT
    """Thought signatures of Gemini's OpenAI face (https://ai.google.dev/gemini-api/docs/thought-signatures)."""


class ContentPart(msgspec.Struct, frozen=True):
    """One entry of a `content` that is a list: mistral.chat/mistral/pydantic-ai-test-mistral-model-thinking-part-…"""

    type: str = ""
    text: str | None = None
    thinking: str | list[ContentPart] | None = None
    """https://docs.mistral.ai/capabilities/reasoning"""
    refusal: str | None = None


class ReasoningDetail(msgspec.Struct, frozen=True):
    """One entry of `reasoning_details`: https://openrouter.ai/docs/guides/best-practices/reasoning-tokens"""

    type: str = ""
    text: str | None = None
    summary: str | None = None
    signature: str | None = None
    data: str | None = None
    format: str | None = None


class Said(msgspec.Struct, frozen=True):
    """`delta` of a chunk, `message` of a whole reply: the same keys."""

    role: Any = None
    content: str | list[msgspec.Raw] | dict[str, msgspec.Raw] | None = None
    """A list: Mistral's thinking parts. An object, the parsed JSON of a structured answer:
    openai.chat/cloudflare/chatlas-test-cloudflare-data-extraction-0-2a897c."""
    reasoning_content: Any = None
    """DeepSeek (https://api-docs.deepseek.com/guides/reasoning_model), xAI, z.ai, Moonshot, Alibaba, llama.cpp."""
    reasoning: Any = None
    """OpenRouter, Groq, Cerebras, Ollama, vLLM: openai.chat/groq, openai.chat/cerebras."""
    reasoning_details: list[ReasoningDetail] | None = None
    """OpenRouter, Avian, Snowflake, Vercel's gateway."""
    refusal: str | None = None
    tool_calls: list[ToolCallPart] | None = None
    function_call: FunctionCall | None = None
    """Legacy. Empty but present in openai.chat/snowflake/pydantic-ai-test-snowflake-openai-model-0-685bea."""
    annotations: msgspec.Raw = NOT_SENT
    audio: msgspec.Raw = NOT_SENT
    images: msgspec.Raw = NOT_SENT
    """OpenRouter's image output: https://openrouter.ai/docs/guides/overview/multimodal/image-generation"""
    extra_content: msgspec.Raw = NOT_SENT
    """Gemini's OpenAI face: openai.chat/google/pydantic-ai-test-compatible-api-with-tool-calls-without-id-1-affaa4."""


class ReplyChoice(msgspec.Struct, frozen=True):
    """One entry of `choices`."""

    index: Any = None
    delta: Said | None = None
    message: Said | None = None
    """Of a whole reply. Perplexity's chunks have it beside `delta`, with all text so far: openai.chat/perplexity.
    MiniMax ends a stream with it and without `delta`: GCWing/OpenBitFun#792."""
    finish_reason: Any = None
    """"" from Snowflake, "eos" from Together; absent in
    openai.chat/openai/dd-trace-py-chat-completion-image-input-0-ee93b0."""
    stop_reason: Any = None
    """vLLM: the stop string or token that matched (https://docs.vllm.ai/en/latest/serving/openai_compatible_server).
    Mistral's models on Bedrock, which have no `finish_reason`: why it stopped
    (https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-mistral-chat-completion.html)."""
    logprobs: msgspec.Raw = NOT_SENT
    usage: msgspec.Raw = NOT_SENT
    """Moonshot's, on the last chunk, where another stands in the frame or not (earendil-works/pi#2017)."""


class XGroq(msgspec.Struct, frozen=True):
    """`x_groq`: openai.chat/groq."""

    usage: msgspec.Raw = NOT_SENT
    error: msgspec.Raw = NOT_SENT


class Chunk(msgspec.Struct, frozen=True):
    """One frame of a streamed reply, or the body of a whole one."""

    id: Any = None
    """Empty in Azure's first chunk and in openai.chat/snowflake."""
    object: Any = None
    created: Any = None
    """Text in openai.chat/writer."""
    model: Any = None
    choices: list[ReplyChoice] | None = None
    """Empty in Azure's first chunk and in a usage chunk; the key is absent in a legacy Writer chunk (WIRE.md 2)."""
    usage: msgspec.Raw = NOT_SENT
    service_tier: Any = None
    """The one that served it, which need not be the one asked for. Recorded: openai.chat/openai, "default"."""
    x_groq: msgspec.Raw = NOT_SENT
    error: msgspec.Raw = NOT_SENT
    """openai.chat/openrouter/pydantic-ai-test-openrouter-stream-error-0-9c47fe has it beside choices and usage."""
    base_resp: msgspec.Raw = NOT_SENT
    """MiniMax's, of every reply and, without choices, of every failure:
    https://platform.minimax.io/docs/api-reference/text-post"""
    timings: msgspec.Raw = NOT_SENT
    """llama.cpp (WIRE.md 4)."""
    citations: msgspec.Raw = NOT_SENT
    """Perplexity repeats it in every chunk: openai.chat/perplexity."""


_CHUNK: Final = msgspec.json.Decoder(Chunk)
_X_GROQ: Final = msgspec.json.Decoder(XGroq)
_PART: Final = msgspec.json.Decoder(ContentPart)


def decode_chunk(data: bytes) -> Chunk:
    """One chunk or whole body. Raises one of UNREADABLE."""
    return _CHUNK.decode(data)


def decode_x_groq(raw: msgspec.Raw) -> XGroq:
    """The value of `x_groq`. Raises as `decode_chunk`."""
    return _X_GROQ.decode(raw)


def decode_part(raw: msgspec.Raw) -> ContentPart:
    """One part of a `content` that is a list. Raises as `decode_chunk`."""
    return _PART.decode(raw)
