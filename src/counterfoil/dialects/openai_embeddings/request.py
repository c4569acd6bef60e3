"""An embeddings request: looked at, read into canonical words, written from them, patched for a provider that has it.

Rule 1: a wrong type is refused by name; a wrong value is the provider's to judge.
Rule 2: what the canonical words lack is kept in `rest`; what this wire lacks is refused, or dropped by name.
Rule 3: a patch changes `model`, and what a quirk names.

https://platform.openai.com/docs/api-reference/embeddings/create
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from counterfoil.core.error import RequestError
from counterfoil.core.message import Text
from counterfoil.core.operation import EmbedInput, EmbedRequest
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Quirks, RequestPeek, WrittenRequest
from counterfoil.dialects.refusal import refused
from counterfoil.dialects.schema import UNREADABLE, Fields, encode, fields_of, given, items_in

__all__ = ["NUMBERS_BY_NAME", "patch_request", "peek_request", "read_request", "write_request"]

NUMBERS_BY_NAME: Final = "encoding_format.float"
"""In `Quirks.unsupported` for a provider that gives numbers unasked and refuses to be asked for them (Voyage)."""

_PURPOSE: Final = "input_type"
"""Of Voyage, Cohere's and NVIDIA's OpenAI faces and OpenRouter: https://docs.voyageai.com/reference/embeddings-api"""
_ENCODINGS: Final[Mapping[str | None, Literal["float", "base64"]]] = {"float": "float", "base64": "base64"}


class _Peek(msgspec.Struct, frozen=True):
    model: str
    input: msgspec.Raw
    user: str | None = None
    encoding_format: str | None = None


class _Wish(msgspec.Struct, frozen=True):
    model: str
    input: str | list[str | int | list[int]]
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None
    input_type: str | None = None


_PEEK: Final = msgspec.json.Decoder(_Peek)
_WISH: Final = msgspec.json.Decoder(_Wish)
_KNOWN: Final = frozenset(field.encode_name for field in msgspec.structs.fields(_Wish))
_EMPTY: Final = (b"null", b"[]")


def peek_request(body: bytes) -> RequestPeek:
    """Read what must be known. Raises RequestError: not JSON, a wrong type, no model, nothing to embed."""
    try:
        request = _PEEK.decode(body)
        inputs = items_in(request.input)
    except UNREADABLE as error:
        raise refused(error) from None
    if not request.model:
        raise RequestError("`model` is empty. Name a model; GET /v1/models lists them.", param="model")
    if bytes(request.input) in _EMPTY:
        raise RequestError("`input` is empty. Send a text, or a list of texts.", param="input")
    return RequestPeek(
        model=request.model,
        user=request.user,
        encoding=_ENCODINGS.get(request.encoding_format),
        inputs=inputs,
    )


def read_request(body: bytes) -> EmbedRequest:
    """A client's body in canonical words. Raises RequestError."""
    try:
        wish = _WISH.decode(body)
        fields = fields_of(body)
    except UNREADABLE as error:
        raise refused(error) from None
    return EmbedRequest(
        model=wish.model,
        inputs=_inputs(wish.input),
        dimensions=wish.dimensions,
        encoding=wish.encoding_format,
        purpose=wish.input_type,
        user=wish.user,
        rest={name: raw for name, raw in fields.items() if name not in _KNOWN and given(raw)},
    )


def write_request(request: EmbedRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The body for a provider of this dialect, and what it leaves out. Raises RequestError."""
    desk = Desk(drop)
    body: dict[str, Any] = {"model": model, "input": [_written(given, desk) for given in request.inputs]}
    if request.dimensions is not None:
        body[quirks.dimensions_field] = request.dimensions
    if request.encoding is not None and not (request.encoding == "float" and NUMBERS_BY_NAME in quirks.unsupported):
        body["encoding_format"] = request.encoding
    if request.user is not None:
        body["user"] = request.user
    for name, value in ((_PURPOSE, request.purpose), ("title", request.title)):
        if value is not None:
            desk.cannot(name, "the embeddings API has no such parameter")
    for name in request.rest:
        desk.cannot(name, "the embeddings API has no such parameter")
    desk.leave_out(body, quirks.unsupported)
    return WrittenRequest(encode(body), desk.dropped)


def patch_request(body: bytes, model: str, quirks: Quirks, ask_usage: bool) -> bytes:
    """The client's body with the provider's model name. This dialect always sends usage, so nothing is asked."""
    try:
        fields = fields_of(body)
    except UNREADABLE as error:
        raise refused(error) from None
    fields["model"] = msgspec.Raw(encode(model))
    if NUMBERS_BY_NAME in quirks.unsupported and bytes(fields.get("encoding_format", b"")) == b'"float"':
        del fields["encoding_format"]
    return encode(_renamed(fields, "dimensions", quirks.dimensions_field))


def _renamed(fields: Fields, name: str, now: str) -> Fields:
    """The fields with one of them under another name, in its place."""
    if name == now or name not in fields:
        return fields
    return {now if key == name else key: value for key, value in fields.items()}


def _inputs(said: str | list[str | int | list[int]]) -> tuple[EmbedInput, ...]:
    """One text, texts, the tokens of one input, or of several."""
    if isinstance(said, str):
        return (said,)
    if not said:
        raise RequestError("`input` is empty. Send a text, or a list of texts.", param="input")
    if all(isinstance(item, int) for item in said):
        return (tuple(item for item in said if isinstance(item, int)),)
    if any(isinstance(item, int) for item in said):
        raise RequestError("`input`: expected texts, or the tokens of one input, or lists of tokens.", param="input")
    return tuple(_one(item) for item in said)


def _one(item: str | int | list[int]) -> EmbedInput:
    return item if isinstance(item, str) else tuple(item) if isinstance(item, list) else (item,)


def _written(given: EmbedInput, desk: Desk) -> str | list[int]:
    """One input. Parts that are all text are one text; anything else has no place on this wire."""
    if isinstance(given, str):
        return given
    tokens = [item for item in given if isinstance(item, int)]
    if len(tokens) == len(given):
        return tokens
    return "".join(_texts((item for item in given if not isinstance(item, int)), desk))


def _texts(parts: Iterable[object], desk: Desk) -> Iterable[str]:
    for part in parts:
        if not isinstance(part, Text):
            raise desk.refuse("input", "this model takes text only")
        yield part.text
