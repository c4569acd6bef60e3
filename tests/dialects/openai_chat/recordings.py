"""The recorded chat exchanges, read from `../shared/wire` beside the checkout. They are not part of a clone."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from counterfoil.core.event import Event, UsageReported
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.openai_chat.reply import ChatDecoder
from counterfoil.framing.frame import Frame
from counterfoil.framing.sse import SseFraming
from counterfoil.usage.reading import NO_READING, Reading

__all__ = [
    "DIALECTS",
    "Recording",
    "decode_bytes",
    "decode_frames",
    "expected",
    "reading_of",
    "recordings",
    "shared",
]

DIALECTS = ("openai.chat", "azure.chat", "mistral.chat")
_LIMIT = 8 << 20


class Recording(msgspec.Struct, frozen=True):
    """One recorded exchange."""

    id: str
    provider: str
    model: str
    streamed: bool
    status: int
    choices: int
    body: bytes
    headers: Mapping[str, str]
    reconstructed: bool
    """The framing is not the provider's own."""


def shared() -> Path | None:
    """The directory of shared material, if it is there."""
    for parent in Path(__file__).resolve().parents:
        if (parent.parent / "shared" / "wire" / "INDEX.tsv").is_file():
            return parent.parent / "shared"
    return None


@cache
def recordings() -> tuple[Recording, ...]:
    """Every recorded chat exchange; skips the test when they are absent."""
    root = shared()
    if root is None:
        pytest.skip("the recordings (../shared/wire) are not here")
    paths = [path for dialect in DIALECTS for path in sorted((root / "wire" / dialect).rglob("*.json"))]
    found = [_read(json.loads(path.read_bytes())) for path in paths]
    assert len(found) > 150
    return tuple(found)


@cache
def expected() -> Mapping[str, Mapping[str, str]]:
    """The oracle: inclusive totals by recording; an empty cell is not judged."""
    root = shared()
    if root is None:
        pytest.skip("the oracle (../shared/wire/expected.tsv) is not here")
    with (root / "wire" / "expected.tsv").open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file, delimiter="\t")}


def decode_bytes(body: bytes, *, streamed: bool, choices: int, quirks: Quirks, step: int | None = None) -> list[Event]:
    """The events of a body that comes `step` bytes at a time; None: all at once."""
    if not streamed:
        return decode_frames([Frame(body, "", body)], streamed=False, choices=choices, quirks=quirks)
    framing = SseFraming(_LIMIT)
    frames: list[Frame] = []
    for start in range(0, len(body), step or len(body) or 1):
        frames += framing.feed(body[start : start + step] if step else body)
    framing.close()
    return decode_frames(frames, streamed=True, choices=choices, quirks=quirks)


def decode_frames(frames: list[Frame], *, streamed: bool, choices: int, quirks: Quirks) -> list[Event]:
    """The events of frames, the end of the bytes included."""
    decoder = ChatDecoder(streamed, choices, quirks)
    events: list[Event] = []
    for frame in frames:
        events.extend(decoder.feed(frame))
    events.extend(decoder.close())
    return events


def reading_of(events: list[Event]) -> Reading:
    """What the reports among the events amount to."""
    reading = NO_READING
    for event in events:
        if isinstance(event, UsageReported):
            reading = reading.join(event.report)
    return reading


def _read(record: dict[str, Any]) -> Recording:
    response = record["response"]
    body = response.get("body") or ""
    request = record.get("request") or {}
    asked = request.get("body")
    if isinstance(asked, str):
        try:
            asked = json.loads(asked)
        except ValueError:
            asked = None
    choices = asked.get("n") if isinstance(asked, dict) else None
    return Recording(
        id=record["id"],
        provider=f"{record['dialect']}/{record['provider']}",
        model=record.get("model") or "",
        streamed=not body.lstrip().startswith("{"),
        status=int(response.get("status") or 200),
        choices=choices if isinstance(choices, int) else 1,
        body=body.encode(),
        headers={name.lower(): value for name, value in (response.get("headers") or {}).items()},
        reconstructed="framing_reconstructed" in (record.get("features") or ()),
    )
