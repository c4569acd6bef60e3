"""Promise: every curl line in the README and the docs runs as it is written, against port 4000.

The gateway is started as a page says, with the configuration that stands there; pages without one are about that of
`docs/streaming-usage.md`. Once with a played provider in the place of the embedded model, and once as written, where
that model is installed; providers that want a key are played both times. Only a line that calls an invented provider
(a host under `.example`, RFC 2606) is left alone: nobody answers there.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from counterfoil.testing import Playback, Script, Send, running

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "streaming-usage.md"
"""Whose configuration the pages without one are about."""
FIRST_LINE = "# counterfoil.yaml\n"
EMBEDDED = "{provider: local, model: smollm2-135m-instruct}"
WANTS_KEY = re.compile(r'api_key: "\$\{\w+:-none yet\}"')
BELOW: Mapping[str, str] = {"anthropic": "", "openai": "/v1", "cohere": ""}
"""Below the played provider's origin: where each provider that is played has its paths."""
RANKING = {
    "id": "ranked",
    "results": [{"index": 1, "relevance_score": 0.75}, {"index": 0, "relevance_score": 0.25}],
    "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
}
RANKED = Script(
    steps=(Send(json.dumps(RANKING).encode()),),
    headers=(("content-type", "application/json"),),
    framing="length",
    name="ranked",
)
SECONDS = 100.0

pytestmark = [
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
    pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed"),
]


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a language in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def configuration_of(page: Path) -> Path:
    """The page whose configuration a page's lines are about."""
    return page if any(block.startswith(FIRST_LINE) for block in blocks(page, "yaml")) else PAGE


def curl_lines() -> Iterator[tuple[str, Path, str]]:
    """A name, the page of its configuration, and the line, of every bash block that begins with curl."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for place, block in enumerate(blocks(page, "bash")):
            if block.startswith("curl ") and not re.search(r"https://[a-z.]+\.example/", block):
                yield f"{page.relative_to(ROOT)}-{place}", configuration_of(page), block


def settings() -> list[Any]:
    """Every line, before the played provider and before the embedded model; those of one gateway beside each other."""
    lines = list(curl_lines())
    return [
        pytest.param(gateway, line, id=f"{name}-{gateway[1]}", marks=MARKS[gateway[1]])
        for gateway in itertools.product(sorted({page for _, page, _ in lines}), MARKS)
        for name, page, line in lines
        if page == gateway[0]
    ]


MARKS: Mapping[str, tuple[pytest.MarkDecorator, ...]] = {"played": (), "embedded": (pytest.mark.local_model,)}
"""What stands behind `small`, and the marks of tests that need it."""


@dataclass
class Port4000:
    """A gateway where the docs say it is."""

    directory: Path
    page: Path
    provider: Playback

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
    (line,) = [block for block in blocks(gateway.page, "bash") if block.startswith("counterfoil serve")]
    with (gateway.directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"], cwd=gateway.directory, env=gateway.environment, stdout=log, stderr=log
        )
    try:
        until = time.monotonic() + 30
        # The log first: another program's gateway may have come to the port before this one could.
        while b"http://127.0.0.1:4000/" not in (gateway.directory / "log").read_bytes() or not is_ready():
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


@pytest.fixture(scope="module")
def port_4000(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port4000]:
    page, way = request.param
    if is_taken(4000):
        pytest.skip("port 4000 is taken on this machine")
    if way == "embedded" and not weights_installed():
        pytest.skip("the weights of the embedded model are not installed (counterfoil local install)")
    (written,) = [block for block in blocks(page, "yaml") if block.startswith(FIRST_LINE)]
    assert EMBEDDED in written
    directory = tmp_path_factory.mktemp("docs")
    with running(Playback(models={"rerank-v3.5": RANKED})) as provider:
        if way == "played":
            played = f'{{provider: playhouse, model: smollm2-135m-instruct, base_url: "{provider.base_url}"}}'
            written = written.replace(EMBEDDED, played)
        (directory / "counterfoil.yaml").write_text(with_played(written, provider), encoding="utf-8")
        with serving(Port4000(directory, page, provider)) as gateway:
            yield gateway


def with_played(written: str, provider: Playback) -> str:
    """The configuration with every provider that wants a key at the played provider's address, given one."""
    lines = []
    for line in written.splitlines():
        if WANTS_KEY.search(line):
            (name,) = re.findall(r"provider: (\w+)", line)
            line = WANTS_KEY.sub(f'base_url: "{provider.origin}{BELOW[name]}", api_key: played-key', line)
        lines.append(line)
    return "\n".join(lines)


# ---- what each door's reply says, in the words of the ledger

Figures: TypeAlias = dict[str, int | None]
"""Some of the figures of an entry's usage."""


def events(printed: str) -> list[dict[str, Any]]:
    """The objects of an event stream, without the end mark."""
    words = [line.removeprefix("data: ") for line in printed.splitlines() if line.startswith("data: ")]
    return [json.loads(word) for word in words if word != "[DONE]"]


