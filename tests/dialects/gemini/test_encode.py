"""A client of this dialect reads another dialect's reply in the shape that all its clients count right."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.error import Failure, FailureKind, Fault
from counterfoil.core.event import (
    ChoiceFinished,
    Embedding,
    EmbeddingsGiven,
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
    TokensCounted,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from counterfoil.dialects.dialect import FinalUsage
from counterfoil.dialects.gemini import GEMINI_COUNT, GEMINI_EMBED
from counterfoil.dialects.gemini.door import ARRAY, ONE
from counterfoil.dialects.gemini.encode import GeminiEncoder
from counterfoil.dialects.gemini.proof import seal, seal_redacted
from counterfoil.dialects.gemini.reply import ORIGIN
from counterfoil.usage.reading import Counter, Report
from counterfoil.usage.usage import Bucket, Usage

from .support import as_google_reads, decode, facts

USAGE = Usage({Bucket.INPUT: 20, Bucket.CACHE_READ: 100, Bucket.OUTPUT: 6, Bucket.REASONING: 3})
FINAL = FinalUsage(USAGE)
TOLD = {
    "promptTokenCount": 120,
    "candidatesTokenCount": 6,
    "totalTokenCount": 129,
    "cachedContentTokenCount": 100,
    "thoughtsTokenCount": 3,
}
DONE = ChoiceFinished(FinishReason.STOP)
CALL: list[Event] = [
    ToolCallStarted(0, "c-1", "tide"),
    ToolArgumentsDelta(0, '{"port":'),
    ToolArgumentsDelta(0, '"Brest"}'),
]


def written(events: list[Event], final: FinalUsage = FINAL, **changes: Any) -> bytes:
    encoder = GeminiEncoder(facts(**changes))
    return b"".join(encoder.encode([event]) for event in events) + encoder.close(final)


def frames(body: bytes) -> list[dict[str, Any]]:
    """The frames, by a reader of the test's own, as strict as Google's in JavaScript: one line of data each."""
    found = []
    for block in body.decode().split("\r\n\r\n")[:-1]:
        assert block.startswith("data: ")
        assert "\n" not in block
        frame = json.loads(block.removeprefix("data: "))
        as_google_reads(frame)
        found.append(frame)
    return found


def parts(frame: dict[str, Any]) -> list[Any]:
    found: list[Any] = frame["candidates"][0].get("content", {}).get("parts", [])
    return found


def whole(events: list[Event], final: FinalUsage = FINAL) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(written(events, final, streamed=False))
    as_google_reads(found)
    return found


def test_usage_comes_once_on_the_last_frame_which_carries_the_candidate() -> None:
    found = frames(written([ReplyStarted("chat-1", "other"), TextDelta("Pea"), TextDelta("fowl."), DONE]))
    assert [parts(frame) for frame in found] == [[{"text": "Pea"}], [{"text": "fowl."}], [{"text": ""}]]
    assert [frame.get("usageMetadata") for frame in found] == [None, None, TOLD]
    assert found[-1]["candidates"][0]["finishReason"] == "STOP"
    assert {(frame["modelVersion"], frame["responseId"]) for frame in found} == {("house-model", "chat-1")}


def test_a_reply_without_an_id_gets_ours() -> None:
    assert frames(written([TextDelta("x"), DONE]))[0]["responseId"] == "ours"


def test_a_stream_may_be_an_array() -> None:
    body = written([TextDelta("Pea"), TextDelta("fowl."), DONE], form=ARRAY)
    listed = json.loads(body)
    assert listed == frames(written([TextDelta("Pea"), TextDelta("fowl."), DONE]))
    encoder = GeminiEncoder(facts(form=ARRAY))
    out = encoder.encode([TextDelta("Pea")]) + encoder.fail(
        Failure(FailureKind.OVERLOADED, "Busy.", Fault.PROVIDER, 503)
    )
    assert [*json.loads(out)[1]] == ["error"]


def test_a_call_is_one_part_with_whole_arguments_and_what_follows_it_keeps_its_place() -> None:
    found = frames(written([TextDelta("Look: "), *CALL, TextDelta("then"), TextDelta(" this."), DONE]))
    call = {"functionCall": {"id": "c-1", "name": "tide", "args": {"port": "Brest"}}}
    assert [parts(frame) for frame in found] == [[{"text": "Look: "}], [call, {"text": "then this."}]]
    assert parts(whole([TextDelta("Look: "), *CALL, TextDelta("then"), DONE])) == [
        {"text": "Look: "},
        call,
        {"text": "then"},
    ]


def test_parallel_calls_may_be_told_at_the_same_time() -> None:
    events: list[Event] = [
        ToolCallStarted(0, "", "tide"),
        ToolCallStarted(1, "b", "now"),
        ToolArgumentsDelta(1, "{}"),
        ToolArgumentsDelta(0, '{"port":"Brest"}'),
        ToolCallStarted(1, "b", "now"),
        ChoiceFinished(FinishReason.TOOL_CALLS, said="tool_use"),
    ]
    (found,) = frames(written(events))
    assert parts(found) == [
        {"functionCall": {"name": "tide", "args": {"port": "Brest"}}},
        {"functionCall": {"id": "b", "name": "now", "args": {}}},
    ]
    assert found["candidates"][0]["finishReason"] == "STOP"


def test_arguments_that_are_cut_are_told_as_they_are() -> None:
    (found,) = frames(
        written([ToolCallStarted(0, "", "f"), ToolArgumentsDelta(0, '{"a'), ChoiceFinished(FinishReason.LENGTH)])
    )
    assert parts(found)[0]["functionCall"]["args"] == {"INVALID_JSON": '{"a'}
    assert found["candidates"][0]["finishReason"] == "MAX_TOKENS"


@pytest.mark.parametrize(
    ("reason", "said", "word"),
    [
        (FinishReason.STOP, "end_turn", "STOP"),
        (FinishReason.LENGTH, "length", "MAX_TOKENS"),
        (FinishReason.CONTENT_FILTER, "content_filter", "SAFETY"),
        (FinishReason.CONTENT_FILTER, "RECITATION", "RECITATION"),
        (FinishReason.REFUSAL, "refusal", "SAFETY"),
        (FinishReason.PAUSED, "pause_turn", "OTHER"),
        (FinishReason.UNKNOWN, "eh", "OTHER"),
    ],
)
def test_every_reason_has_googles_word(reason: FinishReason, said: str, word: str) -> None:
    found = frames(written([TextDelta("x"), ChoiceFinished(reason, said=said)]))
    assert found[-1]["candidates"][0]["finishReason"] == word


def test_every_candidate_ends_in_the_last_frame() -> None:
    events: list[Event] = [
        TextDelta("a"),
        ChoiceFinished(FinishReason.STOP),
        TextDelta("b", 1),
        ChoiceFinished(FinishReason.LENGTH, 1),
    ]
    found = frames(written(events, choices=2))
    assert [len(frame["candidates"]) for frame in found] == [1, 1, 2]
    assert [one["finishReason"] for one in found[-1]["candidates"]] == ["STOP", "MAX_TOKENS"]


def test_thoughts_are_marked_and_proofs_stand_where_their_maker_can_find_them() -> None:
    claude: list[Event] = [
        ReasoningDelta("Hm."),
        ReasoningSigned("c2ln"),
        RedactedReasoningGiven("c2Vj"),
        TextDelta("Six."),
        DONE,
    ]
    found = frames(written(claude))
    assert [parts(frame)[0] for frame in found] == [
        {"text": "Hm.", "thought": True},
        {"text": "", "thought": True, "thoughtSignature": seal("c2ln", "")},
        {"text": "", "thought": True, "thoughtSignature": seal_redacted("c2Vj", "")},
        {"text": "Six."},
        {"text": ""},
    ]
    google: list[Event] = [ReasoningDelta("Hm."), ReasoningSigned("Zw==", origin=ORIGIN), *CALL, DONE]
    (thought, last) = frames(written(google))
    assert parts(thought) == [{"text": "Hm.", "thought": True}]
    assert parts(last)[0]["thoughtSignature"] == "Zw=="
    late = frames(written([TextDelta("Six."), ReasoningSigned("Zw==", origin=ORIGIN), DONE]))
    assert parts(late[-1]) == [{"text": "", "thoughtSignature": "Zw=="}]


def test_a_refusal_is_text() -> None:
    assert parts(whole([RefusalDelta("I will not."), DONE])) == [{"text": "I will not."}]


def test_opaque_parts_of_this_dialect_are_parts_again_and_others_are_left_out() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "1"}}
    grounding = {"webSearchQueries": ["tide"]}

    def raw(value: object) -> msgspec.Raw:
        return msgspec.Raw(json.dumps(value).encode())

    events: list[Event] = [
        OpaqueGiven("executableCode", raw(code)),
        OpaqueGiven("citation", raw({"url": "x"})),
        OpaqueGiven("groundingMetadata", raw(grounding)),
        LogprobsGiven(raw({"content": []})),
        LogprobsGiven(raw({"chosenCandidates": []})),
        DONE,
    ]
    found = whole(events)
    assert parts(found) == [code]
    assert found["candidates"][0]["groundingMetadata"] == grounding
    assert found["candidates"][0]["logprobsResult"] == {"chosenCandidates": []}


def test_a_blocked_prompt_has_no_candidates() -> None:
    feedback = OpaqueGiven("promptFeedback", msgspec.Raw(b'{"blockReason":"SAFETY"}'))
    found = whole([feedback, ChoiceFinished(FinishReason.CONTENT_FILTER, said="SAFETY")])
    assert "candidates" not in found
    assert found["promptFeedback"] == {"blockReason": "SAFETY"}
    assert found["usageMetadata"] == TOLD


@pytest.mark.parametrize("streamed", [False, True])
def test_a_failure_is_an_error_and_no_clean_end(streamed: bool) -> None:
    encoder = GeminiEncoder(facts(streamed=streamed))
    encoder.encode([TextDelta("x")])
    body = encoder.fail(Failure(FailureKind.OVERLOADED, "Busy.", Fault.PROVIDER, 503)).removeprefix(b"data: ")
    # Google's own client looks for exactly this beginning.
    assert body.startswith(b'{"error":')
    assert json.loads(body)["error"]["status"] == "UNAVAILABLE"


def test_usage_that_nobody_knows_is_left_out_and_an_estimate_is_marked() -> None:
    assert "usageMetadata" not in whole([TextDelta("x"), DONE], FinalUsage(None))
    found = whole([TextDelta("x"), DONE], FinalUsage(Usage({Bucket.INPUT: 3, Bucket.OUTPUT: 1}), estimated=True))
    assert found["usageMetadata"]["estimated"] is True


def test_a_reply_that_says_nothing_is_one_all_the_same() -> None:
    (found,) = frames(written([]))
    assert found["candidates"] == [
        {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "STOP", "index": 0}
    ]


CHOICES = st.integers(0, 1)
TEXT = st.text(max_size=4)
EVENTS = st.one_of(
    st.builds(ReplyStarted, TEXT, TEXT),
    st.builds(TextDelta, TEXT, CHOICES),
    st.builds(ReasoningDelta, TEXT, CHOICES),
    st.builds(ReasoningSigned, st.sampled_from(["Zw==", "c2ln"]), CHOICES, st.sampled_from(["", ORIGIN])),
    st.builds(RedactedReasoningGiven, TEXT, CHOICES),
    st.builds(RefusalDelta, TEXT, CHOICES),
    st.builds(ToolCallStarted, st.integers(0, 2), TEXT, TEXT, CHOICES),
    st.builds(ToolArgumentsDelta, st.integers(0, 2), st.sampled_from(["{}", '{"a"', ":1}", ""]), CHOICES),
    st.builds(OpaqueGiven, TEXT, st.sampled_from([msgspec.Raw(b"{}"), msgspec.Raw(b"[1]")]), CHOICES),
    st.builds(ChoiceFinished, st.sampled_from(FinishReason), CHOICES, TEXT),
    st.just(UsageReported(Report({Counter.INPUT: 1}))),
    st.just(ReplyFailed(Failure(FailureKind.BAD_REPLY, "x", Fault.PROVIDER, 502))),
)


@given(st.lists(EVENTS, max_size=12))
def test_any_events_make_a_stream_that_is_read_back(events: list[Event]) -> None:
    body = written(events)
    found = frames(body)
    assert sum("usageMetadata" in frame for frame in found) == 1
    assert "usageMetadata" in found[-1]
    heard = decode(body, choices=len(found[-1]["candidates"]))
    assert heard.ended
    assert not heard.of(ReplyFailed)
    usage = heard.settled().usage
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (120, 9, 100)
    once = json.loads(written(events, streamed=False))
    said = decode(json.dumps(once).encode(), streamed=False)
    for choice in range(2):
        texts = ["".join(one.text for one in reply.of(TextDelta) if one.choice == choice) for reply in (heard, said)]
        assert texts[0] == texts[1]
        proofs = [[one for one in reply.of(ReasoningSigned) if one.choice == choice] for reply in (heard, said)]
        assert proofs[0] == proofs[1]


def test_vectors_are_numbers_one_or_many() -> None:
    given_vectors = EmbeddingsGiven((Embedding(0, msgspec.Raw(b"[0.5]")), Embedding(1, msgspec.Raw(b'"AACAPg=="'))))
    final = FinalUsage(Usage({Bucket.INPUT: 7, Bucket.OUTPUT: 0}))
    for form, key in ((ONE, "embedding"), ("", "embeddings")):
        encoder = GEMINI_EMBED.encoder(facts(streamed=False, form=form))
        assert encoder.encode([given_vectors]) == b""
        found = json.loads(encoder.close(final))
        assert found["usageMetadata"]["promptTokenCount"] == 7
        assert found[key] == ({"values": [0.5]} if form == ONE else [{"values": [0.5]}, {"values": [0.25]}])


def test_a_count_is_told_in_googles_words() -> None:
    encoder = GEMINI_COUNT.encoder(facts(streamed=False))
    encoder.encode([TokensCounted(11, 4)])
    assert json.loads(encoder.close(FINAL)) == {"totalTokens": 11, "cachedContentTokenCount": 4}
