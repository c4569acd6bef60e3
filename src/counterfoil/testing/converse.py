"""Replies of Bedrock's Converse, whole and as its binary stream, with invented text and known counts.

Rule 1. Pure, as in `chat.py`.
Rule 2. `Counts` are inclusive here too; the wire's `inputTokens` leaves cache out, and this module subtracts it.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeAlias

from counterfoil.testing.chat import Tool, pieces_of
from counterfoil.testing.eventstream import EVENT_STREAM, event_message, exception_message
from counterfoil.testing.playbook import Chooser, Counts, Script, Send, compact_json

__all__ = ["ConverseReply", "converse_player", "converse_reply"]

P = ParamSpec("P")
_Event: TypeAlias = tuple[str, dict[str, Any], int, str]


@dataclass(frozen=True, kw_only=True)
class ConverseReply:
    """The plan of a Converse reply; `script()` makes it playable.

    Blocks come in the order thinking, text, tools. Where `usage` is not given it is 11 tokens in and one token out for
    every unit (a piece of text, of thinking, of a tool's arguments, or a tool's head).
    """

    text: str | tuple[str, ...] = "The tide turns at noon and the boats come home."
    usage: Counts | None = None
    stream: bool = True
    thinking: str | tuple[str, ...] = ()
    signature: str = "c2lnbmVkLWluLXBsYXk="
    tools: tuple[Tool, ...] = ()
    stop_reason: str = ""
    """By default `tool_use` where there are tools, else `end_turn`."""
    reported: bool = True
    """False: no usage at all."""
    exception: str = ""
    """An exception of this name (`throttlingException`) instead of `messageStop` and what follows."""
    pace: float = 0.0
    """Seconds between messages."""

    def script(self) -> Script:
        """The playable script."""
        script = _stream(self) if self.stream else _whole(self)
        return script.paced(self.pace) if self.pace else script

    def counts(self) -> Counts:
        """The counts of the reply."""
        return self.usage or Counts(input=11, output=sum(units for _, _, units, _ in _events(self)))


def _scripted(plan: Callable[P, ConverseReply]) -> Callable[P, Script]:
    def build(*args: P.args, **keywords: P.kwargs) -> Script:
        return plan(*args, **keywords).script()

    build.__doc__ = "`ConverseReply(...).script()`: a playable Converse reply; it takes its fields."
    return build


converse_reply = _scripted(ConverseReply)


def converse_player(plan: ConverseReply) -> Chooser:
    """Play `plan`, streamed or whole as the request's path says."""
    streamed, whole = (replace(plan, stream=stream).script() for stream in (True, False))
    return lambda request: streamed if request.path.partition("?")[0].endswith("/converse-stream") else whole


def _usage(plan: ConverseReply) -> dict[str, Any]:
    counts = plan.counts()
    read, write = counts.cache_read or 0, counts.cache_write or 0
    usage: dict[str, Any] = {
        "inputTokens": (counts.input or 0) - read - write,
        "outputTokens": counts.output,
        "totalTokens": counts.total,
    }
    if counts.cache_read is not None or counts.cache_write is not None:
        usage |= {"cacheReadInputTokens": read, "cacheWriteInputTokens": write}
        usage |= {"cacheReadInputTokenCount": read, "cacheWriteInputTokenCount": write}
    return usage


def _stop(plan: ConverseReply) -> str:
    return plan.stop_reason or ("tool_use" if plan.tools else "end_turn")


def _tool(tool: Tool, place: int) -> dict[str, Any]:
    return {"toolUseId": tool.id or f"tooluse_play{place}", "name": tool.name}


def _events(plan: ConverseReply) -> list[_Event]:
    """Type, value, units and text of every content block event."""
    events: list[_Event] = []

    def block(index: int, deltas: list[tuple[dict[str, Any], int, str]], start: dict[str, Any] | None = None) -> None:
        if start is not None:
            events.append(("contentBlockStart", {"contentBlockIndex": index, "start": start}, 1, ""))
        for delta, units, text in deltas:
            events.append(("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}, units, text))
        events.append(("contentBlockStop", {"contentBlockIndex": index}, 0, ""))

    index = 0
    if plan.thinking:
        thought = [({"reasoningContent": {"text": piece}}, 1, "") for piece in pieces_of(plan.thinking)]
        block(index, [*thought, ({"reasoningContent": {"signature": plan.signature}}, 0, "")])
        index += 1
    if pieces_of(plan.text):
        block(index, [({"text": piece}, 1, piece) for piece in pieces_of(plan.text)])
        index += 1
    for place, tool in enumerate(plan.tools):
        said = tool.arguments if tool.arguments != "{}" else ""
        slices = [said[start : start + 8] for start in range(0, len(said), 8)]
        block(index + place, [({"toolUse": {"input": one}}, 1, "") for one in slices], {"toolUse": _tool(tool, place)})
    return events


def _padded(value: dict[str, Any], place: int) -> dict[str, Any]:
    """With the padding that hides how long the pieces are."""
    return {**value, "p": "abcdefghijklmnopqrstuvwxyz"[: place % 26 + 1]}


def _stream(plan: ConverseReply) -> Script:
    def send(place: int, kind: str, value: dict[str, Any], units: int = 0, text: str = "") -> Send:
        return Send(event_message(kind, _padded(value, place)), units, text)

    def frames() -> Iterator[Send]:
        yield send(0, "messageStart", {"role": "assistant"})
        for place, event in enumerate(_events(plan), 1):
            yield send(place, *event)
        if plan.exception:
            yield Send(exception_message(plan.exception, "The play was stopped."))
            return
        yield send(7, "messageStop", {"stopReason": _stop(plan)})
        last: dict[str, Any] = {"metrics": {"latencyMs": 210}}
        if plan.reported:
            yield replace(send(9, "metadata", {**last, "usage": _usage(plan)}), reported=plan.counts())
        else:
            yield send(9, "metadata", last)

    return Script(
        steps=tuple(frames()), headers=(("content-type", EVENT_STREAM),), usage=plan.counts(), name="converse"
    )


def _whole(plan: ConverseReply) -> Script:
    content: list[dict[str, Any]] = []
    if plan.thinking:
        said = {"text": "".join(pieces_of(plan.thinking)), "signature": plan.signature}
        content.append({"reasoningContent": {"reasoningText": said}})
    if pieces_of(plan.text):
        content.append({"text": "".join(pieces_of(plan.text))})
    for place, tool in enumerate(plan.tools):
        content.append({"toolUse": {**_tool(tool, place), "input": json.loads(tool.arguments or "{}")}})
    body: dict[str, Any] = {
        "metrics": {"latencyMs": 210},
        "output": {"message": {"content": content, "role": "assistant"}},
        "stopReason": _stop(plan),
    }
    if plan.reported:
        body["usage"] = _usage(plan)
    units = sum(units for _, _, units, _ in _events(plan))
    return Script(
        steps=(
            Send(compact_json(body), units, "".join(pieces_of(plan.text)), plan.counts() if plan.reported else None),
        ),
        headers=(("content-type", "application/json"),),
        framing="length",
        usage=plan.counts(),
        name="converse whole",
    )
