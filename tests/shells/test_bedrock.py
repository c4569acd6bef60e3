"""Promise: Bedrock stands behind the chat door: streams, tools, reasoning and failures, each of them counted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from counterfoil.ledger.entry import Exit
from counterfoil.testing import Counts, Playback, Script, Send, Tool, running
from counterfoil.testing.converse import ConverseReply, converse_player, converse_reply
from tests.shells.gateway import RunningGateway, gateway

__all__: list[str] = []

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAPLAY", "AWS_SECRET_ACCESS_KEY": "play", "AWS_EC2_METADATA_DISABLED": "true"}
CONFIG = """
models:
  claude:
    - {provider: bedrock, model: "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", region: eu-west-1}
  invoked:
    - {provider: bedrock, model: "anthropic.claude-3-haiku-20240307-v1:0", region: eu-west-1, dialect: bedrock_invoke}
  two:
    - {provider: bedrock, model: "anthropic.claude-sonnet-4-6", region: eu-west-1}
    - {provider: bedrock, model: "amazon.nova-lite-v1:0", region: eu-west-1}
retries: {attempts: 1}
listen: {port: 0}
"""
HOUSE = Tool("tide", '{"port":"north"}', "tooluse_9")


@contextlib.contextmanager
def bedrock(directory: Path, *answers: Any) -> Iterator[tuple[RunningGateway, Playback]]:
    with running() as provider:
        provider.queue(*answers)
        environ = {**KEYS, "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": provider.origin}
        with gateway(directory, text=CONFIG, environ=environ) as served:
            yield served, provider


@pytest.mark.parametrize("delivery", ["as_is", "bytes", "whole"])
def test_a_stream_is_the_same_however_its_bytes_come(tmp_path: Path, delivery: Any) -> None:
    usage = Counts(input=40, output=9, cache_read=30, cache_write=4)
    plan = ConverseReply(text="High water at noon.", usage=usage).script().delivered(delivery)
    with bedrock(tmp_path, plan) as (served, provider):
        answer = served.chat("claude", stream=True, stream_options={"include_usage": True})
        assert answer.text == "High water at noon."
        assert answer.frames[-1] == "[DONE]"
        last = json.loads(answer.frames[-2])
        assert last["choices"] == []
        assert last["usage"]["prompt_tokens"] == 40
        assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 30, "cache_write_tokens": 4}
        entry = served.entry()
        assert (entry.exit, entry.usage.input_tokens, entry.usage.output_tokens) == (Exit.COMPLETED, 40, 9)
        assert entry.discrepancies == ()
        request = provider.served[0]
        assert request.path == "/model/eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream"
        assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIAPLAY/")
        assert "/eu-west-1/bedrock/aws4_request" in request.headers["authorization"]


@pytest.mark.parametrize("streamed", [True, False])
def test_tools_and_reasoning_cross_over_and_come_back(tmp_path: Path, streamed: bool) -> None:
    plan = ConverseReply(text="Looking.", thinking="North, then.", tools=(HOUSE,))
    tools = [{"type": "function", "function": {"name": "tide", "parameters": {"type": "object"}}}]
    with bedrock(tmp_path, converse_player(plan), converse_player(ConverseReply())) as (served, provider):
        answer = served.chat("claude", stream=streamed, tools=tools)
        if streamed:
            deltas = [json.loads(frame)["choices"][0]["delta"] for frame in answer.frames if frame != "[DONE]"]
            calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
            assert "".join(call["function"].get("arguments", "") for call in calls) == HOUSE.arguments
            assert (calls[0]["id"], calls[0]["function"]["name"]) == ("tooluse_9", "tide")
            assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "North, then."
        else:
            message = answer.json["choices"][0]["message"]
            assert message["reasoning_content"] == "North, then."
            assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"port": "north"}
            history = [*[{"role": "user", "content": "Good morning"}], message,
                       {"role": "tool", "tool_call_id": "tooluse_9", "content": "12:00"}]  # fmt: skip
            served.post({"model": "claude", "messages": history, "tools": tools})
            turns = json.loads(provider.served[1].body)["messages"]
            signed = {"text": "North, then.", "signature": plan.signature}
            assert turns[1]["content"][0] == {"reasoningContent": {"reasoningText": signed}}
            assert turns[2]["content"] == [{"toolResult": {"toolUseId": "tooluse_9", "content": [{"text": "12:00"}]}}]
        assert served.entries()[0].exit is Exit.COMPLETED


def test_an_exception_before_the_first_word_leads_to_the_next_deployment(tmp_path: Path) -> None:
    """Portkey-AI/gateway#1142, #1047: there it was swallowed, and no fallback was tried."""
    failing = converse_reply(text="", exception="throttlingException")
    with bedrock(tmp_path, failing, converse_reply(text="From the second.")) as (served, provider):
        answer = served.chat("two", stream=True)
        assert answer.text == "From the second."
        first, second = served.entries()
        assert (first.exit, first.detail, second.exit) == (Exit.FAILED, "rate_limited", Exit.COMPLETED)
        assert [request.path for request in provider.served] == [
            "/model/anthropic.claude-sonnet-4-6/converse-stream",
            "/model/amazon.nova-lite-v1%3A0/converse-stream",
        ]


