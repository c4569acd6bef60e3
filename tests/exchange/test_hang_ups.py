"""A reply that is broken off, in every dialect that chats, at every one of its frames and however it is broken off.

What was reported before the break is kept, what was delivered after it is estimated once, and an estimate beside
output that nobody could see says that it is a lower bound.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec
import pytest

from counterfoil.core.estimate import TOOL_CALL_TOKENS, Tally
from counterfoil.dialects.registry import CLIENT_DIALECTS, DIALECTS
from counterfoil.exchange.command import Command, Deliver, Head, Interrupted
from counterfoil.exchange.route import Deployment
from counterfoil.ledger.entry import Entry, Exit
from counterfoil.testing import (
    ChatReply,
    ConverseReply,
    Counts,
    GeminiReply,
    MessagesReply,
    ResponsesReply,
    Script,
    Tool,
)
from counterfoil.testing.eventstream import EVENT_STREAM, event_message
from counterfoil.usage.usage import OUTPUT_BUCKETS, Bucket, Provenance
from tests.exchange.world import Played, World, call, check_books, deployment

__all__: list[str] = []

WORDS: Final = tuple(f"word{place} " for place in range(12))
ARGUMENTS: Final = '{"port":"the old harbour","hour":12}'
TOOL: Final = Tool("tide_at", ARGUMENTS, id="call_0")
TRUTH: Final = Counts(input=40, output=60)
ESTIMATE: Final = 9
"""What the world takes the request for."""


class Play(NamedTuple):
    """A stream as a provider sends it."""

    dialect: str
    kind: str
    frames: tuple[bytes, ...]


def _sse(value: object, event: str = "") -> bytes:
    named = f"event: {event}\n" if event else ""
    return f"{named}data: {json.dumps(value)}\n\n".encode()


def _cohere() -> Iterator[bytes]:
    def frame(kind: str, **more: object) -> bytes:
        return _sse({"type": kind, **more}, kind)

    def said(kind: str, index: int, **message: object) -> bytes:
        return frame(kind, index=index, delta={"message": message})

    yield frame("message-start", id="made", delta={"message": {"role": "assistant"}})
    yield said("content-start", 0, content={"type": "text", "text": ""})
    yield from (said("content-delta", 0, content={"text": word}) for word in WORDS)
    yield frame("content-end", index=0)
    function = {"name": TOOL.name, "arguments": ""}
    yield said("tool-call-start", 0, tool_calls={"id": "call_0", "type": "function", "function": function})
    for start in range(0, len(ARGUMENTS), 8):
        yield said("tool-call-delta", 0, tool_calls={"function": {"arguments": ARGUMENTS[start : start + 8]}})
    yield frame("tool-call-end", index=0)
    usage = {
        "billed_units": {"input_tokens": 5, "output_tokens": 50},
        "tokens": {"input_tokens": 40, "output_tokens": 60},
    }
    yield frame("message-end", delta={"finish_reason": "TOOL_CALL", "usage": usage})


def _ollama() -> Iterator[bytes]:
    def line(done: bool, message: object, **more: object) -> bytes:
        return json.dumps({"model": "play-1", "message": message, "done": done, **more}).encode() + b"\n"

    yield from (line(False, {"role": "assistant", "content": word}) for word in WORDS)
    called = {"function": {"name": TOOL.name, "arguments": json.loads(ARGUMENTS)}}
    yield line(False, {"role": "assistant", "content": "", "tool_calls": [called]})
    end = {"done_reason": "stop", "prompt_eval_count": 40, "eval_count": 60}
    yield line(True, {"role": "assistant", "content": ""}, **end)


def _invoke() -> Iterator[bytes]:
    """Claude's own events in Bedrock's wrapping."""
    for frame in MessagesReply(text=WORDS, tools=(TOOL,), usage=TRUTH).script().frames:
        said = next((line for line in frame.data.split(b"\n") if line.startswith(b"data: ")), None)
        if said is not None:
            yield event_message("chunk", {"bytes": base64.b64encode(said.removeprefix(b"data: ")).decode()})


def _played(dialect: str, script: Script) -> Play:
    return Play(dialect, dict(script.headers)["content-type"], tuple(frame.data for frame in script.frames))


PLAYS: Final[Mapping[str, Play]] = {
    "chat": _played("openai_chat", ChatReply(text=WORDS, tools=(TOOL,), usage=TRUTH).script()),
    "messages": _played("anthropic_messages", MessagesReply(text=WORDS, tools=(TOOL,), usage=TRUTH).script()),
    "responses": _played("openai_responses", ResponsesReply(text=WORDS, tools=(TOOL,), usage=TRUTH).script()),
    "gemini": _played("gemini", GeminiReply(text=WORDS, tools=(TOOL,), usage=TRUTH).script()),
    "gemini, an array": _played("gemini", GeminiReply(text=WORDS, tools=(TOOL,), usage=TRUTH, form="array").script()),
    "vertex": _played("gemini", GeminiReply(text=WORDS, tools=(TOOL,), usage=TRUTH, placement="last").script()),
    "converse": _played("bedrock_converse", ConverseReply(text=WORDS, tools=(TOOL,), usage=TRUTH).script()),
    "invoke": Play("bedrock_invoke", EVENT_STREAM, tuple(_invoke())),
    "cohere": Play("cohere", "text/event-stream", tuple(_cohere())),
    "ollama": Play("ollama", "application/x-ndjson", tuple(_ollama())),
}
EVERY: Final = pytest.mark.parametrize("name", PLAYS)
RUNNING: Final = {"gemini": True, "gemini, an array": True}
"""Those that report their output as it is made."""
FLOORS: Final = {"messages": 1, "invoke": 1}
"""Claude's head says an output that was made already: less it cannot be."""


