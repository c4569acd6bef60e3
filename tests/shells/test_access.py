"""Who may call: keys where keys are written, this machine's own programs where they are not, and never a web page."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from counterfoil.config import Config, KeysConfig, ListenConfig, StaticKey
from counterfoil.core.error import CounterfoilError
from counterfoil.server.access import ListenRefused, access_rules, check_listen, is_loopback
from counterfoil.server.asgi import Message, Request
from counterfoil.server.run import Service
from counterfoil.server.setup import load_setup
from counterfoil.testing import Playback, messages_reply, running
from counterfoil.transport.secret import Secret, SecretStore
from tests.shells.gateway import HELLO, gateway

CHAT = {"model": "m", "messages": HELLO}
KEYS = """retries: {attempts: 1}
keys:
  required: %s
  static:
    - {name: alice, secret: alice-secret-1}
    - {name: bob, secret: bob-secret-22, stream_usage: always}
"""
OPEN = "keys: {required: false}"


async def _nobody(*_: object) -> Message:
    raise AssertionError("who may call is asked before anything is read or sent")


def request_of(headers: Mapping[bytes, bytes], **scope: object) -> Request:
    """A request as far as access looks at it."""
    return Request({"type": "http", **scope}, headers, _nobody, _nobody)  # type: ignore[arg-type]  # nobody sends


def test_a_required_key_is_asked_for_and_names_its_entries(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}, KEYS % "true") as served:
        without = served.post(CHAT)
        assert (without.status, without.error["type"]) == (401, "authentication_error")
        assert without.headers["www-authenticate"] == "Bearer"
        assert "Authorization" in without.error["message"]
        wrong = served.post(CHAT, authorization="Bearer alice-secret-2")
        assert wrong.status == 401
        assert "alice-secret" not in wrong.body.decode()
        assert served.post(CHAT, authorization="Basic alice-secret-1").status == 401
        assert served.post(CHAT, authorization="Bearer alice-secret-1").status == 200
        assert served.post(CHAT, x_api_key="bob-secret-22").status == 200
        assert served.post(CHAT, authorization="bearer  alice-secret-1 ").status == 200
        assert [entry.opening.key for entry in served.entries()] == ["alice", "bob", "alice"]


@pytest.mark.parametrize("header", ["x-api-key", "api-key", "x-goog-api-key", "X-Goog-Api-Key"])
def test_a_key_is_known_wherever_a_client_puts_it(tmp_path: Path, header: str) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}, KEYS % "true") as served:
        json_body = {"content-type": "application/json"}
        for offered, status in (("alice-secret-1", 200), ("alice-secret-2", 401)):
            answer = served.call(
                "POST", "/v1/chat/completions", json.dumps(CHAT).encode(), json_body | {header: offered}
            )
            assert answer.status == status
        assert served.entry().opening.key == "alice"
        assert "alice-secret-1" not in str(provider.served[0].request.headers)


def test_a_key_is_known_in_a_url_too(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}, KEYS % "true") as served:
        path = "/v1/chat/completions"
        assert served.post(CHAT, f"{path}?key=alice-secret-1").status == 200
        assert served.post(CHAT, f"{path}?alt=sse&key=bob%2Dsecret-22&key=wrong").status == 200
        for query in ("key=wrong", "key=", "monkey=alice-secret-1", "key=wrong&key=alice-secret-1", "key=%FF"):
            assert served.post(CHAT, f"{path}?{query}").status == 401
        assert [entry.opening.key for entry in served.entries()] == ["alice", "bob"]
        assert "secret" not in provider.served[0].request.path


def test_a_known_key_counts_whatever_else_is_shown(tmp_path: Path) -> None:
    with gateway(tmp_path, {"m": "http://127.0.0.1:9/v1"}, KEYS % "true") as served:
        mixed = {"authorization": "Bearer from-elsewhere", "x_api_key": "alice-secret-1"}
        assert served.get("/v1/models", **mixed).status == 200


def _sent(address: str, lines: Sequence[tuple[str, str]], body: bytes | None = None) -> tuple[int, dict[str, Any]]:
    """The answer to a request with these header lines, some of them twice."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    try:
        connection.putrequest("GET" if body is None else "POST", "/v1/models" if body is None else "/v1/messages")
        for name, value in lines:
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("required", ["true", "false"])
def test_a_credential_that_comes_twice_is_refused_whichever_is_the_last(tmp_path: Path, required: str) -> None:
    alice, bob = ("Authorization", "Bearer alice-secret-1"), ("Authorization", "Bearer bob-secret-22")
    with gateway(tmp_path, {"m": "http://127.0.0.1:9/v1"}, KEYS % required) as served:
        for lines in ((alice, bob), (bob, alice), (alice, ("authorization", "Bearer nobodys"))):
            status, told = _sent(served.origin, lines)
            assert (status, told["error"]["type"]) == (400, "invalid_request_error")
            assert "authorization comes twice" in told["error"]["message"]
            assert "secret" not in told["error"]["message"]
        assert _sent(served.origin, (alice, alice))[0] == 200
        status, told = _sent(served.origin, (alice, ("x-api-key", "bob-secret-22")))
        assert status == 400
        assert "two of the gateway's keys" in told["error"]["message"]
        assert _sent(served.origin, (alice, ("x-api-key", "alice-secret-1")))[0] == 200


