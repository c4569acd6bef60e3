"""What Converse's replies say: streamed and whole the same, and never an exception."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.error import FailureKind
from counterfoil.core.event import (
    ChoiceFinished,
    FinishReason,
    OpaqueGiven,
    ReasoningDelta,
    ReasoningSigned,
    RedactedReasoningGiven,
    ReplyFailed,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from counterfoil.dialects.bedrock_converse import reply as reply_module
from counterfoil.dialects.bedrock_converse.reply import ConverseDecoder
from counterfoil.dialects.dialect import Quirks
from counterfoil.framing.frame import Frame
from counterfoil.ledger.entry import Exit
from counterfoil.testing.eventstream import event_message, exception_message
from counterfoil.usage.usage import Bucket

from .support import METADATA, START, STOP, finish_of, heard, read_stream, read_whole, said, text_of, whole

__all__: list[str] = []


def blob(data: bytes) -> str:
    return base64.b64encode(data).decode()


TOOL = {"toolUseId": "tooluse_1", "name": "tide", "type": "tool_use"}


def test_text_is_the_same_streamed_and_whole() -> None:
    streamed = read_stream(
        START,
        said(0, text="The tide "),
        said(0, text="turns."),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        STOP,
        METADATA,
    )
    once = read_whole(whole({"text": "The tide turns."}))
    assert (
        heard(streamed)
        == heard(once)
        == [
            TextDelta("The tide turns."),
            ChoiceFinished(FinishReason.STOP, said="end_turn"),
        ]
    )
    assert streamed.exit is once.exit is Exit.COMPLETED
    assert streamed.settlement.usage == once.settlement.usage


def test_tool_calls_are_the_same_streamed_and_whole() -> None:
    streamed = read_stream(
        START,
        said(0, text="Looking."),
        ("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": TOOL}}),
        said(1, toolUse={"input": ""}),
        said(1, toolUse={"input": '{"port":'}),
        said(1, toolUse={"input": '"north"}'}),
        ("contentBlockStop", {"contentBlockIndex": 1}),
        ("contentBlockStart", {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t2", "name": "noon"}}}),
        ("contentBlockStop", {"contentBlockIndex": 2}),
        ("messageStop", {"stopReason": "tool_use"}),
        METADATA,
    )
    once = read_whole(
        whole(
            {"text": "Looking."},
            {"toolUse": {**TOOL, "input": {"port": "north"}}},
            {"toolUse": {"toolUseId": "t2", "name": "noon", "input": {}}},
            stop="tool_use",
        )
    )
    assert heard(streamed) == [
        TextDelta("Looking."),
        ToolCallStarted(0, "tooluse_1", "tide"),
        ToolArgumentsDelta(0, '{"port":"north"}'),
        ToolCallStarted(1, "t2", "noon"),
        ToolArgumentsDelta(1, "{}"),
        ChoiceFinished(FinishReason.TOOL_CALLS, said="tool_use"),
    ]
    spaced = ToolArgumentsDelta(0, '{"port": "north"}')
    assert heard(once) == [*heard(streamed)[:2], spaced, *heard(streamed)[3:]]


def test_a_call_without_arguments_has_them_before_the_finish_though_its_block_never_stops() -> None:
    reply = read_stream(
        START,
        ("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": TOOL}}),
        ("messageStop", {"stopReason": "tool_use"}),
        METADATA,
    )
    assert heard(reply)[1:] == [
        ToolArgumentsDelta(0, "{}"),
        ChoiceFinished(FinishReason.TOOL_CALLS, said="tool_use"),
    ]


def test_reasoning_its_proof_and_what_is_encrypted_are_the_same_streamed_and_whole() -> None:
    hidden = blob(b"EqQBCgIYAh==")
    streamed = read_stream(
        START,
        said(0, reasoningContent={"text": "Noon, "}),
        said(0, reasoningContent={"text": "so high water."}),
        said(0, reasoningContent={"signature": "c2lnbmVk"}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        said(1, reasoningContent={"redactedContent": hidden[:8]}),
        said(1, reasoningContent={"redactedContent": hidden[8:]}),
        ("contentBlockStop", {"contentBlockIndex": 1}),
        said(2, text="Noon."),
        STOP,
        METADATA,
    )
    once = read_whole(
        whole(
            {"reasoningContent": {"reasoningText": {"text": "Noon, so high water.", "signature": "c2lnbmVk"}}},
            {"reasoningContent": {"redactedContent": hidden}},
            {"text": "Noon."},
        )
    )
    assert (
        heard(streamed)
        == heard(once)
        == [
            ReasoningDelta("Noon, so high water."),
            ReasoningSigned("c2lnbmVk"),
            RedactedReasoningGiven("EqQBCgIYAh=="),
            TextDelta("Noon."),
            ChoiceFinished(FinishReason.STOP, said="end_turn"),
        ]
    )


def test_encrypted_reasoning_that_is_no_text_keeps_the_wires_own_base64() -> None:
    reply = read_whole(whole({"reasoningContent": {"redactedContent": blob(b"\xff\x00\x81")}}))
    assert heard(reply)[0] == RedactedReasoningGiven(blob(b"\xff\x00\x81"), origin="amazon-bedrock-v1")


def test_what_only_this_dialect_knows_comes_out_word_for_word() -> None:
    cited = {"title": "Tide table", "location": {"web": {"url": "https://tides.example"}}}
    streamed = read_stream(
        START,
        said(0, text="At noon."),
        said(0, citation=cited),
        ("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": {**TOOL, "type": "server_tool_use"}}}),
        said(1, toolUse={"input": '{"query":'}),
        said(1, toolUse={"input": '"tide"}'}),
        ("contentBlockStop", {"contentBlockIndex": 1}),
        STOP,
        METADATA,
    )
    opaque = {event.kind: bytes(event.raw) for event in streamed.events if isinstance(event, OpaqueGiven)}
    assert opaque["citation"] == b'{"title":"Tide table","location":{"web":{"url":"https://tides.example"}}}'
    assert opaque["server_tool_use"].endswith(b'"type":"server_tool_use","input":{"query":"tide"}}')
    once = read_whole(
        whole(
            {"citationsContent": {"content": [{"text": "At noon."}], "citations": [cited]}},
            {"toolUse": {**TOOL, "type": "server_tool_use", "input": {"query": "tide"}}},
            {"image": {"format": "png", "source": {"bytes": "AA=="}}},
        )
    )
    assert text_of(once) == text_of(streamed) == "At noon."
    assert [event.kind for event in once.events if isinstance(event, OpaqueGiven)] == [
        "citation",
        "server_tool_use",
        "image",
    ]
    assert not any(isinstance(event, ToolCallStarted) for event in [*once.events, *streamed.events])


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("tool_use", FinishReason.TOOL_CALLS),
        ("guardrail_intervened", FinishReason.CONTENT_FILTER),
        ("content_filtered", FinishReason.CONTENT_FILTER),
        ("refusal", FinishReason.REFUSAL),
        ("malformed_tool_use", FinishReason.UNKNOWN),
        ("a word of tomorrow", FinishReason.UNKNOWN),
    ],
)
def test_every_stop_reason_has_its_meaning(word: str, reason: FinishReason) -> None:
    assert finish_of(read_stream(START, ("messageStop", {"stopReason": word}))).reason is reason
    assert finish_of(read_whole(whole(stop=word))).said == word


def test_a_stop_sequence_is_told_where_the_model_told_it() -> None:
    told = {"stopReason": "stop_sequence", "additionalModelResponseFields": {"stop_sequence": "END"}}
    assert finish_of(read_stream(START, ("messageStop", told))).stop_sequence == "END"
    assert finish_of(read_whole({**whole(), **told})).stop_sequence == "END"


def test_a_repeated_start_and_a_repeated_stop_are_said_once() -> None:
    reply = read_stream(START, START, said(0, text="x"), STOP, STOP, METADATA)
    assert len(reply.events) == 4
    assert finish_of(reply).reason is FinishReason.STOP


def test_a_stream_that_lacks_its_start_begins_all_the_same() -> None:
    assert read_stream(said(0, text="x"), STOP, METADATA).exit is Exit.COMPLETED


def test_unknown_events_and_keys_say_nothing() -> None:
    reply = read_stream(("tomorrow", {"a": 1}), START, said(0, text="x"), STOP, METADATA)
    assert text_of(reply) == "x"
    assert reply.exit is Exit.COMPLETED


def test_the_reply_ends_with_its_stop_reason_and_is_done_with_its_metadata() -> None:
    decoder = ConverseDecoder(True, 1, Quirks())
    states = []
    for kind, data in (("messageStart", b"{}"), ("messageStop", b'{"stopReason":"end_turn"}'), ("metadata", b"{}")):
        decoder.feed(Frame(data, kind))
        states.append((decoder.ended, decoder.done))
    assert states == [(False, False), (True, False), (True, True)]


@pytest.mark.parametrize("events", [1, 2, 3])
def test_a_stream_that_stops_before_its_end_is_truncated_and_keeps_what_it_said(events: int) -> None:
    stream = [START, said(0, text="half "), said(0, text="a word")]
    reply = read_stream(*stream[:events])
    assert reply.exit is Exit.TRUNCATED
    assert text_of(reply) == "half a word"[: {1: 0, 2: 5, 3: 11}[events]]


def test_an_exception_in_the_stream_is_heard() -> None:
    """Portkey-AI/gateway#1142, #1047: swallowed there, so that no fallback was tried."""
    reply = read_stream(START, said(0, text="The"), exception_message("throttlingException", "Too many requests."))
    assert reply.exit is Exit.FAILED
    assert reply.failure is not None
    assert (reply.failure.kind, reply.failure.message) == (FailureKind.RATE_LIMITED, "Too many requests.")


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"null", b'{"contentBlockIndex":"x"}', b'{"delta":{"text":7}}', b"\xff", b'{"delta":' + b"[" * 5000],
)
def test_an_event_that_cannot_be_read_fails_the_reply(data: bytes) -> None:
    decoder = ConverseDecoder(True, 1, Quirks())
    (failed,) = decoder.feed(Frame(data, "contentBlockDelta"))
    assert isinstance(failed, ReplyFailed)
    assert failed.failure.kind is FailureKind.BAD_REPLY


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"<html>", b'{"message":"x"}', b'{"output":7}', b'{"stopReason":1}']
)
def test_a_body_that_is_no_reply_fails(body: bytes) -> None:
    (failed,) = ConverseDecoder(False, 1, Quirks()).feed(Frame(body))
    assert isinstance(failed, ReplyFailed)
    assert failed.failure.kind is FailureKind.BAD_REPLY


