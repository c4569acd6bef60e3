"""Plays one script on one connection, and notes what went out.

Rule 1. Whatever the script does not say is not sent: no date, no server name, no keep-alive line.
Rule 2. A frame is noted after its last byte was taken by the operating system, and before the next step begins.
"""

import asyncio
import contextlib
import http
from collections.abc import Callable
from typing import assert_never

from counterfoil.testing.link import ClientLeftError, Link
from counterfoil.testing.playbook import (
    REPLY_NUMBER,
    Cut,
    Head,
    Hold,
    Nothing,
    Pause,
    Reset,
    Script,
    Send,
    Stall,
    reply_number,
)
from counterfoil.testing.served import Ended, Served

__all__ = ["head_of", "play"]


def head_of(script: Script) -> bytes:
    """The status line and headers of a script, blank line included."""
    try:
        phrase = http.HTTPStatus(script.status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {script.status} {phrase}", *(f"{name}: {value}" for name, value in script.headers)]
    match script.framing:
        case "length":
            lines.append(f"content-length: {script.announced_length}")
        case "chunked":
            lines.append("transfer-encoding: chunked")
        case "close":
            lines.append("connection: close")
        case _:
            assert_never(script.framing)
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class _Sender:
    """Puts head and frames on the wire in the script's delivery."""

    def __init__(self, link: Link, served: Served, on_frame: Callable[[Served, Send], None]) -> None:
        self._link = link
        self._served = served
        self._script = served.script
        self._on_frame = on_frame
        self._waiting: list[Send] = []
        self._head: bytes | None = head_of(served.script)

    async def frame(self, frame: Send) -> None:
        self._waiting.append(frame)
        if self._script.delivery != "whole":
            await self.flush()

    async def head(self) -> None:
        if self._head is not None:
            await self._write(self._take_head())

    async def flush(self) -> None:
        """Write what waits: the head, if it is still owed, and the frames."""
        if not self._waiting:
            return
        frames, self._waiting = self._waiting, []
        stamp = reply_number(self._served.number).encode()
        data = b"".join(frame.data for frame in frames).replace(REPLY_NUMBER, stamp)
        if self._script.framing == "chunked" and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        await self._write(self._take_head() + data)
        for frame in frames:
            self._on_frame(self._served, frame)

    async def end(self) -> None:
        """What the framing owes after the last frame."""
        await self.flush()
        # A client that has every frame may leave before the last chunk; it has missed nothing.
        owed = contextlib.nullcontext() if self._head else contextlib.suppress(ClientLeftError)
        with owed:
            await self._write(self._take_head() + (b"0\r\n\r\n" if self._script.framing == "chunked" else b""))

    def _take_head(self) -> bytes:
        head, self._head = self._head or b"", None
        return head

    async def _write(self, data: bytes) -> None:
        if self._script.delivery == "bytes":
            for place in range(len(data)):
                await self._link.write(data[place : place + 1])
        elif data:
            await self._link.write(data)


async def play(
    link: Link,
    served: Served,
    gate: Callable[[str], asyncio.Event],
    on_frame: Callable[[Served, Send], None],
    on_wait: Callable[[Served, str | None], None],
) -> Ended:
    """Play `served.script` to its end, and say how it ended; `ClientLeftError` where the client left first.

    `gate` gives the event behind a `Hold`'s name; `on_frame` hears of each frame wholly written, `on_wait` where the
    play stands still (None: it goes on).
    """
    sender = _Sender(link, served, on_frame)
    for step in served.script.steps:
        if isinstance(step, Send):
            await sender.frame(step)
            continue
        await sender.flush()
        match step:
            case Head():
                await sender.head()
            case Pause(seconds):
                await link.unless_gone(asyncio.sleep(seconds))
            case Hold(name):
                on_wait(served, name)
                await link.unless_gone(gate(name).wait())
                on_wait(served, None)
            case Stall():
                served.stalled = True
                on_wait(served, "stall")
                await link.unless_gone(asyncio.Event().wait())
            case Cut():
                link.close()
                return "cut"
            case Reset():
                link.reset()
                return "reset"
            case Nothing():
                link.close()
                return "nothing"
            case _:
                assert_never(step)
    await sender.end()
    if served.script.framing == "close" or served.script.idle_close:
        link.close()
    return "completed"
