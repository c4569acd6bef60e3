"""Replies in the OpenAI chat dialect, in every shape providers were seen to send, with invented text and known counts.

Rule 1. Pure: a `ChatReply` is a plan, and its script is worked out from it alone.
Rule 2. Every departure from the plain dialect is a field of its own, with the providers that do so named beside it.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, ParamSpec, TypeAlias

from counterfoil.testing.chat_shape import CHAT_SHAPES, ChatShape
from counterfoil.testing.playbook import REPLY_NUMBER, Counts, Script, Send, compact_json

__all__ = ["CHAT_SHAPES", "ChatReply", "ChatShape", "Tool", "chat_reply", "chat_usage", "pieces_of"]

P = ParamSpec("P")
Choice: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool call of a reply. `arguments` is JSON text; the empty string is a call without arguments."""

    name: str
    arguments: str = "{}"
    id: str = ""


@dataclass(frozen=True, kw_only=True)
class ChatReply:
    """The plan of a reply in the chat dialect; `script()` makes it playable.

    Text is cut into pieces at its spaces, one frame and one unit of output each; a tuple gives the pieces themselves.
    With `n` > 1 choice k says the same text and ` #k` after it. Where `usage` is not given it is 11 tokens in and one
    token out for every unit.
    """

    text: str | tuple[str, ...] = "The tide turns at noon and the boats come home."
    usage: Counts | None = None
    shape: ChatShape = "separate"
    stream: bool = True
    model: str = "play-1"
    n: int = 1
    tools: tuple[Tool, ...] = ()
    tool_deltas: Literal["streamed", "whole", "no_index", "no_id", "repeated_id"] = "streamed"
    reasoning: str | tuple[str, ...] = ()
    reasoning_key: Literal["reasoning_content", "reasoning"] = "reasoning_content"
    refusal: str | tuple[str, ...] = ()
    finish: str = ""
    """The finish reason; by default `tool_calls` where there are tools, else `stop`."""
    finish_times: Literal[0, 1, 2] = 1
    """Never: Snowflake. Twice: OpenRouter, Avian."""
    role: Literal["first", "missing", "every"] = "first"
    """Every: OpenRouter, Databricks, z.ai and others."""
    done: bool = True
    """False: no `[DONE]` (Perplexity, Writer, Cerebras)."""
    comments: bool = False
    """`: OPENROUTER PROCESSING` before the reply and once within it."""
    crlf: bool = False
    """CRLF line ends (Perplexity)."""
    azure: bool = False
    """A first frame with `choices: []` and `prompt_filter_results`."""
    logprobs: bool = False
    parts: bool = False
    """Content as a list of parts, thinking among them (Mistral)."""
    obfuscation: bool = False
    """Padding in each frame (OpenAI, Azure)."""
    error: Literal["none", "plain", "groq", "openrouter"] = "none"
    """An error frame after the text. `plain` and `groq` end there; `openrouter` has usage beside it, then `[DONE]`."""
    counting: Literal["inclusive", "reasoning_apart", "reasoning_hidden"] = "inclusive"
    """Apart: completion leaves reasoning out, total has it (xAI). Hidden: neither has it (Vercel's gateway)."""
    usage_extra: Mapping[str, Any] = field(default_factory=dict)
    """Merged into every whole usage object: more keys, or wrong values on purpose."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Merged into every frame, or into the body."""
    padding: int = 0
    """So many lines of white space before a whole body (OpenRouter)."""
    pace: float = 0.0
    """Seconds between frames."""

    def script(self) -> Script:
        """The playable script."""
        script = _stream(self) if self.stream else _whole(self)
        return script.paced(self.pace) if self.pace else script

    def counts(self) -> Counts:
        """The truth of the reply's tokens."""
        return self.usage or Counts(input=11, output=sum(units for _, _, units, _ in _deltas(self)))


def _scripted(plan: Callable[P, ChatReply]) -> Callable[P, Script]:
    def build(*args: P.args, **keywords: P.kwargs) -> Script:
        return plan(*args, **keywords).script()

    build.__doc__ = "`ChatReply(...).script()`: a playable reply in the chat dialect; it takes its fields."
    return build


