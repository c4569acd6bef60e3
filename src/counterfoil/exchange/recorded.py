"""A reply that has already happened, read as the gateway would have read it: bytes in, exit and settlement out.

Rule 1: the same framing, decoder and meter as an attempt, in the same order; nothing is counted in a second way.
Rule 2: never raises for anything in the bytes. Any prefix of a reply gives that prefix's reading.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from counterfoil.config import Limits
from counterfoil.core.error import Failure
from counterfoil.core.event import Event, ReplyFailed, TextDelta
from counterfoil.dialects.dialect import Dialect, Quirks
from counterfoil.exchange.ending import web_page
from counterfoil.exchange.meter import Meter
from counterfoil.exchange.reply import Reply, Step, is_web_page
from counterfoil.ledger.entry import Exit
from counterfoil.usage.reading import Reading
from counterfoil.usage.settle import Convention, Settlement

__all__ = ["ReadReply", "read_reply"]


class ReadReply(msgspec.Struct, frozen=True):
    """What a recorded reply amounts to. Text is kept as a digest only."""

    exit: Exit
    """As the gateway would have booked it: `completed`, `failed`, `truncated`, or `rejected`."""
    reading: Reading
    settlement: Settlement
    text_sha256: str | None = None
    """Of the visible text of all choices, one after the other, in UTF-8; None when no reply began."""
    events: tuple[Event, ...] = ()
    failure: Failure | None = None
    provider_id: str | None = None


def read_reply(
    pieces: Iterable[bytes],
    dialect: Dialect[Any],
    *,
    streamed: bool,
    convention: Convention | None = None,
    quirks: Quirks = Quirks(),  # noqa: B008 - a frozen value
    choices: int = 1,
    inputs: int | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    input_estimate: int | None = None,
    estimate: bool = False,
    limits: Limits = Limits(),  # noqa: B008 - a frozen value
) -> ReadReply:
    """Read a reply, however its bytes are cut.

    `convention`: None for the dialect's own. `choices`: the request's `n`; `inputs`: how many vectors it asked for.
    `headers` have lower-case names. With `estimate` what nobody reported is estimated from what was delivered and from
    `input_estimate` (tokens); without it the unknown stays unknown. Never raises.
    """
    convention = dialect.convention if convention is None else convention
    meter = Meter("", input_estimate)
    headers = headers or {}
    if status >= 300:
        failure = dialect.read_failure(status, headers, b"".join(pieces))
        settlement = meter.settle(convention, ended=False, estimate=False)
        return ReadReply(Exit.REJECTED, meter.reading, settlement, failure=failure)
    if is_web_page(headers):
        meter.failure = web_page(status)
        pieces = ()
    reply = Reply(dialect, meter, streamed=streamed, choices=choices, quirks=quirks, limits=limits, headers=headers)
    steps: list[Step] = []
    for data in pieces:
        if reply.over:
            break
        steps += reply.feed(data)
    steps += reply.close()
    events = [event for _, said in steps for event in said]
    return ReadReply(
        exit=Exit.FAILED if meter.failure is not None else Exit.COMPLETED if reply.ended else Exit.TRUNCATED,
        reading=meter.reading,
        settlement=meter.settle(convention, ended=reply.ended, estimate=estimate and not meter.refused, inputs=inputs),
        text_sha256=_digest(events),
        events=tuple(events),
        failure=meter.failure,
        provider_id=meter.provider_id,
    )


def _digest(events: Sequence[Event]) -> str | None:
    """SHA-256 of the visible text of all choices, one after the other; None when no reply began."""
    if all(isinstance(event, ReplyFailed) for event in events):
        return None
    texts: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, TextDelta):
            texts.setdefault(event.choice, []).append(event.text)
    text = "".join(piece for choice in sorted(texts) for piece in texts[choice])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
