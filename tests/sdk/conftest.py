"""What the SDK's tests share: no variable of the machine they run on, and a provider."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from counterfoil.driver.deployment import load_table
from counterfoil.testing import Playback, running

__all__: list[str] = []


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No secret, address or data of whoever runs the tests."""
    named = {name for row in load_table().values() for name in (*row.secret_env, *row.base_url_env)}
    for name in [name for name in os.environ if name in named or name.startswith("COUNTERFOIL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COUNTERFOIL_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def provider() -> Iterator[Playback]:
    """A provider on a loopback port."""
    with running() as found:
        yield found
