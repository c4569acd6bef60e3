"""A reply that has already happened, read as the gateway would have read it: bytes in, exit and settlement out.

Rule 1: the same framing, decoder and meter as an attempt, in the same order; nothing is counted in a second way.
Rule 2: never raises for anything in the bytes. Any prefix of a reply gives that prefix's reading.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from counterfoil.config import Limits
from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.core.event import Event, ReplyFailed, TextDelta
from counterfoil.dialects.dialect import Decoder, Dialect, Quirks
from counterfoil.exchange.meter import Meter
from counterfoil.framing.frame import FrameTooLarge, Framing
from counterfoil.framing.whole import WholeFraming
from counterfoil.ledger.entry import Exit
from counterfoil.usage.reading import Reading
from counterfoil.usage.settle import Convention, Settlement

__all__ = ["ReadReply", "is_streamed", "read_reply"]

_WEB_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})


class ReadReply(msgspec.Struct, frozen=True):
    """What a recorded reply amounts to. Text is kept as a digest only."""

    exit: Exit
    """As the gateway would have booked it: `completed`, `failed`, `truncated`, or `rejected`."""
    reading: Reading
    settlement: Settlement
    text_sha256: str | None
    """Of the visible text of all choices, one after the other, in UTF-8; None when no reply began."""
    events: int
    """How many canonical events there were."""
    failure: Failure | None = None
    provider_id: str | None = None


def is_streamed(headers: Mapping[str, str], dialect: Dialect, *, asked: bool) -> bool:
    """Whether a reply with these lower-case headers is a stream: its content type says so, not what was asked."""
    kind = _media_type(headers.get("content-type", ""))
    return kind == _media_type(dialect.content_type) or (asked and kind != "application/json")


def read_reply(
    pieces: Iterable[bytes],
    dialect: Dialect,
    *,
    streamed: bool,
    convention: Convention | None = None,
    quirks: Quirks = Quirks(),  # noqa: B008 - a frozen value
    choices: int = 1,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    input_estimate: int | None = None,
    estimate: bool = False,
    limits: Limits = Limits(),  # noqa: B008 - a frozen value
) -> ReadReply:
    """Read a reply, however its bytes are cut.

    `convention`: None for the dialect's own. `choices`: the request's `n`. `headers` have lower-case names. With
    `estimate` what nobody reported is estimated from what was delivered and from `input_estimate` (tokens); without it
    the unknown stays unknown. Never raises.
    """
    convention = dialect.convention if convention is None else convention
    headers = headers or {}
    reader = _Reader(dialect, streamed, choices, quirks, limits, input_estimate)
    if status >= 300:
        failure = dialect.read_failure(status, headers, b"".join(pieces))
        return reader.result(Exit.REJECTED, convention, ended=False, estimate=False, failure=failure)
    if _media_type(headers.get("content-type", "")) in _WEB_PAGES:
        failure = _bad_reply("The provider answered with a web page instead of a reply.")
        return reader.result(Exit.FAILED, convention, ended=False, estimate=estimate, failure=failure)
    for data in pieces:
        if reader.over:
            break
        reader.feed(data)
    reader.close()
    said = reader.meter.failure
    exit_ = Exit.FAILED if said is not None else Exit.COMPLETED if reader.ended else Exit.TRUNCATED
    return reader.result(exit_, convention, ended=reader.ended, estimate=estimate, failure=said)


class _Reader:
    """Bytes to frames to events, past a meter."""

    def __init__(
        self,
        dialect: Dialect,
        streamed: bool,
        choices: int,
        quirks: Quirks,
        limits: Limits,
        input_estimate: int | None,
    ) -> None:
        self.meter = Meter("", input_estimate)
        self.ended = False
        self._streamed = streamed
        self._framing: Framing = dialect.framing(limits.frame) if streamed else WholeFraming(limits.reply)
        self._decoder: Decoder = dialect.decoder(streamed, choices, quirks)
        self._texts: dict[int, list[str]] = {}
        self._events = 0

    @property
    def over(self) -> bool:
        """Nothing that follows is part of the reply."""
        return self._decoder.done or self.meter.failure is not None

    def feed(self, data: bytes) -> None:
        """Take some bytes."""
        try:
            frames = self._framing.feed(data)
        except FrameTooLarge as error:
            self.meter.failure = _bad_reply(f"The provider sent {error}.")
            return
        for frame in frames:
            if self.meter.failure is not None:
                return
            self._see(self._decoder.feed(frame))

    def close(self) -> None:
        """The bytes are over: a frame that lacks only its end is a frame, half of one is a cut."""
        if not self.over:
            try:
                frame = self._framing.close()
            except FrameTooLarge as error:
                self.meter.failure = _bad_reply(f"The provider sent {error}.")
                return
            if frame is not None:
                events = self._decoder.feed(frame)
                if not (self._streamed and any(_unreadable(event) for event in events)):
                    self._see(events)
        self._see(self._decoder.close())

    def result(
        self, exit_: Exit, convention: Convention, *, ended: bool, estimate: bool, failure: Failure | None
    ) -> ReadReply:
        """What was read."""
        text = "".join(piece for choice in sorted(self._texts) for piece in self._texts[choice])
        return ReadReply(
            exit=exit_,
            reading=self.meter.reading,
            settlement=self.meter.settle(convention, ended=ended, estimate=estimate),
            text_sha256=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if self._events else None,
            events=self._events,
            failure=failure,
            provider_id=self.meter.provider_id,
        )

    def _see(self, events: Iterable[Event]) -> None:
        seen = tuple(events)
        self.meter.see(seen)
        self.ended = self.ended or self._decoder.ended
        for event in seen:
            if not isinstance(event, ReplyFailed):
                self._events += 1
            if isinstance(event, TextDelta):
                self._texts.setdefault(event.choice, []).append(event.text)


def _media_type(said: str) -> str:
    return said.partition(";")[0].strip().lower()


def _bad_reply(message: str) -> Failure:
    return Failure(FailureKind.BAD_REPLY, message, Fault.PROVIDER, 502)


def _unreadable(event: Event) -> bool:
    return isinstance(event, ReplyFailed) and event.failure.kind is FailureKind.BAD_REPLY
