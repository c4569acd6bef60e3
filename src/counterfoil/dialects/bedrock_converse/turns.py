"""Canonical messages as Converse turns.

Rule 1: system and developer messages become `system`; a tool's answer is said by the user; neighbours of one role are
one turn, because turns must alternate and a call's results must be in the turn right after it.
Rule 2: what the API refuses and says nothing is left out without a word: text without a visible character.
Rule 3: a proof goes back to its maker and to nobody else.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlock.html
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, assert_never

import msgspec

from counterfoil.core.message import (
    Audio,
    CacheMark,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    RedactedReasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from counterfoil.dialects.bedrock_converse.makers import Maker
from counterfoil.dialects.bedrock_converse.reply import ORIGIN
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.schema import UNREADABLE

__all__ = ["Block", "cache_point", "system_and_turns"]

Block = dict[str, object]

_MESSAGES: Final = "messages"
_IMAGES: Final[Mapping[str, str]] = {
    "image/gif": "gif",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/png": "png",
    "image/webp": "webp",
}
_DOCUMENTS: Final[Mapping[str, str]] = {
    "application/msword": "doc",
    "application/pdf": "pdf",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "text/csv": "csv",
    "text/html": "html",
    "text/markdown": "md",
    "text/plain": "txt",
}
_SOUNDS: Final = frozenset(
    {"aac", "flac", "m4a", "mka", "mkv", "mp3", "mp4", "mpeg", "mpga", "ogg", "opus", "pcm", "wav", "webm", "x-aac"}
)
_SUFFIXES: Final[Mapping[str, str]] = {"jpg": "jpeg", "htm": "html"}
"""File name endings that are not the format's own name."""
_DATA_URL: Final = re.compile(r"data:(?P<type>[^;,]*)[^,]*;base64,(?P<data>.*)", re.S)
_NOT_IN_AN_ID: Final = re.compile(r"[^a-zA-Z0-9_.:-]")
_LONGEST_ID: Final = 64
_NOT_IN_A_NAME: Final = re.compile(r"[^\w\-()\[\] ]|_", re.A)
_LONGEST_NAME: Final = 200


def system_and_turns(messages: Sequence[Message], maker: Maker, desk: Desk) -> tuple[list[Block], list[Block]]:
    """The blocks of `system`, and the turns. Raises RequestError."""
    writer = _Writer(maker, desk)
    system: list[Block] = []
    turns: list[tuple[str, list[Block]]] = []
    for message in messages:
        if message.name:
            desk.name("messages.name")
        if message.role in ("system", "developer"):
            system += writer.system(message)
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = [*writer.blocks(_reasoning_first(message))]
        if not blocks:
            continue
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, blocks))
    if not turns:
        raise desk.refuse(_MESSAGES, "at least one message with content is required beside the system prompt")
    _trim_last(turns)
    return system, [{"role": role, "content": _results_first(blocks)} for role, blocks in turns]


def cache_point(mark: CacheMark) -> Block:
    return {"cachePoint": {"type": "default", **({"ttl": mark.ttl} if mark.ttl else {})}}


def _reasoning_first(message: Message) -> Sequence[Part]:
    """Claude's thinking must open the assistant's turn."""
    parts = message.parts
    if message.role != "assistant" or not parts or isinstance(parts[0], Reasoning | RedactedReasoning):
        return parts
    return sorted(parts, key=lambda part: not isinstance(part, Reasoning | RedactedReasoning))


def _results_first(blocks: list[Block]) -> list[Block]:
    """Results open the turn after their calls. A cache point belongs to what is before it, so it moves along."""
    if not any("toolResult" in block for block in blocks):
        return blocks
    groups: list[list[Block]] = []
    for block in blocks:
        if "cachePoint" in block and groups:
            groups[-1].append(block)
        else:
            groups.append([block])
    groups.sort(key=lambda group: "toolResult" not in group[0])
    return [block for group in groups for block in group]


def _trim_last(turns: list[tuple[str, list[Block]]]) -> None:
    """Claude refuses a last assistant turn whose text ends in white space."""
    role, blocks = turns[-1]
    text = blocks[-1].get("text")
    if role == "assistant" and isinstance(text, str):
        blocks[-1]["text"] = text.rstrip()


