"""A prompt too long for the model behind is the error that the caller's own API would have given.

Tools act on it by its words: they make the conversation shorter and ask again. So each dialect's words, type, code and
status are here, before every wording a provider is known to use.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from counterfoil.cli.meter import RECORDED_DIALECTS
from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.dialects.openai_responses.failure import error_event, response_error
from counterfoil.dialects.overflow import Overflow, overflow_of
from counterfoil.dialects.registry import CLIENT_DIALECTS, DIALECTS
from counterfoil.exchange.command import Deliver
from tests import wire
from tests.exchange.world import CHAT, MESSAGES, World, call, deployment, refused

SAID: Mapping[str, tuple[str, Overflow | None]] = {
    "Anthropic": ("prompt is too long: 209601 tokens > 200000 maximum", Overflow(200000, 209601)),
    "Anthropic, by the bound": (
        "input length and `max_tokens` exceed context limit: 186433 + 20000 > 200000, decrease input length",
        Overflow(200000, None, 186433, 20000),
    ),
    "OpenAI": (
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 10001 tokens.",
        Overflow(8192, 10001),
    ),
    "OpenAI, by the bound": (
        (
            "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8000 in the "
            "messages, 1000 in the completion)."
        ),
        Overflow(8192, 9000, 8000, 1000),
    ),
    "vLLM": (
        (
            "Requested token count exceeds the model's maximum context length of 262144 tokens. You requested a total "
            "of 262462 tokens: 230462 tokens from the input messages and 32000 tokens for the completion."
        ),
        Overflow(262144, 262462, 230462, 32000),
    ),
    "OpenRouter": (
        (
            "This endpoint's maximum context length is 200000 tokens. However, you requested about 250021 tokens "
            "(250021 of text input)."
        ),
        Overflow(200000, 250021),
    ),
    "Gemini": (
        "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).",
        Overflow(1048576, 1200293),
    ),
    "Vertex": (
        "Unable to submit request because the input token count is 135538 but model only supports up to 32768.",
        Overflow(32768, 135538),
    ),
    "Nova": ("Input Tokens Exceeded: Number of input tokens exceeds maximum length.", None),
    "llama.cpp": (
        "request (4444 tokens) exceeds the available context size (4096 tokens), try increasing it",
        Overflow(4096, 4444),
    ),
    "Mistral": (
        "Prompt contains 33000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        Overflow(32768, 33000),
    ),
    "Cohere": (
        "too many tokens: size limit exceeded by 25 tokens. Use fewer. The limit for this model is 288,000 tokens.",
        Overflow(288000, 288025),
    ),
    "Bedrock": ("Input is too long for requested model.", None),
}


def failed(message: str, status: int = 413, code: str | None = "TOO_MANY") -> Failure:
    return Failure(FailureKind.CONTEXT_WINDOW, message, Fault.CLIENT, status, code=code, type="odd")


def told(dialect: str, failure: Failure) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(CLIENT_DIALECTS[dialect].write_failure(failure))
    return found


def check(dialect: str, failure: Failure, sizes: Overflow | None) -> None:
    """Everything a client of this dialect goes by."""
    error = told(dialect, failure)["error"]
    if dialect.startswith("anthropic"):
        assert error["type"] == "invalid_request_error"
        by_the_bound = re.search(
            r"input length and `max_tokens` exceed context limit: (\d+) \+ (\d+) > (\d+)", error["message"]
        )
        too_long = re.search(r"prompt is too long[^0-9]*(\d+)\s*tokens?\s*>\s*(\d+)", error["message"])
        if sizes is None:
            assert error["message"].lower().startswith("prompt is too long")
        elif sizes.by_the_bound:
            assert by_the_bound is not None
            assert [*map(int, by_the_bound.groups())] == [sizes.input, sizes.output, sizes.limit]
        else:
            assert too_long is not None
            assert [*map(int, too_long.groups())] == [sizes.prompt, sizes.limit]
    elif dialect.startswith("gemini"):
        assert (error["status"], error["code"]) == ("INVALID_ARGUMENT", 400)
        found = re.search(r"token count(?: \((\d+)\))? exceeds.{0,60}?tokens(?: allowed \((\d+)\))?", error["message"])
        assert found is not None
        if sizes is not None:
            assert [int(found[1]), int(found[2])] == [sizes.asked, sizes.limit]
            assert int(found[1]) > int(found[2])
    else:
        assert error["type"] == "invalid_request_error"
        assert error["code"] == "context_length_exceeded"
        assert re.search(r"maximum context length|exceeds the context window", error["message"])
        if sizes is not None:
            found = re.search(r"maximum context length (?:is|of) (\d+) tokens", error["message"])
            assert found is None or int(found[1]) == sizes.limit
    assert failure.message in error["message"], "what the provider said is not lost"


@pytest.mark.parametrize("provider", SAID)
def test_the_sizes_are_read_where_the_wording_is_known(provider: str) -> None:
    message, sizes = SAID[provider]
    assert overflow_of(message) == sizes


CHATS = ["openai_chat", "openai_completions", "openai_responses", "anthropic_messages", "gemini"]
COUNTS = ["openai_responses.count", "anthropic_messages.count", "gemini.count"]


@pytest.mark.parametrize("provider", SAID)
@pytest.mark.parametrize("dialect", [*CHATS, *COUNTS])
def test_it_is_the_callers_dialects_own_error(dialect: str, provider: str) -> None:
    message, sizes = SAID[provider]
    check(dialect, failed(message), sizes)


@pytest.mark.parametrize("dialect", CHATS)
def test_every_recorded_prompt_too_long_is_the_callers_dialects_own_error(dialect: str) -> None:
    found = [one for one in wire.records() if "prompt_too_long" in one.features]
    assert found
    for one in found:
        provider = DIALECTS[RECORDED_DIALECTS.get(one.dialect, one.dialect)]
        failure = provider.read_failure(one.response.status, {}, one.response_body)
        assert failure.kind is FailureKind.CONTEXT_WINDOW, one.id
        sizes = overflow_of(failure.message)
        assert sizes is not None
        assert sizes.total is not None
        assert sizes.total > sizes.limit
        check(dialect, failure, sizes)


def test_words_that_are_the_dialects_own_are_left_as_they_are() -> None:
    for dialect, provider in (("anthropic_messages", "Anthropic"), ("openai_chat", "OpenAI"), ("gemini", "Gemini")):
        message, _ = SAID[provider]
        assert told(dialect, failed(message))["error"]["message"] == message
    own = told("openai_chat", failed("x" * 9, code="string_above_max_length"))["error"]
    assert own["code"] == "string_above_max_length", "a word of the dialect's own"


def test_other_failures_are_not_touched() -> None:
    failure = Failure(FailureKind.INVALID_REQUEST, "No such thing.", Fault.CLIENT, 400)
    for dialect in CHATS:
        assert told(dialect, failure)["error"]["message"] == "No such thing."


def test_codex_reads_it_in_the_stream_too() -> None:
    failure = failed("Input is too long for requested model.")
    assert response_error(failure)["code"] == "context_length_exceeded"
    assert str(response_error(failure)["message"]).startswith("Your input exceeds the context window")
    assert error_event(failure)["code"] == "context_length_exceeded"


def test_the_status_is_400_whatever_the_provider_answered() -> None:
    body = b'{"error":{"message":"Requested too much: context length is 10","code":"context_length_exceeded"}}'
    for dialect in (CHAT, MESSAGES):
        world = World(refused(413, body))
        world.run(call(deployment(), dialect=dialect))
        assert world.status == 400
        assert len(world.all(Deliver)) == 1
