"""How many tokens a request would be: what the counts of all dialects have in common.

Rule: what only shapes the reply (its bound, sampling, stops) is no part of what is counted, and is left out without a
word. Nothing runs and nothing is billed: the answer is a count, which names no model and has no usage of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import Event, TokensCounted
from counterfoil.core.operation import ChatRequest, CountRequest
from counterfoil.dialects.dialect import Decoder, FinalUsage, Quirks, Relay, ReplyFacts, WrittenRequest
from counterfoil.dialects.failure import bad_reply
from counterfoil.dialects.schema import Fields, fields_of
from counterfoil.dialects.whole import whole_decoder, whole_relay

__all__ = ["count_decoder", "count_of", "count_relay", "counted_fields", "no_count"]

_REPLY_ONLY: Final[Mapping[str, object]] = {
    "max_output_tokens": None,
    "temperature": None,
    "top_p": None,
    "top_k": None,
    "stop": (),
    "n": 1,
    "seed": None,
    "presence_penalty": None,
    "frequency_penalty": None,
    "logprobs": None,
    "top_logprobs": None,
    "user": None,
    "service_tier": None,
    "stream": False,
}
"""What shapes a reply only, and what says nothing of it."""


def counted_fields(
    request: CountRequest,
    names: Collection[str],
    write: Callable[[ChatRequest], WrittenRequest],
    also_left_out: Mapping[str, object] | None = None,
) -> tuple[Fields, tuple[str, ...]]:
    """The chat as `write` would have it sent, as far as it is counted (`names`), and what that could not carry.
    Raises RequestError."""
    chat: ChatRequest = msgspec.structs.replace(request.chat, **{**_REPLY_ONLY, **(also_left_out or {})})
    written = write(chat)
    return {name: raw for name, raw in fields_of(written.body).items() if name in names}, written.dropped


def count_decoder(read: Callable[[bytes], Sequence[Event]]) -> Callable[[bool, int, Quirks], Decoder]:
    """`Dialect.decoder` of a count. `read`: a body -> its events; it may raise UNREADABLE."""
    return whole_decoder(read, no_count)


def no_count(body: bytes) -> Failure:
    """The body is no count."""
    return bad_reply(f"a body of {len(body)} bytes that is not a count of tokens")


def count_of(events: Sequence[Event]) -> TokensCounted | None:
    """The count among the events of a reply."""
    return next((event for event in events if isinstance(event, TokensCounted)), None)


def count_relay(write_failure: Callable[[Failure], bytes]) -> Callable[[ReplyFacts, Quirks], Relay]:
    """`ClientDialect.relay` of a count: nothing is mended."""
    return whole_relay(_mend, write_failure)


def _mend(fields: Fields, facts: ReplyFacts, final: FinalUsage) -> Mapping[str, msgspec.Raw | None]:
    return {}
