"""A reply that begins more calls than any reply holds is no reply: whoever writes it on would have to keep them all.

20,000 open calls in 3 MB took ten seconds to write for a client of Responses, which ends each when another begins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import pytest

from counterfoil.core.event import ToolCallStarted
from counterfoil.dialects.registry import DIALECTS
from counterfoil.exchange.recorded import read_reply
from counterfoil.ledger.entry import Exit
from counterfoil.testing.eventstream import event_message

__all__: list[str] = []

MOST: Final = 1_024
MANY: Final = MOST + 1


def _sse(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _function(place: int) -> dict[str, Any]:
    return {"id": f"c{place}", "type": "function", "function": {"name": "n", "arguments": ""}}


def _chat(place: int) -> bytes:
    return _sse({"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [{**_function(place), "index": place}]}}]})


def _messages(place: int) -> bytes:
    block = {"type": "tool_use", "id": f"t{place}", "name": "n", "input": {}}
    return _sse({"type": "content_block_start", "index": place, "content_block": block})


def _responses(place: int) -> bytes:
    item = {"type": "function_call", "id": f"f{place}", "call_id": f"c{place}", "name": "n", "arguments": ""}
    return _sse({"type": "response.output_item.added", "output_index": place, "item": item})


def _gemini(place: int) -> bytes:
    return _sse({"candidates": [{"content": {"parts": [{"functionCall": {"name": "n", "args": {}}}]}}]})


def _converse(place: int) -> bytes:
    start = {"toolUse": {"toolUseId": f"t{place}", "name": "n"}}
    return event_message("contentBlockStart", {"contentBlockIndex": place, "start": start})


def _cohere(place: int) -> bytes:
    return _sse({"type": "tool-call-start", "index": place, "delta": {"message": {"tool_calls": _function(place)}}})


def _ollama(place: int) -> bytes:
    called = {"function": {"name": "n", "arguments": {}}}
    return json.dumps({"message": {"content": "", "tool_calls": [called]}, "done": False}).encode() + b"\n"


STREAMS: Final[Mapping[str, Any]] = {
    "openai_chat": _chat,
    "anthropic_messages": _messages,
    "openai_responses": _responses,
    "gemini": _gemini,
    "bedrock_converse": _converse,
    "cohere": _cohere,
    "ollama": _ollama,
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_begins_too_many_calls_fails(name: str) -> None:
    begin = STREAMS[name]
    reply = read_reply([b"".join(begin(place) for place in range(MANY))], DIALECTS[name], streamed=True)
    assert reply.exit is Exit.FAILED
    assert sum(isinstance(event, ToolCallStarted) for event in reply.events) <= MOST


WHOLE: Final[Mapping[str, Any]] = {
    "bedrock_converse": {
        "output": {"message": {"content": [{"toolUse": {"toolUseId": "t", "name": "n", "input": {}}}] * MANY}},
        "stopReason": "tool_use",
    },
    "cohere": {"finish_reason": "TOOL_CALL", "message": {"tool_calls": [_function(0)] * MANY}},
    "cohere_v1": {"text": "", "finish_reason": "COMPLETE", "tool_calls": [{"name": "n", "parameters": {}}] * MANY},
    "ollama": {
        "message": {"content": "", "tool_calls": [{"function": {"name": "n", "arguments": {}}}] * MANY},
        "done": True,
    },
    "anthropic_messages": {
        "type": "message",
        "content": [{"type": "tool_use", "id": "t", "name": "n", "input": {}}] * MANY,
        "stop_reason": "tool_use",
    },
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_reply_with_too_many_calls_fails(name: str) -> None:
    reply = read_reply([json.dumps(WHOLE[name]).encode()], DIALECTS[name], streamed=False)
    assert reply.exit is Exit.FAILED
