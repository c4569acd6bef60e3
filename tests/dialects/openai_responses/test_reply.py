"""Replies of this dialect: each thing said once, streamed and whole alike, whatever a server leaves out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.error import FailureKind
from counterfoil.core.event import (
    ChoiceFinished,
    FinishReason,
    LogprobsGiven,
    ReasoningDelta,
    ReasoningSigned,
    RedactedReasoningGiven,
    ReplyFailed,
    ReplyStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.openai_responses import OPENAI_RESPONSES
from counterfoil.dialects.openai_responses.items import CLIENT_CALLS
from counterfoil.dialects.openai_responses.schema import word_of
from counterfoil.dialects.openai_responses.thought import ORIGIN, unpack
from counterfoil.framing.frame import Frame
from counterfoil.usage.reading import Counter

from .support import (
    JSON,
    NEARLY,
    PLAIN,
    USAGE,
    added,
    call,
    decode,
    done,
    items_of,
    joined,
    message,
    reply,
    response,
    sse,
    start,
    thought,
)

EVERYTHING = [
    *thought(0, "Look it up.", "Then answer.", encrypted="gAAAsealed=="),
    *message(1, "The ", "answer ", "is 4."),
    *call(2, "add", '{"a":', "2}"),
    *call(3, "now"),
]


def test_a_stream_says_each_thing_once_in_its_order() -> None:
    found = decode(sse(*reply(*EVERYTHING)))
    assert joined(found.events)[0] == ReplyStarted("resp_made", "made-model-2", 1_700_000_001)
    assert found.reasoning == "Look it up.\n\nThen answer."
    assert found.text == "The answer is 4."
    assert found.tools == [("call_2", "add", {"a": 2}), ("call_3", "now", {})]
    assert found.of(ChoiceFinished) == [ChoiceFinished(FinishReason.TOOL_CALLS, said="completed")]
    assert len(found.of(UsageReported)) == 1
    assert found.ended
    assert found.done


def test_a_whole_response_says_what_its_stream_says() -> None:
    body = json.dumps(response(output=items_of(EVERYTHING))).encode()
    assert joined(decode(body, streamed=False).events) == joined(decode(sse(*reply(*EVERYTHING))).events)


def test_reasoning_is_signed_with_its_id_and_its_encrypted_content() -> None:
    found = decode(sse(*reply(*thought(0, "Hm.", encrypted="gAAAx"), *message(1, "Yes."))))
    (proof,) = found.of(ReasoningSigned)
    assert isinstance(proof, ReasoningSigned)
    assert (unpack(proof.signature), proof.origin) == (("rs_0", "gAAAx"), ORIGIN)
    assert found.events.index(proof) < found.events.index(TextDelta("Yes."))


def test_reasoning_that_nobody_may_read_is_a_redacted_block() -> None:
    found = decode(sse(*reply(*thought(0, encrypted="gAAAx"), *message(1, "Yes."))))
    (hidden,) = found.of(RedactedReasoningGiven)
    assert isinstance(hidden, RedactedReasoningGiven)
    assert (unpack(hidden.data), hidden.origin) == (("rs_0", "gAAAx"), ORIGIN)


@pytest.mark.parametrize("encrypted", [None, ""], ids=["absent", "empty, as llama.cpp sends it"])
def test_reasoning_without_a_proof_has_none(encrypted: str | None) -> None:
    found = decode(sse(*reply(*thought(0, "Hm.", encrypted=encrypted), *message(1, "Yes."))))
    assert found.reasoning == "Hm."
    assert not found.of(ReasoningSigned)
    assert not found.of(RedactedReasoningGiven)


_PLACE = {"item_id": "rs_9", "output_index": 9, "content_index": 0}
_RAW_ITEM = {
    "id": "rs_9",
    "type": "reasoning",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "We add."}],
}
RAW_THOUGHT = [
    added(9, id="rs_9", type="reasoning", summary=[], content=[]),
    {"type": "response.reasoning_text.delta", **_PLACE, "delta": "We "},
    {"type": "response.reasoning_text.delta", **_PLACE, "delta": "add."},
    {"type": "response.reasoning_text.done", **_PLACE, "text": "We add."},
    done(9, **_RAW_ITEM),
]


def test_open_models_say_their_reasoning_itself() -> None:
    found = decode(sse(*reply(*RAW_THOUGHT, *message(1, "4"))))
    assert (found.reasoning, found.text) == ("We add.", "4")
    whole = decode(json.dumps(response(output=[_RAW_ITEM, *items_of(message(1, "4"))])).encode(), streamed=False)
    assert joined(whole.events) == joined(found.events)


@pytest.mark.parametrize("frames", [EVERYTHING, RAW_THOUGHT], ids=["everything", "reasoning itself"])
def test_what_a_delta_says_is_said_when_it_comes(frames: list[dict[str, Any]]) -> None:
    decoder = OPENAI_RESPONSES.decoder(True, 1, PLAIN)
    for frame in reply(*frames):
        events = decoder.feed(Frame(json.dumps(frame).encode()))
        texts = [
            event.text if isinstance(event, TextDelta | ReasoningDelta) else event.arguments
            for event in events
            if isinstance(event, TextDelta | ReasoningDelta | ToolArgumentsDelta)
        ]
        if "delta" in frame:
            assert "".join(texts).lstrip("\n") == frame["delta"]


@pytest.mark.parametrize("end", ["completed", "done"])
def test_items_that_never_began_are_read_from_their_events(end: str) -> None:
    """Of each item its deltas or its done events alone."""
    frames = [
        frame
        for frame in [*EVERYTHING, *RAW_THOUGHT]
        if frame["type"].endswith("delta" if end == "completed" else ".done")
    ]
    frames = [frame for frame in frames if "output_item" not in frame["type"] and "function_call" not in frame["type"]]
    found = decode(sse(*start(), *frames, {"type": "response.completed", "response": response(output=[])}))
    assert (found.reasoning, found.text) == ("Look it up.\n\nThen answer.We add.", "The answer is 4.")


def test_usage_before_the_end_measures_no_output_and_ends_nothing() -> None:
    frames = [*start(usage=USAGE), *message(0, "The tide turns at noon, and again at midnight, as it always does.")]
    found = decode(sse(*frames), quirks=Quirks(end="usage"))
    assert not found.ended
    assert found.reading.scopes[-1][Counter.OUTPUT].provisional
    assert decode(sse(*frames, reply(*frames)[-1]), quirks=Quirks(end="usage")).ended


@pytest.mark.parametrize("named", ["response.cancelled", "response.completed"])
def test_a_response_that_was_cancelled_has_failed_and_is_booked(named: str) -> None:
    found = decode(sse(*start(), *message(0, "The tide"), {"type": named, "response": response("cancelled")}))
    (failure,) = found.of(ReplyFailed)
    assert isinstance(failure, ReplyFailed)
    assert (found.done, found.settlement.usage.total_tokens) == (True, 52)


def test_a_whole_response_that_failed_is_booked_although_it_holds_no_output() -> None:
    said = response("failed", usage=USAGE, error={"code": "server_error", "message": "no"})
    del said["output"]
    found = decode(json.dumps(said).encode(), streamed=False)
    assert [type(event) for event in found.events] == [ReplyStarted, UsageReported, ReplyFailed]


WITHOUT_DELTAS = [frame for frame in EVERYTHING if not frame["type"].endswith(".delta")]
ONLY_ITEMS = [frame for frame in EVERYTHING if "output_item" in frame["type"]]
ONLY_STARTS = [frame for frame in EVERYTHING if frame["type"] == "response.output_item.added"]


@pytest.mark.parametrize(
    "frames",
    [WITHOUT_DELTAS, ONLY_ITEMS, [*ONLY_STARTS], []],
    ids=["only in the done events", "only in the items", "items that only begin", "only in the terminal event"],
)
def test_what_no_delta_said_is_said_by_the_first_event_that_has_it(frames: list[dict[str, Any]]) -> None:
    told = decode(sse(*reply(*frames, output=items_of(EVERYTHING))))
    plain = decode(sse(*reply(*EVERYTHING)))
    assert (told.text, told.reasoning, told.tools) == (plain.text, plain.reasoning, plain.tools)
    assert told.of(ReasoningSigned) == plain.of(ReasoningSigned)


def test_ids_that_change_from_event_to_event_do_not_double_anything() -> None:
    frames = reply(*EVERYTHING)
    for number, frame in enumerate(frames):
        for item in (*(frame.get("response") or {}).get("output", ()), frame.get("item") or {}):
            if item:
                item["id"] = f"made_up_{number}"
        if "item_id" in frame:
            frame["item_id"] = f"other_{number}"
    found = decode(sse(*frames))
    assert found.text == "The answer is 4."
    assert found.reasoning == "Look it up.\n\nThen answer."
    assert [name for _, name, _ in found.tools] == ["add", "now"]


def test_llama_cpp_sends_neither_numbers_nor_places() -> None:
    frames = reply(*EVERYTHING)
    for frame in frames:
        for key in ("output_index", "content_index", "summary_index"):
            frame.pop(key, None)
    found = decode(sse(*frames, numbered=False))
    assert found.text == "The answer is 4."
    assert found.tools == [("call_2", "add", {"a": 2}), ("call_3", "now", {})]


def test_a_part_that_events_number_as_it_does_not_stand_is_said_once() -> None:
    """openai.responses/bedrock-mantle: the events of a message's only part say `content_index: 1`."""
    frames = reply(*message(0, "Hi ", "you"))
    for frame in frames:
        if "content_index" in frame:
            frame["content_index"] = 1
    assert decode(sse(*frames)).text == "Hi you"


