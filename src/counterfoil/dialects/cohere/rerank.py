"""Cohere's rerank, both ways: `POST /v2/rerank`, and v1's requests and replies.

Rule 1: a client's wrong type is refused by name; a wrong value is the provider's to judge.
Rule 2: v2 takes documents as texts. What v1 called a document, an object with a `text`, is that text.
Rule 3: a reply that comes in this dialect is carried as it is: it names no model, and its bill is the provider's.

https://docs.cohere.com/reference/rerank, https://docs.cohere.com/v1/reference/rerank; recorded: cohere.rerank/cohere
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from counterfoil.core.error import RequestError
from counterfoil.core.event import Event, Ranked, RankingGiven, ReplyFailed, ReplyStarted, UsageReported
from counterfoil.core.nesting import exceeds
from counterfoil.core.operation import Operation, RerankRequest
from counterfoil.dialects.cohere.failure import frame_failure, read_failure, write_failure
from counterfoil.dialects.cohere.usage import RERANK_CONVENTION, read_rerank, write_billed
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import ClientDialect, FinalUsage, Quirks, ReplyFacts, RequestPeek, WrittenRequest
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.refusal import refused
from counterfoil.dialects.schema import UNREADABLE, Fields, encode, fields_of, given
from counterfoil.dialects.whole import whole_decoder, whole_encoder, whole_relay
from counterfoil.framing.whole import WholeFraming

__all__ = ["COHERE_RERANK", "NESTING_LIMIT", "text_of_document"]

NESTING_LIMIT: Final = 100
"""Levels of arrays and objects inside each other in a client's body."""
_OWN_FIELDS: Final = frozenset({"max_tokens_per_doc", "priority"})
_NO_WORD: Final = "Cohere's rerank has no such parameter"
NOT_SENT: Final = msgspec.Raw()


class _Peek(msgspec.Struct, frozen=True):
    model: str
    query: str
    documents: list[msgspec.Raw]


class _Wish(msgspec.Struct, frozen=True):
    model: str
    query: str
    documents: list[msgspec.Raw]
    top_n: int | None = None
    return_documents: bool | None = None
    """v1's."""


class _Place(msgspec.Struct, frozen=True):
    index: int
    relevance_score: float
    document: msgspec.Raw = NOT_SENT
    """v1's, where it was asked for: an object with a `text`."""


class _Body(msgspec.Struct, frozen=True):
    id: Any = None
    results: list[_Place] | None = None
    meta: msgspec.Raw = NOT_SENT
    message: Any = None
    """Text, in an error."""


class _Document(msgspec.Struct, frozen=True):
    text: str


class _Written(msgspec.Struct, frozen=True):
    """A reply as it is written."""

    id: str
    results: list[dict[str, object]]
    meta: dict[str, object]


_PEEK: Final = msgspec.json.Decoder(_Peek)
_WISH: Final = msgspec.json.Decoder(_Wish)
_BODY: Final = msgspec.json.Decoder(_Body)
_TEXT: Final = msgspec.json.Decoder(str)
_DOCUMENT: Final = msgspec.json.Decoder(_Document)
_DOCUMENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_KNOWN: Final = frozenset(field.encode_name for field in msgspec.structs.fields(_Wish))


def _path(model: str, streamed: bool) -> str:
    return "/v2/rerank"


# ---- requests


def peek_request(body: bytes) -> RequestPeek:
    """Read what must be known. Raises RequestError: not JSON, a wrong type, no model, nothing to rank."""
    try:
        request = _PEEK.decode(body)
    except UNREADABLE as error:
        raise refused(error) from None
    if not request.model:
        raise RequestError("`model` is empty. Name a model; GET /v1/models lists them.", param="model")
    if not request.documents:
        raise RequestError("`documents` is empty. Send at least one document.", param="documents")
    return RequestPeek(model=request.model)


def read_request(body: bytes) -> RerankRequest:
    """A client's body in canonical words. Raises RequestError."""
    if exceeds(body, NESTING_LIMIT):
        raise RequestError(f"The body is nested more than {NESTING_LIMIT} levels deep. Send a flatter one.")
    try:
        wish = _WISH.decode(body)
        fields = fields_of(body)
    except UNREADABLE as error:
        raise refused(error) from None
    return RerankRequest(
        model=wish.model,
        query=wish.query,
        documents=tuple(_read_document(raw, place) for place, raw in enumerate(wish.documents)),
        top_n=wish.top_n,
        return_documents=wish.return_documents,
        rest={name: raw for name, raw in fields.items() if name not in _KNOWN and given(raw)},
    )


