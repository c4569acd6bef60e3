"""Scripts by model name, for the provider that runs as a process of its own and cannot be handed a script.

Rule 1. A name says what is played; the numbers in it are counts of output units.
"""

from collections.abc import Mapping

from counterfoil.testing.answers import (
    bad_json,
    chat_player,
    empty_answer,
    error_answer,
    html_answer,
    messages_player,
    no_answer,
    obliging,
    refusing_stream_options,
    silent_answer,
)
from counterfoil.testing.chat import CHAT_SHAPES, ChatReply
from counterfoil.testing.messages import MessagesReply
from counterfoil.testing.playbook import Answer, Counts

__all__ = ["CATALOGUE"]


def _words(count: int) -> tuple[str, ...]:
    """`count` pieces of text that can be told apart."""
    return tuple(f"w{place} " for place in range(count))


def _paced(count: int, seconds: float) -> ChatReply:
    usage = Counts(input=20 + count, output=count)
    return ChatReply(text=_words(count), usage=usage, shape="separate_no_nulls", pace=seconds, model=f"paced-{count}")


def _running(count: int, seconds: float) -> ChatReply:
    usage = Counts(input=20 + count, output=count)
    return ChatReply(text=_words(count), usage=usage, shape="every_chunk_and_separate", pace=seconds)


_LONG = ChatReply(text=_words(20), usage=Counts(input=31, output=20))

CATALOGUE: Mapping[str, Answer] = {
    "plain": obliging,
    # A reply of so many units with a pause between frames; usage at the end only.
    "paced-10": chat_player(_paced(10, 0.02)),
    "paced-100": chat_player(_paced(100, 0.02)),
    "paced-1000": chat_player(_paced(1000, 0.01)),
    # The same, with running counts on every frame.
    "running-100": chat_player(_running(100, 0.02)),
    "messages-100": messages_player(MessagesReply(text=_words(100), usage=Counts(input=120, output=100), pace=0.02)),
    **{f"shape-{shape.replace('_', '-')}": chat_player(ChatReply(shape=shape)) for shape in CHAT_SHAPES},
    # Ten of the reply's twenty units, then what the name says.
    "cut-10": _LONG.script().cut_at(11),
    "reset-10": _LONG.script().reset_at(11),
    "stall-10": _LONG.script().stall_at(11),
    "silent": silent_answer(),
    "nothing": no_answer(),
    "empty": empty_answer(),
    "html": html_answer(),
    "bad-json": bad_json(),
    "refuses-stream-options": refusing_stream_options(chat_player(ChatReply(shape="finish_chunk"))),
    "error-401": error_answer(401, code="invalid_api_key"),
    "error-429": error_answer(429, retry_after="1"),
    "error-500": error_answer(500),
    "error-503-loading": error_answer(503, "Loading model", code=503, retry_after="1"),
}
