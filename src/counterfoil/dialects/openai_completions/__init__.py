"""OpenAI's legacy completions: `POST /completions` of OpenAI, vLLM, llama.cpp, Together and others.

A text goes on, so there are no roles, no messages and no tools. What is the same as in the chat dialect (errors, usage,
the repairs of frames) is taken from there.
"""

from __future__ import annotations

from typing import Final

from counterfoil.core.operation import CompleteRequest, Operation
from counterfoil.dialects.dialect import ClientDialect
from counterfoil.dialects.openai_chat.failure import read_failure, write_failure
from counterfoil.dialects.openai_chat.request import patch_request
from counterfoil.dialects.openai_chat.usage import CONVENTION
from counterfoil.dialects.openai_completions.encode import CompletionEncoder
from counterfoil.dialects.openai_completions.relay import CompletionRelay
from counterfoil.dialects.openai_completions.reply import CompletionDecoder
from counterfoil.dialects.openai_completions.request import peek_request, read_request, write_request
from counterfoil.framing.sse import SseFraming

__all__ = ["OPENAI_COMPLETIONS"]


def _path(model: str, streamed: bool) -> str:
    return "/completions"


OPENAI_COMPLETIONS: Final = ClientDialect[CompleteRequest](
    name="openai_completions",
    operation=Operation.COMPLETE,
    convention=CONVENTION,
    framing=SseFraming,
    path=_path,
    content_type="text/event-stream",
    id_prefix="cmpl-",
    peek_request=peek_request,
    read_request=read_request,
    write_request=write_request,
    patch_request=patch_request,
    decoder=CompletionDecoder,
    encoder=CompletionEncoder,
    relay=CompletionRelay,
    read_failure=read_failure,
    write_failure=write_failure,
)
"""The dialect, as the registry lists it."""
