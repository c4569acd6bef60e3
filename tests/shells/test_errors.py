"""Whatever goes wrong has one defined answer, in the client's dialect, and the books say how it ended."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import counterfoil
from counterfoil.ledger.entry import Exit, Opening
from counterfoil.ledger.store import BooksUnavailable
from counterfoil.testing import (
    Answer,
    ChatReply,
    Playback,
    bad_json,
    chat_reply,
    empty_answer,
    error_answer,
    html_answer,
    in_turn,
    no_answer,
    redirect,
    running,
    silent_answer,
    wrong_type,
)
from tests.shells.gateway import HELLO, RunningGateway, gateway

SHORT = "retries: {attempts: 1}\ntimeouts: {connect: 0.1, first_byte: 0.4, between_frames: 0.4, total: 1.2}"


@pytest.fixture(scope="module")
def provider() -> Iterator[Playback]:
    with running() as playback:
        yield playback


@pytest.fixture
def served(provider: Playback, tmp_path: Path) -> Iterator[RunningGateway]:
    with gateway(tmp_path, {"my-model": provider.base_url}, SHORT) as started:
        yield started


@dataclass(frozen=True)
class Fault:
    """What the provider does, and what must come of it."""

    answer: Answer
    status: int
    type: str
    exit: Exit
    fault: str = "provider"
    code: str | None = None
    retry_after: str | None = None


BEFORE_THE_REPLY = {
    "a web page": Fault(html_answer(), 502, "api_error", Exit.FAILED),
    "a web page with an error status": Fault(html_answer(502), 502, "api_error", Exit.REJECTED),
    "a redirect": Fault(redirect("http://127.0.0.1:9/elsewhere"), 502, "api_error", Exit.REJECTED),
    "401": Fault(
        error_answer(401, code="invalid_api_key"),
        401,
        "authentication_error",
        Exit.REJECTED,
        "gateway",
        "invalid_api_key",
    ),
    "403": Fault(error_answer(403), 403, "permission_error", Exit.REJECTED, "gateway"),
    "404": Fault(error_answer(404), 404, "not_found_error", Exit.REJECTED, "gateway", "model_not_found"),
    "429 with retry-after": Fault(
        error_answer(429, retry_after="7"),
        429,
        "rate_limit_error",
        Exit.REJECTED,
        code="rate_limit_exceeded",
        retry_after="7",
    ),
    "500": Fault(error_answer(500), 500, "api_error", Exit.REJECTED),
    "503 loading": Fault(error_answer(503, "Loading model", code=503), 503, "overloaded_error", Exit.REJECTED),
    "nothing at all": Fault(no_answer(), 502, "api_connection_error", Exit.LOST, "network"),
    "silence": Fault(silent_answer(), 504, "timeout_error", Exit.TIMED_OUT),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", BEFORE_THE_REPLY)
def test_a_provider_that_fails_before_its_reply_is_told_as_an_error_status(
    provider: Playback, served: RunningGateway, name: str, stream: bool
) -> None:
    expected = BEFORE_THE_REPLY[name]
    provider.queue(expected.answer)
    before = len(provider.served)
    answer = served.chat("my-model", stream=stream)
    assert answer.status == expected.status
    assert answer.error["type"] == expected.type
    assert answer.error["fault"] == expected.fault
    assert answer.headers.get("retry-after") == expected.retry_after
    if expected.code is not None:
        assert answer.error["code"] == expected.code
    entry = served.entry()
    assert entry.exit is expected.exit
    assert entry.usage.total_tokens in (0, None) or entry.usage.estimated
    assert len(provider.served) == before + 1, "one attempt, and a redirect is not followed"


@pytest.mark.parametrize("name", ["bad JSON", "an empty body"])
def test_a_whole_reply_that_is_none_is_a_bad_gateway(provider: Playback, served: RunningGateway, name: str) -> None:
    provider.queue({"bad JSON": bad_json(), "an empty body": empty_answer()}[name])
    answer = served.chat("my-model")
    assert answer.status == 502
    assert answer.error["fault"] == "provider"
    assert served.entry().exit in (Exit.FAILED, Exit.TRUNCATED)


@pytest.mark.parametrize(
    ("answer", "exit_"),
    [
        pytest.param(chat_reply().half_frame_at(4), Exit.TRUNCATED, id="half a frame and a cut"),
        pytest.param(chat_reply().half_frame_at(4, clean=True), Exit.TRUNCATED, id="half a frame and a clean end"),
        pytest.param(chat_reply().cut_at(4), Exit.TRUNCATED, id="a cut"),
        pytest.param(chat_reply().stall_at(4), Exit.TIMED_OUT, id="silence between frames"),
        pytest.param(
            ChatReply(text="one two three four five", pace=0.35).script(), Exit.TIMED_OUT, id="too long in all"
        ),
        pytest.param(chat_reply(error="plain"), Exit.FAILED, id="an error frame"),
        pytest.param(chat_reply(error="groq"), Exit.FAILED, id="an error event"),
    ],
)
def test_a_stream_that_fails_ends_with_an_error_frame_and_no_end_mark(
    provider: Playback, served: RunningGateway, answer: Answer, exit_: Exit
) -> None:
    provider.queue(answer)
    reply = served.chat("my-model", stream=True)
    assert reply.status == 200
    assert "[DONE]" not in reply.frames
    assert reply.text, "what came before the failure was passed on"
    error = json.loads(reply.frames[-1])["error"]
    assert {"message", "type", "code", "param"} <= set(error)
    entry = served.entry()
    assert entry.exit is exit_
    assert (entry.usage.output_tokens or 0) > 0, "what was delivered is in the books"


def test_an_error_frame_has_what_was_booked_where_the_client_asked_for_usage(
    provider: Playback, served: RunningGateway
) -> None:
    provider.queue(chat_reply().cut_at(4), chat_reply().cut_at(4))
    asked = json.loads(served.chat("my-model", stream=True, stream_options={"include_usage": True}).frames[-1])
    plain = json.loads(served.chat("my-model", stream=True).frames[-1])
    assert (set(asked), set(plain)) == ({"error", "usage"}, {"error"})
    entry = served.entries()[0]
    assert asked["usage"] == {
        "prompt_tokens": entry.usage.input_tokens,
        "completion_tokens": entry.usage.output_tokens,
        "total_tokens": entry.usage.total_tokens,
        "estimated": True,
    }


@pytest.mark.parametrize("setting", ["null", "error"])
def test_an_error_frame_has_no_estimate_where_the_operator_wants_none(
    provider: Playback, tmp_path: Path, setting: str
) -> None:
    provider.queue(chat_reply().cut_at(4))
    with gateway(tmp_path, {"m": provider.base_url}, f"{SHORT}\nmissing_usage: '{setting}'") as served:
        reply = served.chat(stream=True, stream_options={"include_usage": True})
    assert set(json.loads(reply.frames[-1])) == {"error"}


@pytest.mark.parametrize("reported", [False, True], ids=["nothing reported", "some of it reported"])
def test_a_program_that_meters_behind_a_gateway_books_what_the_gateway_did_when_a_stream_is_cut(
    provider: Playback, served: RunningGateway, reported: bool
) -> None:
    provider.queue(chat_reply(shape="every_chunk" if reported else "separate").cut_at(4))
    with counterfoil.Client(base_url=served.base_url, max_retries=0) as client:
        stream = client.chat.completions.create(model="my-model", messages=HELLO, stream=True)
        with pytest.raises(counterfoil.APIError, match="before it was complete"):
            list(stream)
        mine = stream.entry
    entry = served.entry()
    assert mine is not None
    assert (mine.usage.input_tokens, mine.usage.output_tokens) == (entry.usage.input_tokens, entry.usage.output_tokens)
    assert mine.usage.estimated is entry.usage.estimated is not reported
    assert (entry.exit, mine.exit) == (Exit.TRUNCATED, Exit.FAILED)


def test_a_reset_in_the_middle_of_a_stream_is_told_too(provider: Playback, served: RunningGateway) -> None:
    provider.queue(chat_reply().reset_at(4))
    reply = served.chat("my-model", stream=True)
    assert "[DONE]" not in reply.frames
    assert "error" in json.loads(reply.frames[-1])
    assert served.entry().exit is Exit.LOST


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_reply_beyond_its_limit_is_a_bad_gateway(provider: Playback, tmp_path: Path, stream: bool) -> None:
    limits = "retries: {attempts: 1}\nlimits: {frame: 4096, reply: 4096}"
    with gateway(tmp_path, {"m": provider.base_url}, limits) as served:
        provider.queue(chat_reply(text=("x" * 5000,), stream=stream))
        answer = served.chat(stream=stream)
        error = json.loads(answer.frames[-1])["error"] if answer.status == 200 else answer.error
        assert (error["type"], error["fault"]) == ("api_error", "provider")
        assert served.entry().exit is Exit.FAILED


def test_books_that_cannot_be_written_stop_the_request_before_it_is_sent(
    provider: Playback, served: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(opening: Opening) -> None:
        raise BooksUnavailable("no space left on the device")

    monkeypatch.setattr(served.books, "open", full)
    before = len(provider.served)
    answer = served.chat("my-model")
    assert (answer.status, answer.error["fault"]) == (503, "gateway")
    assert "no space left" in answer.error["message"]
    assert len(provider.served) == before


def test_another_content_type_does_not_keep_a_stream_from_being_read(
    provider: Playback, served: RunningGateway
) -> None:
    provider.queue(wrong_type(chat_reply(text="Good morning")))
    reply = served.chat("my-model", stream=True)
    assert reply.text == "Good morning"
    assert served.entry().exit is Exit.COMPLETED


def test_a_refused_connection_is_told_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with gateway(tmp_path, {"m": f"http://127.0.0.1:{port}/v1"}) as served:
        answer = served.chat()
        assert answer.status == 502
        assert answer.error["type"] == "api_connection_error"
        assert "refused" in answer.error["message"]
        entry = served.entry()
        assert (entry.exit, entry.lines, entry.cost) == (Exit.LOST, (), 0)


def test_a_connection_that_is_never_made_runs_into_its_own_limit(tmp_path: Path) -> None:
    deaf = socket.socket()
    waiting: list[socket.socket] = []
    try:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(8):  # a full queue of connections: Linux lets the next ones wait
            caller = socket.socket()
            caller.setblocking(False)
            caller.connect_ex(deaf.getsockname())
            waiting.append(caller)
        with gateway(tmp_path, {"m": f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"}, SHORT) as served:
            answer = served.chat()
            assert answer.status == 502
            assert "no connection within 0.1 s" in answer.error["message"]
            assert served.entry().exit is Exit.LOST
            assert served.entry().lines == ()
    finally:
        for caller in waiting:
            caller.close()
        deaf.close()


def test_each_attempt_has_its_entry_and_the_last_one_answers(provider: Playback, tmp_path: Path) -> None:
    retries = "retries: {attempts: 3, backoff: 0.01, backoff_max: 0.02}"
    with gateway(tmp_path, {"m": provider.base_url}, retries) as served:
        provider.queue(in_turn(error_answer(500)), error_answer(429), chat_reply(stream=False, text="At last"))
        answer = served.chat()
        assert answer.json["choices"][0]["message"]["content"] == "At last"
        entries = served.entries()
        assert [entry.exit for entry in entries] == [Exit.REJECTED, Exit.REJECTED, Exit.COMPLETED]
        assert len({entry.opening.exchange for entry in entries}) == 1
        assert len({entry.opening.attempt for entry in entries}) == 3


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        pytest.param(b'{"model": "my-model", "messages": [', 400, None, "invalid_json", id="cut JSON"),
        pytest.param(b"", 400, None, "invalid_json", id="no body"),
        pytest.param(b"\xff\xfe\x00", 400, None, None, id="not UTF-8"),
        pytest.param(
            b'{"model": "my-model\xe9", "messages": [{}]}', 400, None, "invalid_json", id="not UTF-8 inside a text"
        ),
        pytest.param(b'{"model": "\\ud800", "messages": [{}]}', 400, None, None, id="half a character"),
        pytest.param(b"[]", 400, None, None, id="no object"),
        pytest.param(b'{"model": 7, "messages": []}', 400, "model", None, id="a number for the model"),
        pytest.param(b'{"messages": [{}]}', 400, "model", None, id="no model"),
        pytest.param(b'{"model": "my-model"}', 400, "messages", None, id="no messages"),
        pytest.param(b'{"model": "my-model", "messages": []}', 400, "messages", None, id="empty messages"),
        pytest.param(b'{"model": "my-model", "messages": "hi"}', 400, "messages", None, id="text for messages"),
        pytest.param(
            b'{"model": "my-model", "messages": [{}], "stream": "yes"}', 400, "stream", None, id="text for stream"
        ),
        pytest.param(b'{"model": "my-modle", "messages": [{}]}', 404, "model", "model_not_found", id="unknown model"),
        pytest.param(
            json.dumps({"model": "m" * 3000, "messages": [{}]}).encode(), 404, "model", None, id="an endless model name"
        ),
        pytest.param(
            json.dumps({"model": "my-model", "messages": [{}], "user": "u" * 3000}).encode(),
            400,
            "user",
            None,
            id="user",
        ),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_and_not_booked(
    provider: Playback, served: RunningGateway, body: bytes, status: int, param: str | None, code: str | None
) -> None:
    before = len(provider.served)
    answer = served.post(body)
    assert answer.status == status
    assert answer.error["fault"] == "client"
    assert answer.error["param"] == param
    if code is not None:
        assert answer.error["code"] == code
    assert len(answer.body) < 2000, "nothing endless is repeated"
    assert served.entries() == []
    assert len(provider.served) == before


def test_an_unknown_model_is_answered_with_the_nearest_names(served: RunningGateway) -> None:
    assert "my-model" in served.chat("my-modle").error["message"]
    assert "my-model" in served.get("/v1/models/my-modle").error["message"]


@pytest.mark.parametrize("path", ["/v2/chat/completions", "/v1/chat", "/v1/chat/completions/", "/v1/models/", "/admin"])
def test_an_unknown_path_is_a_404_in_the_dialect(served: RunningGateway, path: str) -> None:
    answer = served.post({"model": "my-model", "messages": HELLO}, path)
    assert answer.status == 404
    assert answer.error["code"] == "path_not_found"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("PUT", "/health/live", "GET, HEAD"),
        ("GET", "/admin/reload", "POST"),
    ],
)
def test_a_wrong_method_is_a_405_that_says_which_are_right(
    served: RunningGateway, method: str, path: str, allow: str
) -> None:
    answer = served.call(method, path)
    assert answer.status == 405
    assert answer.headers["allow"] == allow
    assert answer.error["code"] == "method_not_allowed"


def test_tags_are_bounded(provider: Playback, served: RunningGateway) -> None:
    body = {"model": "my-model", "messages": HELLO}
    assert served.post(body, x_counterfoil_tags=",".join(["t"] * 17)).status == 400
    assert served.post(body, x_counterfoil_tags="t" * 65).status == 400
    assert served.post(body, x_counterfoil_tags="team-a, trial ,").status == 200
    assert served.entry().opening.tags == ("team-a", "trial")
