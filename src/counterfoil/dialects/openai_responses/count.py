"""How many tokens a request would be: `POST /responses/input_tokens`.

Rule: what only shapes the reply (its bound, sampling, what is included) is no part of what is counted, and is left out
without a word. Nothing runs and nothing is billed, so the answer is a count and no usage.

https://platform.openai.com/docs/api-reference/responses/input-tokens
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import Event, ReplyFailed, TokensCounted
from counterfoil.core.operation import ChatRequest, CountRequest, Operation
from counterfoil.dialects.dialect import ClientDialect, FinalUsage, Quirks, ReplyFacts, RequestPeek, WrittenRequest
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.openai_responses.failure import frame_failure, read_failure, write_failure
from counterfoil.dialects.openai_responses.request import patch_request, peek_request, read_request
from counterfoil.dialects.openai_responses.request_write import write_request
from counterfoil.dialects.whole import Fields, encode, fields_of, given, whole_decoder, whole_encoder, whole_relay
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
    chat: ChatRequest = msgspec.structs.replace(request.chat, **_REPLY_ONLY)
    written = write_request(chat, model, quirks, drop)
    body = {name: value for name, value in fields_of(written.body).items() if name in _COUNTED}
    return WrittenRequest(encode(body), written.dropped)


def _read_reply(body: bytes) -> Sequence[Event]:
    if given(fields_of(body).get("error")):
        return (ReplyFailed(frame_failure(body)),)
    return (TokensCounted(_REPLY.decode(body).input_tokens),)


def _unreadable(body: bytes) -> Failure:
    return bad_reply(f"a body of {len(body)} bytes that is not a count of tokens")


def _write_reply(events: Sequence[Event], facts: ReplyFacts, final: FinalUsage) -> bytes:
    counted = next((event.input_tokens for event in events if isinstance(event, TokensCounted)), None)
    return encode({"object": "response.input_tokens", "input_tokens": counted})


def _mend(fields: Fields, facts: ReplyFacts, final: FinalUsage) -> Mapping[str, msgspec.Raw | None]:
    """Nothing: a count names no model and has no usage of its own."""
    return {}


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
    decoder=whole_decoder(_read_reply, _unreadable),
    encoder=whole_encoder(_write_reply, write_failure),
    relay=whole_relay(_mend, write_failure),
    read_failure=read_failure,
    write_failure=write_failure,
)
"""The dialect, as the registry lists it."""
