"""What all operations have in common whose replies come whole: one body to events, events to one body, one body mended.

Rule 1: a dialect gives plain functions (what a body says, what a body is made of, which members are mended) and gets
the verbs that `Dialect` asks for.
Rule 2: a member that nobody mends keeps its place and the bytes of its value; a body in order keeps all of its own.
Rule 3: nothing raises for what a provider sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import Event, ReplyFailed
from counterfoil.dialects.dialect import Decoder, Encoder, FinalUsage, Quirks, Relay, ReplyFacts
from counterfoil.dialects.schema import UNREADABLE, Fields, encode, fields_of
from counterfoil.framing.frame import Frame

__all__ = ["whole_decoder", "whole_encoder", "whole_relay"]


def whole_decoder(
    read: Callable[[bytes], Sequence[Event]], unreadable: Callable[[bytes], Failure]
) -> Callable[[bool, int, Quirks], Decoder]:
    """`Dialect.decoder` of an operation with whole replies only.

    `read`: a body -> all of its events, a `ReplyFailed` among them where it is an error body; it may raise UNREADABLE,
    and then the reply fails as `unreadable` says of the body (quoting nothing of it).
    """
    return lambda streamed, choices, quirks: _WholeDecoder(read, unreadable)


def whole_encoder(
    write: Callable[[Sequence[Event], ReplyFacts, FinalUsage], bytes], write_failure: Callable[[Failure], bytes]
) -> Callable[[ReplyFacts], Encoder]:
    """`ClientDialect.encoder` of an operation with whole replies only. `write`: all events of a reply -> its body."""
    return lambda facts: _WholeEncoder(facts, write, write_failure)


def whole_relay(
    mend: Callable[[Fields, ReplyFacts, FinalUsage], Mapping[str, msgspec.Raw | None]],
    write_failure: Callable[[Failure], bytes],
) -> Callable[[ReplyFacts, Quirks], Relay]:
    """`ClientDialect.relay` of an operation with whole replies only.

    `mend`: the members of a body -> those that are put in their place (new ones at the end; None: left out).
    """
    return lambda facts, quirks: _WholeRelay(facts, mend, write_failure)


class _WholeDecoder:
    """One reply of one frame."""

    def __init__(self, read: Callable[[bytes], Sequence[Event]], unreadable: Callable[[bytes], Failure]) -> None:
        self._read = read
        self._unreadable = unreadable
        self._ended = False
        self._done = False

    @property
    def ended(self) -> bool:
        """The body was read, and it is a reply."""
        return self._ended

    @property
    def done(self) -> bool:
        return self._done

    def feed(self, frame: Frame) -> Sequence[Event]:
        """The events of the body. Never raises."""
        if self._done or frame.comment:
            return ()
        self._done = True
        try:
            events = self._read(frame.data)
        except UNREADABLE:
            return (ReplyFailed(self._unreadable(frame.data)),)
        self._ended = not any(isinstance(event, ReplyFailed) for event in events)
        return events

    def close(self) -> Sequence[Event]:
        return ()


class _WholeEncoder:
    """One reply, written at its end."""

    def __init__(
        self,
        facts: ReplyFacts,
        write: Callable[[Sequence[Event], ReplyFacts, FinalUsage], bytes],
        write_failure: Callable[[Failure], bytes],
    ) -> None:
        self._facts = facts
        self._write = write
        self._write_failure = write_failure
        self._events: list[Event] = []

    def encode(self, events: Sequence[Event]) -> bytes:
        """Nothing yet: the events wait for the end."""
        self._events += events
        return b""

    def close(self, final: FinalUsage) -> bytes:
        return self._write(self._events, self._facts, final)

    def fail(self, failure: Failure) -> bytes:
        return self._write_failure(failure)


class _WholeRelay:
    """One body, carried."""

    def __init__(
        self,
        facts: ReplyFacts,
        mend: Callable[[Fields, ReplyFacts, FinalUsage], Mapping[str, msgspec.Raw | None]],
        write_failure: Callable[[Failure], bytes],
    ) -> None:
        self._facts = facts
        self._mend = mend
        self._write_failure = write_failure
        self._body = b""

    def carry(self, frame: Frame, events: Sequence[Event]) -> bytes:
        """Nothing yet: the body waits for the settled usage."""
        if not frame.comment:
            self._body = frame.data
        return b""

    def close(self, final: FinalUsage) -> bytes:
        """The body with its mended members."""
        try:
            fields = fields_of(self._body)
            mended = self._mend(fields, self._facts, final)
        except UNREADABLE:
            return self._body
        if all(_same(fields.get(key), value) for key, value in mended.items()):
            return self._body
        now = {**fields, **{key: value for key, value in mended.items() if value is not None}}
        return encode({key: value for key, value in now.items() if mended.get(key, value) is not None})

    def fail(self, failure: Failure) -> bytes:
        return self._write_failure(failure)


def _same(before: msgspec.Raw | None, now: msgspec.Raw | None) -> bool:
    """Whether a member is already as it should be, whatever its white space."""
    if before is None or now is None:
        return before is now
    try:
        return bytes(before) == bytes(now) or bool(msgspec.json.decode(before) == msgspec.json.decode(now))
    except UNREADABLE:  # a text in it is not UTF-8
        return False