def test_a_part_whose_deltas_were_lost_is_said_when_the_item_is_done() -> None:
    parts: list[dict[str, Any]] = [
        {"type": "output_text", "text": text, "annotations": []} for text in ("One. ", "Two.")
    ]
    head = {"id": "msg_0", "type": "message", "role": "assistant"}
    delta = {"type": "response.output_text.delta", "item_id": "msg_0", "output_index": 0, "content_index": 0}
    frames = [added(0, **head, content=[]), {**delta, "delta": "One. "}, done(0, **head, content=parts)]
    assert decode(sse(*reply(*frames))).text == "One. Two."


def test_items_that_were_never_announced_begin_with_their_first_event() -> None:
    place = {"item_id": "m", "output_index": 0, "content_index": 0}
    found = decode(sse({"type": "response.output_text.delta", **place, "delta": "Hi"}))
    assert list(found.events) == [ReplyStarted(), TextDelta("Hi")]
    assert not found.ended


def test_events_without_any_place_belong_to_the_item_that_is_open() -> None:
    item = {"type": "message", "content": [{"type": "output_text", "text": "AB"}]}
    frames: list[dict[str, Any]] = [
        {"type": "response.reasoning_text.delta", "delta": "Hm."},
        {"type": "response.output_text.delta", "delta": "A"},
        {"type": "response.output_text.delta", "delta": "B"},
        {"type": "response.output_item.done", "item": item},
    ]
    found = decode(sse(*frames, numbered=False))
    assert (found.reasoning, found.text) == ("Hm.", "AB")


