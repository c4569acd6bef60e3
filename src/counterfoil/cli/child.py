"""A gateway as a child process, for commands that need one of their own: started, asked for its address, ended.

Rule: whoever leaves the `with` block leaves no process behind, however the block ends.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from counterfoil.cli.failure import CommandError, ExitCode

__all__ = ["GatewayChild", "ended_by_signals", "gateway_child"]

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0
_SAID: Final = 2000


class GatewayChild:
    """A running `counterfoil serve`. `url` is the base URL for clients."""

    def __init__(self, config: Path, data_dir: Path, environ: Mapping[str, str] | None = None) -> None:
        self._log = data_dir / "gateway.log"
        command = [sys.executable, "-m", "counterfoil", "serve", "--port", "0", "--log-level", "warning"]
        command += ["--config", str(config), "--data-dir", str(data_dir)]
        with self._log.open("ab") as log:
            # Our own interpreter and our own module; the two paths are the caller's.
            self._process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**(os.environ if environ is None else environ), "PYTHONUNBUFFERED": "1"},
            )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self.url = self._wait_for_url()
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Let it end by itself; kill it if it does not."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was opened as a pipe
        with self._process.stdout as out:
            for line in out:
                self._lines.put(line.decode("utf-8", "replace"))
        self._lines.put(None)

    def _wait_for_url(self) -> str:
        while True:
            try:
                line = self._lines.get(timeout=_START_SECONDS)
            except queue.Empty:
                raise self._failed(f"did not start within {_START_SECONDS:.0f} seconds") from None
            if line is None:
                raise self._failed("ended before it listened")
            word, _, rest = line.partition(" ")
            if word == "url":
                return rest.strip()

    def _failed(self, how: str) -> CommandError:
        said = self._log.read_bytes()[-_SAID:].decode("utf-8", "replace").strip()
        return CommandError(f"The gateway {how}.", said, code=ExitCode.UNREACHABLE)


@contextlib.contextmanager
def gateway_child(config: Path, data_dir: Path, environ: Mapping[str, str] | None = None) -> Iterator[GatewayChild]:
    """A gateway for as long as the block lasts. Raises CommandError when it does not start."""
    child = GatewayChild(config, data_dir, environ)
    try:
        yield child
    finally:
        child.stop()


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, so that everything it started is stopped."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
