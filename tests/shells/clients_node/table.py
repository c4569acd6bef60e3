"""The clients: what each is made of, how it is asked, how its usage is read, and what it raises.

Rule 1: a table. What a client has no place for, or reads otherwise, is a field of its row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from counterfoil.testing import Counts
from tests.shells.clients import told
from tests.shells.clients_node.house import Way

__all__ = ["CLIENTS", "Client", "counts_of_messages"]

Usage = Mapping[str, Any]
Raised = tuple[str, int | None]
"""The class of an exception, and its status."""

WHOLE_AND_STREAM: Final[tuple[Way, ...]] = ("whole", "stream")
ALL_WAYS: Final[tuple[Way, ...]] = ("whole", "stream", "helper")


def _of_responses(usage: Usage) -> Counts:
    inside, out = usage["input_tokens_details"], usage["output_tokens_details"]
    counts = Counts(
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        cache_read=inside["cached_tokens"],
        cache_write=inside.get("cache_write_tokens"),
        reasoning=out["reasoning_tokens"],
    )
    assert usage["total_tokens"] == counts.total
    return counts


def counts_of_messages(usage: Usage) -> Counts:
    read, write = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    return Counts(
        input=usage["input_tokens"] + (read or 0) + (write or 0),
        output=usage["output_tokens"],
        cache_read=read,
        cache_write=write,
        reasoning=(usage.get("output_tokens_details") or {}).get("thinking_tokens"),
    )


def _of_langchain(usage: Usage) -> Counts:
    inside, out = usage.get("input_token_details") or {}, usage.get("output_token_details") or {}
    counts = Counts(
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        cache_read=inside.get("cache_read"),
        cache_write=inside.get("cache_creation"),
        reasoning=out.get("reasoning"),
    )
    assert usage["total_tokens"] == counts.total
    return counts


def _of_ai(usage: Usage) -> Counts:
    inside, out = usage["inputTokenDetails"], usage["outputTokenDetails"]
    counts = Counts(
        input=usage["inputTokens"],
        output=usage["outputTokens"],
        cache_read=inside.get("cacheReadTokens"),
        cache_write=inside.get("cacheWriteTokens"),
        reasoning=out.get("reasoningTokens"),
    )
    assert usage["totalTokens"] == counts.total
    return counts


OPENAI: Final[Mapping[str, Raised]] = {
    "field": ("BadRequestError", 400),
    "key": ("AuthenticationError", 401),
    "size": ("APIError", 413),
    "unknown": ("NotFoundError", 404),
    "refused": ("InternalServerError", 503),
    "silent": ("InternalServerError", 502),
    "broken": ("APIError", None),
}
"""What `openai` raises, and older `@anthropic-ai/sdk`; LangChain.js lets their exceptions through."""
ANTHROPIC: Final[Mapping[str, Raised]] = {
    **OPENAI,
    "size": ("ContentTooLargeError", 413),
    "refused": ("ServiceUnavailableError", 503),
}
AI: Final[Mapping[str, Raised]] = {
    "field": ("APICallError", 400),
    "key": ("APICallError", 401),
    "size": ("APICallError", 413),
    "unknown": ("APICallError", 404),
    "refused": ("APICallError", 503),
    "silent": ("APICallError", 502),
    "broken": ("StreamProviderError", 500),
}
"""What `ai` raises. In a stream the error is a part of the stream; its status is of the client's own making."""
AI_COMPATIBLE: Final[Mapping[str, Raised]] = {**AI, "broken": ("StreamProviderError", None)}
"""The same, but for that status."""


@dataclasses.dataclass(frozen=True)
class Client:
    """One client: what it is made of, how it is asked, and how its usage is read."""

    packages: tuple[str, ...]
    program: str
    native: str
    """The dialect it speaks."""
    counts: Callable[[Usage], Counts]
    raised: Mapping[str, Raised]
    door: str = "chat"
    """Which of its doors, where it has two."""
    ways: tuple[Way, ...] = WHOLE_AND_STREAM
    lacks: frozenset[str] = frozenset()
    """The counts that this client has no place for."""
    reasons: bool = True
    """Whether it has a place for the text of reasoning."""
    reads_head: bool = False
    """Whether it reads a stream's input in `message_start` only."""


CLIENTS: Final[Mapping[str, Client]] = {
    "openai, chat completions": Client(("openai",), "openai_chat", "openai_chat", told, OPENAI, ways=ALL_WAYS),
    "openai, responses": Client(
        ("openai",), "openai_responses", "openai_responses", _of_responses, OPENAI, ways=ALL_WAYS
    ),
    "@anthropic-ai/sdk": Client(
        ("@anthropic-ai/sdk",), "anthropic", "anthropic_messages", counts_of_messages, ANTHROPIC, ways=ALL_WAYS
    ),
    "@langchain/openai": Client(
        ("@langchain/openai", "@langchain/core"),
        "langchain_openai",
        "openai_chat",
        _of_langchain,
        OPENAI,
    ),
    "@langchain/openai, responses": Client(
        ("@langchain/openai", "@langchain/core"),
        "langchain_openai",
        "openai_responses",
        _of_langchain,
        OPENAI,
        door="responses",
    ),
    "@langchain/anthropic": Client(
        ("@langchain/anthropic", "@langchain/core"),
        "langchain_anthropic",
        "anthropic_messages",
        _of_langchain,
        OPENAI,
        lacks=frozenset({"reasoning"}),
        reads_head=True,
    ),
    "@ai-sdk/openai-compatible": Client(
        ("@ai-sdk/openai-compatible", "ai"),
        "ai_compatible",
        "openai_chat",
        _of_ai,
        AI_COMPATIBLE,
        lacks=frozenset({"cache_write"}),
    ),
    "@ai-sdk/openai": Client(
        ("@ai-sdk/openai", "ai"),
        "ai_openai",
        "openai_responses",
        _of_ai,
        AI,
        door="responses",
    ),
    "@ai-sdk/openai, chat completions": Client(
        ("@ai-sdk/openai", "ai"), "ai_openai", "openai_chat", _of_ai, AI, reasons=False
    ),
    "@ai-sdk/anthropic": Client(("@ai-sdk/anthropic", "ai"), "ai_anthropic", "anthropic_messages", _of_ai, AI),
}
