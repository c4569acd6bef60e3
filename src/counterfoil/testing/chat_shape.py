"""Where a chat stream carries its usage: every place that was seen, by name.

Rule 1. A table: a new place is a row, with the providers that use it beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["CHAT_SHAPES", "ChatShape", "Placement"]

ChatShape: TypeAlias = Literal[
    "separate",
    "separate_no_nulls",
    "finish_chunk",
    "finish_chunk_nulls",
    "every_chunk",
    "every_chunk_and_separate",
    "every_chunk_late",
    "repeated",
    "x_groq_only",
    "non_empty_choices",
    "per_choice",
    "absent",
]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a stream carries its usage."""

    nulls: bool = False
    running: Literal["no", "yes", "late"] = "no"
    on_finish: bool = False
    x_groq: bool = False
    after: Literal["none", "empty", "non_empty", "per_choice"] = "none"


CHAT_SHAPES: Mapping[ChatShape, Placement] = {
    # The plain dialect: one last frame with `choices: []`, nulls before (OpenAI, Azure, Alibaba, Writer).
    "separate": Placement(nulls=True, after="empty"),
    # The same without nulls (xAI, Crusoe, Snowflake, llama.cpp).
    "separate_no_nulls": Placement(after="empty"),
    # On the frame with the finish reason (Mistral, Cerebras, Moonshot, z.ai).
    "finish_chunk": Placement(on_finish=True),
    # The same, nulls before (DeepSeek, Together).
    "finish_chunk_nulls": Placement(nulls=True, on_finish=True),
    # Running counts on every frame (Perplexity).
    "every_chunk": Placement(running="yes", on_finish=True),
    # The same, and once more apart (vLLM's `continuous_usage_stats`).
    "every_chunk_and_separate": Placement(running="yes", on_finish=True, after="empty"),
    # On every frame, completion and total null until the finish (Databricks).
    "every_chunk_late": Placement(running="late", on_finish=True),
    # The same usage three times (Groq with `include_usage`).
    "repeated": Placement(on_finish=True, x_groq=True, after="empty"),
    # Only inside `x_groq` (Groq's older form without the flag).
    "x_groq_only": Placement(x_groq=True),
    # After the finish, beside a choice that says nothing (OpenRouter's older form, LiteLLM's proxy).
    "non_empty_choices": Placement(after="non_empty"),
    # One usage frame a choice, each counting its own completion and right after that choice's finish, while others
    # still speak (llama.cpp with n > 1).
    "per_choice": Placement(after="per_choice"),
    "absent": Placement(),
}
