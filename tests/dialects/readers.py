"""How real clients read a chat stream, as far as counting goes: one small reader for each way of doing it.

Rule 1: a reader owes nothing to the code under test. It gets bytes and has its own, simple-minded SSE parser.
Rule 2: each one is as careless as the client it stands for (WIRE.md 3); where the client crashes, it raises.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

__all__ = ["CHAT_READERS", "ChatReader", "Counted", "chunks_of", "text_of"]

Chunk = dict[str, Any]


class Counted(msgspec.Struct, frozen=True):
    """What a client believes afterwards. None: it saw no usage."""

    input: int | None
    output: int | None


UNCOUNTED = Counted(None, None)


def chunks_of(stream: bytes) -> list[Chunk]:
    """The chunks of a stream; raises where a line-by-line reader would be lost."""
    assert b"\r" not in stream, "a carriage return reached the client"
    chunks = []
    for block in stream.decode().split("\n\n"):
        if not block or all(line.startswith(":") for line in block.split("\n")):
            continue
        assert block.startswith("data: "), f"not a data block: {block[:40]!r}"
        assert "\n" not in block, "more than one line in a block"
        if block != "data: [DONE]":
            chunks.append(json.loads(block.removeprefix("data: ")))
    return chunks


def text_of(chunks: list[Chunk]) -> Mapping[int, str]:
    """The text of each choice, put together."""
    texts: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk.get("choices") or []:
            content = (choice.get("delta") or {}).get("content")
            said = content if isinstance(content, str) else "" if content is None else json.dumps(content)
            number = choice.get("index", 0)
            texts[number] = texts.get(number, "") + said
    return texts


def _counted(usage: Mapping[str, Any] | None) -> Counted:
    return Counted(usage["prompt_tokens"], usage["completion_tokens"]) if usage else UNCOUNTED


def _sum_of(usages: list[Mapping[str, Any]]) -> Counted:
    if not usages:
        return UNCOUNTED
    return Counted(sum(usage["prompt_tokens"] for usage in usages), sum(usage["completion_tokens"] for usage in usages))


def langchain_python(chunks: list[Chunk], asked: bool) -> Counted:
    """langchain-openai: the usage of every chunk becomes a message chunk, and message chunks are added."""
    return _sum_of([chunk["usage"] for chunk in chunks if chunk.get("usage")])


def langchain_js(chunks: list[Chunk], asked: bool) -> Counted:
    """LangChain.js: usage of the last chunk that has one, and once more from each chunk whose choices are not empty.
    A choice that never said its role counts nothing."""
    usages: list[Mapping[str, Any]] = []
    last = None
    roles: set[int] = set()
    for chunk in chunks:
        last = chunk.get("usage") or last
        for choice in chunk["choices"]:
            if choice["delta"].get("role"):
                roles.add(choice["index"])
            elif choice["index"] not in roles:
                return UNCOUNTED
            if chunk.get("usage"):
                usages.append(chunk["usage"])
    return _sum_of([*usages, last] if last else usages)


def dify(chunks: list[Chunk], asked: bool) -> Counted:
    """Dify: the chunk without choices is the usage chunk, whichever it is, and the reply is over with it."""
    for place, chunk in enumerate(chunks):
        if len(chunk["choices"]) == 0:
            assert place == len(chunks) - 1, "something came after the usage chunk"
            return _counted(chunk["usage"])
    return UNCOUNTED


def openai_node_helper(chunks: list[Chunk], asked: bool) -> Counted:
    """openai-node `.stream()`: needs the role first, one finish for each choice, and usage not before it."""
    usage = None
    finished: set[int] = set()
    roles: dict[int, str | None] = {}
    for chunk in chunks:
        usage = chunk.get("usage")
        for choice in chunk["choices"]:
            roles.setdefault(choice["index"], choice["delta"].get("role"))
            if choice["finish_reason"]:
                assert choice["index"] not in finished, "a choice finished twice"
                finished.add(choice["index"])
    assert all(roles.values()), "missing role for choice"
    assert roles.keys() == finished, "missing finish_reason for choice"
    return _counted(usage)


def openai_python_helper(chunks: list[Chunk], asked: bool) -> Counted:
    """openai-python `.stream()`: each chunk's usage replaces the one before, null and absent too."""
    usage = None
    for chunk in chunks:
        usage = chunk.get("usage")
    return _counted(usage)


def smolagents(chunks: list[Chunk], asked: bool) -> Counted:
    """smolagents: adds the usage of every event; then looks at the first choice, if there is one."""
    usages = []
    for chunk in chunks:
        if chunk.get("usage"):
            usages.append(chunk["usage"])
        if chunk["choices"]:
            assert chunk["choices"][0].get("delta") is not None, "no content or tool calls in event"
    return _sum_of(usages)


def careless(chunks: list[Chunk], asked: bool) -> Counted:
    """The loop of every tutorial: takes the first choice of each chunk, and expects none only where it asked."""
    usage = None
    for chunk in chunks:
        if asked and not chunk["choices"]:
            usage = chunk["usage"]
            continue
        assert chunk["choices"][0]["delta"] is not None
    return _counted(usage)


ChatReader = Callable[[list[Chunk], bool], Counted]

CHAT_READERS: Mapping[str, ChatReader] = {
    reader.__name__: reader
    for reader in (
        langchain_python,
        langchain_js,
        dify,
        openai_node_helper,
        openai_python_helper,
        smolagents,
        careless,
    )
}
"""By name. Called with the chunks and whether usage was asked for."""
