"""What has no door is passed on word for word, for whom and to whom the configuration says, and is booked."""

from __future__ import annotations

import http.client
import http.server
import json
import logging
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from counterfoil.config import Config, KeysConfig, PassthroughConfig, StaticKey
from counterfoil.core.error import CounterfoilError, RequestError
from counterfoil.driver.deployment import DeploymentError, load_table
from counterfoil.driver.passthrough import Passthrough, build_passthrough, plain_path, plain_query
from counterfoil.ledger.entry import Exit
from counterfoil.server.setup import load_setup
from counterfoil.testing import (
    ChatReply,
    Counts,
    EmbeddingsReply,
    GeminiReply,
    MessagesReply,
    Playback,
    ResponsesReply,
    Script,
    Send,
    chat_reply,
    error_answer,
    html_answer,
    no_answer,
    redirect,
    running,
    silent_answer,
)
from counterfoil.testing.counting import count_player
from counterfoil.testing.gemini import gemini_player
from counterfoil.testing.playbook import REPLY_NUMBER, Head, Stall, reply_number
from counterfoil.usage.usage import Provenance
from tests.shells.gateway import HELLO, SECONDS, Answer, RunningGateway, gateway
from tests.shells.test_client_gone import read_until, wait_until

BILLING = {"authorization": "Bearer billing-secret-0001"}
OTHER = {"authorization": "Bearer someones-secret-02"}
JSON = {"content-type": "application/json"}
PAID = "provider-secret-9876"
USAGE = Counts(input=31, output=9)

CONFIG = """
models: {}
discover: false
passthrough:
  openai:
    base_url: "%(origin)s/v1"
    api_key: "%(paid)s"
    paths: [/v1/batches*, "GET /v1/files*", "POST /v1/files", /v1/chat/completions, /v1/completions, /v1/embeddings,
            /v1/responses*, /v1/images/*, /v1/things/*/content, /v1/messages*, "/openai/deployments/*/chat/completions"]
    keys: [billing]
  anthropic: {base_url: "%(origin)s", api_key: "%(paid)s", paths: [/v1/*], keys: [billing]}
  google:
    {base_url: "%(origin)s/v1beta", api_key: "%(paid)s", paths: [/v1beta/models/*, /v1beta/files*], keys: [billing]}
  house: {base_url: "%(origin)s/at/home/v1", paths: ["/*"], keys: [billing], query: {tenant: ours},
          headers: {x-house: ours}, timeouts: {first_byte: 0.4, between_frames: 0.4}}
keys:
  required: true
  static: [{name: billing, secret: billing-secret-0001}, {name: other, secret: someones-secret-02}]
limits: {body: 4096, nesting: 20}
listen: {port: 0, drain: 5}
%(more)s
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[Playback]:
    with running() as playback:
        yield playback


@pytest.fixture
def served(provider: Playback, tmp_path: Path) -> Iterator[RunningGateway]:
    provider.served.clear()
    with gateway(tmp_path, text=CONFIG % {"origin": provider.origin, "paid": PAID, "more": ""}) as started:
        yield started


def call(served: RunningGateway, path: str, body: object = None, method: str = "POST", **headers: str) -> Answer:
    """One call below the prefix, with the key that may."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return served.call(method, f"/passthrough{path}", data, {**BILLING, **JSON, **named})


def sent(provider: Playback, script: Script) -> bytes:
    """The bytes of a script as they were served last."""
    return script.body.replace(REPLY_NUMBER, reply_number(provider.served[-1].number).encode())


# ---- streams and whole replies in a dialect that is known

CHAT = {"model": "play-1", "messages": HELLO}
METERED = [
    pytest.param(
        "/openai/v1/chat/completions", {**CHAT, "stream": True}, ChatReply(usage=USAGE), "play-1", "openai_chat"
    ),
    pytest.param("/openai/v1/chat/completions", CHAT, ChatReply(usage=USAGE, stream=False), "play-1", "openai_chat"),
    pytest.param(
        "/openai/v1/responses",
        {"model": "play-r", "input": "Good morning", "stream": True},
        ResponsesReply(usage=USAGE),
        "play-r",
        "openai_responses",
    ),
    pytest.param(
        "/openai/v1/responses",
        {"model": "play-r", "input": "Good morning"},
        ResponsesReply(usage=USAGE, stream=False),
        "play-r",
        "openai_responses",
    ),
    pytest.param(
        "/anthropic/v1/messages",
        {"model": "play-a", "max_tokens": 50, "messages": HELLO, "stream": True},
        MessagesReply(usage=USAGE),
        "play-a",
        "anthropic_messages",
    ),
    pytest.param(
        "/anthropic/v1/messages",
        {"model": "play-a", "max_tokens": 50, "messages": HELLO},
        MessagesReply(usage=USAGE, stream=False),
        "play-a",
        "anthropic_messages",
    ),
    pytest.param(
        "/google/v1beta/models/play-g:generateContent",
        {"contents": [{"parts": [{"text": "Good morning"}]}]},
        GeminiReply(usage=USAGE, stream=False),
        "play-g",
        "gemini",
    ),
    pytest.param(
        "/google/v1beta/models/play-g:streamGenerateContent?alt=sse",
        {"contents": [{"parts": [{"text": "Good morning"}]}]},
        GeminiReply(usage=USAGE),
        "play-g",
        "gemini",
    ),
    pytest.param(
        "/google/v1beta/models/play-g:streamGenerateContent",
        {"contents": [{"parts": [{"text": "Good morning"}]}]},
        GeminiReply(usage=USAGE, form="array"),
        "play-g",
        "gemini",
    ),
    # Neither row speaks these there; they are where clients of the dialect ask everywhere.
    pytest.param(
        "/openai/openai/deployments/play-2/chat/completions?api-version=2024-10-21",
        {"messages": HELLO, "stream": True},
        ChatReply(usage=USAGE),
        "play-2",
        "openai_chat",
    ),
    pytest.param(
        "/openai/v1/messages",
        {"model": "play-a", "max_tokens": 50, "messages": HELLO, "stream": True},
        MessagesReply(usage=USAGE),
        "play-a",
        "anthropic_messages",
    ),
]


