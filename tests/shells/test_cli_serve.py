"""Setting up and serving from the command line: what is said is what is served, and secrets are never shown."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from counterfoil.cli import main
from counterfoil.cli.child import gateway_child
from counterfoil.cli.demo_client import write_config
from counterfoil.cli.failure import CommandError, ExitCode
from counterfoil.cli.local import progress_bar
from counterfoil.cli.setup import trial_model
from counterfoil.cli.talk import GatewayClient, Refused
from counterfoil.config import Config
from counterfoil.driver.discover import Discovered, Found
from counterfoil.driver.resolve import Resolver, load_table
from counterfoil.ledger.price_table import PriceTable
from counterfoil.server.setup import Setup
from counterfoil.testing import ChatReply, Counts, Playback, html_answer, running
from counterfoil.transport.secret import SecretStore

__all__: list[str] = []

CLI = [sys.executable, "-m", "counterfoil"]
SECONDS = 60
USAGE = Counts(input=21, output=6)
MODELS = {
    "tides": ChatReply(text="The tide turns at noon today.", usage=USAGE).script(),
    "cut": ChatReply(text="The tide turns at noon today.", usage=USAGE).script().cut_at(3),
}


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither its keys nor its books."""
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_TOKEN", "_KEY")) or name == "COUNTERFOIL_DATA_DIR":
            monkeypatch.delenv(name)
    monkeypatch.setenv("COUNTERFOIL_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def provider() -> Iterator[Playback]:
    with running(Playback(models=MODELS)) as playback:
        yield playback


def _config(directory: Path, provider: Playback, **more: Any) -> Path:
    where = {"provider": "playback", "base_url": provider.base_url}
    path = write_config(directory, {name: [{**where, "model": name}] for name in MODELS})
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))
    return path


def _post(url: str, body: Mapping[str, Any]) -> dict[str, Any]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)
    try:
        connection.request(
            "POST", f"{parts.path}/chat/completions", json.dumps(body), {"content-type": "application/json"}
        )
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


