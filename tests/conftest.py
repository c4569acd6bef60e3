"""What every test shares: how hypothesis searches, and how often the gateway is killed."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

__all__: list[str] = []

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a shell: the programs that tests start and interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_CALM = [HealthCheck.too_slow]
"""A loaded machine is not a failure."""

settings.register_profile("default", deadline=None, suppress_health_check=_CALM)
settings.register_profile("ci", deadline=None, suppress_health_check=_CALM, derandomize=True, database=None)
settings.register_profile("long", deadline=None, suppress_health_check=_CALM, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--kills N`: how often `tests/shells/test_kill.py` kills. `--write-pages`: see the grid of crossings."""
    parser.addoption("--write-pages", action="store_true", help="write the pages of the grid of crossings again")
    parser.addoption("--kills", type=int, default=56, help="how often the gateway is killed")


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a body may come late and its connection is used again: for who counts connections, on any machine."""
    monkeypatch.setattr("counterfoil.transport.blocking.LINGER", 10.0)
    for module in ("http", "pooled"):
        monkeypatch.setattr(f"counterfoil.transport.{module}.DRAIN_SECONDS", 10.0)
