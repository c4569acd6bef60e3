"""Who pays for a call, in every way it can be made; and that a call which never went out costs nothing."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from counterfoil.config import Retries, Timeouts
from counterfoil.driver.blocking import BlockingRun
from counterfoil.driver.drive import Driver, Run
from counterfoil.driver.pull import PullRun
from counterfoil.exchange.route import Deployment
from counterfoil.ledger.entry import Entry, Exit
from counterfoil.providers.auth import Credential
from counterfoil.providers.provider import EMBEDDED, Auth
from counterfoil.testing import Counts, Playback, chat_reply, error_answer, running
from counterfoil.transport.blocking import BlockingTransport
from counterfoil.transport.credential import Credentials
from counterfoil.transport.http import AiohttpTransport
from counterfoil.transport.pooled import PooledTransport
from tests.exchange.issuer import Asked, Issuer, Said, issuing, said
from tests.exchange.test_credential import NOBODY
from tests.exchange.ways import SECONDS, WAYS, Ledger, context, reveal
from tests.exchange.world import call, deployment

REPLY = chat_reply(text="Good morning", usage=Counts(input=7, output=2))
GOOGLE = Auth(style="google")
ENTRA = Auth(style="entra", header="api-key")
TOKEN_PATH = "/t/oauth2/v2.0/token"
APPLICATION = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "hush"}


def costs_nothing(entry: Entry) -> bool:
    return not entry.lines and not entry.usage.input_tokens and not entry.usage.output_tokens and not entry.delivered


@pytest.fixture
def provider() -> Iterator[Playback]:
    with running() as provider:
        yield provider


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing({TOKEN_PATH: said({"access_token": "t-1", "expires_in": 3600})}) as issuer:
        yield issuer


def paying(provider: Playback, auth: Auth = ENTRA, **fields: Any) -> Deployment:
    made = deployment()
    row = msgspec.structs.replace(made.provider, auth=auth)
    return msgspec.structs.replace(made, provider=row, base_url=provider.base_url, fetched=True, **fields)


def entra(issuer: Issuer | None, **environ: str) -> Credentials:
    place = {} if issuer is None else {"AZURE_AUTHORITY_HOST": issuer.origin, **APPLICATION}
    return Credentials({**NOBODY, **place, **environ})


# ---- every way -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_fetched_token_pays_in_every_way(way: str, provider: Playback, issuer: Issuer) -> None:
    credentials = entra(issuer)
    for _ in range(2):
        provider.queue(REPLY)
        seen = WAYS[way](call(paying(provider)), Ledger(), None, credentials)
        assert seen.status == 200
    assert [one.headers["authorization"] for one in provider.served] == ["Bearer t-1", "Bearer t-1"]
    assert "api-key" not in provider.served[0].headers
    assert len(issuer.asked) == 1, "a token was asked for twice"
    credentials.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_persons_sign_in_to_google_pays_in_every_way(
    way: str, provider: Playback, issuer: Issuer, tmp_path: Path
) -> None:
    person = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    path = tmp_path / "adc.json"
    path.write_text(json.dumps({**person, "token_uri": issuer.origin + TOKEN_PATH}))
    credentials = Credentials({**NOBODY, "GOOGLE_APPLICATION_CREDENTIALS": str(path)})
    provider.queue(REPLY)
    assert WAYS[way](call(paying(provider, GOOGLE)), Ledger(), None, credentials).status == 200
    assert provider.served[0].headers["authorization"] == "Bearer t-1"
    credentials.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_call_that_nobody_pays_for_is_not_sent_costs_nothing_and_says_what_to_set(
    way: str, provider: Playback
) -> None:
    provider.queue(REPLY)
    credentials = entra(None)
    books = Ledger()
    seen = WAYS[way](call(paying(provider), deployment_of(provider)), books, None, credentials)
    assert seen.status == 200, "the next deployment was not asked"
    assert books.exits == [Exit.LOST, Exit.COMPLETED]
    assert costs_nothing(books.closed[0])
    assert len(provider.served) == 1
    alone = Ledger()
    seen = WAYS[way](call(paying(provider)), alone, None, credentials)
    assert seen.status == 502
    message = json.loads(seen.data)["error"]["message"]
    assert "no Microsoft Entra credentials: AZURE_CLIENT_SECRET is not set;" in message
    assert "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET" in message
    assert costs_nothing(alone.closed[0])
    credentials.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_process_that_fetches_no_credentials_says_so(way: str, provider: Playback) -> None:
    books = Ledger()
    seen = WAYS[way](call(paying(provider)), books, None)
    assert b"this process fetches no credentials" in seen.data
    assert costs_nothing(books.closed[0])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_the_provider_refuses_is_fetched_anew_for_the_next_call(
    way: str, status: int, provider: Playback, issuer: Issuer
) -> None:
    now = [1_000_000.0]
    credentials = Credentials({**NOBODY, **APPLICATION, "AZURE_AUTHORITY_HOST": issuer.origin}, clock=lambda: now[0])
    provider.queue(error_answer(status, "expired"), REPLY)
    credentials.get(ENTRA)
    now[0] += 60
    issuer.answers[TOKEN_PATH] = said({"access_token": "t-2", "expires_in": 3600})
    assert WAYS[way](call(paying(provider)), Ledger(), None, credentials).status != 200
    assert WAYS[way](call(paying(provider)), Ledger(), None, credentials).status == 200
    assert [one.headers["authorization"] for one in provider.served] == ["Bearer t-1", "Bearer t-2"]
    credentials.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_token_that_does_not_come_in_time_is_a_call_that_took_too_long_and_costs_nothing(
    way: str, provider: Playback, issuer: Issuer
) -> None:
    gate = threading.Event()

    def late(asked: Asked) -> Said:
        gate.wait(SECONDS)
        return said({"access_token": "t-1", "expires_in": 3600})

    issuer.answers[TOKEN_PATH] = late
    credentials, books = entra(issuer), Ledger()
    made = paying(provider, timeouts=Timeouts(first_byte=0.2))
    seen = WAYS[way](call(made), books, None, credentials)
    gate.set()
    assert seen.status == 504
    assert books.exits == [Exit.TIMED_OUT]
    assert costs_nothing(books.closed[0])
    assert not provider.served
    credentials.close()


def deployment_of(provider: Playback) -> Deployment:
    return msgspec.structs.replace(deployment(), base_url=provider.base_url)


# ---- interrupted before it went out --------------------------------------------------------------------------------


class Stuck(Credentials):
    """Credentials that never come."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__(NOBODY)
        self.wanted = asyncio.Event()
        self.error = error

    async def wait(self, auth: Auth) -> Credential:
        self.wanted.set()
        await asyncio.Event().wait()
        raise AssertionError

    def get(self, auth: Auth, deadline: float = float("inf")) -> Credential:
        raise self.error or AssertionError


