"""Events to what a completions client reads, when the provider speaks another dialect.

Rule 1: each choice has one finish, and one usage object stands in one last chunk without choices, then the end mark.
Rule 2: what is no text (thoughts, calls) has no place on this wire and is not written; it is counted all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import (
    ChoiceFinished,
    Event,
    FinishReason,
    LogprobsGiven,
    RefusalDelta,
    ReplyStarted,
    TextDelta,
)
from counterfoil.dialects.dialect import FinalUsage, ReplyFacts
from counterfoil.dialects.openai_chat.failure import write_failure
from counterfoil.dialects.openai_chat.usage import write_usage
from counterfoil.dialects.schema import UNREADABLE, encode

__all__ = ["CompletionEncoder"]

_FINISHES: Final[Mapping[FinishReason, str]] = {
    FinishReason.LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.REFUSAL: "content_filter",
}
"""The words of the published schema; anything else is "stop"."""
_END: Final = b"data: [DONE]\n\n"
_LISTS: Final = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


class _Token(msgspec.Struct, frozen=True):
    """One entry of a chat reply's `logprobs.content`."""

    token: str
    logprob: float | None = None
    top_logprobs: tuple[_Token, ...] = ()


class _Content(msgspec.Struct, frozen=True):
    content: tuple[_Token, ...]


_CONTENT: Final = msgspec.json.Decoder(_Content)
_OWN: Final = msgspec.json.Decoder(dict[str, list[Any] | None])


class _Choice:
    """One choice so far."""

    __slots__ = ("finish", "logprobs", "offset", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.logprobs: dict[str, list[Any]] = {}
        self.offset = 0
        """Characters of the tokens whose probabilities were told."""
        self.finish: str | None = None


class CompletionEncoder:
    """Encodes one reply, streamed or whole."""

    def __init__(self, facts: ReplyFacts) -> None:
        self._facts = facts
        self._id = facts.id
        self._created = facts.created
        self._begun = False
        self._choices: dict[int, _Choice] = {}

    def encode(self, events: Sequence[Event]) -> bytes:
        """The frames of these events; empty for a whole reply, and for what a client is not told."""
        return b"".join([self._event(event) for event in events])

    def close(self, final: FinalUsage) -> bytes:
        """The last frames, or the whole body."""
        usage = msgspec.Raw(write_usage(msgspec.structs.replace(final, provider_raw=b"")))
        if not self._choices:
            self._choices[0] = _Choice()
        frames = [
            self._event(ChoiceFinished(FinishReason.STOP, index))
            for index, choice in list(self._choices.items())
            if choice.finish is None
        ]
        if not self._facts.streamed:
            return self._whole(usage)
        if self._facts.usage_asked:
            frames.append(self._frame([], usage))
        return b"".join((*frames, _END))

    def fail(self, failure: Failure) -> bytes:
        """An error frame, after which nothing comes; of a whole reply the error body."""
        body = write_failure(failure)
        return b"data: " + body + b"\n\n" if self._facts.streamed else body

    def _event(self, event: Event) -> bytes:
        match event:
            case ReplyStarted():
                if not self._begun:
                    self._id = event.id or self._id
                    self._created = self._created if event.created is None else event.created
                return b""
            case TextDelta(text=text, choice=index) | RefusalDelta(text=text, choice=index):
                self._choice(index).texts.append(text)
                return self._chunk(index, text)
            case LogprobsGiven(raw=raw, choice=index):
                return self._logprobs(raw, index)
            case ChoiceFinished(reason=reason, choice=index):
                choice = self._choice(index)
                if choice.finish is not None:
                    return b""
                choice.finish = _FINISHES.get(reason, "stop")
                return self._chunk(index, "", finish=choice.finish)
            case _:
                return b""

    def _choice(self, index: int) -> _Choice:
        return self._choices.setdefault(index, _Choice())

    def _logprobs(self, raw: msgspec.Raw, index: int) -> bytes:
        choice = self._choice(index)
        lists = _legacy(raw, choice.offset)
        if lists is None:
            return b""
        choice.offset += sum(len(token) for token in lists.get("tokens", ()) if isinstance(token, str))
        for name, values in lists.items():
            choice.logprobs.setdefault(name, []).extend(values)
        return self._chunk(index, "", logprobs=lists)

    def _chunk(
        self, index: int, text: str, *, logprobs: Mapping[str, Any] | None = None, finish: str | None = None
    ) -> bytes:
        return self._frame([{"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish}], None)

    def _frame(self, choices: list[dict[str, Any]], usage: msgspec.Raw | None) -> bytes:
        if not self._facts.streamed:
            return b""
        self._begun = True
        chunk = {**self._identity(), "choices": choices}
        if self._facts.usage_asked:
            chunk["usage"] = usage
        return b"data: " + encode(chunk) + b"\n\n"

    def _whole(self, usage: msgspec.Raw) -> bytes:
        choices = [
            {
                "text": "".join(choice.texts),
                "index": index,
                "logprobs": choice.logprobs or None,
                "finish_reason": choice.finish,
            }
            for index, choice in sorted(self._choices.items())
        ]
        body = {**self._identity(), "choices": choices}
        return encode(body if bytes(usage) == b"null" else {**body, "usage": usage})

    def _identity(self) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._facts.model,
        }


def _legacy(raw: msgspec.Raw, offset: int) -> dict[str, list[Any]] | None:
    """Log probabilities as this wire has them: their own lists, or a chat's entries as lists. `offset`: characters of
    the tokens before these."""
    try:
        entries = _CONTENT.decode(raw).content
    except UNREADABLE:
        try:
            own = _OWN.decode(raw)
        except UNREADABLE:
            return None
        return {name: own.get(name) or [] for name in _LISTS} if own.get("tokens") else None
    lists: dict[str, list[Any]] = {name: [] for name in _LISTS}
    for entry in entries:
        lists["tokens"].append(entry.token)
        lists["token_logprobs"].append(entry.logprob)
        lists["top_logprobs"].append({other.token: other.logprob for other in entry.top_logprobs} or None)
        lists["text_offset"].append(offset)
        offset += len(entry.token)
    return lists
