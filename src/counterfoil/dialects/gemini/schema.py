"""The JSON of Gemini's `generateContent` wire, as far as it is read.

Rule 1: what is only carried stays `Raw`. Absent and null are the same; an unknown key is skipped.
Rule 2: a key that says nothing of the content takes any type: Vertex's own recorders write every enum as a number
(gemini.generateContent/vertex/otel-contrib-test-function-call-choice-0-efb404).
Rule 3: protobuf's JSON knows each key by two names. Replies come in camelCase; requests are read in both.

https://ai.google.dev/api/generate-content, https://cloud.google.com/vertex-ai/docs/reference/rest/v1/GenerateContentResponse
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from counterfoil.dialects.schema import NOT_SENT, UNREADABLE

__all__ = [
    "CandidateShape",
    "Chunk",
    "ContentShape",
    "FunctionCallShape",
    "PartShape",
    "PartialArgument",
    "PromptFeedback",
    "compact",
    "elements_of",
    "fields_of",
    "read",
]


_Shape = TypeVar("_Shape")


class PartialArgument(msgspec.Struct, frozen=True, rename="camel"):
    """A piece of one argument: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling
    (streaming function call arguments, Vertex only)."""

    json_path: str = ""
    string_value: str | None = None
    number_value: float | None = None
    bool_value: bool | None = None
    null_value: msgspec.Raw = NOT_SENT
    will_continue: bool | None = None


class FunctionCallShape(msgspec.Struct, frozen=True, rename="camel"):
    """`functionCall` of a part. `id` is absent in .../langchaingo-testgoogleaitoolcallresponse…, present in
    .../fantasy-gemini-3-pro-preview-thinking-streaming…"""

    name: str | None = None
    id: Any = None
    args: msgspec.Raw = NOT_SENT
    partial_args: list[PartialArgument] | None = None
    will_continue: bool | None = None


class PartShape(msgspec.Struct, frozen=True, rename="camel"):
    """One part. A part has one of many members; those that are no text and no call stay in the part's own bytes."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    """https://ai.google.dev/gemini-api/docs/thought-signatures"""
    function_call: FunctionCallShape | None = None


class ContentShape(msgspec.Struct, frozen=True):
    """`content` of a candidate: `{}` in .../pydantic-ai-test-google-model-safety-settings…, without parts in
    .../pydantic-ai-test-google-model-max-tokens-thinking-model-empty-response…"""

    parts: list[msgspec.Raw] | None = None


class CandidateShape(msgspec.Struct, frozen=True, rename="camel"):
    """One entry of `candidates`."""

    index: Any = None
    """Absent from most of Vertex's, and from Google's for candidate 0 of some frames."""
    content: ContentShape | None = None
    finish_reason: Any = None
    finish_message: Any = None
    safety_ratings: msgspec.Raw = NOT_SENT
    citation_metadata: msgspec.Raw = NOT_SENT
    grounding_metadata: msgspec.Raw = NOT_SENT
    url_context_metadata: msgspec.Raw = NOT_SENT
    logprobs_result: msgspec.Raw = NOT_SENT


class PromptFeedback(msgspec.Struct, frozen=True, rename="camel"):
    """`promptFeedback`: https://ai.google.dev/api/generate-content#PromptFeedback"""

    block_reason: Any = None


class Chunk(msgspec.Struct, frozen=True, rename="camel"):
    """One frame of a streamed reply, or the body of a whole one: the same shape."""

    candidates: list[CandidateShape] | None = None
    prompt_feedback: msgspec.Raw = NOT_SENT
    usage_metadata: msgspec.Raw = NOT_SENT
    model_version: Any = None
    response_id: Any = None
    create_time: Any = None
    error: msgspec.Raw = NOT_SENT


_READERS: Final[Mapping[type[Any], msgspec.json.Decoder[Any]]] = {
    shape: msgspec.json.Decoder(shape) for shape in (PartShape, PromptFeedback, Chunk)
}
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ELEMENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])


def read(data: bytes | msgspec.Raw, shape: type[_Shape]) -> _Shape:
    """`data` as one of the shapes above. Raises one of `UNREADABLE`."""
    found: _Shape = _READERS[shape].decode(data)
    return found


def fields_of(data: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The fields of a JSON object, in order, values word for word. Raises one of `UNREADABLE`.

    Bytes that are not UTF-8 are U+FFFD, as for whoever reads an event stream: a name of such bytes hides no other.
    """
    try:
        return _FIELDS.decode(data)
    except UNREADABLE:
        text = bytes(data).decode("utf-8", "replace").encode()
        if text == data:
            raise
        return _FIELDS.decode(text)


def elements_of(data: bytes | msgspec.Raw) -> list[msgspec.Raw]:
    """The elements of a JSON array, word for word. Raises one of `UNREADABLE`."""
    return _ELEMENTS.decode(data)


def compact(raw: bytes | msgspec.Raw) -> bytes:
    """The same JSON without white space. Raises one of `UNREADABLE`."""
    return msgspec.json.format(bytes(raw), indent=-1)
