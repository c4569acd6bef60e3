"""What can be asked in process: each operation in OpenAI's dialect of it.

Rule: a form is a dialect and the name of what is asked about in its requests. All else of a call is the same for each.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from counterfoil.dialects.dialect import ClientDialect
from counterfoil.dialects.registry import CLIENT_DIALECTS

__all__ = ["CHAT", "EMBEDDINGS", "Form"]


class Form(msgspec.Struct, frozen=True):
    """One kind of request."""

    dialect: ClientDialect[Any]
    content: str
    """The field of what is asked about."""


CHAT: Final = Form(CLIENT_DIALECTS["openai_chat"], "messages")
EMBEDDINGS: Final = Form(CLIENT_DIALECTS["openai_embeddings"], "input")
