"""Amazon Bedrock's Converse: one wire for the models of every maker on Bedrock, and its count of tokens."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from counterfoil.core.operation import ChatRequest, CountRequest, Operation
from counterfoil.dialects.bedrock_converse.count import decoder as count_decoder
from counterfoil.dialects.bedrock_converse.count import write_count
from counterfoil.dialects.bedrock_converse.failure import read_failure
from counterfoil.dialects.bedrock_converse.reply import ConverseDecoder
from counterfoil.dialects.bedrock_converse.request import write_request
from counterfoil.dialects.bedrock_converse.usage import CONVENTION
from counterfoil.dialects.dialect import Dialect
from counterfoil.framing.eventstream import EventStreamFraming
from counterfoil.framing.whole import WholeFraming
from counterfoil.usage.settle import Convention

__all__ = ["BEDROCK_CONVERSE", "BEDROCK_COUNT"]


def _path(model: str, streamed: bool) -> str:
    """The model is one segment of the path: the slashes and colons of an ARN are encoded."""
    return f"/model/{quote(model, safe='')}/{'converse-stream' if streamed else 'converse'}"


def _count_path(model: str, streamed: bool) -> str:
    return f"/model/{quote(model, safe='')}/count-tokens"


BEDROCK_CONVERSE: Final = Dialect[ChatRequest](
    name="bedrock_converse",
    convention=CONVENTION,
    framing=EventStreamFraming,
    path=_path,
    content_type="application/vnd.amazon.eventstream",
    write_request=write_request,
    decoder=ConverseDecoder,
    read_failure=read_failure,
)

BEDROCK_COUNT: Final = Dialect[CountRequest](
    name="bedrock_converse.count",
    operation=Operation.COUNT,
    convention=Convention(no_model=True),
    framing=WholeFraming,
    path=_count_path,
    content_type="application/json",
    write_request=write_count,
    decoder=count_decoder,
    read_failure=read_failure,
)
