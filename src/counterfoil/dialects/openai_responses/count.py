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
from counterfoil.dialects.dialect import Dialect, Quirks, WrittenRequest
from counterfoil.dialects.openai_responses.failure import bad_reply, read_failed, read_failure
from counterfoil.dialects.openai_responses.request_write import write_request
from counterfoil.dialects.whole import encode, fields_of, given, whole_decoder
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


def _write_request(request: CountRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The chat as it would be sent, as far as it is counted. Raises RequestError."""
    chat: ChatRequest = msgspec.structs.replace(request.chat, **_REPLY_ONLY)
    written = write_request(chat, model, quirks, drop)
    body = {name: value for name, value in fields_of(written.body).items() if name in _COUNTED}
    return WrittenRequest(encode(body), written.dropped)


def _read_reply(body: bytes) -> Sequence[Event]:
    if given(fields_of(body).get("error")):
        return (ReplyFailed(read_failed(body)),)
    return (TokensCounted(_REPLY.decode(body).input_tokens),)


def _unreadable(body: bytes) -> Failure:
    return bad_reply(f"a body of {len(body)} bytes that is not a count of tokens")


OPENAI_RESPONSES_COUNT: Final = Dialect[CountRequest](
    name="openai_responses.count",
    operation=Operation.COUNT,
    convention=Convention(no_model=True),
    framing=WholeFraming,
    path=_path,
    content_type="application/json",
    write_request=_write_request,
    decoder=whole_decoder(_read_reply, _unreadable),
    read_failure=read_failure,
)
"""The dialect, as the registry lists it."""
