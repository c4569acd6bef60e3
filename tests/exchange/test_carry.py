"""A call that is carried: the provider's bytes and no others, and one entry, whatever interrupts it."""

from __future__ import annotations

import asyncio
import http.server
import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.cli.meter import RECORDED_DIALECTS
from counterfoil.config import ClientGone
from counterfoil.dialects.dialect import ClientDialect, Quirks
from counterfoil.dialects.registry import DIALECTS
from counterfoil.driver.sending import sending_of
from counterfoil.exchange.call import Call
from counterfoil.exchange.carriage import Carriage
from counterfoil.exchange.carry import UNKNOWN, CarriedReply
from counterfoil.exchange.command import Abort, Command, Deliver, Finish, Head, Interrupted, Note, Post, Read, Start
from counterfoil.exchange.recorded import read_reply
from counterfoil.exchange.reply import is_streamed
from counterfoil.exchange.route import Deployment
from counterfoil.exchange.transcript import Recount, Transcript
from counterfoil.ledger.entry import Exit, Opening
from counterfoil.providers.auth import AwsKeys, sign
from counterfoil.providers.provider import Auth
from counterfoil.testing import ChatReply, Counts, MessagesReply, Script, Send
from counterfoil.transport.blocking import BlockingTransport
from counterfoil.transport.http import AiohttpTransport
from counterfoil.transport.pooled import PooledTransport
from counterfoil.usage.reading import Counter
from counterfoil.usage.settle import Convention, Finality
from tests.exchange.world import CHAT, MESSAGES, Played, World, check_books, deployment, played
from tests.exchange.world import call as world_call
from tests.wire import records

STREAM = ChatReply(text="one two three", usage=Counts(input=12, output=5)).script()
WHOLE = ChatReply(text="one two three", usage=Counts(input=12, output=5), stream=False).script()
EXITS = [Exit.LOST, Exit.TRUNCATED, Exit.TIMED_OUT, Exit.CLIENT_GONE, Exit.SHUTDOWN]


def carried(
    dialect: ClientDialect[Any] = CHAT,
    *,
    known: bool = True,
    stream: bool = True,
    gone: ClientGone | None = None,
    path: str = "/v1/chat/completions",
) -> Call:
    made = world_call(deployment(dialect), dialect=dialect, stream=stream, client_gone=gone)
    return msgspec.structs.replace(made, carriage=Carriage("POST", path, known=known))


def whole(*pieces: bytes, status: int = 200, length: bool = False, **headers: str) -> Played:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if length:
        named["content-length"] = str(sum(map(len, pieces)))
    return Played(Head(status, {"content-type": "application/json", **named}), [*pieces, b""])


@given(cuts=st.lists(st.integers(0, len(STREAM.body)), max_size=12), length=st.booleans(), known=st.booleans())
def test_however_the_bytes_are_cut_the_client_reads_the_same(cuts: list[int], length: bool, known: bool) -> None:
    places = sorted({0, *cuts, len(STREAM.body)})
    pieces = [STREAM.body[start:end] for start, end in itertools.pairwise(places)]
    world = World(whole(*pieces, length=length, content_type="text/event-stream"))
    world.run(carried(known=known))
    check_books(world.log)
    assert world.sent == STREAM.body
    assert world.entry.exit is Exit.COMPLETED
    assert (world.entry.usage.input_tokens, world.entry.usage.output_tokens) == ((12, 5) if known else (None, None))
    assert world.entry.usage.estimated is False
    assert any(isinstance(command, Finish) for command in world.log)


@pytest.mark.parametrize("exit_", EXITS)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("script", [STREAM, WHOLE], ids=["stream", "whole"])
def test_whatever_interrupts_it_one_entry_is_closed_and_no_byte_is_ours(script: Any, known: bool, exit_: Exit) -> None:
    steps = World(played(script))
    steps.run(carried(known=known, stream=script is STREAM))
    for place in range(len(steps.log)):

        def interrupt(number: int, command: Command, place: int = place) -> Interrupted | None:
            return Interrupted(exit_) if number == place else None

        world = World(played(script), interrupt=interrupt)
        world.run(carried(known=known, stream=script is STREAM))
        check_books(world.log)
        assert len(world.entries) == 1
        begun = [command for command in world.log if isinstance(command, Start)]
        if begun and begun[0].status == 200:
            assert script.body.startswith(world.sent)
            told_whole = any(isinstance(command, Deliver) and command.last for command in world.log)
            assert world.sent == script.body or not told_whole
            assert told_whole or world.entry.exit in ((exit_, Exit.COMPLETED) if known else (exit_,))
        if not known and world.entry.lines:
            assert world.entry.usage.total_tokens is None
            assert world.entry.cost is None


