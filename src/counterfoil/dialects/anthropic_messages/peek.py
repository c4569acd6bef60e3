"""What the exchange must know of a messages request that is otherwise only carried."""

from __future__ import annotations

from typing import Final

import msgspec

from counterfoil.core.error import RequestError
from counterfoil.dialects.dialect import RequestPeek
from counterfoil.dialects.refusal import refused
from counterfoil.dialects.schema import UNREADABLE

__all__ = ["peek_request"]


class _Metadata(msgspec.Struct, frozen=True):
    user_id: str | None = None


class _Request(msgspec.Struct, frozen=True):
    model: str
    messages: list[msgspec.Raw]
    max_tokens: int
    stream: bool | None = None
    metadata: _Metadata | None = None


_decoder: Final = msgspec.json.Decoder(_Request)


def peek_request(body: bytes) -> RequestPeek:
    """Read what must be known. Raises RequestError. In this dialect usage is always part of a stream."""
    try:
        request = _decoder.decode(body)
    except UNREADABLE as error:
        raise refused(error) from None
    if not request.model:
        raise RequestError("`model` is empty. Name a model; GET /v1/models lists them.", param="model")
    if not request.messages:
        raise RequestError("`messages` is empty. Send at least one message.", param="messages")
    return RequestPeek(
        model=request.model,
        streamed=bool(request.stream),
        usage_asked=True,
        user=request.metadata.user_id if request.metadata else None,
    )
