"""What the tests of doors share: a request for every door, what is played for it, and how each dialect's reply is read.

Rule 1: the provider's own list is the truth; what a client reads and what the books hold are compared with it.
Rule 2: a reply is read here by its published shape alone, with nothing of the code under test.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from counterfoil.testing import ChatReply, Counts, Request, Script, Send, count_player, obliging, path_player
from tests.shells.gateway import Answer

__all__ = [
    "CALLS",
    "COUNTED",
    "MODELS",
    "REFUSALS",
    "TEXT",
    "USED",
    "Asking",
    "Reading",
    "Way",
    "play",
]

TEXT: Final = "The tide turns at noon."
USED: Final = Counts(input=40, output=17)
COUNTED: Final = 41
_PLAN: Final = ChatReply(text=("The tide", " turns", " at noon."), usage=USED)

MODELS: Final = """
models:
  chat: [{{provider: playhouse, model: play-1, base_url: "{origin}/v1"}}]
  messages: [{{provider: anthropic, model: play-a, base_url: "{origin}", api_key: play}}]
  responses: [{{provider: openai, model: play-r, base_url: "{origin}/v1", api_key: play, dialect: openai_responses}}]
  gemini: [{{provider: google, model: play-g, base_url: "{origin}/v1beta", api_key: play, dialect: gemini}}]
  texts: [{{provider: openai, model: play-t, base_url: "{origin}/v1", api_key: play}}]
  generate: [{{provider: ollama, model: play-o, base_url: "{origin}", dialect: ollama.generate}}]
  vectors: [{{provider: openai, model: play-v, base_url: "{origin}/v1", api_key: play}}]
  google-vectors: [{{provider: google, model: play-e, base_url: "{origin}/v1beta", api_key: play, dialect: gemini}}]
  ranks: [{{provider: cohere, model: rerank-1, base_url: "{origin}", api_key: play}}]
  other-ranks: [{{provider: voyage, model: rerank-2, base_url: "{origin}/v1", api_key: play}}]
