"""Vertex's `:predict` of its text embedding models: instances in, predictions out.

Rule 1: a vector is carried word for word.
Rule 2: each prediction reports its own tokens (`statistics.token_count`); the input is their sum, and unknown when one
of them is silent.

https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import Embedding, EmbeddingsGiven, Event, ReplyFailed, ReplyStarted, UsageReported
from counterfoil.core.message import Text
from counterfoil.core.operation import EmbedInput, EmbedRequest, Operation
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Dialect, Quirks, WrittenRequest
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.gemini.embed import own_task
from counterfoil.dialects.gemini.failure import frame_failure, read_failure
from counterfoil.dialects.gemini.path import method_path
from counterfoil.dialects.schema import NOT_SENT, encode, given, object_of, whole_number
from counterfoil.dialects.whole import whole_decoder
from counterfoil.framing.whole import WholeFraming
from counterfoil.usage.reading import Counter, Report
from counterfoil.usage.settle import Convention

__all__ = ["VERTEX_PREDICT"]

_PARAMETERS: Final[Mapping[str, str]] = {"autoTruncate": "autoTruncate", "auto_truncate": "autoTruncate"}


class _Embeddings(msgspec.Struct, frozen=True):
    values: msgspec.Raw = NOT_SENT
    statistics: msgspec.Raw = NOT_SENT


class _Prediction(msgspec.Struct, frozen=True):
    embeddings: _Embeddings | None = None


class _Body(msgspec.Struct, frozen=True):
    predictions: list[_Prediction] | None = None
    error: msgspec.Raw = NOT_SENT


_BODY: Final = msgspec.json.Decoder(_Body)


def _path(model: str, streamed: bool) -> str:
    return method_path(model, "predict")


def _write_request(request: EmbedRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """One instance an input. Raises RequestError."""
    desk = Desk(drop)
    task = own_task(request.purpose, desk)
    wishes = {"task_type": task, "title": request.title}
    said = {name: value for name, value in wishes.items() if value is not None}
    body: dict[str, object] = {"instances": [{"content": _text(one, desk), **said} for one in request.inputs]}
    parameters: dict[str, object] = {}
    if request.dimensions is not None:
        parameters["outputDimensionality"] = request.dimensions
    if request.user is not None:
        desk.name("user")
    for name, raw in request.rest.items():
        if name in _PARAMETERS:
            parameters[_PARAMETERS[name]] = raw
        else:
            desk.cannot(name, "the embeddings of this API have no such parameter")
    if parameters:
        body["parameters"] = parameters
    return WrittenRequest(encode(body), desk.dropped)


def _text(given: EmbedInput, desk: Desk) -> str:
    if isinstance(given, str):
        return given
    texts = [part.text for part in given if isinstance(part, Text)]
    if len(texts) != len(given):
        raise desk.refuse("input", "this model embeds text only")
    return "\n".join(texts)


def _read_reply(body: bytes) -> Sequence[Event]:
    said = _BODY.decode(body)
    if given(said.error):
        return (ReplyFailed(frame_failure(bytes(said.error))),)
    found = [prediction.embeddings for prediction in said.predictions or ()]
    vectors = [one for one in found if one is not None and bytes(one.values)[:1] == b"["]
    if said.predictions is None or len(vectors) != len(found):
        return (ReplyFailed(_unreadable(body)),)
    places = tuple(Embedding(place, msgspec.Raw(bytes(one.values))) for place, one in enumerate(vectors))
    events: list[Event] = [ReplyStarted(), EmbeddingsGiven(places)]
    report = _report([one.statistics for one in vectors])
    return [*events, UsageReported(report)] if report is not None else events


def _report(statistics: Sequence[msgspec.Raw]) -> Report | None:
    """The input, as the sum of what each prediction counted."""
    # A float in Google's own types (google-genai, `ContentEmbeddingStatistics`).
    counts = [whole_number(object_of(one).get("token_count")) if given(one) else None for one in statistics]
    known = [count for count in counts if count is not None]
    if not counts or len(known) != len(counts):
        return None
    return Report({Counter.INPUT: sum(known)}, raw=encode([msgspec.Raw(bytes(one)) for one in statistics]))


def _unreadable(body: bytes) -> Failure:
    return bad_reply(f"a body of {len(body)} bytes that is no list of predictions")


VERTEX_PREDICT: Final = Dialect[EmbedRequest](
    name="vertex_predict",
    operation=Operation.EMBED,
    convention=Convention(no_output=True),
    framing=WholeFraming,
    path=_path,
    content_type="application/json",
    write_request=_write_request,
    decoder=whole_decoder(_read_reply, _unreadable),
    read_failure=read_failure,
)
"""The dialect, as the registry lists it."""
