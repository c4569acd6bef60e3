"""Promise: who made a call can read how each of its numbers came about, and nobody else can."""

from __future__ import annotations

import http.client
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from counterfoil.cli import main
from counterfoil.testing import Counts, Playback, chat_reply, error_answer, running
from tests.shells.gateway import HELLO, SECONDS, Answer, RunningGateway, gateway

__all__: list[str] = []

CHAT = {"model": "m", "messages": HELLO}
KEYS = """retries: {attempts: 2, backoff: 0.01, backoff_max: 0.01}
keys: {required: %s, static: [{name: alice, secret: alice-secret-1}, {name: bob, secret: bob-secret-22}]}
"""
ALICE = {"authorization": "Bearer alice-secret-1"}
BOB = {"x_api_key": "bob-secret-22"}


@pytest.fixture(scope="module")
def provider() -> Iterator[Playback]:
    with running() as provider:
        yield provider


def exchange_of(answer: Answer) -> str:
    return answer.headers["x-counterfoil-exchange"]


def receipt(served: RunningGateway, exchange: str, **headers: str) -> Answer:
    """The receipt, once the entry is in the database."""
    assert served.books.flush(SECONDS)
    return served.get(f"/v1/receipts/{exchange}", **headers)


def test_a_receipt_is_what_explain_prints_of_every_attempt(
    provider: Playback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with gateway(tmp_path, {"m": provider.base_url}, KEYS % "true") as served:
        provider.queue(error_answer(500), chat_reply(stream=False, usage=Counts(input=30, output=7, cache_read=12)))
        exchange = exchange_of(served.post(CHAT, **ALICE))
        answer = receipt(served, exchange, **ALICE)
        assert answer.status == 200
        assert answer.headers["cache-control"] == "no-store"
        told = answer.json
        assert told["exchange"] == exchange
        first, second = told["attempts"]
        assert (first["entry"]["exit"], second["entry"]["exit"]) == ("rejected", "completed")
        assert second["entry"]["usage"]["input_tokens"] == 30
        assert {one["counter"]: one["value"] for one in second["reading"]}["cache_read"] == 12
        assert second["kept"][0]["report"]["prompt_tokens"] == 30
        for attempt in told["attempts"]:
            capsys.readouterr()
            assert main(["explain", attempt["entry"]["attempt"], "--json", "--data-dir", str(tmp_path)]) == 0
            assert json.loads(capsys.readouterr().out) == attempt
        assert main(["explain", exchange, "--json", "--data-dir", str(tmp_path)]) == 0
        assert json.loads(capsys.readouterr().out) == told
        assert main(["explain", exchange, "--data-dir", str(tmp_path)]) == 0
        printed = capsys.readouterr().out
        assert [printed.count(f"attempt       {one['entry']['attempt']}") for one in told["attempts"]] == [1, 1]


def test_a_receipt_holds_nothing_of_what_was_said(provider: Playback, tmp_path: Path) -> None:
    with gateway(tmp_path, {"m": provider.base_url}, KEYS % "true") as served:
        provider.queue(chat_reply(stream=False, text="SAID-BY-THE-MODEL"))
        asked = {"model": "m", "messages": [{"role": "user", "content": "SAID-BY-THE-CLIENT"}]}
        body = receipt(served, exchange_of(served.post(asked, **ALICE)), **ALICE).body
        assert b"SAID-BY" not in body
        assert b"secret" not in body


@pytest.mark.parametrize("required", ["true", "false"])
def test_another_keys_call_is_not_found_in_the_words_for_none_at_all(
    provider: Playback, tmp_path: Path, required: str
) -> None:
    with gateway(tmp_path, {"m": provider.base_url}, KEYS % required) as served:
        exchange = exchange_of(served.post(CHAT, **ALICE))
        assert receipt(served, exchange, **ALICE).status == 200
        other = receipt(served, exchange, **BOB)
        none = receipt(served, "019f0000-0000-7000-8000-000000000000", **BOB)
        assert (other.status, other.error["code"]) == (404, "receipt_not_found")
        assert (other.status, other.body) == (none.status, none.body)
        without = receipt(served, exchange)
        assert without.status == (401 if required == "true" else 404)


def test_where_anybody_may_call_a_call_without_a_key_is_shown_to_any_without_one(
    provider: Playback, tmp_path: Path
) -> None:
    with gateway(tmp_path, {"m": provider.base_url}, KEYS % "false") as served:
        exchange = exchange_of(served.post(CHAT))
        assert receipt(served, exchange).status == 200
        assert receipt(served, exchange, **ALICE).status == 404


def test_without_keys_the_owner_sees_every_call(provider: Playback, tmp_path: Path) -> None:
    with gateway(tmp_path, {"m": provider.base_url}, KEYS % "true") as served:
        exchange = exchange_of(served.post(CHAT, **ALICE))
    with gateway(tmp_path, {"m": provider.base_url}) as served:
        assert receipt(served, exchange).json["attempts"][0]["entry"]["key"] == "alice"
        assert receipt(served, exchange, origin="https://evil.example").status == 403


@pytest.mark.parametrize(
    "exchange", ["1", "%00", "a" * 36, "019f0000-0000-7000-8000-00000000000g", "' OR 1=1 --", "%25"]
)
def test_what_is_no_exchange_is_not_found(tmp_path: Path, exchange: str) -> None:
    with gateway(tmp_path, {"m": "http://127.0.0.1:9/v1"}) as served:
        assert served.get(f"/v1/receipts/{exchange.replace(' ', '%20')}").status == 404
        assert served.call("POST", f"/v1/receipts/{'1' * 36}").status == 405


def test_a_call_that_still_runs_has_a_receipt_that_says_so(provider: Playback, tmp_path: Path) -> None:
    with gateway(tmp_path, {"m": provider.base_url}) as served:
        provider.queue(chat_reply().hold_at(2, "receipt"))
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=SECONDS)
        try:
            body = json.dumps({**CHAT, "stream": True})
            connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
            response = connection.getresponse()
            exchange = response.headers["x-counterfoil-exchange"]
            (attempt,) = served.get(f"/v1/receipts/{exchange}").json["attempts"]
            assert (attempt["entry"]["exit"], attempt["detail"]) == ("open", "still open")
            provider.release("receipt")
            response.read()
        finally:
            connection.close()
        assert receipt(served, exchange).json["attempts"][0]["entry"]["exit"] == "completed"


def test_books_that_cannot_be_read_are_a_503_that_names_no_place(
    provider: Playback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(exchange: str) -> None:
        raise sqlite3.OperationalError(f"unable to open {tmp_path}")

    with gateway(tmp_path, {"m": provider.base_url}) as served:
        monkeypatch.setattr(served.gateway, "receipts", fail)
        answer = served.get("/v1/receipts/019f0000-0000-7000-8000-000000000000")
        assert (answer.status, answer.error["fault"]) == (503, "gateway")
        assert str(tmp_path) not in answer.body.decode()
