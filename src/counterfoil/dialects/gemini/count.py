"""Gemini's token counting: `countTokens` of a chat as it would be sent, and one number.

Rule: contents alone are counted as they are; with a system prompt or tools the Gemini API wants the whole request
inside `generateContentRequest`, and Vertex takes its fields beside the contents.

https://ai.google.dev/api/tokens, https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/count-tokens
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from counterfoil.core.error import RequestError
from counterfoil.core.event import Event, ReplyFailed, TokensCounted
from counterfoil.core.operation import CountRequest, Operation
from counterfoil.dialects.counting import count_decoder, count_of, count_relay, no_count
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import ClientDialect, FinalUsage, Quirks, ReplyFacts, RequestPeek, WrittenRequest
from counterfoil.dialects.gemini.door import MODEL, without_spliced
from counterfoil.dialects.gemini.failure import frame_failure, read_failure, write_failure
from counterfoil.dialects.gemini.path import method_path, model_name
from counterfoil.dialects.gemini.request import chat_of
from counterfoil.dialects.gemini.request_write import chat_body
from counterfoil.dialects.gemini.wish import Fields, body_fields, inside, list_of, request_fields, value
from counterfoil.dialects.schema import NOT_SENT, encode, given
from counterfoil.dialects.whole import whole_encoder
from counterfoil.framing.whole import WholeFraming
from counterfoil.usage.settle import Convention

__all__ = ["GEMINI_COUNT", "NO_WRAPPING"]

NO_WRAPPING: Final = "generateContentRequest"
"""In `Quirks.unsupported` where the request's fields stand beside its contents (Vertex)."""

_COUNTED: Final = ("contents", "systemInstruction", "tools")


class _Reply(msgspec.Struct, frozen=True, rename="camel"):
    total_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    cached_content_token_count: Annotated[int, msgspec.Meta(ge=0)] | None = None
    error: msgspec.Raw = NOT_SENT


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
        return (ReplyFailed(no_count(body)),)
    return (TokensCounted(said.total_tokens, said.cached_content_token_count),)


def _wrapped(fields: Fields) -> Fields:
    """The fields that are counted: inside `generateContentRequest`, or the body's own."""
    found = inside(fields, NO_WRAPPING) or without_spliced(fields)
    if not list_of(found.get("contents"), "contents"):
        raise RequestError("contents: at least one content is required", param="contents")
    return found


def _peek_request(body: bytes) -> RequestPeek:
    """Read what must be known. Raises RequestError."""
    fields = request_fields(body)
    _wrapped(fields)
    return RequestPeek(model=value(fields, MODEL, str) or "")


def _read_request(body: bytes) -> CountRequest:
    """A client's body. Raises RequestError."""
    fields = request_fields(body)
    chat = chat_of({name: raw for name, raw in _wrapped(fields).items() if name != MODEL})
    return CountRequest(msgspec.structs.replace(chat, model=value(fields, MODEL, str) or ""))


def _patch_request(body: bytes, model: str, quirks: Quirks, ask_usage: bool) -> bytes:
    """The client's body; a wrapped request names the provider's model, or stands bare where that is refused."""
    said = body_fields(body)
    own = without_spliced(said)
    if NO_WRAPPING not in request_fields(body):
        return body if len(own) == len(said) else encode(own)
    inner: dict[str, object] = {name: raw for name, raw in _wrapped(request_fields(body)).items() if name != MODEL}
    if NO_WRAPPING in quirks.unsupported:
        return encode(inner)
    return encode({NO_WRAPPING: {"model": model_name(model), **inner}})


def _write_reply(events: Sequence[Event], facts: ReplyFacts, final: FinalUsage) -> bytes:
    found = count_of(events)
    body: dict[str, object] = {"totalTokens": None if found is None else found.input_tokens}
    if found is not None and found.cached_tokens is not None:
        body["cachedContentTokenCount"] = found.cached_tokens
    return encode(body)


GEMINI_COUNT: Final = ClientDialect[CountRequest](
    name="gemini.count",
    operation=Operation.COUNT,
    convention=Convention(no_model=True),
    framing=WholeFraming,
    path=_path,
    content_type="application/json",
    id_prefix="count-",
    peek_request=_peek_request,
    read_request=_read_request,
    write_request=_write_request,
    patch_request=_patch_request,
    decoder=count_decoder(_read_reply),
    encoder=whole_encoder(_write_reply, write_failure),
    relay=count_relay(write_failure),
    read_failure=read_failure,
    write_failure=write_failure,
)
"""The dialect, as the registry lists it."""
