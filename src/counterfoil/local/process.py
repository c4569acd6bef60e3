"""One run of the model's process, seen from its parent: started, ready, ended, and what it said about its end.

Rules of this room:
1. The process gets no socket, no terminal and no secret of ours: own session, own environment, key on standard input.
2. What it writes to standard error is kept whole only until it is ready: no request can have reached it before.
   llama.cpp prints pieces of requests with its warnings (a bad grammar, broken JSON), so afterwards only known shapes
   of a crash are kept.
3. All that is kept is bounded.
"""

import collections
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

__all__ = ["CHILD_COMMAND", "Address", "Process"]

# -P: a json.py in the directory the user happens to stand in must not become part of the child. A path and not
# `-m counterfoil.local.child`: that would import this package first, asyncio and ssl with it, for 100 ms and nothing.
CHILD_COMMAND: Final = (sys.executable, "-P", "-X", "faulthandler", str(Path(__file__).with_name("child.py")))

_KEPT_LINES: Final = 30
_LINE_BYTES: Final = 500
_TOLD_LINES: Final = 5
_HEALTH_SECONDS: Final = 0.05
_KILLED_SECONDS: Final = 5.0

# The provider keys in our environment are none of the child's business; what finds Python, libraries and devices is.
_PASSED_ON: Final = re.compile(
    r"(PATH|HOME|USER|LANG|TZ|TMPDIR|TEMP|TMP|SYSTEMROOT|VIRTUAL_ENV|(LC_|LD_|DYLD_|PYTHON|GGML_|CUDA_|HIP_|ROCR_|VK_|OMP_).*)"
)
_CRASHES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"^Fatal Python error: (Segmentation fault|Aborted|Bus error|Illegal instruction|Floating point exception)",
        r"^terminate called after throwing an instance of '[\w:]{1,80}'",
        r"^[\w./+-]{1,200}\.(c|cc|cpp|cu|h|hpp|m|mm):\d{1,6}: GGML_ASSERT",
        r"^(MemoryError|std::bad_alloc)$",
    )
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the model answers: `base_url` ends in /v1, `key` is the bearer's. Both change with every start."""

    base_url: str
    key: str = field(repr=False)


class Process:
    """A started child. Raises OSError where it cannot be started.

    Call from a thread that lives as long as the child should: on Linux the kernel kills the child when the thread that
    started it ends, not when the whole process does (prctl(2), PR_SET_PDEATHSIG).
    """

    def __init__(self, settings: Mapping[str, Any], key: str, command: Sequence[str] = CHILD_COMMAND) -> None:
        self._key = key
        self._ready = False
        self._lines: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        self._popen = subprocess.Popen(  # noqa: S603 -- our own interpreter, fixed arguments
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read_errors, name="counterfoil-model-errors", daemon=True)
        self._reader.start()
        line = json.dumps({**settings, "parent": os.getpid(), "key": key}).encode() + b"\n"
        with contextlib.suppress(OSError):  # it died already; waiting for it will tell
            _pipe(self._popen.stdin).write(line)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def await_ready(self, limit_seconds: float, stop: Callable[[], bool]) -> Address | None:
        """Blocks until the model answers its health check. None where the process ended instead, or the limit came."""
        deadline = time.monotonic() + limit_seconds
        timer = threading.Timer(limit_seconds, self.kill)
        timer.daemon = True
        timer.start()
        try:
            answer = _pipe(self._popen.stdout).readline(256)
            if not answer.endswith(b"\n"):
                return None
            port = int(json.loads(answer)["port"])
            while not stop() and time.monotonic() < deadline and self._popen.poll() is None:
                if _healthy(port):
                    self._ready = True
                    return Address(f"http://127.0.0.1:{port}/v1", self._key)
                time.sleep(_HEALTH_SECONDS)
        except (ValueError, KeyError, TypeError):
            self._lines.append("the model's process gave an answer that is not one line of JSON with a port")
        finally:
            timer.cancel()
        self.kill()
        return None

    def wait(self) -> None:
        """Blocks until the process has ended and all it wrote has been read, then lets go of its pipes."""
        self._popen.wait()
        self._reader.join(_KILLED_SECONDS)
        for pipe in (self._popen.stdin, self._popen.stdout):
            _pipe(pipe).close()

    def hang_up(self) -> None:
        """Ask it to end: it does so when its standard input ends. Safe from any thread, also when it has ended."""
        with contextlib.suppress(OSError):
            _pipe(self._popen.stdin).close()

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            self._popen.kill()

    def obituary(self) -> str:
        """How it ended and the last lines it wrote, in one line, without any text of a request."""
        code = self._popen.returncode
        how = f"it ended with code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                how = f"it was ended by {signal.Signals(-code).name}"
        last = " | ".join(list(self._lines)[-_TOLD_LINES:])
        return f"{how}; its last words: {last}" if last else how

    def _read_errors(self) -> None:
        errors = _pipe(self._popen.stderr)
        with contextlib.suppress(OSError, ValueError), errors:
            rest = b""
            while piece := errors.read(4096):
                *lines, rest = (rest + piece).split(b"\n")
                rest = rest[-_LINE_BYTES:]
                for line in lines:
                    self._keep(line)
            self._keep(rest)

    def _keep(self, line: bytes) -> None:
        text = line[:_LINE_BYTES].decode("utf-8", "replace").strip()
        if self._ready:
            text = next((found.group() for pattern in _CRASHES if (found := pattern.match(text))), "")
        if text:
            self._lines.append(text)


def _healthy(port: int) -> bool:
    """Whether the server answers 200; while it loads it answers 503, and before that nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    """The pipe, which is always there: all three were asked for."""
    if pipe is None:
        raise ValueError("the child was started without its pipes")
    return pipe
