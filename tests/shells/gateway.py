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
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uvicorn.loops.auto import auto_loop_factory

from counterfoil.ledger.entry import Entry
from counterfoil.server.app import Gateway
from counterfoil.server.limits import Patience
from counterfoil.server.run import Service
from counterfoil.server.setup import load_setup
from counterfoil.stores.books import LedgerBooks

__all__ = ["HELLO", "SECONDS", "Answer", "RunningGateway", "gateway", "written"]

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


@dataclass
class RunningGateway:
    """A gateway that answers."""

    service: Service
    config_path: Path
    thread: threading.Thread
    exit_code: list[int] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.service.port

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

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

    def stop(self) -> int:
        """Drain, end, and the exit code."""
        self.service.stop()
        self.thread.join(SECONDS)
        assert not self.thread.is_alive(), "the gateway did not end"
        return self.exit_code[0]


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
) -> Iterator[RunningGateway]:
    """A running gateway; `text` is the whole configuration, else it is written from `models` and `more`."""
    config = directory / "counterfoil.yaml"
    config.write_text(written(models or {}, more) if text is None else text)
    service = Service(
        lambda: load_setup(config, data_dir=directory, environ={}), directory / "ledger.db", patience=patience
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
