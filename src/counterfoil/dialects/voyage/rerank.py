"""Voyage's rerank, as a provider speaks it: `POST /rerank`.

Rule: what is billed is tokens, of the query with each document, and a total is all that is said of them.

https://docs.voyageai.com/reference/reranker-api, https://docs.voyageai.com/docs/error-codes; recorded:
voyage.rerank/voyage
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from counterfoil.core.event import Event, Ranked, RankingGiven, ReplyFailed, ReplyStarted, UsageReported
from counterfoil.core.operation import Operation, RerankRequest
from counterfoil.dialects.cohere.rerank import text_of_document
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Dialect, Quirks, WrittenRequest
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.openai_chat.failure import frame_failure, read_failure
from counterfoil.dialects.openai_chat.usage import read_report
from counterfoil.dialects.schema import encode, given
from counterfoil.dialects.whole import whole_decoder
from counterfoil.framing.whole import WholeFraming
from counterfoil.usage.settle import Convention

__all__ = ["VOYAGE_RERANK"]

_OWN_FIELDS: Final = frozenset({"truncation"})
NOT_SENT: Final = msgspec.Raw()


class _Place(msgspec.Struct, frozen=True):
    index: int
    relevance_score: float
    document: msgspec.Raw = NOT_SENT
    """A text, where it was asked for."""


class _Body(msgspec.Struct, frozen=True):
    data: list[_Place] | None = None
    model: Any = None
    usage: msgspec.Raw = NOT_SENT
    detail: Any = None
    """In an error."""


_BODY: Final = msgspec.json.Decoder(_Body)


def _path(model: str, streamed: bool) -> str:
    return "/rerank"


def write_request(request: RerankRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The body, and what it leaves out. Raises RequestError."""
    desk = Desk(drop)
    documents = [text_of_document(document, place, desk) for place, document in enumerate(request.documents)]
    body: dict[str, object] = {"model": model, "query": request.query, "documents": documents}
    if request.top_n is not None:
        body["top_k"] = request.top_n
    if request.return_documents is not None:
        body["return_documents"] = request.return_documents
    for name, raw in request.rest.items():
        if name in _OWN_FIELDS:
            body[name] = raw
        else:
            desk.cannot(name, "Voyage's rerank has no such parameter")
    desk.leave_out(body, quirks.unsupported)
    return WrittenRequest(encode(body), desk.dropped)


def _read_reply(body: bytes) -> Sequence[Event]:
    said = _BODY.decode(body)
    if said.data is None:
        known = said.detail is not None
        return (ReplyFailed(frame_failure(body) if known else bad_reply("a body without a ranking")),)
    events: list[Event] = [
        ReplyStarted(model=said.model if isinstance(said.model, str) else ""),
        RankingGiven(tuple(_ranked(place) for place in said.data)),
    ]
    report = read_report(bytes(said.usage)) if given(said.usage) else None
    return [*events, UsageReported(report)] if report is not None else events


def _ranked(place: _Place) -> Ranked:
    document = msgspec.Raw(bytes(place.document)) if given(place.document) else None
    return Ranked(place.index, place.relevance_score, document)


VOYAGE_RERANK: Final = Dialect[RerankRequest](
    name="voyage.rerank",
    operation=Operation.RERANK,
    convention=Convention(no_output=True),
    framing=WholeFraming,
    path=_path,
    content_type="application/json",
    write_request=write_request,
    decoder=whole_decoder(_read_reply, lambda body: bad_reply(f"a body of {len(body)} bytes that is no ranking")),
    read_failure=read_failure,
)
