"""OpenAI's chat completions: the dialect most providers speak.

Requests, replies, errors and usage of `POST /chat/completions`, streamed (SSE) and whole. What a provider does
differently is read where it does no harm (`schema`, `usage.PLACES`), and is otherwise a quirk.
"""

from __future__ import annotations

from typing import Final

from counterfoil.core.operation import ChatRequest
from counterfoil.dialects.dialect import ClientDialect
from counterfoil.dialects.openai_chat.crossing import write_request
from counterfoil.dialects.openai_chat.encode import ChatEncoder
from counterfoil.dialects.openai_chat.failure import beside_error, read_failure, write_failure
from counterfoil.dialects.openai_chat.peek import peek_request
from counterfoil.dialects.openai_chat.relay import ChatRelay
from counterfoil.dialects.openai_chat.reply import ChatDecoder
from counterfoil.dialects.openai_chat.request import patch_request, read_request
from counterfoil.dialects.openai_chat.usage import CONVENTION
from counterfoil.framing.sse import SseFraming

__all__ = ["OPENAI_CHAT"]


def _path(model: str, streamed: bool) -> str:
    return "/chat/completions"


OPENAI_CHAT: Final = ClientDialect[ChatRequest](
    name="openai_chat",
    convention=CONVENTION,
    framing=SseFraming,
    path=_path,
    content_type="text/event-stream",
    carried_headers=("openai-beta",),
    listed_headers=frozenset({"openai-beta"}),
    id_prefix="chatcmpl-",
    peek_request=peek_request,
    read_request=read_request,
    write_request=write_request,
    patch_request=patch_request,
    decoder=ChatDecoder,
    encoder=ChatEncoder,
    relay=ChatRelay,
    read_failure=read_failure,
    write_failure=write_failure,
    beside_error=beside_error,
)
"""The dialect, as the registry lists it."""
