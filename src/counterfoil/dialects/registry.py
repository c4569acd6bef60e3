"""The only list of dialects."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from counterfoil.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from counterfoil.dialects.dialect import Dialect
from counterfoil.dialects.openai_chat import OPENAI_CHAT

__all__ = ["DIALECTS"]

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType(
    {dialect.name: dialect for dialect in (OPENAI_CHAT, ANTHROPIC_MESSAGES)}
)
"""Dialects by name (`openai_chat`, `anthropic_messages`)."""
