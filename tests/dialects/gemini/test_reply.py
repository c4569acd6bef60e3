"""What a reply of `generateContent` says, streamed and whole."""

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
    ReplyFailed,
    ReplyStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from counterfoil.dialects.gemini import GEMINI
from counterfoil.dialects.gemini.reply import ORIGIN, GeminiDecoder
from counterfoil.exchange.recorded import read_reply
from counterfoil.framing.frame import Frame
from counterfoil.ledger.entry import Exit
from counterfoil.usage.settle import Finality

from .support import PLAIN, array, candidate, chunk, decode, frames_of, joined, sse, usage

CALL = {"functionCall": {"name": "tide", "args": {"port": "Brest", "days": 2}}}


def test_a_stream_and_the_whole_reply_say_the_same() -> None:
    parts: list[dict[str, Any]] = [{"text": "The tide", "thought": True}, {"text": "High"}, {"text": " at six."}]
    streamed = decode(
        sse(
            chunk(candidate(parts[0])),
            chunk(candidate(parts[1])),
            chunk(candidate(parts[2], finish="STOP"), said=usage()),
        )
    )
    whole = decode(json.dumps(chunk(candidate(*parts, finish="STOP"), said=usage())).encode(), streamed=False)
    assert joined(streamed.events) == joined(whole.events)
    assert (streamed.text, streamed.reasoning) == ("High at six.", "The tide")
    assert streamed.ended
    assert whole.ended
    assert whole.done


def test_an_array_says_what_its_events_say_and_its_bracket_is_the_end() -> None:
    chunks = (chunk(candidate({"text": "High"})), chunk(candidate({"text": "."}, finish="STOP"), said=usage()))
    listed, events = decode(array(*chunks)), decode(sse(*chunks))
    assert (listed.events[:-1], listed.reading.scopes) == (events.events[:-1], events.reading.scopes)
    assert listed.done
    assert not events.done
    assert decode(array(*chunks), streamed=False).events == listed.events


def test_a_reply_starts_with_who_it_is() -> None:
    start = decode(sse(chunk(candidate({"text": "x"}), createTime="2026-03-12T18:08:07.181985Z"))).events[0]
    assert start == ReplyStarted("made", "gemini-made-1", 1_773_338_887)


@pytest.mark.parametrize("when", ["yesterday", 12, None, "2026-03-12T18:08:07"])
def test_a_time_that_is_none_is_left_out(when: object) -> None:
    assert decode(sse(chunk(candidate({"text": "x"}), createTime=when))).events[0] == ReplyStarted(
        "made", "gemini-made-1"
    )


def test_a_call_is_its_name_and_its_arguments_as_compact_json() -> None:
    found = decode(array(chunk(candidate(CALL, finish="STOP"))))
    assert found.of(ToolCallStarted) == [ToolCallStarted(0, "", "tide")]
    assert found.of(ToolArgumentsDelta) == [ToolArgumentsDelta(0, '{"port":"Brest","days":2}')]
    assert found.of(ChoiceFinished) == [ChoiceFinished(FinishReason.TOOL_CALLS, 0, "STOP")]


def test_parallel_calls_keep_their_ids_and_a_tool_without_arguments_gets_an_empty_object() -> None:
    more = {"functionCall": {"name": "now", "id": "fc-2"}}
    assert decode(sse(chunk(candidate(CALL, more)))).tools == [
        ("", "tide", {"port": "Brest", "days": 2}),
        ("fc-2", "now", {}),
    ]


def test_a_proof_comes_before_the_part_it_is_of_and_after_a_thought() -> None:
    found = decode(
        sse(
            chunk(candidate({"text": "Hm.", "thought": True}, {**CALL, "thoughtSignature": "cHJvb2Y="})),
            chunk(candidate({"text": "", "thoughtSignature": "ZW5k"}, finish="STOP")),
        )
    )
    proof = ReasoningSigned("cHJvb2Y=", origin=ORIGIN)
    kinds = [event for event in found.events if not isinstance(event, ReplyStarted | ToolArgumentsDelta)]
    assert kinds == [
        ReasoningDelta("Hm."),
        proof,
        ToolCallStarted(0, "", "tide"),
        ReasoningSigned("ZW5k", origin=ORIGIN),
        ChoiceFinished(FinishReason.TOOL_CALLS, 0, "STOP"),
    ]
    signed = decode(sse(chunk(candidate({"text": "High.", "thoughtSignature": "cHJvb2Y="}))))
    assert signed.events[1:] == (proof, TextDelta("High."))
    thought = decode(sse(chunk(candidate({"text": "Hm.", "thought": True, "thoughtSignature": "cHJvb2Y="}))))
    assert thought.events[1:] == (ReasoningDelta("Hm."), proof)


