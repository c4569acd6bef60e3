"""Gemini's token counting: `countTokens` of a chat as it would be sent, and one number.

Rule: contents alone are counted as they are; with a system prompt or tools the Gemini API wants the whole request
inside `generateContentRequest`, and Vertex takes its fields beside the contents.

https://ai.google.dev/api/tokens, https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/count-tokens
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import Event, ReplyFailed, TokensCounted
from counterfoil.core.operation import CountRequest, Operation
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Dialect, Quirks, WrittenRequest
from counterfoil.dialects.gemini.failure import bad_reply, frame_failure, read_failure
from counterfoil.dialects.gemini.path import method_path, model_name
from counterfoil.dialects.gemini.request_write import chat_body
from counterfoil.dialects.gemini.schema import NO_RAW, encode, given
from counterfoil.dialects.whole import whole_decoder
from counterfoil.framing.whole import WholeFraming
from counterfoil.usage.settle import Convention

__all__ = ["GEMINI_COUNT", "NO_WRAPPING"]

NO_WRAPPING: Final = "generateContentRequest"
"""In `Quirks.unsupported` where the request's fields stand beside its contents (Vertex)."""

_COUNTED: Final = ("contents", "systemInstruction", "tools")


class _Reply(msgspec.Struct, frozen=True, rename="camel"):
    total_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    cached_content_token_count: Annotated[int, msgspec.Meta(ge=0)] | None = None
    error: msgspec.Raw = NO_RAW


_REPLY: Final = msgspec.json.Decoder(_Reply)


def _path(model: str, streamed: bool) -> str:
    return method_path(model, "countTokens")


def _write_request(request: CountRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The chat as it would be sent, as far as it is counted: what only shapes a reply is left out without a word.
    Raises RequestError."""
    chat, desk = request.chat, Desk(drop)
    counted = msgspec.structs.replace(chat, reasoning=None, service_tier=None, user=None, parallel_tool_calls=None)
    body = {name: value for name, value in chat_body(counted, quirks, desk).items() if name in _COUNTED}
    if len(body) > 1 and NO_WRAPPING not in quirks.unsupported:
        return WrittenRequest(encode({NO_WRAPPING: {"model": model_name(model), **body}}), desk.dropped)
    return WrittenRequest(encode(body), desk.dropped)


def _read_reply(body: bytes) -> Sequence[Event]:
    said = _REPLY.decode(body)
    if given(said.error):
        return (ReplyFailed(frame_failure(bytes(said.error))),)
    if said.total_tokens is None:
        return (ReplyFailed(_unreadable(body)),)
    return (TokensCounted(said.total_tokens, said.cached_content_token_count),)


def _unreadable(body: bytes) -> Failure:
    return bad_reply(f"a body of {len(body)} bytes that is not a count of tokens")


GEMINI_COUNT: Final = Dialect[CountRequest](
    name="gemini.count",
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
