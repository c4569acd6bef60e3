"""Replies in the Anthropic messages dialect, in the shapes that were seen, with invented text and known counts.

Rule 1. Pure, as in `chat.py`.
Rule 2. `Counts` are inclusive here too; the wire's `input_tokens` leaves cache out, and this module subtracts it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, ParamSpec

from counterfoil.testing.chat import Tool, pieces_of
from counterfoil.testing.playbook import REPLY_NUMBER, Counts, Script, Send, compact_json

__all__ = ["MessagesReply", "messages_reply"]

P = ParamSpec("P")


@dataclass(frozen=True, kw_only=True)
class MessagesReply:
    """The plan of a reply in the messages dialect; `script()` makes it playable.

    Blocks come in the order thinking, redacted, text, tools. Where `usage` is not given it is 11 tokens in and one
    token out for every unit (a piece of text, of thinking, of a tool's arguments, or a tool's head).
    """

    text: str | tuple[str, ...] = "The tide turns at noon and the boats come home."
    usage: Counts | None = None
    stream: bool = True
    model: str = "play-a"
    thinking: str | tuple[str, ...] = ()
    signature: str = "c2lnbmVkLWluLXBsYXk="
    redacted: str = ""
    tools: tuple[Tool, ...] = ()
    stop_reason: str = ""
    """By default `tool_use` where there are tools, else `end_turn`."""
    delta: Literal["full", "output_only"] = "full"
    """`full` repeats input and cache in `message_delta`; `output_only` is the older form, and Vertex's."""
    provisional: int = 1
    """The output count in `message_start`."""
    start: Counts | None = None
    """Input and cache as `message_start` says them, where the end says otherwise (server tools, compaction)."""
    cache_write_1h: int = 0
    """How much of the cache write has the one-hour lifetime, in `message_start`'s breakdown."""
    ping: bool = True
    iterations: tuple[Mapping[str, Any], ...] = ()
    """`usage.iterations` as written in `message_delta` or the body; `billed` then says what they amount to."""
    billed: Counts | None = None
    """The truth of the books, where it is more than the top-level counts."""
    error: str = ""
    """An `error` event of this type (`overloaded_error`) instead of `message_delta` and what follows."""
    stop: bool = True
    """False: no `message_stop`."""
    pace: float = 0.0
    """Seconds between frames."""

    def script(self) -> Script:
        """The playable script."""
        script = _stream(self) if self.stream else _whole(self)
        return script.paced(self.pace) if self.pace else script

    def counts(self) -> Counts:
        """The top-level counts of the reply."""
        return self.usage or Counts(input=11, output=sum(units for _, _, units, _ in _events(self)))


def _scripted(plan: Callable[P, MessagesReply]) -> Callable[P, Script]:
    def build(*args: P.args, **keywords: P.kwargs) -> Script:
        return plan(*args, **keywords).script()

    build.__doc__ = "`MessagesReply(...).script()`: a playable reply in the messages dialect; it takes its fields."
    return build


messages_reply = _scripted(MessagesReply)


def _input_usage(counts: Counts) -> dict[str, Any]:
    read, write = counts.cache_read or 0, counts.cache_write or 0
    return {
        "input_tokens": (counts.input or 0) - read - write,
        "cache_creation_input_tokens": write,
        "cache_read_input_tokens": read,
    }


def _start_usage(plan: MessagesReply, output: int) -> dict[str, Any]:
    counts = plan.start or plan.counts()
    write = counts.cache_write or 0
    lifetimes = {
        "ephemeral_5m_input_tokens": write - plan.cache_write_1h,
        "ephemeral_1h_input_tokens": plan.cache_write_1h,
    }
    return {**_input_usage(counts), "cache_creation": lifetimes, "output_tokens": output, "service_tier": "standard"}


def _end_usage(plan: MessagesReply) -> dict[str, Any]:
    counts = plan.counts()
    usage: dict[str, Any] = {} if plan.delta == "output_only" else _input_usage(counts)
    usage["output_tokens"] = counts.output
    if counts.reasoning is not None:
        usage["output_tokens_details"] = {"thinking_tokens": counts.reasoning}
    if plan.iterations:
        usage["iterations"] = [dict(iteration) for iteration in plan.iterations]
    return usage


def _message(
    plan: MessagesReply, content: list[dict[str, Any]], stop: str | None, usage: dict[str, Any]
) -> dict[str, Any]:
    return {
        "id": "msg_" + REPLY_NUMBER.decode(),
        "type": "message",
        "role": "assistant",
        "model": plan.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }


def _tool_block(tool: Tool, place: int, arguments: object) -> dict[str, Any]:
    return {"type": "tool_use", "id": tool.id or f"toolu_play{place}", "name": tool.name, "input": arguments}


