"""A client of this dialect reads another dialect's reply in the shape that all its clients count right."""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.core.event import (
    ChoiceFinished,
    Event,
    FinishReason,
    LogprobsGiven,
    OpaqueGiven,
    OutputHidden,
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
from counterfoil.dialects.anthropic_messages.encode import MessagesEncoder
from counterfoil.dialects.dialect import FinalUsage
from counterfoil.usage.reading import Counter, Report
from counterfoil.usage.usage import Bucket, Usage

from .support import decode, facts, joined

USAGE = Usage({Bucket.INPUT: 20, Bucket.CACHE_READ: 100, Bucket.OUTPUT: 6, Bucket.REASONING: 3})
FINAL = FinalUsage(USAGE)
DONE = ChoiceFinished(FinishReason.STOP)


def written(events: list[Event], final: FinalUsage = FINAL, **changes: Any) -> bytes:
    encoder = MessagesEncoder(facts(**changes))
    return b"".join(encoder.encode([event]) for event in events) + encoder.close(final)


def frames(body: bytes) -> list[dict[str, Any]]:
    """The frames, by a reader of the test's own: name and type must agree, as the official clients need."""
    found = []
    for part in body.decode().split("\n\n")[:-1]:
        name, data = part.split("\n")
        frame = json.loads(data.removeprefix("data: "))
        assert name == f"event: {frame['type']}"
        found.append(frame)
    return found


def kinds(body: bytes) -> list[str]:
    return [frame["type"] for frame in frames(body)]


def whole(events: list[Event], final: FinalUsage = FINAL) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(written(events, final, streamed=False))
    return found


def test_a_stream_has_one_head_one_delta_and_one_stop() -> None:
    body = written([ReplyStarted("chat-1", "other"), TextDelta("Pea"), TextDelta("fowl."), DONE])
    assert kinds(body) == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_the_head_shows_a_marked_estimate_and_no_output() -> None:
    (head, *_) = frames(written([ReplyStarted("chat-1", "other"), TextDelta("Owl."), DONE]))
    assert head["message"] == {
        "id": "chat-1",
        "type": "message",
        "role": "assistant",
        "model": "house-model",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 31, "output_tokens": 0, "estimated": True},
    }


