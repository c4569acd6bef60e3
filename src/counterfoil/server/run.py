"""The life of a gateway process: sockets, books, signals, reload, drain, end.

Rule 1: nothing accepts a request before the books are open, and the books are shut after the last entry was closed.
Rule 2: SIGTERM and SIGINT let open exchanges finish for a while, then end them as `shutdown`; a second one ends them at
once. SIGHUP reloads. The process ends with 0 when its books are whole.
Rule 3: a configuration is taken whole or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvicorn
from uvicorn.loops.auto import auto_loop_factory

from counterfoil.config import Config
from counterfoil.core.error import CounterfoilError
from counterfoil.driver.corrector import TokenCorrector, corrector_for
from counterfoil.driver.drive import Driver, jitter, new_id
from counterfoil.driver.listing import Catalogue, log_change
from counterfoil.exchange.call import Context
from counterfoil.ledger.entry import Entry, Line, Opening
from counterfoil.ledger.pricing import price_lines
from counterfoil.local import Engine, LocalError
from counterfoil.server.access import ListenRefused, access_rules, check_listen
from counterfoil.server.app import Application
from counterfoil.server.gateway import Gateway
from counterfoil.server.limits import Patience
from counterfoil.server.metrics import Metrics
from counterfoil.server.ports import bind
from counterfoil.server.protocol import protocol_class
from counterfoil.server.setup import Setup
from counterfoil.server.state import ReloadRefused, State
from counterfoil.stores.books import LedgerBooks, open_books
from counterfoil.stores.health import HEALTHY
from counterfoil.stores.journal import Fsync, JournalSettings
from counterfoil.stores.receipt import receipt_of
from counterfoil.transport.credential import Credentials
from counterfoil.transport.http import AiohttpTransport
from counterfoil.transport.transport import Unreachable
from counterfoil.usage.settle import SettledLine

__all__ = ["Load", "Service", "serve"]

_log = logging.getLogger("counterfoil.server")
_TICK: Final = 1.0
"""Seconds between `Date` headers, and between looks at the books' health."""
_POLL: Final = 0.05
_FLUSH: Final = 30.0
"""Seconds the database may take for what the journal has; what it does not get, the next start finds."""
_KEPT: Final = ("listen", "ledger", "estimates")
"""Keys of the configuration that a reload does not change."""


Load = Callable[[], Setup]
"""Reads everything anew. Raises CounterfoilError with what is wrong; may block."""


