"""Requests are not written in v1: the vendor has replaced it, and v2 can say everything that clients ask."""

from __future__ import annotations

from typing import NoReturn

from counterfoil.core.error import RequestError
from counterfoil.core.operation import ChatRequest
from counterfoil.dialects.dialect import Quirks

__all__ = ["write_request"]


def write_request(request: ChatRequest, model: str, quirks: Quirks, drop: bool) -> NoReturn:
    """Raises RequestError, which names the way out (https://docs.cohere.com/docs/migrating-v1-to-v2)."""
    raise RequestError(
        "Requests are not written in Cohere's v1 chat (`cohere_v1`), which is only metered. Let the deployment speak "
        "`cohere`, its v2.",
        param="model",
        code="cannot_be_carried",
    )
