"""Promise: whatever a chat provider sends becomes the same events, and nothing it sends is a surprise."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from counterfoil.core.error import FailureKind, Fault
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
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.openai_chat import OPENAI_CHAT
from counterfoil.dialects.openai_chat.reply import ChatDecoder
from counterfoil.dialects.openai_chat.schema import Chunk, Said
from counterfoil.framing.frame import Frame
from counterfoil.framing.sse import SseFraming
from counterfoil.usage.reading import Counter
from tests.dialects.openai_chat.recordings import decode_bytes, recordings
from tests.dialects.openai_chat.wire import DONE, chunk, delta, events_of, finish, frame, text_of, usage


def of(kind: type[Event], events: list[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def failure_in(events: list[Event]) -> ReplyFailed:
    (failed,) = of(ReplyFailed, events)
    assert isinstance(failed, ReplyFailed)
    return failed


def calls(events: list[Event]) -> list[tuple[int, str, str, str]]:
    """Number, id, name and whole arguments of every call."""
    return [
        (
            started.call,
            started.id,
            started.name,
            "".join(
                piece.arguments
                for piece in of(ToolArgumentsDelta, events)
                if (piece.call, piece.choice) == (started.call, started.choice)
            ),
        )
        for started in of(ToolCallStarted, events)
    ]


def call(**parts: Any) -> dict[str, Any]:
    """One entry of `tool_calls`: index, id, name, arguments, each only when given."""
    function = {key: parts.pop(key) for key in ("name", "arguments") if key in parts}
    return {**parts, "function": function}


# --- the reply as a whole -------------------------------------------------------------------------------------------


def test_a_plain_stream_is_started_spoken_finished_and_counted() -> None:
    events, decoder = events_of(
        delta({"role": "assistant", "content": ""}),
        delta({"content": "Low tide "}),
        delta({"content": "at noon."}),
        finish(),
        chunk([], usage=usage()),
        DONE,
    )
    assert events[0] == ReplyStarted("chat-1", "boat-7b", 1_700_000_000)
    assert events[1:4] == [TextDelta("Low tide "), TextDelta("at noon."), ChoiceFinished(FinishReason.STOP, 0, "stop")]
    assert isinstance(events[4], UsageReported)
    assert len(events) == 5
    assert decoder.ended
    assert decoder.done


def test_a_reply_is_started_by_its_first_named_chunk_not_by_azures_empty_one() -> None:
    opening = frame({"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": []})
    events, _ = events_of(opening, delta({"content": "Ahoy"}), finish())
    assert events[0] == ReplyStarted("chat-1", "boat-7b", 1_700_000_000)
    assert len(of(ReplyStarted, events)) == 1


def test_a_whole_reply_is_the_same_events_from_one_frame() -> None:
    message = {"role": "assistant", "content": "Low tide at noon.", "refusal": None}
    body = {
        "id": "chat-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "boat-7b",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": usage(),
    }
    whole, decoder = events_of(frame(body), streamed=False)
    streamed, _ = events_of(delta({"content": "Low tide at noon."}), finish(usage=usage()))
    assert whole == streamed
    assert decoder.ended
    assert decoder.done


def test_whitespace_before_a_whole_reply_is_padding() -> None:
    body = b'\n         \n\n  {"id":"x","choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}]}'
    events, decoder = events_of(Frame(body), streamed=False)
    assert text_of(events) == "Hi"
    assert decoder.ended


def test_an_error_body_under_a_200_is_a_failed_reply() -> None:
    body = {"error": {"message": "The prompt was filtered.", "code": "content_filter", "status": 400}}
    events, decoder = events_of(frame(body), streamed=False)
    (failed,) = events
    assert isinstance(failed, ReplyFailed)
    assert failed.failure.kind is FailureKind.CONTENT_POLICY
    assert failed.failure.status == 400
    assert failed.failure.provider_status is None
    assert not decoder.ended


@pytest.mark.parametrize(
    "body",
    [
        b'[{"error":{"message":"No berth is free.","code":503}}]',
        b'{"error":"No berth is free."}',
        b'{"error":["No berth is free."]}',
        b'{"error":[{"message":"No berth is free."}]}',
        b'{"error":{"detail":"No berth is free."}}',
        b'{"errors":[{"message":"No berth is free."}]}',
        b'{"detail":"No berth is free."}',
        b'{"detail":{"error":"No berth is free."}}',
        b'{"detail":[{"loc":["body"],"msg":"No berth is free."}]}',
        b'{"code":500,"msg":"No berth is free.","success":false}',
        b'{"choices":null,"message":"No berth is free."}',
    ],
)
def test_an_error_of_any_shape_under_a_200_is_told_with_its_message_and_comes_instead_of_a_reply(body: bytes) -> None:
    events, decoder = events_of(Frame(body), streamed=False)
    failed = failure_in(events)
    assert failed.failure.kind in (FailureKind.PROVIDER_ERROR, FailureKind.OVERLOADED)
    assert failed.failure.message == "No berth is free."
    assert failed.instead
    assert not decoder.ended


@pytest.mark.parametrize(
    ("code", "message", "kind", "status"),
    [
        (1000, "unknown error", FailureKind.PROVIDER_ERROR, 502),
        (1001, "request timeout", FailureKind.TIMED_OUT, 504),
        (1002, "rate limit", FailureKind.RATE_LIMITED, 429),
        (1004, "not authorized", FailureKind.AUTHENTICATION, 401),
        (1008, "insufficient balance", FailureKind.QUOTA, 402),
        (1026, "input new_sensitive", FailureKind.CONTENT_POLICY, 400),
        (1027, "output new_sensitive", FailureKind.CONTENT_POLICY, 400),
        (1039, "token limit", FailureKind.RATE_LIMITED, 429),
        (2013, "invalid params", FailureKind.INVALID_REQUEST, 400),
        (2013, "invalid params, context window exceeds limit", FailureKind.CONTEXT_WINDOW, 400),
        (2049, "invalid api key", FailureKind.AUTHENTICATION, 401),
        (2056, "usage limit exceeded", FailureKind.QUOTA, 429),
        (9999, "a new one", FailureKind.PROVIDER_ERROR, 502),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_a_base_resp_without_choices_is_a_failure_by_its_code_with_its_message(
    code: int, message: str, kind: FailureKind, status: int, streamed: bool
) -> None:
    body = {"id": "m-1", "choices": None, "base_resp": {"status_code": code, "status_msg": message}}
    events, decoder = events_of(frame(body), streamed=streamed)
    failed = failure_in(events)
    assert (failed.failure.kind, failed.failure.status, failed.instead) == (kind, status, True)
    assert (failed.failure.message, failed.failure.code) == (message, str(code))
    assert not decoder.ended


@pytest.mark.parametrize("streamed", [True, False])
def test_a_base_resp_of_0_is_no_failure(streamed: bool) -> None:
    said = {"content": "High tide."}
    choice = {"index": 0, "delta" if streamed else "message": said, "finish_reason": "stop"}
    body = {"id": "m-1", "choices": [choice], "base_resp": {"status_code": 0, "status_msg": "success"}}
    events, decoder = events_of(frame(body), streamed=streamed)
    assert text_of(events) == "High tide."
    assert decoder.ended
    if streamed:
        after = {"choices": [], "usage": usage(), "base_resp": {"status_code": 0, "status_msg": ""}}
        assert not any(isinstance(event, ReplyFailed) for event in decoder.feed(frame(after)))


def test_a_base_resp_after_text_fails_a_reply_that_had_begun() -> None:
    stated = {"choices": None, "base_resp": {"status_code": 1027, "status_msg": "output new_sensitive"}}
    events, _ = events_of(delta({"content": "High"}), frame(stated))
    assert text_of(events) == "High"
    failed = failure_in(events)
    assert (failed.failure.kind, failed.instead) == (FailureKind.CONTENT_POLICY, False)


def test_a_list_with_an_error_in_it_fails_a_stream_with_its_message() -> None:
    events, _ = events_of(Frame(b'[{"error":{"code":429,"message":"Slow down.","status":"RESOURCE_EXHAUSTED"}}]'))
    assert (failure_in(events).failure.kind, failure_in(events).failure.message) == (
        FailureKind.RATE_LIMITED,
        "Slow down.",
    )


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"[1]",
        b'{"choices":[]}',
        b'{"choices":null}',
        b'{"detail":{}}',
        b'{"message":{"content":"secret"}}',
    ],
)
def test_a_whole_body_without_choices_is_a_bad_reply(body: bytes) -> None:
    events, decoder = events_of(Frame(body), streamed=False)
    assert failure_in(events).failure.kind is FailureKind.BAD_REPLY
    assert not decoder.ended


def test_no_bytes_at_all_say_nothing_and_do_not_end() -> None:
    events, decoder = events_of(Frame(b""), streamed=False)
    assert events == []
    assert not decoder.ended


@pytest.mark.parametrize("choices", [None, []])
def test_a_chunk_without_choices_says_nothing(choices: Any) -> None:
    events, decoder = events_of(chunk(choices), delta({"content": "Hi"}), finish(), DONE)
    assert text_of(events) == "Hi"
    assert decoder.ended


def test_a_chunk_whose_choices_key_is_missing_says_nothing() -> None:
    events, _ = events_of(frame({"id": "x", "object": "chat.completion.chunk"}), delta({"content": "Hi"}), finish())
    assert text_of(events) == "Hi"
    assert not of(ReplyFailed, events)


def test_comments_say_nothing() -> None:
    events, _ = events_of(Frame(b"", comment=True), Frame(b"ignored", comment=True))
    assert events == []


def test_every_key_may_be_null() -> None:
    nulls = dict.fromkeys(field.encode_name for field in msgspec.structs.fields(Said))
    choice = {"index": 0, "delta": nulls, "message": None, "finish_reason": None, "logprobs": None, "stop_reason": None}
    more = dict.fromkeys(field.encode_name for field in msgspec.structs.fields(Chunk))
    events, _ = events_of(frame({**more, "choices": [choice]}), delta({"content": "Hi"}), finish())
    assert text_of(events) == "Hi"
    assert not of(ReplyFailed, events)


def test_keys_that_hold_no_content_may_have_any_type() -> None:
    odd = {"id": 7, "object": 3, "created": "yesterday", "model": ["m"], "x_groq": "no object", "usage": "none"}
    choice = {"index": None, "delta": {"role": 5, "content": "Hi"}, "finish_reason": "stop", "stop_reason": 128009}
    events, decoder = events_of(frame({**odd, "choices": [choice]}))
    assert events == [ReplyStarted(), TextDelta("Hi"), ChoiceFinished(FinishReason.STOP, 0, "stop")]
    assert decoder.ended


# --- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("eos", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("model_length", FinishReason.LENGTH),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("function_call", FinishReason.TOOL_CALLS),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("insufficient_system_resource", FinishReason.UNKNOWN),
    ],
)
def test_a_finish_word_is_understood_and_kept(word: str, reason: FinishReason) -> None:
    events, _ = events_of(finish(word))
    assert events[-1] == ChoiceFinished(reason, 0, word)


def test_a_repeated_finish_is_swallowed_and_a_different_one_changes_nothing() -> None:
    events, _ = events_of(delta({"content": "Hi"}), finish("tool_calls"), finish("tool_calls"), finish("stop"))
    assert of(ChoiceFinished, events) == [ChoiceFinished(FinishReason.TOOL_CALLS, 0, "tool_calls")]


def test_an_empty_finish_word_is_none() -> None:
    _, decoder = events_of(delta({"content": "Hi"}), finish(""))
    assert not decoder.ended


def test_the_stop_string_that_matched_is_kept() -> None:
    events, _ = events_of(chunk([{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "ENDE"}]))
    assert events[-1] == ChoiceFinished(FinishReason.STOP, 0, "stop", "ENDE")


def test_a_reply_ends_when_every_choice_that_was_asked_for_has_finished() -> None:
    decoder = ChatDecoder(True, 2, Quirks())
    decoder.feed(delta({"content": "one"}, choice=0))
    decoder.feed(finish(choice=0))
    assert not decoder.ended
    decoder.feed(delta({"content": "two"}, choice=1))
    assert not decoder.ended
    decoder.feed(finish(choice=1))
    assert decoder.ended
    assert not decoder.done


def test_a_choice_nobody_asked_for_is_waited_for_once_it_speaks() -> None:
    decoder = ChatDecoder(True, 1, Quirks())
    decoder.feed(delta({"content": "one"}, choice=0))
    decoder.feed(delta({"content": "two"}, choice=1))
    decoder.feed(finish(choice=0))
    assert not decoder.ended


def test_a_choice_that_never_spoke_is_not_waited_for_after_the_end_mark() -> None:
    _, decoder = events_of(delta({"content": "only one"}), finish(), DONE, choices=2)
    assert decoder.ended


def test_an_end_mark_does_not_end_a_choice_that_spoke_and_never_finished() -> None:
    frames = (delta({"content": "a"}, choice=0), delta({"content": "b"}, choice=1), finish(choice=0), DONE)
    events, decoder = events_of(*frames, choices=2)
    assert not decoder.ended
    assert decoder.done
    assert len(of(ChoiceFinished, events)) == 1


def test_an_end_mark_alone_ends_nothing() -> None:
    events, decoder = events_of(DONE)
    assert events == []
    assert not decoder.ended
    assert decoder.done


@pytest.mark.parametrize("mark", [b"[DONE]", b" [DONE]", b"[DONE] \n"])
def test_the_end_mark_may_have_space_around_it(mark: bytes) -> None:
    events, decoder = events_of(delta({"content": "Hi"}), finish(), Frame(mark))
    assert decoder.done
    assert not of(ReplyFailed, events)


def test_where_the_end_mark_is_the_end_the_missing_finish_is_supplied_at_it() -> None:
    quirks = Quirks(end="done")
    events, decoder = events_of(delta({"content": "Hi"}), chunk([], usage=usage()), DONE, quirks=quirks)
    assert events[-1] == ChoiceFinished(FinishReason.STOP, 0, "")
    assert decoder.ended


def test_where_the_usage_frame_is_the_end_the_missing_finish_is_supplied_before_it() -> None:
    quirks = Quirks(end="usage")
    events, decoder = events_of(
        delta({"content": "Hi"}), delta({"tool_calls": [call(index=0, id="c", name="sail")]}), quirks=quirks
    )
    assert not decoder.ended
    events, decoder = events_of(
        delta({"tool_calls": [call(index=0, id="c", name="sail")]}), chunk([], usage=usage()), quirks=quirks
    )
    assert events[-2] == ChoiceFinished(FinishReason.TOOL_CALLS, 0, "")
    assert isinstance(events[-1], UsageReported)
    assert decoder.ended


def test_usage_beside_content_is_not_the_usage_frame() -> None:
    quirks = Quirks(end="usage")
    events, decoder = events_of(delta({"content": "Hi"}, usage=usage()), quirks=quirks)
    assert not decoder.ended
    assert not of(ChoiceFinished, events)


def test_a_finish_that_comes_all_the_same_is_not_supplied_again() -> None:
    events, _ = events_of(delta({"content": "Hi"}), finish("length"), DONE, quirks=Quirks(end="done"))
    assert of(ChoiceFinished, events) == [ChoiceFinished(FinishReason.LENGTH, 0, "length")]


def test_a_cut_stream_is_not_ended_by_a_quirk() -> None:
    for quirks in (Quirks(), Quirks(end="done"), Quirks(end="usage")):
        events, decoder = events_of(delta({"content": "Hi"}), quirks=quirks)
        assert not decoder.ended
        assert not of(ChoiceFinished, events)


def test_a_whole_reply_without_a_finish_word_is_finished_by_being_whole() -> None:
    body = {"id": "x", "choices": [{"index": 0, "message": {"content": "A quay."}, "finish_reason": ""}]}
    events, decoder = events_of(frame(body), streamed=False)
    assert events[-1] == ChoiceFinished(FinishReason.STOP, 0, "")
    assert decoder.ended


# --- content ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_reasoning_is_reasoning_under_either_name(key: str) -> None:
    events, _ = events_of(delta({key: "Tides turn."}), delta({"content": "Noon."}), finish())
    assert of(ReasoningDelta, events) == [ReasoningDelta("Tides turn.")]
    assert text_of(events) == "Noon."


def test_reasoning_said_under_both_names_is_said_once() -> None:
    events, _ = events_of(delta({"reasoning_content": "Tides.", "reasoning": "Tides."}))
    assert of(ReasoningDelta, events) == [ReasoningDelta("Tides.")]


def test_reasoning_details_are_said_once_beside_the_plain_text_and_keep_their_proofs_in_order() -> None:
    details = [
        {"type": "reasoning.text", "text": "First. ", "signature": "sig-a", "index": 0},
        {"type": "reasoning.encrypted", "data": "b64-b", "index": 1},
        {"type": "reasoning.summary", "summary": "Then.", "index": 2},
    ]
    events, _ = events_of(delta({"reasoning": "First. Then.", "reasoning_details": details}))
    assert events[1:] == [
        ReasoningDelta("First. "),
        ReasoningSigned("sig-a"),
        RedactedReasoningGiven("b64-b"),
        ReasoningDelta("Then."),
    ]


def test_details_that_only_prove_leave_the_plain_text_to_be_read() -> None:
    details = [{"type": "reasoning.text", "text": None, "signature": "sig-a"}]
    events, _ = events_of(delta({"reasoning": "Tides.", "reasoning_details": details}))
    assert events[1:] == [ReasoningDelta("Tides."), ReasoningSigned("sig-a")]


def test_mistrals_thinking_parts_are_reasoning() -> None:
    content = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Wind "}, {"type": "text", "text": "west."}]},
        {"type": "text", "text": "Sail."},
        {"type": "reference", "reference_ids": [1]},
    ]
    events, _ = events_of(delta({"content": content}))
    assert events[1:3] == [ReasoningDelta("Wind west."), TextDelta("Sail.")]
    (opaque,) = of(OpaqueGiven, events)
    assert (opaque.kind, bytes(opaque.raw)) == ("reference", b'{"type":"reference","reference_ids":[1]}')


def test_an_answer_that_is_an_object_is_its_json_text() -> None:
    message = {"role": "assistant", "content": {"berth": 12, "free": True, "depth": 2.50}}
    events, _ = events_of(frame({"id": "x", "choices": [{"index": 0, "message": message}]}), streamed=False)
    assert json.loads(text_of(events)) == {"berth": 12, "free": True, "depth": 2.5}


def test_a_refusal_is_a_refusal() -> None:
    events, _ = events_of(delta({"refusal": "I will not "}), delta({"refusal": "sink it."}), finish())
    assert of(RefusalDelta, events) == [RefusalDelta("I will not "), RefusalDelta("sink it.")]
    assert events[-1] == ChoiceFinished(FinishReason.STOP, 0, "stop")


def test_log_probabilities_are_carried_word_for_word() -> None:
    raw: dict[str, Any] = {
        "content": [{"token": "Hi", "logprob": -0.1, "bytes": None, "top_logprobs": []}],
        "refusal": None,
    }
    events, _ = events_of(chunk([{"index": 1, "delta": {"content": "Hi"}, "logprobs": raw}]))
    (given,) = of(LogprobsGiven, events)
    assert given.choice == 1
    assert json.loads(bytes(given.raw)) == raw


def test_what_has_no_word_is_carried_by_its_kind() -> None:
    annotation = [{"type": "url_citation", "url_citation": {"url": "https://example.org", "title": "Pier"}}]
    audio = {"id": "a", "data": "UklGRg==", "expires_at": 1, "transcript": "ahoy"}
    events, _ = events_of(delta({"annotations": annotation, "audio": audio, "images": [{"type": "image_url"}]}))
    assert [(opaque.kind, json.loads(bytes(opaque.raw))) for opaque in of(OpaqueGiven, events)] == [
        ("annotations", annotation),
        ("audio", audio),
        ("images", [{"type": "image_url"}]),
    ]


def test_what_says_nothing_is_not_carried() -> None:
    empty: dict[str, Any] = {
        "annotations": [],
        "audio": {"data": "", "expires_at": 0, "id": "", "transcript": ""},
        "images": None,
    }
    events, _ = events_of(delta({"content": "Hi", **empty}))
    assert not of(OpaqueGiven, events)


def test_citations_repeated_in_every_chunk_are_carried_once() -> None:
    sources = ["https://example.org/a"]
    events, _ = events_of(
        delta({"content": "One "}, citations=sources), delta({"content": "two"}, citations=sources), finish()
    )
    (citations,) = of(OpaqueGiven, events)
    assert (citations.kind, json.loads(bytes(citations.raw))) == ("citations", sources)


def test_the_text_so_far_beside_a_delta_is_not_said_again() -> None:
    choice = {"index": 0, "message": {"content": "Low tide"}, "delta": {"content": " tide"}, "finish_reason": None}
    events, _ = events_of(delta({"content": "Low"}), chunk([choice]))
    assert text_of(events) == "Low tide"


def test_a_whole_message_at_the_end_of_minimaxs_stream_is_not_said_again() -> None:
    whole = {"index": 0, "message": {"role": "assistant", "content": "Low tide"}, "finish_reason": "stop"}
    placeholder = {"total_tokens": 0, "total_characters": 0}
    events, decoder = events_of(
        delta({"content": "Low"}, usage=placeholder),
        delta({"content": " tide"}, usage=placeholder),
        chunk([whole], object="chat.completion", usage=usage(10, 20)),
    )
    assert text_of(events) == "Low tide"
    assert decoder.ended
    assert of(UsageReported, events)[-1].report.counts[Counter.OUTPUT] == 20


def test_a_whole_message_that_nothing_came_before_is_the_text() -> None:
    whole = {"index": 0, "message": {"role": "assistant", "content": "Low tide"}, "finish_reason": "stop"}
    events, _ = events_of(delta({"role": "assistant", "content": ""}), chunk([whole]))
    assert text_of(events) == "Low tide"


def test_messages_instead_of_deltas_go_on_where_the_last_one_ended() -> None:
    pieces = [{"index": 0, "message": {"content": said}, "finish_reason": None} for said in ("Low", " tide")]
    events, _ = events_of(*(chunk([piece]) for piece in pieces))
    assert text_of(events) == "Low tide"


def test_moonshots_usage_inside_the_last_choice_is_a_report() -> None:
    last = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage(19, 13)}
    events, _ = events_of(delta({"content": "Hi"}), chunk([last]))
    (reported,) = of(UsageReported, events)
    assert (reported.report.counts[Counter.INPUT], reported.report.counts[Counter.OUTPUT]) == (19, 13)


def test_usage_inside_a_choice_yields_to_the_frames_own() -> None:
    last = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage(19, 13)}
    events, _ = events_of(delta({"content": "Hi"}), chunk([last], usage=usage(20, 14)))
    (reported,) = of(UsageReported, events)
    assert reported.report.counts[Counter.INPUT] == 20


# --- tools -----------------------------------------------------------------------------------------------------------


def test_a_call_is_started_once_and_its_arguments_follow() -> None:
    events, _ = events_of(
        delta({"tool_calls": [call(index=0, id="c-1", type="function", name="sail", arguments="")]}),
        delta({"tool_calls": [call(index=0, arguments='{"to":')]}),
        delta({"tool_calls": [call(index=0, id=None, name=None, arguments='"pier"}')]}),
        finish("tool_calls"),
    )
    assert calls(events) == [(0, "c-1", "sail", '{"to":"pier"}')]


def test_deltas_without_an_index_are_told_apart_by_id() -> None:
    events, _ = events_of(
        delta({"tool_calls": [call(id="c-1", name="sail", arguments='{"to":')]}),
        delta({"tool_calls": [call(arguments='"pier"}')]}),
        delta({"tool_calls": [call(id="c-2", name="sail", arguments='{"to":"bay"}')]}),
        delta({"tool_calls": [call(id="c-1", arguments=" ")]}),
    )
    assert calls(events) == [(0, "c-1", "sail", '{"to":"pier"} '), (1, "c-2", "sail", '{"to":"bay"}')]


def test_parallel_calls_whole_in_one_delta_stay_apart_without_index_and_id() -> None:
    listed = [call(name="sail", arguments='{"to":"pier"}'), call(name="sail", arguments='{"to":"bay"}')]
    events, _ = events_of(delta({"tool_calls": listed}), finish("tool_calls"))
    assert calls(events) == [(0, "", "sail", '{"to":"pier"}'), (1, "", "sail", '{"to":"bay"}')]


def test_two_calls_under_one_index_never_share_a_number() -> None:
    events, _ = events_of(
        delta({"tool_calls": [call(index=0, id="c-1", name="sail", arguments="{}")]}),
        delta({"tool_calls": [call(index=0, id="c-2", name="moor", arguments="{}")]}),
    )
    assert calls(events) == [(0, "c-1", "sail", "{}"), (1, "c-2", "moor", "{}")]


def test_a_new_id_in_every_delta_of_one_call_does_not_split_it() -> None:
    events, _ = events_of(
        delta({"tool_calls": [call(index=0, id="gen-1", name="sail", arguments="{")]}),
        delta({"tool_calls": [call(index=0, id="gen-2", arguments="}")]}),
    )
    assert calls(events) == [(0, "gen-1", "sail", "{}")]


def test_calls_are_counted_from_nought_whatever_the_provider_counts_from() -> None:
    events, _ = events_of(
        delta({"tool_calls": [call(index=1, id="c-1", name="sail", arguments="{}")]}),
        delta({"tool_calls": [call(index=3, id="c-2", name="moor", arguments="{}")]}),
    )
    assert [number for number, *_ in calls(events)] == [0, 1]


def test_calls_of_different_choices_are_counted_apart() -> None:
    events, _ = events_of(
        delta({"tool_calls": [call(index=0, id="c-1", name="sail", arguments="{}")]}, choice=0),
        delta({"tool_calls": [call(index=0, id="c-2", name="moor", arguments="[]")]}, choice=1),
    )
    assert [(started.choice, started.call) for started in of(ToolCallStarted, events)] == [(0, 0), (1, 0)]


def test_arguments_that_are_an_object_become_its_json_text() -> None:
    events, _ = events_of(delta({"tool_calls": [call(index=0, id="c", name="sail", arguments={"to": "pier", "n": 1})]}))
    ((_, _, _, arguments),) = calls(events)
    assert json.loads(arguments) == {"to": "pier", "n": 1}


@pytest.mark.parametrize("arguments", [{}, {"arguments": ""}, {"arguments": None}, {"arguments": {}}])
def test_a_call_without_arguments_gets_an_empty_object_before_its_choice_finishes(arguments: dict[str, Any]) -> None:
    events, _ = events_of(delta({"tool_calls": [call(index=0, id="c", name="anchor", **arguments)]}), finish("stop"))
    assert calls(events) == [(0, "c", "anchor", "{}")]
    assert isinstance(events[-1], ChoiceFinished)


def test_a_name_that_comes_after_the_id_still_starts_the_call_with_both() -> None:
    events, _ = events_of(
        delta({"tool_calls": [call(index=0, id="c-1")]}),
        delta({"tool_calls": [call(index=0, name="sail", arguments="{}")]}),
    )
    assert calls(events) == [(0, "c-1", "sail", "{}")]


def test_no_name_is_made_up() -> None:
    events, _ = events_of(delta({"tool_calls": [call(index=0, arguments="{}")]}), finish("tool_calls"))
    assert calls(events) == [(0, "", "", "{}")]


def test_a_legacy_function_call_is_a_call_without_an_id() -> None:
    events, _ = events_of(
        delta({"function_call": {"name": "sail", "arguments": ""}}),
        delta({"function_call": {"arguments": '{"to":"pier"}'}}),
        finish("function_call"),
    )
    assert calls(events) == [(0, "", "sail", '{"to":"pier"}')]
    assert events[-1] == ChoiceFinished(FinishReason.TOOL_CALLS, 0, "function_call")


def test_an_empty_legacy_function_call_is_none() -> None:
    events, _ = events_of(delta({"content": "Hi", "function_call": {"name": "", "arguments": ""}}), finish())
    assert calls(events) == []


def test_a_null_entry_among_the_calls_is_a_bad_reply_not_a_crash() -> None:
    events, _ = events_of(delta({"tool_calls": [None]}))
    assert failure_in(events).failure.kind is FailureKind.BAD_REPLY


def test_a_provider_that_begins_calls_without_end_is_stopped() -> None:
    many = [call(name="sail") for _ in range(1_100)]
    events, _ = events_of(delta({"tool_calls": many}))
    assert failure_in(events).failure.kind is FailureKind.BAD_REPLY
    assert len(of(ToolCallStarted, events)) <= 1_024


# --- usage -----------------------------------------------------------------------------------------------------------


def test_every_report_is_passed_on_in_order() -> None:
    events, _ = events_of(
        delta({"content": "a"}, usage=usage(11, 1)),
        delta({"content": "b"}, usage=usage(11, 2)),
        finish(usage=usage(11, 2)),
        chunk([], usage=usage(11, 2)),
        DONE,
    )
    assert [event.report.counts[Counter.OUTPUT] for event in of(UsageReported, events)] == [1, 2, 2, 2]


def test_groqs_own_place_is_read_too() -> None:
    events, _ = events_of(
        chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}], x_groq={"id": "r", "usage": usage()})
    )
    (report,) = of(UsageReported, events)
    assert report.report.counts[Counter.INPUT] == 11


def test_the_reply_has_one_scope_unless_choices_are_counted_apart() -> None:
    frames = (finish(choice=1), finish(choice=0), chunk([], usage=usage(9, 3)), chunk([], usage=usage(9, 5)))
    plain, _ = events_of(*frames, choices=2)
    frames = (finish(choice=1), chunk([], usage=usage(9, 3)), finish(choice=0), chunk([], usage=usage(9, 5)))
    apart, _ = events_of(*frames, choices=2, quirks=Quirks(usage_per_choice=True))
    unknown, _ = events_of(*frames, choices=2)
    alone, _ = events_of(finish(), chunk([], usage=usage()), quirks=Quirks(usage_per_choice=True))
    assert [event.report.scope for event in of(UsageReported, plain)] == [None, None]
    assert [event.report.scope for event in of(UsageReported, apart)] == [1, 0]
    assert [event.report.scope for event in of(UsageReported, unknown)] == [1, 0], "the bytes say it too"
    assert [event.report.scope for event in of(UsageReported, alone)] == [None]


def test_a_whole_reply_of_choices_counted_apart_reports_the_first() -> None:
    listed = [{"index": n, "message": {"content": "Hi"}, "finish_reason": "stop"} for n in range(2)]
    body = frame({"id": "x", "choices": listed, "usage": usage()})
    events, _ = events_of(body, streamed=False, choices=2, quirks=Quirks(usage_per_choice=True))
    (report,) = of(UsageReported, events)
    assert report.report.scope == 0


TIMINGS = {"cache_n": 30, "prompt_n": 12, "predicted_n": 7}


def test_timings_count_when_no_usage_object_came() -> None:
    events, _ = events_of(delta({"content": "Hi"}), finish(timings=TIMINGS))
    (report,) = of(UsageReported, events)
    assert report.report.counts == {Counter.INPUT: 42, Counter.CACHE_READ: 30, Counter.OUTPUT: 7}


def test_timings_do_not_count_beside_a_usage_object() -> None:
    events, _ = events_of(finish(timings=TIMINGS), chunk([], usage=usage(), timings=TIMINGS), DONE)
    (report,) = of(UsageReported, events)
    assert report.report.counts[Counter.INPUT] == 11


# --- errors ----------------------------------------------------------------------------------------------------------


def test_an_error_beside_content_and_usage_comes_after_them() -> None:
    frames = delta(
        {"content": "cut"}, reason="length", usage=usage(), error={"code": 400, "message": "Token limit reached"}
    )
    events, decoder = events_of(frames, DONE)
    assert [type(event) for event in events] == [ReplyStarted, TextDelta, ChoiceFinished, UsageReported, ReplyFailed]
    assert failure_in(events).failure.message == "Token limit reached"
    assert decoder.done


@pytest.mark.parametrize(
    "error",
    [
        frame({"error": {"message": "No tool was called.", "code": "tool_use_failed", "status_code": 400}}, "error"),
        frame({"message": "No tool was called.", "code": "tool_use_failed"}, "error"),
        frame({"error": "No tool was called."}),
        frame({"object": "error", "message": "No tool was called.", "code": 400}),
        chunk([], x_groq={"error": {"message": "No tool was called."}}),
    ],
)
def test_an_error_frame_is_a_failure_with_the_providers_message(error: Frame) -> None:
    events, decoder = events_of(delta({"content": "Hi"}), error)
    assert failure_in(events).failure.message == "No tool was called."
    assert not decoder.ended


@pytest.mark.parametrize("nothing", [None, {}, "", False])
def test_an_error_that_is_nothing_is_none(nothing: Any) -> None:
    events, decoder = events_of(delta({"content": "Hi"}, error=nothing), finish(error=nothing))
    assert not of(ReplyFailed, events)
    assert decoder.ended


def test_a_quirk_supplies_no_finish_after_an_error() -> None:
    for quirks in (Quirks(end="done"), Quirks(end="usage")):
        events, decoder = events_of(
            delta({"content": "Hi"}), frame({"error": {"message": "boom"}}), chunk([], usage=usage()), DONE,
            quirks=quirks,
        )  # fmt: skip
        assert not decoder.ended
        assert not of(ChoiceFinished, events)


SECRET_TEXT = "the harbour master's private diary"


@pytest.mark.parametrize(
    "data",
    [
        f"<html><body>{SECRET_TEXT}</body></html>".encode(),
        f'{{"choices":[{{"delta":{{"content":"{SECRET_TEXT}'.encode(),
        f'"{SECRET_TEXT}"'.encode(),
        b"null",
        b"17",
        b"[]",
        b"\xff\xfe\x00",
        b'{"choices":{"0":{}}}',
        b'{"choices":[{"index":0,"delta":{"content":17}}]}',
        b'{"choices":[{"index":0,"delta":{"content":[17]}}]}',
        b'{"choices":[{"index":0,"delta":"text"}]}',
        b'{"choices":[{"index":-1,"delta":{"content":"x"}}]}',
        b'{"choices":[{"index":100000,"delta":{"content":"x"}}]}',
        b'{"choices":[{"index":0,"delta":{"tool_calls":[{"function":{"arguments":[1]}}]}}]}',
        b"[" * 100_000,
        b'{"choices":' * 50_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"choices":[]}',
        b'{"choices":[{"index":0,"delta":{"content":"\\ud800"}}]}',
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_what_is_no_reply_is_the_providers_bad_reply_and_is_not_quoted(data: bytes, streamed: bool) -> None:
    events, decoder = events_of(Frame(data), streamed=streamed)
    failure = failure_in(events).failure
    assert failure.kind is FailureKind.BAD_REPLY
    assert failure.fault is Fault.PROVIDER
    assert failure.status == 502
    assert SECRET_TEXT not in failure.message
    assert not decoder.ended


def test_a_choice_with_no_place_and_no_words_says_nothing() -> None:
    events, decoder = events_of(chunk([{}]), delta({"content": "Hi"}), finish())
    assert text_of(events) == "Hi"
    assert decoder.ended


# --- recordings ------------------------------------------------------------------------------------------------------


def plain(events: list[Event]) -> bytes:
    return msgspec.json.encode(events)


def test_every_recorded_stream_is_the_same_whole_and_byte_by_byte() -> None:
    streams = [one for one in recordings() if one.streamed and one.status < 400]
    assert len(streams) > 80
    for one in streams:
        once = decode_bytes(one.body, streamed=True, choices=one.choices, quirks=Quirks())
        for step in (1, 7, 4096):
            again = decode_bytes(one.body, streamed=True, choices=one.choices, quirks=Quirks(), step=step)
            assert plain(again) == plain(once), one.id


def test_every_recorded_reply_is_read_without_a_bad_frame() -> None:
    for one in recordings():
        if one.status >= 400:
            continue
        events = decode_bytes(one.body, streamed=one.streamed, choices=one.choices, quirks=Quirks())
        kinds = {event.failure.kind for event in of(ReplyFailed, events)}
        assert FailureKind.BAD_REPLY not in kinds, one.id
        assert kinds or of(UsageReported, events) or of(ChoiceFinished, events), one.id
        assert sum(isinstance(event, ReplyStarted) for event in events) <= 1, one.id


def test_every_recorded_call_has_a_name_and_arguments_that_are_json() -> None:
    seen = 0
    for one in recordings():
        if one.status >= 400:
            continue
        events = decode_bytes(one.body, streamed=one.streamed, choices=one.choices, quirks=Quirks())
        finished = {event.choice for event in of(ChoiceFinished, events)}
        for number, _, name, arguments in calls([e for e in events if getattr(e, "choice", 0) in finished]):
            assert name, (one.id, number)
            json.loads(arguments)
            seen += 1
    assert seen > 40


def test_a_recorded_stream_cut_at_any_byte_reads_as_a_prefix_of_itself() -> None:
    short = [one for one in recordings() if one.streamed and one.status < 400 and len(one.body) < 4_000]
    assert len(short) >= 10
    for one in short:
        events = decode_bytes(one.body, streamed=True, choices=one.choices, quirks=Quirks())
        said = [plain([event]) for event in events]
        framing, decoder, heard = SseFraming(8 << 20), OPENAI_CHAT.decoder(True, one.choices, Quirks()), 0
        for place in range(len(one.body)):
            for whole in framing.feed(one.body[place : place + 1]):
                for event in decoder.feed(whole):
                    assert plain([event]) == said[heard], (one.id, place)
                    heard += 1
