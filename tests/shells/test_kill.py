"""kill -9 at any instant loses no entry and doubles none.

The real gateway is killed with streams running, at every named point and at random moments, and started again on what
it left. Then its books are compared with the provider's own list of what it served.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from counterfoil.core.estimate import Tally
from tests.shells.doomed import POINTS

LANES = 4
"""Gateways that live and die at the same time, each with its own books."""
STREAMS = 4
MODELS = ("paced-100", "running-100", "messages-100")
DOOMED = Path(__file__).with_name("doomed.py")
BEHIND = 1.0
"""Seconds that the booked output may be behind what was delivered."""
SLACK = 0.6
"""Seconds for a frame to travel on a busy machine."""
NAMED = tuple(f"{point}:{number}" for point in POINTS for number in ((1, 3) if point != "frame.after" else (1, 7, 60)))


@dataclass
class Truth:
    """What the provider says of one request."""

    model: str
    frames: list[tuple[float, int, dict[str, Any] | None]] = field(default_factory=list)
    ended: str | None = None


@dataclass
class Round:
    """One life of a gateway."""

    users: list[str]
    died: float


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    log = tmp_path_factory.mktemp("provider") / "served.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "counterfoil.testing.provider", "--log", str(log), "--until-eof"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["base_url"], log
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


class Lane:
    """A data directory, and one gateway after another on it."""

    def __init__(self, directory: Path, base_url: str, name: str) -> None:
        self.directory, self.name = directory, name
        self.config = directory / "counterfoil.yaml"
        routes = "".join(
            f"  {model}:\n    deployments:\n"
            f"      - {{provider: playhouse, model: {model}, base_url: '{base_url}', api_key: play"
            f"{', dialect: anthropic_messages' if model.startswith('messages') else ''}}}\n"
            f"    retries: {{attempts: 1}}\n"
            for model in MODELS
        )
        self.config.write_text(f"models:\n{routes}ledger: {{path: {directory / 'ledger.db'}}}\nlisten: {{port: 0}}\n")
        self.rounds: list[Round] = []

    def live_and_die(self, number: int, fate: str, patience: float) -> None:
        """Start, stream, and die: by fate, or by our hand after `patience` seconds."""
        users = [f"{self.name}-{number}-{stream}" for stream in range(STREAMS)]
        with self.gateway(fate) as (process, port):
            threads = [
                threading.Thread(target=stream_to_the_end, args=(port, MODELS[place % len(MODELS)], user))
                for place, user in enumerate(users)
            ]
            for thread in threads:
                thread.start()
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
            died = time.monotonic()
            for thread in threads:
                thread.join(10)
        self.rounds.append(Round(users, died))

    @contextlib.contextmanager
    def gateway(self, fate: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        process = subprocess.Popen(
            [sys.executable, str(DOOMED), fate, "serve", "--config", str(self.config), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(DOOMED.parents[2])},
        )
        assert process.stdout is not None
        said: list[bytes] = []
        try:
            yield process, port_of(process, said)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.stdout.close()

    def entries(self) -> list[dict[str, Any]]:
        """All entries, after one more start has replayed what the last life left."""
        with self.gateway("none:0"):
            pass
        done = subprocess.run(
            [sys.executable, "-m", "counterfoil", "entries", "--config", str(self.config), "--json"],
            capture_output=True,
            check=True,
            timeout=60,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    def verified(self) -> bool:
        command = [sys.executable, "-m", "counterfoil", "verify", "--config", str(self.config)]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def port_of(process: subprocess.Popen[bytes], said: list[bytes]) -> int:
    """The port the gateway says it listens on; what it goes on to say is read and thrown away."""
    assert process.stdout is not None
    port = None
    for line in process.stdout:
        said.append(line)
        _, found, rest = line.partition(b"http://127.0.0.1:")
        digits = rest[: len(rest) - len(rest.lstrip(b"0123456789"))]
        if found and digits:
            port = int(digits)
            break
    assert port is not None, b"".join(said).decode()
    threading.Thread(target=process.stdout.read, daemon=True).start()
    return port


def stream_to_the_end(port: int, model: str, user: str) -> None:
    """One streamed chat, read until it or the gateway ends."""
    body = {"model": model, "user": user, "stream": True, "max_tokens": 500,
            "messages": [{"role": "user", "content": "Count."}]}  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        connection.getresponse().read()
    connection.close()


def truths(log: Path) -> dict[str, list[Truth]]:
    """What the provider served, by user: normally one request each."""
    by_number: dict[int, Truth] = {}
    by_user: dict[str, list[Truth]] = {}
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "opened":
            truth = by_number[event["number"]] = Truth(event["model"])
            by_user.setdefault(event["user"], []).append(truth)
        elif event["event"] == "frame":
            by_number[event["number"]].frames.append((event["at"], event["units"], event["reported"]))
        else:
            by_number[event["number"]].ended = event["ended"]
    return by_user


def tokens_of(units: int) -> int:
    """What the gateway estimates for the first `units` pieces of a catalogue reply."""
    tally = Tally()
    for place in range(units):
        tally.add(f"w{place} ")
    return tally.tokens


def check(entry: dict[str, Any], truth: Truth, died: float) -> None:
    """One entry against what the provider served."""
    exit_, usage, provenance = entry["exit"], entry["usage"], entry["provenance"]
    reports = [(at, reported) for at, _, reported in truth.frames if reported is not None]
    if exit_ == "completed":
        final = reports[-1][1]
        assert (usage["input_tokens"], usage["output_tokens"]) == (final["input"], final["output"])
        assert provenance["output_tokens"] == "reported"
        return
    assert exit_ == "crashed"
    known = [reported for at, reported in reports if at < died - SLACK and reported["input"] is not None]
    if known:
        assert usage["input_tokens"] == known[-1]["input"], "input is as reported"
        assert provenance["input_tokens"] == "partial"
    early = max((units for at, units, _ in truth.frames if at < died - BEHIND - SLACK), default=0)
    every = max((units for _, units, _ in truth.frames), default=0)
    counted = usage["output_tokens"] or 0
    if provenance["output_tokens"] == "partial":  # the provider's own number, running or of its first frame
        said = [reported["output"] for _, reported in reports if reported["output"] is not None]
        assert early <= counted <= max(said)
    else:
        assert tokens_of(early) <= counted <= max(tokens_of(every), 1), f"{early} of {every} units"


@pytest.mark.timeout(400)
def test_fifty_kills_lose_no_entry_and_double_none(
    provider: tuple[str, Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base_url, log = provider
    kills = int(request.config.getoption("--kills"))
    chance = random.Random(20261122)
    fates = [*NAMED, *["none:0"] * (kills - len(NAMED))]
    lanes = [Lane(directory, base_url, f"lane{place}") for place, directory in enumerate(_directories(tmp_path))]
    plans = [[(number, fate) for number, fate in enumerate(fates) if number % LANES == place] for place in range(LANES)]
    patience = [chance.uniform(0.05, 2.4) if fate == "none:0" else 4.0 for fate in fates]

    def live(place: int) -> None:
        for number, fate in plans[place]:
            lanes[place].live_and_die(number, fate, patience[number])

    with ThreadPoolExecutor(LANES) as pool:
        list(pool.map(live, range(LANES)))
    served = truths(log)
    exits: dict[str, int] = {}
    compared = 0
    for lane in lanes:
        entries = lane.entries()
        assert len({entry["attempt"] for entry in entries}) == len(entries)
        by_user: dict[str, list[dict[str, Any]]] = {}
        for entry in entries:
            by_user.setdefault(entry["user"], []).append(entry)
            exits[entry["exit"]] = exits.get(entry["exit"], 0) + 1
        for life in lane.rounds:
            for user in life.users:
                attempts, truth = by_user.get(user, []), served.get(user, [])
                assert len(attempts) <= 1, "an entry was doubled"
                assert len(truth) <= len(attempts), "the provider served what the books do not have"
                if truth:
                    check(attempts[0], truth[0], life.died)
                    compared += 1
        assert lane.verified(), "the totals are the sum of the entries"
    assert sum(len(lane.rounds) for lane in lanes) == kills
    assert compared > kills, exits
    assert exits.get("crashed", 0) > kills // 2, exits


def _directories(parent: Path) -> list[Path]:
    directories = [parent / f"lane{place}" for place in range(LANES)]
    for directory in directories:
        directory.mkdir()
    return directories