def _read_document(raw: msgspec.Raw, place: int) -> str | msgspec.Raw:
    first = bytes(raw)[:1]
    if first not in (b'"', b"{"):
        param = f"documents[{place}]"
        raise RequestError(f"`{param}`: expected a text, or an object with a `text`.", param=param, code="invalid_type")
    return _TEXT.decode(raw) if first == b'"' else raw


def text_of_document(document: str | msgspec.Raw, place: int, desk: Desk) -> str:
    """A document as the text it is, or holds. Raises RequestError for an object without one."""
    if isinstance(document, str):
        return document
    try:
        return _DOCUMENT.decode(document).text
    except UNREADABLE:
        raise desk.refuse(f"documents[{place}]", "this model takes texts, or objects with a `text`") from None


def write_request(request: RerankRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The body for a provider of this dialect, and what it leaves out. Raises RequestError."""
    desk = Desk(drop)
    documents = [text_of_document(document, place, desk) for place, document in enumerate(request.documents)]
    body: dict[str, object] = {"model": model, "query": request.query, "documents": documents}
    if request.top_n is not None:
        body["top_n"] = request.top_n
    if request.return_documents:
        desk.cannot("return_documents", "Cohere's rerank answers with places only")
    for name, raw in request.rest.items():
        if name in _OWN_FIELDS:
            body[name] = raw
        else:
            desk.cannot(name, _NO_WORD)
    desk.leave_out(body, quirks.unsupported)
    return WrittenRequest(encode(body), desk.dropped)


def patch_request(body: bytes, model: str, quirks: Quirks, ask_usage: bool) -> bytes:
    """The client's body with the provider's model name, and v1's documents as the texts they hold."""
    try:
        fields = fields_of(body)
        fields["model"] = msgspec.Raw(encode(model))
        documents = _DOCUMENTS.decode(fields.get("documents", b""))
        if any(bytes(raw)[:1] == b"{" for raw in documents):
            fields["documents"] = msgspec.Raw(encode([_plain(raw) for raw in documents]))
    except UNREADABLE as error:
        raise refused(error) from None
    return encode(fields)


def _plain(raw: msgspec.Raw) -> object:
    try:
        fields = fields_of(raw)
        return fields["text"] if fields.keys() == {"text"} else raw
    except UNREADABLE:
        return raw


# ---- replies


def _read_reply(body: bytes) -> Sequence[Event]:
    said = _BODY.decode(body)
    if said.results is None:
        known = isinstance(said.message, str)
        return (ReplyFailed(frame_failure(body) if known else bad_reply("a body without results")),)
    events: list[Event] = [
        ReplyStarted(said.id if isinstance(said.id, str) else ""),
        RankingGiven(tuple(_ranked(place) for place in said.results)),
    ]
    report = read_rerank(said.meta) if given(said.meta) else None
    return [*events, UsageReported(report)] if report is not None else events


def _ranked(place: _Place) -> Ranked:
    document = msgspec.Raw(bytes(place.document)) if given(place.document) else None
    return Ranked(place.index, place.relevance_score, document)


def _write_reply(events: Sequence[Event], facts: ReplyFacts, final: FinalUsage) -> bytes:
    """The body a client reads when the provider speaks another dialect."""
    results = [
        {"index": place.index, "relevance_score": place.score, **_document(place)}
        for event in events
        if isinstance(event, RankingGiven)
        for place in event.results
    ]
    billed = {} if final.usage is None else write_billed(final.usage)
    return encode(_Written(facts.id, results, {"api_version": {"version": "2"}, **billed}))


def _document(place: Ranked) -> dict[str, object]:
    """v1's form: an object, whatever the provider made of it."""
    if place.document is None:
        return {}
    bare = bytes(place.document)[:1] == b'"'
    return {"document": {"text": place.document} if bare else place.document}


def _mend(fields: Fields, facts: ReplyFacts, final: FinalUsage) -> Mapping[str, msgspec.Raw | None]:
    return {}


COHERE_RERANK: Final = ClientDialect[RerankRequest](
    name="cohere.rerank",
    operation=Operation.RERANK,
    convention=RERANK_CONVENTION,
    framing=WholeFraming,
    path=_path,
    content_type="application/json",
    id_prefix="rerank-",
    peek_request=peek_request,
    read_request=read_request,
    write_request=write_request,
    patch_request=patch_request,
    decoder=whole_decoder(_read_reply, lambda body: bad_reply(f"a body of {len(body)} bytes that is no ranking")),
    encoder=whole_encoder(_write_reply, write_failure),
    relay=whole_relay(_mend, write_failure),
    read_failure=read_failure,
    write_failure=write_failure,
)
