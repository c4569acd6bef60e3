"""Counterfoil: an LLM gateway, a Python SDK and a LangChain chat model that keep exact books.

Bytes become frames, frames become events, events carry readings, readings settle into usage, usage becomes one ledger
entry per attempt. Everything that touches a socket, a clock, a disk or a secret stands outside that sentence.

What is offered here is imported when it is first used, so that `import counterfoil` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from counterfoil.ledger.entry import Entry
    from counterfoil.sdk.assemble import stream_chunk_builder
    from counterfoil.sdk.calls import acompletion, aembedding, completion, embedding
    from counterfoil.sdk.client import AsyncClient, Client
    from counterfoil.sdk.errors import (
        APIConnectionError,
        APIError,
        APIStatusError,
        AuthenticationError,
        BadReplyError,
        BadRequestError,
        ConfigurationError,
        ConflictError,
        ContentPolicyViolationError,
        ContextWindowExceededError,
        Error,
        InternalServerError,
        NotFoundError,
        PermissionDeniedError,
        RateLimitError,
        RequestTooLargeError,
        ServiceUnavailableError,
        Timeout,
        UnprocessableEntityError,
        UnsupportedParamsError,
    )
    from counterfoil.sdk.meter import Meter, meter
    from counterfoil.sdk.reply import ChatCompletion, ChatCompletionChunk, EmbeddingResponse, completion_cost
    from counterfoil.sdk.stream import AsyncStream, Stream
    from counterfoil.usage.usage import Usage

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIStatusError",
    "AsyncClient",
    "AsyncStream",
    "AuthenticationError",
    "BadReplyError",
    "BadRequestError",
    "ChatCompletion",
    "ChatCompletionChunk",
    "Client",
    "ConfigurationError",
    "ConflictError",
    "ContentPolicyViolationError",
    "ContextWindowExceededError",
    "EmbeddingResponse",
    "Entry",
    "Error",
    "InternalServerError",
    "Meter",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTooLargeError",
    "ServiceUnavailableError",
    "Stream",
    "Timeout",
    "UnprocessableEntityError",
    "UnsupportedParamsError",
    "Usage",
    "__version__",
    "acompletion",
    "aembedding",
    "completion",
    "completion_cost",
    "embedding",
    "meter",
    "stream_chunk_builder",
]

__version__ = "0.1.0"

_ELSEWHERE = {
    "AsyncClient": "sdk.client",
    "AsyncStream": "sdk.stream",
    "ChatCompletion": "sdk.reply",
    "ChatCompletionChunk": "sdk.reply",
    "Client": "sdk.client",
    "EmbeddingResponse": "sdk.reply",
    "Entry": "ledger.entry",
    "Meter": "sdk.meter",
    "Stream": "sdk.stream",
    "Usage": "usage.usage",
    "acompletion": "sdk.calls",
    "aembedding": "sdk.calls",
    "completion": "sdk.calls",
    "completion_cost": "sdk.reply",
    "embedding": "sdk.calls",
    "meter": "sdk.meter",
    "stream_chunk_builder": "sdk.assemble",
}
"""Where each name is; the errors, which are all that is left, are in one place."""


if not TYPE_CHECKING:  # to a type checker every name would seem to be there

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'counterfoil' has no attribute {name!r}")
        found = getattr(importlib.import_module(f"counterfoil.{_ELSEWHERE.get(name, 'sdk.errors')}"), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
