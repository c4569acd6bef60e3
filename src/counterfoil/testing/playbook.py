"""What the playback provider is told to do, as data.

Rule 1. Pure values: no socket, clock, file or random number in here.
Rule 2. One `Send` is one frame of the reply, and it says what it stands for: how many units of output it delivers, the
reply text in it, and what the provider has reported once it is out. The list of what was served is built from these
and from nothing else, so it owes nothing to the decoders under test.
Rule 3. Counts are inclusive totals (cache in input, reasoning in output), the form in which books are compared.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

__all__ = [
    "REPLY_NUMBER",
    "Answer",
    "Chooser",
    "Counts",
    "Cut",
    "Delivery",
    "Framing",
    "Head",
    "Hold",
    "Nothing",
    "Pause",
    "Request",
    "Reset",
    "Script",
    "Send",
    "Stall",
    "Step",
    "compact_json",
    "reply_number",
]

Framing: TypeAlias = Literal["length", "chunked", "close"]
Delivery: TypeAlias = Literal["as_is", "bytes", "whole"]

REPLY_NUMBER = b"play-0000000000"
"""Wherever a frame holds these bytes, the provider writes the number of the served request instead (same width), so
that a ledger entry's provider id finds its line in the list of what was served."""


def reply_number(number: int) -> str:
    """The text that stands for request `number` in the ids of its reply; as wide as `REPLY_NUMBER`."""
    return f"play-{number:010d}"


def compact_json(value: object) -> bytes:
    """JSON as providers write it: UTF-8, no spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Tokens as inclusive totals: cache in `input`, reasoning in `output`. None means that nobody said."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None

    @property
    def total(self) -> int | None:
        """Input plus output, where both are known."""
        return None if self.input is None or self.output is None else self.input + self.output


@dataclass(frozen=True, slots=True)
class Send:
    """One frame: its bytes, and what is true once they are out.

    `units` are units of output (one per text piece or tool-argument piece). `reported` is what *all* reports up to and
    including this frame amount to; None where this frame adds nothing to what was said before.
    """

    data: bytes
    units: int = 0
    text: str = ""
    reported: Counts | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """Send the status line and headers now. Without this step they go out with the first `Send`."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Send nothing for so many seconds; a client that leaves meanwhile is noticed at once."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait until the test calls `Playback.release(name)`: the way to stand still at a known place without sleeping."""

    name: str


@dataclass(frozen=True, slots=True)
class Stall:
    """Send nothing more until the client leaves or the provider stops."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection cleanly (FIN) here, whatever the framing still owes."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Close the connection with RST (SO_LINGER 0)."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """Close without having written a byte, not even a status line."""


Step: TypeAlias = Send | Head | Pause | Hold | Stall | Cut | Reset | Nothing


@dataclass(frozen=True)
class Script:
    """The answer to one request.

    `usage` is the truth of the books: the tokens the whole reply costs, reported or not. `length` overrides the
    content-length that `framing="length"` announces (by default the bytes of all frames). `idle_close` closes the
    connection after a whole reply without having announced it, as servers do to idle connections.
    `frame` numbers in the methods count `Send` steps from 0.
    """

    steps: tuple[Step, ...] = ()
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("content-type", "text/event-stream; charset=utf-8"),)
    framing: Framing = "chunked"
    delivery: Delivery = "as_is"
    usage: Counts | None = None
    length: int | None = None
    idle_close: bool = False
    name: str = ""

    @cached_property
    def frames(self) -> tuple[Send, ...]:
        """The `Send` steps in order."""
        return tuple(step for step in self.steps if isinstance(step, Send))

    @cached_property
    def body(self) -> bytes:
        """All bytes the script would send, as the framing would carry them."""
        return b"".join(frame.data for frame in self.frames)

    @property
    def text(self) -> str:
        """All reply text the script would deliver."""
        return "".join(frame.text for frame in self.frames)

    @property
    def units(self) -> int:
        """All units of output the script would deliver."""
        return sum(frame.units for frame in self.frames)

    @property
    def announced_length(self) -> int:
        """The content-length of `framing="length"`."""
        return len(self.body) if self.length is None else self.length

    def then_at(self, frame: int, *steps: Step) -> "Script":
        """The first `frame` frames whole, then `steps` instead of the rest; the announced length stays."""
        return replace(self, steps=(*self.steps[: self._place(frame)], *steps), length=self.announced_length)

    def insert_at(self, frame: int, *steps: Step) -> "Script":
        """The same script with `steps` put in before frame `frame` (after the last one, if there are just as many)."""
        place = self._place(frame)
        return replace(self, steps=(*self.steps[:place], *steps, *self.steps[place:]))

    def cut_at(self, frame: int) -> "Script":
        """FIN after the first `frame` frames, without the end that the framing owes."""
        return self.then_at(frame, Cut())

    def reset_at(self, frame: int) -> "Script":
        """RST after the first `frame` frames."""
        return self.then_at(frame, Reset())

    def stall_at(self, frame: int) -> "Script":
        """Silence after the head and the first `frame` frames."""
        return self.then_at(frame, *(() if frame else (Head(),)), Stall())

    def hold_at(self, frame: int, name: str) -> "Script":
        """Wait for `release(name)` before frame `frame`, then go on."""
        return self.insert_at(frame, Hold(name))

    def half_frame_at(self, frame: int, *, clean: bool = False) -> "Script":
        """The first `frame` frames, half of the next, and FIN; with `clean` the HTTP body ends as it should."""
        half = self.frames[frame].data
        steps: tuple[Step, ...] = (Send(half[: len(half) // 2]), *(() if clean else (Cut(),)))
        script = self.then_at(frame, *steps)
        return replace(script, length=None) if clean else script

    def paced(self, seconds: float) -> "Script":
        """A pause before each frame but the first."""
        steps: list[Step] = []
        first = True
        for step in self.steps:
            if isinstance(step, Send):
                if not first:
                    steps.append(Pause(seconds))
                first = False
            steps.append(step)
        return replace(self, steps=tuple(steps))

    def delivered(self, delivery: Delivery) -> "Script":
        """`as_is`: a write per frame; `bytes`: every byte a TCP segment; `whole`: head and frames in one write."""
        return replace(self, delivery=delivery)

    def framed(self, framing: Framing) -> "Script":
        """The same frames with a content-length, chunked, or ended by closing the connection."""
        return replace(self, framing=framing)

    def with_headers(self, **headers: str) -> "Script":
        """More headers; underscores in names become hyphens, and a name already there is replaced."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        kept = tuple((name, value) for name, value in self.headers if name not in named)
        return replace(self, headers=(*kept, *named.items()))

    def _place(self, frame: int) -> int:
        places = [place for place, step in enumerate(self.steps) if isinstance(step, Send)]
        if not 0 <= frame <= len(places):
            raise IndexError(f"frame {frame} of a script with {len(places)} frames")
        return places[frame] if frame < len(places) else len(self.steps)


@dataclass(frozen=True)
class Request:
    """One request as the provider read it. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty where it is not one."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def model(self) -> str:
        """The model the client asked for, or the empty string."""
        model = self.json.get("model")
        return model if isinstance(model, str) else ""

    @property
    def stream(self) -> bool:
        """Whether the client asked for a stream."""
        return self.json.get("stream") is True

    @property
    def asks_usage(self) -> bool:
        """Whether the client asked for usage in the stream (`stream_options.include_usage`)."""
        options = self.json.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True


Chooser: TypeAlias = Callable[[Request], Script]
Answer: TypeAlias = Script | Chooser
