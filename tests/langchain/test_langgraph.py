"""Usage through a real LangGraph: however the graph is run and watched, each call is told once and booked once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

import counterfoil
from counterfoil.langchain import ChatCounterfoil
from counterfoil.testing import ChatReply, Counts, Playback, Tool, in_turn, running
from counterfoil.testing.answers import chat_player

langgraph = pytest.importorskip("langgraph.graph", reason="LangGraph is not installed")

__all__: list[str] = []

_ASKING: Final = ChatReply(text="", usage=Counts(input=30, output=9), tools=(Tool("tide", '{"port": "Whitby"}'),))
_ANSWER: Final = ChatReply(text="High at noon.", usage=Counts(input=52, output=7, cache_read=30))
_TOTAL: Final = (82, 16)


@tool
def tide(port: str) -> str:
    """When the tide is high at a port."""
    return f"high at noon at {port}"


@pytest.fixture
def provider() -> Iterator[Playback]:
    with running(Playback(in_turn(chat_player(_ASKING), chat_player(_ANSWER)))) as found:
        yield found


def _graph(provider: Playback, **fields: Any) -> Any:
    """A model that may call a tool, and the tool: the graph of every agent."""
    model = ChatCounterfoil(
        model="openai/play-1", custom_llm_provider="openai", api_key="sk-play", base_url=provider.base_url, **fields
    ).bind_tools([tide])

    def think(state: dict[str, list[BaseMessage]]) -> dict[str, list[BaseMessage]]:
        return {"messages": [model.invoke(state["messages"])]}

    async def think_async(state: dict[str, list[BaseMessage]]) -> dict[str, list[BaseMessage]]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    def act(state: dict[str, list[BaseMessage]]) -> dict[str, list[BaseMessage]]:
        asked = state["messages"][-1]
        assert isinstance(asked, AIMessage)
        return {
            "messages": [
                ToolMessage(tide.invoke(call["args"]), tool_call_id=call["id"] or "") for call in asked.tool_calls
            ]
        }

    def after(state: dict[str, list[BaseMessage]]) -> str:
        last = state["messages"][-1]
        return "act" if isinstance(last, AIMessage) and last.tool_calls else langgraph.END

    from langchain_core.runnables import RunnableLambda

    builder = langgraph.StateGraph(langgraph.MessagesState)
    builder.add_node("think", RunnableLambda(think, afunc=think_async))
    builder.add_node("act", act)
    builder.add_edge(langgraph.START, "think")
    builder.add_conditional_edges("think", after, ["act", langgraph.END])
    builder.add_edge("act", "think")
    return builder.compile()


_ASK: Final = {"messages": [HumanMessage("When is the tide high at Whitby?")]}


def _told(messages: list[BaseMessage]) -> tuple[int, int]:
    told = [message.usage_metadata for message in messages if isinstance(message, AIMessage)]
    known = [usage for usage in told if usage is not None]
    assert len(known) == 2, "each of the two calls tells its usage once"
    return sum(usage["input_tokens"] for usage in known), sum(usage["output_tokens"] for usage in known)


def _invoke(graph: Any) -> list[BaseMessage]:
    messages: list[BaseMessage] = graph.invoke(_ASK)["messages"]
    return messages


def _ainvoke(graph: Any) -> list[BaseMessage]:
    messages: list[BaseMessage] = asyncio.run(graph.ainvoke(_ASK))["messages"]
    return messages


def _stream(graph: Any) -> list[BaseMessage]:
    return [message for message, _ in graph.stream(_ASK, stream_mode="messages") if isinstance(message, AIMessageChunk)]


def _astream(graph: Any) -> list[BaseMessage]:
    async def read() -> list[BaseMessage]:
        return [
            message
            async for message, _ in graph.astream(_ASK, stream_mode="messages")
            if isinstance(message, AIMessageChunk)
        ]

    return asyncio.run(read())


def _events(graph: Any) -> list[BaseMessage]:
    async def read() -> list[BaseMessage]:
        return [
            event["data"]["output"]
            async for event in graph.astream_events(_ASK, version="v2")
            if event["event"] == "on_chat_model_end"
        ]

    return asyncio.run(read())


@pytest.mark.parametrize("fields", [{}, {"streaming": True}], ids=["as it comes", "streaming=True"])
@pytest.mark.parametrize("run", [_invoke, _ainvoke, _stream, _astream, _events])
def test_a_graph_is_told_each_calls_usage_once(
    provider: Playback, run: Callable[[Any], list[BaseMessage]], fields: dict[str, Any]
) -> None:
    with counterfoil.meter() as metered:
        told = run(_graph(provider, **fields))
    assert _told(told) == _TOTAL
    assert (metered.usage.input_tokens, metered.usage.output_tokens) == _TOTAL
    assert len(metered.entries) == len(provider.served) == 2
    assert [served.reported for served in provider.served] == [_ASKING.counts(), _ANSWER.counts()]
