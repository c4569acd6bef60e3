"""What every dialect offers: the verbs, the same in each folder.

A dialect is a wire language. It knows the shape of requests, replies, errors and usage on its wire, and it declares
its convention. It does not know who speaks it: what a provider does differently reaches it as data (`Quirks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Generic, Literal, Protocol, TypeVar

import msgspec

from counterfoil.core.error import Failure
from counterfoil.core.event import Event
from counterfoil.core.operation import (
    ChatRequest,
    CompleteRequest,
    CountRequest,
    EmbedRequest,
    Operation,
    RerankRequest,
)
from counterfoil.framing.frame import Frame, Framing
from counterfoil.usage.reading import Report
from counterfoil.usage.settle import Convention
from counterfoil.usage.usage import Usage

__all__ = [
    "ClientDialect",
    "Decoder",
    "Dialect",
    "Encoder",
    "FinalUsage",
    "MessagesHead",
    "MissingUsage",
    "Quirks",
    "Relay",
    "ReplyFacts",
    "RequestPeek",
    "WrittenRequest",
]

MissingUsage = Literal["estimate", "null", "error"]
MessagesHead = Literal["estimate", "buffer"]

RequestT = TypeVar("RequestT", ChatRequest, CompleteRequest, EmbedRequest, RerankRequest, CountRequest)


class Quirks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Documented departures of a provider (or of some of its models) from its dialect."""

    end: Literal["finish", "usage", "done"] = "finish"
    """What ends a reply: a finish for every choice; the usage frame; the end mark (Snowflake never sends a finish)."""
    stream_options: bool = True
    """The provider accepts `stream_options` (chat)."""
    continuous_usage: bool = False
    """The provider understands `stream_options.continuous_usage_stats` (vLLM)."""
    usage_per_choice: bool = False
    """With n > 1 each choice has its own usage report, and a whole reply reports one choice (llama.cpp, WIRE.md 4)."""
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = "max_tokens"
    """The name the provider knows for the output bound when we have to write it ourselves."""
    dimensions_field: Literal["dimensions", "output_dimension"] = "dimensions"
    """The name the provider knows for the length of a vector (embeddings)."""
    effort_none: bool = False
    """The model takes the effort `none`. One that does not would refuse it; thinking that is switched off is then not
    written, and is named (`effort.NO_EFFORT`)."""
    default_max_tokens: int | None = None
    """The output bound written when the client gave none and the dialect demands one (Anthropic)."""
    body_set: Mapping[str, str] = {}
    """Fields the provider wants in every body and nobody else writes (Vertex's `anthropic_version`), unless the client
    did."""
    body_without: frozenset[str] = frozenset()
    """Fields of the body it wants elsewhere: the model, where the path names it."""
    signed_calls: bool = False
    """The model refuses a history in which its own proof is missing from tool calls (Gemini 3)."""
    call_id_length: Annotated[int, msgspec.Meta(ge=8)] | None = None
    """The only length of a tool call's id that the provider takes, of letters and digits (Mistral: 9); none: any."""
    prefix: bool = False
    """A last message of the assistant's must be marked as the answer's `prefix`: the provider refuses any other
    (Mistral)."""
    unsupported: frozenset[str] = frozenset()
    """Request fields of its dialect that the provider refuses."""


