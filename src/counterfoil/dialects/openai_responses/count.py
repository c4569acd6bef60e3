"""How many tokens a request would be: `POST /responses/input_tokens`.

https://platform.openai.com/docs/api-reference/responses/input-tokens
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from counterfoil.core.event import Event, ReplyFailed, TokensCounted
from counterfoil.core.operation import CountRequest, Operation
from counterfoil.dialects.counting import count_decoder, count_of, count_relay, counted_fields
from counterfoil.dialects.dialect import ClientDialect, FinalUsage, Quirks, ReplyFacts, RequestPeek, WrittenRequest
from counterfoil.dialects.openai_responses.failure import frame_failure, read_failure, write_failure
from counterfoil.dialects.openai_responses.request import patch_request, peek_request, read_request
from counterfoil.dialects.openai_responses.request_write import write_request
from counterfoil.dialects.schema import encode, fields_of, given
from counterfoil.dialects.whole import whole_encoder
from counterfoil.framing.whole import WholeFraming
from counterfoil.usage.settle import Convention

__all__ = ["OPENAI_RESPONSES_COUNT"]

_COUNTED: Final = frozenset(
    {
        "model",
        "input",
        "previous_response_id",
        "tools",
        "text",
        "reasoning",
        "truncation",
        "instructions",
        "personality",
        "conversation",
        "tool_choice",
        "parallel_tool_calls",
    }
)
"""The fields the endpoint takes: `TokenCountsBody` of the published schema."""


class _Reply(msgspec.Struct, frozen=True):
    input_tokens: Annotated[int, msgspec.Meta(ge=0)]


_REPLY: Final = msgspec.json.Decoder(_Reply)


def _path(model: str, streamed: bool) -> str:
    return "/responses/input_tokens"


def _peek(body: bytes) -> RequestPeek:
    """Read what must be known. Raises RequestError."""
    return msgspec.structs.replace(peek_request(body), streamed=False, usage_asked=False)


def _read_request(body: bytes) -> CountRequest:
    """A client's body. Raises RequestError."""
    return CountRequest(read_request(body))


def _write_request(request: CountRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The chat as it would be sent, as far as it is counted. Raises RequestError."""
    body, dropped = counted_fields(request, _COUNTED, lambda chat: write_request(chat, model, quirks, drop))
    return WrittenRequest(encode(body), dropped)


def _read_reply(body: bytes) -> Sequence[Event]:
    if given(fields_of(body).get("error")):
        return (ReplyFailed(frame_failure(body)),)
    return (TokensCounted(_REPLY.decode(body).input_tokens),)


def _write_reply(events: Sequence[Event], facts: ReplyFacts, final: FinalUsage) -> bytes:
    counted = count_of(events)
    return encode(
        {"object": "response.input_tokens", "input_tokens": None if counted is None else counted.input_tokens}
    )


OPENAI_RESPONSES_COUNT: Final = ClientDialect[CountRequest](
    name="openai_responses.count",
    operation=Operation.COUNT,
    convention=Convention(no_model=True),
    framing=WholeFraming,
    path=_path,
    content_type="application/json",
    carried_headers=("openai-beta",),
    listed_headers=frozenset({"openai-beta"}),
    id_prefix="count_",
    peek_request=_peek,
    read_request=_read_request,
    write_request=_write_request,
    patch_request=patch_request,
    decoder=count_decoder(_read_reply),
    encoder=whole_encoder(_write_reply, write_failure),
    relay=count_relay(write_failure),
    read_failure=read_failure,
    write_failure=write_failure,
)
"""The dialect, as the registry lists it."""