def test_a_block_is_gathered_within_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_module, "BLOCK_LIMIT", 8)
    for block in (
        [
            said(0, reasoningContent={"redactedContent": "QUFBQUFB"}),
            said(0, reasoningContent={"redactedContent": "QQ=="}),
        ],
        [
            ("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": {**TOOL, "type": "server_tool_use"}}}),
            said(0, toolUse={"input": "123456789"}),
        ],
    ):
        reply = read_stream(START, *block)
        assert reply.failure is not None
        assert "limit" in reply.failure.message


def test_a_provider_that_never_stops_is_finished_by_its_quirk() -> None:
    reply = read_stream(START, said(0, text="x"), METADATA, quirks=Quirks(end="usage"))
    assert reply.exit is Exit.COMPLETED
    assert finish_of(reply).reason is FinishReason.STOP


def test_a_prefix_has_the_reading_of_the_prefix() -> None:
    parts = [event_message(*event) for event in (START, said(0, text="x"), STOP, METADATA)]
    for count in range(len(parts)):
        usage = read_stream(*parts[:count]).settlement.usage
        assert Bucket.INPUT not in usage.buckets
    assert read_stream(*parts).settlement.usage.input_tokens == 9


_kinds = st.sampled_from(
    [
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
        "error:x",
        "exception:y",
        "",
    ]
)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.dictionaries(
        st.sampled_from(
            [
                "delta",
                "start",
                "toolUse",
                "text",
                "usage",
                "contentBlockIndex",
                "stopReason",
                "input",
                "reasoningContent",
                "redactedContent",
            ]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)


@given(st.lists(st.tuples(_kinds, _values | st.binary(max_size=12)), max_size=8))
def test_nothing_raises(frames: list[tuple[str, object]]) -> None:
    import msgspec

    decoder = ConverseDecoder(True, 1, Quirks())
    finishes = 0
    for kind, value in frames:
        data = value if isinstance(value, bytes) else msgspec.json.encode(value)
        finishes += sum(isinstance(event, ChoiceFinished) for event in decoder.feed(Frame(data, kind)))
    decoder.close()
    assert finishes <= 1