def test_arguments_that_come_one_by_one_are_put_together() -> None:
    def piece(*pieces: dict[str, Any], **more: Any) -> dict[str, Any]:
        return chunk(candidate({"functionCall": {**more, **({"partialArgs": list(pieces)} if pieces else {})}}))

    found = decode(
        sse(
            piece(name="tide", id="fc-1", willContinue=True),
            piece({"jsonPath": "$.port", "stringValue": "Br", "willContinue": True}, willContinue=True),
            piece({"jsonPath": "$.port", "stringValue": "est"}, willContinue=True),
            piece(
                {"jsonPath": "$.days", "numberValue": 2},
                {"jsonPath": "$.at['a b'].high", "boolValue": True},
                willContinue=True,
            ),
            piece(
                {"jsonPath": "$.list[1]", "nullValue": None},
                {"jsonPath": "$.list[0]", "numberValue": 0.5},
                willContinue=True,
            ),
            piece(),
            chunk(candidate(finish="STOP")),
        )
    )
    wanted = {"port": "Brest", "days": 2, "at": {"a b": {"high": True}}, "list": [0.5, None]}
    assert found.tools == [("fc-1", "tide", wanted)]
    assert len(found.of(ToolArgumentsDelta)) == 1


def test_a_text_in_many_pieces_goes_on_after_what_the_arguments_began_with() -> None:
    pieces = [{"jsonPath": "$.tale", "stringValue": f"{place} ", "willContinue": True} for place in range(500)]
    begun = {"name": "tell", "args": {"tale": "It begins. "}, "willContinue": True}
    calls = [begun, *({"partialArgs": [piece], "willContinue": True} for piece in pieces), {}]
    found = decode(sse(*(chunk(candidate({"functionCall": call})) for call in calls)))
    ((_, name, arguments),) = found.tools
    assert name == "tell"
    assert arguments == {"tale": "It begins. " + "".join(f"{place} " for place in range(500))}


def test_lists_within_lists_are_bounded_by_what_they_would_be_as_text() -> None:
    """26 kB of paths made half a gigabyte of places that nobody filled."""
    path = "$.k" + "[9999]" * 50
    pieces = [{"jsonPath": path.replace("k", f"k{place}"), "numberValue": 1} for place in range(60)]
    call = {"name": "f", "willContinue": True, "partialArgs": pieces}
    found = decode(sse(chunk(candidate({"functionCall": call}))))
    assert [event.failure.kind for event in found.of(ReplyFailed) if isinstance(event, ReplyFailed)] == [
        FailureKind.BAD_REPLY
    ]


def test_a_call_left_open_is_whole_when_its_candidate_finishes() -> None:
    begun = {
        "functionCall": {"name": "tide", "willContinue": True, "partialArgs": [{"jsonPath": "$.a", "stringValue": "b"}]}
    }
    found = decode(sse(chunk(candidate(begun)), chunk(candidate(finish="STOP"))))
    assert found.tools == [("", "tide", {"a": "b"})]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a",
        "$",
        "$..a",
        "$.a[",
        "$.a[x]",
        "$" + ".a" * 100,
        "$.l[99999]",
        "$.ok.a",
        "$.ok[0]",
        "$.l.a",
        "$.l[0].a",
        "$.l[0][0]",
    ],
)
def test_a_path_that_leads_nowhere_harms_nothing(path: str) -> None:
    known = [{"jsonPath": "$.ok", "numberValue": 1}, {"jsonPath": "$.l[0]", "numberValue": 2}]
    pieces = [*known, {"jsonPath": path, "stringValue": "x"}]
    found = decode(sse(chunk(candidate({"functionCall": {"name": "f", "partialArgs": pieces}}))))
    failed = found.of(ReplyFailed)
    assert failed or found.tools == [("", "f", {"ok": 1, "l": [2]})]
    assert all(event.failure.kind is FailureKind.BAD_REPLY for event in failed)


