"""Pictures, documents and sounds as parts of this wire: `inlineData` (base64) or `fileData` (an address).

https://ai.google.dev/api/caching#Blob, https://ai.google.dev/gemini-api/docs/file-input-methods
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from counterfoil.core.message import Audio, File, Image
from counterfoil.dialects.desk import Desk

__all__ = ["MESSAGES", "PartBody", "audio_part", "file_part", "image_part"]

PartBody = dict[str, object]

MESSAGES: Final = "messages"
_DATA_URL: Final = re.compile(r"data:(?P<type>[^;,]*)[^,]*;base64,(?P<data>.*)", re.S)

_TYPES: Final[Mapping[str, str]] = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "gif": "image/gif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "html": "text/html",
    "csv": "text/csv",
    "mp3": "audio/mp3",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "mp4": "video/mp4",
    "mov": "video/mov",
    "webm": "video/webm",
}
"""What an address ends in -> its media type; `fileData` wants one, and chat clients give none.
https://docs.cloud.google.com/vertex-ai/generative-ai/docs/multimodal/image-understanding, and its neighbours"""
_SOUNDS: Final[Mapping[str, str]] = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "pcm16": "pcm"}


def image_part(image: Image, desk: Desk) -> PartBody:
    """A picture. Raises RequestError."""
    if image.detail not in (None, "auto"):
        desk.name("messages.image_url.detail")
    return _part(image.url, image.data, image.media_type, image.file_id, "an image", desk)


def file_part(file: File, desk: Desk) -> PartBody:
    """A document; one that is plain text is text. Raises RequestError."""
    if file.name:
        desk.name("messages.file.filename")
    if file.text is not None:
        return {"text": file.text}
    return _part(file.url, file.data, file.media_type, file.file_id, "a file", desk)


def audio_part(audio: Audio) -> PartBody:
    """A sound."""
    return {"inlineData": {"mimeType": f"audio/{_SOUNDS.get(audio.format, audio.format)}", "data": audio.data}}


def _part(url: str | None, data: str | None, kind: str | None, file_id: str | None, what: str, desk: Desk) -> PartBody:
    if url is not None and url.startswith("data:"):
        found = _DATA_URL.fullmatch(url)
        if found is None:
            raise desk.refuse(MESSAGES, "a data URL must hold base64")
        kind, data = found["type"] or kind, found["data"]
    if data is not None:
        if not kind:
            raise desk.refuse(MESSAGES, f"{what} as base64 needs its media type")
        return {"inlineData": {"mimeType": kind, "data": data}}
    address = url if url is not None else file_id
    kind = kind or _guess(address or "")
    return {"fileData": {**({"mimeType": kind} if kind else {}), "fileUri": address}}


def _guess(address: str) -> str | None:
    """The media type an address ends in, if it says one."""
    try:
        name = urlsplit(address).path.rpartition("/")[2]
    except ValueError:
        return None
    return _TYPES.get(name.rpartition(".")[2].lower()) if "." in name else None
