"""Whatever a client sends too much of, or too slowly, has a limit, an answer in shape, and costs nothing."""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.error import RequestError
from counterfoil.core.nesting import exceeds, holds_more
from counterfoil.ledger.entry import Exit
from counterfoil.server.doors import CONTAINERS, VALUES, check_json
from counterfoil.server.limits import Patience
from counterfoil.testing import Playback, chat_reply, running
from tests.shells.gateway import HELLO, SECONDS, RunningGateway, gateway
from tests.shells.test_client_gone import wait_until

LIMITS = "retries: {attempts: 1}\nlimits: {body: 4096, headers: 8192, nesting: 20}"
QUICK = Patience(head=0.3, body=0.3, linger=1.0, keep_alive=1, connections=8)
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def provider() -> Iterator[Playback]:
    with running() as playback:
        yield playback


@pytest.fixture
def served(provider: Playback, tmp_path: Path) -> Iterator[RunningGateway]:
    with gateway(tmp_path, {"m": provider.base_url}, LIMITS, patience=QUICK) as started:
        yield started


def connections(served: RunningGateway) -> list[Any]:
    """Connections of clients that are open now."""
    server = served.service._server
    assert server is not None
    return list(server.server_state.connections)


class Raw:
    """A client made of one socket."""

    def __init__(self, served: RunningGateway) -> None:
        self.socket = socket.create_connection(("127.0.0.1", served.port), SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send as much as is taken."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, object]]:
        """The status and the error object of what comes until the gateway hangs up."""
        seen = b""
        while more := self.socket.recv(65536):
            seen += more
        head, _, body = seen.partition(b"\r\n\r\n")
        assert b"connection: close" in head
        assert re.search(rb"\r\nx-request-id: [0-9a-f-]{36}\r\nrequest-id: [0-9a-f-]{36}(?:\r\n|$)", head)
        return int(head.split()[1]), json.loads(body)["error"]


def sized(size: int) -> bytes:
    """A chat request of exactly `size` bytes."""
    empty = json.dumps({"model": "m", "messages": [{"role": "user", "content": ""}]}).encode()
    return empty.replace(b'"content": ""', b'"content": "' + b"x" * (size - len(empty)) + b'"')


def test_a_body_of_the_limit_passes_and_one_byte_more_does_not(served: RunningGateway) -> None:
    assert served.post(sized(4096)).status == 200
    answer = served.post(sized(4097))
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert "limits.body" in answer.error["message"]
    assert len(served.entries()) == 1


def test_an_announced_body_is_refused_before_it_is_sent(served: RunningGateway) -> None:
    with Raw(served) as client:
        client.send(HEAD + b"content-length: 1000000000000\r\n\r\n")
        status, error = client.answer()
    assert (status, error["fault"]) == (413, "client")


def test_an_unannounced_body_is_counted_as_it_comes(served: RunningGateway) -> None:
    with Raw(served) as client:
        client.send(HEAD + b"transfer-encoding: chunked\r\n\r\n" + (b"400\r\n" + b"x" * 1024 + b"\r\n") * 5)
        status, _ = client.answer()
    assert status == 413


def test_the_sender_of_a_refused_body_gets_to_read_why(served: RunningGateway) -> None:
    answer = served.post(sized(3 << 20))
    assert answer.status == 413


def test_a_body_that_stops_coming_is_not_waited_for(served: RunningGateway) -> None:
    with Raw(served) as client:
        client.send(HEAD + b'content-length: 100\r\n\r\n{"model"')
        status, error = client.answer()
    assert (status, error["type"]) == (408, "timeout_error")


def test_headers_of_more_than_the_limit_are_a_431(served: RunningGateway) -> None:
    with Raw(served) as client:
        client.send(HEAD + b"".join(b"x-%d: %s\r\n" % (number, b"y" * 200) for number in range(60)) + b"\r\n")
        status, error = client.answer()
    assert (status, error["fault"]) == (431, "client")
    assert "limits.headers" in str(error["message"])


def test_one_header_that_never_ends_is_a_431(served: RunningGateway) -> None:
    with Raw(served) as client:
        client.send(HEAD + b"x-long: " + b"y" * 40_000)
        assert client.answer()[0] == 431


def test_a_request_line_that_never_ends_is_a_431(served: RunningGateway) -> None:
    with Raw(served) as client:
        client.send(b"GET /" + b"a" * 40_000)
        assert client.answer()[0] == 431


def test_trailers_count_as_headers(served: RunningGateway) -> None:
    with Raw(served) as client:
        client.send(HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-trailer: " + b"y" * 1_000_000)
        assert client.answer()[0] == 431


def test_headers_below_the_limit_pass_also_again_on_the_same_connection(served: RunningGateway) -> None:
    body = json.dumps({"model": "m", "messages": HELLO}).encode()
    request = HEAD + b"x-long: " + b"y" * 5000 + b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    with Raw(served) as client:
        for _ in range(3):
            client.send(request)
            seen = b""
            while b'"usage"' not in seen:
                more = client.socket.recv(65536)
                assert more
                seen += more
            assert seen.startswith(b"HTTP/1.1 200")


def test_a_refused_head_behind_a_running_request_never_mixes_with_its_answer(
    provider: Playback, served: RunningGateway
) -> None:
    body = json.dumps({"model": "m", "messages": HELLO, "stream": True}).encode()
    provider.queue(chat_reply(text="one two three").hold_at(3, "on"))
    with Raw(served) as client:
        client.send(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
        seen = b""
        while b"two" not in seen:
            seen += client.socket.recv(65536)
        client.send(b"GET / HTTP/1.1\r\nx-long: " + b"y" * 40_000)
        client.send(b"z" * 20_000)
        wait_until(lambda: all(connection._refused for connection in connections(served)), "it was not refused")
        provider.release("on")
        while more := client.socket.recv(65536):
            seen += more
    assert seen.count(b"HTTP/1.1") == 1
    assert b"431" not in seen.partition(b"\r\n\r\n")[2]
    assert seen.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert served.entry().exit is Exit.COMPLETED


def test_a_wish_for_another_protocol_is_ignored(served: RunningGateway) -> None:
    body = json.dumps({"model": "m", "messages": HELLO}).encode()
    answer = served.post(body, connection="Upgrade, HTTP2-Settings", upgrade="h2c", http2_settings="AAMAAABk")
    assert answer.status == 200
    assert served.call("GET", "/health/live", None, {"connection": "upgrade", "upgrade": "websocket"}).status == 200


def test_headers_that_come_too_slowly_are_not_waited_for(served: RunningGateway) -> None:
    with Raw(served) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: loc")
        status, error = client.answer()
    assert (status, error["type"]) == (408, "timeout_error")


def test_a_connection_that_says_nothing_is_closed(served: RunningGateway) -> None:
    with Raw(served) as client:
        assert client.answer()[0] == 408


def test_what_is_no_http_is_a_400_in_shape(served: RunningGateway) -> None:
    with Raw(served) as client:
        client.send(b"\x16\x03\x01 this is TLS, or something\r\n\r\n")
        status, error = client.answer()
    assert (status, error["type"]) == (400, "invalid_request_error")


def test_a_refused_head_is_named_as_its_client_named_it(served: RunningGateway) -> None:
    with Raw(served) as client:
        client.send(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx-request-id: req-7\r\na: b\r\nno colon\r\n\r\n")
        seen = client.socket.recv(65536)
    assert b"\r\nx-request-id: req-7\r\nrequest-id: req-7\r\n" in seen


def test_one_connection_too_many_is_told_so(served: RunningGateway) -> None:
    others = [Raw(served) for _ in range(QUICK.connections)]
    try:
        with Raw(served) as client:
            status, error = client.answer()
        assert (status, error["type"]) == (503, "overloaded_error")
    finally:
        for other in others:
            other.socket.close()


def test_an_encoded_body_is_refused_with_words(served: RunningGateway) -> None:
    answer = served.post(b"\x1f\x8b", content_encoding="gzip")
    assert answer.status == 415
    assert "Content-Encoding" in answer.error["message"]


def test_nesting_has_a_limit(served: RunningGateway) -> None:
    def nested(depth: int) -> bytes:
        inside = b"[" * (depth - 1) + b"]" * (depth - 1)
        return b'{"model": "m", "messages": [{"role": "user", "content": "[[[{{{"}], "metadata": ' + inside + b"}"

    assert served.post(nested(20)).status == 200
    answer = served.post(nested(21))
    assert (answer.status, answer.error["code"]) == (400, "too_deep")
    assert served.post(b'{"model": "m", "messages": ' + b"[" * 4000).status == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='[]{},"\\ab\n'),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='[{,"\\', max_size=3), inner, max_size=4)
    ),
    max_leaves=40,
)


