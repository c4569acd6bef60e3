"""How far the estimates of `counterfoil.core.estimate` are from what providers report.

    python bench/estimate.py

Reads the recorded exchanges beside the checkout. Output: visible text, refusals and tool calls against the reported
output without reasoning, for replies of 30 tokens or more that hide nothing. Input: requests against the reported
input; providers add prompts of their own (tools, searches, templates), which no estimate can see.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from counterfoil.core.error import CounterfoilError
from counterfoil.core.estimate import TOOL_CALL_TOKENS, Tally, estimate_body, estimate_request
from counterfoil.core.event import (
    OpaqueGiven,
    ReasoningDelta,
    ReasoningSigned,
    RedactedReasoningGiven,
    RefusalDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from counterfoil.dialects.dialect import Dialect, Quirks
from counterfoil.dialects.registry import DIALECTS
from counterfoil.framing.whole import WholeFraming
from tests import wire

__all__ = ["main"]

_DIALECTS = {
    "openai.chat": "openai_chat",
    "azure.chat": "openai_chat",
    "mistral.chat": "openai_chat",
    "anthropic.messages": "anthropic_messages",
}
_LEAST = 30


def main() -> int:
    """Print the errors. Exits with 1 when there are no recordings."""
    if wire.shared() is None:
        print(wire.ABSENT)
        return 1
    for title, tools in (("prose", False), ("with tool calls", True)):
        _show(f"output, {title}", [pair for pair, called in _outputs() if called is tools])
    for title, tools in (("no tools", False), ("tools", True)):
        _show(f"input, {title}, request", list(_inputs(_of_request, tools)))
        _show(f"input, {title}, body", list(_inputs(lambda _, body: estimate_body(body), tools)))
    tally = Tally()
    _speed("Tally.add, 6 ASCII characters", lambda: tally.add(" hello"))
    _speed("Tally.add, 6 Cyrillic characters", lambda: tally.add("привет"))
    small, huge = b'{"a b":"c d"}' * 150, b'{"a b":"c d"}' * 2_500_000
    _speed("estimate_body, 2 kB", lambda: estimate_body(small))
    _speed("estimate_body, 32 MB", lambda: estimate_body(huge), times=5)
    return 0


def _outputs() -> Iterator[tuple[tuple[int, int], bool]]:
    """(estimate, reported) of each reply, and whether it called tools."""
    for recording in wire.records(*(f"{name}/" for name in _DIALECTS)):
        truth = wire.expected().get(recording.id)
        if truth is None or truth.output_tokens is None or recording.response.status >= 400:
            continue
        visible = truth.output_tokens - (truth.reasoning_tokens or 0)
        tally, called, hidden = _seen(recording)
        if visible >= _LEAST and tally.tokens and not hidden:
            yield (tally.tokens, visible), called


def _seen(recording: wire.Recording) -> tuple[Tally, bool, bool]:
    """What was visible, whether tools were called, and whether there was output of another kind."""
    dialect = DIALECTS[_DIALECTS[recording.dialect]]
    framing = dialect.framing(1 << 23) if recording.stream else WholeFraming(1 << 25)
    decoder = dialect.decoder(recording.stream, 1, Quirks())
    frames = framing.feed(recording.response_body)
    if (last := framing.close()) is not None:
        frames.append(last)
    tally, called, hidden = Tally(), False, False
    for frame in frames:
        for event in decoder.feed(frame):
            match event:
                case TextDelta(text=text) | RefusalDelta(text=text) | ToolArgumentsDelta(arguments=text):
                    tally.add(text)
                case ToolCallStarted(name=name):
                    called = True
                    tally.add_tokens(TOOL_CALL_TOKENS)
                    tally.add(name)
                case ReasoningDelta() | ReasoningSigned() | RedactedReasoningGiven() | OpaqueGiven():
                    hidden = True
                case _:
                    pass
    return tally, called, hidden


def _of_request(dialect: Dialect, body: bytes) -> int:
    return estimate_request(dialect.read_request(body))


def _inputs(estimate: Callable[[Dialect, bytes], int], tools: bool) -> Iterator[tuple[int, int]]:
    for recording in wire.records(*(f"{name}/" for name in _DIALECTS)):
        truth, body = wire.expected().get(recording.id), recording.request_body
        if truth is None or not truth.input_tokens or not isinstance(body, dict):
            continue
        if bool(body.get("tools")) is not tools:
            continue
        try:
            yield estimate(DIALECTS[_DIALECTS[recording.dialect]], msgspec.json.encode(body)), truth.input_tokens
        except CounterfoilError:
            continue


def _show(title: str, pairs: list[tuple[int, int]]) -> None:
    errors = sorted(estimate / truth - 1 for estimate, truth in pairs)
    low, middle, high = statistics.quantiles(errors, n=4)
    print(
        f"{title:28} n={len(errors):4}  median error {middle:+.0%}  middle half {low:+.0%} to {high:+.0%}"
        f"  median size of error {statistics.median(map(abs, errors)):.0%}"
        f"  median difference {statistics.median(estimate - truth for estimate, truth in pairs):+.0f} tokens"
    )


def _speed(title: str, call: Callable[[], object], times: int = 20_000) -> None:
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(times):
            call()
        best = min(best, time.perf_counter() - start)
    print(f"{title:34} {best / times * 1e6:10.2f} us")


if __name__ == "__main__":
    raise SystemExit(main())
