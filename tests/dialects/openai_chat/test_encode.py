"""Promise: what a chat client reads is exactly the shape that every client counts once (WIRE.md 3)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jsonschema
import msgspec
import pytest

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.core.event import (
    ChoiceFinished,
    Event,
    FinishReason,
    LogprobsGiven,
    OpaqueGiven,
    ReasoningDelta,
    ReasoningSigned,
    RedactedReasoningGiven,
    RefusalDelta,
    ReplyFailed,
    ReplyStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.dialects.dialect import FinalUsage, Quirks, ReplyFacts
from counterfoil.dialects.openai_chat.encode import ChatEncoder
from counterfoil.usage.reading import Counter, Report
from counterfoil.usage.usage import Bucket, Usage
from tests import wire
from tests.dialects.openai_chat.recordings import decode_bytes, recordings
from tests.dialects.readers import CHAT_READERS, Counted, chunks_of

USAGE = Usage({Bucket.INPUT: 10, Bucket.CACHE_READ: 3, Bucket.OUTPUT: 4, Bucket.REASONING: 2})
FINAL = FinalUsage(USAGE)
WRITTEN = {
    "prompt_tokens": 13,
    "completion_tokens": 6,
    "total_tokens": 19,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
LOGPROBS = {"content": [{"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": []}], "refusal": None}


def facts(*, streamed: bool = True, asked: bool = True, choices: int = 1) -> ReplyFacts:
    return ReplyFacts("ours-1", 1_700_000_000, "house/boat", streamed, asked, choices)


def stream(events: Sequence[Event], *, asked: bool = True, final: FinalUsage = FINAL) -> bytes:
    encoder = ChatEncoder(facts(asked=asked))
    return b"".join([*(encoder.encode([event]) for event in events), encoder.close(final)])


def whole(events: Sequence[Event], final: FinalUsage = FINAL) -> Any:
    encoder = ChatEncoder(facts(streamed=False))
    assert encoder.encode(events) == b""
    return json.loads(encoder.close(final))


def deltas(events: Sequence[Event]) -> list[dict[str, Any]]:
    """The deltas of the chunks that have choices."""
    return [said["choices"][0]["delta"] for said in chunks_of(stream(events)) if said["choices"]]


TALK: list[Event] = [
    ReplyStarted("msg_1", "boat-large", 1_700_000_500),
    ReasoningDelta("The tide "),
    ReasoningDelta("turns."),
    ReasoningSigned("sig-1"),
    RedactedReasoningGiven("b64-2"),
    TextDelta("Low tide "),
    TextDelta('at "noon" ☀.'),
    ToolCallStarted(0, "toolu_1", "sail"),
    ToolArgumentsDelta(0, '{"to":'),
    ToolCallStarted(1, "toolu_2", "anchor"),
    ToolArgumentsDelta(0, '"pier"}'),
    ToolArgumentsDelta(1, "{}"),
    UsageReported(Report({Counter.INPUT: 10})),
    ChoiceFinished(FinishReason.TOOL_CALLS, 0, "tool_use"),
]


def test_a_reply_has_one_identity_and_the_name_the_client_asked_for() -> None:
    chunks = chunks_of(stream(TALK))
    assert {(said["id"], said["created"], said["model"], said["object"]) for said in chunks} == {
        ("msg_1", 1_700_000_500, "house/boat", "chat.completion.chunk")
    }


def test_what_the_provider_does_not_say_of_itself_is_ours() -> None:
    chunks = chunks_of(stream([ReplyStarted(), TextDelta("Hi")]))
    assert {(said["id"], said["created"]) for said in chunks} == {("ours-1", 1_700_000_000)}


def test_the_first_chunk_of_every_choice_and_no_other_has_the_role() -> None:
    events: list[Event] = [TextDelta("a", 0), ToolCallStarted(0, "c", "sail", 1), TextDelta("b", 0)]
    events += [ToolArgumentsDelta(0, "{}", 1), ChoiceFinished(FinishReason.STOP, 0)]
    events += [ChoiceFinished(FinishReason.TOOL_CALLS, 1), ChoiceFinished(FinishReason.LENGTH, 2)]
    seen: dict[int, list[bool]] = {}
    for said in chunks_of(stream(events)):
        for choice in said["choices"]:
            seen.setdefault(choice["index"], []).append(choice["delta"].get("role") == "assistant")
    assert seen == {0: [True, False, False], 1: [True, False, False], 2: [True]}


def test_nothing_is_sent_before_there_is_something_to_say() -> None:
    encoder = ChatEncoder(facts())
    assert encoder.encode([ReplyStarted("msg_1"), UsageReported(Report({Counter.INPUT: 10}))]) == b""


def test_each_choice_finishes_once_and_before_the_usage() -> None:
    events: list[Event] = [TextDelta("a", 0), TextDelta("b", 1), ChoiceFinished(FinishReason.STOP, 1)]
    events += [ChoiceFinished(FinishReason.STOP, 0), ChoiceFinished(FinishReason.LENGTH, 0)]
    chunks = chunks_of(stream(events))
    finishes = [(c["index"], c["finish_reason"]) for said in chunks for c in said["choices"] if c["finish_reason"]]
    assert finishes == [(1, "stop"), (0, "stop")]
    assert [bool(said["usage"]) for said in chunks] == [False, False, False, False, True]


def test_who_asked_gets_null_in_every_chunk_and_the_numbers_in_the_last() -> None:
    raw = stream(TALK)
    chunks = chunks_of(raw)
    assert all(said["usage"] is None for said in chunks[:-1])
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], WRITTEN)
    assert raw.endswith(b"\n\ndata: [DONE]\n\n")


def test_who_did_not_ask_never_sees_the_key_nor_a_chunk_without_choices() -> None:
    raw = stream(TALK, asked=False)
    assert all("usage" not in said and said["choices"] for said in chunks_of(raw))
    assert raw.endswith(b"\n\ndata: [DONE]\n\n")


def test_numbers_nobody_knows_are_null_in_the_last_chunk() -> None:
    chunks = chunks_of(stream(TALK, final=FinalUsage(None)))
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], None)


def test_the_other_dialects_usage_object_lends_nothing() -> None:
    foreign = FinalUsage(USAGE, provider_raw=b'{"input_tokens":10,"cache_read_input_tokens":3,"service_tier":"std"}')
    assert chunks_of(stream(TALK, final=foreign))[-1]["usage"] == WRITTEN


def test_a_call_is_named_once_and_always_has_its_index() -> None:
    entries = [entry for said in deltas(TALK) for entry in said.get("tool_calls", [])]
    assert entries == [
        {"index": 0, "id": "toolu_1", "type": "function", "function": {"name": "sail", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"to":'}},
        {"index": 1, "id": "toolu_2", "type": "function", "function": {"name": "anchor", "arguments": ""}},
        {"index": 0, "function": {"arguments": '"pier"}'}},
        {"index": 1, "function": {"arguments": "{}"}},
    ]


def test_a_call_without_an_id_gets_one_that_no_other_call_has() -> None:
    events: list[Event] = [ToolCallStarted(n, "", "sail", choice) for choice in range(2) for n in range(2)]
    ids = [said["tool_calls"][0]["id"] for said in deltas(events) if "tool_calls" in said]
    assert len(set(ids)) == len(ids) == 4
    assert all(ids)


def test_reasoning_is_text_and_its_proof_comes_with_all_of_it() -> None:
    said = deltas(TALK)
    assert "".join(delta.get("reasoning_content", "") for delta in said) == "The tide turns."
    assert [detail for delta in said for detail in delta.get("reasoning_details", [])] == [
        {
            "type": "reasoning.text",
            "text": "The tide turns.",
            "signature": "sig-1",
            "format": "anthropic-claude-v1",
            "index": 0,
        },
        {"type": "reasoning.encrypted", "data": "b64-2", "format": "anthropic-claude-v1", "index": 1},
    ]


def test_reasoning_with_its_proof_is_read_back_as_it_was_said() -> None:
    said = [event for event in TALK if isinstance(event, ReasoningDelta | ReasoningSigned | RedactedReasoningGiven)]
    said += [ReasoningDelta("Again."), ReasoningSigned("sig-3")]
    heard = decode_bytes(stream(said), streamed=True, choices=1, quirks=Quirks())
    assert [event for event in heard if not isinstance(event, ReplyStarted | ChoiceFinished | UsageReported)] == said


def test_a_second_block_of_reasoning_has_its_own_text_and_place() -> None:
    events: list[Event] = [ReasoningDelta("a"), ReasoningSigned("s-a"), ReasoningDelta("b"), ReasoningSigned("s-b")]
    details = [detail for delta in deltas(events) for detail in delta.get("reasoning_details", [])]
    assert [(detail["index"], detail["text"], detail["signature"]) for detail in details] == [
        (0, "a", "s-a"),
        (1, "b", "s-b"),
    ]


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (FinishReason.STOP, "stop"),
        (FinishReason.LENGTH, "length"),
        (FinishReason.TOOL_CALLS, "tool_calls"),
        (FinishReason.CONTENT_FILTER, "content_filter"),
        (FinishReason.REFUSAL, "content_filter"),
        (FinishReason.PAUSED, "stop"),
        (FinishReason.UNKNOWN, "stop"),
    ],
)
def test_every_reason_has_one_of_the_published_words(reason: FinishReason, word: str) -> None:
    finished = ChoiceFinished(reason)
    assert chunks_of(stream([finished]))[0]["choices"][0]["finish_reason"] == word
    assert whole([finished])["choices"][0]["finish_reason"] == word


def test_a_refusal_and_log_probabilities_have_their_own_keys() -> None:
    events: list[Event] = [
        LogprobsGiven(msgspec.Raw(msgspec.json.encode(LOGPROBS))),
        RefusalDelta("I will not."),
        ChoiceFinished(FinishReason.REFUSAL),
    ]
    chunks = chunks_of(stream(events))
    assert chunks[0]["choices"][0]["logprobs"] == LOGPROBS
    assert chunks[1]["choices"][0]["delta"] == {"refusal": "I will not."}
    choice = whole(events)["choices"][0]
    assert choice["logprobs"] == LOGPROBS
    assert (choice["message"]["refusal"], choice["message"]["content"]) == ("I will not.", None)


def test_log_probabilities_that_came_in_pieces_are_one_list_in_a_whole_reply() -> None:
    piece = LogprobsGiven(msgspec.Raw(msgspec.json.encode(LOGPROBS)))
    joined = whole([TextDelta("HiHi"), piece, piece])["choices"][0]["logprobs"]
    assert joined == {"content": LOGPROBS["content"] * 2 if LOGPROBS["content"] else [], "refusal": None}


def test_only_what_has_a_place_in_chat_is_carried_word_for_word() -> None:
    events: list[Event] = [
        TextDelta("Hi"),
        OpaqueGiven("annotations", msgspec.Raw(b'[{"type":"file"}]')),
        OpaqueGiven("server_tool_use", msgspec.Raw(b'{"id":"x"}')),
    ]
    assert deltas(events)[1:2] == [{"annotations": [{"type": "file"}]}]
    assert b"server_tool_use" not in stream(events)
    assert whole(events)["choices"][0]["message"]["annotations"] == [{"type": "file"}]


def test_a_reply_that_said_nothing_still_has_a_choice_that_finished() -> None:
    chunks = chunks_of(stream([ReplyStarted("msg_1")]))
    assert [said["choices"] for said in chunks] == [
        [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "stop"}],
        [],
    ]


def test_a_failure_is_an_error_frame_with_no_end_mark_after_it() -> None:
    encoder = ChatEncoder(facts())
    encoder.encode([TextDelta("Lo")])
    failure = Failure(FailureKind.OVERLOADED, "Try again later.", Fault.PROVIDER, 503)
    (said,) = chunks_of(encoder.fail(failure))
    assert said["error"]["message"] == "Try again later."
    assert encoder.encode([ReplyFailed(failure)]) == b""


def test_a_failure_of_a_whole_reply_is_the_error_body() -> None:
    body = ChatEncoder(facts(streamed=False)).fail(Failure(FailureKind.OVERLOADED, "Later.", Fault.PROVIDER, 503))
    assert json.loads(body)["error"]["message"] == "Later."


def test_a_whole_reply_has_all_that_was_said() -> None:
    assert whole(TALK) == {
        "id": "msg_1",
        "object": "chat.completion",
        "created": 1_700_000_500,
        "model": "house/boat",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": 'Low tide at "noon" ☀.',
                    "refusal": None,
                    "reasoning_content": "The tide turns.",
                    "reasoning_details": [
                        {
                            "type": "reasoning.text",
                            "text": "The tide turns.",
                            "signature": "sig-1",
                            "format": "anthropic-claude-v1",
                            "index": 0,
                        },
                        {"type": "reasoning.encrypted", "data": "b64-2", "format": "anthropic-claude-v1", "index": 1},
                    ],
                    "tool_calls": [
                        {
                            "id": "toolu_1",
                            "type": "function",
                            "function": {"name": "sail", "arguments": '{"to":"pier"}'},
                        },
                        {"id": "toolu_2", "type": "function", "function": {"name": "anchor", "arguments": "{}"}},
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": WRITTEN,
    }


def test_the_choices_of_a_whole_reply_are_in_their_order() -> None:
    body = whole([TextDelta("b", 1), TextDelta("a", 0)])
    assert [(choice["index"], choice["message"]["content"]) for choice in body["choices"]] == [(0, "a"), (1, "b")]


def test_a_whole_reply_leaves_out_numbers_nobody_knows() -> None:
    assert "usage" not in whole(TALK, FinalUsage(None))


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("name", CHAT_READERS)
def test_every_client_counts_once(name: str, asked: bool) -> None:
    chunks = chunks_of(stream(TALK, asked=asked))
    assert CHAT_READERS[name](chunks, asked) == (Counted(13, 6) if asked else Counted(None, None))


# --- the published schema --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published() -> Any:
    """The published schema of a name, as a validator."""
    directory = wire.shared()
    if directory is None:
        pytest.skip(wire.ABSENT)
    components = _plain(json.loads((directory / "spec" / "openai.json").read_text())["components"])

    def validator(name: str) -> Any:
        return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components})

    return validator


def _plain(node: Any) -> Any:
    """OpenAPI's `nullable` in the words of JSON Schema."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: _plain(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [made, {"type": "null"}]} if node.get("nullable") is True else made


