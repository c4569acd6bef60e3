"""Messages of AWS's event stream: however the network cut them, the same, and none believed before its checksum."""

from __future__ import annotations

import itertools
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.framing.eventstream import LARGEST_HEADERS, EventStreamFraming
from counterfoil.framing.frame import Frame, FrameDamaged, FrameTooLarge, FramingError
from counterfoil.testing.eventstream import encode_message, event_message, exception_message
from tests import wire

__all__: list[str] = []

_LIMIT = 1 << 16

_names = st.sampled_from(["messageStart", "contentBlockDelta", "chunk", "über"])
_messages = st.lists(st.tuples(_names, st.binary(max_size=60)), max_size=6)


def _event(kind: str, payload: bytes) -> bytes:
    return encode_message({":event-type": kind, ":message-type": "event"}, payload)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


def _bytewise(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


def _read(parts: list[bytes], limit: int = _LIMIT) -> tuple[list[Frame], FramingError | None]:
    """The frames, and what ended the stream, if something did."""
    framing = EventStreamFraming(limit)
    frames: list[Frame] = []
    try:
        for part in parts:
            frames += framing.feed(part)
        assert framing.close() is None
    except FramingError as error:
        return frames, error
    return frames, None


def _raw(total: int, headers: int, rest: bytes) -> bytes:
    """A message with a good prelude that says these lengths, whatever follows."""
    prelude = struct.pack(">II", total, headers)
    return prelude + struct.pack(">I", zlib.crc32(prelude)) + rest


def _with_headers(headers: bytes, payload: bytes = b"{}") -> bytes:
    body = _raw(16 + len(headers) + len(payload), len(headers), headers + payload)
    return body + struct.pack(">I", zlib.crc32(body))


@given(_messages, st.lists(st.integers(0, 2000), max_size=6))
def test_any_cut_of_a_stream_gives_the_messages_that_were_written(
    said: list[tuple[str, bytes]], cuts: list[int]
) -> None:
    data = b"".join(_event(kind, payload) for kind, payload in said)
    for parts in ([data], _cut(data, cuts), _bytewise(data)):
        frames, error = _read(parts)
        assert error is None
        assert [(frame.event, frame.data) for frame in frames] == said
        assert b"".join(frame.raw for frame in frames) == data


@given(_messages, st.integers(0, 2000), st.integers(1, 255), st.lists(st.integers(0, 2000), max_size=4))
def test_one_changed_byte_never_gives_a_message_that_was_not_written(
    said: list[tuple[str, bytes]], place: int, change: int, cuts: list[int]
) -> None:
    data = bytearray(b"".join(_event(kind, payload) for kind, payload in [*said, ("last", b"")]))
    place %= len(data)
    data[place] ^= change
    ends = list(itertools.accumulate(len(_event(kind, payload)) for kind, payload in said))
    whole = sum(end <= place for end in ends)
    for parts in ([bytes(data)], _cut(bytes(data), cuts), _bytewise(bytes(data))):
        frames, error = _read(parts)
        assert [(frame.event, frame.data) for frame in frames] == said[:whole]
        assert isinstance(error, FrameDamaged)


@given(_messages, st.integers(0, 2000))
def test_half_a_message_at_the_end_is_no_message(said: list[tuple[str, bytes]], cut: int) -> None:
    data = b"".join(_event(kind, payload) for kind, payload in said)
    cut %= len(data) + 1
    ends = list(itertools.accumulate(len(_event(kind, payload)) for kind, payload in said))
    frames, error = _read([data[:cut]])
    assert error is None
    assert len(frames) == sum(end <= cut for end in ends)


@given(st.lists(st.integers(0, 2000), max_size=4), st.booleans())
def test_a_message_beyond_the_limit_is_refused_however_it_is_cut(cuts: list[int], after_others: bool) -> None:
    before = _event("a", b"") * 3 if after_others else b""
    data = before + _event("b", b"x" * 200) + _event("c", b"")
    for parts in (_cut(data, cuts), _bytewise(data)):
        frames, error = _read(parts, 200)
        assert [frame.event for frame in frames] == ["a"] * (3 if after_others else 0)
        assert isinstance(error, FrameTooLarge)
        assert error.limit == 200


def test_a_message_beyond_the_limit_is_refused_before_its_bytes_are_there() -> None:
    framing = EventStreamFraming(1000)
    with pytest.raises(FrameTooLarge):
        framing.feed(_raw(1001, 0, b""))
    with pytest.raises(FrameTooLarge):
        framing.feed(_event("later", b""))
    with pytest.raises(FrameTooLarge):
        framing.close()
    assert not framing._pending


def test_a_message_exactly_at_the_limit_passes() -> None:
    data = _event("a", b"x" * 100)
    for parts in ([data], _bytewise(data)):
        assert _read(parts, len(data))[0][0].raw == data
        assert isinstance(_read(parts, len(data) - 1)[1], FrameTooLarge)


def test_what_ended_a_stream_ends_it_for_good() -> None:
    framing = EventStreamFraming(_LIMIT)
    good, bad = _event("a", b"1"), bytearray(_event("b", b"2"))
    bad[-1] ^= 1
    assert [frame.event for frame in framing.feed(good + bytes(bad) + good)] == ["a"]
    with pytest.raises(FrameDamaged):
        framing.feed(good)
    with pytest.raises(FrameDamaged):
        framing.close()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_raw(15, 0, b"abc"), id="shorter than a message can be"),
        pytest.param(_raw(0, 0, b"abcd"), id="of no length"),
        pytest.param(_raw(20, 5, b"abcdefgh"), id="headers longer than the message"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="text"),
        pytest.param(b'data: {"a":1}\n\n', id="server-sent events"),
        pytest.param(b'{"message":"no stream"}', id="JSON"),
        pytest.param(_with_headers(b"\x05:even"), id="a header's name that ends early"),
        pytest.param(_with_headers(b"\x01a\x07\x00\x09short"), id="a header's text that ends early"),
        pytest.param(_with_headers(b"\x01a\x07\x00"), id="half the length of a header's text"),
        pytest.param(_with_headers(b"\x01a\x04\x00"), id="a header's number that ends early"),
        pytest.param(_with_headers(b"\x01a\x0aab"), id="a type of header nobody knows"),
        pytest.param(_with_headers(b"\x01a"), id="a header without a type"),
    ],
)
def test_what_contradicts_itself_is_damage(data: bytes) -> None:
    for parts in ([data], _bytewise(data)):
        frames, error = _read([_event("good", b""), *parts])
        assert [frame.event for frame in frames] == ["good"]
        assert isinstance(error, FrameDamaged)
        assert "good" not in str(error)


