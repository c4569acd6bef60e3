"""Replies and messages between the chat dialect and LangChain, under the names LangChain's partners use.

Rule 1: pure. Chunks and replies come as dicts, as nodes of the SDK or as objects; what comes out is LangChain's.
Rule 2: of one stream exactly one chunk carries usage. It is the last, has no text, and says `chunk_position="last"`.
Rule 3: streamed and whole give the same message.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    BaseMessageChunk,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)
from langchain_core.messages.content import InvalidToolCall
from langchain_core.messages.tool import ToolCall, ToolCallChunk, invalid_tool_call, tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from counterfoil.langchain.blocks import PROVIDER
from counterfoil.langchain.deltas import Calls, Reasoning, content_of, take_apart
from counterfoil.langchain.history import convert_message_to_dict as _convert_message_to_dict
from counterfoil.langchain.plain import plain, text_of
from counterfoil.langchain.usage import accounted, known_of_entry
from counterfoil.langchain.usage import create_usage_metadata as _create_usage_metadata
from counterfoil.ledger.entry import Entry

__all__ = [
    "ChunkReader",
    "_convert_chunk_to_generation_chunk",
    "_convert_delta_to_message_chunk",
    "_convert_dict_to_message",
    "_convert_message_to_dict",
    "_create_usage_metadata",
    "create_chat_result",
]

_OF_REPLY: Final = ("system_fingerprint", "service_tier")
"""Members of a reply that go to `response_metadata`."""
_CITED: Final = ("citations", "search_results")
"""Members of a reply that some provider repeats in every chunk: the last one counts."""


class ChunkReader:
    """One streamed reply, chunk by chunk: its first choice, as a LangChain stream has one message."""

    def __init__(self) -> None:
        self._calls = Calls()
        self._reasoning = Reasoning()
        self._metadata: dict[str, Any] = {}
        self._cited: dict[str, Any] = {}
        self._usage: Any = None

    def read(self, chunk: object) -> ChatGenerationChunk | None:
        """What one chunk says; None when it says nothing to a reader (a usage frame, a lone role)."""
        said = plain(chunk)
        if not isinstance(said, dict):
            return None
        self._note(said)
        choice = _first_choice(said)
        if choice is None:
            return None
        if reason := choice.get("finish_reason"):
            self._metadata["finish_reason"] = reason
        delta = choice.get("delta")
        pieces = take_apart(delta if isinstance(delta, dict) else {}, self._calls, self._reasoning)
        logprobs = choice.get("logprobs")
        if not pieces and not logprobs:
            return None
        metadata: dict[str, Any] = {"model_provider": PROVIDER}
        if logprobs:
            metadata["logprobs"] = logprobs
        message = AIMessageChunk(
            content=pieces.text,
            additional_kwargs=pieces.additional,
            tool_call_chunks=pieces.calls,
            response_metadata=metadata,
        )
        return ChatGenerationChunk(message=message)

    def close(
        self, usage: object = None, entry: Entry | None = None, cost: Decimal | None = None, *, tell_usage: bool = True
    ) -> list[ChatGenerationChunk]:
        """The chunks at the end of a reply: ids for calls that got none, if any, and the last one, with the usage.

        `usage` is the settled usage of the stream; where the stream has none, the last usage object of its chunks.
        With `tell_usage` off the caller asked not to be told.
        """
        chunks = []
        unnamed = self._calls.unnamed(text_of(self._metadata.get("id")))
        if unnamed:
            message = AIMessageChunk(
                content="", tool_call_chunks=unnamed, response_metadata={"model_provider": PROVIDER}
            )
            chunks.append(ChatGenerationChunk(message=message))
        additional: dict[str, Any] = dict(self._cited)
        if extras := self._calls.extras():
            additional["tool_call_extras"] = extras
        metadata, counted = _closing(self._metadata, usage or self._usage, entry, cost, tell_usage=tell_usage)
        last = AIMessageChunk(
            content="",
            additional_kwargs=additional,
            response_metadata=metadata,
            usage_metadata=counted,
            chunk_position="last",
        )
        reason = metadata.get("finish_reason")
        info = {"finish_reason": reason} if reason else None
        chunks.append(ChatGenerationChunk(message=last, generation_info=info))
        return chunks

    def _note(self, said: dict[str, Any]) -> None:
        """What a chunk says of the reply as a whole."""
        self._metadata.update(_reply_metadata(said))
        self._cited.update({key: said[key] for key in _CITED if said.get(key)})
        self._usage = said.get("usage") or self._usage


def create_chat_result(
    reply: object, *, entry: Entry | None = None, cost: Decimal | None = None, tell_usage: bool = True
) -> ChatResult:
    """A whole reply: one generation for each choice. The first one carries the usage, which is that of all."""
    said = plain(reply)
    of_reply = _reply_metadata(said)
    cited = {key: said[key] for key in _CITED if said.get(key)}
    generations = []
    for place, choice in enumerate(said.get("choices") or ()):
        message = _reply_message(choice.get("message") or {}, text_of(of_reply.get("id")))
        message.additional_kwargs.update(cited)
        metadata = dict(of_reply)
        if reason := choice.get("finish_reason"):
            metadata["finish_reason"] = reason
        if logprobs := choice.get("logprobs"):
            metadata["logprobs"] = logprobs
        counts = tell_usage and place == 0
        metadata, counted = _closing(metadata, said.get("usage"), entry, cost, tell_usage=counts)
        message.response_metadata = metadata
        message.usage_metadata = counted
        info = {"finish_reason": reason} if reason else None
        generations.append(ChatGeneration(message=message, generation_info=info))
    output: dict[str, Any] = {"model_name": of_reply.get("model_name")}
    if tell_usage and (token_usage := said.get("usage") or known_of_entry(entry)):
        output["token_usage"] = token_usage
    return ChatResult(generations=generations, llm_output=output)


def _reply_metadata(said: dict[str, Any]) -> dict[str, Any]:
    found = {"id": said.get("id"), "model_name": said.get("model"), **{key: said.get(key) for key in _OF_REPLY}}
    return {key: value for key, value in found.items() if value}


def _closing(
    metadata: Mapping[str, Any], usage: object, entry: Entry | None, cost: Decimal | None, *, tell_usage: bool
) -> tuple[dict[str, Any], Any]:
    """The metadata of a finished message, and its `usage_metadata`."""
    result: dict[str, Any] = {**metadata, "model_provider": PROVIDER}
    counted = None
    if tell_usage:
        said = plain(usage)
        counted = _create_usage_metadata(said)
        if token_usage := said or known_of_entry(entry):
            result["token_usage"] = token_usage
    if entry is not None:
        result["counterfoil"] = accounted(entry, cost)
    return result, counted


def _first_choice(said: dict[str, Any]) -> dict[str, Any] | None:
    for choice in said.get("choices") or ():
        if isinstance(choice, dict) and not choice.get("index"):
            return choice
    return None


def _reply_message(said: dict[str, Any], prefix: str = "") -> AIMessage:
    """An assistant's message from its chat dict."""
    calls = Calls()
    pieces = take_apart(said, calls, Reasoning())
    chunks = _joined([*pieces.calls, *calls.unnamed(prefix)])
    if extras := calls.extras():
        pieces.additional["tool_call_extras"] = extras
    good, bad = _parsed(chunks)
    return AIMessage(
        content=pieces.text,
        additional_kwargs=pieces.additional,
        tool_calls=good,
        invalid_tool_calls=bad,
        name=said.get("name"),
        response_metadata={"model_provider": PROVIDER},
    )


