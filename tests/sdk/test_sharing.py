"""One client serves many threads and many event loops, uses its connections again, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import counterfoil
from counterfoil.sdk.books import ProcessBooks
from counterfoil.stores.sqlite import SqliteStore
from counterfoil.testing import ChatReply, Counts, Playback, chat_player, chat_reply
from tests.sdk.support import CHATTING, SECONDS, text_of

__all__: list[str] = []

PLAN = ChatReply(usage=Counts(input=10, output=3))


@pytest.mark.usefixtures("unhurried")
def test_sixteen_threads_share_a_client(provider: Playback) -> None:
    provider.default = chat_player(PLAN)
    together = threading.Barrier(16)

    def work(client: counterfoil.Client, number: int) -> list[Any]:
        together.wait(SECONDS)
        found: list[Any] = []
        for turn in range(6):
            if (number + turn) % 2:
                found.append(client.chat.completions.create(**CHATTING, user=str(number)).entry)
            else:
                with client.chat.completions.create(**CHATTING, user=str(number), stream=True) as stream:
                    text = text_of(list(stream))
                assert text == PLAN.text
                found.append(stream.entry)
        return found

    with counterfoil.Client(base_url=provider.base_url) as client, ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda number: work(client, number), range(16)))
        entries = [entry for result in results for entry in result]
        assert len({entry.opening.attempt for entry in entries}) == 96
        assert all(entry.opening.user == str(number) for number, result in enumerate(results) for entry in result)
        assert {entry.usage.total_tokens for entry in entries} == {13}
        assert sorted(map(repr, client.entries)) == sorted(map(repr, entries))
    assert len(provider.served) == 96
    assert provider.connections <= 32, "connections are used again"


@pytest.mark.usefixtures("unhurried")
def test_one_async_client_serves_loops_one_after_the_other(provider: Playback) -> None:
    client = counterfoil.AsyncClient(base_url=provider.base_url)

    async def calls() -> list[str]:
        async with asyncio.timeout(SECONDS):
            first = await client.chat.completions.create(**CHATTING)
            stream = await client.chat.completions.create(**CHATTING, stream=True)
            chunks = [chunk async for chunk in stream]
            return [first.choices[0].message.content, text_of(chunks)]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        texts = [asyncio.run(calls()) for _ in range(3)]
        gc.collect()
    assert texts == [[PLAN.text, PLAN.text]] * 3
    assert provider.connections == 3
    assert len(client.entries) == 6
    asyncio.run(client.aclose())


def test_one_async_client_serves_loops_of_several_threads(provider: Playback) -> None:
    client = counterfoil.AsyncClient(base_url=provider.base_url)
    together = threading.Barrier(4)

    async def calls() -> int:
        async with asyncio.timeout(SECONDS):
            replies = await asyncio.gather(*(client.chat.completions.create(**CHATTING) for _ in range(5)))
            return sum(reply.usage.total_tokens for reply in replies)

    def work(_: int) -> int:
        together.wait(SECONDS)
        return asyncio.run(calls())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [105] * 4
    assert len(client.entries) == 20
    asyncio.run(client.aclose())


def test_a_client_can_be_used_again_after_it_was_closed(provider: Playback) -> None:
    client = counterfoil.Client(base_url=provider.base_url)
    for _ in range(2):
        with client:
            assert client.chat.completions.create(**CHATTING).usage.total_tokens == 21
    assert provider.connections == 2
    client.close()


def test_a_client_that_is_forgotten_lets_go(provider: Playback) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client = counterfoil.Client(base_url=provider.base_url)
        client.chat.completions.create(**CHATTING)
        finalizer = client._finalizer
        del client
        gc.collect()
        assert not finalizer.alive


def test_a_client_that_is_closed_ends_what_its_threads_wait_for(provider: Playback, tmp_path: Any) -> None:
    provider.default = chat_reply().hold_at(3, "gate")
    ledger = tmp_path / "ledger.db"
    client = counterfoil.Client(base_url=provider.base_url, ledger=ledger, max_retries=0)
    errors: list[BaseException] = []

    def read() -> None:
        try:
            list(client.chat.completions.create(**CHATTING, stream=True))
        except counterfoil.Error as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    idle = client.chat.completions.create(**CHATTING, stream=True)
    provider.block_until(lambda: [served.waiting_at for served in provider.served] == ["gate", "gate"])
    client.close()
    reader.join(SECONDS)
    assert not reader.is_alive()
    assert idle.entry is not None
    store = SqliteStore(ledger)
    exits = sorted(entry.exit.value for entry in store.entries())
    store.close()
    assert exits[0] == "client_gone"
    assert exits[1] in ("client_gone", "lost", "truncated"), "its connection was taken from under it"


def test_a_stream_keeps_its_client(provider: Playback) -> None:
    stream = counterfoil.Client(base_url=provider.base_url).chat.completions.create(**CHATTING, stream=True)
    gc.collect()
    assert text_of(list(stream)) == PLAN.text


def test_what_is_kept_in_memory_is_bounded() -> None:
    books = ProcessBooks(kept=2)
    entries: list[Any] = [object(), object(), object()]
    for entry in entries:
        books.close(entry)
    assert books.entries == tuple(entries[1:])


def test_a_client_that_made_no_call_has_read_and_opened_nothing(tmp_path: Any) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text("[")
    counterfoil.Client(config, ledger=tmp_path / "ledger.db").close()
    assert list(tmp_path.iterdir()) == [config]


PROGRAM = """
import asyncio, sys, warnings
import counterfoil
base_url, ledger, way = sys.argv[1:]
hello = [{"role": "user", "content": "Good morning"}]
async def asynchronously():
    reply = await counterfoil.acompletion("m", hello, base_url=base_url)
    stream = await counterfoil.acompletion("m", hello, base_url=base_url, stream=True)
    await anext(stream)
    print(reply.usage.total_tokens)
