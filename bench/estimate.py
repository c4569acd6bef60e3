"""How far estimates are from what providers report: those made in line, and those counted by a vocabulary.

    python bench/estimate.py [--each]

Reads the recorded exchanges beside the checkout, all dialects that are spoken. What is compared:

Output. What was seen of a reply (text, refusals, tool calls) with the reported output without its reported reasoning.
Where no reasoning was reported and its whole text was sent (open models, on the chat wires), reasoning is on both
sides. Left out: replies that hide something (encrypted reasoning, summaries of it that nobody counted apart, server
tools, sound), and failures. Groups hold replies of 30 tokens or more. A model that thinks has marks around its answer,
and OpenAI's count more for it than text and reasoning: such replies stand apart.

Input. What the request holds with the reported input, cache included, where that is 50 tokens or more. Providers add
words of their own for tools, searches and templates, which nobody sees; a picture or a document has a flat figure.

Nothing of a recording is printed but its name (with --each), its model and its numbers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from counterfoil.cli.meter import RECORDED_DIALECTS, Recorded, read_record
from counterfoil.config import Limits
from counterfoil.core.error import CounterfoilError
from counterfoil.core.estimate import Tally, estimate_body
from counterfoil.core.event import (
    Event,
    OpaqueGiven,
    ReasoningDelta,
    RedactedReasoningGiven,
    TextDelta,
    ToolCallStarted,
)
from counterfoil.core.operation import Operation
from counterfoil.dialects.dialect import ClientDialect, Quirks
from counterfoil.dialects.registry import DIALECTS
from counterfoil.driver.corrector import input_tokens
from counterfoil.driver.deployment import load_table
from counterfoil.driver.vocabulary import Vocabularies, available, vocabulary_of
from counterfoil.exchange.meter import Meter
from counterfoil.exchange.reply import Reply
from counterfoil.exchange.transcript import CALL_TOKENS, KeepingMeter, Transcript
from counterfoil.testing import chat_reply
from tests import wire

__all__ = ["main"]

LEAST: Final = 30
LEAST_INPUT: Final = 50
ENOUGH: Final = 5
"""A group of fewer is shown by its number only."""
SHOWN_THINKING: Final = frozenset({"openai_chat", "ollama", "openai_completions"})
"""Dialects in which reasoning is sent as it was thought; others send summaries, or nothing."""
_PICTURES: Final = (b"image", b"inlineData", b"inline_data", b'"file', b'"document"', b"input_audio", b"fileData")


class Measured(NamedTuple):
    """One reply: what was reported of what could be seen, and what two ways of counting make of it."""

    name: str
    dialect: str
    kind: str
    thought: bool
    """The model reasoned, as far as anybody said."""
    reported: int
    in_line: int
    exact: int | None
    """None: nobody knows the model's vocabulary."""
    calls: int
    text: int | None
    """`exact` without what stands around tool calls."""


class Asked(NamedTuple):
    """One request: the reported input, and what ways of counting make of it."""

    name: str
    dialect: str
    kind: str
    reported: int
    in_line: int
    exact: int | None


class _Room:
    def take(self, amount: int) -> bool:
        return True

    def give_back(self, amount: int) -> None:
        pass


def main() -> int:
    """Print the errors. Exits with 1 when there are no recordings."""
    parser = argparse.ArgumentParser(description="How far estimates are from what providers report.")
    parser.add_argument("--each", action="store_true", help="one line for each reply, too")
    each = parser.parse_args().each
    if wire.shared() is None:
        print(wire.ABSENT)
        return 1
    if not available():
        print("splintr-rs is not installed: only the estimates made in line are shown")
    replies, requests = list(_replies()), list(_requests())
    for reply in replies if each else ():
        print(*reply, sep="\t")
    _outputs(replies)
    _inputs(requests)
    _speeds()
    return 0


def _outputs(replies: Sequence[Measured]) -> None:
    print(f"output, replies of {LEAST} tokens or more: size of the error")
    long = [one for one in replies if one.reported >= LEAST]
    for thought, title in ((False, "no reasoning"), (True, "beside reasoning")):
        _heads(title)
        chosen = [one for one in long if one.thought is thought]
        for kind in ("prose", "other scripts", "JSON", "tool calls"):
            _row(kind, [one for one in chosen if one.kind == kind])
        _row("all", chosen)
    _heads("dialect")
    for dialect in sorted({one.dialect for one in long}):
        _row(dialect, [one for one in long if one.dialect == dialect])
    around = [(one.reported - one.text) / one.calls for one in replies if one.calls and one.text is not None]
    if around:
        low, middle, high = statistics.quantiles(around, n=4)
        span = f"{middle:.0f} tokens, middle half {low:.0f} to {high:.0f}, n={len(around)}"
        print(f"a tool call beside its name and arguments: median {span}")


def _inputs(requests: Sequence[Asked]) -> None:
    print("\ninput: size of the error")
    _heads("request")
    for kind in ("text", "tools", "pictures and documents"):
        _row(kind, [one for one in requests if one.kind == kind])
    _row("all", requests)


def _heads(title: str) -> None:
    columns = f"{'n':>5}{'median':>9}{'9 of 10':>9}{'lean':>7}"
    print(f"{title:24}{columns}   {columns}{'in line':>9}")


def _row(title: str, group: Sequence[Measured | Asked]) -> None:
    known = [one for one in group if one.exact is not None]
    line = _errors([one.in_line / one.reported - 1 for one in group])
    exact = _errors([(one.exact or 0) / one.reported - 1 for one in known])
    beside = [abs(one.in_line / one.reported - 1) for one in known]
    same = f"{statistics.median(beside):9.0%}" if len(beside) >= ENOUGH else ""
    print(f"{title:24}{line}   {exact}{same}")


