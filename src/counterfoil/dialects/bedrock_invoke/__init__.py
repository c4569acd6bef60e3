"""Amazon Bedrock's InvokeModel: the body of each model's maker, in the service's wrapping."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from counterfoil.core.operation import ChatRequest
from counterfoil.dialects.bedrock_converse.failure import read_failure
from counterfoil.dialects.bedrock_converse.usage import CONVENTION
from counterfoil.dialects.bedrock_invoke.reply import InvokeDecoder, read_head
from counterfoil.dialects.bedrock_invoke.request import write_request
from counterfoil.dialects.dialect import Dialect
from counterfoil.framing.eventstream import EventStreamFraming

__all__ = ["BEDROCK_INVOKE"]


def _path(model: str, streamed: bool) -> str:
    """The model is one segment of the path: the slashes and colons of an ARN are encoded."""
    return f"/model/{quote(model, safe='')}/{'invoke-with-response-stream' if streamed else 'invoke'}"


BEDROCK_INVOKE: Final = Dialect[ChatRequest](
    name="bedrock_invoke",
    convention=CONVENTION,
    framing=EventStreamFraming,
    path=_path,
    content_type="application/vnd.amazon.eventstream",
    write_request=write_request,
    decoder=InvokeDecoder,
    read_failure=read_failure,
    read_head=read_head,
)