class _Writer:
    """Parts to blocks, for one request."""

    def __init__(self, maker: Maker, desk: Desk) -> None:
        self._maker = maker
        self._desk = desk
        self._names: set[str] = set()

    def system(self, message: Message) -> Iterator[Block]:
        for part in message.parts:
            if not isinstance(part, Text):
                self._desk.cannot(_MESSAGES, "a system message can hold only text")
            elif part.text.strip():
                yield {"text": part.text}
                yield from self._marked(part.cache)

    def blocks(self, parts: Sequence[Part]) -> Iterator[Block]:
        for part in parts:
            block = self._block(part)
            if block is not None:
                yield block
                mark = getattr(part, "cache", None)
                yield from self._marked(mark if isinstance(mark, CacheMark) else None)

    def _marked(self, mark: CacheMark | None) -> Iterator[Block]:
        if mark is None:
            return
        if self._maker.caches:
            yield cache_point(mark)
        else:
            self._desk.name("cache_control")

    def _block(self, part: Part) -> Block | None:
        """One part; None when it says nothing the API would take, or was dropped."""
        match part:
            case Text() | Refusal():
                return {"text": part.text} if part.text.strip() else None
            case Reasoning():
                return self._reasoning(part)
            case RedactedReasoning():
                return self._redacted(part)
            case Image():
                return self._image(part)
            case File():
                return self._file(part)
            case Audio():
                return self._audio(part)
            case ToolCall():
                return self._call(part)
            case ToolResult():
                return self._result(part)
            case Opaque():
                self._desk.cannot(f"messages.{part.kind}", "only the provider it comes from knows this part")
                return None
            case _:
                assert_never(part)

    def _reasoning(self, part: Reasoning) -> Block | None:
        wanted = self._maker.history
        signed = part.signature if not part.origin else None
        if wanted in ("signed", "any") and signed:
            return {"reasoningContent": {"reasoningText": {"text": part.text, "signature": signed}}}
        if wanted == "plain" and part.text.strip():
            return {"reasoningContent": {"reasoningText": {"text": part.text}}}
        return None

    def _redacted(self, part: RedactedReasoning) -> Block | None:
        if self._maker.history not in ("signed", "any") or part.origin not in ("", ORIGIN):
            return None
        data = part.data if part.origin == ORIGIN else base64.b64encode(part.data.encode()).decode()
        return {"reasoningContent": {"redactedContent": data}}

    def _image(self, image: Image) -> Block | None:
        if image.detail not in (None, "auto"):
            self._desk.name("messages.image_url.detail")
        data, kind, url = image.data, image.media_type, image.url
        if url is not None and url.startswith("data:"):
            kind, data = self._data_url(url)
            url = None
        if data is not None:
            form = _IMAGES.get((kind or "").lower())
            if form is None:
                raise self._desk.refuse(_MESSAGES, "an image must be GIF, JPEG, PNG or WebP")
            return {"image": {"format": form, "source": {"bytes": data}}}
        if url is not None and url.startswith("s3://"):
            return {"image": {"format": self._ending(url, _IMAGES.values()), "source": {"s3Location": {"uri": url}}}}
        self._desk.cannot(
            "messages.image_url" if url is not None else "messages.file_id",
            "Bedrock fetches nothing from the web and keeps no files; send the image as base64",
        )
        return None

    def _file(self, file: File) -> Block | None:
        data, kind, url = file.data, file.media_type, file.url
        if url is not None and url.startswith("data:"):
            kind, data = self._data_url(url)
            url = None
        if file.text is not None:
            kind, data = "text/plain", base64.b64encode(file.text.encode()).decode()
        if data is not None:
            form = _DOCUMENTS.get((kind or "").partition(";")[0].strip().lower())
            if form is None:
                raise self._desk.refuse(_MESSAGES, f"a file must be one of {', '.join(sorted(_DOCUMENTS.values()))}")
            source: Block = {"bytes": data}
        elif url is not None and url.startswith("s3://"):
            form, source = self._ending(url, _DOCUMENTS.values()), {"s3Location": {"uri": url}}
        else:
            self._desk.cannot(
                "messages.file_url" if url is not None else "messages.file_id",
                "Bedrock fetches nothing from the web and keeps no files; send the file as base64",
            )
            return None
        return {"document": {"format": form, "name": self._name(file.name), "source": source}}

    def _audio(self, audio: Audio) -> Block | None:
        form = audio.format.lower()
        if form not in _SOUNDS:
            raise self._desk.refuse(_MESSAGES, f"audio must be one of {', '.join(sorted(_SOUNDS))}")
        return {"audio": {"format": form, "source": {"bytes": audio.data}}}

    def _call(self, call: ToolCall) -> Block:
        said = call.arguments if call.arguments.strip() else "{}"
        try:
            msgspec.json.decode(said, type=dict)
        except UNREADABLE:
            raise self._desk.refuse(
                _MESSAGES, f"the arguments of tool call {call.id!r} are not a JSON object"
            ) from None
        return {"toolUse": {"toolUseId": self._id(call.id), "name": call.name, "input": msgspec.Raw(said.encode())}}

    def _result(self, result: ToolResult) -> Block:
        content = [*self.blocks(result.parts)]
        inner = [block for block in content if "cachePoint" not in block]
        block: Block = {"toolUseId": self._id(result.call_id), "content": inner}
        if result.is_error:
            block["status"] = "error"
        return {"toolResult": block}

    def _id(self, said: str) -> str:
        """Ids are letters, digits and four marks, 64 at most; a longer one keeps its beginning and gets its digest."""
        if not said:
            raise self._desk.refuse(_MESSAGES, "every tool call and every tool message needs an id")
        clean = _NOT_IN_AN_ID.sub("_", said)
        if len(clean) <= _LONGEST_ID:
            return clean
        return f"{clean[: _LONGEST_ID - 17]}-{hashlib.sha256(said.encode()).hexdigest()[:16]}"

    def _name(self, said: str | None) -> str:
        """Names hold letters, digits, single spaces, hyphens and brackets, and no two documents share one."""
        wished = " ".join(_NOT_IN_A_NAME.sub(" ", said or "").split())[: _LONGEST_NAME - 8].strip() or "document"
        name, number = wished, 1
        while name in self._names:
            number += 1
            name = f"{wished} {number}"
        self._names.add(name)
        return name

    def _data_url(self, url: str) -> tuple[str, str]:
        found = _DATA_URL.fullmatch(url)
        if found is None:
            raise self._desk.refuse(_MESSAGES, "a data URL must hold base64")
        return found["type"], found["data"]

    def _ending(self, url: str, known: Collection[str]) -> str:
        """The format of an object in S3, which only its name tells."""
        ending = url.rpartition(".")[2].lower()
        form = _SUFFIXES.get(ending, ending)
        if form not in known:
            raise self._desk.refuse(_MESSAGES, "the name of an object in S3 must end in its format")
        return form
