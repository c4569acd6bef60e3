"""`counterfoil chat`: a terminal chat with a gateway, and what each reply used and cost.

Rule 1: nothing of the conversation is kept but in memory.
Rule 2: figures come from the client's usage and the ledger, and nothing is worked out here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from counterfoil.cli.failure import CommandError, ExitCode
from counterfoil.cli.ledger import BooksReader
from counterfoil.cli.output import plain, print_line, print_note, tokens
from counterfoil.cli.places import add_books, ledger_path
from counterfoil.cli.talk import GatewayClient, Refused, Reply
from counterfoil.ledger.entry import OPEN
from counterfoil.stores.view import EntryView, view_of

if TYPE_CHECKING:
    from counterfoil.server.run import Service

__all__ = ["DEFAULT_URL", "DESCRIPTION", "EXAMPLES", "KEY_VARIABLE", "arrange", "run"]

DESCRIPTION = """\
Talk to MODEL (default: the first the gateway lists). After each reply: what it
used, what it cost, and its entry. Where no gateway answers at the usual place,
one is started for as long as the chat lasts. Ctrl-C stops a reply, Ctrl-D
leaves, /new begins a new conversation."""
EXAMPLES = """\
  counterfoil chat
  counterfoil chat gpt-4o-mini
  echo 'Say hello.' | counterfoil chat --url http://127.0.0.1:4000/v1"""

DEFAULT_URL: Final = "http://127.0.0.1:4000/v1"
KEY_VARIABLE: Final = "COUNTERFOIL_KEY"
_BOOKED_SECONDS: Final = 2.0
_START_SECONDS: Final = 60.0
_NEW: Final = "/new"
_COMMAND: Final = re.compile(r"(/[A-Za-z][A-Za-z-]*)(?:\s.*)?")
"""A line typed at a terminal that is meant for the chat itself. A path has another slash, and what comes by a pipe is
said as it is."""


def arrange(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help="what to talk to")
    parser.add_argument("--url", help=f"a gateway that runs (default: {DEFAULT_URL})")
    parser.add_argument("--key", help=f"its key, where it wants one (default: ${KEY_VARIABLE})")
    add_books(parser)


def run(arguments: argparse.Namespace) -> int:
    key = arguments.key or os.environ.get(KEY_VARIABLE)
    ledger = ledger_path(arguments.config, arguments.data_dir)
    client = GatewayClient(arguments.url or DEFAULT_URL, key)
    try:
        models = client.models()
    except Refused as error:
        if arguments.url is not None or error.spoken:
            remedy = f"A gateway with keys is shown one with --key or ${KEY_VARIABLE}." if key is None else ""
            raise CommandError(f"{client.url} answers: {error}", remedy, code=ExitCode.UNREACHABLE) from error
        models = None
    except OSError as error:
        if arguments.url is not None:
            raise CommandError(
                f"No gateway answers at {client.url} ({error}).",
                "Start one: counterfoil serve",
                code=ExitCode.UNREACHABLE,
            ) from error
        models = None
    if models is not None:
        return _Chat(client, _chosen(arguments.model, models), BooksReader(ledger)).converse()
    print_note(f"No gateway answers at {client.url}; this chat has its own.")
    with _own_gateway(arguments, ledger) as url:
        client = GatewayClient(url, key)
        return _Chat(client, _chosen(arguments.model, client.models()), BooksReader(ledger)).converse()


def _chosen(wanted: str | None, models: list[str]) -> str:
    if wanted is not None:
        return wanted
    if not models:
        raise CommandError(
            "The gateway lists no model.", "Name one: counterfoil chat MODEL; or: counterfoil local install"
        )
    return models[0]


@contextlib.contextmanager
def _own_gateway(arguments: argparse.Namespace, ledger: Path) -> Iterator[str]:
    """A gateway in a thread of this process, on a free loopback port, for as long as the block lasts."""
    from counterfoil.cli.setup import gather_or_refuse, needs_server

    arguments.host, arguments.port = "127.0.0.1", 0
    setup = gather_or_refuse(arguments)
    try:
        from counterfoil.server.run import Service
    except ModuleNotFoundError as error:
        raise needs_server(error) from error
    service = Service(lambda: setup, ledger)
    service.bind()
    ready, failures = threading.Event(), list[BaseException]()
    thread = threading.Thread(target=_serve, args=(service, ready, failures), name="gateway", daemon=True)
    thread.start()
    try:
        if not ready.wait(_START_SECONDS) or failures:
            why = f": {failures[0]}" if failures else " in time"
            raise CommandError(f"The gateway did not start{why}.", code=ExitCode.UNREACHABLE)
        yield service.base_url
    finally:
        service.stop()
        thread.join(_START_SECONDS)
        service.close()


