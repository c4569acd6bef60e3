"""Every example of docs/sdk.md runs, and prints what the page says it prints."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Final

import pytest

import counterfoil
from counterfoil.cli import main
from counterfoil.sdk import errors
from counterfoil.sdk.options import _OURS
from counterfoil.testing import error_answer
from tests.sdk.support import provider_in_environment
from tests.tree import REPOSITORY

__all__: list[str] = []

PAGE: Final = (REPOSITORY / "docs" / "sdk.md").read_text(encoding="utf-8")
_EXAMPLE: Final = re.compile(r"^```python\n(.*?)^```$(?:\s+^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
EXAMPLES: Final = _EXAMPLE.findall(PAGE)


def test_the_page_has_its_examples() -> None:
    assert len(EXAMPLES) == PAGE.count("```python")
    assert len(EXAMPLES) >= 7


@pytest.mark.parametrize(("code", "printed"), EXAMPLES, ids=range(1, len(EXAMPLES) + 1))
def test_an_example_prints_what_the_page_says(
    code: str, printed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    said = io.StringIO()
    with provider_in_environment(monkeypatch) as provider, contextlib.redirect_stdout(said):
        provider.models = {"too-busy": error_answer(429, retry_after="7")}
        exec(compile(code, "docs/sdk.md", "exec"), {"__name__": "example"})
    assert said.getvalue() == printed
    assert provider.served
    if "ledger" in code:
        with contextlib.redirect_stdout(said):
            assert main(["entries", "--data-dir", ".", "--last", "5"]) == 0
        assert "gpt-4o-mini" in said.getvalue()


def test_the_page_names_every_option_and_every_error() -> None:
    kinds = {name for name in errors.__all__ if name[0].isupper()} - {"APIStatusError"}
    assert {name for name in {*_OURS, *kinds} if f"`{name}`" not in PAGE and f".{name}`" not in PAGE} == set()
    assert kinds <= set(counterfoil.__all__)
