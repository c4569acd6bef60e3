"""OpenAI's embeddings: `POST /embeddings` of OpenAI, Azure, Mistral, Voyage and most servers one runs oneself."""

from __future__ import annotations

from typing import Final

from counterfoil.core.operation import EmbedRequest, Operation
from counterfoil.dialects.dialect import ClientDialect
from counterfoil.dialects.openai_chat.failure import read_failure, write_failure
from counterfoil.dialects.openai_embeddings.reply import CONVENTION, mend, read_reply, unreadable, write_reply
from counterfoil.dialects.openai_embeddings.request import patch_request, peek_request, read_request, write_request
from counterfoil.dialects.whole import whole_decoder, whole_encoder, whole_relay
from counterfoil.framing.whole import WholeFraming

__all__ = ["OPENAI_EMBEDDINGS"]


def _path(model: str, streamed: bool) -> str:
    return "/embeddings"


OPENAI_EMBEDDINGS: Final = ClientDialect[EmbedRequest](
    name="openai_embeddings",
    operation=Operation.EMBED,
    convention=CONVENTION,
    framing=WholeFraming,
    path=_path,
    content_type="application/json",
    id_prefix="embd-",
    peek_request=peek_request,
    read_request=read_request,
    write_request=write_request,
    patch_request=patch_request,
    decoder=whole_decoder(read_reply, unreadable),
    encoder=whole_encoder(write_reply, write_failure),
    relay=whole_relay(mend, write_failure),
    read_failure=read_failure,
    write_failure=write_failure,
)
"""The dialect, as the registry lists it."""