chat_reply = _scripted(ChatReply)


def pieces_of(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """The pieces that a text is streamed in: words with the space before them."""
    if isinstance(text, tuple):
        return text
    words = text.split(" ")
    return tuple(word if place == 0 else f" {word}" for place, word in enumerate(words)) if text else ()


def chat_usage(plan: ChatReply, counts: Counts, *, late: bool = False) -> dict[str, Any]:
    """`counts` as the plan's provider writes them; `late` writes null for what Databricks does not know yet."""
    if late:
        return {"prompt_tokens": counts.input, "completion_tokens": None, "total_tokens": None}
    completion, total = counts.output or 0, counts.total
    reasoning = counts.reasoning or 0
    if plan.counting != "inclusive":
        completion -= reasoning
    if plan.counting == "reasoning_hidden":
        total = (counts.input or 0) + completion
    usage: dict[str, Any] = {"prompt_tokens": counts.input, "completion_tokens": completion, "total_tokens": total}
    prompt = {"cached_tokens": counts.cache_read, "cache_write_tokens": counts.cache_write}
    known = {name: value for name, value in prompt.items() if value is not None}
    if known:
        usage["prompt_tokens_details"] = known
    if counts.reasoning is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": counts.reasoning}
    return usage | dict(plan.usage_extra)


def _share(plan: ChatReply, choice: int) -> Counts:
    """What one choice's own usage says: the prompt, and its part of the completion."""
    counts = plan.counts()
    upto, before = ((counts.output or 0) * (choice + extra) // plan.n for extra in (1, 0))
    return replace(counts, output=upto - before)


def _texts(plan: ChatReply, choice: int) -> tuple[str, ...]:
    pieces = pieces_of(plan.text)
    return (*pieces, f" #{choice}") if choice else pieces


def _content(plan: ChatReply, text: str) -> str | list[dict[str, Any]]:
    return [{"type": "text", "text": text}] if plan.parts else text


def _thinking(plan: ChatReply, text: str) -> dict[str, Any]:
    if plan.parts:
        return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}
    return {plan.reasoning_key: text}


def _tool_id(tool: Tool, place: int) -> str:
    return tool.id or f"call_play{place}"


def _tool_deltas(plan: ChatReply, place: int, tool: Tool) -> Iterator[dict[str, Any]]:
    index = {} if plan.tool_deltas == "no_index" else {"index": place}
    identity = {} if plan.tool_deltas == "no_id" else {"id": _tool_id(tool, place)}
    if plan.tool_deltas == "whole":
        yield {**index, **identity, "type": "function", "function": {"name": tool.name, "arguments": tool.arguments}}
        return
    yield {**index, **identity, "type": "function", "function": {"name": tool.name, "arguments": ""}}
    again = identity if plan.tool_deltas == "repeated_id" else {}
    for start in range(0, len(tool.arguments), 8):
        yield {**index, **again, "function": {"arguments": tool.arguments[start : start + 8]}}


def _choice_deltas(plan: ChatReply, choice: int) -> Iterator[tuple[int, dict[str, Any], int, str]]:
    if plan.role == "first":
        yield choice, {"role": "assistant", "content": ""}, 0, ""
    for piece in pieces_of(plan.reasoning):
        yield choice, _thinking(plan, piece), 1, ""
    for piece in _texts(plan, choice):
        yield choice, {"content": _content(plan, piece)}, 1, piece
    for piece in pieces_of(plan.refusal):
        yield choice, {"refusal": piece}, 1, ""
    for place, tool in enumerate(plan.tools):
        for delta in _tool_deltas(plan, place, tool):
            yield choice, {"tool_calls": [delta]}, 1, ""


def _deltas(plan: ChatReply) -> list[tuple[int, dict[str, Any], int, str]]:
    """Choice, delta, units and text of every delta, the choices taking turns."""
    turns = itertools.zip_longest(*(_choice_deltas(plan, choice) for choice in range(plan.n)))
    return [delta for turn in turns for delta in turn if delta is not None]


def _token_logprobs(text: str) -> dict[str, Any]:
    token = {"token": text, "logprob": -0.25, "bytes": list(text.encode()), "top_logprobs": []}
    return {"content": [token], "refusal": None}


class _ChatFrames:
    """Makes the frames of one stream, keeping the running counts."""

    def __init__(self, plan: ChatReply) -> None:
        self.plan = plan
        self.placement = CHAT_SHAPES[plan.shape]
        self.counts = plan.counts()
        self.units = 0
        self.all_units = sum(units for _, _, units, _ in _deltas(plan)) or 1
        self.made: list[Send] = []
        self.reason = plan.finish or ("tool_calls" if plan.tools else "stop")

    def frame(
        self, choices: list[Choice], *, units: int = 0, text: str = "", final: Counts | None = None, **more: object
    ) -> None:
        """One `chat.completion.chunk`; `final` is the usage it reports, beside what the shape puts on every frame."""
        self.units += units
        value: dict[str, Any] = {
            "id": "chatcmpl-" + REPLY_NUMBER.decode(),
            "object": "chat.completion.chunk",
            "created": 1735689600,
            "model": self.plan.model,
            "choices": choices,
        }
        reported = final
        if final is not None:
            value["usage"] = chat_usage(self.plan, final)
        elif self.placement.running == "yes":
            reported = replace(self.counts, output=(self.counts.output or 0) * self.units // self.all_units)
            reported = replace(reported, reasoning=None if reported.reasoning is None else 0)
            value["usage"] = chat_usage(self.plan, reported)
        elif self.placement.running == "late":
            reported = Counts(input=self.counts.input)
            value["usage"] = chat_usage(self.plan, self.counts, late=True)
        elif self.placement.nulls:
            value["usage"] = None
        if self.plan.obfuscation:
            value["obfuscation"] = "mNqX7d2"[: 1 + len(self.made) % 7]
        self.raw(compact_json(value | dict(self.plan.extra) | more), units=units, text=text, reported=reported)

    def raw(self, payload: bytes, *, units: int = 0, text: str = "", reported: Counts | None = None) -> None:
        self.made.append(Send(b"data: " + payload + b"\n\n", units, text, reported))

    def comment(self) -> None:
        self.made.append(Send(b": OPENROUTER PROCESSING\n\n"))

    def choice(self, index: int, delta: dict[str, Any], finish: str | None = None, text: str = "") -> Choice:
        role = {"role": "assistant"} if self.plan.role == "every" else {}
        choice: Choice = {"index": index, "delta": role | delta, "finish_reason": finish}
        if self.plan.logprobs:
            choice["logprobs"] = _token_logprobs(text) if text else None
        return choice

    def finishes(self) -> None:
        """The finish frames of every choice; usage rides on the very last where the shape says so."""
        plan, placement = self.plan, self.placement
        ends = [choice for _ in range(plan.finish_times) for choice in range(plan.n)]
        for place, choice in enumerate(ends):
            last = place == len(ends) - 1
            final = self.counts if last and placement.on_finish else None
            more: dict[str, Any] = {}
            if last and placement.x_groq:
                more["x_groq"] = {"id": "req_play", "usage": chat_usage(plan, self.counts)}
            self.frame([self.choice(choice, {}, self.reason)], final=final, **more)
            if more:
                self.made[-1] = replace(self.made[-1], reported=self.counts)

    def end_of(self, choice: int) -> None:
        """One choice's finish, and its own usage: the prompt again, and this choice's completion alone."""
        for _ in range(self.plan.finish_times):
            self.frame([self.choice(choice, {}, self.reason)])
        self.frame([], final=_share(self.plan, choice))
        upto = sum(_share(self.plan, ended).output or 0 for ended in range(choice + 1))
        self.made[-1] = replace(self.made[-1], reported=replace(self.counts, output=upto))

    def afterword(self) -> None:
        """What comes after the finish: the usage frames that the shape puts apart."""
        counts = self.counts
        match self.placement.after:
            case "empty":
                self.frame([], final=counts)
            case "non_empty":
                beside = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
                self.frame([beside], final=counts)
            case "none" | "per_choice":
                pass


def _stream(plan: ChatReply) -> Script:
    frames = _ChatFrames(plan)
    if plan.comments:
        frames.comment()
    if plan.azure:
        frames.frame([], prompt_filter_results=[{"prompt_index": 0, "content_filter_results": {}}])
    apart = frames.placement.after == "per_choice" and plan.error == "none"
    deltas = _deltas(plan)
    last = {choice: place for place, (choice, *_) in enumerate(deltas)} if apart else {}
    for place, (choice, delta, units, text) in enumerate(deltas):
        if plan.comments and place == len(deltas) // 2:
            frames.comment()
        frames.frame([frames.choice(choice, delta, text=text)], units=units, text=text)
        if last.get(choice) == place:
            frames.end_of(choice)
    if plan.error in ("plain", "groq"):
        mark = b"event: error\n" if plan.error == "groq" else b""
        more = {"status_code": 400} if plan.error == "groq" else {}
        error = {"message": "The play was stopped.", "type": "server_error", "code": "tool_use_failed", **more}
        frames.raw(compact_json({"error": error}))
        frames.made[-1] = replace(frames.made[-1], data=mark + frames.made[-1].data)
    else:
        if plan.error == "openrouter":
            frames.frame([frames.choice(0, {}, "length")])
            beside = [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
            frames.frame(beside, final=frames.counts, error={"code": 400, "message": "Token limit reached"})
        elif not apart:
            frames.finishes()
            frames.afterword()
        if plan.done:
            frames.raw(b"[DONE]")
    made = frames.made
    if plan.crlf:
        made = [replace(frame, data=frame.data.replace(b"\n", b"\r\n")) for frame in made]
    return Script(steps=tuple(made), usage=frames.counts, name=f"chat {plan.shape}")


def _message(plan: ChatReply, choice: int) -> dict[str, Any]:
    text = "".join(_texts(plan, choice))
    reasoning, refusal = "".join(pieces_of(plan.reasoning)), "".join(pieces_of(plan.refusal))
    message: dict[str, Any] = {"role": "assistant", "content": _content(plan, text) if text else None}
    message["refusal"] = refusal or None
    if reasoning and plan.parts:
        message["content"] = [*_thinking(plan, reasoning)["content"], *(message["content"] or [])]
    elif reasoning:
        message |= _thinking(plan, reasoning)
    if plan.tools:
        message["tool_calls"] = [
            {
                "id": _tool_id(tool, place),
                "type": "function",
                "function": {"name": tool.name, "arguments": tool.arguments},
            }
            for place, tool in enumerate(plan.tools)
        ]
    return message


def _whole(plan: ChatReply) -> Script:
    counts, deltas = plan.counts(), _deltas(plan)
    reason = plan.finish or ("tool_calls" if plan.tools else "stop")
    choices = [
        {"index": choice, "message": _message(plan, choice), "logprobs": None, "finish_reason": reason}
        for choice in range(plan.n)
    ]
    body: dict[str, Any] = {
        "id": "chatcmpl-" + REPLY_NUMBER.decode(),
        "object": "chat.completion",
        "created": 1735689600,
        "model": plan.model,
        "choices": choices,
    }
    reported = _share(plan, 0) if plan.shape == "per_choice" else None if plan.shape == "absent" else counts
    if reported is not None:
        body["usage"] = chat_usage(plan, reported)
    text = "".join("".join(_texts(plan, choice)) for choice in range(plan.n))
    frame = Send(compact_json(body | dict(plan.extra)), sum(units for _, _, units, _ in deltas), text, reported)
    return Script(
        steps=(*(Send(b"\n         ") for _ in range(plan.padding)), frame),
        headers=(("content-type", "application/json"),),
        framing="chunked" if plan.padding else "length",
        usage=counts,
        name="chat whole",
    )
