"""No bytes make a framing raise anything but its own errors, loop, or grow; and any cut of them gives the same frames.

Every framing that some dialect of the registry has is tried, with limits from small to large: the first byte of an
input chooses the limit. `fuzz/run.py` has coverage choose the bytes, and tries a file of them again with `--replay`.
"""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from readable import Broken

from counterfoil.dialects.registry import DIALECTS
from counterfoil.framing.frame import Frame, Framing, FramingError

__all__ = ["FRAMINGS", "TARGETS", "check", "name_of"]

_LIMITS: Final = (16, 64, 300, 5_000, 1 << 20)
_BYTE_BY_BYTE: Final = 3_000


def name_of(make: Callable[[int], Framing]) -> str:
    """A framing by its class, in words: `EventStreamFraming` is `event_stream`."""
    name = type(make(1)).__name__.removesuffix("Framing")
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


FRAMINGS: Final[Mapping[str, Callable[[int], Framing]]] = {
    name_of(dialect.framing): dialect.framing for dialect in DIALECTS.values()
}
"""Each once, by its name."""

_Said = tuple[list[tuple[bytes, str, bool, bytes]], tuple[bytes, str] | None, str]
"""What frames said, what was left, and what ended it."""


def check(make: Callable[[int], Framing], limit: int, data: bytes, rng: random.Random) -> None:
    """Raises Broken, or whatever the framing raises beside its own errors."""
    if b"\r" in data:  # whose the LF after a CR is depends on the cut, and so does whether a frame is too large by it
        limit = max(limit, len(data))
    whole = _read(make(limit), [data], data, limit)
    for pieces in _cuts(data, rng):
        if _read(make(limit), pieces, data, limit) != whole:
            raise Broken(f"other frames when cut into {len(pieces)} pieces")


def _read(framing: Framing, pieces: Sequence[bytes], data: bytes, limit: int) -> _Said:
    frames: list[Frame] = []
    rest: Frame | None = None
    ended = ""
    try:
        for piece in pieces:
            frames += framing.feed(piece)
        rest = framing.close()
    except FramingError as error:
        ended = f"{type(error).__name__}: {error}"
    if not data.startswith(b"".join(frame.raw for frame in frames)):
        raise Broken("the frames put together are not the bytes that came")
    if any(len(frame.raw) > limit for frame in frames if frame.data):
        raise Broken(f"a frame of more than {limit} bytes")
    if sum(len(frame.data) + len(frame.event) for frame in frames) > 4 * len(data) + 64 or len(frames) > len(data):
        raise Broken("more comes out than went in")
    # A lone CR ends a line at once; whether an LF follows is known later, and it is then the next frame's.
    exact = b"\r" not in data
    said = [(frame.data, frame.event, frame.comment, frame.raw if exact else b"") for frame in frames]
    return said, None if rest is None else (rest.data, rest.event), ended


def _cuts(data: bytes, rng: random.Random) -> Iterator[list[bytes]]:
    if len(data) <= _BYTE_BY_BYTE:
        yield [data[place : place + 1] for place in range(len(data))]
    for many in (1, 3, 30):
        places = sorted({0, len(data), *(rng.randrange(len(data) + 1) for _ in range(many))})
        yield [data[start:end] for start, end in itertools.pairwise(places)]


def _target(make: Callable[[int], Framing], data: bytes) -> None:
    limit = _LIMITS[data[0] % len(_LIMITS)] if data else _LIMITS[-1]
    check(make, limit, data[1:], random.Random(zlib.crc32(data)))


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    f"framing.{name}": partial(_target, make) for name, make in FRAMINGS.items()
}
"""By name: what takes any bytes and holds the rule against them."""
