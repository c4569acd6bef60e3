"""What one attempt amounts to while it runs: its reading, and what was seen of its reply.

The meter sees every event exactly once, in order, whether the reply is relayed or crosses dialects. It keeps counts,
never content.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from counterfoil.core.error import Failure, FailureKind
from counterfoil.core.estimate import TOOL_CALL_TOKENS, Tally
from counterfoil.core.event import (
    ChoiceFinished,
    EmbeddingsGiven,
    Event,
    FinishReason,
    LogprobsGiven,
    OpaqueGiven,
    OutputHidden,
    RankingGiven,
    ReasoningDelta,
    ReasoningSigned,
    RedactedReasoningGiven,
    RefusalDelta,
    ReplyFailed,
    ReplyStarted,
    TextDelta,
    TokensCounted,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.ledger.entry import Progress
from counterfoil.usage.reading import NO_READING, Reading
from counterfoil.usage.settle import Convention, Delivered, Discrepancy, DiscrepancyKind, Settlement, settle

__all__ = ["LONGEST_ID", "Meter"]

LONGEST_ID: Final = 256
"""Characters of a provider's id that are kept: an entry has to fit into a journal record."""

_BEFORE_A_MODEL: Final = frozenset(
    {
        FailureKind.INVALID_REQUEST,
        FailureKind.AUTHENTICATION,
        FailureKind.PERMISSION,
        FailureKind.NOT_FOUND,
        FailureKind.TOO_LARGE,
        FailureKind.CONTEXT_WINDOW,
        FailureKind.RATE_LIMITED,
        FailureKind.QUOTA,
        FailureKind.OVERLOADED,
    }
)
"""What a provider finds before it runs a model, and tells with an error status, or in a stream that answered 200
(Bedrock's exceptions, `response.failed` for want of quota)."""


class Meter:
    """Counts one attempt. Not frozen: it is the one place where an attempt's state lives."""

    __slots__ = (
        "_at_report",
        "_filtered",
        "_hidden",
        "_input",
        "_instead",
        "_noted",
        "_reasoning",
        "_spoken",
        "_vectors",
        "attempt",
        "failure",
        "news",
        "provider_id",
        "reading",
    )

    def __init__(self, attempt: str, input_estimate: int | None) -> None:
        self.attempt = attempt
        self.reading: Reading = NO_READING
        self.failure: Failure | None = None
        """The reply's own failure, when an error frame said one."""
        self.provider_id: str | None = None
        self.news = False
        """The first report came and nobody has noted it yet."""
        self._input = input_estimate
        self._spoken: dict[int, Tally] = {}
        self._reasoning = Tally()
        self._at_report: int | None = None
        self._hidden = False
        self._filtered: bool | None = None
        """Whether a filter ended all choices that have finished; None while none has."""
        self._instead = False
        self._noted: tuple[int, int] = (0, 0)
        self._vectors: int | None = None

    def see(self, events: Sequence[Event]) -> None:
        """Count these events."""
        for event in events:
            match event:
                case TextDelta(text=text, choice=choice) | RefusalDelta(text=text, choice=choice):
                    self._add(text, choice)
                case ToolArgumentsDelta(arguments=text, choice=choice):
                    self._add(text, choice)
                case ReasoningDelta(text=text, choice=choice):
                    self._reasoning.add(text)
                    self._tally(choice)
                case ToolCallStarted(choice=choice):
                    self._tally(choice).add_tokens(TOOL_CALL_TOKENS)
                case UsageReported(report=report):
                    self.news = self.news or not self.reading.reports
                    self.reading = self.reading.join(report)
                    if report.measures_output:
                        self._at_report = self._seen
                case ReplyStarted(id=reply_id):
                    self.identify(reply_id)
                case RedactedReasoningGiven() | OutputHidden() | ReasoningSigned():
                    self._hidden = True  # what is proved is a summary: Claude's since version 4, Gemini's, OpenAI's
                case ChoiceFinished(reason=reason):
                    self._filtered = reason is FinishReason.CONTENT_FILTER and self._filtered is not False
                case ReplyFailed(failure=failure, instead=instead):
                    self.failure, self._instead = failure, instead
                case LogprobsGiven() | OpaqueGiven():
                    pass
                case EmbeddingsGiven(embeddings=embeddings):
                    # One input may have several, of different kinds.
                    self._vectors = len({embedding.index for embedding in embeddings})
                case RankingGiven() | TokensCounted():
                    pass

    def identify(self, provider_id: str | None) -> None:
        """Keep the provider's own id of the reply or the request, as far as an id goes."""
        if provider_id:
            self.provider_id = provider_id[:LONGEST_ID]

    @property
    def delivered(self) -> Delivered:
        """What was seen so far."""
        per_choice = {choice: tally.tokens for choice, tally in self._spoken.items()}
        return Delivered(
            input=self._input,
            output=sum(per_choice.values()),
            reasoning=self._reasoning.tokens,
            since_report=None if self._at_report is None else self._seen - self._at_report,
            choices=frozenset(per_choice),
            per_choice=per_choice if len(per_choice) > 1 else {},
            hidden=self._hidden,
            filtered=self._filtered is True,
        )

    @property
    def refused(self) -> bool:
        """The reply is nothing but an error that came before any model ran, or in place of a reply: as good as an
        error status."""
        kind = None if self.failure is None else self.failure.kind
        return (kind in _BEFORE_A_MODEL or self._instead) and not (self.reading.reports or self._seen or self._hidden)

    def progress(self, at: float) -> Progress | None:
        """A note of where things stand at `at` (Unix seconds), or None when nothing changed since the last one."""
        state = (self.reading.reports, self._seen)
        if state == self._noted:
            return None
        self._noted, self.news = state, False
        return Progress(self.attempt, at, self.reading, self.delivered)

    def settle(
        self, convention: Convention, *, ended: bool, estimate: bool = True, inputs: int | None = None
    ) -> Settlement:
        """Settle the attempt. With `estimate` false the unknown stays unknown. `inputs`: `RequestPeek.inputs`."""
        settled = settle(self.reading, convention, ended=ended, delivered=self.delivered if estimate else None)
        if not ended or None in (inputs, self._vectors) or inputs == self._vectors:
            return settled
        found = Discrepancy(DiscrepancyKind.VECTOR_COUNT, reported=self._vectors, expected=inputs)
        return msgspec.structs.replace(settled, discrepancies=(*settled.discrepancies, found))

    @property
    def _seen(self) -> int:
        return self._reasoning.tokens + sum(tally.tokens for tally in self._spoken.values())

    def _add(self, text: str, choice: int) -> None:
        self._tally(choice).add(text)

    def _tally(self, choice: int) -> Tally:
        tally = self._spoken.get(choice)
        if tally is None:
            tally = self._spoken[choice] = Tally()
        return tally
