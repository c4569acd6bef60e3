"""Answers to the question how many tokens a request has, in the shape of each dialect that has one.

Rule 1. Pure, as the playbook; which shape is asked for, the path says.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from counterfoil.testing.playbook import Chooser, Request, Script, Send, compact_json

__all__ = ["asks_count", "count_player"]

_SHAPES: Final[Mapping[str, Callable[[int], dict[str, Any]]]] = {
    "/messages/count_tokens": lambda tokens: {"input_tokens": tokens},
    "/responses/input_tokens": lambda tokens: {"object": "response.input_tokens", "input_tokens": tokens},
    ":countTokens": lambda tokens: {
        "totalTokens": tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}],
    },
    "/count-tokens": lambda tokens: {"inputTokens": tokens},
}
"""By how the path ends: Anthropic, OpenAI's Responses, Gemini, Bedrock."""


def asks_count(request: Request) -> bool:
    """Whether this asks for a count and not for a reply."""
    return _shape(request) is not None


def count_player(tokens: int) -> Chooser:
    """Answer `tokens` in the shape that the path asks for; ValueError for a path that asks for no count."""

    def choose(request: Request) -> Script:
        shape = _shape(request)
        if shape is None:
            raise ValueError(f"no count is asked for at {request.path.partition('?')[0]}")
        return Script(
            steps=(Send(compact_json(shape(tokens))),),
            headers=(("content-type", "application/json"),),
            framing="length",
            name="count",
        )

    return choose


def _shape(request: Request) -> Callable[[int], dict[str, Any]] | None:
    path = request.path.partition("?")[0]
    return next((shape for end, shape in _SHAPES.items() if path.endswith(end)), None)
