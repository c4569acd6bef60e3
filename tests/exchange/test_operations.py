"""Vectors, rankings, counts and texts that go on are attempts like any other: one entry, its numbers the client's."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import pytest

from counterfoil.core.operation import Operation
from counterfoil.dialects.dialect import ClientDialect, MissingUsage, Quirks
from counterfoil.dialects.registry import CLIENT_DIALECTS, DIALECTS
from counterfoil.exchange.call import Call
from counterfoil.exchange.command import Command, Deliver, Finish, Head, Interrupted, Post, Read, Start
from counterfoil.exchange.route import Deployment, Route
from counterfoil.ledger.entry import Exit
from counterfoil.usage.settle import Discrepancy, DiscrepancyKind, Finality
from counterfoil.usage.usage import Bucket, Provenance
from tests.exchange.world import CHAT, Played, World, check_books, deployment, refused

__all__: list[str] = []

EMBEDDINGS = CLIENT_DIALECTS["openai_embeddings"]
COMPLETIONS = CLIENT_DIALECTS["openai_completions"]
SSE, NDJSON, JSON = "text/event-stream", "application/x-ndjson", "application/json"
ESTIMATE = 9

VECTORS: Mapping[str, bytes] = {
    "openai_embeddings": b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,-1.25]},'
    b'{"object":"embedding","index":1,"embedding":[2,0.125]}],"model":"play-1",'
    b'"usage":{"prompt_tokens":6,"total_tokens":6}}',
    "gemini.embed": b'{"embeddings":[{"values":[0.5,-1.25]},{"values":[2,0.125]}],'
    b'"usageMetadata":{"promptTokenCount":6,"totalTokenCount":6}}',
    "cohere.embed": b'{"id":"e","embeddings":{"float":[[0.5,-1.25],[2,0.125]]},"texts":["a","b"],'
    b'"meta":{"api_version":{"version":"2"},"billed_units":{"input_tokens":6}}}',
    "ollama.embed": b'{"model":"play-1","embeddings":[[0.5,-1.25],[2,0.125]],"prompt_eval_count":6}',
    "vertex_predict": b'{"predictions":[{"embeddings":{"values":[0.5,-1.25],"statistics":{"token_count":2}}},'
    b'{"embeddings":{"values":[2,0.125],"statistics":{"token_count":4}}}]}',
}
"""One answer of each dialect that embeds: the same two vectors for six tokens."""
COUNTED: Mapping[str, bytes] = {
    "anthropic_messages.count": b'{"input_tokens":41}',
    "openai_responses.count": b'{"object":"response.input_tokens","input_tokens":41}',
    "gemini.count": b'{"totalTokens":41,"promptTokensDetails":[{"modality":"TEXT","tokenCount":41}]}',
    "bedrock_converse.count": b'{"inputTokens":41}',
}


def _chunk(text: str, finish: str | None, **more: object) -> bytes:
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
    head = {"id": "c", "object": "text_completion", "created": 7, "model": "play-1", "choices": [choice]}
    return msgspec.json.encode({**head, **more})


def _line(text: str, **more: object) -> bytes:
    return msgspec.json.encode({"model": "play-1", "response": text, "done": False, **more})


_USED = {"prompt_tokens": 5, "completion_tokens": 3}
_END = {"done": True, "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 3}
_TURN = [{"role": "user", "content": "How long is this?"}]
HOW_LONG: Mapping[str, dict[str, Any]] = {
    "anthropic_messages.count": {"messages": _TURN},
    "openai_responses.count": {"input": _TURN},
    "gemini.count": {"contents": [{"role": "user", "parts": [{"text": "How long is this?"}]}]},
}
"""What a client of each dialect that counts asks."""
GOES_ON: Mapping[tuple[str, bool], tuple[str, list[bytes]]] = {
    ("openai_completions", True): (
        SSE,
        [
            b"data: %b\n\n" % _chunk("The sea", None),
            b"data: %b\n\n" % _chunk("", "stop", usage=_USED),
            b"data: [DONE]\n\n",
        ],
    ),
    ("openai_completions", False): (JSON, [_chunk("The sea", "stop", usage=_USED)]),
    ("ollama.generate", True): (NDJSON, [_line("The sea") + b"\n", _line("", **_END) + b"\n"]),
    ("ollama.generate", False): (JSON, [_line("The sea", **_END)]),
}
"""One answer of each dialect that goes on with a text: three tokens after five."""


def _asked(
    dialect: ClientDialect[Any], *deployments: Deployment, missing_usage: MissingUsage = "estimate", **body: Any
) -> Call:
    raw = msgspec.json.encode({"model": "house-model", **body})
    route = Route("house-model", deployments, missing_usage=missing_usage)
    return Call("exchange-1", route, dialect, raw, dialect.peek_request(raw), input_estimate=ESTIMATE)


def _answered(*data: bytes, kind: str = JSON) -> Played:
    return Played(Head(200, {"content-type": kind}), [*data, b""])


def _embed(provider: str, **more: Any) -> Call:
    return _asked(EMBEDDINGS, deployment(DIALECTS[provider]), input=["low", "high"], **more)


def _count(client: str, provider: str, **more: Any) -> Call:
    return _asked(CLIENT_DIALECTS[client], deployment(DIALECTS[provider]), **HOW_LONG[client], **more)


# ---- vectors


def test_every_dialect_that_embeds_has_an_answer_here() -> None:
    assert VECTORS.keys() == {name for name, one in DIALECTS.items() if one.operation is Operation.EMBED}
    assert COUNTED.keys() == {name for name, one in DIALECTS.items() if one.operation is Operation.COUNT}


@pytest.mark.parametrize("provider", VECTORS)
@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_vectors_reach_the_client_and_the_books_whoever_made_them(
    provider: str, encoding: Literal["float", "base64"] | None
) -> None:
    body = VECTORS[provider]
    if provider == EMBEDDINGS.name and encoding == "base64":
        packed = base64.b64encode(struct.pack("<2f", 0.5, -1.25)), base64.b64encode(struct.pack("<2f", 2, 0.125))
        body = body.replace(b"[0.5,-1.25]", b'"%b"' % packed[0]).replace(b"[2,0.125]", b'"%b"' % packed[1])
    world = World(_answered(body[:31], body[31:]))
    world.run(_embed(provider, encoding_format=encoding))
    check_books(world.log)
    entry, told = world.entry, msgspec.json.decode(world.sent)
    assert entry.exit is Exit.COMPLETED
    assert (entry.usage.input_tokens, entry.usage.output_tokens) == (6, 0)
    assert entry.usage.vouched([Bucket.INPUT]) is Provenance.REPORTED
    assert entry.usage.vouched([Bucket.OUTPUT]) is Provenance.DERIVED
    assert (entry.cost, entry.finality, entry.discrepancies) == (6, Finality.FINAL, ())
    assert (told["model"], told["usage"]) == ("house-model", {"prompt_tokens": 6, "total_tokens": 6})
    vectors = [item["embedding"] for item in told["data"]]
    if encoding == "base64":
        vectors = [list(struct.unpack("<2f", base64.b64decode(vector))) for vector in vectors]
    assert vectors == [[0.5, -1.25], [2, 0.125]]
    (start,) = [command for command in world.log if isinstance(command, Start)]
    assert start.headers["content-type"] == "application/json"


@pytest.mark.parametrize("provider", VECTORS)
def test_another_number_of_vectors_than_of_inputs_is_said_in_the_books_and_passed_on(provider: str) -> None:
    world = World(_answered(VECTORS[provider]))
    world.run(_asked(EMBEDDINGS, deployment(DIALECTS[provider]), input=["low", "high", "turning"]))
    check_books(world.log)
    assert world.entry.exit is Exit.COMPLETED
    assert world.entry.discrepancies == (Discrepancy(DiscrepancyKind.VECTOR_COUNT, reported=2, expected=3),)
    assert len(msgspec.json.decode(world.sent)["data"]) == 2


@pytest.mark.parametrize(
    ("inputs", "expected"), [("low", 1), ([1, 2, 3], 1), (["low", "high"], 2), ([[1, 2], [3], [4]], 3), ([[]], 1)]
)
def test_the_vectors_that_a_client_asks_for_are_counted_without_reading_its_texts(inputs: Any, expected: int) -> None:
    assert EMBEDDINGS.peek_request(msgspec.json.encode({"model": "m", "input": inputs})).inputs == expected


def test_vectors_that_nobody_counted_are_estimated_from_the_request_alone() -> None:
    world = World(_answered(b'{"embeddings":[[1],[2]]}'))
    world.run(_embed("ollama.embed"))
    usage = world.entry.usage
    assert (usage.input_tokens, usage.output_tokens) == (ESTIMATE, 0)
    assert usage.vouched([Bucket.INPUT]) is Provenance.ESTIMATED
    assert usage.vouched([Bucket.OUTPUT]) is Provenance.DERIVED
    told = msgspec.json.decode(world.sent)["usage"]
    assert told == {"prompt_tokens": ESTIMATE, "total_tokens": ESTIMATE, "estimated": True}


@pytest.mark.parametrize(("missing", "status"), [("null", 200), ("error", 502)])
def test_what_is_done_about_a_missing_count_is_the_routes_to_say(missing: MissingUsage, status: int) -> None:
    world = World(_answered(b'{"embeddings":[[1],[2]]}'))
    world.run(_embed("ollama.embed", missing_usage=missing))
    assert world.status == status
    assert "usage" not in msgspec.json.decode(world.sent)


@pytest.mark.parametrize("provider", ["openai_embeddings", "gemini.embed"])
def test_half_a_body_is_no_reply_and_what_it_used_is_a_guess(provider: str) -> None:
    world = World(_answered(VECTORS[provider][:60]))
    world.run(_embed(provider))
    check_books(world.log)
    assert world.entry.exit is Exit.FAILED
    assert world.entry.usage.estimated
    assert (world.entry.usage.input_tokens, world.entry.usage.output_tokens) == (ESTIMATE, 0)
    assert world.status == 502


def test_a_client_that_hangs_up_before_its_vectors_is_booked_as_gone() -> None:
    def gone(number: int, command: Command) -> Interrupted | None:
        return Interrupted(Exit.CLIENT_GONE) if isinstance(command, Read) else None

    world = World(_answered(VECTORS["openai_embeddings"]), interrupt=gone)
    world.run(_embed("openai_embeddings"))
    check_books(world.log)
    assert world.entry.exit is Exit.CLIENT_GONE
    assert (world.entry.usage.input_tokens, world.entry.usage.output_tokens) == (ESTIMATE, 0)
    assert not world.all(Deliver)


def test_a_refusal_to_embed_uses_nothing_and_reaches_the_client_in_its_dialect() -> None:
    world = World(refused(404, b'{"error":"model \'play-1\' not found"}'))
    world.run(_embed("ollama.embed"))
    assert world.entry.exit is Exit.REJECTED
    assert world.entry.lines == ()
    assert world.status == 404
    assert msgspec.json.decode(world.sent)["error"]["code"] == "model_not_found"


def test_a_provider_without_the_operation_is_never_asked() -> None:
    world = World()
    world.run(_asked(EMBEDDINGS, deployment(CHAT), input="low"))
    assert world.log
    assert not world.all(Post)
    assert world.status == 400
    assert msgspec.json.decode(world.sent)["error"]["code"] == "operation_not_supported"


def test_what_a_provider_cannot_be_told_is_named_where_dropping_is_allowed() -> None:
    provider = deployment(DIALECTS["ollama.embed"], drop=True)
    world = World(_answered(VECTORS["ollama.embed"]))
    world.run(_asked(EMBEDDINGS, provider, input=["low", "high"], input_type="query"))
    (start,) = [command for command in world.log if isinstance(command, Start)]
    assert start.headers["x-counterfoil-dropped"] == "input_type"
    world = World()
    world.run(_asked(EMBEDDINGS, deployment(DIALECTS["ollama.embed"]), input=["low"], input_type="query"))
    assert world.status == 400
    assert not world.all(Post)


# ---- counts


@pytest.mark.parametrize("provider", COUNTED)
@pytest.mark.parametrize("client", [name for name in HOW_LONG if name in CLIENT_DIALECTS])
@pytest.mark.parametrize("missing", ["estimate", "error"])
def test_a_count_is_answered_and_uses_and_costs_nothing(client: str, provider: str, missing: MissingUsage) -> None:
    world = World(_answered(COUNTED[provider]))
    world.run(_count(client, provider, missing_usage=missing))
    check_books(world.log)
    entry = world.entry
    assert world.status == 200
    told = msgspec.json.decode(world.sent)
    assert told.get("input_tokens", told.get("totalTokens")) == 41
    assert entry.exit is Exit.COMPLETED
    assert (entry.usage.input_tokens, entry.usage.output_tokens, entry.cost) == (0, 0, 0)
    assert entry.opening.free
    assert entry.delivered is None
    assert not entry.discrepancies


def test_what_asks_nothing_and_stays_behind_is_named_in_every_operation() -> None:
    edits = {"edits": [{"type": "clear_tool_uses_20250919"}]}
    world = World(_answered(COUNTED["gemini.count"]))
    world.run(_count("anthropic_messages.count", "gemini.count", context_management=edits))
    (start,) = [command for command in world.log if isinstance(command, Start)]
    assert start.headers["x-counterfoil-dropped"] == "context_management"


@pytest.mark.parametrize("provider", COUNTED)
def test_a_count_that_never_came_has_used_nothing_either(provider: str) -> None:
    world = World(_answered(COUNTED[provider][:9]))
    world.run(_count("anthropic_messages.count", provider))
    check_books(world.log)
    assert world.entry.exit is Exit.FAILED
    assert (world.entry.usage.input_tokens, world.entry.usage.output_tokens, world.entry.cost) == (0, 0, 0)


# ---- rankings


RANKED: Mapping[str, bytes] = {
    "cohere.rerank": b'{"id":"r","results":[{"index":1,"relevance_score":0.9},{"index":0,"relevance_score":0.1}],'
    b'"meta":{"billed_units":{"search_units":1}}}',
    "voyage.rerank": b'{"object":"list","data":[{"index":1,"relevance_score":0.9},{"index":0,"relevance_score":0.1}],'
    b'"model":"play-1","usage":{"total_tokens":12}}',
}


@pytest.mark.parametrize("provider", RANKED)
def test_a_ranking_reaches_the_client_and_has_no_output(provider: str) -> None:
    client = CLIENT_DIALECTS["cohere.rerank"]
    world = World(_answered(RANKED[provider]))
    world.run(_asked(client, deployment(DIALECTS[provider]), query="tide", documents=["sand", "sea"]))
    check_books(world.log)
    assert world.entry.exit is Exit.COMPLETED
    assert world.entry.usage.output_tokens == 0
    assert [item["index"] for item in msgspec.json.decode(world.sent)["results"]] == [1, 0]


# ---- texts that go on


@pytest.mark.parametrize(("provider", "streamed"), GOES_ON)
@pytest.mark.parametrize("asked", [True, False])
def test_a_text_goes_on_whoever_writes_it(provider: str, streamed: bool, asked: bool) -> None:
    kind, data = GOES_ON[provider, streamed]
    world = World(_answered(*data, kind=kind))
    options: dict[str, Any] = {"stream_options": {"include_usage": asked}} if streamed else {}
    world.run(_asked(COMPLETIONS, deployment(DIALECTS[provider]), prompt="Once", stream=streamed, **options))
    check_books(world.log)
    assert world.entry.exit is Exit.COMPLETED
    assert (world.entry.usage.input_tokens, world.entry.usage.output_tokens, world.entry.cost) == (5, 3, 8)
    if not streamed:
        told = msgspec.json.decode(world.sent)
        assert (told["model"], told["choices"][0]["text"], told["usage"]["total_tokens"]) == (
            "house-model",
            "The sea",
            8,
        )
        return
    assert world.sent.endswith(b"data: [DONE]\n\n")
    frames = world.frames
    texts = [choice["text"] for frame in frames for choice in frame["choices"]]  # type: ignore[attr-defined]  # a list
    assert "".join(texts) == "The sea"
    usages = [frame["usage"] for frame in frames if frame.get("usage")]
    assert usages == ([{"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}] if asked else [])
    assert {frame["model"] for frame in frames} == {"house-model"}


@pytest.mark.parametrize("provider", ["openai_completions", "ollama.generate"])
def test_a_text_that_stops_short_is_told_as_an_error_and_its_output_is_estimated(provider: str) -> None:
    kind, data = GOES_ON[provider, True]
    world = World(_answered(data[0], kind=kind))
    world.run(_asked(COMPLETIONS, deployment(DIALECTS[provider]), prompt="Once", stream=True))
    check_books(world.log)
    assert world.entry.exit is Exit.TRUNCATED
    assert world.entry.usage.estimated
    assert (world.entry.usage.output_tokens or 0) > 0
    assert b'"error"' in world.sent
    assert b"[DONE]" not in world.sent


def _of_prompt(index: int, read: int, wrote: int) -> bytes:
    usage = {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}
    block = _chunk("x", "stop", usage=usage).replace(b'"index":0', b'"index":%d' % index)
    return b"data: %b\n\n" % block


def test_the_prompts_that_llama_cpp_reports_apart_add_up() -> None:
    local = deployment(COMPLETIONS, quirks=Quirks(usage_per_choice=True))
    blocks = [_of_prompt(1, 17, 4), _of_prompt(0, 6, 4), b"data: [DONE]\n\n"]
    world = World(_answered(*blocks, kind=SSE))
    world.run(_asked(COMPLETIONS, local, prompt=["short", "long"], stream=True))
    check_books(world.log)
    assert (world.entry.usage.input_tokens, world.entry.usage.output_tokens) == (23, 8)
    assert not world.entry.discrepancies
    twice = [_of_prompt(index, 6 if index < 2 else 17, 3) for index in range(4)]
    world = World(_answered(*twice, b"data: [DONE]\n\n", kind=SSE))
    world.run(_asked(COMPLETIONS, local, prompt=["short", "long"], n=2, stream=True))
    assert (world.entry.usage.input_tokens, world.entry.usage.output_tokens) == (23, 12)


def test_each_prompt_times_n_is_waited_for() -> None:
    blocks = [b"data: %b\n\n" % _chunk("x", "stop").replace(b'"index":0', b'"index":%d' % index) for index in range(4)]
    begun = blocks[3].replace(b'"stop"', b"null")
    broken = Played(Head(200, {"content-type": SSE}), [*blocks[:3], Interrupted(Exit.TRUNCATED)])
    for some in (broken, _answered(*blocks[:3], begun, kind=SSE)):
        world = World(some)
        world.run(_asked(COMPLETIONS, deployment(COMPLETIONS), prompt=["a", "b"], n=2, stream=True))
        assert world.entry.exit is Exit.TRUNCATED
    every = World(_answered(*blocks, kind=SSE))
    every.run(_asked(COMPLETIONS, deployment(COMPLETIONS), prompt=["a", "b"], n=2, stream=True))
    assert every.entry.exit is Exit.COMPLETED
    assert every.all(Finish)
