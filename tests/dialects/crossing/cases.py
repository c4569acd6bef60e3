"""What clients ask, a case a wish, in each dialect that they speak.

Rule 1: every value that must not get lost is marked: a text begins with `mk`, a number is in `NUMBERS`. The grid looks
for each mark in what is sent, or for its field's name in what is said to be left out.
Rule 2: no value asks for what happens anyway: that may be left out without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tests.dialects.crossing.gemini_cases import GEMINI
from tests.dialects.crossing.responses_cases import RESPONSES
from tests.dialects.crossing.words import PDF, PIXEL, SCHEMA, SOUND

__all__ = ["CASES"]


def _asked(content: Any = "mk When is high water?") -> dict[str, Any]:
    return {"role": "user", "content": content}


def _function(name: str, **more: Any) -> dict[str, Any]:
    shape = {"name": name, "description": f"mk Says the {name}.", "parameters": SCHEMA, **more}
    return {"type": "function", "function": shape}


def _called(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _chat(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "house-model", "messages": list(messages) or [_asked()], **fields}


_TWO_TOOLS: Final = [_function("mktides"), _function("mkwinds")]

CHAT: Final[Mapping[str, Mapping[str, Any]]] = {
    "text": _chat(),
    "system and developer": _chat(
        {"role": "system", "content": "mk You keep the harbour."},
        _asked(),
        {"role": "assistant", "content": "mk At noon."},
        {"role": "developer", "content": "mk Be brief."},
        _asked("mk And low water?"),
    ),
    "conversation with names": _chat(_asked() | {"name": "mkann"}),
    "image by url": _chat(
        _asked(
            [
                {"type": "text", "text": "mk What boat is this?"},
                {"type": "image_url", "image_url": {"url": "https://harbour.example/mkboat.png", "detail": "high"}},
            ]
        )
    ),
    "image by data": _chat(
        _asked(
            [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                {"type": "text", "text": "mk What boat is this?"},
            ]
        )
    ),
    "file": _chat(
        _asked(
            [
                {
                    "type": "file",
                    "file": {"filename": "mkchart.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
                },
                {"type": "text", "text": "mk Read the chart."},
            ]
        )
    ),
    "audio": _chat(
        _asked(
            [
                {"type": "input_audio", "input_audio": {"data": SOUND, "format": "wav"}},
                {"type": "text", "text": "mk What rings?"},
            ]
        )
    ),
    "tools": _chat(tools=_TWO_TOOLS),
    "strict tool": _chat(tools=[_function("mktides", strict=True)]),
    "tool forced": _chat(tools=_TWO_TOOLS, tool_choice={"type": "function", "function": {"name": "mkwinds"}}),
    "some tool required": _chat(tools=_TWO_TOOLS, tool_choice="required"),
    "no tool allowed": _chat(tools=_TWO_TOOLS, tool_choice="none"),
    "one tool at a time": _chat(tools=_TWO_TOOLS, parallel_tool_calls=False),
    "parallel calls and their results": _chat(
        _asked(),
        {
            "role": "assistant",
            "content": "mk I shall look.",
            "tool_calls": [
                _called("mkcall1", "mktides", '{"mkport":"mkWhitby","hours":6}'),
                _called("mkcall2", "mkwinds", "{}"),
            ],
        },
        {"role": "tool", "tool_call_id": "mkcall1", "content": "mk High at noon."},
        {"role": "tool", "tool_call_id": "mkcall2", "content": '{"wind":"mk south-west"}'},
        tools=_TWO_TOOLS,
    ),
    "a custom tool": _chat(tools=[{"type": "custom", "custom": {"name": "mkgrammar"}}]),
    "reasoning in the history, Claude's": _chat(
        _asked(),
        {
            "role": "assistant",
            "content": "mk At noon.",
            "reasoning_details": [
                {
                    "type": "reasoning.text",
                    "text": "mk The moon.",
                    "signature": "bWthbQ==",
                    "format": "anthropic-claude-v1",
                },
            ],
        },
        _asked("mk Sure?"),
    ),
    "reasoning in the history, Gemini's": _chat(
        _asked(),
        {
            "role": "assistant",
            "content": None,
            "reasoning_details": [
                {"type": "reasoning.text", "text": "", "signature": "bWtnZW1pbmk=", "format": "google-gemini-v1"},
            ],
            "tool_calls": [_called("mkcall1", "mktides", "{}")],
        },
        {"role": "tool", "tool_call_id": "mkcall1", "content": "mk High at noon."},
        tools=_TWO_TOOLS,
    ),
    "json schema": _chat(
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "mktide", "schema": SCHEMA, "strict": True},
        }
    ),
    "json object": _chat(response_format={"type": "json_object"}),
    "reasoning effort": _chat(reasoning_effort="high"),
    "reasoning off": _chat(reasoning_effort="none"),
    "sampling": _chat(temperature=0.37, top_p=0.83, seed=4711, stop=["mkstop"]),
    "penalties": _chat(presence_penalty=0.61, frequency_penalty=0.29),
    "bounded": _chat(max_completion_tokens=733),
    "two choices": _chat(n=2),
    "log probabilities": _chat(logprobs=True, top_logprobs=6),
    "cache mark": _chat(
        {
            "role": "system",
            "content": [{"type": "text", "text": "mk Long rules.", "cache_control": {"type": "ephemeral"}}],
        },
        _asked(),
    ),
    "user and metadata": _chat(user="mkuser7", metadata={"mkdept": "mktrawlers"}),
    "service tier": _chat(service_tier="priority"),
    "token bias": _chat(logit_bias={"1213": -100}),
    "an unknown field": _chat(mkfuture={"x": 2049}),
    "a refusal in the history": _chat(
        _asked(), {"role": "assistant", "content": None, "refusal": "mk I cannot."}, _asked("mk Why?")
    ),
    "streamed": _chat(stream=True, stream_options={"include_usage": True}),
}


def _messages(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "house-model", "max_tokens": 733, "messages": list(messages) or [_asked()], **fields}


def _tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "description": f"mk Says the {name}.", "input_schema": SCHEMA, **more}


_TOOLS: Final = [_tool("mktides"), _tool("mkwinds")]

MESSAGES: Final[Mapping[str, Mapping[str, Any]]] = {
    "text": _messages(),
    "system and cache marks": _messages(
        _asked(
            [{"type": "text", "text": "mk When is high water?", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
        ),
        system=[{"type": "text", "text": "mk You keep the harbour.", "cache_control": {"type": "ephemeral"}}],
    ),
    "system in several blocks": _messages(
        system=[{"type": "text", "text": "mk You keep the harbour."}, {"type": "text", "text": "mk Be brief."}]
    ),
    "images": _messages(
        _asked(
            [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                {"type": "image", "source": {"type": "url", "url": "https://harbour.example/mkboat.png"}},
                {"type": "text", "text": "mk What boats are these?"},
            ]
        )
    ),
    "documents": _messages(
        _asked(
            [
                {
                    "type": "document",
                    "title": "mkchart",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                },
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "mk Plain rules."}},
                {"type": "text", "text": "mk Read both."},
            ]
        )
    ),
    "tools": _messages(tools=_TOOLS),
    "tool forced": _messages(tools=_TOOLS, tool_choice={"type": "tool", "name": "mkwinds"}),
    "some tool required, one at a time": _messages(
        tools=_TOOLS, tool_choice={"type": "any", "disable_parallel_tool_use": True}
    ),
    "no tool allowed": _messages(tools=_TOOLS, tool_choice={"type": "none"}),
    "calls and results": _messages(
        _asked(),
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "mk I shall look."},
                {"type": "tool_use", "id": "mkcall1", "name": "mktides", "input": {"mkport": "mkWhitby", "hours": 6}},
                {"type": "tool_use", "id": "mkcall2", "name": "mkwinds", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "mkcall1",
                    "content": [
                        {"type": "text", "text": "mk High at noon."},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                    ],
                },
                {"type": "tool_result", "tool_use_id": "mkcall2", "is_error": True, "content": "mk No wind known."},
                {"type": "text", "text": "mk Go on."},
            ],
        },
        tools=_TOOLS,
    ),
    "an answer that was begun": _messages(_asked(), {"role": "assistant", "content": "mk High water is at"}),
    "calls in the history and no tools": _messages(
        _asked(),
        {"role": "assistant", "content": [{"type": "tool_use", "id": "mkcall1", "name": "mktides", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "mkcall1", "content": "mk High at noon."},
                {"type": "text", "text": "mk Sum it up."},
            ],
        },
    ),
    "thinking in the history": _messages(
        _asked(),
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "mk The moon.", "signature": "bWthbQ=="},
                {"type": "redacted_thinking", "data": "bWtyZWRhY3RlZA=="},
                {"type": "text", "text": "mk At noon."},
            ],
        },
        _asked("mk Sure?"),
    ),
    "thinking with a budget": _messages(max_tokens=4096, thinking={"type": "enabled", "budget_tokens": 2049}),
    "thinking off": _messages(thinking={"type": "disabled"}),
    "thinking adaptive": _messages(thinking={"type": "adaptive"}, output_config={"effort": "high"}),
    "json schema": _messages(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}),
    "sampling": _messages(temperature=0.37, top_p=0.83, top_k=37, stop_sequences=["mkstop"]),
    "user": _messages(metadata={"user_id": "mkuser7"}),
    "service tier": _messages(service_tier="standard_only"),
    "a server tool": _messages(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 6}]),
    "other people's tool servers": _messages(
        mcp_servers=[{"type": "url", "url": "https://tools.example/mksse", "name": "mkmcp"}]
    ),
    "other server tools and what they said": _messages(
        _asked(),
        {
            "role": "assistant",
            "content": [
                {"type": "server_tool_use", "id": "mksrv1", "name": "web_search", "input": {"query": "mk tides"}},
                {"type": "web_search_tool_result", "tool_use_id": "mksrv1", "content": []},
                {"type": "text", "text": "mk At noon."},
            ],
        },
        _asked("mk Sure?"),
    ),
    "a compaction": _messages(context_management={"edits": [{"type": "compact_20260112"}]}),
    "a tool that is loaded late and told early": _messages(
        tools=[_tool("mktides", defer_loading=True, eager_input_streaming=True)]
    ),
    "how thinking is shown": _messages(thinking={"type": "adaptive", "display": "summarized"}),
    "effort alone": _messages(output_config={"effort": "max"}),
    "a long name of a user": _messages(metadata={"user_id": "mkuser_" + "0" * 120}),
    "cached as a whole": _messages(cache_control={"type": "ephemeral"}),
    "a picture read by a tool, last of all": _messages(
        _asked(),
        {"role": "assistant", "content": [{"type": "tool_use", "id": "mkcall1", "name": "mktides", "input": {}}]},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "mkcall1",
                    "content": [
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                    ],
                }
            ],
        },
        tools=_TOOLS,
    ),
    "context management": _messages(context_management={"edits": [{"type": "clear_tool_uses_20250919"}]}),
    "an unknown field": _messages(mkfuture={"x": 2049}),
    "streamed": _messages(stream=True),
}

CASES: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "openai_chat": CHAT,
    "anthropic_messages": MESSAGES,
    "openai_responses": RESPONSES,
    "gemini": GEMINI,
}
"""By client dialect, then by name."""