def _joined(chunks: list[ToolCallChunk]) -> list[ToolCallChunk]:
    """One chunk for each call."""
    calls: dict[int | None, ToolCallChunk] = {}
    for chunk in chunks:
        whole = calls.setdefault(chunk["index"], chunk)
        if whole is not chunk:
            whole["name"] = whole["name"] or chunk["name"]
            whole["id"] = whole["id"] or chunk["id"]
            whole["args"] = (whole["args"] or "") + (chunk["args"] or "")
    return list(calls.values())


def _parsed(chunks: list[ToolCallChunk]) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    """Calls whose arguments are a JSON object, and the others."""
    # LangChain's own reading of a finished stream, so that streamed and whole agree on what is a call.
    read = AIMessageChunk(content="", tool_call_chunks=chunks, chunk_position="last")
    good = [tool_call(name=call["name"], args=call["args"], id=call["id"]) for call in read.tool_calls]
    bad = [
        invalid_tool_call(name=call["name"], args=call["args"], id=call["id"], error=call["error"])
        for call in read.invalid_tool_calls
    ]
    return good, bad


def _convert_dict_to_message(message: object) -> BaseMessage:
    """A LangChain message from a chat dict (or node, or object) of any role."""
    said = plain(message)
    role, name, identity = text_of(said.get("role")), said.get("name"), said.get("id")
    if role == "assistant":
        converted = _reply_message(said)
        converted.id = identity
        return converted
    content = said.get("content") or ""
    match role:
        case "user":
            return HumanMessage(content=content, name=name, id=identity)
        case "system" | "developer":
            additional = {"__openai_role__": role} if role == "developer" else {}
            return SystemMessage(content=content, name=name, id=identity, additional_kwargs=additional)
        case "function":
            return FunctionMessage(content=content, name=text_of(name), id=identity)
        case "tool":
            call = text_of(said.get("tool_call_id"))
            return ToolMessage(content=content, tool_call_id=call, name=name, id=identity)
    return ChatMessage(content=content, role=role, id=identity)


