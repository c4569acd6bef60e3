"""The playback provider as a process of its own: `python -m counterfoil.testing.provider --port N --log FILE`.

Rule 1. What it serves is chosen by the request's model, from `CATALOGUE`; an unknown model gets an ordinary reply.
Rule 2. The log has a line for everything that happened before anything that followed from it, so that a test which
kills another process can compare the books with it.

It prints one line of JSON, `{"base_url", "port", "pid"}`, when it listens, and ends on SIGTERM, SIGINT, or the end of
its standard input where `--until-eof` is given (so that it cannot outlive the test that started it).
"""

import argparse
import asyncio
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from counterfoil.testing.catalogue import CATALOGUE
from counterfoil.testing.playback import Playback, running
from counterfoil.testing.playbook import compact_json

__all__ = ["Playback", "main", "running"]


async def _serve(port: int, log: Path | None, *, until_eof: bool) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    if until_eof:
        threading.Thread(target=_watch_input, args=(loop, over), daemon=True).start()
    async with Playback(models=CATALOGUE, port=port, log=log) as provider:
        ready = {"base_url": provider.base_url, "port": provider.port, "pid": os.getpid()}
        sys.stdout.write(compact_json(ready).decode() + "\n")
        sys.stdout.flush()
        await over.wait()


def _watch_input(loop: asyncio.AbstractEventLoop, over: asyncio.Event) -> None:
    while os.read(0, 4096):
        pass
    loop.call_soon_threadsafe(over.set)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop; returns the exit code 0."""
    parser = argparse.ArgumentParser(
        prog="python -m counterfoil.testing.provider",
        description="Plays back invented replies as an LLM provider on a loopback port.",
        epilog="Models: " + ", ".join(CATALOGUE),
    )
    parser.add_argument("--port", type=int, default=0, help="the port to listen on (default: any free one)")
    parser.add_argument("--log", type=Path, help="append a JSON line for everything that happens to a request")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input does")
    given = parser.parse_args(arguments)
    asyncio.run(_serve(given.port, given.log, until_eof=given.until_eof))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
