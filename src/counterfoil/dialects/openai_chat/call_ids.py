"""Ids of tool calls for a provider that takes only ids of one length (`Quirks.call_id_length`).

Rule 1: an id binds a result to its call and says nothing else. So another may stand for it, in both places alike.
Rule 2: an id that fits stays. A stand-in is worked out from the id: a conversation has the same ones in each turn, and
a prompt that was cached is found again. No two ids of a request share one.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Final

import msgspec

from counterfoil.core.message import Message, Part, ToolCall, ToolResult
from counterfoil.dialects.schema import UNREADABLE, fields_of

__all__ = ["with_ids_of_length", "written_with_ids_of_length"]

_LETTERS_AND_DIGITS: Final = string.digits + string.ascii_letters
_FITS: Final = re.compile(r"[0-9A-Za-z]+")


class _Call(msgspec.Struct, frozen=True):
    id: str | None = None


class _Said(msgspec.Struct, frozen=True):
    """The ids of a message."""

    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None


_MESSAGES: Final = msgspec.json.Decoder(list[_Said])
_RAW_MESSAGES: Final = msgspec.json.Decoder(list[msgspec.Raw])
_RAW_CALLS: Final = msgspec.json.Decoder(list[msgspec.Raw])


def with_ids_of_length(messages: Sequence[Message], length: int) -> Sequence[Message]:
    """Canonical messages, all of whose call ids are `length` letters and digits. An empty id stays one: the provider
    says what is wrong with it."""
    instead = _stand_ins((_id_of(part) for message in messages for part in message.parts), length)
    if not instead:
        return messages
    replaced = msgspec.structs.replace
    return [replaced(message, parts=tuple(_renamed(part, instead) for part in message.parts)) for message in messages]


def written_with_ids_of_length(messages: msgspec.Raw, length: int) -> msgspec.Raw:
    """The same of messages as a chat client wrote them. Only messages with an id that does not fit are written again,
    key by key; messages of a shape nobody knows are the provider's to refuse."""
    try:
        read = _MESSAGES.decode(messages)
        instead = _stand_ins((one for said in read for one in _ids_of(said)), length)
        if not instead:
            return messages
        raws = _RAW_MESSAGES.decode(messages)
        for place, said in enumerate(read):
            if any(one in instead for one in _ids_of(said)):
                raws[place] = _rewritten(raws[place], said, instead)
    except UNREADABLE:
        return messages
    return msgspec.Raw(msgspec.json.encode(raws))


def _stand_ins(ids: Iterable[str | None], length: int) -> Mapping[str, str]:
    """What stands for each id that does not fit."""
    found = dict.fromkeys(one for one in ids if one)
    taken = {one for one in found if len(one) == length and _FITS.fullmatch(one)}
    instead: dict[str, str] = {}
    for one in [one for one in found if one not in taken]:
        instead[one] = next(made for number in count() if (made := _made_of(one, number, length)) not in taken)
        taken.add(instead[one])
    return instead


def _made_of(said: str, number: int, length: int) -> str:
    """Letters and digits worked out from an id. `number`: how many such were taken already."""
    rest = int.from_bytes(hashlib.sha256(f"{number}:{said}".encode("utf-8", "surrogatepass")).digest(), "big")
    made = []
    for _ in range(length):
        rest, place = divmod(rest, len(_LETTERS_AND_DIGITS))
        made.append(_LETTERS_AND_DIGITS[place])
    return "".join(made)


def _id_of(part: Part) -> str | None:
    if isinstance(part, ToolCall):
        return part.id
    return part.call_id if isinstance(part, ToolResult) else None


def _renamed(part: Part, instead: Mapping[str, str]) -> Part:
    if isinstance(part, ToolCall):
        return msgspec.structs.replace(part, id=instead.get(part.id, part.id))
    if isinstance(part, ToolResult):
        return msgspec.structs.replace(part, call_id=instead.get(part.call_id, part.call_id))
    return part


def _ids_of(said: _Said) -> list[str | None]:
    return [said.tool_call_id, *(call.id for call in said.tool_calls or ())]


def _rewritten(raw: msgspec.Raw, said: _Said, instead: Mapping[str, str]) -> msgspec.Raw:
    fields = fields_of(raw)
    if said.tool_call_id is not None and said.tool_call_id in instead:
        fields["tool_call_id"] = msgspec.Raw(msgspec.json.encode(instead[said.tool_call_id]))
    if said.tool_calls:
        calls = _RAW_CALLS.decode(fields["tool_calls"])
        for place, call in enumerate(said.tool_calls):
            if call.id is not None and call.id in instead:
                new_id = msgspec.Raw(msgspec.json.encode(instead[call.id]))
                calls[place] = msgspec.Raw(msgspec.json.encode({**fields_of(calls[place]), "id": new_id}))
        fields["tool_calls"] = msgspec.Raw(msgspec.json.encode(calls))
    return msgspec.Raw(msgspec.json.encode(fields))
