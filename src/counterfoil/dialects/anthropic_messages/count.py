"""Token counting of the messages API: a request as for a message, and one number.

Rule: what only shapes the reply (its bound, sampling, stops) is no part of what is counted, and is left out without a
word.

https://platform.claude.com/docs/en/api/messages-count-tokens
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec

from counterfoil.core.error import Failure, RequestError
from counterfoil.core.event import Event, ReplyFailed, TokensCounted
from counterfoil.core.operation import ChatRequest, CountRequest, Operation
from counterfoil.dialects.anthropic_messages.failure import frame_failure, read_failure, write_failure
from counterfoil.dialects.anthropic_messages.request import patch_request, read_request
from counterfoil.dialects.anthropic_messages.request_write import write_request
from counterfoil.dialects.dialect import ClientDialect, FinalUsage, Quirks, ReplyFacts, RequestPeek, WrittenRequest
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.whole import Fields, encode, fields_of, given, whole_decoder, whole_encoder, whole_relay
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
    "user": None,
    "service_tier": None,
    "stream": False,
}
"""What shapes a reply only, and what says nothing of it."""


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
    except msgspec.ValidationError as error:
        raise RequestError(f"The request is not a request to count tokens: {error}.") from None
    except msgspec.DecodeError as error:
        raise RequestError(f"The request body is not JSON: {error}.", code="invalid_json") from None
    except RecursionError:
        raise RequestError("The request body is nested too deeply.", code="too_deep") from None
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
    chat: ChatRequest = msgspec.structs.replace(request.chat, **_REPLY_ONLY)
    written = write_request(chat, model, quirks, drop)
    body = {name: value for name, value in fields_of(written.body).items() if name in _COUNTED}
    return WrittenRequest(encode(body), written.dropped)


def _read_reply(body: bytes) -> Sequence[Event]:
    fields = fields_of(body)
    if given(fields.get("error")):
        return (ReplyFailed(frame_failure(bytes(fields["error"]))),)
    return (TokensCounted(_REPLY.decode(body).input_tokens),)


def _unreadable(body: bytes) -> Failure:
    return bad_reply(f"a body of {len(body)} bytes that is not a count of tokens")


def _write_reply(events: Sequence[Event], facts: ReplyFacts, final: FinalUsage) -> bytes:
    counted = next((event.input_tokens for event in events if isinstance(event, TokensCounted)), None)
    return encode({"input_tokens": counted})


def _mend(fields: Fields, facts: ReplyFacts, final: FinalUsage) -> Mapping[str, msgspec.Raw | None]:
    """Nothing: a count names no model and has no usage of its own."""
    return {}


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
    decoder=whole_decoder(_read_reply, _unreadable),
    encoder=whole_encoder(_write_reply, write_failure),
    relay=whole_relay(_mend, write_failure),
    read_failure=read_failure,
    write_failure=write_failure,
)
"""The dialect, as the registry lists it."""
