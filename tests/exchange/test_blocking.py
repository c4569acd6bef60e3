"""A reply pulled in a thread: its connection, its deadlines, and an entry that closes however its caller leaves."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from counterfoil.config import Retries, Timeouts
from counterfoil.driver import blocking
from counterfoil.driver.blocking import BlockingRun
from counterfoil.exchange.attempt import SLOW_CLIENT
from counterfoil.exchange.route import Deployment
from counterfoil.ledger.entry import Exit
from counterfoil.testing import Counts, Playback, chat_reply, error_answer, running, silent_answer
from counterfoil.transport.blocking import BlockingTransport
from counterfoil.transport.transport import Broken, Unreachable
from tests.exchange.ways import Ledger, context, reveal
from tests.exchange.world import call, deployment

SECONDS = 10.0
REPLY = chat_reply(text=tuple(f"word{number} " for number in range(12)), usage=Counts(input=11, output=7))


class Place:
    """A provider, a transport and books."""

    def __init__(self, provider: Playback) -> None:
        self.provider = provider
        self.transport = BlockingTransport()
        self.books = Ledger()
        self.context = context()

    def deployment(self, **fields: Any) -> Deployment:
        return msgspec.structs.replace(deployment(), base_url=self.provider.base_url, **fields)

    def run(self, *deployments: Deployment, **fields: Any) -> BlockingRun:
        asked = call(*(deployments or (self.deployment(),)), **fields)
        return BlockingRun(asked, self.context, self.books, self.transport, reveal)

    def left(self) -> None:
        """The provider has seen that the connection was dropped."""
        self.provider.block_until(lambda: self.provider.served[-1].ended, SECONDS)
        assert self.provider.served[-1].ended == "client_left"


@pytest.fixture
def here() -> Iterator[Place]:
    with running() as provider:
        place = Place(provider)
        yield place
        place.transport.close()


@pytest.mark.usefixtures("unhurried")
def test_a_connection_is_used_again_also_by_another_thread(here: Place) -> None:
    def pull() -> bytes:
        return b"".join(here.run())

    with ThreadPoolExecutor(1) as other:
        for turn in range(4):
            data = other.submit(pull).result(SECONDS) if turn % 2 else pull()
            assert data.endswith(b"[DONE]\n\n")
    assert here.provider.connections == 1
    assert here.books.exits == [Exit.COMPLETED] * 4


@pytest.mark.usefixtures("unhurried")
def test_many_threads_share_a_transport_and_never_see_each_other(here: Place) -> None:
    here.provider.default = lambda request: chat_reply(
        text=f"<{request.json['user']}>", usage=Counts(input=1, output=1)
    )
    with ThreadPoolExecutor(16) as pool:
        heard = list(pool.map(lambda number: b"".join(here.run(user=str(number))), range(100)))
    assert all(f"<{number}>".encode() in data for number, data in enumerate(heard))
    assert here.provider.connections <= 16
    assert here.books.exits == [Exit.COMPLETED] * 100


@pytest.mark.parametrize("leave", ["close", "with", "raise", "twice"])
def test_a_caller_that_leaves_early_is_a_client_that_hung_up(here: Place, leave: str) -> None:
    here.provider.queue(REPLY.hold_at(5, "never"))
    run = here.run()
    try:
        with run:
            begun = run.begin()
            assert begun is not None
            assert begun.status == 200
            next(run)
            if leave == "raise":
                raise LookupError
            if leave in ("close", "twice"):
                run.close()
    except LookupError:
        assert leave == "raise"
    if leave == "twice":
        run.close()
    assert here.books.exits == [Exit.CLIENT_GONE]
    assert here.books.closed[0].usage.estimated
    assert run.outcome is not None
    assert list(run) == []
    here.left()


def test_a_run_that_is_closed_before_it_begins_calls_nobody(here: Place) -> None:
    run = here.run()
    run.close()
    assert run.begin() is None
    assert list(run) == []
    assert run.outcome is not None
    assert here.books.opened == []
    del run
    assert not here.provider.served


def test_the_entry_is_closed_before_the_last_bytes_are_given(here: Place) -> None:
    for data in (run := here.run()):
        if b"[DONE]" in data:
            assert here.books.exits == [Exit.COMPLETED]
            assert run.outcome is not None


def test_a_run_that_is_forgotten_closes_its_entry_and_says_so(here: Place) -> None:
    here.provider.queue(REPLY.hold_at(5, "never"))
    run = here.run()
    run.begin()
    with pytest.warns(ResourceWarning, match="forgotten before its end"):  # noqa: PT031 - what is forgotten, and when
        del run
        gc.collect()
    here.left()
    _until(lambda: bool(here.books.closed))
    assert here.books.exits == [Exit.CLIENT_GONE]


def test_a_run_that_is_forgotten_at_its_last_bytes_gives_its_connection_back_without_a_word(here: Place) -> None:
    run = here.run()
    while b"[DONE]" not in next(run):
        pass
    del run
    gc.collect()
    _until(lambda: b"".join(here.run()) != b"" and here.provider.connections < len(here.provider.served))


def _until(condition: Any) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_runs_when_the_interpreter_ends_is_closed(here: Place) -> None:
    here.provider.queue(REPLY.hold_at(5, "never"))
    run = here.run()
    run.begin()
    blocking._close_all()
    assert here.books.exits == [Exit.CLIENT_GONE]
    assert run.outcome is not None


def test_a_key_that_interrupts_a_read_closes_the_entry_and_is_raised(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.provider.queue(REPLY.hold_at(5, "never"))
    run = here.run()
    run.begin()

    def interrupted(*args: Any) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("counterfoil.transport.blocking.BlockingUpstream.read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        b"".join(run)
    assert here.books.exits == [Exit.CLIENT_GONE]
    here.left()


def test_a_caller_that_stayed_away_too_long_is_told(here: Place) -> None:
    here.provider.queue(REPLY.hold_at(5, "never"))
    run = here.run(here.deployment(timeouts=Timeouts(total=0.2)))
    run.begin()
    time.sleep(0.3)  # longer than the whole reply may take
    assert b"error" in b"".join(run)
    assert here.books.exits == [Exit.TIMED_OUT]
    assert here.books.closed[0].detail == SLOW_CLIENT


def test_progress_is_noted_while_the_provider_is_silent(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "NOTE_EVERY", 0.0)
    monkeypatch.setattr("counterfoil.transport.blocking.LATER", 0.05)
    here.provider.queue(REPLY.hold_at(6, "more"))
    run = here.run()
    with ThreadPoolExecutor(1) as other:
        rest = other.submit(b"".join, run)
        _until(lambda: here.books.notes and here.books.notes[-1].delivered.output)
        here.provider.release("more")
        rest.result(SECONDS)
    assert here.books.exits == [Exit.COMPLETED]


def test_a_close_from_another_thread_takes_effect_with_the_next_bytes(here: Place) -> None:
    here.provider.queue(REPLY.hold_at(5, "more").hold_at(9, "never"))
    run = here.run()
    run.begin()
    closing = threading.Thread(target=run.close)
    closing.start()
    closing.join(SECONDS)
    assert here.books.exits == [Exit.CLIENT_GONE]
    assert list(run) == []


def test_a_wait_between_two_attempts_is_waited_for(here: Place) -> None:
    here.provider.queue(error_answer(503, "busy"), REPLY)
    assert b"".join(here.run(retries=Retries(attempts=2, backoff=0.01))).endswith(b"[DONE]\n\n")
    assert here.books.exits == [Exit.REJECTED, Exit.COMPLETED]


def _post(here: Place, url: str, seconds: float = SECONDS, connect: float = 5.0) -> Any:
    return here.transport.post(url, {}, b"{}", connect=connect, deadline=time.monotonic() + seconds)


def test_the_head_has_a_deadline_and_a_name_that_is_not_one_is_unreachable(here: Place) -> None:
    here.provider.queue(silent_answer())
    with pytest.raises(TimeoutError):
        _post(here, f"{here.provider.base_url}/chat/completions", seconds=0.2)
    with pytest.raises(Unreachable, match="does not resolve"):
        _post(here, "http://provider.invalid/v1")
    with pytest.raises(Unreachable, match="not a URL"):
        _post(here, "//provider")


def test_the_proxy_variables_are_heeded_but_for_this_machine(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://user:pa%24s@127.0.0.1:{here.provider.port}")
    upstream = _post(here, "http://provider.test/v1/a b?x=1&y=%C3%A9")
    served = here.provider.served[-1]
    assert served.path == "http://provider.test/v1/a%20b?x=1&y=%C3%A9"
    assert served.headers["host"] == "provider.test"
    assert served.headers["proxy-authorization"] == "Basic dXNlcjpwYSRz"
    upstream.abort()
    _post(here, f"{here.provider.base_url}/chat/completions").abort()
    assert here.provider.served[-1].path == "/v1/chat/completions"


def test_a_read_that_waits_while_the_transport_closes_breaks(here: Place) -> None:
    here.provider.queue(REPLY.stall_at(3))
    upstream = _post(here, f"{here.provider.base_url}/chat/completions")
    here.provider.block_until(lambda: here.provider.served[-1].stalled)
    with ThreadPoolExecutor(1) as other:
        rest = other.submit(lambda: [upstream.read(time.monotonic() + SECONDS) for _ in range(9)])
        here.transport.close()
        with pytest.raises(Broken):
            rest.result(SECONDS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_process_leaves_the_connections_and_the_entries_of_its_parent_alone(here: Place) -> None:
    here.provider.queue(REPLY, REPLY.hold_at(5, "more"), REPLY)
    b"".join(here.run())
    run = here.run()
    data = next(run)

    def child() -> None:
        assert b"".join(here.run()).endswith(b"[DONE]\n\n")
        blocking._close_all()
        assert here.books.exits[-1] is Exit.COMPLETED
        os._exit(7)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(SECONDS)
    assert here.provider.connections == 2
    here.provider.release("more")
    assert (data + b"".join(run)).endswith(b"[DONE]\n\n")
    assert here.books.exits == [Exit.COMPLETED] * 2
