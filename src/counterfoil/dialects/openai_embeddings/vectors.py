"""Vectors as numbers and as base64: the same 32-bit floats, written in the two ways of the embeddings API.

Rule: a vector that is not what it should be stays as its provider wrote it. Nothing here raises, and no number is
changed beyond what 32 bits hold.

https://platform.openai.com/docs/api-reference/embeddings/create (`encoding_format`)
"""

from __future__ import annotations

import base64
import binascii
import struct

import msgspec

__all__ = ["as_base64", "as_numbers"]

_BYTES_PER_FLOAT = 4
_NUMBERS = msgspec.json.Decoder(list[float])
_TEXT = msgspec.json.Decoder(str)


def as_base64(vector: msgspec.Raw) -> msgspec.Raw:
    """A vector as base64 of little-endian 32-bit floats, each the nearest to the number it was."""
    try:
        numbers = _NUMBERS.decode(vector)
        packed = struct.pack(f"<{len(numbers)}f", *numbers)
    except (msgspec.DecodeError, OverflowError, UnicodeDecodeError, RecursionError):
        return vector
    return msgspec.Raw(b'"' + base64.b64encode(packed) + b'"')


def as_numbers(vector: msgspec.Raw) -> msgspec.Raw:
    """A vector as a list of numbers: each exactly the 32-bit float it was."""
    try:
        packed = base64.b64decode(_TEXT.decode(vector), validate=True)
    except (msgspec.DecodeError, binascii.Error, ValueError, RecursionError):
        return vector
    if len(packed) % _BYTES_PER_FLOAT:
        return vector
    numbers = struct.unpack(f"<{len(packed) // _BYTES_PER_FLOAT}f", packed)
    written = msgspec.json.encode(numbers)
    return vector if b"null" in written else msgspec.Raw(written)  # what JSON cannot say: infinite, or no number
