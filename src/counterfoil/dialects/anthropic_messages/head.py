"""What the head of a streamed reply says of its input, for clients that read it nowhere else.

Rule 1: what a report says goes before the estimate; what is no more than either of them is marked as estimated.
Rule 2: a number is exact once no later report can lower it, and at the reply's end (WIRE 3, `messages_head: buffer`).
"""

from __future__ import annotations

from typing import Final

from counterfoil.core.event import UsageReported
from counterfoil.dialects.anthropic_messages.usage import ESTIMATED, usage_fields
from counterfoil.dialects.dialect import FinalUsage, ReplyFacts
from counterfoil.usage.reading import NO_READING, WHOLE_REPLY, Counter
from counterfoil.usage.settle import settle
from counterfoil.usage.usage import Bucket, Provenance, Usage

__all__ = ["HELD_LIMIT", "InputSoFar", "head_usage"]

HELD_LIMIT: Final = 32 * 2**20
"""Bytes that wait behind a head that waits; beyond them it goes out with what is known."""
_OF_OUTPUT: Final = ("output_tokens", "output_tokens_details")


def head_usage(facts: ReplyFacts) -> dict[str, object]:
    """Usage in a head whose input nobody knows yet: a marked estimate (WIRE 3, `messages_head: estimate`)."""
    return {"input_tokens": facts.input_estimate or 0, "output_tokens": 0, ESTIMATED: True}


class InputSoFar:
    """The input of one reply, as far as its provider has said it."""

    def __init__(self, facts: ReplyFacts) -> None:
        self._facts = facts
        self._reading = NO_READING
        self._final: Usage | None = None

    def see(self, event: UsageReported) -> None:
        """Join a report, as the meter does."""
        self._reading = self._reading.join(event.report)

    def end(self, final: FinalUsage) -> None:
        """The reply is over, and this is its usage."""
        self._final = final.usage

    @property
    def exact(self) -> bool:
        """Whether the head can be written with a number that stays."""
        if self._final is not None:
            return True
        convention = self._facts.convention
        return convention is not None and not convention.input_falls and self._said

    def usage(self) -> dict[str, object]:
        """The head's usage object."""
        told = self._final
        if told is None and self._said and self._facts.convention is not None:
            told = settle(self._reading, self._facts.convention, ended=True).usage
        if told is None or Bucket.INPUT not in told.buckets:
            return head_usage(self._facts)
        fields = {name: one for name, one in usage_fields(FinalUsage(told)).items() if name not in _OF_OUTPUT}
        fields["output_tokens"] = 0
        if not self.exact or told.provenance.get(Bucket.INPUT) is Provenance.ESTIMATED:
            fields[ESTIMATED] = True
        return fields

    @property
    def _said(self) -> bool:
        """A report of the whole reply's input came, and was not marked as an estimate."""
        said = self._reading.scopes.get(WHOLE_REPLY, {}).get(Counter.INPUT)
        return said is not None and not said.estimated
