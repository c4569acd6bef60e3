"""The JSON inside Bedrock's invoke wire, as far as it is read: a body is the model's own, and every maker has its own.

Rule 1: a body is known by its keys. Which model was asked for is not looked at: an ARN does not tell.
Rule 2: reading is lenient: absent, null and unknown are fine.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html: a page a maker. Recorded: bedrock.invoke.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from counterfoil.dialects.schema import NOT_SENT, UNREADABLE, given, value_of

__all__ = ["Chunk", "number", "text"]


class Chunk(msgspec.Struct, frozen=True):
    """The payload of a `chunk` event: a piece of the model's own stream, in base64. The padding `p` is unknown here."""

    bytes: str


def text(fields: Mapping[str, msgspec.Raw], name: str) -> str | None:
    """A field's text; None where it is absent or something else."""
    raw = fields.get(name, NOT_SENT)
    return msgspec.json.decode(raw, type=str) if bytes(raw)[:1] == b'"' else None


def number(fields: Mapping[str, msgspec.Raw], name: str) -> object:
    """A field's value as far as it may be a number; None where it is absent. A count fails no reply."""
    raw = fields.get(name, NOT_SENT)
    try:
        return value_of(raw) if given(raw) and bytes(raw)[:1] not in (b"{", b"[") else None
    except UNREADABLE:
        return None
