"""The replies that fuzzing begins with: our own, in files of `fuzz/corpus` and made here, and recorded ones if present.

A reply is written to a file as one letter and its bytes. The letter says how it is read: `s` streamed, `w` whole, `S`
and `W` the same with two choices and the quirks of providers that report and end differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from counterfoil.cli.meter import RECORDED_DIALECTS, read_record
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.registry import DIALECTS
from counterfoil.driver.deployment import load_table
from counterfoil.testing import (
    CHAT_SHAPES,
    ChatReply,
    ConverseReply,
    Counts,
    GeminiReply,
    MessagesReply,
    ResponsesReply,
    Script,
    Send,
    Tool,
)

__all__ = ["CORPUS", "LARGEST", "Case", "case_of_bytes", "corpus", "recorded", "seeds", "shared", "written"]

CORPUS: Final = Path(__file__).parent / "corpus"
LARGEST: Final = 1 << 17
"""Bytes of a sample, so that a case takes milliseconds."""

_ODD: Final = Quirks(end="done", usage_per_choice=True)
_WAYS: Final[Mapping[int, tuple[bool, int, Quirks]]] = {
    ord("s"): (True, 1, Quirks()),
    ord("w"): (False, 1, Quirks()),
    ord("S"): (True, 2, _ODD),
    ord("W"): (False, 2, _ODD),
}
_LETTERS: Final = tuple(_WAYS)
_Plan = ChatReply | MessagesReply | ResponsesReply | GeminiReply | ConverseReply


class Case(NamedTuple):
    """A reply to read, as one dialect."""

    dialect: str
    streamed: bool
    choices: int
    quirks: Quirks
    data: bytes


def case_of_bytes(dialect: str, data: bytes) -> Case:
    """A file's bytes as a case. Any bytes are one."""
    first = data[0] if data else _LETTERS[0]
    streamed, choices, quirks = _WAYS[first if first in _WAYS else _LETTERS[first % len(_LETTERS)]]
    return Case(dialect, streamed and DIALECTS[dialect].operation.streams, choices, quirks, data[1:])


def written(case: Case) -> bytes:
    """A case as it is kept in a file; of its quirks only whether there are any."""
    odd = case.quirks != Quirks() or case.choices > 1
    letter = ("S" if odd else "s") if case.streamed else ("W" if odd else "w")
    return letter.encode() + case.data


def seeds(dialect: str) -> list[Case]:
    """The files of the corpus for one dialect."""
    found = sorted((CORPUS / f"decoder.{dialect}").glob("*"))
    return [case_of_bytes(dialect, path.read_bytes()) for path in found if path.is_file()]


def corpus(directory: Path | None) -> list[Case]:
    """Whole replies of every dialect to begin with; `directory`: that of recorded ones, if there is one."""
    kept = [case for dialect in DIALECTS for case in seeds(dialect)]
    return [*_made(), *kept, *recorded(directory)]


def recorded(directory: Path | None, dialect: str | None = None) -> Iterator[Case]:
    """The recorded replies, all or those of one dialect."""
    if directory is None:
        return
    table = load_table()
    for name in sorted(
        name for name, ours in RECORDED_DIALECTS.items() if ours in DIALECTS and dialect in (None, ours)
    ):
        for path in sorted((directory / "wire" / name).rglob("*.json")):
            record = read_record(path.stem, path.read_bytes(), table)
            if record.status < 300 and 0 < len(record.data) <= LARGEST:
                quirks = Quirks() if record.provider is None else record.provider.quirks_for(record.model)
                yield Case(record.dialect.name, record.streamed, min(record.asked.choices, 8), quirks, record.data)


def shared() -> Path | None:
    """Where recorded exchanges stand beside the checkout; None in a clone of one's own."""
    for parent in Path(__file__).resolve().parents:
        if (parent / "shared" / "wire").is_dir():
            return parent / "shared"
    return None


def _made() -> Iterator[Case]:
    tools = (Tool("tide", '{"port": "north", "days": [1, 2]}'), Tool("noon"))
    counts = Counts(input=40, output=20, cache_read=16, cache_write=8, reasoning=5)
    chats = [ChatReply(shape=shape, n=n) for shape in CHAT_SHAPES for n in (1, 2)]
    chats += [ChatReply(tools=tools, tool_deltas=how) for how in ("streamed", "whole", "no_index", "no_id")]
    chats += [ChatReply(error=error) for error in ("plain", "groq", "openrouter")]
    chats += [ChatReply(reasoning="It is noon.", parts=parts, usage=counts, role="every") for parts in (False, True)]
    chats += [ChatReply(crlf=True, comments=True, azure=True, logprobs=True), ChatReply(refusal="No.", text="")]
    chats += [ChatReply(stream=False, tools=tools, n=2, reasoning="So."), ChatReply(stream=False, parts=True)]
    chats += [ChatReply(finish_times=0), ChatReply(finish_times=2), ChatReply(done=False)]
    told = [
        MessagesReply(usage=counts, stream=stream, thinking=thinking, tools=tools, redacted="eA==", delta=delta)
        for stream in (True, False)
        for thinking in ("", "It is noon.")
        for delta in ("full", "output_only")
    ]
    told += [MessagesReply(error="overloaded_error"), MessagesReply(iterations=_ITERATIONS), MessagesReply(stop=False)]
    for dialect, plan in _others(tools, counts):
        yield Case(dialect, plan.stream, 1, Quirks(), _bytes(plan.script()))
    for chat in chats:
        for quirks in (Quirks(), _ODD):
            yield Case("openai_chat", chat.stream, chat.n, quirks, _bytes(chat.script()))
    for said in told:
        yield Case("anthropic_messages", said.stream, 1, Quirks(), _bytes(said.script()))


def _others(tools: tuple[Tool, ...], counts: Counts) -> Iterator[tuple[str, _Plan]]:
    for stream in (True, False):
        yield "openai_responses", ResponsesReply(stream=stream, tools=tools, reasoning="It is noon.", usage=counts)
        yield "openai_responses", ResponsesReply(stream=stream, refusal="No.", incomplete="max_output_tokens")
        yield "gemini", GeminiReply(stream=stream, tools=tools, thinking="It is noon.", usage=counts)
        yield "gemini", GeminiReply(stream=stream, form="array", blocked="SAFETY")
        yield "bedrock_converse", ConverseReply(stream=stream, tools=tools, thinking="It is noon.", usage=counts)
        yield "bedrock_converse", ConverseReply(stream=stream)
    yield "openai_responses", ResponsesReply(error="event_and_failed")
    yield "gemini", GeminiReply(form="array", tools=tools)
    yield "bedrock_converse", ConverseReply(exception="throttlingException")


_ITERATIONS: Final = (
    {"type": "compaction", "input_tokens": 90, "output_tokens": 7},
    {"type": "message", "input_tokens": 11, "output_tokens": 10},
)


def _bytes(script: Script) -> bytes:
    return b"".join(step.data for step in script.steps if isinstance(step, Send))
