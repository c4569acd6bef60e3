"""Promise: every door for chats is answered before every provider that chats, streamed and whole: text, tool call and
counts are what the provider served, and the books say the same.

Rule: a reply is read here by its published shape alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
import pytest

from counterfoil.dialects.registry import CLIENT_DIALECTS, DIALECTS
from counterfoil.exchange.command import Head
from counterfoil.ledger.entry import Exit, figures
from counterfoil.testing import ChatReply, ConverseReply, GeminiReply, MessagesReply, ResponsesReply
from tests.exchange.test_hang_ups import ARGUMENTS, PLAYS, TOOL, TRUTH, WORDS
from tests.exchange.world import Played, World, call, check_books, deployment

__all__: list[str] = []

TEXT: Final = "".join(WORDS)
CALLED: Final = [(TOOL.name, json.loads(ARGUMENTS))]


class Heard(NamedTuple):
    """What a client reads of a reply."""

    text: str
    calls: list[tuple[str, Any]]
    input: int
    output: int


# ---- whole replies, as each provider sends them


def _body(value: object) -> bytes:
    return json.dumps(value).encode()


_ARGUED: Final = {"name": TOOL.name, "arguments": ARGUMENTS}
_COHERE: Final = {
    "id": "made",
    "finish_reason": "TOOL_CALL",
    "message": {
        "role": "assistant",
        "content": [{"type": "text", "text": TEXT}],
        "tool_calls": [{"id": "call_0", "type": "function", "function": _ARGUED}],
    },
    "usage": {
        "billed_units": {"input_tokens": 5, "output_tokens": 50},
        "tokens": {"input_tokens": 40, "output_tokens": 60},
    },
}
_OLLAMA: Final = {
    "model": "play-1",
    "message": {
        "role": "assistant",
        "content": TEXT,
        "tool_calls": [{"function": {"name": TOOL.name, "arguments": json.loads(ARGUMENTS)}}],
    },
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 40,
    "eval_count": 60,
}
_CLAUDE: Final = MessagesReply(text=WORDS, tools=(TOOL,), usage=TRUTH, stream=False).script().body
WHOLE: Final[Mapping[str, bytes]] = {
    "openai_chat": ChatReply(text=WORDS, tools=(TOOL,), usage=TRUTH, stream=False).script().body,
    "anthropic_messages": _CLAUDE,
    "openai_responses": ResponsesReply(text=WORDS, tools=(TOOL,), usage=TRUTH, stream=False).script().body,
    "gemini": GeminiReply(text=WORDS, tools=(TOOL,), usage=TRUTH, stream=False).script().body,
    "bedrock_converse": ConverseReply(text=WORDS, tools=(TOOL,), usage=TRUTH, stream=False).script().body,
    "bedrock_invoke": _CLAUDE,
    "cohere": _body(_COHERE),
    "ollama": _body(_OLLAMA),
}


# ---- what is asked, and how an answer is read


def _frames(sent: bytes) -> list[dict[str, Any]]:
    data = [line.removeprefix("data: ") for line in sent.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(one) for one in data if one != "[DONE]"]


def _chat(sent: bytes, streamed: bool) -> Heard:
    frames = _frames(sent) if streamed else [json.loads(sent)]
    said = [choice["delta" if streamed else "message"] for one in frames for choice in one["choices"]]
    functions = [made["function"] for delta in said for made in delta.get("tool_calls") or ()]
    names = [function["name"] for function in functions if function.get("name")]
    arguments = json.loads("".join(function.get("arguments") or "" for function in functions))
    usage = frames[-1]["usage"]
    text = "".join(delta.get("content") or "" for delta in said)
    return Heard(text, [(names[0], arguments)], usage["prompt_tokens"], usage["completion_tokens"])


def _responses(sent: bytes, streamed: bool) -> Heard:
    frames = _frames(sent) if streamed else []
    body = frames[-1]["response"] if streamed else json.loads(sent)
    text = "".join(part["text"] for item in body["output"] if item["type"] == "message" for part in item["content"])
    if streamed:
        assert "".join(one["delta"] for one in frames if one["type"] == "response.output_text.delta") == text
        assert all((one.get("response") or {}).get("usage") is None for one in frames[:-1])
    calls = [
        (item["name"], json.loads(item["arguments"])) for item in body["output"] if item["type"] == "function_call"
    ]
    return Heard(text, calls, body["usage"]["input_tokens"], body["usage"]["output_tokens"])


def _messages(sent: bytes, streamed: bool) -> Heard:
    if not streamed:
        body = json.loads(sent)
        text = "".join(block["text"] for block in body["content"] if block["type"] == "text")
        calls = [(block["name"], block["input"]) for block in body["content"] if block["type"] == "tool_use"]
        return Heard(text, calls, body["usage"]["input_tokens"], body["usage"]["output_tokens"])
    frames = _frames(sent)
    assert frames[0]["message"]["usage"]["output_tokens"] == 0
    assert [one["type"] for one in frames[-2:]] == ["message_delta", "message_stop"]
    deltas = [one["delta"] for one in frames if one["type"] == "content_block_delta"]
    begun = [one["content_block"] for one in frames if one["type"] == "content_block_start"]
    names = [block["name"] for block in begun if block["type"] == "tool_use"]
    arguments = json.loads("".join(delta.get("partial_json", "") for delta in deltas))
    usage = frames[-2]["usage"]
    text = "".join(delta.get("text", "") for delta in deltas)
    return Heard(text, [(name, arguments) for name in names], usage["input_tokens"], usage["output_tokens"])


def _gemini(sent: bytes, streamed: bool) -> Heard:
    frames = _frames(sent) if streamed else [json.loads(sent)]
    parts = [part for one in frames for made in one["candidates"] for part in made["content"]["parts"]]
    called = [part["functionCall"] for part in parts if "functionCall" in part]
    usage = frames[-1]["usageMetadata"]
    return Heard(
        "".join(part.get("text", "") for part in parts),
        [(made["name"], made["args"]) for made in called],
        usage["promptTokenCount"],
        usage["candidatesTokenCount"],
    )


_SAID: Final = [{"role": "user", "content": "Tell me of the tide."}]
DOORS: Final[Mapping[str, tuple[Callable[[bytes, bool], Heard], Mapping[str, object]]]] = {
    "openai_chat": (_chat, {"messages": _SAID, "stream_options": {"include_usage": True}}),
    "openai_responses": (_responses, {"input": "Tell me of the tide."}),
    "anthropic_messages": (_messages, {"messages": _SAID, "max_tokens": 100}),
    "gemini": (_gemini, {"contents": [{"role": "user", "parts": [{"text": "Tell me of the tide."}]}]}),
}


def test_every_dialect_that_chats_is_here() -> None:
    assert {name for name, one in CLIENT_DIALECTS.items() if one.operation.value == "chat"} == DOORS.keys()
    assert WHOLE.keys() == {play.dialect for play in PLAYS.values()}


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize("name", PLAYS)
def test_a_streamed_reply_is_what_was_served_whoever_served_it(name: str, client: str) -> None:
    play = PLAYS[name]
    check(client, play.dialect, Played(Head(200, {"content-type": play.kind}), [*play.frames, b""]), streamed=True)


@pytest.mark.parametrize("client", DOORS)
@pytest.mark.parametrize("provider", WHOLE)
def test_a_whole_reply_is_what_was_served_whoever_served_it(provider: str, client: str) -> None:
    played = Played(Head(200, {"content-type": "application/json"}), [WHOLE[provider], b""])
    check(client, provider, played, streamed=False)


def check(client: str, provider: str, played: Played, *, streamed: bool) -> None:
    """One call at a door, to its end."""
    read, asked = DOORS[client]
    dialect = CLIENT_DIALECTS[client]
    wish = {"counterfoilStream" if client == "gemini" else "stream": streamed}
    body = msgspec.json.encode({"model": "house-model", **asked, **wish})
    world = World(played)
    # Bedrock's invoke goes by the model's name.
    served_by = msgspec.structs.replace(deployment(DIALECTS[provider]), model="anthropic.claude-play-1")
    peek = dialect.peek_request(body)
    world.run(msgspec.structs.replace(call(served_by), dialect=dialect, body=body, peek=peek))
    check_books(world.log)
    heard, entry = read(world.sent, streamed), world.entry
    assert (heard.text, heard.calls) == (TEXT, CALLED)
    assert (entry.exit, entry.discrepancies) == (Exit.COMPLETED, ())
    shown = figures(entry.usage)
    assert (heard.input, heard.output) == (shown.input_tokens, shown.output_tokens) == (TRUTH.input, TRUTH.output)
