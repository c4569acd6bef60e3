"""Ollama's own API: chats, texts that go on, and vectors. Only providers speak it, no client to us."""

from __future__ import annotations

from typing import Final

from counterfoil.core.operation import ChatRequest, CompleteRequest, EmbedRequest, Operation
from counterfoil.dialects.dialect import Dialect
from counterfoil.dialects.ollama.chat import write_chat
from counterfoil.dialects.ollama.embed import EMBED_CONVENTION, read_vectors, unreadable, write_embed
from counterfoil.dialects.ollama.generate import write_generate
from counterfoil.dialects.ollama.reply import OllamaDecoder
from counterfoil.dialects.ollama.usage import CONVENTION
from counterfoil.dialects.openai_chat.failure import read_failure
from counterfoil.dialects.whole import whole_decoder
from counterfoil.framing.ndjson import NdjsonFraming
from counterfoil.framing.whole import WholeFraming

__all__ = ["OLLAMA", "OLLAMA_EMBED", "OLLAMA_GENERATE"]

_NDJSON: Final = "application/x-ndjson"

OLLAMA: Final = Dialect[ChatRequest](
    name="ollama",
    convention=CONVENTION,
    framing=NdjsonFraming,
    path=lambda model, streamed: "/api/chat",
    content_type=_NDJSON,
    write_request=write_chat,
    decoder=OllamaDecoder,
    read_failure=read_failure,
)
OLLAMA_GENERATE: Final = Dialect[CompleteRequest](
    name="ollama.generate",
    operation=Operation.COMPLETE,
    convention=CONVENTION,
    framing=NdjsonFraming,
    path=lambda model, streamed: "/api/generate",
    content_type=_NDJSON,
    write_request=write_generate,
    decoder=OllamaDecoder,
    read_failure=read_failure,
)
OLLAMA_EMBED: Final = Dialect[EmbedRequest](
    name="ollama.embed",
    operation=Operation.EMBED,
    convention=EMBED_CONVENTION,
    framing=WholeFraming,
    path=lambda model, streamed: "/api/embed",
    content_type="application/json",
    write_request=write_embed,
    decoder=whole_decoder(read_vectors, unreadable),
    read_failure=read_failure,
)
