"""A prompt too long for the model, in the words that clients of each dialect look for.

Rule 1: what the provider said is never replaced: the dialect's own words go before it, unless it says them already.
Rule 2: a number is only repeated where the wording it stands in is known. Nothing is worked out from the request.

Tools act on these words: Claude Code compacts a conversation on "prompt is too long", and asks again with a smaller
bound on "input length and `max_tokens` exceed context limit"; LangChain raises its own class on
`context_length_exceeded`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from counterfoil.core.error import Failure, FailureKind

__all__ = ["Overflow", "overflow_of", "own_words"]


class Overflow(msgspec.Struct, frozen=True):
    """By how much, in tokens. None: the provider did not say."""

    limit: int
    """What the model holds."""
    total: int | None = None
    """What was asked of it."""
    input: int | None = None
    """The part of it that is the prompt."""
    output: int | None = None
    """The part of it that is the bound on the reply."""

    @property
    def prompt(self) -> int | None:
        """The prompt, or all of it where nothing was said of its parts."""
        return self.total if self.input is None else self.input

    @property
    def asked(self) -> int | None:
        """All that was asked of it."""
        return self.total if self.input is None or self.output is None else self.input + self.output

    @property
    def by_the_bound(self) -> bool:
        """Whether the prompt alone would fit."""
        return self.input is not None and self.output is not None and self.input < self.limit


_NUMBER: Final = r"(\d[\d,]{0,14})"


def _wording(text: str) -> re.Pattern[str]:
    """`LIMIT`, `TOTAL`, `INPUT`, `OUTPUT` and `OVER` stand for numbers."""
    for name in ("LIMIT", "TOTAL", "INPUT", "OUTPUT", "OVER"):
        text = text.replace(name, _NUMBER.replace("(", f"(?P<{name.lower()}>", 1))
    return re.compile(text, re.IGNORECASE | re.DOTALL)


_WORDINGS: Final[Sequence[re.Pattern[str]]] = (
    # Anthropic: https://platform.claude.com/docs/en/build-with-claude/context-windows
    _wording(r"too long: TOTAL tokens > LIMIT"),
    _wording(r"exceed context limit: INPUT \+ OUTPUT > LIMIT"),
    # OpenAI and vLLM: the whole, then its parts; recorded without the second part: openai.chat/openrouter
    _wording(
        r"context length (?:is|of) LIMIT tokens.{0,60}?requested (?:about |a total of )?TOTAL tokens"
        r"\W{1,4}INPUT (?:tokens )?(?:in|of|from) [\w ]{1,40}?(?:,| and) OUTPUT (?:tokens )?(?:in|of|for) "
    ),
    _wording(
        r"context length (?:is|of) LIMIT tokens.{0,60}?(?:requested|resulted in) (?:about |a total of )?TOTAL tokens"
    ),
    # Gemini: https://ai.google.dev/gemini-api/docs/tokens
    _wording(r"token count(?: of)? \(?TOTAL\)? exceeds the (?:maximum number of tokens allowed \(|limit of )LIMIT"),
    # Gemini on Vertex, as quoted in public threads
    _wording(r"token count is TOTAL but (?:the )?model only supports up to LIMIT"),
    # llama.cpp, tools/server
    _wording(r"\(TOTAL tokens\) exceeds the available context size \(LIMIT tokens"),
    # Mistral: https://docs.mistral.ai
    _wording(r"contains TOTAL tokens.{0,80}?LIMIT maximum context length"),
    # recorded: cohere.v2/cohere
    _wording(r"exceeded by OVER tokens.{0,120}?limit for this model is LIMIT tokens"),
)


def overflow_of(message: str) -> Overflow | None:
    """What a provider's message says of the sizes; None where its wording is not known."""
    for wording in _WORDINGS:
        found = wording.search(message)
        if found is None:
            continue
        said = {name: int(value.replace(",", "")) for name, value in found.groupdict().items()}
        over = said.pop("over", None)
        if over is not None:
            said["total"] = said["limit"] + over
        return Overflow(**said)
    return None


def own_words(failure: Failure, known: re.Pattern[str], said: Callable[[Overflow], str | None], plain: str) -> Failure:
    """The failure as a client of a dialect knows it; any failure but a full context window is left alone.

    `known`: the dialect's own words, which need no others; `said`: its words where the sizes are known; `plain`: its
    words where they are not.
    """
    if failure.kind is not FailureKind.CONTEXT_WINDOW:
        return failure
    message = failure.message
    if not known.search(message):
        sizes = overflow_of(message)
        words = said(sizes) if sizes is not None else None
        message = f"{words or plain} ({message})"
    return msgspec.structs.replace(failure, message=message, status=400)
