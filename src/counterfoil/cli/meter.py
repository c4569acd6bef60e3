"""`counterfoil meter`: recorded exchanges read on the gateway's own core, one JSON object a line.

Rule 1: nothing is counted here. A record is opened, its bytes go through `exchange.recorded`, what comes out is shown.
Rule 2: a record of a language that is not spoken yet is left out and said so; it never gets guessed numbers.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import contextlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from counterfoil.cli.failure import CommandError, ExitCode, no_such_provider
from counterfoil.cli.output import print_json, print_note
from counterfoil.core.error import RequestError
from counterfoil.core.estimate import estimate_body
from counterfoil.core.event import TokensCounted
from counterfoil.dialects.dialect import ClientDialect, Dialect, Quirks, RequestPeek
from counterfoil.dialects.registry import DIALECTS
from counterfoil.exchange.recorded import ReadReply, read_reply
from counterfoil.exchange.reply import is_streamed
from counterfoil.ledger.entry import figures, vouchers
from counterfoil.providers.provider import Provider
from counterfoil.providers.table import proven_by
from counterfoil.usage.settle import Discrepancy
from counterfoil.usage.usage import Bucket, Provenance

__all__ = [
    "DESCRIPTION",
    "EXAMPLES",
    "RECORDED_DIALECTS",
    "MeterLine",
    "Record",
    "Recorded",
    "arrange",
    "measure",
    "read_record",
    "run",
]

DESCRIPTION = """\
Read recorded exchanges as the gateway would have read them and print one JSON
object a line: what was used, who vouches for it, how the reply ended, and what
does not add up. A FILE is a recorded exchange as JSON (request, response,
dialect, provider), or the bytes of one reply with --dialect. Directories are
read through, in order. Nothing is estimated without --estimate."""
EXAMPLES = """\
  counterfoil meter recordings/
  counterfoil meter --estimate one.json | jq .output_tokens
  curl -sN ... | counterfoil meter --dialect openai_chat --provider groq -"""

RECORDED_DIALECTS: Final[Mapping[str, str]] = {
    "anthropic.count_tokens": "anthropic_messages.count",
    "anthropic.messages": "anthropic_messages",
    "azure.chat": "openai_chat",
    "bedrock.converse": "bedrock_converse",
    "bedrock.countTokens": "bedrock_converse.count",
    "bedrock.invoke": "bedrock_invoke",
    "cohere.embed": "cohere.embed",
    "cohere.rerank": "cohere.rerank",
    "cohere.v1": "cohere_v1",
    "cohere.v2": "cohere",
    "gemini.countTokens": "gemini.count",
    "gemini.embedContent": "gemini.embed",
    "gemini.generateContent": "gemini",
    "gemini.interactions": "gemini_interactions",
    "mistral.chat": "openai_chat",
    "ollama.chat": "ollama",
    "ollama.embed": "ollama.embed",
    "ollama.generate": "ollama.generate",
    "openai.chat": "openai_chat",
    "openai.completions": "openai_completions",
    "openai.embeddings": "openai_embeddings",
    "openai.responses": "openai_responses",
    "openai.responses.input_tokens": "openai_responses.count",
    "vertex.predict_embed": "vertex_predict",
    "voyage.rerank": "voyage.rerank",
}
"""What recordings call a dialect, and what it is called here."""

_LARGEST: Final = 64 << 20
"""Bytes of one recording at most."""
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, binascii.Error, ValueError)


class _Response(msgspec.Struct, frozen=True):
    status: int = 200
    headers: Mapping[str, str | list[str]] | None = None
    body: Any = None
    body_base64: str | None = None


class _Request(msgspec.Struct, frozen=True):
    body: Any = None


class Record(msgspec.Struct, frozen=True):
    """One recorded exchange, as far as it is looked at."""

    dialect: str
    response: _Response
    id: str | None = None
    provider: str = ""
    model: str | None = None
    stream: bool | None = None
    request: _Request | None = None


class Recorded(msgspec.Struct, frozen=True):
    """A reply ready to be read, and everything its reading needs."""

    id: str
    dialect: Dialect[Any]
    data: bytes
    streamed: bool
    provider: Provider | None = None
    model: str = ""
    status: int = 200
    headers: Mapping[str, str] = {}
    asked: RequestPeek = RequestPeek("")
    request: bytes | None = None

    def read(self, pieces: Sequence[bytes] | None = None, *, estimate: bool = False) -> ReadReply:
        """Read it, cut into `pieces` if given."""
        row = self.provider
        default = self.dialect.convention
        return read_reply(
            (self.data,) if pieces is None else pieces,
            self.dialect,
            streamed=self.streamed,
            convention=self.asked.reads(default if row is None else row.convention_for(self.model, default)),
            quirks=Quirks() if row is None else row.quirks_for(self.model),
            choices=self.asked.choices,
            inputs=self.asked.inputs,
            status=self.status,
            headers=self.headers,
            input_estimate=estimate_body(self.request) if estimate and self.request is not None else None,
            estimate=estimate,
        )


class MeterLine(msgspec.Struct, frozen=True):
    """What is printed for one recording."""

    id: str
    input_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    total_tokens: int | None
    provider_total: int | None
    search_units: int | None
    images: int | None
    billed: Mapping[Bucket, int] | None
    """What is priced, where the provider's bill is not of what was used."""
    provenance: Mapping[str, Provenance]
    exit: str
    discrepancies: tuple[Discrepancy, ...]
    text_sha256: str | None
    counted_tokens: int | msgspec.UnsetType = msgspec.UNSET
    """What a count of tokens found. Counting uses nothing: it is no usage."""


