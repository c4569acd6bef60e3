"""Replies in the OpenAI Responses dialect, streamed and whole, with invented text and known counts.

Rule 1. Pure, as in `chat.py`.
Rule 2. The events are those of the published list, in its order, numbered from 0; `usage` is null before the last.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, ParamSpec, TypeAlias

from counterfoil.testing.chat import Tool, pieces_of
from counterfoil.testing.playbook import REPLY_NUMBER, Chooser, Counts, Script, Send, compact_json

__all__ = ["ResponsesReply", "responses_player", "responses_reply"]

P = ParamSpec("P")
_Event: TypeAlias = tuple[str, dict[str, Any], int, str]
"""Type, fields, units and text of one event."""

_NUMBER = REPLY_NUMBER.decode()


@dataclass(frozen=True, kw_only=True)
class ResponsesReply:
    """The plan of a reply in the Responses dialect; `script()` makes it playable.

    Items come in the order reasoning, message, calls. Where `usage` is not given it is 11 tokens in and one token out
    for every unit (a piece of text, of reasoning, of a call's arguments, or a call's head), and no cache or reasoning;
    a detail that is None in it is not on the wire, though the published schema has it.
    """

    text: str | tuple[str, ...] = "The tide turns at noon and the boats come home."
    usage: Counts | None = None
    stream: bool = True
    model: str = "play-r"
    reasoning: str | tuple[str, ...] = ()
    reasoning_as: Literal["summary", "text"] = "summary"
    """Summary: OpenAI. Text: servers of open models, whose `content` is the reasoning itself."""
    encrypted: str = ""
    """`encrypted_content` of the reasoning; by default there is one where there is a summary."""
    refusal: str | tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    incomplete: str = ""
    """The reason (`max_output_tokens`): `response.incomplete` ends the reply."""
    error: Literal["none", "failed", "event", "event_and_failed"] = "none"
    """After the content: `response.failed`, an `error` event, or the one after the other (OpenAI)."""
    reported: bool = True
    """False: no usage at all."""
    pace: float = 0.0
    """Seconds between frames."""

    def script(self) -> Script:
        """The playable script."""
        script = _stream(self) if self.stream else _whole(self)
        return script.paced(self.pace) if self.pace else script

    def counts(self) -> Counts:
        """The counts of the reply."""
        units = sum(worth for *_, worth, _ in _events(self))
        return self.usage or Counts(input=11, output=units, cache_read=0, cache_write=0, reasoning=0)


def _scripted(plan: Callable[P, ResponsesReply]) -> Callable[P, Script]:
    def build(*args: P.args, **keywords: P.kwargs) -> Script:
        return plan(*args, **keywords).script()

    build.__doc__ = "`ResponsesReply(...).script()`: a playable reply in the Responses dialect; it takes its fields."
    return build


responses_reply = _scripted(ResponsesReply)


def responses_player(plan: ResponsesReply) -> Chooser:
    """Play `plan`, streamed or whole as the request's `stream` says."""
    streamed, whole = (replace(plan, stream=stream).script() for stream in (True, False))
    return lambda request: streamed if request.stream else whole


