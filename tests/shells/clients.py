"""Official clients in front of a real gateway in front of the playback provider, and what each of the three says.

Rule 1: the provider's own list is the truth. Ledger and client are both compared with it, never with each other alone.
Rule 2: every call has a ticket, its `user`, by which its request, its script and its entry are found again; so one
gateway and one provider serve a whole module, also at the same time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from counterfoil.ledger.entry import Entry, figures, vouchers
from counterfoil.stores.projection import Selection
from counterfoil.testing import (
    Answer,
    ChatReply,
    Counts,
    Playback,
    Request,
    Script,
    Served,
    Tool,
    error_answer,
    running,
)
from tests.shells.gateway import HELLO, SECONDS, RunningGateway, gateway

__all__ = [
    "ASKED",
    "CONFIGURATION",
    "MESSAGES",
    "ODDITIES",
    "TOOLS",
    "Heard",
    "Stage",
    "booked",
    "calls_of",
    "estimated",
    "hear",
    "hear_whole",
    "model_for",
    "plan_of",
    "staged",
    "texts_of",
    "told",
]

CONFIGURATION = """
models:
  m: [{{provider: playhouse, model: play-1, base_url: "{v1}", api_key: play}}]
  each: [{{provider: llama.cpp, model: play-1, base_url: "{v1}"}}]
  apart: [{{provider: xai, model: play-1, base_url: "{v1}", api_key: play}}]
  claude: [{{provider: anthropic, model: play-a, base_url: "{origin}", api_key: play}}]
  hasty:
    - {{provider: playhouse, model: play-1, base_url: "{v1}", timeouts: {{first_byte: 0.4, between_frames: 0.4}}}}
  again:
    deployments: [{{provider: playhouse, model: play-1, base_url: "{v1}", api_key: play}}]
    retries: {{attempts: 2, backoff: 0.01, backoff_max: 0.01}}
  always:
    deployments: [{{provider: playhouse, model: play-1, base_url: "{v1}", api_key: play}}]
    stream_usage: always
  claude-always:
    deployments: [{{provider: anthropic, model: play-a, base_url: "{origin}", api_key: play}}]
    stream_usage: always
listen: {{port: 0, drain: 5}}
retries: {{attempts: 1}}
"""
"""A server nobody described, llama.cpp (usage of each choice), xAI (reasoning counted apart), Anthropic."""

MESSAGES: Any = HELLO
"""What is said to the model; untyped, as a plain dict is to the client's own types."""
ASKED: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}

TOOLS = (Tool("tide", '{"port": "north", "hour": 4}'), Tool("boats"))
"""A call with arguments and one without."""
_FULL = Counts(input=40, output=17, cache_read=8, cache_write=4, reasoning=3)

ODDITIES: Mapping[str, ChatReply] = {
    "plain": ChatReply(),
    "details": ChatReply(usage=_FULL, reasoning="High or low?"),
    "two choices": ChatReply(n=2),
    "role missing": ChatReply(role="missing"),
    "role in every frame": ChatReply(role="every"),
    "finish twice": ChatReply(finish_times=2),
    "tools": ChatReply(text="", tools=TOOLS),
    "tools, whole": ChatReply(tools=TOOLS, tool_deltas="whole"),
    "tools without index": ChatReply(tools=TOOLS, tool_deltas="no_index"),
    "tools with repeated id": ChatReply(tools=TOOLS, tool_deltas="repeated_id"),
    "two choices with tools": ChatReply(tools=TOOLS, n=2),
    "no end mark": ChatReply(done=False),
    "crlf": ChatReply(crlf=True),
    "comments": ChatReply(comments=True),
    "azure": ChatReply(azure=True, obfuscation=True),
    "logprobs": ChatReply(logprobs=True),
    "refusal": ChatReply(text="", refusal="That I may not say."),
    "everything odd": ChatReply(azure=True, role="every", finish_times=2, crlf=True, comments=True, done=False, n=2),
}
"""What providers do to the frames, apart from where they put the usage."""


def plan_of(oddity: str, **changes: Any) -> ChatReply:
    """An oddity's plan, changed."""
    return dataclasses.replace(ODDITIES[oddity], **changes)


def model_for(plan: ChatReply) -> str:
    """The route whose provider behaves like that: where each choice has its own usage, the row says so."""
    return "each" if plan.shape == "per_choice" and plan.n > 1 else "m"


