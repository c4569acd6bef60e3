"""CountTokens: the parts of a Converse request that are input, and one number. It runs no model.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html; recorded:
pydantic-ai bedrock-model-usage-limit-not-exceeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from counterfoil.core.event import Event, TokensCounted
from counterfoil.core.operation import CountRequest
from counterfoil.dialects.bedrock_converse.request import write_request
from counterfoil.dialects.counting import count_decoder, counted_fields
from counterfoil.dialects.dialect import Quirks, WrittenRequest
from counterfoil.dialects.schema import encode

__all__ = ["decoder", "write_count"]

_COUNTED: Final = frozenset({"messages", "system", "toolConfig", "additionalModelRequestFields"})


class _Reply(msgspec.Struct, frozen=True, rename="camel"):
    input_tokens: Annotated[int, msgspec.Meta(ge=0)]


_REPLY: Final = msgspec.json.Decoder(_Reply)


def write_count(request: CountRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The body of CountTokens. Raises RequestError."""
    fields, dropped = counted_fields(
        request, _COUNTED, lambda chat: write_request(chat, model, quirks, drop), {"response_format": None}
    )
    return WrittenRequest(encode({"input": {"converse": fields}}), dropped)


def _read_reply(body: bytes) -> Sequence[Event]:
    return (TokensCounted(_REPLY.decode(body).input_tokens),)


decoder: Final = count_decoder(_read_reply)
