"""Frames do not depend on how the network cut the bytes, and cost no more than the bytes are worth."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.framing.frame import Frame, FrameTooLarge, Framing
from counterfoil.framing.sse import SseFraming, on_one_line
from counterfoil.framing.whole import WholeFraming
from tests import wire

__all__: list[str] = []

_LIMIT = 1 << 16

_PIECES = [
    b"data: one",
    b'data:{"a":1}',
    b"data",
    b"data: ",
    b"event: ping",
    b"event:named",
    b": a comment",
    b":",
    b"id: 7",
    b"retry: 10",
    b"unknown: field",
    b"\xef\xbb\xbf",
    "data: ä語🎈".encode(),
    b"\xff",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\r\n\r\n",
    b"data: {}\n\n",
    b"event: x\ndata: 2\n\n",
]

streams = st.lists(st.sampled_from(_PIECES), max_size=20).map(b"".join)
plain_streams = st.lists(st.sampled_from([piece for piece in _PIECES if b"\r" not in piece]), max_size=20).map(b"".join)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


def _bytewise(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


def _frames(parts: list[bytes], limit: int = _LIMIT) -> tuple[list[Frame], Frame | None]:
    framing = SseFraming(limit)
    frames = [frame for part in parts for frame in framing.feed(part)]
    return frames, framing.close()


def _said(frames: list[Frame]) -> list[tuple[bytes, str, bool]]:
    return [(frame.data, frame.event, frame.comment) for frame in frames]


@given(streams, st.lists(st.integers(0, 1000), max_size=6))
def test_any_cut_of_a_stream_gives_the_same_frames(data: bytes, cuts: list[int]) -> None:
    whole, rest = _frames([data])
    for parts in (_cut(data, cuts), _bytewise(data)):
        frames, half = _frames(parts)
        assert _said(frames) == _said(whole)
        assert (half is None) == (rest is None)
        if half is not None and rest is not None:
            assert (half.data, half.event) == (rest.data, rest.event)


@given(plain_streams, st.lists(st.integers(0, 1000), max_size=6))
def test_without_a_carriage_return_the_bytes_of_each_frame_do_not_depend_on_the_cut_either(
    data: bytes, cuts: list[int]
) -> None:
    assert _frames(_cut(data, cuts)) == _frames(_bytewise(data)) == _frames([data])


@given(streams, st.lists(st.integers(0, 1000), max_size=6))
def test_the_frames_put_together_are_the_bytes_that_came(data: bytes, cuts: list[int]) -> None:
    frames, half = _frames(_cut(data, cuts))
    together = b"".join(frame.raw for frame in frames)
    assert data.startswith(together)
    pending = data[len(together) :]
    assert half.raw == pending if half is not None else not pending.strip(b"\r\n")


@given(st.lists(st.tuples(st.binary(max_size=20), st.sampled_from(["", "delta", "über"])), max_size=8), st.data())
def test_what_was_written_is_read_back_whatever_the_line_ends(
    said: list[tuple[bytes, str]], draw: st.DataObject
) -> None:
    end = draw.draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    data, expected = b"", []
    for payload, event in said:
        lines = [line.replace(b"\r", b"") for line in payload.split(b"\n")]
        block = ([b"event: " + event.encode()] if event else []) + [b"data: " + line for line in lines]
        data += end.join(block) + end + end
        expected.append((b"\n".join(lines), event, False))
    frames, half = _frames(_cut(data, draw.draw(st.lists(st.integers(0, 1000), max_size=4))))
    assert _said(frames) == expected
    assert half is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"data: x\n\n", [(b"x", "", False)], id="one space after the colon is not data"),
        pytest.param(b"data:x\n\n", [(b"x", "", False)], id="no space is needed"),
        pytest.param(b"data:  x\n\n", [(b" x", "", False)], id="a second space is data"),
        pytest.param(b"data: a\ndata: b\n\n", [(b"a\nb", "", False)], id="several data lines are joined"),
        pytest.param(b"data: a\ndata\n\n", [(b"a\n", "", False)], id="a field without a colon is empty"),
        pytest.param(b"data:\n\n", [(b"", "", False)], id="empty data is a frame"),
        pytest.param(b"event: a\nevent: b\ndata: x\n\n", [(b"x", "b", False)], id="the last event name stands"),
        pytest.param(b"data: x\nevent: late\n\n", [(b"x", "late", False)], id="the event name may come last"),
        pytest.param(b": hello\n\n", [(b"", "", True)], id="a comment alone is a comment frame"),
        pytest.param(b": hello\ndata: x\n\n", [(b"x", "", False)], id="a comment beside data is not"),
        pytest.param(b"id: 4\nretry: 9\n\n", [(b"", "", True)], id="id and retry say nothing"),
        pytest.param(b"\xef\xbb\xbfdata: x\n\n", [(b"x", "", False)], id="a byte order mark is skipped"),
        pytest.param(
            b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [(b"a", "", False), (b"", "", True)], id="once, at the start"
        ),
        pytest.param(b"\n\n\ndata: x\n\n", [(b"x", "", False)], id="blank lines before a block say nothing"),
        pytest.param(b"data: x\r\r\n", [(b"x", "", False)], id="line ends may differ within a block"),
    ],
)
def test_the_event_stream_rules(data: bytes, expected: list[tuple[bytes, str, bool]]) -> None:
    for parts in ([data], _bytewise(data)):
        assert _said(_frames(parts)[0]) == expected
    # Later frames take another way through the code than the first.
    later = b"data: before\n\n" + data.removeprefix(b"\xef\xbb\xbf")
    assert _said(_frames([b"data: before\n\n", later.removeprefix(b"data: before\n\n")])[0])[1:] == expected


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_last_frame_without_its_blank_line_comes_out_of_close(end: bytes) -> None:
    frames, half = _frames([b"data: {}\n\n", b"data: [DONE]" + end])
    assert _said(frames) == [(b"{}", "", False)]
    assert half is not None
    assert half.data == b"[DONE]"
    assert half.raw == b"data: [DONE]" + end


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_a_complete_frame_is_handed_over_with_its_last_byte(end: bytes) -> None:
    framing = SseFraming(_LIMIT)
    framing.feed(b"data: first" + end)
    block = b"data: x" + end
    early = [framing.feed(part) for part in _bytewise(block)]
    complete = next(place for place, frames in enumerate(early) if frames)
    assert complete == len(block) - 1 - (end == b"\r\n\r\n")  # a bare CR ends a line; its LF may never come
    assert early[complete][0].data == b"x"


@given(st.lists(st.integers(0, 1000), max_size=4), st.booleans())
def test_a_frame_beyond_the_limit_is_refused_however_it_is_cut(cuts: list[int], after_others: bool) -> None:
    before = b"data: a\n\n" * 3 if after_others else b""
    data = before + b"data: " + b"x" * 100 + b"\n\n" + b"data: b\n\n"
    for parts in (_cut(data, cuts), _bytewise(data)):
        framing = SseFraming(64)
        frames: list[Frame] = []

        def swallow(parts: list[bytes] = parts, framing: SseFraming = framing, frames: list[Frame] = frames) -> None:
            for part in parts:
                frames += framing.feed(part)
            framing.close()

        with pytest.raises(FrameTooLarge):
            swallow()
        assert [frame.data for frame in frames] == [b"a"] * (3 if after_others else 0)
        with pytest.raises(FrameTooLarge):
            framing.feed(b"data: after\n\n")


@pytest.mark.parametrize("part", [b"x", b"x" * 50, b"\n", b"\r", b": comment\n", b"data: x\n"])
def test_what_never_ends_is_refused_within_the_limit_and_holds_no_more_than_it(part: bytes) -> None:
    framing = SseFraming(1000)
    framing.feed(b"data: first\n\n")
    fed = 0
    while fed + len(part) <= 1000:
        assert framing.feed(part) == []
        fed += len(part)
        assert len(framing._pending) <= 1000
    with pytest.raises(FrameTooLarge):
        framing.feed(part)
    assert len(framing._pending) == 0


def test_a_frame_exactly_at_the_limit_passes() -> None:
    block = b"data: " + b"x" * 92 + b"\n\n"
    for parts in ([block], _bytewise(block), [b"data: a\n\n", block], [b"data: a\n\n", *_bytewise(block)]):
        assert _frames(parts, len(block))[0][-1].raw == block
        with pytest.raises(FrameTooLarge):
            _frames(parts, len(block) - 1)


@pytest.mark.parametrize("line", [b"data: " + b"x" * 5000, b"\n" * 5000, b"data: x\n" * 600, b"x\r\n" * 1500])
def test_no_byte_is_searched_again_and_again(line: bytes) -> None:
    framing = SseFraming(1 << 20)
    framing.feed(b"data: first\n\n")
    for part in _bytewise(line):
        framing.feed(part)
        # The next search begins here: at most one byte is looked at twice.
        assert len(framing._pending) - framing._scanned <= 1


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n", b"\n\r"])
def test_json_that_breaks_lines_goes_on_one_line_and_says_the_same(end: bytes) -> None:
    line = on_one_line(b'{"a":' + end + b" 1" + end + b"}")
    assert b"\n" not in line
    assert b"\r" not in line
    assert json.loads(line) == {"a": 1}
    assert on_one_line(b'{"a": 1}') == b'{"a": 1}'


@given(st.binary(max_size=200), st.lists(st.integers(0, 1000), max_size=4))
def test_a_whole_body_is_one_frame_however_it_is_cut(body: bytes, cuts: list[int]) -> None:
    framing: Framing = WholeFraming(200)
    assert [frame for part in _cut(body, cuts) for frame in framing.feed(part)] == []
    frame = framing.close()
    assert (frame.data, frame.raw) == (body, body) if frame is not None else body == b""
    assert framing.close() is None


def test_a_body_beyond_the_limit_is_refused_and_let_go() -> None:
    framing = WholeFraming(10)
    framing.feed(b"x" * 10)
    for again in range(2):
        with pytest.raises(FrameTooLarge):
            framing.feed(b"x" * (1 - again))
    with pytest.raises(FrameTooLarge):
        framing.close()
    assert not framing._body


@pytest.mark.parametrize("name", wire.params(stream=True))
def test_a_recorded_stream_gives_the_same_frames_byte_by_byte(name: str) -> None:
    recording = wire.read(name)
    body = recording.response_body
    whole, rest = _frames([body], 1 << 23)
    assert whole or rest
    frames, half = _frames(_bytewise(body), 1 << 23)
    assert _said(frames) == _said(whole)
    assert half == rest
    together = b"".join(frame.raw for frame in frames) + (half.raw if half else b"")
    assert together.rstrip() == body.rstrip()