def test_the_delta_has_the_exact_counts() -> None:
    delta = frames(written([TextDelta("Owl."), DONE]))[-2]
    assert delta["usage"] == {
        "input_tokens": 20,
        "cache_read_input_tokens": 100,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 3},
    }
    assert delta["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


def test_an_estimated_count_is_marked_and_an_unknown_one_is_null() -> None:
    estimated = frames(written([DONE], FinalUsage(USAGE, estimated=True)))[-2]
    assert estimated["usage"]["estimated"] is True
    unknown = frames(written([DONE], FinalUsage(None)))[-2]
    assert unknown["usage"] == {"input_tokens": None, "output_tokens": None}


def test_our_id_stands_in_for_one_the_provider_did_not_give() -> None:
    assert frames(written([TextDelta("x"), DONE]))[0]["message"]["id"] == "ours"


def test_nothing_is_sent_before_there_is_something_to_say() -> None:
    encoder = MessagesEncoder(facts())
    report = UsageReported(Report({Counter.INPUT: 3}))
    assert encoder.encode([ReplyStarted("a", "b"), report]) == b""
    assert encoder.encode([TextDelta("Now.")]) != b""


def test_blocks_follow_each_other_with_rising_indexes() -> None:
    events: list[Event] = [
        ReasoningDelta("Hm."),
        ReasoningSigned("c2ln"),
        ReasoningDelta("Still."),
        TextDelta("A "),
        ToolCallStarted(0, "t0", "peck"),
        ToolArgumentsDelta(0, '{"seed":'),
        ToolArgumentsDelta(0, "1}"),
        ToolCallStarted(1, "t1", "rest"),
        ToolArgumentsDelta(1, "{}"),
        ChoiceFinished(FinishReason.TOOL_CALLS),
    ]
    found = frames(written(events))
    starts = [(f["index"], f["content_block"]) for f in found if f["type"] == "content_block_start"]
    assert starts == [
        (0, {"type": "thinking", "thinking": "", "signature": ""}),
        (1, {"type": "thinking", "thinking": "", "signature": ""}),
        (2, {"type": "text", "text": ""}),
        (3, {"type": "tool_use", "id": "t0", "name": "peck", "input": {}}),
        (4, {"type": "tool_use", "id": "t1", "name": "rest", "input": {}}),
    ]
    open_index = None
    for frame in found:
        match frame["type"]:
            case "content_block_start":
                assert open_index is None
                open_index = frame["index"]
            case "content_block_delta":
                assert frame["index"] == open_index
            case "content_block_stop":
                assert frame["index"] == open_index
                open_index = None
    assert open_index is None
    assert found[-2]["delta"]["stop_reason"] == "tool_use"


def test_interleaved_calls_come_out_one_after_the_other_and_whole() -> None:
    events: list[Event] = [
        ToolCallStarted(0, "t0", "a"),
        ToolCallStarted(1, "t1", "b"),
        ToolArgumentsDelta(1, '{"y"'),
        ToolArgumentsDelta(0, '{"x"'),
        TextDelta("between"),
        ToolArgumentsDelta(1, ":2}"),
        ToolArgumentsDelta(0, ":1}"),
        ChoiceFinished(FinishReason.TOOL_CALLS),
    ]
    found = decode(written(events))
    assert found.tools == [("t0", "a", {"x": 1}), ("t1", "b", {"y": 2})]
    assert found.text == "between"


def test_a_call_streams_as_it_comes_when_the_one_before_is_complete() -> None:
    encoder = MessagesEncoder(facts())
    encoder.encode([ToolCallStarted(0, "t0", "a"), ToolArgumentsDelta(0, "{}"), ToolCallStarted(1, "t1", "b")])
    assert b'"partial_json":"{\\"y\\""' in encoder.encode([ToolArgumentsDelta(1, '{"y"')])


def test_a_call_without_an_id_gets_one_that_is_its_own() -> None:
    events: list[Event] = []
    for call in (0, 1):
        events += [ToolCallStarted(call, "", "a"), ToolArgumentsDelta(call, "{}")]
    found = decode(written([*events, ChoiceFinished(FinishReason.TOOL_CALLS)]))
    ids = [made for made, _, _ in found.tools]
    assert all(ids)
    assert len(set(ids)) == 2


def test_a_whole_reply_is_one_message() -> None:
    events: list[Event] = [
        ReplyStarted("chat-2", "other"),
        ReasoningDelta("Hm."),
        ReasoningSigned("c2ln"),
        RedactedReasoningGiven("ZGFyaw=="),
        TextDelta("Two "),
        TextDelta("wrens."),
        ToolCallStarted(0, "t0", "peck"),
        ToolArgumentsDelta(0, '{"seed": 1.50}'),
        ToolCallStarted(1, "t1", "rest"),
        ToolArgumentsDelta(1, "{}"),
        ChoiceFinished(FinishReason.TOOL_CALLS),
    ]
    assert MessagesEncoder(facts(streamed=False)).encode(events) == b""
    assert whole(events) == {
        "id": "chat-2",
        "type": "message",
        "role": "assistant",
        "model": "house-model",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "ZGFyaw=="},
            {"type": "text", "text": "Two wrens."},
            {"type": "tool_use", "id": "t0", "name": "peck", "input": {"seed": 1.5}},
            {"type": "tool_use", "id": "t1", "name": "rest", "input": {}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 20,
            "cache_read_input_tokens": 100,
            "output_tokens": 9,
            "output_tokens_details": {"thinking_tokens": 3},
        },
    }