def _usage(counts: Counts) -> dict[str, Any]:
    prompt = {"cached_tokens": counts.cache_read, "cache_write_tokens": counts.cache_write}
    return {
        "input_tokens": counts.input,
        "input_tokens_details": {name: count for name, count in prompt.items() if count is not None},
        "output_tokens": counts.output,
        "output_tokens_details": {} if counts.reasoning is None else {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.total,
    }


def _reasoning_item(plan: ResponsesReply, *, whole: bool) -> dict[str, Any]:
    item: dict[str, Any] = {"id": f"rs_{_NUMBER}", "type": "reasoning", "summary": []}
    said = "".join(pieces_of(plan.reasoning)) if whole else ""
    if plan.reasoning_as == "text":
        item["content"] = [{"type": "reasoning_text", "text": said}] if whole else []
    else:
        item["summary"] = [{"type": "summary_text", "text": said}] if whole else []
        item["encrypted_content"] = (plan.encrypted or "c2VhbGVkLWluLXBsYXk=") if whole else None
    return item


def _message_parts(plan: ResponsesReply) -> list[tuple[str, tuple[str, ...]]]:
    """The kind of each part of the message, and its pieces."""
    parts = [("output_text", pieces_of(plan.text)), ("refusal", pieces_of(plan.refusal))]
    return [(kind, pieces) for kind, pieces in parts if pieces]


def _part(kind: str, said: str) -> dict[str, Any]:
    if kind == "refusal":
        return {"type": kind, "refusal": said}
    return {"type": kind, "annotations": [], "logprobs": [], "text": said}


def _message_item(plan: ResponsesReply, *, whole: bool) -> dict[str, Any]:
    content = [_part(kind, "".join(pieces)) for kind, pieces in _message_parts(plan)] if whole else []
    status = ("incomplete" if plan.incomplete else "completed") if whole else "in_progress"
    return {"id": f"msg_{_NUMBER}", "type": "message", "status": status, "content": content, "role": "assistant"}


def _call_item(tool: Tool, place: int, *, whole: bool) -> dict[str, Any]:
    return {
        "id": f"fc_{_NUMBER}_{place}",
        "type": "function_call",
        "status": "completed" if whole else "in_progress",
        "arguments": tool.arguments if whole else "",
        "call_id": tool.id or f"call_play{place}",
        "name": tool.name,
    }


def _items(plan: ResponsesReply) -> list[dict[str, Any]]:
    """The whole `output`."""
    items: list[dict[str, Any]] = []
    if pieces_of(plan.reasoning):
        items.append(_reasoning_item(plan, whole=True))
    if _message_parts(plan):
        items.append(_message_item(plan, whole=True))
    return [*items, *(_call_item(tool, place, whole=True) for place, tool in enumerate(plan.tools))]


def _added(output: int, begun: dict[str, Any], units: int = 0) -> _Event:
    return "response.output_item.added", {"output_index": output, "item": begun}, units, ""


def _done(output: int, whole: dict[str, Any]) -> _Event:
    return "response.output_item.done", {"output_index": output, "item": whole}, 0, ""


def _reasoning_events(plan: ResponsesReply, output: int) -> Iterator[_Event]:
    whole = _reasoning_item(plan, whole=True)
    here: dict[str, Any] = {"item_id": whole["id"], "output_index": output}
    said = "".join(pieces_of(plan.reasoning))
    yield _added(output, _reasoning_item(plan, whole=False))
    if plan.reasoning_as == "text":
        here["content_index"] = 0
        for piece in pieces_of(plan.reasoning):
            yield "response.reasoning_text.delta", {**here, "delta": piece}, 1, ""
        yield "response.reasoning_text.done", {**here, "text": said}, 0, ""
    else:
        here["summary_index"] = 0
        empty, full = ({"type": "summary_text", "text": text} for text in ("", said))
        yield "response.reasoning_summary_part.added", {**here, "part": empty}, 0, ""
        for piece in pieces_of(plan.reasoning):
            yield "response.reasoning_summary_text.delta", {**here, "delta": piece}, 1, ""
        yield "response.reasoning_summary_text.done", {**here, "text": said}, 0, ""
        yield "response.reasoning_summary_part.done", {**here, "part": full}, 0, ""
    yield _done(output, whole)


def _message_events(plan: ResponsesReply, output: int) -> Iterator[_Event]:
    whole = _message_item(plan, whole=True)
    yield _added(output, _message_item(plan, whole=False))
    for place, (kind, pieces) in enumerate(_message_parts(plan)):
        here = {"item_id": whole["id"], "output_index": output, "content_index": place}
        refused = kind == "refusal"
        name = f"response.{kind}"
        more: dict[str, Any] = {} if refused else {"logprobs": []}
        yield "response.content_part.added", {**here, "part": _part(kind, "")}, 0, ""
        for piece in pieces:
            yield f"{name}.delta", {**here, "delta": piece, **more}, 1, "" if refused else piece
        yield f"{name}.done", {**here, "refusal" if refused else "text": "".join(pieces), **more}, 0, ""
        yield "response.content_part.done", {**here, "part": _part(kind, "".join(pieces))}, 0, ""
    yield _done(output, whole)


def _call_events(tool: Tool, place: int, output: int) -> Iterator[_Event]:
    whole = _call_item(tool, place, whole=True)
    here = {"item_id": whole["id"], "output_index": output}
    yield _added(output, _call_item(tool, place, whole=False), 1)
    for start in range(0, len(tool.arguments), 8):
        piece = tool.arguments[start : start + 8]
        yield "response.function_call_arguments.delta", {**here, "delta": piece}, 1, ""
    told = {**here, "arguments": tool.arguments, "name": tool.name}
    yield "response.function_call_arguments.done", told, 0, ""
    yield _done(output, whole)


def _events(plan: ResponsesReply) -> list[_Event]:
    """The events of every item."""
    events: list[_Event] = []
    output = 0
    if pieces_of(plan.reasoning):
        events += _reasoning_events(plan, output)
        output += 1
    if _message_parts(plan):
        events += _message_events(plan, output)
        output += 1
    for place, tool in enumerate(plan.tools):
        events += _call_events(tool, place, output + place)
    return events


def _response(plan: ResponsesReply, status: str, **more: object) -> dict[str, Any]:
    return {
        "id": f"resp_{_NUMBER}",
        "object": "response",
        "created_at": 1735689600,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": plan.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        **more,
    }


def _ended(plan: ResponsesReply) -> dict[str, Any]:
    """The response as it is at its end."""
    usage = _usage(plan.counts()) if plan.reported else None
    status = "incomplete" if plan.incomplete else "completed"
    details = {"reason": plan.incomplete} if plan.incomplete else None
    return _response(plan, status, output=_items(plan), usage=usage, incomplete_details=details)


def _failure(plan: ResponsesReply) -> Iterator[_Event]:
    words = {"code": "server_error", "message": "The play was stopped."}
    if plan.error in ("event", "event_and_failed"):
        yield "error", {**words, "param": None}, 0, ""
    if plan.error in ("failed", "event_and_failed"):
        yield "response.failed", {"response": _response(plan, "failed", error=words)}, 0, ""


def _stream(plan: ResponsesReply) -> Script:
    begun = _response(plan, "in_progress")
    events: list[_Event] = [(f"response.{kind}", {"response": begun}, 0, "") for kind in ("created", "in_progress")]
    events += _events(plan)
    if plan.error != "none":
        events += _failure(plan)
    else:
        ended = _ended(plan)
        events.append((f"response.{ended['status']}", {"response": ended}, 0, ""))
    frames = [
        Send(
            b"event: "
            + kind.encode()
            + b"\ndata: "
            + compact_json({"type": kind, "sequence_number": place, **fields})
            + b"\n\n",
            units,
            text,
        )
        for place, (kind, fields, units, text) in enumerate(events)
    ]
    if plan.error == "none" and plan.reported:
        frames[-1] = replace(frames[-1], reported=plan.counts())
    return Script(steps=tuple(frames), usage=plan.counts(), name="responses")


def _whole(plan: ResponsesReply) -> Script:
    counts = plan.counts()
    units = sum(worth for *_, worth, _ in _events(plan))
    text = "".join(pieces_of(plan.text))
    return Script(
        steps=(Send(compact_json(_ended(plan)), units, text, counts if plan.reported else None),),
        headers=(("content-type", "application/json"),),
        framing="length",
        usage=counts,
        name="responses whole",
    )