def test_headers_beyond_what_the_format_allows_are_refused() -> None:
    framing = EventStreamFraming(1 << 24)
    with pytest.raises(FrameTooLarge):
        framing.feed(_raw(1 << 20, LARGEST_HEADERS + 1, b""))


def test_headers_of_every_type_are_stepped_over() -> None:
    others = (
        b"\x01a\x00" + b"\x01b\x01" + b"\x01c\x02x" + b"\x01d\x03xx" + b"\x01e\x04xxxx" + b"\x01f\x05xxxxxxxx"
        b"\x01g\x06\x00\x03abc" + b"\x01h\x08xxxxxxxx" + b"\x01i\x09" + b"x" * 16
    )
    named = b"\x0b:event-type\x07\x00\x05chunk"
    for headers in (others + named, named + others):
        (frame,), error = _read([_with_headers(headers)])
        assert error is None
        assert (frame.event, frame.data) == ("chunk", b"{}")


def test_an_exception_and_an_error_say_what_they_are() -> None:
    plain, modelled, unmodelled, bare = _read(
        [
            event_message("messageStop", {"stopReason": "end_turn"}),
            exception_message("throttlingException", "Slow down."),
            encode_message({":message-type": "error", ":error-code": "Internal", ":error-message": "It broke."}),
            encode_message({}, b"{}"),
        ]
    )[0]
    assert (plain.event, plain.data) == ("messageStop", b'{"stopReason":"end_turn"}')
    assert (modelled.event, modelled.data) == ("exception:throttlingException", b'{"message":"Slow down."}')
    assert (unmodelled.event, unmodelled.data) == ("error:Internal", b"It broke.")
    assert (bare.event, bare.data) == ("", b"{}")


def test_no_byte_is_kept_longer_than_its_message() -> None:
    framing = EventStreamFraming(_LIMIT)
    message = _event("contentBlockDelta", b"x" * 50)
    for _ in range(100):
        for part in _bytewise(message):
            framing.feed(part)
            assert len(framing._pending) < len(message)


def test_our_reader_and_botocores_read_the_same() -> None:
    botocore: Any = pytest.importorskip("botocore.eventstream")
    data = b"".join(
        [
            event_message("contentBlockDelta", {"delta": {"text": "ä語"}}),
            exception_message("modelStreamErrorException", "x"),
        ]
    )
    theirs = botocore.EventStreamBuffer()
    theirs.add_data(data)
    for ours, other in zip(_read([data])[0], theirs, strict=True):
        assert ours.data == other.payload
        named = other.headers.get(":event-type") or f"exception:{other.headers[':exception-type']}"
        assert ours.event == named


@pytest.mark.parametrize("name", wire.params("bedrock.", stream=True))
def test_a_recorded_stream_gives_the_same_messages_byte_by_byte(name: str) -> None:
    body = wire.read(name).response_body
    whole, error = _read([body], 1 << 23)
    assert error is None
    assert whole
    assert _read(_bytewise(body), 1 << 23) == (whole, None)
    assert b"".join(frame.raw for frame in whole) == body