def test_a_repeated_terminal_event_finishes_once() -> None:
    frames = reply(*message(0, "Hi"))
    decoder = OPENAI_RESPONSES.decoder(True, 1, PLAIN)
    events = [
        event
        for frame in [*frames, frames[-1]]
        for event in decoder.feed(Frame(json.dumps(frame).encode(), frame["type"]))
    ]
    assert len([event for event in events if isinstance(event, ChoiceFinished)]) == 1


@pytest.mark.parametrize("index", range(3), ids=["created", "in_progress", "an item"])
def test_a_repeated_head_or_item_begins_once(index: int) -> None:
    frames = reply(*call(0, "add", "{}"))
    frames.insert(index, frames[index])
    found = decode(sse(*frames))
    assert len(found.of(ReplyStarted)) == 1
    assert len(found.of(ToolCallStarted)) == 1


# ---- what stays in its own words


@pytest.mark.parametrize(
    "item",
    [
        {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "tea"}},
        {"id": "fs_1", "type": "file_search_call", "status": "completed", "queries": ["tea"], "results": None},
        {"id": "ci_1", "type": "code_interpreter_call", "code": "1+1", "container_id": "c", "outputs": None},
        {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "aGk="},
        {"id": "mcp_1", "type": "mcp_call", "name": "look", "server_label": "s", "arguments": "{}", "output": "x"},
        {"id": "cu_1", "type": "computer_call", "call_id": "c", "action": {"type": "click"}, "status": "completed"},
        {"id": "ct_1", "type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "*** Begin"},
        {"id": "new_1", "type": "something_next_year", "of": [1, 2]},
    ],
    ids=lambda item: item["type"],
)
def test_an_item_without_canonical_words_comes_out_once_whole(item: dict[str, Any]) -> None:
    frames = [added(0, **{**item, "status": "in_progress"}), done(0, **item), *message(1, "There.")]
    found = decode(sse(*reply(*frames)))
    assert found.opaque == [(item["type"], item)]
    assert found.text == "There."
    whole = decode(json.dumps(response(output=items_of(frames))).encode(), streamed=False)
    assert joined(whole.events) == joined(found.events)
    waits = FinishReason.TOOL_CALLS if item["type"] in CLIENT_CALLS else FinishReason.STOP
    assert [event.reason for event in found.of(ChoiceFinished) if isinstance(event, ChoiceFinished)] == [waits]