def test_every_dialect_that_is_asked_for_a_chat_is_played_here() -> None:
    unasked = {"cohere_v1", "gemini_interactions"}  # metered only: their writers refuse
    chats = {name for name, one in DIALECTS.items() if one.operation.value == "chat"}
    assert chats - unasked == {play.dialect for play in PLAYS.values()}


def broken(play: Play, frames: int, exit_: Exit, client: str = "openai_chat", *, raw: bytes | None = None) -> Entry:
    """The entry of a reply that is broken off behind its first `frames` frames."""
    sent = [raw if raw is not None else b"".join(play.frames[:frames])]
    gone = exit_ is Exit.CLIENT_GONE
    last: bytes | Interrupted = b"" if exit_ is Exit.TRUNCATED else Interrupted(exit_)
    reads: list[bytes | Interrupted] = [*(data for data in sent if data), last]
    world = World(Played(Head(200, {"content-type": play.kind}), reads), interrupt=_hangs_up if gone else None)
    dialect = CLIENT_DIALECTS[client]
    world.run(call(_asked(play), dialect=dialect, body=_body(client)))
    check_books(world.log)
    return world.entry


def _asked(play: Play) -> Deployment:
    """Whom `play` is played by. Bedrock's invoke goes by the model's name."""
    return msgspec.structs.replace(deployment(DIALECTS[play.dialect]), model="anthropic.claude-play-1")


def _hangs_up(number: int, command: Command) -> Interrupted | None:
    return Interrupted(Exit.CLIENT_GONE) if isinstance(command, Deliver) else None


def _body(client: str) -> dict[str, object]:
    if client == "openai_responses":
        return {"input": "Tell me of the tide."}
    if client == "gemini":
        turn = {"role": "user", "parts": [{"text": "Tell me of the tide."}]}
        return {"contents": [turn], "counterfoilStream": True}
    return {}


def heard(play: Play, frames: int) -> int:
    """The estimate of all that the first `frames` frames say, by the dialect's own decoder but not by the meter."""
    from counterfoil.core.event import TextDelta, ToolArgumentsDelta, ToolCallStarted
    from counterfoil.exchange.recorded import read_reply

    reply = read_reply([b"".join(play.frames[:frames])], DIALECTS[play.dialect], streamed=True)
    text = "".join(event.text for event in reply.events if isinstance(event, TextDelta))
    told = "".join(event.arguments for event in reply.events if isinstance(event, ToolArgumentsDelta))
    calls = sum(isinstance(event, ToolCallStarted) for event in reply.events)
    assert "".join(WORDS).startswith(text)
    assert not told or json.dumps(json.loads(ARGUMENTS), separators=(",", ":")).startswith("".join(told.split(" ")[:1]))
    tally = Tally()
    tally.add(text)
    tally.add(told)
    return tally.tokens + calls * TOOL_CALL_TOKENS