def test_arguments_keep_their_own_words_in_a_whole_reply() -> None:
    events: list[Event] = [ToolCallStarted(0, "t", "a"), ToolArgumentsDelta(0, '{"n": 1.50}'), DONE]
    assert b'"input":{"n": 1.50}' in written(events, streamed=False)


def test_arguments_cut_by_the_bound_are_wrapped_in_a_whole_reply() -> None:
    events: list[Event] = [ToolCallStarted(0, "t", "a"), ToolArgumentsDelta(0, '{"n": 1')]
    (block,) = whole([*events, ChoiceFinished(FinishReason.LENGTH)])["content"]
    assert block["input"] == {"INVALID_JSON": '{"n": 1'}


@pytest.mark.parametrize(
    ("finish", "reason", "sequence"),
    [
        (ChoiceFinished(FinishReason.STOP), "end_turn", None),
        (ChoiceFinished(FinishReason.STOP, stop_sequence="END"), "stop_sequence", "END"),
        (ChoiceFinished(FinishReason.LENGTH), "max_tokens", None),
        (ChoiceFinished(FinishReason.TOOL_CALLS), "tool_use", None),
        (ChoiceFinished(FinishReason.CONTENT_FILTER), "refusal", None),
        (ChoiceFinished(FinishReason.REFUSAL), "refusal", None),
        (ChoiceFinished(FinishReason.PAUSED), "pause_turn", None),
        (ChoiceFinished(FinishReason.UNKNOWN), "end_turn", None),
    ],
)
def test_every_finish_has_a_stop_reason(finish: ChoiceFinished, reason: str, sequence: str | None) -> None:
    delta = frames(written([TextDelta("x"), finish]))[-2]["delta"]
    assert delta == {"stop_reason": reason, "stop_sequence": sequence}


def test_a_refusal_is_its_text_and_its_stop_reason() -> None:
    found = whole([RefusalDelta("No."), DONE])
    assert (found["content"], found["stop_reason"]) == ([{"type": "text", "text": "No."}], "refusal")
    cut = whole([RefusalDelta("No, be"), ChoiceFinished(FinishReason.LENGTH)])
    assert cut["stop_reason"] == "max_tokens"


def test_the_first_finish_stands() -> None:
    later = ChoiceFinished(FinishReason.LENGTH)
    assert whole([TextDelta("x"), DONE, later])["stop_reason"] == "end_turn"
    assert whole([TextDelta("x"), ChoiceFinished(FinishReason.LENGTH, choice=1), DONE])["stop_reason"] == "end_turn"


def test_what_this_wire_has_no_words_for_is_left_out() -> None:
    foreign = OpaqueGiven("annotations", msgspec.Raw(b'[{"type":"url_citation"}]'))
    logprobs = LogprobsGiven(msgspec.Raw(b"{}"))
    events: list[Event] = [logprobs, foreign, TextDelta("a"), TextDelta("other choice", choice=1), DONE]
    assert whole(events)["content"] == [{"type": "text", "text": "a"}]


def test_a_failure_is_an_error_frame_without_a_clean_end() -> None:
    encoder = MessagesEncoder(facts())
    encoder.encode([TextDelta("half")])
    failure = Failure(FailureKind.OVERLOADED, "Busy.", Fault.PROVIDER, 529)
    (frame,) = frames(encoder.fail(failure))
    assert frame == {"type": "error", "error": {"type": "overloaded_error", "message": "Busy."}}


def test_a_failure_of_a_whole_reply_is_an_error_body() -> None:
    failure = Failure(FailureKind.BAD_REPLY, "Bad.", Fault.PROVIDER, 502)
    body = MessagesEncoder(facts(streamed=False)).fail(failure)
    assert json.loads(body) == {"type": "error", "error": {"type": "api_error", "message": "Bad."}}


def test_the_provider_s_own_failure_event_writes_nothing() -> None:
    failure = ReplyFailed(Failure(FailureKind.OVERLOADED, "Busy.", Fault.PROVIDER, 529))
    assert MessagesEncoder(facts()).encode([failure]) == b""


# ---- encode, then decode: the identity

