"""Replies of Gemini's `generateContent`, whole, as server-sent events and as a JSON array, with invented text and known
counts.

Rule 1. Pure, as in `chat.py`.
Rule 2. `Counts` are inclusive here too; the wire's `candidatesTokenCount` leaves thoughts out, and this module
subtracts them. There is no count of cache writes on this wire.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, ParamSpec, TypeAlias

from counterfoil.testing.chat import Tool, pieces_of
from counterfoil.testing.playbook import REPLY_NUMBER, Chooser, Counts, Request, Script, Send, compact_json

__all__ = ["GeminiReply", "gemini_player", "gemini_reply"]

P = ParamSpec("P")
_Part: TypeAlias = tuple[dict[str, Any], int, str]
"""A part of the content, what it is worth in units, and the reply text in it."""

_EVENTS: Final = "text/event-stream"
_JSON: Final = "application/json; charset=UTF-8"


@dataclass(frozen=True, kw_only=True)
class GeminiReply:
    """The plan of a Gemini reply; `script()` makes it playable.

    Parts come in the order thoughts, text, calls, a frame each where it is streamed. Where `usage` is not given it is
    11 tokens in and one token out for every unit (a piece of text or of thought, or a call).
    """

    text: str | tuple[str, ...] = "The tide turns at noon and the boats come home."
    usage: Counts | None = None
    stream: bool = True
    form: Literal["sse", "array"] = "sse"
    """The stream: events (`?alt=sse`), or the elements of one JSON array."""
    model: str = "play-g"
    thinking: str | tuple[str, ...] = ()
    """Parts with `thought: true`."""
    signature: str = ""
    """The proof of the thoughts: on the first call, else on a last empty text (on the text of a whole reply). By
    default there is one where there are thoughts."""
    tools: tuple[Tool, ...] = ()
    call_ids: Literal["given", "absent"] = "given"
    """Absent: Gemini 2 and before give calls no id; a tool's own `id` is written in any case."""
    finish: str = "STOP"
    placement: Literal["every", "last"] = "every"
    """Where a stream has its usage. Every: running counts, the last frame's are final (Google). Last: only there, and
    `trafficType` alone before (Vertex)."""
    blocked: str = ""
    """The prompt is refused for this reason (`SAFETY`): no candidates."""
    error: str = ""
    """An error with this status (`UNAVAILABLE`) instead of the last frame."""
    crlf: bool = True
    """CRLF line ends of events, as Google sends them."""
    pace: float = 0.0
    """Seconds between frames."""

    def script(self) -> Script:
        """The playable script."""
        script = _stream(self) if self.stream else _whole(self)
        return script.paced(self.pace) if self.pace else script

    def counts(self) -> Counts:
        """The counts of the reply."""
        return self.usage or Counts(input=11, output=sum(units for _, units, _ in _parts(self)))


def _scripted(plan: Callable[P, GeminiReply]) -> Callable[P, Script]:
    def build(*args: P.args, **keywords: P.kwargs) -> Script:
        return plan(*args, **keywords).script()

    build.__doc__ = "`GeminiReply(...).script()`: a playable Gemini reply; it takes its fields."
    return build


gemini_reply = _scripted(GeminiReply)


def gemini_player(plan: GeminiReply) -> Chooser:
    """Play `plan` streamed or whole as the request's path says, events or an array as its query does."""
    whole = replace(plan, stream=False).script()
    events, array = (replace(plan, stream=True, form=form).script() for form in ("sse", "array"))

    def choose(request: Request) -> Script:
        path, _, query = request.path.partition("?")
        if not path.endswith(":streamGenerateContent"):
            return whole
        return events if "alt=sse" in query.split("&") else array

    return choose


def _signature(plan: GeminiReply) -> str:
    return plan.signature or ("c2lnbmVkLWluLXBsYXk=" if plan.thinking else "")


def _call(plan: GeminiReply, tool: Tool, place: int) -> dict[str, Any]:
    call: dict[str, Any] = {"name": tool.name, "args": json.loads(tool.arguments or "{}")}
    if tool.id or plan.call_ids == "given":
        call["id"] = tool.id or f"play{place}"
    part: dict[str, Any] = {"functionCall": call}
    if place == 0 and _signature(plan):
        part["thoughtSignature"] = _signature(plan)
    return part


def _parts(plan: GeminiReply) -> list[_Part]:
    """The parts of a stream, in order."""
    parts: list[_Part] = [({"text": piece, "thought": True}, 1, "") for piece in pieces_of(plan.thinking)]
    parts += [({"text": piece}, 1, piece) for piece in pieces_of(plan.text)]
    parts += [(_call(plan, tool, place), 1, "") for place, tool in enumerate(plan.tools)]
    return parts


def _details(count: int) -> list[dict[str, Any]]:
    return [{"modality": "TEXT", "tokenCount": count}]