def hear_openai(printed: str, *, streamed: bool) -> Figures:
    """A chat or a completion: in a stream the usage is in one frame, the last, and its choices are empty."""
    if streamed:
        assert printed.rstrip().endswith("data: [DONE]")
        *_, last = frames = events(printed)
        assert last["choices"] == []
        assert '"choices":[]' in printed
        assert sum(frame["usage"] is not None for frame in frames) == 1
    else:
        last = json.loads(printed)
    usage = last["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert "estimated" not in usage
    return {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}


def hear_embeddings(printed: str, *, streamed: bool) -> Figures:
    reply = json.loads(printed)
    assert not streamed
    assert all(vector["embedding"] for vector in reply["data"])
    return {"input_tokens": reply["usage"]["prompt_tokens"]}


def hear_messages(printed: str, *, streamed: bool) -> Figures:
    """The last frame has it exactly."""
    assert streamed
    first, *_, delta, stop = events(printed)
    assert (first["type"], delta["type"], stop["type"]) == ("message_start", "message_delta", "message_stop")
    assert first["message"]["usage"]["estimated"] is True
    usage = delta["usage"]
    assert "estimated" not in usage
    kept = usage.get("cache_read_input_tokens", 0) + usage.get("cache_creation_input_tokens", 0)
    return {"input_tokens": usage["input_tokens"] + kept, "output_tokens": usage["output_tokens"]}


def hear_count(printed: str, *, streamed: bool) -> Figures:
    """To count costs nothing, so the entry has no tokens."""
    assert not streamed
    assert json.loads(printed)["input_tokens"] > 0
    return {"input_tokens": 0, "output_tokens": 0}


def hear_responses(printed: str, *, streamed: bool) -> Figures:
    assert streamed
    *before, last = events(printed)
    assert last["type"] in {"response.completed", "response.incomplete"}
    assert all(event.get("response", {}).get("usage") is None for event in before)
    usage = last["response"]["usage"]
    return {name: usage[name] for name in ("input_tokens", "output_tokens", "total_tokens")}


def hear_gemini(printed: str, *, streamed: bool) -> Figures:
    assert streamed
    last = events(printed)[-1]
    assert last["candidates"][0]["finishReason"]
    usage = last["usageMetadata"]
    output = usage["candidatesTokenCount"] + usage.get("thoughtsTokenCount", 0)
    return {
        "input_tokens": usage["promptTokenCount"],
        "output_tokens": output,
        "total_tokens": usage["totalTokenCount"],
    }


def hear_ranking(printed: str, *, streamed: bool) -> Figures:
    reply = json.loads(printed)
    assert not streamed
    assert [result["index"] for result in reply["results"]] == [1, 0]
    return {"search_units": reply["meta"]["billed_units"]["search_units"]}


def hear_receipt(printed: str, *, streamed: bool) -> Figures:
    assert not streamed
    (attempt,) = json.loads(printed)["attempts"]
    usage: Figures = attempt["entry"]["usage"]
    return usage


HEARERS: Mapping[str, Callable[..., Figures]] = {
    r"/v1/receipts/": hear_receipt,
    r"/chat/completions\b": hear_openai,
    r"/v1/completions\b": hear_openai,
    r"/v1/embeddings\b": hear_embeddings,
    r"/v1/messages/count_tokens\b": hear_count,
    r"/v1/messages\b": hear_messages,
    r"/v1/responses\b": hear_responses,
    r":streamGenerateContent\b": hear_gemini,
    r"/v2/rerank\b": hear_ranking,
}
"""By what a line asks for, the first that fits."""


def test_there_are_curl_lines_to_run() -> None:
    lines = [line for _, _, line in curl_lines()]
    assert any("bedrock-claude-sonnet-4-6" in line for line in lines)
    assert [path for path in HEARERS if not any(re.search(path, line) for line in lines)] == []


@pytest.mark.parametrize(("port_4000", "command"), settings(), indirect=["port_4000"], scope="module")
def test_a_curl_line_runs_as_written_and_its_usage_is_the_ledgers(port_4000: Port4000, command: str) -> None:
    assert "http://127.0.0.1:4000/" in command
    before, served = {entry["attempt"] for entry in port_4000.entries()}, len(port_4000.provider.served)
    printed = port_4000.shell(command)
    hear = next((hear for path, hear in HEARERS.items() if re.search(path, command)), None)
    if hear is None:
        assert "/v1/models" in command
        assert {model["id"] for model in json.loads(printed)["data"]} >= {"small", "claude"}
        return
    figures = hear(printed, streamed='"stream": true' in command or "alt=sse" in command)
    (entry,) = port_4000.closed_since(before)
    assert entry["exit"] == "completed"
    assert {name: entry["usage"][name] for name in figures} == figures
    assert None not in (figures[name] for name in figures if name in {"input_tokens", "output_tokens"})
    if entry["provider"] != "local":
        (only,) = port_4000.provider.served[served:]
        if only.reported is not None:  # of replies that are no chats the provider keeps no list of counts
            usage = entry["usage"]
            assert (only.reported.input, only.reported.output) == (usage["input_tokens"], usage["output_tokens"])