class Service:
    """One gateway in this process. `bind` first, then `run` on an event loop."""

    def __init__(
        self, load: Load, ledger: Path, *, patience: Patience | None = None, engine: Engine | None = None
    ) -> None:
        """`ledger`: the database file. Raises what `load` raises, and ListenRefused."""
        self._load = load
        self._setup = load()
        check_listen(self._setup.config)
        self._ledger = ledger
        self._patience = patience or Patience(connections=self._setup.config.limits.connections)
        self._engine = engine
        self._prices = self._setup.prices
        self._learned: set[str] = set()
        self._sockets: list[socket.socket] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._server: _Server | None = None
        self._corrector: TokenCorrector | None = None
        self._credentials: Credentials | None = None
        self.books: LedgerBooks | None = None
        self.gateway: Gateway | None = None

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._setup.config

    @property
    def port(self) -> int:
        """The port it listens on, once bound."""
        return int(self._sockets[0].getsockname()[1]) if self._sockets else self.config.listen.port

    @property
    def base_url(self) -> str:
        """What a client on this machine sets as its base URL."""
        host = self.config.listen.host
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - replaced, not listened on
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/v1"

    def bind(self) -> None:
        """Take the port. Raises ListenFailed."""
        listen = self.config.listen
        self._sockets = bind(listen.host, listen.port)

    def stop(self) -> None:
        """Drain and end; a second call ends at once. From any thread."""
        if self._loop is not None and self._server is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended
                self._loop.call_soon_threadsafe(self._server.ask_to_stop)

    def close(self) -> None:
        """Give the port back without having run."""
        for opened in self._sockets:
            opened.close()

    async def run(self, on_ready: Callable[[], None] | None = None, *, signals: bool = True) -> int:
        """Serve until stopped; returns the exit code. `on_ready` is called when requests are accepted.

        Raises LedgerUnusable, sqlite3.Error or OSError when the books cannot be opened.
        """
        self._loop = asyncio.get_running_loop()
        config = self.config
        books = self.books = await asyncio.to_thread(open_books, self._ledger, self._price_replayed, _journal(config))
        engine = self._engine = self._engine or Engine()
        transport = AiohttpTransport()
        credentials = self._credentials = Credentials(self._setup.environ)
        corrector = self._corrector = corrector_for(
            config.estimates, books.correct, new_id=new_id, wall=time.time, told=self._corrected
        )
        driver = Driver(transport, books, self._reveal, self._embedded, credentials)
        catalogue = Catalogue(transport, self._reveal, changed=log_change)
        catalogue.follow(self._setup.names.asked())
        metrics = Metrics(lambda: driver.open_exchanges, lambda: books.health().ok)
        metrics.know(config.models)
        gateway = self.gateway = Gateway(
            self._state(self._setup),
            driver,
            metrics,
            patience=self._patience,
            loader=self._reload,
            catalogue=catalogue,
            receipts=lambda exchange: receipt_of(self._ledger, exchange, self._prices),
        )
        server = self._server = _Server(gateway, self._patience)
        # Signals are ours until the books are shut: one more must not end the process before.
        with self._signals(server) if signals else contextlib.nullcontext():
            watching = [asyncio.create_task(_watch_books(books)), asyncio.create_task(catalogue.run())]
            try:
                await server.run_on(self._sockets, config.listen.drain, on_ready)
            finally:
                for task in watching:
                    task.cancel()
                await asyncio.gather(*watching, return_exceptions=True)
                await driver.close()
                credentials.close()
                await engine.close()
                if corrector is not None:
                    await asyncio.to_thread(corrector.close)
                whole = await asyncio.to_thread(books.shut, _FLUSH)
        if not whole:
            _log.warning("the database did not take every entry in time; the next start takes them from the journal")
        return 0

    @contextlib.contextmanager
    def _signals(self, server: _Server) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        actions: dict[str, Callable[[], None]] = {
            "SIGTERM": server.ask_to_stop,
            "SIGINT": server.ask_to_stop,
            "SIGHUP": self._reload_soon,
        }
        numbers = {getattr(signal, name): action for name, action in actions.items() if hasattr(signal, name)}
        added = []
        for number, action in numbers.items():
            with contextlib.suppress(NotImplementedError):  # Windows' loops have no signal handlers
                loop.add_signal_handler(number, action)
                added.append(number)
        try:
            yield
        finally:
            for number in added:
                loop.remove_signal_handler(number)

    def _reload_soon(self) -> None:
        # Held, because a task nobody holds may be collected before it ran.
        self._reloading = asyncio.get_running_loop().create_task(self._reload_and_log())

    async def _reload_and_log(self) -> None:
        if self.gateway is None:
            return
        try:
            notes = await self.gateway.reload()
        except ReloadRefused as error:
            _log.error("the new configuration was refused, the old one stays: %s", error)
        else:
            _log.info("the configuration was reloaded%s", "".join(f"; {note}" for note in notes))

    def _reload(self, old: State) -> tuple[State, tuple[str, ...]]:
        """The next state; in a thread."""
        try:
            setup = self._load()
            check_listen(msgspec.structs.replace(setup.config, listen=old.config.listen))
        except CounterfoilError as error:
            raise ReloadRefused(error.failure.message.splitlines()) from error
        except LocalError as error:
            raise ReloadRefused((f"{error.what} {error.remedy}",)) from error
        except (ListenRefused, OSError) as error:
            raise ReloadRefused((str(error),)) from error
        notes = tuple(
            f"`{name}` changed and takes a restart"
            for name in _KEPT
            if getattr(setup.config, name) != getattr(old.config, name)
        )
        # What waits for a retry may still name a secret of the old configuration.
        secrets = self._setup.secrets.merged(setup.secrets)
        self._prices = setup.prices
        if self._credentials is not None:
            self._credentials.forget()
        self._setup = msgspec.structs.replace(
            setup,
            secrets=secrets,
            config=msgspec.structs.replace(setup.config, **{name: getattr(old.config, name) for name in _KEPT}),
        )
        return self._state(self._setup), notes

    def _state(self, setup: Setup) -> State:
        books = self.books
        assert books is not None  # noqa: S101 - run() opens them first
        table = setup.prices

        def price(opening: Opening, lines: tuple[SettledLine, ...]) -> tuple[Line, ...]:
            return price_lines(opening, lines, table)

        context = Context(
            clock=time.monotonic,
            wall=time.time,
            new_id=new_id,
            jitter=jitter,
            price=price,
            limits=setup.config.limits,
            learned=self._learned,
            corrector=self._corrector,
        )
        access = access_rules(setup.config, setup.secrets)
        now = int(time.time())
        return State(setup.config, setup.names, access, context, books.health, now, setup.names.passthroughs)

    def _corrected(self, correction: Entry) -> None:
        """Count a correction, from the corrector's thread."""
        if self._loop is not None and self.gateway is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads the numbers any more
                self._loop.call_soon_threadsafe(self.gateway.metrics.corrected, correction)

    def _price_replayed(self, opening: Opening, lines: tuple[SettledLine, ...], _at: float) -> tuple[Line, ...]:
        return price_lines(opening, lines, self._prices)

    def _reveal(self, name: str) -> str | None:
        return self._setup.secrets.reveal(name)

    async def _embedded(self) -> tuple[str, str]:
        assert self._engine is not None  # noqa: S101 - run() made it
        try:
            address = await self._engine.ensure()
        except LocalError as error:
            raise Unreachable(str(error)) from error
        return address.base_url, address.key


