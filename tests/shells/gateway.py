"""A real gateway for tests: in this process on a thread of its own, on a free port, with books in a directory.

with gateway(tmp_path, models={"m": provider.base_url}) as running:
    reply = running.post({"model": "m", "messages": [...]})
    assert running.entries()[0].exit is Exit.COMPLETED
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uvicorn.loops.auto import auto_loop_factory

from counterfoil.ledger.entry import Entry
from counterfoil.server.gateway import Gateway
from counterfoil.server.limits import Patience
from counterfoil.server.run import Service, serve
from counterfoil.server.setup import load_setup
from counterfoil.stores.books import LedgerBooks
from counterfoil.stores.sqlite import SqliteStore

__all__ = [
    "HELLO",
    "SECONDS",
    "Answer",
    "Calls",
    "GatewayProcess",
    "RunningGateway",
    "gateway",
    "gateway_process",
    "written",
]

SECONDS = 15.0
"""Bounds every wait of a test."""
HELLO = [{"role": "user", "content": "Good morning"}]


@dataclass(frozen=True)
class Answer:
    """One whole response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object, once its shape is that of the chat dialect."""
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code", "fault"}
        assert isinstance(error["message"], str)
        assert isinstance(error["type"], str)
        assert self.headers["content-type"] == "application/json"
        found: dict[str, Any] = error
        return found

    @property
    def frames(self) -> list[str]:
        """The data of each frame of a stream."""
        blocks = self.body.decode().split("\n\n")
        assert blocks[-1] == "", "the stream ends in the middle of a frame"
        return [block.removeprefix("data: ") for block in blocks[:-1]]

    @property
    def text(self) -> str:
        """The reply's text, of a stream."""
        chunks = [json.loads(frame) for frame in self.frames if frame != "[DONE]"]
        return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))


class Calls:
    """How a test calls a gateway, wherever it runs."""

    @property
    def port(self) -> int:
        raise NotImplementedError

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own, answered whole."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, None, {name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, body: object, path: str = "/v1/chat/completions", **headers: str) -> Answer:
        """POST `body`, as JSON unless it is bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return self.call("POST", path, data, named)

    def chat(self, model: str = "m", **more: Any) -> Answer:
        """One chat; `stream=True` and whatever else the request should hold."""
        return self.post({"model": model, "messages": HELLO, **more})


@dataclass
class RunningGateway(Calls):
    """A gateway in this process that answers."""

    service: Service
    config_path: Path
    thread: threading.Thread
    exit_code: list[int] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.service.port

    @property
    def gateway(self) -> Gateway:
        assert self.service.gateway is not None
        return self.service.gateway

    @property
    def books(self) -> LedgerBooks:
        assert self.service.books is not None
        return self.service.books

    def entries(self) -> list[Entry]:
        """All entries closed so far, oldest first."""
        assert self.books.flush(SECONDS)
        return list(self.books.store.entries())

    def entry(self) -> Entry:
        """The only entry."""
        (entry,) = self.entries()
        return entry

    def stop(self) -> int:
        """Drain, end, and the exit code."""
        self.service.stop()
        self.thread.join(SECONDS)
        assert not self.thread.is_alive(), "the gateway did not end"
        return self.exit_code[0]


@dataclass
class GatewayProcess(Calls):
    """A gateway in a process of its own."""

    process: subprocess.Popen[str]
    ready_port: int
    config_path: Path
    ledger: Path

    @property
    def port(self) -> int:
        return self.ready_port

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """The exit code."""
        return self.process.wait(SECONDS)

    def entries(self) -> list[Entry]:
        """All entries in its database, oldest first, once it has ended."""
        assert self.process.poll() is not None
        store = SqliteStore(self.ledger)
        try:
            return list(store.entries())
        finally:
            store.close()


@contextlib.contextmanager
def gateway_process(directory: Path, models: Mapping[str, str], more: str = "") -> Iterator[GatewayProcess]:
    """A gateway in a process of its own, with signals; its log is `directory / "log"`."""
    config, ledger = directory / "counterfoil.yaml", directory / "ledger.db"
    config.write_text(written(models, more))
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.shells.gateway", str(config), str(ledger)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=Path(__file__).parents[2],
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (directory / "log").read_text()
        yield GatewayProcess(process, int(line), config, ledger)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(SECONDS)
        if process.stdout is not None:
            process.stdout.close()


def written(models: Mapping[str, str], more: str = "") -> str:
    """A configuration: each model at its base URL, and more YAML."""
    lines = [
        f'  {json.dumps(name)}: [{{provider: playhouse, model: {json.dumps(name)}, base_url: "{url}", api_key: play}}]'
        for name, url in models.items()
    ]
    return "\n".join(["models:", *lines, "listen: {port: 0, drain: 5}", more, ""])


@contextlib.contextmanager
def gateway(
    directory: Path,
    models: Mapping[str, str] | None = None,
    more: str = "retries: {attempts: 1}",
    *,
    text: str | None = None,
    patience: Patience | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[RunningGateway]:
    """A running gateway; `text` is the whole configuration, else it is written from `models` and `more`.

    `environ`: where it looks for secrets and addresses; by default there are none.
    """
    config = directory / "counterfoil.yaml"
    config.write_text(written(models or {}, more) if text is None else text)
    service = Service(
        lambda: load_setup(config, data_dir=directory, environ=environ or {}),
        directory / "ledger.db",
        patience=patience,
    )
    service.bind()
    ready = threading.Event()
    running = RunningGateway(service, config, threading.Thread(target=lambda: None))
    failures: list[BaseException] = []

    def live() -> None:
        try:
            with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
                running.exit_code.append(runner.run(service.run(ready.set, signals=False)))
        except BaseException as failure:
            failures.append(failure)
            raise
        finally:
            ready.set()

    running.thread = threading.Thread(target=live, name="gateway", daemon=True)
    running.thread.start()
    try:
        assert ready.wait(SECONDS)
        assert not failures, failures
        yield running
    finally:
        if running.thread.is_alive():
            service.stop()
            service.stop()
            running.thread.join(SECONDS)
        assert not running.thread.is_alive()
        assert running.exit_code == [0] or failures


def main(config: Path, ledger: Path) -> int:
    """Serve until a signal ends it; prints the port when it answers."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    service = Service(lambda: load_setup(config, environ={}), ledger)
    service.bind()
    return serve(service, lambda: print(service.port, flush=True))  # noqa: T201 - the test reads it


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), Path(sys.argv[2])))
