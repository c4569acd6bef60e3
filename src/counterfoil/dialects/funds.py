"""When a provider's refusal is about money or an allowance that is used up, in words that no code of its own says.

Rule: waiting does not mend it, so it is told apart from a rate that was exceeded; what a minute mends is none of it.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_out_of_funds"]

_FUNDS: Final = re.compile(
    # Anthropic, under 400 invalid_request_error: "Your credit balance is too low to access the Anthropic API."
    # (github.com/anthropics/claude-quickstarts/issues/229); DeepSeek: "Insufficient Balance"
    # (https://api-docs.deepseek.com/quick_start/error_codes); OpenRouter, xAI and others sell credits.
    r"\bbalance is too low\b|\binsufficient (?:account |credit )?(?:balance|credits|funds)\b"
    r"|\b(?:purchase|add) (?:more )?credits\b"
    # Bedrock, under 429 ThrottlingException: "Too many tokens per day, please wait before trying again."
    r"|\btoo many tokens per day\b",
    re.IGNORECASE,
)


def is_out_of_funds(message: str | None) -> bool:
    """Whether a provider's error message says that the account has nothing left to be spent."""
    return message is not None and _FUNDS.search(message) is not None
