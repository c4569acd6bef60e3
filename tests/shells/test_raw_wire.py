"""Promise: every frame the gateway writes is what the published schema and real readers expect, byte for byte."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.openai_chat import OPENAI_CHAT
from counterfoil.exchange.recorded import read_reply
from counterfoil.ledger.entry import Exit
from counterfoil.testing import (
    CHAT_SHAPES,
    ChatReply,
    ChatShape,
    Counts,
    MessagesReply,
    Script,
    chat_reply,
    error_answer,
)
from tests import wire
from tests.dialects.readers import CHAT_READERS, Counted, chunks_of
from tests.shells.clients import ASKED, MESSAGES, ODDITIES, TOOLS, Stage, booked, model_for, plan_of, staged
from tests.shells.gateway import Answer

# Mistral's lists of parts are carried as the provider sent them, and the schema knows no such content.
STREAMS: dict[str, tuple[str, Script, int]] = {
    **{
        f"{shape}, {oddity}": (
            model_for(plan_of(oddity, shape=shape)),
            plan_of(oddity, shape=shape).script(),
            ODDITIES[oddity].n,
        )
        for shape, oddity in itertools.product(CHAT_SHAPES, ODDITIES)
    },
    **{
        f"anthropic, {name}": ("claude", plan.script(), 1)
        for name, plan in {
            "text": MessagesReply(),
            "thinking": MessagesReply(thinking="High or low?", redacted="ZW5jcnlwdGVk"),
            "tools": MessagesReply(text="", tools=TOOLS),
        }.items()
    },
}
"""The route, what the provider sends, and how many choices were asked for."""
DELIVERIES = {
    name: STREAMS[name]
    for name in (
        "separate, plain",
        "every_chunk, everything odd",
        "repeated, tools",
        "per_choice, two choices",
        "anthropic, thinking",
    )
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("stage")) as running:
        yield running


def post(stage: Stage, model: str, script: Script, **more: Any) -> tuple[str, Answer]:
    """One request over a plain socket, and the ticket it was made on."""
    ticket = stage.put(script)
    return ticket, stage.gateway.post({"model": model, "messages": MESSAGES, "user": ticket, **more})


@functools.cache
def schema(name: str) -> Any:
    """A validator for one of the published schemas; skips where they are absent."""
    directory = wire.shared()
    if directory is None:
        pytest.skip("the published schemas are not beside this checkout (../shared/spec)")
    document = json.loads((directory / "spec" / "openai.json").read_bytes())
    whole = {"$ref": f"#/components/schemas/{name}", "components": _nullable(document["components"])}
    return jsonschema.Draft202012Validator(whole)


def _nullable(value: Any) -> Any:
    """The document says `nullable` as OpenAPI 3.0 did; a JSON schema says it with a type."""
    if isinstance(value, list):
        return [_nullable(item) for item in value]
    if not isinstance(value, dict):
        return value
    said = {key: _nullable(item) for key, item in value.items() if key != "nullable"}
    return {"anyOf": [said, {"type": "null"}]} if value.get("nullable") is True else said


def test_the_schemas_are_strict_enough_to_refuse_what_clients_refuse() -> None:
    valid = schema("CreateChatCompletionStreamResponse").is_valid
    frame = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": None}
    assert valid(frame)
    assert not valid({**frame, "choices": None})
    assert not valid({key: value for key, value in frame.items() if key != "choices"})
    assert not valid({**frame, "usage": {"prompt_tokens": 1}})
    assert not valid({**frame, "choices": [{"index": 0, "delta": {}}]})
    assert not valid(
        {**frame, "choices": [{"index": 0, "delta": {"tool_calls": [{"id": "a"}]}, "finish_reason": None}]}
    )


# --- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_of_the_one_shape_that_all_clients_count_once(stage: Stage, name: str, asked: bool) -> None:
    model, script, n = STREAMS[name]
    ticket, answer = post(stage, model, script, n=n, **(ASKED if asked else {"stream": True}))
    chunks = chunks_of(answer.body)  # which refuses CR, `event:` lines, comments inside a block, two lines of data
    assert answer.status == 200
    assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert answer.body.endswith(b"\n\ndata: [DONE]\n\n")
    assert answer.body.count(b"[DONE]") == 1
    assert len({(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert chunks[0]["model"] == model
    assert chunks[0]["object"] == "chat.completion.chunk"
    _, entry = stage.once(ticket)
    counts = booked(entry)
    expected = Counted(counts.input, counts.output) if asked else Counted(None, None)
    assert {who: read(chunks, asked) for who, read in CHAT_READERS.items()} == dict.fromkeys(CHAT_READERS, expected)
    if asked:
        assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1]["choices"] == []
        assert all(chunk["choices"] for chunk in chunks[:-1])
    else:
        assert not any("usage" in chunk for chunk in chunks)
        assert all(chunk["choices"] for chunk in chunks)


@pytest.mark.parametrize("name", STREAMS)
def test_every_frame_of_a_stream_validates_against_the_published_schema(stage: Stage, name: str) -> None:
    validator = schema("CreateChatCompletionStreamResponse")
    model, script, n = STREAMS[name]
    _, answer = post(stage, model, script, n=n, **ASKED)
    for chunk in chunks_of(answer.body):
        validator.validate(chunk)


@pytest.mark.parametrize("name", [name for name in STREAMS if "tools" in name])
def test_tool_deltas_name_their_call_once_and_always_their_index(stage: Stage, name: str) -> None:
    model, script, n = STREAMS[name]
    _, answer = post(stage, model, script, n=n, stream=True)
    seen: dict[tuple[int, int], str] = {}
    for chunk in chunks_of(answer.body):
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls") or ():
                place = (choice["index"], call["index"])
                assert ("id" in call) is ("name" in call["function"]) is (place not in seen)
                seen.setdefault(place, call.get("id", ""))
    assert {choice for choice, _ in seen} == set(range(n))
    for one in range(n):
        identities = [identity for (choice, _), identity in seen.items() if choice == one]
        assert len(set(identities)) == len(identities) == len(TOOLS)


def test_the_reader_that_takes_an_empty_choices_for_the_usage_chunk_finds_it_last_and_once(stage: Stage) -> None:
    """As Dify does: `len(choices) == 0` is the usage chunk, and the reply is over with it."""
    for shape in CHAT_SHAPES:
        ticket, answer = post(stage, "m", chat_reply(shape=shape, azure=True), **ASKED)
        chunks = [json.loads(frame) for frame in answer.frames if frame != "[DONE]"]
        assert [place for place, chunk in enumerate(chunks) if len(chunk["choices"]) == 0] == [len(chunks) - 1]
        counts = booked(stage.once(ticket)[1])
        usage = chunks[-1]["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (counts.input, counts.output)


# --- fragments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delivery", ["bytes", "whole"])
@pytest.mark.parametrize("name", DELIVERIES)
def test_a_byte_a_segment_or_all_in_one_changes_nothing(stage: Stage, name: str, delivery: Any) -> None:
    model, script, n = DELIVERIES[name]
    results = []
    for sent in (script, script.delivered(delivery)):
        ticket, answer = post(stage, model, sent, n=n, **ASKED)
        served, entry = stage.once(ticket)
        identity = served.reply_id.encode()
        results.append((answer.body.replace(identity, b""), booked(entry), entry.exit, entry.reading))
    assert results[0] == results[1]


@pytest.mark.parametrize("framing", ["close", "length"])
def test_how_the_provider_frames_its_http_body_changes_nothing(stage: Stage, framing: Any) -> None:
    ticket, answer = post(stage, "m", chat_reply().framed(framing), **ASKED)
    assert chunks_of(answer.body)[-1]["choices"] == []
    assert stage.once(ticket)[1].exit is Exit.COMPLETED


# --- whole replies and errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ODDITIES, "anthropic"])
def test_a_whole_reply_validates_against_the_published_schema(stage: Stage, name: str) -> None:
    validator = schema("CreateChatCompletionResponse")
    if name == "anthropic":
        plan = MessagesReply(stream=False, thinking="High or low?", tools=TOOLS)
        ticket, answer = post(stage, "claude", plan.script())
    else:
        ticket, answer = post(stage, "m", plan_of(name, stream=False).script(), n=ODDITIES[name].n)
    validator.validate(answer.json)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["usage"]["total_tokens"] == booked(stage.once(ticket)[1]).total


@pytest.mark.parametrize("model", ["m", "claude"])
def test_an_error_validates_against_the_published_schema(stage: Stage, model: str) -> None:
    validator = schema("ErrorResponse")
    dialect: Any = "chat" if model == "m" else "messages"
    _, refused = post(stage, model, error_answer(400, dialect=dialect))
    _, unknown = post(stage, "nobody", error_answer(400))
    for answer in (refused, unknown):
        validator.validate(answer.json)
        assert answer.error["message"]


def test_an_error_in_a_stream_is_its_last_frame_and_no_end_mark_follows(stage: Stage) -> None:
    validator = schema("ErrorResponse")
    for script in (chat_reply(error="plain"), chat_reply(error="groq"), chat_reply().cut_at(4)):
        _, answer = post(stage, "m", script, **ASKED)
        assert b"[DONE]" not in answer.body
        assert b"\nevent:" not in answer.body
        validator.validate(json.loads(answer.frames[-1]))


# --- choices that are counted apart ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3])
def test_choices_with_a_usage_each_settle_to_the_sum_of_completions_and_the_prompt_once(n: int) -> None:
    usage = Counts(input=31, output=25, cache_read=12)
    script = ChatReply(n=n, shape="per_choice", usage=usage).script()
    said = [json.loads(frame.data[6:])["usage"] for frame in script.frames if frame.reported]
    read = read_reply(
        [script.body], OPENAI_CHAT, streamed=True, quirks=Quirks(usage_per_choice=True), choices=n
    ).settlement.usage
    assert read.input_tokens == 31
    assert read.cache_read_tokens == 12
    assert read.output_tokens == sum(one["completion_tokens"] for one in said) == 25
    assert read.total_tokens == 56


@pytest.mark.parametrize("shape", CHAT_SHAPES)
def test_that_quirk_changes_nothing_where_there_is_one_choice(shape: ChatShape) -> None:
    script = dataclasses.replace(ChatReply(), shape=shape).script()
    plain, quirky = (
        read_reply([script.body], OPENAI_CHAT, streamed=True, quirks=Quirks(usage_per_choice=quirk)).settlement.usage
        for quirk in (False, True)
    )
    assert plain == quirky
