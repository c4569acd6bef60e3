"""The configuration: its shape, its defaults and its bounds. Frozen values; reading a file is the driver's business.

Every key a person can write is a field here, and its docstring is its documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from counterfoil.dialects.dialect import MessagesHead, MissingUsage

__all__ = [
    "ClientGone",
    "Config",
    "CorsConfig",
    "DeploymentConfig",
    "Estimates",
    "KeysConfig",
    "LedgerConfig",
    "Limits",
    "ListenConfig",
    "PassthroughConfig",
    "Retries",
    "RouteConfig",
    "StaticKey",
    "StreamUsage",
    "Timeouts",
]

StreamUsage = Literal["when_asked", "always"]
Fsync = Literal["interval", "always", "never"]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Bytes = Annotated[int, msgspec.Meta(ge=1024, le=1 << 31)]

MEBIBYTE = 1 << 20


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long an attempt may take, in seconds."""

    connect: Seconds = 10.0
    """Until the provider has taken the connection."""
    first_byte: Seconds = 120.0
    """From the request sent to the reply's first bytes."""
    between_frames: Seconds = 60.0
    """The longest silence once the reply has begun."""
    total: Seconds = 3600.0
    """The whole attempt, however well it goes."""
    last_usage: Seconds = 2.0
    """How long the usage is awaited once the reply has reached its end."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How large things may be."""

    body: Bytes = 32 * MEBIBYTE
    """A client's request body; more is a 413."""
    headers: Annotated[int, msgspec.Meta(ge=4096, le=MEBIBYTE)] = 64 * 1024
    """A client's request line and headers together; more is a 431."""
    frame: Bytes = 8 * MEBIBYTE
    """One frame of a provider's stream."""
    reply: Bytes = 64 * MEBIBYTE
    """A provider's whole reply."""
    connections: Annotated[int, msgspec.Meta(ge=16, le=100_000)] = 4096
    """Client connections open at once; one more is told 503 and closed."""
    nesting: Annotated[int, msgspec.Meta(ge=8, le=500)] = 100
    """How deep a request's JSON may be nested."""


