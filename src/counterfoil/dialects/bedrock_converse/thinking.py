"""A wish to reason, in the words of the model's maker.

https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-adaptive-thinking.html,
.../claude-messages-extended-thinking.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from counterfoil.core.operation import ChatRequest, ReasoningWish
from counterfoil.dialects.anthropic_messages.request_write import ADAPTIVE_THINKING, BUDGETS, EFFORTS
from counterfoil.dialects.bedrock_converse.makers import NOVA_EFFORTS, OPEN_WEIGHT_EFFORTS, Maker
from counterfoil.dialects.bedrock_converse.turns import Block
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.effort import effort_of_budget

__all__ = ["write_thinking"]

_FIELD: Final = "reasoning_effort"
_NO_REASONING: Final = "none"
_LEAST_BUDGET: Final = 1024


def write_thinking(body: Block, extra: Block, request: ChatRequest, maker: Maker, quirks: Quirks, desk: Desk) -> None:
    """Write the wish into `body` or into `extra`, the maker's own fields."""
    wish = request.reasoning
    if wish is None or wish.effort == _NO_REASONING:
        return  # models that always think refuse to be told not to; the others do not think unless asked
    match maker.reasoning:
        case "claude":
            _claude(extra, request, wish, quirks, desk)
        case "nova":
            _nova(body, extra, wish, desk)
        case "effort":
            effort = _effort(wish, OPEN_WEIGHT_EFFORTS, desk)
            if effort is not None:
                extra["reasoning_effort"] = effort
        case "native":
            effort = _effort(wish, EFFORTS, desk)
            if effort is not None:
                body["outputConfig"] = {"effort": effort}
        case "none":
            if wish.free:
                desk.name(_FIELD)
            elif wish.enabled is not False:
                desk.cannot(_FIELD, "this model cannot be told how to reason")


def _claude(extra: Block, request: ChatRequest, wish: ReasoningWish, quirks: Quirks, desk: Desk) -> None:
    """As Anthropic's own API has it, inside Converse's extra fields."""
    adaptive = ADAPTIVE_THINKING not in quirks.unsupported
    if wish.effort is not None and wish.effort not in EFFORTS:
        desk.cannot(_FIELD, f"it must be one of {', '.join(EFFORTS)}, {_NO_REASONING}")
        return
    if wish.effort is not None and adaptive:
        extra["output_config"] = {"effort": EFFORTS[wish.effort]}
    if wish.enabled is False:
        extra["thinking"] = {"type": "disabled"}
    elif wish.budget_tokens is not None:
        extra["thinking"] = {"type": "enabled", "budget_tokens": wish.budget_tokens}
    elif adaptive:
        extra["thinking"] = {"type": "adaptive"}
    else:
        budget, bound = BUDGETS[wish.effort or "medium"], request.max_output_tokens
        budget = budget if bound is None else min(budget, bound - 1)  # it counts towards the bound on all output
        if budget < _LEAST_BUDGET:
            desk.cannot(_FIELD, f"the bound on output leaves less than the {_LEAST_BUDGET} tokens thinking needs")
            return
        extra["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _nova(body: Block, extra: Block, wish: ReasoningWish, desk: Desk) -> None:
    """https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html: its highest effort is an error
    beside temperature, topP and topK."""
    if wish.enabled is False:
        extra["reasoningConfig"] = {"type": "disabled"}
        return
    effort = _effort(wish, NOVA_EFFORTS, desk)
    if effort is not None:
        extra["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": effort}
    if effort == _HIGHEST:
        _leave_out(body, _NOVA_SAMPLING, desk)
        _leave_out(extra, _NOVA_OWN_SAMPLING, desk)


def _leave_out(outer: Block, names: Mapping[str, str], desk: Desk) -> None:
    """Keys of its inferenceConfig that are refused, each with the client's name for it."""
    held = outer.get(_INFERENCE)
    if not isinstance(held, dict):
        return
    for key, name in names.items():
        if key in held:
            desk.cannot(name, "this model takes it at lower efforts of reasoning only")
    kept = {key: value for key, value in held.items() if key not in names}
    outer[_INFERENCE] = kept
    if not kept:
        del outer[_INFERENCE]


_HIGHEST: Final = "high"
_INFERENCE: Final = "inferenceConfig"
_NOVA_SAMPLING: Final[Mapping[str, str]] = {"temperature": "temperature", "topP": "top_p"}
_NOVA_OWN_SAMPLING: Final[Mapping[str, str]] = {"topK": "top_k"}


def _effort(wish: ReasoningWish, known: Mapping[str, str], desk: Desk) -> str | None:
    """The effort in the maker's words; None where it was dropped, or nothing more than not to think was asked."""
    if wish.enabled is False:
        return None
    wanted = wish.effort
    if wish.budget_tokens is not None:
        desk.name("thinking.budget_tokens")  # this model takes an effort, and the nearest one is asked for
        wanted = wanted or effort_of_budget(wish.budget_tokens)
    effort = known.get(wanted or "medium")
    if effort is None:
        desk.cannot(_FIELD, f"it must be one of {', '.join(known)}, {_NO_REASONING}")
    return effort
