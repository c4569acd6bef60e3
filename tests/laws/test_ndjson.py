"""Lines of JSON: a line is a frame whatever its end, however the bytes are cut, and no byte is lost."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.framing.frame import Frame, FrameTooLarge
from counterfoil.framing.ndjson import NdjsonFraming

__all__: list[str] = []

LIMIT = 64

_pieces = st.lists(
    st.sampled_from([b"{}", b'{"a":1}', b"\n", b"\r\n", b"\n\n", b" ", b"\t", b"\xef\xbb\xbf", b"\xff", b"x" * 20]),
    max_size=14,
).map(b"".join)


def _frames(*cut: bytes, limit: int = LIMIT) -> list[Frame]:
    framing = NdjsonFraming(limit)
    frames = [frame for data in cut for frame in framing.feed(data)]
    last = framing.close()
    return frames if last is None else [*frames, last]


def _outcome(*cut: bytes) -> tuple[list[Frame], bool]:
    """The frames, and whether one was too large."""
    framing, frames = NdjsonFraming(LIMIT), []
    try:
        for data in cut:
            frames += framing.feed(data)
        last = framing.close()
    except FrameTooLarge:
        return frames, True
    return frames if last is None else [*frames, last], False


def test_each_line_is_a_frame_with_its_own_bytes() -> None:
    assert _frames(b'{"a":1}\n{"b":2}\r\n\n \r\n{"c":3}') == [
        Frame(b'{"a":1}', "", b'{"a":1}\n'),
        Frame(b'{"b":2}', "", b'{"b":2}\r\n'),
        Frame(b'{"c":3}', "", b'\n \r\n{"c":3}'),
    ]


def test_a_mark_of_the_byte_order_is_no_json() -> None:
    assert [frame.data for frame in _frames(b'\n\xef\xbb\xbf{"a":1}\n\xef\xbb\xbf{}\n')] == [
        b'{"a":1}',
        b"\xef\xbb\xbf{}",
    ]


def test_nothing_and_blank_lines_are_no_frames() -> None:
    assert _frames() == _frames(b"") == _frames(b"\n\r\n  \n\t") == []


@given(_pieces, st.lists(st.integers(0, 200), max_size=6))
def test_how_the_bytes_are_cut_means_nothing(data: bytes, places: list[int]) -> None:
    edges = sorted({0, len(data), *(place for place in places if place < len(data))})
    cut = [data[begin:end] for begin, end in itertools.pairwise(edges)]
    assert _outcome(*cut) == _outcome(data)
    assert _outcome(*[data[place : place + 1] for place in range(len(data))]) == _outcome(data)


@given(_pieces)
def test_no_byte_is_lost_but_blank_lines_that_nothing_follows(data: bytes) -> None:
    frames, too_large = _outcome(data)
    carried = b"".join(frame.raw for frame in frames)
    assert data.startswith(carried)
    assert too_large or not data[len(carried) :].strip(b" \t\r\n").removeprefix(b"\xef\xbb\xbf")


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT, LIMIT + 1, 10 * LIMIT])
@pytest.mark.parametrize("ended", [True, False])
def test_a_line_beyond_the_limit_is_refused_after_those_before_it(size: int, ended: bool) -> None:
    framing = NdjsonFraming(LIMIT)
    line = b"x" * (size - ended) + b"\n" * ended
    frames = framing.feed(b"{}\n" + line)
    if size <= LIMIT:
        last = framing.close()
        assert [frame.data for frame in frames] + ([last.data] if last else []) == [b"{}", b"x" * (size - ended)]
        return
    assert [frame.data for frame in frames] == [b"{}"]
    with pytest.raises(FrameTooLarge):
        framing.feed(b"{}\n")
    with pytest.raises(FrameTooLarge):
        framing.close()


def test_a_line_that_never_ends_holds_no_more_than_the_limit() -> None:
    framing = NdjsonFraming(LIMIT)
    for _ in range(LIMIT):
        framing.feed(b" ")
    with pytest.raises(FrameTooLarge):
        framing.feed(b" ")