def _errors(errors: Sequence[float]) -> str:
    """How many, the median and the ninth tenth of their size, and the median itself: to which side they lean."""
    if len(errors) < ENOUGH:
        return f"{len(errors):5}{'':9}{'':9}{'':7}"
    sizes = sorted(map(abs, errors))
    tenth = statistics.quantiles(sizes, n=10, method="inclusive")[8]
    return f"{len(errors):5}{statistics.median(sizes):9.0%}{tenth:9.0%}{statistics.median(errors):+7.0%}"


# ---- what is read


def _recorded(operation: Operation) -> Iterator[tuple[Recorded, wire.Expected]]:
    table, directory = load_table(), wire.shared()
    for name in wire.ids():
        dialect = RECORDED_DIALECTS.get(name.partition("/")[0])
        truth = wire.expected().get(name)
        if dialect not in DIALECTS or truth is None or directory is None:
            continue
        recorded = read_record(name, (directory / "wire" / f"{name}.json").read_bytes(), table)
        if recorded.dialect.operation is operation and recorded.status < 300:
            yield recorded, truth


def _replies() -> Iterator[Measured]:
    vocabularies = Vocabularies()
    for recorded, truth in _recorded(Operation.CHAT):
        if truth.output_tokens is None:
            continue
        events = recorded.read().events
        thought = any(isinstance(event, ReasoningDelta) for event in events)
        apart = truth.reasoning_tokens is not None
        if _hides(events) or (thought and not apart and recorded.dialect.name not in SHOWN_THINKING):
            continue
        meter, transcript = Meter("", None), Transcript(_Room(), 1 << 30)
        meter.see(events)
        transcript.see(events)
        seen = meter.delivered
        reported = truth.output_tokens - (truth.reasoning_tokens or 0)
        if reported < 1 or not seen.output:
            continue
        vocabulary = vocabulary_of(recorded.model) if available() else None
        exact = text = None
        calls = sum(isinstance(event, ToolCallStarted) for event in events)
        if vocabulary is not None:
            counted = transcript.counted(seen, partial(vocabularies.count, vocabulary))
            exact = counted.output + (0 if apart else counted.reasoning)
            text = exact - calls * CALL_TOKENS
        in_line = seen.output + (0 if apart else seen.reasoning)
        thought = thought or bool(truth.reasoning_tokens)
        kind = _kind(events, calls)
        yield Measured(recorded.id, recorded.dialect.name, kind, thought, reported, in_line, exact, calls, text)


def _hides(events: Sequence[Event]) -> bool:
    return any(isinstance(event, RedactedReasoningGiven | OpaqueGiven) for event in events)


def _kind(events: Sequence[Event], calls: int) -> str:
    text = "".join(event.text for event in events if isinstance(event, TextDelta)).strip()
    if calls:
        return "tool calls"
    if text[:1] in ("{", "["):
        return "JSON"
    return "other scripts" if sum(ord(letter) > 0x24F for letter in text) > 0.1 * len(text) else "prose"


def _requests() -> Iterator[Asked]:
    vocabularies = Vocabularies()
    for recorded, truth in _recorded(Operation.CHAT):
        if (truth.input_tokens or 0) < LEAST_INPUT or recorded.request is None or recorded.request[:1] != b"{":
            continue
        vocabulary = vocabulary_of(recorded.model) if available() else None
        exact = None
        if vocabulary is not None and isinstance(recorded.dialect, ClientDialect):
            try:
                request = recorded.dialect.read_request(recorded.request)
            except CounterfoilError:
                continue
            exact = input_tokens(request, partial(vocabularies.count, vocabulary))
        in_line, reported = estimate_body(recorded.request), truth.input_tokens or 0
        yield Asked(recorded.id, recorded.dialect.name, _holds(recorded.request), reported, in_line, exact)


def _holds(request: bytes) -> str:
    if any(word in request for word in _PICTURES):
        return "pictures and documents"
    return "tools" if b'"tools":[{' in request or b'"toolConfig"' in request else "text"


# ---- what it costs


def _speeds() -> None:
    print()
    tally = Tally()
    _speed("Tally.add, 6 ASCII characters", lambda: tally.add(" hello"))
    _speed("Tally.add, 6 Cyrillic characters", lambda: tally.add("привет"))
    small, huge = b'{"a b":"c d"}' * 150, b'{"a b":"c d"}' * 2_500_000
    _speed("estimate_body, 2 kB", lambda: estimate_body(small))
    _speed("estimate_body, 32 MB", lambda: estimate_body(huge), times=5)
    stream = chat_reply(text=("tide ",) * 1000, shape="absent").body
    _speed("1,000 frames read and metered", lambda: _follow(stream, keep=False), times=10)
    _speed("the same, their text kept", lambda: _follow(stream, keep=True), times=10)
    if available():
        vocabularies, text = Vocabularies(), "The report explains why the bills differ from what was shown.\n" * 16_000
        for vocabulary in ("o200k_base", "llama2"):
            _speed(f"1 MB by {vocabulary}", partial(vocabularies.count, vocabulary, text), times=1)


def _follow(stream: bytes, *, keep: bool) -> None:
    meter = KeepingMeter("", None, Transcript(_Room(), 1 << 30)) if keep else Meter("", None)
    reply = Reply(DIALECTS["openai_chat"], meter, streamed=True, choices=1, quirks=Quirks(), limits=Limits())
    for start in range(0, len(stream), 1000):
        reply.feed(stream[start : start + 1000])


def _speed(title: str, call: Callable[[], object], times: int = 20_000) -> None:
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(times):
            call()
        best = min(best, time.perf_counter() - start)
    print(f"{title:34} {best / times * 1e6:12.2f} us")


if __name__ == "__main__":
    raise SystemExit(main())
