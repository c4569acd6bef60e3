"""What one deployment is asked of a call: the body in its dialect, the client's headers that go with it, and the names
of what stays behind.

Rule: where both sides speak the same dialect the client's own body goes, patched; else it is read and written anew.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

import msgspec

from counterfoil.core.error import RequestError
from counterfoil.dialects.dialect import Quirks
from counterfoil.exchange.call import Call
from counterfoil.exchange.route import Deployment

__all__ = ["Asked", "ask"]


class Asked(msgspec.Struct, frozen=True):
    """A request ready to be sent."""

    deployment: Deployment
    """The face of it that the client is served by."""
    quirks: Quirks
    """Its own, after what was learned of the server."""
    body: bytes
    headers: Mapping[str, str] = {}
    """The client's that go out."""
    dropped: tuple[str, ...] = ()
    """Names of fields and headers that ask for something and stay behind."""


def ask(call: Call, deployment: Deployment, learned: Container[str]) -> Asked:
    """The request of `call` to `deployment`. `learned`: base URLs of servers that refused `stream_options`.

    Raises RequestError when the provider cannot be asked this.
    """
    facing = deployment.facing(call.dialect)
    if facing is None:
        raise RequestError(
            f"{deployment.provider.title}, which serves {call.route.name!r}, cannot {call.dialect.operation}. "
            "Name another model, or give this one a deployment that can.",
            param="model",
            code="operation_not_supported",
        )
    quirks = facing.quirks
    if facing.base_url in learned:
        quirks = msgspec.structs.replace(quirks, stream_options=False)
    same = facing.dialect is call.dialect
    body, dropped = _patched(call, facing, quirks) if same else _written(call, facing, quirks)
    goes = {name: value for name, value in call.headers.items() if same and name not in quirks.unsupported}
    left = tuple(name for name in call.headers if name in call.dialect.listed_headers and name not in goes)
    return Asked(facing, quirks, body, goes, (*dropped, *left))


def _patched(call: Call, facing: Deployment, quirks: Quirks) -> tuple[bytes, tuple[str, ...]]:
    return call.dialect.patch_request(call.body, facing.model, quirks, True), ()


def _written(call: Call, facing: Deployment, quirks: Quirks) -> tuple[bytes, tuple[str, ...]]:
    canonical = call.dialect.read_request(call.body)
    written = facing.dialect.write_request(canonical, facing.model, quirks, facing.drop)
    return written.body, (*written.dropped, *canonical.hints)