listen: {{port: 0, drain: 5}}
retries: {{attempts: 1}}
"""


# ---- what the provider plays


def _json(body: object) -> Script:
    return Script(
        steps=(Send(json.dumps(body).encode()),), headers=(("content-type", "application/json"),), framing="length"
    )


def _completions(request: Request) -> Script:
    def chunk(text: str, finish: str | None, **more: object) -> dict[str, object]:
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
        return {"id": "cmpl-1", "object": "text_completion", "created": 7, "model": "x", "choices": [choice], **more}

    usage = {"prompt_tokens": USED.input, "completion_tokens": USED.output, "total_tokens": USED.total}
    if not request.stream:
        return _json(chunk(TEXT, "stop", usage=usage))
    chunks = [*(chunk(piece, None) for piece in _PLAN.text), chunk("", "stop", usage=usage)]
    frames = [b"data: %b\n\n" % json.dumps(one).encode() for one in chunks]
    return Script(steps=tuple(map(Send, (*frames, b"data: [DONE]\n\n"))))


def _generate(request: Request) -> Script:
    end = {"done": True, "done_reason": "stop", "prompt_eval_count": USED.input, "eval_count": USED.output}
    if request.json.get("stream") is False:
        return _json({"model": "x", "response": TEXT, **end})
    lines = [*({"model": "x", "response": piece, "done": False} for piece in _PLAN.text)]
    lines.append({"model": "x", "response": "", **end})
    frames = tuple(Send(json.dumps(line).encode() + b"\n") for line in lines)
    return Script(steps=frames, headers=(("content-type", "application/x-ndjson"),))


def _gemini_vectors(request: Request) -> Script:
    used = {"usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}}
    if "requests" in request.json:
        return _json({"embeddings": [{"values": [0.5, -1.25]}], **used})
    return _json({"embedding": {"values": [0.5, -1.25]}, **used})


_RANKED: Final = _json(
    {"id": "r", "results": [{"index": 1, "relevance_score": 0.75}], "meta": {"billed_units": {"search_units": 1}}}
)
_OTHERS: Final = _json(
    {"object": "list", "data": [{"index": 1, "relevance_score": 0.75}], "usage": {"total_tokens": 9}}
)
_BY_END: Final[tuple[tuple[str, Callable[[Request], Script]], ...]] = (
    ("/chat/completions", path_player(_PLAN)),
    ("/completions", _completions),
    ("/api/generate", _generate),
    ("/embeddings", obliging),
    ("mbedContent", _gemini_vectors),
    ("mbedContents", _gemini_vectors),
    ("/count_tokens", count_player(COUNTED)),
    ("/input_tokens", count_player(COUNTED)),
    (":countTokens", count_player(COUNTED)),
    ("/v2/rerank", lambda _: _RANKED),
    ("/v1/rerank", lambda _: _OTHERS),
)


def play(request: Request) -> Script:
    """The same text, counts, vectors or ranking in the dialect of the path."""
    path = request.path.partition("?")[0]
    return next((player for end, player in _BY_END if path.endswith(end)), path_player(_PLAN))(request)


# ---- how a reply is read


@dataclasses.dataclass
class Reading:
    """What a client reads of a reply."""

    said: Any
    """Text, vectors, places, or a count."""
    model: str | None = None
    input: int | None = None
    output: int | None = None


def _frames(answer: Answer) -> list[dict[str, Any]]:
    """The JSON of each event of a stream; line ends may be CRLF."""
    blocks = answer.body.decode().replace("\r\n", "\n").split("\n\n")
    assert blocks[-1] == ""
    lines = [line for block in blocks for line in block.split("\n") if line.startswith("data: ")]
    return [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]


def _chat(answer: Answer, streamed: bool) -> Reading:
    if streamed:
        frames = _frames(answer)
        text = "".join(choice["delta"].get("content") or "" for one in frames for choice in one["choices"])
    else:
        frames = [answer.json]
        text = answer.json["choices"][0]["message"]["content"]
    usage = frames[-1]["usage"]
    return Reading(text, frames[-1]["model"], usage["prompt_tokens"], usage["completion_tokens"])


def _texts(answer: Answer, streamed: bool) -> Reading:
    frames = _frames(answer) if streamed else [answer.json]
    text = "".join(choice["text"] for one in frames for choice in one["choices"])
    usage = frames[-1]["usage"]
    return Reading(text, frames[-1]["model"], usage["prompt_tokens"], usage["completion_tokens"])


def _responses(answer: Answer, streamed: bool) -> Reading:
    body = answer.json if not streamed else _frames(answer)[-1]["response"]
    text = "".join(part["text"] for item in body["output"] for part in item["content"])
    return Reading(text, body["model"], body["usage"]["input_tokens"], body["usage"]["output_tokens"])


def _messages(answer: Answer, streamed: bool) -> Reading:
    if not streamed:
        body = answer.json
        text = "".join(block["text"] for block in body["content"])
        return Reading(text, body["model"], body["usage"]["input_tokens"], body["usage"]["output_tokens"])
    frames = {one["type"]: one for one in _frames(answer)}
    text = "".join(one["delta"]["text"] for one in _frames(answer) if one["type"] == "content_block_delta")
    usage = frames["message_delta"]["usage"]
    assert "message_stop" in frames
    return Reading(text, frames["message_start"]["message"]["model"], usage["input_tokens"], usage["output_tokens"])


def _gemini(answer: Answer, streamed: bool) -> Reading:
    array = streamed and answer.headers["content-type"].startswith("application/json")
    frames = answer.json if array else _frames(answer) if streamed else [answer.json]
    text = "".join(
        part.get("text", "")
        for one in frames
        for candidate in one["candidates"]
        for part in candidate["content"]["parts"]
    )
    usage = frames[-1]["usageMetadata"]
    return Reading(text, frames[-1]["modelVersion"], usage["promptTokenCount"], usage["candidatesTokenCount"])


def _vectors(answer: Answer, streamed: bool) -> Reading:
    body = answer.json
    return Reading(len(body["data"]), body["model"], body["usage"]["prompt_tokens"], 0)


def _gemini_batch(answer: Answer, streamed: bool) -> Reading:
    return Reading(len(answer.json["embeddings"]))


def _gemini_one(answer: Answer, streamed: bool) -> Reading:
    assert len(answer.json["embedding"]["values"]) > 1
    return Reading(1)


def _ranks(answer: Answer, streamed: bool) -> Reading:
    return Reading([place["index"] for place in answer.json["results"]])


def _tokens(answer: Answer, streamed: bool) -> Reading:
    return Reading(answer.json.get("input_tokens", answer.json.get("totalTokens")))


# ---- what is asked


@dataclasses.dataclass(frozen=True)
class Asking:
    """One request: its path, and its body."""

    path: str
    body: Mapping[str, Any]


Write = Callable[[str, bool], Asking]
"""(the model's public name, streamed) -> what a client sends."""


@dataclasses.dataclass(frozen=True)
class Way:
    """One kind of call: how it is written at each path, and how it is read."""

    dialect: str
    writers: tuple[Write, ...]
    read: Callable[[Answer, bool], Reading]
    models: tuple[str, ...]
    """The route to a provider of the same dialect, then one to another's."""
    expected: Any = TEXT
    streams: tuple[bool, ...] = (False, True)


def _hello(fields: Mapping[str, Any], *paths: str) -> tuple[Write, ...]:
    """At each path, with the model and the wish to stream in the body."""

    def at(path: str) -> Write:
        def write(model: str, streamed: bool) -> Asking:
            asked = {"stream_options": {"include_usage": True}} if streamed and path.endswith("completions") else {}
            wish = {"stream": True} if streamed else {}
            return Asking(path, {"model": model, **fields, **wish, **asked})

        return write

    return tuple(map(at, paths))


def _azure(fields: Mapping[str, Any], path: str) -> Write:
    """With the model in the path, and another one in the body, which says nothing."""

    def write(model: str, streamed: bool) -> Asking:
        wish = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
        body = {**fields, **wish}
        if streamed:
            body["model"] = "gpt-4o"
        return Asking(f"/openai/deployments/{model}{path}?api-version=2024-10-21", body)

    return write


def _google(body: Mapping[str, Any], whole: str, stream: str = "", prefix: str = "/v1beta") -> Write:
    """With the model and the wish to stream in the path."""
    return lambda model, streamed: Asking(f"{prefix}/models/{model}:{stream if streamed else whole}", body)


_SAID: Final = "Good morning"
_MESSAGES: Final = {"messages": [{"role": "user", "content": _SAID}]}
_CONTENTS: Final = {"contents": [{"role": "user", "parts": [{"text": _SAID}]}]}
_PART: Final = {"content": {"parts": [{"text": _SAID}]}}
_EVENTS, _ARRAY = "streamGenerateContent?alt=sse", "streamGenerateContent"
_DOCUMENTS: Final = {"query": "Which is wet?", "documents": ["sand", "sea"]}

CALLS: Final[Mapping[str, Way]] = {
    "chat": Way(
        "openai_chat",
        (
            *_hello(_MESSAGES, "/v1/chat/completions", "/chat/completions", "/openai/v1/chat/completions"),
            _azure(_MESSAGES, "/chat/completions"),
        ),
        _chat,
        ("chat", "messages"),
    ),
    "responses": Way(
        "openai_responses",
        _hello(
            {"input": _SAID}, "/v1/responses", "/responses", "/openai/v1/responses", "/openai/responses?api-version=x"
        ),
        _responses,
        ("responses", "chat"),
    ),
    "messages": Way(
        "anthropic_messages",
        _hello({**_MESSAGES, "max_tokens": 100}, "/v1/messages?beta=true", "/messages"),
        _messages,
        ("messages", "chat"),
    ),
    "gemini": Way(
        "gemini",
        (
            _google(_CONTENTS, "generateContent", _EVENTS),
            _google(_CONTENTS, "generateContent", _ARRAY),
            _google(_CONTENTS, "generateContent", _ARRAY, "/v1"),
            _google(_CONTENTS, "generateContent", _EVENTS, ""),
            _google(_CONTENTS, "generateContent", _EVENTS, "/v1beta1/publishers/google"),
            _google(_CONTENTS, "generateContent", _EVENTS, "/v1/projects/p/locations/l/publishers/google"),
        ),
        _gemini,
        ("gemini", "chat"),
    ),
    "texts": Way(
        "openai_completions",
        (*_hello({"prompt": _SAID}, "/v1/completions", "/completions"), _azure({"prompt": _SAID}, "/completions")),
        _texts,
        ("texts", "generate"),
    ),
    "vectors": Way(
        "openai_embeddings",
        (*_hello({"input": [_SAID]}, "/v1/embeddings", "/embeddings"), _azure({"input": [_SAID]}, "/embeddings")),
        _vectors,
        ("vectors", "google-vectors"),
        expected=1,
        streams=(False,),
    ),
    "one vector": Way(
        "gemini.embed",
        (_google(_PART, "embedContent"),),
        _gemini_one,
        ("google-vectors", "vectors"),
        expected=1,
        streams=(False,),
    ),
    "batch": Way(
        "gemini.embed",
        (_google({"requests": [{"model": "models/any", **_PART}]}, "batchEmbedContents"),),
        _gemini_batch,
        ("google-vectors", "vectors"),
        expected=1,
        streams=(False,),
    ),
    "messages count": Way(
        "anthropic_messages.count",
        _hello(_MESSAGES, "/v1/messages/count_tokens?beta=true", "/messages/count_tokens"),
        _tokens,
        ("messages", "gemini"),
        expected=COUNTED,
        streams=(False,),
    ),
    "responses count": Way(
        "openai_responses.count",
        _hello({"input": _SAID}, "/v1/responses/input_tokens", "/responses/input_tokens"),
        _tokens,
        ("responses", "messages"),
        expected=COUNTED,
        streams=(False,),
    ),
    "gemini count": Way(
        "gemini.count",
        (_google(_CONTENTS, "countTokens"), _google(_CONTENTS, "countTokens", prefix="/v1")),
        _tokens,
        ("gemini", "messages"),
        expected=COUNTED,
        streams=(False,),
    ),
    "ranks": Way(
        "cohere.rerank",
        _hello(_DOCUMENTS, "/v1/rerank", "/v2/rerank", "/rerank"),
        _ranks,
        ("ranks", "other-ranks"),
        expected=[1],
        streams=(False,),
    ),
}
"""Every call that a client can make, at every path that has it."""


# ---- how a refusal is read


def _openai_error(answer: Answer) -> str:
    (error,) = answer.json.values()
    assert {"message", "type", "param", "code"} <= error.keys()
    return str(error["message"])


def _anthropic_error(answer: Answer) -> str:
    body = answer.json
    assert body["type"] == "error"
    assert body["error"]["type"].endswith("_error") or body["error"]["type"] == "request_too_large"
    return str(body["error"]["message"])


def _gemini_error(answer: Answer) -> str:
    (error,) = answer.json.values()
    assert error["code"] == answer.status
    assert error["status"].isupper()
    return str(error["message"])


def _cohere_error(answer: Answer) -> str:
    return str(answer.json["message"])


REFUSALS: Final[Mapping[str, Callable[[Answer], str]]] = {
    "openai_chat": _openai_error,
    "openai_responses": _openai_error,
    "openai_responses.count": _openai_error,
    "openai_completions": _openai_error,
    "openai_embeddings": _openai_error,
    "anthropic_messages": _anthropic_error,
    "anthropic_messages.count": _anthropic_error,
    "gemini": _gemini_error,
    "gemini.count": _gemini_error,
    "gemini.embed": _gemini_error,
    "cohere.rerank": _cohere_error,
}
"""The message of a refusal, once its shape is the dialect's."""