class _Unsupported(Exception):
    """A recording in a dialect that is not read here: its id and the dialect."""

    def __init__(self, recording: str, dialect: str) -> None:
        super().__init__(dialect)
        self.recording = recording


def arrange(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE|DIR", help="what to read; - is standard input")
    parser.add_argument("--estimate", action="store_true", help="estimate what nobody reported from what was delivered")
    raw = parser.add_argument_group("the bytes of a reply instead of a recording")
    raw.add_argument("--dialect", choices=sorted(DIALECTS), help="what the bytes are; streamed or whole is found out")
    raw.add_argument("--provider", help="who sent them: how it counts (default: as the dialect does)")
    raw.add_argument("--model", default="", help="some providers count differently by model")


def run(arguments: argparse.Namespace) -> int:
    table = _providers()
    if arguments.dialect is None and arguments.provider is not None:
        raise CommandError(
            "--provider is for the bytes of a reply.",
            "Give --dialect too; a recording names its own.",
            code=ExitCode.USAGE,
        )
    if arguments.provider is not None and arguments.provider not in table:
        raise no_such_provider(arguments.provider, table, code=ExitCode.USAGE)
    unsupported: Counter[str] = Counter()
    unreadable = 0
    printed = 0
    for name, data in _contents(arguments.files, raw=arguments.dialect is not None):
        try:
            if arguments.dialect is not None:
                row = table.get(arguments.provider)
                recorded = _bytes(name, data, DIALECTS[arguments.dialect], row, arguments.model)
            else:
                recorded = read_record(name, data, table)
        except _Unsupported as error:
            unsupported[str(error)] += 1
            print_json({"id": error.recording, "unsupported": str(error)})
            continue
        except _UNREADABLE as error:
            unreadable += 1
            print_note(f"{name}: not a recorded exchange: {error}")
            continue
        print_json(measure(recorded, estimate=arguments.estimate))
        printed += 1
    if unsupported or unreadable:
        raw = "" if arguments.dialect else " (the bytes of a reply need --dialect)"
        why = [f"{unreadable} not a recorded exchange{raw}"] if unreadable else []
        why += [f"unsupported: {dialect} ({count})" for dialect, count in sorted(unsupported.items())]
        print_note(f"{printed} read, {unsupported.total() + unreadable} left out: {', '.join(why)}")
        return ExitCode.PARTIAL
    if not printed:
        raise CommandError("There is no recording (*.json) in there.", "Name a file, or give --dialect for raw bytes.")
    return ExitCode.DONE


def measure(recorded: Recorded, *, estimate: bool = False) -> MeterLine:
    """The line of one recording."""
    reply = recorded.read(estimate=estimate)
    settlement = reply.settlement
    shown = figures(settlement.usage, settlement.provider_total)
    return MeterLine(
        id=recorded.id,
        **msgspec.structs.asdict(shown),
        billed=settlement.usage.billed,
        provenance=vouchers(settlement.usage),
        exit=reply.exit.value,
        discrepancies=settlement.discrepancies,
        text_sha256=reply.text_sha256,
        counted_tokens=next(
            (event.input_tokens for event in reply.events if isinstance(event, TokensCounted)), msgspec.UNSET
        ),
    )


def read_record(name: str, data: bytes, table: Mapping[str, Provider]) -> Recorded:
    """A recording's JSON. Raises ValueError (with msgspec's errors) when it is none, `_Unsupported` for its dialect."""
    record = msgspec.json.decode(data, type=Record)
    known = RECORDED_DIALECTS.get(record.dialect, record.dialect)
    if known not in DIALECTS:
        raise _Unsupported(record.id or name, record.dialect)
    dialect, response, request = DIALECTS[known], record.response, record.request
    headers = {key.lower(): _one(value) for key, value in (response.headers or {}).items()}
    body = _body(response)
    asked = request.body if request is not None else None
    wanted = record.stream if record.stream is not None else isinstance(asked, dict) and asked.get("stream") is True
    return Recorded(
        id=record.id or name,
        dialect=dialect,
        data=body,
        streamed=is_streamed(headers, dialect, asked=wanted),
        provider=proven_by(table, f"{record.dialect}/{record.provider}") or _row(table, record.provider, known),
        model=record.model or "",
        status=response.status,
        headers=headers,
        asked=_peek(dialect, asked),
        request=None if asked is None else msgspec.json.encode(asked),
    )


def _peek(dialect: Dialect[Any], asked: object) -> RequestPeek:
    """What the request says of its reply; of one that is not whole (without its model), how many choices it asks."""
    if isinstance(dialect, ClientDialect):
        with contextlib.suppress(RequestError):
            return dialect.peek_request(msgspec.json.encode(asked))
    choices = asked.get("n") if isinstance(asked, dict) else None
    return RequestPeek("", choices=choices if type(choices) is int and choices > 0 else 1)


def _bytes(name: str, data: bytes, dialect: Dialect[Any], row: Provider | None, model: str) -> Recorded:
    """A reply's own bytes. An object or an array is a whole reply; anything else is a stream."""
    streamed = data.lstrip()[:1] not in (b"{", b"[")
    return Recorded(id=name, dialect=dialect, data=data, streamed=streamed, provider=row, model=model)


def _body(response: _Response) -> bytes:
    if response.body_base64 is not None:
        return base64.b64decode(response.body_base64, validate=True)
    if isinstance(response.body, str):
        return response.body.encode("utf-8", "surrogatepass")
    return b"" if response.body is None else msgspec.json.encode(response.body)


def _one(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def _row(table: Mapping[str, Provider], name: str, dialect: str) -> Provider | None:
    row = table.get(name)
    return row.face(dialect) if row is not None and dialect in row.dialects else None


def _contents(names: Sequence[str], *, raw: bool) -> Iterator[tuple[str, bytes]]:
    """The files, and those inside directories in order (of recordings: `*.json`)."""
    for name in names:
        if name == "-":
            yield "-", sys.stdin.buffer.read(_LARGEST)
            continue
        path = Path(name)
        if path.is_dir():
            inside = sorted(found for found in path.rglob("*" if raw else "*.json") if found.is_file())
            for found in inside:
                yield str(found), _bytes_of(found)
        else:
            yield name, _bytes_of(path)


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror or error}.") from error


def _providers() -> Mapping[str, Provider]:
    from importlib import resources

    from counterfoil.providers.table import read_table

    text = (resources.files("counterfoil.providers") / "providers.toml").read_text(encoding="utf-8")
    return read_table(text, DIALECTS)