def _block(
    index: int, block: dict[str, Any], deltas: list[tuple[dict[str, Any], int, str]], units: int = 0
) -> Iterator[tuple[str, dict[str, Any], int, str]]:
    yield "content_block_start", {"index": index, "content_block": block}, units, ""
    for delta, worth, text in deltas:
        yield "content_block_delta", {"index": index, "delta": delta}, worth, text
    yield "content_block_stop", {"index": index}, 0, ""


def _events(plan: MessagesReply) -> list[tuple[str, dict[str, Any], int, str]]:
    """Type, value, units and text of every content block event."""
    events: list[tuple[str, dict[str, Any], int, str]] = []
    index = 0
    if plan.thinking:
        deltas = [({"type": "thinking_delta", "thinking": piece}, 1, "") for piece in pieces_of(plan.thinking)]
        deltas.append(({"type": "signature_delta", "signature": plan.signature}, 0, ""))
        events += _block(index, {"type": "thinking", "thinking": "", "signature": ""}, deltas)
        index += 1
    if plan.redacted:
        events += _block(index, {"type": "redacted_thinking", "data": plan.redacted}, [], units=1)
        index += 1
    if pieces_of(plan.text):
        texts = [({"type": "text_delta", "text": piece}, 1, piece) for piece in pieces_of(plan.text)]
        events += _block(index, {"type": "text", "text": ""}, texts)
        index += 1
    for place, tool in enumerate(plan.tools):
        arguments = tool.arguments if tool.arguments != "{}" else ""
        slices = [arguments[start : start + 8] for start in range(0, len(arguments), 8)]
        # The real stream opens a tool's arguments with an empty piece, and sends only that where there are none.
        first = ({"type": "input_json_delta", "partial_json": ""}, 0, "")
        rest = [({"type": "input_json_delta", "partial_json": piece}, 1, "") for piece in slices]
        events += _block(index, _tool_block(tool, place, {}), [first, *rest], units=1)
        index += 1
    return events


def _send(kind: str, value: dict[str, Any], units: int = 0, text: str = "", reported: Counts | None = None) -> Send:
    payload = compact_json({"type": kind, **value})
    return Send(b"event: " + kind.encode() + b"\ndata: " + payload + b"\n\n", units, text, reported)


def _reported_at_end(plan: MessagesReply) -> Counts:
    """The join of both reports: with the older delta, input and cache stay as `message_start` said them."""
    counts = plan.counts()
    if plan.delta == "output_only" and plan.start is not None:
        return replace(plan.start, output=counts.output, reasoning=counts.reasoning)
    return counts


def _stream(plan: MessagesReply) -> Script:
    start = replace(plan.start or plan.counts(), output=plan.provisional, reasoning=None)
    message = _message(plan, [], None, _start_usage(plan, plan.provisional))
    frames = [_send("message_start", {"message": message}, reported=start)]
    for place, (kind, value, units, text) in enumerate(_events(plan)):
        frames.append(_send(kind, value, units, text))
        if place == 0 and plan.ping:
            frames.append(_send("ping", {}))
    if plan.error:
        frames.append(_send("error", {"error": {"type": plan.error, "message": "The play was stopped."}}))
    else:
        stop = plan.stop_reason or ("tool_use" if plan.tools else "end_turn")
        delta = {"delta": {"stop_reason": stop, "stop_sequence": None}, "usage": _end_usage(plan)}
        frames.append(_send("message_delta", delta, reported=_reported_at_end(plan)))
        if plan.stop:
            frames.append(_send("message_stop", {}))
    return Script(steps=tuple(frames), usage=plan.billed or plan.counts(), name="messages")


def _content(plan: MessagesReply) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if plan.thinking:
        thinking = "".join(pieces_of(plan.thinking))
        content.append({"type": "thinking", "thinking": thinking, "signature": plan.signature})
    if plan.redacted:
        content.append({"type": "redacted_thinking", "data": plan.redacted})
    if pieces_of(plan.text):
        content.append({"type": "text", "text": "".join(pieces_of(plan.text))})
    return content


def _whole(plan: MessagesReply) -> Script:
    counts = plan.counts()
    tools = [_tool_block(tool, place, json.loads(tool.arguments or "{}")) for place, tool in enumerate(plan.tools)]
    stop = plan.stop_reason or ("tool_use" if plan.tools else "end_turn")
    usage = _start_usage(replace(plan, start=None), counts.output or 0) | _end_usage(plan)
    body = compact_json(_message(plan, [*_content(plan), *tools], stop, usage))
    units = sum(worth for _, _, worth, _ in _events(plan))
    return Script(
        steps=(Send(body, units, "".join(pieces_of(plan.text)), counts),),
        headers=(("content-type", "application/json"),),
        framing="length",
        usage=plan.billed or counts,
        name="messages whole",
    )
