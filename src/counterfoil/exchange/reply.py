"""A provider's reply as it comes: bytes to frames to events, past the meter, however the bytes are cut.

The gateway follows a live reply with this and the auditor a recorded one, so that nothing is counted in a second way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol

from counterfoil.config import Limits
from counterfoil.core.error import FailureKind
from counterfoil.core.event import Event, ReplyFailed, UsageReported
from counterfoil.dialects.dialect import Decoder, Dialect, Quirks
from counterfoil.exchange.ending import bad_reply
from counterfoil.exchange.meter import Meter
from counterfoil.framing.frame import Frame, Framing, FramingError
from counterfoil.framing.whole import WholeFraming

__all__ = ["Followed", "Reply", "Step", "is_streamed", "is_web_page", "request_id"]

Step = tuple[Frame, Sequence[Event]]

_WEB_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})
_NO_FRAME: Final = Frame(b"", comment=True)
_REQUEST_IDS: Final = ("request-id", "x-request-id", "x-amzn-requestid")
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


def is_web_page(headers: Mapping[str, str]) -> bool:
    """Whether these (lower-case) headers announce a page for people."""
    return _media_type(headers.get("content-type", "")) in _WEB_PAGES


def request_id(headers: Mapping[str, str]) -> str | None:
    """What the provider calls the request, in these (lower-case) headers: what its support asks for."""
    return next((headers[name] for name in _REQUEST_IDS if headers.get(name)), None)


def is_streamed(headers: Mapping[str, str], dialect: Dialect[Any], *, asked: bool) -> bool:
    """Whether these (lower-case) headers announce a stream.

    A server may ignore the wish to stream, or the wish not to: its content type says what it sends.
    """
    if not dialect.operation.streams:
        return False
    kind = _media_type(headers.get("content-type", ""))
    return kind == _media_type(dialect.content_type) or (asked and (dialect.streams_json or kind != "application/json"))


class Followed(Protocol):
    """A reply that an attempt follows."""

    @property
    def ended(self) -> bool:
        """It reached its end."""
        ...

    @property
    def over(self) -> bool:
        """Nothing more is read of it."""
        ...

    def feed(self, data: bytes) -> Sequence[Step]:
        """What these bytes amount to. Never raises."""
        ...

    def close(self) -> Sequence[Step]:
        """What only the end of the bytes makes certain."""
        ...


class Reply:
    """One reply being read. What fails in it is the meter's `failure`; after that nothing more is read.

    `headers`: the reply's, lower-case names, for dialects that report usage in them.
    """

    def __init__(
        self,
        dialect: Dialect[Any],
        meter: Meter,
        *,
        streamed: bool,
        choices: int,
        quirks: Quirks,
        limits: Limits,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> None:
        meter.identify(request_id(headers))  # until the reply says an id of its own
        report = dialect.read_head(headers) if dialect.read_head is not None else None
        if report is not None:
            meter.see((UsageReported(report),))
        self._meter = meter
        self._streamed = streamed
        self._framing: Framing = dialect.framing(limits.frame) if streamed else WholeFraming(limits.reply)
        self._decoder: Decoder = dialect.decoder(streamed, choices, quirks)
        self._left: int | None = None
        self._cut = False
        """The bytes broke off in the middle of a frame, before the reply's end."""

    def bound(self, limit: int) -> None:
        """Take no more than `limit` bytes of a stream. A whole reply always has its limit."""
        self._left = limit

    @property
    def ended(self) -> bool:
        """The reply reached its dialect's end."""
        return self._decoder.ended and not self._cut

    @property
    def marked(self) -> bool:
        """The provider sent its end mark."""
        return self._decoder.done

    @property
    def over(self) -> bool:
        """Nothing that follows is part of the reply."""
        return self._decoder.done or self._meter.failure is not None

    def feed(self, data: bytes) -> list[Step]:
        """The frames completed by `data`, with their events. What follows the end mark is not looked at."""
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                self._meter.failure = bad_reply("The provider sent more than a reply may hold.")
                return []
        try:
            frames = self._framing.feed(data)
        except FramingError as error:
            self._meter.failure = bad_reply(f"The provider sent {error}.")
            return []
        steps: list[Step] = []
        decoder, meter = self._decoder, self._meter
        for frame in frames:
            if decoder.done or meter.failure is not None:
                break
            events = decoder.feed(frame)
            meter.see(events)
            steps.append((frame, events))
        return steps

    def close(self) -> list[Step]:
        """The bytes are over: a frame that lacks only its end is a frame, half of one is a cut. Nobody knows what a cut
        took away, so it ends no reply that had not ended before.

        Events that only the end makes certain come with an empty frame.
        """
        steps: list[Step] = []
        frame: Frame | None = None
        if not self.over:
            try:
                frame = self._framing.close()
            except FramingError as error:
                self._meter.failure = bad_reply(f"The provider sent {error}.")
        if self._meter.failure is not None:
            self._cut = not self._decoder.ended
        elif frame is not None:
            events = self._decoder.feed(frame)
            if self._streamed and any(_unreadable(event) for event in events):
                self._cut = not self._decoder.ended
            else:
                self._meter.see(events)
                steps.append((frame, events))
        events = self._decoder.close()
        if events:
            self._meter.see(events)
            steps.append((_NO_FRAME, events))
        return steps


def _media_type(said: str) -> str:
    return said.partition(";")[0].strip().lower()


def _unreadable(event: Event) -> bool:
    return isinstance(event, ReplyFailed) and event.failure.kind is FailureKind.BAD_REPLY