def test_a_list_that_comes_in_two_headers_is_one_list(tmp_path: Path) -> None:
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": HELLO}).encode()
    wanted = [("anthropic-beta", "one-2026-01-01"), ("anthropic-beta", "two-2026-02-02")]
    plain = [("content-type", "application/json"), ("content-length", str(len(body)))]
    with running(Playback(default=messages_reply(stream=False))) as provider:
        text = f"models:\n  m: [{{provider: anthropic, model: play-a, base_url: '{provider.origin}', api_key: play}}]\n"
        with gateway(tmp_path, text=text) as served:
            assert _sent(served.origin, [*plain, *wanted], body)[0] == 200
        assert provider.served[0].request.headers["anthropic-beta"] == "one-2026-01-01,two-2026-02-02"


def test_where_anyone_may_call_an_unknown_key_in_a_url_opens_nothing_to_a_page(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}, KEYS % "false") as served:
        page = {"origin": "https://evil.example", "content_type": "text/plain"}
        assert served.post(CHAT, "/v1/chat/completions?key=anything", **page).status == 403
        assert provider.served == []
        assert served.post(CHAT, "/v1/chat/completions?key=alice-secret-1", **page).status == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m", "/metrics"])
def test_what_names_models_or_money_needs_the_key_too(tmp_path: Path, path: str) -> None:
    with gateway(tmp_path, {"m": "http://127.0.0.1:9/v1"}, KEYS % "true") as served:
        assert served.get(path).status == 401
        assert served.get(path, authorization="Bearer alice-secret-1").status == 200
        assert served.get("/health/live").status == 200
        assert served.get("/health/ready").status == 200
        page = served.get("/")
        assert page.status == 200
        assert b"<code>m</code>" not in page.body


def test_keys_that_are_not_required_let_any_bearer_in_and_still_name_the_known_ones(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}, KEYS % "false") as served:
        for headers in ({}, {"authorization": "Bearer anything"}, {"authorization": "Bearer alice-secret-1"}):
            assert served.post(CHAT, **headers).status == 200
        assert [entry.opening.key for entry in served.entries()] == [None, None, "alice"]


def test_a_keys_own_setting_for_usage_goes_before_the_routes(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}, KEYS % "true") as served:
        streamed = {**CHAT, "stream": True}
        asked_not = served.post(streamed, authorization="Bearer alice-secret-1").frames
        always = served.post(streamed, authorization="Bearer bob-secret-22").frames
        assert not any('"usage"' in frame for frame in asked_not)
        assert '"choices":[]' in always[-2]
        assert '"usage":{' in always[-2]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:4000", "localhost:9", "LOCALHOST", "[::1]:4000", "[::1]"])
