"""Promise: the Node.js clients count through the gateway what was served, once, whatever dialect stands behind it.

Each client is a program of this folder: the official ones, LangChain.js's and those of Vercel's `ai`. What each was
tried with is a line at the end of the run. Needs Node.js 20.19 and `make node-clients`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import pytest

from counterfoil.ledger.entry import Exit
from counterfoil.testing import Counts
from tests.shells.clients import booked, told
from tests.shells.clients_node.house import (
    BEHIND,
    FEATURES,
    PLANS,
    REFUSAL,
    TROUBLES,
    Cell,
    House,
    Told,
    Way,
    house,
    versions,
)

__all__: list[str] = []

Usage = Mapping[str, Any]
Raised = tuple[str, int | None]
"""The class of an exception, and its status."""

WHOLE_AND_STREAM: Final[tuple[Way, ...]] = ("whole", "stream")
ALL_WAYS: Final[tuple[Way, ...]] = ("whole", "stream", "helper")


def _of_responses(usage: Usage) -> Counts:
    inside, out = usage["input_tokens_details"], usage["output_tokens_details"]
    counts = Counts(
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        cache_read=inside["cached_tokens"],
        cache_write=inside.get("cache_write_tokens"),
        reasoning=out["reasoning_tokens"],
    )
    assert usage["total_tokens"] == counts.total
    return counts


def _of_messages(usage: Usage) -> Counts:
    read, write = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    return Counts(
        input=usage["input_tokens"] + (read or 0) + (write or 0),
        output=usage["output_tokens"],
        cache_read=read,
        cache_write=write,
        reasoning=(usage.get("output_tokens_details") or {}).get("thinking_tokens"),
    )


def _of_langchain(usage: Usage) -> Counts:
    inside, out = usage.get("input_token_details") or {}, usage.get("output_token_details") or {}
    counts = Counts(
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        cache_read=inside.get("cache_read"),
        cache_write=inside.get("cache_creation"),
        reasoning=out.get("reasoning"),
    )
    assert usage["total_tokens"] == counts.total
    return counts


def _of_ai(usage: Usage) -> Counts:
    inside, out = usage["inputTokenDetails"], usage["outputTokenDetails"]
    counts = Counts(
        input=usage["inputTokens"],
        output=usage["outputTokens"],
        cache_read=inside.get("cacheReadTokens"),
        cache_write=inside.get("cacheWriteTokens"),
        reasoning=out.get("reasoningTokens"),
    )
    assert usage["totalTokens"] == counts.total
    return counts


OPENAI: Final[Mapping[str, Raised]] = {
    "field": ("BadRequestError", 400),
    "key": ("AuthenticationError", 401),
    "size": ("APIError", 413),
    "unknown": ("NotFoundError", 404),
    "refused": ("InternalServerError", 503),
    "silent": ("InternalServerError", 502),
    "broken": ("APIError", None),
}
"""What `openai` raises, and older `@anthropic-ai/sdk`; LangChain.js lets their exceptions through."""
ANTHROPIC: Final[Mapping[str, Raised]] = {
    **OPENAI,
    "size": ("ContentTooLargeError", 413),
    "refused": ("ServiceUnavailableError", 503),
}
AI: Final[Mapping[str, Raised]] = {
    "field": ("APICallError", 400),
    "key": ("APICallError", 401),
    "size": ("APICallError", 413),
    "unknown": ("APICallError", 404),
    "refused": ("APICallError", 503),
    "silent": ("APICallError", 502),
    "broken": ("StreamProviderError", 500),
}
"""What `ai` raises. In a stream the error is a part of the stream; its status is of the client's own making."""
AI_COMPATIBLE: Final[Mapping[str, Raised]] = {**AI, "broken": ("StreamProviderError", None)}
"""The same, but for that status."""


SAID: Final[Mapping[str, str]] = {
    "field": "xpected `",
    "key": "This key is not known here.",
    "size": "The request body is larger than 64 KiB.",
    "unknown": "is not known here; did you mean",
    "refused": REFUSAL,
    "silent": "the provider hung up without an answer",
    "broken": "The provider's reply ended before it was complete",
}
"""Words of each message."""
EXITS: Final[Mapping[str, Exit]] = {"refused": Exit.REJECTED, "silent": Exit.LOST, "broken": Exit.TRUNCATED}
"""How an attempt ended; the other troubles come before there is one."""
MADE_BEHIND: Final = frozenset(EXITS)
"""The troubles that a provider makes."""


@dataclasses.dataclass(frozen=True)
class Client:
    """One client: what it is made of, how it is asked, and how its usage is read."""

    packages: tuple[str, ...]
    program: str
    native: str
    """The dialect it speaks."""
    counts: Callable[[Usage], Counts]
    raised: Mapping[str, Raised]
    door: str = "chat"
    """Which of its doors, where it has two."""
    ways: tuple[Way, ...] = WHOLE_AND_STREAM
    lacks: frozenset[str] = frozenset()
    """The counts that this client has no place for."""
    reasons: bool = True
    """Whether it has a place for the text of reasoning."""
    reads_head: bool = False
    """Whether it reads a stream's input in `message_start` only."""