@pytest.mark.parametrize("delivery", ["as_is", "bytes", "whole"])
@pytest.mark.parametrize(("path", "body", "reply", "model", "dialect"), METERED)
def test_a_reply_in_a_known_dialect_is_carried_to_the_byte_and_metered(
    provider: Playback,
    served: RunningGateway,
    path: str,
    body: Any,
    reply: Any,
    model: str,
    dialect: str,
    delivery: Any,
) -> None:
    script = reply.script().delivered(delivery)
    provider.queue(script)
    answer = call(served, path, body)
    assert answer.status == 200, answer.body
    assert answer.body == sent(provider, script)
    assert answer.headers["content-type"] == dict(script.headers)["content-type"]
    assert json.loads(provider.served[-1].body) == body
    assert provider.served[-1].request.path == path[path.index("/", 1) :]
    entry = served.entry()
    assert (entry.exit, entry.status) == (Exit.COMPLETED, 200)
    assert entry.usage.input_tokens == 31
    assert entry.usage.output_tokens == 9
    assert not entry.usage.estimated
    opening = entry.opening
    assert (opening.model, opening.client_dialect, opening.provider_dialect) == (model, dialect, dialect)
    assert (opening.key, opening.exchange) == ("billing", answer.headers["x-counterfoil-exchange"])
    assert opening.attempt == answer.headers["x-counterfoil-attempt"]
    assert opening.streamed is reply.stream


def test_the_body_goes_out_as_it_came(provider: Playback, served: RunningGateway) -> None:
    body = b'{ "model":"play-1",\n "messages":[],  "stream":false, "unheard_of": 1.50e0, "model":"play-1"}'
    provider.queue(ChatReply(usage=USAGE, stream=False).script())
    assert call(served, "/openai/v1/chat/completions", body).status == 200
    assert provider.served[-1].body == body


def test_usage_that_the_client_did_not_ask_for_is_estimated_and_marked(
    provider: Playback, served: RunningGateway
) -> None:
    provider.queue(ChatReply(usage=USAGE, shape="absent").script())
    call(served, "/openai/v1/chat/completions", {**CHAT, "stream": True})
    entry = served.entry()
    assert "stream_options" not in provider.served[-1].request.json
    assert entry.exit is Exit.COMPLETED
    assert entry.usage.estimated
    assert entry.usage.output_tokens


def test_vectors_and_counts_are_metered_as_what_they_are(provider: Playback, served: RunningGateway) -> None:
    provider.queue(EmbeddingsReply(input=6).script(), count_player(17))
    assert call(served, "/openai/v1/embeddings", {"model": "play-vectors-1", "input": "a"}).json["data"]
    assert call(served, "/anthropic/v1/messages/count_tokens", {"model": "play-a", "messages": HELLO}).json == {
        "input_tokens": 17
    }
    vectors, count = served.entries()
    assert (vectors.usage.input_tokens, vectors.usage.output_tokens) == (6, 0)
    assert (count.usage.input_tokens, count.usage.output_tokens, count.cost) == (0, 0, 0)
    assert count.usage.provenance == dict.fromkeys(count.usage.buckets, Provenance.DERIVED)


def test_every_choice_is_waited_for(provider: Playback, served: RunningGateway) -> None:
    def chunk(choice: int, text: str | None) -> Send:
        delta = {"content": text} if text is not None else {}
        finish = None if text is not None else "stop"
        piece = {"index": choice, "delta": delta, "finish_reason": finish}
        return Send(b"data: " + json.dumps({"id": "c", "choices": [piece]}).encode() + b"\n\n")

    steps = (chunk(0, "a"), chunk(0, None), chunk(1, "b"), chunk(1, None), Send(b"data: [DONE]\n\n"))
    provider.queue(Script(steps=steps))
    answer = call(served, "/openai/v1/chat/completions", {**CHAT, "n": 2, "stream": True})
    assert answer.body == provider.served[-1].script.body
    assert served.entry().exit is Exit.COMPLETED


@pytest.mark.parametrize("length", [256, 257])
def test_whom_the_client_serves_is_written_down_as_far_as_names_go(
    provider: Playback, served: RunningGateway, length: int
) -> None:
    provider.queue(ChatReply(usage=USAGE, stream=False).script())
    call(served, "/openai/v1/chat/completions", {**CHAT, "stream": False, "user": "u" * length})
    assert served.entry().opening.user == ("u" * length if length == 256 else None)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/x.tide+json"])
def test_json_is_read_under_each_of_its_names(provider: Playback, served: RunningGateway, kind: str) -> None:
    provider.queue(ChatReply(usage=USAGE, shape="absent", stream=False).script())
    call(served, "/openai/v1/chat/completions", {**CHAT, "stream": False, "user": "u-1"}, content_type=kind)
    entry = served.entry()
    assert (entry.opening.model, entry.opening.user) == ("play-1", "u-1")
    assert entry.opening.input_estimate