def _usage(counts: Counts) -> dict[str, Any]:
    """`counts` as this wire writes them."""
    candidates = None if counts.output is None else counts.output - (counts.reasoning or 0)
    spoken = (counts.input, candidates, counts.reasoning)
    usage: dict[str, Any] = {"promptTokenCount": counts.input}
    if candidates is not None:
        usage["candidatesTokenCount"] = candidates
    usage["totalTokenCount"] = sum(count or 0 for count in spoken)
    if counts.cache_read is not None:
        usage["cachedContentTokenCount"] = counts.cache_read
        usage["cacheTokensDetails"] = _details(counts.cache_read)
    usage["promptTokensDetails"] = _details(counts.input or 0)
    if counts.reasoning is not None:
        usage["thoughtsTokenCount"] = counts.reasoning
    return usage


def _running(plan: GeminiReply, thoughts: int, units: int) -> Counts:
    """What is reported once so many units of thought, and of all, are out: thoughts alone while there is no answer."""
    final = plan.counts()
    every = _parts(plan)
    thinking = len(pieces_of(plan.thinking))
    reasoning = None if final.reasoning is None else final.reasoning * thoughts // (thinking or 1)
    if units == thoughts:
        return replace(final, output=None, reasoning=reasoning)
    spoken = (final.output or 0) - (final.reasoning or 0)
    answer = sum(worth for _, worth, _ in every) - thinking
    return replace(final, output=spoken * (units - thoughts) // answer + (final.reasoning or 0))


def _chunk(plan: GeminiReply, parts: list[dict[str, Any]], usage: dict[str, Any], finish: str = "") -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
    if finish:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate | {"index": 0}],
        "usageMetadata": usage,
        "modelVersion": plan.model,
        "responseId": REPLY_NUMBER.decode(),
    }


def _refused(plan: GeminiReply) -> dict[str, Any]:
    """The reply to a prompt that is blocked."""
    counts = replace(plan.counts(), output=None, reasoning=None)
    return {
        "promptFeedback": {"blockReason": plan.blocked},
        "usageMetadata": _usage(counts),
        "modelVersion": plan.model,
        "responseId": REPLY_NUMBER.decode(),
    }


def _chunks(plan: GeminiReply) -> Iterator[tuple[dict[str, Any], int, str, Counts | None]]:
    """Value, units, text and report of every frame."""
    counts = plan.counts()
    if plan.blocked:
        yield _refused(plan), 0, "", Counts(input=counts.input, cache_read=counts.cache_read)
        return
    thoughts = units = 0
    for part, worth, text in _parts(plan):
        units += worth
        thoughts += worth if part.get("thought") else 0
        if plan.placement == "last":
            yield _chunk(plan, [part], {"trafficType": "ON_DEMAND"}), worth, text, None
        else:
            running = _running(plan, thoughts, units)
            yield _chunk(plan, [part], _usage(running)), worth, text, running
    if plan.error:
        yield {"error": {"code": 503, "message": "The play was stopped.", "status": plan.error}}, 0, "", None
        return
    last = {"text": ""}
    if _signature(plan) and not plan.tools:
        last["thoughtSignature"] = _signature(plan)
    yield _chunk(plan, [last], _usage(counts), plan.finish), 0, "", counts


def _stream(plan: GeminiReply) -> Script:
    frames: list[Send] = []
    end = b"\r\n\r\n" if plan.crlf else b"\n\n"
    for place, (value, units, text, reported) in enumerate(_chunks(plan)):
        data = compact_json(value)
        data = b"data: " + data + end if plan.form == "sse" else (b",\r\n" if place else b"[") + data
        frames.append(Send(data, units, text, reported))
    if plan.form == "array":
        frames.append(Send(b"]\n"))
    kind = _EVENTS if plan.form == "sse" else _JSON
    return Script(
        steps=tuple(frames),
        headers=(("content-type", kind),),
        usage=plan.counts(),
        name=f"gemini {plan.form}",
    )


def _whole(plan: GeminiReply) -> Script:
    parts: list[dict[str, Any]] = []
    if plan.thinking:
        parts.append({"text": "".join(pieces_of(plan.thinking)), "thought": True})
    if pieces_of(plan.text):
        said: dict[str, Any] = {"text": "".join(pieces_of(plan.text))}
        if _signature(plan) and not plan.tools:
            said["thoughtSignature"] = _signature(plan)
        parts.append(said)
    parts += [_call(plan, tool, place) for place, tool in enumerate(plan.tools)]
    counts = plan.counts()
    reported = replace(counts, output=None, reasoning=None) if plan.blocked else counts
    body = _refused(plan) if plan.blocked else _chunk(plan, parts, _usage(counts), plan.finish)
    units = 0 if plan.blocked else sum(worth for _, worth, _ in _parts(plan))
    text = "" if plan.blocked else "".join(pieces_of(plan.text))
    return Script(
        steps=(Send(compact_json(body), units, text, reported),),
        headers=(("content-type", _JSON),),
        framing="length",
        usage=counts,
        name="gemini whole",
    )
