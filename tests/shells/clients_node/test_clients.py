"""Promise: the Node.js clients count through the gateway what was served, once, whatever dialect stands behind it.

Each client is a program of this folder: the official ones, LangChain.js's and those of Vercel's `ai`. What each was
tried with is a line at the end of the run. Needs Node.js 20.19 and `make node-clients`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

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
    house,
    versions,
)
from tests.shells.clients_node.table import CLIENTS, Client, counts_of_messages

__all__: list[str] = []

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


Hear = Callable[[str], dict[str, Told]]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("house"), [*map(_key, CLIENTS), "once", "twice"]) as made:
        yield made


@pytest.fixture(scope="module")
def hear(running: House) -> Hear:
    """What was told of each cell of a client, by its name; all of them are asked at the first call."""

    @functools.cache
    def heard(name: str) -> dict[str, Told]:
        client = CLIENTS[name]
        cells = [*_cells(client), *_troubled(client), *_waiting(client)]
        return running.ask(client.program, [cell.order(client.door) for cell in cells], _key(name))

    return heard


def _cells(client: Client) -> list[Cell]:
    return [Cell(behind, way, feature) for behind in BEHIND for way in client.ways for feature in FEATURES]


def _troubled(client: Client) -> list[Cell]:
    across = "anthropic_messages" if client.native != "anthropic_messages" else "openai_chat"
    return [
        Cell(behind, way, trouble=trouble)
        for trouble in TROUBLES
        for behind in ((client.native, across) if trouble in MADE_BEHIND else (across,))
        for way in client.ways
        if way != "whole" or trouble != "broken"
    ]


def _waiting(client: Client) -> list[Cell]:
    """Where there is a head, and it waits."""
    behind = [dialect for dialect in BEHIND if client.native == "anthropic_messages" and dialect != client.native]
    return [Cell(one, "stream", feature, head="buffer") for one in behind for feature in FEATURES]


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_hears_and_counts_what_was_served(
    hear: Hear, name: str, record_property: Callable[[str, object], None]
) -> None:
    client = CLIENTS[name]
    cells = _cells(client)
    record_property("node client", (_titled(name), f"{len(cells)} cells", f"all equal{_but(client)}"))
    wrong = [line for cell in cells for line in _differences(client, cell, hear(name)[cell.name])]
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
        assert counts_of_messages(head).input == served.input, cell.name
        return served
    # The one expected exception (`messages_head: estimate`): the input is that of the head, which is marked.
    assert cell.behind != client.native, cell.name
    if client.reads_head:
        first = counts_of_messages(head)
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
def test_a_client_raises_its_own_errors(hear: Hear, name: str, record_property: Callable[[str, object], None]) -> None:
    client = CLIENTS[name]
    cells = _troubled(client)
    record_property("node client", (_titled(name), f"{len(cells)} errors", "all its own"))
    wrong = [line for cell in cells for line in _unlike(client, cell, hear(name)[cell.name])]
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


@pytest.mark.parametrize("name", [name for name, client in CLIENTS.items() if _waiting(client)])
def test_a_head_that_waits_is_exact(hear: Hear, name: str) -> None:
    client = CLIENTS[name]
    cells = _waiting(client)
    wrong = [line for cell in cells for line in _differences(client, cell, hear(name)[cell.name])]
    assert not wrong, "\n".join(["", *wrong])
    heads = [head for cell in cells if (head := hear(name)[cell.name].heard.get("head")) is not None]
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


def _key(name: str) -> str:
    return re.sub("[^a-z]+", "-", name).strip("-")
