"""What clients of Gemini's own API ask, a case a wish. The rules are those of `cases`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tests.dialects.crossing.words import PDF, PIXEL, SCHEMA, SOUND

__all__ = ["GEMINI"]


def _body(*contents: Any, **fields: Any) -> dict[str, Any]:
    return {"contents": list(contents) or [_said("mk When is high water?")], **fields}


def _said(*parts: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "parts": [{"text": part} if isinstance(part, str) else part for part in parts]}


def _inline(kind: str, data: str) -> dict[str, Any]:
    return {"inlineData": {"mimeType": kind, "data": data}}


def _function(name: str) -> dict[str, Any]:
    return {"name": name, "description": f"mk Says the {name}.", "parametersJsonSchema": SCHEMA}


def _configured(**fields: Any) -> dict[str, Any]:
    return _body(generationConfig=fields)


def _calling(mode: str, *names: str) -> dict[str, Any]:
    allowed = {"allowedFunctionNames": list(names)} if names else {}
    return {"functionCallingConfig": {"mode": mode, **allowed}}


_TOOLS: Final = [{"functionDeclarations": [_function("mktides"), _function("mkwinds")]}]

GEMINI: Final[Mapping[str, Mapping[str, Any]]] = {
    "text": _body(),
    "system instruction": _body(systemInstruction={"parts": [{"text": "mk You keep the harbour."}]}),
    "conversation": _body(
        _said("mk When is high water?"), _said("mk At noon.", role="model"), _said("mk And low water?")
    ),
    "image": _body(_said(_inline("image/png", PIXEL), "mk What boat is this?")),
    "document": _body(_said(_inline("application/pdf", PDF), "mk Read the chart.")),
    "audio": _body(_said(_inline("audio/wav", SOUND), "mk What rings?")),
    "file by address": _body(
        _said(
            {"fileData": {"mimeType": "application/pdf", "fileUri": "https://harbour.example/mkchart.pdf"}}, "mk Read."
        )
    ),
    "tools": _body(tools=_TOOLS),
    "a tool in OpenAPI's words": _body(
        tools=[
            {
                "functionDeclarations": [
                    {
                        "name": "mktides",
                        "description": "mk Says the tides.",
                        "parameters": {
                            "type": "OBJECT",
                            "properties": {"mkport": {"type": "STRING", "nullable": True}},
                            "required": ["mkport"],
                        },
                    }
                ]
            }
        ]
    ),
    "tool forced": _body(tools=_TOOLS, toolConfig=_calling("ANY", "mkwinds")),
    "some tool required": _body(tools=_TOOLS, toolConfig=_calling("ANY")),
    "no tool allowed": _body(tools=_TOOLS, toolConfig=_calling("NONE")),
    "calls that keep to their schemas": _body(tools=_TOOLS, toolConfig=_calling("VALIDATED")),
    "parallel calls and their results": _body(
        _said("mk When is high water?"),
        _said(
            {
                "functionCall": {"id": "mkcall1", "name": "mktides", "args": {"mkport": "mkWhitby"}},
                "thoughtSignature": "Z2VtaW5p",
            },
            {"functionCall": {"id": "mkcall2", "name": "mkwinds", "args": {}}},
            role="model",
        ),
        _said(
            {
                "functionResponse": {
                    "id": "mkcall1",
                    "name": "mktides",
                    "response": {"output": "mk High at noon."},
                    "parts": [_inline("image/png", PIXEL)],
                }
            },
            {"functionResponse": {"id": "mkcall2", "name": "mkwinds", "response": {"error": "mk No wind known."}}},
        ),
        tools=_TOOLS,
    ),
    "Google's search": _body(tools=[{"googleSearch": {}}]),
    "json schema": _configured(responseMimeType="application/json", responseJsonSchema=SCHEMA),
    "json object": _configured(responseMimeType="application/json"),
    "thinking level": _configured(thinkingConfig={"thinkingLevel": "HIGH", "includeThoughts": True}),
    "thinking budget": _configured(thinkingConfig={"thinkingBudget": 2049}),
    "thinking off": _configured(thinkingConfig={"thinkingBudget": 0}),
    "thinking as the model likes": _configured(thinkingConfig={"thinkingBudget": -1, "includeThoughts": True}),
    "sampling": _configured(temperature=0.37, topP=0.83, topK=37, seed=4711, stopSequences=["mkstop"]),
    "penalties": _configured(presencePenalty=0.61, frequencyPenalty=0.29),
    "bounded": _configured(maxOutputTokens=733),
    "two choices": _configured(candidateCount=2),
    "log probabilities": _configured(responseLogprobs=True, logprobs=6),
    "safety settings": _body(
        safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH", "mkmark": "mkx"}]
    ),
    "a cached content": _body(cachedContent="cachedContents/mkcached"),
    "labels": _body(labels={"mkdept": "mktrawlers"}),
    "resolution of media": _configured(mediaResolution="mkMEDIA_RESOLUTION_LOW"),
    "an unknown field": _body(mkfuture={"x": 2049}),
}