def test_an_exception_after_the_first_word_is_told_and_what_was_said_is_counted(tmp_path: Path) -> None:
    with bedrock(tmp_path, converse_reply(exception="modelStreamErrorException")) as (served, _):
        answer = served.chat("two", stream=True)
        assert json.loads(answer.frames[-1])["error"]["fault"] == "provider"
        entry = served.entry()
        assert entry.exit is Exit.FAILED
        assert entry.usage.estimated
        assert (entry.usage.output_tokens or 0) > 0


def test_damage_in_the_stream_is_told_and_never_passed_off_as_a_reply(tmp_path: Path) -> None:
    script = ConverseReply().script()
    damaged = bytearray(script.frames[3].data)
    damaged[-1] ^= 1
    steps = (*script.steps[:3], Send(bytes(damaged)), *script.steps[4:])
    with bedrock(tmp_path, Script(steps=steps, headers=script.headers)) as (served, _):
        answer = served.chat("claude", stream=True)
        assert "checksum" in json.loads(answer.frames[-1])["error"]["message"]
        assert served.entry().exit is Exit.FAILED


def test_an_error_answer_is_told_with_its_status_and_its_request_is_known(tmp_path: Path) -> None:
    refusal = Script(
        steps=(Send(b'{"message":"Input is too long for requested model."}'),),
        status=400,
        headers=(
            ("content-type", "application/json"),
            ("x-amzn-errortype", "ValidationException:http://internal.amazon.com/coral/com.amazon.bedrock/"),
            ("x-amzn-requestid", "4c1d-play"),
        ),
        framing="length",
    )
    with bedrock(tmp_path, refusal) as (served, _):
        answer = served.chat("claude")
        assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
        entry = served.entry()
        assert (entry.exit, entry.provider_id) == (Exit.REJECTED, "4c1d-play")


def test_a_body_without_counts_is_counted_by_its_headers(tmp_path: Path) -> None:
    body = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-3-haiku",
            "content": [{"type": "text", "text": "Noon."}], "stop_reason": "end_turn"}  # fmt: skip
    counted = Script(
        steps=(Send(json.dumps(body).encode()),),
        headers=(
            ("content-type", "application/json"),
            ("x-amzn-bedrock-input-token-count", "13"),
            ("x-amzn-bedrock-output-token-count", "21"),
        ),
        framing="length",
    )
    with bedrock(tmp_path, counted) as (served, provider):
        answer = served.chat("invoked")
        assert answer.json["choices"][0]["message"]["content"] == "Noon."
        assert answer.json["usage"]["total_tokens"] == 34
        assert provider.served[0].path == "/model/anthropic.claude-3-haiku-20240307-v1%3A0/invoke"
        assert json.loads(provider.served[0].body)["anthropic_version"] == "bedrock-2023-05-31"
        entry = served.entry()
        assert (entry.usage.input_tokens, entry.usage.output_tokens, entry.exit) == (13, 21, Exit.COMPLETED)
