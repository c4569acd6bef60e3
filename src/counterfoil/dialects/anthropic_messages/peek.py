"""What the exchange must know of a messages request that is otherwise only carried."""

from __future__ import annotations

from typing import Final

import msgspec

from counterfoil.core.error import RequestError
from counterfoil.dialects.dialect import RequestPeek

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
    except msgspec.ValidationError as error:
        raise RequestError(f"The request is not a messages request: {error}.") from None
    except msgspec.DecodeError as error:
        raise RequestError(f"The request body is not JSON: {error}.", code="invalid_json") from None
    except RecursionError:
        raise RequestError("The request body is nested too deeply.", code="too_deep") from None
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