def test_progress_of_built_in_tools_is_passed_over() -> None:
    noise: list[dict[str, Any]] = [
        {"type": "response.web_search_call.searching", "output_index": 0, "item_id": "ws_1"},
        {"type": "response.image_generation_call.partial_image", "output_index": 0, "partial_image_b64": "aGk="},
        {"type": "response.mcp_call_arguments.delta", "output_index": 0, "delta": {"a": 1}},
        {"type": "response.custom_tool_call_input.delta", "output_index": 0, "delta": "x"},
        {"type": "response.made_up_next_year", "delta": ["?"]},
    ]
    assert decode(sse(*reply(*noise, *message(1, "Hi")))).text == "Hi"


def test_citations_come_as_they_came_up_and_not_again() -> None:
    note = {"type": "url_citation", "url": "https://example.org", "title": "T", "start_index": 0, "end_index": 2}
    frames = message(0, "Hi", annotations=[note])
    place = {"item_id": "msg_0", "output_index": 0, "content_index": 0, "annotation_index": 0}
    frames.insert(3, {"type": "response.output_text.annotation.added", **place, "annotation": note})
    assert decode(sse(*reply(*frames))).opaque == [("annotation", note)]
    whole = json.dumps(response(output=items_of(frames))).encode()
    assert decode(whole, streamed=False).opaque == [("annotation", note)]


def test_log_probabilities_come_in_the_shape_that_crosses() -> None:
    frames = message(0, "Hi")
    frames[2]["logprobs"] = [{"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "Ho", "logprob": -1.5}]}]
    (given_,) = decode(sse(*reply(*frames))).of(LogprobsGiven)
    assert isinstance(given_, LogprobsGiven)
    (entry,) = json.loads(bytes(given_.raw))["content"]
    assert (entry["token"], entry["logprob"], entry["bytes"]) == ("Hi", -0.5, None)
    assert entry["top_logprobs"] == [{"bytes": None, "token": "Ho", "logprob": -1.5}]


def test_a_refusal_is_a_refusal() -> None:
    place = {"item_id": "msg_0", "output_index": 0, "content_index": 0}
    part = {"type": "refusal", "refusal": "I will not."}
    frames = [
        added(0, id="msg_0", type="message", role="assistant", content=[]),
        {"type": "response.refusal.delta", **place, "delta": "I will "},
        {"type": "response.refusal.delta", **place, "delta": "not."},
        {"type": "response.refusal.done", **place, "refusal": "I will not."},
        done(0, id="msg_0", type="message", role="assistant", content=[part]),
    ]
    found = decode(sse(*reply(*frames)))
    assert (found.refusal, found.text, found.ended) == ("I will not.", "", True)


# ---- how it ends


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("max_output_tokens", FinishReason.LENGTH),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("a_new_reason", FinishReason.UNKNOWN),
    ],
)
def test_an_incomplete_response_says_why(why: str, reason: FinishReason) -> None:
    told: dict[str, Any] = {"status": "incomplete", "incomplete_details": {"reason": why}}
    found = decode(sse(*reply(*message(0, "Hi"), **told)))
    assert found.of(ChoiceFinished) == [ChoiceFinished(reason, said=why)]
    assert found.ended
    assert found.settlement.usage.output_tokens == 12
    mislabelled = reply(*message(0, "Hi"), **told)
    mislabelled[-1]["type"] = "response.completed"
    assert decode(sse(*mislabelled)).of(ChoiceFinished) == [ChoiceFinished(reason, said=why)]


