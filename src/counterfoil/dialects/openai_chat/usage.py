"""Usage on the chat wire: a provider's object to a report, settled usage to the client's object.

Rule 1: reading applies no convention. A counter is carried as the provider said it, wherever the provider put it.
Rule 2: writing starts from what is settled. A provider's own object lends only its order and the keys we do not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from counterfoil.dialects.dialect import FinalUsage
from counterfoil.dialects.schema import UNREADABLE, fields_in, object_of, value_of, whole_number
from counterfoil.usage.reading import Counter, Report, is_count, rate_context
from counterfoil.usage.settle import Convention
from counterfoil.usage.usage import Bucket, Usage

__all__ = ["CONVENTION", "ESTIMATED", "PLACES", "read_report", "read_timings", "write_usage"]

CONVENTION: Final = Convention()
"""Cache inside `prompt_tokens`, reasoning inside `completion_tokens`, total the sum of both (WIRE.md 1, OpenAI)."""

ESTIMATED: Final = "estimated"
"""Our mark inside a usage object whose numbers are partly a guess (DESIGN 4.1.6). It is written, and read again: a
gateway may stand behind another one, or behind the SDK."""

PLACES: Final[tuple[tuple[Counter, tuple[str, ...]], ...]] = (
    (Counter.INPUT, ("prompt_tokens",)),
    (Counter.OUTPUT, ("completion_tokens",)),
    (Counter.TOTAL, ("total_tokens",)),
    (Counter.CACHE_READ, ("prompt_tokens_details", "cached_tokens")),
    (Counter.CACHE_READ, ("prompt_token_details", "cached_tokens")),  # openai.chat/writer
    (Counter.CACHE_READ, ("cached_tokens",)),  # openai.chat/together, openai.chat/huggingface
    (Counter.CACHE_READ, ("prompt_cache_hit_tokens",)),  # openai.chat/deepseek
    (Counter.CACHE_READ, ("cache_read_input_tokens",)),  # openai.chat/databricks
    (Counter.CACHE_WRITE, ("prompt_tokens_details", "cache_write_tokens")),  # openai.chat/openrouter
    (Counter.CACHE_WRITE, ("cache_creation_input_tokens",)),  # openai.chat/databricks, openai.chat/vercel-gateway
    # https://www.alibabacloud.com/help/en/model-studio/context-cache: written at 125 % of the input's price
    (Counter.CACHE_WRITE, ("prompt_tokens_details", "cache_creation_input_tokens")),
    (Counter.CACHE_WRITE_5M, ("prompt_tokens_details", "cache_creation", "ephemeral_5m_input_tokens")),
    (Counter.CACHE_WRITE_1H, ("prompt_tokens_details", "cache_creation", "ephemeral_1h_input_tokens")),
    # https://docs.litellm.ai/docs/completion/prompt_caching, of Claude behind it
    (Counter.CACHE_WRITE, ("prompt_tokens_details", "cache_creation_tokens")),
    (Counter.CACHE_WRITE_5M, ("prompt_tokens_details", "cache_creation_token_details", "ephemeral_5m_input_tokens")),
    (Counter.CACHE_WRITE_1H, ("prompt_tokens_details", "cache_creation_token_details", "ephemeral_1h_input_tokens")),
    (Counter.INPUT_AUDIO, ("prompt_tokens_details", "audio_tokens")),
    (Counter.INPUT_AUDIO, ("audio_prompt_tokens",)),  # azure.chat/azure-ai
    (Counter.INPUT_IMAGE, ("prompt_tokens_details", "image_tokens")),
    (Counter.REASONING, ("completion_tokens_details", "reasoning_tokens")),
    (Counter.REASONING, ("completion_token_details", "reasoning_tokens")),  # openai.chat/writer
    (Counter.REASONING, ("reasoning_tokens",)),  # https://docs.perplexity.ai/api-reference/chat-completions-post
    (Counter.OUTPUT_AUDIO, ("completion_tokens_details", "audio_tokens")),
    (Counter.OUTPUT_IMAGE, ("completion_tokens_details", "image_tokens")),  # openai.chat/openrouter
)
"""Where each counter is said. The first place that has a number wins; a later one fills in for it."""


def read_report(raw: bytes, scope: int | None = None, *, tier: object = None) -> Report | None:
    """The report of one usage object, or None when it is null, no object, or holds no counter. Never raises.

    `tier`: the service tier that the frame around it says.
    """
    try:
        said = object_of(raw)
    except UNREADABLE:
        return None
    counts: dict[Counter, int | None] = {}
    for counter, place in PLACES:
        if place[0] not in said or counts.get(counter) is not None:
            continue
        inside: Any = said
        for key in place[:-1]:
            inside = inside.get(key) if isinstance(inside, dict) else None
        if isinstance(inside, dict) and place[-1] in inside:
            counts[counter] = whole_number(inside[place[-1]])
    if not counts:
        return None
    return Report(
        counts, scope=scope, estimated=said.get(ESTIMATED) is True, context=rate_context(service_tier=tier), raw=raw
    )


def read_timings(raw: bytes, scope: int | None = None) -> Report | None:
    """The report that llama.cpp's `timings` amount to when it sent no usage object (WIRE.md 4). Never raises."""
    try:
        said = object_of(raw)
    except UNREADABLE:
        return None
    cached, evaluated, predicted = (whole_number(said.get(key)) for key in ("cache_n", "prompt_n", "predicted_n"))
    counts: dict[Counter, int | None] = {}
    if evaluated is not None:
        counts[Counter.INPUT] = (cached or 0) + evaluated
    if cached is not None:
        counts[Counter.CACHE_READ] = cached
    if predicted is not None:
        counts[Counter.OUTPUT] = predicted
    return Report(counts, scope=scope, raw=raw) if counts else None


