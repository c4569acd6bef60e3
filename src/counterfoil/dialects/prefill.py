"""An answer that a client began itself: a last message of the assistant's, which Claude and Gemini go on with.

Rule: it is always carried, as the last turn that it is. Where a dialect or its servers may take it for a turn that is
over, and begin another, it is named: nothing that was said is lost, and the answer may be another than was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from counterfoil.core.message import Message, Text

__all__ = ["PREFILL", "is_begun"]

PREFILL: Final = "messages.prefill"
"""What the client is told by."""


def is_begun(messages: Sequence[Message]) -> bool:
    """Whether the conversation ends in what the assistant said. A call waits for its result, and is none."""
    if not messages or messages[-1].role != "assistant" or not messages[-1].parts:
        return False
    last = messages[-1].parts[-1]
    return isinstance(last, Text) and bool(last.text.strip())