def test_an_incomplete_response_without_a_reason_is_finished_all_the_same() -> None:
    found = decode(sse(*reply(*message(0, "Hi"), status="incomplete")))
    assert found.of(ChoiceFinished) == [ChoiceFinished(FinishReason.UNKNOWN, said="incomplete")]


def test_usage_of_a_failed_response_is_kept() -> None:
    error = {"code": "server_error", "message": "The model broke."}
    found = decode(sse(*reply(*message(0, "Hi"), status="failed", error=error, usage=USAGE)))
    assert found.text == "Hi"
    (event,) = found.of(ReplyFailed)
    assert isinstance(event, ReplyFailed)
    assert (event.failure.kind, event.failure.message) == (FailureKind.PROVIDER_ERROR, "The model broke.")
    assert found.settlement.usage.input_tokens == 40
    assert not found.of(ChoiceFinished)


def test_an_error_event_waits_for_the_usage_of_the_failed_response() -> None:
    error = {"type": "error", "error": {"type": "x", "code": "insufficient_quota", "message": "No credit."}}
    frames = reply(status="failed", error={"code": "insufficient_quota", "message": "No credit."}, usage=USAGE)
    found = decode(sse(*frames[:2], error, frames[-1]))
    (event,) = found.of(ReplyFailed)
    assert isinstance(event, ReplyFailed)
    assert (event.failure.kind, event.failure.status) == (FailureKind.QUOTA, 429)
    assert found.settlement.usage.output_tokens == 12


@pytest.mark.parametrize("after", [[], message(0, "Hi")[:1], [{"type": "error", "message": "again", "code": None}]])
def test_an_error_event_that_nothing_explains_is_the_failure(after: list[dict[str, Any]]) -> None:
    error = {"type": "error", "code": "server_error", "message": "Broke.", "param": None}
    found = decode(sse(*start(), error, *after))
    (event,) = found.of(ReplyFailed)
    assert isinstance(event, ReplyFailed)
    assert event.failure.message == "Broke."


def test_a_server_that_keeps_the_line_open_after_an_error_is_not_waited_for() -> None:
    decoder = OPENAI_RESPONSES.decoder(True, 1, PLAIN)
    frame = {"type": "error", "code": "server_error", "message": "Broke.", "param": None}
    assert list(decoder.feed(Frame(json.dumps(frame).encode(), "error"))) == []
    assert decoder.ended
    assert [type(event) for event in decoder.close()] == [ReplyFailed]


def test_an_error_object_without_a_type_is_a_failure() -> None:
    found = decode(sse(*start()) + b'data: {"error":{"message":"Gone.","code":404}}\n\n')
    assert [type(event) for event in found.events] == [ReplyStarted, ReplyFailed]


def test_a_cancelled_response_failed() -> None:
    found = decode(json.dumps(response("cancelled", usage=None)).encode(), streamed=False)
    (event,) = found.of(ReplyFailed)
    assert isinstance(event, ReplyFailed)
    assert event.failure.code == "cancelled"


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_background_response_that_is_not_over_has_not_ended(status: str) -> None:
    found = decode(json.dumps(response(status, usage=None)).encode(), streamed=False)
    assert [type(event) for event in found.events] == [ReplyStarted]
    assert not found.ended


def test_the_done_mark_of_openrouter_is_passed_over() -> None:
    found = decode(sse(*reply(*message(0, "Hi"))) + b"data: [DONE]\n\n")
    assert (found.text, found.ended, found.done) == ("Hi", True, True)
    assert not found.of(ReplyFailed)


def test_a_stream_cut_before_its_terminal_event_has_not_ended() -> None:
    found = decode(sse(*reply(*message(0, "Hi"))[:-1]))
    assert (found.text, found.ended) == ("Hi", False)
    assert not found.reading.reports


