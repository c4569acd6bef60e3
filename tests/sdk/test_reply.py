"""Replies read like OpenAI's, by attribute and by item, and hold what the provider said and no more."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

import counterfoil
from counterfoil import ChatCompletion, ChatCompletionChunk
from counterfoil.sdk.node import Node, plain

__all__: list[str] = []

BODY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 1},
    },
    "x_theirs": {"items": [1, {"a": 2}]},
}


@pytest.fixture
def reply() -> ChatCompletion:
    return ChatCompletion(copy.deepcopy(BODY))


def test_every_field_is_an_attribute_and_an_item(reply: ChatCompletion) -> None:
    message, usage = reply.choices[0].message, reply.usage
    assert usage is not None
    assert message.tool_calls is not None
    assert message is reply["choices"][0]["message"]
    assert message.tool_calls[0].function.name == message["tool_calls"][0]["function"]["name"] == "f"
    assert message.reasoning_content == message.get("reasoning_content") == "hm"
    assert usage.prompt_tokens_details.cached_tokens == 1
    assert reply.x_theirs["items"][1].a == 2
    assert "reasoning_content" in message
    assert "audio" not in message
    assert message.get("audio", 7) == 7
    assert next(iter(usage.items())) == ("prompt_tokens", 3)
    assert {**usage}["total_tokens"] == 5


def test_a_standard_field_that_was_left_out_is_none_and_any_other_is_an_error(reply: ChatCompletion) -> None:
    message = reply.choices[0].message
    assert (message.refusal, message.audio, message.function_call, message.annotations) == (None,) * 4
    assert (reply.service_tier, reply.system_fingerprint, reply.choices[0].logprobs) == (None,) * 3
    assert reply.usage is not None
    assert reply.usage.completion_tokens_details is None
    with pytest.raises(AttributeError, match="Message has no 'sentiment'"):
        _ = message.sentiment
    with pytest.raises(KeyError):
        _ = message["refusal"]
    assert not hasattr(message, "sentiment")


def test_a_reply_dumps_what_the_provider_said(reply: ChatCompletion) -> None:
    assert reply.model_dump() == reply.dict() == BODY
    assert json.loads(reply.model_dump_json()) == json.loads(reply.json()) == BODY
    assert "\n" in reply.model_dump_json(indent=2)
    assert "content" not in reply.model_dump(exclude_none=True)["choices"][0]["message"]
    assert reply.model_dump(mode="json", by_alias=True) == BODY
    assert all(type(one) is dict for one in reply.model_dump()["choices"])
    assert plain([reply.usage]) == [BODY["usage"]]


def test_replies_are_equal_when_they_say_the_same(reply: ChatCompletion) -> None:
    assert reply == ChatCompletion(BODY) == BODY
    assert reply != ChatCompletion({**BODY, "id": "another"})
    assert reply != "text"
    with pytest.raises(TypeError):
        hash(reply)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one)), ChatCompletion.model_copy]
)
def test_a_reply_can_be_copied_and_sent(again: Any, reply: ChatCompletion) -> None:
    other = again(reply)
    assert type(other) is ChatCompletion
    assert other == reply
    calls = other.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].id == "c1"


def test_a_reply_shows_itself(reply: ChatCompletion) -> None:
    shown = repr(reply)
    assert shown.startswith("ChatCompletion(id='chatcmpl-1', ")
    assert "Function(name='f', arguments='{}')" in shown
    assert {"choices", "usage", "model_dump", "entry"} <= set(dir(reply))


def test_a_reply_can_be_changed(reply: ChatCompletion) -> None:
    reply.choices[0].message.content = "changed"
    reply["note"] = {"a": 1}
    assert reply.model_dump()["choices"][0]["message"]["content"] == "changed"
    assert reply.note.a == 1


def test_an_empty_object_is_still_something() -> None:
    assert ChatCompletionChunk({"choices": [{"delta": {}}]}).choices[0].delta
    assert len(Node()) == 0


def test_what_no_call_made_has_no_entry_and_no_cost(reply: ChatCompletion) -> None:
    assert (reply.entry, reply.cost, reply.exchange, reply.dropped) == (None, None, None, ())
    assert reply.usage is not None
    assert reply.usage.provenance == {}
    with pytest.raises(TypeError, match="without an entry"):
        counterfoil.completion_cost(reply)
    with pytest.raises(TypeError):
        counterfoil.completion_cost(7)
