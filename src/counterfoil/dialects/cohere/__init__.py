"""Cohere's language: chats (v2), vectors and rankings, each an operation of its own."""

from __future__ import annotations

from typing import Final

from counterfoil.core.operation import ChatRequest
from counterfoil.dialects.cohere.embed import COHERE_EMBED
from counterfoil.dialects.cohere.failure import read_failure
from counterfoil.dialects.cohere.reply import ChatDecoder
from counterfoil.dialects.cohere.request import write_request
from counterfoil.dialects.cohere.rerank import COHERE_RERANK
from counterfoil.dialects.cohere.turns import DIALECT
from counterfoil.dialects.cohere.usage import CHAT_CONVENTION
from counterfoil.dialects.dialect import Dialect
from counterfoil.framing.sse import SseFraming

__all__ = ["COHERE", "COHERE_EMBED", "COHERE_RERANK"]


def _path(model: str, streamed: bool) -> str:
    return "/v2/chat"


COHERE: Final = Dialect[ChatRequest](
    name=DIALECT,
    convention=CHAT_CONVENTION,
    framing=SseFraming,
    path=_path,
    content_type="text/event-stream",
    write_request=write_request,
    decoder=ChatDecoder,
    read_failure=read_failure,
)
"""`POST /v2/chat`, whole and streamed."""
