"""Gemini's own wire: `models/M:generateContent` of the Gemini API and of Vertex, and what stands beside it there."""

from __future__ import annotations

from typing import Final

from counterfoil.core.operation import ChatRequest
from counterfoil.dialects.dialect import ClientDialect
from counterfoil.dialects.gemini.count import GEMINI_COUNT
from counterfoil.dialects.gemini.door import ARRAY, Asked, asked_of, splice
from counterfoil.dialects.gemini.embed import GEMINI_EMBED
from counterfoil.dialects.gemini.encode import GeminiEncoder
from counterfoil.dialects.gemini.failure import read_failure, write_failure
from counterfoil.dialects.gemini.path import method_path
from counterfoil.dialects.gemini.relay import GeminiRelay
from counterfoil.dialects.gemini.reply import GeminiDecoder
from counterfoil.dialects.gemini.request import patch_request, peek_request, read_request
from counterfoil.dialects.gemini.request_write import write_request
from counterfoil.dialects.gemini.turns import DIALECT
from counterfoil.dialects.gemini.usage import CONVENTION
from counterfoil.framing.json_array import EventsOrArrayFraming

__all__ = ["GEMINI", "GEMINI_COUNT", "GEMINI_EMBED", "Asked", "asked_of", "splice"]


def _path(model: str, streamed: bool) -> str:
    return method_path(model, "streamGenerateContent?alt=sse" if streamed else "generateContent")


GEMINI: Final = ClientDialect[ChatRequest](
    name=DIALECT,
    convention=CONVENTION,
    framing=EventsOrArrayFraming,
    path=_path,
    content_type="text/event-stream",
    streams_json=True,
    forms={ARRAY: "application/json"},
    id_prefix="gemini-",
    peek_request=peek_request,
    read_request=read_request,
    write_request=write_request,
    patch_request=patch_request,
    decoder=GeminiDecoder,
    encoder=GeminiEncoder,
    relay=GeminiRelay,
    read_failure=read_failure,
    write_failure=write_failure,
)
"""Chats: https://ai.google.dev/api/generate-content. What a client's URL says is put into the body by `splice`."""
