"""The house that the Node.js clients are tried in: a gateway, the playback provider behind it, and how they are asked.

Rule 1: the provider's own list is the truth. Ledger and client are both compared with it.
Rule 2: a cell's name is the model's name, at the gateway and at the provider; so what was served and what was booked
for a cell is found without help of the dialect. Each program calls with a key of its own.
Rule 3: a program hears all its cells in one process, whose time is bounded.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from urllib.parse import unquote

import pytest

from counterfoil.ledger.entry import Entry
from counterfoil.stores.projection import Selection
from counterfoil.testing import (
    ChatReply,
    Counts,
    Playback,
    Request,
    Script,
    Served,
    Tool,
    dialect_of,
    error_answer,
    no_answer,
    path_player,
    running,
)
from tests.shells.gateway import SECONDS, RunningGateway, gateway
from tests.tree import REPOSITORY

__all__ = [
    "BEHIND",
    "BODY",
    "FEATURES",
    "PLANS",
    "REFUSAL",
    "TROUBLES",
    "Cell",
    "Feature",
    "House",
    "Told",
    "Way",
    "heard_by",
    "house",
    "node_command",
    "versions",
]

T = TypeVar("T")

Way = Literal["whole", "stream", "helper"]
Feature = Literal["text", "tools", "reasoning", "beside"]

FOLDER: Final = REPOSITORY / "tests" / "shells" / "clients_node"
MODULES: Final = Path(sys.prefix) / "node-clients" / "node_modules"
OLDEST: Final = (20, 19)
"""The oldest Node.js whose `require` loads every one of the clients."""
PROGRAM_SECONDS: Final = 60
BODY: Final = 65536
"""The largest request body that the gateway of the house takes."""

_FULL: Final = Counts(input=40, output=17, cache_read=8, cache_write=4, reasoning=3)
PLANS: Final[Mapping[Feature, ChatReply]] = {
    "text": ChatReply(usage=Counts(input=12, output=5, cache_read=0, cache_write=0, reasoning=0)),
    "tools": ChatReply(usage=_FULL, text="", tools=(Tool("tide", '{"port": "north", "hour": 4}'), Tool("boats"))),
    "reasoning": ChatReply(usage=_FULL, reasoning="High or low?"),
    "beside": ChatReply(usage=_FULL, shape="non_empty_choices"),
}
"""What is played; a dialect leaves out the counts that it has no place for. Beside: the usage comes with a choice."""
FEATURES: Final[tuple[Feature, ...]] = ("text", "tools", "reasoning")
"""Those that every client is tried with."""
HEADS: Final[tuple[Literal["estimate", "buffer"], ...]] = ("estimate", "buffer")
WAYS: Final[tuple[Way, ...]] = ("whole", "stream", "helper")

BEHIND: Final[Mapping[str, str]] = {
    "openai_chat": 'provider: playhouse, base_url: "{origin}/v1"',
    "openai_responses": 'provider: playhouse, dialect: openai_responses, base_url: "{origin}/v1"',
    "anthropic_messages": 'provider: anthropic, base_url: "{origin}"',
    "gemini": 'provider: google, dialect: gemini, base_url: "{origin}/v1beta"',
    "bedrock_converse": "provider: bedrock, region: eu-west-1",
}
"""The providers by their dialect: how a deployment is written."""

TROUBLES: Final = ("field", "key", "size", "unknown", "refused", "silent", "broken")
"""A field of the wrong type; a key that is not known; a body too large; a model that is not there; a provider that
answers with an error, or closes without an answer; a stream that is cut in its middle."""
REFUSAL: Final = "The tide is out of order."
"""What a provider says that refuses."""


@dataclass(frozen=True)
class Cell:
    """One call of a client."""

    behind: str
    """The provider's dialect."""
    way: Way
    feature: Feature = "text"
    trouble: str = ""
    head: Literal["estimate", "buffer"] = "estimate"
    """The route's `messages_head`."""

    @property
    def name(self) -> str:
        """Its model's name too."""
        return f"{self.trouble or self.feature}.{self.behind}.{self.way}.{self.head}"

    def order(self, door: str) -> dict[str, Any]:
        """What its program is told."""
        return {
            "name": self.name,
            "model": self.name,
            "way": self.way,
            "door": door,
            "tools": self.feature == "tools",
            "trouble": self.trouble,
        }


@dataclass(frozen=True)
class Told:
    """What the three say of one cell: the client, the provider and the books."""

    heard: dict[str, Any]
    served: Served | None
    entry: Entry | None


