"""What the playback provider did: the list that books are compared with.

Rule 1. A record grows only when bytes have been taken by the operating system, never when they are merely planned.
Rule 2. What the log file gets holds counts and times, and neither text nor headers.
"""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from counterfoil.testing.playbook import Counts, Request, Script, Send, compact_json, reply_number

__all__ = ["Ended", "Event", "Served", "ServedLog", "note_frame"]

Ended: TypeAlias = Literal["completed", "client_left", "cut", "reset", "nothing", "stopped"]
Event: TypeAlias = Literal["opened", "frame", "end"]


@dataclass(kw_only=True)
class Served:
    """One request and what became of its answer. Times are seconds of `time.monotonic()`."""

    number: int
    """From 1, in the order the requests were read; it is also in the ids of the reply (`reply_id`)."""
    connection: int
    """Which accepted connection it came on, from 1."""
    request: Request = field(repr=False)
    script: Script = field(repr=False)
    opened_at: float
    frames_written: int = 0
    """Frames that were wholly written; the script's first ones."""
    units: int = 0
    """Units of output in those frames."""
    pieces: list[str] = field(default_factory=list, repr=False)
    """The reply text of those frames, one piece a frame."""
    reported: Counts | None = None
    """What the reports in those frames amount to; None where none went out."""
    waiting_at: str | None = None
    """The name of the `Hold` it stands at, or `stall`."""
    stalled: bool = False
    left_at: float | None = None
    """When the client was noticed to have left before the end; None where it stayed."""
    ended: Ended | None = None
    ended_at: float | None = None

    @property
    def text(self) -> str:
        """The reply text of the frames that were wholly written."""
        return "".join(self.pieces)

    @property
    def path(self) -> str:
        """The path asked for."""
        return self.request.path

    @property
    def headers(self) -> dict[str, str]:
        """The request's headers, names in lower case."""
        return dict(self.request.headers)

    @property
    def body(self) -> bytes:
        """The request's body."""
        return self.request.body

    @property
    def model(self) -> str:
        """The model asked for, or the empty string."""
        return self.request.model

    @property
    def reply_id(self) -> str:
        """What this request's reply holds in its ids, e.g. `play-0000000007` in `chatcmpl-play-0000000007`."""
        return reply_number(self.number)

    @property
    def usage(self) -> Counts | None:
        """The truth of the books: what the whole reply costs, reported or not."""
        return self.script.usage

    @property
    def client_left(self) -> bool:
        """Whether the client left before the end."""
        return self.left_at is not None


class ServedLog:
    """Appends one JSON line for each thing that happens to a request; each is in the file when the call returns.

    Lines: `{"event": "opened" | "frame" | "end", "number", "at", "model", "user", "reply_id", "frames", "units",
    "reported", "usage", "ended", "left_at"}`, counts as inclusive totals or null.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, event: Event, served: Served, at: float) -> None:
        """Append one line about `served` as it stands."""
        asked = served.request.json
        metadata = asked.get("metadata")
        user = asked.get("user", metadata.get("user_id") if isinstance(metadata, dict) else None)
        line = {
            "event": event,
            "number": served.number,
            "at": at,
            "model": served.model,
            "user": user if isinstance(user, str) else None,
            "reply_id": served.reply_id,
            "frames": served.frames_written,
            "units": served.units,
            "reported": _counts(served.reported),
            "usage": _counts(served.usage),
            "ended": served.ended,
            "left_at": served.left_at,
        }
        os.write(self._file, compact_json(line) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _counts(counts: Counts | None) -> dict[str, Any] | None:
    return None if counts is None else asdict(counts)


def note_frame(served: Served, frame: Send) -> None:
    """Put a wholly written frame on the record."""
    served.frames_written += 1
    served.units += frame.units
    served.pieces.append(frame.text)
    if frame.reported is not None:
        served.reported = frame.reported
