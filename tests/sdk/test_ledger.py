"""A ledger that is named has every call, priced, and is the gateway's own kind: the same commands read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import counterfoil
from counterfoil.cli import main
from counterfoil.stores.sqlite import SqliteStore
from counterfoil.testing import ChatReply, Counts, Playback, chat_player
from tests.sdk.support import WAYS, Way, ask, provider_in_environment

__all__: list[str] = []

COUNTS = Counts(input=1000, output=100, cache_read=400)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_call_is_in_the_ledger_and_the_commands_read_it(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = tmp_path / "data" / "ledger.db"
    ledger.parent.mkdir()
    with provider_in_environment(monkeypatch) as provider:
        provider.default = chat_player(ChatReply(usage=COUNTS))
        asked = ask(way, {"ledger": ledger}, model="openai/gpt-4o-mini", tags=["night"])
    assert asked.entry is not None
    assert main(["entries", "--data-dir", str(ledger.parent), "--json"]) == 0
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["attempt"] == asked.entry.opening.attempt
    assert line["usage"]["input_tokens"] == COUNTS.input
    assert line["usage"]["cache_read_tokens"] == COUNTS.cache_read
    assert line["exit"] == "completed"
    assert line["tags"] == ["night"]
    assert float(line["cost"]) == float(asked.cost) > 0
    assert main(["verify", "--data-dir", str(ledger.parent)]) == 0


def test_a_configuration_names_the_ledger(provider: Playback, tmp_path: Path) -> None:
    path = tmp_path / "counterfoil.yaml"
    path.write_text(
        f"""
ledger: {{path: books/ledger.db}}
models:
  m:
    - {{provider: mine, model: play-1, base_url: "{provider.base_url}", prices: {{input: 2, output: 8}}}}
"""
    )
    (tmp_path / "books").mkdir()
    with counterfoil.Client(path) as client:
        reply = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Good morning"}])
        assert client.entries == (), "they are in the ledger"
        assert client.flush()
        store = SqliteStore(tmp_path / "books" / "ledger.db")
        assert list(store.entries()) == [reply.entry]
        store.close()
    assert reply.cost == counterfoil.completion_cost(reply)
    assert str(reply.cost) == "0.000102000000", "11 in at 2 $ and 10 out at 8 $ a million"


def test_a_ledger_that_cannot_be_opened_is_said_and_nothing_is_sent(provider: Playback, tmp_path: Path) -> None:
    wrong = tmp_path / "text.db"
    wrong.write_text(
        "this is no database, and it is longer than a hundred bytes, so that it cannot be taken for one" * 9
    )
    asked = ask(WAYS[0], {"base_url": provider.base_url, "ledger": wrong})
    assert isinstance(asked.error, counterfoil.ConfigurationError)
    assert provider.served == []


def test_the_price_of_a_call_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    with provider_in_environment(monkeypatch) as provider:
        provider.default = chat_player(ChatReply(usage=Counts(input=1, output=1)))
        costs = [ask(way, {}, model="openai/gpt-4o-mini").cost for way in WAYS]
    assert len(set(costs)) == 1
    assert costs[0] * 3 == costs[0] + costs[0] + costs[0]
    assert 0 < costs[0] < 1


def test_a_ledger_that_cannot_be_opened_is_told_with_its_place(provider: Playback, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    asked = ask(WAYS[0], {"ledger": tmp_path / "file" / "ledger.db"}, base_url=provider.base_url, model="m")
    assert isinstance(asked.error, counterfoil.ConfigurationError)
    assert asked.error.message.startswith(f"The ledger at {tmp_path}/file/ledger.db cannot be opened: ")
    assert "Errno" not in asked.error.message
