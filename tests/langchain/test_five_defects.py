"""Promise: what went wrong in langchain-ai/langchain-litellm#20 does not go wrong here, waiting or not.

One test for each of its five defects, and one program that reads usage as the program in that thread reads it, where
one import is changed. Both classes are held to it: the one people come from, and ours.
"""

from __future__ import annotations

import asyncio
import functools
import operator
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, Final

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from openai.types.chat.chat_completion_chunk import ChoiceDelta

from counterfoil.compat.langchain_litellm import ChatLiteLLM
from counterfoil.langchain import ChatCounterfoil
from counterfoil.langchain.convert import _convert_delta_to_message_chunk
from counterfoil.testing import CHAT_SHAPES, ChatReply, ChatShape, Counts, Playback, Tool, chat_player, running

__all__: list[str] = []

HELLO: Final = [HumanMessage("Say hello")]
PATHS: Final = ("invoke", "ainvoke", "stream", "astream")
CLASSES: Final = (ChatCounterfoil, ChatLiteLLM)

of_both_classes = pytest.mark.parametrize("made", CLASSES)
on_every_path = pytest.mark.parametrize("path", PATHS)


@pytest.fixture(scope="module")
def provider() -> Iterator[Playback]:
    with running() as provider:
        yield provider


def model_at(provider: Playback, made: Callable[..., BaseChatModel], **more: Any) -> BaseChatModel:
    """A model whose provider is played."""
    return made(model="play-1", api_base=provider.base_url, api_key="play", max_retries=0, **more)


def messages_of(model: BaseChatModel, path: str) -> Sequence[AIMessage]:
    """What the model says: one message, or all chunks of a stream."""

    async def streamed() -> list[AIMessageChunk]:
        return [chunk async for chunk in model.astream(HELLO)]

    match path:
        case "invoke":
            return [model.invoke(HELLO)]
        case "ainvoke":
            return [asyncio.run(model.ainvoke(HELLO))]
        case "stream":
            return list(model.stream(HELLO))
        case _:
            return asyncio.run(streamed())


def said(model: BaseChatModel, path: str) -> AIMessage:
    """What the model says, as one message."""
    whole: AIMessage = functools.reduce(operator.add, messages_of(model, path))
    return whole


# --- the five --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", CHAT_SHAPES)
@pytest.mark.parametrize("path", ["stream", "astream"])
@of_both_classes
def test_usage_is_not_missing_in_streams(
    provider: Playback, made: type[BaseChatModel], path: str, shape: ChatShape
) -> None:
    provider.queue(chat_player(ChatReply(usage=Counts(input=12, output=5), text="Hello there", shape=shape)))
    chunks = messages_of(model_at(provider, made, streaming=True), path)
    assert provider.served[-1].request.asks_usage
    (usage,) = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert usage == chunks[-1].usage_metadata
    if provider.served[-1].reported is not None:
        assert usage == {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
@on_every_path
@of_both_classes
def test_reasoning_content_is_not_lost(provider: Playback, made: type[BaseChatModel], path: str, key: Any) -> None:
    provider.queue(chat_player(ChatReply(reasoning="High or low?", text="High.", reasoning_key=key)))
    message = said(model_at(provider, made), path)
    assert message.additional_kwargs["reasoning_content"] == "High or low?"
    assert message.text == "High."
    assert [block["type"] for block in message.content_blocks] == ["reasoning", "text"]


DELTAS: Final[tuple[dict[str, Any], ...]] = (
    {"role": "assistant", "content": ""},
    {"content": "Ahoy"},
    {"content": None, "reasoning_content": "High or low?"},
    {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "tide", "arguments": "{}"}, "type": "function"}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
    {"function_call": {"name": "tide", "arguments": "{}"}},
    {},
)


@pytest.mark.parametrize("delta", DELTAS, ids=lambda delta: " ".join(delta) or "empty")
def test_dict_deltas_are_read_as_objects_are(delta: dict[str, Any]) -> None:
    as_dict = _convert_delta_to_message_chunk(delta, AIMessageChunk)
    assert _convert_delta_to_message_chunk(ChoiceDelta.model_validate(delta), AIMessageChunk) == as_dict
    assert _convert_delta_to_message_chunk(SimpleNamespace(**delta), AIMessageChunk) == as_dict
    assert isinstance(as_dict, AIMessageChunk)
    assert as_dict.content == (delta.get("content") or "")
    assert len(as_dict.tool_call_chunks) == len(delta.get("tool_calls", ()))


TOOLS: Final = (Tool("tide", '{"port": "north", "hour": 4}'), Tool("boats"))


@pytest.mark.parametrize("deltas", ["streamed", "whole", "no_index", "no_id", "repeated_id"])
@on_every_path
@of_both_classes
def test_tool_calls_do_not_fail(provider: Playback, made: type[BaseChatModel], path: str, deltas: Any) -> None:
    provider.queue(chat_player(ChatReply(text="", tools=TOOLS, tool_deltas=deltas)))
    message = said(model_at(provider, made), path)
    calls = [(call["name"], call["args"]) for call in message.tool_calls]
    assert calls == [("tide", {"port": "north", "hour": 4}), ("boats", {})]
    assert message.tool_calls[0]["id"] != message.tool_calls[1]["id"]
    assert all(call["id"] for call in message.tool_calls)
    assert getattr(message, "invalid_tool_calls", []) == []


@on_every_path
@of_both_classes
def test_cache_and_reasoning_details_are_not_left_out(provider: Playback, made: type[BaseChatModel], path: str) -> None:
    usage = Counts(input=40, output=17, cache_read=8, cache_write=4, reasoning=3)
    provider.queue(chat_player(ChatReply(usage=usage)))
    assert said(model_at(provider, made), path).usage_metadata == {
        "input_tokens": 40,
        "output_tokens": 17,
        "total_tokens": 57,
        "input_token_details": {"cache_read": 8, "cache_creation": 4},
        "output_token_details": {"reasoning": 3},
    }


# --- the program -----------------------------------------------------------------------------------------------------

PROGRAM: Final = """
from counterfoil.compat.langchain_litellm import ChatLiteLLM
from langchain_core.messages import HumanMessage

llm = ChatLiteLLM(model="gpt-4o", streaming=True)
message = [HumanMessage(content="Say hello")]
pieces = list(llm.stream(message))
print(any(hasattr(piece, "usage_metadata") and piece.usage_metadata for piece in pieces))
last = pieces[-1].usage_metadata
print(last.input_tokens, last.output_tokens, last.total_tokens)

llm.streaming = False
print(llm.invoke(message).usage_metadata is not None)
"""
"""Every call and every read of the program in the thread: one import is changed, the words it prints are ours."""


def test_the_program_of_the_thread_prints_true_and_the_three_counts(provider: Playback) -> None:
    reply = ChatReply(text="Hello there", usage=Counts(input=12, output=5))
    provider.queue(chat_player(reply), chat_player(reply))
    surroundings = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=surroundings | {"OPENAI_API_KEY": "sk-play", "OPENAI_BASE_URL": provider.base_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout.splitlines() == ["True", "12 5 17", "True"], ran.stderr
    first, second = provider.served[-2:]
    assert (first.request.stream, second.request.stream) == (True, False)
    assert first.request.asks_usage