def depth_of(value: object) -> int:
    """How deep lists and mappings lie in a value."""
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@given(JSON, st.integers(1, 8), st.booleans())
def test_depth_is_found_without_parsing(value: object, limit: int, ascii_: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_).encode()
    assert exceeds(text, limit) == (depth_of(value) > limit)


@given(st.binary(max_size=300), st.integers(1, 8))
def test_what_is_no_json_gets_an_answer_too(text: bytes, limit: int) -> None:
    assert exceeds(text, limit) in (True, False)


def test_depth_does_not_depend_on_where_a_long_text_is_cut_for_counting() -> None:
    many = b"[" + b",".join([b"[[[]]]"] * 40_000) + b"]"
    assert not exceeds(many, 4)
    assert exceeds(many, 3)
    deep_at_the_end = many[:-1] + b"," + b"[" * 9 + b"]" * 9 + b"]"
    assert exceeds(deep_at_the_end, 9)
    assert not exceeds(deep_at_the_end, 10)


def marks_in(value: Any) -> tuple[int, int]:
    """Commas between values, and arrays and objects."""
    if not isinstance(value, list | dict):
        return 0, 0
    inside = [marks_in(item) for item in (value if isinstance(value, list) else value.values())]
    return max(len(inside) - 1, 0) + sum(one for one, _ in inside), 1 + sum(many for _, many in inside)


