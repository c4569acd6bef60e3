"""An embeddings reply, both ways, and its usage.

Rule 1: vectors are carried word for word. Only where the provider's way of writing them is not the one the client asked
for, and speaks another dialect, are they written anew.
Rule 2: there is no output: `completion_tokens: 0` of some providers (azure-ai, mistral) says so, the others are silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import Embedding, EmbeddingsGiven, Event, ReplyFailed, ReplyStarted, UsageReported
from counterfoil.dialects.dialect import FinalUsage, ReplyFacts
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.openai_chat.failure import frame_failure
from counterfoil.dialects.openai_chat.usage import ESTIMATED, read_report
from counterfoil.dialects.openai_embeddings.vectors import as_base64, as_numbers
from counterfoil.dialects.schema import NOT_SENT, UNREADABLE, Fields, encode, fields_of, given
from counterfoil.usage.settle import Convention

__all__ = ["CONVENTION", "mend", "read_reply", "unreadable", "write_reply"]

CONVENTION: Final = Convention(no_output=True)
"""Voyage says a total only (openai.embeddings/voyage): all of it is input."""


class _Item(msgspec.Struct, frozen=True):
    embedding: msgspec.Raw
    """Numbers, or base64."""
    index: Any = None


class _Body(msgspec.Struct, frozen=True):
    data: list[_Item] | None = None
    model: Any = None
    id: Any = None
    """azure-ai, mistral, openrouter."""
    usage: msgspec.Raw = NOT_SENT
    error: msgspec.Raw = NOT_SENT


_BODY: Final = msgspec.json.Decoder(_Body)


def read_reply(body: bytes) -> Sequence[Event]:
    """The events of a body. Raises one of UNREADABLE."""
    said = _BODY.decode(body)
    if given(said.error):
        return (ReplyFailed(frame_failure(body)),)
    if said.data is None:
        return (ReplyFailed(unreadable(body)),)
    vectors = [_embedding(item, place) for place, item in enumerate(said.data)]
    events: list[Event] = [
        ReplyStarted(
            id=said.id if isinstance(said.id, str) else "", model=said.model if isinstance(said.model, str) else ""
        ),
        EmbeddingsGiven(tuple(sorted(vectors, key=lambda vector: vector.index))),
    ]
    report = read_report(bytes(said.usage)) if given(said.usage) else None
    return [*events, UsageReported(report)] if report is not None else events


def unreadable(body: bytes) -> Failure:
    return bad_reply(f"a body of {len(body)} bytes that is no list of embeddings")


def write_reply(events: Sequence[Event], facts: ReplyFacts, final: FinalUsage) -> bytes:
    """The body a client reads when the provider speaks another dialect."""
    vectors = [vector for event in events if isinstance(event, EmbeddingsGiven) for vector in event.embeddings]
    write = as_base64 if facts.encoding == "base64" else as_numbers
    body: dict[str, Any] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": vector.index, "embedding": write(vector.vector)}
            for vector in _one_for_each(vectors)
        ],
        "model": facts.model,
    }
    usage = _usage(msgspec.structs.replace(final, provider_raw=b""), {})
    if usage is not None:
        body["usage"] = usage
    return encode(body)


def mend(fields: Fields, facts: ReplyFacts, final: FinalUsage) -> Mapping[str, msgspec.Raw | None]:
    """The model as the client named it (DESIGN 4.4.2), and the settled usage beside what else the provider says."""
    try:
        told = fields_of(fields["usage"])
    except (KeyError, *UNREADABLE):
        told = {}
    return {"model": msgspec.Raw(encode(facts.model)), "usage": _usage(final, told)}


def _embedding(item: _Item, place: int) -> Embedding:
    if bytes(item.embedding)[:1] not in (b"[", b'"'):
        raise msgspec.ValidationError("a vector is a list or a text")
    index = item.index if type(item.index) is int and item.index >= 0 else place
    return Embedding(index, msgspec.Raw(bytes(item.embedding)))


def _one_for_each(vectors: Iterable[Embedding]) -> list[Embedding]:
    """One vector for each input: of several kinds the 32-bit floats, or else the first."""
    chosen: dict[int, Embedding] = {}
    for vector in vectors:
        if vector.index not in chosen or vector.kind == "float":
            chosen[vector.index] = vector
    return [chosen[index] for index in sorted(chosen)]


def _usage(final: FinalUsage, told: Mapping[str, msgspec.Raw]) -> msgspec.Raw | None:
    """The client's usage object; None when nobody knows the input."""
    usage = final.usage
    if usage is None or usage.input_tokens is None:
        return None
    fields: dict[str, object] = {**told, "prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}
    if usage.output_tokens:
        fields["completion_tokens"] = usage.output_tokens
        fields["total_tokens"] = usage.input_tokens + usage.output_tokens
    if final.estimated:
        fields[ESTIMATED] = True
    return msgspec.Raw(encode(fields))
