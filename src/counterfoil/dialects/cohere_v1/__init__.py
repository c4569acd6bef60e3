"""Cohere's v1 chat, read only: what it used can be metered, and what is asked of it goes to v2.

https://docs.cohere.com/v1/reference/chat
"""

from __future__ import annotations

from typing import Final

from counterfoil.core.operation import ChatRequest
from counterfoil.dialects.cohere.failure import read_failure
from counterfoil.dialects.cohere.usage import CHAT_CONVENTION
from counterfoil.dialects.cohere_v1.reply import ChatDecoder
from counterfoil.dialects.cohere_v1.request import write_request
from counterfoil.dialects.dialect import Dialect
from counterfoil.framing.ndjson import NdjsonFraming

__all__ = ["COHERE_V1"]


def _path(model: str, streamed: bool) -> str:
    return "/v1/chat"


COHERE_V1: Final = Dialect[ChatRequest](
    name="cohere_v1",
    convention=CHAT_CONVENTION,
    framing=NdjsonFraming,
    path=_path,
    content_type="application/stream+json",
    write_request=write_request,
    decoder=ChatDecoder,
    read_failure=read_failure,
)
"""`POST /v1/chat`, whole and as a stream of JSON lines."""
