"""The only list of dialects."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from counterfoil.dialects.anthropic_messages import ANTHROPIC_COUNT, ANTHROPIC_MESSAGES
from counterfoil.dialects.bedrock_converse import BEDROCK_CONVERSE, BEDROCK_COUNT
from counterfoil.dialects.bedrock_invoke import BEDROCK_INVOKE
from counterfoil.dialects.cohere import COHERE, COHERE_EMBED, COHERE_RERANK
from counterfoil.dialects.cohere_v1 import COHERE_V1
from counterfoil.dialects.dialect import ClientDialect, Dialect
from counterfoil.dialects.gemini import GEMINI, GEMINI_COUNT, GEMINI_EMBED
from counterfoil.dialects.gemini_interactions import GEMINI_INTERACTIONS
from counterfoil.dialects.ollama import OLLAMA, OLLAMA_EMBED, OLLAMA_GENERATE
from counterfoil.dialects.openai_chat import OPENAI_CHAT
from counterfoil.dialects.openai_completions import OPENAI_COMPLETIONS
from counterfoil.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from counterfoil.dialects.openai_responses import OPENAI_RESPONSES, OPENAI_RESPONSES_COUNT
from counterfoil.dialects.vertex_predict import VERTEX_PREDICT
from counterfoil.dialects.voyage import VOYAGE_RERANK

__all__ = ["CLIENT_DIALECTS", "DIALECTS"]

DIALECTS: Final[Mapping[str, Dialect[Any]]] = MappingProxyType(
    {
        dialect.name: dialect
        for dialect in (
            OPENAI_CHAT,
            OPENAI_RESPONSES,
            OPENAI_RESPONSES_COUNT,
            ANTHROPIC_MESSAGES,
            ANTHROPIC_COUNT,
            OPENAI_COMPLETIONS,
            OPENAI_EMBEDDINGS,
            OLLAMA,
            OLLAMA_EMBED,
            OLLAMA_GENERATE,
            GEMINI,
            GEMINI_COUNT,
            GEMINI_EMBED,
            GEMINI_INTERACTIONS,
            VERTEX_PREDICT,
            BEDROCK_CONVERSE,
            BEDROCK_COUNT,
            BEDROCK_INVOKE,
            COHERE,
            COHERE_EMBED,
            COHERE_RERANK,
            COHERE_V1,
            VOYAGE_RERANK,
        )
    }
)
"""Dialects by name: a folder's (`openai_chat`), with the operation where it is not the chat (`cohere.rerank`)."""

CLIENT_DIALECTS: Final[Mapping[str, ClientDialect[Any]]] = MappingProxyType(
    {name: dialect for name, dialect in DIALECTS.items() if isinstance(dialect, ClientDialect)}
)
"""Those that clients may speak to us."""