@pytest.mark.parametrize("exit_", EXITS)
def test_what_was_whole_is_whole_whatever_happens_after_it(exit_: Exit) -> None:
    for call_, script in ((carried(), STREAM), (carried(known=False), WHOLE)):
        answer = played(script, then=Interrupted(exit_))
        if script is WHOLE:
            answer.head = Head(200, {**answer.head.headers, "content-length": str(len(script.body))})  # type: ignore[union-attr]
        world = World(answer)
        world.run(call_)
        check_books(world.log)
        assert world.entry.exit is Exit.COMPLETED
        assert exit_ is Exit.CLIENT_GONE or world.sent == script.body
        assert any(isinstance(command, Abort) for command in world.log)


def test_the_end_mark_waits_for_the_books_and_nothing_else_does() -> None:
    world = World(played(STREAM))
    world.run(carried())
    sent = [command.data for command in world.log if isinstance(command, Deliver)]
    assert sent == [frame.data for frame in STREAM.frames]


@pytest.mark.parametrize(("frames", "waited"), [(STREAM.frames, 2.0), (STREAM.frames[:-1], 60.0)])
def test_the_end_of_the_bytes_is_waited_for_shortly_after_an_end_mark_and_else_as_long_as_for_any_bytes(
    frames: tuple[Send, ...], waited: float
) -> None:
    world = World(played(Script(frames)))
    world.run(carried())
    assert (world.entry.exit, world.entry.usage.output_tokens) == (Exit.COMPLETED, 5)
    *_, read = (command for command in world.log if isinstance(command, Read))
    assert read.deadline - world.now == pytest.approx(waited, abs=0.5)


def test_bytes_that_are_missing_after_the_reply_s_own_end_are_told_and_the_books_have_all_of_it() -> None:
    """The usage came, the end mark did not: a client that reads to the mark must not take the reply for whole."""
    world = World(played(Script(STREAM.frames[:-1]), then=Interrupted(Exit.TRUNCATED)))
    world.run(carried())
    check_books(world.log)
    assert (world.entry.exit, world.entry.usage.output_tokens) == (Exit.COMPLETED, 5)
    assert not any(isinstance(command, Deliver) and command.last for command in world.log)


@pytest.mark.parametrize("after", [0, 1])
def test_a_client_that_hangs_up_after_the_reply_s_end_changes_nothing_in_the_books(after: int) -> None:
    ends = [number for number, frame in enumerate(STREAM.frames) if b'"finish_reason":"stop"' in frame.data]
    sent: list[Command] = []

    def leave(_: int, command: Command) -> Interrupted | None:
        sent.extend([command] if isinstance(command, Deliver) else [])
        last = isinstance(command, Deliver) and len(sent) == ends[0] + 1 + after
        return Interrupted(Exit.CLIENT_GONE) if last else None

    world = World(played(STREAM), interrupt=leave)
    world.run(carried())
    check_books(world.log)
    assert (world.entry.exit, world.entry.usage.output_tokens) == (Exit.COMPLETED, 5)


def test_a_drained_reply_is_read_to_its_end_for_its_exact_number() -> None:
    delivered: list[int] = []

    def leave(number: int, command: Command) -> Interrupted | None:
        if isinstance(command, Deliver):
            delivered.append(number)
        return Interrupted(Exit.CLIENT_GONE) if isinstance(command, Deliver) and len(delivered) == 2 else None

    world = World(played(STREAM), interrupt=leave)
    world.run(carried(gone=ClientGone("drain")))
    check_books(world.log)
    assert (world.entry.exit, world.entry.usage.output_tokens) == (Exit.COMPLETED, 5)
    assert not world.entry.usage.estimated


def test_the_first_report_is_noted_at_once_because_it_may_be_the_last() -> None:
    world = World(played(MessagesReply(usage=Counts(input=12, output=5)).script()))
    world.run(carried(MESSAGES, path="/v1/messages"))
    notes = [command for command in world.log if isinstance(command, Note)]
    assert notes[0].progress.reading.value(Counter.INPUT) == 12
    assert world.log.index(notes[0]) < len(world.log) / 2


def test_an_error_s_whole_body_is_carried_however_large_it_is() -> None:
    pieces = [b"x" * 100_000] * 5
    world = World(whole(*pieces, status=500, retry_after="3"))
    world.run(carried())
    check_books(world.log)
    assert (world.status, len(world.sent)) == (500, 500_000)
    assert (world.entry.exit, world.entry.lines, world.entry.status) == (Exit.REJECTED, (), 500)
    assert world.outcome.failure is None


def test_an_error_that_is_cut_is_a_rejection_all_the_same() -> None:
    world = World(Played(Head(429, {}), [b"half", Interrupted(Exit.LOST)]))
    world.run(carried())
    check_books(world.log)
    assert (world.entry.exit, world.entry.detail) == (Exit.REJECTED, "rate_limited")
    assert not any(isinstance(command, Deliver) and command.last for command in world.log)