class RequestPeek(msgspec.Struct, frozen=True):
    """What the exchange must know of a client's request; the rest of a same-dialect request is only carried."""

    model: str
    streamed: bool = False
    usage_asked: bool = False
    """The client asked for the usage frame of a stream."""
    choices: int = 1
    """Of all prompts together."""
    prompts: int = 1
    """How many prompts the choices are of, each of as many, in their order (legacy completions)."""
    user: str | None = None
    encoding: Literal["float", "base64"] | None = None
    """How the client wants vectors written; None: it did not say."""
    form: str = ""
    """Which shape of its dialect's replies the client wants, where there are several (`ClientDialect.forms`)."""
    inputs: int | None = None
    """How many vectors are asked for, one for each input; None: none are."""

    def reads(self, convention: Convention) -> Convention:
        """How the provider's counters of this call are to be read."""
        if self.prompts < 2:
            return convention
        return msgspec.structs.replace(convention, choices_per_prompt=self.choices // self.prompts)


class WrittenRequest(msgspec.Struct, frozen=True):
    """A request ready to be sent, and the client fields it could not carry (never silently: named in a header)."""

    body: bytes
    dropped: tuple[str, ...] = ()


class FinalUsage(msgspec.Struct, frozen=True):
    """What the client is told of usage at the end of a reply."""

    usage: Usage | None
    """None: nobody knows, and nobody guessed (`missing_usage: null`)."""
    estimated: bool = False
    provider_raw: bytes = b""
    """The provider's last usage object, whose unknown keys are carried when both sides speak the dialect."""


class ReplyFacts(msgspec.Struct, frozen=True):
    """What an encoder or a relay is told about the reply it writes."""

    id: str
    """Ours, used when the provider gives none."""
    created: int
    """Unix seconds."""
    model: str
    """The name the client asked for; every frame shows it."""
    streamed: bool
    usage_asked: bool
    """Whether the client gets the usage frame of a stream."""
    choices: int = 1
    input_estimate: int | None = None
    """For heads that must show input before it is known (Anthropic `message_start`)."""
    head: MessagesHead = "estimate"
    """Whether such a head goes out at once, or waits until the input is known."""
    convention: Convention | None = None
    """The provider's, for a head that shows what was reported by then; None: it shows the estimate."""
    encoding: Literal["float", "base64"] | None = None
    """How the client wants vectors written; None: as numbers."""
    form: str = ""
    """As of `RequestPeek`."""


class Decoder(Protocol):
    """Frames to events, for one reply."""

    def feed(self, frame: Frame) -> Sequence[Event]:
        """The events of one frame. Never raises: a frame that cannot be read is a `ReplyFailed`."""
        ...

    def close(self) -> Sequence[Event]:
        """Events that only the end of the bytes makes certain (a finish that a quirk says is never sent). From here on
        no choice is waited for that never began."""
        ...

    @property
    def ended(self) -> bool:
        """The reply reached its dialect's end (DESIGN 4.2.5): every choice that began has finished, and those that were
        asked for and did not begin never will."""
        ...

    @property
    def done(self) -> bool:
        """The provider sent its end mark: nothing more will come."""
        ...


class Encoder(Protocol):
    """Events to the bytes a client reads, for one reply, when the provider speaks another dialect."""

    def encode(self, events: Sequence[Event]) -> bytes:
        """The bytes of these events; empty when they make none yet (always, for a whole reply)."""
        ...

    def close(self, final: FinalUsage) -> bytes:
        """The end of the reply: the last frames with the usage, or the whole body."""
        ...

    def fail(self, failure: Failure) -> bytes:
        """An error frame after the reply began; no clean end mark follows it."""
        ...


class Relay(Protocol):
    """Frames to the bytes a client reads, for one reply, when both sides speak the dialect: repairs by table only."""

    def carry(self, frame: Frame, events: Sequence[Event]) -> bytes:
        """One frame repaired, or its own bytes. Usage and the end mark are held back for `close`."""
        ...

    def close(self, final: FinalUsage) -> bytes: ...

    def fail(self, failure: Failure) -> bytes: ...


class Dialect(msgspec.Struct, Generic[RequestT], frozen=True, kw_only=True):
    """One wire language for one operation, as far as a provider speaks it. A folder that has several operations has
    several of these: `cohere` for chats, `cohere.embed`, `cohere.rerank`."""

    name: str
    operation: Operation = Operation.CHAT
    convention: Convention
    framing: Callable[[int], Framing]
    """Frame size limit in bytes -> a new decoder of this dialect's streams."""
    path: Callable[[str, bool], str]
    """(model, streamed) -> the path below a provider's base URL, with a query (`?alt=sse`) where the wire wants one."""
    content_type: str
    """Of a streamed reply."""
    streams_json: bool = False
    """A stream that was asked for may come as `application/json` (Gemini's array)."""
    write_request: Callable[[RequestT, str, Quirks, bool], WrittenRequest]
    """(canonical, provider's model name, quirks, drop) -> body. With `drop` false what cannot be carried raises
    RequestError; with true it is left out and named."""
    decoder: Callable[[bool, int, Quirks], Decoder]
    """(streamed, choices, quirks) -> a new decoder."""
    read_failure: Callable[[int, Mapping[str, str], bytes], Failure]
    """(status, lower-case headers, body) of an error answer -> the failure."""
    read_head: Callable[[Mapping[str, str]], Report | None] | None = None
    """Lower-case headers of a reply -> the counts in them. It comes before the body, whose reports replace it."""


class ClientDialect(Dialect[RequestT], Generic[RequestT], frozen=True, kw_only=True):
    """A dialect that clients may speak to us, too."""

    carried_headers: tuple[str, ...] = ()
    """Headers of a client's request that belong to the dialect, in lower case: carried to a provider that speaks it,
    too. Never a credential, nor what says who pays."""
    listed_headers: frozenset[str] = frozenset()
    """Those of them that are lists: the operator's entries and the client's go out together. Each entry may ask for
    something, so where the dialect is crossed the client is told that the header stayed behind."""
    forms: Mapping[str, str] = {}
    """Other shapes of its replies by name, and the content type of a streamed one (Gemini's stream as a JSON array)."""
    id_prefix: str
    """What the id of a reply begins with when the provider gives none ("chatcmpl-", "msg_")."""
    peek_request: Callable[[bytes], RequestPeek]
    """A client's body -> what must be known of it. Raises RequestError."""
    read_request: Callable[[bytes], RequestT]
    """A client's body -> canonical. Raises RequestError."""
    patch_request: Callable[[bytes, str, Quirks, bool], bytes]
    """(client's body in this dialect, provider's model name, quirks, ask for usage) -> body for a provider of the same
    dialect: unknown fields, order and values are carried."""
    encoder: Callable[[ReplyFacts], Encoder]
    relay: Callable[[ReplyFacts, Quirks], Relay]
    write_failure: Callable[[Failure], bytes]
    """An error body for a client of this dialect."""
    beside_error: Callable[[bytes, FinalUsage], bytes] | None = None
    """(the error frame that ends a stream, what was booked until then) -> the frame with the usage beside the error.
    None: the dialect's clients look for none there."""
