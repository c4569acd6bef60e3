"""How deep a JSON text is nested, found without parsing it.

Rule 1: no recursion, and little Python per byte: the text is thinned out by whole-text operations in C.
Rule 2: text that is not JSON gets an answer too; that it is no JSON is for the parser to say.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Final

__all__ = ["exceeds"]

_NOT_SHAPE: Final = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_BLOCK: Final = 1 << 16


def exceeds(text: bytes, limit: int) -> bool:
    """Whether arrays and objects lie more than `limit` deep in `text`. Small requests are answered by a count."""
    if text.count(b"[") + text.count(b"{") <= limit:
        return False
    if b"\\" in text:  # in this order: in `\\"` the quote ends the string, in `\\\"` it does not
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(text.translate(None, _NOT_SHAPE).split(b'"')[::2])
    steps = memoryview(outside.translate(_STEPS)).cast("b")  # an opening is 1, a closing -1
    depth = 0
    for start in range(0, len(steps), _BLOCK):
        depths = list(accumulate(steps[start : start + _BLOCK], initial=depth))
        if max(depths) > limit:
            return True
        depth = depths[-1]
    return False