@given(JSON, st.booleans())
def test_values_and_containers_are_counted_outside_texts_only(value: Any, spaced: bool) -> None:
    text = json.dumps(value, separators=None if spaced else (",", ":")).encode()
    for marks, count in zip((b",", b"[{"), marks_in(value), strict=True):
        assert not holds_more(text, marks, count)
        assert count == 0 or holds_more(text, marks, count - 1)


@pytest.mark.parametrize(
    ("item", "most"), [(b"7", VALUES + 1), (b'"a"', VALUES + 1), (b"[]", CONTAINERS - 2), (b'{"a":0}', CONTAINERS - 2)]
)
def test_a_request_of_as_many_values_as_are_read_passes_and_one_more_does_not(item: bytes, most: int) -> None:
    check_json(b'{"input":[%b]}' % b",".join([item] * most), 20)
    with pytest.raises(RequestError) as refused:
        check_json(b'{"input":[%b]}' % b",".join([item] * (most + 1)), 20)
    assert refused.value.failure.code == "too_many_values"


def test_a_long_text_is_one_value_whatever_it_is_about() -> None:
    check_json(json.dumps({"input": '[{"a", "b"}], ' * VALUES}).encode(), 20)


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/messages", "/v2/rerank", "/v1beta/models/m:embedContent"]
)
def test_a_request_that_would_take_long_to_read_is_refused_at_every_door(
    provider: Playback, tmp_path: Path, path: str
) -> None:
    with gateway(tmp_path, {"m": provider.base_url}) as served:
        answer = served.post(b'{"model":"m","documents":[%b]}' % b",".join([b"1"] * (VALUES + 2)), path)
        assert answer.status == 400
        assert b"1,000,000 values" in answer.body
        assert served.entries() == []


def mangled(dice: random.Random) -> bytes:
    """Some requests on one connection, with a few bytes that should not be there or are missing."""
    body = json.dumps({"model": "m", "messages": HELLO}).encode()
    data = bytearray((HEAD + b"content-length: %d\r\n\r\n" % len(body) + body) * dice.randint(1, 3))
    for _ in range(dice.randint(0, 5)):
        place = dice.randrange(len(data))
        match dice.randrange(3):
            case 0:
                data[place] = dice.randrange(256)
            case 1:
                del data[place : place + dice.randint(1, 20)]
            case _:
                data[place:place] = dice.choice(MISPLACED)
        data = data or bytearray(b"x")
    return bytes(data)


MISPLACED = (
    b"\r\n",
    b"\0",
    b"transfer-encoding: chunked\r\n",
    b"content-length: 9\r\n",
    b"expect: 100-continue\r\n",
    b"upgrade: x\r\nconnection: upgrade\r\n",
    b"CONNECT x:1 HTTP/1.1\r\n\r\n",
    b"HEAD * HTTP/1.0\r\n\r\n",
)


def test_whatever_comes_nothing_breaks_and_nothing_stays_open(
    served: RunningGateway, caplog: pytest.LogCaptureFixture
) -> None:
    for seed in range(60):
        dice = random.Random(seed)
        with Raw(served) as client:
            client.send(mangled(dice))
            if dice.random() < 0.5:  # the other half hangs up at once
                with contextlib.suppress(TimeoutError, ConnectionResetError):
                    client.socket.settimeout(1.0)
                    client.socket.recv(65536)
    wait_until(lambda: not connections(served), "a connection stayed open")
    wait_until(lambda: not served.gateway.driver.open_exchanges, "an exchange stayed open")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    assert served.get("/health/ready").status == 200
