"""A client that hangs up is noticed while the provider is silent; one that reads slowly slows the provider down."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

from counterfoil.ledger.entry import Exit
from counterfoil.server.limits import Patience
from counterfoil.testing import ChatReply, Head, Stall, chat_reply, running
from counterfoil.testing.playbook import Script
from tests.shells.gateway import HELLO, SECONDS, RunningGateway, gateway

NOTICED = 5.0
"""Bounds what takes a few milliseconds on an idle machine; that it comes before anything else happened is the test."""
CHUNK = 16 * 1024


def send_chat(served: RunningGateway, receive_buffer: int | None = None) -> socket.socket:
    """A client made of one socket, its request sent."""
    client = socket.socket()
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(SECONDS)
    client.connect(("127.0.0.1", served.port))
    body = json.dumps({"model": "m", "messages": HELLO, "stream": True}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    client.sendall(head.encode() + body)
    return client


def read_until(client: socket.socket, mark: bytes) -> bytes:
    seen = b""
    while mark not in seen:
        more = client.recv(65536)
        assert more, f"closed before {mark!r}: {seen!r}"
        seen += more
    return seen


def wait_until(condition: Callable[[], object], what: str) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.005)


def test_a_hang_up_before_the_first_byte_reaches_the_silent_provider(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        provider.queue(Script(steps=(Head(), Stall())))
        client = send_chat(served)
        provider.block_until(lambda: provider.served and provider.served[0].stalled)
        left = time.monotonic()
        client.close()
        provider.block_until(lambda: provider.served[0].left_at is not None, NOTICED)
        assert (provider.served[0].left_at or 0) >= left
        wait_until(lambda: not served.gateway.driver.open_exchanges, "the exchange never ended")
        entry = served.entry()
        assert entry.exit is Exit.CLIENT_GONE
        assert entry.usage.estimated


def test_a_hang_up_in_the_middle_of_a_silent_stream_is_noticed_and_booked(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        provider.queue(chat_reply(text="one two three four five six").hold_at(4, "on"))
        client = send_chat(served)
        read_until(client, b"three")
        provider.block_until(lambda: provider.served[0].waiting_at == "on")
        client.close()
        provider.block_until(lambda: provider.served[0].left_at is not None, NOTICED)
        wait_until(lambda: not served.gateway.driver.open_exchanges, "the exchange never ended")
        entry = served.entry()
        assert entry.exit is Exit.CLIENT_GONE
        assert entry.usage.estimated
        assert 0 < (entry.usage.output_tokens or 0) < 10
        answered = served.gateway.metrics.requests
        assert answered.value("m", "499") == 1


def test_a_hang_up_is_noticed_also_behind_a_second_request_on_the_connection(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        provider.queue(chat_reply(text="one two three four").stall_at(3))
        client = send_chat(served)
        read_until(client, b"two")
        client.sendall(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        client.close()
        provider.block_until(lambda: provider.served[0].left_at is not None, NOTICED)
        wait_until(lambda: not served.gateway.driver.open_exchanges, "the exchange never ended")
        assert served.entry().exit is Exit.CLIENT_GONE


def test_a_drained_provider_is_read_to_its_end_for_its_exact_number(tmp_path: Path) -> None:
    more = "retries: {attempts: 1}\nclient_gone: {action: drain, drain: 10}"
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}, more) as served:
        provider.queue(chat_reply(text="one two three four five six").hold_at(4, "on"))
        client = send_chat(served)
        read_until(client, b"three")
        client.close()
        wait_until(lambda: not client_connections(served), "the hang-up was not noticed")
        provider.release("on")
        wait_until(lambda: not served.gateway.driver.open_exchanges, "the exchange never ended")
        assert provider.served[0].left_at is None
        entry = served.entry()
        assert not entry.usage.estimated
        assert entry.usage.output_tokens == 6
        assert entry.exit is Exit.COMPLETED


def test_a_hang_up_in_the_middle_of_the_body_costs_nothing(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        with socket.create_connection(("127.0.0.1", served.port), SECONDS) as client:
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                b'content-length: 100\r\n\r\n{"model": "m"'
            )
            wait_until(lambda: client_connections(served), "never connected")
        wait_until(lambda: served.gateway.metrics.requests.value("", "499"), "the hang-up was not noticed")
        assert served.entries() == []
        assert provider.served == []


def test_a_slow_reader_slows_the_provider_down(tmp_path: Path) -> None:
    frames = 3000  # more than the system's own buffers hold, which grow to some 40 MiB
    whole = frames * CHUNK
    long = ChatReply(text=("x",) * frames, extra={"padding": "y" * CHUNK}).script()
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        provider.queue(long)
        client = send_chat(served, receive_buffer=256 * 1024)
        read_until(client, b"yyyy")
        sent = 0
        while True:  # until the provider has stood still for a while: nobody takes its bytes
            now = provider.served[0].frames_written
            if now == sent and now > 1:
                break
            sent = now
            time.sleep(0.5)
        assert sent < frames, "the gateway took the reply in although nobody read it"
        client.settimeout(SECONDS)
        seen = b""
        taken = 0
        while b"[DONE]" not in seen:
            more = client.recv(1 << 20)
            assert more
            taken += len(more)
            seen = seen[-64:] + more
        client.close()
        assert taken > whole
        assert provider.served[0].frames_written >= frames
        wait_until(lambda: not served.gateway.driver.open_exchanges, "the exchange never ended")
        assert served.entry().exit is Exit.COMPLETED


def test_a_client_that_never_reads_is_let_go_when_its_time_is_over(tmp_path: Path) -> None:
    long = ChatReply(text=("x",) * 2000, extra={"padding": "y" * CHUNK}).script()
    patience = Patience(linger=0.2)
    with (
        running() as provider,
        gateway(tmp_path, {"m": provider.base_url}, "timeouts: {total: 1.0}", patience=patience) as served,
    ):
        provider.queue(long)
        client = send_chat(served, receive_buffer=64 * 1024)
        wait_until(lambda: bool(served.entries()), "the exchange never ended")
        assert served.entry().exit is Exit.TIMED_OUT
        wait_until(lambda: not client_connections(served), "the connection of a client that never reads stays open")
        client.close()


def client_connections(served: RunningGateway) -> int:
    """Connections of clients that are open now."""
    server = served.service._server
    assert server is not None
    return len(server.server_state.connections)


def test_an_answer_in_one_piece_has_its_length(tmp_path: Path) -> None:
    with running() as provider, gateway(tmp_path, {"m": provider.base_url}) as served:
        answer = served.chat()
        assert answer.headers["content-length"] == str(len(answer.body))
        assert "content-length" not in served.chat(stream=True).headers
