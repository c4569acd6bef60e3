"""A provider that obliges LangChain's standard tests: it calls the tools it is given and speaks JSON where asked.

Rule 1: it knows no test by name. Everything follows from the request: its tools, its response format, its last message.
Rule 2: what it makes up is made from the schema it was sent, so a schema that arrives wrong shows as a wrong answer.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from counterfoil.testing import ChatReply, Counts, Request, Script, Tool, error_answer

__all__ = ["GREETING", "obey"]

GREETING: Final = "Good morning, and thank you for asking."

_QUOTED: Final = re.compile(r"'([^']+)'")
_NUMBER: Final = re.compile(r"-?\d+")


def obey(request: Request) -> Script:
    """The answer to a chat request: tool calls, JSON or a greeting; 400 to what no provider would accept."""
    asked = request.json
    wrong = _wrong(asked)
    if wrong:
        return error_answer(400, wrong)
    plan = _plan(asked)
    return dataclasses.replace(plan, stream=request.stream, model=request.model).script()


def _plan(asked: Mapping[str, Any]) -> ChatReply:
    """What to say."""
    messages = asked["messages"]
    said = _text(messages[-1])
    called = _called(asked, messages[-1])
    if called is not None:
        arguments = _made(called.get("parameters") or {}, _Material(said))
        return ChatReply(text="", tools=(Tool(called["name"], json.dumps(arguments, ensure_ascii=False)),))
    match asked.get("response_format"):
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return ChatReply(text=json.dumps(_made(schema, _Material(said))))
        case {"type": "json_object"}:
            return ChatReply(text=json.dumps(dict.fromkeys(_QUOTED.findall(said), "a cat")))
    text = GREETING
    for stop in asked.get("stop") or ():
        text = text.partition(stop)[0]
    if asked.get("reasoning_effort"):
        return ChatReply(text=text, reasoning="Who is there?", usage=Counts(input=9, output=12, reasoning=4))
    return ChatReply(text=text)


def _called(asked: Mapping[str, Any], last: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The function to call: the one that is demanded, else the first, but none right after a result."""
    functions: dict[str, dict[str, Any]] = {
        tool["function"]["name"]: tool["function"] for tool in asked.get("tools") or ()
    }
    match asked.get("tool_choice"):
        case {"type": "function", "function": {"name": str(name)}}:
            return functions[name]
        case "none":
            return None
        case "required":
            pass
        case _ if last["role"] == "tool":
            return None
    return next(iter(functions.values()), None)


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(str(part.get("text", "")) for part in content)


class _Material:
    """What values are made of: the numbers and the quoted words of what was said."""

    def __init__(self, said: str) -> None:
        self.words: Iterator[str] = iter(_QUOTED.findall(said))
        self.numbers: Iterator[str] = iter(_NUMBER.findall(said))


def _made(schema: Mapping[str, Any], material: _Material) -> Any:
    """A value that fits a JSON schema of the simple kind that tools have."""
    match schema.get("type"):
        case "object" | None if "properties" in schema or schema.get("type") == "object":
            return {name: _made(inner, material) for name, inner in schema.get("properties", {}).items()}
        case "integer" | "number":
            return int(next(material.numbers, "7"))
        case "array":
            return [_made(schema.get("items") or {}, material)]
        case "boolean":
            return True
        case "null":
            return None
        case _:
            for inner in schema.get("anyOf", ()):
                return _made(inner, material)
            return next(material.words, "brisk")


# --- what a strict provider refuses ----------------------------------------------------------------------------------

_PARTS: Final[Mapping[str, frozenset[str]]] = {
    "text": frozenset({"type", "text", "cache_control"}),  # OpenRouter takes the mark too
    "image_url": frozenset({"type", "image_url"}),
    "input_audio": frozenset({"type", "input_audio"}),
    "file": frozenset({"type", "file"}),
    "refusal": frozenset({"type", "refusal"}),
}
"""The parts of the chat dialect, and their keys."""


def _wrong(asked: Mapping[str, Any]) -> str:
    """What is wrong with the request, or the empty string."""
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages are missing"
    waiting: set[str] = set()
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        if message.get("role") not in ("system", "developer", "user", "assistant", "tool"):
            return f"{where}: no such role"
        if message["role"] == "tool":
            if message.get("tool_call_id") not in waiting:
                return f"{where}: answers no call"
            waiting.discard(message["tool_call_id"])
        elif waiting:
            return f"{where}: calls before it wait for their results"
        content = message.get("content")
        if not message.get("tool_calls") and not isinstance(content, str | list):
            return f"{where}: no content"
        for part in content if isinstance(content, list) else ():
            if not isinstance(part, dict) or not _PARTS.get(part.get("type", ""), frozenset()) >= part.keys():
                return f"{where}: not a part of the chat dialect: {sorted(part)}"
        waiting |= {call["id"] for call in message.get("tool_calls") or ()}
    names = {tool["function"]["name"] for tool in asked.get("tools") or ()}
    match asked.get("tool_choice"):
        case {"function": {"name": name}} if name not in names:
            return f"tool_choice: {name} is not among the tools"
        case "required" | {"function": _} if not names:
            return "tool_choice: there are no tools"
    return ""