class House:
    """A gateway and the provider behind it."""

    def __init__(self, provider: Playback, running_gateway: RunningGateway) -> None:
        self.provider = provider
        self._gateway = running_gateway
        provider.default = _choose

    def ask(self, program: str, orders: Sequence[Mapping[str, Any]], key: str) -> dict[str, Told]:
        """Run a program of the folder; what was told of each of its cells, by the cell's name."""
        before = len(self.provider.served)
        heard = heard_by(program, self._gateway.base_url, orders, _secret(key))
        served = _once((_name(served.request), served) for served in self.provider.served[before:])
        entries = _once((entry.opening.route, entry) for entry in self._entries(key))
        assert served.keys() | entries.keys() <= heard.keys()
        return {name: Told(one, served.get(name), entries.get(name)) for name, one in heard.items()}

    def _entries(self, key: str) -> list[Entry]:
        until = time.monotonic() + SECONDS
        while self._gateway.gateway.driver.open_exchanges:
            assert time.monotonic() < until, "an exchange never ended"
            time.sleep(0.005)
        assert self._gateway.books.flush(SECONDS)
        return list(self._gateway.books.store.entries(Selection(key=key)))


@contextlib.contextmanager
def house(directory: Path, keys: Sequence[str]) -> Iterator[House]:
    """A running house, where each of `keys` may call."""
    node_command()  # before anything is started
    with running() as provider:
        environ = {
            "AWS_ACCESS_KEY_ID": "AKIAPLAY",
            "AWS_SECRET_ACCESS_KEY": "play",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": provider.origin,
        }
        text = _configuration(provider.origin, keys)
        with gateway(directory, text=text, environ=environ) as running_gateway:
            yield House(provider, running_gateway)


def heard_by(program: str, base_url: str, orders: Sequence[Mapping[str, Any]], secret: str) -> dict[str, Any]:
    """Run a program of the folder: what it heard of each order, by the order's name."""
    ran = subprocess.run(
        [node_command(), str(FOLDER / f"{program}.mjs"), base_url],
        input=json.dumps({"modules": str(MODULES), "secret": secret, "cells": orders}),
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
        check=False,
        env={"PATH": os.environ.get("PATH", "")},  # no setting of the machine's changes what a client does
    )
    assert ran.returncode == 0, ran.stderr
    heard = {one["name"]: one for one in map(json.loads, ran.stdout.splitlines())}
    assert list(heard) == [order["name"] for order in orders]
    return heard


def node_command() -> str:
    """Where Node.js is. Where it or the clients are absent the test is skipped; in CI it fails."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        _absent("Node.js is not installed: install Node.js 20.19 or newer with npm, then run `make node-clients`")
    elif _version(node) < OLDEST:
        _absent("this Node.js is too old: install Node.js 20.19 or newer, then run `make node-clients`")
    elif not MODULES.is_dir():
        _absent("the Node.js clients are not installed: run `make node-clients`")
    assert node is not None
    return node


def versions(*packages: str) -> str:
    """The packages with their versions, as they are installed."""
    found = [json.loads((MODULES / name / "package.json").read_text())["version"] for name in packages]
    return " with ".join(f"{name} {version}" for name, version in zip(packages, found, strict=True))


def _version(node: str) -> tuple[int, ...]:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=True)
    return tuple(int(part) for part in said.stdout.strip().removeprefix("v").split(".")[:2])


def _absent(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def _configuration(origin: str, keys: Sequence[str]) -> str:
    kinds: list[tuple[Feature, str]] = [*((kind, "") for kind in PLANS), *(("text", trouble) for trouble in TROUBLES)]
    cells = [Cell(behind, way, *kind, head) for behind in BEHIND for way in WAYS for kind in kinds for head in HEADS]
    models = [
        f"  {cell.name}: {{messages_head: {cell.head}, deployments: [{{model: {cell.name}, api_key: play, "
        f"{BEHIND[cell.behind].format(origin=origin)}}}]}}"
        for cell in cells
        if cell.trouble != "unknown"
    ]
    named = [f"    - {{name: {key}, secret: {_secret(key)}}}" for key in keys]
    more = ["keys:", "  required: true", "  static:", *named, f"limits: {{body: {BODY}}}", "retries: {attempts: 1}"]
    return "\n".join(["models:", *models, *more, "listen: {port: 0, drain: 5}", ""])


def _secret(key: str) -> str:
    return f"sk-{key}-0123456789"


def _once(pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    found: dict[str, T] = {}
    for name, value in pairs:
        assert name not in found, f"{name} is there twice"
        found[name] = value
    return found


def _name(request: Request) -> str:
    """The cell's name: the model in the body, or, where a dialect has it there, in the path."""
    if request.model:
        return request.model
    path = unquote(request.path.partition("?")[0])
    return path.partition("/models/" if "/models/" in path else "/model/")[2].partition(":")[0].partition("/")[0]


def _choose(request: Request) -> Script:
    kind = _name(request).partition(".")[0]
    match kind:
        case "refused":
            return error_answer(503, REFUSAL, dialect="messages" if dialect_of(request) == "messages" else "chat")
        case "silent":
            return no_answer()
        case "broken":
            return path_player(PLANS["text"])(request).cut_at(6)
        case "text" | "tools" | "reasoning" | "beside":
            return path_player(PLANS[kind])(request)
        case _:
            return error_answer(500, "no such cell")