class Nobody:
    """A client that takes everything."""

    async def start(self, status: int, headers: Any) -> None: ...

    async def send(self, data: bytes, *, last: bool) -> None: ...


def interrupted(stop: Callable[[Run, asyncio.Task[Any]], object], cancelled: bool = False) -> Entry:
    """A run that is stopped while what pays for it is fetched; its only entry."""
    books = Ledger()

    async def test() -> None:
        stuck = Stuck()
        driver = Driver(AiohttpTransport(), books, reveal, credentials=stuck)
        made = msgspec.structs.replace(deployment(), fetched=True)
        run = driver.run(call(made, retries=Retries(attempts=3)), context(), Nobody())
        task = asyncio.create_task(run.wait())
        async with asyncio.timeout(SECONDS):
            await stuck.wanted.wait()
            stop(run, task)
            try:
                await task
            except asyncio.CancelledError:
                assert cancelled
        await driver.close()

    asyncio.run(test())
    (entry,) = books.closed
    return entry


@pytest.mark.parametrize("exit_", [Exit.CLIENT_GONE, Exit.SHUTDOWN])
def test_a_call_interrupted_while_its_credential_is_fetched_costs_nothing(exit_: Exit) -> None:
    entry = interrupted(lambda run, task: run.interrupt(exit_))
    assert entry.exit is exit_
    assert costs_nothing(entry)


