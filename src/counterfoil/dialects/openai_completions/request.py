"""A completions request: looked at, read into canonical words, and written from them.

Rule 1: a wrong type is refused by name; a wrong value is the provider's to judge, unless it would hurt us.
Rule 2: a request may hold several prompts, and asks for `n` choices of each: that many choices has the reply.

https://platform.openai.com/docs/api-reference/completions/create
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from counterfoil.core.error import RequestError
from counterfoil.core.operation import CompleteRequest
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Quirks, RequestPeek, WrittenRequest
from counterfoil.dialects.refusal import refused
from counterfoil.dialects.schema import UNREADABLE, encode, fields_of, given, items_in

__all__ = ["CHOICES_LIMIT", "peek_request", "read_request", "write_request"]

CHOICES_LIMIT: Final = 2048
"""Prompts times `n` of one request. OpenAI takes lists of at most 2,048 elsewhere and documents no limit here."""

_SAME_NAME: Final = (
    "suffix",
    "echo",
    "best_of",
    "temperature",
    "top_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "user",
)
"""Fields that are called the same here and on the wire."""
_ALWAYS: Final = frozenset({"model", "prompt", "stream"})


class _StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class _Peek(msgspec.Struct, frozen=True):
    model: str
    prompt: msgspec.Raw = msgspec.Raw(b"null")
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None
    user: str | None = None


class _Wish(msgspec.Struct, frozen=True):
    model: str
    prompt: str | list[str | int | list[int]] | None = None
    suffix: str | None = None
    echo: bool | None = None
    best_of: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: int | None = None
    user: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


_PEEK: Final = msgspec.json.Decoder(_Peek)
_WISH: Final = msgspec.json.Decoder(_Wish)
_KNOWN: Final = frozenset(field.encode_name for field in msgspec.structs.fields(_Wish))


def peek_request(body: bytes) -> RequestPeek:
    """Read what must be known. Raises RequestError: not JSON, a wrong type, no model, too many choices."""
    try:
        request = _PEEK.decode(body)
        prompts = items_in(request.prompt)
    except UNREADABLE as error:
        raise refused(error) from None
    if not request.model:
        raise RequestError("`model` is empty. Name a model; GET /v1/models lists them.", param="model")
    if not prompts:
        raise RequestError("`prompt` is an empty list. Send at least one text.", param="prompt")
    each = 1 if request.n is None else request.n
    if each < 1 or prompts * each > CHOICES_LIMIT:
        raise RequestError(f"Prompts times `n` must be between 1 and {CHOICES_LIMIT}.", param="n")
    options = request.stream_options
    return RequestPeek(
        model=request.model,
        streamed=bool(request.stream),
        usage_asked=bool(options and options.include_usage),
        choices=prompts * each,
        prompts=prompts,
        user=request.user,
    )


def read_request(body: bytes) -> CompleteRequest:
    """A client's body in canonical words. Raises RequestError."""
    try:
        wish = _WISH.decode(body)
        fields = fields_of(body)
    except UNREADABLE as error:
        raise refused(error) from None
    return CompleteRequest(
        model=wish.model,
        prompts=_prompts(wish.prompt),
        suffix=wish.suffix,
        echo=wish.echo,
        best_of=wish.best_of,
        max_output_tokens=wish.max_tokens,
        temperature=wish.temperature,
        top_p=wish.top_p,
        stop=(wish.stop,) if isinstance(wish.stop, str) else tuple(wish.stop or ()),
        n=1 if wish.n is None else wish.n,
        seed=wish.seed,
        presence_penalty=wish.presence_penalty,
        frequency_penalty=wish.frequency_penalty,
        logprobs=wish.logprobs,
        user=wish.user,
        stream=bool(wish.stream),
        stream_usage=bool(wish.stream_options and wish.stream_options.include_usage),
        rest={name: raw for name, raw in fields.items() if name not in _KNOWN and given(raw)},
    )


def write_request(request: CompleteRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The body for a provider of this dialect, and what it leaves out. Raises RequestError."""
    desk = Desk(drop)
    prompts = [prompt if isinstance(prompt, str) else list(prompt) for prompt in request.prompts]
    body: dict[str, Any] = {"model": model, "prompt": prompts[0] if len(prompts) == 1 else prompts}
    body |= {name: getattr(request, name) for name in _SAME_NAME if getattr(request, name) is not None}
    bound = quirks.default_max_tokens if request.max_output_tokens is None else request.max_output_tokens
    if bound is not None:
        body["max_tokens"] = bound
    if request.stop:
        body["stop"] = list(request.stop)
    if request.n != 1:
        body["n"] = request.n
    for name in request.rest:
        desk.cannot(name, "the completions API has no such parameter")
    desk.leave_out(body, quirks.unsupported - _ALWAYS)
    if request.stream:
        body["stream"] = True
        if quirks.stream_options:
            more = {"continuous_usage_stats": True} if quirks.continuous_usage else {}
            body["stream_options"] = {"include_usage": True, **more}
    return WrittenRequest(encode(body), desk.dropped)


def _prompts(said: str | list[str | int | list[int]] | None) -> tuple[str | tuple[int, ...], ...]:
    """One text, texts, the tokens of one prompt, or of several. No prompt at all is an empty one."""
    if said is None or isinstance(said, str):
        return (said or "",)
    tokens = tuple(item for item in said if isinstance(item, int))
    if not tokens:
        return tuple(item if isinstance(item, str) else tuple(item) for item in said if not isinstance(item, int))
    if len(tokens) != len(said):
        raise RequestError("`prompt`: expected texts, or the tokens of one prompt, or lists of tokens.", param="prompt")
    return (tokens,)
