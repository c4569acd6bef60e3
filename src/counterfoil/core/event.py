"""One canonical thing that happened in a reply.

A decoder turns frames into these, an encoder turns these into frames, and the meter reads them on the way. A whole
(unstreamed) reply is the same events from one frame.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from counterfoil.core.error import Failure
from counterfoil.usage.reading import Report

__all__ = [
    "ChoiceFinished",
    "Embedding",
    "EmbeddingsGiven",
    "Event",
    "FinishReason",
    "LogprobsGiven",
    "OpaqueGiven",
    "OutputHidden",
    "Ranked",
    "RankingGiven",
    "ReasoningDelta",
    "ReasoningSigned",
    "RedactedReasoningGiven",
    "RefusalDelta",
    "ReplyFailed",
    "ReplyStarted",
    "TextDelta",
    "TokensCounted",
    "ToolArgumentsDelta",
    "ToolCallStarted",
    "UsageReported",
]


class FinishReason(StrEnum):
    """Why a choice ended. A refusal is a completed reply."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    PAUSED = "paused"
    """The provider stopped in the middle of its own tool use and can be asked to go on (Anthropic `pause_turn`)."""
    UNKNOWN = "unknown"


class ReplyStarted(msgspec.Struct, frozen=True, tag=True):
    """Once a reply, before everything else that is said of it."""

    id: str = ""
    model: str = ""
    created: int | None = None
    """Unix seconds, where the dialect says them."""


class TextDelta(msgspec.Struct, frozen=True, tag=True):
    text: str
    choice: int = 0


class ReasoningDelta(msgspec.Struct, frozen=True, tag=True):
    text: str
    choice: int = 0


class ReasoningSigned(msgspec.Struct, frozen=True, tag=True):
    """The reasoning said so far is complete and this proves it. Later reasoning is a new block.

    A proof without any reasoning belongs to what comes next in its choice (a call or a text of Gemini's).
    """

    signature: str
    choice: int = 0
    origin: str = ""
    """Who can check it, where that is not Claude: `core.message.Reasoning.origin`."""


class RedactedReasoningGiven(msgspec.Struct, frozen=True, tag=True):
    """A whole block of encrypted reasoning."""

    data: str
    choice: int = 0
    origin: str = ""
    """As of `ReasoningSigned`."""


class OutputHidden(msgspec.Struct, frozen=True, tag=True):
    """The model began to write something that is not shown as it is written: encrypted reasoning, a call that its
    provider answers itself. Clients are told what comes of it; the books know from here on that there was more."""

    choice: int = 0


class RefusalDelta(msgspec.Struct, frozen=True, tag=True):
    text: str
    choice: int = 0


class ToolCallStarted(msgspec.Struct, frozen=True, tag=True):
    """A call begins. `call` counts the calls of its choice from 0. A decoder makes up neither id nor name: they are
    empty when the provider gave none yet."""

    call: int
    id: str
    name: str
    choice: int = 0


class ToolArgumentsDelta(msgspec.Struct, frozen=True, tag=True):
    """More JSON text of a call's arguments. A tool without arguments gets "{}" before its choice finishes."""

    call: int
    arguments: str
    choice: int = 0


class LogprobsGiven(msgspec.Struct, frozen=True, tag=True):
    """Log probabilities, word for word in the dialect's own shape."""

    raw: msgspec.Raw
    choice: int = 0


class OpaqueGiven(msgspec.Struct, frozen=True, tag=True):
    """Something the canonical words lack (citations, server tool blocks, audio), word for word."""

    kind: str
    raw: msgspec.Raw
    choice: int = 0


class ChoiceFinished(msgspec.Struct, frozen=True, tag=True):
    """Exactly once a choice; a repeated finish is swallowed by the decoder."""

    reason: FinishReason
    choice: int = 0
    said: str = ""
    """The provider's own word."""
    stop_sequence: str | None = None


class Embedding(msgspec.Struct, frozen=True):
    """One vector: numbers, or base64 of little-endian 32-bit floats, word for word as the provider wrote it."""

    index: int
    vector: msgspec.Raw
    kind: str = "float"
    """What the vector holds where a provider gives several for one input (Cohere: float, int8, ubinary, ...)."""


class EmbeddingsGiven(msgspec.Struct, frozen=True, tag=True):
    """All vectors of a reply, in the order of the inputs."""

    embeddings: tuple[Embedding, ...]


class Ranked(msgspec.Struct, frozen=True):
    """One document's place: `index` counts the request's documents from 0."""

    index: int
    score: float
    document: msgspec.Raw | None = None


class RankingGiven(msgspec.Struct, frozen=True, tag=True):
    """The documents, most relevant first."""

    results: tuple[Ranked, ...]


class TokensCounted(msgspec.Struct, frozen=True, tag=True):
    """The answer to a count."""

    input_tokens: int
    cached_tokens: int | None = None


class UsageReported(msgspec.Struct, frozen=True, tag=True):
    report: Report


class ReplyFailed(msgspec.Struct, frozen=True, tag=True):
    """An error frame, or an error body."""

    failure: Failure
    instead: bool = False
    """It came in place of a reply: as good as an error status."""


Event = (
    ReplyStarted
    | TextDelta
    | ReasoningDelta
    | ReasoningSigned
    | RedactedReasoningGiven
    | OutputHidden
    | RefusalDelta
    | ToolCallStarted
    | ToolArgumentsDelta
    | LogprobsGiven
    | OpaqueGiven
    | ChoiceFinished
    | EmbeddingsGiven
    | RankingGiven
    | TokensCounted
    | UsageReported
    | ReplyFailed
)
