"""Replies in the shape of OpenAI's chat completions, and what the books have to say of them.

Rule 1: a reply holds what the provider said, as the relay or the crossing wrote it; nothing is invented for a field.
Rule 2: usage, cost and entry come from the ledger's entry, so that a reply and the books cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, ClassVar, Final

import msgspec

from counterfoil.dialects.dialect import FinalUsage
from counterfoil.dialects.openai_chat.usage import write_usage
from counterfoil.ledger.entry import Entry, vouchers
from counterfoil.sdk.node import Node
from counterfoil.usage.usage import Provenance

__all__ = [
    "Booked",
    "ChatCompletion",
    "ChatCompletionChunk",
    "Choice",
    "ChunkChoice",
    "Delta",
    "Embedding",
    "EmbeddingResponse",
    "Function",
    "Logprobs",
    "Message",
    "ToolCall",
    "UsageNode",
    "completion_cost",
    "cost_of",
    "dollars",
    "usage_node",
]

_PICO: Final = "e-12"


class Function(Node):
    """The function a tool call names, and its arguments as JSON text."""

    __slots__ = ()
    STANDARD: ClassVar = frozenset({"name", "arguments"})

    name: str | None
    arguments: str | None


class ToolCall(Node):
    """One tool call, or a piece of one."""

    __slots__ = ()
    STANDARD: ClassVar = frozenset({"index", "id", "type", "function"})
    KINDS: ClassVar = {"function": Function}

    index: int | None
    id: str | None
    type: str | None
    function: Function


class Logprobs(Node):
    """How likely the tokens were."""

    __slots__ = ()
    STANDARD: ClassVar = frozenset({"content", "refusal"})


class Message(Node):
    """What the model said in one choice."""

    __slots__ = ()
    STANDARD: ClassVar = frozenset(
        {"role", "content", "refusal", "tool_calls", "function_call", "audio", "annotations"}
    )
    KINDS: ClassVar = {"tool_calls": ToolCall, "function_call": Function}

    role: str | None
    content: str | None
    refusal: str | None
    tool_calls: list[ToolCall] | None
    function_call: Function | None


class Delta(Message):
    """What one chunk adds to a message."""

    __slots__ = ()


class Choice(Node):
    """One of the `n` answers."""

    __slots__ = ()
    STANDARD: ClassVar = frozenset({"index", "message", "finish_reason", "logprobs"})
    KINDS: ClassVar = {"message": Message, "logprobs": Logprobs}

    index: int
    message: Message
    finish_reason: str | None
    logprobs: Logprobs | None


class ChunkChoice(Node):
    """What one chunk adds to one choice."""

    __slots__ = ()
    STANDARD: ClassVar = frozenset({"index", "delta", "finish_reason", "logprobs"})
    KINDS: ClassVar = {"delta": Delta, "logprobs": Logprobs}

    index: int
    delta: Delta
    finish_reason: str | None
    logprobs: Logprobs | None


class UsageNode(Node):
    """OpenAI's usage object: inclusive totals, details where somebody vouches for them."""

    __slots__ = ("_provenance",)
    STANDARD: ClassVar = frozenset(
        {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"}
    )

    prompt_tokens: int
    completion_tokens: int | None
    total_tokens: int
    _provenance: Mapping[str, Provenance]

    @property
    def provenance(self) -> Mapping[str, Provenance]:
        """Who vouches for each figure, by the ledger's names of them (`input_tokens`, ...); empty when not known."""
        return getattr(self, "_provenance", {})


class Booked(Node):
    """A reply with its place in the books."""

    __slots__ = ("_dropped", "_entry", "_exchange")

    _entry: Entry | None
    _exchange: str | None
    _dropped: tuple[str, ...]

    @property
    def entry(self) -> Entry | None:
        """The ledger's entry of the attempt that gave this reply; None for one that no call of ours made."""
        return getattr(self, "_entry", None)

    @property
    def cost(self) -> Decimal | None:
        """US dollars, exact; None when there is no known price."""
        return cost_of(self.entry)

    @property
    def exchange(self) -> str | None:
        """The id of the call, the same in all its entries."""
        return getattr(self, "_exchange", None)

    @property
    def dropped(self) -> tuple[str, ...]:
        """Request fields that the provider's dialect could not say and that `drop=True` left out."""
        return getattr(self, "_dropped", ())

    def book(self, entry: Entry | None, exchange: str | None = None, dropped: Iterable[str] = ()) -> None:
        """Note what the books have of it."""
        self._entry, self._exchange, self._dropped = entry, exchange, tuple(dropped)
        if entry is not None and isinstance(usage := self._data.get("usage"), UsageNode):
            usage._provenance = vouchers(entry.usage)  # noqa: SLF001 - set once, by its owner


class ChatCompletion(Booked):
    """A whole reply."""

    __slots__ = ()
    STANDARD: ClassVar = frozenset(
        {"id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier"}
    )
    KINDS: ClassVar = {"choices": Choice, "usage": UsageNode}

    id: str
    object: str
    created: int
    model: str
    choices: list[Choice]
    usage: UsageNode | None


class ChatCompletionChunk(Booked):
    """One chunk of a stream. Only the usage chunk has no choices."""

    __slots__ = ()
    STANDARD: ClassVar = ChatCompletion.STANDARD
    KINDS: ClassVar = {"choices": ChunkChoice, "usage": UsageNode}

    id: str
    object: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: UsageNode | None


class Embedding(Node):
    """The vector of one input: numbers, or base64 of 32-bit floats where that was asked for."""

    __slots__ = ()
    STANDARD: ClassVar = frozenset({"object", "index", "embedding"})


class EmbeddingResponse(Booked):
    """The vectors of all inputs, in their order."""

    __slots__ = ()
    STANDARD: ClassVar = frozenset({"object", "data", "model", "usage"})
    KINDS: ClassVar = {"data": Embedding, "usage": UsageNode}

    data: list[Embedding]
    model: str
    usage: UsageNode | None


def usage_node(entry: Entry) -> UsageNode | None:
    """The usage object of an attempt, as a usage chunk would have it; None when input or output is known to nobody."""
    same = entry.opening.client_dialect == entry.opening.provider_dialect
    said = entry.reading.raw[-1] if same and entry.reading.raw else b""
    found: Any = msgspec.json.decode(write_usage(FinalUsage(entry.usage, entry.usage.estimated, bytes(said))))
    if found is None:
        return None
    node = UsageNode(found)
    node._provenance = vouchers(entry.usage)  # noqa: SLF001 - set once, by its maker
    return node


def dollars(picodollars: int) -> Decimal:
    """Exact US dollars."""
    return Decimal(f"{picodollars}{_PICO}") if picodollars else Decimal(0)


def cost_of(entry: Entry | None) -> Decimal | None:
    """What an attempt cost in exact US dollars; None when there is no known price, which is never 0."""
    if entry is None or entry.cost is None:
        return None
    return dollars(entry.cost)


def completion_cost(completion_response: object) -> Decimal | None:
    """What a reply, a stream that has ended or an entry cost, in exact US dollars; None when there is no known price.

    Raises TypeError for anything that is not in the books.
    """
    if isinstance(completion_response, Entry):
        return cost_of(completion_response)
    entry = getattr(completion_response, "entry", None)
    if not isinstance(entry, Entry):
        raise TypeError(f"a {type(completion_response).__name__} without an entry has no known cost")
    return cost_of(entry)