@contextmanager
def _serving(*words: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """`counterfoil serve`, and what it said up to the thing to try."""
    command = [*CLI, "serve", "--port", "0", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said = []
            for line in process.stdout:
                said.append(line.rstrip("\n"))
                if line.startswith("  -d ") or "local install" in line:
                    break
            yield process, said
        finally:
            process.kill()


def _wait(process: subprocess.Popen[str]) -> int:
    return process.wait(SECONDS)


# ---- serve


def test_serve_says_where_it_is_and_what_to_try_and_that_works(tmp_path: Path, provider: Playback) -> None:
    config = _config(tmp_path, provider)
    with _serving("--config", str(config), "--data-dir", str(tmp_path)) as (process, said):
        [url] = [line.split()[1] for line in said if line.startswith("url")]
        assert f"books    {tmp_path / 'ledger.db'}" in said
        assert [line.split()[1] for line in said if line.startswith("serving")] == list(MODELS)
        body = said[-1].strip().removeprefix("-d ").strip("'")
        answer = _post(url, json.loads(body))
        assert answer["choices"][0]["message"]["content"] == "The tide turns at noon today."
        done = subprocess.run(
            [*CLI, "entries", "--data-dir", str(tmp_path), "--json"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
        entry = json.loads(done.stdout)
        assert (entry["exit"], entry["usage"]["total_tokens"]) == ("completed", USAGE.total)
        assert entry["usage"]["total_tokens"] == answer["usage"]["total_tokens"]
        process.send_signal(signal.SIGTERM)
        assert _wait(process) == 0


def test_without_anything_to_serve_it_says_what_to_do(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("discover: false\n")
    with _serving("--config", str(config), "--data-dir", str(tmp_path)) as (process, said):
        assert any("OPENAI_API_KEY" in line for line in said)
        process.send_signal(signal.SIGINT)
        assert _wait(process) == 0


def test_logs_in_json_are_a_json_object_a_line(tmp_path: Path, provider: Playback) -> None:
    config = _config(tmp_path, provider)
    words = ("--config", str(config), "--data-dir", str(tmp_path), "--log-format", "json", "--log-level", "debug")
    with _serving(*words) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert _wait(process) == 0
        assert process.stderr is not None
        logged = [json.loads(line) for line in process.stderr.read().splitlines()]
    assert any("shutting down" in record["message"] for record in logged)
    assert all({"at", "level", "logger", "message"} <= record.keys() for record in logged)


def test_a_port_that_is_taken_is_said_with_a_free_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("discover: false\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = main(["serve", "--config", str(config), "--data-dir", str(tmp_path), "--port", str(port)])
    assert code == ExitCode.UNREACHABLE
    err = capsys.readouterr().err
    assert f"Port {port}" in err
    assert "--port" in err


def test_check_says_what_would_be_served_and_serves_nothing(
    tmp_path: Path, provider: Playback, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(tmp_path, provider)
    assert main(["serve", "--check", "--config", str(config), "--data-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "127.0.0.1:4000" in out
    assert "playback/tides" in out
    assert not (tmp_path / "ledger.db").exists()


def test_check_notes_what_would_stop_a_start_at_this_moment(
    tmp_path: Path, provider: Playback, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(tmp_path, provider)
    file = tmp_path / "file"
    file.write_text("")
    words = ["serve", "--check", "--config", str(config)]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main([*words, "--port", str(port), "--data-dir", str(file / "deep" / "er")]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert f"Port {port} on 127.0.0.1 is taken" in notes[0]
    assert notes[1:] == [f"note: The books cannot be kept in {file / 'deep' / 'er'}: {file} is no directory."]
    assert main([*words, "--port", "0", "--data-dir", str(tmp_path / "new")]) == 0
    assert "note: " not in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_check_notes_a_data_directory_that_cannot_be_written(
    tmp_path: Path, provider: Playback, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(tmp_path, provider)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    # To root nothing is closed, so the system's answer is given here as it would be to anybody else.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed or not mode & os.W_OK)
    assert main(["serve", "--check", "--config", str(config), "--port", "0", "--data-dir", str(closed / "x")]) == 0
    assert f"note: The books cannot be kept in {closed / 'x'}: {closed} cannot be written." in capsys.readouterr().err


def test_the_first_thing_to_try_is_a_name_that_leads_to_the_provider_that_was_found() -> None:
    table = load_table()
    rows = [(name, row) for name, row in table.items() if row.try_first is not None and row.secret_env]
    assert len(rows) > 5
    for name, row in rows:
        found = Discovered((Found(name, row.title, "environment", row.secret_env[0], (), row.secret_env[0]),))
        environ = {row.secret_env[0]: "secret"} | dict.fromkeys([*row.region_env, *row.project_env], "somewhere-1")
        names = Resolver(Config(), SecretStore(), environ, discovered=found)
        setup = Setup(Config(), names, names.secrets, PriceTable([]), found)
        model = trial_model(setup)
        assert model is not None
        assert names.resolve(model).deployments[0].provider.name == name


def test_a_wrong_configuration_is_named_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("modles: {}\nlisten: {port: high}\n")
    for words in (["serve", "--check"], ["serve"], ["models"]):
        assert main([*words, "--config", str(config), "--data-dir", str(tmp_path)]) == ExitCode.CONFIGURATION
        err = capsys.readouterr().err
        assert f"{config}:1:1: modles" in err
        assert f"{config}:2:" in err
        assert "Traceback" not in err


def test_listening_for_everybody_without_keys_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("discover: false\n")
    for check in ([], ["--check"]):
        words = ["serve", *check, "--config", str(config), "--data-dir", str(tmp_path), "--host", "0.0.0.0"]
        assert main(words) == ExitCode.CONFIGURATION
        assert "keys" in capsys.readouterr().err


def test_books_that_cannot_be_opened_stop_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ledger.db").write_bytes(b"not a database at all, certainly not one of ours" * 40)
    config = tmp_path / "gateway.yaml"
    config.write_text("discover: false\n")
    words = ["serve", "--config", str(config), "--data-dir", str(tmp_path), "--port", "0"]
    assert main(words) == ExitCode.UNREACHABLE
    assert "ledger.db" in capsys.readouterr().err


def test_a_place_where_books_cannot_be_is_told_with_what_chose_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    config = tmp_path / "gateway.yaml"
    for text, place in (("discover: false\n", "--data-dir"), ("ledger: {path: file/ledger.db}\n", "ledger.path")):
        config.write_text(text)
        words = ["serve", "--config", str(config), "--data-dir", str(tmp_path / "file"), "--port", "0"]
        assert main(words) == ExitCode.UNREACHABLE
        said = capsys.readouterr().err
        assert f"The books at {tmp_path}/file/ledger.db cannot be opened: " in said
        assert f"Name another place with {place}" in said
        assert "Errno" not in said


def test_what_is_found_wrong_after_reading_has_its_place_in_the_file_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "gateway.yaml"
    for text, said in (
        (
            "\ncors: {origins: [https://app.example]}\n",
            ":2:8: cors.origins: a gateway without keys answers no web page",
        ),
        ("\nprices: no.yaml\n", f":2:1: prices: {tmp_path}/no.yaml cannot be read: No such file or directory"),
    ):
        config.write_text(f"discover: false{text}")
        assert main(["serve", "--config", str(config), "--check", "--data-dir", str(tmp_path)]) == 3
        assert capsys.readouterr().err.startswith(f"counterfoil: {config}{said}")


def test_a_word_that_no_model_has_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("discover: false\n")
    assert main(["models", "tides", "--offline", "--config", str(config), "--data-dir", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "No name here holds 'tides'. `counterfoil models` lists what is served.\n"


def test_a_child_that_does_not_start_tells_why(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("modles: {}\n")
    with pytest.raises(CommandError, match="modles") as refused, gateway_child(config, tmp_path):
        pass
    assert refused.value.code is ExitCode.UNREACHABLE


# ---- what there is


def test_models_lists_routes_and_what_was_found(
    tmp_path: Path, provider: Playback, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk-never-to-be-shown")
    config = _config(tmp_path, provider, discover=True)
    assert main(["models", "--offline", "--config", str(config), "--data-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "playback/tides" in out
    assert "groq/NAME" in out
    assert "never-to-be-shown" not in out
    assert main(["models", "--offline", "--config", str(config), "--data-dir", str(tmp_path), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"name": "tides", "deployments": ["playback/tides"], "dialects": ["openai_chat"]} in lines


def test_providers_says_whether_a_secret_is_set_and_never_which(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk-never-to-be-shown")
    assert main(["providers", "--json"]) == 0
    out = capsys.readouterr().out
    rows = {row["name"]: row for row in map(json.loads, out.splitlines())}
    assert (rows["groq"]["secret_found"], rows["openai"]["secret_found"]) == ("GROQ_API_KEY", None)
    faces = [face for row in rows.values() for face in row["faces"]]
    assert all(face["link"].startswith("https://") and face["evidence"] for face in faces)
    assert main(["providers"]) == 0
    assert main(["providers", "groq"]) == 0
    shown = capsys.readouterr().out
    assert "ready (GROQ_API_KEY)" in shown
    assert "never-to-be-shown" not in out + shown
    assert main(["providers", "nobody"]) == ExitCode.WRONG


def test_prices_are_shown_with_source_and_nearest_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data-dir", str(tmp_path)]
    assert main(["prices", "show", "gpt-4o-mini", "--provider", "openai", "--json", *words]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["prices"][0]["rates"]["input"] == "0.15"
    assert main(["prices", "show", "gpt-4o-mini", *words]) == 0
    assert "Source: genai-prices" in capsys.readouterr().out
    assert main(["prices", "show", "smollm2-135m-instruct", *words]) == 0
    assert "costs nothing (The embedded model, on your own machine)" in capsys.readouterr().out
    assert main(["prices", "show", "any", "--provider", "ollama", "--json", *words]) == 0
    assert json.loads(capsys.readouterr().out)["free"] is True
    assert main(["prices", "show", "claude-opus-4-1", "--provider", "nobody", *words]) == ExitCode.WRONG
    assert "is known at nobody. The list has it of anthropic" in capsys.readouterr().err
    assert main(["prices", "show", "gpt-4o-mni", *words]) == ExitCode.WRONG
    assert "gpt-4o-mini" in capsys.readouterr().err
    (tmp_path / "prices.yaml").write_text("- nonsense\n")
    assert main(["prices", "show", "gpt-4o-mini", *words]) == ExitCode.CONFIGURATION


def test_an_update_that_is_not_a_price_list_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = tmp_path / "genai_prices-1-py3-none-any.whl"
    wheel.write_bytes(b"no wheel")
    assert main(["prices", "update", "--wheel", str(wheel), "--data-dir", str(tmp_path)]) == ExitCode.WRONG
    assert "still in use" in capsys.readouterr().err
    assert not (tmp_path / "prices.updated.json").exists()


def test_the_embedded_model_can_be_named_shown_and_forgotten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["local", "status"]) == ExitCode.WRONG
    assert "counterfoil local install" in capsys.readouterr().out
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF" + bytes(64))
    assert main(["local", "install", "--gguf", str(other)]) == 0
    capsys.readouterr()
    main(["local", "status", "--json"])
    weights = json.loads(capsys.readouterr().out)["weights"]
    assert (weights["path"], weights["origin"]) == (str(other), "registered")
    assert main(["local", "forget"]) == 0
    assert other.exists()
    assert main(["local", "install", "--gguf", str(tmp_path / "absent.gguf")]) == ExitCode.WRONG
    assert "absent.gguf" in capsys.readouterr().err


def test_progress_is_a_bar_on_a_terminal_and_a_line_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    show = progress_bar()
    for done in (0, 40_000_000, 93_000_000, 93_000_000):
        show("download", done, 93_000_000)
    assert capsys.readouterr().err == "downloading 93 MB\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    show = progress_bar()
    for done in (0, 46_500_000, 93_000_000, 93_000_000):
        show("download", done, 93_000_000)
    drawn = capsys.readouterr().err
    assert drawn.count("\n") == 1
    assert f"[{'#' * 15:<30}]" in drawn
    assert f"[{'#' * 30}]" in drawn


# ---- chat


def _type(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_chat_shows_the_reply_and_what_it_used(
    tmp_path: Path, provider: Playback, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(tmp_path, provider)
    _type(monkeypatch, "When does it turn?\n")
    with gateway_child(config, tmp_path) as gateway:
        assert main(["chat", "tides", "--url", gateway.url, "--data-dir", str(tmp_path)]) == 0
        said = capsys.readouterr()
    assert said.out == "The tide turns at noon today.\n"
    assert "21 in, 6 out" in said.err
    assert "entry " in said.err
    [record] = provider.served
    assert record.request.json["messages"] == [{"role": "user", "content": "When does it turn?"}]


def test_chat_tells_of_a_cut_reply_and_of_an_unknown_model(
    tmp_path: Path, provider: Playback, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(tmp_path, provider)
    with gateway_child(config, tmp_path) as gateway:
        words = ["--url", gateway.url, "--data-dir", str(tmp_path)]
        _type(monkeypatch, "Go on.")
        assert main(["chat", "cut", *words]) == ExitCode.WRONG
        said = capsys.readouterr()
        assert said.out == "The tide\n"
        assert "ended before it was complete" in said.err
        assert "truncated" in said.err
        _type(monkeypatch, "Go on.")
        assert main(["chat", "tydes", *words]) == ExitCode.WRONG
        assert "tides" in capsys.readouterr().err


def test_chat_has_a_gateway_of_its_own_where_none_answers(
    tmp_path: Path, provider: Playback, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    monkeypatch.setattr("counterfoil.cli.chat.DEFAULT_URL", f"http://127.0.0.1:{port}/v1")
    config = _config(tmp_path, provider)
    _type(monkeypatch, "When does it turn?")
    assert main(["chat", "--config", str(config), "--data-dir", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out == "The tide turns at noon today.\n"
    assert "this chat has its own" in said.err
    _type(monkeypatch, "Hello?")
    assert main(["chat", "--url", f"http://127.0.0.1:{port}/v1"]) == ExitCode.UNREACHABLE
    assert "counterfoil serve" in capsys.readouterr().err


def test_the_chat_client_passes_on_what_is_no_reply(provider: Playback) -> None:
    provider.queue(html_answer())
    client = GatewayClient(provider.base_url)
    with pytest.raises(Refused), client.chat("tides", [{"role": "user", "content": "x"}]) as reply:
        list(reply)
    for url in ("127.0.0.1:4000", "ftp://127.0.0.1/v1", "http://127.0.0.1:port/v1", "http://"):
        with pytest.raises(CommandError):
            GatewayClient(url)


def test_a_command_that_does_not_exist_is_not_said_to_the_model(
    tmp_path: Path, provider: Playback, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with gateway_child(_config(tmp_path, provider), tmp_path) as gateway:
        words = ["chat", "tides", "--url", gateway.url, "--data-dir", str(tmp_path)]
        monkeypatch.setattr(sys, "stdin", Terminal("/modle gpt-4o\n/quit\n/usr/bin/env?\n /modle?\n/new\n"))
        assert main(words) == 0
        said = capsys.readouterr().err
        _type(monkeypatch, "/modle")
        assert main(words) == 0
    assert "There is no command /modle. /new begins a new conversation, Ctrl-D leaves." in said
    assert "There is no command /quit." in said
    assert "A new conversation." in said
    asked = [record.request.json["messages"][-1]["content"] for record in provider.served]
    assert asked == ["/usr/bin/env?", " /modle?", "/modle"]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal of its own")
def test_ctrl_c_stops_the_reply_and_shows_what_was_booked(tmp_path: Path, provider: Playback) -> None:
    words = tuple(f"w{place} " for place in range(500))
    provider.models["slow"] = ChatReply(text=words, usage=Counts(input=21, output=500), pace=0.02).script()
    where = {"provider": "playback", "base_url": provider.base_url, "model": "slow"}
    config = write_config(tmp_path, {"slow": [where]})
    ours, theirs = os.openpty()
    with gateway_child(config, tmp_path) as gateway:
        command = [*CLI, "chat", "--url", gateway.url, "--data-dir", str(tmp_path)]
        with subprocess.Popen(
            command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            os.close(theirs)
            try:
                assert process.stderr is not None
                assert process.stderr.readline().startswith("Talking to slow at http://127.0.0.1:")
                assert "Ctrl-D leaves" in process.stderr.readline()
                os.write(ours, b"Go on.\n")
                provider.block_until(lambda: provider.served and provider.served[0].units > 5, SECONDS)
                process.send_signal(signal.SIGINT)
                assert "client_gone" in process.stderr.readline()
                os.write(ours, b"\x04")
                assert _wait(process) == 0
            finally:
                process.kill()
                os.close(ours)
    [record] = provider.served
    assert record.client_left


def test_a_gateway_that_wants_a_key_is_not_taken_for_none(
    tmp_path: Path, provider: Playback, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"required": True, "static": [{"name": "me", "secret": "a-long-enough-key"}]}
    with gateway_child(_config(tmp_path, provider, keys=keys), tmp_path) as gateway:
        monkeypatch.setattr("counterfoil.cli.chat.DEFAULT_URL", gateway.url)
        _type(monkeypatch, "Hello?")
        assert main(["chat", "tides", "--data-dir", str(tmp_path)]) == ExitCode.UNREACHABLE
        assert "--key" in capsys.readouterr().err
        _type(monkeypatch, "Hello?")
        monkeypatch.setenv("COUNTERFOIL_KEY", "a-long-enough-key")
        assert main(["chat", "tides", "--data-dir", str(tmp_path)]) == 0
        assert "a-long-enough-key" not in "".join(capsys.readouterr())


# ---- the demo


def test_whatever_breaks_the_demo_finds_the_books_right(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openai")
    assert main(["demo", "--break"]) == 0
    out = capsys.readouterr().out
    assert "The books are right." in out
    for word in ("truncated", "client_gone", "crashed"):
        assert f"ledger    {word}: " in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.local_model
def test_in_the_demo_client_and_ledger_agree(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openai")
    monkeypatch.delenv("COUNTERFOIL_CACHE_DIR")
    from counterfoil.local import installed

    if installed() is None:
        pytest.skip("the embedded model is not installed (counterfoil local install)")
    assert main(["demo", "--prompt", "Say hello."]) == 0
    assert "Client and ledger agree." in capsys.readouterr().out


def test_the_demo_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openai")
    assert main(["demo"]) == ExitCode.WRONG
    assert "counterfoil local install" in capsys.readouterr().err