@EVERY
@pytest.mark.parametrize("exit_", [Exit.TRUNCATED, Exit.LOST, Exit.TIMED_OUT, Exit.SHUTDOWN])
def test_wherever_a_reply_is_broken_off_what_was_reported_is_kept_and_the_rest_estimated_once(
    name: str, exit_: Exit
) -> None:
    play = PLAYS[name]
    before = -1
    for frames in range(1, len(play.frames)):
        entry = broken(play, frames, exit_)
        usage = entry.usage
        if entry.exit is Exit.COMPLETED:  # the finish came; only the report or the end mark did not
            assert frames >= len(play.frames) - 3
            continue
        assert entry.exit is exit_
        reported = entry.reading.reports > 0
        assert usage.input_tokens == (TRUTH.input if reported else ESTIMATE)
        assert usage.provenance[Bucket.INPUT] is (Provenance.PARTIAL if reported else Provenance.ESTIMATED)
        made = usage.output_tokens
        assert made is not None
        assert made >= before, frames
        before = made
        if not RUNNING.get(name):
            seen, floor = heard(play, frames), FLOORS.get(name, 0)
            assert made == max(seen, floor), frames
            assert usage.vouched(OUTPUT_BUCKETS) is (
                Provenance.PARTIAL if made == floor > seen else Provenance.ESTIMATED
            )


@EVERY
def test_a_client_that_hangs_up_pays_for_what_it_got(name: str) -> None:
    play = PLAYS[name]
    frames = len(play.frames) // 2
    entry = broken(play, frames, Exit.CLIENT_GONE)
    assert entry.exit is Exit.CLIENT_GONE
    assert not entry.lower_bound
    if RUNNING.get(name):
        assert entry.usage.provenance[Bucket.OUTPUT] is Provenance.PARTIAL
        assert (entry.usage.output_tokens or 0) > 0
    else:
        assert entry.usage.output_tokens == heard(play, frames)


@EVERY
def test_a_report_that_was_whole_before_the_client_hung_up_is_the_last_word(name: str) -> None:
    play = PLAYS[name]
    entry = broken(play, len(play.frames), Exit.CLIENT_GONE)
    assert entry.exit is Exit.COMPLETED
    assert (entry.usage.input_tokens, entry.usage.output_tokens) == (TRUTH.input, TRUTH.output)
    assert not entry.usage.estimated


@pytest.mark.parametrize("name", [name for name, play in PLAYS.items() if play.dialect in CLIENT_DIALECTS])
def test_a_relayed_reply_is_booked_as_a_crossing_one(name: str) -> None:
    play = PLAYS[name]
    for frames in range(1, len(play.frames)):
        mine, theirs = (broken(play, frames, Exit.LOST, client) for client in (play.dialect, "openai_chat"))
        assert (mine.exit, mine.usage, mine.reading) == (theirs.exit, theirs.usage, theirs.reading), frames


