"""Whether a failed attempt is made again, where, and when: a table, and one function that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from counterfoil.config import Retries
from counterfoil.core.error import Failure, FailureKind

__all__ = ["AGAIN", "Plan", "Verdict", "judge"]

Verdict = Literal["retry", "next", "stop"]

AGAIN: Final[Mapping[FailureKind, Verdict]] = {
    FailureKind.INVALID_REQUEST: "stop",  # another provider would refuse it too
    FailureKind.TOO_LARGE: "stop",
    FailureKind.CONTENT_POLICY: "stop",  # not ours to shop around for a laxer provider
    FailureKind.CONTEXT_WINDOW: "next",  # another deployment may hold more
    FailureKind.AUTHENTICATION: "next",
    FailureKind.PERMISSION: "next",
    FailureKind.NOT_FOUND: "next",
    FailureKind.BAD_REPLY: "next",
    FailureKind.RATE_LIMITED: "retry",
    FailureKind.QUOTA: "next",  # no time that a client waits for fills an account
    FailureKind.OVERLOADED: "retry",
    FailureKind.TIMED_OUT: "next",  # it has already cost its time
    FailureKind.CONNECTION: "retry",
    FailureKind.PROVIDER_ERROR: "retry",
    FailureKind.UNAVAILABLE: "stop",
    FailureKind.INTERNAL: "stop",
}
"""What follows a failure. A retry that is out of attempts becomes `next`."""


class Plan(msgspec.Struct, frozen=True):
    """What to do after a failure."""

    verdict: Verdict
    wait: float = 0.0
    """Seconds, for a retry."""


def judge(failure: Failure, made: int, policy: Retries, jitter: float) -> Plan:
    """What follows `failure` when `made` attempts were made at this deployment. `jitter` is a number in [0, 1).

    The provider's own word on trying again beats the table. It speaks of itself: another deployment follows as ever.
    """
    verdict = AGAIN[failure.kind]
    onward: Verdict = "next" if verdict == "retry" else verdict
    again = verdict == "retry" if failure.should_retry is None else failure.should_retry
    if not again or made >= policy.attempts:
        return Plan(onward)
    wait = min(policy.backoff_max, policy.backoff * 2 ** (made - 1)) * (0.5 + jitter / 2)
    if failure.retry_after is not None:
        if failure.retry_after > policy.retry_after_max:
            return Plan(onward)
        wait = max(wait, failure.retry_after)
    return Plan("retry", wait)
