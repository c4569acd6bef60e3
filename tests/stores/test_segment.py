"""The journal's file format: no bad record hides a good one, and what is skipped is said."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterfoil.ledger.entry import Entry, Opening, Progress
from counterfoil.stores.segment import (
    HEADER_SIZE,
    LARGEST_RECORD,
    MAGIC,
    Contents,
    Kind,
    SegmentUnreadable,
    body_of,
    frame_record,
    header_of,
    read_segment,
)
from tests.stores.samples import attempt_name, entry_of, opening_of, progress_of

MARKER = b"\x01\x02\x03\xf5"
VALUES: tuple[tuple[Kind, Opening | Progress | Entry], ...] = (
    (Kind.OPENING, opening_of(1)),
    (Kind.OPENING, opening_of(2)),
    (Kind.PROGRESS, progress_of(1)),
    (Kind.ENTRY, entry_of(1)),
    (Kind.PROGRESS, progress_of(2)),
    (Kind.OPENING, opening_of(3)),
)
RECORDS = [frame_record(MARKER, body_of(kind, value)) for kind, value in VALUES]
SEGMENT = header_of(MARKER) + b"".join(RECORDS)


def _read(data: bytes) -> Contents:
    contents = Contents()
    read_segment(data, contents)
    return contents


def test_what_was_written_is_read() -> None:
    contents = _read(SEGMENT)
    assert list(contents.openings.values()) == [opening_of(1), opening_of(2), opening_of(3)]
    assert contents.progress == {attempt_name(1): progress_of(1), attempt_name(2): progress_of(2)}
    assert contents.entries == {attempt_name(1): entry_of(1)}
    assert list(contents.still_open()) == [(opening_of(2), progress_of(2)), (opening_of(3), None)]
    assert (contents.torn, contents.damage) == (0, [])


def test_the_format_is_what_it_was() -> None:
    assert header_of(MARKER) == MAGIC + b"\x02\x00\x00\x00" + MARKER
    assert frame_record(MARKER, b"\x04abc").hex() == "010203f504000000c0368139" + b"\x04abc".hex()


def test_a_half_record_at_the_end_is_torn_and_no_damage() -> None:
    ends = {HEADER_SIZE + sum(map(len, RECORDS[:count])) for count in range(len(RECORDS) + 1)}
    for end in range(len(SEGMENT)):
        contents = _read(SEGMENT[:end])
        assert contents.damage == []
        whole = [count for count in range(len(RECORDS) + 1) if HEADER_SIZE + sum(map(len, RECORDS[:count])) <= end]
        read = len(contents.openings) + len(contents.progress) + len(contents.entries)
        assert read == (whole[-1] if whole else 0)
        assert (contents.torn > 0) == (end > 0 and end not in ends)


def test_zeros_at_the_end_are_torn_and_not_records() -> None:
    contents = _read(SEGMENT + bytes(5000))
    assert (contents.torn, contents.damage, len(contents.openings)) == (5000, [], 3)


@given(st.integers(0, len(RECORDS) - 1), st.data())
@settings(max_examples=100, deadline=None)
def test_a_damaged_record_hides_no_other_and_is_reported(which: int, data: st.DataObject) -> None:
    start = HEADER_SIZE + sum(map(len, RECORDS[:which]))
    at = data.draw(st.integers(start, start + len(RECORDS[which]) - 1))
    flipped = data.draw(st.integers(1, 255))
    damaged = SEGMENT[:at] + bytes([SEGMENT[at] ^ flipped]) + SEGMENT[at + 1 :]
    contents = _read(damaged)
    rest = _read(header_of(MARKER) + b"".join(RECORDS[:which] + RECORDS[which + 1 :]))
    assert (contents.openings, contents.progress, contents.entries) == (rest.openings, rest.progress, rest.entries)
    assert contents.damage or contents.torn


def test_bytes_left_by_a_short_write_in_the_middle_hide_nothing() -> None:
    for cut in range(1, len(RECORDS[3])):
        contents = _read(header_of(MARKER) + b"".join([*RECORDS[:3], RECORDS[3][:cut], *RECORDS[3:]]))
        assert contents.entries == {attempt_name(1): entry_of(1)}
        assert len(contents.openings) == 3
        assert contents.damage


def test_a_record_inside_a_text_is_not_a_record() -> None:
    forged = frame_record(b"\x09\x09\x09\xf5", body_of(Kind.OPENING, opening_of(7))).decode("latin-1")
    data = header_of(MARKER) + frame_record(MARKER, body_of(Kind.OPENING, opening_of(1, user=forged)))
    damaged = data[: HEADER_SIZE + 30] + b"?" + data[HEADER_SIZE + 31 :]
    assert _read(damaged).openings == {}


def test_a_damaged_header_is_damage_and_not_an_empty_journal() -> None:
    for at in range(HEADER_SIZE - 4, HEADER_SIZE):
        assert _read(SEGMENT[:at] + bytes([SEGMENT[at] ^ 1]) + SEGMENT[at + 1 :]).damage
    for at in range(len(MAGIC)):
        with pytest.raises(SegmentUnreadable) as raised:
            _read(SEGMENT[:at] + bytes([SEGMENT[at] ^ 1]) + SEGMENT[at + 1 :])
        assert not raised.value.newer


def test_the_first_format_is_still_read() -> None:
    assert _read(MAGIC + b"\x01\x00\x00\x00" + SEGMENT[12:]).entries == {attempt_name(1): entry_of(1)}


def test_a_newer_format_is_said_to_be_newer() -> None:
    with pytest.raises(SegmentUnreadable, match="newer program") as raised:
        _read(MAGIC + b"\x03\x00\x00\x00" + MARKER)
    assert raised.value.newer


def test_a_whole_record_this_program_cannot_decode_is_damage_that_quotes_nothing() -> None:
    unknown_kind = frame_record(MARKER, b"\x63{}")
    other_shape = frame_record(MARKER, bytes([Kind.OPENING]) + b'{"secret":"sesame"}')
    contents = _read(SEGMENT + unknown_kind + other_shape + RECORDS[0])
    assert len(contents.damage) == 2
    assert "sesame" not in "".join(contents.damage)
    assert len(contents.openings) == 3


def test_a_length_beyond_the_limit_is_not_believed() -> None:
    record = frame_record(MARKER, bytes([Kind.FILLER]) + bytes(LARGEST_RECORD))
    assert _read(header_of(MARKER) + record + RECORDS[0]).openings == {attempt_name(1): opening_of(1)}


@given(st.binary(max_size=200))
def test_reading_any_bytes_fails_only_as_unreadable(data: bytes) -> None:
    for text in (data, header_of(MARKER) + data, SEGMENT + data):
        try:
            _read(text)
        except SegmentUnreadable:
            continue
