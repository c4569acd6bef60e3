"""A line a client at the end of the output: how many cells there were, and whether all were equal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from importlib.metadata import version

import pytest

from tests.shells.clients_python.matrix import Stage, staged
from tests.shells.clients_python.waiting import AtOnce, Awaited, Waiting

__all__: list[str] = []


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A gateway with every route, and the provider behind it."""
    with staged(tmp_path_factory.mktemp("stage")) as running:
        yield running


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """A loop for the module's asynchronous clients."""
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module", params=["sync", "async"])
def waiting(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Waiting:
    """How the module's clients are called."""
    return AtOnce() if request.param == "sync" else Awaited(runner)


@pytest.fixture(autouse=True)
def _counted(request: pytest.FixtureRequest) -> None:
    """Note with a test's result which client it was, and whether it is a cell of the matrix or an error."""
    client = getattr(request.module, "CLIENT", None)
    kind = next((name for name in ("cell", "error") if name in request.node.originalname.split("_")), None)
    if client is not None and kind is not None:
        request.node.user_properties.append((f"client {kind}", client))


def summary(reports: Sequence[tuple[str, str, str]]) -> list[str]:
    """The lines for these (client, "cell" or "error", outcome)."""
    lines = []
    for client in sorted({client for client, _, _ in reports}):
        outcomes = {kind: [how for who, what, how in reports if (who, what) == (client, kind)] for kind in _SAID}
        parts = [_part(kind, outcomes[kind]) for kind in _SAID if outcomes[kind]]
        lines.append(f"{client} {version(client)}: {'; '.join(parts)}")
    return lines


_SAID = {"cell": ("cells", "all equal", "differ"), "error": ("errors", "all its own", "are not its own")}


def _part(kind: str, outcomes: Sequence[str]) -> str:
    noun, good, bad = _SAID[kind]
    skipped = outcomes.count("skipped")
    failed = len(outcomes) - skipped - outcomes.count("passed")
    said = f"{failed} {bad}" if failed else f"the others {good}" if skipped else good
    return ", ".join([f"{len(outcomes)} {noun}", *([f"{skipped} not run"] if skipped else []), said])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the lines, also when pytest is told to be quiet."""
    reports = [
        (str(client), key.removeprefix("client "), outcome)
        for outcome in ("passed", "failed", "error", "skipped")
        for report in terminalreporter.stats.get(outcome, ())
        for key, client in getattr(report, "user_properties", ())
        if key.startswith("client ")
    ]
    if reports:
        terminalreporter.section("clients in Python", sep="-")
        for line in summary(reports):
            terminalreporter.write_line(line)
