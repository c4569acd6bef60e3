"""One client call, start to end: attempts in the order the route says, until the client has its reply or its error.

Rule 1: each attempt has its own entry.
Rule 2: no new attempt after the client has received a byte of the reply.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Final

import msgspec

from counterfoil.core.error import Failure, FailureKind, Fault, RequestError
from counterfoil.exchange.attempt import attempt
from counterfoil.exchange.call import Call, Context
from counterfoil.exchange.carry import carry
from counterfoil.exchange.command import Answer, Command, Deliver, Interrupted, Outcome, Start, Steps, Wait
from counterfoil.exchange.ending import Attempted, failure_of
from counterfoil.exchange.retry import Plan, judge
from counterfoil.exchange.route import Deployment
from counterfoil.ledger.entry import Exit
from counterfoil.ledger.store import BooksUnavailable

__all__ = ["answer_failure", "exchange"]

_STOP = Plan("stop")
_LAST_STATUS: Final = 599
"""Of HTTP (RFC 9110, 15). Some servers answer with others beyond it (999), which no client is told."""


def exchange(call: Call, context: Context) -> Steps:
    """The whole life of one client call."""
    made_so_far: list[Attempted] = []
    failure = Failure(FailureKind.NOT_FOUND, f"The route {call.route.name!r} has no deployments.", Fault.GATEWAY, 500)
    for deployment in call.route.deployments:
        made = 0
        plan = Plan("retry")
        while plan.verdict == "retry":
            if plan.wait and isinstance(interruption := (yield Wait(plan.wait)), Interrupted):
                if interruption.exit is Exit.CLIENT_GONE:
                    return _outcome(made_so_far, None)
                failure, plan = failure_of(interruption), _STOP
                continue
            made += 1
            try:
                result = yield from _attempt(call, deployment, context)
            except RequestError as error:
                failure = error.failure
                plan = Plan("next")  # another deployment may speak the client's dialect
                continue
            except BooksUnavailable as error:
                failure, plan = error.failure, _STOP
                continue
            made_so_far.append(result)
            if result.told or result.failure is None:
                return _outcome(made_so_far, result.failure)
            failure = result.failure
            made, plan = _after(result, failure, deployment, made, call, context)
        if plan.verdict == "stop":
            break
    yield from answer_failure(call, context, failure)
    return _outcome(made_so_far, failure)


def _attempt(call: Call, deployment: Deployment, context: Context) -> Generator[Command, Answer, Attempted]:
    if call.carriage is None:
        return attempt(call, deployment, context)
    return carry(call, call.carriage, deployment, context)


def _outcome(made: list[Attempted], failure: Failure | None) -> Outcome:
    return Outcome(
        tuple(result.entry for result in made),
        failure,
        tuple(result.defect for result in made if result.defect is not None),
    )


def _after(
    result: Attempted, failure: Failure, deployment: Deployment, made: int, call: Call, context: Context
) -> tuple[int, Plan]:
    """What follows a failed attempt: how many count as made, and the plan."""
    if result.last:
        return made, _STOP
    if result.refused_stream_options and deployment.base_url not in context.learned:
        context.learned.add(deployment.base_url)
        return made - 1, Plan("retry")
    return made, judge(failure, made, call.route.retries, context.jitter())


def answer_failure(call: Call, context: Context, failure: Failure) -> Generator[Command, Answer, None]:
    """Tell the client, in its dialect, what went wrong and whose fault it was."""
    if failure.status > _LAST_STATUS:
        failure = msgspec.structs.replace(failure, status=502)
    headers = {"content-type": "application/json"}
    if failure.retry_after is not None:
        headers["retry-after"] = str(math.ceil(failure.retry_after))  # whole seconds (RFC 9110, 10.2.3)
    if failure.should_retry is not None:
        headers["x-should-retry"] = "true" if failure.should_retry else "false"
    # Every dialect answers it so, whatever the provider behind another one does (Groq: 413).
    status = 400 if failure.kind is FailureKind.CONTEXT_WINDOW else failure.status
    yield Start(status, headers)
    yield Deliver(call.dialect.write_failure(failure), context.clock() + 30.0, last=True)