TEXT = st.text(min_size=1, max_size=12)
OBJECT = st.dictionaries(TEXT, st.integers() | TEXT | st.booleans(), max_size=3).map(lambda said: json.dumps(said))
BLOCKS: list[dict[str, Any]] = [
    {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "jay"}},
    {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
    {"type": "compaction", "content": "short"},
]
OPAQUE = st.sampled_from(BLOCKS).map(
    lambda block: [OpaqueGiven(block["type"], msgspec.Raw(json.dumps(block, separators=(",", ":")).encode()))]
)


def numbered(event: Event, call: int) -> Event:
    """The event, of that call if it is of a call."""
    if isinstance(event, ToolCallStarted):
        return ToolCallStarted(call, event.id, event.name)
    return ToolArgumentsDelta(call, event.arguments) if isinstance(event, ToolArgumentsDelta) else event


@st.composite
def call_of(draw: st.DrawFn) -> list[Event]:
    """A call, numbered later, its arguments in pieces."""
    arguments = draw(OBJECT)
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(arguments) - 1)), max_size=3)))
    pieces = [arguments[a:b] for a, b in zip([0, *cuts], [*cuts, len(arguments)], strict=True)]
    started = ToolCallStarted(0, draw(TEXT), draw(TEXT))
    return [started, *(ToolArgumentsDelta(0, piece) for piece in pieces if piece)]


GROUPS = st.one_of(
    st.lists(TEXT.map(TextDelta), min_size=1, max_size=3),
    st.tuples(st.lists(TEXT.map(ReasoningDelta), max_size=2), TEXT).map(lambda t: [*t[0], ReasoningSigned(t[1])]),
    TEXT.map(lambda data: [RedactedReasoningGiven(data)]),
    call_of(),
    OPAQUE,
)
ENDS = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.REFUSAL: "refusal",
    FinishReason.PAUSED: "pause_turn",
}


@st.composite
def replies(draw: st.DrawFn) -> list[Event]:
    events: list[Event] = []
    call = -1
    for group in cast("list[list[Event]]", draw(st.lists(GROUPS, max_size=6))):
        for event in group:
            if isinstance(event, ToolCallStarted):
                call += 1
            events.append(numbered(event, call))
    reason = draw(st.sampled_from(sorted(ENDS)))
    return [*events, ChoiceFinished(reason, said=ENDS[reason])]


def content(events: tuple[Event, ...]) -> list[Any]:
    """Content and finish, comparable."""
    kept = [event for event in events if not isinstance(event, OutputHidden | ReplyStarted | UsageReported)]
    return [(e.kind, bytes(e.raw)) if isinstance(e, OpaqueGiven) else e for e in kept]


@given(replies())
def test_what_is_streamed_is_read_back_event_for_event(events: list[Event]) -> None:
    found = decode(written(events))
    assert content(found.events) == content(tuple(events))
    assert found.settlement.usage.buckets == USAGE.buckets


@given(replies())
def test_what_is_written_whole_is_read_back_as_the_same_reply(events: list[Event]) -> None:
    found = decode(written(events, streamed=False), streamed=False)
    assert content(tuple(joined(found.events))) == content(tuple(joined(events)))
    assert found.settlement.usage.buckets == USAGE.buckets


@given(st.lists(call_of(), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_however_calls_are_interleaved_each_arrives_whole(calls: list[list[Event]], random: Any) -> None:
    queues = [[numbered(event, number) for event in call] for number, call in enumerate(calls)]
    events: list[Event] = [queue.pop(0) for queue in queues]
    while any(queues):
        queue = random.choice([queue for queue in queues if queue])
        events.append(queue.pop(0))
    found = decode(written([*events, ChoiceFinished(FinishReason.TOOL_CALLS)]))
    said = ["".join(e.arguments for e in call if isinstance(e, ToolArgumentsDelta)) for call in calls]
    assert [arguments for _, _, arguments in found.tools] == [json.loads(one) for one in said]
