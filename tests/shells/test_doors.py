"""Promise: every door answers in its own dialect, whatever stands behind it, and the books say the same."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from counterfoil.dialects.registry import CLIENT_DIALECTS
from counterfoil.ledger.entry import Entry, Exit
from counterfoil.server.pages import _DOORS as _PAGE_DOORS
from counterfoil.server.paths import DOORS, dialect_at, find, not_found
from counterfoil.testing import Playback, Send, error_player, running
from tests.shells.doors import CALLS, COUNTED, MODELS, REFUSALS, TEXT, USED, Way, play
from tests.shells.gateway import HELLO, Answer, RunningGateway, gateway

__all__: list[str] = []

KEYS = "keys: {required: true, static: [{name: alice, secret: alice-secret-1}]}\nlimits: {body: 4096}\n"
SECRET = {"authorization": "Bearer alice-secret-1"}


@pytest.fixture(scope="module")
def provider() -> Iterator[Playback]:
    with running(Playback(play)) as provider:
        yield provider


@pytest.fixture(scope="module")
def served(provider: Playback, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with gateway(tmp_path_factory.mktemp("doors"), text=MODELS.format(origin=provider.origin)) as served:
        yield served


@pytest.fixture(scope="module")
def locked(provider: Playback, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """With keys, and little room."""
    text = MODELS.format(origin=provider.origin) + KEYS
    with gateway(tmp_path_factory.mktemp("locked"), text=text) as served:
        yield served


def booked(served: RunningGateway, answer: Answer) -> Entry:
    """The one entry of an answer."""
    exchange = answer.headers["x-counterfoil-exchange"]
    (entry,) = [entry for entry in served.entries() if entry.opening.exchange == exchange]
    assert answer.headers["x-counterfoil-attempt"] == entry.opening.attempt
    return entry


_CELLS = [
    pytest.param(way, place, model, streamed, id=f"{name}-{place}-{model}-{'streamed' if streamed else 'whole'}")
    for name, way in CALLS.items()
    for place in range(len(way.writers))
    for model in way.models
    for streamed in way.streams
]


@pytest.mark.parametrize(("way", "place", "model", "streamed"), _CELLS)
def test_every_door_is_answered_in_its_dialect_and_booked(
    provider: Playback, served: RunningGateway, way: Way, place: int, model: str, streamed: bool
) -> None:
    asking = way.writers[place](model, streamed)
    before = len(provider.served)
    answer = served.post(asking.body, asking.path)
    assert answer.status == 200, answer.body
    assert len(provider.served) == before + 1
    read, entry = way.read(answer, streamed), booked(served, answer)
    assert read.said == way.expected
    assert read.model in (model, None)
    assert entry.exit is Exit.COMPLETED
    assert entry.discrepancies == ()
    opening = entry.opening
    assert (opening.client_dialect, opening.route, opening.streamed) == (way.dialect, model, streamed)
    assert (opening.provider_dialect == way.dialect) is (model == way.models[0])
    if way.expected == TEXT:
        assert (read.input, read.output) == (USED.input, USED.output)
        assert (entry.usage.input_tokens, entry.usage.output_tokens) == (USED.input, USED.output)
        assert not entry.usage.estimated
    elif way.expected == COUNTED:
        assert (entry.usage.input_tokens, entry.cost) == (0, 0)
    assert answer.headers["x-request-id"] == answer.headers["request-id"] == opening.exchange
    events = streamed and (way.dialect != "gemini" or "alt=sse" in asking.path)
    assert answer.headers["content-type"].startswith("text/event-stream" if events else "application/json")
    assert answer.headers.get("cache-control") == ("no-store" if streamed else None)


def test_every_dialect_that_clients_speak_has_a_door() -> None:
    assert {way.dialect for way in CALLS.values()} == CLIENT_DIALECTS.keys() == REFUSALS.keys()
    paths = {asking.path for way in CALLS.values() for write in way.writers for asking in (write("m", False),)}
    exact = {path.partition("?")[0] for path in paths}
    assert {path for path, door in DOORS.items() if "POST" in door.methods} - {"/admin/reload"} <= exact | {
        "/openai/v1/completions",
        "/openai/v1/embeddings",
        "/openai/v1/responses/input_tokens",
        "/openai/responses/input_tokens",
    }


def test_a_stream_that_is_no_event_stream_is_one_array_of_the_same_frames(served: RunningGateway) -> None:
    way = CALLS["gemini"]
    events, array = (write("gemini", True) for write in way.writers[:2])
    as_events, as_array = (served.post(one.body, one.path) for one in (events, array))
    assert as_array.headers["content-type"] == "application/json"
    frames = [json.loads(line[6:]) for line in as_events.body.decode().splitlines() if line.startswith("data: ")]
    assert len(as_array.json) == len(frames) > 1
    assert [frame["candidates"] for frame in as_array.json] == [frame["candidates"] for frame in frames]


def test_what_a_path_says_is_no_input(served: RunningGateway) -> None:
    askings = [write("chat", streamed) for write in CALLS["gemini"].writers for streamed in (False, True)]
    answers = [served.post(asking.body, asking.path) for asking in askings]
    assert len({booked(served, answer).opening.input_estimate for answer in answers}) == 1


def test_a_header_of_a_reply_is_no_longer_than_clients_read(provider: Playback, tmp_path: Path) -> None:
    one = f"{{provider: anthropic, model: play-a, base_url: '{provider.origin}', api_key: x, drop: true}}"
    with gateway(tmp_path, text=f"models: {{m: [{one}]}}\nlisten: {{port: 0}}") as served:
        answer = served.post({"model": "m", "input": "Hi", **{f"field{n}": 1 for n in range(9000)}}, "/v1/responses")
        assert answer.status == 200
        assert "field0, field1, " in answer.headers["x-counterfoil-dropped"]
        assert len(answer.headers["x-counterfoil-dropped"]) == 4096


@pytest.mark.parametrize("model", ["gemini", "chat", "messages", "responses"])
def test_a_gemini_stream_has_no_comments_whatever_its_provider_sends(
    provider: Playback, served: RunningGateway, model: str
) -> None:
    asking = CALLS["gemini"].writers[0](model, True)
    served.post(asking.body, asking.path)
    plain = provider.served[-1].script
    noted = plain.insert_at(1, Send(b": between\r\n\r\n"))
    provider.queue(dataclasses.replace(noted, steps=(Send(b": before\r\n\r\n: inside\r\n"), *noted.steps)))
    answer = served.post(asking.body, asking.path)
    assert b": before" in provider.served[-1].script.body
    assert CALLS["gemini"].read(answer, True).said == TEXT
    assert all(line.startswith("data: ") or not line for line in answer.body.decode().splitlines())


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"", b"null"])
@pytest.mark.parametrize("name", CALLS)
def test_a_body_that_is_no_json_object_is_refused_in_the_doors_dialect(
    served: RunningGateway, name: str, body: bytes
) -> None:
    way = CALLS[name]
    for write in way.writers:
        answer = served.post(body, write(way.models[0], False).path)
        assert answer.status == 400
        assert REFUSALS[way.dialect](answer)


ENDLESS = "a" * 100_000


@pytest.mark.parametrize(
    ("name", "model", "wrong"),
    [
        ("chat", "messages", {ENDLESS: 1}),
        ("messages", "chat", {"messages": [{"role": ENDLESS, "content": "Hi"}]}),
        ("responses", "chat", {"tools": [{"type": ENDLESS}]}),
        ("gemini", "chat", {ENDLESS: 1}),
        ("texts", "generate", {ENDLESS: 1}),
        ("vectors", "google-vectors", {"encoding_format": ENDLESS}),
        ("ranks", "other-ranks", {ENDLESS: 1}),
    ],
)
def test_what_a_client_wrote_is_repeated_in_a_refusal_only_in_part(
    served: RunningGateway, name: str, model: str, wrong: dict[str, Any]
) -> None:
    asking = CALLS[name].writers[0](model, False)
    answer = served.post({**asking.body, **wrong}, asking.path)
    assert answer.status == 400
    message = REFUSALS[CALLS[name].dialect](answer)
    assert "aaaa … aaaa" in message
    assert len(answer.body) < 3000


@pytest.mark.parametrize("name", CALLS)
def test_an_unknown_model_is_a_404_in_the_doors_dialect(served: RunningGateway, name: str) -> None:
    way = CALLS[name]
    for write in way.writers:
        asking = write("nowhere-to-be-found", False)
        answer = served.post(asking.body, asking.path)
        assert answer.status == 404, answer.body
        assert "nowhere-to-be-found" in REFUSALS[way.dialect](answer)


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_method_is_a_405_in_the_doors_dialect(served: RunningGateway, name: str) -> None:
    way = CALLS[name]
    for write in way.writers:
        for method in ("GET", "PUT", "DELETE"):
            answer = served.call(method, write("chat", False).path)
            assert (answer.status, answer.headers["allow"]) == (405, "POST")
            assert REFUSALS[way.dialect](answer) == f"{method} is not answered here, only POST."


@pytest.mark.parametrize("name", CALLS)
def test_a_body_too_large_is_a_413_in_the_doors_dialect(locked: RunningGateway, name: str) -> None:
    way = CALLS[name]
    for write in way.writers:
        answer = locked.post(b" " * 5000, write("chat", False).path, **SECRET)
        assert answer.status == 413
        assert "limits.body" in REFUSALS[way.dialect](answer)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"x_goog_api_key": "wrong"}])
def test_a_missing_or_a_wrong_key_is_a_401_in_the_doors_dialect(
    provider: Playback, locked: RunningGateway, name: str, headers: dict[str, str]
) -> None:
    way, before = CALLS[name], len(provider.served)
    for write in way.writers:
        asking = write(way.models[0], False)
        answer = locked.post(asking.body, asking.path, **headers)
        assert answer.status == 401
        assert "key" in REFUSALS[way.dialect](answer)
    assert len(provider.served) == before


@pytest.mark.parametrize("name", CALLS)
def test_what_a_provider_refuses_is_told_in_the_doors_dialect(
    provider: Playback, served: RunningGateway, name: str
) -> None:
    way = CALLS[name]
    for model in way.models:
        for streamed in way.streams:
            asking = way.writers[0](model, streamed)
            provider.queue(error_player(429, "Too many boats."))
            answer = served.post(asking.body, asking.path)
            assert answer.status == 429
            assert REFUSALS[way.dialect](answer)
            assert answer.headers["content-type"] == "application/json"
            exchange = answer.headers["x-counterfoil-exchange"]
            (entry,) = [entry for entry in served.entries() if entry.opening.exchange == exchange]
            assert entry.exit is Exit.REJECTED


@pytest.mark.parametrize("name", CALLS)
def test_a_status_that_is_none_of_http_s_is_told_as_a_502(
    provider: Playback, served: RunningGateway, name: str
) -> None:
    way = CALLS[name]
    for model in way.models:
        for streamed in way.streams:
            asking = way.writers[0](model, streamed)
            provider.queue(error_player(999, "Too many boats."))
            answer = served.post(asking.body, asking.path)
            assert (answer.status, answer.headers["content-type"]) == (502, "application/json")
            assert REFUSALS[way.dialect](answer)


@pytest.mark.parametrize(
    ("path", "model", "dialect"),
    [
        ("/v1/embeddings", "messages", "openai_embeddings"),
        ("/v2/rerank", "chat", "cohere.rerank"),
        ("/v1beta/models/messages:embedContent", "", "gemini.embed"),
    ],
)
def test_a_provider_without_the_operation_is_a_clear_400(
    served: RunningGateway, path: str, model: str, dialect: str
) -> None:
    way = next(way for way in CALLS.values() if way.dialect == dialect)
    body = {**way.writers[0](model, False).body, "model": model} if model else {"content": {"parts": [{"text": "a"}]}}
    answer = served.post(body, path)
    assert answer.status == 400
    assert "cannot" in REFUSALS[dialect](answer)


@pytest.mark.parametrize(
    ("path", "dialect", "hint"),
    [
        ("/v1/v1/messages", "anthropic_messages", "leave it out"),
        ("/v1/v1beta/models/m:generateContent", "gemini", "leave it out"),
        ("/openai/v1/v1/chat/completions", "openai_chat", "leave it out"),
        ("//v1/messages", "openai_chat", "Two slashes"),
        ("/v1/messages/batches", "anthropic_messages", "It has no door; `passthrough:`"),
        ("/v1/message", "openai_chat", "POST /v1/messages"),
        ("/v1/complete", "anthropic_messages", "POST /v1/messages"),
        ("/v1/responses/resp_1", "openai_responses", "not kept"),
        ("/v1beta/tunedModels/m:generateAnswer", "gemini", ":generateContent"),
        ("/v1beta/models/m:predict", "gemini", ":generateContent"),
        ("/v1beta/models/m:generateContent/", "gemini", "slash"),
        ("/v1beta/cachedContents", "gemini", ":generateContent"),
        ("/v1/audio/speech", "openai_chat", "It has no door; `passthrough:`"),
        ("/openai/deployments/m/images/generations", "openai_chat", "It has no door; `passthrough:`"),
        ("/v1/chat/completions/", "openai_chat", "slash"),
        ("/nothing", "openai_chat", "GET / says"),
    ],
)
def test_an_unknown_path_is_a_404_in_the_dialect_that_its_caller_seems_to_speak_and_says_where_to_go(
    served: RunningGateway, path: str, dialect: str, hint: str
) -> None:
    answer = served.post({}, path)
    assert answer.status == 404
    message = REFUSALS[dialect](answer)
    assert hint in message
    assert path in message
    assert dialect_at(path).name == dialect


def test_an_unknown_path_is_told_in_the_dialect_of_the_clients_headers(served: RunningGateway) -> None:
    answer = served.call("GET", "/v1/files", None, {"anthropic-version": "2023-06-01"})
    assert (answer.status, answer.json["type"]) == (404, "error")
    answer = served.call("GET", "/v2/files", None, {"x-goog-api-key": "any"})
    assert (answer.status, answer.json["error"]["code"]) == (404, 404)


def test_an_endless_path_is_not_repeated_nor_looked_at() -> None:
    assert len(not_found("/" + "a" * 5000).failure.message) < 300
    endless = "/v1beta/models/" + "models/" * 9000 + "::a"
    assert find(endless) is None
    assert dialect_at(endless).name == "gemini"
    assert find("/v1beta/models/" + "m" * 900 + ":generateContent") is not None


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/messages", "anthropic_messages"),
        ("/v1beta/models/m:generateContent?key=x", "gemini"),
        ("/v1/responses", "openai_responses"),
        ("/v2/rerank", "cohere.rerank"),
    ],
)
def test_headers_too_large_are_refused_in_the_paths_dialect(served: RunningGateway, path: str, dialect: str) -> None:
    answer = served.call("GET", path, None, {"x-much": "a" * 70_000})
    assert answer.status == 431
    assert "limits.headers" in REFUSALS[dialect](answer)


# ---- what a path says


@pytest.mark.parametrize(
    ("path", "query", "model", "streamed", "variant"),
    [
        ("/v1beta/models/m:generateContent", "", "m", False, ""),
        ("/v1beta/models/m:streamGenerateContent", "alt=sse", "m", True, ""),
        ("/v1beta/models/m:streamGenerateContent", "key=k&alt=sse", "m", True, ""),
        ("/v1beta/models/m:streamGenerateContent", "$alt=sse", "m", True, ""),
        ("/v1beta/models/m:streamGenerateContent", "alt=json", "m", True, "array"),
        ("/v1/models/llama3:8b:generateContent", "", "llama3:8b", False, ""),
        ("/v1beta/models/house/m:generateContent", "", "house/m", False, ""),
        ("/v1beta/models/m:embedContent", "", "m", False, "one"),
        ("/openai/deployments/house/m/chat/completions", "api-version=1", "house/m", None, ""),
        ("/v1/models/llama3:8b", "", "llama3:8b", None, ""),
        ("/v1/models/llama3:latest", "", "llama3:latest", None, ""),
        ("/v1beta/models/llama3:latest", "", "llama3:latest", None, ""),
        ("/v1/chat/completions", "", None, None, ""),
    ],
)
def test_a_path_says_the_model_and_the_stream_where_its_dialect_puts_them_there(
    path: str, query: str, model: str | None, streamed: bool | None, variant: str
) -> None:
    found = find(path, query)
    assert found is not None
    assert (found.place.model, found.place.streamed, found.place.variant) == (model, streamed, variant)


def test_what_a_path_says_goes_before_what_a_body_says(provider: Playback, served: RunningGateway) -> None:
    body = {"contents": [{"parts": [{"text": "Hi"}]}], "model": "messages", "counterfoilStream": True}
    answer = served.post(body, "/v1beta/models/gemini:generateContent")
    assert booked(served, answer).opening.route == "gemini"
    assert answer.headers["content-type"] == "application/json"
    assert "counterfoilStream" not in provider.served[-1].request.json
    assert "model" not in provider.served[-1].request.json


# ---- requests are named


@pytest.mark.parametrize("own", ["req-7", "a" * 128, "8d7f/11:2"])
def test_a_clients_own_request_id_is_repeated(served: RunningGateway, own: str) -> None:
    for answer in (
        served.post({"model": "chat", "messages": HELLO}, x_request_id=own),
        served.get("/x", x_request_id=own),
    ):
        assert answer.headers["x-request-id"] == answer.headers["request-id"] == own


@pytest.mark.parametrize("own", ["a" * 129, "two words", "caf\u00e9", "tab\there"])
def test_a_request_id_that_cannot_be_repeated_is_replaced(served: RunningGateway, own: str) -> None:
    answer = served.post({"model": "chat", "messages": HELLO}, x_request_id=own)
    assert answer.headers["x-request-id"] == booked(served, answer).opening.exchange


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("HEAD", "/"),
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("GET", "/none"),
        ("PUT", "/v1/messages"),
    ],
)
def test_every_answer_names_its_request_and_an_exchange(served: RunningGateway, method: str, path: str) -> None:
    answer = served.call(method, path)
    assert len(answer.headers["x-request-id"]) == 36
    assert answer.headers["x-counterfoil-exchange"] == answer.headers["x-request-id"]
    named = served.call(method, path, headers={"x-request-id": "mine"})
    assert (named.headers["x-request-id"], len(named.headers["x-counterfoil-exchange"])) == ("mine", 36)
    assert served.get(f"/v1/receipts/{answer.headers['x-counterfoil-exchange']}").status == 404


# ---- HEAD and the list of models


@pytest.mark.parametrize("path", ["/", "/v1/models", "/v1beta/models", "/v1/models/chat", "/health/live"])
def test_a_head_is_a_get_without_its_body(served: RunningGateway, path: str) -> None:
    head, got = served.call("HEAD", path), served.get(path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(got.body))


def test_the_page_is_there_for_who_has_no_key_yet(locked: RunningGateway) -> None:
    assert locked.call("HEAD", "/", None, {"user-agent": "claude-cli"}).status == 200


def test_the_page_names_doors_that_are_there(served: RunningGateway) -> None:
    page, facts = served.get("/").body.decode(), served.get("/", accept="application/json").json
    for whose, base, paths in _PAGE_DOORS:
        assert facts["base_urls"][whose.lower()] == served.origin + base
        assert f"<code>{served.origin}{base}</code>" in page
        for path in paths:
            assert path in page
            assert find(base + path) is not None


NAMES = [
    "chat",
    "messages",
    "responses",
    "gemini",
    "texts",
    "generate",
    "vectors",
    "google-vectors",
    "ranks",
    "other-ranks",
]


def test_models_are_listed_in_the_shape_of_whoever_asks(served: RunningGateway) -> None:
    openai = served.get("/v1/models").json
    assert [model["id"] for model in openai["data"]] == NAMES
    assert openai["object"] == "list"
    anthropic = served.get("/v1/models", anthropic_version="2023-06-01").json
    assert [model["id"] for model in anthropic["data"]] == NAMES
    assert {model["type"] for model in anthropic["data"]} == {"model"}
    assert (anthropic["has_more"], anthropic["first_id"], anthropic["last_id"]) == (False, NAMES[0], NAMES[-1])
    assert anthropic["data"][0]["created_at"].endswith("Z")
    for gemini in (served.get("/v1beta/models").json, served.get("/v1/models", x_goog_api_key="any").json):
        assert [model["name"] for model in gemini["models"]] == [f"models/{name}" for name in NAMES]
        assert "generateContent" in gemini["models"][0]["supportedGenerationMethods"]


def test_azures_own_client_finds_every_door_below_its_endpoint(served: RunningGateway) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=served.origin, api_key="any", api_version="2024-10-21", max_retries=0
    ) as client:
        assert [model.id for model in client.models.list()] == NAMES
        assert client.models.retrieve("chat").id == "chat"
        assert (
            client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "Hi"}]).model == "chat"
        )
        assert client.completions.create(model="texts", prompt="Hi").model == "texts"
        assert client.embeddings.create(model="vectors", input="Hi").model == "vectors"
        assert client.responses.create(model="responses", input="Hi").output_text == TEXT
        assert client.responses.input_tokens.count(model="responses", input="Hi").input_tokens == COUNTED


def test_a_model_is_shown_in_the_shape_of_whoever_asks(served: RunningGateway) -> None:
    assert served.get("/v1/models/chat").json["object"] == "model"
    assert served.get("/v1/models/chat", anthropic_version="2023-06-01").json["display_name"] == "chat"
    assert served.get("/v1beta/models/chat").json["name"] == "models/chat"
    assert served.get("/v1/models/none", anthropic_version="2023-06-01").json["error"]["type"] == "not_found_error"
    assert served.get("/v1beta/models/none").json["error"]["status"] == "NOT_FOUND"


# ---- no secret is shown


def test_a_key_in_a_url_is_written_nowhere(
    provider: Playback, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = "key-in-url-good-1", "key-in-url-bad-1"
    keys = f"keys: {{required: true, static: [{{name: alice, secret: {good}}}]}}"
    contents: dict[str, Any] = {"contents": [{"parts": [{"text": "Hi"}]}]}
    caplog.set_level("DEBUG")
    before = len(provider.served)
    with gateway(tmp_path, text=MODELS.format(origin=provider.origin) + keys) as served:
        answers = [
            served.post(contents, f"/v1beta/models/gemini:generateContent?key={good}"),
            served.post(contents, f"/v1beta/models/gemini:streamGenerateContent?alt=sse&key={good}"),
            served.post(contents, f"/v1beta/models/gemini:generateContent?key={bad}"),
            served.post(contents, f"/v1beta/models/none:generateContent?key={good}"),
            served.post(b"{", f"/v1beta/models/gemini:generateContent?key={good}"),
            served.call("GET", f"/v1beta/models/gemini:generateContent?key={good}"),
            served.call("GET", f"/v1beta/nothing?key={good}"),
            served.get(f"/v1beta/models?key={good}"),
            served.get(f"/?key={good}"),
            served.get(f"/metrics?key={good}"),
        ]
        assert [answer.status for answer in answers] == [200, 200, 401, 404, 400, 405, 404, 200, 200, 200]
        receipt = served.get(f"/v1/receipts/{answers[0].headers['x-counterfoil-exchange']}?key={good}")
        assert receipt.status == 200

        def fail(name: str) -> None:
            raise KeyError(name)

        monkeypatch.setattr(served.gateway.state.names, "resolve", fail)
        answers += [receipt, served.post(contents, f"/v1beta/models/gemini:generateContent?key={good}")]
        assert answers[-1].status == 500
        assert [entry.opening.key for entry in served.entries()] == ["alice", "alice"]
        told = [repr(served.entries())]
    told += [caplog.text, *(f"{answer.headers}{answer.body!r}" for answer in answers)]
    told += [f"{one.request.path}{one.request.headers}{one.request.body!r}" for one in provider.served[before:]]
    told += [file.read_bytes().decode("latin-1") for file in tmp_path.rglob("ledger*") if file.is_file()]
    assert len(told) > 15
    for text in told:
        assert good not in text
        assert bad not in text
