"""What the three LangChain packages have in common: their messages, and how a matrix is run over them.

Rule 1: a message is read as an application reads it: its text, its `content_blocks`, its tool calls, its
`usage_metadata`; a stream is its chunks added up, as LangChain adds them.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

from counterfoil.testing import Counts
from tests.shells.clients_python.matrix import SCHEMA, Cell, Heard
from tests.shells.clients_python.waiting import AtOnce, Waiting

__all__ = ["TOOLS", "WAYS", "ask", "hear"]

WAYS = ("invoke", "stream")
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {"name": "tide", "description": "The tide at a port.", "parameters": SCHEMA},
    },
    {
        "type": "function",
        "function": {
            "name": "boats",
            "description": "The boats.",
            "parameters": {"type": "object", "properties": {}},
        },
    },
]


def ask(model: Any, waiting: Waiting, way: str, cell: Cell, **more: Any) -> Any:
    """The message that `model` answers with; a stream's chunks added up."""
    bound = model.bind_tools(TOOLS) if cell.subject == "tools" else model
    prompt = [{"role": "user", "content": cell.prompt}]
    at_once = isinstance(waiting, AtOnce)
    if way == "invoke":
        return waiting.call(bound.invoke if at_once else bound.ainvoke, input=prompt, **more)
    chunks = waiting.each(bound.stream if at_once else bound.astream, input=prompt, **more)
    return functools.reduce(operator.add, chunks)


def hear(message: Any) -> Heard:
    """What a message says."""
    thoughts = [block.get("reasoning", "") for block in message.content_blocks if block["type"] == "reasoning"]
    usage = message.usage_metadata
    prompt, completion = usage.get("input_token_details", {}), usage.get("output_token_details", {})
    # Where Anthropic says how long a write is kept, langchain-anthropic writes the parts and 0 for the whole.
    written = [count for name, count in prompt.items() if name == "cache_creation" or name.startswith("ephemeral_")]
    counts = Counts(
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        cache_read=prompt.get("cache_read"),
        cache_write=sum(count or 0 for count in written),
        reasoning=completion.get("reasoning"),
    )
    assert usage["total_tokens"] == counts.total
    assert message.invalid_tool_calls == []
    calls = [(call["name"], call["args"]) for call in message.tool_calls]
    return Heard(str(message.text), "".join(thoughts), calls, counts)
