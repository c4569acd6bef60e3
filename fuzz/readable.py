"""What a client of each dialect must be able to make of a stream that it was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from counterfoil.dialects.dialect import ClientDialect, ReplyFacts
from counterfoil.exchange.recorded import read_reply
from counterfoil.ledger.entry import Exit

__all__ = ["Broken", "readable"]


class Broken(Exception):
    """The rule does not hold; the message says how."""


def readable(out: bytes, client: ClientDialect[Any], facts: ReplyFacts) -> None:
    """Raises Broken when a client of this dialect could not read `out`, or would count it more than once."""
    look = _LOOKS.get(client.name)
    if look is not None:
        look(out, facts)
        return
    # A dialect without rules of its own here is read by its own decoder. A provider may give fewer choices than asked.
    read = read_reply([out], client, streamed=True)
    if read.exit is not Exit.COMPLETED:
        raise Broken(f"its own decoder reads what was written as {read.exit}")


_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _members(data: bytes) -> dict[str, msgspec.Raw]:
    """The members of a frame, as a client reads an event stream: bytes that are not UTF-8 are U+FFFD."""
    return _object(data.decode("utf-8", "replace"))


def _blocks(out: bytes) -> Iterator[tuple[str, bytes]]:
    """Event name and data of every block, by the rules of event streams."""
    text = out.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not text.endswith(b"\n\n"):
        raise Broken("the stream ends inside a block")
    for block in text.split(b"\n\n"):
        fields = [line.partition(b":") for line in block.split(b"\n")]
        names = [value.removeprefix(b" ") for field, _, value in fields if field == b"event"]
        data = [value.removeprefix(b" ") for field, _, value in fields if field == b"data"]
        if data:
            yield b"".join(names[-1:]).decode("utf-8", "replace"), b"\n".join(data)


def _chat(out: bytes, facts: ReplyFacts) -> None:
    if b"\r" in out or any(name for name, _ in _blocks(out)):
        raise Broken("a carriage return, or an event's name")
    blocks = [data for _, data in _blocks(out)]
    if blocks.pop() != b"[DONE]" or b"[DONE]" in blocks:
        raise Broken("[DONE] is not the one end")
    said = [_members(data) for data in blocks]
    for number, frame in enumerate(said, 1):
        usage = frame.get("usage")
        if facts.usage_asked and number == len(said):
            if usage is None or bytes(frame.get("choices", b"")) != b"[]":
                raise Broken("the last frame is not the usage frame")
        elif (usage is None) if facts.usage_asked else (usage is not None):
            raise Broken("a usage key where none should be, or none where one should be")
        elif usage is not None and bytes(usage) != b"null":
            raise Broken("the usage comes more than once")


def _messages(out: bytes, facts: ReplyFacts) -> None:
    said = [(name, _members(data).get("type")) for name, data in _blocks(out) if data.strip()]
    kinds = [(None if kind is None else msgspec.json.decode(kind)) or name for name, kind in said]
    if kinds[-1:] != ["message_stop"] or kinds.count("message_stop") != 1:
        raise Broken("message_stop is not the one end")
    if kinds.count("message_delta") != 1:
        raise Broken(f"{kinds.count('message_delta')} message_delta")


_LOOKS: Final[Mapping[str, Callable[[bytes, ReplyFacts], None]]] = {
    "openai_chat": _chat,
    "anthropic_messages": _messages,
}
"""What has to hold of the frames themselves, by client dialect."""
