"""A provider that speaks OpenAI's language is one row of the table: with the row it works from end to end, and nothing
else is different."""

from __future__ import annotations

import json
import re
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from counterfoil.cli.command import main
from counterfoil.dialects.registry import DIALECTS
from counterfoil.driver.deployment import load_table
from counterfoil.ledger.entry import Exit
from counterfoil.providers.facts import facts_of
from counterfoil.providers.table import convention_table, read_table
from counterfoil.testing import Playback, Script, Send, running
from tests.shells.gateway import gateway
from tests.tree import REPOSITORY

_PAGE = (REPOSITORY / "docs" / "adding-a-provider.md").read_text(encoding="utf-8")
_SHIPPED = resources.files("counterfoil.providers").joinpath("providers.toml").read_text("utf-8")
_SECRET = "sk-harbour-000001"


def _block(language: str) -> str:
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", _PAGE, re.DOTALL | re.MULTILINE)
    return str(block)


ROW = _block("toml")
"""The row of the page, word for word."""


def test_a_row_changes_no_other() -> None:
    grown = read_table(f"{_SHIPPED}\n{ROW}", DIALECTS)
    assert {**grown} == {**load_table(), "harbour": read_table(ROW, DIALECTS)["harbour"]}
    defaults = {name: dialect.convention for name, dialect in DIALECTS.items()}
    before, after = (convention_table(table, defaults).splitlines() for table in (load_table(), grown))
    assert [line for line in after if line not in before] == [line for line in after if "`harbour`" in line]
    assert [line for line in before if line not in after] == []


@pytest.fixture
def harbour(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package with one row more in its table, which leads to a provider that plays the page's stream back."""
    stream = _block("sse").encode()
    with running(Playback(models={"tide-large": Script(steps=(Send(stream),))})) as provider:
        moved = ROW.replace("https://api.harbour.example/v1", provider.base_url)
        assert moved != ROW
        moved = moved.replace("link = ", 'listing = { path = "/models" }\nlink = ')
        table = read_table(f"{_SHIPPED}\n{moved}", DIALECTS)
        for module in [one for name, one in sys.modules.items() if name.startswith("counterfoil.")]:
            if getattr(module, "load_table", None) is load_table:
                monkeypatch.setattr(module, "load_table", lambda: table)
        yield provider


CONFIGURED = """
models:
  assistant:
    - {provider: harbour, model: tide-large}
listen: {port: 0, drain: 5}
"""


@pytest.mark.parametrize("name", ["assistant", "harbour/tide-large", "tide-large"])
def test_with_its_row_a_provider_is_called_counted_and_booked(harbour: Playback, name: str, tmp_path: Path) -> None:
    with gateway(tmp_path, text=CONFIGURED, environ={"HARBOUR_API_KEY": _SECRET}) as served:
        answer = served.chat(name, stream=True, stream_options={"include_usage": True})
        usage = json.loads(answer.frames[-2])["usage"]
        entry = served.entry()
    assert answer.text == "At noon."
    assert harbour.served[0].headers["authorization"] == f"Bearer {_SECRET}"
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (31, 23, 54)
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 14
    assert (entry.opening.provider, entry.opening.model, entry.exit) == ("harbour", "tide-large", Exit.COMPLETED)
    assert (entry.usage.input_tokens, entry.usage.output_tokens, entry.usage.reasoning_tokens) == (31, 23, 14)
    assert entry.discrepancies == ()


def test_with_its_row_a_provider_is_found_by_its_secret_and_asked_for_its_models(
    harbour: Playback, tmp_path: Path
) -> None:
    text = "discover: true\nlisten: {port: 0, drain: 5}\n"
    with gateway(tmp_path, text=text, environ={"HARBOUR_API_KEY": _SECRET}) as served:
        assert served.chat("tide-large", stream=True).text == "At noon."
        for _ in range(500):
            names = [one["id"] for one in served.get("/v1/models").json["data"]]
            if "harbour/tide-large" in names:
                break
            served.thread.join(0.02)
    assert "harbour/tide-large" in names


def test_with_its_row_a_provider_is_shown(harbour: Playback, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["providers", "harbour"]) == 0
    shown = capsys.readouterr().out
    assert "HARBOUR_API_KEY as a bearer token" in shown
    assert "It counts reasoning beside the output, not in it." in " ".join(shown.split())
    assert "unverified" in shown


def test_a_row_that_nothing_proves_says_so() -> None:
    (face,) = facts_of(read_table(ROW, DIALECTS)["harbour"], DIALECTS).faces
    assert not face.verified
