"""Cohere's embed, as a provider speaks it: `POST /v2/embed`.

Rule 1: vectors are carried word for word, each with the kind Cohere calls it by; an input has one of each kind that was
asked for.
Rule 2: the wire demands to be told what vectors are for. A client that did not say gets those of documents to search.

https://docs.cohere.com/reference/embed; recorded: cohere.embed/cohere
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from counterfoil.core.event import Embedding, EmbeddingsGiven, Event, ReplyFailed, ReplyStarted, UsageReported
from counterfoil.core.message import Image, Text
from counterfoil.core.operation import EmbedInput, EmbedRequest, Operation
from counterfoil.dialects.cohere.failure import frame_failure, read_failure
from counterfoil.dialects.cohere.turns import Block, written_image
from counterfoil.dialects.cohere.usage import EMBED_CONVENTION, read_embed
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Dialect, Quirks, WrittenRequest
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.schema import encode, given
from counterfoil.dialects.whole import whole_decoder
from counterfoil.framing.whole import WholeFraming

__all__ = ["COHERE_EMBED", "PURPOSES"]

_DOCUMENT: Final = "search_document"
PURPOSES: Final[Mapping[str, str]] = {
    **{word: word for word in ("search_document", "search_query", "classification", "clustering", "image")},
    "document": _DOCUMENT,  # https://docs.voyageai.com/reference/embeddings-api
    "query": "search_query",
    "passage": _DOCUMENT,  # https://docs.api.nvidia.com/nim/reference
    "RETRIEVAL_DOCUMENT": _DOCUMENT,  # https://ai.google.dev/gemini-api/docs/embeddings
    "RETRIEVAL_QUERY": "search_query",
    "CLASSIFICATION": "classification",
    "CLUSTERING": "clustering",
}
"""A client's word for what the vectors are for -> `input_type`."""
_OWN_FIELDS: Final = frozenset({"embedding_types", "max_tokens", "priority", "truncate"})
_NO_WORD: Final = "Cohere's embed has no such parameter"
NOT_SENT: Final = msgspec.Raw()


class _Body(msgspec.Struct, frozen=True):
    id: Any = None
    embeddings: dict[str, list[msgspec.Raw] | None] | list[msgspec.Raw] | None = None
    """By kind; a bare list of numbers in v1's."""
    meta: msgspec.Raw = NOT_SENT
    message: Any = None
    """Text, in an error."""


_BODY: Final = msgspec.json.Decoder(_Body)


def _path(model: str, streamed: bool) -> str:
    return "/v2/embed"


def _read_reply(body: bytes) -> Sequence[Event]:
    said = _BODY.decode(body)
    if said.embeddings is None:
        known = isinstance(said.message, str)
        return (ReplyFailed(frame_failure(body) if known else bad_reply("a body without embeddings")),)
    events: list[Event] = [
        ReplyStarted(said.id if isinstance(said.id, str) else ""),
        EmbeddingsGiven(tuple(_vectors(said.embeddings))),
    ]
    report = read_embed(said.meta) if given(said.meta) else None
    return [*events, UsageReported(report)] if report is not None else events


def _vectors(said: dict[str, list[msgspec.Raw] | None] | list[msgspec.Raw]) -> Iterator[Embedding]:
    kinds = said if isinstance(said, dict) else {"float": said}
    for kind, vectors in kinds.items():
        for index, vector in enumerate(vectors or ()):
            if bytes(vector)[:1] not in (b"[", b'"'):
                raise msgspec.ValidationError("a vector is a list or a text")
            yield Embedding(index, msgspec.Raw(bytes(vector)), kind)


def write_request(request: EmbedRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The body, and what it leaves out. Raises RequestError."""
    desk = Desk(drop)
    body: Block = {"model": model, "input_type": _purpose(request.purpose, desk)}
    texts = [item for item in request.inputs if isinstance(item, str)]
    if len(texts) == len(request.inputs):
        body["texts"] = texts
    else:
        body["inputs"] = [{"content": _parts(item, desk)} for item in request.inputs]
    body["embedding_types"] = ["float"]
    if request.dimensions is not None:
        body["output_dimension"] = request.dimensions
    if request.title is not None:
        desk.cannot("title", _NO_WORD)
    if request.user is not None:
        desk.name("user")
    for name, raw in request.rest.items():
        if name in _OWN_FIELDS:
            body[name] = raw
        else:
            desk.cannot(name, _NO_WORD)
    desk.leave_out(body, quirks.unsupported)
    return WrittenRequest(encode(body), desk.dropped)


def _purpose(said: str | None, desk: Desk) -> str:
    known = _DOCUMENT if said is None else PURPOSES.get(said)
    if known is None:
        desk.cannot("input_type", f"it must be one of {', '.join(sorted(set(PURPOSES.values())))}")
        return _DOCUMENT
    return known


def _parts(item: EmbedInput, desk: Desk) -> list[Block]:
    """One input as content. Tokens are of another model's vocabulary."""
    if isinstance(item, str):
        return [{"type": "text", "text": item}]
    written: list[Block] = []
    for part in item:
        match part:
            case Text():
                written.append({"type": "text", "text": part.text})
            case Image():
                written.append(written_image(part, desk))
            case _:
                raise desk.refuse("input", "this model takes texts and images; send text instead of token ids")
    return written


COHERE_EMBED: Final = Dialect[EmbedRequest](
    name="cohere.embed",
    operation=Operation.EMBED,
    convention=EMBED_CONVENTION,
    framing=WholeFraming,
    path=_path,
    content_type="application/json",
    write_request=write_request,
    decoder=whole_decoder(_read_reply, lambda body: bad_reply(f"a body of {len(body)} bytes that is no embeddings")),
    read_failure=read_failure,
)