# ---- paths that nobody knows


def test_a_path_of_no_dialect_is_booked_with_unknown_usage_and_no_price(
    provider: Playback, served: RunningGateway
) -> None:
    body = b'{"id":"batch_1","status":"validating","usage":{"input_tokens":0}}'
    provider.queue(Script((Send(body),), headers=(("content-type", "application/json"),), framing="length"))
    answer = call(served, "/openai/v1/batches", {"input_file_id": "file-1", "endpoint": "/v1/chat/completions"})
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["content-length"] == str(len(body))
    entry = served.entry()
    assert entry.exit is Exit.COMPLETED
    assert entry.opening.route == "/passthrough/openai/v1/batches*"
    assert (entry.opening.model, entry.opening.provider_dialect) == ("", "unknown")
    assert entry.usage.input_tokens is None
    assert entry.usage.output_tokens is None
    assert entry.cost is None
    wait_until(lambda: served.gateway.metrics.unpriced.value() == 1, "the attempt is not counted as unpriced")


def test_the_model_is_written_down_where_the_body_names_one(provider: Playback, served: RunningGateway) -> None:
    provider.queue(Script((Send(b"{}"),), headers=(("content-type", "application/json"),)))
    call(served, "/openai/v1/images/generations", {"model": "play-image-1", "prompt": "a boat"})
    entry = served.entry()
    assert (entry.opening.model, entry.usage.total_tokens, entry.cost) == ("play-image-1", None, None)


def test_the_entry_is_closed_before_the_last_bytes(provider: Playback, served: RunningGateway) -> None:
    provider.queue(
        ChatReply(usage=USAGE).script(),
        Script((Send(b"half"), Send(b"rest")), headers=(("content-type", "text/plain"),), framing="length"),
    )
    for path, body, last in (
        ("/openai/v1/chat/completions", {**CHAT, "stream": True}, b"data: [DONE]"),
        ("/openai/v1/batches", {}, b"rest"),
    ):
        before = len(served.entries())
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=SECONDS)
        connection.request("POST", f"/passthrough{path}", json.dumps(body).encode(), {**BILLING, **JSON})
        response, seen = connection.getresponse(), b""
        while last not in seen:
            seen += response.read1()
        assert len(served.entries()) == before + 1
        connection.close()


# ---- who may, and what


def test_nothing_is_passed_on_unless_it_is_written(provider: Playback, tmp_path: Path) -> None:
    provider.served.clear()
    with gateway(tmp_path, {"m": provider.base_url}) as served:
        answer = served.post(CHAT, "/passthrough/openai/v1/chat/completions")
        assert (answer.status, answer.error["code"]) == (404, "path_not_found")
        assert served.entries() == []
    assert provider.served == []


@pytest.mark.parametrize(
    ("headers", "status"), [({}, 401), ({"authorization": "Bearer wrong"}, 401), (OTHER, 403)], ids=str
)
def test_only_the_keys_that_are_named_may(
    provider: Playback, served: RunningGateway, headers: Mapping[str, str], status: int
) -> None:
    answer = served.call("POST", "/passthrough/openai/v1/chat/completions", b"{}", {**JSON, **headers})
    assert answer.status == status
    assert provider.served == []
    assert served.entries() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/openai/v1/models"),
        ("DELETE", "/openai/v1/files/file-1"),
        ("POST", "/openai/v1/files/file-1"),
        ("POST", "/openai/V1/batches"),
        ("POST", "/openai/batches"),
        ("POST", "/openai/v1/chat/completions/more"),
        ("GET", "/openai/v1/things/a/b/content"),
        ("GET", "/google/v1/models"),
    ],
)
def test_a_path_or_a_method_that_is_not_listed_is_refused(
    provider: Playback, served: RunningGateway, method: str, path: str
) -> None:
    answer = call(served, path, b"{}" if method == "POST" else None, method)
    assert (answer.status, answer.headers["content-type"]) == (403, "application/json")
    assert "paths" in answer.body.decode()
    assert (provider.served, served.entries()) == ([], [])


@pytest.mark.parametrize("prefix", ["/openai", "/OPENAI", "/nobody", "/nobody/", "/..", "", "/"])
def test_a_name_that_is_not_written_is_not_found(served: RunningGateway, prefix: str) -> None:
    assert call(served, prefix, b"{}").status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/openai/v1/batches/../models",
        "/openai/v1/batches/./x",
        "/openai/v1/batches/..",
        "/openai/v1/batches/...",
        "/openai/v1/batches/%2e%2e/models",
        "/openai/v1/batches/.%2E/models",
        "/openai/v1/batches/%252e%252e/models",
        "/openai/v1/batches%2f..%2fmodels",
        "/openai/v1/batches%2Fx",
        "/openai/v1/batches%5c..%5cmodels",
        "/openai/v1/batches\\..\\models",
        "/openai/v1/batches//models",
        "/openai//v1/batches",
        "/openai/v1/batches/..;/models",
        "/openai/v1/batches;x=1",
        "/openai/v1/batches%00",
        "/openai/v1/batches%0d%0ahost:%20evil",
        "/openai/v1/batches%20x",
        "/openai/v1/batches%3fx=1",
        "/openai/v1/batches%23x",
        "/openai/v1/batches/%c0%ae%c0%ae/models",
        "/openai/v1/batches/%e2%80%a5/models",
        "/openai/v1/batches/%zz",
        "/openai/v1/batches%",
        "/openai/v1/batches/",
        "/openai/v1/batches/" + "x" * 5000,
        "%2fopenai/v1/batches",
        "/open%61i/v1/batches",
        "/openai%2fv1/batches",
        "/../passthrough/openai/v1/batches",
    ],
)
def test_no_path_gets_out_of_the_list_in_disguise(provider: Playback, served: RunningGateway, path: str) -> None:
    with socket.create_connection(("127.0.0.1", served.port), SECONDS) as client:
        client.sendall(
            f"POST /passthrough{path} HTTP/1.1\r\nhost: localhost\r\nauthorization: {BILLING['authorization']}\r\n"
            "content-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}".encode()
        )
        seen = b""
        while more := client.recv(65536):
            seen += more
    assert seen.split()[1] in (b"400", b"403", b"404")
    assert (provider.served, served.entries()) == ([], [])


