"""kill -9 at any instant loses no entry and doubles none, at whichever door it strikes.

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
DOORS = ("chat", "responses", "messages", "gemini")
"""One stream at each in every life; with which model it goes changes from life to life."""
MODELS = ("paced-100", "running-100", "messages-100")
NAMELESS = (*MODELS, "paced-1000")
"""What each lane asks for at Gemini's door, where nobody can say who asks: so its calls are known by model and time."""
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
    opened: float
    frames: list[tuple[float, int, dict[str, Any] | None]] = field(default_factory=list)
    ended: str | None = None


@dataclass
class Round:
    """One life of a gateway."""

    users: list[str]
    born: float
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

    def __init__(self, directory: Path, base_url: str, place: int) -> None:
        self.directory, self.name, self.nameless = directory, f"lane{place}", NAMELESS[place]
        self.config = directory / "counterfoil.yaml"
        routes = "".join(
            f"  {model}:\n    deployments:\n"
            f"      - {{provider: playhouse, model: {model}, base_url: '{base_url}', api_key: play"
            f"{', dialect: anthropic_messages' if model.startswith('messages') else ''}}}\n"
            f"    retries: {{attempts: 1}}\n"
            for model in NAMELESS
        )
        self.config.write_text(f"models:\n{routes}ledger: {{path: {directory / 'ledger.db'}}}\nlisten: {{port: 0}}\n")
        self.rounds: list[Round] = []

    def live_and_die(self, number: int, fate: str, patience: float) -> None:
        """Start, stream, and die: by fate, or by our hand after `patience` seconds."""
        users = [f"{self.name}-{number}-{door}" for door in DOORS]
        born = time.monotonic()
        with self.gateway(fate) as (process, port):
            threads = [
                threading.Thread(target=stream_to_the_end, args=(port, door, self.model(door, place + number), user))
                for place, (door, user) in enumerate(zip(DOORS, users, strict=True))
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
        self.rounds.append(Round(users, born, died))

    def model(self, door: str, place: int) -> str:
        return self.nameless if door == "gemini" else MODELS[place % len(MODELS)]

    def truths(self, served: dict[str | None, list[Truth]], life: Round, door: str, user: str) -> list[Truth]:
        """What the provider served of one call of one life."""
        if door != "gemini":
            return served.get(user, [])
        later = min((one.born for one in self.rounds if one.born > life.born), default=float("inf"))
        mine = [truth for truth in served.get(None, []) if truth.model == self.nameless]
        return [truth for truth in mine if life.born <= truth.opened < later]

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


def asked(door: str, model: str, user: str) -> tuple[str, dict[str, Any]]:
    """The path and body of one streamed call. At Gemini's door nobody can say who asks, and the stream is an array."""
    said = [{"role": "user", "content": "Count."}]
    told = {"model": model, "stream": True}
    match door:
        case "chat":
            return "/v1/chat/completions", {**told, "messages": said, "max_tokens": 500, "user": user}
        case "responses":
            return "/v1/responses", {**told, "input": said, "max_output_tokens": 500, "user": user}
        case "messages":
            return "/v1/messages", {**told, "messages": said, "max_tokens": 500, "metadata": {"user_id": user}}
        case _:
            contents = [{"role": "user", "parts": [{"text": "Count."}]}]
            limit = {"maxOutputTokens": 500}
            path = f"/v1beta/models/{model}:streamGenerateContent"
            return path, {"contents": contents, "generationConfig": limit}


def stream_to_the_end(port: int, door: str, model: str, user: str) -> None:
    """One streamed call, read until it or the gateway ends."""
    path, body = asked(door, model, user)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.suppress(OSError, http.client.HTTPException):
        headers = {"content-type": "application/json", "x-counterfoil-tags": user}
        connection.request("POST", path, json.dumps(body), headers)
        connection.getresponse().read()
    connection.close()


def truths(log: Path) -> dict[str | None, list[Truth]]:
    """What the provider served, by user: normally one request each, and all that nobody is named for under None."""
    by_number: dict[int, Truth] = {}
    by_user: dict[str | None, list[Truth]] = {}
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "opened":
            truth = by_number[event["number"]] = Truth(event["model"], event["at"])
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
    lanes = [Lane(directory, base_url, place) for place, directory in enumerate(_directories(tmp_path))]
    plans = [[(number, fate) for number, fate in enumerate(fates) if number % LANES == place] for place in range(LANES)]
    patience = [chance.uniform(0.05, 2.4) if fate == "none:0" else 4.0 for fate in fates]

    def live(place: int) -> None:
        for number, fate in plans[place]:
            lanes[place].live_and_die(number, fate, patience[number])

    with ThreadPoolExecutor(LANES) as pool:
        list(pool.map(live, range(LANES)))
    served = truths(log)
    exits: dict[str, int] = {}
    compared: dict[str, int] = dict.fromkeys(DOORS, 0)
    for lane in lanes:
        entries = lane.entries()
        assert len({entry["attempt"] for entry in entries}) == len(entries)
        by_user: dict[str, list[dict[str, Any]]] = {}
        for entry in entries:
            by_user.setdefault(entry["tags"][0], []).append(entry)
            exits[entry["exit"]] = exits.get(entry["exit"], 0) + 1
        for life in lane.rounds:
            for door, user in zip(DOORS, life.users, strict=True):
                attempts = by_user.get(user, [])
                truth = lane.truths(served, life, door, user)
                assert len(attempts) <= 1, "an entry was doubled"
                assert len(truth) <= len(attempts), "the provider served what the books do not have"
                if truth:
                    check(attempts[0], truth[0], life.died)
                    compared[door] += 1
        assert lane.verified(), "the totals are the sum of the entries"
    assert sum(len(lane.rounds) for lane in lanes) == kills
    assert sum(compared.values()) > kills, exits
    assert min(compared.values()) > kills // 4, compared
    assert exits.get("crashed", 0) > kills // 2, exits


def _directories(parent: Path) -> list[Path]:
    directories = [parent / f"lane{place}" for place in range(LANES)]
    for directory in directories:
        directory.mkdir()
    return directories
