"""What clients of the Responses API ask, a case a wish. The rules are those of `cases`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tests.dialects.crossing.words import PDF, PIXEL, SCHEMA

__all__ = ["RESPONSES"]


def _body(*items: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "house-model", "input": list(items) or "mk When is high water?", "store": False, **fields}


def _said(*parts: Any, role: str = "user") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": list(parts)}


def _text(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}


def _function(name: str, **more: Any) -> dict[str, Any]:
    shape = {"name": name, "description": f"mk Says the {name}.", "parameters": SCHEMA, "strict": False}
    return {"type": "function", **shape, **more}


_ASKED: Final = _said(_text("mk When is high water?"))
_TOOLS: Final = [_function("mktides"), _function("mkwinds")]

RESPONSES: Final[Mapping[str, Mapping[str, Any]]] = {
    "text": _body(),
    "instructions and developer": _body(
        _said(_text("mk You keep the harbour."), role="developer"), _ASKED, instructions="mk Be brief."
    ),
    "conversation": _body(
        _ASKED,
        _said({"type": "output_text", "text": "mk At noon.", "annotations": []}, role="assistant"),
        _said(_text("mk And low water?")),
    ),
    "images": _body(
        _said(
            {"type": "input_image", "image_url": "https://harbour.example/mkboat.png", "detail": "high"},
            {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
            _text("mk What boats are these?"),
        )
    ),
    "file": _body(
        _said(
            {"type": "input_file", "filename": "mkchart.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
            _text("mk Read the chart."),
        )
    ),
    "tools": _body(tools=_TOOLS),
    "strict tool": _body(tools=[_function("mktides", strict=True)]),
    "tool forced": _body(tools=_TOOLS, tool_choice={"type": "function", "name": "mkwinds"}),
    "some tool required": _body(tools=_TOOLS, tool_choice="required"),
    "no tool allowed": _body(tools=_TOOLS, tool_choice="none"),
    "one tool at a time": _body(tools=_TOOLS, parallel_tool_calls=False),
    "some tools allowed": _body(
        tools=_TOOLS,
        tool_choice={
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "function", "name": "mkwinds"}],
        },
    ),
    "parallel calls and their results": _body(
        _ASKED,
        {"type": "function_call", "call_id": "mkcall1", "name": "mktides", "arguments": '{"mkport":"mkWhitby"}'},
        {"type": "function_call", "call_id": "mkcall2", "name": "mkwinds", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "mkcall1",
            "output": [
                _text("mk High at noon."),
                {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
            ],
        },
        {"type": "function_call_output", "call_id": "mkcall2", "output": "mk South-west."},
        tools=_TOOLS,
    ),
    "a custom tool": _body(tools=[{"type": "custom", "name": "mkgrammar"}]),
    "a custom tool's call": _body(
        _ASKED,
        {"type": "custom_tool_call", "call_id": "mkcall1", "name": "mkgrammar", "input": "mk a patch"},
        {"type": "custom_tool_call_output", "call_id": "mkcall1", "output": "mk done"},
    ),
    "a web search": _body(tools=[{"type": "web_search", "external_web_access": False}]),
    "reasoning in the history": _body(
        _ASKED,
        {"type": "reasoning", "summary": [], "encrypted_content": "Z0FBQUFB"},
        _said({"type": "output_text", "text": "mk At noon.", "annotations": []}, role="assistant"),
        _said(_text("mk Sure?")),
        include=["reasoning.encrypted_content"],
    ),
    "reasoning effort": _body(reasoning={"effort": "high", "summary": "auto"}),
    "reasoning off": _body(reasoning={"effort": "none"}),
    "json schema": _body(text={"format": {"type": "json_schema", "name": "mktide", "schema": SCHEMA, "strict": True}}),
    "json object": _body(text={"format": {"type": "json_object"}}),
    "verbosity": _body(text={"verbosity": "low"}),
    "sampling": _body(temperature=0.37, top_p=0.83),
    "bounded": _body(max_output_tokens=733),
    "log probabilities": _body(include=["message.output_text.logprobs"], top_logprobs=6),
    "who asks, and where a cache is": _body(
        user="mkuser7",
        metadata={"mkdept": "mktrawlers"},
        prompt_cache_key="mkkey",
        client_metadata={"mkinstall": "mkone"},
    ),
    "service tier": _body(service_tier="priority"),
    "truncation": _body(truncation="auto"),
    "a stored conversation": _body(previous_response_id="resp_mkearlier"),
    "a refusal in the history": _body(
        _ASKED, _said({"type": "refusal", "refusal": "mk I cannot."}, role="assistant"), _said(_text("mk Why?"))
    ),
    "an unknown field": _body(mkfuture={"x": 2049}),
    "streamed": _body(stream=True),
}
