"""Gemini's embeddings: `batchEmbedContents`, where each input is a request of its own, and `embedContent` for one.

Rule 1: a vector is carried word for word. The wire has numbers only; whoever wants base64 gets it from the encoder.
Rule 2: usage is there or not (the Gemini API reports none for its first model): what nobody said is unknown.

https://ai.google.dev/api/embeddings, https://docs.cloud.google.com/vertex-ai/generative-ai/docs/embeddings
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from counterfoil.core.error import Failure, RequestError
from counterfoil.core.event import Embedding, EmbeddingsGiven, Event, ReplyFailed, ReplyStarted, UsageReported
from counterfoil.core.message import Audio, File, Image, Text
from counterfoil.core.operation import EmbedInput, EmbedRequest, Operation
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import ClientDialect, FinalUsage, Quirks, ReplyFacts, RequestPeek, WrittenRequest
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.gemini.contents import input_parts
from counterfoil.dialects.gemini.door import FORM, MODEL, ONE, without_spliced
from counterfoil.dialects.gemini.failure import frame_failure, read_failure, write_failure
from counterfoil.dialects.gemini.media import PartBody, audio_part, file_part, image_part
from counterfoil.dialects.gemini.path import method_path, model_name
from counterfoil.dialects.gemini.usage import CONVENTION, read_report, write_usage
from counterfoil.dialects.gemini.wish import Fields, inside, kept, list_of, object_of, request_fields, value
from counterfoil.dialects.openai_embeddings.vectors import as_numbers
from counterfoil.dialects.schema import NOT_SENT, encode, given
from counterfoil.dialects.whole import whole_decoder, whole_encoder, whole_relay
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
    values: msgspec.Raw = NOT_SENT


class _Body(msgspec.Struct, frozen=True, rename="camel"):
    embedding: _Vector | None = None
    embeddings: list[_Vector] | None = None
    usage_metadata: msgspec.Raw = NOT_SENT
    error: msgspec.Raw = NOT_SENT


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


_WISHES: Final = ("taskType", "title", "outputDimensionality")
_OWN: Final = frozenset({"model", "content", *_WISHES, "embedContentConfig"})


def _requests(fields: Fields) -> list[Fields]:
    """The requests of a client's body: `requests`, or the body as the only one. Raises RequestError."""
    if "requests" in fields:
        found = [
            object_of(one, f"requests.{place}") for place, one in enumerate(list_of(fields["requests"], "requests"))
        ]
    else:
        found = [without_spliced(fields)]
    if not found or not all("content" in one for one in found):
        raise RequestError("content: each request needs one", param="content")
    return [{**one, **inside(one, "embedContentConfig")} for one in found]


def _peek_request(body: bytes) -> RequestPeek:
    """Read what must be known. Raises RequestError."""
    fields = request_fields(body)
    inputs = len(_requests(fields))
    return RequestPeek(model=value(fields, MODEL, str) or "", form=value(fields, FORM, str) or "", inputs=inputs)


def _read_request(body: bytes) -> EmbedRequest:
    """A client's body. Wishes that differ from input to input have no canonical words. Raises RequestError."""
    fields = request_fields(body)
    requests = _requests(fields)
    first = requests[0]
    for name in (*_WISHES, *_OWN_FIELDS.values()):
        if any(one.get(name) != first.get(name) for one in requests):
            raise RequestError(f"requests.{name}: this model takes one for all inputs", param=f"requests.{name}")
    inputs: list[EmbedInput] = []
    for one in requests:
        parts = tuple(input_parts(one["content"], "content"))
        alone = len(parts) == 1 and isinstance(parts[0], Text)
        inputs.append(parts[0].text if alone and isinstance(parts[0], Text) else parts)
    return EmbedRequest(
        model=value(fields, MODEL, str) or "",
        inputs=tuple(inputs),
        dimensions=value(first, "outputDimensionality", int),
        purpose=value(first, "taskType", str),
        title=value(first, "title", str),
        rest={name: kept(raw) for name, raw in first.items() if name not in _OWN},
    )


def _patch_request(body: bytes, model: str, quirks: Quirks, ask_usage: bool) -> bytes:
    """The client's requests, each with the provider's model name; as one where only one can be asked for."""
    fields = request_fields(body)
    requests = _requests(fields)
    if NO_BATCHES in quirks.unsupported:
        if len(requests) != 1:
            raise RequestError(
                "requests: this model embeds one input a request; send them one by one", param="requests"
            )
        wishes = {
            name: raw for name, raw in requests[0].items() if name not in ("model", "content", "embedContentConfig")
        }
        config = {"embedContentConfig": wishes} if wishes else {}
        return encode({"content": requests[0]["content"], **config})
    named = msgspec.Raw(encode(model_name(model)))
    own = [{"model": named, **{key: raw for key, raw in one.items() if key not in _ELSEWHERE}} for one in requests]
    return encode({"requests": own})


_ELSEWHERE: Final = ("model", "embedContentConfig")


def _write_reply(events: Sequence[Event], facts: ReplyFacts, final: FinalUsage) -> bytes:
    """The body a client reads when the provider speaks another dialect."""
    vectors = [vector for event in events if isinstance(event, EmbeddingsGiven) for vector in event.embeddings]
    values = [{"values": as_numbers(vector.vector)} for vector in vectors]
    body: dict[str, object] = {"embedding": values[0]} if facts.form == ONE and values else {"embeddings": values}
    usage = write_usage(msgspec.structs.replace(final, provider_raw=b""))
    return encode({**body, "usageMetadata": msgspec.Raw(usage)} if usage != b"{}" else body)


def _mend(fields: Fields, facts: ReplyFacts, final: FinalUsage) -> Mapping[str, msgspec.Raw | None]:
    """One vector where one was asked for, a list where several were, and the settled usage."""
    found: dict[str, msgspec.Raw | None] = {}
    vectors = list_of(fields.get("embeddings"), "embeddings")
    if facts.form == ONE and vectors:
        found |= {"embedding": vectors[0], "embeddings": None}
    elif facts.form != ONE and "embedding" in fields:
        found |= {"embeddings": msgspec.Raw(encode([fields["embedding"]])), "embedding": None}
    usage = write_usage(final)
    found["usageMetadata"] = msgspec.Raw(usage) if usage != b"{}" else None
    return found


GEMINI_EMBED: Final = ClientDialect[EmbedRequest](
    name="gemini.embed",
    operation=Operation.EMBED,
    convention=msgspec.structs.replace(CONVENTION, no_output=True),
    framing=WholeFraming,
    path=_path,
    content_type="application/json",
    id_prefix="embed-",
    peek_request=_peek_request,
    read_request=_read_request,
    write_request=_write_request,
    patch_request=_patch_request,
    decoder=whole_decoder(_read_reply, _unreadable),
    encoder=whole_encoder(_write_reply, write_failure),
    relay=whole_relay(_mend, write_failure),
    read_failure=read_failure,
    write_failure=write_failure,
)
"""The dialect, as the registry lists it."""