def write_usage(final: FinalUsage) -> bytes:
    """The client's usage object, or `null` when the input or the output is known to nobody.

    Inclusive totals; a detail is there when somebody vouches for it; `"estimated": true` when some number is an
    estimate. What the provider's own object has beyond that keeps its place and its value.
    """
    usage = final.usage
    given, made = (None, None) if usage is None else (usage.input_tokens, usage.output_tokens)
    if usage is None or given is None or made is None:
        return b"null"
    fields = fields_in(final.provider_raw)
    fields["prompt_tokens"] = msgspec.Raw(b"%d" % given)
    fields["completion_tokens"] = msgspec.Raw(b"%d" % made)
    fields["total_tokens"] = msgspec.Raw(b"%d" % (given + made))
    for key, details in (
        ("prompt_tokens_details", _prompt_details(usage)),
        ("completion_tokens_details", _completion_details(usage)),
    ):
        known = {name: count for name, count in details.items() if count is not None}
        merged = _details(fields.get(key), known)
        if merged:
            fields[key] = msgspec.Raw(msgspec.json.encode(merged))
        else:
            fields.pop(key, None)
    if final.estimated:
        fields[ESTIMATED] = msgspec.Raw(b"true")
    return msgspec.json.encode(fields)


def _prompt_details(usage: Usage) -> Mapping[str, int | None]:
    audio = [usage.claimed(bucket) for bucket in (Bucket.INPUT_AUDIO, Bucket.CACHE_READ_AUDIO)]
    heard = [count for count in audio if count is not None]
    return {
        "cached_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "audio_tokens": sum(heard) if heard else None,
        "image_tokens": usage.claimed(Bucket.INPUT_IMAGE),
    }


def _completion_details(usage: Usage) -> Mapping[str, int | None]:
    return {
        "reasoning_tokens": usage.reasoning_tokens,
        "audio_tokens": usage.claimed(Bucket.OUTPUT_AUDIO),
        "image_tokens": usage.claimed(Bucket.OUTPUT_IMAGE),
    }


def _details(raw: msgspec.Raw | None, known: Mapping[str, int]) -> dict[str, msgspec.Raw]:
    """The provider's details with what is settled in place of what it said of the same keys."""
    details = fields_in(raw)
    for name in ("cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "reasoning_tokens"):
        if name in known:
            details[name] = msgspec.Raw(b"%d" % known[name])
        elif name in details and not _is_heard(details[name]):
            del details[name]
    return details


def _is_heard(raw: msgspec.Raw) -> bool:
    """Whether the provider's own word is a count: what is none is in no entry, and clients are not told it."""
    count = whole_number(value_of(raw))
    return count is not None and is_count(count)
