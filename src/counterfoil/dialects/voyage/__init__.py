"""Voyage's language where it is its own: rankings. Its embeddings are OpenAI's (`openai_embeddings`)."""

from __future__ import annotations

from counterfoil.dialects.voyage.rerank import VOYAGE_RERANK

__all__ = ["VOYAGE_RERANK"]
