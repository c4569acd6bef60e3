"""How deep a JSON text is nested and how much there is in it, found without parsing it.

Rule 1: no recursion, and little Python per byte: the text is thinned out by whole-text operations in C.
Rule 2: text that is not JSON gets an answer too; that it is no JSON is for the parser to say.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Final

__all__ = ["exceeds", "holds_more"]

_NOT_SHAPE: Final = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_BLOCK: Final = 1 << 16


def exceeds(text: bytes, limit: int) -> bool:
    """Whether arrays and objects lie more than `limit` deep in `text`. Small requests are answered by a count."""
    if text.count(b"[") + text.count(b"{") <= limit:
        return False
    outside = _outside(text, _NOT_SHAPE)
    steps = memoryview(outside.translate(_STEPS)).cast("b")  # an opening is 1, a closing -1
    depth = 0
    for start in range(0, len(steps), _BLOCK):
        depths = list(accumulate(steps[start : start + _BLOCK], initial=depth))
        if max(depths) > limit:
            return True
        depth = depths[-1]
    return False


def holds_more(text: bytes, marks: bytes, limit: int) -> bool:
    """Whether more than `limit` of these characters stand in `text` outside its strings: commas are its values, opening
    brackets its arrays and objects. Most requests are answered by a count."""
    if sum(text.count(mark) for mark in marks) <= limit:
        return False
    return len(_outside(text, bytes(byte for byte in range(256) if byte not in b'"' + marks))) > limit


def _outside(text: bytes, left_out: bytes) -> bytes:
    """What stands outside the strings, but for the characters in `left_out`, which quotes are not."""
    if b"\\" in text:  # in this order: in `\\"` the quote ends the string, in `\\\"` it does not
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    thin = text.translate(None, left_out).replace(b'""', b"")  # two quotes in a row change nothing for what follows
    return b"".join(thin.split(b'"')[::2])