if way == "sync":
    client = counterfoil.Client(base_url=base_url, ledger=ledger)
    print(client.chat.completions.create(model="m", messages=hello).usage.total_tokens)
    kept = client.chat.completions.create(model="m", messages=hello, stream=True)
    next(kept)
elif way == "shared":
    print(counterfoil.completion("m", hello, base_url=base_url).usage.total_tokens)
else:
    asyncio.run(asynchronously())
"""


@pytest.mark.parametrize("way", ["sync", "shared", "async"])
def test_a_program_that_closes_nothing_ends_without_a_word(way: str, provider: Playback, tmp_path: Any) -> None:
    ledger = tmp_path / "ledger.db"
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", PROGRAM, provider.base_url, str(ledger), way],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "21\n")
    said = [line for line in done.stderr.splitlines() if "forgotten before its end" not in line and line[:1] != " "]
    assert said == [], done.stderr
    if way == "sync":
        store = SqliteStore(ledger)
        exits = [entry.exit.value for entry in store.entries()]
        store.close()
        assert exits == ["completed", "client_gone"], "both are in the ledger, also the one that was left open"


FORKING = """
import os, sys
import counterfoil
base_url, ledger, way = sys.argv[1:]
client = counterfoil.Client(base_url=base_url, ledger=ledger)
def call(**more):
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Good morning"}], **more)
call()
stream = call(stream=True) if way == "busy" else None
child = os.fork()
if way == "busy" and not child:
    try:
        call()
    except counterfoil.ConfigurationError as error:
        os._exit(0 if "forked while" in str(error) else 1)
    os._exit(2)
if stream is not None:
    list(stream)
call()
client.close()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("way", ["idle", "busy"])
def test_no_entry_is_lost_by_a_fork(way: str, provider: Playback, tmp_path: Any) -> None:
    ledger = tmp_path / "ledger.db"
    for turn in range(1, 5):
        command = [sys.executable, "-c", FORKING, provider.base_url, str(ledger), way]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        store = SqliteStore(ledger)
        exits = [entry.exit.value for entry in store.entries()]
        assert store.verify() == []
        store.close()
        assert exits == ["completed"] * 3 * turn
        assert len(provider.served) == 3 * turn
