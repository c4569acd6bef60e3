"""`counterfoil demo`: one real chat through a gateway of its own, and the proof that client and books agree.

Rule 1: nothing is staged. The client is the official one, the gateway is `counterfoil serve` in a process of its own,
the model is real; what is compared are the client's numbers and the ledger's.
Rule 2: it stops all it started, and leaves nothing on the disk.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from counterfoil.cli.child import GatewayChild, ended_by_signals, gateway_child
from counterfoil.cli.failure import CommandError, ExitCode
from counterfoil.cli.ledger import Books
from counterfoil.cli.output import print_line, print_table, tokens
from counterfoil.cli.places import LEDGER_NAME
from counterfoil.cli.view import EntryView, view_of
from counterfoil.ledger.entry import OPEN
from counterfoil.local.errors import LocalError
from counterfoil.local.weights import installed

__all__ = ["Told", "arrange", "ask", "entry_of", "run", "write_config"]

DESCRIPTION = """\
Start a gateway with the embedded model on a free loopback port, stream one real
chat through it with the official openai client, and show that what the client
was told and what the ledger holds agree. No API key, nothing kept, nothing
left running. Exit code 1: they do not agree."""
EXAMPLES = """\
  counterfoil demo
  counterfoil demo --break        cut a stream, hang up, kill -9: and look at the books"""

_PROMPT: Final = "Write two short sentences about the sea."
_LONGEST: Final = 64
"""Tokens of the reply: enough to see it stream, short on a slow machine."""
_BOOKED_SECONDS: Final = 10.0
_FIGURES: Final = ("input_tokens", "output_tokens", "total_tokens", "cache_read_tokens")


class Told(msgspec.Struct):
    """What a client was told."""

    attempt: str = ""
    pieces: int = 0
    text: str = ""
    usage: dict[str, int | None] | None = None
    error: str | None = None


def arrange(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--break",
        dest="broken",
        action="store_true",
        help="cut, hang up and kill instead, with a provider that plays along",
    )
    parser.add_argument("--prompt", default=_PROMPT, help=f"what is asked (default: {_PROMPT!r})")


def run(arguments: argparse.Namespace) -> int:
    if importlib.util.find_spec("openai") is None:
        raise CommandError(
            "The demo uses the official openai client, which is not installed.",
            "Install it: pip install openai (`make demo` does).",
            code=ExitCode.UNREACHABLE,
        )
    with ended_by_signals(), _scratch() as directory:
        if arguments.broken:
            from counterfoil.cli.demo_break import break_things

            return break_things(directory)
        return _chat(directory, arguments.prompt)


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="counterfoil-demo-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _chat(directory: Path, prompt: str) -> int:
    model = _embedded_model()
    config = write_config(directory, {model: [{"provider": "local", "model": model}]})
    print_line("Starting a gateway with the embedded model ...")
    with gateway_child(config, directory) as gateway:
        print_line(f"It listens on {gateway.url}, process {gateway.pid}.\n")
        print_line(f"> {prompt}")
        sys.stdout.flush()
        told = ask(gateway, model, prompt, _show)
        print_line("\n")
        if told.error is not None:
            raise CommandError(f"The chat failed: {told.error}", code=ExitCode.UNREACHABLE)
        entry = entry_of(directory, told.attempt)
    return _compare(told, entry)


def _embedded_model() -> str:
    try:
        weights = installed()
    except LocalError as error:
        raise CommandError(error.what, error.remedy) from error
    if importlib.util.find_spec("xllamacpp") is None:
        raise CommandError(
            "The embedded model's engine is not installed.",
            "Install it: pip install 'counterfoil[local]'",
            code=ExitCode.UNREACHABLE,
        )
    if weights is None:
        raise CommandError("The embedded model is not installed.", "Install it: counterfoil local install")
    return weights.model_name


def write_config(directory: Path, models: Mapping[str, Sequence[Mapping[str, object]]]) -> Path:
    """A gateway's configuration with these routes. JSON is YAML."""
    path = directory / "gateway.yaml"
    path.write_text(json.dumps({"models": models, "discover": False}, indent=2), encoding="utf-8")
    return path


def ask(gateway: GatewayChild, model: str, prompt: str, on_text: Callable[[str, int], bool]) -> Told:
    """Stream one chat with the official client. `on_text` gets each piece and its number; False hangs up."""
    import httpx
    import openai

    told = Told()
    client = openai.OpenAI(
        base_url=gateway.url,
        api_key="none-needed",
        max_retries=0,
        timeout=120.0,
        http_client=openai.DefaultHttpxClient(trust_env=False),  # a proxy is for the world outside
    )
    with client:
        try:
            answer = client.chat.completions.with_raw_response.create(
                model=model,
                messages=[{"role": "user", "content": prompt}],
                max_tokens=_LONGEST,
                stream=True,
                stream_options={"include_usage": True},
            )
            told.attempt = answer.headers.get("x-counterfoil-attempt", "")
            with answer.parse() as stream:
                for frame in stream:
                    if frame.usage is not None:
                        told.usage = _figures(frame.usage.model_dump())
                    piece = frame.choices[0].delta.content if frame.choices else None
                    if piece:
                        told.pieces += 1
                        told.text += piece
                        if not on_text(piece, told.pieces):
                            break
        except (openai.OpenAIError, httpx.HTTPError) as error:
            told.error = str(error) or type(error).__name__
    return told


def _figures(usage: dict[str, object]) -> dict[str, int | None]:
    """The client's usage object under the ledger's names."""
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    said = (usage.get("prompt_tokens"), usage.get("completion_tokens"), usage.get("total_tokens"), cached)
    return {name: value if isinstance(value, int) else None for name, value in zip(_FIGURES, said, strict=True)}


def entry_of(directory: Path, attempt: str) -> EntryView:
    """The closed entry of an attempt. A reply is booked before its last frame is sent, a hang-up soon after it."""
    books = Books(directory / LEDGER_NAME)
    deadline = time.monotonic() + _BOOKED_SECONDS
    while True:
        view = view_of(books.find(attempt))
        if view.exit != OPEN or time.monotonic() > deadline:
            return view
        time.sleep(0.05)


def _show(piece: str, _number: int) -> bool:
    sys.stdout.write(piece)
    sys.stdout.flush()
    return True


def _compare(told: Told, entry: EntryView) -> int:
    usage = told.usage or {}
    booked = msgspec.structs.asdict(entry.usage)
    rows = []
    agree = told.usage is not None and entry.exit == "completed"
    for figure in _FIGURES:
        if usage.get(figure) is None and booked[figure] is None:
            continue
        same = usage.get(figure) == booked[figure]
        agree = agree and same
        voucher = entry.provenance.get(figure)
        rows.append(
            (
                figure.replace("_", " "),
                tokens(usage.get(figure)),
                tokens(booked[figure]),
                "" if same else "NOT THE SAME",
                ""
                if voucher is None
                else f"{voucher.value} by the provider"
                if voucher == "reported"
                else voucher.value,
            )
        )
    print_table(("", "client", "ledger", "", "vouched for"), rows, right=("client", "ledger"))
    cost = "unpriced" if entry.cost is None else f"${entry.cost}"
    print_line(f"\nentry {entry.attempt}: {entry.exit}, {cost}")
    print_line("Client and ledger agree." if agree else "CLIENT AND LEDGER DO NOT AGREE.")
    print_line("\nNext: counterfoil demo --break    or    counterfoil serve")
    return ExitCode.DONE if agree else ExitCode.WRONG