def test_a_head_that_announces_nothing_is_told_as_a_failure() -> None:
    world = World(whole(status=101))
    world.run(carried())
    check_books(world.log)
    assert (world.status, world.entry.exit) == (502, Exit.FAILED)


def test_a_compressed_reply_is_carried_and_not_read() -> None:
    world = World(whole(b"\x1f\x8b", content_encoding="gzip"))
    world.run(carried(stream=False))
    (start,) = [command for command in world.log if isinstance(command, Start)]
    assert start.headers["content-encoding"] == "gzip"
    assert (world.sent, world.entry.exit, world.entry.usage.total_tokens) == (b"\x1f\x8b", Exit.COMPLETED, None)


def test_what_cannot_be_read_ends_no_wait_and_no_byte_is_held_back() -> None:
    pieces = (b'data: {"choices": oops\n\n', b"data: more\n\n", b"data: and more\n\n")
    world = World(played(Script(tuple(Send(piece) for piece in pieces))))
    world.run(carried())
    check_books(world.log)
    assert [command.data for command in world.log if isinstance(command, Deliver)] == [*pieces, b""]
    assert world.entry.exit is Exit.FAILED
    *_, read = (command for command in world.log if isinstance(command, Read))
    assert read.deadline - world.now > 50


@pytest.mark.parametrize("known", [True, False])
def test_the_books_have_the_dialect_of_what_is_read_and_of_nothing_else(known: bool) -> None:
    world = World(played(STREAM))
    world.run(carried(known=known))
    opening = world.entry.opening
    assert opening.provider_dialect == opening.client_dialect == (CHAT.name if known else UNKNOWN)
    assert world.entry.usage.total_tokens == (17 if known else None)
    assert opening.convention == (CHAT.convention if known else Convention())
    assert world.entry.finality is (Finality.FINAL if known else Finality.NONE)


@pytest.mark.parametrize(("known", "kept"), [(True, 1), (False, 0)])
def test_text_is_kept_for_a_better_count_only_of_what_can_be_read(known: bool, kept: int) -> None:
    desk = _Desk()
    World(played(STREAM), corrector=desk).run(carried(known=known))
    assert len(desk.asked) == kept


class _Desk:
    def __init__(self) -> None:
        self.asked: list[Opening] = []

    def transcript(self, opening: Opening) -> Transcript | None:
        self.asked.append(opening)
        return None

    def offer(self, recount: Recount) -> None:
        raise AssertionError("nothing was kept")


@pytest.mark.parametrize("status", [200, 204, 404])
def test_an_answer_of_no_bytes_is_one_all_the_same(status: int) -> None:
    world = World(whole(status=status))
    world.run(carried(stream=False))
    check_books(world.log)
    assert (world.status, world.sent) == (status, b"")


def test_a_reply_that_is_read_in_another_dialect_than_the_doors_is_booked_in_that_one() -> None:
    made = msgspec.structs.replace(carried(MESSAGES), dialect=CHAT)
    world = World(played(MessagesReply(text="one two", usage=Counts(input=12, output=5)).script()))
    world.run(made)
    assert (world.entry.opening.client_dialect, world.entry.opening.provider_dialect) == (MESSAGES.name, MESSAGES.name)
    assert world.entry.usage.total_tokens == 17


@pytest.mark.parametrize("status", [299, 300, 399, 400])
def test_a_status_from_300_on_is_a_rejection_and_one_from_400_on_is_an_error(status: int) -> None:
    world = World(whole(b"{}", status=status))
    world.run(carried(stream=False))
    assert world.status == status
    assert (world.entry.exit is Exit.REJECTED) is (status >= 300)


def test_a_defect_in_the_reading_is_told_to_the_log_and_changes_no_byte() -> None:
    broken = msgspec.structs.replace(CHAT, decoder=lambda *_: _Broken())
    made = carried(broken)
    world = World(played(STREAM))
    world.run(made)
    check_books(world.log)
    assert world.sent == STREAM.body
    assert (world.entry.exit, world.entry.detail) == (Exit.FAILED, "internal")
    assert [type(defect) for defect in world.outcome.defects] == [KeyError]


class _Broken:
    ended = done = False

    def feed(self, frame: object) -> Any:
        raise KeyError("ours")

    def close(self) -> Any:
        raise KeyError("ours")


def test_a_reply_that_nobody_reads_ends_with_its_last_byte() -> None:
    assert CarriedReply(None, 0).ended
    reply = CarriedReply(None, 4)
    assert not reply.ended
    reply.feed(b"abc")
    assert not reply.last
    reply.feed(b"def")
    assert reply.ended
    assert reply.last
    assert not reply.over
    reply.close()
    assert reply.over


