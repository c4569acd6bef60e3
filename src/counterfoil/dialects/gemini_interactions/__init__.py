"""Google's Interactions API, as far as it is metered: its replies and its usage.

Rule: this version reads these replies exactly and calls the API for nobody: it keeps conversations on its side
(`previous_interaction_id`, `background`), which no request of ours asks for. The same models answer `generateContent`.

https://ai.google.dev/gemini-api/docs/interactions
"""

from __future__ import annotations

from typing import Final

from counterfoil.core.error import RequestError
from counterfoil.core.operation import ChatRequest
from counterfoil.dialects.dialect import Dialect, Quirks, WrittenRequest
from counterfoil.dialects.gemini.failure import read_failure
from counterfoil.dialects.gemini.usage import CONVENTION
from counterfoil.dialects.gemini_interactions.reply import InteractionsDecoder
from counterfoil.framing.sse import SseFraming

__all__ = ["GEMINI_INTERACTIONS"]


def _path(model: str, streamed: bool) -> str:
    return "/interactions"


def _write_request(request: ChatRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """Raises RequestError, always."""
    raise RequestError(
        "Google's Interactions API is metered here and cannot be called. Set the deployment's dialect to `gemini`.",
        param="model",
        code="cannot_be_called",
    )


GEMINI_INTERACTIONS: Final = Dialect[ChatRequest](
    name="gemini_interactions",
    convention=CONVENTION,
    framing=SseFraming,
    path=_path,
    content_type="text/event-stream",
    write_request=_write_request,
    decoder=InteractionsDecoder,
    read_failure=read_failure,
)
"""The dialect, as the registry lists it."""