def _serve(service: Service, ready: threading.Event, failures: list[BaseException]) -> None:
    try:
        asyncio.run(service.run(ready.set, signals=False))
    except Exception as error:  # noqa: BLE001 - told by the thread that waits for it
        failures.append(error)
    finally:
        ready.set()


class _Chat:
    """One conversation."""

    def __init__(self, client: GatewayClient, model: str, books: BooksReader) -> None:
        self._client = client
        self._model = model
        self._books = books
        self._messages: list[dict[str, str]] = []
        self._terminal = sys.stdin.isatty()

    def converse(self) -> int:
        """Until the end of the input. In a pipe, the exit code tells how the reply went."""
        if self._terminal:
            with contextlib.suppress(ImportError):  # not everywhere; without it lines are edited as the terminal can
                import readline  # noqa: F401 - importing it is what makes input() edit and remember lines
            keys = f"Ctrl-C stops a reply, {_NEW} begins anew, Ctrl-D leaves."
            print_note(f"Talking to {self._model} at {self._client.url}.\n{keys}")
        code = ExitCode.DONE
        for line in self._lines():
            if line.strip() == _NEW:
                self._messages.clear()
                print_note("A new conversation.")
            elif self._terminal and (command := _COMMAND.fullmatch(line)):
                print_note(
                    f"There is no command {command[1]}. {_NEW} begins a new conversation, Ctrl-D leaves. "
                    "A line that begins with a space is said to the model."
                )
            elif line.strip():
                code = self._say(line)
        return ExitCode.DONE if self._terminal else code

    def _lines(self) -> Iterator[str]:
        if not self._terminal:
            whole = sys.stdin.read()
            yield whole.rstrip("\n")
            return
        while True:
            try:
                yield input("> ")
            except EOFError:
                print_line()
                return
            except KeyboardInterrupt:
                print_line()
                print_note("Ctrl-D leaves.")

    def _say(self, text: str) -> ExitCode:
        messages = [*self._messages, {"role": "user", "content": text}]
        pieces: list[str] = []
        reply: Reply | None = None
        code = ExitCode.DONE
        try:
            with self._client.chat(self._model, messages) as reply:
                for piece in reply:
                    pieces.append(piece)
                    sys.stdout.write(plain(piece))
                    sys.stdout.flush()
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
        except Refused as error:
            if pieces:
                print_line()
            print_note(f"counterfoil: {error}")
            code = ExitCode.WRONG
        except OSError as error:
            raise CommandError(
                f"The gateway at {self._client.url} is gone ({error}).", code=ExitCode.UNREACHABLE
            ) from error
        if pieces:
            if code is not ExitCode.WRONG:
                print_line()
            self._messages = [*messages, {"role": "assistant", "content": "".join(pieces)}]
        if reply is not None:
            self._account(reply)
        return code

    def _account(self, reply: Reply) -> None:
        """What the reply used, by the client's own count, and what is in the books."""
        entry = self._entry(reply.attempt)
        said = []
        if entry is not None:
            usage, sure = entry.usage, entry.provenance
            marks = ["~" if sure[name] == "estimated" else "" for name in ("input_tokens", "output_tokens")]
            said.append(f"{marks[0]}{tokens(usage.input_tokens)} in, {marks[1]}{tokens(usage.output_tokens)} out")
            said.append("unpriced" if entry.cost is None else f"${entry.cost}")
            said += [entry.exit] if entry.exit != "completed" else []
        elif reply.usage is not None:
            said.append(_told(reply.usage))
        if reply.attempt:
            said.append(f"entry {reply.attempt}")
        if said:
            print_note(f"[{' · '.join(said)}]")

    def _entry(self, attempt: str) -> EntryView | None:
        """The entry, where this user's books are the gateway's; None where they are not."""
        if not attempt or not self._books.database.exists():
            return None
        deadline = time.monotonic() + _BOOKED_SECONDS
        while True:
            try:
                view = view_of(self._books.find(attempt))
            except Exception:  # noqa: BLE001 - a line about the books is a courtesy; the chat goes on without it
                return None
            if view.exit != OPEN or time.monotonic() > deadline:
                return view
            time.sleep(0.05)


def _told(usage: Mapping[str, Any]) -> str:
    mark = "~" if usage.get("estimated") else ""
    return f"{mark}{tokens(usage.get('prompt_tokens'))} in, {mark}{tokens(usage.get('completion_tokens'))} out"
