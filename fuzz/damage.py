"""Ways to damage a reply: its bits, its frames, and the values of its JSON.

Each takes the reply, the chance to use and other replies, and gives the damaged bytes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, Final

__all__ = ["DAMAGES"]


def _frames(data: bytes) -> list[bytes]:
    separator = b"\r\n\r\n" if b"\r\n\r\n" in data else b"\n\n"
    return [frame + separator for frame in data.split(separator)]


def _flipped(data: bytes, rng: random.Random, samples: Sequence[bytes]) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 2, 8)) if damaged else 0):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _truncated(data: bytes, rng: random.Random, samples: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _shuffled(data: bytes, rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """A frame twice, gone, moved, or from another reply."""
    frames = _frames(data)
    at, to = rng.randrange(len(frames)), rng.randrange(len(frames))
    match rng.randrange(4):
        case 0:
            frames[to:to] = [frames[at]] * rng.choice((1, 1, 2, 50))
        case 1:
            del frames[at]
        case 2:
            frames.insert(to, frames.pop(at))
        case _:
            frames.insert(to, rng.choice(_frames(rng.choice(samples))))
    return b"".join(frames)


def _inserted(data: bytes, rng: random.Random, samples: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_STRANGE) + data[at + rng.choice((0, 0, 1, 5)) :]


def _swapped(data: bytes, rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """One value of one frame's JSON for another."""
    frames = _frames(data)
    at = rng.randrange(len(frames))
    start = max(frames[at].find(b"{"), 0)
    end = frames[at].rfind(b"}") + 1
    try:
        value = _changed(json.loads(frames[at][start:end]), rng)
        text = json.dumps(value, ensure_ascii=rng.random() < 0.5, separators=(",", ":"))
    except (ValueError, RecursionError):
        return _flipped(data, rng, samples)
    for word, deep in _DEEP.items():
        text = text.replace(json.dumps(word), deep)
    frames[at] = frames[at][:start] + text.encode("utf-8", "surrogatepass") + frames[at][end:]
    return b"".join(frames)


def _changed(value: object, rng: random.Random) -> object:
    """`value` with one value somewhere in it changed."""
    spots: list[tuple[Any, Any]] = []
    below: list[Any] = [value]
    while below:
        inside = below.pop()
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        spots += [(inside, key) for key in keys]
        below += [inside[key] for key in keys if isinstance(inside[key], dict | list)]
    if not spots:
        return rng.choice(_VALUES)
    inside, key = rng.choice(spots)
    match rng.randrange(6):
        case 0:
            del inside[key]
        case 1 if isinstance(inside, dict):
            inside[rng.choice(spots)[1] if rng.random() < 0.3 else rng.choice(_KEYS)] = inside[key]
        case 1:
            inside *= 2
        case 2:
            holder, other = rng.choice(spots)
            inside[key] = json.loads(json.dumps(holder[other])) if other in holder or isinstance(holder, list) else None
        case 3:
            inside[key] = rng.choice(([inside[key]], {"value": inside[key]}, str(inside[key])))
        case _:
            inside[key] = rng.choice(_VALUES)
    return value


DAMAGES: Final = (_flipped, _truncated, _shuffled, _shuffled, _inserted, _swapped, _swapped, _swapped, _swapped)
_STRANGE: Final = (
    b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\x00", b"\r", b"\n", b"\r\n", b"\n\n", b"\r\r", b"\n\r\n",
    b"data:", b"data: [DONE]\n\n", b"event: error\n", b"event:\n", b": \n\n", b"id: 3\nretry: 1\n", b"data\n", b"\\",
    b'"', b"{", b"}", b"[" * 300, b'{"a":' * 300, b"null", b"9" * 400, b"data: {}\n\n", b"data: null\n\n",
    b"data: []\n\n", b'data: {"error":{"message":"no"}}\n\n', b'data: {"choices":null}\n\n', b" " * 5000,
    b'data: {"type":"message_delta"}\n\n', b'data: {"type":"error"}\n\n', b"\\ud800", b"data: 1\ndata: 2\n\n",
)  # fmt: skip
_DEEP: Final = {
    "deep list": "[" * 2000 + "]" * 2000,
    "deep object": '{"choices":' * 600 + "1" + "}" * 600,
    "long number": "1" + "0" * 6000,
    "not a number": "1e999",
}
_VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 2.0, 1.5, 7, 255, 10**9, 2**31, 2**53, 2**63, 2**64, -(2**70), 10**300, 1e308, "", "0",
    "stop", "[DONE]", "\x00", "\ud800", "\n\ndata: [DONE]\n\n", "x" * 3000, [], {}, [[]], [None], [{}], {"": {}},
    {"index": 10**8}, {"text": "a"}, *_DEEP,
)  # fmt: skip
_KEYS: Final = (
    "index", "choices", "delta", "message", "usage", "id", "type", "error", "content", "tool_calls", "function", "name",
    "arguments", "finish_reason", "role", "created", "model", "x_groq", "timings", "text", "content_block", "input",
    "prompt_tokens", "output_tokens", "iterations", "stop_reason", "reasoning_content", "refusal", "logprobs", "",
)  # fmt: skip
