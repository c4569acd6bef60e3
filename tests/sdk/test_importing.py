"""`import counterfoil` brings next to nothing, a call brings what it needs, and neither brings an extra."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

import pytest

import counterfoil
from counterfoil.testing import Playback

__all__: list[str] = []

EXTRAS: Final = (
    "aiohttp",
    "uvicorn",
    "httptools",
    "uvloop",
    "langchain",
    "langchain_core",
    "xllamacpp",
    "pytest",
    "openai",
)
"""What only an extra, or a developer, installs."""
LATER: Final = ("msgspec", "yaml", "httpcore2", "asyncio", "sqlite3", "ssl", "platformdirs", "counterfoil.sdk")
"""What the first call brings, and an import does not."""


def loaded(code: str, *arguments: str) -> set[str]:
    """The modules a fresh interpreter has after running `code`."""
    program = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-I", "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_an_import_brings_nothing_but_itself() -> None:
    bare, found = loaded(""), loaded("import counterfoil")
    assert found & set(EXTRAS) == set()
    assert found & set(LATER) - bare == set()
    assert {name for name in found - bare if name.startswith("counterfoil")} == {"counterfoil"}


@pytest.mark.parametrize("name", sorted(set(counterfoil.__all__) - {"__version__"}))
def test_no_name_brings_an_extra(name: str) -> None:
    assert loaded(f"import counterfoil; counterfoil.{name}") & set(EXTRAS) == set()


def test_a_call_brings_no_extra(provider: Playback) -> None:
    code = """
import asyncio, sys, counterfoil
hello = [{"role": "user", "content": "x"}]
counterfoil.completion("m", hello, base_url=sys.argv[1])
asyncio.run(counterfoil.acompletion("m", hello, base_url=sys.argv[1]))
"""
    found = loaded(code, provider.base_url)
    assert found & set(EXTRAS) == set()
    assert "httpcore2" in found
    assert len(provider.served) == 2


def test_a_name_that_is_not_offered_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'complete'"):
        _ = counterfoil.complete  # type: ignore[attr-defined]  # as it should be
    assert set(counterfoil.__all__) <= set(dir(counterfoil))
