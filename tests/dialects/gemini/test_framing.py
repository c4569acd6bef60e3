"""A JSON array that is still being written, however its bytes are cut."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.framing.frame import Frame, FrameDamaged, FrameTooLarge, FramingError
from counterfoil.framing.json_array import EventsOrArrayFraming, JsonArrayFraming

from .support import array, chunk, sse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\{}[],: \n\u4e2d', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('k"\\{]', max_size=3), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text('k"\\{]', max_size=3), VALUES, max_size=3)
SPACE = st.text(" \t\r\n", max_size=3)


def framed(pieces: list[bytes], limit: int = 10_000) -> tuple[list[Frame], Frame | None]:
    framing = EventsOrArrayFraming(limit)
    frames = [frame for piece in pieces for frame in framing.feed(piece)]
    return frames, framing.close()


def single(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


@given(st.lists(st.tuples(OBJECTS, SPACE), max_size=4), st.lists(st.integers(0, 200), max_size=6), st.booleans())
def test_every_object_of_an_array_is_a_frame_wherever_the_bytes_are_cut(
    entries: list[tuple[dict[str, object], str]], places: list[int], bom: bool
) -> None:
    said = [json.dumps(entry, ensure_ascii=False) + space for entry, space in entries]
    data = (b"\xef\xbb\xbf" if bom else b"") + ("[" + ",".join(said) + "]").encode()
    cuts = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    frames, rest = framed([data[start:end] for start, end in pairwise(cuts)])
    assert rest is None
    assert [json.loads(frame.data) for frame in frames if not frame.comment] == [entry for entry, _ in entries]
    assert b"".join(frame.raw for frame in frames) == data
    assert frames[-1].comment
    assert framed(single(data))[0] == frames


def test_objects_in_a_row_need_no_array() -> None:
    frames, rest = framed([b'{"a":1}\n{"b":[2,{"c":"}"}]}\n'])
    assert [json.loads(frame.data) for frame in frames] == [{"a": 1}, {"b": [2, {"c": "}"}]}]
    assert rest is None


@pytest.mark.parametrize("cut", range(1, 12))
def test_half_an_object_at_the_end_is_half_a_frame(cut: int) -> None:
    frames, rest = framed([b'[{"done":1},' + b'{"text":"}]'[:cut]])
    assert [frame.data for frame in frames] == [b'{"done":1}']
    assert rest is not None
    assert rest.data == b'{"text":"}]'[:cut]


@pytest.mark.parametrize("data", [b"[1]", b"[null]", b'["text"]', b"[[{}]]", b"{} oops", b"{}]"])
def test_what_is_no_object_is_damage(data: bytes) -> None:
    framing = JsonArrayFraming(1_000)
    if data[:2] == b"{}":  # a frame before the damage comes out first
        assert [frame.data for frame in framing.feed(data)] == [b"{}"]
    with pytest.raises(FrameDamaged):
        framing.feed(data)


def test_what_follows_the_array_is_no_part_of_it() -> None:
    framing = JsonArrayFraming(1_000)
    assert [frame.data for frame in framing.feed(b"[{}] x")] == [b"{}", b""]
    assert framing.feed(b'{"more":1}') == []
    assert framing.close() is None


@pytest.mark.parametrize("data", [b'[{"a":"' + b"x" * 200, b"[" + b" " * 200, b'[{"a":"' + b"x" * 200 + b'"}]'])
def test_an_object_that_grows_past_the_limit_is_refused_however_it_comes(data: bytes) -> None:
    for pieces in ([data], single(data)):
        with pytest.raises(FrameTooLarge):
            framed(pieces, limit=100)


def test_what_came_before_the_damage_comes_out_first() -> None:
    framing = JsonArrayFraming(1_000)
    assert [frame.data for frame in framing.feed(b'[{"a":1},nonsense')] == [b'{"a":1}']
    with pytest.raises(FramingError):
        framing.feed(b"")


def test_a_stream_of_events_is_one_still() -> None:
    data = sse(chunk(), chunk())
    frames, rest = framed(single(data))
    assert rest is None
    assert [json.loads(frame.data) for frame in frames] == [chunk(), chunk()]
    # A bare CR LF pair is complete at its CR: the LF opens the next frame's bytes.
    assert data.startswith(b"".join(frame.raw for frame in frames))


@pytest.mark.parametrize("cut", [False, True])
def test_a_bare_json_error_in_a_stream_of_events_is_a_frame(cut: bool) -> None:
    data = sse(chunk(), end="\n\n") + b'{\n  "error": {\n    "code": 503\n  }\n}\n\n'
    frames, _ = framed(single(data) if cut else [data])
    assert [json.loads(frame.data) for frame in frames] == [chunk(), {"error": {"code": 503}}]


@pytest.mark.parametrize("cut", [False, True])
def test_a_comment_in_a_stream_of_events_stays_one(cut: bool) -> None:
    data = b": still there\n\n" + sse(chunk(), end="\n\n") + b'{"error": {}}\n\n'
    frames, _ = framed(single(data) if cut else [data])
    assert [(frame.comment, bytes(frame.data)[:1]) for frame in frames] == [(True, b""), (False, b"{"), (False, b"{")]


def test_an_array_is_the_same_frames_as_its_events() -> None:
    chunks = (chunk(), chunk(responseId="other"))
    given_as_array = [json.loads(frame.data) for frame in framed([array(*chunks)])[0] if not frame.comment]
    assert given_as_array == [json.loads(frame.data) for frame in framed([sse(*chunks)])[0]]


def test_blank_lines_alone_are_no_frame() -> None:
    assert framed([b"\r\n", b" \n"]) == ([], None)
    with pytest.raises(FrameTooLarge):
        framed([b"\n" * 60, b"\n" * 60], limit=100)


@pytest.mark.parametrize("sign", [b"r", b"]", b"{"])
def test_white_space_beyond_the_limit_ends_the_stream_in_the_same_way_however_it_is_cut(sign: bytes) -> None:
    data = b"[" + b" " * 80 + sign
    for pieces in ([data], single(data)):
        with pytest.raises(FrameTooLarge):
            framed(pieces, limit=64)
