"""Recorded streams with frames dropped, repeated, moved, cut and corrupted: the laws of counting hold for what is left.

Every dialect of the registry is tried, with the streams of its that are recorded (and shown as skipped where none is).
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterfoil.cli.meter import RECORDED_DIALECTS, Recorded, read_record
from counterfoil.config import Limits
from counterfoil.core.event import UsageReported
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.registry import DIALECTS
from counterfoil.driver.deployment import load_table
from counterfoil.exchange.recorded import ReadReply
from counterfoil.framing.frame import Frame
from counterfoil.ledger.entry import Exit
from counterfoil.usage.reading import Reading
from counterfoil.usage.settle import settle
from counterfoil.usage.usage import INPUT_BUCKETS, OUTPUT_BUCKETS, Provenance
from tests import wire

__all__: list[str] = []

LARGEST = 60_000
"""Bytes of the longest stream that is tried: each is read some dozens of times."""


class Stream(msgspec.Struct, frozen=True):
    """A recorded stream, frame by frame."""

    recorded: Recorded
    frames: tuple[bytes, ...]
    reports: tuple[int, ...]
    """Places of the frames that report usage."""
    whole: ReadReply

    def read(self, frames: Sequence[bytes]) -> ReadReply:
        return self.recorded.read([b"".join(frames)])


@functools.cache
def _streams(dialect: str) -> tuple[Stream, ...]:
    directory = wire.shared()
    if directory is None:
        return ()
    names = [recorded for recorded, ours in RECORDED_DIALECTS.items() if ours == dialect]
    found = []
    for name in wire.ids(*(f"{name}/" for name in names)) if names else ():
        path = directory / "wire" / f"{name}.json"
        if path.stat().st_size < LARGEST * 2:
            recorded = read_record(name, path.read_bytes(), load_table())
            if recorded.streamed and recorded.status < 300 and len(recorded.data) < LARGEST:
                found.append(_stream(recorded))
    return tuple(stream for stream in found if len(stream.frames) > 2)


def _stream(recorded: Recorded) -> Stream:
    frames = [frame.raw for frame in _framed(recorded)]
    quirks = Quirks() if recorded.provider is None else recorded.provider.quirks_for(recorded.model)
    decoder = recorded.dialect.decoder(True, recorded.asked.choices, quirks)
    reports = [
        place
        for place, frame in enumerate(_framed(recorded))
        if any(isinstance(event, UsageReported) for event in decoder.feed(frame))
    ]
    return Stream(recorded, tuple(frames), tuple(reports), recorded.read())


def _framed(recorded: Recorded) -> list[Frame]:
    framing = recorded.dialect.framing(Limits().frame)
    frames = framing.feed(recorded.data)
    last = framing.close()
    return frames if last is None else [*frames, last]


def _counters(reading: Reading) -> Any:
    """What was said last of every counter, without when it was said."""
    return {
        scope: {counter: said.value for counter, said in sorted(counters.items())}
        for scope, counters in reading.scopes.items()
    }


def _check(reply: ReadReply, convention: Any) -> None:
    """What holds for any reading at all."""
    usage = reply.settlement.usage
    assert all(count >= 0 for count in usage.buckets.values())
    if not reply.reading.reports:
        assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (None, None, None), (
            "unknown is not zero"
        )
    if reply.exit is Exit.TRUNCATED:
        assert Provenance.REPORTED not in usage.provenance.values(), "half a reply vouches for no number"
    if usage.total_tokens is not None:
        parts = [count for bucket, count in usage.buckets.items() if bucket in (*INPUT_BUCKETS, *OUTPUT_BUCKETS)]
        assert usage.total_tokens == sum(parts), "buckets overlap"
    if reply.exit in (Exit.COMPLETED, Exit.TRUNCATED):
        again = settle(reply.reading, convention, ended=reply.exit is Exit.COMPLETED)
        assert again.lines == reply.settlement.lines, "settling depends on more than the reading"


def _convention(stream: Stream) -> Any:
    row, default = stream.recorded.provider, stream.recorded.dialect.convention
    return default if row is None else row.convention_for(stream.recorded.model, default)


SPOKEN: list[Any] = [name for name in DIALECTS if _streams(name)] or [
    pytest.param("absent", marks=pytest.mark.skip(reason=wire.ABSENT))
]
TRIES = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("dialect", SPOKEN)
@TRIES
@given(data=st.data())
def test_a_repeated_report_counts_once(dialect: str, data: st.DataObject) -> None:
    stream = data.draw(st.sampled_from([s for s in _streams(dialect) if s.reports] or _streams(dialect)))
    times = data.draw(st.integers(2, 4))
    frames = [
        copy
        for place, frame in enumerate(stream.frames)
        for copy in [frame] * (times if place in stream.reports else 1)
    ]
    reply = stream.read(frames)
    if reply.failure is None or stream.whole.failure is not None:
        assert _counters(reply.reading) == _counters(stream.whole.reading)
    _check(reply, _convention(stream))


@pytest.mark.parametrize("dialect", SPOKEN)
@TRIES
@given(data=st.data())
def test_what_is_not_a_report_changes_no_count(dialect: str, data: st.DataObject) -> None:
    """Frames without a report are dropped, repeated and moved between the reports; every report stays where it was."""
    stream = data.draw(st.sampled_from(_streams(dialect)))
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    frames: list[bytes] = []
    loose: list[bytes] = []
    for place, frame in enumerate(stream.frames):
        last = place == len(stream.frames) - 1
        if place not in stream.reports and not last and place:
            loose += [frame] * rng.choice((0, 1, 1, 1, 2))
            continue
        rng.shuffle(loose)
        frames += [*loose, frame]
        loose = []
    reply = stream.read(frames)
    if reply.failure is None and stream.whole.failure is None and _all_read(stream, reply):
        assert _counters(reply.reading) == _counters(stream.whole.reading)
    _check(reply, _convention(stream))


def _all_read(stream: Stream, reply: ReadReply) -> bool:
    """Whether no end mark was moved before a report: nothing that follows one is part of the reply."""
    return reply.reading.reports >= stream.whole.reading.reports


@pytest.mark.parametrize("dialect", SPOKEN)
@TRIES
@given(data=st.data())
def test_a_cut_stream_says_what_its_reports_said(dialect: str, data: st.DataObject) -> None:
    stream = data.draw(st.sampled_from(_streams(dialect)))
    kept = data.draw(st.integers(0, len(stream.frames)))
    reply = stream.read(stream.frames[:kept])
    assert reply.reading.reports <= stream.whole.reading.reports
    assert _counters(stream.read(stream.frames).reading) == _counters(stream.whole.reading)
    _check(reply, _convention(stream))


@pytest.mark.parametrize("dialect", SPOKEN)
@TRIES
@given(data=st.data())
def test_a_corrupted_stream_is_read_or_refused_and_never_makes_a_count_up(dialect: str, data: st.DataObject) -> None:
    stream = data.draw(st.sampled_from(_streams(dialect)))
    damaged = bytearray(b"".join(stream.frames))
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    _check(stream.read([bytes(damaged)]), _convention(stream))


@pytest.mark.parametrize("dialect", SPOKEN)
@TRIES
@given(data=st.data())
def test_frames_of_two_replies_in_one_are_read_or_refused(dialect: str, data: st.DataObject) -> None:
    one, other = (data.draw(st.sampled_from(_streams(dialect))) for _ in range(2))
    frames = list(one.frames)
    for _ in range(data.draw(st.integers(1, 5))):
        frames.insert(data.draw(st.integers(0, len(frames))), data.draw(st.sampled_from(other.frames)))
    _check(one.read(frames), _convention(one))
