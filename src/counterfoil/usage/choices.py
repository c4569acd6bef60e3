"""Reports of single choices, put together to one of the reply.

Rule 1: what every choice of a prompt repeats counts once a prompt; what is of a choice adds up (DESIGN 4.1.2).
Rule 2: a choice or a prompt that nobody reported is no zero: it is said, and can be estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from counterfoil.usage.convention import Convention
from counterfoil.usage.delivered import Delivered
from counterfoil.usage.discrepancy import Discrepancy, DiscrepancyKind
from counterfoil.usage.reading import WHOLE_REPLY, Counter, Observation, Reading

__all__ = ["Said", "Unreported", "whole_reply"]

Said = Mapping[Counter, Observation]
"""The last word on each counter."""
_ONCE_PER_PROMPT: Final = frozenset(
    {
        Counter.INPUT,
        Counter.CACHE_READ,
        Counter.CACHE_READ_AUDIO,
        Counter.CACHE_WRITE,
        Counter.CACHE_WRITE_5M,
        Counter.CACHE_WRITE_1H,
        Counter.INPUT_AUDIO,
        Counter.INPUT_IMAGE,
        Counter.TOOL_INPUT,
        Counter.BILLED_INPUT,
    }
)
"""Counters that every choice of a prompt repeats: n choices share one prompt."""


class Unreported(msgspec.Struct, frozen=True):
    """What spoke, and was in no report."""

    output: int = 0
    """The estimate of its choices, in tokens."""
    prompts: int = 0
    """Prompts none of whose choices was reported."""


def whole_reply(
    reading: Reading, convention: Convention, delivered: Delivered | None, found: list[Discrepancy]
) -> tuple[Said, Unreported]:
    """The counters of the reply with those of its choices combined, and what nobody reported."""
    scoped = {scope: said for scope, said in reading.scopes.items() if scope != WHOLE_REPLY}
    whole = reading.scopes.get(WHOLE_REPLY, {})
    if not scoped:
        return whole, Unreported()
    combined = _combined(scoped, convention)
    unreported = (delivered.choices if delivered else frozenset()) - scoped.keys()
    if not unreported or Counter.OUTPUT in whole or delivered is None:
        return {**combined, **whole}, Unreported()
    found.append(Discrepancy(DiscrepancyKind.CHOICES_UNREPORTED, Counter.OUTPUT, len(scoped), len(delivered.choices)))
    prompts = {_prompt(choice, convention) for choice in scoped}
    spoken = prompts | {_prompt(choice, convention) for choice in delivered.choices}
    if spoken - prompts and Counter.INPUT not in whole:
        found.append(Discrepancy(DiscrepancyKind.CHOICES_UNREPORTED, Counter.INPUT, len(prompts), len(spoken)))
    # What was seen is kept apart only where several choices spoke: of one alone it is all there is.
    alone = delivered.output if len(delivered.choices) == 1 else 0
    output = sum(delivered.per_choice.get(choice, alone) for choice in unreported)
    return {**combined, **whole}, Unreported(output, 0 if Counter.INPUT in whole else len(spoken - prompts))


def _combined(scoped: Mapping[int, Said], convention: Convention) -> dict[Counter, Observation]:
    """What the reports of choices come to: a prompt counts once, whatever is of a choice adds up."""
    combined: dict[Counter, Observation] = {}
    shared: dict[int, dict[Counter, Observation]] = {}
    for choice, said in scoped.items():
        prompt = shared.setdefault(_prompt(choice, convention), {})
        for counter, observation in said.items():
            if counter in _ONCE_PER_PROMPT:
                prompt[counter] = observation
            else:
                combined[counter] = _added(combined.get(counter), observation)
    for prompt in shared.values():
        for counter, observation in prompt.items():
            combined[counter] = _added(combined.get(counter), observation)
    if len(scoped) > 1:
        combined.pop(Counter.TOTAL, None)  # each choice's total holds its prompt again
    return combined


def _prompt(choice: int, convention: Convention) -> int:
    """The number of the prompt that a choice answers."""
    return choice // convention.choices_per_prompt if convention.choices_per_prompt else 0


def _added(before: Observation | None, more: Observation) -> Observation:
    if before is None:
        return more
    return Observation(
        before.value + more.value,
        max(before.ordinal, more.ordinal),
        before.provisional or more.provisional,
        before.estimated or more.estimated,
    )
