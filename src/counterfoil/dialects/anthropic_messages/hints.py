"""Fields of a messages request that ask nothing of the reply, and so stay behind wherever the dialect is crossed."""

from __future__ import annotations

from typing import Final

import msgspec

from counterfoil.dialects.schema import UNREADABLE

__all__ = ["is_hint"]

_HINTS: Final = frozenset({"tools.eager_input_streaming"})
"""Arguments told as they are made come the sooner, and say the same
(https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming); AI SDK always asks so."""
_EDITS: Final = "context_management"
_CLEARS: Final = "clear_"
"""Edits of this kind leave out of a long conversation what is old. Without them the model reads more, not less:
https://platform.claude.com/docs/en/build-with-claude/context-editing"""


class _Edit(msgspec.Struct, frozen=True):
    type: str


class _Edits(msgspec.Struct, frozen=True):
    edits: tuple[_Edit, ...] = ()


def is_hint(name: str, raw: msgspec.Raw) -> bool:
    """Whether a field without canonical words is one. Editing the context is, where all of it is clearing; a summary
    (`compact_...`) is part of the reply."""
    if name != _EDITS:
        return name in _HINTS
    try:
        return all(edit.type.startswith(_CLEARS) for edit in msgspec.json.decode(raw, type=_Edits).edits)
    except UNREADABLE:
        return False
