"""The process that holds the model. This file is a program, started by `engine.py` and by nobody else.

Rules of this room:
1. It dies with its parent. On Linux the kernel sees to it (PR_SET_PDEATHSIG); everywhere, standard input is a pipe that
   only the parent holds, and its end is ours. llama.cpp keeps the interpreter's lock while it loads a model, so without
   the kernel's help an orphan may finish loading before it sees the end of the pipe.
2. What it must know comes as one line of JSON on standard input, the key too: arguments can be read by every user.
3. It prints exactly one line on standard output, when the model is loaded: {"port": N}. All else goes to standard
   error.

The only place that imports xllamacpp, which maps 100 MB.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import urllib.parse
from typing import Any

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1  # prctl(2)
_SETTINGS_LIMIT = 64 << 10
_HTTP_THREADS = 32
_CACHE_MEBIBYTES = 128
_WARNINGS = 2  # llama.cpp: 1 errors, 2 warnings, 3 information


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _read_settings() -> dict[str, Any]:
    """The first line of standard input. Read without a buffer, so that the watcher sees every byte that follows."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 4096)
        if not piece or len(line) > _SETTINGS_LIMIT:
            os._exit(0)
        line += piece
    settings: dict[str, Any] = json.loads(line)
    return settings


def _watch_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def _serve(settings: dict[str, Any]) -> tuple[object, int]:
    """Start the server; returns it (it stops when collected) and its port once the model is loaded."""
    import xllamacpp  # here and not above: the parent must be watched before 100 MB are mapped

    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.model_alias = {settings["alias"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings["key"]]
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["context"] * settings["slots"]
    params.cpuparams.n_threads = settings["threads"]
    params.n_threads_http = _HTTP_THREADS
    params.cache_ram_mib = _CACHE_MEBIBYTES
    params.verbosity = _WARNINGS
    params.offline = True
    params.ui = False
    params.endpoint_slots = False
    params.cors_origins = ""
    params.fit_params = False  # a second pass over the file, to fit a graphics card; doubles the time to load
    server = xllamacpp.Server(params)
    port = urllib.parse.urlsplit(server.listening_address).port
    if not isinstance(port, int):
        raise TypeError("the engine did not say where it listens")
    return server, port


def main() -> None:
    """Runs until the parent goes. Exit code 1: the model could not be loaded; standard error says why."""
    _die_with_parent()
    # The engine's own printing must not reach the line that the parent waits for.
    answer = os.dup(1)
    os.dup2(2, 1)
    settings = _read_settings()
    # The parent may have died before prctl was called; then somebody else is our parent by now.
    if os.getppid() != settings["parent"]:
        os._exit(0)
    watcher = threading.Thread(target=_watch_parent, name="parent-watcher", daemon=True)
    watcher.start()
    try:
        server, port = _serve(settings)
    except (RuntimeError, TypeError, ImportError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
        os._exit(1)
    os.write(answer, json.dumps({"port": port}).encode() + b"\n")
    watcher.join()
    del server


if __name__ == "__main__":
    main()