@pytest.mark.parametrize(
    ("query", "header"),
    [
        ("", "X-HTTP-Method-Override"),
        ("", "x-http-method"),
        ("", "x-method-override"),
        ("", "x-original-url"),
        ("", "X-Rewrite-URL"),
        ("?$httpMethod=DELETE", None),
        ("?a=1&%24HTTPMETHOD=DELETE", None),
        ("?_method=DELETE", None),
    ],
)
def test_a_request_that_names_another_method_or_path_beside_its_own_is_refused(
    provider: Playback, served: RunningGateway, query: str, header: str | None
) -> None:
    headers = {header: "DELETE"} if header else {}
    answer = served.call("POST", f"/passthrough/openai/v1/batches{query}", b"{}", {**JSON, **BILLING, **headers})
    assert (answer.status, answer.error["code"]) == (400, "header_refused" if header else "query_refused")
    assert (provider.served, served.entries()) == ([], [])


def test_a_head_is_not_passed_on_and_no_answer_says_that_it_is(served: RunningGateway) -> None:
    answer = served.call("HEAD", "/passthrough/openai/v1/files", None, BILLING)
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET, PATCH, POST, PUT")


def test_what_is_encoded_without_need_is_compared_and_sent_decoded(provider: Playback, served: RunningGateway) -> None:
    provider.queue(chat_reply(stream=False, usage=USAGE))
    assert call(served, "/openai/%76%31/chat/%63ompletions", CHAT).status == 200
    assert provider.served[-1].path == "/v1/chat/completions"


def test_a_plain_path_is_itself_and_reading_it_again_changes_nothing() -> None:
    for raw in (b"/v1/files", b"/v1beta/models/play-1:generateContent", b"/a/b=c,d+e@f$g!h~i"):
        assert plain_path(raw) == raw.decode()
    for wrong in (b"", b"v1", b"/", b"*", b"http://evil/v1"):
        with pytest.raises(RequestError):
            plain_path(wrong)


def passing(*paths: str, **more: Any) -> Passthrough:
    written = PassthroughConfig(paths, base_url="http://house.example/v1", **more)
    return build_passthrough("house", written, Config(), load_table(), {}).passthrough


@pytest.mark.parametrize(
    ("pattern", "method", "path", "allowed"),
    [
        ("/v1/files", "GET", "/v1/files", True),
        ("/v1/files", "GET", "/v1/files/1", False),
        ("/v1/files*", "PUT", "/v1/files/1/content", True),
        ("/v1/files/*", "GET", "/v1/files", False),
        ("/v1/files/*", "GET", "/v1/files/1/content", True),
        ("/v1/*/content", "GET", "/v1/files/content", True),
        ("/v1/*/content", "GET", "/v1/a/b/content", False),
        ("/v1/models/*:embed", "POST", "/v1/models/m:embed", True),
        ("/v1/models/*:embed", "POST", "/v1/models/m:generate", False),
        ("/v1.0", "GET", "/v1x0", False),
        ("/v1/a+b", "GET", "/v1/aab", False),
        ("GET /v1/files*", "GET", "/v1/files/1", True),
        ("GET /v1/files*", "DELETE", "/v1/files/1", False),
        ("/*", "PATCH", "/anything/at/all", True),
    ],
)
def test_a_pattern_means_what_it_says(pattern: str, method: str, path: str, allowed: bool) -> None:
    assert (passing(pattern).allows(method, path) is not None) is allowed


@pytest.mark.parametrize(
    "wrong",
    ["v1/files", "", "HEAD /v1", "get /v1", "/v1/../x", "/v1//x", "/v1/%2e", "/v1/a b", "GET  x", "/v1/?x", "/"],
)
def test_a_pattern_that_means_nothing_is_a_problem_of_the_configuration(wrong: str) -> None:
    with pytest.raises(DeploymentError) as caught:
        passing(wrong)
    assert caught.value.field == "paths[0]"