@EVERY
def test_half_a_frame_counts_for_nothing(name: str) -> None:
    """Whatever lies in the middle of a frame when the connection breaks has not been delivered."""
    play = PLAYS[name]
    frames = len(play.frames) // 2
    whole = b"".join(play.frames[:frames])
    for cut in (1, len(play.frames[frames]) // 2):
        entry = broken(play, frames, Exit.LOST, raw=whole + play.frames[frames][:cut])
        assert entry.usage == broken(play, frames, Exit.LOST).usage


# ---- output that nobody could see


def _responses(*items: Mapping[str, object]) -> bytes:
    head = {"id": "resp_0", "object": "response", "created_at": 7, "model": "play-1", "output": [], "usage": None}
    frames: list[dict[str, object]] = [{"type": "response.created", "response": {**head, "status": "in_progress"}}]
    frames += [
        {"type": "response.output_item.added", "output_index": place, "item": item} for place, item in enumerate(items)
    ]
    return b"".join(_sse(frame, str(frame["type"])) for frame in frames)


def _converse(*deltas: Mapping[str, object], start: Mapping[str, object] | None = None) -> bytes:
    begun = [] if start is None else [event_message("contentBlockStart", {"contentBlockIndex": 0, "start": start})]
    said = [event_message("contentBlockDelta", {"contentBlockIndex": 0, "delta": delta}) for delta in deltas]
    return b"".join([event_message("messageStart", {"role": "assistant"}), *begun, *said])


_REDACTED = {"reasoningContent": {"redactedContent": base64.b64encode(b"EqQBCgIYAh").decode()}}
_SERVER_TOOL = {"toolUse": {"toolUseId": "srv_0", "name": "search", "type": "server_tool_use"}}
_THOUGHT = {"text": "Noon, then.", "thought": True}
_SIGNED = {"text": "", "thoughtSignature": "c2ln"}


def _gemini(*parts: Mapping[str, object]) -> bytes:
    return b"".join(
        _sse({"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]}) for part in parts
    )


def _claude(block: Mapping[str, object]) -> bytes:
    return _sse({"type": "content_block_start", "index": 0, "content_block": block}, "content_block_start")


HIDDEN: Final[Mapping[str, tuple[str, Callable[[], bytes]]]] = {
    "a reasoning item that has begun": (
        "responses",
        lambda: _responses({"type": "reasoning", "id": "rs_0", "summary": [], "encrypted_content": None}),
    ),
    "a search the provider runs itself": (
        "responses",
        lambda: _responses({"type": "web_search_call", "id": "ws_0", "status": "in_progress"}),
    ),
    "a custom tool's call": (
        "responses",
        lambda: _responses({"type": "custom_tool_call", "id": "ct_0", "call_id": "c", "name": "n", "input": ""}),
    ),
    "a block of encrypted reasoning that has not stopped": ("converse", lambda: _converse(_REDACTED)),
    "a call that Bedrock answers itself": ("converse", lambda: _converse(start=_SERVER_TOOL)),
    "a proof, whose text is a summary": (
        "converse",
        lambda: _converse({"reasoningContent": {"text": "Noon."}}, {"reasoningContent": {"signature": "c2ln"}}),
    ),
    "Nova's word in the place of what it thought": (
        "converse",
        lambda: _converse({"reasoningContent": {"text": "[REDACTED]"}}),
    ),
    "a call whose arguments come one by one": (
        "vertex",
        lambda: _gemini({"functionCall": {"name": "tide", "willContinue": True}}),
    ),
    "Claude's thinking, of which nothing is shown": (
        "messages",
        lambda: _claude({"type": "thinking", "thinking": "", "signature": ""}),
    ),
    "a search that Claude's provider runs": (
        "messages",
        lambda: _claude({"type": "server_tool_use", "id": "srv_0", "name": "web_search", "input": {}}),
    ),
    "Gemini's proof of what it thought": ("vertex", lambda: _gemini(_THOUGHT, _SIGNED)),
}


@pytest.mark.parametrize("case", HIDDEN)
@pytest.mark.parametrize("exit_", [Exit.LOST, Exit.TRUNCATED])
def test_an_estimate_beside_output_that_nobody_saw_is_a_lower_bound(case: str, exit_: Exit) -> None:
    name, build = HIDDEN[case]
    entry = broken(PLAYS[name], 0, exit_, raw=build())
    assert entry.exit is exit_
    assert entry.usage.provenance[Bucket.OUTPUT] is Provenance.ESTIMATED
    assert entry.lower_bound


def test_a_message_and_a_call_of_the_clients_hide_nothing() -> None:
    items: list[dict[str, Any]] = [
        {"type": "message", "id": "m", "role": "assistant", "content": []},
        {"type": "function_call", "id": "f", "call_id": "c", "name": "n", "arguments": ""},
    ]
    assert not broken(PLAYS["responses"], 0, Exit.LOST, raw=_responses(*items)).lower_bound


@EVERY
def test_a_head_and_then_nothing_is_an_estimate_of_the_input_alone(name: str) -> None:
    play = PLAYS[name]
    entry = broken(play, 0, Exit.TIMED_OUT)
    assert (entry.exit, entry.usage.input_tokens, entry.usage.output_tokens) == (Exit.TIMED_OUT, ESTIMATE, 0)
    assert set(entry.usage.provenance.values()) == {Provenance.ESTIMATED}
