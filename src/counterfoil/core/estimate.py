"""Tokens of text that nobody counted for us.

Rule 1: an estimate is cheap, bounded and deterministic. It is marked as one wherever it goes and replaces no report.
Rule 2: it needs no vocabulary. A figure per script, not per model: what tokenizer a model has is its provider's secret.
Rule 3: bytes of a picture or a sound are not text, however they are written down.

The figures were fitted on recorded replies (visible text against reported output without reasoning; median size of
the error 12 % on 29 replies in prose, as `bench/estimate.py` prints) and, for scripts that the recordings lack, on six
open vocabularies (o200k, cl100k, Llama 3, DeepSeek V3, Mistral, Gemma 3).
"""

from __future__ import annotations

import re
from typing import Final, Protocol, assert_never

import msgspec

from counterfoil.core.message import (
    Audio,
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
from counterfoil.core.operation import ChatRequest, Tool

__all__ = [
    "AUDIO_BYTES_PER_TOKEN",
    "DOCUMENT_TOKENS",
    "IMAGE_TOKENS",
    "TOOL_CALL_TOKENS",
    "Counting",
    "Tally",
    "count_request",
    "estimate_body",
    "estimate_request",
]

# Tokens per character, in hundredths, by the width of the character in UTF-8: one byte (English 18, code 28, JSON 35 to
# 45), two (accents 20, Cyrillic 25 to 45, Greek, Hebrew and Arabic 35 to 50), three (Chinese and Japanese 55 to 85,
# Korean 60, Hindi and Thai 30 to 60), four (emoji 95 to 250).
_WIDE_1: Final = 24
_WIDE_2: Final = 40
_WIDE_3: Final = 70
_WIDE_4: Final = 180
_UNIT: Final = 100

IMAGE_TOKENS: Final = 800
"""One picture of unknown size. For 1024 x 1024 OpenAI counts 85 to about 1,100, Anthropic about 1,400 (its documents:
width x height / 750), Gemini 258 a tile."""
DOCUMENT_TOKENS: Final = 2000
"""One document that cannot be read here."""
AUDIO_BYTES_PER_TOKEN: Final = 1600
"""Compressed speech at 16 kB/s and ten tokens a second."""

TOOL_CALL_TOKENS: Final = 24
"""What a model writes around one tool call's name and arguments (7 to 70 on 22 recorded replies, median 26)."""

_MESSAGE_TOKENS: Final = 4
_REQUEST_TOKENS: Final = 3
_TOOL_TOKENS: Final = 12
_TOOLS_TOKENS: Final = 80
"""What a provider's own words about tools come to, once a request: 0 to 290 by provider, the median of 63 recorded
requests; far more where the provider runs tools of its own."""
_BODY_SYNTAX: Final = 60
"""Bytes of a request body that are never tokens: the model's name, the outer keys."""

_ASKING: Final = re.compile(rb'"stream"\s*:\s*(?:true|false),?|"stream_options"\s*:\s*\{[^{}]{0,200}\},?')
"""How the reply is asked for, which no model is told: the same call has the same input streamed and whole."""
_EDGE: Final = 1024
"""Bytes at each end of a body in which that is looked for: it stands before the messages or after them."""

_PROOF: Final = re.compile(rb'"(?:\w*[sS]ignature|encrypted_content)"\s*:\s*"[A-Za-z0-9+/=_-]*\Z')
"""What base64 stands behind when it proves or hides reasoning: no picture, and hardly an input token (recorded Gemini
and Grok requests with some kB of it were billed for their text)."""

_WINDOW: Final = 256
_WINDOWS: Final = 4096
"""How many windows of a body are looked at: all of them up to 1 MiB, an even choice of a larger one."""
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-"
_NOT_LEAD_2: Final = bytes(byte for byte in range(256) if not 0xC2 <= byte <= 0xDF)
_NOT_LEAD_3: Final = bytes(byte for byte in range(256) if not 0xE0 <= byte <= 0xEF)
_NOT_LEAD_4: Final = bytes(byte for byte in range(256) if not 0xF0 <= byte <= 0xF4)


class Counting(Protocol):
    """Who is shown what a request holds: a `Tally`, or whoever counts exactly."""

    def add(self, text: str) -> None:
        """Text, or the JSON text of a tool call's arguments."""
        ...

    def add_tokens(self, tokens: int) -> None:
        """Something that is not text."""
        ...


class Tally:
    """Tokens of text that comes in pieces. The same text in other pieces gives the same number."""

    __slots__ = ("_weight", "_whole")

    def __init__(self) -> None:
        self._weight = 0
        self._whole = 0

    def add(self, text: str) -> None:
        """Count text, or the JSON text of a tool call's arguments."""
        if text.isascii():
            self._weight += _WIDE_1 * len(text)
        else:
            self._weight += _weigh(text.encode("utf-8", "surrogatepass"), len(text))

    def add_tokens(self, tokens: int) -> None:
        """Count something that is not text (`TOOL_CALL_TOKENS`, `IMAGE_TOKENS`)."""
        self._whole += tokens

    @property
    def tokens(self) -> int:
        """Rounded up: any text at all is at least one token."""
        return self._whole - (-self._weight // _UNIT)


def estimate_request(request: ChatRequest) -> int:
    """Input tokens of a request: its text, its tools, a flat figure a picture or document, a few for each message."""
    tally = Tally()
    count_request(request, tally)
    return tally.tokens


def count_request(request: ChatRequest, tally: Counting) -> None:
    """Show `tally` all that a request's input is made of."""
    tally.add_tokens(_REQUEST_TOKENS)
    for message in request.messages:
        tally.add_tokens(_MESSAGE_TOKENS)
        tally.add(message.name or "")
        _count_parts(tally, message)
    tally.add_tokens(_TOOLS_TOKENS if request.tools else 0)
    for tool in request.tools:
        _count_tool(tally, tool)
    if request.response_format is not None and request.response_format.schema is not None:
        tally.add(_text(request.response_format.schema))


def estimate_body(body: bytes) -> int:
    """Input tokens of a request nobody parsed, from its JSON bytes.

    Takes bounded time: of a large body an even choice is looked at. Base64 is found as windows that hold nothing else,
    and counts as one picture a run, unless it is a proof of reasoning. Meant for a reservation: on text it leans to the
    high side, since keys and quotes count too.
    """
    windows = max(1, -(-len(body) // _WINDOW))
    looked = min(windows, _WINDOWS)
    text, binary_parts, in_binary = bytearray(), 0, False
    for place in range(looked):
        start = place * windows // looked * _WINDOW
        window = body[start : start + _WINDOW]
        binary = len(window) == _WINDOW and not window.translate(None, _BASE64)
        if binary and not in_binary:
            binary_parts += _PROOF.search(text[-_EDGE:]) is None
        in_binary = binary
        if not binary:
            text += window
    pictures = max(binary_parts, _pictures(text))
    escaped = text.count(b"\\u")  # \u4e2d: one character in six bytes
    weight = _weigh(text, None) + escaped * (_WIDE_2 - 6 * _WIDE_1)
    syntax = _BODY_SYNTAX + sum(map(len, _ASKING.findall(body[:_EDGE])))
    syntax += sum(map(len, _ASKING.findall(body[max(_EDGE, len(body) - _EDGE) :])))
    weight = max(0, weight * windows // looked - syntax * _WIDE_1)
    tools = _TOOLS_TOKENS if b'"tools"' in text else 0
    return _REQUEST_TOKENS + _MESSAGE_TOKENS + tools + weight // _UNIT + pictures * IMAGE_TOKENS


def _weigh(encoded: bytes | bytearray, characters: int | None) -> int:
    """Hundredths of a token of UTF-8 text. The lead byte of a character tells its width."""
    if encoded.isascii():
        return _WIDE_1 * len(encoded)
    wide2 = len(encoded.translate(None, _NOT_LEAD_2))
    wide3 = len(encoded.translate(None, _NOT_LEAD_3))
    wide4 = len(encoded.translate(None, _NOT_LEAD_4))
    plain = (
        len(encoded) - 2 * wide2 - 3 * wide3 - 4 * wide4 if characters is None else characters - wide2 - wide3 - wide4
    )
    return _WIDE_1 * max(0, plain) + _WIDE_2 * wide2 + _WIDE_3 * wide3 + _WIDE_4 * wide4


def _pictures(text: bytes | bytearray) -> int:
    """Picture parts by their type word, in the dialects that may be sent unparsed."""
    return sum(text.count(word) for word in (b'"type":"image', b'"type": "image', b'"type":"input_image'))


def _count_parts(tally: Counting, message: Message) -> None:
    parts: list[Part] = list(message.parts)
    while parts:
        part = parts.pop()
        match part:
            case Text(text=text) | Reasoning(text=text) | Refusal(text=text):
                tally.add(text)
            case ToolCall():
                tally.add_tokens(TOOL_CALL_TOKENS)
                tally.add(part.name)
                tally.add(part.arguments)
            case ToolResult():
                tally.add_tokens(_MESSAGE_TOKENS)
                parts.extend(part.parts)
            case Image():
                tally.add_tokens(IMAGE_TOKENS)
            case File():
                _count_file(tally, part)
            case Audio():
                tally.add_tokens(-(-len(part.data) * 3 // 4 // AUDIO_BYTES_PER_TOKEN))
            case RedactedReasoning():
                # Encrypted: base64 of about the text it hides.
                tally.add_tokens(len(part.data) * 3 // 4 * _WIDE_1 // _UNIT)
            case Opaque():
                tally.add_tokens(estimate_body(bytes(part.raw)))
            case _:
                assert_never(part)


def _count_file(tally: Counting, part: File) -> None:
    tally.add(part.name or "")
    if part.text is not None:
        tally.add(part.text)
    else:
        tally.add_tokens(DOCUMENT_TOKENS)


def _count_tool(tally: Counting, tool: Tool) -> None:
    tally.add_tokens(_TOOL_TOKENS)
    tally.add(tool.name)
    tally.add(tool.description or "")
    for raw in (tool.parameters, tool.opaque):
        if raw is not None:
            tally.add(_text(raw))


def _text(raw: msgspec.Raw) -> str:
    return bytes(raw).decode("utf-8", "replace")