@pytest.mark.parametrize("dialect", sorted(RECORDED_DIALECTS))
def test_every_recording_is_carried_to_the_byte_and_read_as_any_reply(dialect: str) -> None:
    spoken = DIALECTS[RECORDED_DIALECTS[dialect]]
    found = [recording for recording in records(f"{dialect}/") if recording.response_body]
    for recording in found:
        body, headers = recording.response_body, {name.lower(): v for name, v in recording.response.headers.items()}
        carriable = {name: v for name, v in headers.items() if name not in ("content-length", "content-encoding")}
        thirds = [body[start : start + len(body) // 3 + 1] for start in range(0, len(body), len(body) // 3 + 1)]
        world = World(Played(Head(recording.response.status, carriable), [*thirds, b""]))
        made = world_call(deployment(), stream=recording.stream)
        made = msgspec.structs.replace(
            made,
            route=msgspec.structs.replace(made.route, deployments=(deployment(spoken, quirks=Quirks()),)),
            carriage=Carriage("POST", "/v1/any", known=True),
        )
        world.run(made)
        check_books(world.log)
        assert world.sent == body, recording.id
        if recording.response.status >= 300:
            assert world.entry.exit is Exit.REJECTED, recording.id
            continue
        streamed = is_streamed(carriable, spoken, asked=recording.stream)
        said = read_reply(thirds, spoken, streamed=streamed, headers=carriable)
        assert (world.entry.reading, world.entry.exit) == (said.reading, said.exit), recording.id


# ---- what goes out


def posted(method: str, made: Deployment, **more: Any) -> Post:
    carriage = Carriage(method, "/v1/model/a:b/x", (("b", "2 ä"), ("a", "")), {"x-amz-meta": "m", **more})
    return Post(made, "/unused", b"", False, 1.0, 0.0, carriage=carriage)


def test_a_signature_is_of_the_method_path_and_query_that_are_sent() -> None:
    made = deployment()
    row = msgspec.structs.replace(made.provider, auth=Auth(style="aws", service="bedrock"))
    made = msgspec.structs.replace(made, provider=row, region="eu-west-1")
    keys = AwsKeys("AKIDEXAMPLE", "secret", "token")
    sending = sending_of(posted("GET", made), "https://h.example", keys, 1_700_000_000.0)
    assert sending.url == "https://h.example/v1/model/a:b/x?b=2%20%C3%A4&a="
    expected = sign(
        keys,
        method="GET",
        url=sending.url,
        headers={"x-amz-meta": "m"},
        body=b"",
        region="eu-west-1",
        service="bedrock",
        at=1_700_000_000.0,
    )
    assert sending.headers["authorization"] == expected["authorization"]


class _Told(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[tuple[str, bytes, str | None]]] = []

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        type(self).asked.append((self.command, body, self.headers.get("content-type")))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Nothing."""


@pytest.fixture
def told() -> Iterator[str]:
    _Told.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Told)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/x"
    finally:
        server.shutdown()
        thread.join(15)
        server.server_close()


@pytest.mark.parametrize("kind", [AiohttpTransport, PooledTransport, BlockingTransport])
def test_every_transport_sends_whatever_method_it_is_told(told: str, kind: Any) -> None:
    calls = [("GET", b""), ("DELETE", b""), ("PUT", b"put"), ("PATCH", b"patch"), ("POST", b"")]

    async def send() -> None:
        transport = kind()
        for method, body in calls:
            upstream = await transport.post(told, {"accept": "*/*"}, body, connect=5.0, method=method)
            assert await upstream.read() == b"ok"
            assert await upstream.read() == b""
            upstream.finish()
        await transport.close()

    def send_blocking() -> None:
        transport = BlockingTransport()
        for method, body in calls:
            until = time.monotonic() + 10
            upstream = transport.post(told, {"accept": "*/*"}, body, connect=5.0, deadline=until, method=method)
            assert upstream.read(until) == b"ok"
            upstream.finish()
        transport.close()

    if kind is BlockingTransport:
        send_blocking()
    else:
        asyncio.run(send())
    assert _Told.asked == [(method, body, None) for method, body in calls]


def test_what_aws_quotes_of_a_signature_it_refuses_is_not_carried() -> None:
    quoted = "The signature does not match. Canonical string: host:x\\nx-amz-security-token:IQoJtoken\\n"
    refusal = whole(b'{"message":"' + quoted.encode() + b'"}', status=403)
    call = carried()
    (asked,) = call.route.deployments
    signed = msgspec.structs.replace(call.route, deployments=(msgspec.structs.replace(asked, fetched=True),))
    world = World(refusal)
    world.run(msgspec.structs.replace(call, route=signed))
    check_books(world.log)
    assert world.status == 403
    assert b"IQoJ" not in world.sent
    assert world.entry.exit is Exit.REJECTED

    plain = World(refusal)
    plain.run(call)
    assert b"IQoJ" in plain.sent, "who signs for itself is told what it asked"
