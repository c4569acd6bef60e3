"""Counting tokens: a number comes back, nothing is used and nothing costs."""

from __future__ import annotations

import json

import msgspec
import pytest

from counterfoil.core.error import FailureKind
from counterfoil.core.event import ReplyFailed, TokensCounted
from counterfoil.core.message import Message, Text
from counterfoil.core.operation import ChatRequest, CountRequest, Operation, Tool
from counterfoil.dialects.openai_responses import OPENAI_RESPONSES_COUNT
from counterfoil.exchange.recorded import read_reply
from tests import wire

from .support import PLAIN

SCHEMA = msgspec.Raw(b'{"type":"object"}')
CHAT = ChatRequest(
    "any",
    (Message("system", (Text("Be brief."),)), Message("user", (Text("Hi"),))),
    tools=(Tool("look", "Looks.", SCHEMA),),
    max_output_tokens=9,
    temperature=0.5,
    stop=("END",),
    seed=4,
    stream=True,
)


def test_only_what_is_counted_is_sent() -> None:
    written = OPENAI_RESPONSES_COUNT.write_request(CountRequest(CHAT), "gpt-made", PLAIN, False)
    assert json.loads(written.body) == {
        "model": "gpt-made",
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": "Hi"}],
        "tools": [
            {
                "type": "function",
                "name": "look",
                "description": "Looks.",
                "parameters": {"type": "object"},
                "strict": False,
            }
        ],
    }
    assert written.dropped == ()


def test_the_answer_is_a_count() -> None:
    body = b'{"object":"response.input_tokens","input_tokens":17}'
    read = read_reply([body[:9], body[9:]], OPENAI_RESPONSES_COUNT, streamed=False)
    assert read.events == (TokensCounted(17),)
    assert (read.settlement.usage.input_tokens, read.settlement.usage.output_tokens) == (0, 0)
    assert OPENAI_RESPONSES_COUNT.operation is Operation.COUNT
    assert OPENAI_RESPONSES_COUNT.path("gpt-made", False) == "/responses/input_tokens"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"input_tokens":-1}', b'{"input_tokens":"7"}', b"[1]"])
def test_a_body_without_a_count_is_a_bad_reply(body: bytes) -> None:
    read = read_reply([body], OPENAI_RESPONSES_COUNT, streamed=False)
    assert read.failure is None or read.failure.kind is FailureKind.BAD_REPLY
    assert not any(isinstance(event, TokensCounted) for event in read.events)


def test_an_error_under_a_good_status_is_a_failure() -> None:
    read = read_reply([b'{"error":{"code":"server_error"}}'], OPENAI_RESPONSES_COUNT, streamed=False)
    assert [type(event) for event in read.events] == [ReplyFailed]


@pytest.mark.parametrize("name", wire.params("openai.responses.input_tokens/"))
def test_a_recorded_count_is_read(name: str) -> None:
    recording = wire.read(name)
    read = read_reply([recording.response_body], OPENAI_RESPONSES_COUNT, streamed=False)
    assert read.events == (TokensCounted(recording.usage_reported["input_tokens"]),)
