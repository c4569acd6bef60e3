"""The JSON of Cohere's replies, as far as it is read.

Rule 1: reading is lenient: absent, null and unknown are fine. What is only carried stays `Raw`.
Rule 2: the same shape stands for a member of a stream's frame and of a whole reply wherever the wire has it so.

https://docs.cohere.com/reference/chat, https://docs.cohere.com/reference/chat-stream; recorded: cohere.v2/cohere
"""

from __future__ import annotations

from typing import Any

import msgspec

from counterfoil.dialects.schema import NOT_SENT

__all__ = ["CallSaid", "ContentSaid", "DeltaSaid", "FrameSaid", "MessageSaid", "ReplySaid"]


class ContentSaid(msgspec.Struct, frozen=True):
    """A block of `message.content`, and what a content-delta adds to one."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    """https://docs.cohere.com/docs/reasoning"""


class FunctionSaid(msgspec.Struct, frozen=True):
    """`function` of a call."""

    name: str | None = None
    arguments: str | None = None
    """JSON text; empty at a call's start."""


class CallSaid(msgspec.Struct, frozen=True):
    """One tool call, and what a tool-call-delta adds to one."""

    id: str | None = None
    function: FunctionSaid | None = None


class MessageSaid(msgspec.Struct, frozen=True):
    """`message` of a whole reply (its `content` and `tool_calls` are lists), and of a frame's delta (they are objects;
    empty lists in message-start)."""

    content: msgspec.Raw = NOT_SENT
    tool_plan: str | None = None
    """What the model means to do with its tools, in words. https://docs.cohere.com/docs/tool-use-overview"""
    tool_calls: msgspec.Raw = NOT_SENT
    citations: msgspec.Raw = NOT_SENT


class DeltaSaid(msgspec.Struct, frozen=True):
    """`delta` of a frame."""

    message: MessageSaid | None = None
    finish_reason: Any = None
    error: Any = None
    """Why a generation ended with ERROR."""
    usage: msgspec.Raw = NOT_SENT


class FrameSaid(msgspec.Struct, frozen=True):
    """One frame of a stream."""

    type: str = ""
    id: Any = None
    index: Any = None
    delta: DeltaSaid | None = None
    logprobs: msgspec.Raw = NOT_SENT
    message: msgspec.Raw = NOT_SENT
    """Text, in an error."""


class ReplySaid(msgspec.Struct, frozen=True):
    """A whole reply, or an error body (then `message` is a text)."""

    id: Any = None
    message: msgspec.Raw = NOT_SENT
    finish_reason: Any = None
    usage: msgspec.Raw = NOT_SENT
    logprobs: msgspec.Raw = NOT_SENT
