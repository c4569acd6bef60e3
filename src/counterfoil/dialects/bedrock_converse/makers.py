"""What differs by the maker of a model: Converse hands the maker's own fields through, each by its own name.

Rule: data. A model's id names its maker ("us.anthropic.claude-...", "amazon.nova-..."). An id that does not (the ARN of
an application's inference profile) has no row: then only what Converse itself documents is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final, Literal

import msgspec

__all__ = ["NOVA_EFFORTS", "OPEN_WEIGHT_EFFORTS", "UNKNOWN", "Maker", "maker_of"]


class Maker(msgspec.Struct, frozen=True):
    """One maker's models on Converse."""

    models: tuple[str, ...] = ()
    """Patterns of model ids, matched anywhere in them."""
    top_k: tuple[str, ...] = ()
    """Where `top_k` goes inside `additionalModelRequestFields`; empty: nowhere."""
    reasoning: Literal["claude", "nova", "effort", "native", "none"] = "none"
    """How thinking is asked for: Claude's `thinking`; Nova's `reasoningConfig`; `reasoning_effort`; Converse's own
    `outputConfig.effort`; not at all."""
    fields: frozenset[str] = frozenset()
    """Chat fields that the maker knows by their chat names."""
    history: Literal["signed", "plain", "any", "none"] = "none"
    """Which reasoning may go back: with a proof; without one; both; none."""
    caches: bool = False
    """Cache marks mean something."""
    unasked: float | None = None
    """Temperature and `top_p` where nobody says them, if the maker says what they are. Claude refuses both at once, and
    clients of other APIs send both with this value."""


UNKNOWN: Final = Maker(reasoning="native", history="any", caches=True)
"""A model whose id does not tell."""

_MAKERS: Final = (
    # https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages-request-response.html
    Maker(models=("anthropic.claude",), top_k=("top_k",), reasoning="claude", history="signed", caches=True, unasked=1),
    # https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html
    Maker(models=("amazon.nova-2",), top_k=("inferenceConfig", "topK"), reasoning="nova", caches=True),
    # https://docs.aws.amazon.com/nova/latest/userguide/complete-request-schema.html
    Maker(models=("amazon.nova",), top_k=("inferenceConfig", "topK"), caches=True),
    # https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-openai.html: fields keep their chat names.
    # It refuses a signature (badlogic/pi-mono#686), and takes the text.
    Maker(
        models=("openai.gpt-oss",),
        reasoning="effort",
        fields=frozenset({"seed", "presence_penalty", "frequency_penalty"}),
        history="plain",
    ),
    # https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-mistral-chat-completion.html
    Maker(models=("mistral.",), top_k=("top_k",)),
    # https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-cohere-command-r-plus.html
    Maker(models=("cohere.command",), top_k=("k",)),
    Maker(
        models=(
            "ai21.",
            "amazon.titan",
            "deepseek.",
            "google.",
            "meta.",
            "minimax.",
            "moonshot",
            "nvidia.",
            "qwen.",
            "writer.",
            "zai.",
        )
    ),
)

NOVA_EFFORTS: Final[Mapping[str, str]] = {"minimal": "low", "low": "low", "medium": "medium", "high": "high"}
OPEN_WEIGHT_EFFORTS: Final = NOVA_EFFORTS


def maker_of(model: str) -> Maker:
    """The row of a model id; `UNKNOWN` where it does not name its maker."""
    return next(
        (maker for maker in _MAKERS if any(fnmatchcase(model, f"*{pattern}*") for pattern in maker.models)), UNKNOWN
    )