@dataclasses.dataclass
class Heard:
    """What a client understood of one reply."""

    texts: dict[int, str] = dataclasses.field(default_factory=dict)
    finishes: dict[int, list[str]] = dataclasses.field(default_factory=dict)
    calls: dict[int, list[tuple[str, str, str]]] = dataclasses.field(default_factory=dict)
    """Id, name and arguments of each tool call of each choice."""
    usages: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Every usage object that was seen, in order."""
    error: Exception | None = None

    @property
    def counts(self) -> Counts:
        """The only usage."""
        (usage,) = self.usages
        return told(usage)


class Stage:
    """A gateway, the provider behind it, and the tickets."""

    def __init__(self, provider: Playback, running_gateway: RunningGateway) -> None:
        self.provider = provider
        self.gateway = running_gateway
        self._numbers = itertools.count(1)
        self._answers: dict[str, Answer] = {}
        provider.default = self._choose

    @property
    def base_url(self) -> str:
        return self.gateway.base_url

    def put(self, answer: Answer) -> str:
        """A new ticket: the requests that show it as their `user` get this answer."""
        ticket = f"ticket-{next(self._numbers)}"
        self._answers[ticket] = answer
        return ticket

    def served(self, ticket: str) -> list[Served]:
        """What the provider served on a ticket."""
        return [served for served in self.provider.served if _ticket(served.request) == ticket]

    def entries(self, ticket: str) -> list[Entry]:
        """What the ledger has for a ticket, once nothing of it runs any more."""
        self.wait(lambda: not self.gateway.gateway.driver.open_exchanges)
        assert self.gateway.books.flush(SECONDS)
        return list(self.gateway.books.store.entries(Selection(user=ticket)))

    def once(self, ticket: str) -> tuple[Served, Entry]:
        """The one call that was served on a ticket, and its one entry."""
        (served,) = self.served(ticket)
        (entry,) = self.entries(ticket)
        return served, entry

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until `condition()` holds; for what no signal of ours announces."""
        until = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < until, "it never came to pass"
            time.sleep(0.005)

    def _choose(self, request: Request) -> Script:
        answer = self._answers.get(_ticket(request))
        if answer is None:
            return error_answer(500, "no such ticket")
        return answer if isinstance(answer, Script) else answer(request)


@contextlib.contextmanager
def staged(directory: Path, text: str = CONFIGURATION) -> Iterator[Stage]:
    """A running stage; `text` is the configuration, with `{v1}` and `{origin}` where the provider is."""
    with running() as provider:
        written = text.format(v1=provider.base_url, origin=provider.origin)
        with gateway(directory, text=written) as running_gateway:
            yield Stage(provider, running_gateway)


def told(usage: Mapping[str, Any]) -> Counts:
    """A client's usage object as counts."""
    prompt, completion = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    counts = Counts(
        input=usage["prompt_tokens"],
        output=usage["completion_tokens"],
        cache_read=prompt.get("cached_tokens"),
        cache_write=prompt.get("cache_write_tokens"),
        reasoning=completion.get("reasoning_tokens"),
    )
    assert usage["total_tokens"] == counts.total
    return counts


def booked(entry: Entry) -> Counts:
    """A ledger entry's figures as counts."""
    shown = figures(entry.usage)
    return Counts(
        input=shown.input_tokens,
        output=shown.output_tokens,
        cache_read=shown.cache_read_tokens,
        cache_write=shown.cache_write_tokens,
        reasoning=shown.reasoning_tokens,
    )


def estimated(entry: Entry) -> set[str]:
    """The figures of an entry that are estimates."""
    return {name for name, voucher in vouchers(entry.usage).items() if voucher.value == "estimated"}


def texts_of(plan: ChatReply) -> dict[int, str]:
    """What each choice of a plan says; empty texts left out."""
    first = plan.text if isinstance(plan.text, str) else "".join(plan.text)
    said = {choice: first + (f" #{choice}" if choice else "") for choice in range(plan.n)}
    return {choice: text for choice, text in said.items() if text}


def calls_of(plan: ChatReply) -> dict[int, list[tuple[str, str, str]]]:
    """The tool calls of each choice of a plan."""
    calls = [(tool.id or f"call_play{place}", tool.name, tool.arguments) for place, tool in enumerate(plan.tools)]
    return dict.fromkeys(range(plan.n), calls) if calls else {}


def hear(chunks: Iterable[Any]) -> Heard:
    """Put the chunks of the official client together, as the loop of any application does."""
    heard = Heard()
    parts: dict[tuple[int, int], list[str]] = {}
    for chunk in chunks:
        if chunk.usage is not None:
            heard.usages.append(chunk.usage.model_dump())
        for choice in chunk.choices:
            _hear_choice(heard, choice, parts)
    for choice, index in sorted(parts):
        identity, name, arguments = parts[choice, index]
        heard.calls.setdefault(choice, []).append((identity, name, arguments))
    return heard


def _hear_choice(heard: Heard, choice: Any, parts: dict[tuple[int, int], list[str]]) -> None:
    content = choice.delta.content
    if content:
        heard.texts[choice.index] = heard.texts.get(choice.index, "") + _text(content)
    if choice.finish_reason:
        heard.finishes.setdefault(choice.index, []).append(choice.finish_reason)
    for call in choice.delta.tool_calls or ():
        whole = parts.setdefault((choice.index, call.index), ["", "", ""])
        whole[0] += call.id or ""
        whole[1] += call.function.name or ""
        whole[2] += call.function.arguments or ""


def hear_whole(completion: Any) -> Heard:
    """What a whole completion says, of the official client or of its streaming helper."""
    heard = Heard(usages=[completion.usage.model_dump()] if completion.usage is not None else [])
    for choice in completion.choices:
        message = choice.message
        if message.content:
            heard.texts[choice.index] = _text(message.content)
        heard.finishes[choice.index] = [choice.finish_reason]
        calls = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()]
        if calls:
            heard.calls[choice.index] = calls
    return heard


def _text(content: str | Sequence[Any]) -> str:
    return content if isinstance(content, str) else json.dumps(content)


def _ticket(request: Request) -> str:
    metadata = request.json.get("metadata")
    user = request.json.get("user", metadata.get("user_id") if isinstance(metadata, dict) else None)
    return user if isinstance(user, str) else ""
