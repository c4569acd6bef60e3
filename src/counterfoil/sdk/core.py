"""What a sync and an async client share: settings, names, prices, books, and the way from arguments to an exchange.

Rule 1: nothing is read before the first call: to make a client costs nothing. It fails only where a configuration is
named that is not there.
Rule 2: no event loop and no socket is known here. Only the driving of an exchange differs between the two clients.
Rule 3: no ledger is open across a fork. SQLite keeps its locks by process and inode: a database that the parent has
open is not safe in the child, not even opened anew (https://www.sqlite.org/howtocorrupt.html, 2.6).
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import platformdirs

from counterfoil.config import Config
from counterfoil.core.error import CounterfoilError
from counterfoil.core.estimate import estimate_body
from counterfoil.core.operation import Operation
from counterfoil.driver.configuration import Loaded, load
from counterfoil.driver.deployment import DeploymentError
from counterfoil.driver.drive import jitter, new_id
from counterfoil.driver.resolve import Resolver
from counterfoil.exchange.call import Call, Context
from counterfoil.exchange.route import Route
from counterfoil.ledger.entry import Entry, Line, Opening
from counterfoil.ledger.price_sheet import SheetError
from counterfoil.ledger.price_table import PriceTable
from counterfoil.ledger.pricing import price_lines
from counterfoil.sdk.books import ProcessBooks, Watch, WatchedBooks
from counterfoil.sdk.errors import ConfigurationError, Error, error_of, invalid, misconfigured
from counterfoil.sdk.form import Form
from counterfoil.sdk.meter import open_meters
from counterfoil.sdk.names import Names, Wanted
from counterfoil.sdk.options import RETRIES, Options, config_path, encode_body, read_options
from counterfoil.transport.credential import Credentials
from counterfoil.transport.secret import Secret, SecretStore
from counterfoil.transport.transport import Unreachable
from counterfoil.usage.settle import SettledLine

if TYPE_CHECKING:
    from counterfoil.local import Engine
    from counterfoil.sdk.ledger import OpenLedger

__all__ = ["CONFIG_VARIABLE", "Core", "Prepared"]

CONFIG_VARIABLE: Final = "COUNTERFOIL_CONFIG"
"""The configuration of every client that names none."""
_DATA_VARIABLE: Final = "COUNTERFOIL_DATA_DIR"
_FAREWELL: Final = 2.0
"""Seconds that open attempts may take to end when a client is closed."""
_COMPLETION_TOKENS: Final = "max_completion_tokens"
_GIVEN: Final = 4096
"""Secrets given with calls that are remembered by name."""


class Prepared(msgspec.Struct, frozen=True):
    """A call ready to be driven."""

    call: Call
    watch: Watch
    model: str
    streamed: bool


class _Ready(msgspec.Struct, frozen=True):
    """What the first call reads."""

    config: Config
    names: Names
    secrets: SecretStore
    prices: PriceTable
    context: Context


class Core:
    """One client's state. Threads and event loops may share it."""

    def __init__(
        self,
        options: Options,
        *,
        config: str | os.PathLike[str] | None = None,
        ledger: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.options = options
        self._config = None if config is None else config_path(config)
        self._ledger = None if ledger is None else Path(ledger)
        self._environ = os.environ if environ is None else environ
        self._lock = threading.RLock()
        self._ready: _Ready | None = None
        self._found: dict[str, Secret] = {}
        self._given: dict[str, str] = {}
        """Names of given secrets by their value."""
        self._kept: ProcessBooks | OpenLedger = ProcessBooks()
        self._engine: Engine | None = None
        self.credentials = Credentials(self._environ)
        self._busy_fork = False
        """Forked while the parent's ledger was open."""
        self.books = WatchedBooks(self._kept)
        _CORES.add(self)

    @property
    def is_ready(self) -> bool:
        """Whether the files that the first call needs are read."""
        return self._ready is not None

    def ready(self) -> Context:
        """Read what is needed, once. May block for a moment. Raises ConfigurationError."""
        if self._ready is None:
            with self._lock:
                if self._ready is None:
                    try:
                        self._ready = self._read()
                    except ConfigurationError:
                        raise
                    except CounterfoilError as error:
                        raise ConfigurationError(error.failure) from error
                    except (DeploymentError, SheetError, OSError, sqlite3.Error) as error:
                        raise misconfigured(str(error)) from error
        return self._ready.context

    @property
    def context(self) -> Context:
        """What exchanges are given."""
        return self.ready()

    def prepare(self, form: Form, model: str, content: object, streamed: bool, given: Mapping[str, Any]) -> Prepared:
        """From the arguments of a call to its exchange. Raises an Error; then no entry was opened."""
        self.ready()
        said, fields = read_options(given)
        if not isinstance(model, str):
            raise invalid("`model` is a text.", "model")
        try:
            options = said.over(self.options)
            body = encode_body(model, form.content, content, streamed, fields)
            peek = form.dialect.peek_request(body)
            route = self._route(model, form.dialect.operation, peek.streamed, options)
            if "max_tokens" in fields and _knows_only_completion_tokens(route):
                fields = {_COMPLETION_TOKENS if name == "max_tokens" else name: one for name, one in fields.items()}
                body = encode_body(model, form.content, content, streamed, fields)
        except CounterfoilError as error:
            raise _named(error, model) from error
        exchange, watch = new_id(), Watch(open_meters())
        self.books.watch(exchange, watch)
        call = Call(
            exchange=exchange,
            route=route,
            dialect=form.dialect,
            body=body,
            peek=peek,
            input_estimate=estimate_body(body),
            tags=options.tags,
        )
        return Prepared(call, watch, model, peek.streamed)

    def reveal(self, name: str) -> str | None:
        """A secret by its name, for the transport."""
        secret = self._found.get(name)
        if secret is not None:
            return secret.reveal()
        return None if self._ready is None else self._ready.secrets.reveal(name)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The newest entries, where no ledger is named; with a ledger, ask that."""
        kept = self._kept
        return kept.entries if isinstance(kept, ProcessBooks) else ()

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until the ledger has every entry closed before; False when it took longer than `timeout` seconds."""
        kept = self._kept
        return True if isinstance(kept, ProcessBooks) else kept.flush(timeout)

    def close(self) -> None:
        """Wait a moment for what is just ending, shut the ledger, stop the embedded model. The next call opens anew."""
        self.books.idle(_FAREWELL)
        with self._lock:
            engine, self._engine = self._engine, None
            kept = None if isinstance(self._kept, ProcessBooks) else self._let_go_of_books()
            self._ready = None
        if kept is not None:
            kept.shut()
        if engine is not None:
            engine.close_blocking()
        self.credentials.close()

    def before_fork(self) -> None:
        """Shut a ledger that nothing writes into at this moment; parent and child open it anew when they call."""
        with self._lock:
            if not isinstance(self._kept, ProcessBooks) and self.books.idle(0):
                self._let_go_of_books().shut()

    def forked(self) -> None:
        """In a child process: let go of all that is the parent's, without shutting it."""
        _LEFT.append((self._kept, self._engine))
        self._busy_fork = not isinstance(self._kept, ProcessBooks)
        self._lock = threading.RLock()
        self._ready, self._engine, self._kept = None, None, ProcessBooks()
        self.books.forked(self._kept)

    # ---- the embedded model

    def embedded(self, _until: float) -> tuple[str, str]:
        """The address and the key of the embedded model, started if need be. Raises Unreachable.

        The engine has a time-out of its own for its start.
        """
        from counterfoil.local import LocalError

        try:
            address = self._own_engine().ensure_blocking()
        except LocalError as error:
            raise Unreachable(str(error)) from error
        return address.base_url, address.key

    async def embedded_async(self) -> tuple[str, str]:
        """The same on an event loop."""
        from counterfoil.local import LocalError

        try:
            address = await self._own_engine().ensure()
        except LocalError as error:
            raise Unreachable(str(error)) from error
        return address.base_url, address.key

    def _own_engine(self) -> Engine:
        from counterfoil.local import Engine

        with self._lock:
            if self._engine is None:
                self._engine = Engine()
            return self._engine

    # ---- routes

    def _route(self, model: str, operation: Operation, streamed: bool, options: Options) -> Route:
        assert self._ready is not None  # noqa: S101 - prepare() made it ready
        names = self._ready.names
        route = names.route(self._wanted(model, operation, streamed, options))
        others = [names.route(self._fallback(one, operation, streamed, options)) for one in options.fallbacks or ()]
        deployments = (*route.deployments, *(one for other in others for one in other.deployments))
        retries = route.retries
        if options.max_retries is not None:
            retries = msgspec.structs.replace(retries, attempts=options.max_retries + 1)
        elif not names.configured(model):
            retries = msgspec.structs.replace(retries, attempts=RETRIES + 1)
        return msgspec.structs.replace(route, deployments=deployments, retries=retries)

    def _wanted(self, model: str, operation: Operation, streamed: bool, options: Options) -> Wanted:
        return Wanted(
            model=model,
            base_url=options.base_url,
            provider=options.provider,
            operation=operation,
            region=options.region,
            project=options.project,
            api_key=self._name_of(options.api_key),
            headers=options.headers,
            query=options.query,
            timeout=options.timeout,
            streamed=streamed,
            drop=bool(options.drop),
        )

    def _fallback(self, one: str | Mapping[str, Any], operation: Operation, streamed: bool, options: Options) -> Wanted:
        """Where a fallback goes: to the same server, if the call names one, else wherever its name leads."""
        said: Mapping[str, Any] = {"model": one} if isinstance(one, str) else one
        own, _ = read_options({name: value for name, value in said.items() if name != "model"})
        alone = options.base_url is None or own.base_url is not None or own.provider is not None
        general = Options(timeout=options.timeout, drop=options.drop)
        if not alone:
            general = msgspec.structs.replace(options, fallbacks=None)
        return self._wanted(said["model"], operation, streamed, own.over(general))

    def _name_of(self, secret: str | None) -> str | None:
        """The name under which the transport finds a secret that was given."""
        if secret is None:
            return None
        with self._lock:
            name = self._given.get(secret)
            if name is None:
                if len(self._given) >= _GIVEN:
                    oldest = next(iter(self._given))
                    self._found.pop(self._given.pop(oldest), None)
                name = self._given[secret] = f"given {new_id()}"
                self._found[name] = Secret(secret)
            return name

    def _keep(self, secrets: Mapping[str, Secret]) -> None:
        self._found.update(secrets)

    # ---- the first call

    def _read(self) -> _Ready:
        from counterfoil.stores.price_files import load_prices

        written = self._environ.get(CONFIG_VARIABLE, "").strip()
        path = self._config or (Path(written) if written else None)
        loaded = Loaded(Config(), SecretStore()) if path is None else load(path, self._environ)
        config = loaded.config
        resolver = Resolver(config, loaded.secrets, self._environ) if config.models else None
        found = load_prices(self._data_directory(), Path(config.prices) if config.prices is not None else None)
        prices = found.table
        names = Names(config, resolver, self._environ, self._keep, gateway=self._config is None)
        books = self._open_books(config, prices)
        if books is not None:
            self._kept = books
            self.books.use(books)

        def price(opening: Opening, lines: tuple[SettledLine, ...]) -> tuple[Line, ...]:
            return price_lines(opening, lines, prices)

        context = Context(
            clock=time.monotonic,
            wall=time.time,
            new_id=new_id,
            jitter=jitter,
            price=price,
            limits=config.limits,
            learned=set(),
            corrector=None if books is None else books.corrector,
        )
        secrets = loaded.secrets if resolver is None else resolver.secrets
        return _Ready(config, names, secrets, prices, context)

    def _open_books(self, config: Config, prices: PriceTable) -> OpenLedger | None:
        """The ledger that was named, or that the configuration names."""
        written = config.ledger.path
        path = self._ledger or (Path(written) if written is not None else None)
        if path is None:
            return None
        if self._busy_fork:
            raise misconfigured(
                "This process was forked while its parent wrote into the ledger, which must not be opened here: fork "
                "before the first call, or between calls, or start the process anew (spawn)."
            )
        from counterfoil.sdk.ledger import open_ledger

        place = path.expanduser().absolute()
        try:
            return open_ledger(place, config, prices)
        except OSError as error:
            raise misconfigured(f"The ledger at {place} cannot be opened: {error.strerror or error}.") from error

    def _let_go_of_books(self) -> OpenLedger:
        kept = self._kept
        assert not isinstance(kept, ProcessBooks)  # noqa: S101 - whoever asks has looked
        self._kept, self._ready = ProcessBooks(), None
        self.books.use(self._kept)
        return kept

    def _data_directory(self) -> Path:
        """Where an updated list of prices, or the owner's own, may lie."""
        named = self._environ.get(_DATA_VARIABLE)
        return Path(named or platformdirs.user_data_dir("counterfoil")).expanduser().absolute()


_CORES: Final[weakref.WeakSet[Core]] = weakref.WeakSet()
_LEFT: Final[list[object]] = []
"""What a child process has of its parent's: held, because closing it is the parent's business."""


def _part() -> None:
    for core in tuple(_CORES):
        core.before_fork()


def _forget() -> None:
    for core in tuple(_CORES):
        core.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_part, after_in_child=_forget)


def _knows_only_completion_tokens(route: Route) -> bool:
    """Whether every deployment wants the output bound by its newer name (OpenAI's reasoning models refuse the old one).

    An argument of a call is ours to write down; a request that a client wrote is carried as it is.
    """
    return all(one.quirks.max_tokens_field == _COMPLETION_TOKENS for one in route.deployments)


def _named(error: CounterfoilError, model: str) -> Exception:
    """The SDK's own error for one of the layers below; its own as it is."""
    if isinstance(error, Error):
        error.model = model
        return error
    return error_of(error.failure, model=model)
