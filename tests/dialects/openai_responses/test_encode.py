"""What a client of this dialect reads when the provider speaks another one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx2
import msgspec
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.responses._responses import ResponseStreamState

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
    ReplyStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.dialects.dialect import FinalUsage
from counterfoil.dialects.openai_responses import OPENAI_RESPONSES
from counterfoil.dialects.openai_responses.encode import OUTPUT_ITEMS, ResponsesEncoder
from counterfoil.dialects.openai_responses.thought import ORIGIN, pack
from counterfoil.usage.reading import Counter, Report
from counterfoil.usage.usage import Bucket, Usage

from .schema import checked, frames_of_stream, of_client, published
from .support import decode, facts

USAGE = Usage({Bucket.INPUT: 30, Bucket.CACHE_READ: 10, Bucket.OUTPUT: 7, Bucket.REASONING: 5})
FINAL = FinalUsage(USAGE)
BROKE = Failure(FailureKind.OVERLOADED, "Too busy.", Fault.PROVIDER, 503)
NOTE = {"type": "url_citation", "url": "https://example.org/a", "title": "A", "start_index": 0, "end_index": 3}

THEIRS = ReplyStarted("msg_theirs", "theirs", 7)

REPLIES: dict[str, list[Event]] = {
    "text": [THEIRS, TextDelta("One "), TextDelta("two."), ChoiceFinished(FinishReason.STOP)],
    "nothing": [THEIRS, ChoiceFinished(FinishReason.STOP)],
    "reasoning": [
        THEIRS,
        ReasoningDelta("We "),
        ReasoningDelta("add."),
        ReasoningSigned("c2lnbmVk"),
        RedactedReasoningGiven("aGlkZGVu"),
        ReasoningDelta("Unproved."),
        TextDelta("4"),
        ChoiceFinished(FinishReason.STOP),
    ],
    "calls": [
        THEIRS,
        TextDelta("Let me look."),
        ToolCallStarted(0, "call_a", "look"),
        ToolArgumentsDelta(0, '{"a":'),
        ToolArgumentsDelta(0, "1}"),
        ToolCallStarted(1, "", "now"),
        ToolArgumentsDelta(1, "{}"),
        ChoiceFinished(FinishReason.TOOL_CALLS),
    ],
    "interleaved calls": [
        ToolCallStarted(0, "call_a", "look"),
        ToolCallStarted(1, "call_b", "look"),
        ToolArgumentsDelta(0, '{"a":'),
        ToolArgumentsDelta(1, '{"b":'),
        ToolArgumentsDelta(0, "1}"),
        ToolArgumentsDelta(1, "2}"),
        TextDelta("So."),
        ChoiceFinished(FinishReason.TOOL_CALLS),
    ],
    "refusal": [
        TextDelta("Well. "),
        RefusalDelta("I will "),
        RefusalDelta("not."),
        ChoiceFinished(FinishReason.REFUSAL),
    ],
    "log probabilities": [
        TextDelta("Hi"),
        LogprobsGiven(
            msgspec.Raw(
                b'{"content":[{"token":"Hi","logprob":-0.5,"bytes":null,'
                b'"top_logprobs":[{"token":"Ho","logprob":-1.5,"bytes":[72,111]}]}]}'
            )
        ),
        ChoiceFinished(FinishReason.STOP),
    ],
    "citations": [
        TextDelta("Tea"),
        OpaqueGiven("annotation", msgspec.Raw(json.dumps(NOTE).encode())),
        OpaqueGiven(
            "annotations",
            msgspec.Raw(b'[{"type":"url_citation","url_citation":{"url":"https://example.org/b"}}]'),
        ),
        ChoiceFinished(FinishReason.STOP),
    ],
    "an item of this wire": [
        OpaqueGiven(
            "web_search_call",
            msgspec.Raw(
                b'{"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search","query":"tea"}}'
            ),
        ),
        TextDelta("There."),
        ChoiceFinished(FinishReason.STOP),
    ],
    "cut off": [
        TextDelta("Once upon"),
        ToolCallStarted(0, "call_a", "look"),
        ToolArgumentsDelta(0, '{"a":'),
        ChoiceFinished(FinishReason.LENGTH),
    ],
    "filtered": [TextDelta("Once"), ChoiceFinished(FinishReason.CONTENT_FILTER)],
    "without an end": [TextDelta("Once")],
}
EVERY = pytest.mark.parametrize("events", REPLIES.values(), ids=REPLIES.keys())


def body_of(events: Sequence[Event], final: FinalUsage = FINAL) -> bytes:
    encoder = ResponsesEncoder(facts(streamed=False))
    assert encoder.encode(events) == b""
    return encoder.close(final)


def written(events: Sequence[Event], final: FinalUsage = FINAL, **changes: Any) -> bytes:
    encoder = ResponsesEncoder(facts(**changes))
    return encoder.encode(events) + encoder.close(final)


def stream(events: Sequence[Event], final: FinalUsage = FINAL, **changes: Any) -> list[dict[str, Any]]:
    return frames_of_stream(written(events, final, **changes))


def output(events: Sequence[Event]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = stream(events)[-1]["response"]["output"]
    return items


@EVERY
def test_every_event_is_valid_and_in_its_place(events: list[Event]) -> None:
    response = checked(stream(events))
    assert response.model == "house-model"
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (40, 12)
    assert response.usage.input_tokens_details.cached_tokens == 10
    assert response.usage.output_tokens_details.reasoning_tokens == 5


@EVERY
def test_how_events_come_together_changes_only_how_text_is_cut(events: list[Event]) -> None:
    encoder = ResponsesEncoder(facts())
    apart = b"".join(encoder.encode([event]) for event in events if not isinstance(event, LogprobsGiven))
    together = [event for event in events if not isinstance(event, LogprobsGiven)]
    assert apart + encoder.close(FINAL) == written(together)


@EVERY
def test_a_whole_response_is_valid_and_is_the_streams_last(events: list[Event]) -> None:
    body = json.loads(body_of(events))
    published("Response", body)
    assert body == stream(events)[-1]["response"]


@EVERY
def test_what_is_written_reads_back_as_it_was(events: list[Event]) -> None:
    told = decode(written(events))
    assert told.text == "".join(event.text for event in events if isinstance(event, TextDelta))
    assert told.refusal == "".join(event.text for event in events if isinstance(event, RefusalDelta))
    calls = [event for event in events if isinstance(event, ToolCallStarted)]
    assert [name for _, name, _ in raw_calls(told.events)] == [call.name for call in calls]
    assert told.ended
    assert told.settlement.usage.output_tokens == 12
    again = decode(body_of(events), streamed=False)
    assert (again.text, again.refusal, again.reasoning) == (told.text, told.refusal, told.reasoning)
    assert raw_calls(again.events) == raw_calls(told.events)
    assert again.of(ChoiceFinished) == told.of(ChoiceFinished)
    assert again.of(ReasoningSigned) == told.of(ReasoningSigned)
    assert again.settlement == told.settlement


def raw_calls(events: Sequence[Event]) -> list[tuple[str, str, str]]:
    arguments: dict[int, str] = {}
    for event in events:
        if isinstance(event, ToolArgumentsDelta):
            arguments[event.call] = arguments.get(event.call, "") + event.arguments
    starts = [event for event in events if isinstance(event, ToolCallStarted)]
    return [(start.id, start.name, arguments[start.call]) for start in starts]


@EVERY
def test_the_official_clients_helper_puts_the_reply_together(events: list[Event]) -> None:
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=openai.omit, text_format=openai.omit)
    for frame in stream(events):
        state.handle_event(of_client(frame))
    response = state._completed_response
    finish = next((event.reason for event in events if isinstance(event, ChoiceFinished)), FinishReason.STOP)
    assert (response is None) == (finish in (FinishReason.LENGTH, FinishReason.CONTENT_FILTER))
    if response is not None:
        assert response.output_text == "".join(event.text for event in events if isinstance(event, TextDelta))


def test_usage_comes_once_and_last_whatever_the_provider_reported_on_its_way() -> None:
    report = UsageReported(Report({Counter.INPUT: 999, Counter.OUTPUT: 999}))
    frames = stream([report, TextDelta("Hi"), report, ChoiceFinished(FinishReason.STOP), report])
    told = [frame["response"]["usage"] for frame in frames if "response" in frame]
    assert told == [None, None, frames[-1]["response"]["usage"]]
    assert told[-1]["total_tokens"] == 52


def test_unknown_usage_is_null_and_an_estimate_is_marked() -> None:
    assert stream(REPLIES["text"], FinalUsage(None))[-1]["response"]["usage"] is None
    assert stream(REPLIES["text"], FinalUsage(USAGE, estimated=True))[-1]["response"]["usage"]["estimated"] is True


def test_nothing_is_sent_before_there_is_something_to_say() -> None:
    encoder = ResponsesEncoder(facts())
    assert encoder.encode([ReplyStarted("msg_theirs", "theirs", 7)]) == b""
    (created, _, *_) = frames_of_stream(encoder.encode([TextDelta("Hi")]))
    assert (created["response"]["id"], created["response"]["created_at"]) == ("msg_theirs", 7)


def test_a_reply_without_an_id_gets_ours() -> None:
    assert stream([TextDelta("Hi")])[0]["response"]["id"] == "resp_ours"


# ---- items


def test_a_call_ends_when_something_else_begins_if_its_arguments_are_complete() -> None:
    kinds = [frame["type"].removeprefix("response.") for frame in stream(REPLIES["calls"])]
    first = kinds.index("function_call_arguments.done")
    assert kinds[first + 1 : first + 3] == ["output_item.done", "output_item.added"]


def test_calls_that_are_said_beside_each_other_keep_their_own_arguments() -> None:
    calls = [(item["call_id"], item["arguments"]) for item in output(REPLIES["interleaved calls"]) if "call_id" in item]
    assert calls == [("call_a", '{"a":1}'), ("call_b", '{"b":2}')]


def test_a_call_without_an_id_gets_one_that_stays() -> None:
    call = output(REPLIES["calls"])[2]
    (added,) = [
        frame for frame in stream(REPLIES["calls"]) if frame["type"].endswith("added") and frame["output_index"] == 2
    ]
    assert call["call_id"]
    assert added["item"]["call_id"] == call["call_id"]


@pytest.mark.parametrize(
    ("reason", "event", "why"),
    [
        (FinishReason.STOP, "response.completed", None),
        (FinishReason.TOOL_CALLS, "response.completed", None),
        (FinishReason.REFUSAL, "response.completed", None),
        (FinishReason.PAUSED, "response.completed", None),
        (FinishReason.UNKNOWN, "response.completed", None),
        (FinishReason.LENGTH, "response.incomplete", {"reason": "max_output_tokens"}),
        (FinishReason.CONTENT_FILTER, "response.incomplete", {"reason": "content_filter"}),
    ],
)
def test_every_finish_has_its_terminal_event(reason: FinishReason, event: str, why: Any) -> None:
    last = stream([TextDelta("Hi"), ChoiceFinished(reason)])[-1]
    assert (last["type"], last["response"]["incomplete_details"]) == (event, why)
    assert last["response"]["output"][0]["status"] == ("completed" if why is None else "incomplete")


@pytest.mark.parametrize(
    ("event", "summary", "encrypted"),
    [
        (ReasoningSigned("c2lnbmVk"), [{"type": "summary_text", "text": "Hm."}], "anthropic-claude-v1:c2lnbmVk"),
        (
            ReasoningSigned("c2ln", origin="google-gemini-v1"),
            [{"type": "summary_text", "text": "Hm."}],
            "google-gemini-v1:c2ln",
        ),
        (
            ReasoningSigned(pack("rs_1", "gAAAx"), origin=ORIGIN),
            [{"type": "summary_text", "text": "Hm."}],
            "openai-responses-v1:rs_1:gAAAx",
        ),
    ],
)
def test_a_proof_names_its_maker(event: Event, summary: Any, encrypted: str) -> None:
    (item, *_) = output([ReasoningDelta("Hm."), event, TextDelta("So.")])
    assert (item["summary"], item["encrypted_content"]) == (summary, encrypted)


def test_a_block_that_is_encrypted_whole_has_no_summary_and_a_signed_one_without_text_an_empty_one() -> None:
    hidden, signed, _ = output([RedactedReasoningGiven("aGk="), ReasoningSigned("c2ln"), TextDelta("So.")])
    assert (hidden["summary"], hidden["encrypted_content"]) == ([], "anthropic-claude-v1:aGk=")
    assert (signed["summary"], signed["encrypted_content"]) == (
        [{"type": "summary_text", "text": ""}],
        "anthropic-claude-v1:c2ln",
    )


def test_log_probabilities_stand_with_their_text() -> None:
    frames = stream(REPLIES["log probabilities"])
    (delta,) = [frame for frame in frames if frame["type"] == "response.output_text.delta"]
    assert delta["logprobs"] == [{"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "Ho", "logprob": -1.5}]}]
    (entry,) = frames[-1]["response"]["output"][0]["content"][0]["logprobs"]
    assert entry["bytes"] == [72, 105]
    assert entry["top_logprobs"] == [{"token": "Ho", "logprob": -1.5, "bytes": [72, 111]}]


def test_citations_stand_with_their_text() -> None:
    (item,) = output(REPLIES["citations"])
    assert [note["url"] for note in item["content"][0]["annotations"]] == [
        "https://example.org/a",
        "https://example.org/b",
    ]


@pytest.mark.parametrize(
    "event",
    [
        OpaqueGiven("citation", msgspec.Raw(b'{"type":"char_location"}')),
        OpaqueGiven("server_tool_use", msgspec.Raw(b'{"type":"server_tool_use","id":"x"}')),
        OpaqueGiven("annotations", msgspec.Raw(b'{"not":"a list"}')),
        OpaqueGiven("annotations", msgspec.Raw(b'[{"type":"url_citation"}]')),
        OpaqueGiven("annotations", msgspec.Raw(b'[{"type":"url_citation","url_citation":{"title":"B"}}]')),
        OpaqueGiven("annotations", msgspec.Raw(b'[{"type":"other","url_citation":{"url":"https://example.org/b"}}]')),
        OpaqueGiven("web_search_call", msgspec.Raw(b'{"type":"other"}')),
        OpaqueGiven("web_search_call", msgspec.Raw(b"[1")),
        TextDelta("Second choice", choice=1),
        ToolCallStarted(0, "x", "y", choice=1),
        ChoiceFinished(FinishReason.LENGTH, choice=1),
        TextDelta(""),
    ],
)
def test_what_this_wire_has_no_words_for_is_left_out(event: Event) -> None:
    assert stream([TextDelta("Hi"), event, ChoiceFinished(FinishReason.STOP)]) == stream(
        [TextDelta("Hi"), ChoiceFinished(FinishReason.STOP)]
    )


# ---- failures


def test_a_part_is_done_before_the_next_one_begins() -> None:
    events: list[Event] = [
        TextDelta("Yes, "),
        TextDelta("but"),
        RefusalDelta("no."),
        TextDelta("Sorry."),
        ChoiceFinished(FinishReason.STOP),
    ]
    kinds = [frame["type"].removeprefix("response.") for frame in stream(events)]
    first, last = kinds.index("content_part.added"), len(kinds) - kinds[::-1].index("content_part.done")
    text = ["content_part.added", "output_text.delta", "output_text.done", "content_part.done"]
    refusal = ["content_part.added", "refusal.delta", "refusal.done", "content_part.done"]
    assert kinds[first:last] == [*text[:2], *text[1:], *refusal, *text]


def test_a_failure_is_an_error_and_a_response_that_failed() -> None:
    encoder = ResponsesEncoder(facts())
    frames = frames_of_stream(encoder.encode([TextDelta("Once")]) + encoder.fail(BROKE))
    checked(frames)
    error, failed = frames[-2:]
    assert (error["type"], error["message"]) == ("error", "Too busy.")
    assert failed["response"]["error"] == {"code": "server_error", "message": "Too busy."}
    assert failed["response"]["status"] == "failed"


def test_the_official_client_raises() -> None:
    encoder = ResponsesEncoder(facts())
    out = encoder.encode([TextDelta("Once")]) + encoder.fail(BROKE)
    with pytest.raises(openai.APIError, match="Too busy"):
        consume(out)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure(FailureKind.CONTEXT_WINDOW, "Long.", Fault.CLIENT, 400), "context_length_exceeded"),
        (Failure(FailureKind.RATE_LIMITED, "Slow.", Fault.PROVIDER, 429), "rate_limit_exceeded"),
        (
            Failure(FailureKind.QUOTA, "Pay.", Fault.GATEWAY, 429, code="insufficient_quota"),
            "insufficient_quota",
        ),
        (Failure(FailureKind.INVALID_REQUEST, "No.", Fault.CLIENT, 400), "invalid_prompt"),
        (Failure(FailureKind.INTERNAL, "Oh.", Fault.GATEWAY, 500, code="vector_store_timeout"), "server_error"),
    ],
)
def test_the_code_of_a_response_that_failed_is_one_clients_know(failure: Failure, code: str) -> None:
    encoder = ResponsesEncoder(facts())
    frames = frames_of_stream(encoder.encode([TextDelta("Once")]) + encoder.fail(failure))
    assert frames[-1]["response"]["error"]["code"] == code


def test_a_whole_reply_fails_with_the_error_body() -> None:
    body = json.loads(ResponsesEncoder(facts(streamed=False)).fail(BROKE))
    assert body["error"]["message"] == "Too busy."


def consume(out: bytes) -> list[Any]:
    """The stream as the official client hears it."""
    with httpx2.Client(transport=httpx2.MockTransport(lambda request: _answer(out))) as http:
        client = openai.OpenAI(api_key="none", base_url="http://localhost/v1", http_client=http, max_retries=0)
        return list(client.responses.create(model="house-model", input="Hi", stream=True))


def _answer(out: bytes) -> httpx2.Response:
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=out)


@EVERY
def test_the_official_client_hears_every_event(events: list[Event]) -> None:
    assert [event.type for event in consume(written(events))] == [frame["type"] for frame in stream(events)]


# ---- anything at all

PIECES = st.sampled_from(["", "a", "b c", '{"a":', "1}", "{}"])
EVENTS = st.one_of(
    st.builds(TextDelta, PIECES),
    st.builds(RefusalDelta, PIECES),
    st.builds(ReasoningDelta, PIECES),
    st.builds(ReasoningSigned, PIECES, origin=st.sampled_from(["", ORIGIN, "google-gemini-v1"])),
    st.builds(RedactedReasoningGiven, PIECES),
    st.builds(ToolCallStarted, st.integers(0, 3), PIECES, st.just("look")),
    st.builds(ToolArgumentsDelta, st.integers(0, 3), PIECES),
    st.builds(ChoiceFinished, st.sampled_from(FinishReason)),
)


@given(st.lists(EVENTS, max_size=12))
def test_any_order_of_events_is_a_stream_a_client_can_follow(events: list[Event]) -> None:
    frames = stream(events)
    checked(frames)
    told = decode(written(events))
    assert told.text == "".join(event.text for event in events if isinstance(event, TextDelta))
    ends = [frame["output_index"] for frame in frames if frame["type"] == "response.output_item.done"]
    assert sorted(ends) == list(range(len(frames[-1]["response"]["output"])))


def test_the_items_of_this_wire_are_those_the_client_knows() -> None:
    assert OPENAI_RESPONSES.name == "openai_responses"
    for kind in OUTPUT_ITEMS:
        raw = msgspec.Raw(json.dumps({"type": kind, "id": "x"}).encode())
        assert output([OpaqueGiven(kind, raw)]) == [{"type": kind, "id": "x"}]
