"""A reload takes the new configuration whole, or keeps the old one and says why; open exchanges notice nothing."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from counterfoil.config import ListenConfig
from counterfoil.testing import chat_reply, running
from tests.shells.gateway import HELLO, Answer, gateway, gateway_process, written
from tests.shells.test_client_gone import wait_until

CHAT = {"model": "m", "messages": HELLO}
KEYS = "keys: {required: true, static: [{name: alice, secret: alice-secret-1}]}"


def test_a_new_model_is_served_after_a_reload(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        assert served.chat("other").status == 404
        served.config_path.write_text(written({"other": provider.base_url}))
        answer = served.post({}, "/admin/reload")
        assert (answer.status, answer.json) == (200, {"reloaded": True, "needs_restart": []})
        assert served.chat("other").status == 200
        assert served.chat("m").status == 404
        assert [model["id"] for model in served.get("/v1/models").json["data"]] == ["other"]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("modles: {}\n", "modles"),
        ("models: {m: [{provider: openai, model: gpt-4o-mini}]}\n", "OPENAI_API_KEY"),
        ("models: [\n", "YAML"),
        ('models: {}\ndiscover: false\nprices: "nowhere.toml"\n', "nowhere.toml"),
    ],
)
def test_a_wrong_configuration_changes_nothing_and_is_named(tmp_path: Path, broken: str, said: str) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        served.config_path.write_text(broken)
        answer = served.post({}, "/admin/reload")
        assert answer.status == 422
        assert answer.json["reloaded"] is False
        assert any(said in message for message in answer.json["errors"]), answer.json
        assert served.chat().status == 200
        served.config_path.unlink()
        assert served.post({}, "/admin/reload").status == 422
        assert served.chat().status == 200


def test_keys_come_and_go_with_a_reload(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        served.config_path.write_text(written({"m": provider.base_url}, KEYS))
        assert served.post({}, "/admin/reload").status == 200
        assert served.post(CHAT).status == 401
        assert served.post({}, "/admin/reload").status == 401
        assert served.post(CHAT, authorization="Bearer alice-secret-1").status == 200
        served.config_path.write_text(written({"m": provider.base_url}, KEYS.replace("-1", "-2")))
        assert served.post({}, "/admin/reload", authorization="Bearer alice-secret-1").status == 200
        assert served.post(CHAT, authorization="Bearer alice-secret-1").status == 401
        assert served.post(CHAT, authorization="Bearer alice-secret-2").status == 200


def test_what_takes_a_restart_is_named_and_left(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        text = written({"m": provider.base_url}).replace("port: 0", "port: 1")
        served.config_path.write_text(text + "ledger: {path: elsewhere.db}\n")
        answer = served.post({}, "/admin/reload")
        assert answer.status == 200
        assert any("listen" in note for note in answer.json["needs_restart"])
        assert any("ledger" in note for note in answer.json["needs_restart"])
        assert served.chat().status == 200
        assert not (tmp_path / "elsewhere.db").exists()
        assert served.post({}, "/admin/reload").json == answer.json, "it is still named the next time"


def test_a_reload_may_not_open_the_gateway_to_everyone(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        state = served.gateway.state
        everywhere = msgspec.structs.replace(state.config, listen=ListenConfig(host="0.0.0.0"))
        served.gateway.state = msgspec.structs.replace(state, config=everywhere)  # as if it listened there
        answer = served.post({}, "/admin/reload")
        assert answer.status == 422
        assert "keys" in answer.json["errors"][0]
        served.config_path.write_text(written({"m": provider.base_url}, KEYS))
        assert served.post({}, "/admin/reload").status == 200


def test_an_open_stream_keeps_the_configuration_it_began_with(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        provider.queue(chat_reply(text="one two three four").hold_at(3, "on"))
        answers: list[Answer] = []
        caller = threading.Thread(target=lambda: answers.append(served.chat(stream=True)), daemon=True)
        caller.start()
        provider.block_until(lambda: provider.served and provider.served[0].waiting_at == "on")
        served.config_path.write_text(written({"other": provider.base_url}))
        assert served.post({}, "/admin/reload").status == 200
        provider.release("on")
        caller.join(10)
        assert answers[0].text == "one two three four"
        assert answers[0].frames[-1] == "[DONE]"
        assert served.entry().opening.route == "m"


def test_limits_are_reloaded_too(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        assert served.post(CHAT, x_long="y" * 9000).status == 200
        served.config_path.write_text(written({"m": provider.base_url}, "limits: {headers: 8192}"))
        assert served.post({}, "/admin/reload").status == 200
        assert served.post(CHAT, x_long="y" * 9000).status == 431


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGHUP")
def test_sighup_reloads_or_logs_why_not(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running() as provider, gateway_process(tmp_path, {"m": provider.base_url}) as served:
        served.config_path.write_text("modles: {}\n")
        served.signal(signal.SIGHUP)
        wait_until(lambda: "modles" in log.read_text(), "nothing was logged")
        assert "the old one stays" in log.read_text()
        assert served.chat().status == 200
        served.config_path.write_text(written({"other": provider.base_url}))
        served.signal(signal.SIGHUP)
        wait_until(lambda: served.chat("other").status == 200, "the new configuration was not taken")
        served.signal(signal.SIGTERM)
        assert served.wait() == 0