async def _watch_books(books: LedgerBooks) -> None:
    """Say when the books go red and when they are whole again: whoever watches the terminal sees no health page."""
    known = HEALTHY
    while True:
        await asyncio.sleep(_TICK)
        health = books.health()
        if health.ok != known.ok:
            if health.ok:
                _log.info("the books can be written again")
            else:
                _log.error("the books cannot be written, so no request is accepted: %s", health.reason)
        known = health


class _Server(uvicorn.Server):
    """uvicorn's server with our own way of ending."""

    def __init__(self, gateway: Gateway, patience: Patience) -> None:
        self._gateway = gateway
        self._patience = patience
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        super().__init__(
            uvicorn.Config(
                Application(gateway),
                http=protocol_class(lambda: gateway.state.config.limits.headers, patience),
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=patience.keep_alive,
            )
        )

    def ask_to_stop(self) -> None:
        """Begin to drain; asked again: end what is open at once."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def run_on(self, sockets: Sequence[socket.socket], drain: float, on_ready: Callable[[], None] | None) -> None:
        """Serve on `sockets` until asked to stop."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.on_tick(0)  # the first `Date`
        await self.startup(sockets=list(sockets))
        if on_ready is not None:
            on_ready()
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._stop.wait()
            await self.on_tick(0)
        await self._drain(drain)

    async def _drain(self, seconds: float) -> None:
        self._gateway.draining = True
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()  # closed where idle, else after its answer
        open_ = self._gateway.driver.open_exchanges
        last = f"; {open_} open may finish for {seconds:g} s, or are ended when asked again" if open_ else ""
        _log.info("shutting down%s", last)
        await self._until_idle(seconds)
        self._gateway.interrupt()
        await self._until_done(lambda: not self._gateway.driver.open_exchanges, self._patience.farewell)
        for connection in list(self.server_state.connections):
            connection.transport.close()  # what was written still goes out
        await self._until_done(lambda: not self.server_state.tasks, 1.0)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def _until_idle(self, seconds: float) -> None:
        """Until every request is answered, the time is over, or somebody hurries."""
        waits = {asyncio.create_task(self._idle()), asyncio.create_task(self._hurry.wait())}
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _idle(self) -> None:
        while tasks := set(self.server_state.tasks):
            await asyncio.wait(tasks)

    async def _until_done(self, done: Callable[[], bool], seconds: float) -> None:
        for _ in range(int(seconds / _POLL)):
            if done():
                return
            await asyncio.sleep(_POLL)


def serve(service: Service, on_ready: Callable[[], None] | None = None) -> int:
    """Run `service`, bound already, until a signal ends it. Uses uvloop where it is installed."""
    gc.collect()
    gc.freeze()  # modules, tables and prices stay: to look through them for garbage would hold up every stream
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        return runner.run(service.run(on_ready))


def _journal(config: Config) -> JournalSettings:
    return JournalSettings(fsync=Fsync(config.ledger.fsync), interval=config.ledger.fsync_interval)