@pytest.mark.parametrize("end", ["usage", "done"])
def test_a_quirk_can_say_what_ends_a_reply(end: Any) -> None:
    frames = sse(*reply(*message(0, "Hi"))[:-1]) + (b"data: [DONE]\n\n" if end == "done" else b"")
    if end == "usage":
        frames = sse(*reply(*message(0, "Hi")))
    found = decode(frames, quirks=Quirks(end=end))
    assert found.ended
    assert len(found.of(ChoiceFinished)) == 1


# ---- what is no reply


@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"[]", b"{}", b'{"object":"chat.completion","choices":[]}', b'{"output":7}', b'{"type":\xff}'],
)
def test_a_body_that_is_no_response_is_a_bad_reply(body: bytes) -> None:
    decoder = OPENAI_RESPONSES.decoder(False, 1, PLAIN)
    (event,) = decoder.feed(Frame(body))
    assert isinstance(event, ReplyFailed)
    assert event.failure.kind is FailureKind.BAD_REPLY
    assert not decoder.ended


def test_an_error_body_under_a_good_status_is_a_failure() -> None:
    (event,) = decode(b'{"error":{"message":"No.","code":"rate_limit_exceeded"}}', streamed=False).events
    assert isinstance(event, ReplyFailed)
    assert event.failure.kind is FailureKind.RATE_LIMITED


@pytest.mark.parametrize(
    "frame",
    [b"data: {\n\n", b'data: {"x":1}\n\n', b'data: {"type":"response.output_text.delta","delta":{"a":1}}\n\n',
     b'data: {"type":"response.completed","response":[]}\n\n'],
)  # fmt: skip
def test_a_frame_that_cannot_be_read_fails_the_reply(frame: bytes) -> None:
    found = decode(sse(*start()) + frame)
    (event,) = found.of(ReplyFailed)
    assert isinstance(event, ReplyFailed)
    assert event.failure.kind is FailureKind.BAD_REPLY


def test_a_reply_of_endless_items_is_refused() -> None:
    frames = [added(index, type="message", id=str(index)) for index in range(5_000)]
    assert decode(sse(*frames)).of(ReplyFailed)


@given(st.lists(NEARLY | JSON, max_size=6), st.booleans())
def test_nothing_a_server_sends_raises(frames: list[Any], streamed: bool) -> None:
    decoder = OPENAI_RESPONSES.decoder(streamed, 1, PLAIN)
    events = [event for frame in frames for event in decoder.feed(Frame(json.dumps(frame).encode()))]
    events += decoder.close()
    assert len([event for event in events if isinstance(event, ChoiceFinished)]) <= 1
    assert len([event for event in events if isinstance(event, ReplyFailed)]) <= 1
    assert len([event for event in events if isinstance(event, ReplyStarted)]) <= 1
    started = {event.call for event in events if isinstance(event, ToolCallStarted)}
    assert {event.call for event in events if isinstance(event, ToolArgumentsDelta)} <= started


def test_more_items_than_a_reply_holds_are_not_looked_for_among_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matching 200,000 items with 1,000 that had begun took 12 seconds; 2.4 MB of a frame is enough to ask for it."""
    looked = 0

    def counted(value: object) -> str:
        nonlocal looked
        looked += 1
        return word_of(value)

    monkeypatch.setattr("counterfoil.dialects.openai_responses.reply.word_of", counted)
    begun = [added(place, id=f"msg_{place}", type="message", content=[]) for place in range(100)]
    usage = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}
    whole = {"type": "response.completed", "response": response(output=[{"id": "other"}] * 20_000, usage=usage)}
    found = decode(sse(*begun, whole))
    assert [type(event) for event in found.events][-2:] == [UsageReported, ReplyFailed]
    assert looked < 1_000


@pytest.mark.parametrize("parts", ["content", "summary"])
def test_more_parts_than_an_item_holds_are_no_reply(parts: str) -> None:
    kind = "message" if parts == "content" else "reasoning"
    item = {"type": kind, "id": "item_0", parts: [{"type": "output_text", "text": "x"}] * 2_000}
    found = decode(sse({"type": "response.output_item.done", "output_index": 0, "item": item}))
    assert isinstance(found.events[-1], ReplyFailed)
