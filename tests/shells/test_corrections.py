"""An estimate is counted again after the reply: in books, on the command line, in metrics; not in the answer."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from counterfoil import Client
from counterfoil.cli import main
from counterfoil.ledger.correction import with_corrections
from counterfoil.ledger.entry import Exit
from counterfoil.stores.projection import TotalKey
from counterfoil.stores.sqlite import SqliteStore
from counterfoil.testing import ChatReply, chat_reply, running
from tests.shells.gateway import HELLO, SECONDS, RunningGateway, gateway

__all__: list[str] = []

splintr = pytest.importorskip("splintr", reason="splintr-rs (the extra `tokenizers`) is not installed")

TEXT = tuple(f"{word} " for word in ("The tide turns at noon; the boats come home at dusk." * 6).split())
SAID = "".join(TEXT)
MODEL = "gpt-4o-mini"
TOKENS = len(splintr.Tokenizer.from_pretrained("o200k_base").encode_ordinary(SAID))


def _counted(served: RunningGateway) -> None:
    corrector = served.service._corrector
    assert corrector is not None
    assert corrector.flush(SECONDS)
    assert corrector.held == 0


def test_a_gateway_books_the_estimate_and_then_its_correction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running() as provider, gateway(tmp_path, {MODEL: provider.base_url}) as served:
        provider.queue(ChatReply(text=TEXT, shape="absent").script())
        answer = served.chat(MODEL, stream=True, stream_options={"include_usage": True})
        _counted(served)
        entry, correction = served.entries()
        told = json.loads(answer.frames[-2])["usage"]
        assert (told["completion_tokens"], told["estimated"]) == (entry.usage.output_tokens, True)
        assert entry.usage.output_tokens != TOKENS
        together = with_corrections(entry, [correction])
        assert together.usage.output_tokens == TOKENS
        assert served.books.store.usage()[TotalKey()].output_tokens == TOKENS
        assert served.books.store.usage()[TotalKey()].attempts == 1
        assert served.books.store.verify() == []
        metrics = served.get("/metrics").body.decode()
        labels = f'provider="playhouse",model="{MODEL}"'
        assert f"counterfoil_corrections_total{{{labels}}} 1" in metrics
        difference = correction.usage.output_tokens or 0
        change, changed = ("more" if difference > 0 else "fewer"), abs(difference)
        assert (
            f'counterfoil_corrected_tokens_total{{{labels},direction="output",change="{change}"}} {changed}' in metrics
        )
    here = ("--data-dir", str(tmp_path))
    assert main(["entries", "--json", *here]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["corrects"], second["corrects"]) == (None, first["attempt"])
    assert second["estimator"].startswith("splintr ")
    assert first["usage"]["output_tokens"] + second["usage"]["output_tokens"] == TOKENS
    assert main(["entries", *here]) == 0
    _, plain, corrected = capsys.readouterr().out.splitlines()
    assert " completed " in plain
    assert " correction " in corrected
    for name in (first["attempt"], second["attempt"]):
        assert main(["explain", name, "--json", *here]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["entry"]["attempt"] == first["attempt"]
        assert said["corrected"]["usage"]["output_tokens"] == TOKENS
        assert [one["correction"] for one in said["corrections"]] == [second["attempt"]]
        assert main(["explain", name, *here]) == 0
        shown = capsys.readouterr().out
        assert "Counted again" in shown
        assert "o200k_base" in shown
    assert main(["verify", *here]) == 0
    assert "(1 attempt)" in capsys.readouterr().out


def test_a_reply_that_was_cut_is_corrected_as_far_as_it_came(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {MODEL: provider.base_url}) as served:
        provider.queue(ChatReply(text=TEXT).script().cut_at(20))
        answer = served.chat(MODEL, stream=True)
        _counted(served)
        entry, correction = served.entries()
        assert entry.exit is Exit.TRUNCATED
        came = "".join(json.loads(one)["choices"][0]["delta"].get("content", "") for one in answer.frames[:-1])
        exact = len(splintr.Tokenizer.from_pretrained("o200k_base").encode_ordinary(came))
        assert with_corrections(entry, [correction]).usage.output_tokens == exact > 0


def test_what_was_reported_is_not_corrected_and_off_is_off(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {MODEL: provider.base_url}) as served:
        served.chat(MODEL, stream=True)
        _counted(served)
        assert served.entry().exit is Exit.COMPLETED
    off = tmp_path / "off"
    off.mkdir()
    with running() as provider, gateway(off, {MODEL: provider.base_url}, "estimates: {tokenizer: off}") as served:
        provider.queue(chat_reply(text=TEXT, shape="absent"))
        served.chat(MODEL, stream=True)
        assert served.service._corrector is None
        assert served.entry().usage.estimated


def test_a_change_of_the_setting_takes_a_restart(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {MODEL: provider.base_url}) as served:
        served.config_path.write_text(served.config_path.read_text() + "\nestimates: {max_bytes: 4096}\n")
        answer = served.post({}, "/admin/reload")
        assert "`estimates` changed and takes a restart" in answer.body.decode()


def test_a_client_with_a_ledger_corrects_it_and_its_own_numbers_stay_as_told(tmp_path: Path) -> None:
    path = tmp_path / "books.db"
    with running() as provider, Client(base_url=provider.base_url, api_key="play", ledger=path) as client:
        provider.queue(chat_reply(text=TEXT, shape="absent"))
        stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        for _ in stream:
            pass
        assert client.flush(SECONDS)
    with closing(SqliteStore(path)) as store:
        entry, correction = store.entries()
        assert stream.entry == entry
        assert stream.usage is not None
        assert stream.usage.completion_tokens == entry.usage.output_tokens
        assert with_corrections(entry, [correction]).usage.output_tokens == TOKENS
