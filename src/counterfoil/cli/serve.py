"""`counterfoil serve`: a thin start of the gateway. It says what it found, where it listens and what to try."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import shlex
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from counterfoil.cli.failure import CommandError, ExitCode
from counterfoil.cli.models import print_models, served_models
from counterfoil.cli.output import number, print_line, print_note
from counterfoil.cli.places import add_books
from counterfoil.cli.setup import gather, gather_or_refuse, ledger_of, needs_server, trial_model
from counterfoil.stores.view import instant

if TYPE_CHECKING:
    from counterfoil.config import ListenConfig
    from counterfoil.server.run import Service
    from counterfoil.server.setup import Setup

__all__ = ["DESCRIPTION", "EXAMPLES", "arrange", "run", "start_logging"]

DESCRIPTION = """\
Start the gateway. Without a configuration it serves what it finds: providers
whose secrets are in the environment, the embedded model, Ollama or LM Studio
on their usual ports; on 127.0.0.1:4000, with the books in the user's data
directory. SIGTERM and Ctrl-C let open replies finish; SIGHUP reloads."""
EXAMPLES = """\
  counterfoil serve
  counterfoil serve --config gateway.yaml --check
  counterfoil serve --port 0 --data-dir ./data --log-format json"""

_LEVELS: Final = ("debug", "info", "warning", "error")


def arrange(parser: argparse.ArgumentParser) -> None:
    add_books(parser)
    parser.add_argument("--host", help="where to listen (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, help="the port (default: 4000; 0: a free one)")
    parser.add_argument(
        "--check", action="store_true", help="say what would be served, and what is wrong; serve nothing"
    )
    parser.add_argument("--log-level", choices=_LEVELS, default="info")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    arguments.config = None if arguments.config is None else Path(arguments.config).absolute()
    setup = gather_or_refuse(arguments)
    for warning in setup.warnings:
        print_note(f"warning: {warning}")
    if arguments.check:
        return _check(setup, ledger_of(setup.config, arguments.data_dir))
    start_logging(arguments.log_level, arguments.log_format)
    return _serve(arguments, setup)


def start_logging(level: str, form: str) -> None:
    """Log to standard error. What the gateway logs holds neither text nor secrets."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if form == "json" else _plain())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _check(setup: Setup, ledger: Path) -> int:
    from counterfoil.server.access import ListenRefused, check_listen

    try:
        check_listen(setup.config)
    except ListenRefused as error:
        raise CommandError(f"{error}", code=ExitCode.CONFIGURATION) from error
    listen = setup.config.listen
    print_line(f"Would listen on {listen.host}:{listen.port}; books in {ledger}")
    for hindrance in _hindrances(listen, ledger):
        print_note(f"note: {hindrance}")
    print_models(setup, served_models(setup))
    return ExitCode.DONE


def _hindrances(listen: ListenConfig, ledger: Path) -> Iterator[str]:
    """What would stop a start at this moment. Not what is wrong: whoever checks may be the one who listens there."""
    from counterfoil.server.ports import ListenFailed, bind

    try:
        for taken in bind(listen.host, listen.port):
            taken.close()
    except ListenFailed as error:
        yield f"{error}"
    there = next(place for place in (ledger, *ledger.parents) if place.exists())
    wanted = os.W_OK if there == ledger else os.W_OK | os.X_OK
    if there != ledger and not there.is_dir():
        yield f"The books cannot be kept in {ledger.parent}: {there} is no directory."
    elif not os.access(there, wanted) or (there == ledger and not os.access(ledger.parent, os.W_OK | os.X_OK)):
        yield f"The books cannot be kept in {ledger.parent}: {there} cannot be written."


def _serve(arguments: argparse.Namespace, setup: Setup) -> int:
    try:
        from counterfoil.server.access import ListenRefused
        from counterfoil.server.ports import ListenFailed
        from counterfoil.server.run import Service, serve
        from counterfoil.stores.sqlite_schema import LedgerUnusable
    except ModuleNotFoundError as error:
        raise needs_server(error) from error
    first = [setup]

    def load() -> Setup:
        # What was setup to be checked is what is served; every later call is a reload and reads anew.
        return first.pop() if first else gather(arguments)

    ledger = ledger_of(setup.config, arguments.data_dir)
    try:
        service = Service(load, ledger)
        service.bind()
    except ListenRefused as error:
        raise CommandError(f"{error}", code=ExitCode.CONFIGURATION) from error
    except ListenFailed as error:
        raise CommandError(f"{error}", code=ExitCode.UNREACHABLE) from error
    # What is loaded by now stays to the end. Searching it for garbage, too, would stop every stream for 25 ms, not 4.
    gc.collect()
    gc.freeze()
    try:
        return serve(service, lambda: _announce(service, setup, ledger))
    except LedgerUnusable as error:
        raise CommandError(f"The books cannot be opened: {error}.", code=ExitCode.UNREACHABLE) from error
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        said = (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
        written = setup.config.ledger.path is not None
        raise CommandError(
            f"The books at {ledger} cannot be opened: {said}.",
            f"Name another place with {'ledger.path in the configuration' if written else '--data-dir'}.",
            code=ExitCode.UNREACHABLE,
        ) from error
    finally:
        service.close()


def _announce(service: Service, setup: Setup, ledger: Path) -> None:
    """What was found, the URL, and one thing to try."""
    for found in setup.discovered.found:
        others = [model for model in found.models if model != found.detail]
        models = f": {', '.join(others[:4])}{', ...' if len(others) > 4 else ''}" if others else ""
        print_line(f"found    {found.title} ({found.detail}){models}")
    for name in list(setup.config.models)[:20]:
        print_line(f"serving  {name}")
    crashed = 0 if service.books is None else len(service.books.replayed.crashed)
    if crashed:
        cut = number(crashed, "attempt was", "attempts were")
        print_line(f"books    {cut} cut by a crash; {'its entry is' if crashed == 1 else 'their entries are'} closed")
    print_line(f"books    {ledger}")
    print_line(f"url      {service.base_url}")
    model = trial_model(setup)
    if model is None:
        print_line("\nNothing to serve yet. Set a provider's key, such as OPENAI_API_KEY, and start again;")
        print_line("or run a model on this machine: counterfoil local install")
    else:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Say hello."}]})
        key = setup.config.keys
        bearer = " \\\n  -H 'authorization: Bearer YOUR_GATEWAY_KEY'" if key is not None and key.required else ""
        print_line("\nTry:")
        print_line(f"curl {service.base_url}/chat/completions \\\n  -H 'content-type: application/json'{bearer} \\")
        print_line(f"  -d {shlex.quote(body)}")
    sys.stdout.flush()


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; write 1 to 65535, or 0 for a free one")
    return int(text)


def _plain() -> logging.Formatter:
    formatter = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    return formatter


class _JsonLines(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "at": instant(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)
