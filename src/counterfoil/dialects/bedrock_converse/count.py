"""CountTokens: the parts of a Converse request that are input, and one number. It runs no model.

Rule: what only shapes the reply (its bound, sampling, stops) is no part of what is counted, and is left out without a
word.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html; recorded:
pydantic-ai bedrock-model-usage-limit-not-exceeded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import Event, TokensCounted
from counterfoil.core.operation import ChatRequest, CountRequest
from counterfoil.dialects.bedrock_converse.request import write_request
from counterfoil.dialects.bedrock_converse.schema import encode, fields_of
from counterfoil.dialects.dialect import Quirks, WrittenRequest
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.whole import whole_decoder

__all__ = ["count_decoder", "write_count"]

_COUNTED: Final = frozenset({"messages", "system", "toolConfig", "additionalModelRequestFields"})
_REPLY_ONLY: Final[Mapping[str, object]] = {
    "max_output_tokens": None,
    "temperature": None,
    "top_p": None,
    "top_k": None,
    "stop": (),
    "n": 1,
    "seed": None,
    "presence_penalty": None,
    "frequency_penalty": None,
    "logprobs": None,
    "top_logprobs": None,
    "response_format": None,
    "user": None,
    "service_tier": None,
    "stream": False,
}


class _Reply(msgspec.Struct, frozen=True, rename="camel"):
    input_tokens: Annotated[int, msgspec.Meta(ge=0)]


_REPLY: Final = msgspec.json.Decoder(_Reply)


def write_count(request: CountRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The body of CountTokens. Raises RequestError."""
    chat: ChatRequest = msgspec.structs.replace(request.chat, **_REPLY_ONLY)
    written = write_request(chat, model, quirks, drop)
    counted = {name: value for name, value in fields_of(written.body).items() if name in _COUNTED}
    return WrittenRequest(encode({"input": {"converse": counted}}), written.dropped)


def _read_reply(body: bytes) -> Sequence[Event]:
    return (TokensCounted(_REPLY.decode(body).input_tokens),)


def _unreadable(body: bytes) -> Failure:
    return bad_reply(f"a body of {len(body)} bytes that is not a count of tokens")


count_decoder: Final = whole_decoder(_read_reply, _unreadable)
