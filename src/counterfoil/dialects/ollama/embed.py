"""Vectors: `/api/embed`, and what the older `/api/embeddings` answered.

https://docs.ollama.com/api/embed
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import Embedding, EmbeddingsGiven, Event, ReplyFailed, ReplyStarted, UsageReported
from counterfoil.core.message import Text
from counterfoil.core.operation import EmbedInput, EmbedRequest
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Quirks, WrittenRequest
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.ollama.options import Body, only_text
from counterfoil.dialects.ollama.usage import read_report
from counterfoil.dialects.openai_chat.failure import frame_failure
from counterfoil.dialects.schema import NOT_SENT, encode, given
from counterfoil.usage.settle import Convention

__all__ = ["EMBED_CONVENTION", "read_vectors", "unreadable", "write_embed"]

EMBED_CONVENTION: Final = Convention(no_output=True)
"""`prompt_eval_count` is all there is."""


class _Body(msgspec.Struct, frozen=True):
    model: Any = None
    embeddings: list[msgspec.Raw] | None = None
    embedding: msgspec.Raw = NOT_SENT
    """Of `/api/embeddings`, which says nothing of its usage (ollama.embed/ollama)."""
    error: msgspec.Raw = NOT_SENT


_BODY: Final = msgspec.json.Decoder(_Body)


def read_vectors(body: bytes) -> Sequence[Event]:
    """The events of a body. Raises one of UNREADABLE."""
    said = _BODY.decode(body)
    if given(said.error):
        return (ReplyFailed(frame_failure(body)),)
    vectors = said.embeddings if said.embeddings is not None else [said.embedding] if given(said.embedding) else None
    if vectors is None or any(bytes(vector)[:1] != b"[" for vector in vectors):
        return (ReplyFailed(unreadable(body)),)
    events: list[Event] = [
        ReplyStarted(model=said.model if isinstance(said.model, str) else ""),
        EmbeddingsGiven(tuple(Embedding(place, msgspec.Raw(bytes(vector))) for place, vector in enumerate(vectors))),
    ]
    report = read_report(body)
    return [*events, UsageReported(report)] if report is not None else events


def unreadable(body: bytes) -> Failure:
    return bad_reply(f"a body of {len(body)} bytes that holds no embeddings")


def write_embed(request: EmbedRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The body, and what it leaves out. Raises RequestError.

    How vectors are to be written is no part of it: whoever writes the client's reply writes them as the client asked.
    """
    desk = Desk(drop)
    body = Body(model, quirks, desk)
    body.put("input", [_text(given, desk) for given in request.inputs])
    body.put("dimensions", request.dimensions)
    for name, value in (("input_type", request.purpose), ("title", request.title)):
        body.unless(name, value, (None,), "Ollama has no such parameter")
    if request.user is not None:
        desk.name("user")
    body.rest(request.rest)
    return WrittenRequest(encode(body.written()), desk.dropped)


def _text(given: EmbedInput, desk: Desk) -> str:
    if isinstance(given, str):
        return given
    texts = [part.text for part in given if isinstance(part, Text)]
    if not texts or len(texts) != len(given):
        raise desk.refuse("input", "this model takes text only")
    return only_text(texts)
