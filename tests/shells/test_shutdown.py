"""Told to stop, the gateway lets streams finish for a while, then ends them, and its books are whole."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from counterfoil.ledger.entry import Exit
from counterfoil.server.app import Application
from counterfoil.server.asgi import Message
from counterfoil.server.ports import ListenFailed, PortTaken, bind
from counterfoil.testing import ChatReply, chat_reply, running
from tests.shells.gateway import HELLO, SECONDS, Answer, gateway, gateway_process, written
from tests.shells.test_client_gone import wait_until

WORDS = "one two three four five six"


class Caller(threading.Thread):
    """A client on a thread."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self.answer: Answer | None = None

    def run(self) -> None:
        client = socket.create_connection(("127.0.0.1", self._port), SECONDS)
        body = json.dumps({"model": "m", "messages": HELLO, "stream": True}).encode()
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        seen = b""
        while more := client.recv(65536):
            seen += more
        client.close()
        head, _, rest = seen.partition(b"\r\n\r\n")
        pieces = b""
        while rest:  # chunked
            size, _, rest = rest.partition(b"\r\n")
            pieces += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
        self.answer = Answer(int(head.split()[1]), {}, pieces)

    def told(self) -> Answer:
        self.join(SECONDS)
        assert self.answer is not None
        return self.answer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stream_that_runs_at_sigterm_finishes(tmp_path: Path, number: int) -> None:
    with running() as provider:
        provider.queue(chat_reply(text=WORDS).hold_at(4, "on"))
        with gateway_process(tmp_path, {"m": provider.base_url}) as served:
            caller = Caller(served.port)
            caller.start()
            provider.block_until(lambda: provider.served and provider.served[0].waiting_at == "on")
            served.signal(number)
            wait_until(lambda: not listens(served.port), "it still takes connections")
            assert served.process.poll() is None
            provider.release("on")
            assert served.wait() == 0
            assert caller.told().text == WORDS
            assert caller.told().frames[-1] == "[DONE]"
            (entry,) = served.entries()
            assert entry.exit is Exit.COMPLETED


def test_what_outlasts_the_drain_is_ended_told_and_booked(tmp_path: Path) -> None:
    with running() as provider:
        provider.queue(chat_reply(text=WORDS).stall_at(4))
        with gateway_process(tmp_path, {"m": provider.base_url}) as served:
            served.config_path.write_text("")  # what is running does not read it again by itself
            caller = Caller(served.port)
            caller.start()
            provider.block_until(lambda: provider.served and provider.served[0].stalled)
            served.signal(signal.SIGTERM)
            wait_until(lambda: not listens(served.port), "it still takes connections")
            served.signal(signal.SIGTERM)  # the second one ends it at once
            assert served.wait() == 0
            told = caller.told()
            assert told.text == "one two three"
            assert "shutting down" in json.loads(told.frames[-1])["error"]["message"]
            (entry,) = served.entries()
            assert entry.exit is Exit.SHUTDOWN
            assert entry.usage.estimated
            assert entry.usage.output_tokens
            provider.block_until(lambda: provider.served[0].left_at is not None)


def test_the_drain_has_a_deadline(tmp_path: Path) -> None:
    with running() as provider:
        provider.queue(chat_reply(text=WORDS).stall_at(4))
        text = written({"m": provider.base_url}).replace("drain: 5", "drain: 0.3")
        with gateway(tmp_path, text=text) as served:
            caller = Caller(served.port)
            caller.start()
            provider.block_until(lambda: provider.served and provider.served[0].stalled)
            assert served.stop() == 0
            assert "error" in json.loads(caller.told().frames[-1])


