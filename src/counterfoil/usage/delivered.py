"""What was seen of a reply, and what that alone can tell of its usage.

Rule 1: an estimate fills what nobody reported. It never replaces a measure.
Rule 2: text contradicts a zero: a report of nothing but zeros beside it is no measure, and is never a free call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from counterfoil.usage.reading import Counter, Observation
from counterfoil.usage.usage import INPUT_BUCKETS, OUTPUT_BUCKETS, Bucket, Provenance, Usage

__all__ = ["Delivered", "estimated", "is_hollow", "is_underivable"]


class Delivered(msgspec.Struct, frozen=True):
    """What was seen of a reply, in estimated tokens. All that `settle` needs to know about content."""

    input: int | None = None
    """Estimate of the input, from the request."""
    output: int = 0
    """Estimate of all visible output seen, reasoning excluded."""
    reasoning: int = 0
    """Estimate of all visible reasoning seen."""
    since_report: int | None = None
    """Estimate of output and reasoning seen after the last report of OUTPUT; None when it was never reported."""
    choices: frozenset[int] = frozenset()
    """Choices that produced anything."""
    per_choice: Mapping[int, int] = {}
    """Estimate of output per choice, kept when there are several."""
    hidden: bool = False
    """Output exists that nobody can see (encrypted or withheld reasoning): estimates are lower bounds."""
    filtered: bool = False
    """A filter ended every choice that finished: the text may be the filter's own, and a report of zeros true."""


_MEASURES: Final = (Counter.INPUT, Counter.OUTPUT)


def is_hollow(whole: Mapping[Counter, Observation], delivered: Delivered) -> bool:
    """Whether zeros are all that was said beside a text: no measure of a reply that read and wrote something.

    Recorded: openai.responses/openai/dd-trace-py-response-stream-incomplete-0-3d2d4a. A filter's own words are free:
    a prompt that Bedrock's guardrail blocks is answered by a text of its owner's, and by zeros that are true.
    """
    if delivered.filtered or not delivered.output + delivered.reasoning:
        return False
    return not whole.keys().isdisjoint(_MEASURES) and not any(said.value for said in whole.values())


def is_underivable(top: Usage, delivered: Delivered) -> bool:
    """Whether an output of 0, which only follows from the total, is contradicted by text: the total lacks it.

    Gemini leaves `candidatesTokenCount` out of frames, and then their total is the prompt's.
    """
    return top.buckets.get(Bucket.OUTPUT) == 0 and delivered.output > 0


def estimated(usage: Usage, delivered: Delivered, added: int, *, measured: bool, all_input: bool = True) -> Usage:
    """Fill what nobody reported with what was seen. `added`: output seen beyond what was reported. `all_input`: the
    input that was reported is that of all prompts."""
    buckets, provenance = dict(usage.buckets), dict(usage.provenance)

    def put(bucket: Bucket, value: int) -> None:
        buckets[bucket] = value
        provenance[bucket] = Provenance.ESTIMATED

    if Bucket.INPUT not in buckets and delivered.input is not None:
        parts = sum(buckets.get(bucket, 0) for bucket in INPUT_BUCKETS)
        put(Bucket.INPUT, max(0, delivered.input - parts))
    elif not all_input and delivered.input is not None:
        put(Bucket.INPUT, buckets[Bucket.INPUT] + max(0, delivered.input - (usage.input_tokens or 0)))
    if measured:
        if added:
            put(Bucket.OUTPUT, buckets.get(Bucket.OUTPUT, 0) + added)
    else:
        # A placeholder counts what was generated when it was sent: it is a floor, not a measure.
        placeholder = sum(buckets.get(bucket, 0) for bucket in OUTPUT_BUCKETS)
        if Bucket.OUTPUT not in buckets or delivered.output + delivered.reasoning > placeholder:
            put(Bucket.OUTPUT, delivered.output)
            if delivered.reasoning and Bucket.REASONING not in buckets:
                put(Bucket.REASONING, delivered.reasoning)
    return Usage(buckets, provenance, usage.excess)
