"""What three well-known coding tools send, field for field, with text of our own: nobody's prompt is in here.

Shapes and sizes are those of a turn in the middle of a session: Claude Code's 24 tools are 76 kB, Codex sends the
proofs of its reasoning back, Gemini CLI asks for thoughts. Sources: each tool's pages about gateways, and its code.
"""

from __future__ import annotations

import json
from typing import Any, Final

from tests.dialects.crossing.words import PIXEL

__all__ = ["CLAUDE_CODE", "CLAUDE_CODE_HEADERS", "CODEX", "CODEX_FUNCTIONS", "GEMINI_CLI", "body_of"]

_NAMES: Final = (
    *("Bash", "BashOutput", "KillShell", "Glob", "Grep", "LS", "Read", "Edit", "MultiEdit", "Write", "NotebookRead"),
    *("NotebookEdit", "WebFetch", "TodoWrite", "Task", "ExitPlanMode", "SlashCommand", "AskUserQuestion"),
    *("mcp__tides__list", "mcp__tides__get", "mcp__harbour__boats", "mcp__harbour__berths", "mcp__charts__find"),
    "mcp__charts__draw",
)


def _prose(words: int, seed: str) -> str:
    """Invented text of so many words."""
    stock = ("the keeper writes", "a boat comes in", "at high water", "the berth is free", "never guess", "look first")
    return " ".join(stock[(place * 7 + len(seed)) % len(stock)] for place in range(words // 3)) + f" ({seed})."


def _schema(name: str) -> dict[str, Any]:
    """A schema with what real ones have: a draft, enums, arrays of objects, formats, unions, defaults."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": _prose(30, f"{name}.path")},
            "mode": {"type": "string", "enum": ["content", "names", "count"], "description": _prose(18, name)},
            "limit": {"type": "number", "description": _prose(12, f"{name}.limit"), "default": 100},
            "edits": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "properties": {
                        "old": {"type": "string", "description": _prose(24, f"{name}.old")},
                        "new": {"type": "string"},
                        "all": {"type": "boolean", "default": False},
                    },
                    "required": ["old", "new"],
                    "additionalProperties": False,
                },
            },
            "where": {"anyOf": [{"type": "string", "format": "uri"}, {"type": "null"}]},
        },
        "required": ["path"],
        "additionalProperties": False,
    }


_EPHEMERAL: Final = {"type": "ephemeral", "ttl": "1h"}

CLAUDE_CODE_HEADERS: Final = {
    "anthropic-version": "2023-06-01",
    "anthropic-beta": (
        "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,"
        "prompt-caching-scope-2026-01-05,effort-2025-11-24,nobody-knows-2031-01-01"
    ),
}

CLAUDE_CODE: Final[dict[str, Any]] = {
    "model": "house-model",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": f"<reminder>{_prose(120, 'reminder')}</reminder>"},
                {"type": "text", "text": "Why does the tide table lag?", "cache_control": _EPHEMERAL},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I should look at the table.", "signature": "c2lnbmVk"},
                {"type": "text", "text": "I shall read the table and its picture."},
                {"type": "tool_use", "id": "toolu_01A", "name": "Read", "input": {"path": "/harbour/table.csv"}},
                {"type": "tool_use", "id": "toolu_01B", "name": "Read", "input": {"path": "/harbour/chart.png"}},
                {"type": "tool_use", "id": "toolu_01C", "name": "Bash", "input": {"path": "date"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_01A", "content": "1\t00:12\t4.1\n2\t06:30\t0.9"},
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_01B",
                    "content": [
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
                    ],
                },
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_01C",
                    "content": "date: command not found",
                    "is_error": True,
                    "cache_control": _EPHEMERAL,
                },
            ],
        },
    ],
    "system": [
        {"type": "text", "text": "x-billing: version=2; entrypoint=cli"},
        {"type": "text", "text": "You are a keeper of harbours.", "cache_control": _EPHEMERAL},
        {"type": "text", "text": _prose(2400, "rules"), "cache_control": _EPHEMERAL},
    ],
    "tools": [
        {"name": name, "description": _prose(380, name), "input_schema": _schema(name), "eager_input_streaming": True}
        for name in _NAMES
    ],
    "metadata": {
        "user_id": "user_" + "0" * 64 + "_account_00000000-0000-4000-8000-000000000000_session_" + "0" * 36,
    },
    "max_tokens": 32000,
    "thinking": {"type": "adaptive", "display": "summarized"},
    "output_config": {"effort": "high"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "service_tier": "auto",
    "temperature": 1,
    "stream": True,
}

CODEX_FUNCTIONS: Final[dict[str, Any]] = {
    "model": "house-model",
    "instructions": _prose(1800, "instructions"),
    "input": [
        {
            "type": "message",
            "role": "developer",
            "content": [{"type": "input_text", "text": "<permissions>Write within the harbour only.</permissions>"}],
        },
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "<environment>\n  <cwd>/harbour</cwd>\n</environment>"}],
        },
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Why does the table lag?"}]},
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "**Looking at the table**"}],
            "content": None,
            "encrypted_content": "Z0FBQUFBQm5vYm9keQ==",
        },
        {
            "type": "function_call",
            "name": "shell",
            "arguments": '{"command":["cat","table.csv"],"workdir":"/harbour"}',
            "call_id": "call_01A",
        },
        {"type": "function_call_output", "call_id": "call_01A", "output": "1\t00:12\t4.1\n2\t06:30\t0.9"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "The table lags by an hour."}],
        },
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Mend it."}]},
    ],
    "tools": [
        {
            "type": "function",
            "name": name,
            "description": _prose(60, name),
            "strict": False,
            "parameters": {
                "type": "object",
                "properties": {
                    "command": {"type": "array", "items": {"type": "string"}},
                    "workdir": {"type": "string"},
                },
                "required": ["command"],
                "additionalProperties": False,
            },
        }
        for name in ("shell", "update_plan", "view_image")
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "00000000-0000-4000-8000-000000000000",
    "client_metadata": {"x-codex-installation-id": "00000000-0000-4000-8000-000000000001"},
    "text": {"verbosity": "low"},
}
"""Codex with tools that are functions."""

_PATCH: Final = "*** Begin Patch\n*** Update File: table.csv\n@@\n-1\t00:12\n+1\t01:12\n*** End Patch"

CODEX: Final[dict[str, Any]] = {
    **CODEX_FUNCTIONS,
    "input": [
        *CODEX_FUNCTIONS["input"],
        {"type": "custom_tool_call", "call_id": "call_01B", "name": "apply_patch", "input": _PATCH},
        {"type": "custom_tool_call_output", "call_id": "call_01B", "output": "Done!"},
    ],
    "tools": [
        *CODEX_FUNCTIONS["tools"],
        {
            "type": "custom",
            "name": "apply_patch",
            "description": _prose(40, "apply_patch"),
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin_patch hunk+ end_patch"},
        },
        {"type": "local_shell"},
        {"type": "web_search", "external_web_access": False},
    ],
}
"""Codex with the tools that only OpenAI's models have."""

GEMINI_CLI: Final[dict[str, Any]] = {
    "contents": [
        {"role": "user", "parts": [{"text": "Today is a spring tide. My harbour is /harbour."}]},
        {"role": "model", "parts": [{"text": "Got it."}]},
        {"role": "user", "parts": [{"text": "Why does the table lag?"}]},
        {
            "role": "model",
            "parts": [
                {"text": "I look at the table.", "thought": True},
                {
                    "functionCall": {"id": "fc-1", "name": "read_file", "args": {"path": "/harbour/table.csv"}},
                    "thoughtSignature": "Z2VtaW5p",
                },
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "fc-1", "name": "read_file", "response": {"output": "1\t00:12\t4.1"}}}
            ],
        },
    ],
    "systemInstruction": {"role": "user", "parts": [{"text": _prose(2000, "system")}]},
    "tools": [
        {
            "functionDeclarations": [
                {"name": name, "description": _prose(80, name), "parametersJsonSchema": _schema(name)}
                for name in ("list_directory", "read_file", "run_shell_command", "replace", "google_web_search")
            ]
        }
    ],
    "generationConfig": {
        "temperature": 1,
        "topP": 0.95,
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 8192},
    },
    "labels": {"session": "00000000"},
}
"""Gemini CLI; `topK` left to the model."""


def body_of(request: dict[str, Any]) -> bytes:
    """The body as a tool writes it: without white space, text as it is."""
    return json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode()
