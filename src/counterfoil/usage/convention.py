"""Which of a provider's counters includes which.

Rule: conventions are data. Nothing here knows a provider or a dialect.
"""

from __future__ import annotations

import msgspec

from counterfoil.usage.reading import Counter

__all__ = ["Convention"]


class Convention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which counter includes which. A dialect declares one; a provider's row may override it, also by model pattern."""

    input_includes: frozenset[Counter] = frozenset(
        {
            Counter.CACHE_READ,
            Counter.CACHE_READ_AUDIO,
            Counter.CACHE_WRITE,
            Counter.INPUT_AUDIO,
            Counter.INPUT_IMAGE,
        }
    )
    """Parts already inside INPUT. A part that is not in here is added to it."""
    output_includes: frozenset[Counter] = frozenset({Counter.REASONING, Counter.OUTPUT_AUDIO, Counter.OUTPUT_IMAGE})
    """Parts already inside OUTPUT. A part that is not in here is added to it."""
    total_is: frozenset[Counter] = frozenset({Counter.INPUT, Counter.OUTPUT})
    """The counters, as reported, whose sum is TOTAL."""
    hidden_reasoning: bool = False
    """What TOTAL has beyond that sum is reasoning nobody itemised (Gemini's OpenAI face, WIRE.md 1)."""
    input_falls: bool = False
    """A later report may hold less input than an earlier one (Gemini, WIRE.md 1): only the last is exact."""
    no_output: bool = False
    """The answer is no text (vectors, a ranking): of a whole reply, output that nobody reports is 0, not unknown."""
    no_model: bool = False
    """No model runs (tokens are counted, not used): the usage is nothing, whatever is reported and however it ends."""
    choices_per_prompt: int | None = None
    """Where choices are reported apart: so many, in their order, share one prompt. None: all of them. No provider's
    fact but a request's, of several prompts; it stands here because it is needed wherever a reading is settled."""
