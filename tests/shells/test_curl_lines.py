"""Promise: every curl line in the README and the docs runs as it is written, against port 4000.

The gateway is started as `docs/streaming-usage.md` says, with the configuration that stands there: once with a played
provider in the place of the embedded model, and once as written, where that model is installed. Only a line that calls
an invented provider (a host under `.example`, RFC 2606) is left alone: nobody answers there.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from counterfoil.testing import Counts, Playback, running
from tests.shells.clients import told

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "streaming-usage.md"
EMBEDDED = "{provider: local, model: smollm2-135m-instruct}"
SECONDS = 100.0

pytestmark = [
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
    pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed"),
]


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a language in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def curl_lines() -> list[Any]:
    """Every bash block that begins with curl, as a parameter that names its page."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [
        pytest.param(block, id=f"{page.relative_to(ROOT)}-{place}")
        for page in pages
        for place, block in enumerate(blocks(page, "bash"))
        if block.startswith("curl ") and not re.search(r"https://[a-z.]+\.example/", block)
    ]


@dataclass
class Port4000:
    """A gateway where the docs say it is."""

    directory: Path
    provider: Playback | None

    @property
    def environment(self) -> dict[str, str]:
        """A shell in which the venv is active, and the books are the test's own."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**os.environ, "PATH": path, "COUNTERFOIL_DATA_DIR": str(self.directory / "data")}

    def shell(self, command: str) -> str:
        """Run a line in bash, in the directory of the configuration; what it prints."""
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.directory, env=self.environment, capture_output=True, timeout=SECONDS
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode()

    def entries(self) -> list[dict[str, Any]]:
        """The ledger, as the command line shows it."""
        lines = self.shell("counterfoil entries --config counterfoil.yaml --json").splitlines()
        return [json.loads(line) for line in lines]

    def closed_since(self, before: set[str]) -> list[dict[str, Any]]:
        """The entries that are new and closed; the database has them soon after the journal."""
        until = time.monotonic() + 10
        while True:
            new = [entry for entry in self.entries() if entry["attempt"] not in before]
            if (new and all(entry["exit"] != "open" for entry in new)) or time.monotonic() > until:
                return new


def is_taken(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def weights_installed() -> bool:
    """Whether the embedded model can run here."""
    try:
        import xllamacpp  # noqa: F401 - only whether it is there

        from counterfoil.local import installed
    except ImportError:
        return False
    return installed() is not None


@contextlib.contextmanager
def serving(gateway: Port4000) -> Iterator[Port4000]:
    """The page's own `counterfoil serve` line, running until the block ends."""
    (line,) = [block for block in blocks(PAGE, "bash") if block.startswith("counterfoil serve")]
    with (gateway.directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"], cwd=gateway.directory, env=gateway.environment, stdout=log, stderr=log
        )
    try:
        until = time.monotonic() + 30
        while not is_ready():
            assert process.poll() is None, (gateway.directory / "log").read_text()
            assert time.monotonic() < until, "the gateway did not become ready"
            time.sleep(0.05)
        yield gateway
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(30) == 0, (gateway.directory / "log").read_text()
        finally:
            process.kill()
            process.wait(5)


def is_ready() -> bool:
    """Whether a gateway on port 4000 takes requests."""
    connection = http.client.HTTPConnection("127.0.0.1", 4000, timeout=1)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@pytest.fixture(scope="module", params=["played", pytest.param("embedded", marks=pytest.mark.local_model)])
def port_4000(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port4000]:
    if is_taken(4000):
        pytest.skip("port 4000 is taken on this machine")
    (written,) = [block for block in blocks(PAGE, "yaml") if "bedrock-claude-sonnet-4-6" in block]
    assert EMBEDDED in written
    directory = tmp_path_factory.mktemp("docs")
    with contextlib.ExitStack() as stack:
        provider = None
        if request.param == "played":
            provider = stack.enter_context(running())
            played = f'{{provider: playhouse, model: smollm2-135m-instruct, base_url: "{provider.base_url}"}}'
            written = written.replace(EMBEDDED, played)
        elif not weights_installed():
            pytest.skip("the weights of the embedded model are not installed (counterfoil local install)")
        (directory / "counterfoil.yaml").write_text(written, encoding="utf-8")
        yield stack.enter_context(serving(Port4000(directory, provider)))


def test_there_are_curl_lines_to_run() -> None:
    assert len(curl_lines()) >= 2
    assert any("bedrock-claude-sonnet-4-6" in parameter.values[0] for parameter in curl_lines())


@pytest.mark.parametrize("command", curl_lines())
def test_a_curl_line_runs_as_written_and_its_usage_is_the_ledgers(port_4000: Port4000, command: str) -> None:
    assert "http://127.0.0.1:4000/" in command
    before = {entry["attempt"] for entry in port_4000.entries()}
    printed = port_4000.shell(command)
    if '"stream": true' in command:
        lines = [line for line in printed.splitlines() if line]
        *_, last, end = lines
        assert end == "data: [DONE]"
        chunk = json.loads(last.removeprefix("data: "))
        assert chunk["choices"] == []
        assert '"choices":[]' in last
        usage = chunk["usage"]
        assert sum(json.loads(line[6:])["usage"] is not None for line in lines[:-1]) == 1
    else:
        usage = json.loads(printed)["usage"]
    (entry,) = port_4000.closed_since(before)
    assert entry["exit"] == "completed"
    counts = told(usage)
    assert (entry["usage"]["input_tokens"], entry["usage"]["output_tokens"]) == (counts.input, counts.output)
    assert "estimated" not in usage
    if port_4000.provider is not None:
        reported = port_4000.provider.served[-1].reported or Counts()
        assert (reported.input, reported.output) == (counts.input, counts.output)
