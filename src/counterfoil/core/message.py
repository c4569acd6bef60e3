"""What is said to a model and by it, in no dialect.

A dialect's request reader makes these, another's writer says them again. What the words lack is carried as `Opaque`
by its own dialect and is refused, or dropped by name, by any other.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "Audio",
    "CacheMark",
    "File",
    "Image",
    "Message",
    "Opaque",
    "Part",
    "Reasoning",
    "RedactedReasoning",
    "Refusal",
    "Role",
    "Text",
    "ToolCall",
    "ToolResult",
]

Role = Literal["system", "developer", "user", "assistant", "tool"]


class CacheMark(msgspec.Struct, frozen=True):
    """A client's wish that the prompt up to here be cached. `ttl` as the provider says it ("5m", "1h")."""

    ttl: str | None = None


class Text(msgspec.Struct, frozen=True, tag="text"):
    text: str
    cache: CacheMark | None = None


class Image(msgspec.Struct, frozen=True, tag="image"):
    """Exactly one of `url` (http, https), `data` (base64) with `media_type`, and `file_id`."""

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    file_id: str | None = None
    detail: str | None = None
    cache: CacheMark | None = None


class File(msgspec.Struct, frozen=True, tag="file"):
    """A document. Exactly one of `url`, `data` (base64) with `media_type`, `file_id`, and plain `text`."""

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    file_id: str | None = None
    text: str | None = None
    name: str | None = None
    cache: CacheMark | None = None


class Audio(msgspec.Struct, frozen=True, tag="audio"):
    """`data` is base64; `format` is a word such as "wav" or "mp3"."""

    data: str
    format: str


class ToolCall(msgspec.Struct, frozen=True, tag="tool_call"):
    id: str
    name: str
    arguments: str
    """JSON text of an object; "{}" for a tool without arguments."""
    cache: CacheMark | None = None


class ToolResult(msgspec.Struct, frozen=True, tag="tool_result"):
    call_id: str
    parts: tuple[Part, ...]
    is_error: bool = False
    cache: CacheMark | None = None


class Reasoning(msgspec.Struct, frozen=True, tag="reasoning"):
    """What the model thought. `signature` proves it to the provider that made it and must go back unchanged."""

    text: str
    signature: str | None = None
    origin: str = ""
    """Whose proof it is, in OpenRouter's words: "google-gemini-v1", "openai-responses-v1"; empty: Claude's, wherever it
    runs. A writer gives a proof back only to who made it; to others it is no part of what was said."""


class RedactedReasoning(msgspec.Struct, frozen=True, tag="redacted_reasoning"):
    """Reasoning the provider encrypted. `data` must go back unchanged."""

    data: str
    origin: str = ""
    """As of `Reasoning`."""


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    text: str


class Opaque(msgspec.Struct, frozen=True, tag="opaque"):
    """A part only its own dialect knows, word for word."""

    dialect: str
    kind: str
    raw: msgspec.Raw


Part = Text | Image | File | Audio | ToolCall | ToolResult | Reasoning | RedactedReasoning | Refusal | Opaque


class Message(msgspec.Struct, frozen=True):
    role: Role
    parts: tuple[Part, ...]
    name: str | None = None
