"""What the exchange must know of a chat request that is otherwise only carried."""

from __future__ import annotations

from typing import Final

import msgspec

from counterfoil.core.error import RequestError
from counterfoil.dialects.dialect import RequestPeek
from counterfoil.dialects.openai_chat.request import CHOICES_LIMIT
from counterfoil.dialects.refusal import refused
from counterfoil.dialects.schema import UNREADABLE

__all__ = ["peek_request"]


class _StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class _Request(msgspec.Struct, frozen=True):
    model: str
    messages: list[msgspec.Raw]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None
    user: str | None = None


_decoder: Final = msgspec.json.Decoder(_Request)


def peek_request(body: bytes) -> RequestPeek:
    """Read what must be known. Raises RequestError: not JSON, a wrong type, no model, no message, `n` out of bounds."""
    try:
        request = _decoder.decode(body)
    except UNREADABLE as error:
        raise refused(error) from None
    if not request.model:
        raise RequestError("`model` is empty. Name a model; GET /v1/models lists them.", param="model")
    if not request.messages:
        raise RequestError("`messages` is empty. Send at least one message.", param="messages")
    if request.n is not None and not 1 <= request.n <= CHOICES_LIMIT:
        raise RequestError(f"`n` must be between 1 and {CHOICES_LIMIT}.", param="n")
    options = request.stream_options
    return RequestPeek(
        model=request.model,
        streamed=bool(request.stream),
        usage_asked=bool(options and options.include_usage),
        choices=request.n or 1,
        user=request.user,
    )
