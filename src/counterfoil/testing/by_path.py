"""One reply in whichever dialect is asked for: the path says which.

Rule 1. Pure, as the playbook. A path of no dialect known here is answered as a chat.
Rule 2. What a dialect has no place for (a cache write in Gemini's counts) is not in its plan, so that what is served
is what was planned.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Literal, TypeAlias

from counterfoil.testing.chat import ChatReply, pieces_of
from counterfoil.testing.converse import ConverseReply, converse_player
from counterfoil.testing.gemini import GeminiReply, gemini_player
from counterfoil.testing.messages import MessagesReply
from counterfoil.testing.playbook import Chooser, Counts, Request, Script
from counterfoil.testing.responses import ResponsesReply, responses_player

__all__ = ["PathDialect", "dialect_of", "path_player"]

PathDialect: TypeAlias = Literal["chat", "messages", "responses", "gemini", "converse"]

_ENDS: Final[Mapping[str, PathDialect]] = {
    "/messages": "messages",
    "/messages/count_tokens": "messages",
    "/responses": "responses",
    "/responses/input_tokens": "responses",
    ":generateContent": "gemini",
    ":streamGenerateContent": "gemini",
    ":countTokens": "gemini",
    ":embedContent": "gemini",
    ":batchEmbedContents": "gemini",
    ":rawPredict": "messages",
    ":streamRawPredict": "messages",
    "/converse": "converse",
    "/converse-stream": "converse",
    "/count-tokens": "converse",
}
"""By how the path ends."""


def dialect_of(request: Request) -> PathDialect:
    """The dialect of the request's path."""
    path = request.path.partition("?")[0]
    return next((dialect for end, dialect in _ENDS.items() if path.endswith(end)), "chat")


def path_player(plan: ChatReply) -> Chooser:
    """What `plan` says (text, reasoning, tools, usage, finish) in the dialect of the request's path, streamed or whole
    as the request asks."""
    players: dict[PathDialect, Chooser] = {}

    def choose(request: Request) -> Script:
        dialect = dialect_of(request)
        if dialect not in players:
            players[dialect] = _PLAYERS[dialect](plan)
        return players[dialect](request)

    return choose


def _chat(plan: ChatReply) -> Chooser:
    streamed, whole = (replace(plan, stream=stream).script() for stream in (True, False))
    return lambda request: streamed if request.stream else whole


_MESSAGES_STOPS: Final[Mapping[str, str]] = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_GEMINI_FINISHES: Final[Mapping[str, str]] = {
    "": "STOP",
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
}
_INCOMPLETE: Final[Mapping[str, str]] = {"length": "max_output_tokens", "content_filter": "content_filter"}


def _messages(plan: ChatReply) -> Chooser:
    stop = _MESSAGES_STOPS.get(plan.finish, plan.finish)
    said = MessagesReply(
        text=plan.text, usage=plan.usage, thinking=plan.reasoning, tools=plan.tools, stop_reason=stop, model=plan.model
    )
    streamed, whole = (replace(said, stream=stream).script() for stream in (True, False))
    return lambda request: streamed if request.stream else whole


def _responses(plan: ChatReply) -> Chooser:
    return responses_player(
        ResponsesReply(
            text=plan.text,
            usage=plan.usage,
            reasoning=plan.reasoning,
            refusal=plan.refusal,
            tools=plan.tools,
            incomplete=_INCOMPLETE.get(plan.finish, ""),
            model=plan.model,
        )
    )


def _gemini(plan: ChatReply) -> Chooser:
    return gemini_player(
        GeminiReply(
            text=plan.text,
            usage=_without(plan.usage, "cache_write"),
            thinking=plan.reasoning,
            tools=plan.tools,
            finish=_GEMINI_FINISHES.get(plan.finish, plan.finish),
            model=plan.model,
        )
    )


def _converse(plan: ChatReply) -> Chooser:
    return converse_player(
        ConverseReply(
            text=plan.text,
            usage=_without(plan.usage, "reasoning"),
            thinking=plan.reasoning if pieces_of(plan.reasoning) else (),
            tools=plan.tools,
            stop_reason=_MESSAGES_STOPS.get(plan.finish, plan.finish),
        )
    )


def _without(counts: Counts | None, name: Literal["cache_write", "reasoning"]) -> Counts | None:
    if counts is None:
        return None
    return replace(counts, cache_write=None) if name == "cache_write" else replace(counts, reasoning=None)


_PLAYERS: Final[Mapping[PathDialect, Callable[[ChatReply], Chooser]]] = {
    "chat": _chat,
    "messages": _messages,
    "responses": _responses,
    "gemini": _gemini,
    "converse": _converse,
}
