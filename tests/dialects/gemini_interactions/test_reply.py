"""What an interaction says, streamed and whole, and what it used."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.error import FailureKind, RequestError
from counterfoil.core.event import (
    ChoiceFinished,
    FinishReason,
    ReasoningSigned,
    ReplyFailed,
    ReplyStarted,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from counterfoil.dialects.gemini.reply import ORIGIN
from counterfoil.dialects.gemini_interactions import GEMINI_INTERACTIONS
from counterfoil.framing.frame import Frame
from counterfoil.usage.usage import Bucket

from ..gemini.support import PLAIN, Decoded, asked, joined
from ..gemini.support import decode as decode_any

HEAD = {"id": "v1_made", "status": "in_progress", "object": "interaction", "model": "gemini-made-1"}
USAGE = {
    "total_tokens": 40,
    "total_input_tokens": 11,
    "total_cached_tokens": 3,
    "total_output_tokens": 9,
    "total_tool_use_tokens": 7,
    "total_thought_tokens": 13,
    "input_tokens_by_modality": [{"modality": "text", "tokens": 5}, {"modality": "audio", "tokens": 6}],
}
THOUGHT = {"type": "thought", "signature": "c2ln", "summary": [{"type": "text", "text": "Hm."}]}
OUTPUT = {"type": "model_output", "content": [{"type": "text", "text": "High at six."}]}
CALL = {"type": "function_call", "id": "fc-1", "name": "tide", "arguments": {"port": "Brest"}}


def decode(body: bytes, *, streamed: bool = True) -> Decoded:
    return decode_any(body, streamed=streamed, dialect=GEMINI_INTERACTIONS)


def whole(status: str = "completed", *steps: dict[str, Any], **more: Any) -> Decoded:
    said = {**HEAD, "status": status, "steps": list(steps), "usage": USAGE, **more}
    return decode(json.dumps(said).encode(), streamed=False)


def event(name: str, **fields: Any) -> str:
    said = {**fields, "event_type": name}
    return f"event: {name}\ndata: {json.dumps(said)}\n\n"


def stream(*events: str, done: bool = True) -> Decoded:
    return decode(("".join(events) + ("event: done\ndata: [DONE]\n\n" if done else "")).encode())


def step(index: int, kind: dict[str, Any], *deltas: dict[str, Any]) -> str:
    said = [event("step.delta", index=index, delta=delta) for delta in deltas]
    return event("step.start", index=index, step=kind) + "".join(said) + event("step.stop", index=index)


CREATED = event("interaction.created", interaction=HEAD)
COMPLETED = event("interaction.completed", interaction={**HEAD, "status": "completed", "usage": USAGE})
STREAM = (
    CREATED,
    step(
        0,
        {"type": "thought"},
        {"type": "thought_summary", "content": {"type": "text", "text": "Hm."}},
        {"type": "thought_signature", "signature": ""},
        {"type": "thought_signature", "signature": "c2ln"},
    ),
    step(1, {"type": "model_output"}, {"type": "text", "text": "High "}, {"type": "text", "text": "at six."}),
    step(
        2,
        {"type": "function_call", "id": "fc-1", "name": "tide", "arguments": {}},
        {"type": "arguments_delta", "arguments": '{"port":'},
        {"type": "arguments_delta", "arguments": '"Brest"}'},
    ),
    COMPLETED,
)


def test_a_stream_and_the_whole_interaction_say_the_same() -> None:
    streamed, body = stream(*STREAM), whole("completed", THOUGHT, OUTPUT, CALL)
    assert (streamed.text, streamed.reasoning, streamed.tools) == (body.text, body.reasoning, body.tools)
    assert body.tools == [("fc-1", "tide", {"port": "Brest"})]
    assert streamed.reading.scopes == body.reading.scopes
    kinds = [type(one) for one in joined(streamed.events) if not isinstance(one, ToolArgumentsDelta)]
    assert kinds == [type(one) for one in joined(body.events) if not isinstance(one, ToolArgumentsDelta)]
    assert streamed.of(ReplyStarted) == [ReplyStarted("v1_made", "gemini-made-1")]
    for said in (streamed, body):
        assert [(one.signature, one.origin) for one in said.of(ReasoningSigned)] == [("c2ln", ORIGIN)]
    late = event(
        "interaction.completed", interaction={**HEAD, "status": "completed", "steps": [OUTPUT], "usage": USAGE}
    )
    assert joined(stream(late).events) == joined(whole("completed", OUTPUT).events)
    for found in (streamed, body):
        assert found.of(ChoiceFinished) == [ChoiceFinished(FinishReason.TOOL_CALLS, 0, "completed")]
        assert found.ended
        assert found.done


def test_a_call_has_its_own_proof_and_says_it_before_itself() -> None:
    found = whole("completed", {**CALL, "signature": "c2ln"})
    assert found.events[1:3] == (ReasoningSigned("c2ln", origin=ORIGIN), ToolCallStarted(0, "fc-1", "tide"))


def test_usage_is_geminis_under_other_names() -> None:
    found = whole("completed", OUTPUT).settled(GEMINI_INTERACTIONS)
    assert (found.usage.input_tokens, found.usage.output_tokens) == (18, 22)
    assert (found.usage.reasoning_tokens, found.usage.cache_read_tokens) == (13, 3)
    assert found.usage.buckets[Bucket.INPUT_AUDIO] == 6
    assert found.provider_total == 40
    assert not found.discrepancies


def test_usage_beside_an_event_counts_until_a_later_one() -> None:
    early = {"total_input_tokens": 11, "total_output_tokens": 0, "total_thought_tokens": 13, "total_tokens": 24}
    head = event("interaction.created", interaction=HEAD, metadata={"usage": early})
    cut = stream(head, done=False)
    assert cut.settled(GEMINI_INTERACTIONS).usage.total_tokens == 24
    assert not cut.ended
    other = event(
        "interaction.status_update",
        interaction_id="v1",
        status="in_progress",
        usage={**early, "total_output_tokens": 2, "total_tokens": 26},
    )
    assert stream(head, other, done=False).settled(GEMINI_INTERACTIONS).usage.output_tokens == 15
    later = event("step.delta", index=0, delta={"type": "text", "text": "x"}, metadata={"total_usage": USAGE})
    assert stream(head, later, done=False).settled(GEMINI_INTERACTIONS).usage.total_tokens == 40
    assert stream(head, COMPLETED).settled(GEMINI_INTERACTIONS).usage.total_tokens == 40


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("completed", FinishReason.STOP),
        ("requires_action", FinishReason.TOOL_CALLS),
        ("incomplete", FinishReason.LENGTH),
        ("cancelled", FinishReason.UNKNOWN),
        ("in_progress", FinishReason.PAUSED),
        ("a_new_word", FinishReason.UNKNOWN),
    ],
)
def test_where_it_stands_is_how_it_ends(status: str, reason: FinishReason) -> None:
    assert whole(status, OUTPUT).of(ChoiceFinished) == [ChoiceFinished(reason, 0, status)]


def test_one_that_failed_is_a_failure_and_keeps_its_usage() -> None:
    found = whole("failed", OUTPUT, errors=[{"code": "internal", "message": "It broke."}])
    (failed,) = found.of(ReplyFailed)
    assert (failed.failure.kind, failed.failure.message) == (FailureKind.PROVIDER_ERROR, "It broke.")
    assert found.settled(GEMINI_INTERACTIONS).usage.total_tokens == 40
    assert not found.ended


def test_an_error_event_fails_a_stream() -> None:
    found = stream(CREATED, event("error", error={"code": "unavailable", "message": "Later."}), done=False)
    (failed,) = found.of(ReplyFailed)
    assert failed.failure.message == "Later."
    assert not found.ended


def test_the_older_events_are_read_too() -> None:
    call = {"type": "function_call", "id": "a", "name": "tide", "arguments": {"b": 1}}
    found = stream(
        event("interaction.start", interaction=HEAD),
        event("content.start", index=0, content={"type": "text"}),
        event("content.delta", index=0, delta={"type": "text", "text": "High."}),
        event("content.stop", index=0),
        event("content.delta", index=1, delta=call),
        event("interaction.complete", interaction={**HEAD, "status": "requires_action", "usage": USAGE}),
    )
    assert (found.text, found.tools) == ("High.", [("a", "tide", {"b": 1})])
    assert found.ended
    older = {**HEAD, "status": "completed", "outputs": [{"type": "text", "text": "High."}], "usage": USAGE}
    assert decode(json.dumps(older).encode(), streamed=False).text == "High."


def test_what_only_this_wire_knows_comes_out_word_for_word() -> None:
    search = {"type": "google_search_call", "id": "s", "arguments": {"queries": ["tide"]}}
    assert whole("completed", search).opaque == [("google_search_call", search)]
    picture = {"type": "image", "data": "AAAA", "mime_type": "image/png"}
    assert stream(CREATED, step(0, {"type": "model_output"}, picture)).opaque == [("image", picture)]


@pytest.mark.parametrize("body", [b"{}", b"[]", b"", b"<html>", b'{"steps":5}'])
def test_a_body_that_is_none_is_a_bad_reply(body: bytes) -> None:
    decoder = GEMINI_INTERACTIONS.decoder(False, 1, PLAIN)
    (failed,) = decoder.feed(Frame(body))
    assert isinstance(failed, ReplyFailed)
    assert failed.failure.kind is FailureKind.BAD_REPLY


def test_it_is_metered_and_never_called() -> None:
    with pytest.raises(RequestError, match="metered here and cannot be called"):
        GEMINI_INTERACTIONS.write_request(asked(), "gemini-made-1", PLAIN, True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["interaction", "step", "delta", "content", "summary", "steps", "usage", "metadata", "error", "id"]
)
TYPES = st.sampled_from(
    ["text", "thought", "model_output", "function_call", "arguments_delta", "step.start", "step.delta", "error",
     "interaction.created", "interaction.completed", "completed", "failed"]
)  # fmt: skip
WORDS = st.sampled_from(["event_type", "type", "status", "name", "arguments", "text"])
NEARLY = st.recursive(
    st.dictionaries(WORDS, TYPES, max_size=3),
    lambda inner: st.dictionaries(KEYS | WORDS, inner | TYPES | st.lists(inner, max_size=2) | JSON, max_size=5),
    max_leaves=6,
)


@given(st.lists(NEARLY, max_size=5), st.booleans())
def test_nothing_a_provider_may_send_raises(frames: list[Any], streamed: bool) -> None:
    decoder = GEMINI_INTERACTIONS.decoder(streamed, 1, PLAIN)
    for frame in frames:
        decoder.feed(Frame(json.dumps(frame).encode()))
    assert decoder.close() == ()