def test_a_call_cancelled_while_its_credential_is_fetched_costs_nothing() -> None:
    entry = interrupted(lambda run, task: task.cancel(), cancelled=True)
    assert entry.exit is Exit.SHUTDOWN
    assert costs_nothing(entry)


def test_a_call_that_a_shutdown_finds_at_its_first_wait_costs_nothing() -> None:
    books = Ledger()

    async def test() -> None:
        driver = Driver(AiohttpTransport(), books, reveal)
        driver.interrupt_all(Exit.SHUTDOWN)
        await driver.run(call(), context(), Nobody()).wait()
        await driver.close()

    asyncio.run(test())
    assert books.exits == [Exit.SHUTDOWN]
    assert costs_nothing(books.closed[0])


def test_a_call_that_ends_while_the_embedded_model_starts_costs_nothing() -> None:
    books = Ledger()

    async def never() -> tuple[str, str]:
        await asyncio.Event().wait()
        raise AssertionError

    async def test() -> None:
        driver = Driver(AiohttpTransport(), books, reveal, never)
        made = msgspec.structs.replace(deployment(timeouts=Timeouts(first_byte=0.1)), base_url=EMBEDDED)
        await driver.run(call(made), context(), Nobody()).wait()
        await driver.close()

    asyncio.run(test())
    assert books.exits == [Exit.TIMED_OUT]
    assert costs_nothing(books.closed[0])


def test_a_pulled_call_that_is_left_while_its_credential_is_fetched_costs_nothing() -> None:
    books = Ledger()

    async def test() -> None:
        stuck = Stuck()
        driver = Driver(PooledTransport(), books, reveal, credentials=stuck)
        run = PullRun(driver, call(msgspec.structs.replace(deployment(), fetched=True)), context())
        beginning = asyncio.create_task(run.begin())
        async with asyncio.timeout(SECONDS):
            await stuck.wanted.wait()
            beginning.cancel()
            await asyncio.wait({beginning})
        await driver.close()

    asyncio.run(test())
    assert books.exits == [Exit.CLIENT_GONE]
    assert costs_nothing(books.closed[0])


def test_a_key_that_interrupts_a_thread_while_its_credential_is_fetched_costs_nothing() -> None:
    books, transport = Ledger(), BlockingTransport()
    made = msgspec.structs.replace(deployment(), fetched=True)
    run = BlockingRun(call(made), context(), books, transport, reveal, credentials=Stuck(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run.begin()
    transport.close()
    assert books.exits == [Exit.CLIENT_GONE]
    assert costs_nothing(books.closed[0])


def test_a_call_that_a_thread_leaves_while_its_model_starts_costs_nothing() -> None:
    books, transport = Ledger(), BlockingTransport()

    def late(until: float) -> tuple[str, str]:
        assert until > time.monotonic()
        raise TimeoutError

    made = msgspec.structs.replace(deployment(), base_url=EMBEDDED)
    with BlockingRun(call(made), context(), books, transport, reveal, late) as run:
        b"".join(run)
    transport.close()
    assert books.exits == [Exit.TIMED_OUT]
    assert costs_nothing(books.closed[0])


def test_a_request_that_went_out_is_estimated_all_the_same(provider: Playback) -> None:
    provider.queue(REPLY.hold_at(0, "never"))
    books = Ledger()

    async def test() -> None:
        driver = Driver(AiohttpTransport(), books, reveal)
        run = driver.run(call(deployment_of(provider)), context(), Nobody())
        task = asyncio.create_task(run.wait())
        async with asyncio.timeout(SECONDS):
            await asyncio.to_thread(provider.block_until, lambda: provider.served, SECONDS)
            run.interrupt(Exit.SHUTDOWN)
            await task
        await driver.close()

    asyncio.run(test())
    (entry,) = books.closed
    assert entry.usage.estimated
    assert entry.usage.input_tokens == 9
