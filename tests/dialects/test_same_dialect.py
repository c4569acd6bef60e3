"""The same dialect on both sides: over every recording, only what the repair table names is another value.

Each dialect's table says in words what it mends. Here every row that changes values is put as paths, and whatever a
recording's reply holds at any other path must reach the client: the same values, in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from counterfoil.cli.meter import RECORDED_DIALECTS, Recorded
from counterfoil.config import Limits
from counterfoil.dialects.anthropic_messages import relay as messages_relay
from counterfoil.dialects.dialect import ClientDialect, FinalUsage, Quirks, ReplyFacts
from counterfoil.dialects.gemini import relay as gemini_relay
from counterfoil.dialects.openai_chat.repairs import REPAIRS as CHAT_REPAIRS
from counterfoil.dialects.openai_responses import relay as responses_relay
from counterfoil.dialects.registry import CLIENT_DIALECTS
from counterfoil.exchange.meter import Meter
from counterfoil.exchange.reply import Reply
from counterfoil.framing.frame import Frame
from counterfoil.ledger.entry import Exit
from tests import wire
from tests.dialects.recorded import recorded

TABLES: Mapping[str, frozenset[str]] = {
    "openai_chat": frozenset(row.name for row in CHAT_REPAIRS),
    "openai_completions": frozenset(row.name for row in CHAT_REPAIRS),
    "anthropic_messages": frozenset(row.where for row in messages_relay.REPAIRS),
    "openai_responses": frozenset(row.where for row in responses_relay.REPAIRS),
    "gemini": frozenset(gemini_relay.REPAIRS),
}
"""The repair tables' rows by what they call themselves. Dialects with whole replies alone mend the members of a body
by `whole_relay`, and say so in its function."""
MENDED = "the members that whole_relay mends"

_CHAT: Mapping[str, str] = {
    "id": "one identity",
    "object": "one identity",
    "created": "one identity",
    "model": "one identity",
    "usage": "usage key",
    "x_groq.usage": "x_groq.usage",
    "choices": "frame without choices",
    "choices.index": "choice index",
    "choices.finish_reason": "finish repeated",
    "choices.native_finish_reason": "finish repeated",
    "choices.delta.role": "role",
    "choices.delta.tool_calls.index": "tool index",
    "choices.delta.tool_calls.id": "tool id and name",
    "choices.delta.tool_calls.type": "tool id and name",
    "choices.delta.tool_calls.function.name": "tool id and name",
}
NAMED: Mapping[str, Mapping[str, str]] = {
    "openai_chat": _CHAT,
    "openai_completions": _CHAT,
    "anthropic_messages": {
        "message.model": "message_start.message.model, message.model",
        "model": "message_start.message.model, message.model",
        "message.usage.output_tokens": "message_start.message.usage.output_tokens",
        "message.usage.input_tokens": "message_start.message.usage.input_tokens",
        "usage": "message_delta.usage, message.usage",
    },
    "openai_responses": {
        "model": "response.model",
        "response.model": "response.model",
        "response.usage": "response.usage of the terminal event",
        "usage": "response.usage of the terminal event",
        "sequence_number": "sequence_number",
    },
    "gemini": {"modelVersion": "modelVersion", "responseId": "responseId", "usageMetadata": "usageMetadata"},
    "openai_embeddings": {"model": MENDED, "usage": MENDED},
    "gemini.embed": {"usageMetadata": MENDED, "embedding": MENDED, "embeddings": MENDED},
    "cohere.rerank": {},
    "anthropic_messages.count": {},
    "openai_responses.count": {},
    "gemini.count": {},
}
"""By dialect: a path of the reply, and the row that may change what is there and below it."""
FRAMES_GO = frozenset({"openai_chat", "openai_completions"})
"""Dialects whose table takes whole frames out (a finish said twice): what a frame says of itself is then said less
often, never otherwise."""


def rows(name: str) -> list[str]:
    return [one for one in wire.ids() if RECORDED_DIALECTS.get(one.split("/")[0]) == name]


CELLS = [pytest.param(name, one, id=f"{name}-{one}") for name in CLIENT_DIALECTS for one in rows(name)]


def relayed(one: Recorded, dialect: ClientDialect[Any]) -> tuple[list[Frame], bytes]:
    """The frames that came, and the bytes that a client gets of them."""
    quirks = Quirks() if one.provider is None else one.provider.quirks_for(one.model)
    facts = ReplyFacts(
        id="ours",
        created=1,
        model="house-model",
        streamed=one.streamed,
        usage_asked=True,
        choices=one.asked.choices,
        input_estimate=7,
    )
    reply = Reply(
        dialect,
        Meter("", None),
        streamed=one.streamed,
        choices=one.asked.choices,
        quirks=quirks,
        limits=Limits(),
        headers=one.headers,
    )
    relay = dialect.relay(facts, quirks)
    steps = [*reply.feed(one.data), *reply.close()]
    out = b"".join(relay.carry(frame, events) for frame, events in steps)
    read = one.read()
    last = read.reading.raw[-1] if read.reading.raw else b""
    return [frame for frame, _ in steps], out + relay.close(FinalUsage(read.settlement.usage, provider_raw=last))


def values(frames: list[Frame]) -> list[Any]:
    """The JSON of frames, end marks and comments left out."""
    return [
        json.loads(frame.data) for frame in frames if frame.data.strip() not in (b"", b"[DONE]") and not frame.comment
    ]


def written(out: bytes, dialect: ClientDialect[Any], streamed: bool) -> list[Any]:
    """What the client reads, by the dialect's own framing."""
    if not streamed:
        return [json.loads(out)]
    framing = dialect.framing(Limits().frame)
    last = framing.feed(out)
    end = framing.close()
    return values([*last, *([end] if end is not None else [])])


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its path; places in lists are no part of it, since their order is the order here."""
    if isinstance(value, dict) and value:
        for key, inside in value.items():
            yield from leaves(inside, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for inside in value:
            yield from leaves(inside, path)
    else:
        yield path, value


def at_paths(frames: list[Any], dialect: str) -> dict[str, list[str]]:
    """Values by path, as JSON, without what the table names."""
    found: dict[str, list[str]] = {}
    for frame in frames:
        for path, value in leaves(frame):
            if not any(
                path == named or (path.startswith(f"{named}.") and named != "choices") for named in NAMED[dialect]
            ):
                found.setdefault(path, []).append(json.dumps(value))
    return {path: settled(path, said, dialect) for path, said in found.items() if settled(path, said, dialect)}


def settled(path: str, said: list[str], dialect: str) -> list[str]:
    """Where frames may go, what a frame repeats counts once, and what says nothing does not count."""
    if dialect not in FRAMES_GO:
        return said
    telling = [value for value in said if value not in ("null", '""', "[]", "{}")]
    if path.startswith("choices."):
        return telling
    return [value for place, value in enumerate(telling) if value not in telling[:place]]


@pytest.mark.parametrize(
    ("name", "recording"), CELLS or [pytest.param("", "", marks=pytest.mark.skip(reason=wire.ABSENT))]
)
def test_only_what_the_table_names_is_another_value(name: str, recording: str) -> None:
    one = recorded(recording)
    if one.status >= 300 or one.read().exit is not Exit.COMPLETED:
        pytest.skip("it is no whole reply: its error is told by `fail`")
    dialect = CLIENT_DIALECTS[name]
    frames, out = relayed(one, dialect)
    before, after = values(frames), written(out, dialect, one.streamed)
    assert at_paths(after, name) == at_paths(before, name)
    models = [path for path in NAMED[name] if path.rpartition(".")[2] in ("model", "modelVersion")]
    told = [value for frame in after for path, value in leaves(frame) if path in models]
    assert set(told) <= {"house-model"}, "what the table names is mended indeed"


@pytest.mark.parametrize("name", CLIENT_DIALECTS)
def test_every_dialect_that_clients_speak_is_judged_and_every_path_has_its_row(name: str) -> None:
    table = TABLES.get(name, frozenset({MENDED}))
    assert {row for row in NAMED[name].values() if row not in table} == set()
    if wire.shared() is not None:
        assert rows(name), "no recording proves this dialect's relay"


def test_a_value_that_is_changed_without_a_row_is_seen() -> None:
    """The negative control: the same comparison fails for a relay that changes what no row names."""
    before = [{"id": "a", "choices": [{"index": 0, "delta": {"content": "Owl."}}]}]
    after = [{"id": "b", "choices": [{"index": 0, "delta": {"content": "owl."}}]}]
    assert at_paths(before, "openai_chat") == {"choices.delta.content": ['"Owl."']}
    assert at_paths(before, "openai_chat") != at_paths(after, "openai_chat")
