"""Promise: a web page calls only where its origin is written down, and then it can read what it is answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from counterfoil.config import Config, CorsConfig, KeysConfig
from counterfoil.core.error import CounterfoilError
from counterfoil.server.cors import cors_rules
from counterfoil.server.setup import load_setup
from counterfoil.testing import running
from tests.shells.gateway import HELLO, gateway

__all__: list[str] = []

CHAT = {"model": "m", "messages": HELLO}
PAGE = "https://app.example"
LISTED = f"cors: {{origins: ['{PAGE}', 'http://localhost:3000']}}\n"
REQUIRED = "keys: {required: true, static: [{name: alice, secret: alice-secret-1}]}\n"
OPEN = "keys: {required: false, static: [{name: alice, secret: alice-secret-1}]}\n"
ALICE = {"authorization": "Bearer alice-secret-1"}
ASKS = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}
NOWHERE = {"m": "http://127.0.0.1:9/v1"}


def test_a_page_asks_first_calls_and_reads(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}, REQUIRED + LISTED) as served:
        asked = served.call("OPTIONS", "/v1/chat/completions", None, ASKS)
        assert (asked.status, asked.body) == (204, b"")
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert asked.headers["access-control-allow-methods"] == "POST"
        assert asked.headers["access-control-allow-headers"] == ASKS["access-control-request-headers"]
        assert "access-control-allow-credentials" not in asked.headers
        for stream in (False, True):
            answer = served.post({**CHAT, "stream": stream}, origin=PAGE, **ALICE)
            assert answer.status == 200
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert answer.headers["vary"] == "origin"
            assert "x-counterfoil-exchange" in answer.headers["access-control-expose-headers"]
        refused = served.post(CHAT, origin=PAGE)
        assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, PAGE)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://app.example.evil.example",
        "https://app.example:444",
        "http://app.example",
        "null",
    ],
)
def test_a_page_of_another_origin_reads_nothing(tmp_path: Path, origin: str) -> None:
    with gateway(tmp_path, NOWHERE, REQUIRED + LISTED) as served:
        asked = served.call("OPTIONS", "/v1/messages", None, {**ASKS, "origin": origin})
        assert asked.status == 403
        assert asked.json["error"]["type"] == "permission_error"
        answer = served.get("/v1/models", origin=origin, **ALICE)
        for one in (asked, answer):
            assert not any(name.startswith("access-control-") for name in one.headers)
            assert one.headers["vary"] == "origin"


@pytest.mark.parametrize("more", ["", OPEN, REQUIRED])
def test_nothing_is_shared_where_nothing_is_written(tmp_path: Path, more: str) -> None:
    with gateway(tmp_path, NOWHERE, more) as served:
        for answer in (
            served.call("OPTIONS", "/v1/chat/completions", None, ASKS),
            served.get("/v1/models", origin=f"http://127.0.0.1:{served.port}", **ALICE),
        ):
            assert not any(name.startswith("access-control-") for name in answer.headers)
            assert "vary" not in answer.headers


def test_any_page_may_where_that_is_written(tmp_path: Path) -> None:
    with gateway(tmp_path, NOWHERE, REQUIRED + "cors: {origins: ['*']}") as served:
        asked = served.call(
            "OPTIONS", "/v1beta/models/m:generateContent", None, {**ASKS, "origin": "https://a.example"}
        )
        assert (asked.status, asked.headers["access-control-allow-origin"]) == (204, "https://a.example")


def test_where_anybody_may_call_a_listed_page_may_without_a_key_and_no_other(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}, OPEN + LISTED) as served:
        assert served.post(CHAT, origin=PAGE).status == 200
        assert served.post(CHAT, origin="https://evil.example").status == 403
        assert len(provider.served) == 1


def test_names_that_are_no_header_names_are_not_repeated(tmp_path: Path) -> None:
    with gateway(tmp_path, NOWHERE, REQUIRED + LISTED) as served:
        asks = {**ASKS, "access-control-request-headers": "x-a; <script>"}
        asked = served.call("OPTIONS", "/v1/chat/completions", None, asks)
        assert asked.status == 204
        assert "access-control-allow-headers" not in asked.headers


def test_options_that_no_page_asks_say_the_methods(tmp_path: Path) -> None:
    with gateway(tmp_path, NOWHERE, REQUIRED + LISTED) as served:
        assert served.call("OPTIONS", "/v1/models").headers["allow"] == "GET, HEAD"
        assert served.call("OPTIONS", "/nothing", None, ASKS).status == 404


@pytest.mark.parametrize(
    ("keys", "origins", "says"),
    [
        (None, (PAGE,), "write `keys:`"),
        (None, ("*",), "write `keys:`"),
        (False, ("*",), "required: true"),
        (True, ("app.example",), "is no origin"),
        (True, ("https://app.example/",), "is no origin"),
        (True, ("https://app.example/path",), "is no origin"),
        (True, ("null",), "is no origin"),
        (True, ("",), "is no origin"),
        (True, ("https://*.example?",), "is no origin"),
    ],
)
def test_what_would_be_unsafe_or_is_no_origin_is_refused(
    keys: bool | None, origins: tuple[str, ...], says: str
) -> None:
    written = Config(keys=None if keys is None else KeysConfig(required=keys), cors=CorsConfig(origins))
    with pytest.raises(CounterfoilError, match=says):
        cors_rules(written)


def test_a_gateway_with_unsafe_rules_does_not_start(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"models: {{}}\ndiscover: false\n{LISTED}")
    with pytest.raises(CounterfoilError, match=r"cors\.origins"):
        load_setup(config, environ={})