@pytest.mark.parametrize(
    ("word", "reason", "said"),
    [
        ("STOP", FinishReason.STOP, "STOP"),
        (1, FinishReason.STOP, "STOP"),
        ("MAX_TOKENS", FinishReason.LENGTH, "MAX_TOKENS"),
        (2, FinishReason.LENGTH, "MAX_TOKENS"),
        (3, FinishReason.CONTENT_FILTER, "SAFETY"),
        ("SPII", FinishReason.CONTENT_FILTER, "SPII"),
        ("MODEL_ARMOR", FinishReason.CONTENT_FILTER, "MODEL_ARMOR"),
        (7, FinishReason.CONTENT_FILTER, "PROHIBITED_CONTENT"),
        ("MALFORMED_FUNCTION_CALL", FinishReason.UNKNOWN, "MALFORMED_FUNCTION_CALL"),
        (10, FinishReason.UNKNOWN, "10"),
        ("A_NEW_WORD", FinishReason.UNKNOWN, "A_NEW_WORD"),
    ],
)
def test_every_word_for_the_end_has_its_reason_and_is_kept(word: object, reason: FinishReason, said: str) -> None:
    found = decode(sse(chunk(candidate({"text": "x"}, finish=word))))
    assert found.of(ChoiceFinished) == [ChoiceFinished(reason, 0, said)]
    assert found.ended


@pytest.mark.parametrize("word", [0, "", "FINISH_REASON_UNSPECIFIED"])
def test_a_candidate_without_a_reason_goes_on(word: object) -> None:
    found = decode(sse(chunk(candidate({"text": "x"}, finish=word))))
    assert not found.ended
    assert not found.of(ChoiceFinished)


def test_a_repeated_finish_is_said_once() -> None:
    found = decode(sse(chunk(candidate({"text": "a"}, finish="STOP")), chunk(candidate({"text": "b"}, finish="STOP"))))
    assert len(found.of(ChoiceFinished)) == 1
    assert found.text == "ab"


def test_every_candidate_that_was_asked_for_is_waited_for_until_no_more_can_come() -> None:
    first = chunk(candidate({"text": "a"}, finish="STOP"))
    second = chunk(candidate({"text": "b"}, finish="MAX_TOKENS", index=1))
    decoder = GeminiDecoder(True, 2, PLAIN)
    for frame in frames_of([sse(first)], streamed=True):
        decoder.feed(frame)
    assert not decoder.ended
    decoder.close()
    assert decoder.ended
    begun = chunk(candidate({"text": "b"}, index=1))
    assert not decode(sse(first, begun), choices=2).ended
    both = decode(sse(first, second), choices=2)
    assert both.ended
    assert [(event.text, event.choice) for event in both.of(TextDelta)] == [("a", 0), ("b", 1)]
    assert decode(array(first), choices=2).ended  # the array is closed: no more will come


def test_a_blocked_prompt_is_a_reply_that_ended() -> None:
    blocked = chunk(said=usage(7, None), promptFeedback={"blockReason": "PROHIBITED_CONTENT"})
    for found in (decode(sse(blocked)), decode(json.dumps(blocked).encode(), streamed=False)):
        assert found.of(ChoiceFinished) == [ChoiceFinished(FinishReason.CONTENT_FILTER, 0, "PROHIBITED_CONTENT")]
        assert found.opaque == [("promptFeedback", {"blockReason": "PROHIBITED_CONTENT"})]
        assert found.ended
        assert not found.of(ReplyFailed)
        assert found.settled().usage.total_tokens == 7
    assert len(decode(sse(blocked), choices=3).of(ChoiceFinished)) == 3
    again = decode(sse(blocked, blocked))
    assert (len(again.of(ChoiceFinished)), len(again.opaque)) == (1, 1)
    more = chunk(promptFeedback={"blockReason": "PROHIBITED_CONTENT", "safetyRatings": []})
    assert len(decode(sse(blocked, more)).of(ChoiceFinished)) == 1
    fewer = decode(sse(chunk(candidate({"text": "a"}), {**candidate({"text": "b"}), "index": 1}), blocked))
    assert [(event.choice, event.reason) for event in fewer.of(ChoiceFinished)] == [(0, FinishReason.CONTENT_FILTER)]
    assert fewer.ended


def test_feedback_without_a_block_ends_nothing() -> None:
    found = decode(sse(chunk(candidate({"text": "x"}), promptFeedback={"safetyRatings": []})))
    assert not found.ended


def test_what_only_this_dialect_knows_comes_out_word_for_word() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "print(6)"}, "thoughtSignature": "cHJvb2Y="}
    result = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "6\n"}}
    picture = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    grounding = {"webSearchQueries": ["tide"]}
    found = decode(sse(chunk(candidate(code, result, picture, groundingMetadata=grounding, finish="STOP"))))
    assert found.opaque == [
        ("executableCode", code),
        ("codeExecutionResult", result),
        ("inlineData", picture),
        ("groundingMetadata", grounding),
    ]


def test_ratings_that_every_frame_repeats_are_said_when_they_change() -> None:
    low = [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "LOW"}]
    high = [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "HIGH"}]
    frames = [chunk(candidate({"text": "x"}, safetyRatings=ratings)) for ratings in (low, low, high)]
    assert decode(sse(*frames)).opaque == [("safetyRatings", low), ("safetyRatings", high)]


