"""How a relayed chat stream ends: the rows of the repair table that write frames of our own.

Rule 1: what is written here validates against the published schema, and nothing in it is the provider's unless the
provider said it of the reply.
Rule 2: the usage comes once, in the last frame before `[DONE]`, beside `choices: []`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from counterfoil.dialects.openai_chat.splice import ASSISTANT, NO_CHOICES, NULL, Progress, Repair
from counterfoil.dialects.schema import Fields, encode

__all__ = ["END_REPAIRS", "Ending"]


class Ending:
    """The last frames of a stream, in the order in which they are written."""

    __slots__ = ("frames", "usage")

    def __init__(self, usage: msgspec.Raw) -> None:
        self.usage = usage
        """The settled usage object, or null."""
        self.frames: list[bytes] = []

    def add(self, values: Fields) -> None:
        self.frames.append(encode(values))


def _frame_of_ours(progress: Progress, choices: list[Fields]) -> Fields:
    values = {**progress.identity, "choices": msgspec.Raw(encode(choices))}
    if progress.facts.usage_asked:
        values["usage"] = NULL
    return values


def _choice_of_ours(number: int, delta: Fields, finish: msgspec.Raw) -> Fields:
    index = msgspec.Raw(encode(number))
    return {"index": index, "delta": msgspec.Raw(encode(delta)), "finish_reason": finish}


def _finish_supplied(ending: Ending, progress: Progress) -> None:
    if progress.quirks.end == "finish":
        return
    for number in sorted((progress.begun or {0}) - progress.finished):
        delta = {} if number in progress.begun else {"role": ASSISTANT, "content": msgspec.Raw(b'""')}
        reason = msgspec.Raw(b'"tool_calls"' if progress.has_calls(number) else b'"stop"')
        ending.add(_frame_of_ours(progress, [_choice_of_ours(number, delta, reason)]))


def _afterword(ending: Ending, progress: Progress) -> None:
    if progress.pending and not progress.facts.usage_asked:
        nothing = _choice_of_ours(0, {} if 0 in progress.begun else {"role": ASSISTANT}, NULL)
        ending.add({**_frame_of_ours(progress, [nothing]), **progress.pending})


def _usage_frame(ending: Ending, progress: Progress) -> None:
    if not progress.facts.usage_asked:
        return
    progress.identify(progress.last)
    base = progress.last if "choices" in progress.last else {**progress.identity, "choices": NULL, **progress.last}
    ending.add({**base, **progress.pending, **progress.identity, "choices": NO_CHOICES, "usage": ending.usage})


def _end_mark(ending: Ending, progress: Progress) -> None:
    ending.frames.append(b"[DONE]")


END_REPAIRS: Final[tuple[Repair[Ending], ...]] = (
    Repair(
        "finish supplied",
        "a choice that its provider never finishes is finished by us, where the provider's row says so (quirk `end`)",
        "DESIGN 4.2.5; openai.chat/snowflake",
        _finish_supplied,
    ),
    Repair(
        "afterword",
        "values that came after the last choice, where no usage frame follows, come beside a choice that says nothing",
        "DESIGN 4.4.2 (no value is lost)",
        _afterword,
    ),
    Repair(
        "usage frame",
        "asked: one last frame, `choices: []`, with the settled usage; it is the provider's own where it sent one",
        "WIRE.md 3; openai.chat/groq (three times), perplexity (every frame), mistral.chat (finish frame)",
        _usage_frame,
    ),
    Repair("end mark", "the client always gets `[DONE]`", "WIRE.md 2 ([DONE] missing); openai.chat/writer", _end_mark),
)
