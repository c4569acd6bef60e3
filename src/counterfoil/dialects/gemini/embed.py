"""Gemini's embeddings: `batchEmbedContents`, where each input is a request of its own, and `embedContent` for one.

Rule 1: a vector is carried word for word. The wire has numbers only; whoever wants base64 gets it from the encoder.
Rule 2: usage is there or not (the Gemini API reports none for its first model): what nobody said is unknown.

https://ai.google.dev/api/embeddings, https://docs.cloud.google.com/vertex-ai/generative-ai/docs/embeddings
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import Embedding, EmbeddingsGiven, Event, ReplyFailed, ReplyStarted, UsageReported
from counterfoil.core.message import Audio, File, Image, Text
from counterfoil.core.operation import EmbedInput, EmbedRequest, Operation
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Dialect, Quirks, WrittenRequest
from counterfoil.dialects.gemini.failure import bad_reply, frame_failure, read_failure
from counterfoil.dialects.gemini.media import PartBody, audio_part, file_part, image_part
from counterfoil.dialects.gemini.path import method_path, model_name
from counterfoil.dialects.gemini.schema import NO_RAW, encode, given
from counterfoil.dialects.gemini.usage import CONVENTION, read_report
from counterfoil.dialects.whole import whole_decoder
from counterfoil.framing.whole import WholeFraming

__all__ = ["GEMINI_EMBED", "NO_BATCHES", "TASKS", "own_task"]

NO_BATCHES: Final = "batchEmbedContents"
"""In `Quirks.unsupported` where one request embeds one input, with its wishes in `embedContentConfig` (Vertex)."""

_OWN_TASKS: Final = (
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
)
TASKS: Final[Mapping[str, str]] = {
    **{task.lower(): task for task in _OWN_TASKS},
    "query": "RETRIEVAL_QUERY",
    "search_query": "RETRIEVAL_QUERY",
    "document": "RETRIEVAL_DOCUMENT",
    "search_document": "RETRIEVAL_DOCUMENT",
}
"""What vectors are for, in Voyage's and Cohere's words and in our own: https://ai.google.dev/api/embeddings#v1beta.TaskType"""

_OWN_FIELDS: Final[Mapping[str, str]] = {
    "autoTruncate": "autoTruncate",
    "auto_truncate": "autoTruncate",
    "documentOcr": "documentOcr",
    "audioTrackExtraction": "audioTrackExtraction",
}


class _Vector(msgspec.Struct, frozen=True):
    values: msgspec.Raw = NO_RAW


class _Body(msgspec.Struct, frozen=True, rename="camel"):
    embedding: _Vector | None = None
    embeddings: list[_Vector] | None = None
    usage_metadata: msgspec.Raw = NO_RAW
    error: msgspec.Raw = NO_RAW


_BODY: Final = msgspec.json.Decoder(_Body)


def own_task(purpose: str | None, desk: Desk) -> str | None:
    """The `taskType` for a client's word; None for none, and for one that is left out."""
    if purpose is None:
        return None
    task = TASKS.get(purpose.lower())
    if task is None:
        desk.cannot("input_type", f"it must be one of {', '.join(TASKS)}")
    return task


def _path(model: str, streamed: bool) -> str:
    return method_path(model, NO_BATCHES)


def _write_request(request: EmbedRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """One request an input. Raises RequestError."""
    desk = Desk(drop)
    wishes: dict[str, object] = {}
    task = own_task(request.purpose, desk)
    if task is not None:
        wishes["taskType"] = task
    if request.title is not None:
        wishes["title"] = request.title
    if request.dimensions is not None:
        wishes["outputDimensionality"] = request.dimensions
    if request.user is not None:
        desk.name("user")
    for name, raw in request.rest.items():
        if name in _OWN_FIELDS:
            wishes[_OWN_FIELDS[name]] = raw
        else:
            desk.cannot(name, "the embeddings of this API have no such parameter")
    contents = [{"parts": _parts(given, desk)} for given in request.inputs]
    if NO_BATCHES not in quirks.unsupported:
        requests = [{"model": model_name(model), "content": content, **wishes} for content in contents]
        return WrittenRequest(encode({"requests": requests}), desk.dropped)
    if len(contents) != 1:
        raise desk.refuse("input", "this model embeds one input a request; send them one by one")
    body: dict[str, object] = {"content": contents[0]}
    if wishes:
        body["embedContentConfig"] = wishes
    return WrittenRequest(encode(body), desk.dropped)


def _parts(given: EmbedInput, desk: Desk) -> list[PartBody]:
    """The parts of one input, which become one vector. Raises RequestError."""
    if isinstance(given, str):
        return [{"text": given}]
    written: list[PartBody] = []
    for part in given:
        match part:
            case Text():
                written.append({"text": part.text})
            case Image():
                written.append(image_part(part, desk))
            case File():
                written.append(file_part(part, desk))
            case Audio():
                written.append(audio_part(part))
            case int():
                raise desk.refuse("input", "token ids are another model's; send text")
            case _:
                raise desk.refuse("input", "only text and media can be embedded")
    return written


def _read_reply(body: bytes) -> Sequence[Event]:
    said = _BODY.decode(body)
    if given(said.error):
        return (ReplyFailed(frame_failure(bytes(said.error))),)
    vectors = said.embeddings if said.embeddings is not None else [said.embedding] if said.embedding else None
    if vectors is None or not all(bytes(vector.values)[:1] == b"[" for vector in vectors):
        return (ReplyFailed(_unreadable(body)),)
    given_vectors = tuple(Embedding(place, msgspec.Raw(bytes(one.values))) for place, one in enumerate(vectors))
    events: list[Event] = [ReplyStarted(), EmbeddingsGiven(given_vectors)]
    report = read_report(said.usage_metadata) if given(said.usage_metadata) else None
    return [*events, UsageReported(report)] if report is not None else events


def _unreadable(body: bytes) -> Failure:
    return bad_reply(f"a body of {len(body)} bytes that is no list of embeddings")


GEMINI_EMBED: Final = Dialect[EmbedRequest](
    name="gemini.embed",
    operation=Operation.EMBED,
    convention=msgspec.structs.replace(CONVENTION, no_output=True),
    framing=WholeFraming,
    path=_path,
    content_type="application/json",
    write_request=_write_request,
    decoder=whole_decoder(_read_reply, _unreadable),
    read_failure=read_failure,
)
"""The dialect, as the registry lists it."""
