"""The Anthropic messages dialect: `/v1/messages` of Anthropic, of Vertex and of servers that imitate it."""

from __future__ import annotations

from typing import Final

from counterfoil.core.operation import ChatRequest
from counterfoil.dialects.anthropic_messages.count import ANTHROPIC_COUNT
from counterfoil.dialects.anthropic_messages.encode import MessagesEncoder
from counterfoil.dialects.anthropic_messages.failure import read_failure, write_failure
from counterfoil.dialects.anthropic_messages.peek import peek_request
from counterfoil.dialects.anthropic_messages.relay import MessagesRelay
from counterfoil.dialects.anthropic_messages.reply import MessagesDecoder
from counterfoil.dialects.anthropic_messages.request import DIALECT, patch_request, read_request
from counterfoil.dialects.anthropic_messages.request_write import write_request
from counterfoil.dialects.anthropic_messages.usage import CONVENTION
from counterfoil.dialects.dialect import ClientDialect
from counterfoil.framing.sse import SseFraming

__all__ = ["ANTHROPIC_COUNT", "ANTHROPIC_MESSAGES"]


def _path(model: str, streamed: bool) -> str:
    """A provider's base URL ends in /v1; neither the model nor the stream is in the path."""
    return "/messages"


ANTHROPIC_MESSAGES: Final = ClientDialect[ChatRequest](
    name=DIALECT,
    convention=CONVENTION,
    framing=SseFraming,
    path=_path,
    content_type="text/event-stream",
    carried_headers=("anthropic-version", "anthropic-beta"),
    listed_headers=frozenset({"anthropic-beta"}),
    id_prefix="msg_",
    peek_request=peek_request,
    read_request=read_request,
    write_request=write_request,
    patch_request=patch_request,
    decoder=MessagesDecoder,
    encoder=MessagesEncoder,
    relay=MessagesRelay,
    read_failure=read_failure,
    write_failure=write_failure,
)
