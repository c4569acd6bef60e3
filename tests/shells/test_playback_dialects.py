"""Promise: what the playback provider says in Gemini's and Responses' words is what it planned to say.

The clients' own types read it here, and not our decoders: those are tried against it elsewhere.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from google.genai import types as google
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from counterfoil.testing import (
    ChatReply,
    Counts,
    GeminiReply,
    Playback,
    Request,
    ResponsesReply,
    Script,
    Tool,
    count_player,
    dialect_of,
    error_player,
    path_player,
    running,
)

USAGE = Counts(input=120, output=19, cache_read=100, cache_write=8, reasoning=6)
GOOGLE_USAGE = Counts(input=120, output=19, cache_read=100, reasoning=6)
TOOLS = (Tool("tide", '{"port":"north","hour":4}', "one"), Tool("boats"))
TEXT = "The tide turns at noon and the boats come home."


def request(path: str, **body: Any) -> Request:
    return Request("POST", path, {}, json.dumps(body).encode())


def sse(script: Script) -> list[Any]:
    blocks = script.body.replace(b"\r\n", b"\n").decode().split("\n\n")
    assert blocks.pop() == ""
    return [json.loads(block[block.index("data: ") + 6 :]) for block in blocks]


# --- Gemini ----------------------------------------------------------------------------------------------------------

GEMINI = {
    "text": GeminiReply(usage=GOOGLE_USAGE),
    "thinking": GeminiReply(usage=GOOGLE_USAGE, thinking="High or low?"),
    "tools": GeminiReply(usage=GOOGLE_USAGE, text="", thinking="High or low?", tools=TOOLS),
    "nothing said of usage": GeminiReply(thinking="High or low?"),
    "usage last": GeminiReply(usage=GOOGLE_USAGE, placement="last", crlf=False),
    "calls without ids": GeminiReply(usage=GOOGLE_USAGE, tools=TOOLS, call_ids="absent"),
}


def google_counts(usage: google.GenerateContentResponseUsageMetadata | None) -> Counts:
    assert usage is not None
    thoughts, candidates = usage.thoughts_token_count, usage.candidates_token_count
    spoken = (usage.prompt_token_count or 0) + (candidates or 0) + (thoughts or 0)
    assert usage.total_token_count == spoken
    return Counts(
        input=usage.prompt_token_count,
        output=None if candidates is None else candidates + (thoughts or 0),
        cache_read=usage.cached_content_token_count,
        reasoning=thoughts,
    )


def google_chunks(plan: GeminiReply, form: str) -> list[Any]:
    if form == "whole":
        return [json.loads(replace(plan, stream=False).script().body)]
    if form == "array":
        found: list[Any] = json.loads(replace(plan, form="array").script().body)
        return found
    return sse(plan.script())


@pytest.mark.parametrize("form", ["sse", "array", "whole"])
@pytest.mark.parametrize("name", GEMINI)
def test_googles_own_types_read_the_gemini_reply_as_planned(name: str, form: str) -> None:
    plan = GEMINI[name]
    chunks = [google.GenerateContentResponse.model_validate(value) for value in google_chunks(plan, form)]
    parts = [part for chunk in chunks for part in chunk.parts or ()]
    assert "".join(part.text or "" for part in parts if not part.thought) == plan.text
    assert "".join(part.text or "" for part in parts if part.thought) == (plan.thinking or "")
    calls = [(call.name, call.args) for chunk in chunks for call in chunk.function_calls or ()]
    assert calls == [(tool.name, json.loads(tool.arguments)) for tool in plan.tools]
    assert google_counts(chunks[-1].usage_metadata) == plan.counts()
    proofs = [part.thought_signature for part in parts if part.thought_signature]
    assert len(proofs) == bool(plan.thinking)
    finishes = [chunk.candidates[0].finish_reason for chunk in chunks if chunk.candidates]
    assert [finish for finish in finishes if finish] == [google.FinishReason.STOP]


def test_running_counts_of_gemini_never_say_more_than_the_last_and_are_what_the_list_says() -> None:
    plan = GEMINI["thinking"]
    script = plan.script()
    for frame, value in zip(script.frames, sse(script), strict=True):
        assert frame.reported == google_counts(google.GenerateContentResponse.model_validate(value).usage_metadata)
        assert (frame.reported.output or 0) <= (plan.counts().output or 0)
    assert script.frames[0].reported is not None
    assert script.frames[0].reported.output is None


def test_gemini_refuses_a_prompt_and_fails_in_the_middle() -> None:
    (blocked,) = sse(GeminiReply(blocked="SAFETY").script())
    reply = google.GenerateContentResponse.model_validate(blocked)
    assert reply.candidates is None
    assert reply.prompt_feedback is not None
    assert reply.prompt_feedback.block_reason is google.BlockedReason.SAFETY
    *said, error = sse(GeminiReply(error="UNAVAILABLE").script())
    assert said
    assert error["error"]["status"] == "UNAVAILABLE"


# --- Responses -------------------------------------------------------------------------------------------------------

RESPONSES = {
    "text": ResponsesReply(usage=USAGE),
    "reasoning": ResponsesReply(usage=USAGE, reasoning="High or low?"),
    "reasoning as text": ResponsesReply(usage=USAGE, reasoning="High or low?", reasoning_as="text"),
    "tools": ResponsesReply(usage=USAGE, text="", reasoning="High or low?", tools=TOOLS),
    "refusal": ResponsesReply(usage=USAGE, text="", refusal="That I may not say."),
    "incomplete": ResponsesReply(usage=USAGE, incomplete="max_output_tokens"),
    "nothing said of usage": ResponsesReply(tools=TOOLS),
}


def check_response(response: Response, plan: ResponsesReply) -> None:
    """The finished response says what was planned."""
    assert response.output_text == plan.text
    usage, counts = response.usage, plan.counts()
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (counts.input, counts.output, counts.total)
    assert usage.input_tokens_details.cached_tokens == (counts.cache_read or 0)
    assert usage.output_tokens_details.reasoning_tokens == (counts.reasoning or 0)
    calls = [(item.name, item.arguments, item.call_id) for item in response.output if item.type == "function_call"]
    wanted = zip(plan.tools, ("one", "call_play1"), strict=False)
    assert calls == [(tool.name, tool.arguments, call) for tool, call in wanted]
    assert response.status == ("incomplete" if plan.incomplete else "completed")


@pytest.mark.parametrize("name", RESPONSES)
def test_openais_own_types_read_the_response_as_planned(name: str) -> None:
    plan = RESPONSES[name]
    whole = json.loads(replace(plan, stream=False).script().body)
    check_response(Response.model_validate(whole), plan)
    values = sse(plan.script())
    assert [value["sequence_number"] for value in values] == list(range(len(values)))
    reader: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    events = [reader.validate_python(value) for value in values]
    assert all(event.response.usage is None for event in events[:-1] if hasattr(event, "response"))
    check_response(events[-1].response, plan)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == plan.text
    ended = [event.item for event in events if event.type == "response.output_item.done"]
    assert ended == list(events[-1].response.output)


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        ("failed", ["response.failed"]),
        ("event", ["error"]),
        ("event_and_failed", ["error", "response.failed"]),
    ],
)
def test_a_response_fails_in_the_middle(error: Any, ends: list[str]) -> None:
    kinds = [value["type"] for value in sse(ResponsesReply(error=error).script())]
    assert kinds[-len(ends) :] == ends
    assert "response.completed" not in kinds


# --- by path ---------------------------------------------------------------------------------------------------------

PATHS = {
    "/v1/chat/completions": "chat",
    "/v1/messages": "messages",
    "/v1/messages?beta=true": "messages",
    "/v1/responses": "responses",
    "/v1beta/models/play-g:generateContent": "gemini",
    "/v1beta/models/play-g:streamGenerateContent?alt=sse": "gemini",
    "/v1beta/models/play-g:streamGenerateContent": "gemini",
    "/model/play-b/converse": "converse",
    "/model/play-b/converse-stream": "converse",
    "/somewhere": "chat",
}


@pytest.mark.parametrize("path", PATHS)
def test_a_reply_is_in_the_dialect_of_the_path_and_counts_what_that_dialect_can_say(path: str) -> None:
    plan = ChatReply(usage=USAGE, reasoning="High or low?")
    asked = request(path, stream="stream" in path)
    script = path_player(plan)(asked)
    assert dialect_of(asked) == PATHS[path]
    assert script.text == TEXT
    usage = script.usage
    assert usage is not None
    assert (usage.input, usage.output, usage.cache_read) == (120, 19, 100)
    assert usage.cache_write == (None if PATHS[path] == "gemini" else 8)
    assert usage.reasoning == (None if PATHS[path] == "converse" else 6)
    assert script.frames[-1].reported == usage or PATHS[path] in ("chat", "messages") or path.endswith("Content")


@pytest.fixture(scope="module")
def provider() -> Iterator[Playback]:
    with running() as started:
        yield started


def post(provider: Playback, path: str, **body: Any) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", provider.port, timeout=10)
    try:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/v1/messages/count_tokens", "input_tokens"),
        ("/v1/responses/input_tokens", "input_tokens"),
        ("/v1beta/models/play-g:countTokens", "totalTokens"),
        ("/model/play-b/count-tokens", "inputTokens"),
    ],
)
def test_a_count_is_answered_where_one_is_asked_for(provider: Playback, path: str, key: str) -> None:
    provider.queue(count_player(37))
    assert post(provider, path)[1][key] == 37
    assert post(provider, path)[1][key] == 11


def test_a_provider_that_was_told_nothing_speaks_the_dialect_of_the_path(provider: Playback) -> None:
    assert post(provider, "/v1/responses")[1]["object"] == "response"
    assert post(provider, "/v1beta/models/m:generateContent")[1]["candidates"][0]["finishReason"] == "STOP"
    assert post(provider, "/model/m/converse")[1]["stopReason"] == "end_turn"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/v1/chat/completions", ("error", "type", "rate_limit_error")),
        ("/v1/responses", ("error", "type", "rate_limit_error")),
        ("/v1/messages", ("error", "type", "rate_limit_error")),
        ("/v1beta/models/m:generateContent", ("error", "status", "RESOURCE_EXHAUSTED")),
    ],
)
def test_an_error_is_in_the_dialect_of_the_path(provider: Playback, path: str, place: tuple[str, str, str]) -> None:
    provider.queue(error_player(429, "Slowly."))
    status, body = post(provider, path)
    outer, key, value = place
    assert status == 429
    assert body[outer][key] == value
    assert body[outer]["message"] == "Slowly."