SHAPES: dict[str, list[Event]] = {
    "everything": TALK,
    "nothing": [],
    "text": [TextDelta("Hi"), ChoiceFinished(FinishReason.STOP)],
    "refusal": [RefusalDelta("No."), ChoiceFinished(FinishReason.REFUSAL)],
    "two choices": [TextDelta("a", 1), TextDelta("b", 0), ChoiceFinished(FinishReason.STOP, 0)],
    "log probabilities": [TextDelta("Hi"), LogprobsGiven(msgspec.Raw(msgspec.json.encode(LOGPROBS)))],
    "reasoning alone": [ReasoningDelta("Hm."), ChoiceFinished(FinishReason.LENGTH)],
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("final", [FINAL, FinalUsage(None), FinalUsage(USAGE, estimated=True)])
def test_what_we_write_is_what_the_published_schema_allows(shape: str, final: FinalUsage, published: Any) -> None:
    chunk, body = published("CreateChatCompletionStreamResponse"), published("CreateChatCompletionResponse")
    for asked in (True, False):
        for said in chunks_of(stream(SHAPES[shape], asked=asked, final=final)):
            chunk.validate(said)
    body.validate(whole(SHAPES[shape], final))


def test_every_recorded_reply_written_again_is_valid_and_says_the_same(published: Any) -> None:
    chunk, body = published("CreateChatCompletionStreamResponse"), published("CreateChatCompletionResponse")
    seen = 0
    for one in recordings():
        if one.status >= 400:
            continue
        events = decode_bytes(one.body, streamed=one.streamed, choices=one.choices, quirks=Quirks(end="done"))
        if any(isinstance(event, ReplyFailed) for event in events):
            continue
        kept = [event for event in events if not isinstance(event, OpaqueGiven | LogprobsGiven)]
        raw = stream(kept)
        chunks = chunks_of(raw)
        for said in chunks:
            chunk.validate(said)
        body.validate(whole(kept))
        again = decode_bytes(raw, streamed=True, choices=one.choices, quirks=Quirks())
        assert _told(again) == _told(kept), one.id
        seen += 1
    assert seen > 140


def _told(events: Sequence[Event]) -> list[str]:
    """Text, reasoning, refusals and calls, in order, whatever the pieces."""
    told: list[str] = []
    for event in events:
        if isinstance(event, TextDelta | ReasoningDelta | RefusalDelta):
            kind, text = f"{type(event).__name__}{event.choice}:", event.text
        elif isinstance(event, ToolArgumentsDelta):
            kind, text = f"arguments{event.choice}.{event.call}:", event.arguments
        elif isinstance(event, ToolCallStarted):
            kind, text = f"call{event.choice}.{event.call}:", event.name
        else:
            continue
        if told and told[-1].startswith(kind):
            told[-1] += text
        else:
            told.append(kind + text)
    return told