CLIENTS: Final[Mapping[str, Client]] = {
    "openai, chat completions": Client(("openai",), "openai_chat", "openai_chat", told, OPENAI, ways=ALL_WAYS),
    "openai, responses": Client(
        ("openai",), "openai_responses", "openai_responses", _of_responses, OPENAI, ways=ALL_WAYS
    ),
    "@anthropic-ai/sdk": Client(
        ("@anthropic-ai/sdk",), "anthropic", "anthropic_messages", _of_messages, ANTHROPIC, ways=ALL_WAYS
    ),
    "@langchain/openai": Client(
        ("@langchain/openai", "@langchain/core"),
        "langchain_openai",
        "openai_chat",
        _of_langchain,
        OPENAI,
    ),
    "@langchain/openai, responses": Client(
        ("@langchain/openai", "@langchain/core"),
        "langchain_openai",
        "openai_responses",
        _of_langchain,
        OPENAI,
        door="responses",
    ),
    "@langchain/anthropic": Client(
        ("@langchain/anthropic", "@langchain/core"),
        "langchain_anthropic",
        "anthropic_messages",
        _of_langchain,
        OPENAI,
        lacks=frozenset({"reasoning"}),
        reads_head=True,
    ),
    "@ai-sdk/openai-compatible": Client(
        ("@ai-sdk/openai-compatible", "ai"),
        "ai_compatible",
        "openai_chat",
        _of_ai,
        AI_COMPATIBLE,
        lacks=frozenset({"cache_write"}),
    ),
    "@ai-sdk/openai": Client(
        ("@ai-sdk/openai", "ai"),
        "ai_openai",
        "openai_responses",
        _of_ai,
        AI,
        door="responses",
    ),
    "@ai-sdk/openai, chat completions": Client(
        ("@ai-sdk/openai", "ai"), "ai_openai", "openai_chat", _of_ai, AI, reasons=False
    ),
    "@ai-sdk/anthropic": Client(("@ai-sdk/anthropic", "ai"), "ai_anthropic", "anthropic_messages", _of_ai, AI),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    names = [_key(name, kind) for name in CLIENTS for kind in ("cells", "errors", "head")]
    with house(tmp_path_factory.mktemp("house"), [*names, "once", "twice"]) as made:
        yield made


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_hears_and_counts_what_was_served(
    running: House, name: str, record_property: Callable[[str, object], None]
) -> None:
    client = CLIENTS[name]
    cells = [Cell(behind, way, feature) for behind in BEHIND for way in client.ways for feature in FEATURES]
    record_property("node client", (_titled(name), f"{len(cells)} cells", f"all equal{_but(client)}"))
    told_of = running.ask(client.program, [cell.order(client.door) for cell in cells], _key(name, "cells"))
    wrong = [line for cell in cells for line in _differences(client, cell, told_of[cell.name])]
    assert not wrong, "\n".join(["", *wrong])


def _differences(client: Client, cell: Cell, said: Told) -> list[str]:
    """Where the client or the books say something else than was served."""
    if said.served is None or said.entry is None or "error" in said.heard:
        return [f"{cell.name}: {said.heard.get('error', 'no entry')}"]
    plan, heard, served = PLANS[cell.feature], said.heard, said.served.usage
    assert served is not None
    opening, calls = said.entry.opening, heard["calls"]
    found = {
        "dialects": ((opening.client_dialect, opening.provider_dialect), (client.native, cell.behind)),
        "exit": (said.entry.exit, Exit.COMPLETED),
        "text": (heard["text"], plan.text),
        "reasoning": (heard["reasoning"], _reasoning(client, cell)),
        "calls": (
            [(call["name"], json.loads(call["said"] or "{}")) for call in calls],
            [(tool.name, json.loads(tool.arguments)) for tool in plan.tools],
        ),
        "ids of calls": (len({call["id"] for call in calls if call["id"]}), len(plan.tools)),
        "books": (_plain(booked(said.entry)), _plain(served)),
        "usages": (len(heard["usages"]), 1),
        "usage": (_plain(client.counts(heard["usages"][-1])), _plain(_seen(client, cell, said))),
    }
    if "metadata" in heard and opening.client_dialect == "openai_chat":
        found["usage in response_metadata"] = (_plain(told(heard["metadata"]["usage"])), _plain(served))
    return [f"{cell.name}: {what} is {there}, not {right}" for what, (there, right) in found.items() if there != right]


def _seen(client: Client, cell: Cell, said: Told) -> Counts:
    """What was served, as far as the client has a place for it."""
    assert said.served is not None
    assert said.served.usage is not None
    served = dataclasses.replace(said.served.usage, **dict.fromkeys(client.lacks, None))
    head = said.heard.get("head")
    if head is None:
        return served
    if head.get("estimated") is not True:
        assert _of_messages(head).input == served.input, cell.name
        return served
    # The one expected exception (`messages_head: estimate`): the input is that of the head, which is marked.
    assert cell.behind != client.native, cell.name
    if client.reads_head:
        first = _of_messages(head)
        return dataclasses.replace(
            served, input=first.input, cache_read=first.cache_read, cache_write=first.cache_write
        )
    return served


def _reasoning(client: Client, cell: Cell) -> str:
    plan = PLANS[cell.feature]
    said = plan.reasoning if isinstance(plan.reasoning, str) and client.reasons else ""
    if (client.program, cell.way) == ("openai_chat", "helper"):
        # It adds up only the fields it knows; of others it keeps the last piece.
        return said.removeprefix("High or")
    return said


def _plain(counts: Counts) -> dict[str, int]:
    """Nobody said and nothing was are one to a client."""
    return {name: value or 0 for name, value in dataclasses.asdict(counts).items()}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_raises_its_own_errors(
    running: House, name: str, record_property: Callable[[str, object], None]
) -> None:
    client = CLIENTS[name]
    across = "anthropic_messages" if client.native != "anthropic_messages" else "openai_chat"
    cells = [
        Cell(behind, way, trouble=trouble)
        for trouble in TROUBLES
        for behind in ((client.native, across) if trouble in MADE_BEHIND else (across,))
        for way in client.ways
        if way != "whole" or trouble != "broken"
    ]
    record_property("node client", (_titled(name), f"{len(cells)} errors", "all its own"))
    told_of = running.ask(client.program, [cell.order(client.door) for cell in cells], _key(name, "errors"))
    wrong = [line for cell in cells for line in _unlike(client, cell, told_of[cell.name])]
    assert not wrong, "\n".join(["", *wrong])


def _unlike(client: Client, cell: Cell, said: Told) -> list[str]:
    """Where an error is not the client's own, says something else, or is booked otherwise."""
    error = said.heard.get("error") or {"name": None, "status": None, "message": ""}
    kind, status = client.raised[cell.trouble]
    found: dict[str, tuple[object, object]] = {
        "class": (error["name"], kind),
        "status": (error["status"], status),
        "message": (SAID[cell.trouble] in error["message"], True),
        "exit": (said.entry and said.entry.exit, EXITS.get(cell.trouble)),
        "served": (said.served is not None, cell.trouble in EXITS),
        "usages": (said.heard["usages"] if cell.trouble != "broken" else [], []),
    }
    if cell.trouble == "broken" and cell.way == "stream":
        assert said.served is not None
        found["text"] = (said.heard["text"], said.served.text)
    return [
        f"{cell.name}: {what} is {there}, not {right}: {error}"
        for what, (there, right) in found.items()
        if there != right
    ]


def test_langchain_counts_twice_what_was_said_beside_choices_and_once_through_the_gateway(running: House) -> None:
    client, cell = CLIENTS["@langchain/openai"], Cell("openai_chat", "stream", "beside")
    order = cell.order(client.door)
    through = running.ask(client.program, [order], "once")[cell.name]
    assert _differences(client, cell, through) == []
    # The control: without the gateway this client does count twice, so the comparisons of this module can fail.
    direct = running.ask(client.program, [{**order, "base_url": running.provider.base_url}], "twice")[cell.name]
    assert direct.served is not None
    assert direct.served.usage is not None
    once, twice = direct.served.usage, direct.heard["metadata"]["usage"]
    assert (once.input, once.output) == (40, 17)
    assert (twice["prompt_tokens"], twice["completion_tokens"], twice["total_tokens"]) == (80, 34, 114)


@pytest.mark.parametrize("name", [name for name, client in CLIENTS.items() if client.native == "anthropic_messages"])
def test_a_head_that_waits_is_exact(running: House, name: str) -> None:
    client = CLIENTS[name]
    behind = [dialect for dialect in BEHIND if dialect != client.native]
    cells = [Cell(one, "stream", feature, head="buffer") for one in behind for feature in FEATURES]
    told_of = running.ask(client.program, [cell.order(client.door) for cell in cells], _key(name, "head"))
    wrong = [line for cell in cells for line in _differences(client, cell, told_of[cell.name])]
    assert not wrong, "\n".join(["", *wrong])
    heads = [said.heard["head"] for said in told_of.values() if "head" in said.heard]
    assert not [head for head in heads if "estimated" in head]
    assert len(heads) == (0 if client.program == "ai_anthropic" else len(cells))


def _but(client: Client) -> str:
    """What of a reply this client does not show, or shows otherwise than it was served."""
    said = [f"{count} is not shown" for count in sorted(client.lacks)]
    if not client.reasons:
        said.append("reasoning text is not shown")
    if client.reads_head:
        said.append("input of streams across dialects is the head's marked estimate")
    return f" ({', '.join(said)})" if said else ""


def _titled(name: str) -> str:
    """The client with its versions."""
    return f"{name} ({versions(*CLIENTS[name].packages)})"


def _key(name: str, kind: str) -> str:
    return re.sub("[^a-z]+", "-", f"{name} {kind}").strip("-")
