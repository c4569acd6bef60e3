"""Calls without a client of one's own: they share one, made at the first call and closed when the interpreter ends."""

from __future__ import annotations

import threading
from collections.abc import Coroutine, Sequence
from typing import Any, Literal, overload

from counterfoil.sdk.client import AsyncClient, Client
from counterfoil.sdk.reply import ChatCompletion, EmbeddingResponse
from counterfoil.sdk.stream import AsyncStream, Stream

__all__ = ["acompletion", "aembedding", "completion", "embedding", "shared_async_client", "shared_client"]

_lock = threading.Lock()
_client: Client | None = None
_async_client: AsyncClient | None = None


@overload
def completion(
    model: str, messages: Sequence[Any], *, stream: Literal[False] = False, **params: object
) -> ChatCompletion: ...
@overload
def completion(model: str, messages: Sequence[Any], *, stream: Literal[True], **params: object) -> Stream: ...
@overload
def completion(
    model: str, messages: Sequence[Any], *, stream: bool | None, **params: object
) -> ChatCompletion | Stream: ...
def completion(
    model: str, messages: Sequence[Any], *, stream: bool | None = False, **params: object
) -> ChatCompletion | Stream:
    """Ask a model: `completion("openai/gpt-4o-mini", [{"role": "user", "content": "Good morning"}])`.

    `model`: `provider/model`, a name that only one provider means, a route of $COUNTERFOIL_CONFIG, or whatever the
    gateway at `base_url` or $COUNTERFOIL_BASE_URL serves. `params`: every field of OpenAI's chat request, and ours, as
    `Client` and `chat.completions.create` have them. Raises counterfoil.Error.
    """
    return shared_client().chat.completions.create(model=model, messages=messages, stream=stream, **params)


@overload
def acompletion(
    model: str, messages: Sequence[Any], *, stream: Literal[False] = False, **params: object
) -> Coroutine[Any, Any, ChatCompletion]: ...
@overload
def acompletion(
    model: str, messages: Sequence[Any], *, stream: Literal[True], **params: object
) -> Coroutine[Any, Any, AsyncStream]: ...
@overload
def acompletion(
    model: str, messages: Sequence[Any], *, stream: bool | None, **params: object
) -> Coroutine[Any, Any, ChatCompletion | AsyncStream]: ...
def acompletion(
    model: str, messages: Sequence[Any], *, stream: bool | None = False, **params: object
) -> Coroutine[Any, Any, Any]:
    """`completion`, to be awaited. Any number of event loops may use it, one after the other or at once."""
    return shared_async_client().chat.completions.create(model=model, messages=messages, stream=stream, **params)


def embedding(model: str, input: object, **params: object) -> EmbeddingResponse:  # noqa: A002 - OpenAI's name
    """Vectors: `embedding("openai/text-embedding-3-small", ["low tide", "high tide"])`.

    `model` as of `completion`; `input`: a text, a list of texts, or tokens; `params`: every field of OpenAI's
    embeddings request, and ours. Raises counterfoil.Error.
    """
    return shared_client().embeddings.create(model=model, input=input, **params)


def aembedding(
    model: str,
    input: object,  # noqa: A002 - OpenAI's name
    **params: object,
) -> Coroutine[Any, Any, EmbeddingResponse]:
    """`embedding`, to be awaited."""
    return shared_async_client().embeddings.create(model=model, input=input, **params)


def shared_client() -> Client:
    """The client of all `completion` and `embedding` calls."""
    global _client
    with _lock:
        if _client is None:
            _client = Client()
        return _client


def shared_async_client() -> AsyncClient:
    """The client of all `acompletion` and `aembedding` calls."""
    global _async_client
    with _lock:
        if _async_client is None:
            _async_client = AsyncClient()
        return _async_client
