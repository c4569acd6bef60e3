"""For whoever runs the gateway: is it alive, is it ready, what does it count, take the new configuration.

Rule 1: probes need no key: they say whether, and an operator's reason why not, never what or for whom.
Rule 2: what changes the gateway is asked for from its own machine only.
"""

from __future__ import annotations

import logging

import msgspec

from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault
from counterfoil.server.access import is_loopback
from counterfoil.server.asgi import Request, respond
from counterfoil.server.door import Found
from counterfoil.server.gateway import Gateway
from counterfoil.server.metrics import CONTENT_TYPE
from counterfoil.server.state import ReloadRefused, State

__all__ = ["live", "ready", "reload", "show_metrics"]

_log = logging.getLogger("counterfoil.server")


async def live(gateway: Gateway, state: State, request: Request, found: Found) -> None:
    """`GET /health/live`: the event loop turns. Another Counterfoil that finds its port taken reads it."""
    await respond(request, 200, msgspec.json.encode({"status": "live", "service": "counterfoil"}))


async def ready(gateway: Gateway, state: State, request: Request, found: Found) -> None:
    """`GET /health/ready`: 200 while requests should come here, else 503; JSON says why."""
    health = state.health()
    reasons = []
    if gateway.draining:
        reasons.append("shutting down")
    if not health.ok:
        reasons.append(f"books: {health.reason or 'not healthy'}")
    answer = {
        "status": "not ready" if reasons else "ready",
        "reasons": reasons,
        "books": "healthy" if health.ok else "red",
        "open_exchanges": gateway.driver.open_exchanges,
    }
    await respond(request, 503 if reasons else 200, msgspec.json.encode(answer))


async def show_metrics(gateway: Gateway, state: State, request: Request, found: Found) -> None:
    """`GET /metrics`: everything counted, for Prometheus. Models and costs are in it, so the keys' rule holds."""
    state.access.admit(request, spends=False)
    await respond(request, 200, gateway.metrics.text(), CONTENT_TYPE)


async def reload(gateway: Gateway, state: State, request: Request, found: Found) -> None:
    """`POST /admin/reload`: the new configuration, or 422, why not, and the old one kept."""
    state.access.admit(request, spends=False)
    client = request.scope.get("client")
    if not client or not is_loopback(client[0]):
        message = "The configuration is reloaded from the gateway's own machine only."
        raise CounterfoilError(Failure(FailureKind.PERMISSION, message, Fault.CLIENT, 403))
    try:
        notes = await gateway.reload()
    except ReloadRefused as error:
        _log.error("the new configuration was refused, the old one stays: %s", error)
        answer: dict[str, object] = {"reloaded": False, "errors": error.messages}
        await respond(request, 422, msgspec.json.encode(answer))
        return
    _log.info("the configuration was reloaded%s", "".join(f"; {note}" for note in notes))
    await respond(request, 200, msgspec.json.encode({"reloaded": True, "needs_restart": notes}))
