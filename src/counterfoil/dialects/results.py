"""What tools returned that is no text, for wires whose tool messages hold text only.

Rule: nothing a tool returned is lost or refused for its place. It is said by the user right after the results, with
the id of the call it belongs to, and the result says where it is. A model that sees pictures sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from counterfoil.core.message import Audio, File, Image, Message, Part, Text, ToolResult

__all__ = ["media_apart"]


def media_apart(messages: Sequence[Message], stays: Callable[[Part], bool] = lambda part: False) -> list[Message]:
    """The messages with pictures, files and sounds of tool results in user messages after them.

    `stays`: whether the wire has a place for this part inside a result.
    """
    told: list[Message] = []
    apart: list[Part] = []
    for message in messages:
        answers = any(isinstance(part, ToolResult) for part in message.parts)
        if apart and not answers:  # the results of one turn stay together: providers refuse what stands between them
            if message.role == "user" and message.name is None:
                message = msgspec.structs.replace(message, parts=(*apart, *message.parts))
            else:
                told.append(Message("user", tuple(apart)))
            apart = []
        if answers:
            parts = (_split(part, stays, apart) if isinstance(part, ToolResult) else part for part in message.parts)
            message = msgspec.structs.replace(message, parts=tuple(parts))
        told.append(message)
    if apart:
        told.append(Message("user", tuple(apart)))
    return told


def _split(result: ToolResult, stays: Callable[[Part], bool], apart: list[Part]) -> ToolResult:
    """The result without its media, which are appended to `apart`."""
    media = [part for part in result.parts if isinstance(part, Image | File | Audio) and not stays(part)]
    if not media:
        return result
    apart.append(Text(f"[Returned by tool call {result.call_id}:]"))
    apart.extend(media)
    pieces = "a picture or file" if len(media) == 1 else f"{len(media)} pictures or files"
    note = Text(f"[The tool returned {pieces}: see the next user message.]")
    kept = [part for part in result.parts if not any(part is one for one in media)]
    return msgspec.structs.replace(result, parts=(*kept, note))
