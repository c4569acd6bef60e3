"""What one delta or message says, as events.

Rule: in the order a reader needs it: reasoning, text, refusal, calls, and then what is carried word for word.
"""

from __future__ import annotations

from typing import Final

import msgspec

from counterfoil.core.event import (
    Event,
    OpaqueGiven,
    ReasoningDelta,
    ReasoningSigned,
    RedactedReasoningGiven,
    RefusalDelta,
    TextDelta,
)
from counterfoil.dialects.openai_chat.calls import CallBook
from counterfoil.dialects.openai_chat.schema import ContentPart, ReasoningDetail, Said, decode_part
from counterfoil.dialects.proof import origin_of
from counterfoil.dialects.schema import NOT_SENT, given

__all__ = ["ChoiceState", "read_content"]

_OPAQUE: Final = ("annotations", "audio", "images", "extra_content")
"""Keys that are carried word for word."""


class ChoiceState:
    """What one choice has said so far, as far as what comes next depends on it."""

    __slots__ = ("calls", "finished", "index", "spoke", "thought")

    def __init__(self, index: int) -> None:
        self.index = index
        self.finished = False
        self.calls = CallBook(index)
        self.spoke = False
        """Text, a refusal or a call came."""
        self.thought = False
        """Reasoning came as plain text, and nothing has closed it."""


def read_content(said: Said, choice: ChoiceState, events: list[Event]) -> None:
    """Append the events of one delta or message of a choice.

    Raises LimitExceeded, and UNREADABLE for a part of a list that is not one.
    """
    index = choice.index
    if said.reasoning_details:
        _read_details(said, choice, events)
    elif said.reasoning_content is not None or said.reasoning is not None:
        _read_reasoning(said, choice, events)
    content = said.content
    if type(content) is str:
        if content:
            choice.spoke = True
            events.append(TextDelta(content, index))
    elif type(content) is list:
        for raw in content:
            choice.spoke = True
            _read_part(raw, index, events)
    elif type(content) is dict:
        choice.spoke = True
        events.append(TextDelta(msgspec.json.encode(content).decode(), index))
    if said.refusal:
        choice.spoke = True
        events.append(RefusalDelta(said.refusal, index))
    if said.tool_calls:
        choice.spoke = True
        choice.calls.parts(said.tool_calls, events)
        events.extend(
            OpaqueGiven("extra_content", call.extra_content, index)
            for call in said.tool_calls
            if call.extra_content is not NOT_SENT and given(call.extra_content)
        )
    if said.function_call is not None:
        choice.calls.legacy(said.function_call, events)
    # Hardly a frame has one of these and every frame is asked: asking by name takes a third of a loop's time.
    if (
        said.annotations is not NOT_SENT
        or said.audio is not NOT_SENT
        or said.images is not NOT_SENT
        or said.extra_content is not NOT_SENT
    ):
        _read_opaque(said, index, events)


def _read_opaque(said: Said, index: int, events: list[Event]) -> None:
    for key in _OPAQUE:
        raw = getattr(said, key)
        if raw is not NOT_SENT and _tells(raw):
            events.append(OpaqueGiven(key, raw, index))


def _read_reasoning(said: Said, choice: ChoiceState, events: list[Event]) -> None:
    """`reasoning_content` or `reasoning`; a server that sends both says the same in both."""
    for text in (said.reasoning_content, said.reasoning):
        if text and type(text) is str:
            choice.thought = True
            events.append(ReasoningDelta(text, choice.index))
            return


def _read_details(said: Said, choice: ChoiceState, events: list[Event]) -> None:
    """`reasoning_details` in their order. OpenRouter says their text again in `reasoning`, which is read only when
    the details have none. Where plain text came first (as from our own encoder), a proof repeats it: it only closes."""
    details: list[ReasoningDetail] = said.reasoning_details or []
    if not any(detail.text or detail.summary for detail in details):
        _read_reasoning(said, choice, events)
    for detail in details:
        text = detail.text or detail.summary
        if text and not (detail.signature and choice.thought):
            events.append(ReasoningDelta(text, choice.index))
        if detail.signature:
            choice.thought = False
            events.append(ReasoningSigned(detail.signature, choice.index, origin_of(detail.format)))
        if detail.data:
            events.append(RedactedReasoningGiven(detail.data, choice.index, origin_of(detail.format)))


def _read_part(raw: msgspec.Raw, index: int, events: list[Event]) -> None:
    """One part of a `content` that is a list."""
    part = decode_part(raw)
    if part.thinking is not None:
        text = part.thinking if type(part.thinking) is str else _joined(part.thinking)
        if text:
            events.append(ReasoningDelta(text, index))
    elif part.text is not None:
        if part.text:
            events.append(TextDelta(part.text, index))
    elif part.refusal is not None:
        if part.refusal:
            events.append(RefusalDelta(part.refusal, index))
    else:
        events.append(OpaqueGiven(part.type or "content", raw, index))


def _joined(parts: str | list[ContentPart]) -> str:
    if type(parts) is str:
        return parts
    return "".join(part.text or "" for part in parts if isinstance(part, ContentPart))


def _tells(raw: msgspec.Raw) -> bool:
    """Whether a value carried word for word says anything: Snowflake sends an `audio` of empty texts and zeros."""
    found = msgspec.json.decode(raw)
    return any(found.values()) if isinstance(found, dict) else bool(found)
