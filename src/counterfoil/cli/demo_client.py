"""The client side of the demo: the official client, and the entry of what it asked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from counterfoil.cli.child import GatewayChild
from counterfoil.cli.ledger import BooksReader
from counterfoil.cli.places import LEDGER_NAME
from counterfoil.ledger.entry import OPEN
from counterfoil.stores.view import EntryView, view_of

__all__ = ["COMPARED", "Told", "ask", "entry_of", "write_config"]

_LONGEST: Final = 64
"""Tokens of the reply: enough to see it stream, short on a slow machine."""
COMPARED: Final = ("input_tokens", "output_tokens", "total_tokens", "cache_read_tokens")
"""The figures that a chat client and the ledger both have."""
_BOOKED_SECONDS: Final = 10.0


class Told(msgspec.Struct):
    """What a client was told."""

    attempt: str = ""
    pieces: int = 0
    text: str = ""
    usage: dict[str, int | None] | None = None
    error: str | None = None


def write_config(directory: Path, models: Mapping[str, Sequence[Mapping[str, object]]]) -> Path:
    """A gateway's configuration with these routes. JSON is YAML."""
    path = directory / "gateway.yaml"
    path.write_text(json.dumps({"models": models, "discover": False}, indent=2), encoding="utf-8")
    return path


def ask(gateway: GatewayChild, model: str, prompt: str, on_text: Callable[[str, int], bool]) -> Told:
    """Stream one chat with the official client. `on_text` gets each piece and its number; False hangs up."""
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
        except Exception as error:  # noqa: BLE001 - a gateway that is killed surfaces as its HTTP library's own error
            told.error = str(error) or type(error).__name__
    return told


def _figures(usage: dict[str, object]) -> dict[str, int | None]:
    """The client's usage object under the ledger's names."""
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    said = (usage.get("prompt_tokens"), usage.get("completion_tokens"), usage.get("total_tokens"), cached)
    return {name: value if isinstance(value, int) else None for name, value in zip(COMPARED, said, strict=True)}


def entry_of(directory: Path, attempt: str) -> EntryView:
    """The closed entry of an attempt. A reply is booked before its last frame is sent, a hang-up soon after it."""
    books = BooksReader(directory / LEDGER_NAME)
    deadline = time.monotonic() + _BOOKED_SECONDS
    while True:
        view = view_of(books.find(attempt))
        if view.exit != OPEN or time.monotonic() > deadline:
            return view
        time.sleep(0.05)