def test_without_keys_a_loopback_host_is_answered(tmp_path: Path, host: str) -> None:
    with gateway(tmp_path, {"m": "http://127.0.0.1:9/v1"}) as served:
        assert served.get("/v1/models", host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:4000", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.7:4000", ""],
)
def test_without_keys_a_name_that_was_rebound_to_this_machine_is_refused(tmp_path: Path, host: str) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        answer = served.post(CHAT, host=host)
        assert (answer.status, answer.error["type"]) == (403, "permission_error")
        assert "keys" in answer.error["message"]
        assert served.get("/", host=host).status == 403
        assert served.get("/metrics", host=host).status == 403
        assert provider.served == []


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "chrome-extension://abc", ""])
def test_without_keys_a_foreign_page_is_refused(tmp_path: Path, origin: str) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        assert served.post(CHAT, origin=origin).status == 403
        assert served.post({}, "/admin/reload", origin=origin).status == 403
        own = f"http://127.0.0.1:{served.port}"
        assert served.post(CHAT, origin=own).status == 200
        assert len(provider.served) == 1


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", ""]
)
def test_without_keys_only_json_can_spend(tmp_path: Path, kind: str) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        answer = served.post(CHAT, content_type=kind)
        assert answer.status == 415
        assert "application/json" in answer.error["message"]
        assert served.post(CHAT, content_type="Application/JSON; charset=utf-8").status == 200
        assert len(provider.served) == 1


def test_with_keys_the_content_type_is_the_clients_affair(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}, KEYS % "true") as served:
        assert served.post(CHAT, authorization="Bearer alice-secret-1", content_type="text/plain").status == 200


def test_where_anyone_may_call_a_page_still_needs_a_bearer(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}, OPEN) as served:
        assert served.post(CHAT, origin="https://evil.example").status == 403
        assert served.post(CHAT, origin="https://app.example", authorization="Bearer x").status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "gateway.example", ""])
def test_listening_beyond_loopback_takes_a_written_line_about_keys(host: str) -> None:
    listen = ListenConfig(host=host)
    with pytest.raises(ListenRefused, match="keys"):
        check_listen(Config(listen=listen))
    check_listen(Config(listen=listen, keys=KeysConfig(required=False)))
    check_listen(Config(listen=listen, keys=KeysConfig(True, (StaticKey("a", "a"),))))


def test_a_gateway_that_anyone_could_reach_does_not_start(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text('models: {}\ndiscover: false\nlisten: {host: "0.0.0.0"}\n')
    with pytest.raises(ListenRefused, match="required: true"):
        Service(lambda: load_setup(config, environ={}), tmp_path / "ledger.db")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "Localhost.", "::ffff:127.0.0.1"]
)
def test_loopback_is_recognised(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "128.0.0.1", "::", "localhost.example", "", "::ffff:10.0.0.1", "127.0.0.1.nip.io"]
)
def test_what_is_not_loopback_is_recognised(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("peer", [("10.0.0.9", 1), ("::ffff:10.0.0.9", 1), None, ("", 0)])
def test_without_keys_a_caller_from_elsewhere_is_refused(peer: tuple[str, int] | None) -> None:
    access = access_rules(Config(), SecretStore())
    headers = {b"host": b"localhost"}
    access.admit(request_of(headers, client=("127.0.0.1", 1)), spends=False)
    with pytest.raises(CounterfoilError) as refused:
        access.admit(request_of(headers, client=peer), spends=False)
    assert refused.value.failure.status == 403


def test_what_is_kept_of_a_key_is_not_its_secret() -> None:
    config = Config(keys=KeysConfig(True, (StaticKey("a", "KEY"),)))
    access = access_rules(config, SecretStore({"KEY": Secret("very-secret-value")}))
    assert "very-secret-value" not in repr(access)
    caller = access.admit(request_of({b"x-api-key": b"very-secret-value"}), spends=True)
    assert caller.key == "a"