def test_the_configuration_is_checked_with_its_lines(tmp_path: Path) -> None:
    config = tmp_path / "counterfoil.yaml"
    config.write_text(
        "passthrough:\n"
        "  openai: {paths: [/v1/files], api_key: k, keys: [nobody]}\n"
        "  anthropic: {paths: [/v1/files], api_key: k}\n"
        "  nowhere: {paths: [/v1/files], keys: [a]}\n"
        "  local: {paths: [/v1/files], keys: [a]}\n"
        "  a/b: {provider: openai, paths: [/v1/files], api_key: k, keys: [a]}\n"
        "  cohere: {paths: [x], api_key: k, keys: [a]}\n"
        "keys: {required: true, static: [{name: a, secret: secret-of-someone}]}\n"
    )
    with pytest.raises(CounterfoilError) as caught:
        load_setup(config, environ={})
    said = caught.value.failure.message
    for line, part in enumerate(
        (
            "openai.keys[0]: no key",
            "anthropic.keys: say by name",
            "nowhere.provider: no such",
            "local.provider: the emb",
        ),
        2,
    ):
        assert f".yaml:{line}:" in said
        assert f"passthrough.{part}" in said
    assert "passthrough.a/b: a name is one segment" in said
    assert "passthrough.cohere.paths[0]: a path begins with a slash" in said


# ---- what goes out and what comes back


def test_the_client_s_credentials_end_here_and_the_provider_s_begin_here(
    provider: Playback, served: RunningGateway
) -> None:
    mine = "billing-secret-0001"
    provider.queue(chat_reply(stream=False, usage=USAGE))
    answer = call(
        served,
        f"/openai/v1/chat/completions?key={mine}&%6bey={mine}&api_key={mine}&access_token={mine}&include=a%20b&flag"
        f"&$key={mine}&oauth_token={mine}&userProject=project-of-the-client",
        CHAT,
        x_api_key=mine,
        api_key=mine,
        x_goog_api_key=mine,
        cookie=f"session={mine}",
        proxy_authorization=mine,
        x_auth_token=mine,
        x_amz_security_token=mine,
        x_secret=mine,
        openai_organization="org-of-the-client",
        openai_project="project-of-the-client",
        connection="keep-alive, x-hop",
        x_hop="between us",
        te="trailers",
        forwarded="for=10.0.0.1",
        x_forwarded_for="10.0.0.1",
        origin=served.origin,
        referer=served.origin,
        x_counterfoil_tags="blue",
        openai_beta="assistants=v2",
        idempotency_key="once",
        accept="text/event-stream",
        user_agent="a-client/1",
        accept_encoding="gzip",
    )
    assert answer.status == 200
    asked = provider.served[-1].request
    shown = f"{asked.path}\n{asked.headers}\n{asked.body!r}"
    assert mine not in shown
    assert asked.path == "/v1/chat/completions?include=a%20b&flag="
    assert asked.headers.pop("host").startswith("127.0.0.1:")  # type: ignore[attr-defined]
    assert asked.headers == {
        "authorization": f"Bearer {PAID}",
        "content-type": "application/json",
        "content-length": str(len(asked.body)),
        "openai-beta": "assistants=v2",
        "idempotency-key": "once",
        "accept": "text/event-stream",
        "user-agent": "a-client/1",
        "accept-encoding": "identity",
    }
    assert served.entry().opening.tags == ("blue",)


def test_a_header_whose_name_has_an_underscore_goes_no_further(provider: Playback, served: RunningGateway) -> None:
    named = {"x_http_method_override": "DELETE", "x_api_key": "billing-secret-0001", "openai_organization": "theirs"}
    provider.queue(chat_reply(stream=False, usage=USAGE))
    assert served.call("POST", "/passthrough/openai/v1/batches", b"{}", {**JSON, **BILLING, **named}).status == 200
    assert not [name for name in provider.served[-1].headers if "_" in name]


def test_each_provider_is_paid_in_its_own_way_and_told_its_own_version(
    provider: Playback, served: RunningGateway
) -> None:
    provider.queue(
        MessagesReply(stream=False).script(), MessagesReply(stream=False).script(), gemini_player(GeminiReply())
    )
    call(served, "/anthropic/v1/messages", {"model": "play-a"})
    call(served, "/anthropic/v1/messages", {"model": "play-a"}, anthropic_version="2024-01-01", anthropic_beta="b")
    call(served, "/google/v1beta/models/g:generateContent", {"contents": []}, x_goog_api_key="billing-secret-0001")
    first, second, third = (one.headers for one in provider.served)
    assert (first["x-api-key"], first["anthropic-version"]) == (PAID, "2023-06-01")
    assert (second["x-api-key"], second["anthropic-version"], second["anthropic-beta"]) == (PAID, "2024-01-01", "b")
    assert third["x-goog-api-key"] == PAID
    assert all("authorization" not in headers for headers in (first, second, third))


def test_what_the_operator_wrote_goes_before_what_the_client_says(provider: Playback, served: RunningGateway) -> None:
    provider.queue(chat_reply(stream=False, usage=USAGE))
    call(served, "/house/v1/anything?tenant=theirs&tenant=again&page=2", {}, x_house="theirs")
    asked = provider.served[-1].request
    assert asked.path == "/at/home/v1/anything?page=2&tenant=ours"
    assert asked.headers["x-house"] == "ours"
    assert "authorization" not in asked.headers


