"""OpenAI's Responses API: `POST /responses`, streamed (SSE) and whole, and `POST /responses/input_tokens`."""

from __future__ import annotations

from typing import Final

from counterfoil.core.operation import ChatRequest
from counterfoil.dialects.dialect import ClientDialect
from counterfoil.dialects.openai_responses.count import OPENAI_RESPONSES_COUNT
from counterfoil.dialects.openai_responses.encode import ResponsesEncoder
from counterfoil.dialects.openai_responses.failure import read_failure, write_failure
from counterfoil.dialects.openai_responses.input_write import DIALECT
from counterfoil.dialects.openai_responses.relay import ResponsesRelay
from counterfoil.dialects.openai_responses.reply import ResponsesDecoder
from counterfoil.dialects.openai_responses.request import patch_request, peek_request, read_request
from counterfoil.dialects.openai_responses.request_write import write_request
from counterfoil.dialects.openai_responses.usage import CONVENTION
from counterfoil.framing.sse import SseFraming

__all__ = ["OPENAI_RESPONSES", "OPENAI_RESPONSES_COUNT"]


def _path(model: str, streamed: bool) -> str:
    """A provider's base URL ends in /v1; neither the model nor the stream is in the path."""
    return "/responses"


OPENAI_RESPONSES: Final = ClientDialect[ChatRequest](
    name=DIALECT,
    convention=CONVENTION,
    framing=SseFraming,
    path=_path,
    content_type="text/event-stream",
    carried_headers=("openai-beta",),
    listed_headers=frozenset({"openai-beta"}),
    id_prefix="resp_",
    peek_request=peek_request,
    read_request=read_request,
    write_request=write_request,
    patch_request=patch_request,
    decoder=ResponsesDecoder,
    encoder=ResponsesEncoder,
    relay=ResponsesRelay,
    read_failure=read_failure,
    write_failure=write_failure,
)
"""The dialect, as the registry lists it."""
