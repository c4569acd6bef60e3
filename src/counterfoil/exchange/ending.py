"""What an attempt comes to, and the failures it can end in that no provider said: each with its words, its fault and
its status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.dialects.dialect import FinalUsage, MissingUsage
from counterfoil.exchange.command import Interrupted
from counterfoil.ledger.entry import Entry, Exit

__all__ = [
    "CUT",
    "DEFECT",
    "NO_USAGE",
    "Attempted",
    "bad_reply",
    "failure_of",
    "final_usage",
    "redirected",
    "web_page",
    "whose_key",
]


class Attempted(msgspec.Struct, frozen=True):
    """What came of an attempt."""

    entry: Entry
    failure: Failure | None = None
    """Why there is no whole reply; None when there is, or when nobody is left to be told."""
    told: bool = False
    """The client has all that it will get: its reply, or an error frame; or it is gone."""
    last: bool = False
    """No other attempt may follow, though the client has still to be told the failure."""
    refused_stream_options: bool = False
    defect: Exception | None = None
    """An error in our own code, for the log. The client is told only that there was one."""


DEFECT: Final = Failure(
    FailureKind.INTERNAL, "The gateway failed while it read the reply. This is a defect of ours.", Fault.GATEWAY, 500
)
CUT: Final = Failure(FailureKind.BAD_REPLY, "The provider's reply ended before it was complete.", Fault.PROVIDER, 502)
NO_USAGE: Final = Failure(
    FailureKind.BAD_REPLY,
    "The provider reported no usage, and this gateway is set to refuse such replies (missing_usage: error).",
    Fault.PROVIDER,
    502,
)
_INTERRUPTIONS: Final[Mapping[Exit, Failure]] = {
    Exit.LOST: Failure(
        FailureKind.CONNECTION, "The provider could not be called, or the connection to it broke.", Fault.NETWORK, 502
    ),
    Exit.TRUNCATED: CUT,
    Exit.TIMED_OUT: Failure(FailureKind.TIMED_OUT, "The provider took too long to answer.", Fault.PROVIDER, 504),
    Exit.SHUTDOWN: Failure(
        FailureKind.UNAVAILABLE, "The gateway is shutting down. Send the request again.", Fault.GATEWAY, 503
    ),
    Exit.CLIENT_GONE: Failure(FailureKind.CONNECTION, "The client hung up.", Fault.CLIENT, 499),
}


def final_usage(entry: Entry, missing: MissingUsage) -> tuple[FinalUsage, Failure | None]:
    """What the client is told of usage, or the failure an operator asked for when nobody reported any."""
    raw = entry.reading.raw
    final = FinalUsage(entry.usage, entry.usage.estimated, raw[-1] if raw else b"")
    if entry.reading.reports or entry.opening.convention.no_model:
        return final, None
    match missing:
        case "estimate":
            return final, None
        case "null":
            return FinalUsage(None), None
        case "error":
            return final, NO_USAGE


def failure_of(interruption: Interrupted) -> Failure:
    failure = _INTERRUPTIONS[interruption.exit]
    if not interruption.detail:
        return failure
    return msgspec.structs.replace(failure, message=f"{failure.message.removesuffix('.')} ({interruption.detail}).")


def bad_reply(message: str) -> Failure:
    return Failure(FailureKind.BAD_REPLY, message, Fault.PROVIDER, 502)


def whose_key(failure: Failure, *, sent: bool) -> Failure:
    """A credential that the provider refuses is not the one the client shows the gateway; its words sound as if.

    `sent`: it was called with one.
    """
    if failure.kind is not FailureKind.AUTHENTICATION:
        return failure
    ours = "refused the credential it was called with" if sent else "wants a credential, and was called without one"
    return msgspec.structs.replace(failure, message=f"The provider {ours}: {failure.message}")


def redirected(status: int) -> Failure:
    """A redirect, which is never followed: it would carry the secret elsewhere."""
    message = f"The provider answered with a redirect ({status}), which is not followed. Check its base_url."
    return Failure(FailureKind.BAD_REPLY, message, Fault.PROVIDER, 502, provider_status=status)


def web_page(status: int) -> Failure:
    """A page for people where a reply was due."""
    message = "The provider answered with a web page instead of a reply. Check its base_url."
    return Failure(FailureKind.BAD_REPLY, message, Fault.PROVIDER, 502, provider_status=status)