def test_log_probabilities_are_handed_on() -> None:
    raw = {"chosenCandidates": [{"token": "High", "logProbability": -0.1}]}
    found = decode(sse(chunk(candidate({"text": "High"}, logprobsResult=raw))))
    assert [json.loads(bytes(event.raw)) for event in found.of(LogprobsGiven)] == [raw]


def test_a_whole_reply_that_says_no_reason_has_ended_all_the_same() -> None:
    found = decode(json.dumps(chunk(candidate(CALL))).encode(), streamed=False)
    assert found.of(ChoiceFinished) == [ChoiceFinished(FinishReason.TOOL_CALLS, 0, "")]


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"null", b"5", b'{"candidates":5}', b"<html>", b"", b'{"candidates":[{"index":500}]}']
)
def test_a_body_that_is_no_reply_is_a_bad_one_and_is_not_quoted(body: bytes) -> None:
    decoder = GEMINI.decoder(False, 1, PLAIN)
    (failed,) = [event for event in decoder.feed(Frame(body)) if isinstance(event, ReplyFailed)]
    assert failed.failure.kind is FailureKind.BAD_REPLY
    assert not body or body.decode() not in failed.failure.message
    assert not decoder.ended


def test_an_error_in_the_middle_of_a_stream_fails_it_and_keeps_what_was_said() -> None:
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    plain = json.dumps(error, indent=2).encode() + b"\n\n"
    for tail in (sse(error), plain):
        found = decode(sse(chunk(candidate({"text": "High"}), said=usage())) + tail)
        (failed,) = found.of(ReplyFailed)
        assert (failed.failure.kind, failed.failure.status) == (FailureKind.OVERLOADED, 503)
        assert found.text == "High"
        assert found.settled().usage.input_tokens == 9
        assert not found.ended


def test_an_error_as_plain_json_where_events_were_due_is_the_error() -> None:
    body = json.dumps({"error": {"code": 400, "message": "No.", "status": "INVALID_ARGUMENT"}}, indent=2).encode()
    for text in (body, b"[" + body + b"]\n"):
        read = read_reply([text], GEMINI, streamed=True, headers={"content-type": "text/event-stream"})
        assert read.failure is not None
        assert (read.failure.kind, read.failure.status, read.exit) == (FailureKind.INVALID_REQUEST, 400, Exit.FAILED)


@pytest.mark.parametrize("keep", range(4))
def test_a_cut_stream_is_no_whole_one(keep: int) -> None:
    chunks = [chunk(candidate({"text": word}), said=usage(9, None)) for word in ("High", " at", " six.")]
    for body in (sse(*chunks[:keep]), array(*chunks[:keep]).removesuffix(b"]\n"), sse(*chunks)[: keep * 40]):
        read = read_reply([body], GEMINI, streamed=True)
        assert read.exit is Exit.TRUNCATED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["candidates", "content", "parts", "text", "thought", "thoughtSignature", "functionCall", "partialArgs", "jsonPath",
     "willContinue", "finishReason", "index", "usageMetadata", "promptFeedback", "blockReason", "error", "name", "args"]
)  # fmt: skip
NEARLY = st.recursive(
    st.dictionaries(KEYS, JSON, max_size=4),
    lambda inner: st.dictionaries(KEYS, inner | st.lists(inner, max_size=2) | JSON, max_size=4),
    max_leaves=8,
)


@given(st.lists(NEARLY | JSON, max_size=4), st.booleans(), st.integers(0, 3))
def test_nothing_a_provider_may_send_raises(frames: list[Any], streamed: bool, choices: int) -> None:
    decoder = GEMINI.decoder(streamed, choices, PLAIN)
    for frame in frames:
        for event in decoder.feed(Frame(json.dumps(frame).encode())):
            assert event is not None
    decoder.close()


def test_what_breaks_an_array_while_a_candidate_is_to_come_ends_nothing_however_it_is_cut() -> None:
    """Found by the fuzzer: read in small pieces, its numbers were final."""
    said = chunk(candidate({"text": "a"}, finish="STOP"), usageMetadata=usage(7, 2))
    body = json.dumps(said).encode() + b"\n\ndata: {\n\n"
    whole = read_reply([body], GEMINI, streamed=True, choices=2)
    cut = read_reply([body[place : place + 1] for place in range(len(body))], GEMINI, streamed=True, choices=2)
    assert (whole.exit, cut.exit) == (Exit.FAILED, Exit.FAILED)
    assert whole.settlement.finality is cut.settlement.finality is Finality.PARTIAL
