"""Promise: before a provider that takes only some ids of tool calls, a mixed history goes through, and each result
stays with its call."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from counterfoil.core.message import Image, Message, Text, ToolCall, ToolResult
from counterfoil.core.operation import ChatRequest
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.openai_chat import OPENAI_CHAT, call_ids
from counterfoil.driver.deployment import load_table

__all__: list[str] = []

MISTRAL = load_table()["mistral"].quirks
FOREIGN = ("toolu_01NGSZ6A8jPBzZr8prgLzR7P", "call_abc", "tides:0", "nine_long", "neunläng", "callcallcall")
OWN = ("iRvM4muS4", "000000000")


def conversation(*ids: str) -> tuple[Message, ...]:
    """A call and its result for each id."""
    turns: list[Message] = [Message("user", (Text("When is high water?"),))]
    for one in ids:
        turns.append(Message("assistant", (ToolCall(one, "tides", "{}"),)))
        turns.append(Message("tool", (ToolResult(one, (Text(f"of {one}"),)),)))
    return tuple(turns)


def crossed(*ids: str, quirks: Quirks = MISTRAL) -> list[tuple[str, str]]:
    """The ids of calls and of their results, as they are written for a client of another dialect."""
    request = ChatRequest("house-model", conversation(*ids))
    return pairs(OPENAI_CHAT.write_request(request, "m", quirks, False).body)


def chat_body(*ids: str) -> bytes:
    """The same conversation as a chat client writes it, with a field nobody knows in each message."""
    turns: list[Any] = [{"role": "user", "content": "When is high water?", "mkfuture": 1.50}]
    for one in ids:
        call = {"id": one, "type": "function", "function": {"name": "tides", "arguments": "{ }"}, "mkfuture": None}
        turns.append({"role": "assistant", "content": None, "tool_calls": [call], "mkfuture": {"a": []}})
        turns.append({"mkfuture": "x", "tool_call_id": one, "role": "tool", "content": f"of {one}"})
    return json.dumps({"messages": turns, "model": "house-model", "mkfuture": 1}).encode()


def patched(body: bytes, quirks: Quirks = MISTRAL) -> bytes:
    return OPENAI_CHAT.patch_request(body, "m", quirks, True)


def pairs(body: bytes) -> list[tuple[str, str]]:
    turns = json.loads(body)["messages"][1:]
    return [
        (call["tool_calls"][0]["id"], result["tool_call_id"])
        for call, result in zip(turns[::2], turns[1::2], strict=True)
    ]


def test_mistral_takes_nine_letters_and_digits() -> None:
    assert MISTRAL.call_id_length == 9


@pytest.mark.parametrize("way", ["crossed", "same dialect"])
def test_foreign_ids_become_nine_letters_and_digits_alike_in_call_and_result(way: str) -> None:
    found = crossed(*FOREIGN, *OWN) if way == "crossed" else pairs(patched(chat_body(*FOREIGN, *OWN)))
    for call, result in found:
        assert call == result
        assert len(call) == 9
        assert call.encode().isalnum()
    assert len(set(found)) == len(FOREIGN) + len(OWN)
    assert tuple(call for call, _ in found[-2:]) == OWN, "what fits stays"


def test_both_ways_find_the_same_stand_in_in_every_turn() -> None:
    whole = crossed(*FOREIGN)
    assert pairs(patched(chat_body(*FOREIGN))) == whole
    assert crossed(*FOREIGN[:2]) == whole[:2]


def test_two_ids_never_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made = call_ids._made_of
    monkeypatch.setattr(call_ids, "_made_of", lambda said, number, length: made("all the same", number, length))
    first = made("all the same", 0, 9)
    found = crossed("call_1", first, "call_2", "call_3")
    assert all(call == result for call, result in found)
    assert len(set(found)) == 4
    assert found[1] == (first, first), "also where a stand-in would be an id that is there"


@settings(max_examples=50, deadline=None)
@given(some.lists(some.text(min_size=1, max_size=12), unique=True, max_size=8))
def test_any_ids_stay_apart(ids: list[str]) -> None:
    found = crossed(*ids)
    assert len({call for call, _ in found}) == len(ids)
    assert all(call == result and len(call) == 9 for call, result in found)


def test_in_the_same_dialect_nothing_else_changes() -> None:
    body = chat_body("call_abc", *OWN)
    changed, kept = json.loads(patched(body)), json.loads(body)
    stand_in = changed["messages"][2]["tool_call_id"]
    kept["model"] = "m"
    kept["messages"][1]["tool_calls"][0]["id"] = kept["messages"][2]["tool_call_id"] = stand_in
    assert json.dumps(changed) == json.dumps(kept), "in the order it came"


@pytest.mark.parametrize("quirks", [Quirks(), MISTRAL])
def test_messages_whose_ids_all_fit_are_carried_byte_for_byte(quirks: Quirks) -> None:
    body = msgspec.json.encode({"model": "house-model", "messages": msgspec.Raw(b'[ {"role":"user", "content":"x"} ]')})
    assert patched(body, quirks) == body.replace(b"house-model", b"m")
    if quirks.call_id_length is None:
        assert pairs(patched(chat_body(*FOREIGN), quirks)) == [(one, one) for one in FOREIGN]


@pytest.mark.parametrize("messages", [b"7", b'[{"tool_calls":7}]', b'[{"role":"tool","tool_call_id":[]}]', b"null"])
def test_messages_of_an_unknown_shape_are_left_to_the_provider(messages: bytes) -> None:
    body = b'{"model":"house-model","messages":' + messages + b"}"
    assert patched(body) == body.replace(b"house-model", b"m")


def test_a_picture_that_a_tool_returned_speaks_of_the_id_that_is_sent() -> None:
    shown = Message("tool", (ToolResult("toolu_1", (Image(url="https://harbour.example/boat.png"),)),))
    request = ChatRequest("house-model", (Message("assistant", (ToolCall("toolu_1", "look", "{}"),)), shown))
    sent = json.loads(OPENAI_CHAT.write_request(request, "m", MISTRAL, False).body)["messages"]
    stand_in = sent[0]["tool_calls"][0]["id"]
    assert sent[1]["tool_call_id"] == stand_in
    assert sent[2]["content"][0]["text"] == f"[Returned by tool call {stand_in}:]"
