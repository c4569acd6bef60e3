"""The gateway over real sockets: what a client asks for is what it gets, and the entry says the same."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import msgspec
import pytest

from counterfoil.core.error import CounterfoilError
from counterfoil.ledger.entry import Exit
from counterfoil.local import MODEL_NAME
from counterfoil.server.app import DOORS
from counterfoil.server.run import _watch_books
from counterfoil.server.setup import load_setup
from counterfoil.stores.health import Health
from counterfoil.testing import CHAT_SHAPES, ChatReply, ChatShape, Counts, refusing_stream_options, running
from tests.shells.gateway import gateway

USAGE = Counts(input=120, output=9, cache_read=50, reasoning=2)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_chat_is_answered_and_booked(tmp_path: Path, path: str, stream: bool) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        provider.queue(ChatReply(text="Good morning", usage=USAGE, stream=stream).script())
        body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": stream, "user": "u-1"}
        answer = served.post(body, path)
        assert answer.status == 200
        entry = served.entry()
        assert answer.headers["x-counterfoil-attempt"] == entry.opening.attempt
        assert answer.headers["x-counterfoil-exchange"] == entry.opening.exchange
        assert (entry.exit, entry.opening.user, entry.opening.streamed) == (Exit.COMPLETED, "u-1", stream)
        assert (entry.usage.input_tokens, entry.usage.output_tokens) == (120, 9)
        assert provider.served[0].headers["authorization"] == "Bearer play"
        if stream:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.text == "Good morning"
        else:
            assert answer.json["usage"]["total_tokens"] == 129
            assert answer.json["choices"][0]["message"]["content"] == "Good morning"


@pytest.mark.parametrize("shape", CHAT_SHAPES)
def test_who_asks_for_usage_gets_one_usage_frame_at_the_end_whatever_the_provider_sent(
    tmp_path: Path, shape: ChatShape
) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        provider.queue(ChatReply(usage=Counts(input=120, output=10), shape=shape).script())
        answer = served.chat(stream=True, stream_options={"include_usage": True})
        assert answer.frames[-1] == "[DONE]"
        chunks = [json.loads(frame) for frame in answer.frames[:-1]]
        assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1]["choices"] == []
        entry = served.entry()
        assert chunks[-1]["usage"]["prompt_tokens"] == entry.usage.input_tokens
        assert chunks[-1]["usage"]["completion_tokens"] == entry.usage.output_tokens
        assert bool(chunks[-1]["usage"].get("estimated")) is (shape == "absent")
        if shape != "absent":
            assert chunks[-1]["usage"]["total_tokens"] == 130


def test_who_does_not_ask_gets_no_usage_but_the_books_have_it(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        answer = served.chat(stream=True)
        assert not any("usage" in json.loads(frame) for frame in answer.frames[:-1])
        assert not served.entry().usage.estimated
        assert provider.served[0].request.asks_usage


@pytest.mark.parametrize(
    ("configuration", "sent"),
    [
        ("", False),
        ("stream_usage: always", True),
        ("stream_usage: when_asked", False),
    ],
)
def test_usage_is_sent_unasked_where_the_configuration_says_so(tmp_path: Path, configuration: str, sent: bool) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}, configuration) as served:
        last = json.loads(served.chat(stream=True).frames[-2])
        assert ("usage" in last) is sent


def test_a_routes_setting_for_usage_goes_before_the_one_for_all(tmp_path: Path) -> None:
    with running() as provider:
        one = f'{{provider: p, model: m, base_url: "{provider.base_url}"}}'
        text = (
            f"models:\n  quiet: {{stream_usage: when_asked, deployments: [{one}]}}\n  plain: [{one}]\n"
            "stream_usage: always\nlisten: {port: 0}\n"
        )
        with gateway(tmp_path, text=text) as served:
            assert "usage" in json.loads(served.chat("plain", stream=True).frames[-2])
            assert "usage" not in json.loads(served.chat("quiet", stream=True).frames[-2])


def test_a_server_that_refuses_stream_options_is_asked_again_without_and_remembered(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        provider.default = refusing_stream_options(ChatReply(shape="finish_chunk").script())
        assert served.chat(stream=True).frames[-1] == "[DONE]"
        assert [entry.exit for entry in served.entries()] == [Exit.REJECTED, Exit.COMPLETED]
        assert served.chat(stream=True).frames[-1] == "[DONE]"
        assert len(served.entries()) == 3


def test_models_are_listed_and_shown(tmp_path: Path) -> None:
    with gateway(tmp_path, {"b/c": "http://127.0.0.1:9/v1", "a": "http://127.0.0.1:9/v1"}) as served:
        listed = served.get("/v1/models").json
        assert listed["object"] == "list"
        assert [(model["id"], model["object"], model["owned_by"]) for model in listed["data"]] == [
            ("b/c", "model", "playhouse"),
            ("a", "model", "playhouse"),
        ]
        assert all(isinstance(model["created"], int) for model in listed["data"])
        assert served.get("/v1/models/b/c").json == listed["data"][0]
        assert served.get("/v1/models/b%2Fc").json == listed["data"][0]
        missing = served.get("/v1/models/d")
        assert (missing.status, missing.error["code"]) == (404, "model_not_found")
        assert served.call("HEAD", "/v1/models").status == 200


def test_health_says_alive_ready_and_why_not(tmp_path: Path) -> None:
    with gateway(tmp_path, {"m": "http://127.0.0.1:9/v1"}) as served:
        assert served.get("/health/live").json == {"status": "live", "service": "counterfoil"}
        ready = served.get("/health/ready")
        assert (ready.status, ready.json["status"], ready.json["reasons"]) == (200, "ready", [])
        state = served.gateway.state
        served.gateway.state = msgspec.structs.replace(state, health=lambda: Health(False, "disk full"))
        red = served.get("/health/ready")
        assert (red.status, red.json["reasons"], red.json["books"]) == (503, ["books: disk full"], "red")
        assert served.get("/health/live").status == 200


def test_the_page_says_what_this_is_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    with gateway(tmp_path, {'m"><script>': "http://127.0.0.1:9/v1"}) as served:
        page = served.get("/", accept="text/html,application/xhtml+xml,application/json;q=0.9")
        assert page.status == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        text = page.body.decode()
        assert f"http://127.0.0.1:{served.port}/v1" in text
        assert "<script" not in text
        assert "&lt;script&gt;" in text
        assert "$" not in text.replace("$COUNTERFOIL_KEY", "")
        assert "src=" not in text
        assert "http://" not in text.replace(f"http://127.0.0.1:{served.port}", "")
        assert "https://" not in text
        for path in ("/metrics", "/health/ready", "/health/live", "/v1/models"):
            assert f'href="{path}"' in text
            assert path in DOORS


def test_what_the_page_shows_for_a_program_is_no_variable_of_a_shell(tmp_path: Path) -> None:
    """`$COUNTERFOIL_KEY` is a variable in a shell only: in Python and JavaScript it would be sent as it stands."""
    keys = "keys: {required: true, static: [{name: a, secret: one-secret-1}]}"
    with gateway(tmp_path, {"m": "http://127.0.0.1:9/v1"}, keys) as served:
        curl, python, script = re.findall(r"<pre>(.*?)</pre>", served.get("/").body.decode(), re.DOTALL)
    assert '"Authorization: Bearer $COUNTERFOIL_KEY"' in curl
    assert 'api_key="YOUR-GATEWAY-KEY"' in python
    assert 'apiKey: "YOUR-GATEWAY-KEY"' in script


def test_the_page_is_json_for_who_asks_for_json_and_has_a_head(tmp_path: Path) -> None:
    with gateway(tmp_path, {"m": "http://127.0.0.1:9/v1"}) as served:
        facts = served.get("/", accept="application/json").json
        assert facts["models"] == ["m"]
        assert facts["base_url"] == f"http://127.0.0.1:{served.port}/v1"
        head = served.call("HEAD", "/")
        assert (head.status, head.body) == (200, b"")
        assert int(head.headers["content-length"]) > 1000


def test_a_defect_of_ours_is_answered_and_its_place_logged_without_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with gateway(tmp_path, {"m": "http://127.0.0.1:9/v1"}) as served:

        def fail(name: str) -> None:
            raise KeyError(f"SECRET {name}")

        monkeypatch.setattr(served.gateway.state.names, "resolve", fail)
        answer = served.chat()
        assert (answer.status, answer.error["type"], answer.error["fault"]) == (500, "server_error", "gateway")
        assert "KeyError" in caplog.text
        assert "doors.py" in caplog.text
        assert "SECRET" not in caplog.text
        assert "SECRET" not in answer.body.decode()


def test_the_embedded_model_is_not_served_under_another_models_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("counterfoil.server.setup._embedded_model", lambda: MODEL_NAME)
    config = tmp_path / "counterfoil.yaml"
    config.write_text("models: {m: [{provider: local, model: gpt-4o}]}\n")
    with pytest.raises(CounterfoilError, match="the embedded model is 'smollm2-135m-instruct', not 'gpt-4o'"):
        load_setup(config, environ={})


def test_an_embedded_model_that_is_not_there_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("counterfoil.local.engine.installed", lambda: None)
    text = f"models: {{m: [{{provider: local, model: {MODEL_NAME}}}]}}\nlisten: {{port: 0}}\nretries: {{attempts: 1}}\n"
    with gateway(tmp_path, text=text) as served:
        answer = served.chat()
        assert answer.status == 502
        assert "not installed" in answer.error["message"]
        assert served.entry().exit is Exit.LOST


def test_the_log_says_when_the_books_go_red_and_when_they_are_whole_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = iter([Health(True), Health(False, "disk full"), Health(False, "disk full"), Health(True)])

    class Books:
        def health(self) -> Health:
            state = next(told, None)
            if state is None:
                raise asyncio.CancelledError
            return state

    monkeypatch.setattr("counterfoil.server.run._TICK", 0.0)
    with caplog.at_level("INFO", logger="counterfoil.server"), pytest.raises(asyncio.CancelledError):
        asyncio.run(_watch_books(Books()))  # type: ignore[arg-type]  # all it asks of books
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "disk full" in caplog.records[0].getMessage()
