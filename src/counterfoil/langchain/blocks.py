"""LangChain's standard content blocks (v1) of a message that this package made.

Rule 1: text is `content`, reasoning text is `reasoning_content`; `reasoning_details` lends each block its proof.
Rule 2: a chunk's blocks carry an index, so that the blocks of all chunks join into those of the whole message.
Rule 3: what has no standard block is `non_standard`, word for word.
"""

from __future__ import annotations

from typing import Any, Final, cast
from zlib import crc32

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.block_translators import register_translator
from langchain_core.messages.content import ContentBlock

from counterfoil.langchain.plain import as_json, text_of

__all__ = ["PROVIDER", "annotation_block", "blocks_of_chunk", "blocks_of_message", "detail_of_block"]

PROVIDER: Final = "counterfoil"
"""`response_metadata["model_provider"]`: how LangChain finds the functions below."""
_TEXT: Final = ("text", "summary")
"""Members of a reasoning detail that hold its text."""
_IN_PIECES: Final = frozenset({"audio", "refusal"})
"""Kinds of block that a stream says bit by bit."""
_URL_CITATION: Final = "url_citation"

_Block = dict[str, Any]


def blocks_of_message(message: AIMessage) -> list[ContentBlock]:
    """The blocks of a whole message. Raises NotImplementedError for content that is a list: LangChain reads that."""
    additional = _checked(message)
    blocks = _reasoning_blocks(additional)
    annotations = [annotation_block(said) for said in additional.get("annotations") or ()]
    if message.content or annotations:
        block: _Block = {"type": "text", "text": message.content}
        if annotations:
            block["annotations"] = annotations
        blocks.append(block)
    blocks += _further_blocks(additional)
    blocks += [
        {"type": "tool_call", "name": call["name"], "args": call["args"], "id": call["id"]}
        for call in message.tool_calls
    ]
    blocks += [
        {"type": "invalid_tool_call", **{key: call.get(key) for key in ("id", "name", "args", "error")}}
        for call in message.invalid_tool_calls
    ]
    return cast("list[ContentBlock]", blocks)


def blocks_of_chunk(chunk: AIMessageChunk) -> list[ContentBlock]:
    """The blocks of one chunk, to be joined; of a chunk that holds the end of its message, those of a whole one."""
    if chunk.chunk_position == "last":
        return blocks_of_message(chunk)
    additional = _checked(chunk)
    blocks = _reasoning_pieces(additional)
    annotations = [annotation_block(said) for said in additional.get("annotations") or ()]
    if chunk.content or annotations:
        block: _Block = {"type": "text", "text": chunk.content, "index": "lc_txt_0"}
        if annotations:
            block["annotations"] = annotations
        blocks.append(block)
    blocks += [{**further, "index": _place(further)} for further in _further_blocks(additional)]
    blocks += [
        {"type": "tool_call_chunk", **{key: call.get(key) for key in ("id", "name", "args", "index")}}
        for call in chunk.tool_call_chunks
    ]
    return cast("list[ContentBlock]", blocks)


def _place(block: _Block) -> str:
    """An index for a block that has no number: one for what comes in pieces, else one by what it says."""
    kind = text_of(block["value"].get("type")) if block["type"] == "non_standard" else text_of(block["type"])
    return f"lc_{kind}_0" if kind in _IN_PIECES else f"lc_{kind}_{crc32(as_json(block).encode())}"


def _checked(message: AIMessage) -> dict[str, Any]:
    if not isinstance(message.content, str):
        raise NotImplementedError
    return message.additional_kwargs


def _reasoning_blocks(additional: dict[str, Any]) -> list[_Block]:
    """Of a whole message: a block for each detail; one block for text that no detail has."""
    plain = text_of(additional.get("reasoning_content"))
    details = _details(additional)
    blocks = [_detail_block(detail) for detail in details]
    if plain and not any(block["type"] == "reasoning" and block["reasoning"] for block in blocks):
        bare = [block for block in blocks if block["type"] == "reasoning"]
        if bare:
            bare[0]["reasoning"] = plain
        else:
            blocks.insert(0, {"type": "reasoning", "reasoning": plain})
    return blocks