def test_of_a_reply_s_headers_only_the_safe_ones_come_back(provider: Playback, served: RunningGateway) -> None:
    script = Script(
        (Send(b"file"),),
        headers=(
            ("content-type", "application/octet-stream"),
            ("content-disposition", "attachment; filename=a.jsonl"),
            ("x-ratelimit-remaining-requests", "59"),
            ("retry-after-ms", "20"),
            ("set-cookie", "session=theirs"),
            ("authorization", PAID),
            ("openai-organization", "org-of-the-owner"),
            ("access-control-allow-origin", "*"),
            ("x-request-id", "req-of-the-provider"),
            ("x-counterfoil-exchange", "forged"),
            ("etag", '"1"'),
            ("server", "theirs"),
            ("strict-transport-security", "max-age=1"),
            ("connection", "keep-alive, etag"),
        ),
        framing="length",
    )
    provider.queue(script)
    answer = call(served, "/openai/v1/batches", {})
    entry = served.entry()
    assert entry.provider_id == "req-of-the-provider"
    own = {"date", "content-length", "x-request-id", "request-id", "x-counterfoil-exchange", "x-counterfoil-attempt"}
    assert {name: value for name, value in answer.headers.items() if name not in own} == {
        "content-type": "application/octet-stream",
        "content-disposition": "attachment; filename=a.jsonl",
        "x-ratelimit-remaining-requests": "59",
        "retry-after-ms": "20",
    }
    assert answer.headers["x-counterfoil-exchange"] == entry.opening.exchange
    assert PAID not in str(answer)


def test_a_query_keeps_its_order_and_loses_only_credentials() -> None:
    assert plain_query("b=2&a=%C3%A4&b=+1&key=x&Key=x&pageToken=t&x=") == (
        ("b", "2"),
        ("a", "ä"),
        ("b", " 1"),
        ("pageToken", "t"),
        ("x", ""),
    )
    for wrong in ("a=%ff", "&".join(["a=1"] * 101)):
        with pytest.raises(RequestError):
            plain_query(wrong)


class _Shelf(http.server.BaseHTTPRequestHandler):
    """A provider that keeps files: it answers every method, and says what it was asked."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[tuple[str, str, bytes, str | None]]] = []

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        type(self).asked.append((self.command, self.path, body, self.headers.get("content-type")))
        reply = bytes(range(256)) * 300 if "/content" in self.path else b""
        self.send_response(200 if reply else 204)
        if reply:
            self.send_header("content-type", "application/octet-stream")
            self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Nothing."""


@pytest.fixture
def shelf() -> Iterator[str]:
    _Shelf.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Shelf)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(SECONDS)
        server.server_close()


def test_every_method_is_passed_on_with_its_body(shelf: str, tmp_path: Path) -> None:
    kind = "multipart/form-data; boundary=b"
    form = b'--b\r\ncontent-disposition: form-data; name="file"\r\n\r\n\xff\x00{\r\n--b--\r\n'
    with gateway(tmp_path, text=CONFIG % {"origin": shelf, "paid": PAID, "more": ""}) as served:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = call(served, f"/house/v1/{method.lower()}", form, method, content_type=kind)
            assert (answer.status, answer.body) == (204, b"")
        answer = served.call("GET", "/passthrough/openai/v1/files/file-1/content?after=1", None, BILLING)
        assert answer.body == bytes(range(256)) * 300
        assert answer.headers["content-type"] == "application/octet-stream"
        assert served.call("DELETE", "/passthrough/house/v1/gone", None, BILLING).status == 204
        assert served.call("HEAD", "/passthrough/house/v1/gone", None, BILLING).status == 405
        assert served.call("TRACE", "/passthrough/house/v1/gone", None, BILLING).status == 405
        entries = served.entries()
    assert _Shelf.asked == [
        *(
            (method, f"/at/home/v1/{method.lower()}?tenant=ours", form, kind)
            for method in ("POST", "PUT", "PATCH", "DELETE")
        ),
        ("GET", "/v1/files/file-1/content?after=1", b"", None),
        ("DELETE", "/at/home/v1/gone?tenant=ours", b"", None),
    ]
    assert [entry.exit for entry in entries] == [Exit.COMPLETED] * 6
    assert all(entry.usage.total_tokens is None and entry.cost is None for entry in entries)


