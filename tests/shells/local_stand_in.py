"""A child without a model that keeps the same bargain with its parent as the real one, and misbehaves as it is told.

`local_stand_in.py HOW DIRECTORY`: each start leaves one file in DIRECTORY, named by its process id.
HOW is one of: works, dies, hangs, deaf (hangs, and does not hear its parent hang up), babbles (an answer that is not
JSON). A ready one that is asked for /blurt writes the text of a request and a crash to standard error, and dies.
"""

import http.server
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from counterfoil.local.child import _die_with_parent

SECRET = "the prompt of a user"


class _Handler(http.server.BaseHTTPRequestHandler):
    healthy_after = 2
    asked = 0

    def do_GET(self) -> None:
        if self.path == "/blurt":
            os.write(2, f"error parsing grammar: {SECRET}\nFatal Python error: Aborted\n{SECRET}\n".encode())
            os._exit(3)
        _Handler.asked += 1
        ready = _Handler.asked > self.healthy_after
        self.send_response(200 if ready else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
        """Quiet."""


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def main() -> None:
    how, directory = sys.argv[1], Path(sys.argv[2])
    _die_with_parent()
    settings = json.loads(os.read(0, 4096))
    (directory / str(os.getpid())).write_text(settings["key"])
    if how == "dies":
        sys.stderr.write("no memory left for the tensors\n")
        sys.exit(7)
    if how == "babbles":
        sys.stdout.write("hello\n")
        sys.stdout.flush()
    if how != "deaf":
        threading.Thread(target=_watch, daemon=True).start()
    if how in {"hangs", "deaf", "babbles"}:
        threading.Event().wait()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    sys.stdout.write(json.dumps({"port": server.server_port}) + "\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