def _reasoning_pieces(additional: dict[str, Any]) -> list[_Block]:
    """Of a chunk: its text goes to the block of its first detail, or to the first block; details add their proof."""
    plain = text_of(additional.get("reasoning_content"))
    blocks = []
    for detail in _details(additional):
        block = _detail_block(detail)
        block["index"] = f"lc_rs_{detail.get('index', 0)}"
        if block["type"] == "reasoning":
            own = next((text_of(detail.get(key)) for key in _TEXT if detail.get(key)), "")
            block["reasoning"] = own if plain and own in plain else ""
            plain = plain.replace(own, "", 1) if block["reasoning"] else plain
        blocks.append(block)
    if plain:
        bare = [block for block in blocks if block["type"] == "reasoning" and not block["reasoning"]]
        if bare:
            bare[0]["reasoning"] = plain
        else:
            blocks.insert(0, {"type": "reasoning", "reasoning": plain, "index": "lc_rs_0"})
    return blocks


def _details(additional: dict[str, Any]) -> list[dict[str, Any]]:
    return [detail for detail in additional.get("reasoning_details") or () if isinstance(detail, dict)]


def _detail_block(detail: dict[str, Any]) -> _Block:
    if detail.get("data"):
        return {"type": "non_standard", "value": dict(detail)}
    text = next((text_of(detail.get(key)) for key in _TEXT if detail.get(key)), "")
    block: _Block = {"type": "reasoning", "reasoning": text}
    extras = {key: value for key, value in detail.items() if key not in (*_TEXT, "index")}
    if extras:
        block["extras"] = extras
    return block


def detail_of_block(block: _Block) -> dict[str, Any] | None:
    """The reasoning detail of a block, ours or Anthropic's; None when the block is no reasoning."""
    kind = block.get("type")
    if kind == "reasoning":
        extras = {key: value for key, value in (block.get("extras") or {}).items() if key != "index"}
        if "signature" in block:
            extras["signature"] = block["signature"]
        detail = {"type": "reasoning.text", **extras}
        text = text_of(block.get("reasoning"))
        key = "summary" if detail["type"] == "reasoning.summary" else "text"
        return {**detail, key: text} if text else detail
    if kind == "thinking":
        said = {"type": "reasoning.text", "text": block.get("thinking"), "signature": block.get("signature")}
        return {key: value for key, value in said.items() if value}
    if kind == "redacted_thinking":
        return {"type": "reasoning.encrypted", "data": block.get("data")}
    if text_of(kind).startswith("reasoning."):
        return dict(block)
    return None


def annotation_block(said: object) -> dict[str, Any]:
    """A citation in LangChain's words, from an annotation of the chat dialect."""
    if not isinstance(said, dict):
        return {"type": "non_standard_annotation", "value": {"annotation": said}}
    if said.get("type") != _URL_CITATION:
        return {"type": "non_standard_annotation", "value": said}
    inner = said.get(_URL_CITATION)
    fields = inner if isinstance(inner, dict) else said
    names = {"url": "url", "title": "title", "start_index": "start_index", "end_index": "end_index"}
    names["content"] = "cited_text"
    found = {ours: fields[theirs] for theirs, ours in names.items() if fields.get(theirs) is not None}
    return {"type": "citation", **found}


def _further_blocks(additional: dict[str, Any]) -> list[_Block]:
    """Pictures, sound, refusal, and parts that have no block."""
    blocks: list[_Block] = []
    blocks += [_image_block(image) for image in additional.get("images") or () if isinstance(image, dict)]
    if isinstance(audio := additional.get("audio"), dict):
        block: _Block = {"type": "audio"}
        block.update({name: audio[key] for key, name in (("id", "id"), ("data", "base64")) if audio.get(key)})
        extras = {key: value for key, value in audio.items() if key not in ("id", "data")}
        blocks.append({**block, "extras": extras} if extras else block)
    if refusal := additional.get("refusal"):
        blocks.append({"type": "non_standard", "value": {"type": "refusal", "refusal": refusal}})
    blocks += [{"type": "non_standard", "value": part} for part in additional.get("parts") or ()]
    return blocks


def _image_block(image: _Block) -> _Block:
    said = image.get("image_url")
    url = text_of(said.get("url")) if isinstance(said, dict) else text_of(said)
    head, comma, data = url.partition(";base64,")
    if comma and head.startswith("data:"):
        return {"type": "image", "base64": data, "mime_type": head.removeprefix("data:")}
    return {"type": "image", "url": url}


register_translator(PROVIDER, blocks_of_message, blocks_of_chunk)
