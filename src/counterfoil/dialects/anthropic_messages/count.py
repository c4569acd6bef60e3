"""Token counting of the messages API: a request as for a message, and one number.

https://platform.claude.com/docs/en/api/messages-count-tokens
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from counterfoil.core.error import RequestError
from counterfoil.core.event import Event, ReplyFailed, TokensCounted
from counterfoil.core.operation import CountRequest, Operation
from counterfoil.dialects.anthropic_messages.failure import frame_failure, read_failure, write_failure
from counterfoil.dialects.anthropic_messages.request import patch_request, read_request
from counterfoil.dialects.anthropic_messages.request_write import write_request
from counterfoil.dialects.counting import count_decoder, count_of, count_relay, counted_fields
from counterfoil.dialects.dialect import ClientDialect, FinalUsage, Quirks, ReplyFacts, RequestPeek, WrittenRequest
from counterfoil.dialects.refusal import refused
from counterfoil.dialects.schema import UNREADABLE, encode, fields_of, given
from counterfoil.dialects.whole import whole_encoder
from counterfoil.framing.whole import WholeFraming
from counterfoil.usage.settle import Convention

__all__ = ["ANTHROPIC_COUNT"]

_COUNTED: Final = frozenset(
    {
        "model",
        "messages",
        "system",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "cache_control",
        "context_management",
        "mcp_servers",
    }
)
"""The fields the endpoint takes."""


class _Request(msgspec.Struct, frozen=True):
    model: str
    messages: list[msgspec.Raw]


class _Reply(msgspec.Struct, frozen=True):
    input_tokens: Annotated[int, msgspec.Meta(ge=0)]


_PEEK: Final = msgspec.json.Decoder(_Request)
_REPLY: Final = msgspec.json.Decoder(_Reply)


def _path(model: str, streamed: bool) -> str:
    return "/messages/count_tokens"


def _peek(body: bytes) -> RequestPeek:
    """Read what must be known. Raises RequestError."""
    try:
        request = _PEEK.decode(body)
    except UNREADABLE as error:
        raise refused(error) from None
    if not request.model:
        raise RequestError("`model` is empty. Name a model; GET /v1/models lists them.", param="model")
    if not request.messages:
        raise RequestError("`messages` is empty. Send at least one message.", param="messages")
    return RequestPeek(model=request.model)


def _read_request(body: bytes) -> CountRequest:
    """A client's body. Raises RequestError."""
    return CountRequest(read_request(body, counted=True))


def _write_request(request: CountRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The chat as it would be sent, as far as it is counted. Raises RequestError."""
    body, dropped = counted_fields(request, _COUNTED, lambda chat: write_request(chat, model, quirks, drop))
    return WrittenRequest(encode(body), dropped)


def _read_reply(body: bytes) -> Sequence[Event]:
    fields = fields_of(body)
    if given(fields.get("error")):
        return (ReplyFailed(frame_failure(bytes(fields["error"]))),)
    return (TokensCounted(_REPLY.decode(body).input_tokens),)


def _write_reply(events: Sequence[Event], facts: ReplyFacts, final: FinalUsage) -> bytes:
    counted = count_of(events)
    return encode({"input_tokens": None if counted is None else counted.input_tokens})


ANTHROPIC_COUNT: Final = ClientDialect[CountRequest](
    name="anthropic_messages.count",
    operation=Operation.COUNT,
    convention=Convention(no_model=True),
    framing=WholeFraming,
    path=_path,
    content_type="application/json",
    carried_headers=("anthropic-version", "anthropic-beta"),
    listed_headers=frozenset({"anthropic-beta"}),
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