_CHUNK_OF_ROLE: Final[Mapping[str, type[BaseMessageChunk]]] = {
    "user": HumanMessageChunk,
    "assistant": AIMessageChunk,
    "system": SystemMessageChunk,
    "developer": SystemMessageChunk,
    "function": FunctionMessageChunk,
    "tool": ToolMessageChunk,
}


def _convert_delta_to_message_chunk(
    delta: object, default_class: type[BaseMessageChunk] = AIMessageChunk
) -> BaseMessageChunk:
    """A LangChain chunk from one delta: a dict, a node or an object. It knows no other delta of its stream, so a tool
    call keeps the index it came with; `ChunkReader` also joins what has none."""
    said = plain(delta)
    if not isinstance(said, dict):
        said = {}
    role = text_of(said.get("role"))
    wanted = _CHUNK_OF_ROLE.get(role, ChatMessageChunk if role else default_class)
    if wanted is AIMessageChunk:
        return _assistant_chunk(said)
    text = content_of(said.get("content"))[0]
    additional: dict[str, Any] = {"__openai_role__": role} if role == "developer" else {}
    own: dict[str, Any] = {}
    if wanted is FunctionMessageChunk:
        own["name"] = text_of(said.get("name"))
    elif wanted is ToolMessageChunk:
        own["tool_call_id"] = text_of(said.get("tool_call_id"))
    elif wanted is ChatMessageChunk:
        own["role"] = role
    return wanted(content=text, id=said.get("id"), additional_kwargs=additional, **own)


def _assistant_chunk(said: dict[str, Any]) -> AIMessageChunk:
    pieces = take_apart(said, Calls(), Reasoning())
    parts = [part for part in said.get("tool_calls") or () if isinstance(part, dict)]
    for part, chunk in zip(parts, pieces.calls, strict=True):
        if type(part.get("index")) is int:
            chunk["index"] = part["index"]
    return AIMessageChunk(
        content=pieces.text,
        additional_kwargs=pieces.additional,
        id=said.get("id"),
        tool_call_chunks=pieces.calls,
        response_metadata={"model_provider": PROVIDER},
    )


def _convert_chunk_to_generation_chunk(
    chunk: object, position: Literal["last"] | None = None
) -> ChatGenerationChunk | None:
    """One chunk by itself, with whatever it says: for programs that convert chunk by chunk. None when it says nothing.

    Usage that a server repeats is repeated here; `ChunkReader` is what a stream is read with.
    """
    said = plain(chunk)
    choice = _first_choice(said) or {}
    message = _assistant_chunk(plain(choice.get("delta")) or {})
    message.usage_metadata = _create_usage_metadata(said.get("usage"))
    message.chunk_position = position
    reason = choice.get("finish_reason")
    if reason:
        message.response_metadata.update(_reply_metadata(said), finish_reason=reason)
    told = message.content or message.additional_kwargs or message.tool_call_chunks
    if not (told or reason or message.usage_metadata):
        return None
    return ChatGenerationChunk(message=message, generation_info={"finish_reason": reason} if reason else None)
