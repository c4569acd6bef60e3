"""Whole answers that are not a good reply: errors, wrong pages, nothing at all; and choosers that heed the request.

Rule 1. Pure, as the playbook (but `in_turn` remembers its place). Error bodies are invented, their shapes are those
of the dialects.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, assert_never

from counterfoil.testing.by_path import PathDialect, dialect_of, path_player
from counterfoil.testing.chat import ChatReply
from counterfoil.testing.counting import asks_count, count_player
from counterfoil.testing.embeddings import embeddings_player
from counterfoil.testing.messages import MessagesReply
from counterfoil.testing.playbook import Answer, Chooser, Nothing, Request, Script, Send, Stall, compact_json

__all__ = [
    "bad_json",
    "chat_player",
    "empty_answer",
    "error_answer",
    "error_player",
    "html_answer",
    "in_turn",
    "messages_player",
    "no_answer",
    "obliging",
    "redirect",
    "refusing_stream_options",
    "silent_answer",
    "wrong_type",
]

_ANTHROPIC_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}

_GOOGLE_STATUSES: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def _answer(status: int, body: bytes, kind: str, **headers: str) -> Script:
    script = Script(
        steps=(Send(body),) if body else (),
        status=status,
        headers=(("content-type", kind),),
        framing="length",
        name=f"answer {status}",
    )
    return script.with_headers(**headers)


def error_answer(
    status: int,
    message: str = "The provider will not play this.",
    *,
    dialect: PathDialect = "chat",
    code: str | int | None = None,
    param: str | None = None,
    retry_after: str | None = None,
) -> Script:
    """An error status with a JSON body in the dialect's shape; `retry_after` is the header's value, as written.

    `code` and `param` are of the shapes that have them (chat and Responses).
    """
    kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    error: dict[str, Any]
    match dialect:
        case "chat" | "responses":
            error = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        case "messages":
            error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_play"}
        case "gemini":
            named = _GOOGLE_STATUSES.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
            error = {"error": {"code": status, "message": message, "status": named}}
        case "converse":
            error = {"message": message}
        case _:
            assert_never(dialect)
    script = _answer(status, compact_json(error), "application/json")
    return script if retry_after is None else script.with_headers(retry_after=retry_after)


def error_player(status: int, message: str = "The provider will not play this.", **more: Any) -> Chooser:  # noqa: ANN401 - what error_answer takes
    """`error_answer` in the dialect of the request's path."""
    return lambda request: error_answer(status, message, dialect=dialect_of(request), **more)


def html_answer(status: int = 200) -> Script:
    """A page of HTML, as a proxy or a login wall sends."""
    page = b"<!doctype html><html><head><title>Sign in</title></head><body><h1>Sign in</h1></body></html>"
    return _answer(status, page, "text/html; charset=utf-8")


def redirect(location: str, status: int = 307) -> Script:
    """A redirection, which a gateway must not follow with a provider's secret."""
    return _answer(status, b"", "text/plain", location=location)


def bad_json() -> Script:
    """Status 200 and a body that stops being JSON in the middle."""
    return _answer(200, b'{"id":"chatcmpl-broken","choices":[{"index":0,"message":{"role":"assis', "application/json")


def empty_answer() -> Script:
    """Status 200, and a body of no bytes."""
    return _answer(200, b"", "application/json")


def no_answer() -> Script:
    """The connection closed without a byte."""
    return Script(steps=(Nothing(),), name="no answer")


def silent_answer() -> Script:
    """Not a byte, and the connection held open."""
    return Script(steps=(Stall(),), name="silent answer")


def wrong_type(script: Script, content_type: str = "text/plain") -> Script:
    """`script` under another content type."""
    return script.with_headers(content_type=content_type)


def refusing_stream_options(otherwise: Answer) -> Chooser:
    """A server that answers 400 to a request with `stream_options`, and plays `otherwise` without it."""

    def choose(request: Request) -> Script:
        if "stream_options" in request.json:
            message = "Unknown field: stream_options: Extra inputs are not permitted"
            return error_answer(400, message, code="unknown_field", param="stream_options")
        return otherwise if isinstance(otherwise, Script) else otherwise(request)

    return choose


def chat_player(plan: ChatReply) -> Chooser:
    """Play `plan`, streamed or whole as the request's `stream` says."""
    streamed, whole = (replace(plan, stream=stream).script() for stream in (True, False))
    return lambda request: streamed if request.stream else whole


def messages_player(plan: MessagesReply) -> Chooser:
    """Play `plan`, streamed or whole as the request's `stream` says."""
    streamed, whole = (replace(plan, stream=stream).script() for stream in (True, False))
    return lambda request: streamed if request.stream else whole


def in_turn(first: Answer, *others: Answer) -> Chooser:
    """Play these one after the other, and the last again and again: `in_turn(error_answer(429), chat_reply())`."""
    left = [first, *others]

    def choose(request: Request) -> Script:
        answer = left.pop(0) if len(left) > 1 else left[0]
        return answer if isinstance(answer, Script) else answer(request)

    return choose


_COUNTED = 11
"""What a request is said to have: the input of an ordinary reply."""


def obliging(request: Request) -> Script:
    """An ordinary reply in the dialect of the path, streamed, with usage and as often as the request asks."""
    if request.path.partition("?")[0].endswith("/embeddings"):
        return embeddings_player(request)
    if asks_count(request):
        return count_player(_COUNTED)(request)
    if dialect_of(request) != "chat":
        return path_player(ChatReply())(request)
    shape: Literal["separate", "absent"] = "separate" if request.asks_usage or not request.stream else "absent"
    number = request.json.get("n")
    n = number if isinstance(number, int) and 1 <= number <= 16 else 1
    return ChatReply(stream=request.stream, shape=shape, n=n).script()