class Retries(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a failed attempt is made again. None is made once the client has a byte of the reply."""

    attempts: Annotated[int, msgspec.Meta(ge=1, le=10)] = 2
    """Attempts per deployment."""
    backoff: Seconds = 0.5
    """The first wait in seconds; doubled each time, with jitter."""
    backoff_max: Seconds = 8.0
    """The longest such wait."""
    retry_after_max: Seconds = 30.0
    """A provider that asks for a longer wait is left for the next deployment."""


class ClientGone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What happens upstream when a client hangs up."""

    action: Literal["cancel", "drain"] = "cancel"
    """cancel: stop the provider and account what was delivered. drain: read on for its exact numbers."""
    drain: Seconds = 30.0
    """How long, at most."""


class Estimates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How what no provider reported is counted (docs/estimates.md)."""

    tokenizer: Literal["auto", "off"] = "auto"
    """auto: after the reply, by the model's own vocabulary, where `counterfoil[tokenizers]` is installed and knows the
    model. off: only in line, by script."""
    max_bytes: Bytes = MEBIBYTE
    """Memory for the text of one attempt, and the largest request that is counted; more keeps the in-line estimate."""
    total_bytes: Bytes = 64 * MEBIBYTE
    """Memory for the texts of all attempts."""


class DeploymentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something callable: a provider's model, where, with which secret."""

    provider: str
    """A row of the table (`counterfoil providers`), or a name of your own beside a `base_url`."""
    model: str
    """What the provider calls it."""
    base_url: str | None = None
    """Where it is, when not where the provider's row says."""
    api_key: str | None = None
    """Usually `${NAME}`, taken from the environment. Once the file is read: the name of a secret, never the secret."""
    region: str | None = None
    """Of a cloud that has regions (Bedrock, Vertex), when not what its environment variables say."""
    project: str | None = None
    """Of a cloud that has projects (Vertex), when not what its environment variables say."""
    dialect: str | None = None
    """When the provider speaks another one at this address."""
    timeouts: Timeouts | None = None
    """For this deployment; what is left out is as above it."""
    prices: Mapping[str, Annotated[float | str, msgspec.Meta(description="USD per million tokens")]] | None = None
    """USD per million tokens by bucket (input, cache_read, output, ...), or per million searches or images
    (search_units, images), before any table."""
    drop: bool = False
    """Leave out (and name in a header) what cannot be carried to another dialect, instead of refusing the request."""
    headers: Mapping[str, str] = {}
    """Sent with every request. A secret is written as `api_key`, never here."""
    query: Mapping[str, str] = {}
    """Added to every request's URL."""


class RouteConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public model name: its deployments in order of preference, and how they are used."""

    deployments: Annotated[tuple[DeploymentConfig, ...], msgspec.Meta(min_length=1, max_length=32)]
    """In order of preference: the next is used when the one before fails."""
    stream_usage: StreamUsage | None = None
    """For this route, before the setting for all."""
    missing_usage: MissingUsage | None = None
    """For this route, before the setting for all."""
    messages_head: MessagesHead | None = None
    """For this route, before the setting for all."""
    retries: Retries | None = None
    """For this route; what is left out is as above it."""
    client_gone: ClientGone | None = None
    """For this route; what is left out is as above it."""
    show_provider_model: bool = False
    """Frames show the provider's model name instead of the one the client asked for."""


class PassthroughConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What clients may ask of one provider beside the doors, word for word, below `/passthrough/NAME/`."""

    paths: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=64)]
    """What may be asked: a path as the provider's documentation writes it (`/v1/files`). `*` stands for a part of one
    segment; at the end, for all that follows, slashes too. A method before it (`GET /v1/files*`) allows only that."""
    keys: tuple[str, ...] = ()
    """Names of the keys that may ask. Must be given where keys are required; elsewhere none means whoever may call."""
    provider: str | None = None
    """A row of the table, when it is not NAME."""
    base_url: str | None = None
    """Where it is, when not where the provider's row says. A version at its end (`/v1`) belongs to the paths."""
    api_key: str | None = None
    """Usually `${NAME}`, taken from the environment. Once the file is read: the name of a secret, never the secret."""
    region: str | None = None
    """Of a cloud that has regions, when not what its environment variables say."""
    project: str | None = None
    """Of a cloud that has projects, when not what its environment variables say."""
    dialect: str | None = None
    """When the provider speaks another one at this address."""
    timeouts: Timeouts | None = None
    """For these calls; what is left out is as above it."""
    headers: Mapping[str, str] = {}
    """Sent with every request, whatever the client sends. A secret is written as `api_key`, never here."""
    query: Mapping[str, str] = {}
    """Added to every request's URL, whatever the client asks."""


class StaticKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A gateway key written in the configuration."""

    name: str
    """Who it is: what the books say."""
    secret: str
    """Usually `${NAME}`. Once the file is read: the name of a secret, never the secret."""
    stream_usage: StreamUsage | None = None
    """For this key, before the route's and the setting for all."""


class KeysConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may call. `required: false` written out accepts any bearer, also beyond loopback."""

    required: bool
    """true: nobody calls without a key. false: anybody calls, and a known key is still written down."""
    static: tuple[StaticKey, ...] = ()
    """The keys."""


class CorsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which web pages may call from a browser. Only with `keys`."""

    origins: Annotated[tuple[str, ...], msgspec.Meta(max_length=100)] = ()
    """Their origins, written as `https://app.example`; `*`, with required keys, is every page. None: no page may."""


class LedgerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where and how safely the books are kept."""

    path: str | None = None
    """The SQLite file, relative to the configuration file; the journal lies beside it. None: in the data directory."""
    fsync: Fsync = "interval"
    """never: a killed process loses nothing, a power cut may. interval: a power cut loses at most `fsync_interval`.
    always: every record is on the disk before it counts."""
    fsync_interval: Seconds = 0.2
    """How often the journal is forced to the disk."""


class ListenConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the gateway listens."""

    host: str = "127.0.0.1"
    """The address. Beyond loopback only with `keys` written out."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 4000
    """0: a free one."""
    drain: Seconds = 30.0
    """How long open exchanges may finish after SIGTERM."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it."""

    models: Mapping[str, tuple[DeploymentConfig, ...] | RouteConfig] = {}
    """Public model names. A list of deployments is short for a route with defaults."""
    keys: KeysConfig | None = None
    """None: no keys; then loopback only, guarded against web pages (docs/design.md)."""
    passthrough: Mapping[str, PassthroughConfig] = {}
    """By NAME: providers whose other endpoints may be asked. By default none (docs/operations.md)."""
    cors: CorsConfig = CorsConfig()
    """Web pages."""
    ledger: LedgerConfig = LedgerConfig()
    """The books."""
    listen: ListenConfig = ListenConfig()
    """The address."""
    limits: Limits = Limits()
    """Sizes."""
    timeouts: Timeouts = Timeouts()
    """Times, for every deployment that writes none of its own."""
    retries: Retries = Retries()
    """For every route that writes none of its own."""
    client_gone: ClientGone = ClientGone()
    """For every route that writes none of its own."""
    stream_usage: StreamUsage = "when_asked"
    """always: the usage frame is sent unasked (langchain-openai with a base_url does not ask)."""
    missing_usage: MissingUsage = "estimate"
    """What a client is told when the provider reports no usage."""
    messages_head: MessagesHead = "estimate"
    """Of a streamed reply to a client of Anthropic's dialect from a provider of another one. estimate: its first frame
    goes out at once, with a marked estimate of the input; the last one is exact. buffer: all of it waits until that is
    known (of most providers: to the reply's end), so that clients that read it only in the first frame are exact."""
    estimates: Estimates = Estimates()
    """How what no provider reported is counted."""
    prices: str | None = None
    """A file of prices that go before the list, relative to the configuration file; its shape is above."""
    discover: bool | None = None
    """Find providers by their keys in the environment and on this machine. None: only when `models` is empty."""