def test_no_call_is_made_twice_on_a_connection_that_was_closed(shelf: str, tmp_path: Path) -> None:
    """A keep-alive connection that its server closed breaks the next call, whatever the method: none is repeated."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[bytes] = []

    def play() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                taken.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                if len(taken) == 1:
                    taken.append(connection.recv(65536))  # the second call, and no answer

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with gateway(tmp_path, text=CONFIG % {"origin": origin, "paid": PAID, "more": ""}) as served:
        assert served.call("GET", "/passthrough/openai/v1/files", None, BILLING).status == 200
        assert served.call("GET", "/passthrough/openai/v1/files", None, BILLING).status == 502
        assert [entry.exit for entry in served.entries()] == [Exit.COMPLETED, Exit.LOST]
    assert len(taken) == 2
    with socket.create_connection(listener.getsockname(), SECONDS) as last:  # let the thread go
        last.sendall(b"GET / HTTP/1.1\r\n\r\n")
        thread.join(SECONDS)
    listener.close()


# ---- failures


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 529])
def test_a_provider_s_refusal_is_carried_as_it_is_and_costs_nothing(
    provider: Playback, served: RunningGateway, status: int
) -> None:
    script = error_answer(status, "no " * 100, retry_after="7")
    provider.queue(script)
    answer = call(served, "/openai/v1/chat/completions", CHAT)
    assert (answer.status, answer.body) == (status, script.body)
    assert answer.headers["retry-after"] == "7"
    assert len(provider.served) == 1, "nothing is asked twice"
    entry = served.entry()
    assert (entry.exit, entry.status, entry.lines, entry.cost) == (Exit.REJECTED, status, (), 0)
    assert entry.detail


def test_a_status_that_is_none_of_http_s_is_a_502_with_the_provider_s_body(
    provider: Playback, served: RunningGateway
) -> None:
    provider.queue(error_answer(999))
    answer = call(served, "/openai/v1/batches", {})
    assert (answer.status, answer.body) == (502, error_answer(999).body)
    assert served.entry().exit is Exit.REJECTED


def test_a_redirect_is_the_client_s_to_follow(provider: Playback, served: RunningGateway) -> None:
    provider.queue(redirect("https://elsewhere.example/file"))
    answer = call(served, "/openai/v1/batches", {})
    assert (answer.status, answer.headers["location"]) == (307, "https://elsewhere.example/file")
    assert len(provider.served) == 1
    assert (served.entry().exit, served.entry().lines) == (Exit.REJECTED, ())


def test_a_web_page_where_a_reply_was_due_is_carried_and_its_usage_unknown(
    provider: Playback, served: RunningGateway
) -> None:
    provider.queue(html_answer())
    answer = call(served, "/openai/v1/chat/completions", CHAT)
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.body == provider.served[-1].script.body
    assert (served.entry().usage.total_tokens, served.entry().cost) == (None, None)


def test_a_reply_that_cannot_be_read_is_carried_to_the_byte_and_booked_as_failed(
    provider: Playback, served: RunningGateway
) -> None:
    stream = b'data: {"choices":[{"index":0,"delta":{"content":"ab"}}]}\n\ndata: {oops\n\ndata: [DONE]\n\n'
    for body, kind, asked in (
        (b'{"choices": oops', "application/json", CHAT),
        (stream, "text/event-stream", {**CHAT, "stream": True}),
    ):
        provider.queue(Script((Send(body),), headers=(("content-type", kind),)))
        answer = call(served, "/openai/v1/chat/completions", asked)
        assert (answer.status, answer.body) == (200, body)
    assert [entry.exit for entry in served.entries()] == [Exit.FAILED, Exit.FAILED]


def test_an_error_in_the_stream_is_the_provider_s_own(provider: Playback, served: RunningGateway) -> None:
    body = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","role":"assistant","content":[],'
        b'"model":"play-a","usage":{"input_tokens":12,"output_tokens":1}}}\n\n'
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}\n\n'
    )
    provider.queue(Script((Send(body),)))
    asked = {"model": "play-a", "max_tokens": 5, "messages": HELLO, "stream": True}
    assert call(served, "/anthropic/v1/messages", asked).body == body
    entry = served.entry()
    assert (entry.exit, entry.detail, entry.usage.input_tokens) == (Exit.FAILED, "overloaded", 12)


def test_a_provider_that_hangs_up_without_a_word_is_told_in_the_path_s_dialect(
    provider: Playback, served: RunningGateway
) -> None:
    provider.queue(no_answer(), no_answer(), no_answer())
    chat = call(served, "/openai/v1/chat/completions", CHAT)
    assert (chat.status, set(chat.json), chat.error["fault"]) == (502, {"error"}, "network")
    messages = call(served, "/anthropic/v1/messages", {"model": "play-a"})
    assert (messages.status, messages.json["type"]) == (502, "error")
    unknown = call(served, "/google/v1beta/files", {})
    assert (unknown.status, unknown.json["error"]["code"]) == (502, 502)
    for answer, entry in zip((chat, messages, unknown), served.entries(), strict=True):
        assert entry.exit in (Exit.LOST, Exit.TRUNCATED)
        assert entry.opening.exchange == answer.headers["x-counterfoil-exchange"]


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_bytes_that_are_missing_are_told_by_the_connection_that_breaks(
    provider: Playback, served: RunningGateway, framing: Any, caplog: pytest.LogCaptureFixture
) -> None:
    script = ChatReply(usage=USAGE, text="one two three four").script().framed(framing).cut_at(3)
    provider.queue(script)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=SECONDS)
    body = json.dumps({**CHAT, "stream": True}).encode()
    connection.request("POST", "/passthrough/openai/v1/chat/completions", body, {**BILLING, **JSON})
    response = connection.getresponse()
    with pytest.raises(http.client.IncompleteRead) as caught:
        response.read()
    connection.close()
    assert caught.value.partial == sent(provider, script)
    entry = served.entry()
    assert entry.exit is Exit.TRUNCATED
    assert entry.usage.estimated
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_stream_that_ends_before_its_reply_is_carried_and_booked_as_cut(
    provider: Playback, served: RunningGateway
) -> None:
    script = ChatReply(usage=USAGE, text="one two three four").script().half_frame_at(3, clean=True)
    provider.queue(script)
    answer = call(served, "/openai/v1/chat/completions", {**CHAT, "stream": True})
    assert answer.body == sent(provider, script)
    assert served.entry().exit is Exit.TRUNCATED


def test_a_silent_provider_is_not_waited_for_longer_than_its_time_outs(
    provider: Playback, served: RunningGateway
) -> None:
    provider.queue(silent_answer(), Script((Send(b"some"), Stall()), headers=(("content-type", "text/plain"),)))
    assert call(served, "/house/v1/slow", {}).status == 504
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=SECONDS)
    connection.request("POST", "/passthrough/house/v1/slow", b"{}", {**BILLING, **JSON})
    with pytest.raises(http.client.IncompleteRead):
        connection.getresponse().read()
    connection.close()
    provider.block_until(lambda: provider.served[-1].left_at is not None)
    assert [entry.exit for entry in served.entries()] == [Exit.TIMED_OUT, Exit.TIMED_OUT]
    assert all(entry.usage.total_tokens is None for entry in served.entries())


@pytest.mark.parametrize("known", [True, False])
def test_a_client_that_hangs_up_stops_the_provider(provider: Playback, served: RunningGateway, known: bool) -> None:
    path = "/openai/v1/chat/completions" if known else "/openai/v1/batches"
    provider.queue(ChatReply(usage=USAGE, text="one two three four five six").script().stall_at(4))
    body = json.dumps({**CHAT, "stream": True}).encode()
    with socket.create_connection(("127.0.0.1", served.port), SECONDS) as client:
        head = f"POST /passthrough{path} HTTP/1.1\r\nhost: localhost\r\nauthorization: {BILLING['authorization']}\r\n"
        client.sendall(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        read_until(client, b"three")
    provider.block_until(lambda: provider.served[-1].left_at is not None)
    wait_until(lambda: not served.gateway.driver.open_exchanges, "the exchange never ended")
    entry = served.entry()
    assert entry.exit is Exit.CLIENT_GONE
    assert entry.usage.estimated is known
    assert (entry.usage.output_tokens is not None) is known


def test_a_client_that_hangs_up_before_the_head_stops_the_provider(provider: Playback, served: RunningGateway) -> None:
    provider.queue(Script((Head(), Stall())))
    with socket.create_connection(("127.0.0.1", served.port), SECONDS) as client:
        head = (
            f"POST /passthrough/house/v1/x HTTP/1.1\r\nhost: localhost\r\nauthorization: {BILLING['authorization']}\r\n"
        )
        client.sendall(f"{head}content-length: 0\r\n\r\n".encode())
        provider.block_until(lambda: provider.served and provider.served[-1].stalled)
    wait_until(lambda: not served.gateway.driver.open_exchanges, "the exchange never ended")
    assert served.entry().exit is Exit.CLIENT_GONE


# ---- limits, and the gateway without keys


def test_limits_hold_here_too(provider: Playback, served: RunningGateway) -> None:
    assert call(served, "/openai/v1/batches", b"x" * 4097).status == 413
    deep = b'{"model":' + b"[" * 30 + b"]" * 30 + b"}"
    assert call(served, "/openai/v1/batches", deep).json["error"]["code"] == "too_deep"
    assert call(served, "/openai/v1/batches", b'{"a":"\xff"}').json["error"]["code"] == "invalid_json"
    assert call(served, "/openai/v1/batches?" + "a=1&" * 101, b"{}").status == 400
    assert (provider.served, served.entries()) == ([], [])
    provider.queue(Script((Send(b"{}"),), headers=(("content-type", "application/json"),)))
    assert call(served, "/openai/v1/batches", deep, content_type="text/plain").status == 200, (
        "what is no JSON is not read"
    )


LOOPBACK = """
models: {}
discover: false
passthrough: {house: {base_url: "%s/v1", api_key: k, paths: ["/*"]}}
listen: {port: 0, drain: 5}
"""


def test_without_keys_a_web_page_cannot_spend_through_it(shelf: str, tmp_path: Path) -> None:
    path = "/passthrough/house/v1/things"
    with gateway(tmp_path, text=LOOPBACK % shelf) as served:
        for method in ("POST", "PUT", "PATCH"):
            for kind in ({}, {"content-type": "text/plain"}, {"content-type": "multipart/form-data; boundary=b"}):
                assert served.call(method, path, b"{}", kind).status == 415
            assert served.call(method, path, b"{}", {**JSON, "origin": "https://page.example"}).status == 403
            assert served.call(method, path, b"{}", {**JSON, "host": "rebound.example"}).status == 403
        for method in ("GET", "DELETE"):
            assert served.call(method, path, None, {"origin": "https://page.example"}).status == 403
            assert served.call(method, path, None, {"host": "rebound.example"}).status == 403
        assert _Shelf.asked == []
        assert served.call("OPTIONS", path, None, {"origin": "https://page.example"}).headers.get("allow")
        assert served.call("GET", path).status == 204
        assert served.call("DELETE", path).status == 204
        assert served.call("POST", path, b"{}", JSON).status == 204
        assert [entry.opening.key for entry in served.entries()] == [None] * 3
    assert [asked[0] for asked in _Shelf.asked] == ["GET", "DELETE", "POST"]


def test_keys_that_are_named_hold_where_anybody_may_call() -> None:
    keys = KeysConfig(required=False, static=(StaticKey("billing", "secret"),))
    written = PassthroughConfig(("/*",), keys=("billing",), base_url="http://house.example/v1")
    through = build_passthrough("house", written, Config(keys=keys), load_table(), {}).passthrough
    assert through.open_to("billing")
    assert not through.open_to(None)
    assert not through.open_to("other")


def test_nothing_that_passes_is_in_a_log(
    provider: Playback, served: RunningGateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider.queue(chat_reply(stream=False, usage=USAGE), error_answer(500))
    call(
        served, "/openai/v1/chat/completions?key=billing-secret-0001", {**CHAT, "prompt_cache_key": "words-of-a-prompt"}
    )
    call(served, "/openai/v1/chat/completions?key=billing-secret-0001", CHAT)
    for secret in ("billing-secret-0001", PAID, "words-of-a-prompt", "Good morning"):
        assert secret not in caplog.text