def test_a_draining_gateway_is_not_ready_and_takes_nothing_new(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        provider.queue(chat_reply(text=WORDS).hold_at(4, "on"))
        caller = Caller(served.port)
        caller.start()
        provider.block_until(lambda: provider.served and provider.served[0].waiting_at == "on")
        served.service.stop()
        wait_until(lambda: served.gateway.draining, "it does not drain")
        # Its port is closed, so what it would answer on a connection it still has is asked for without one.
        status, body = asyncio.run(ask(Application(served.gateway), "GET", "/health/ready"))
        assert (status, body["reasons"], body["open_exchanges"]) == (503, ["shutting down"], 1)
        status, body = asyncio.run(ask(Application(served.gateway), "POST", "/v1/chat/completions"))
        assert (status, body["error"]["type"]) == (503, "service_unavailable_error")
        assert asyncio.run(ask(Application(served.gateway), "GET", "/health/live"))[0] == 200
        provider.release("on")
        assert caller.told().frames[-1] == "[DONE]"
        assert served.stop() == 0


async def ask(application: Application, method: str, path: str) -> tuple[int, Any]:
    """One request to the application itself."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "client": ("127.0.0.1", 1)}
    await application(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_a_client_that_never_ends_its_body_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with (
        gateway_process(tmp_path, {"m": "http://127.0.0.1:9/v1"}) as served,
        socket.create_connection(("127.0.0.1", served.port), SECONDS) as client,
    ):
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: 100\r\nexpect: 100-continue\r\n\r\n{"
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 100"), "the body is being read"
        served.signal(signal.SIGTERM)
        wait_until(lambda: not listens(served.port), "it still takes connections")
        served.signal(signal.SIGTERM)
        assert served.wait() == 0


def test_many_streams_end_with_one_entry_each(tmp_path: Path) -> None:
    with running() as provider:
        provider.default = ChatReply(text=WORDS).script().stall_at(4)
        with gateway_process(tmp_path, {"m": provider.base_url}) as served:
            callers = [Caller(served.port) for _ in range(20)]
            for caller in callers:
                caller.start()
            provider.block_until(lambda: sum(one.stalled for one in provider.served) == 20, SECONDS)
            served.signal(signal.SIGTERM)
            wait_until(lambda: not listens(served.port), "it still takes connections")
            served.signal(signal.SIGINT)
            assert served.wait() == 0
            entries = served.entries()
            assert [entry.exit for entry in entries] == [Exit.SHUTDOWN] * 20
            assert {entry.provider_id for entry in entries} == {f"chatcmpl-{one.reply_id}" for one in provider.served}


def test_a_taken_port_says_by_whom_and_offers_the_next(tmp_path: Path) -> None:
    with gateway(tmp_path, {"m": "http://127.0.0.1:9/v1"}) as served:
        with pytest.raises(PortTaken, match="another Counterfoil") as taken:
            bind("127.0.0.1", served.port)
        assert taken.value.free is not None
        assert taken.value.free > served.port
        assert f"--port {taken.value.free}" in str(taken.value)
        for opened in bind("127.0.0.1", taken.value.free):
            opened.close()


@pytest.mark.skipif(sys.platform != "linux", reason="process names come from /proc")
def test_a_port_that_another_program_has_is_named() -> None:
    program = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 0)); "
        "print(s.getsockname()[1], flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            port = int(other.stdout.readline())
            with pytest.raises(PortTaken, match=f"process {other.pid}"):
                bind("127.0.0.1", port)
        finally:
            other.kill()


def test_an_address_of_another_machine_is_refused_in_words() -> None:
    with pytest.raises(ListenFailed, match=r"192\.0\.2\.7"):
        bind("192.0.2.7", 0)
    with pytest.raises(ListenFailed, match="no-such-host"):
        bind("no-such-host.invalid", 0)


def test_localhost_is_listened_to_on_one_port_whatever_it_resolves_to() -> None:
    opened = bind("localhost", 0)
    try:
        assert len({one.getsockname()[1] for one in opened}) == 1
    finally:
        for one in opened:
            one.close()


def listens(port: int) -> bool:
    """Whether a connection is accepted."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0):
            return True
    except OSError:
        return False
